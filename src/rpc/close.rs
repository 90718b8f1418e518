//! Why a connection ended, and the frame that says so beforehand.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::refusals::Reason;
use super::tls::{alert_meaning, alert_reason, tls_error};
use crate::identity::printable;

/// The word a close frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseCode {
    /// The sender's process stops.
    Stopping,
    /// Nothing was asked for too long.
    Idle,
    /// A frame did not end in time.
    Slow,
    /// The receiver broke the protocol.
    Violation,
    /// The receiver's certificate has expired.
    Expired,
    /// The receiver's certificate is no longer accepted: its CA left the sender's bundle, or it was
    /// revoked.
    Distrusted,
    /// The sender wants the connection made anew, with newer certificates; the node behind it is
    /// well.
    Renew,
    /// A word that this version does not know.
    #[serde(other)]
    Other,
}

/// The body of a close frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseNotice {
    /// The word.
    pub code: CloseCode,
    /// One sentence for a person.
    pub message: String,
}

/// Why a connection ended, as this side knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// This side wanted it, or let go of the connection's last handle.
    Local,
    /// The other side said so beforehand.
    Announced(CloseNotice),
    /// The other side closed without a word.
    Ended,
    /// The transport failed: reset or unreachable.
    Failed(String),
    /// The other side sent a TLS alert: the word for counters, and what it means for us.
    Alert(Reason, String),
    /// The other side broke the protocol.
    Violation(String),
    /// The other side took no bytes, or did not finish a frame.
    Stalled,
    /// Calls waited, and nothing at all came from the other side for so long, although it was asked for a sign of
    /// life.
    Silent(Duration),
    /// The other side's certificate expired.
    Expired,
    /// The other side's certificate is no longer accepted since ours were replaced: the word for
    /// counters, and a sentence.
    Distrusted(Reason, String),
}

impl CloseReason {
    /// Whether the other side wants the connection made anew.
    pub(super) fn is_renewal(&self) -> bool {
        matches!(self, CloseReason::Announced(notice) if notice.code == CloseCode::Renew)
    }

    /// Whether the other side said beforehand that it closes: then the close is no sign that its
    /// process died (design section 2).
    #[must_use]
    pub fn was_announced(&self) -> bool {
        matches!(self, CloseReason::Announced(_))
    }

    /// Whether the other side, or its system, has ended it.
    #[must_use]
    pub fn is_by_the_other_side(&self) -> bool {
        matches!(
            self,
            CloseReason::Announced(_)
                | CloseReason::Ended
                | CloseReason::Failed(_)
                | CloseReason::Alert(..)
        )
    }

    /// The reason that an error of the stream gives.
    pub(super) fn of_error(error: &io::Error) -> CloseReason {
        use rustls::Error::AlertReceived;
        match (error.kind(), tls_error(error)) {
            (_, Some(AlertReceived(alert))) => {
                CloseReason::Alert(alert_reason(*alert), alert_meaning(*alert))
            }
            (_, Some(tls)) => CloseReason::Violation(tls.to_string()),
            (io::ErrorKind::TimedOut, None) => CloseReason::Stalled,
            // rustls reports a missing close_notify so: the process died, or the stream was cut.
            (io::ErrorKind::UnexpectedEof, None) => CloseReason::Ended,
            _ => CloseReason::Failed(error.to_string()),
        }
    }

    /// What the other side is told, where telling it makes sense.
    pub(super) fn notice(&self) -> Option<CloseNotice> {
        let (code, message) = match self {
            CloseReason::Announced(_)
            | CloseReason::Ended
            | CloseReason::Failed(_)
            | CloseReason::Alert(..)
            | CloseReason::Silent(_)
            | CloseReason::Local => return None,
            CloseReason::Violation(what) => (CloseCode::Violation, what.clone()),
            CloseReason::Stalled => (CloseCode::Slow, "a frame did not end in time".to_owned()),
            CloseReason::Expired => (CloseCode::Expired, "your certificate has expired".to_owned()),
            CloseReason::Distrusted(reason, _) => {
                let message = match reason {
                    Reason::Revoked => "your certificate is revoked",
                    _ => "your certificate is no longer accepted",
                };
                (CloseCode::Distrusted, message.to_owned())
            }
        };
        Some(CloseNotice { code, message })
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Local => f.write_str("the connection was closed on this side"),
            CloseReason::Announced(notice) => {
                write!(f, "the other side closed: {}", printable(&notice.message))
            }
            CloseReason::Ended => f.write_str("the other side closed the connection"),
            CloseReason::Failed(what) => write!(f, "the connection failed: {what}"),
            CloseReason::Alert(_, what) => write!(f, "the other side ended it: {what}"),
            CloseReason::Violation(what) => write!(f, "the other side broke the protocol: {what}"),
            CloseReason::Stalled => f.write_str("the other side stalled"),
            CloseReason::Silent(time) => {
                write!(f, "the other side gave no sign of life for {} s", time.as_secs_f32())
            }
            CloseReason::Expired => f.write_str("the other side's certificate expired"),
            CloseReason::Distrusted(_, why) => {
                write!(f, "the other side is no longer trusted: {why}")
            }
        }
    }
}
