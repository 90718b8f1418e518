//! Why connections and calls are refused: one word for counters, one sentence for the log.
//!
//! Each reason may fill a few lines of the log in a while and is then only counted, so that neither a
//! scanner nor a misconfigured client floods it (correctness section 9).

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Why a connection, or a call on it, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Reason {
    /// No certificate was presented.
    NoCertificate,
    /// The bytes are not TLS.
    Plaintext,
    /// A TLS version before 1.3.
    OldTls,
    /// The certificate is signed by none of our CAs.
    UnknownCa,
    /// The certificate's time is over.
    Expired,
    /// The certificate's time has not come.
    NotYetValid,
    /// The certificate's usage is another.
    WrongUsage,
    /// The certificate is revoked.
    Revoked,
    /// Not exactly one URI name, or one that is not ours.
    UriName,
    /// The certificate is for another cluster.
    WrongCluster,
    /// The certificate is for another party than expected or claimed.
    WrongName,
    /// Another fault of the certificate.
    BadCertificate,
    /// The peer refused our certificate.
    RefusedByPeer,
    /// The handshake failed otherwise.
    Handshake,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The hello is missing, late, malformed, or of no common version.
    BadHello,
    /// The node itself refused the hello.
    Hello,
    /// The node is not a member of a cluster yet, or is stopping: passes by itself.
    NotReady,
    /// A limit on connections is reached.
    Full,
    /// A method that the certificate's role may not call.
    Denied,
    /// Bytes that break the protocol.
    Violation,
    /// A frame that did not end, or a peer that does not take its replies.
    Slow,
}

const REASONS: usize = Reason::ALL.len();

impl Reason {
    /// Every one, in the order of the enum.
    pub const ALL: [Reason; 22] = [
        Reason::NoCertificate,
        Reason::Plaintext,
        Reason::OldTls,
        Reason::UnknownCa,
        Reason::Expired,
        Reason::NotYetValid,
        Reason::WrongUsage,
        Reason::Revoked,
        Reason::UriName,
        Reason::WrongCluster,
        Reason::WrongName,
        Reason::BadCertificate,
        Reason::RefusedByPeer,
        Reason::Handshake,
        Reason::HandshakeTimeout,
        Reason::BadHello,
        Reason::Hello,
        Reason::NotReady,
        Reason::Full,
        Reason::Denied,
        Reason::Violation,
        Reason::Slow,
    ];

    /// The stable word, for counters and fields.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Reason::NoCertificate => "no_certificate",
            Reason::Plaintext => "plaintext",
            Reason::OldTls => "old_tls",
            Reason::UnknownCa => "unknown_ca",
            Reason::Expired => "expired",
            Reason::NotYetValid => "not_yet_valid",
            Reason::WrongUsage => "wrong_usage",
            Reason::Revoked => "revoked",
            Reason::UriName => "uri_name",
            Reason::WrongCluster => "wrong_cluster",
            Reason::WrongName => "wrong_name",
            Reason::BadCertificate => "bad_certificate",
            Reason::RefusedByPeer => "refused_by_peer",
            Reason::Handshake => "handshake",
            Reason::HandshakeTimeout => "handshake_timeout",
            Reason::BadHello => "bad_hello",
            Reason::Hello => "hello",
            Reason::NotReady => "not_ready",
            Reason::Full => "full",
            Reason::Denied => "denied",
            Reason::Violation => "violation",
            Reason::Slow => "slow",
        }
    }
}

/// Lines that one reason may write within [`WINDOW`].
const LINES: u32 = 10;
/// The time in which they are counted.
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    since: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

/// The log of refusals, bounded per reason.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    counts: Mutex<[Count; REASONS]>,
}

impl RefusalLog {
    /// Whether a line may be written now, and how many were left out since the last one.
    fn admit(&self, reason: Reason, now: Instant) -> Option<u64> {
        let mut counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = &mut counts[reason as usize];
        if count.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            *count = Count { since: Some(now), lines: 0, suppressed: count.suppressed };
        }
        if count.lines >= LINES {
            count.suppressed += 1;
            return None;
        }
        count.lines += 1;
        Some(std::mem::take(&mut count.suppressed))
    }

    /// Says in the log that something from `from` was refused, and why.
    pub(super) fn report(&self, from: SocketAddr, reason: Reason, sentence: &str) {
        if reason == Reason::NotReady {
            // Belongs to every founding and every stop; nobody need do anything about it.
            tracing::debug!(target: "balsa::rpc", peer = %from, "refused {from}: {sentence}");
        } else if let Some(suppressed) = self.admit(reason, Instant::now()) {
            tracing::warn!(
                target: "balsa::rpc",
                peer = %from,
                reason = reason.word(),
                suppressed,
                "refused {from}: {sentence}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_other_reasons_still_speak() {
        let log = RefusalLog::default();
        let start = Instant::now();
        let spoken = (0..1000).filter(|_| log.admit(Reason::Plaintext, start).is_some()).count();
        assert_eq!(spoken, LINES as usize);
        assert_eq!(log.admit(Reason::Expired, start), Some(0));
        assert_eq!(log.admit(Reason::Plaintext, start + WINDOW), Some(1000 - u64::from(LINES)));
        assert_eq!(log.admit(Reason::Plaintext, start + WINDOW), Some(0));
    }
}
