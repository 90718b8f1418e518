//! Accepting connections: admission, TLS, hello; then each connection runs by itself.
//!
//! The accept loop waits for nothing but the next connection. Whatever a peer can delay happens in
//! that connection's own task, under a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::accept::{accept_failed, handshake};
use super::admission::{Admission, Slot};
use super::call::{Call, ConnectionId, Link, Peer};
use super::close::CloseReason;
use super::connection;
use super::frame::{Head, Kind};
use super::hello::{Hello, HelloAck, VERSIONS};
use super::limits::Limits;
use super::meter::Meter;
use super::refusals::Reason;
use super::stop::Stop;
use super::stream::{Buffered, Source, prepare, write_frame};
use super::tls::{Tls, Vigil};
use crate::codec::api::{Code, Refusal};
use crate::codec::decode;
use crate::identity::{Identity, printable};

/// What a node does with the connections and calls it is given. Called on the listener's thread, so
/// nothing here may block.
pub trait Service: Send + Sync + 'static {
    /// Judges a hello. The certificate is good and the hello's name is its name; the acknowledgement's
    /// `version` and `max_inflight` are filled in by the transport.
    ///
    /// # Errors
    /// A refusal ends the connection and is told to the peer.
    fn greet(&self, peer: &Identity, hello: &Hello) -> Result<HelloAck, Refusal>;

    /// Takes all calls that one read brought, in their order. Each may be called by this peer, and
    /// its arguments are one whole MessagePack value.
    fn dispatch(&self, peer: &Arc<Peer>, calls: Vec<Call>);

    /// The connection has ended; of every peer that a call of [`Service::opened`] announced.
    fn closed(&self, peer: &Arc<Peer>);

    /// The connection is up; called before the first [`Service::dispatch`].
    fn opened(&self, _peer: &Arc<Peer>) {}

    /// Where the transport counts.
    fn meter(&self) -> &Arc<Meter>;
}

/// What all connections of one listener share.
pub(super) struct Shared {
    pub(super) tls: Arc<Tls>,
    pub(super) limits: Limits,
    pub(super) service: Arc<dyn Service>,
    pub(super) stop: Stop,
    next: AtomicU64,
    /// Bytes waiting to be written on all connections.
    queued: Arc<AtomicUsize>,
}

impl Shared {
    /// Counts and logs a refusal.
    pub(super) fn refuse(&self, from: SocketAddr, reason: Reason, sentence: &str) {
        self.service.meter().refuse(from, reason, sentence);
    }
}

/// Serves a listener until asked to stop; then says so to every peer, answers what is in flight for
/// at most `limits.drain`, and returns when all connections have ended (A7).
pub async fn serve(
    listener: TcpListener,
    tls: Arc<Tls>,
    limits: Limits,
    service: Arc<dyn Service>,
    stop: Stop,
) {
    let admission = Admission::new(limits.clone());
    let shared = Arc::new(Shared {
        tls,
        limits,
        service,
        stop,
        next: AtomicU64::new(1),
        queued: Arc::default(),
    });
    let mut connections = JoinSet::new();
    let mut stopped = std::pin::pin!(shared.stop.requested());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut stopped => break,
        };
        match accepted {
            Ok((stream, from)) => match admission.admit(from.ip()) {
                Ok(slot) => drop(connections.spawn(admitted(shared.clone(), stream, from, slot))),
                Err(limit) => shared.refuse(from, Reason::Full, limit),
            },
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// From the accept to the end.
async fn admitted(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, mut slot: Slot) {
    let established = tokio::select! {
        established = establish(&shared, stream, from, &mut slot) => established,
        // Who is not up yet is owed nothing.
        () = shared.stop.requested() => None,
    };
    let Some(Established { peer, source, writer, vigil }) = established else { return };
    let _counted = shared.service.meter().connected(peer.identity.role());
    shared.service.opened(&peer);
    let open = Open { shared: &shared, peer: &peer };
    connection::run(&shared, &peer, source, writer, vigil).await;
    drop(open);
}

/// Tells the service that a connection has ended, also when its task is dropped with its runtime.
struct Open<'a> {
    shared: &'a Shared,
    peer: &'a Arc<Peer>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.peer.link.outbox.end();
        self.shared.service.closed(self.peer);
    }
}

/// A connection that is up.
struct Established {
    peer: Arc<Peer>,
    source: Source<ReadHalf<TlsStream<Buffered>>>,
    writer: WriteHalf<TlsStream<Buffered>>,
    vigil: Vigil,
}

