//! Why a call has no result, and what that says about whether it was carried out (C3).

use std::time::Duration;

use super::close::CloseReason;
use super::methods::Method;
use crate::codec::api::Refusal;

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The node refused it; its code says what happened.
    #[error("{0}")]
    Refused(Refusal),
    /// No answer came in time; the call may have been carried out.
    #[error("no answer came within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The connection ended before the answer came; the call may have been carried out.
    #[error("{0}; the call may or may not have been carried out")]
    Lost(CloseReason),
    /// The call never left this process.
    #[error("not sent: {0}")]
    NotSent(NotSent),
    /// The answer cannot be read; the call was carried out.
    #[error("the answer cannot be read: {0}")]
    BadReply(String),
}

/// Why a call never left this process; trying it elsewhere or again is safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The connection has ended, or its other side takes nothing more.
    #[error("{0}")]
    Closed(CloseReason),
    /// The arguments are over the method's limit.
    #[error("the arguments of {method} have {bytes} bytes; the limit is {max}", max = method.args_max())]
    TooLarge {
        /// The method.
        method: Method,
        /// Bytes of the encoded arguments.
        bytes: usize,
    },
    /// Too many calls were in flight on this connection all the time.
    #[error("too many calls are in flight on this connection")]
    Busy,
    /// The arguments cannot be encoded.
    #[error("the arguments cannot be encoded: {0}")]
    Arguments(String),
}
