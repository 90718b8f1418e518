//! The auditor: while this node leads, it asks every other member once a second for the hash of its
//! content as of this node's newest applied index, has the answers judged
//! ([`raft::audit`](crate::raft::audit)), and tells the verdict to all of them (S5). The asked wait for
//! the index, so that one question suffices however far they lag.
//!
//! A node whose content is not the majority's serves nothing more and starts over; this one, should it
//! be the one, hands the leadership over first. Without a majority nobody serves until there is one.
//!
//! It has a connection of its own to each member, dialed anew with the next round when it is lost:
//! nothing here may delay heartbeats or votes. What when full? One round is under way at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;

use crate::codec::peer::{Audit, AuditAsk, AuditReply};
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

/// How long a member that lags is waited for; it answers from the moment at which it has applied the
/// index.
pub const LAG: Duration = Duration::from_millis(500);

/// For one call: the lag and the way.
const CALL: Duration = Duration::from_secs(1);

/// For a connection.
const DIAL: Duration = Duration::from_secs(2);

/// See the module.
pub struct Auditor {
    desk: Arc<Desk>,
    node: Addr<Node>,
    start_over: Recipient<StartOver>,
    /// How long a hand-over may take.
    patience: Duration,
    lines: BTreeMap<NodeId, Connection>,
    /// A round is under way.
    busy: bool,
    /// This node is about to start over.
    leaving: bool,
    /// What was last said of a verdict.
    said: Option<String>,
}

/// What a call needs.
struct Desk {
    standing: Arc<Standing>,
    dialer: Arc<Dialer>,
}

/// The answers of one round.
struct Round {
    index: Index,
    term: Term,
    hashes: BTreeMap<NodeId, u64>,
    lines: BTreeMap<NodeId, Connection>,
}

impl Auditor {
    /// An auditor; `patience` is how long a hand-over may take.
    #[must_use]
    pub fn new(
        standing: Arc<Standing>,
        dialer: Arc<Dialer>,
        node: Addr<Node>,
        start_over: Recipient<StartOver>,
        patience: Duration,
    ) -> Auditor {
        let (desk, lines) = (Arc::new(Desk { standing, dialer }), BTreeMap::new());
        Auditor { desk, node, start_over, patience, lines, busy: false, leaving: false, said: None }
    }

    fn begin_round(&mut self, ctx: &mut Context<Self>) {
        let present = self.desk.standing.present();
        if present.soft_state.role != RoleKind::Leader {
            self.lines.clear();
            self.said = None;
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
            let connection = connection.clone();
            actix_rt::spawn(async move {
                // Whom it does not reach hears the next one.
                let _: Option<AuditReply> = call(&connection, &audit).await;
            });
        }
        if let Some(reason) = self.desk.standing.agreement.heed(index, majority) {
            self.leaving = true;
            let (desk, node) = (Arc::clone(&self.desk), self.node.clone());
            let (start_over, patience) = (self.start_over.clone(), self.patience);
            actix_rt::spawn(async move {
                hand_over(&node, &desk.standing, patience).await;
                // Once a process; it must not be lost.
                start_over.deliver(StartOver { reason });
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
        let names = |ids: &mut dyn Iterator<Item = NodeId>| {
            let name = |id| membership.members.get(&id).map(|member: &Member| member.name.as_str());
            ids.filter_map(name).collect::<Vec<_>>().join(", ")
        };
        let news = match verdict {
            Verdict::Open => return,
            Verdict::Majority { outsiders, .. } if outsiders.is_empty() => None,
            Verdict::Majority { outsiders, .. } => {
                let who = names(&mut outsiders.iter().copied());
                Some(format!("the content of {who} is not that of the majority"))
            }
            Verdict::NoMajority => {
                let who = names(&mut hashes.keys().copied());
                Some(format!("no majority of equal content among {who}"))
            }
        };
        if let Some(news) = &news
            && self.said.as_ref() != Some(news)
        {
            tracing::error!(%index, ?hashes, "{news}");
        }
        self.said = news;
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
        let line = match line {
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
        let reply: Option<AuditReply> = call(&line, &audit).await;
        (audit.to, Some(line), reply.and_then(|reply| reply.hash))
    }
}

async fn call(connection: &Connection, audit: &Audit) -> Option<AuditReply> {
    match connection.call_timeout(Method::RaftAudit, audit, CALL).await {
        Ok(reply) => Some(reply),
        Err(error) => {
            tracing::debug!(to = %audit.to, %error, "an audit was not answered");
            None
        }
    }
}

impl Actor for Auditor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(EVERY, Auditor::begin_round);
    }
}
