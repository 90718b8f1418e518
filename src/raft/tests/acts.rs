//! What stories and storms ask of a cluster's nodes, beyond time and traffic.

use bytes::Bytes;

use super::super::{MembershipChange, Node, NodeId, SnapshotMeta};
use super::disk::SimLog;
use super::env::Cluster;

impl Cluster {
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

    /// A new node starts with an empty disk, and waits to be taken in.
    pub(super) fn join(&mut self, id: NodeId) {
        self.blank(id);
        self.restart(id);
    }

    /// Asks for a change of the members.
    pub(super) fn change(&mut self, id: NodeId, change: &MembershipChange) {
        let mut said = String::new();
        self.input(id, |core| {
            let (result, effects) = core.change(change);
            said = super::show::change(id, result);
            effects
        });
        self.say(said);
    }

    /// Asks a leader to hand over.
    pub(super) fn transfer(&mut self, id: NodeId, to: NodeId) {
        let mut said = String::new();
        self.input(id, |core| {
            let (result, effects) = core.transfer(to);
            said = super::show::transfer(id, to, result);
            effects
        });
        self.say(said);
    }

    /// A snapshot of what a node has applied begins: what it would be reported with. None: a newer one
    /// is there, or nothing is applied.
    pub(super) fn begin_snapshot(&mut self, id: NodeId) -> Option<SnapshotMeta> {
        let core = self.nodes[&id].core.as_ref()?;
        core.snapshot_at(core.status().applied)
    }

    /// A snapshot begun before is durable.
    pub(super) fn end_snapshot(&mut self, id: NodeId, snapshot: SnapshotMeta) {
        let disk = &mut self.node_mut(id).disk;
        let last = snapshot.last;
        let newer = |log: &SimLog| log.snapshot.as_ref().is_some_and(|it| it.last >= last);
        if newer(&disk.durable) || newer(&disk.written) || !disk.durable.holds(last) {
            return; // One that was installed meanwhile has overtaken it.
        }
        let history = disk.durable.history[..last.index.0 as usize].to_vec();
        disk.durable.snapshot = Some(snapshot.clone());
        disk.written.snapshot = Some(snapshot.clone());
        let content = (snapshot, history);
        let known = self.snapshots.entry(last).or_insert_with(|| content.clone());
        assert_eq!(*known, content, "two snapshots of {last} differ (S5)");
        self.say(format!("{} has a snapshot of {last}", super::show::node(id)));
        self.input(id, |core| core.snapshot_taken(last));
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

    /// Ticks one node until it asks for pre-votes. A question travels on a connection, so that whoever
    /// may get it has acknowledged one: the asker knows its process.
    pub(super) fn campaign(&mut self, id: NodeId) {
        for other in self.ids() {
            self.acknowledge(id, other);
        }
        for _ in 0..1000 {
            let before = (self.soft(id).role, self.wire.len() + self.lost.len());
            self.input(id, Node::tick);
            if (self.soft(id).role, self.wire.len() + self.lost.len()) != before {
                return;
            }
        }
        panic!("{id} does not campaign");
    }
}
