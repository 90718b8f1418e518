//! Reaching a node: its address resolved anew, TCP, TLS, hello, and a clear word for each way in
//! which that can fail.
//!
//! A name may have several addresses, and some of them may be old: nobody is there any more and nothing
//! comes back, or somebody else is, as the certificate proves. They are tried in order; the next one is
//! begun when the one before has failed, or has said nothing for [`STAGGER`] (as RFC 8305 does), and the
//! first that is up is taken.
//!
//! What when full? Of more than [`ADDRESSES_MAX`] addresses the first ones are tried; resolvers turn the
//! order from answer to answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{Connection, Shared};
use super::close::CloseReason;
use super::frame::{Head, Kind};
use super::hello::{Hello, HelloAck};
use super::limits::Limits;
use super::refusals::Reason;
use super::resolver::Resolver;
use super::stream::{Buffered, Source, buffered, prepare, write_frame};
use super::tls::{Tls, Vigil, Witness, alert_reason, tls_error};
use crate::codec::api::Refusal;
use crate::codec::{DecodeError, decode};
use crate::identity::Identity;

/// How long an address may be silent before the next one of its name is tried as well.
const STAGGER: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Whom a dialer accepts at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The node in this seat of our own certificate's cluster; the URI name decides, the host's name
    /// is not compared.
    Node(String),
    /// Any node of our own certificate's cluster whose certificate also names the host.
    AnyNode,
    /// The node of whatever seat of our own certificate's cluster is there; the host's name is not
    /// compared. For nodes that want to know who is at an address.
    AnySeat,
}

/// Why a node could not be reached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// Not of the form `HOST:PORT`.
    #[error("{0:?} is not an address of the form HOST:PORT")]
    Address(String),
    /// The host's name has no address, now.
    #[error("{address}: the name cannot be resolved: {reason}")]
    Resolve {
        /// What was dialed.
        address: String,
        /// What the resolver says.
        reason: String,
    },
    /// Nobody listens there: the host is up, the process is not.
    #[error("{address}: connection refused; nothing listens there")]
    Refused {
        /// What was dialed.
        address: String,
    },
    /// The network does not lead there.
    #[error("{address}: unreachable: {reason}")]
    Unreachable {
        /// What was dialed.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// The time was over.
    #[error("{address}: no answer within the time limit, {stage}")]
    TimedOut {
        /// What was dialed.
        address: String,
        /// How far it came.
        stage: &'static str,
    },
    /// The server's certificate, or its TLS, is not acceptable to us.
    #[error("{address}: {problem}")]
    Tls {
        /// What was dialed.
        address: String,
        /// The word for counters.
        reason: Reason,
        /// A sentence about the server.
        problem: String,
    },
    /// The server does not accept us: the sentence is about our certificate.
    #[error("{address}: the server refused us: {problem}")]
    RefusedByServer {
        /// What was dialed.
        address: String,
        /// [`Reason::Revoked`] if our certificate is revoked, else [`Reason::RefusedByPeer`].
        reason: Reason,
        /// Its alert, in words.
        problem: String,
    },
    /// The server's certificate is good, but for somebody else.
    #[error("{address}: {problem}")]
    WrongPeer {
        /// What was dialed.
        address: String,
        /// Whom it is for, and whom we wanted.
        problem: String,
    },
    /// The node refused our hello and said why.
    #[error("{address}: {refusal}")]
    HelloRefused {
        /// What was dialed.
        address: String,
        /// What it said.
        refusal: Box<Refusal>,
    },
    /// The connection ended before the hello was acknowledged.
    #[error("{address}: {reason} before the connection was up")]
    Lost {
        /// What was dialed.
        address: String,
        /// How it ended.
        reason: CloseReason,
    },
}

impl DialError {
    /// Whether certificates or authority stand in the way, so that trying again will not help until
    /// somebody changes something.
    #[must_use]
    pub fn is_authority(&self) -> bool {
        match self {
            DialError::Tls { reason, .. } => *reason != Reason::Handshake,
            DialError::RefusedByServer { .. } | DialError::WrongPeer { .. } => true,
            _ => false,
        }
    }

    /// Whether a certificate is revoked: the server's, or our own.
    #[must_use]
    pub fn is_revocation(&self) -> bool {
        matches!(
            self,
            DialError::Tls { reason: Reason::Revoked, .. }
                | DialError::RefusedByServer { reason: Reason::Revoked, .. }
        )
    }

