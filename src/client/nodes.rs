//! Calls to one particular node: which address is meant, and what is asked there.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::Error;
use super::network::{Network, Trouble};
use super::pool::not_answered;
use super::{Client, Inner, attempt};
use crate::codec;
use crate::codec::api::{
    Code, MembersReply, MetricsReply, ReplicationArgs, ReplicationReply, StatusReply,
};
use crate::kv::limits::KEY_BYTES_MAX;
use crate::rpc::{CallError, Method};

/// A node as a caller of this module sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it is reached from here, `HOST:PORT`.
    pub address: String,
    /// The seat, if it is known.
    pub name: Option<String>,
}

/// Arguments of the calls that take none: a map, so that they can have some later.
#[derive(Debug, Serialize)]
pub(super) struct NoArgs {}

impl Client {
    /// The members, by whichever node answers first.
    ///
    /// # Errors
    /// See [`Error`]; never unknown.
    pub async fn members(&self) -> Result<MembersReply, Error> {
        self.inner.read(Method::ClusterMembers, &NoArgs {}, false).await
    }

    /// The members as the node at `address` sees them.
    pub(super) async fn members_at(&self, address: &str) -> Result<MembersReply, Error> {
        self.inner.at(address, Method::ClusterMembers, &NoArgs {}).await
    }

    /// The node that a person calls `1`, `raft-1` or `HOST:PORT`.
    ///
    /// # Errors
    /// `no_such_node` if the cluster has no such seat; else as every call.
    pub async fn node(&self, called: &str) -> Result<Node, Error> {
        if called.contains(':') {
            return Ok(Node { address: called.to_owned(), name: None });
        }
        let inner = &self.inner;
        let is_it = |name: &str| name == called || ordinal(name) == Some(called);
        let endpoints = inner.reach.route().endpoints().to_vec();
        let seat_at = |address: &String| inner.reach.network.seat_at(address);
        let find = || endpoints.iter().find(|at| seat_at(at).is_some_and(|name| is_it(&name)));
        if let Some(address) = find() {
            return Ok(Node { address: address.clone(), name: seat_at(address) });
        }
        // Nobody has been asked yet, or it moved: ask every endpoint for its name. That a node does
        // not answer matters only if it is the one sought.
        let asked = endpoints.iter().map(|address| self.status(address));
        let answers = join_all(asked).await;
        if let Some(address) = find() {
            return Ok(Node { address: address.clone(), name: seat_at(address) });
        }
        if answers.iter().any(Result::is_ok) && !founded(&answers) {
            let message = format!(
                "none of the endpoints is node {called}, and there is no cluster yet to ask for it"
            );
            return Err(Error::no_leader("no_cluster", message));
        }
        let members = match self.members().await {
            Ok(reply) => reply.members,
            // Without any answer the trouble with the endpoints says more.
            Err(error) if answers.iter().any(Result::is_ok) => return Err(error),
            Err(error) => return Err(answers.into_iter().find_map(Result::err).unwrap_or(error)),
        };
        match members.iter().find(|member| is_it(&member.name)) {
            Some(member) => {
                Ok(Node { address: member.address.clone(), name: Some(member.name.clone()) })
            }
            None => {
                let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
                let there = names.join(", ");
                let message = format!("there is no node {called}; there are: {there}");
                Err(Error::refused("no_such_node", message))
            }
        }
    }

