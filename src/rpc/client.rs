//! A dialed connection: calls go out numbered, answers find their callers by number.
//!
//! One task reads and writes; callers are anywhere. A call whose future is dropped, or whose time is
//! over, is forgotten here and leaves the connection sound (A4): its answer, if it comes, finds
//! nobody. Numbers are never used twice on a connection, and a new connection begins anew, so an
//! answer can only ever reach the call it answers (A6).

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::call_error::{CallError, NotSent};
use super::close::CloseReason;
use super::frame::{Head, Item, Kind};
use super::hello::HelloAck;
use super::limits::Limits;
use super::methods::Method;
use super::outbox::Outbox;
use super::stream::Source;
use super::tls::{Verdict, Vigil, unix_now};
use super::wire::{self, Encoded};
use crate::codec::{decode, decode_shared};
use crate::identity::Identity;

/// A connection that is up. Clones are the same connection; when the last one is dropped it closes.
#[derive(Clone)]
pub struct Connection(Arc<Handle>);

/// Closes the connection when its last user is gone; the connection's own task holds only what is
/// inside.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.want_close.notify_one();
    }
}

/// What callers and the connection's task share.
pub(super) struct Shared {
    identity: Identity,
    ack: HelloAck,
    limits: Limits,
    outbox: Outbox,
    calls: Mutex<Calls>,
    next: AtomicU64,
    slots: Semaphore,
    /// Something was written.
    room: Notify,
    want_close: Notify,
    /// A new connection should take this one's place.
    stale: watch::Sender<bool>,
    closed: watch::Sender<Option<CloseReason>>,
}

#[derive(Default)]
struct Calls {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// Set when no more calls are taken.
    over: Option<CloseReason>,
}

enum Answer {
    Reply(Bytes),
    Refusal(Bytes),
}

/// A call's place among those waiting; given back when the call is over, however that comes.
struct Place<'a> {
    shared: &'a Shared,
    seq: u64,
    _slot: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.calls().waiting.remove(&self.seq);
    }
}

impl Shared {
    pub(super) fn new(identity: Identity, ack: HelloAck, limits: Limits) -> Arc<Shared> {
        let slots = Semaphore::new(ack.max_inflight.max(1) as usize);
        Arc::new(Shared {
            identity,
            ack,
            limits,
            outbox: Outbox::default(),
            calls: Mutex::default(),
            next: AtomicU64::new(1),
            slots,
            room: Notify::new(),
            want_close: Notify::new(),
            stale: watch::Sender::new(false),
            closed: watch::Sender::new(None),
        })
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No call is taken any more; those waiting go on waiting.
    fn refuse_more(&self, reason: CloseReason) {
        self.calls().over.get_or_insert(reason);
        self.slots.close();
    }

    /// The connection has ended: everybody who waits learns it.
    fn finish(&self, reason: CloseReason) {
        let reason = {
            let mut calls = self.calls();
            let reason = calls.over.get_or_insert(reason).clone();
            calls.waiting.clear();
            reason
        };
        self.slots.close();
        self.outbox.end();
        self.room.notify_waiters();
        self.closed.send_replace(Some(reason));
    }

    fn reason(&self) -> CloseReason {
        self.calls().over.clone().unwrap_or(CloseReason::Local)
    }

    fn closed_already(&self) -> CallError {
        CallError::NotSent(NotSent::Closed(self.reason()))
    }

    /// A place among the calls in flight, and room in the queue: calls that were given up may still
    /// be there, and a server that does not read them must not make this process grow.
    async fn slot(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, CallError> {
        let slot = self.place(deadline).await?;
        while self.outbox.queued() >= self.limits.queued_bytes {
            let mut written = pin!(self.room.notified());
            // Listens before it looks again, so that no wake-up falls between the two.
            written.as_mut().enable();
            if self.outbox.queued() < self.limits.queued_bytes {
                break;
            }
            if self.slots.is_closed() {
                return Err(self.closed_already());
            }
            if timeout_at(deadline, written).await.is_err() {
                return Err(CallError::NotSent(NotSent::Busy));
            }
        }
        Ok(slot)
    }

    async fn place(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, CallError> {
        match self.slots.try_acquire() {
            Ok(slot) => Ok(slot),
            Err(TryAcquireError::Closed) => Err(self.closed_already()),
            Err(TryAcquireError::NoPermits) => {
                match timeout_at(deadline, self.slots.acquire()).await {
                    Ok(Ok(slot)) => Ok(slot),
                    Ok(Err(_)) => Err(self.closed_already()),
                    Err(_) => Err(CallError::NotSent(NotSent::Busy)),
                }
            }
        }
    }

    /// Numbers a call and queues it.
    fn submit<'a>(
        &'a self,
        slot: SemaphorePermit<'a>,
        method: Method,
        args: Encoded<'_>,
        deadline: Instant,
    ) -> Result<(Place<'a>, oneshot::Receiver<Answer>), CallError> {
        let bytes = args.len();
        if bytes > method.args_max() {
            return Err(CallError::NotSent(NotSent::TooLarge { method, bytes }));
        }
        let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut calls = self.calls();
            if let Some(reason) = &calls.over {
                return Err(CallError::NotSent(NotSent::Closed(reason.clone())));
            }
            calls.waiting.insert(seq, sender);
        }
        let place = Place { shared: self, seq, _slot: slot };
        if !self.outbox.push(&Head::request(method, seq, left), args) {
            return Err(self.closed_already());
        }
        Ok((place, receiver))
    }
}

impl Connection {
    /// A connection over a stream whose hello was acknowledged; its task is spawned here, which keeps
    /// the vigil over the server's certificate.
    pub(super) fn spawn<R, W>(
        shared: Arc<Shared>,
        source: Source<R>,
        writer: W,
        vigil: Vigil,
    ) -> Connection
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let finish = Finish(shared.clone());
        tokio::spawn(async move {
            run(&finish.0, source, writer, vigil).await;
            drop(finish);
        });
        Connection(Arc::new(Handle(shared)))
    }

