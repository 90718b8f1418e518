//! Identifiers and the small values every part of Balsa shares.
//!
//! Each is a newtype, so that a term can never be passed where an index is meant.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::membership::Membership;

/// The identity of one data directory: drawn at random when the directory is created and never used
/// again, so that a node that lost its disk cannot vote or acknowledge under its former past
/// (correctness M7, D17). Zero is never a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

/// The identity of one cluster, drawn at random by the founding. Zero is never a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub u64);

/// A leadership period, from 1. Zero means "none yet".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

/// A position in the log, from 1. Zero means "before the first entry".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Index(pub u64);

/// A counter that a data directory raises durably each time a process opens it, so that of two
/// processes under one node id the newer one can be told (correctness K4). Its lower half is drawn
/// ([`went_back`](super::went_back)).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boot(pub u64);

/// An entry's full name. Compared as a pair, term first, exactly as Raft §5.4.1 asks (S12).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// Term in which a leader created the entry.
    pub term: Term,
    /// Where the entry stands.
    pub index: Index,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Appended by a new leader, so that it can commit what it found (Raft §5.4.2, R1).
    Noop,
    /// Bytes for the state machine; the core never looks inside.
    Command(Bytes),
    /// The members from here on. Active as soon as it is appended (correctness M1).
    Membership(Arc<Membership>),
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Term and index.
    pub id: LogId,
    /// What it carries.
    pub payload: Payload,
}

/// Term and vote: one record, written in one piece, before any message that depends on it
/// (correctness S7, 6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term this node has seen.
    pub term: Term,
    /// Who got this node's vote in that term.
    pub vote: Option<NodeId>,
}

/// The most this node has seen of another node id: how a directory that went back in time is told
/// (a volume restored from an older copy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its highest boot counter.
    pub boot: Boot,
    /// Its highest term.
    pub term: Term,
    /// The highest index it acknowledged.
    pub acknowledged: Index,
}

impl Seen {
    /// The higher one in each of the three.
    #[must_use]
    pub fn max(self, other: Seen) -> Seen {
        Seen {
            boot: self.boot.max(other.boot),
            term: self.term.max(other.term),
            acknowledged: self.acknowledged.max(other.acknowledged),
        }
    }
}

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleKind {
    /// Receives entries and counts for no quorum.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether an election could be won, without raising the term.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Role, term and known leader: volatile, for status and for hints to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftState {
    /// What the node is.
    pub role: RoleKind,
    /// Its term.
    pub term: Term,
    /// Who leads that term, as far as the node knows.
    pub leader: Option<NodeId>,
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl Index {
    /// Before the first entry.
    pub const ZERO: Index = Index(0);

    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The index before this one; zero stays zero.
    #[must_use]
    pub fn prev(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

impl LogId {
    /// The position before the first entry.
    pub const ZERO: LogId = LogId { term: Term(0), index: Index(0) };

    /// A log id from plain numbers; for tests and messages to people.
    #[must_use]
    pub fn new(term: u64, index: u64) -> LogId {
        LogId { term: Term(term), index: Index(index) }
    }
}

impl Payload {
    /// Bytes this payload counts for in windows and limits. Never zero, so that a window in bytes
    /// also bounds empty entries.
    #[must_use]
    pub fn size(&self) -> u32 {
        const OVERHEAD: usize = 32;
        let body = match self {
            Payload::Noop => 0,
            Payload::Command(bytes) => bytes.len(),
            Payload::Membership(membership) => membership.size(),
        };
        u32::try_from(body + OVERHEAD).unwrap_or(u32::MAX)
    }
}

impl Entry {
    /// Where the entry stands.
    #[must_use]
    pub fn index(&self) -> Index {
        self.id.index
    }
}

macro_rules! show {
    ($type:ty, $format:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
show!(NodeId, "{:016x}");
show!(ClusterId, "{:016x}");
show!(Term, "{}");
show!(Index, "{}");
show!(Boot, "{}");

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RoleKind::Learner => "learner",
            RoleKind::Follower => "follower",
            RoleKind::PreCandidate => "pre_candidate",
            RoleKind::Candidate => "candidate",
            RoleKind::Leader => "leader",
        })
    }
}
