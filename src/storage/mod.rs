//! LAYER 2: the disk. Blocking `std::fs` behind a small trait; no actors, no protocol decisions.
//!
//! A tour, from the bottom:
//!
//! - [`fs`] is the file system in few calls, [`faulty`] one that fails, fills up and loses power.
//! - `record` is the unit on disk; `segment` a file of records; `small_file` an atomic little file.
//! - `scan` reads records back, `replay` adds them up, `recovery` decides what a broken one means
//!   and `tail` what a start goes on with.
//! - [`wal`] writes, `reader` reads, [`memory`] does both without a disk, for tests.
//! - [`snapshot`] keeps the state up to one entry in a file of checked pieces.
//! - [`directory`] owns the data directory: its lock, its identity, the log and the snapshots in it;
//!   `aside` gives the place of a whole directory to an empty one.
//!
//! # The stream
//!
//! Term, vote and entries share **one ordered stream** of records, so that one sync makes all of
//! them durable in the order in which the protocol asked for them (S7, S17). An entry record takes
//! the place of every entry from its index on, so a conflicting suffix is replaced in one step
//! (L2). The stream lies in numbered segment files; a byte's place in the whole stream is its
//! [`Position`].
//!
//! # Torn tail or damage (D7, D8)
//!
//! Every record says where the log's **durable part ended when it was written**. So a record that
//! can be read proves that everything before that mark was synced once, and hence:
//!
//! - A broken record is **damage** if any sound record carries a mark beyond it, or if a later
//!   segment has begun (a segment is synced before the next one begins). Something durable is lost:
//!   never cut. So it is if a sound record begins a group commit and does not follow the record
//!   that lies before it.
//! - Otherwise it is a **torn tail**: it belongs to the one group commit that was under way. Nobody
//!   was told that this was on disk. It is cut off, together with sound records of the same commit
//!   behind it.
//!
//! What cannot be told apart: damage to the very last group commit, after it was synced and before
//! anything followed it, looks like a commit that was never finished; so does a disk that forgets
//! the newest commits although it said they were synced. The identity file names a segment that had
//! begun at the last start, so at least no segment from before that vanishes unnoticed.
//!
//! # What the chain proves (S3)
//!
//! Every record holds the checksum of the record before it, over the borders of segments too, and a
//! start follows this chain from the first record to the last. So what a start accepts is one
//! history, written by this directory in this order: a record that is sound in itself but was not
//! the one that its successor was written behind is noticed, also one of the same index and term
//! with another payload (a write that got lost or went astray, files of two copies mixed). The test
//! is `a_record_of_the_same_index_and_term_with_another_payload_is_refused`.
//!
//! It does not prove more: the newest record has no successor yet; a single [read](LogReader) checks
//! the record's own checksum and id, not its neighbours; 32 bits catch accidents, not forgers; and
//! each node has a chain of its own, so that it says nothing about what other nodes hold. That equal
//! ids mean equal entries on all nodes is the protocol's work, and checked there.
//!
//! # Crash model
//!
//! The process may die, and the power may fail, between and inside any two calls. Written and
//! unsynced bytes may be there afterwards or not, each sector for itself, also in parts; bytes that
//! were not written again stay as they were. Names are durable after a sync of their directory
//! (D2). A sync that failed once may lie afterwards, so the first failure is final (D1).
//!
//! # Not implemented
//!
//! Scrubbing in the background.

mod aside;
mod contract;
pub mod directory;
pub mod faulty;
pub mod fs;
pub mod memory;
mod reader;
mod record;
mod recovery;
mod replay;
mod scan;
mod segment;
mod small_file;
pub mod snapshot;
mod tail;
mod usage;
pub mod wal;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::raft::{Entry, HardState, Index, LogId, LogShape, Membership, NodeId, SnapshotMeta};

