//! Every message between actors, in one place. Commands are imperative, events past tense, queries
//! nouns. Each says who sends it, who receives it, whether it may be lost or repeated, and what
//! happens when the receiver is full.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;

use crate::codec::api::{Code, GetArgs, LeaderHint, RangeArgs, Refusal};
use crate::kv;
use crate::raft::founding::Answer;
use crate::raft::seats::{Join, SeatQuestion};
use crate::raft::{
    ClusterId, Envelope, Index, LogId, NodeId, RequestId, Seen, SendRange, SendSnapshot,
    SnapshotMeta,
};
use crate::rpc::{Connection, Responder};

use super::disk_thread::DiskEvent;
use super::gate::Permit;
use super::inquirer::NoAnswer;
use super::snapshot_taker::Taking;

/// Time has passed. Election timer → node. May be lost; a backlog counts as one (the number tells).
/// Full: dropped, the next one stands for it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TickElapsed {
    /// Counts up by one with each tick.
    pub number: u64,
}

/// A peer's request. Connection → node. May be lost or repeated, as on any network. Full: refused as
/// busy, and the peer tries again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RequestReceived {
    /// What the peer says; its connection has proved who it is.
    pub envelope: Envelope,
    /// Takes the core's answer.
    pub reply: Responder,
}

/// A peer's answer, or its absence. Replicator → node. One for each request sent, so bounded by the
/// core's own windows; never refused.
#[derive(Message)]
#[rtype(result = "()")]
pub enum ReplyReceived {
    /// It answered.
    Answered(Envelope),
    /// It did not: connection lost, deadline passed, refused.
    Unanswered {
        /// Which peer.
        peer: NodeId,
        /// Which request.
        request: RequestId,
    },
    /// A connection to it is up: it has judged and accepted this node's hello, and claims of itself what
    /// a hello of its own would. Goes before every answer that comes over this connection.
    Greeted {
        /// Which peer.
        peer: NodeId,
        /// What it claims of itself.
        claims: Seen,
    },
}

/// A peer's hello was accepted. Connection → node. Bounded by the connections taken; must come before
/// the requests on that connection.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Introduced {
    /// Which peer.
    pub peer: NodeId,
    /// What it claims of itself.
    pub claims: Seen,
}

/// The peer's process is gone: its connection was reset and the redial refused. Replicator → node. A
/// hint; may be lost.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PeerGone {
    /// Which peer.
    pub peer: NodeId,
}

/// A client's command and where its answer goes.
pub struct Proposal {
    /// The encoded command, exactly as it will stand in the log.
    pub command: Bytes,
    /// Where the answer goes.
    pub waiter: Waiter,
}

/// Who waits for an answer, and what the wait holds of the node's limits.
pub struct Waiter {
    /// Takes the answer.
    pub reply: Responder,
    /// Given back with the answer.
    pub permit: Permit,
}

impl Waiter {
    /// Answers with a refusal.
    pub fn refuse(self, refusal: Refusal) {
        // Whoever does not lead sends the client on; that is how it finds the leader.
        if refusal.code != Code::NotLeader {
            self.permit.note_failure();
        }
        self.reply.refuse(refusal);
    }

    /// The answer for a command that was appended and whose fate this node can no longer tell (C3).
    pub fn outcome_unknown(self) {
        self.refuse(Refusal::new(
            Code::Unknown,
            "leadership ended before the command was committed; retry with the same serial to find out",
        ));
    }

    /// The answer for a command that was committed, and whose reply a snapshot in place of its entry
    /// has overtaken (C5).
    pub fn overtaken(self) {
        self.refuse(Refusal::new(
            Code::Unknown,
            "a snapshot took the place of the command's entry; retry with the same serial to find out",
        ));
    }
}

/// Append these commands, all or none. Connection → node. Never lost silently: the waiters are
/// answered. Full: refused as busy before any work.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Propose {
    /// All proposals decoded from one read of a connection.
    pub proposals: Vec<Proposal>,
}

/// What a linearizable read wants.
pub enum ReadArgs {
    /// One key.
    Get(GetArgs),
    /// A page of keys.
    Range(RangeArgs),
}

/// One waiting read.
pub struct Read {
    /// What is wanted.
    pub args: ReadArgs,
    /// Where the answer goes.
    pub waiter: Waiter,
}

/// Answer these reads linearizably. Connection → node. Full: refused as busy.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReadIndex {
    /// All reads decoded from one read of a connection.
    pub reads: Vec<Read>,
}

/// Answer these reads once `index` is applied. Node → applier. Bounded by the reads admitted.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ServeReads {
    /// What must be applied before.
    pub index: Index,
    /// The reads.
    pub reads: Vec<Read>,
}

/// Refuse the reads whose index is not about to be applied: the leadership that confirmed them has
/// ended, and their index may be long in coming. Node → applier, once for each leadership.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RefuseReads;

/// Apply everything up to and including `upto`. Node → applier. Bounded by the proposals admitted and
/// by the applied-lag limit; never dropped.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Apply {
    /// The commit index.
    pub upto: Index,
    /// Who waits for which entry, in order.
    pub waiters: Vec<(Index, Waiter)>,
}

/// The state machine has applied up to here. Applier → node. Later ones stand for earlier ones; one
/// for each `Apply` at most.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Applied {
    /// The applied index.
    pub upto: Index,
    /// Bytes of the entries applied since the last one of these.
    pub bytes: u64,
}

/// The installed snapshot is durable and takes the place of the state machine's content. Node →
/// applier, once for each installed snapshot; never dropped.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Restore(pub SnapshotMeta);

/// Freeze the state machine's content for a snapshot. Node → applier, one at a time; never dropped.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Freeze;

