//! The hellos between nodes: who claims what of itself, and what comes of it. A hello may be overtaken by
//! anything its sender says meanwhile. A directory may be put back to an older copy of itself; every other
//! node that is accused of that is accused wrongly, and the test fails.

use std::collections::BTreeSet;

use super::super::{NodeId, Seen};
use super::disk::SimDisk;
use super::env::Cluster;
use super::show;

/// A hello on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hello {
    from: NodeId,
    to: NodeId,
    /// The process lives of both, which a connection does not outlive.
    boots: (u64, u64),
    claims: Seen,
}

/// What has to do with hellos.
#[derive(Default)]
pub(super) struct Hellos {
    /// Nodes greet each other only when they are told to.
    pub(super) by_hand: bool,
    pub(super) on_their_way: Vec<Hello>,
    /// Directories that were put back.
    pub(super) rewound: BTreeSet<NodeId>,
    /// Those of them that were recognised.
    pub(super) recognised: BTreeSet<NodeId>,
}

impl Cluster {
    /// One node dials another; its hello is on its way.
    pub(super) fn dial(&mut self, from: NodeId, to: NodeId) {
        if from != to && self.alive(from) && self.alive(to) && self.linked(from, to) {
            let boots = (self.nodes[&from].boots, self.nodes[&to].boots);
            let hello = Hello { from, to, boots, claims: self.core(from).claims() };
            self.hellos.on_their_way.push(hello);
        }
    }

    /// A hello arrives and is judged.
    pub(super) fn judge_hello(&mut self, hello: Hello) {
        let Hello { from, to, claims, boots } = hello;
        let lives = (self.nodes[&from].boots, self.nodes[&to].boots);
        if lives != boots || !self.alive(from) || !self.alive(to) || !self.linked(from, to) {
            return;
        }
        let seen = self.core(to).seen().get(&from).copied().unwrap_or_default();
        if seen.exceeds(claims) {
            self.refused(from, to, seen);
            return;
        }
        self.input(to, |core| core.introduced(from, claims));
        self.acknowledge(from, to);
        self.input(from, |core| core.greeted(to));
    }

    /// What the acknowledgement of a connection says of the one that was dialed.
    pub(super) fn acknowledge(&mut self, from: NodeId, to: NodeId) {
        if from != to && self.alive(from) && self.alive(to) && self.linked(from, to) {
            let claims = self.core(to).claims();
            self.input(from, |core| core.introduced(to, claims));
        }
    }

    /// A hello was refused. The node compares with what it claims by now.
    fn refused(&mut self, from: NodeId, to: NodeId, seen: Seen) {
        if seen.exceeds(self.core(from).claims()) {
            self.found_out(from, to, seen);
        } else {
            let (from, to) = (show::node(from), show::node(to));
            self.say(format!("{from}'s hello to {to} was overtaken"));
        }
    }

    /// Somebody remembers more of a node than its directory holds.
    pub(super) fn found_out(&mut self, id: NodeId, by: NodeId, seen: Seen) {
        assert!(self.hellos.rewound.contains(&id), "{id} is accused wrongly by {by}: {seen:?}");
        self.hellos.recognised.insert(id);
        let seen = show::seen(by, id, seen);
        self.say(format!("{} went back in time: {seen}", show::node(id)));
    }

    fn linked(&self, a: NodeId, b: NodeId) -> bool {
        !self.cuts.contains(&(a, b)) && !self.cuts.contains(&(b, a))
    }

    /// What was on its way arrives.
    pub(super) fn judge_hellos(&mut self) {
        for hello in std::mem::take(&mut self.hellos.on_their_way) {
            self.judge_hello(hello);
        }
    }

    /// What a node remembers of each member.
    pub(super) fn tell_seen(&mut self, id: NodeId) {
        let seen = self.core(id).seen();
        let lines: Vec<String> = seen.iter().map(|(of, seen)| show::seen(id, *of, *seen)).collect();
        self.trace.extend(lines);
    }

    /// Everyone dials everyone, at once.
    pub(super) fn greet_all(&mut self) {
        if !self.hellos.by_hand {
            for from in self.ids() {
                for to in self.ids() {
                    self.greet(from, to);
                }
            }
        }
    }

    /// One node's hello reaches another at once.
    pub(super) fn greet(&mut self, from: NodeId, to: NodeId) {
        self.dial(from, to);
        if let Some(hello) = self.hellos.on_their_way.pop() {
            self.judge_hello(hello);
        }
    }

    /// A node's disk as it is now, to be put back later.
    pub(super) fn copy_disk(&self, id: NodeId) -> (SimDisk, u64) {
        let node = &self.nodes[&id];
        let mut disk = node.disk.clone();
        disk.queue.clear();
        (disk, node.boots)
    }

    /// A node that is down finds an older copy of its directory.
    pub(super) fn put_back(&mut self, id: NodeId, (disk, boots): (SimDisk, u64)) {
        assert!(!self.alive(id), "a disk is put back while its node is down");
        self.hellos.rewound.insert(id);
        self.oracle.rewound.insert(id);
        let node = self.node_mut(id);
        (node.disk, node.boots) = (disk, boots);
    }
}
