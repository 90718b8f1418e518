//! A client of the cluster: sessions, retries, hints, and an honest account of what happened.
//!
//! # Tour
//! A [`Client`] is shared (cloning it is cheap) and carries many operations at once. It connects when
//! first used, over mutual TLS.
//!
//! - A **write** belongs to a session. The session is opened before the first write, by a call of its
//!   own; each write gets a serial in it and keeps that serial in every attempt, at whatever node
//!   (C2). So a write whose answer was lost is repeated without harm: the cluster tells the repetition
//!   and gives the first answer again. A write never leaves its session: if the session has expired,
//!   the caller is told and nothing is executed (C1). See `session`.
//! - A **read** is repeated freely.
//! - Each attempt goes to the leader if it is known, follows the hints of nodes that are not it, tries
//!   every other address, and backs off with jitter, until the deadline (C4). See `route`, `retry`.
//! - The result is one of three: applied (`Ok`), refused, unknown (C3). See [`Error`].
//!
//! Changes of the members, the hand-over and snapshots, all for admins, are in `change`.
//!
//! Not implemented: transactions, leases, watches.

mod change;
mod error;
mod network;
mod nodes;
mod pool;
mod retry;
mod route;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::time::Instant;

pub use error::{Error, ErrorKind};
pub use nodes::Node;

use crate::codec;
use crate::codec::api::{Answerer, GetArgs, GetReply, RangeArgs, RangeReply, WriteReply};
use crate::identity::Role;
use crate::kv::command::{Command, Operation, Outcome, Write};
use crate::rpc::{Method, Tls};
use network::Network;
use pool::Pool;
use retry::{Job, Reach, Reply};
use route::Route;
use session::Session;

/// How a client behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Nodes to try first, `HOST:PORT`; at least one.
    pub endpoints: Vec<String>,
    /// How long one operation may take, all its attempts together.
    pub timeout: Duration,
    /// False: stay with the endpoints; one that does not lead is an error.
    pub redirect: bool,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The store's revision after it.
    pub revision: u64,
    /// Put: true. Delete: whether the key existed. Compare-and-swap: whether the condition held.
    pub succeeded: bool,
    /// Index of the entry that carried it.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Who answered.
    pub from: Answerer,
}

/// A client of one cluster.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner<Pool>>,
    role: Role,
}

/// A client over any network: the tests script one.
#[derive(Debug)]
struct Inner<N> {
    reach: Reach<N>,
    timeout: Duration,
    session: ArcSwapOption<Session>,
    /// Held while a session is being opened, so that one is opened for many that wait.
    opening: tokio::sync::Mutex<()>,
}

impl Client {
    /// A client that will speak with the certificate of `tls`. Connects to nobody yet.
    #[must_use]
    pub fn new(tls: Arc<Tls>, options: Options) -> Client {
        let attempt = attempt(options.timeout);
        let route = Route::new(options.endpoints, options.redirect);
        let role = tls.identity().role();
        let reach = Reach::new(Pool::new(tls), route, attempt);
        Client { inner: Arc::new(Inner::new(reach, options.timeout)), role }
    }

    /// The last thing that went wrong with an attempt, for a person who waits.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.inner.reach.trouble()
    }

    /// Opens the session if there is none, waiting for a leader until `deadline`: a way to wait for
    /// the cluster.
    ///
    /// # Errors
    /// See [`Error`]; never of the kind [`ErrorKind::Unknown`].
    pub async fn ready(&self, deadline: Instant) -> Result<(), Error> {
        self.inner.session(deadline).await.map(drop)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put(&self, key: Bytes, value: Bytes) -> Result<Written, Error> {
        self.inner.write(Operation::Put { key, value }).await
    }

    /// Removes a key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, key: Bytes) -> Result<Written, Error> {
        self.inner.write(Operation::Delete { key }).await
    }

    /// Sets a key if its value is `expected` (none: if it does not exist). A condition that does not
    /// hold is `Ok` with `succeeded: false` (C7).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cas(
        &self,
        key: Bytes,
        expected: Option<Bytes>,
        value: Bytes,
    ) -> Result<Written, Error> {
        self.inner.write(Operation::Cas { key, expected, value }).await
    }

    /// Reads a key: linearizable, or (`local`) whatever the first endpoint that answers has applied.
    ///
    /// # Errors
    /// See [`Error`]; never of the kind [`ErrorKind::Unknown`].
    pub async fn get(&self, key: Bytes, local: bool) -> Result<GetReply, Error> {
        codec::command::validate_key(&key)?;
        self.inner.read(Method::KvGet, &GetArgs { key, local }, !local).await
    }

    /// Reads one page of keys from `args.from` on. Each page is linearizable by itself (unless
    /// `local`); [`RangeReply::next`] is where the next one begins.
    ///
    /// # Errors
    /// See [`Error`]; never of the kind [`ErrorKind::Unknown`].
    pub async fn range(&self, args: &RangeArgs) -> Result<RangeReply, Error> {
        self.inner.read(Method::KvRange, args, !args.local).await
    }

    /// Pages of the keys from `from` up to but not including `to`, at most `limit` entries in all.
    #[must_use]
    pub fn pages(&self, from: Bytes, to: Option<Bytes>, limit: Option<u64>) -> Pages {
        Pages { client: self.clone(), next: Some(from), to, left: limit }
    }
}

/// Pages of a range, one call each.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    next: Option<Bytes>,
    to: Option<Bytes>,
    left: Option<u64>,
}

