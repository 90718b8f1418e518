//! A cluster in a box: nodes, their disks, and the network between them. It carries out effects by the
//! contract of [`effects`](crate::raft::effects), in that order, and nothing else.
//!
//! A disk has two sides: what is *written* (handed over, readable, lost in a crash) and what is
//! *durable*. Every request that is lost, or whose reply is, or whose receiver dies, is remembered, so
//! that its sender can be told: that is what a call's deadline does in a real node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::super::message::Append;
use super::super::node::{Node, Restored};
use super::super::{
    Effects, Entry, Envelope, HardState, Index, LogId, LogShape, Member, Membership, Message,
    NodeId, Options, Payload, Persist, PersistToken, ReadOutcome, RequestId, SendRange, SoftState,
    Term,
};
use super::oracle::Oracle;

/// One node's disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimDisk {
    pub(super) hard_state: HardState,
    pub(super) durable: Vec<Entry>,
    pub(super) written: Vec<Entry>,
    pub(super) queue: VecDeque<Persist>,
}

impl SimDisk {
    pub(super) fn holds(entries: &[Entry], id: LogId) -> bool {
        id == LogId::ZERO || entries.get(id.index.0 as usize - 1).is_some_and(|e| e.id == id)
    }

    fn apply(entries: &mut Vec<Entry>, batch: &Persist) {
        if let Some(after) = batch.truncate_after {
            entries.truncate(after.0 as usize);
        }
        for entry in &batch.entries {
            assert_eq!(entry.id.index.0, entries.len() as u64 + 1, "a gap on disk (S3)");
            entries.push(entry.clone());
        }
    }
}

pub(super) struct SimNode {
    /// None: crashed.
    pub(super) core: Option<Node>,
    pub(super) disk: SimDisk,
    completed: PersistToken,
    held: Vec<(PersistToken, Envelope)>,
    boots: u64,
}

/// A request on its way, or its reply.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) envelope: Envelope,
    /// The sender's process life, so that a reply never reaches a later one.
    boot: u64,
}

/// A request whose sender must be told that no answer will come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) asker: NodeId,
    boot: u64,
    pub(super) peer: NodeId,
    pub(super) request: RequestId,
}

pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<NodeId, SimNode>,
    pub(super) wire: VecDeque<Packet>,
    pub(super) lost: Vec<Lost>,
    /// Directed links that lose everything.
    pub(super) cuts: BTreeSet<(NodeId, NodeId)>,
    /// Disks that complete every batch at once.
    pub(super) prompt_disks: bool,
    pub(super) oracle: Oracle,
    /// What happened, in lines.
    pub(super) trace: Vec<String>,
    options: Options,
    seed: u64,
}

pub(super) fn n(id: u64) -> NodeId {
    NodeId(id)
}

/// Requests are told from replies by their kind.
pub(super) fn is_request(message: &Message) -> bool {
    matches!(message, Message::Vote(_) | Message::Append(_) | Message::Heartbeat(_))
}

impl Cluster {
    /// Nodes 1 to `voters`, then `learners` more, each with the founding entry in its log.
    pub(super) fn new(voters: u64, learners: u64, options: Options, seed: u64) -> Cluster {
        let member =
            |id: u64| Member { name: format!("n{id}"), address: format!("n{id}.test:6000") };
        let mut membership =
            Membership::of_voters((1..=voters).map(|id| (n(id), member(id))).collect());
        for id in voters + 1..=voters + learners {
            membership.members.insert(n(id), member(id));
        }
        let founding = Entry {
            id: LogId::new(1, 1),
            payload: Payload::Membership(std::sync::Arc::new(membership.clone())),
        };
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            wire: VecDeque::new(),
            lost: Vec::new(),
            cuts: BTreeSet::new(),
            prompt_disks: true,
            oracle: Oracle::new(&founding, &membership),
            trace: Vec::new(),
            options,
            seed,
        };
        for id in membership.members.keys() {
            let disk = SimDisk {
                hard_state: HardState { term: Term(1), vote: None },
                durable: vec![founding.clone()],
                ..SimDisk::default()
            };
            let completed = PersistToken(0);
            let node = SimNode { core: None, disk, completed, held: Vec::new(), boots: 0 };
            cluster.nodes.insert(*id, node);
            cluster.restart(*id);
        }
        cluster.trace.clear();
        cluster
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn alive(&self, id: NodeId) -> bool {
        self.nodes[&id].core.is_some()
    }

