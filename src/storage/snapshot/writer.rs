//! Writing an own snapshot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::fs::File;
use super::format::{self, Counts, Kind, PIECE_MAX};
use super::{SYNC_BYTES, SnapshotFile, SnapshotStore};
use crate::raft::{LogId, SnapshotId};
use crate::storage::StorageError;

/// A snapshot that is being written, under a temporary name. Dropped before it is finished it leaves
/// nothing.
#[derive(Debug)]
pub struct SnapshotWriter {
    store: SnapshotStore,
    /// Its file, until it has got its name or was removed.
    file: Option<(PathBuf, Arc<dyn File>)>,
    last: LogId,
    offset: u64,
    synced: u64,
    previous: u32,
    whole: u32,
    counts: Counts,
}

impl SnapshotWriter {
    pub(super) fn begin(
        store: SnapshotStore,
        path: PathBuf,
        file: Arc<dyn File>,
        head: &super::SnapshotHead,
    ) -> Result<SnapshotWriter, StorageError> {
        let (bytes, previous) = format::encode_head(head);
        let mut writer = SnapshotWriter {
            store,
            file: Some((path, file)),
            last: head.meta.last,
            offset: 0,
            synced: 0,
            previous,
            whole: 0,
            counts: Counts::default(),
        };
        writer.put(&bytes)?;
        Ok(writer)
    }

    /// Adds content. What is longer than a mebibyte becomes several pieces.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]: this snapshot comes to nothing, and the log is as before. Others
    /// are the disk's.
    pub fn write(&mut self, content: &[u8]) -> Result<(), StorageError> {
        for body in content.chunks(PIECE_MAX) {
            self.counts.add(body.len());
            self.piece(Kind::Content, body)?;
        }
        Ok(())
    }

    /// Writes the end, makes the file durable, reads it back, checks it, and makes it the current
    /// snapshot (D2, D13). If a newer one became current meanwhile that one is returned, and this
    /// one goes.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] as before; [`StorageError::UnsoundSnapshot`] if the disk does not
    /// give back what was written: the former snapshot stays. Others are the disk's.
    pub fn finish(mut self) -> Result<SnapshotFile, StorageError> {
        self.piece(Kind::End, &self.counts.encode())?;
        let (path, file) = self.opened();
        let id = SnapshotId { last: self.last, bytes: self.offset, crc: self.whole };
        file.sync().map_err(|error| StorageError::io("syncing", &path, error))?;
        let finished = self.store.publish(&path, file, id)?;
        self.file = None;
        Ok(finished)
    }

    fn piece(&mut self, kind: Kind, body: &[u8]) -> Result<(), StorageError> {
        let mut buffer = Vec::with_capacity(format::PIECE_HEADER_BYTES + body.len());
        self.previous = format::encode_piece(&mut buffer, self.previous, kind, body);
        self.put(&buffer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let (path, file) = self.opened();
        let no_room = |path: &Path, error| {
            self.store.no_room(StorageError::io("writing", path, error), bytes.len() as u64)
        };
        file.write_at(bytes, self.offset).map_err(|error| no_room(&path, error))?;
        self.whole = crc32c::crc32c_append(self.whole, bytes);
        self.offset += bytes.len() as u64;
        if self.offset - self.synced >= SYNC_BYTES {
            file.sync().map_err(|error| StorageError::io("syncing", &path, error))?;
            self.synced = self.offset;
        }
        Ok(())
    }

    fn opened(&self) -> (PathBuf, Arc<dyn File>) {
        let (path, file) = self.file.as_ref().expect("a writer has its file until it is finished");
        (path.clone(), Arc::clone(file))
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if let Some((path, _)) = self.file.take() {
            // Gives the room back. If even that fails the next start removes it.
            let _ = self.store.remove_temporary(&path);
        }
    }
}
