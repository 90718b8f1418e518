//! Snapshot files: the state up to one entry, with who the members were, in a file of checked
//! pieces (Raft §7; D13, D14). What the content means is not known here.
//!
//! ```text
//! snapshot/INDEX-TERM.snap                    the current one, checked after it was written
//! snapshot/INDEX-TERM-BYTES-CRC.received      from another node, complete and checked
//! snapshot/INDEX-TERM-BYTES-CRC.part          from another node, on its way; outlives a restart
//! snapshot/NUMBER.tmp                         an own one that is being written; removed by a start
//! ```
//!
//! A file gets a name that counts only when all of it is durable and was read back; then its
//! directory is synced, and only after that the one before it goes. So a crash leaves the old one or
//! the new, and the log is purged behind neither before it is there (D2, D13). Nothing here has a
//! whole snapshot in memory, neither writing nor checking nor sending.
//!
//! # Room
//!
//! A snapshot asks for its room before it begins: one from another node for what is missing of it, an
//! own one for what the last one took and a quarter more; and each leaves `LOG_ROOM_BYTES` to
//! the log. If there is less, or it runs out on the way, that is [`StorageError::NoSpace`]; the file
//! begun is removed, the log is as before, and the caller tries again later. No room is set aside for
//! good: how much the next snapshot takes is not known before, and a file of that size would be
//! missing from every disk that is large enough.

mod format;
mod incoming;
mod store;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::format::Pieces;
use super::StorageError;
use super::fs::File;
use crate::raft::{ClusterId, SnapshotId, SnapshotMeta};

pub use incoming::Incoming;
pub use store::SnapshotStore;
pub use writer::SnapshotWriter;

/// Room that a snapshot leaves to the log.
const LOG_ROOM_BYTES: u64 = 1 << 20;
/// A file that grows is synced whenever it has grown by this much: so a restart can go on with it,
/// and the log's own syncs never queue behind a whole snapshot.
const SYNC_BYTES: u64 = 4 << 20;
/// [`SnapshotFile::read_at`] gives no more at once.
const READ_MAX: usize = 1 << 20;

/// What a snapshot is of: the first piece of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    /// The last entry whose effect it holds, and the members there.
    pub meta: SnapshotMeta,
    /// Whose state it is.
    pub cluster: ClusterId,
    /// The state machine's hash at that entry.
    pub state_hash: u64,
}

/// A complete and checked snapshot. It stays readable for as long as a handle to it lives, also when
/// a newer one has taken its place.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    id: SnapshotId,
    head: SnapshotHead,
    path: PathBuf,
    file: Arc<dyn File>,
}

impl SnapshotFile {
    /// Which file it is.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// What it is of.
    #[must_use]
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes from `offset` on, for sending: at most `max`, and at most a mebibyte; none
    /// behind the end. They are not checked here; the receiver checks all of them (D16).
    ///
    /// # Errors
    /// The disk's.
    pub fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, StorageError> {
        let rest = usize::try_from(self.id.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; max.min(READ_MAX).min(rest)];
        let count = self
            .file
            .read_at(&mut buffer, offset)
            .map_err(|error| StorageError::io("reading", &self.path, error))?;
        buffer.truncate(count);
        Ok(Bytes::from(buffer))
    }

    /// The content as it was written, piece by piece, each one checked (D16).
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if the file is no longer what it was; the disk's.
    pub fn content(&self) -> Result<SnapshotContent, StorageError> {
        let (pieces, _) = Pieces::open(Arc::clone(&self.file), &self.path)
            .map_err(|fault| self.damaged(fault))?;
        Ok(SnapshotContent { file: self.clone(), pieces: Some(pieces) })
    }

    fn damaged(&self, fault: format::Fault) -> StorageError {
        match fault {
            format::Fault::Broken(offset, what) => StorageError::damaged(&self.path, offset, what),
            format::Fault::Disk(error) => error,
        }
    }
}

/// The pieces of a snapshot's content. Ends behind the first error.
#[derive(Debug)]
pub struct SnapshotContent {
    file: SnapshotFile,
    pieces: Option<Pieces>,
}

impl Iterator for SnapshotContent {
    type Item = Result<Bytes, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.pieces.as_mut()?.next() {
            Ok(Some(body)) => Some(Ok(body)),
            Ok(None) => None,
            Err(fault) => {
                self.pieces = None;
                Some(Err(self.file.damaged(fault)))
            }
        }
    }
}
