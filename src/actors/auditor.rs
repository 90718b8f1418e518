//! The auditor: while this node leads, it asks every other member once a second for the hash of its
//! content as of this node's newest applied index, has the answers judged
//! ([`raft::audit`](crate::raft::audit)), and tells the verdict to all of them (S5). The asked wait for
//! the index half as long as the call may take, so that one question suffices although they lag.
//!
//! A node whose content is not the majority's serves nothing more and starts over; this one, should it
//! be the one, hands the leadership over first. Without a majority nobody serves until there is one.
//!
//! It has a connection of its own to each member, dialed anew with the next round when it is lost:
//! nothing here may delay heartbeats or votes. What when full? One round is under way at a time; the
//! next one begins when it has ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;

use crate::codec::peer::{Audit, AuditAsk, AuditReply};
use crate::config::NodeConfig;
use crate::raft::audit::{Verdict, judge};
use crate::raft::{Index, Member, Membership, NodeId, RoleKind, Term};
use crate::rpc::{Connection, Dialer, Expect, Method, Purpose};

use super::deliver::Deliver;
use super::messages::StartOver;
use super::node::Node;
use super::replicator::hello;
use super::standing::Standing;
use super::supervisor::hand_over;

/// How often the members are compared.
const EVERY: Duration = Duration::from_secs(1);

/// For one call, at least; half of it is for the lag of the asked, who hears with the next heartbeat of
/// what is committed.
const CALL: Duration = Duration::from_secs(1);

/// For a connection.
const DIAL: Duration = Duration::from_secs(2);

/// Why a node starts over whose content is not the majority's.
pub const DIVERGED: &str = "diverged";

/// See the module.
pub struct Auditor {
    desk: Arc<Desk>,
    node: Addr<Node>,
    start_over: Recipient<StartOver>,
    /// How long a hand-over may take: an election timeout.
    election: Duration,
    lines: BTreeMap<NodeId, Connection>,
    /// A round is under way.
    busy: bool,
    /// This node is about to start over.
    leaving: bool,
    /// The last verdict was that members differ, and it has been said.
    said: bool,
}

/// What a call needs.
struct Desk {
    standing: Arc<Standing>,
    dialer: Arc<Dialer>,
    /// For one call.
    patience: Duration,
}

/// The answers of one round.
struct Round {
    index: Index,
    term: Term,
    hashes: BTreeMap<NodeId, u64>,
    lines: BTreeMap<NodeId, Connection>,
}

impl Auditor {
    /// An auditor of this node.
    #[must_use]
    pub fn new(
        config: &NodeConfig,
        standing: Arc<Standing>,
        dialer: Arc<Dialer>,
        node: Addr<Node>,
        start_over: Recipient<StartOver>,
    ) -> Auditor {
        let patience = CALL.max(config.tick * config.raft.heartbeat_ticks * 4);
        let election = config.tick * config.raft.election_ticks.1;
        let (desk, lines) = (Arc::new(Desk { standing, dialer, patience }), BTreeMap::new());
        Auditor {
            desk,
            node,
            start_over,
            election,
            lines,
            busy: false,
            leaving: false,
            said: false,
        }
    }

    fn begin_round(&mut self, ctx: &mut Context<Self>) {
        let present = self.desk.standing.present();
        if present.soft_state.role != RoleKind::Leader {
            self.lines.clear();
            self.said = false;
            return;
        }
        if self.busy || self.leaving {
            return;
        }
        let Some((index, own)) = self.desk.standing.agreement.newest() else { return };
        self.busy = true;
        let (desk, lines) = (Arc::clone(&self.desk), std::mem::take(&mut self.lines));
        let (term, membership) = (present.soft_state.term, Arc::clone(&present.membership));
        let round = async move { desk.ask_all(index, own, term, &membership, lines).await };
        ctx.spawn(round.into_actor(self).map(|round, auditor, _| auditor.end_round(round)));
    }

