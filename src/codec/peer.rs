//! What nodes say to each other beside the protocol's own messages: pieces of snapshots, and hashes of
//! their content.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::shared;
use crate::raft::{Index, NodeId, SnapshotId, Term};

/// Arguments of `Raft.Snapshot`: one piece of a snapshot file, or, without bytes, the question where to
/// go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Who sends.
    pub from: NodeId,
    /// For whom.
    pub to: NodeId,
    /// The sender's term, in which it leads.
    pub term: Term,
    /// Of which file.
    pub snapshot: SnapshotId,
    /// Where the piece belongs in the file.
    pub offset: u64,
    /// CRC-32C of the piece.
    pub crc: u32,
    /// The piece; empty: only a question.
    #[serde(with = "shared")]
    pub data: Bytes,
}

/// Reply of `Raft.Snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkReply {
    /// The receiver holds the file up to here, and takes nothing but the piece that begins here.
    pub next: u64,
    /// It holds all of it, and has checked it: the install may follow.
    pub complete: bool,
}

/// Arguments of `Raft.Audit`: the leader compares the content of the state machines (S5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Who asks; it leads.
    pub from: NodeId,
    /// Who is asked.
    pub to: NodeId,
    /// The leader's term.
    pub term: Term,
    /// What is wanted.
    pub ask: AuditAsk,
}

/// What the leader wants to know or to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditAsk {
    /// The hash of the receiver's content as of this index.
    Hash {
        /// The agreed index.
        index: Index,
    },
    /// What was found: a majority of the voters has this hash, or there is no majority of equal ones.
    Verdict {
        /// The agreed index.
        index: Index,
        /// The majority's hash.
        hash: Option<u64>,
    },
}

/// Reply of `Raft.Audit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReply {
    /// The hash at the index asked for; none if the receiver does not know it (any more, or yet).
    pub hash: Option<u64>,
}