pub use crate::raft::Seen;
pub use aside::{ASIDE_MAX, set_aside, set_aside_lately};
pub use directory::{DataDir, seat_of};
pub use faulty::FaultyDisk;
pub use fs::{Fs, RealFs};
pub use memory::{MemoryDisk, MemoryLog};
pub use snapshot::{
    Incoming, SnapshotContent, SnapshotFile, SnapshotHead, SnapshotStore, SnapshotWriter,
};
pub use usage::{Usage, usage};
pub use wal::{LogOptions, Wal};

/// One batch for the log: what [`raft::Persist`](crate::raft::Persist) asks for.
pub type Batch = crate::raft::Persist;

/// What opening a log finds.
#[derive(Clone, Debug)]
pub struct RestoredLog {
    /// Term and vote; zero and none in a new log.
    pub hard_state: HardState,
    /// Which entries there are; all of them are durable.
    pub shape: LogShape,
    /// Every membership in the log with the index of its entry, oldest first.
    pub memberships: Vec<(Index, Membership)>,
    /// What was seen of other nodes.
    pub seen: BTreeMap<NodeId, Seen>,
    /// The current snapshot, which the log goes on from: it holds the snapshot's last entry, or that is
    /// its purge point. With files [`DataDir::snapshots`] has it.
    pub snapshot: Option<SnapshotMeta>,
    /// The highest index that this log ever held, truncated and purged entries included, or the
    /// snapshot's: this node may have acknowledged it.
    pub reached: Index,
}

/// A byte's place in the stream of all records, over all segments: what "durable up to here"
/// counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(pub(crate) u64);

/// Numbers the segments, from 1; zero stands for "none yet". Never used twice for different
/// content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SegmentNumber(pub(crate) u64);

impl SegmentNumber {
    pub(crate) fn next(self) -> SegmentNumber {
        SegmentNumber(self.0 + 1)
    }
}

/// A durable log with term and vote: one ordered stream of records.
///
/// The disk thread is its only writer. A batch is written by [`append`](LogStore::append) and
/// durable after the next [`sync`](LogStore::sync); several batches may share one sync (group
/// commit).
pub trait LogStore: Send {
    /// Writes a batch behind the others. Not durable yet. A crash keeps a prefix of it: the hard
    /// state, then the snapshot, then the truncation together with the first entry, then one entry
    /// after the other. An install is durable when this returns, and so is what comes before it: the
    /// hard state, then the received snapshot becomes current, then the log begins behind it.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]: nothing was written and the log is as before (but for an install,
    /// whose first steps may be done, and do no harm); the caller may go on, try the same batch again
    /// later, and meanwhile append batches that hold a hard state alone, which have a reserve. Any
    /// other error: the caller must end the process.
    ///
    /// # Panics
    /// If the batch breaks the log's rules: term or vote would go back (S7), a gap, a term that
    /// goes back or exceeds the hard state's (S3, S13), a snapshot whose end the log holds (L8).
    fn append(&mut self, batch: &Batch) -> Result<(), StorageError>;

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// The first failed sync is final (D1): the caller must end the process.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// A handle that reads durable and written entries from another thread.
    fn reader(&self) -> Box<dyn LogReader>;

    /// Replaces the table of what was seen of other nodes. It reaches the disk with the next hard
    /// state, never with a write of its own.
    fn note_seen(&mut self, seen: &BTreeMap<NodeId, Seen>);

    /// Lets the entries up to and including `upto` go, which the current snapshot covers: they can no
    /// longer be read, and files that hold nothing else are removed, the oldest first. Durable when
    /// it returns; nothing if they are gone. After the next start some of them may be back.
    ///
    /// # Errors
    /// The disk's: the caller must end the process.
    ///
    /// # Panics
    /// If the current snapshot ends before (correctness 6.1), or the log does not hold the entry
    /// (S10).
    fn purge(&mut self, upto: LogId) -> Result<(), StorageError>;
}

