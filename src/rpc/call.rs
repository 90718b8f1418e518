//! Calls as a server hands them to its service, and the way their answers take back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, oneshot};

use super::close::{CloseCode, CloseNotice};
use super::frame::{Head, Kind};
use super::hello::Hello;
use super::limits::Limits;
use super::meter::Meter;
use super::methods::{Binding, METHOD_NAME_MAX, Method, REPLY_BYTES_MAX};
use super::outbox::Outbox;
use super::wire::{self, COPY_MAX, Encoded};
use crate::codec::api::{Code, Refusal};
use crate::codec::decode_shared;
use crate::identity::{Identity, Role};

/// Tells one accepted connection from every other of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The other side of an accepted connection, as its certificate and hello say.
#[derive(Debug)]
pub struct Peer {
    /// From its certificate.
    pub identity: Identity,
    /// What it said first.
    pub hello: Hello,
    /// Where it connects from.
    pub address: SocketAddr,
    /// Which connection this is.
    pub connection: ConnectionId,
    /// Whether its hello named this cluster and this node.
    pub(super) names_receiver: bool,
    pub(super) link: Arc<Link>,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// What is asked for; the caller's role may ask for it.
    pub method: Method,
    /// The encoded arguments, one MessagePack value: a slice of the buffer they were received in.
    pub args: Bytes,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Where the answer goes.
    pub reply: Responder,
}

impl Call {
    /// The arguments, decoded; byte strings marked as shared are slices of the received buffer.
    ///
    /// # Errors
    /// A refusal to answer the call with.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        decode_shared(&self.args).map_err(|e| {
            let message = format!("the arguments of {} are malformed: {e}", self.method);
            Refusal::new(Code::BadRequest, message)
        })
    }
}

impl Peer {
    /// A peer without a connection, for tests of services.
    #[must_use]
    pub fn detached(identity: Identity, hello: Hello, connection: ConnectionId) -> Peer {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let link = Arc::new(Link::new(&Limits::default(), Arc::default(), Arc::default()));
        Peer { identity, hello, address, connection, names_receiver: true, link }
    }

    /// Closes the connection; the peer is told why, and calls in flight are still answered for a
    /// moment.
    pub fn close(&self, code: CloseCode, message: impl Into<String>) {
        self.link.request_close(CloseNotice { code, message: message.into() });
    }

    /// Whether this peer may make this call on this connection.
    pub(super) fn authorize(&self, method: Method) -> Result<(), Refusal> {
        if !method.allows(self.identity.role()) {
            let role = self.identity.role();
            let way_out = match method.allows(Role::Admin) && role == Role::Client {
                true => "; use an admin's certificate (--certs .../admin)",
                false => "",
            };
            let message = format!("{method} may not be called with a {role} certificate{way_out}");
            return Err(Refusal::new(Code::Denied, message));
        }
        match method.binding() {
            Binding::OwnName => Ok(()),
            Binding::Receiver if self.names_receiver => Ok(()),
            Binding::Receiver => Err(Refusal::new(
                Code::WrongPeer,
                format!("{method} needs a hello that named this cluster and this node"),
            )),
        }
    }
}

/// What a connection's task and its calls share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) outbox: Outbox,
    pub(super) meter: Arc<Meter>,
    inflight: AtomicU32,
    inflight_max: u32,
    queued_max: usize,
    total_max: usize,
    /// The reader waits for `room`.
    paused: AtomicBool,
    room: Notify,
    close: Mutex<Option<CloseNotice>>,
    close_wake: Notify,
}

impl Link {
    /// `total` counts the bytes queued on all connections of the server.
    pub(super) fn new(limits: &Limits, total: Arc<AtomicUsize>, meter: Arc<Meter>) -> Link {
        Link {
            outbox: Outbox::counted(total),
            meter,
            inflight: AtomicU32::new(0),
            inflight_max: limits.inflight,
            queued_max: limits.queued_bytes,
            total_max: limits.queued_total,
            paused: AtomicBool::new(false),
            room: Notify::new(),
            close: Mutex::new(None),
            close_wake: Notify::new(),
        }
    }

    /// Calls that were handed out and are not answered.
    pub(super) fn inflight(&self) -> u32 {
        self.inflight.load(Ordering::SeqCst)
    }

