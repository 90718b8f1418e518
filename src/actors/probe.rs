//! `srvraft probe`: one question to the node that runs on this machine, for the kubelet (design section 8).
//!
//! `live` fails only where a restart may help: nothing listens, nobody answers in time, or another node
//! answers. Whatever a restart would not mend, or would make worse, never fails it: certificates that
//! have expired or cannot be used, a full connection table, a lost quorum. The replicas share one
//! Secret, so that a bad one would otherwise end all of them at once. `ready` asks the node itself.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::codec::api::StatusReply;
use crate::config::{Probe, Question};
use crate::rpc::{
    Connection, DialError, Dialer, Expect, Hello, Limits, Method, Reason, Tls, TlsFiles,
};

/// Asks, and returns one sentence either way.
///
/// # Errors
/// Why the answer is no.
pub fn probe(wanted: &Probe) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let name = &wanted.name;
    let limit = wanted.timeout;
    let tls = seat(&wanted.certs, name);
    let answer = async {
        match (wanted.question, tls) {
            (Question::Live, Ok(tls)) => live(dial(tls, wanted).await),
            (Question::Live, Err(why)) => touch(wanted.address, &why).await,
            (Question::Ready, Ok(tls)) => {
                let connection = dial(tls, wanted).await.map_err(|error| error.to_string())?;
                ready(&connection, limit).await
            }
            (Question::Ready, Err(why)) => Err(why),
        }
    };
    let answered = runtime.block_on(async { timeout(limit, answer).await });
    let late = |_| format!("{}: no answer within {} ms", wanted.address, limit.as_millis());
    match answered.map_err(late).and_then(|answer| answer) {
        Ok(said) => Ok(format!("{name} {said}")),
        Err(why) => Err(format!("{name} is not {}: {why}", wanted.question.word())),
    }
}

impl Question {
    fn word(self) -> &'static str {
        match self {
            Question::Live => "live",
            Question::Ready => "ready",
        }
    }
}

/// The seat's certificate, also one whose time is over. Without revocation lists: the node obeys them.
fn seat(certs: &Path, name: &str) -> Result<Arc<Tls>, String> {
    TlsFiles::read_without_lists(certs, Some(name))
        .and_then(Tls::new)
        .map_err(|error| error.to_string())
}

async fn dial(tls: Arc<Tls>, wanted: &Probe) -> Result<Connection, DialError> {
    // How long a node may be silent is for whoever asks to say.
    let limits = Limits { silence: wanted.timeout, ..Limits::default() };
    let dialer = Dialer::new(tls, limits);
    let hello = Hello::client(dialer.identity());
    let expect = Expect::Node(wanted.name.clone());
    dialer.dial(&wanted.address.to_string(), expect, hello, wanted.timeout).await
}

/// What an attempt says of the node's life.
fn live(dialed: Result<Connection, DialError>) -> Result<String, String> {
    let error = match dialed {
        Ok(_) => return Ok("is live".to_owned()),
        Err(error) => error,
    };
    let answered = match &error {
        DialError::HelloRefused { .. }
        | DialError::RefusedByServer { .. }
        | DialError::Lost { .. } => true,
        // Dates and trust are a person's to mend; another name means another node.
        DialError::Tls { reason, .. } => matches!(
            reason,
            Reason::Expired | Reason::NotYetValid | Reason::UnknownCa | Reason::Revoked
        ),
        _ => false,
    };
    if answered {
        Ok(format!("is live, but refuses or is refused: {error}"))
    } else {
        Err(error.to_string())
    }
}

/// Without a usable certificate: whether the process at `address` still reacts, to bytes that are no TLS.
async fn touch(address: SocketAddr, why: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{address}: {error}; and {why}");
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    // A node that closes at once has answered too, so that errors from here on are answers.
    let _ = stream.write_all(b"probe\n").await;
    let _ = stream.read(&mut [0]).await;
    Ok(format!("is live, but the probe cannot ask it by TLS: {why}"))
}

async fn ready(connection: &Connection, limit: Duration) -> Result<String, String> {
    let asked = connection.call_timeout(Method::NodeProbe, &(), limit).await;
    let status: StatusReply = asked.map_err(|error| error.to_string())?;
    if status.ready {
        let leader = status.leader.unwrap_or_default();
        return Ok(format!("is ready: {} in term {}, led by {leader}", status.role, status.term));
    }
    Err(status.waiting.unwrap_or_else(|| "it does not say why".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::api::{Code, Refusal};
    use crate::rpc::CloseReason;

    #[test]
    fn only_what_a_restart_may_mend_ends_a_life() {
        let address = || "h:1".to_owned();
        let tls = |reason| DialError::Tls { address: address(), reason, problem: String::new() };
        let problem = String::new();
        let answers = [
            tls(Reason::Expired),
            tls(Reason::NotYetValid),
            tls(Reason::UnknownCa),
            tls(Reason::Revoked),
            DialError::RefusedByServer {
                address: address(),
                reason: Reason::Revoked,
                problem: problem.clone(),
            },
            DialError::Lost { address: address(), reason: CloseReason::Ended },
            DialError::HelloRefused {
                address: address(),
                refusal: Box::new(Refusal::new(Code::Busy, "full")),
            },
        ];
        for error in answers {
            assert!(live(Err(error.clone())).is_ok(), "{error:?}");
        }
        let others = [
            tls(Reason::Handshake),
            tls(Reason::OldTls),
            tls(Reason::UriName),
            DialError::WrongPeer { address: address(), problem },
            DialError::Refused { address: address() },
            DialError::TimedOut { address: address(), stage: "connecting" },
            DialError::Unreachable { address: address(), reason: String::new() },
        ];
        for error in others {
            assert_eq!(live(Err(error.clone())).map(drop), Err(error.to_string()));
        }
    }
}
