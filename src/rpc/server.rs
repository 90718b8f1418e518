//! Accepting connections: admission, TLS, hello; then each connection runs by itself.
//!
//! The accept loop waits for nothing but the next connection. Whatever a peer can delay happens in
//! that connection's own task, under a deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::admission::{Admission, Slot};
use super::call::{Call, ConnectionId, Link, Peer};
use super::close::CloseReason;
use super::connection;
use super::frame::{Head, Kind};
use super::hello::{Hello, HelloAck, VERSIONS};
use super::limits::Limits;
use super::refusals::{Reason, RefusalLog};
use super::stop::Stop;
use super::stream::{Buffered, Source, buffered, linger, write_frame};
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

    /// A connection or a call was refused for this reason: for counters. The transport writes the
    /// log itself.
    fn refused(&self, _from: SocketAddr, _reason: Reason) {}
}

/// What all connections of one listener share.
pub(super) struct Shared {
    pub(super) tls: Arc<Tls>,
    pub(super) limits: Limits,
    pub(super) service: Arc<dyn Service>,
    pub(super) stop: Stop,
    log: RefusalLog,
    next: AtomicU64,
    /// Bytes waiting to be written on all connections.
    queued: Arc<AtomicUsize>,
}

impl Shared {
    /// Counts and logs a refusal.
    pub(super) fn refuse(&self, from: SocketAddr, reason: Reason, sentence: &str) {
        self.log.report(from, reason, sentence);
        self.service.refused(from, reason);
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
        log: RefusalLog::default(),
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

/// A connection that went away before it was accepted concerns nobody; anything else is a shortage
/// (of file descriptors, of memory) that passes.
async fn accept_failed(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        return;
    }
    tracing::error!(target: "balsa::rpc", %error, "connections cannot be accepted; trying on");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// From the accept to the end.
async fn admitted(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, mut slot: Slot) {
    let established = tokio::select! {
        established = establish(&shared, stream, from, &mut slot) => established,
        // Who is not up yet is owed nothing.
        () = shared.stop.requested() => None,
    };
    let Some(Established { peer, source, writer, vigil }) = established else { return };
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
    // Small frames are answers that somebody waits for; we coalesce ourselves.
    if let Err(error) = stream.set_nodelay(true) {
        shared.refuse(from, Reason::Handshake, &format!("its socket failed: {error}"));
        return None;
    }
    let (stream, identity, vigil) = handshake(shared, stream, from).await?;
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

/// The alert that a peer gets which does not speak TLS at all: fatal, unexpected_message.
const NOT_TLS: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// The first byte of every TLS connection: a handshake record.
const HANDSHAKE_RECORD: u8 = 22;

/// TLS, whom the certificate speaks for, and who watches over it from here on.
async fn handshake(
    shared: &Shared,
    mut stream: TcpStream,
    from: SocketAddr,
) -> Option<(TlsStream<Buffered>, Identity, Vigil)> {
    let deadline = Instant::now() + shared.limits.handshake;
    let too_late = || {
        let seconds = shared.limits.handshake.as_secs_f32();
        let sentence = format!("it did not complete the TLS handshake within {seconds} s");
        shared.refuse(from, Reason::HandshakeTimeout, &sentence);
    };
    let mut first = [0];
    match timeout_at(deadline, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] == HANDSHAKE_RECORD => {}
        Ok(Ok(1)) => {
            let sentence = format!(
                "plaintext: its first byte is {:#04x} ('{}'), not a TLS handshake; every connection \
                 here is mutual TLS",
                first[0],
                char::from(first[0]).escape_default()
            );
            shared.refuse(from, Reason::Plaintext, &sentence);
            if timeout_at(deadline, stream.write_all(&NOT_TLS)).await.is_ok_and(|sent| sent.is_ok())
            {
                let _ = stream.shutdown().await;
                linger(&mut stream).await;
            }
            return None;
        }
        Ok(_) => {
            shared.refuse(from, Reason::Handshake, "it closed the connection before TLS began");
            return None;
        }
        Err(_) => {
            too_late();
            return None;
        }
    }
    let (config, witness, edition) = match shared.tls.server_config() {
        Ok(made) => made,
        Err(error) => {
            tracing::error!(target: "balsa::rpc", %error, "our own TLS configuration is unusable");
            return None;
        }
    };
    let accepting = TlsAcceptor::from(config).accept(buffered(stream)).into_fallible();
    let stream = match timeout_at(deadline, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, mut raw))) => {
            let (reason, sentence) = witness.explain(&error);
            shared.refuse(from, reason, &sentence);
            // The alert is sent; a close with unread bytes would reset the connection and take it back.
            let _ = timeout(Duration::from_secs(1), raw.shutdown()).await;
            linger(&mut raw).await;
            return None;
        }
        Err(_) => {
            too_late();
            return None;
        }
    };
    // The verifier has found exactly one good name in it; anything else here is our own fault, and
    // then nobody is let in.
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let identity = chain.first().and_then(|leaf| Identity::of_certificate(leaf).ok());
    let vigil = Vigil::accepted(shared.tls.clone(), edition, chain);
    match identity {
        Some(identity) => Some((stream, identity, vigil)),
        None => {
            shared.refuse(from, Reason::UriName, "its certificate's name cannot be read again");
            None
        }
    }
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
    let link = Arc::new(Link::new(&shared.limits, shared.queued.clone()));
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
