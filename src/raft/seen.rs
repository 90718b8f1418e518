//! What is remembered of each member: its highest boot counter, term and acknowledged index, so that a
//! directory that went back in time is recognised (design: lost disks).
//!
//! Every node keeps the table, on its disk with the next hard state that it writes. It learns of a member
//! from that member's hellos, from the term of every message, and, as leader, from what it acknowledges; a
//! leader's regular heartbeats spread the leader's table.
//!
//! Two things must hold, or a healthy node would be taken for an old copy, or an old copy for healthy:
//!
//! * *Nothing is said of a node that it was not durably.* Envelopes carry terms that are on the sender's
//!   disk, acknowledgements name entries that are, and a hello makes the same claims that the node would
//!   make after a crash ([`Node::claims`]). A pre-vote's `campaign` is no term of its sender.
//! * *A node claims all it ever said.* Its claimed index is the highest one its disk ever held, truncated
//!   or not (`Restored::reached`).
//!
//! The table is used at the door, where hellos are judged, and in elections, where everybody says what it
//! remembers of everybody (`greeting.rs`).
//!
//! A hello can be overtaken by what its sender says elsewhere. So a refused node compares what it was
//! refused with to its claims *at that moment*: only if that still is more did its directory go back
//! ([`Seen::exceeds`]).
//!
//! A member's line goes when its departure is committed: until then the membership may come back (M1).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::common::Common;
use super::effects::Effects;
use super::node::Node;
use super::types::{Boot, Index, NodeId, Seen, Term};

/// Invariant: every line is at most what its node would claim after a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct SeenTable {
    lines: BTreeMap<NodeId, Seen>,
    /// Since they were last published.
    changed: bool,
    /// Ticks since then.
    elapsed: u32,
}

impl SeenTable {
    pub(super) fn new(lines: BTreeMap<NodeId, Seen>) -> SeenTable {
        SeenTable { lines, ..SeenTable::default() }
    }

    /// All of it, for a heartbeat.
    pub(super) fn list(&self) -> Vec<(NodeId, Seen)> {
        self.lines.iter().map(|(id, seen)| (*id, *seen)).collect()
    }

    /// What is remembered of one node.
    pub(super) fn of(&self, id: NodeId) -> Option<Seen> {
        self.lines.get(&id).copied()
    }

    /// A later life is not taken over if it contradicts the line: the boot of a directory that went back,
    /// beside the term and the index that it has forgotten, would make one line of two lives, which
    /// nothing contradicts any more.
    fn note(&mut self, id: NodeId, seen: Seen) {
        let line = self.lines.entry(id).or_default();
        if seen.boot > line.boot && line.contradicts(seen).is_some() {
            return;
        }
        let merged = line.max(seen);
        self.changed |= merged != *line;
        *line = merged;
    }
}

impl Common {
    /// Remembers of a member what it durably is; of others nothing.
    pub(super) fn note_seen(&mut self, id: NodeId, seen: Seen) {
        if id != self.id && self.membership().contains(id) {
            self.seen.note(id, seen);
        }
    }

    /// This process of a member has spoken, so that it runs; of others nothing is remembered.
    pub(super) fn note_process(&mut self, id: NodeId, boot: Boot) {
        if self.membership().contains(id) {
            self.processes.insert(id, boot);
            let mut processes = std::mem::take(&mut self.processes);
            processes.retain(|id, _| self.membership().contains(*id));
            self.processes = processes;
        }
    }

    /// The term of a message is on its sender's disk (S17).
    pub(super) fn note_term(&mut self, id: NodeId, term: Term) {
        self.note_seen(id, Seen { term, ..Seen::default() });
    }

    /// A member has told this leader that its disk holds everything up to an index.
    pub(super) fn note_acknowledged(&mut self, id: NodeId, acknowledged: Index) {
        self.note_seen(id, Seen { acknowledged, ..Seen::default() });
    }

    /// What this node is durably, and would say of itself after a crash.
    pub(super) fn claims(&self) -> Seen {
        let (term, acknowledged) = (self.disk.durable().term, self.disk.reached());
        Seen { boot: self.boot, term, acknowledged }
    }

    /// Counts one tick; hands out the table at the pace of heartbeats, if it has changed.
    pub(super) fn tick_seen(&mut self) {
        self.seen.elapsed += 1;
        if self.seen.elapsed >= self.options.heartbeat_ticks {
            self.publish_seen();
        }
    }

    /// Hands out the table, if it has changed.
    pub(super) fn publish_seen(&mut self) {
        self.seen.elapsed = 0;
        if self.membership().contains(self.id) {
            let claims = self.claims();
            self.seen.note(self.id, claims);
        }
        if self.commit() >= self.membership_index() {
            let membership = Arc::clone(self.shared_membership());
            let before = self.seen.lines.len();
            self.seen.lines.retain(|id, _| membership.contains(*id));
            self.seen.changed |= self.seen.lines.len() != before;
        }
        if std::mem::take(&mut self.seen.changed) {
            self.effects.seen = Some(Arc::new(self.seen.lines.clone()));
        }
    }
}

impl Node {
    /// A peer has accepted this process's hello: it has judged this node's boot, term and acknowledged
    /// index, and remembers no more than these ([`Node::claims`]). May be repeated.
    pub fn greeted(&mut self, peer: NodeId) -> Effects {
        self.common.greeting.greeted(peer);
        self.finish()
    }

    /// A peer's hello was accepted here, or it has accepted this node's; what it claims of itself is
    /// remembered.
    pub fn introduced(&mut self, peer: NodeId, claims: Seen) -> Effects {
        self.common.note_seen(peer, claims);
        self.common.note_process(peer, claims.boot);
        self.finish()
    }

    /// What is remembered of each member, at the latest one heartbeat's time behind what this node has
    /// heard. Its own line is there too.
    #[must_use]
    pub fn seen(&self) -> &BTreeMap<NodeId, Seen> {
        &self.common.seen.lines
    }

    /// What this node may say of itself: its boot, its durable term, and the highest index it may ever
    /// have acknowledged. It never goes back, not even in a crash. A hello carries it, taken from here just
    /// before it is sent; and if a peer has seen more, that is compared with this once more
    /// ([`Seen::exceeds`]).
    #[must_use]
    pub fn claims(&self) -> Seen {
        self.common.claims()
    }

    /// Whether enough peers have judged this process, so that it votes whoever asks, and campaigns on
    /// request.
    #[must_use]
    pub fn may_vote(&self) -> bool {
        self.common.greeting.is_open()
    }
}

impl Seen {
    /// Whether any of the three is higher than a node claims of itself: its directory went back in time,
    /// if the claims are younger than this.
    #[must_use]
    pub fn exceeds(self, claims: Seen) -> bool {
        self.boot > claims.boot
            || self.term > claims.term
            || self.acknowledged > claims.acknowledged
    }
}
