//! A log without files, for tests and simulations: the same contract as [`Wal`](super::Wal), and a
//! disk that keeps exactly what was synced when the power fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::contract::{self, Standing};
use super::{Batch, LogReader, LogStore, RestoredLog, Seen, StorageError, record};
use crate::raft::{Entry, HardState, Index, LogId, LogShape, Membership, NodeId, Payload, Term};

#[derive(Clone, Debug, Default)]
struct Content {
    hard_state: HardState,
    entries: Vec<Entry>,
    seen: BTreeMap<NodeId, Seen>,
}

impl Content {
    fn last(&self) -> LogId {
        self.entries.last().map_or(LogId::ZERO, |entry| entry.id)
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        if index == Index::ZERO {
            return Some(Term(0));
        }
        let at = usize::try_from(index.0 - 1).ok()?;
        self.entries.get(at).map(|entry| entry.id.term)
    }
}

#[derive(Debug, Default)]
struct Disk {
    written: Content,
    durable: Content,
    /// The first so many entries are the same in both.
    common: usize,
}

impl Disk {
    fn sync(&mut self) {
        let Disk { written, durable, common } = self;
        durable.hard_state = written.hard_state;
        durable.seen.clone_from(&written.seen);
        durable.entries.truncate(*common);
        durable.entries.extend_from_slice(&written.entries[*common..]);
        *common = written.entries.len();
    }
}

/// What outlives a [`MemoryLog`]. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

impl MemoryDisk {
    /// Forgets what was not synced.
    pub fn lose_power(&self) {
        let mut disk = self.lock();
        disk.written = disk.durable.clone();
        disk.common = disk.written.entries.len();
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log in memory.
#[derive(Debug)]
pub struct MemoryLog {
    disk: MemoryDisk,
    unwritten: BTreeMap<NodeId, Seen>,
}

impl MemoryLog {
    /// Opens what a disk holds. As with files, everything found counts as durable from then on.
    #[must_use]
    pub fn open(disk: &MemoryDisk) -> (MemoryLog, RestoredLog) {
        let mut inner = disk.lock();
        inner.sync();
        let content = &inner.durable;
        let mut shape = LogShape::new(LogId::ZERO);
        let mut memberships = Vec::new();
        for entry in &content.entries {
            shape.push(entry.id, entry.payload.size());
            if let Payload::Membership(membership) = &entry.payload {
                memberships.push((entry.id.index, Membership::clone(membership)));
            }
        }
        let restored = RestoredLog {
            hard_state: content.hard_state,
            shape,
            memberships,
            seen: content.seen.clone(),
        };
        (MemoryLog { disk: disk.clone(), unwritten: BTreeMap::new() }, restored)
    }
}

impl LogStore for MemoryLog {
    fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut disk = self.disk.lock();
        let Disk { written: content, common, .. } = &mut *disk;
        let standing =
            Standing { hard_state: content.hard_state, base: LogId::ZERO, last: content.last() };
        contract::check(standing, batch, |index| content.term_at(index));
        if let Some(hard_state) = batch.hard_state {
            content.hard_state = hard_state;
            for (node, seen) in std::mem::take(&mut self.unwritten) {
                let known = content.seen.entry(node).or_default();
                *known = known.max(seen);
            }
        }
        if let Some(after) = batch.truncate_after {
            let keep = usize::try_from(after.0).unwrap_or(usize::MAX);
            content.entries.truncate(keep);
            *common = keep.min(*common);
        }
        content.entries.extend_from_slice(&batch.entries);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.disk.lock().sync();
        Ok(())
    }

    fn reader(&self) -> Box<dyn LogReader> {
        Box::new(MemoryReader(self.disk.clone()))
    }

    fn note_seen(&mut self, node: NodeId, seen: Seen) {
        let known = self.unwritten.entry(node).or_default();
        *known = known.max(seen);
    }
}

#[derive(Debug)]
struct MemoryReader(MemoryDisk);

impl LogReader for MemoryReader {
    fn read(&self, after: Index, upto: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let disk = self.0.lock();
        let content = &disk.written;
        let last = content.last().index;
        if after > last || (after == last && upto > last) {
            return Err(StorageError::OutOfRange { after, upto });
        }
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in content.entries.iter().filter(|entry| entry.id.index > after) {
            bytes += record::stored_bytes(&entry.payload);
            if entry.id.index > upto || (bytes > max_bytes && !entries.is_empty()) {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }
}
