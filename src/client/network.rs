//! What the retries need of the network, and no more: a call to an address, and how it failed.
//!
//! The real one is [`Pool`](super::pool::Pool); the tests of the retries script one.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::error::Error;
use crate::codec::api::Refusal;
use crate::rpc::Method;

/// Carries calls to nodes.
pub(crate) trait Network: Send + Sync + 'static {
    /// Calls `method` at `address`, connecting first if need be, all within `timeout`.
    fn call(
        &self,
        address: &str,
        method: Method,
        args: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, Trouble>> + Send;

    /// The seat that answered at `address` when it was last connected to.
    fn seat_at(&self, address: &str) -> Option<String>;
}

/// What stands between a client and a node so that another attempt will end the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distrust {
    /// A certificate is revoked: the node's, or our own.
    Revoked,
    /// Another fault of a certificate, or no authority.
    Denied,
    /// A good certificate, and somebody else's: the address may be an old one of the name.
    SomebodyElse,
}

impl Distrust {
    pub(super) fn error(self, message: String) -> Error {
        match self {
            Distrust::Revoked => Error::revoked(message),
            Distrust::Denied | Distrust::SomebodyElse => Error::untrusted(message),
        }
    }

    /// Whether another attempt at the same address will end in the same way.
    pub(super) fn lasts(self) -> bool {
        self != Distrust::SomebodyElse
    }
}

/// Why a call has no reply, sorted by what that proves (C3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The request never left, so nothing happened.
    NotReached {
        /// One sentence.
        why: String,
        /// Whether certificates or authority are the reason.
        distrust: Option<Distrust>,
    },
    /// The node refused; its code says what that proves.
    Refused(Refusal),
    /// The request left, and nobody knows what became of it: the node took too long, or talks nonsense.
    Unresolved(String),
    /// The same, and there is no sign that the node lives: the connection has ended, or nothing comes any more.
    Lost(String),
}

impl Trouble {
    /// Whether there is no sign that anybody lives there.
    pub(super) fn is_suspect(&self) -> bool {
        match self {
            Trouble::NotReached { distrust, .. } => distrust.is_none(),
            Trouble::Lost(_) => true,
            Trouble::Refused(_) | Trouble::Unresolved(_) => false,
        }
    }
}
