//! A bare node without a network, and the words to talk to it.

use std::collections::BTreeMap;

use super::super::message::{Append, AppendReply, Heartbeat, ReadRound, Vote, VoteReply};
use super::super::{
    Boot, Effects, Entry, Envelope, HardState, Index, LogId, LogShape, Member, Membership, Message,
    Options, Payload, RequestId, RoleKind, Term,
};
use super::super::{Node, Restored};
use super::env::n;

pub(super) const ELECTION: u32 = 10;

pub(super) fn options() -> Options {
    Options { heartbeat_ticks: 2, election_ticks: (ELECTION, 2 * ELECTION), ..Options::default() }
}

pub(super) fn members(voters: u64) -> Membership {
    let member = |id: u64| Member { name: format!("n{id}"), address: String::new() };
    Membership::of_voters((1..=voters).map(|id| (n(id), member(id))).collect())
}

/// Node 1 of `voters`, with a log given by its terms and a term of its own.
pub(super) fn node(voters: u64, term: u64, log: &[u64]) -> Node {
    seeded(voters, term, log, 1)
}

pub(super) fn seeded(voters: u64, term: u64, terms: &[u64], seed: u64) -> Node {
    let mut log = LogShape::default();
    for (at, term) in terms.iter().enumerate() {
        log.push(LogId::new(*term, at as u64 + 1), 32);
    }
    let restored = Restored {
        hard_state: HardState { term: Term(term), vote: None },
        log,
        memberships: vec![(Index(1), members(voters))],
        snapshot: None,
        applied: Index::ZERO,
        boot: Boot(1),
        seen: BTreeMap::new(),
        reached: Index::ZERO,
    };
    let mut node = Node::new(n(1), options(), seed, restored);
    for peer in 2..=voters {
        assert_eq!(node.greeted(n(peer)), Effects::default());
    }
    node
}

pub(super) fn from(id: u64, term: u64, message: Message) -> Envelope {
    Envelope { from: n(id), to: n(1), term: Term(term), request: RequestId(id), message }
}

pub(super) fn vote(pre: bool, campaign: u64, last: LogId) -> Message {
    let campaign = Term(campaign);
    Message::Vote(if pre { Vote::pre(campaign, last) } else { Vote::real(campaign, last) })
}

pub(super) fn heartbeat(commit: u64) -> Message {
    Message::Heartbeat(Heartbeat { commit: Index(commit), round: ReadRound(0), seen: Vec::new() })
}

pub(super) fn append(base: LogId, terms: &[u64], commit: u64) -> Message {
    let entry = |(at, term): (usize, &u64)| Entry {
        id: LogId::new(*term, base.index.0 + 1 + at as u64),
        payload: Payload::Noop,
    };
    let entries = terms.iter().enumerate().map(entry).collect();
    Message::Append(Append { base, commit: Index(commit), entries })
}

/// Lets the disk complete everything, and returns what was sent in the end.
pub(super) fn persist(node: &mut Node, effects: Effects) -> Vec<Envelope> {
    let mut sent = Vec::new();
    let mut next = Some(effects);
    while let Some(effects) = next.take() {
        sent.extend(effects.send_now);
        sent.extend(effects.send_after_persist.into_iter().map(|(_, envelope)| envelope));
        next = effects.persist.map(|batch| node.persisted(batch.token));
    }
    sent
}

pub(super) fn granted(sent: &[Envelope]) -> Vec<bool> {
    let answer = |envelope: &Envelope| match &envelope.message {
        Message::VoteReply(reply) => Some(reply.granted),
        _ => None,
    };
    sent.iter().filter_map(answer).collect()
}

pub(super) fn appended(sent: &[Envelope]) -> AppendReply {
    match sent.last().map(|envelope| &envelope.message) {
        Some(Message::AppendReply(reply)) => *reply,
        other => panic!("not an append's reply: {other:?}"),
    }
}

/// Ticks until the node campaigns and lets it win; everything is durable in the end.
pub(super) fn lead(node: &mut Node) {
    let effects = leader_effects(node);
    persist(node, effects);
}

/// The same; returns the effects with which it became leader, not carried out yet.
pub(super) fn leader_effects(node: &mut Node) -> Effects {
    let mut asks = Vec::new();
    while asks.is_empty() {
        let mut effects = node.tick();
        while let Some(batch) = effects.persist.take() {
            effects = node.persisted(batch.token);
            if node.status().soft_state.role == RoleKind::Leader {
                return effects;
            }
        }
        asks = effects.send_now;
    }
    loop {
        let ask = asks.first().expect("a question").clone();
        let Message::Vote(vote) = ask.message else { panic!("not a vote request: {ask:?}") };
        let Vote { pre, campaign, .. } = vote;
        let reply = VoteReply { pre, campaign, granted: true, boot: Boot(1), seen: Vec::new() };
        let effects = node.step(Envelope {
            from: ask.to,
            to: n(1),
            term: ask.term,
            request: ask.request,
            message: Message::VoteReply(reply),
        });
        if node.status().soft_state.role == RoleKind::Leader {
            return effects;
        }
        asks = persist(node, effects);
    }
}

pub(super) fn role(node: &Node) -> (RoleKind, u64) {
    let soft = node.status().soft_state;
    (soft.role, soft.term.0)
}