/// TLS and hello; whoever fails has been told and logged.
async fn establish(
    shared: &Shared,
    stream: TcpStream,
    from: SocketAddr,
    slot: &mut Slot,
) -> Option<Established> {
    if let Err(error) = prepare(&stream, &shared.limits) {
        shared.refuse(from, Reason::Handshake, &format!("its socket failed: {error}"));
        return None;
    }
    let refuse = |reason: Reason, sentence: &str| shared.refuse(from, reason, sentence);
    let (stream, identity, vigil) =
        handshake(&shared.tls, shared.limits.handshake, stream, &refuse).await?;
    let (reader, mut writer) = tokio::io::split(stream);
    let mut source = Source::new(reader);
    let greeted =
        timeout(shared.limits.hello, greet(shared, &mut source, &mut writer, slot, identity, from))
            .await;
    let (reason, sentence) = match greeted {
        Ok(Ok(peer)) => {
            return Some(Established { peer: Arc::new(peer), source, writer, vigil });
        }
        Ok(Err(refused)) => refused,
        Err(_) => {
            let after = shared.limits.hello.as_secs_f32();
            (Reason::BadHello, format!("it said no hello within {after} s"))
        }
    };
    shared.refuse(from, reason, &sentence);
    end(&mut source, &mut writer).await;
    None
}

async fn end<R, W>(source: &mut Source<R>, writer: &mut W)
where
    R: tokio::io::AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // Whether the last words can still be said or not, the connection ends here.
    let _ = timeout(Duration::from_secs(1), writer.shutdown()).await;
    source.linger().await;
}

/// Hello and acknowledgement.
async fn greet<R, W>(
    shared: &Shared,
    source: &mut Source<R>,
    writer: &mut W,
    slot: &mut Slot,
    identity: Identity,
    address: SocketAddr,
) -> Result<Peer, (Reason, String)>
where
    R: tokio::io::AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let lost = |reason: CloseReason| (Reason::BadHello, format!("no hello: {reason}"));
    let (head, body) = source.frame().await.map_err(lost)?;
    let judged = judge(shared, slot, &identity, head.kind, &body);
    let (mut ack, hello, version) = match judged {
        Ok(judged) => judged,
        Err((reason, refusal)) => {
            let sentence = format!("the hello of {identity}: {}", printable(&refusal.message));
            let told = write_frame(writer, &Head::plain(Kind::Refusal, 0), &refusal).await;
            return Err((
                reason,
                match told {
                    Ok(()) => sentence,
                    Err(error) => format!("{sentence} (which it could not be told: {error})"),
                },
            ));
        }
    };
    ack.version = version;
    ack.max_inflight = shared.limits.inflight;
    let names_receiver = ack.is_receiver_of(&hello);
    write_frame(writer, &Head::plain(Kind::HelloAck, 0), &ack)
        .await
        .map_err(|error| lost(CloseReason::of_error(&error)))?;
    let connection = ConnectionId(shared.next.fetch_add(1, Ordering::Relaxed));
    let meter = Arc::clone(shared.service.meter());
    let link = Arc::new(Link::new(&shared.limits, shared.queued.clone(), meter));
    Ok(Peer { identity, hello, address, connection, names_receiver, link })
}

/// What is wrong with a hello, or its acknowledgement and the version both will speak.
fn judge(
    shared: &Shared,
    slot: &mut Slot,
    identity: &Identity,
    kind: Kind,
    body: &[u8],
) -> Result<(HelloAck, Hello, u16), (Reason, Refusal)> {
    let bad = |message: String| (Reason::BadHello, Refusal::new(Code::BadRequest, message));
    if kind != Kind::Hello {
        return Err(bad(format!("the first frame is a {}, not a hello", kind.word())));
    }
    let hello: Hello = decode(body).map_err(|e| bad(format!("the hello is malformed: {e}")))?;
    let version = VERSIONS.common(hello.versions).ok_or_else(|| {
        let (ours, theirs) = (VERSIONS, hello.versions);
        bad(format!(
            "this node speaks protocol versions {} to {}, the caller {} to {}",
            ours.min, ours.max, theirs.min, theirs.max
        ))
    })?;
    if hello.name != identity.name() {
        let message = format!(
            "the hello is of {}, but the certificate is for {identity}",
            printable(&hello.name)
        );
        return Err((Reason::WrongName, Refusal::new(Code::WrongPeer, message)));
    }
    slot.established(identity.role())
        .map_err(|limit| (Reason::Full, Refusal::new(Code::Busy, limit)))?;
    let ack = shared.service.greet(identity, &hello).map_err(|refusal| {
        let passes = refusal.code == Code::Unavailable;
        (if passes { Reason::NotReady } else { Reason::Hello }, refusal)
    })?;
    Ok((ack, hello, version))
}
