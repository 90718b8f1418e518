//! One connection to each node spoken to, made when first needed and again when it is lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::network::{Distrust, Network, Trouble};
use crate::codec::api::{Code, Refusal};
use crate::rpc::{
    CallError, Connection, DialError, Dialer, Expect, Hello, Limits, Method, NotSent, Tls,
};

/// A dial may take this long: resolving the name, connecting, TLS, hello.
const DIAL: Duration = Duration::from_secs(2);

/// Connections by address.
#[derive(Debug)]
pub(super) struct Pool {
    dialer: Dialer,
    tls: Arc<Tls>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// What is known of one address.
#[derive(Debug, Default)]
struct Slot {
    last: Mutex<Option<Connection>>,
    /// Held while dialing, so that many calls share one dial.
    dialing: tokio::sync::Mutex<()>,
}

impl Pool {
    pub(super) fn new(tls: Arc<Tls>) -> Pool {
        let dialer = Dialer::new(tls.clone(), Limits::default());
        Pool { dialer, tls, slots: Mutex::default() }
    }

    fn slot(&self, address: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.get(address) {
            Some(slot) => slot.clone(),
            None => slots.entry(address.to_owned()).or_default().clone(),
        }
    }

    /// A connection that was open a moment ago. One that should be made anew is replaced by the next
    /// call; those in flight on it are still answered.
    pub(super) async fn connection(
        &self,
        address: &str,
        timeout: Duration,
    ) -> Result<Connection, Trouble> {
        let slot = self.slot(address);
        if let Some(fresh) = slot.fresh() {
            return Ok(fresh);
        }
        let deadline = Instant::now() + timeout.min(DIAL);
        let late = || Trouble::NotReached { why: "no connection in time".into(), distrust: None };
        let turn = tokio::time::timeout_at(deadline, slot.dialing.lock()).await;
        let _turn = turn.map_err(|_| late())?;
        if let Some(fresh) = slot.fresh() {
            return Ok(fresh);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let hello = Hello::client(self.tls.identity());
        let dialed = self.dialer.dial(address, Expect::AnyNode, hello, left).await;
        match dialed {
            Ok(connection) => {
                *slot.last() = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let former = slot.open().filter(|former| !former.is_silent());
                former.ok_or_else(|| not_reached(address, error))
            }
        }
    }
}

impl Slot {
    fn last(&self) -> MutexGuard<'_, Option<Connection>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> Option<Connection> {
        self.open().filter(|connection| !connection.is_stale())
    }

    fn open(&self) -> Option<Connection> {
        self.last().as_ref().filter(|connection| connection.is_open()).cloned()
    }
}

impl Network for Pool {
    async fn call(
        &self,
        address: &str,
        method: Method,
        args: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Trouble> {
        let deadline = Instant::now() + timeout;
        let connection = self.connection(address, timeout).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        connection.call_raw(method, args, left).await.map_err(not_answered)
    }

    fn seat_at(&self, address: &str) -> Option<String> {
        self.slot(address).last().as_ref().map(|connection| connection.ack().name.clone())
    }
}

fn not_reached(address: &str, error: DialError) -> Trouble {
    let distrust = match error {
        // The node is there and had a reason not to take us: busy, stopping, not allowed.
        DialError::HelloRefused { refusal, .. } => return Trouble::Refused(*refusal),
        DialError::WrongPeer { .. } => Some(Distrust::SomebodyElse),
        DialError::Tls { .. } | DialError::RefusedByServer { .. } => {
            Some(if error.is_revocation() { Distrust::Revoked } else { Distrust::Denied })
        }
        _ => None,
    };
    let why = error.to_string();
    // The address is named by whoever tells of it.
    let why = why.strip_prefix(address).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&why);
    Trouble::NotReached { why: why.to_owned(), distrust }
}

/// Sorts a failed call by what it proves (C3).
pub(super) fn not_answered(error: CallError) -> Trouble {
    match error {
        CallError::Refused(refusal) => Trouble::Refused(refusal),
        // No node would take it, so none needs to be tried.
        CallError::NotSent(NotSent::TooLarge { .. }) => {
            Trouble::Refused(Refusal::new(Code::TooLarge, error.to_string()))
        }
        CallError::NotSent(NotSent::Arguments(_)) => {
            Trouble::Refused(Refusal::new(Code::BadRequest, error.to_string()))
        }
        // That is about this client's own calls.
        CallError::NotSent(NotSent::Busy) => {
            Trouble::Refused(Refusal::new(Code::Busy, error.to_string()))
        }
        CallError::NotSent(_) => Trouble::NotReached { why: error.to_string(), distrust: None },
        CallError::Lost(reason) => Trouble::Lost(reason.to_string()),
        CallError::TimedOut(_) | CallError::BadReply(_) => Trouble::Unresolved(error.to_string()),
    }
}