    pub(super) fn core(&self, id: NodeId) -> &Node {
        self.nodes[&id].core.as_ref().expect("the node runs")
    }

    pub(super) fn soft(&self, id: NodeId) -> SoftState {
        self.core(id).status().soft_state
    }

    fn say(&mut self, line: String) {
        self.trace.push(line);
    }

    /// Gives a node one input and carries out what it causes.
    pub(super) fn input(&mut self, id: NodeId, input: impl FnOnce(&mut Node) -> Effects) {
        let node = self.nodes.get_mut(&id).expect("a known node");
        let Some(core) = &mut node.core else { return };
        let effects = input(core);
        self.run(id, effects);
        self.oracle.after_input(id, &self.nodes);
        if self.prompt_disks {
            while self.persist_one(id) {}
        }
    }

    /// The one function that carries out effects, in the order of their contract.
    fn run(&mut self, id: NodeId, effects: Effects) {
        if let Some(soft) = effects.soft_state {
            self.say(super::show::soft(id, soft));
        }
        if effects.leadership_lost {
            self.say(format!("{} lost its leadership", super::show::node(id)));
        }
        if let Some(batch) = effects.persist {
            self.say(super::show::batch(id, &batch));
            self.oracle.written(id, &batch);
            let node = self.nodes.get_mut(&id).expect("a known node");
            SimDisk::apply(&mut node.disk.written, &batch);
            node.disk.queue.push_back(batch);
        }
        for envelope in effects.send_now {
            self.depart(envelope);
        }
        for range in effects.replicate {
            self.read_and_send(id, range);
        }
        for (token, envelope) in effects.send_after_persist {
            let node = self.nodes.get_mut(&id).expect("a known node");
            if token <= node.completed {
                self.depart(envelope);
            } else {
                node.held.push((token, envelope));
            }
        }
        if let Some(upto) = effects.commit {
            self.say(format!("{} applies up to {upto}", super::show::node(id)));
            self.oracle.applied(id, upto, &self.nodes[&id].disk.durable);
            let node = self.nodes.get_mut(&id).expect("a known node");
            let core = node.core.as_mut().expect("it just acted");
            assert_eq!(core.applied(upto), Effects::default(), "applying causes nothing");
        }
        for ReadOutcome { token, result } in effects.reads {
            self.say(super::show::read(id, token, result));
            self.oracle.read_answered(token, result);
        }
    }

    fn read_and_send(&mut self, id: NodeId, range: SendRange) {
        let written = &self.nodes[&id].disk.written;
        assert!(SimDisk::holds(written, range.base), "a range begins in the log (L6)");
        let (after, upto) = (range.base.index.0 as usize, range.upto.0 as usize);
        let entries = written[after..upto].to_vec();
        let append = Append { base: range.base, commit: range.commit, entries };
        self.depart(Envelope {
            from: id,
            to: range.to,
            term: range.term,
            request: range.request,
            message: Message::Append(append),
        });
    }

    /// A message leaves its node; a cut link loses it.
    fn depart(&mut self, envelope: Envelope) {
        self.oracle.departs(&envelope, &self.nodes);
        let asker = if is_request(&envelope.message) { envelope.from } else { envelope.to };
        let packet = Packet { boot: self.nodes[&asker].boots, envelope };
        if self.cuts.contains(&(packet.envelope.from, packet.envelope.to)) {
            self.lose(packet);
        } else {
            self.wire.push_back(packet);
        }
    }