    /// How far the attempt came; of several addresses the attempt that came farthest is reported.
    fn rank(&self) -> u8 {
        match self {
            DialError::Address(_) | DialError::Resolve { .. } => 0,
            DialError::Unreachable { .. } => 1,
            DialError::Refused { .. } => 2,
            DialError::TimedOut { .. } => 3,
            DialError::Lost { .. } => 4,
            DialError::Tls { .. } => 5,
            DialError::WrongPeer { .. } => 6,
            DialError::RefusedByServer { .. } => 7,
            DialError::HelloRefused { .. } => 8,
        }
    }
}

/// Dials with one identity. Clones share it.
#[derive(Clone, Debug)]
pub struct Dialer {
    tls: Arc<Tls>,
    limits: Limits,
    resolver: Resolver,
}

impl Dialer {
    /// A dialer that presents this certificate and asks the system for addresses.
    #[must_use]
    pub fn new(tls: Arc<Tls>, limits: Limits) -> Dialer {
        Dialer::resolving(tls, limits, Resolver::default())
    }

    /// The same with another resolver.
    #[must_use]
    pub fn resolving(tls: Arc<Tls>, limits: Limits, resolver: Resolver) -> Dialer {
        Dialer { tls, limits, resolver }
    }

    /// Who dials.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.tls.identity()
    }

    /// The addresses of `HOST:PORT` (`[V6]:PORT`) as they are now, at least one.
    ///
    /// # Errors
    /// [`DialError::Address`], [`DialError::Resolve`] or [`DialError::TimedOut`].
    pub async fn resolve(
        &self,
        address: &str,
        timeout: Duration,
    ) -> Result<Vec<SocketAddr>, DialError> {
        self.resolve_until(address, Instant::now() + timeout).await
    }

    async fn resolve_until(
        &self,
        address: &str,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, DialError> {
        server_name(address)?;
        let address = || address.to_owned();
        match timeout_at(deadline, self.resolver.resolve(&address())).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(reason)) => Err(DialError::Resolve { address: address(), reason }),
            Err(_) => Err(DialError::TimedOut { address: address(), stage: "resolving the name" }),
        }
    }

    /// Connects to `HOST:PORT` (`[V6]:PORT`), resolved anew, trying its addresses in order. Needs a tokio
    /// runtime, on which the connection's task then lives.
    ///
    /// # Errors
    /// [`DialError`] of the attempt that came farthest.
    pub async fn dial(
        &self,
        address: &str,
        expect: Expect,
        hello: Hello,
        timeout: Duration,
    ) -> Result<Connection, DialError> {
        let deadline = Instant::now() + timeout;
        let name = server_name(address)?;
        let found = self.resolve_until(address, deadline).await?;
        let attempt = Attempt { dialer: self, address, expect: &expect, hello: &hello };
        let mut waiting = found.iter().take(ADDRESSES_MAX);
        let mut under_way = FuturesUnordered::new();
        let mut farthest: Option<DialError> = None;
        loop {
            if let Some(socket) = waiting.next() {
                under_way.push(attempt.connect(*socket, &name, deadline));
            }
            let outcome = tokio::select! {
                biased;
                outcome = under_way.next() => outcome,
                () = sleep(STAGGER), if waiting.len() > 0 => continue,
            };
            match outcome {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(error)) => {
                    if farthest.as_ref().is_none_or(|best| error.rank() >= best.rank()) {
                        farthest = Some(error);
                    }
                }
                None => break,
            }
        }
        Err(farthest.unwrap_or_else(|| DialError::Resolve {
            address: address.to_owned(),
            reason: "the name has no address".to_owned(),
        }))
    }
}

/// The host of `HOST:PORT`, as TLS wants it.
fn server_name(address: &str) -> Result<ServerName<'static>, DialError> {
    let malformed = || DialError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    port.parse::<u16>().map_err(|_| malformed())?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| malformed())
}

/// One dial's parameters.
struct Attempt<'a> {
    dialer: &'a Dialer,
    address: &'a str,
    expect: &'a Expect,
    hello: &'a Hello,
}