    /// Every node there is to ask: the endpoints, and the members that are none of them.
    pub async fn statuses(&self) -> Vec<(Node, Result<StatusReply, Error>)> {
        let endpoints = self.inner.reach.route().endpoints().to_vec();
        let mut all = self.ask_all(endpoints).await;
        if !all.iter().any(|(_, status)| status.is_ok()) {
            return all;
        }
        // What is not asked for in vain is not counted as a refusal.
        let may_ask = Method::ClusterMembers.allows(self.role);
        let mut members = Vec::new();
        // Whoever has just answered: a node that was removed does not tell, and of others nobody knows.
        for (node, _) in all.iter().filter(|(_, status)| may_ask && founded([status])) {
            if let Ok(reply) = self.members_at(&node.address).await {
                members = reply.members;
                break;
            }
        }
        let seen = |name: &str| all.iter().any(|(node, _)| node.name.as_deref() == Some(name));
        let silent = all.iter().filter(|(_, status)| status.is_err());
        let silent: Vec<String> = silent.map(|(node, _)| node.address.clone()).collect();
        let unseen: Vec<_> = members.iter().filter(|member| !seen(&member.name)).collect();
        let others: Vec<String> = unseen
            .iter()
            .map(|member| member.address.clone())
            .filter(|address| !silent.contains(address))
            .collect();
        all.extend(self.ask_all(others).await);
        for (node, _) in &mut all {
            if node.name.is_none() {
                let member = members.iter().find(|member| member.address == node.address);
                node.name = member.map(|member| member.name.clone());
            }
        }
        // An endpoint may be a service's name, behind which is one of the other endpoints.
        let mut once = std::collections::BTreeSet::new();
        all.retain(|(node, status)| match &node.name {
            Some(name) if status.is_ok() => once.insert(name.clone()),
            _ => true,
        });
        all.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        all
    }

    async fn ask_all(&self, addresses: Vec<String>) -> Vec<(Node, Result<StatusReply, Error>)> {
        let asked = addresses.into_iter().map(async |address| {
            let status = self.status(&address).await;
            let name = match &status {
                Ok(reply) => Some(reply.name.clone()),
                Err(_) => self.inner.reach.network.seat_at(&address),
            };
            (Node { address, name }, status)
        });
        join_all(asked).await
    }

    /// The state of the node at `address`.
    ///
    /// # Errors
    /// See [`Error`]; never unknown.
    pub async fn status(&self, address: &str) -> Result<StatusReply, Error> {
        self.inner.at(address, Method::NodeStatus, &NoArgs {}).await
    }

    /// The metrics of the node at `address`, as text.
    ///
    /// # Errors
    /// See [`Error`]; never unknown.
    pub async fn metrics(&self, address: &str) -> Result<MetricsReply, Error> {
        self.inner.at(address, Method::NodeMetrics, &NoArgs {}).await
    }

    /// One page of the log and one of the store of the node at `address`.
    ///
    /// # Errors
    /// See [`Error`]; never unknown.
    pub async fn replication_page(
        &self,
        address: &str,
        args: &ReplicationArgs,
    ) -> Result<ReplicationReply, Error> {
        self.inner.at(address, Method::NodeReplication, args).await
    }

    /// The whole log, from index `from` (zero: from the first) on, and the whole store, from the key
    /// `from_key` (empty: from the first) on, of the node at `address`; with a `limit`, one page of at most so many entries of each. The node goes on
    /// meanwhile: entries that come while the pages are fetched may or may not be there.
    ///
    /// # Errors
    /// See [`Error`]; never unknown.
    pub async fn replication(
        &self,
        address: &str,
        from: u64,
        from_key: Bytes,
        limit: Option<u32>,
    ) -> Result<ReplicationReply, Error> {
        let first = ReplicationArgs { from, limit: limit.unwrap_or(0), store_from: from_key };
        let mut whole = self.replication_page(address, &first).await?;
        while limit.is_none() && (whole.next_index.is_some() || whole.next_key.is_some()) {
            // A page behind the end is empty, so that the side which is complete costs nothing.
            let behind_log = whole.last_index.next();
            let behind_store = || Bytes::from_static(&[u8::MAX; KEY_BYTES_MAX]);
            let args = ReplicationArgs {
                from: whole.next_index.unwrap_or(behind_log).0,
                limit: 0,
                store_from: whole.next_key.clone().unwrap_or_else(behind_store),
            };
            let page = self.replication_page(address, &args).await?;
            if whole.next_index.take().is_some() {
                whole.next_index = page.next_index.filter(|_| !page.log.is_empty());
                whole.last_index = page.last_index;
                whole.log.extend(page.log);
            }
            if whole.next_key.take().is_some() {
                whole.next_key = page.next_key.filter(|_| !page.store.is_empty());
                whole.applied_index = page.applied_index;
                whole.store.extend(page.store);
            }
        }
        Ok(whole)
    }