/// Reads entries, checking every record's checksum (D16).
pub trait LogReader: Send + Sync {
    /// Entries behind `after` up to and including `upto`, as many as fit into `max_bytes` and as are
    /// written yet, but at least one; contiguous. They are the log's as of one moment of the call.
    /// Their payloads may share one buffer: who keeps a small part for long should copy it.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] if not even the first entry of the range is (still, or already)
    /// there; other errors are the disk's, [`StorageError::Damaged`] among them.
    fn read(&self, after: Index, upto: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError>;
}

/// Files take room in blocks of this size, on nearly every file system.
pub(crate) const BLOCK_BYTES: u64 = 4096;

fn kib(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "an unknown number".to_owned(), |bytes| format!("{}", bytes / 1024))
}

/// What can go wrong with the disk.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No room. Nothing was written; term and vote still have their reserve (D11).
    #[error(
        "no space left in {path}: {what} needs about {} KiB, and {} are free; make room on its \
         volume. A running node then goes on by itself",
        needed_bytes.div_ceil(1024),
        kib(*free_bytes)
    )]
    NoSpace {
        /// The file that should have been written, or its directory.
        path: String,
        /// What should have been done.
        what: &'static str,
        /// With so many bytes it works.
        needed_bytes: u64,
        /// What the file system says is free for this process; none if it does not say.
        free_bytes: Option<u64>,
    },
    /// The range was purged, truncated or never written.
    #[error("the log does not hold the entries behind {after} up to {upto}")]
    OutOfRange {
        /// Asked behind this index.
        after: Index,
        /// Asked up to this index.
        upto: Index,
    },
    /// Damage that is no torn tail (D8).
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// What is wrong, and the way out.
        what: String,
    },
    /// A snapshot file that is not what it should be, and on which nothing depends: one that was
    /// received, or just written. It is fetched or taken anew.
    #[error("{path} is no sound snapshot at byte {offset}: {what}; nothing depends on it")]
    UnsoundSnapshot {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// As many directories were set aside as are kept.
    #[error(
        "{path} cannot be set aside: {count} earlier ones are kept already ({example} is one); look \
         at them, and move away or remove those that nobody needs"
    )]
    TooManyAside {
        /// The directory.
        path: String,
        /// How many there are.
        count: usize,
        /// One of them.
        example: String,
    },
    /// The directory is locked by another process.
    #[error(
        "{path} is in use by another process; stop it first, or give this node its own --data-dir"
    )]
    Locked {
        /// The directory.
        path: String,
    },
    /// The directory belongs to another node or cluster.
    #[error("{path} belongs to {found}, not to {expected}")]
    Foreign {
        /// The directory.
        path: String,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Written by a newer version.
    #[error("{path} has format {found}, this version reads up to {known}: use a newer srvraft")]
    NewerFormat {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// The disk failed.
    #[error("{action} {path} failed: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl StorageError {
    /// An error of the operating system: no room, or a failure.
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> StorageError {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let path = path.display().to_string();
        match source.kind() {
            StorageFull | QuotaExceeded => StorageError::NoSpace {
                path,
                what: "a write",
                needed_bytes: BLOCK_BYTES,
                free_bytes: None,
            },
            _ => StorageError::Io { action, path, source },
        }
    }

    /// If there is no room: says for what, how much it takes, and how much there is.
    pub(crate) fn needing(self, fs: &dyn Fs, what: &'static str, bytes: u64) -> StorageError {
        match self {
            StorageError::NoSpace { path, .. } => {
                let free_bytes = fs.free_bytes(Path::new(&path)).ok();
                StorageError::NoSpace { path, what, needed_bytes: bytes, free_bytes }
            }
            other => other,
        }
    }

    /// Damage, with the way out.
    pub(crate) fn damaged(path: &Path, offset: u64, what: impl std::fmt::Display) -> StorageError {
        StorageError::Damaged {
            path: path.display().to_string(),
            offset,
            what: format!(
                "{what}; what was durable here is lost, so this node can no longer keep its \
                 promises. Look after the disk; then start with `--on-damage replace`, or run \
                 `srvraft discard`: the data directory is set aside, nothing of it is removed, and \
                 the node comes back empty and is taken in again by the others. Do so only while a \
                 majority of the other voters is sound"
            ),
        }
    }
}
