//! Reaching a node: its address resolved anew, TCP, TLS, hello, and a clear word for each way in
//! which that can fail.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{Connection, Shared};
use super::close::CloseReason;
use super::frame::{Head, Kind};
use super::hello::{Hello, HelloAck};
use super::limits::Limits;
use super::refusals::Reason;
use super::stream::{Buffered, Source, buffered, write_frame};
use super::tls::{Tls, Vigil, Witness, tls_error};
use crate::codec::api::Refusal;
use crate::codec::{DecodeError, decode};
use crate::identity::Identity;

/// Whom a dialer accepts at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The node in this seat of our own certificate's cluster; the URI name decides, the host's name
    /// is not compared.
    Node(String),
    /// Any node of our own certificate's cluster whose certificate also names the host.
    AnyNode,
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
}

impl Dialer {
    /// A dialer that presents this certificate.
    #[must_use]
    pub fn new(tls: Arc<Tls>, limits: Limits) -> Dialer {
        Dialer { tls, limits }
    }

    /// Who dials.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.tls.identity()
    }

    /// Connects to `HOST:PORT` (`[V6]:PORT`), resolved anew; every address is tried, each with its
    /// share of the time. Needs a tokio runtime, on which the connection's task then lives.
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
        let attempt = Attempt { dialer: self, address, expect: &expect, hello: &hello };
        let name = server_name(address)?;
        let found = attempt.resolve(deadline).await?;
        let mut farthest: Option<DialError> = None;
        for (done, socket) in found.iter().enumerate() {
            let now = Instant::now();
            let left = u32::try_from(found.len() - done).unwrap_or(u32::MAX);
            let until = now + deadline.saturating_duration_since(now) / left;
            match attempt.connect(*socket, &name, until).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    if farthest.as_ref().is_none_or(|best| error.rank() >= best.rank()) {
                        farthest = Some(error);
                    }
                }
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

    async fn resolve(&self, deadline: Instant) -> Result<Vec<SocketAddr>, DialError> {
        match timeout_at(deadline, lookup_host(self.address)).await {
            Ok(Ok(found)) => Ok(found.collect()),
            Ok(Err(error)) => {
                Err(DialError::Resolve { address: self.address(), reason: error.to_string() })
            }
            Err(_) => Err(self.timed_out("resolving the name")),
        }
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
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
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
            Reason::RefusedByPeer => DialError::RefusedByServer { address, problem },
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
            CloseReason::Alert(problem) => {
                DialError::RefusedByServer { address: self.address(), problem }
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
                let shared = Shared::new(identity, ack, self.dialer.limits.clone());
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
