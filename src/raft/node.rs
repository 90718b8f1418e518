//! The protocol's entry points: one input in, one [`Effects`] out.

use bytes::Bytes;

use super::effects::{Effects, PersistToken, ReadToken, Refusal};
use super::log_shape::LogShape;
use super::membership::Membership;
use super::message::{Envelope, RequestId};
use super::options::Options;
use super::types::{HardState, Index, LogId, NodeId, SoftState};

/// What a node finds on its disk when it starts.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// Which entries the log holds; all of them are durable.
    pub log: LogShape,
    /// Every membership in the log, oldest first, with the index of its entry; at least the one of
    /// the founding record.
    pub memberships: Vec<(Index, Membership)>,
    /// What the state machine has applied already (zero until there are snapshots).
    pub applied: Index,
}

/// One member's Raft state.
#[derive(Debug)]
pub struct Node {}

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
    /// Last entry, durable or not.
    pub last: LogId,
    /// Last durable index.
    pub persisted: Index,
    /// Commit index.
    pub commit: Index,
    /// Applied index.
    pub applied: Index,
    /// Only of a leader: its peers.
    pub peers: Vec<PeerStatus>,
}

#[allow(unused_variables)]
impl Node {
    /// A node as it starts: follower (or learner) in its restored term. `seed` feeds the one generator
    /// from which election timeouts are drawn.
    #[must_use]
    pub fn new(id: NodeId, options: Options, seed: u64, restored: Restored) -> Node {
        todo!()
    }
    /// One tick of time has passed.
    pub fn tick(&mut self) -> Effects {
        todo!()
    }
    /// A message arrived.
    pub fn step(&mut self, envelope: Envelope) -> Effects {
        todo!()
    }
    /// Clients want these commands appended, all or none. On success they stand at the returned log
    /// ids: the first one, the others behind it in the same term.
    pub fn propose(&mut self, commands: Vec<Bytes>) -> (Result<LogId, Refusal>, Effects) {
        todo!()
    }
    /// A client wants a linearizable read. The answer is in `Effects::reads`, now or later.
    pub fn read_index(&mut self, token: ReadToken) -> Effects {
        todo!()
    }
    /// The disk completed a batch, and with it every earlier one.
    pub fn persisted(&mut self, token: PersistToken) -> Effects {
        todo!()
    }
    /// The state machine has applied everything up to and including this index.
    pub fn applied(&mut self, upto: Index) -> Effects {
        todo!()
    }
    /// A request to a peer ended without an answer (connection lost, deadline passed). What it carried
    /// may or may not have arrived.
    pub fn unanswered(&mut self, peer: NodeId, request: RequestId) -> Effects {
        todo!()
    }
    /// The connection to a peer was reset and the immediate redial was refused: its process is gone. A
    /// hint that shortens a wait; safety never rests on it (design: time and election).
    pub fn peer_gone(&mut self, peer: NodeId) -> Effects {
        todo!()
    }
    /// A consistent look at the node.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        todo!()
    }
    /// The active membership.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        todo!()
    }
}
