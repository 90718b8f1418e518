//! What the core wants done.
//!
//! The ordering contract, which the runtime carries out in one function and in this order:
//!
//! 0. `membership` names the peers from now on: whoever is new in it may be sent to in this very input.
//!    `seen` is told to the storage, which writes it with the next hard state, that of `persist` if there
//!    is one.
//! 1. `persist` is handed to the disk. Batches complete in the order in which they were handed over;
//!    each completion comes back as [`Node::persisted`](super::node::Node::persisted) with its token.
//! 2. `send_now` may leave at once: nothing in it claims anything that is not durable (S17).
//! 3. `replicate` and `snapshots` may leave at once: a leader sends entries while its own write is in
//!    flight, and counts itself only after `persisted` (dissertation 10.2.1).
//! 4. `send_after_persist` is held back until the disk has completed the named token.
//! 5. `restore` replaces the state machine's content, `commit` lets it apply, `purge` frees what no
//!    one needs any more.
//! 6. `reads`, `soft_state` and `went_back` are answers for waiting clients and for status.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::membership::Membership;
use super::message::{Envelope, RequestId};
use super::snapshot::SnapshotMeta;
use super::types::{Entry, HardState, Index, LogId, NodeId, Seen, SoftState, Term};

/// Names one batch handed to the disk; they grow by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistToken(pub u64);

/// Names one waiting linearizable read or batch of reads. Made by the runtime, returned unread; the
/// rounds that confirm leadership are the core's own (R1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// One batch for the disk, in order: first the hard state, then the snapshot, then the truncation, then
/// the entries. Truncation and entries are one atomic step (L2); a crash before or after an installed
/// snapshot leaves the log it replaces, or the snapshot with a log that begins behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Reported back when all of it is durable.
    pub token: PersistToken,
    /// New term and vote, if they changed.
    pub hard_state: Option<HardState>,
    /// Make this snapshot, received and checked, the current one (its file and its directory entry
    /// durable), and the log an empty one that begins behind it: nothing of the present log stays,
    /// since it does not hold the snapshot's last entry. Recovery finishes what a crash interrupts: a
    /// log that does not hold the snapshot's last entry goes.
    pub install: Option<SnapshotMeta>,
    /// Drop everything behind this index before appending; a conflicting suffix (Raft §5.3, L1, L2).
    pub truncate_after: Option<Index>,
    /// Entries to append, contiguous.
    pub entries: Vec<Entry>,
}

/// Entries that a peer should get now. The core knows the log's shape, not its bytes: the runtime
/// reads the payloads and sends them as one `Append`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRange {
    /// The peer.
    pub to: NodeId,
    /// Copied into the envelope.
    pub request: RequestId,
    /// The leader's term, copied into the envelope; if the leader has lost it meanwhile the range may
    /// no longer exist, and the runtime drops it.
    pub term: Term,
    /// Log id just before the first entry.
    pub base: LogId,
    /// Last index to send, inclusive; equal to `base.index` for a probe without entries.
    pub upto: Index,
    /// What to say as committed.
    pub commit: Index,
}

/// A peer whose log ends before this leader's begins should get a snapshot. The runtime sends the
/// newest one it has, at least `snapshot`, then an [`Install`](super::message::Install) with this
/// request id, whose answer comes back as a message. If it gives up at any step, that is
/// [`Node::unanswered`](super::node::Node::unanswered); until then the core sends this peer nothing but
/// heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendSnapshot {
    /// The peer.
    pub to: NodeId,
    /// Copied into the envelope of the install.
    pub request: RequestId,
    /// The leader's term, copied into that envelope.
    pub term: Term,
    /// The last entry of the newest snapshot the core knows.
    pub snapshot: LogId,
}

/// Why a proposal or a read is not carried out. In each case nothing entered the log (C3: refused).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another node leads, or nobody does.
    NotLeader {
        /// Who leads, as far as known.
        leader: Option<NodeId>,
    },
    /// The uncommitted bytes are at their limit; try again.
    Busy,
    /// This node is handing the leadership over; try again, best at the successor (E12).
    Transferring {
        /// To whom.
        to: NodeId,
    },
    /// The disk has no room for entries, and nobody else is known to lead.
    NoSpace,
}

/// The fate of a read that was waiting for its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// Which read.
    pub token: ReadToken,
    /// The index that must be applied before reading, or why not.
    pub result: Result<Index, Refusal>,
}

/// Everything one input caused.
#[must_use = "effects that are not run are lost messages and lost writes"]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The active membership, if it is another than before: appended, restored by a truncation, or
    /// brought by a snapshot (M1).
    pub membership: Option<Arc<Membership>>,
    /// What is remembered of each member, all of it, if it changed; at the pace of heartbeats, and with each
    /// new term or vote. For the storage, and for judging hellos. It replaces the one before.
    pub seen: Option<Arc<BTreeMap<NodeId, Seen>>>,
    /// For the disk.
    pub persist: Option<Persist>,
    /// Messages that may leave at once.
    pub send_now: Vec<Envelope>,
    /// Messages that claim something durable, each with the token it waits for. A token that has
    /// completed already means: now.
    pub send_after_persist: Vec<(PersistToken, Envelope)>,
    /// Appends to read and send.
    pub replicate: Vec<SendRange>,
    /// Snapshots to send.
    pub snapshots: Vec<SendSnapshot>,
    /// This installed snapshot is durable, and is the storage's current one: the state machine takes over
    /// its content, sessions and all, in place of what it has, then
    /// [`Node::applied`](super::node::Node::applied) is called with its last index. Before that nothing
    /// behind it is to be applied, though a `commit` may follow in the same effects. Entries of the former
    /// log that were handed out for applying before may be gone; the snapshot covers them. If a newer one
    /// has been installed by the time it is read, that one will do: its own `restore` is on its way. It comes
    /// once for each installed snapshot, and not after a start, when the runtime itself restores the state
    /// machine from the snapshot it names in [`Restored`](super::status::Restored).
    pub restore: Option<SnapshotMeta>,
    /// What may be applied, if it moved: everything up to and including this index. It is committed,
    /// and on this node's own disk as well, so that the state machine is never ahead of a log that
    /// lost its tail (S10). It only grows (S6).
    pub commit: Option<Index>,
    /// The entries up to and including this one may leave the disk, now or at any later time: a durable
    /// snapshot covers them. Before a range that was asked for is read they may be gone; such a request
    /// is [`Node::unanswered`](super::node::Node::unanswered). Each takes the place of the one before, and
    /// every snapshot brings one: the runtime may leave one out, while it still reads there.
    pub purge: Option<LogId>,
    /// This node's directory went back in time: a peer remembers more of it than it holds. It neither votes
    /// nor campaigns any more, and goes the way of a lost disk. May be repeated.
    pub went_back: Option<(NodeId, Seen)>,
    /// Reads that can be answered or must be refused.
    pub reads: Vec<ReadOutcome>,
    /// Role, term or leader, if one changed.
    pub soft_state: Option<SoftState>,
    /// The leadership has ended; what was proposed in it and is not committed has an unknown outcome
    /// (C3, C5).
    pub leadership_lost: bool,
}
