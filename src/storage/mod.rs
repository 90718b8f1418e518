//! LAYER 2: the disk. Blocking `std::fs` behind a small trait; no actors, no protocol decisions.

use crate::raft::{Entry, HardState, Index, LogShape, Membership, PersistToken};

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
}

/// A durable log with term and vote: one ordered stream of records.
///
/// The disk thread is its only writer. A batch is written by [`append`](LogStore::append) and durable
/// after the next [`sync`](LogStore::sync); several batches may share one sync (group commit).
pub trait LogStore: Send {
    /// Writes a batch behind the others. Not durable yet.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]: nothing was written and the log is as before; the caller may go on.
    /// Any other error: the caller must end the process.
    fn append(&mut self, batch: &Batch) -> Result<(), StorageError>;

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// The first failed sync is final (D1): the caller must end the process.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// A handle that reads durable and written entries from another thread.
    fn reader(&self) -> Box<dyn LogReader>;
}

/// Reads entries, checking every record's checksum (D16).
pub trait LogReader: Send + Sync {
    /// Entries behind `after` up to and including `upto`, as many as fit into `max_bytes` (at least
    /// one), contiguous.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] if the range is (no longer) there; other errors are the disk's.
    fn read(&self, after: Index, upto: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError>;
}

/// What can go wrong with the disk.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No room for entries. Nothing was written; term and vote still have their reserve.
    #[error("no space left for the log in {path}: make room; the node goes on by itself")]
    NoSpace {
        /// The data directory.
        path: String,
    },
    /// The range was purged, truncated or never written.
    #[error("the log does not hold the entries behind {after} up to {upto}")]
    OutOfRange {
        /// Asked behind this index.
        after: Index,
        /// Asked up to this index.
        upto: Index,
    },
    /// Damage that is no torn tail (D8). Exit status 65.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// What is wrong, and the way out.
        what: String,
    },
    /// The directory is locked by another process. Exit status 73.
    #[error(
        "{path} is in use by another process; stop it first, or give this node its own --data-dir"
    )]
    Locked {
        /// The directory.
        path: String,
    },
    /// The directory belongs to another node or cluster. Exit status 73.
    #[error("{path} belongs to {found}, not to {expected}")]
    Foreign {
        /// The directory.
        path: String,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Written by a newer version. Exit status 76.
    #[error("{path} has format {found}, this version reads up to {known}: use a newer srvraft")]
    NewerFormat {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// The disk failed. Exit status 74.
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

/// Reported by the disk thread: this batch and all before it are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The newest completed batch.
    pub token: PersistToken,
}