impl Attempt<'_> {
    fn address(&self) -> String {
        self.address.to_owned()
    }

    fn timed_out(&self, stage: &'static str) -> DialError {
        DialError::TimedOut { address: self.address(), stage }
    }

    async fn connect(
        &self,
        socket: SocketAddr,
        name: &ServerName<'static>,
        deadline: Instant,
    ) -> Result<Connection, DialError> {
        let stream = timeout_at(deadline, TcpStream::connect(socket))
            .await
            .map_err(|_| self.timed_out("connecting"))?
            .and_then(|stream| prepare(&stream, &self.dialer.limits).map(|()| stream))
            .map_err(|error| match error.kind() {
                io::ErrorKind::ConnectionRefused => DialError::Refused { address: self.address() },
                _ => DialError::Unreachable { address: self.address(), reason: error.to_string() },
            })?;
        let (stream, vigil) = self.handshake(stream, name, deadline).await?;
        match timeout_at(deadline, self.greet(stream, vigil)).await {
            Ok(greeted) => greeted,
            Err(_) => Err(self.timed_out("waiting for the hello's acknowledgement")),
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        name: &ServerName<'static>,
        deadline: Instant,
    ) -> Result<(TlsStream<Buffered>, Vigil), DialError> {
        let tls = &self.dialer.tls;
        let (config, witness, edition) =
            tls.client_config(self.expect).map_err(|error| DialError::Tls {
                address: self.address(),
                reason: Reason::Handshake,
                problem: format!("our own TLS configuration is unusable: {error}"),
            })?;
        let connecting = TlsConnector::from(config).connect(name.clone(), buffered(stream));
        match timeout_at(deadline, connecting).await {
            Ok(Ok(stream)) => {
                let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let (expect, host) = (self.expect.clone(), name.clone());
                let vigil = Vigil::dialed(tls.clone(), edition, chain, expect, host);
                Ok((stream, vigil))
            }
            Ok(Err(error)) => Err(self.handshake_failed(&witness, &error)),
            Err(_) => Err(self.timed_out("in the TLS handshake")),
        }
    }

    fn handshake_failed(&self, witness: &Witness, error: &io::Error) -> DialError {
        let address = self.address();
        if witness.fault().is_none() && tls_error(error).is_none() {
            // Cut off, by a node that is full or just dying: nothing is known against its certificate,
            // and another attempt may well succeed.
            return DialError::Lost { address, reason: CloseReason::of_error(error) };
        }
        let (reason, problem) = witness.explain(error);
        match reason {
            Reason::WrongName | Reason::WrongCluster => DialError::WrongPeer { address, problem },
            Reason::RefusedByPeer => {
                let reason = match tls_error(error) {
                    Some(rustls::Error::AlertReceived(alert)) => alert_reason(*alert),
                    _ => reason,
                };
                DialError::RefusedByServer { address, reason, problem }
            }
            reason => DialError::Tls { address, reason, problem },
        }
    }

    /// Hello and acknowledgement. Only here does a dialer learn whether the server took its
    /// certificate.
    async fn greet(
        &self,
        stream: TlsStream<Buffered>,
        vigil: Vigil,
    ) -> Result<Connection, DialError> {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let identity = chain.first().and_then(|leaf| Identity::of_certificate(leaf).ok());
        let lost = |reason| match reason {
            CloseReason::Alert(reason, problem) => {
                DialError::RefusedByServer { address: self.address(), reason, problem }
            }
            reason => DialError::Lost { address: self.address(), reason },
        };
        let identity = identity.ok_or_else(|| {
            lost(CloseReason::Violation("its certificate cannot be read again".to_owned()))
        })?;
        let (reader, mut writer) = tokio::io::split(stream);
        let mut source = Source::new(reader);
        let said = write_frame(&mut writer, &Head::plain(Kind::Hello, 0), self.hello).await;
        // Also if that failed: an alert may have come, and it tells more.
        let (head, body) = match (source.frame().await, said) {
            (Ok(frame), _) => frame,
            (Err(CloseReason::Ended), Err(error)) => {
                return Err(lost(CloseReason::of_error(&error)));
            }
            (Err(reason), _) => return Err(lost(reason)),
        };
        let violation = |what: String| lost(CloseReason::Violation(what));
        let malformed = |fault: DecodeError| violation(fault.to_string());
        match head.kind {
            Kind::HelloAck => {
                let ack: HelloAck = decode(&body).map_err(malformed)?;
                let limits = self.dialer.limits.clone();
                let shared = Shared::new(identity, ack, limits, self.hello.purpose);
                Ok(Connection::spawn(shared, source, writer, vigil))
            }
            Kind::Refusal => {
                let refusal = decode(&body).map_err(malformed)?;
                let refusal = Box::new(refusal);
                Err(DialError::HelloRefused { address: self.address(), refusal })
            }
            Kind::Close => {
                let notice = decode(&body).map_err(malformed)?;
                Err(lost(CloseReason::Announced(notice)))
            }
            other => Err(violation(format!("it answered the hello with a {}", other.word()))),
        }
    }
}
