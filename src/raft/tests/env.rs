//! A cluster in a box: nodes, their disks, and the network between them. It carries out effects by the
//! contract of [`effects`](crate::raft::effects), in that order, and nothing else.
//!
//! Every request that is lost, or whose reply is, or whose receiver dies, is remembered, so that its
//! sender can be told: that is what a call's deadline does in a real node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::super::message::{Append, Install};
use super::super::{
    Boot, Effects, Entry, Envelope, HardState, Index, LogId, Member, Membership, Message, Node,
    NodeId, Options, Payload, PersistToken, ReadOutcome, RequestId, Restored, SendRange,
    SendSnapshot, SoftState, Term,
};
use super::disk::{SimDisk, Snapshots};
use super::hello::Hellos;
use super::oracle::Oracle;

pub(super) struct SimNode {
    /// None: crashed.
    pub(super) core: Option<Node>,
    pub(super) disk: SimDisk,
    completed: PersistToken,
    held: Vec<(PersistToken, Envelope)>,
    pub(super) boots: u64,
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
    /// Every snapshot there ever was.
    pub(super) snapshots: Snapshots,
    pub(super) oracle: Oracle,
    pub(super) hellos: Hellos,
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
    matches!(
        message,
        Message::Vote(_)
            | Message::Append(_)
            | Message::Heartbeat(_)
            | Message::Install(_)
            | Message::TimeoutNow(_)
    )
}