    /// What the server said of itself.
    #[must_use]
    pub fn ack(&self) -> &HelloAck {
        &self.0.0.ack
    }

    /// Whom the server's certificate speaks for.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.0.identity
    }

    /// Calls and waits for the result at most this long; the time travels with the call.
    ///
    /// # Errors
    /// [`CallError`] says what is known about whether the call was carried out.
    pub async fn call_timeout<A, R>(
        &self,
        method: Method,
        args: &A,
        timeout: Duration,
    ) -> Result<R, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let deadline = Instant::now() + timeout;
        let shared = &*self.0.0;
        let slot = shared.slot(deadline).await?;
        let submitted = wire::encode(args, |args| shared.submit(slot, method, args, deadline))
            .map_err(|e| CallError::NotSent(NotSent::Arguments(e)))??;
        let bytes = self.answer(submitted, deadline, timeout).await?;
        decode_shared(&bytes).map_err(|fault| CallError::BadReply(fault.to_string()))
    }

    /// The same with arguments and result encoded: the result is a slice of the buffer it was
    /// received in.
    ///
    /// # Errors
    /// [`CallError`] says what is known about whether the call was carried out.
    pub async fn call_raw(
        &self,
        method: Method,
        args: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + timeout;
        let shared = &*self.0.0;
        let slot = shared.slot(deadline).await?;
        let submitted = shared.submit(slot, method, wire::raw(&args), deadline)?;
        drop(args);
        self.answer(submitted, deadline, timeout).await
    }

    async fn answer(
        &self,
        (place, receiver): (Place<'_>, oneshot::Receiver<Answer>),
        deadline: Instant,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let answered = timeout_at(deadline, receiver).await;
        drop(place);
        match answered {
            Ok(Ok(Answer::Reply(bytes))) => Ok(bytes),
            Ok(Ok(Answer::Refusal(bytes))) => Err(match decode(&bytes) {
                Ok(refusal) => CallError::Refused(refusal),
                Err(fault) => CallError::BadReply(fault.to_string()),
            }),
            Ok(Err(_)) => Err(CallError::Lost(self.0.0.reason())),
            Err(_) => Err(CallError::TimedOut(timeout)),
        }
    }

    /// Whether calls can be made, as far as this side knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.0.0.slots.is_closed()
    }

    /// Waits until the connection has ended; who waits does not keep it open.
    pub fn closed(&self) -> impl Future<Output = CloseReason> + Send + use<> {
        let mut closed = self.0.0.closed.subscribe();
        async move {
            match closed.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or(CloseReason::Local),
                Err(_) => CloseReason::Local,
            }
        }
    }

    /// Whether another connection should be dialed in place of this one: a certificate was replaced, on
    /// either side. If it was ours, this one goes on working until its last handle is dropped.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        *self.0.0.stale.borrow()
    }

    /// Waits until [`is_stale`](Connection::is_stale); who waits does not keep the connection open.
    pub fn stale(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stale = self.0.0.stale.subscribe();
        async move {
            if stale.wait_for(|stale| *stale).await.is_err() {
                // It ended, and never was.
                std::future::pending().await
            }
        }
    }

    /// Closes the connection; calls in flight are lost.
    pub fn close(&self) {
        self.0.0.refuse_more(CloseReason::Local);
        self.0.0.want_close.notify_one();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("identity", &self.0.0.identity)
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}

