//! A snapshot's file as a state machine.

use crate::codec::snapshot::Decoder;
use crate::kv;
use crate::storage::{SnapshotFile, SnapshotStore, StorageError};

/// Reads and checks all of it: the pieces, the rules of the store, and the hash that the head names
/// (D14, S5). Blocks; takes a time in proportion to the file's size.
///
/// # Errors
/// The disk's, and [`StorageError::Damaged`] if the content is not what the head says.
pub fn load(file: &SnapshotFile) -> Result<kv::Store, StorageError> {
    let head = file.head();
    let damaged = |error: &dyn std::fmt::Display| StorageError::Damaged {
        path: file.path().display().to_string(),
        offset: 0,
        what: format!("the content of the snapshot at {} is wrong: {error}", head.meta.last),
    };
    let mut decoder = Decoder::new();
    for piece in file.content()? {
        decoder.push(&piece?).map_err(|error| damaged(&error))?;
    }
    decoder.finish(&head.meta, head.state_hash).map_err(|error| damaged(&error))
}

/// The same of the current snapshot, which must be there.
///
/// # Errors
/// As [`load`].
pub fn current(snapshots: &SnapshotStore) -> Result<kv::Store, StorageError> {
    let file = snapshots.current().ok_or_else(|| StorageError::Damaged {
        path: "the directory of snapshots".to_owned(),
        offset: 0,
        what: "the snapshot that was installed is gone".to_owned(),
    })?;
    load(&file)
}