    /// Whether another call may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.inflight() < self.inflight_max
    }

    /// Something was answered or written: lets a waiting reader look again.
    pub(super) fn progress(&self) {
        if self.paused.load(Ordering::SeqCst) {
            self.room.notify_one();
        }
    }

    /// Waits until `ready`, which [`Link::progress`] may have made true.
    pub(super) async fn wait_until(&self, ready: impl Fn(&Link) -> bool) {
        while !ready(self) {
            self.paused.store(true, Ordering::SeqCst);
            // Looked at again behind the flag, so that no wake-up falls between the two.
            if !ready(self) {
                self.room.notified().await;
            }
        }
        self.paused.store(false, Ordering::SeqCst);
    }

    fn request_close(&self, notice: CloseNotice) {
        self.close.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(notice);
        self.close_wake.notify_one();
    }

    /// Waits until the service wants the connection closed.
    pub(super) async fn close_requested(&self) -> CloseNotice {
        loop {
            if let Some(notice) = &*self.close.lock().unwrap_or_else(PoisonError::into_inner) {
                return notice.clone();
            }
            self.close_wake.notified().await;
        }
    }

    /// Queues a refusal; also of calls that were never handed out.
    pub(super) fn refuse(&self, seq: u64, refusal: &Refusal) {
        let head = Head::plain(Kind::Refusal, seq);
        let pushed = wire::encode(&shortened(refusal), |body| self.outbox.push(&head, body));
        debug_assert!(pushed.is_ok(), "a refusal always encodes");
    }

    /// Queues a reply, or the refusal that takes its place, and says with which code.
    fn reply(&self, seq: u64, method: Method, body: Encoded<'_>) -> Option<Code> {
        if let Some(refusal) = self.objection(method, body.len()) {
            self.refuse(seq, &refusal);
            return Some(refusal.code);
        }
        // False only if the connection has ended, and nobody is there to read it.
        self.outbox.push(&Head::plain(Kind::Reply, seq), body);
        None
    }

    /// Why a reply of so many bytes cannot be sent. A call that changed something has an unknown
    /// outcome then; a read has simply not happened.
    fn objection(&self, method: Method, bytes: usize) -> Option<Refusal> {
        let (code, message) = if bytes > REPLY_BYTES_MAX {
            (Code::TooLarge, format!("the reply has {bytes} bytes, over {REPLY_BYTES_MAX}"))
        } else if bytes > COPY_MAX && self.outbox.queued() + bytes > self.queued_max {
            (Code::Busy, "too many replies wait for you to read them".to_owned())
        } else if bytes > COPY_MAX && self.outbox.queued_in_all() + bytes > self.total_max {
            (Code::Busy, "too many replies wait for others to read them".to_owned())
        } else {
            return None;
        };
        let code = if method.changes_something() { Code::Unknown } else { code };
        Some(Refusal::new(code, message))
    }
}

/// A refusal that surely fits its frame.
fn shortened(refusal: &Refusal) -> Refusal {
    const MESSAGE_CHARS: usize = 1000;
    let mut refusal = refusal.clone();
    if let Some((cut, _)) = refusal.message.char_indices().nth(MESSAGE_CHARS) {
        refusal.message.truncate(cut);
    }
    refusal
}

#[derive(Debug)]
enum Route {
    Connection { link: Arc<Link>, seq: u64 },
    Local(oneshot::Sender<Result<Bytes, Refusal>>),
}

/// Answers one call, from any thread, exactly once (C5): by `send`, by `refuse`, or, if it is
/// dropped, by a refusal that leaves the outcome unknown.
#[derive(Debug)]
#[must_use = "a call that is not answered is refused"]
pub struct Responder {
    route: Option<Route>,
    method: Method,
    received: Instant,
    /// When it is answered, for who answers many at once and need not look at the clock for each.
    answered: Option<Instant>,
}

impl Responder {
    /// For a call in flight on a connection.
    pub(super) fn new(link: Arc<Link>, seq: u64, method: Method, received: Instant) -> Responder {
        link.inflight.fetch_add(1, Ordering::SeqCst);
        let route = Some(Route::Connection { link, seq });
        Responder { route, method, received, answered: None }
    }

    /// The answer that is about to be given is given now: one look at the clock for many answers.
    pub fn answered_at(&mut self, now: Instant) {
        self.answered = Some(now);
    }

    fn took(&self) -> Duration {
        self.answered.unwrap_or_else(Instant::now).saturating_duration_since(self.received)
    }

    /// When the call arrived.
    #[must_use]
    pub fn received(&self) -> Instant {
        self.received
    }

    /// A responder whose answer is received here, without a connection: for calls a node makes to
    /// itself, and for tests of services.
    pub fn detached(method: Method) -> (Responder, oneshot::Receiver<Result<Bytes, Refusal>>) {
        let (sender, receiver) = oneshot::channel();
        let route = Some(Route::Local(sender));
        (Responder { route, method, received: Instant::now(), answered: None }, receiver)
    }

    /// Answers with a result.
    pub fn send<T: Serialize + ?Sized>(self, result: &T) {
        let mut this = self;
        let outcome = wire::encode(result, |body| this.deliver(body));
        if let Err(error) = outcome {
            let message = format!("the reply to {} cannot be encoded: {error}", this.method);
            this.refuse(Refusal::new(Code::Unknown, message));
        }
    }

    /// Answers with a result that is encoded already; large ones are not copied.
    pub fn send_raw(mut self, result: &Bytes) {
        self.deliver(wire::raw(result));
    }

    /// Answers with a refusal.
    pub fn refuse(mut self, refusal: Refusal) {
        self.deliver_refusal(refusal);
    }

    fn deliver(&mut self, body: Encoded<'_>) {
        match self.route.take() {
            Some(Route::Connection { link, seq }) => {
                let refused = link.reply(seq, self.method, body);
                link.meter.answered(self.method, refused, self.took());
                link.answered();
            }
            Some(Route::Local(sender)) => {
                let bytes = match body {
                    Encoded::Small(bytes) => Bytes::copy_from_slice(bytes),
                    Encoded::Large(bytes) => bytes,
                };
                // An error only says that nobody waits any more.
                let _ = sender.send(Ok(bytes));
            }
            None => {}
        }
    }

    fn deliver_refusal(&mut self, refusal: Refusal) {
        match self.route.take() {
            Some(Route::Connection { link, seq }) => {
                link.refuse(seq, &refusal);
                link.meter.answered(self.method, Some(refusal.code), self.took());
                link.answered();
            }
            Some(Route::Local(sender)) => {
                let _ = sender.send(Err(refusal));
            }
            None => {}
        }
    }
}

impl Link {
    fn answered(&self) {
        let before = self.inflight.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "C5: a call is answered once");
        self.progress();
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.route.is_some() {
            let message = format!("{} was given up; it may or may not have happened", self.method);
            self.deliver_refusal(Refusal::new(Code::Unknown, message));
        }
    }
}

const _: () = assert!(METHOD_NAME_MAX <= u8::MAX as usize, "a name's length is one byte");
