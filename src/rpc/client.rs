//! A dialed connection: calls go out numbered, answers find their callers by number.
//!
//! One task reads and writes; callers are anywhere. A call whose future is dropped, or whose time is
//! over, is forgotten here and leaves the connection sound (A4): its answer, if it comes, finds
//! nobody. Numbers are never used twice on a connection, and a new connection begins anew, so an
//! answer can only ever reach the call it answers (A6).

mod reading;

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
use tokio::time::{Instant, timeout, timeout_at};

use super::call_error::{CallError, NotSent};
use super::close::CloseReason;
use super::frame::Head;
use super::hello::{HelloAck, Purpose};
use super::limits::Limits;
use super::methods::Method;
use super::outbox::Outbox;
use super::silence::Silence;
use super::stream::Source;
use super::tls::Vigil;
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
    purpose: Purpose,
    outbox: Outbox,
    calls: Mutex<Calls>,
    next: AtomicU64,
    slots: Semaphore,
    /// Something was written.
    room: Notify,
    want_close: Notify,
    silence: Silence,
    /// A new connection should take this one's place.
    stale: watch::Sender<bool>,
    closed: watch::Sender<Option<CloseReason>>,
}

#[derive(Default)]
struct Calls {
    waiting: HashMap<u64, Waiting>,
    /// Set when no more calls are taken.
    over: Option<CloseReason>,
}

/// A call that has no answer yet.
struct Waiting {
    caller: oneshot::Sender<Answer>,
    /// Bytes of its arguments.
    bytes: usize,
}

impl Calls {
    /// Bytes of the calls that wait; none if nobody waits.
    fn unanswered_bytes(&self) -> Option<usize> {
        let bytes = || self.waiting.values().map(|waiting| waiting.bytes).sum();
        (!self.waiting.is_empty()).then(bytes)
    }
}

enum Answer {
    Reply(Bytes),
    Refusal(Bytes),
}

/// A call's place among those waiting; given back when the call is over, however that comes.
struct Place<'a> {
    shared: &'a Shared,
    seq: u64,
    /// How often something had arrived when the call was made.
    heard: u64,
    _slot: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.calls().waiting.remove(&self.seq);
    }
}

impl Shared {
    pub(super) fn new(
        identity: Identity,
        ack: HelloAck,
        limits: Limits,
        purpose: Purpose,
    ) -> Arc<Shared> {
        let slots = Semaphore::new(ack.max_inflight.max(1) as usize);
        Arc::new(Shared {
            identity,
            ack,
            silence: Silence::new(limits.silence),
            limits,
            purpose,
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

    /// Asks for a sign of life: what every node answers by itself, whatever else it cannot do. Nobody waits for
    /// the answer; that something arrives is all that counts. False if there is no room for the question: a server
    /// that has as many calls in flight as it takes does not read another.
    fn ask(&self) -> bool {
        let Ok(slot) = self.slots.try_acquire() else { return false };
        if self.outbox.queued() >= self.limits.queued_bytes {
            return false;
        }
        let deadline = Instant::now() + self.limits.silence;
        let asked =
            wire::encode(&(), |args| self.submit(slot, Method::NodeStatus, args, deadline).is_ok());
        asked.unwrap_or(false)
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
        let (caller, receiver) = oneshot::channel();
        {
            let mut calls = self.calls();
            if let Some(reason) = &calls.over {
                return Err(CallError::NotSent(NotSent::Closed(reason.clone())));
            }
            calls.waiting.insert(seq, Waiting { caller, bytes });
        }
        let place = Place { shared: self, seq, heard: self.silence.now(), _slot: slot };
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
        let heard = place.heard;
        drop(place);
        match answered {
            Ok(Ok(Answer::Reply(bytes))) => Ok(bytes),
            Ok(Ok(Answer::Refusal(bytes))) => Err(match decode(&bytes) {
                Ok(refusal) => CallError::Refused(refusal),
                Err(fault) => CallError::BadReply(fault.to_string()),
            }),
            Ok(Err(_)) => Err(CallError::Lost(self.0.0.reason())),
            Err(_) => {
                if self.0.0.silence.unanswered(heard, deadline - timeout) {
                    self.0.0.stale.send_replace(true);
                }
                Err(CallError::TimedOut(timeout))
            }
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
    /// either side, or the peer [is silent](Connection::is_silent). If it was ours, this one goes on
    /// working until its last handle is dropped.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        *self.0.0.stale.borrow()
    }

    /// Whether calls have waited in vain for [`Limits::silence`] without a sign of life: the peer may be gone
    /// without a word, and be somewhere else by now. It may also come back.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.0.0.silence.is_long()
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
        let mut reading = pin!(reading::read(shared, &mut source, vigil));
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