    /// Loses a packet; whoever asked will be told by [`Cluster::tell_lost`].
    pub(super) fn lose(&mut self, packet: Packet) {
        self.say(format!("lost: {}", super::show::envelope(&packet.envelope)));
        self.remember_lost(&packet);
    }

    fn remember_lost(&mut self, packet: &Packet) {
        let Envelope { from, to, request, .. } = packet.envelope;
        let (asker, peer) =
            if is_request(&packet.envelope.message) { (from, to) } else { (to, from) };
        self.lost.push(Lost { asker, boot: packet.boot, peer, request });
    }

    /// A packet arrives.
    pub(super) fn deliver(&mut self, packet: Packet) {
        let to = packet.envelope.to;
        let stale_reply =
            !is_request(&packet.envelope.message) && packet.boot != self.nodes[&to].boots;
        let cut = self.cuts.contains(&(packet.envelope.from, to));
        if cut || !self.alive(to) || stale_reply {
            return self.lose(packet);
        }
        self.say(super::show::envelope(&packet.envelope));
        let before = self.oracle.replies_to(&packet.envelope);
        self.input(to, |core| core.step(packet.envelope.clone()));
        if is_request(&packet.envelope.message) {
            let held = self.nodes[&to].held.iter().filter(|(_, e)| answers(e, &packet.envelope));
            let replies = self.oracle.replies_to(&packet.envelope) - before + held.count();
            assert!(replies >= 1, "a request gets a reply: {:?}", packet.envelope);
        }
    }

    /// Tells an asker that its request stays unanswered.
    pub(super) fn tell_lost(&mut self, lost: Lost) {
        if self.nodes[&lost.asker].boots == lost.boot {
            self.input(lost.asker, |core| core.unanswered(lost.peer, lost.request));
        }
    }

    /// Completes the oldest batch of a disk. False: there is none.
    pub(super) fn persist_one(&mut self, id: NodeId) -> bool {
        let node = self.nodes.get_mut(&id).expect("a known node");
        let Some(batch) = node.disk.queue.pop_front() else { return false };
        if let Some(hard_state) = batch.hard_state {
            self.oracle.hard_state(id, node.disk.hard_state, hard_state);
            node.disk.hard_state = hard_state;
        }
        SimDisk::apply(&mut node.disk.durable, &batch);
        node.completed = batch.token;
        if !self.prompt_disks {
            self.say(format!("{} disk completed #{}", super::show::node(id), batch.token.0));
        }
        self.input(id, |core| core.persisted(batch.token));
        self.release(id, batch.token);
        true
    }

    fn release(&mut self, id: NodeId, completed: PersistToken) {
        let node = self.nodes.get_mut(&id).expect("a known node");
        let (ready, held) =
            std::mem::take(&mut node.held).into_iter().partition(|(token, _)| *token <= completed);
        node.held = held;
        for (_, envelope) in ready {
            self.depart(envelope);
        }
    }