async fn run<R, W>(shared: &Shared, mut source: Source<R>, mut writer: W, vigil: Vigil)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let reason = {
        let mut writing =
            pin!(shared.outbox.write_to(&mut writer, shared.limits.write_stall, || {
                shared.room.notify_waiters();
            }));
        let mut reading = pin!(read(shared, &mut source, vigil));
        let reason = tokio::select! {
            biased;
            reason = &mut reading => reason,
            written = &mut writing => match written {
                Ok(()) => CloseReason::Local,
                // What the other side said before it closed tells more than that writing failed.
                Err(error) => match timeout(Duration::from_millis(200), reading).await {
                    Ok(reason) => reason,
                    Err(_) => CloseReason::of_error(&error),
                },
            },
            () = shared.want_close.notified() => CloseReason::Local,
        };
        shared.finish(reason.clone());
        reason
    };
    // A close that this side wants lets the other side read to the end; after anything else there is
    // nobody to tell.
    if matches!(reason, CloseReason::Local | CloseReason::Distrusted(..)) {
        use tokio::io::AsyncWriteExt;
        let _ = timeout(Duration::from_secs(1), writer.shutdown()).await;
    }
}

/// Ends the connection with its task, also when that is dropped with its runtime.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        if self.0.closed.borrow().is_none() {
            self.0.finish(CloseReason::Local);
        }
    }
}

/// Reads answers until there is a reason to end.
async fn read<R: AsyncRead + Unpin>(
    shared: &Shared,
    source: &mut Source<R>,
    vigil: Vigil,
) -> CloseReason {
    let expires = vigil.expires();
    let mut verdict = pin!(vigil.verdict());
    let mut judged = false;
    let tick = (shared.limits.frame / 4).max(Duration::from_millis(1));
    let mut watchdog = pin!(sleep(tick));
    loop {
        if let Err(reason) = deliver(shared, source) {
            return reason;
        }
        tokio::select! {
            biased;
            filled = source.fill() => match filled {
                Ok(0) => return CloseReason::Ended,
                Ok(_) => {}
                Err(error) => return CloseReason::of_error(&error),
            },
            verdict = &mut verdict, if !judged => match verdict {
                Verdict::Distrusted(reason, why) => return CloseReason::Distrusted(reason, why),
                Verdict::Renew => {
                    judged = true;
                    shared.stale.send_replace(true);
                }
            },
            () = &mut watchdog => {
                watchdog.as_mut().reset(Instant::now() + tick);
                if source.is_slow(shared.limits.frame) {
                    return CloseReason::Stalled;
                }
                if expires.is_some_and(|end| unix_now() > end) {
                    return CloseReason::Expired;
                }
            }
        }
    }
}

/// Hands the answers that have arrived to their callers.
fn deliver<R: AsyncRead + Unpin>(
    shared: &Shared,
    source: &mut Source<R>,
) -> Result<(), CloseReason> {
    let violation = |what: String| CloseReason::Violation(what);
    let mut calls = None;
    loop {
        let item = source.frames.next_item().map_err(|error| violation(error.to_string()))?;
        let (head, body) = match item {
            None => break,
            Some(Item::Frame(head, body)) => (head, body),
            Some(Item::Oversize { head, bytes, max }) => {
                let kind = head.kind.word();
                return Err(violation(format!("a {kind} of {bytes} bytes, over {max}")));
            }
        };
        source.frame_ended();
        let answer = match head.kind {
            Kind::Reply => Answer::Reply(body),
            Kind::Refusal => Answer::Refusal(body),
            Kind::Close => {
                calls = None;
                let notice = decode(&body).map_err(|fault| violation(fault.to_string()))?;
                let reason = CloseReason::Announced(notice);
                let renewal = reason.is_renewal();
                shared.refuse_more(reason);
                if renewal {
                    shared.stale.send_replace(true);
                }
                continue;
            }
            other => return Err(violation(format!("a {} frame behind the hello", other.word()))),
        };
        if head.seq == 0 || head.seq >= shared.next.load(Ordering::Relaxed) {
            return Err(violation(format!("an answer to call {}, which was never made", head.seq)));
        }
        // One lock for all answers of one read.
        let calls = calls.get_or_insert_with(|| shared.calls());
        if let Some(caller) = calls.waiting.remove(&head.seq) {
            // An error only says that the caller has just given up.
            let _ = caller.send(answer);
        }
    }
    drop(calls);
    source.settle();
    Ok(())
}
