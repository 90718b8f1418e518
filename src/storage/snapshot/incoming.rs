//! Receiving a snapshot from another node, in parts, over breaks and restarts (L9).

use std::path::PathBuf;
use std::sync::Arc;

use super::super::fs::File;
use super::{SYNC_BYTES, SnapshotFile, SnapshotStore};
use crate::raft::SnapshotId;
use crate::storage::StorageError;

/// A snapshot on its way here. Dropped before it is finished, its file stays, so that
/// [`SnapshotStore::receive`] goes on with it.
#[derive(Debug)]
pub struct Incoming {
    pub(super) store: SnapshotStore,
    pub(super) id: SnapshotId,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    /// Written up to here.
    pub(super) next: u64,
    /// Durable up to here.
    pub(super) synced: u64,
    /// Which transfer it is: the newest one alone may write.
    pub(super) turn: u64,
}

impl Incoming {
    /// The offset of the byte that is wanted next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Writes bytes of the file, if they begin at [`next`](Incoming::next); else nothing. Returns
    /// what is wanted next, in both cases.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]: what was received stays, and the transfer can go on when there is
    /// room. [`StorageError::UnsoundSnapshot`] if this is more than the file has, or if another
    /// transfer has begun meanwhile. Others are the disk's.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<u64, StorageError> {
        if offset != self.next || data.is_empty() {
            return Ok(self.next);
        }
        let end = self.next + data.len() as u64;
        if end > self.id.bytes {
            return Err(self.refused(format!("bytes up to {end} of {}", self.id.bytes)));
        }
        let store = self.store.clone();
        let turn = store.turn();
        if *turn != self.turn {
            return Err(self.refused("another transfer has begun".to_owned()));
        }
        self.file.write_at(data, offset).map_err(|error| {
            let error = StorageError::io("writing", &self.path, error);
            store.no_room(error, self.id.bytes - offset)
        })?;
        self.next = end;
        if self.next - self.synced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(self.next)
    }

    /// Checks a snapshot of which every byte was written: each piece, the checksum of the whole, what
    /// it is of and whose. From then on [`SnapshotStore::received`] knows it, also after a restart.
    ///
    /// # Errors
    /// [`StorageError::UnsoundSnapshot`], [`StorageError::Foreign`], [`StorageError::NewerFormat`]:
    /// the file was not what its id says, and is removed. Others are the disk's.
    pub fn finish(mut self) -> Result<SnapshotFile, StorageError> {
        let store = self.store.clone();
        let turn = store.turn();
        if *turn != self.turn {
            return Err(self.refused("another transfer has begun".to_owned()));
        }
        if self.next < self.id.bytes {
            return Err(self.refused(format!("only {} of {} bytes", self.next, self.id.bytes)));
        }
        self.sync()?;
        store.accept(&self.path, Arc::clone(&self.file), self.id)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.file.sync().map_err(|error| StorageError::io("syncing", &self.path, error))?;
        self.synced = self.next;
        Ok(())
    }

    fn refused(&self, what: String) -> StorageError {
        let path = self.path.display().to_string();
        StorageError::UnsoundSnapshot { path, offset: self.next, what }
    }
}
