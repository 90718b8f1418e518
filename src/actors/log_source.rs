//! Where replicators and the applier get entries from: the recent ones from memory, older ones from
//! the disk through a thread of their own, so that a lagging peer never waits behind an fsync, nor an
//! fsync behind it (field.md B3).
//!
//! What when full? The cache drops its oldest durable entries; they are read from the disk instead.
//! The reader's queue holds `READS_QUEUED_MAX` requests; each caller has at most one outstanding, so
//! it cannot fill up before there are that many peers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::raft::{Entry, Index};
use crate::storage::{LogReader, StorageError};

/// Reads that may wait for the reader thread.
const READS_QUEUED_MAX: usize = 64;

/// The newest entries, so that what was just appended is not read back from the disk.
///
/// Invariants: the entries are contiguous; every entry that is not durable yet is here, for the disk
/// cannot be asked for it.
#[derive(Debug, Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: u64,
    persisted: Index,
    /// The log up to here is being replaced by a snapshot, or has been.
    replaced: Index,
}

struct Request {
    after: Index,
    upto: Index,
    max_bytes: u64,
    reply: oneshot::Sender<Result<Vec<Entry>, StorageError>>,
}

/// A shared handle to the log's entries.
#[derive(Clone)]
pub struct LogSource {
    recent: Arc<Mutex<Recent>>,
    capacity_bytes: u64,
    requests: mpsc::Sender<Request>,
}

impl LogSource {
    /// Starts the reader thread. It ends when the last handle is gone. `persisted` is the last index
    /// of the log as found on disk.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        reader: Box<dyn LogReader>,
        persisted: Index,
        capacity_bytes: u64,
    ) -> std::io::Result<LogSource> {
        let (requests, mut queue) = mpsc::channel::<Request>(READS_QUEUED_MAX);
        std::thread::Builder::new().name("log-reader".to_owned()).spawn(move || {
            while let Some(request) = queue.blocking_recv() {
                let entries = reader.read(request.after, request.upto, request.max_bytes);
                // A caller that has gone away needs no answer.
                let _ = request.reply.send(entries);
            }
        })?;
        let recent = Recent { persisted, ..Recent::default() };
        Ok(LogSource { recent: Arc::new(Mutex::new(recent)), capacity_bytes, requests })
    }

    /// Takes entries that were just handed to the disk, after dropping everything from the first of
    /// them on (a truncation and its replacement are one step, L2).
    pub fn append(&self, truncate_after: Option<Index>, entries: &[Entry]) {
        let mut recent = self.recent();
        if let Some(after) = truncate_after {
            recent.truncate(after);
        }
        for entry in entries {
            if let Some(last) = recent.entries.back() {
                assert_eq!(entry.index(), last.index().next(), "the cache leaves no gap (S3)");
            }
            recent.bytes += u64::from(entry.payload.size());
            recent.entries.push_back(entry.clone());
        }
        recent.shrink(self.capacity_bytes);
    }

    /// A snapshot that ends at `last` takes the place of the whole log: the disk has been asked for it,
    /// or is about to be. Entries up to there may be gone from now on, and those in memory are.
    pub fn replaced(&self, last: Index) {
        let mut recent = self.recent();
        recent.entries.clear();
        recent.bytes = 0;
        // What comes behind the snapshot is not on the disk, however far the former log was.
        recent.persisted = Index::ZERO;
        recent.replaced = last;
    }

    /// Whether a snapshot takes, or took, the place of the log at this index: what cannot be read there
    /// is no damage.
    #[must_use]
    pub fn is_replaced(&self, at: Index) -> bool {
        at <= self.recent().replaced
    }

    /// Entries up to this index are durable and may be dropped from memory.
    pub fn persisted(&self, upto: Index) {
        let mut recent = self.recent();
        recent.persisted = upto;
        recent.shrink(self.capacity_bytes);
    }

    /// Entries behind `after` up to and including `upto`, as many as fit into `max_bytes` (at least
    /// one), if all that is wanted is still in memory.
    #[must_use]
    pub fn read_recent(&self, after: Index, upto: Index, max_bytes: u64) -> Option<Vec<Entry>> {
        let recent = self.recent();
        let first = recent.entries.front()?.index();
        if after.next() < first {
            return None;
        }
        let skip = usize::try_from(after.0 + 1 - first.0).ok()?;
        let mut budget = max_bytes;
        let mut found = Vec::new();
        for entry in recent.entries.iter().skip(skip).take_while(|entry| entry.index() <= upto) {
            let size = u64::from(entry.payload.size());
            if !found.is_empty() && size > budget {
                break;
            }
            budget = budget.saturating_sub(size);
            found.push(entry.clone());
        }
        (!found.is_empty()).then_some(found)
    }

    /// As [`read_recent`](LogSource::read_recent), and from the disk what is no longer in memory.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] if the log no longer holds the range; others are the disk's.
    pub async fn read(
        &self,
        after: Index,
        upto: Index,
        max_bytes: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        if let Some(entries) = self.read_recent(after, upto, max_bytes) {
            return Ok(entries);
        }
        let gone = || StorageError::OutOfRange { after, upto };
        let (reply, answer) = oneshot::channel();
        let request = Request { after, upto, max_bytes, reply };
        // An error says that the reader has ended, with the process.
        self.requests.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // Nothing panics while the lock is held but a broken invariant, which ends the process.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn truncate(&mut self, after: Index) {
        while self.entries.back().is_some_and(|entry| entry.index() > after) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= u64::from(entry.payload.size());
            }
        }
        self.persisted = self.persisted.min(after);
    }

    fn shrink(&mut self, capacity_bytes: u64) {
        while self.bytes > capacity_bytes
            && self.entries.front().is_some_and(|entry| entry.index() <= self.persisted)
        {
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= u64::from(entry.payload.size());
            }
        }
    }
}