impl Cluster {
    /// Nodes 1 to `voters`, then `learners` more, each with the founding entry in its log.
    /// `hellos`: they greet each other whenever they can.
    pub(super) fn new(
        voters: u64,
        learners: u64,
        options: Options,
        seed: u64,
        hellos: bool,
    ) -> Cluster {
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
            snapshots: Snapshots::new(),
            oracle: Oracle::default(),
            hellos: Hellos { by_hand: !hellos, ..Hellos::default() },
            trace: Vec::new(),
            options,
            seed,
        };
        for id in membership.members.keys() {
            cluster.blank(*id);
            let disk = &mut cluster.node_mut(*id).disk;
            disk.hard_state = HardState { term: Term(1), vote: None };
            disk.durable.push(founding.clone());
            let log = disk.durable.clone();
            cluster.oracle.given(&log);
            cluster.restart(*id);
        }
        cluster.trace.clear();
        cluster
    }

    /// An empty disk that nobody has started yet.
    pub(super) fn blank(&mut self, id: NodeId) {
        let (disk, completed) = (SimDisk::default(), PersistToken(0));
        let node = SimNode { core: None, disk, completed, held: Vec::new(), boots: 0 };
        self.nodes.insert(id, node);
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut SimNode {
        self.nodes.get_mut(&id).expect("a known node")
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

    pub(super) fn say(&mut self, line: String) {
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
        if let Some(membership) = effects.membership {
            self.say(super::show::membership(id, &membership));
        }
        if effects.leadership_lost {
            self.say(format!("{} lost its leadership", super::show::node(id)));
        }
        if let Some(seen) = effects.seen {
            self.node_mut(id).disk.noted = seen;
        }
        if let Some(batch) = effects.persist {
            self.say(super::show::batch(id, &batch));
            let node = self.nodes.get_mut(&id).expect("a known node");
            if batch.hard_state.is_some() {
                let noted = std::sync::Arc::clone(&node.disk.noted);
                node.disk.seen_in.push((batch.token, noted));
            }
            node.disk.written.apply(&batch, &self.snapshots);
            self.oracle.written(id, &batch, &node.disk.written);
            node.disk.queue.push_back(batch);
        }
        for envelope in effects.send_now {
            self.depart(envelope);
        }
        for range in effects.replicate {
            self.read_and_send(id, range);
        }
        for send in effects.snapshots {
            self.send_snapshot(id, send);
        }
        for (token, envelope) in effects.send_after_persist {
            let node = self.nodes.get_mut(&id).expect("a known node");
            if token <= node.completed {
                self.depart(envelope);
            } else {
                node.held.push((token, envelope));
            }
        }
        if let Some(snapshot) = effects.restore {
            let last = snapshot.last;
            self.say(format!("{} restores the snapshot {last}", super::show::node(id)));
            self.oracle.restored(id, last, &self.nodes[&id].disk.durable);
            self.tell_applied(id, last.index);
        }
        if let Some(upto) = effects.commit {
            self.say(format!("{} applies up to {upto}", super::show::node(id)));
            self.oracle.applied(id, upto, &self.nodes[&id].disk.durable);
            self.tell_applied(id, upto);
        }
        if let Some(base) = effects.purge {
            self.say(format!("{} purges up to {base}", super::show::node(id)));
            let disk = &mut self.node_mut(id).disk;
            disk.written.purge(base.index);
            disk.durable.purge(base.index);
        }
        if let Some((peer, seen)) = effects.went_back {
            self.found_out(id, peer, seen);
        }
        for ReadOutcome { token, result } in effects.reads {
            self.say(super::show::read(id, token, result));
            self.oracle.read_answered(token, result);
        }
    }

    fn tell_applied(&mut self, id: NodeId, upto: Index) {
        let core = self.node_mut(id).core.as_mut().expect("it just acted");
        assert_eq!(core.applied(upto), Effects::default(), "applying causes nothing");
    }

    fn send_snapshot(&mut self, id: NodeId, send: SendSnapshot) {
        let newest = self.nodes[&id].disk.durable.snapshot.clone();
        let snapshot = newest.expect("a leader's snapshot is durable (S17)");
        assert!(snapshot.last >= send.snapshot, "the newest snapshot is at least this one");
        self.depart(Envelope {
            from: id,
            to: send.to,
            term: send.term,
            request: send.request,
            message: Message::Install(Install { snapshot }),
        });
    }

    fn read_and_send(&mut self, id: NodeId, range: SendRange) {
        let written = &self.nodes[&id].disk.written;
        assert!(written.holds(range.base), "a range begins in the log (L6)");
        let entries = written.read(range.base.index, range.upto).expect("nothing of it is purged");
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
        let (from, term) = (packet.envelope.from, packet.envelope.term);
        let member = self.core(to).membership().contains(from);
        self.input(to, |core| core.step(packet.envelope.clone()));
        if member {
            self.oracle.hears(to, from, term);
        }
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
            let written = node.disk.seen_in.remove(0);
            assert_eq!(written.0, batch.token, "one table for each hard state");
            node.disk.seen = written.1;
        }
        node.disk.durable.apply(&batch, &self.snapshots);
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
        node.disk.seen_in.clear();
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
        let log = &node.disk.durable;
        let snapshot = log.snapshot.clone();
        let restored = Restored {
            hard_state: node.disk.hard_state,
            log: log.shape(),
            memberships: log.memberships(),
            applied: snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.last.index),
            snapshot,
            boot: Boot(node.boots),
            seen: node.disk.seen.as_ref().clone(),
            reached: log.reached,
        };
        let seed = self.seed ^ (id.0 << 32) ^ node.boots;
        node.core = Some(Node::new(id, self.options, seed, restored));
        self.oracle.restarted(id);
        self.say(format!("{} started", super::show::node(id)));
        self.greet_all();
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
        node.disk.durable.truncate(Index(1));
        for (at, term) in terms.iter().enumerate() {
            let index = at as u64 + 2;
            let command = Bytes::from(format!("{index}@{term}"));
            let payload = Payload::Command(command);
            node.disk.durable.push(Entry { id: LogId::new(*term, index), payload });
        }
        node.disk.hard_state = hard_state;
        self.oracle.given(&node.disk.durable.clone());
        self.restart(id);
    }
}

/// Whether `reply` is the answer to `request`.
pub(super) fn answers(reply: &Envelope, request: &Envelope) -> bool {
    !is_request(&reply.message) && reply.to == request.from && reply.request == request.request
}