    fn end_round(&mut self, round: Round) {
        self.busy = false;
        let Round { index, term, hashes, lines } = round;
        self.lines = lines;
        let present = self.desk.standing.present();
        if present.soft_state.role != RoleKind::Leader || present.soft_state.term != term {
            return;
        }
        let verdict = judge(&present.membership, &hashes);
        self.say(&verdict, index, &present.membership, &hashes);
        let majority = match verdict {
            Verdict::Open => return,
            Verdict::Majority { hash, .. } => Some(hash),
            Verdict::NoMajority => None,
        };
        for (id, connection) in &self.lines {
            let ask = AuditAsk::Verdict { index, hash: majority };
            let audit = Audit { from: self.desk.standing.own.node_id, to: *id, term, ask };
            let (desk, connection) = (Arc::clone(&self.desk), connection.clone());
            actix_rt::spawn(async move {
                // Whom it does not reach hears the next one.
                let _ = desk.call(&connection, &audit).await;
            });
        }
        if self.desk.standing.agreement.heed(index, majority) {
            self.leaving = true;
            let (desk, node) = (Arc::clone(&self.desk), self.node.clone());
            let (start_over, election) = (self.start_over.clone(), self.election);
            actix_rt::spawn(async move {
                hand_over(&node, &desk.standing, election).await;
                // Once a process; it must not be lost.
                start_over.deliver(StartOver { reason: DIVERGED.into() });
            });
        }
    }

    /// Says what is wrong, once for each change.
    fn say(
        &mut self,
        verdict: &Verdict,
        index: Index,
        membership: &Membership,
        hashes: &BTreeMap<NodeId, u64>,
    ) {
        let wrong = match verdict {
            Verdict::Open => return,
            Verdict::Majority { outsiders, .. } => !outsiders.is_empty(),
            Verdict::NoMajority => true,
        };
        if wrong && !self.said {
            let named = |(id, hash): (&NodeId, &u64)| {
                let member = membership.members.get(id)?;
                Some(format!("{} {hash:016x}", member.name))
            };
            let hashes = hashes.iter().filter_map(named).collect::<Vec<_>>().join(", ");
            tracing::error!(%index, hashes, "the members differ in their content");
        }
        self.said = wrong;
    }
}

impl Desk {
    /// Asks all other members at once.
    async fn ask_all(
        &self,
        index: Index,
        own: u64,
        term: Term,
        membership: &Membership,
        mut lines: BTreeMap<NodeId, Connection>,
    ) -> Round {
        let from = self.standing.own.node_id;
        let others = membership.members.iter().filter(|(id, _)| **id != from);
        let asking: Vec<_> = others
            .map(|(id, member)| {
                let line = lines.remove(id).filter(Connection::is_open);
                let audit = Audit { from, to: *id, term, ask: AuditAsk::Hash { index } };
                self.ask(member, line, audit)
            })
            .collect();
        let mut round = Round { index, term, hashes: [(from, own)].into(), lines: BTreeMap::new() };
        for (id, line, hash) in join_all(asking).await {
            round.hashes.extend(hash.map(|hash| (id, hash)));
            round.lines.extend(line.map(|line| (id, line)));
        }
        round
    }

    /// Asks one member; a silent one has no hash.
    async fn ask(
        &self,
        member: &Member,
        line: Option<Connection>,
        audit: Audit,
    ) -> (NodeId, Option<Connection>, Option<u64>) {
        let line = match line.filter(|line| !line.is_stale()) {
            Some(line) => line,
            None => {
                let hello = hello(&self.standing, Purpose::Control, Some(audit.to));
                let expect = Expect::Node(member.name.clone());
                match self.dialer.dial(&member.address, expect, hello, DIAL).await {
                    Ok(line) => line,
                    // Replicators dial the same peer, and say what is wrong.
                    Err(_) => return (audit.to, None, None),
                }
            }
        };
        let hash = self.call(&line, &audit).await;
        (audit.to, Some(line), hash)
    }

    async fn call(&self, line: &Connection, audit: &Audit) -> Option<u64> {
        match line.call_timeout::<_, AuditReply>(Method::RaftAudit, audit, self.patience).await {
            Ok(reply) => reply.hash,
            Err(error) => {
                tracing::debug!(to = %audit.to, %error, "an audit was not answered");
                None
            }
        }
    }
}

impl Actor for Auditor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(EVERY, Auditor::begin_round);
    }
}