    /// Stops the node at `address` and waits until its connection closes. Stopping twice is stopping
    /// once, so an order whose answer was lost is given again if the node is still there.
    ///
    /// # Errors
    /// See [`Error`]: unknown if the node took the order but is still there at the deadline.
    pub async fn stop(&self, address: &str) -> Result<(), Error> {
        let deadline = Instant::now() + self.inner.timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        let pool = &self.inner.reach.network;
        let mut told = false;
        loop {
            let connection = match pool.connection(address, left()).await {
                Ok(connection) => connection,
                Err(Trouble::NotReached { distrust: None, .. }) if told => return Ok(()),
                Err(trouble) => return Err(failed(address, trouble)),
            };
            let args = codec::encode(&NoArgs {});
            match connection.call_raw(Method::NodeStop, args, left()).await {
                Ok(_) => {
                    let gone = tokio::time::timeout_at(deadline, connection.closed()).await;
                    return gone.map(drop).map_err(|_| {
                        Error::unknown("the node is stopping, but was still there at the deadline")
                    });
                }
                // Only an end that the node made: one that is paused or cut off may have heard nothing.
                Err(CallError::Lost(reason))
                    if reason.is_by_the_other_side() && !left().is_zero() =>
                {
                    told = true;
                    tokio::time::sleep(LOOK.min(left())).await;
                }
                Err(error) => match not_answered(error) {
                    Trouble::Unresolved(why) | Trouble::Lost(why) => {
                        let message = format!("the node may or may not be stopping: {why}");
                        return Err(Error::unknown(message));
                    }
                    trouble => return Err(failed(address, trouble)),
                },
            }
        }
    }

    /// Tries this address first from now on.
    pub fn prefer(&self, address: &str) {
        self.inner.reach.route().led_at(address);
    }
}

/// How long after a lost connection to look whether the node is still there.
const LOOK: Duration = Duration::from_millis(300);

impl<N: Network> Inner<N> {
    /// One call that only the node at `address` can answer, and that may be repeated: once more, if
    /// the connection was lost or silent, because it may have been an old one.
    pub(super) async fn at<A: Serialize, R: DeserializeOwned>(
        &self,
        address: &str,
        method: Method,
        args: &A,
    ) -> Result<R, Error> {
        let deadline = Instant::now() + self.timeout;
        // A snapshot takes its time, and would be taken a second time.
        let slow = method == Method::NodeSnapshot;
        let first = if slow { self.timeout } else { attempt(self.timeout).min(self.timeout) };
        let mut called = self.tell(address, method, args, first).await;
        if let Err(Trouble::Unresolved(_) | Trouble::Lost(_)) = called
            && !slow
        {
            let left = deadline.saturating_duration_since(Instant::now());
            called = self.tell(address, method, args, left).await;
        }
        let bytes = called.map_err(|trouble| failed(address, trouble))?;
        codec::decode_shared(&bytes).map_err(|error| {
            Error::refused("bad_reply", format!("{address}: the reply makes no sense: {error}"))
        })
    }

    async fn tell<A: Serialize>(
        &self,
        address: &str,
        method: Method,
        args: &A,
        timeout: Duration,
    ) -> Result<Bytes, Trouble> {
        self.reach.network.call(address, method, codec::encode(args), timeout).await
    }
}

/// Whether any of these nodes is in a cluster, and so knows the members.
fn founded<'a>(answers: impl IntoIterator<Item = &'a Result<StatusReply, Error>>) -> bool {
    answers
        .into_iter()
        .any(|answer| answer.as_ref().is_ok_and(|status| status.cluster_id.is_some()))
}

/// Why the node at `address` did not answer a call that changes nothing.
fn failed(address: &str, trouble: Trouble) -> Error {
    match trouble {
        Trouble::NotReached { why, distrust: Some(distrust) } => {
            distrust.error(format!("{address}: {why}"))
        }
        Trouble::NotReached { why, distrust: None }
        | Trouble::Unresolved(why)
        | Trouble::Lost(why) => Error::no_leader("unreachable", format!("{address}: {why}")),
        Trouble::Refused(refusal) if refusal.code == Code::Unknown => {
            Error::no_leader("unreachable", format!("{address}: {}", refusal.message))
        }
        Trouble::Refused(refusal) => refusal.into(),
    }
}

/// The digits behind the last dash of a seat's name.
fn ordinal(name: &str) -> Option<&str> {
    name.rsplit_once('-').map(|(_, digits)| digits)
}
