//! What the core wants done.
//!
//! The ordering contract, which the runtime carries out in one function and in this order:
//!
//! 1. `persist` is handed to the disk. Batches complete in the order in which they were handed over;
//!    each completion comes back as [`Node::persisted`](super::node::Node::persisted) with its token.
//! 2. `send_now` may leave at once: nothing in it claims anything that is not durable (S17).
//! 3. `replicate` may leave at once: a leader sends entries while its own write is in flight, and
//!    counts itself only after `persisted` (dissertation 10.2.1).
//! 4. `send_after_persist` is held back until the disk has completed the named token.
//! 5. `commit` lets the state machine apply.
//! 6. `reads` and `soft_state` are answers for waiting clients and for status.

use super::message::{Envelope, RequestId};
use super::types::{Entry, HardState, Index, LogId, NodeId, SoftState, Term};

/// Names one batch handed to the disk; they grow by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistToken(pub u64);

/// Names one waiting linearizable read or batch of reads. Made by the runtime, returned unread; the
/// rounds that confirm leadership are the core's own (R1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// One batch for the disk, atomic and in order: first the hard state, then the truncation, then the
/// entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Reported back when all of it is durable.
    pub token: PersistToken,
    /// New term and vote, if they changed.
    pub hard_state: Option<HardState>,
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
    /// For the disk.
    pub persist: Option<Persist>,
    /// Messages that may leave at once.
    pub send_now: Vec<Envelope>,
    /// Messages that claim something durable, each with the token it waits for. A token that has
    /// completed already means: now.
    pub send_after_persist: Vec<(PersistToken, Envelope)>,
    /// Appends to read and send.
    pub replicate: Vec<SendRange>,
    /// What may be applied, if it moved: everything up to and including this index. It is committed,
    /// and on this node's own disk as well, so that the state machine is never ahead of a log that
    /// lost its tail (S10). It only grows (S6).
    pub commit: Option<Index>,
    /// Reads that can be answered or must be refused.
    pub reads: Vec<ReadOutcome>,
    /// Role, term or leader, if one changed.
    pub soft_state: Option<SoftState>,
    /// The leadership has ended; what was proposed in it and is not committed has an unknown outcome
    /// (C3, C5).
    pub leadership_lost: bool,
}
