//! Snapshots for the tests of storage: their heads, and files of other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use balsa::raft::{ClusterId, Index, LogId, Member, Membership, NodeId, SnapshotId, SnapshotMeta};
use balsa::storage::{
    DataDir, FaultyDisk, SnapshotFile, SnapshotHead, SnapshotStore, StorageError,
};

/// Whose snapshots they are.
pub(crate) const CLUSTER: ClusterId = ClusterId(5);

pub(crate) fn meta(last: LogId) -> SnapshotMeta {
    let member = Member { name: "raft-0".to_owned(), address: "a:6000".to_owned() };
    let membership = Membership {
        members: BTreeMap::from([(NodeId(9), member)]),
        voters: BTreeSet::from([NodeId(9)]),
        ..Membership::default()
    };
    SnapshotMeta { last, membership: Arc::new(membership), membership_index: Index(1) }
}

pub(crate) fn head(last: LogId) -> SnapshotHead {
    SnapshotHead { meta: meta(last), cluster: CLUSTER, state_hash: last.index.0 * 7 }
}

/// Takes an own snapshot.
pub(crate) fn take(
    store: &SnapshotStore,
    last: LogId,
    content: &[&[u8]],
) -> Result<SnapshotFile, StorageError> {
    let mut writer = store.begin(&head(last))?;
    for piece in content {
        writer.write(piece)?;
    }
    writer.finish()
}

/// The name and the bytes of a snapshot that another node took.
pub(crate) fn from_elsewhere(head: &SnapshotHead, content: &[&[u8]]) -> (SnapshotId, Vec<u8>) {
    let elsewhere = FaultyDisk::new();
    let dir = DataDir::open(elsewhere.fs(), Path::new("/other"), "raft-1").unwrap();
    let mut writer = dir.snapshots().begin(head).unwrap();
    for piece in content {
        writer.write(piece).unwrap();
    }
    let file = writer.finish().unwrap();
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < file.id().bytes {
        bytes.extend_from_slice(&file.read_at(bytes.len() as u64, 1000).unwrap());
    }
    (file.id(), bytes)
}

/// Receives a snapshot, from where the store wants it, in parts of `part` bytes.
pub(crate) fn receive(
    store: &SnapshotStore,
    id: SnapshotId,
    bytes: &[u8],
    part: usize,
) -> Result<SnapshotFile, StorageError> {
    if let Some(file) = store.received(id) {
        return Ok(file);
    }
    let mut incoming = store.receive(id)?;
    while incoming.next() < id.bytes {
        let from = incoming.next() as usize;
        let upto = bytes.len().min(from + part);
        let next = incoming.write(from as u64, &bytes[from..upto])?;
        assert_eq!(next as usize, upto);
    }
    incoming.finish()
}

/// The content of a snapshot, in one.
pub(crate) fn content(file: &SnapshotFile) -> Result<Vec<u8>, StorageError> {
    let pieces: Result<Vec<_>, _> = file.content()?.collect();
    Ok(pieces?.concat())
}