    /// The process dies: what was not durable is gone, and nobody it owes an answer gets one.
    pub(super) fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a known node");
        node.core = None;
        node.disk.queue.clear();
        let held = std::mem::take(&mut node.held);
        for (_, envelope) in held {
            if !is_request(&envelope.message) {
                let boot = self.nodes[&envelope.to].boots;
                self.remember_lost(&Packet { envelope, boot });
            }
        }
        self.say(format!("{} crashed", super::show::node(id)));
    }

    /// The process starts with what is durable.
    pub(super) fn restart(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a known node");
        node.boots += 1;
        node.completed = PersistToken(0);
        node.disk.written = node.disk.durable.clone();
        let mut log = LogShape::default();
        let mut memberships = Vec::new();
        for entry in &node.disk.durable {
            log.push(entry.id, entry.payload.size());
            if let Payload::Membership(membership) = &entry.payload {
                memberships.push((entry.id.index, Membership::clone(membership)));
            }
        }
        let hard_state = node.disk.hard_state;
        let restored = Restored { hard_state, log, memberships, applied: Index::ZERO };
        let seed = self.seed ^ (id.0 << 32) ^ node.boots;
        node.core = Some(Node::new(id, self.options, seed, restored));
        self.oracle.restarted(id, &node.disk.durable);
        self.say(format!("{} started", super::show::node(id)));
    }

    /// Proposes commands; what they were if accepted.
    pub(super) fn propose(&mut self, id: NodeId, commands: &[&str]) {
        let commands: Vec<Bytes> =
            commands.iter().map(|command| Bytes::copy_from_slice(command.as_bytes())).collect();
        let mut said = String::new();
        self.input(id, |core| {
            let (result, effects) = core.propose(commands);
            said = match result {
                Ok(first) => format!("{} accepts proposals from {first}", super::show::node(id)),
                Err(why) => {
                    format!("{} refuses: {}", super::show::node(id), super::show::refusal(why))
                }
            };
            effects
        });
        self.say(said);
    }

    /// Completes disks and delivers everything until nothing moves.
    pub(super) fn settle(&mut self) {
        self.settle_except(None);
    }

    /// The same, while one disk stands still.
    pub(super) fn settle_except(&mut self, idle: Option<NodeId>) {
        let ids: Vec<NodeId> = self.ids().into_iter().filter(|id| Some(*id) != idle).collect();
        for _ in 0..100_000 {
            if let Some(packet) = self.wire.pop_front() {
                self.deliver(packet);
            } else if !ids.iter().any(|id| self.alive(*id) && self.persist_one(*id)) {
                return;
            }
        }
        panic!("the cluster chatters without end");
    }

    /// One tick for everyone, then everything that follows.
    pub(super) fn tick_all(&mut self) {
        for id in self.ids() {
            self.input(id, Node::tick);
        }
        self.settle();
        for lost in std::mem::take(&mut self.lost) {
            self.tell_lost(lost);
        }
        self.settle();
    }

    /// Lets a node campaign and win, the others having been told that their leader is gone.
    pub(super) fn elect(&mut self, id: NodeId) {
        for other in self.ids() {
            if self.alive(other)
                && let Some(leader) = self.soft(other).leader
            {
                self.input(other, |core| core.peer_gone(leader));
            }
        }
        self.campaign(id);
        self.settle();
        assert_eq!(self.soft(id).leader, Some(id), "{id} was to be elected");
    }

    /// Ticks one node until it asks for pre-votes.
    pub(super) fn campaign(&mut self, id: NodeId) {
        for _ in 0..1000 {
            let before = (self.soft(id).role, self.wire.len() + self.lost.len());
            self.input(id, Node::tick);
            if (self.soft(id).role, self.wire.len() + self.lost.len()) != before {
                return;
            }
        }
        panic!("{id} does not campaign");
    }

    /// The only node that leads the highest term in which anybody leads.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let alive = self.ids().into_iter().filter(|id| self.alive(*id));
        alive.filter(|id| self.soft(*id).leader == Some(*id)).max_by_key(|id| self.soft(*id).term)
    }

    pub(super) fn isolate(&mut self, id: NodeId) {
        for other in self.ids() {
            self.cuts.insert((id, other));
            self.cuts.insert((other, id));
        }
    }

    /// Replaces a node's disk and restarts it: a log given by the terms of its entries from index 2.
    pub(super) fn given(&mut self, id: NodeId, hard_state: HardState, terms: &[u64]) {
        self.crash(id);
        let node = self.nodes.get_mut(&id).expect("a known node");
        node.disk.durable.truncate(1);
        for (at, term) in terms.iter().enumerate() {
            let index = at as u64 + 2;
            let command = Bytes::from(format!("{index}@{term}"));
            let payload = Payload::Command(command);
            node.disk.durable.push(Entry { id: LogId::new(*term, index), payload });
        }
        node.disk.hard_state = hard_state;
        self.oracle.given(&node.disk.durable);
        self.restart(id);
    }
}

/// Whether `reply` is the answer to `request`.
pub(super) fn answers(reply: &Envelope, request: &Envelope) -> bool {
    !is_request(&reply.message) && reply.to == request.from && reply.request == request.request
}
