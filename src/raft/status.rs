//! What a node begins with, and what can be seen of it.

use std::collections::BTreeMap;

use super::log_shape::LogShape;
use super::membership::Membership;
use super::node::{Node, Role, soft_state};
use super::snapshot::SnapshotMeta;
use super::types::{Boot, HardState, Index, LogId, NodeId, Seen, SoftState};

/// What a node finds on its disk when it starts.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// Which entries the log holds; all of them are durable.
    pub log: LogShape,
    /// Every membership in the log, oldest first, with the index of its entry. With a log from its
    /// beginning, at least the one of the founding record; only a node that waits to be taken in has
    /// neither a log nor a snapshot.
    pub memberships: Vec<(Index, Membership)>,
    /// The newest snapshot, which the log goes on from: it holds the snapshot's last entry, or that is
    /// its purge point.
    pub snapshot: Option<SnapshotMeta>,
    /// What the state machine has applied already: the snapshot's last index, or zero.
    pub applied: Index,
    /// This process's boot counter, durable already.
    pub boot: Boot,
    /// What was remembered of each member ([`Node::seen`](super::node::Node::seen)).
    pub seen: BTreeMap<NodeId, Seen>,
    /// The highest index that this directory's log ever held, also of entries that were truncated since,
    /// or that a snapshot replaced: what the node may have acknowledged.
    pub reached: Index,
}

/// Where the members of a cluster stand, as the leader sees one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The member.
    pub id: NodeId,
    /// Highest index known to be on its disk.
    pub matched: Index,
    /// Whether it was heard within the last election timeout.
    pub active: bool,
}

/// A consistent look at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// This node.
    pub id: NodeId,
    /// Role, term, leader.
    pub soft_state: SoftState,
    /// First index the log still holds; one behind the last in an empty log.
    pub first: Index,
    /// Last entry, durable or not.
    pub last: LogId,
    /// Last durable index.
    pub persisted: Index,
    /// Last entry of the newest snapshot; zero if there is none.
    pub snapshot: LogId,
    /// Where the active membership stands in the log.
    pub membership_index: Index,
    /// Commit index.
    pub commit: Index,
    /// What this term's leader is known to have committed, which may lie ahead of `commit`; a leader's own,
    /// and zero where nobody leads or the leader has not said it yet.
    pub leader_commit: Index,
    /// Applied index.
    pub applied: Index,
    /// Only of a leader: its peers, for a moment also those that have just left.
    pub peers: Vec<PeerStatus>,
    /// This node was a member, is none any more, and that is committed. A node that restarts with its past
    /// purged does not know it any more; its peers do.
    pub removed: bool,
    /// Only of a leader: to whom it is handing over.
    pub transfer: Option<NodeId>,
}

impl Node {
    /// Up to here the log as it is now is durable.
    #[must_use]
    pub fn persisted_index(&self) -> Index {
        self.common.disk.persisted()
    }

    /// A consistent look at the node.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let peers = match &self.role {
            Role::Leader(leader) => leader
                .peers()
                .map(|(id, progress)| PeerStatus {
                    id,
                    matched: progress.matched(),
                    active: progress.heard_within(self.common.election_min()),
                })
                .collect(),
            _ => Vec::new(),
        };
        let transfer = match &self.role {
            Role::Leader(leader) => leader.transfers_to(),
            _ => None,
        };
        let leader_commit = match &self.role {
            Role::Leader(_) => self.common.commit(),
            Role::Follower(follower) => follower.leader_commit(),
            _ => Index::ZERO,
        };
        NodeStatus {
            id: self.common.id,
            soft_state: soft_state(&self.common, &self.role),
            first: self.common.log.first_index(),
            last: self.common.log.last(),
            persisted: self.common.disk.persisted(),
            snapshot: self.common.snapshot(),
            membership_index: self.common.membership_index(),
            commit: self.common.commit(),
            leader_commit,
            applied: self.common.applied(),
            peers,
            removed: self.common.is_removed(),
            transfer,
        }
    }
}
