//! What a node begins with, and what can be seen of it.

use super::log_shape::LogShape;
use super::membership::Membership;
use super::snapshot::SnapshotMeta;
use super::types::{HardState, Index, LogId, NodeId, SoftState};

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
    /// Applied index.
    pub applied: Index,
    /// Only of a leader: its peers, for a moment also those that have just left.
    pub peers: Vec<PeerStatus>,
    /// Only of a leader: to whom it is handing over.
    pub transfer: Option<NodeId>,
}