/// The frozen content. Applier → node, once for each `Freeze`, behind the `Applied` of what it holds.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Froze(pub kv::Frozen);

/// What became of a snapshot. Snapshot thread → node, once for each one begun; never refused.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SnapshotReported(pub Taking);

/// An admin wants a snapshot of all that is applied. Connection → node. Full: refused as busy.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeSnapshot {
    /// Takes the answer.
    pub reply: Responder,
}

/// Keep this table of what was seen of each node; it is written with the next hard state. Node →
/// storage, at the pace of heartbeats.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NoteSeen(pub Arc<BTreeMap<NodeId, Seen>>);

/// Remove what the log holds up to and including this entry. Node → storage; one for each snapshot.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PurgeLog(pub LogId);

/// Make this batch durable. Node → storage. Bounded by the node's limit on outstanding batches; never
/// dropped.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PersistBatch(pub crate::raft::Persist);

/// What the disk did. Disk thread → node. One for each group; never refused.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DiskReported(pub DiskEvent);

/// Everything handed over is durable and the disk thread has ended. Query to storage, at the end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FinishDisk;

/// Read this range and send it as one append. Node → replicator. Bounded by the core's window of
/// unanswered appends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Replicate(pub SendRange);

/// Send this request (vote, heartbeat). Node → replicator. Answered by `ReplyReceived`, also when it
/// cannot be sent.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SendRequest(pub Envelope);

/// Send a snapshot, and then the install. Node → replicator, one at a time for each peer. Answered by
/// `ReplyReceived`, also when it is given up.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StreamSnapshot(pub SendSnapshot);

/// The peer has left: close the connections and end. Node → replicator, once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave;

/// A connection to the peer is up, or could not be had. Dial task → replicator.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Dialled {
    /// It is up.
    Up(Lane, Connection),
    /// It is not; try again after the back-off.
    Failed {
        /// Which lane.
        lane: Lane,
        /// Nothing listens at the peer's address.
        refused: bool,
        /// Certificates or identities stand in the way: why, in a sentence.
        distrust: Option<String>,
    },
}

/// A connection should be made anew: a certificate was replaced, on either side. Watch task →
/// replicator.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stale {
    /// Which lane.
    pub lane: Lane,
    /// Which of the lane's connections.
    pub number: u64,
}

/// A connection ended. Watch task → replicator.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ended {
    /// Which lane.
    pub lane: Lane,
    /// Which of the lane's connections.
    pub number: u64,
    /// The peer wants it anew (reload, ageing): no sign that its process is gone.
    pub renewed: bool,
    /// Why, for the log.
    pub reason: String,
}

/// The two lasting connections to a peer: heartbeats and votes never wait behind appends. A snapshot
/// has one of its own, for as long as it is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Votes and heartbeats.
    Control,
    /// Appends.
    Bulk,
}

/// The node's state. Query to the node; answered from its core.
#[derive(Message)]
#[rtype(result = "crate::raft::NodeStatus")]
pub struct Status;

/// Give the leadership to whoever would lead soonest, if this node has it. Supervisor → node, before a
/// stop; the answer tells whether a hand-over has begun.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct HandOver;

/// Stop the process in good order. Anyone → supervisor. Repeats are ignored.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct Stop {
    /// For the log.
    pub reason: Arc<str>,
}

/// Begin anew as a node that lost its disk: set the directory aside and come back empty, to be taken in
/// again. Anyone → supervisor. Repeats are ignored; a stop that is under way goes first.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct StartOver {
    /// For the log, and for the name under which the directory is kept.
    pub reason: Arc<str>,
}

/// A node asks to be taken in. Connection → node. May be lost or repeated; the node asks again. Full:
/// refused as busy.
#[derive(Message)]
#[rtype(result = "()")]
pub struct JoinAsked {
    /// Who; the connection has proved its seat and its node id.
    pub join: Join,
    /// Takes the answer.
    pub reply: Responder,
}

/// What an admin wants of the members, by the names of seats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take the node at this address in.
    Add {
        /// The seat.
        name: String,
        /// Where its node is reached.
        address: String,
    },
    /// Let a learner vote.
    Promote {
        /// The seat.
        name: String,
    },
    /// Remove whoever sits there.
    Remove {
        /// The seat.
        name: String,
    },
    /// Let the seat's voter lead.
    Transfer {
        /// The seat.
        name: String,
    },
}

/// An admin's order. Connection → node. Never lost silently: it is answered when it is carried out, or
/// cannot be, or has taken too long. Full: refused as busy before any work.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ordered {
    /// What is wanted.
    pub order: Order,
    /// Takes the answer.
    pub reply: Responder,
}

/// A seat's address was asked who is there. Asking task → node. One for each question, each with a
/// deadline, and questions are bounded by the seats.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AddressAnswered {
    /// Who was looked for, and where.
    pub question: SeatQuestion,
    /// For which of an admin's orders; none: for the policy of the seats.
    pub order: Option<u64>,
    /// The answer, or why there is none.
    pub answer: Result<Answer, NoAnswer>,
}

/// Which cluster this node may be taken into at the moment: the only one there is, as long as the node
/// has none and holds no draft. Founder → joiner, whenever that changes; never lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct ClusterHeard {
    /// The cluster.
    pub cluster: Option<ClusterId>,
    /// Nodes that named it in the last round of asking; they may be in none of the seats known here.
    pub members: Vec<LeaderHint>,
}

/// A cluster has taken this node in: the entry that says so is committed. Joiner → founder, which writes
/// it down and passes it on to the supervisor, which starts the member with an empty log. Never lost;
/// repeats are ignored.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakenIn {
    /// The cluster.
    pub cluster_id: ClusterId,
}
