//! A log without files, for tests and simulations: the same contract as [`Wal`](super::Wal), and a
//! disk that keeps exactly what was synced when the power fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::contract::{self, Standing};
use super::{Batch, LogReader, LogStore, RestoredLog, Seen, StorageError, record};
use crate::raft::{
    Entry, HardState, Index, LogId, LogShape, Membership, NodeId, Payload, SnapshotMeta, Term,
};

#[derive(Clone, Debug, Default)]
struct Content {
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
    /// The last purged entry.
    base: LogId,
    entries: Vec<Entry>,
    seen: BTreeMap<NodeId, Seen>,
    reached: Index,
}

impl Content {
    fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    /// How many entries there are up to and including an index.
    fn count(&self, upto: Index) -> usize {
        let count = upto.0.saturating_sub(self.base.index.0);
        usize::try_from(count).unwrap_or(usize::MAX).min(self.entries.len())
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let at = usize::try_from(index.0.checked_sub(self.base.index.0 + 1)?).ok()?;
        self.entries.get(at).map(|entry| entry.id.term)
    }

    fn begin_behind(&mut self, snapshot: LogId) {
        self.base = snapshot;
        self.entries.clear();
        self.reached = self.reached.max(snapshot.index);
    }

    fn purge(&mut self, upto: LogId) {
        self.entries.drain(..self.count(upto.index));
        self.base = upto;
    }
}

#[derive(Debug, Default)]
struct Disk {
    written: Content,
    durable: Content,
    /// Both begin behind the same entry, and the first so many entries are the same in both; none if
    /// they begin differently.
    common: Option<usize>,
    /// Snapshots of other nodes that are there as a whole.
    offered: BTreeMap<LogId, SnapshotMeta>,
}

impl Disk {
    fn sync(&mut self) {
        let Disk { written, durable, common, .. } = self;
        match *common {
            Some(common) => {
                durable.entries.truncate(common);
                durable.entries.extend_from_slice(&written.entries[common..]);
            }
            None => durable.entries.clone_from(&written.entries),
        }
        durable.hard_state = written.hard_state;
        durable.snapshot.clone_from(&written.snapshot);
        durable.base = written.base;
        durable.seen.clone_from(&written.seen);
        durable.reached = written.reached;
        *common = Some(written.entries.len());
    }

    /// What a start makes of a snapshot that goes further than the log.
    fn recover(&mut self) {
        let content = &mut self.written;
        if let Some(snapshot) = content.snapshot.as_ref().map(|snapshot| snapshot.last)
            && content.term_at(snapshot.index) != Some(snapshot.term)
        {
            content.begin_behind(snapshot);
            let term = content.hard_state.term;
            if term < snapshot.term {
                content.hard_state = HardState { term: snapshot.term, vote: None };
            }
            self.common = None;
        }
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
        disk.common = Some(disk.written.entries.len());
    }

    /// Another disk that holds what this one would hold after a loss of power: a volume's copy.
    #[must_use]
    pub fn copy(&self) -> MemoryDisk {
        let disk = self.lock();
        let content = disk.durable.clone();
        let common = Some(content.entries.len());
        let offered = disk.offered.clone();
        let copy = Disk { written: content.clone(), durable: content, common, offered };
        MemoryDisk(Arc::new(Mutex::new(copy)))
    }

    /// Another node's snapshot is here as a whole, checked and durable: it can be installed.
    pub fn offer_snapshot(&self, snapshot: SnapshotMeta) {
        self.lock().offered.insert(snapshot.last, snapshot);
    }

    /// An own snapshot is durable: it is the current one from now on, unless that is newer.
    pub fn snapshot_taken(&self, snapshot: &SnapshotMeta) {
        let mut disk = self.lock();
        let Disk { written, durable, .. } = &mut *disk;
        for content in [written, durable] {
            if content.snapshot.as_ref().is_none_or(|old| old.last < snapshot.last) {
                content.snapshot = Some(snapshot.clone());
            }
        }
    }

    /// The current snapshot; durable once what was written before it is.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotMeta> {
        self.lock().written.snapshot.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log in memory.
#[derive(Debug)]
pub struct MemoryLog {
    disk: MemoryDisk,
    /// What was seen and not written yet.
    unwritten: Option<BTreeMap<NodeId, Seen>>,
}

impl MemoryLog {
    /// Opens what a disk holds. As with files, everything found counts as durable from then on.
    #[must_use]
    pub fn open(disk: &MemoryDisk) -> (MemoryLog, RestoredLog) {
        let mut inner = disk.lock();
        inner.recover();
        inner.sync();
        let content = &inner.durable;
        let mut shape = LogShape::new(content.base);
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
            snapshot: content.snapshot.clone(),
            reached: content.reached,
        };
        (MemoryLog { disk: disk.clone(), unwritten: None }, restored)
    }
}

impl LogStore for MemoryLog {
    fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut disk = self.disk.lock();
        let Disk { written: content, common, offered, .. } = &mut *disk;
        let standing =
            Standing { hard_state: content.hard_state, base: content.base, last: content.last() };
        contract::check(standing, batch, |index| content.term_at(index));
        if let Some(hard_state) = batch.hard_state {
            content.hard_state = hard_state;
            if let Some(seen) = self.unwritten.take() {
                content.seen = seen;
            }
        }
        if let Some(snapshot) = &batch.install
            && snapshot.last != content.base
        {
            let last = snapshot.last;
            let received = offered.get(&last);
            let received = received.unwrap_or_else(|| panic!("{last} was never received (D14)"));
            content.snapshot = Some(received.clone());
            content.begin_behind(last);
            *common = None;
        }
        if let Some(after) = batch.truncate_after {
            let keep = content.count(after);
            content.entries.truncate(keep);
            *common = common.map(|common| keep.min(common));
        }
        content.entries.extend_from_slice(&batch.entries);
        content.reached = content.reached.max(content.last().index);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.disk.lock().sync();
        Ok(())
    }

    fn reader(&self) -> Box<dyn LogReader> {
        Box::new(MemoryReader(self.disk.clone()))
    }

    fn note_seen(&mut self, seen: &BTreeMap<NodeId, Seen>) {
        self.unwritten = Some(seen.clone());
    }

    fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let mut disk = self.disk.lock();
        let Disk { written, durable, common, .. } = &mut *disk;
        let standing =
            Standing { hard_state: written.hard_state, base: written.base, last: written.last() };
        if upto.index <= standing.base.index {
            return Ok(());
        }
        let snapshot = written.snapshot.as_ref().map(|snapshot| snapshot.last);
        contract::check_purge(standing, upto, written.term_at(upto.index), snapshot);
        let count = written.count(upto.index);
        written.purge(upto);
        match *common {
            // Files go at once, with or without a sync.
            Some(same) if same >= count => {
                durable.purge(upto);
                *common = Some(same - count);
            }
            _ => *common = None,
        }
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryReader(MemoryDisk);

impl LogReader for MemoryReader {
    fn read(&self, after: Index, upto: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let disk = self.0.lock();
        let content = &disk.written;
        let last = content.last().index;
        let nothing_there = after > last || (after == last && upto > last);
        if after < content.base.index || nothing_there {
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
