//! From an accepted socket to a TLS connection whose other side is known: the one way in, for calls and
//! for scrapers alike.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::refusals::Reason;
use super::stream::{Buffered, buffered, linger};
use super::tls::{Tls, Vigil};
use crate::identity::Identity;

/// A connection that went away before it was accepted concerns nobody; anything else is a shortage
/// (of file descriptors, of memory) that passes.
pub(super) async fn accept_failed(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        return;
    }
    tracing::error!(target: "balsa::rpc", %error, "connections cannot be accepted; trying on");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// The alert that a peer gets which does not speak TLS at all: fatal, unexpected_message.
const NOT_TLS: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// The first byte of every TLS connection: a handshake record.
const HANDSHAKE_RECORD: u8 = 22;

/// TLS within `limit`, whom the certificate speaks for, and who watches over it from here on. Whoever
/// fails it has been told, and `refuse` has heard why.
pub(super) async fn handshake(
    tls: &Arc<Tls>,
    limit: Duration,
    mut stream: TcpStream,
    refuse: &(dyn Fn(Reason, &str) + Send + Sync),
) -> Option<(TlsStream<Buffered>, Identity, Vigil)> {
    let deadline = Instant::now() + limit;
    let too_late = || {
        let seconds = limit.as_secs_f32();
        let sentence = format!("it did not complete the TLS handshake within {seconds} s");
        refuse(Reason::HandshakeTimeout, &sentence);
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
            refuse(Reason::Plaintext, &sentence);
            if timeout_at(deadline, stream.write_all(&NOT_TLS)).await.is_ok_and(|sent| sent.is_ok())
            {
                let _ = stream.shutdown().await;
                linger(&mut stream).await;
            }
            return None;
        }
        Ok(_) => {
            refuse(Reason::Handshake, "it closed the connection before TLS began");
            return None;
        }
        Err(_) => {
            too_late();
            return None;
        }
    }
    let (config, witness, edition) = match tls.server_config() {
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
            refuse(reason, &sentence);
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
    let vigil = Vigil::accepted(Arc::clone(tls), edition, chain);
    match identity {
        Some(identity) => Some((stream, identity, vigil)),
        None => {
            refuse(Reason::UriName, "its certificate's name cannot be read again");
            None
        }
    }
}
