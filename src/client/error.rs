//! How an operation ends when it does not end well.
//!
//! Three outcomes and no others (C3): *applied* is `Ok`; *refused* means that nothing happened, as far
//! as can be proved; *unknown* means that the write may or may not have happened, or may still happen.
//! Calling an unknown outcome a failure would be a lie that a checker finds.

use crate::codec::api::{Code, LeaderHint, Refusal};

/// What kind of bad end; decides what a caller does next, and the exit status of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing happened, and trying again changes nothing by itself.
    Refused,
    /// Nothing happened: no node could be reached, nobody leads, or the leader has no quorum. Later it
    /// may work.
    NoLeader,
    /// Nothing happened: the other side's certificate, or ours, was not accepted, or does not allow
    /// this call.
    Untrusted,
    /// The write may or may not have happened.
    Unknown,
}

/// An operation that was not (provably) carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind.
    pub kind: ErrorKind,
    /// A stable word for programs, such as `no_leader`.
    pub word: &'static str,
    /// One sentence for a person.
    pub message: String,
    /// Who leads, as far as is known.
    pub leader: Option<LeaderHint>,
}

impl Error {
    /// Nothing happened, and trying again does not help.
    #[must_use]
    pub fn refused(word: &'static str, message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Refused, word, message: message.into(), leader: None }
    }

    /// Nothing happened for want of a leader.
    #[must_use]
    pub fn no_leader(word: &'static str, message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::NoLeader, word, message: message.into(), leader: None }
    }

    /// Nothing happened for want of trust.
    #[must_use]
    pub fn untrusted(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Untrusted, word: "denied", message: message.into(), leader: None }
    }

    /// Nothing happened, because a certificate is revoked.
    #[must_use]
    pub fn revoked(message: impl Into<String>) -> Error {
        Error { word: "revoked", ..Error::untrusted(message) }
    }

    /// It may have happened.
    #[must_use]
    pub fn unknown(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Unknown, word: "unknown", message: message.into(), leader: None }
    }

    /// The same with a leader.
    #[must_use]
    pub fn led_by(self, leader: Option<LeaderHint>) -> Error {
        Error { leader, ..self }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let kind = match refusal.code {
            Code::NotLeader | Code::Unavailable | Code::DeadlineExceeded => ErrorKind::NoLeader,
            Code::Denied | Code::WrongPeer => ErrorKind::Untrusted,
            Code::Unknown => ErrorKind::Unknown,
            Code::Busy
            | Code::NoSpace
            | Code::BadRequest
            | Code::TooLarge
            | Code::UnknownMethod
            | Code::Removed
            | Code::WentBack
            | Code::UnderWay
            | Code::Conflict
            | Code::SessionExpired
            | Code::SerialOutOfWindow => ErrorKind::Refused,
        };
        Error { kind, word: refusal.code.word(), message: refusal.message, leader: refusal.leader }
    }
}