impl Pages {
    /// The next page; none behind the last one. The first is never none, but may be empty.
    pub async fn next(&mut self) -> Option<Result<RangeReply, Error>> {
        let from = self.next.take()?;
        let limit = self.left.map_or(0, |left| u32::try_from(left).unwrap_or(u32::MAX));
        let args = RangeArgs { from, to: self.to.clone(), limit, local: false };
        let page = self.client.range(&args).await;
        if let Ok(page) = &page {
            let entries = page.entries.len() as u64;
            self.left = self.left.map(|left| left.saturating_sub(entries));
            let more = self.left != Some(0) && entries > 0;
            self.next = page.next.clone().filter(|_| more);
        }
        Some(page)
    }
}

/// One attempt gets a third of the time, so that a node that is gone without a trace (no reset comes
/// back from a machine without power) leaves time for the others; but not so little that a slow disk
/// looks like a dead node.
fn attempt(timeout: Duration) -> Duration {
    (timeout / 3).max(Duration::from_millis(500)).min(Duration::from_secs(5))
}

impl<N: Network> Inner<N> {
    fn new(reach: Reach<N>, timeout: Duration) -> Inner<N> {
        let (session, opening) = (ArcSwapOption::empty(), tokio::sync::Mutex::new(()));
        Inner { reach, timeout, session, opening }
    }

    async fn read<A, R>(&self, method: Method, args: &A, leader: bool) -> Result<R, Error>
    where
        A: serde::Serialize,
        R: serde::de::DeserializeOwned,
    {
        let deadline = Instant::now() + self.timeout;
        let args = codec::encode(args);
        let job = Job { method, args, deadline, leader, writes: false, slow: false };
        self.reach.run(job).await.map(|reply| reply.value)
    }

    /// The session, opened if need be. Opening is repeated freely: a lost answer only wastes an id
    /// (C2). So a failure here proves that no write was sent.
    async fn session(&self, deadline: Instant) -> Result<Arc<Session>, Error> {
        if let Some(session) = self.session.load_full() {
            return Ok(session);
        }
        let late = || Error::no_leader("no_leader", "no session could be opened in time");
        let turn = tokio::time::timeout_at(deadline, self.opening.lock()).await;
        let _turn = turn.map_err(|_| late())?;
        if let Some(session) = self.session.load_full() {
            return Ok(session);
        }
        let args = codec::encode_command(&Command::OpenSession);
        let method = Method::KvOpenSession;
        let job = Job { method, args, deadline, leader: true, writes: false, slow: false };
        let reply: Reply<WriteReply> = self.reach.run(job).await?;
        let Outcome::Session { session } = reply.value.applied.outcome else {
            return Err(Error::refused("bad_reply", "the cluster opened no session"));
        };
        let session = Arc::new(Session::new(session));
        self.session.store(Some(session.clone()));
        Ok(session)
    }

    async fn write(&self, operation: Operation) -> Result<Written, Error> {
        let deadline = Instant::now() + self.timeout;
        let session = self.session(deadline).await?;
        let ticket = tokio::time::timeout_at(deadline, session.ticket()).await.map_err(|_| {
            Error::refused("busy", "too many writes of this client wait for their answers")
        })?;
        let (serial, answered_below) = (ticket.serial, ticket.answered_below);
        let write = Write { session: session.id(), serial, answered_below, operation };
        let command = Command::Write(write);
        codec::validate(&command)?;
        let args = codec::encode_command(&command);
        let (size, most) = (args.len(), Method::KvWrite.args_max());
        if size > most {
            // Key and values fit each by itself, but not together. No attempt would get further.
            return Err(Error::refused(
                "too_large",
                format!("the request has {size} bytes; key and values may have {most} together"),
            ));
        }
        let method = Method::KvWrite;
        let job = Job { method, args, deadline, leader: true, writes: true, slow: false };
        let reply: Reply<WriteReply> = self.reach.run(job).await.inspect_err(|error| {
            if error.word == "session_expired" {
                self.forget(&session);
            }
        })?;
        let WriteReply { applied, from } = reply.value;
        let nothing = |word, why: &str| match reply.unresolved {
            // An earlier attempt may have been carried out before the session went.
            true => {
                Err(Error::unknown(format!("{why}; an earlier attempt may have been executed")))
            }
            false => Err(Error::refused(word, format!("{why}; the write was not executed"))),
        };
        match applied.outcome {
            Outcome::Written { revision, succeeded } => {
                Ok(Written { revision, succeeded, index: applied.index, term: applied.term, from })
            }
            Outcome::SessionExpired => {
                self.forget(&session);
                nothing("session_expired", "the session has expired")
            }
            Outcome::SerialOutOfWindow => nothing(
                "serial_out_of_window",
                "the write's serial is outside the session's window",
            ),
            Outcome::Rejected => nothing("bad_request", "the cluster could not read the write"),
            Outcome::Session { .. } => {
                Err(Error::unknown("the cluster answered a write with a session"))
            }
        }
    }

    /// The next write opens a new session; this one's writes end as they end.
    fn forget(&self, session: &Arc<Session>) {
        let current = self.session.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            self.session.compare_and_swap(&current, None);
        }
    }
}

/// The first key behind all keys that begin with `prefix`; none if they go on to the last key.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let cut = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=cut].to_vec();
    end[cut] += 1;
    Some(Bytes::from(end))
}
