//! The one thread that writes the log: it takes everything queued, writes it, syncs once and reports
//! the newest completed batch (group commit). Order is the queue's order; nothing is skipped.
//!
//! **No space** (design: durability). A batch with entries that finds no room waits here and is tried
//! again every `RETRY`; what comes behind it waits too, except term and vote:
//! they have their reserve in the log, are written at once, and are reported apart, so that a node with
//! a full disk can still vote. Purging does not wait either: it makes room, and it takes away only what
//! a durable snapshot covers, which no waiting batch touches. Any other failure ends the process (D1).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::raft::{HardState, LogId, NodeId, PersistToken};
use crate::storage::{Batch, LogStore, Seen, StorageError};

/// How long a batch without room waits before it is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Batches, and other work, that may wait. The node refuses proposals long before (see
/// [`OUTSTANDING_BATCHES_MAX`](super::node::OUTSTANDING_BATCHES_MAX)), and all other batches are
/// bounded by the peers' windows, so that a full queue is a broken invariant.
const QUEUE_MAX: usize = 16 << 10;

/// Batches written before one sync, at most; bounds the time between two completions.
const GROUP_MAX: usize = 1024;

/// What the thread is asked to do.
enum Work {
    /// Make this durable.
    Persist(Batch),
    /// Remove what the log holds up to and including this entry.
    Purge(LogId),
    /// Keep this table; it is written with the next hard state.
    Seen(Arc<BTreeMap<NodeId, Seen>>),
}

/// What the thread reports.
#[derive(Debug)]
pub enum DiskEvent {
    /// This batch and every one before it are durable.
    Persisted(PersistToken),
    /// Of this batch term and vote are durable: they went ahead of entries without room.
    HardStatePersisted(PersistToken),
    /// Entries find no room (true), or do again (false).
    Full(bool),
    /// The disk failed; the process must end.
    Failed(StorageError),
}

/// How much was handed over, and how much of it is done: for metrics.
#[derive(Debug, Default)]
pub struct Backlog {
    handed: AtomicU64,
    done: AtomicU64,
}

impl Backlog {
    /// What was handed over and is not done.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let done = self.done.load(Ordering::Relaxed);
        self.handed.load(Ordering::Relaxed).saturating_sub(done)
    }
}

/// The sending side, kept by the storage actor. The thread ends, after a last sync, when it is dropped.
pub struct DiskThread {
    queue: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
    backlog: Arc<Backlog>,
}

impl DiskThread {
    /// Starts the thread. `report` is called on it, once for each group.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        store: Box<dyn LogStore>,
        report: impl Fn(DiskEvent) + Send + 'static,
    ) -> std::io::Result<DiskThread> {
        let (queue, work) = sync_channel(QUEUE_MAX);
        let backlog = Arc::<Backlog>::default();
        let done = Arc::clone(&backlog);
        let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
            let waiting = VecDeque::new();
            let (full, ahead, report, taken) = (false, None, &report, 0);
            let mut writer = Writer { store, waiting, full, ahead, report, taken, backlog: done };
            if let Err(error) = writer.run(&work) {
                report(DiskEvent::Failed(error));
            }
        })?;
        Ok(DiskThread { queue: Some(queue), thread: Some(thread), backlog })
    }

    /// What waits for the thread, for metrics.
    #[must_use]
    pub fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.backlog)
    }

    /// Hands one batch over.
    ///
    /// # Panics
    /// If the queue is full, which the node's own limits exclude.
    pub fn persist(&self, batch: Batch) {
        self.hand_over(Work::Persist(batch));
    }

    /// Has everything up to and including this entry removed, in its turn. Nothing is reported: what a
    /// crash keeps is purged after the next snapshot.
    ///
    /// # Panics
    /// As [`persist`](DiskThread::persist).
    pub fn purge(&self, upto: LogId) {
        self.hand_over(Work::Purge(upto));
    }

    /// Hands over what was seen of each node, for the next hard state.
    ///
    /// # Panics
    /// As [`persist`](DiskThread::persist).
    pub fn note_seen(&self, seen: Arc<BTreeMap<NodeId, Seen>>) {
        self.hand_over(Work::Seen(seen));
    }

    fn hand_over(&self, work: Work) {
        if let Some(queue) = &self.queue {
            self.backlog.handed.fetch_add(1, Ordering::Relaxed);
            match queue.try_send(work) {
                Ok(()) => {}
                Err(std::sync::mpsc::TrySendError::Full(_)) => {
                    panic!("the disk queue is bounded by what the node issues")
                }
                // The thread has failed and reported it; the process is ending.
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Waits until everything handed over is durable, and ends the thread.
    pub fn finish(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the hook, which ends the process.
            let _ = thread.join();
        }
    }
}

impl Drop for DiskThread {
    fn drop(&mut self) {
        self.finish();
    }
}

struct Writer<'a> {
    store: Box<dyn LogStore>,
    /// Work taken from the queue and not done yet, in order; while there is no room, batches only.
    waiting: VecDeque<Work>,
    /// Whether the first of `waiting` found no room the last time.
    full: bool,
    /// The newest term and vote that went ahead of the waiting batches. What waits may hold older
    /// ones, which must not be written behind it (S7).
    ahead: Option<HardState>,
    report: &'a dyn Fn(DiskEvent),
    /// Work taken from the queue so far.
    taken: u64,
    backlog: Arc<Backlog>,
}

impl Writer<'_> {
    fn run(&mut self, queue: &Receiver<Work>) -> Result<(), StorageError> {
        loop {
            let retry_at = Instant::now() + RETRY;
            if self.waiting.is_empty() {
                match queue.recv() {
                    Ok(work) => {
                        self.taken += 1;
                        self.waiting.push_back(work);
                    }
                    Err(_) => return Ok(()),
                }
            } else if self.full {
                loop {
                    let patience = retry_at.saturating_duration_since(Instant::now());
                    match queue.recv_timeout(patience) {
                        Ok(work) => {
                            self.taken += 1;
                            self.take_while_full(work)?;
                        }
                        Err(RecvTimeoutError::Timeout) => break,
                        // Without room the rest cannot be written; none of it was ever acknowledged.
                        Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    }
                }
            }
            while self.waiting.len() < GROUP_MAX {
                let Ok(work) = queue.try_recv() else { break };
                self.taken += 1;
                if self.full {
                    self.take_while_full(work)?;
                } else {
                    self.waiting.push_back(work);
                }
            }
            self.write_group()?;
            let done = self.taken - self.waiting.len() as u64;
            self.backlog.done.store(done, Ordering::Relaxed);
        }
    }

    fn write_group(&mut self) -> Result<(), StorageError> {
        let mut newest = None;
        let mut full = false;
        while let Some(work) = self.waiting.front_mut() {
            let batch = match work {
                Work::Persist(batch) => batch,
                Work::Purge(upto) => {
                    let upto = *upto;
                    self.purge(upto)?;
                    self.waiting.pop_front();
                    continue;
                }
                Work::Seen(seen) => {
                    self.store.note_seen(seen);
                    self.waiting.pop_front();
                    continue;
                }
            };
            if self
                .ahead
                .is_some_and(|ahead| batch.hard_state.is_some_and(|own| !newer(own, ahead)))
            {
                batch.hard_state = None;
            }
            match self.store.append(batch) {
                Ok(()) => {
                    newest = Some(batch.token);
                    self.waiting.pop_front();
                }
                Err(StorageError::NoSpace { path, needed_bytes, free_bytes, .. }) => {
                    if !self.full {
                        tracing::error!(
                            path,
                            needed_bytes,
                            free_bytes,
                            "no space left for the log; make room, the node goes on by itself"
                        );
                    }
                    full = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(token) = newest {
            self.store.sync()?;
            (self.report)(DiskEvent::Persisted(token));
        }
        if full != self.full {
            self.full = full;
            (self.report)(DiskEvent::Full(full));
            if !full {
                self.ahead = None;
                tracing::info!("there is room for the log again");
            } else {
                // Votes that were queued behind the entries must not wait with them.
                for work in std::mem::take(&mut self.waiting) {
                    self.take_while_full(work)?;
                }
            }
        }
        Ok(())
    }

    fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        match self.store.purge(upto) {
            // It stays; the purge behind the next snapshot includes it.
            Err(StorageError::NoSpace { path, .. }) => {
                tracing::warn!(path, %upto, "no space left even to purge the log");
                Ok(())
            }
            result => result,
        }
    }

    /// Writes term and vote at once, also those of a batch with entries, and purges; lets everything
    /// else wait.
    fn take_while_full(&mut self, work: Work) -> Result<(), StorageError> {
        let batch = match work {
            Work::Persist(batch) => batch,
            Work::Purge(upto) => return self.purge(upto),
            Work::Seen(seen) => {
                self.store.note_seen(&seen);
                return Ok(());
            }
        };
        let Batch { token, hard_state, .. } = batch;
        if hard_state.is_none() {
            self.waiting.push_back(Work::Persist(batch));
            return Ok(());
        }
        let ahead =
            Batch { token, hard_state, truncate_after: None, entries: Vec::new(), install: None };
        match self.store.append(&ahead) {
            Ok(()) => {}
            // Even the reserve is used up; then the vote waits as well.
            Err(StorageError::NoSpace { .. }) => {
                self.waiting.push_back(Work::Persist(batch));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.store.sync()?;
        (self.report)(DiskEvent::HardStatePersisted(token));
        self.ahead = hard_state;
        // Its token stays in line, so that completions in order include it.
        self.waiting.push_back(Work::Persist(Batch { hard_state: None, ..batch }));
        Ok(())
    }
}

fn newer(own: HardState, ahead: HardState) -> bool {
    (own.term, own.vote.is_some()) > (ahead.term, ahead.vote.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Entry, LogId, NodeId, Payload, Term};
    use crate::storage::{LogReader, Seen};
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::sync::{Mutex, mpsc};

    #[derive(Default)]
    struct Shared {
        full: AtomicBool,
        syncs: AtomicUsize,
        written: Mutex<Vec<PersistToken>>,
        /// Tokens of batches and indexes of purges, in order.
        done: Mutex<Vec<String>>,
    }

    struct Probe(Arc<Shared>);

    impl LogStore for Probe {
        fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
            if !batch.entries.is_empty() && self.0.full.load(Ordering::SeqCst) {
                return Err(StorageError::NoSpace {
                    path: "probe".to_owned(),
                    what: "the next segment of the log",
                    needed_bytes: 4096,
                    free_bytes: Some(0),
                });
            }
            self.0.written.lock().unwrap().push(batch.token);
            self.0.done.lock().unwrap().push(format!("batch {}", batch.token.0));
            Ok(())
        }
        fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
            self.0.done.lock().unwrap().push(format!("purge {}", upto.index));
            Ok(())
        }
        fn sync(&mut self) -> Result<(), StorageError> {
            self.0.syncs.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        fn reader(&self) -> Box<dyn LogReader> {
            unreachable!("the disk thread never reads")
        }
        fn note_seen(&mut self, _: &BTreeMap<NodeId, Seen>) {}
    }

    fn entries(token: u64) -> Batch {
        let entry = Entry { id: LogId::new(1, token), payload: Payload::Noop };
        Batch {
            token: PersistToken(token),
            hard_state: None,
            install: None,
            truncate_after: None,
            entries: vec![entry],
        }
    }

    fn vote(token: u64) -> Batch {
        let hard_state = Some(HardState { term: Term(7), vote: None });
        Batch {
            token: PersistToken(token),
            hard_state,
            install: None,
            truncate_after: None,
            entries: Vec::new(),
        }
    }

    #[test]
    fn a_full_disk_holds_entries_back_but_not_votes_and_recovers_by_itself() {
        let shared = Arc::new(Shared::default());
        let (events, reported) = mpsc::sync_channel(1024);
        let report = move |event| events.send(event).unwrap();
        let mut disk = DiskThread::start(Box::new(Probe(Arc::clone(&shared))), report).unwrap();
        shared.full.store(true, Ordering::SeqCst);
        disk.persist(entries(1));
        assert!(matches!(reported.recv().unwrap(), DiskEvent::Full(true)));
        disk.persist(vote(2));
        assert!(matches!(reported.recv().unwrap(), DiskEvent::HardStatePersisted(PersistToken(2))));
        let backlog = disk.backlog();
        assert_eq!(backlog.waiting(), 2, "the entries, and the vote's turn behind them");
        shared.full.store(false, Ordering::SeqCst);
        assert!(matches!(reported.recv().unwrap(), DiskEvent::Persisted(PersistToken(2))));
        assert!(matches!(reported.recv().unwrap(), DiskEvent::Full(false)));
        disk.finish();
        let written: Vec<u64> = shared.written.lock().unwrap().iter().map(|t| t.0).collect();
        assert_eq!(written, [2, 1, 2]);
        assert_eq!(backlog.waiting(), 0);
    }

    #[test]
    fn many_batches_share_a_sync_and_the_last_token_is_reported() {
        let shared = Arc::new(Shared::default());
        let (events, reported) = mpsc::sync_channel(1024);
        let report = move |event| events.send(event).unwrap();
        let mut disk = DiskThread::start(Box::new(Probe(Arc::clone(&shared))), report).unwrap();
        for token in 1..=500 {
            disk.persist(entries(token));
        }
        disk.finish();
        let last = reported.iter().last().unwrap();
        assert!(matches!(last, DiskEvent::Persisted(PersistToken(500))));
        assert!(shared.syncs.load(Ordering::SeqCst) <= 500);
        assert_eq!(shared.written.lock().unwrap().len(), 500);
    }

    #[test]
    fn purges_have_their_turn_and_need_no_room() {
        let shared = Arc::new(Shared::default());
        let (events, reported) = mpsc::sync_channel(1024);
        let report = move |event| events.send(event).unwrap();
        let mut disk = DiskThread::start(Box::new(Probe(Arc::clone(&shared))), report).unwrap();
        disk.persist(entries(1));
        disk.purge(LogId::new(1, 1));
        disk.persist(entries(2));
        while !matches!(reported.recv().unwrap(), DiskEvent::Persisted(PersistToken(2))) {}
        assert_eq!(*shared.done.lock().unwrap(), ["batch 1", "purge 1", "batch 2"]);

        // What makes room is not held up by what waits for it.
        shared.full.store(true, Ordering::SeqCst);
        disk.persist(entries(3));
        assert!(matches!(reported.recv().unwrap(), DiskEvent::Full(true)));
        disk.purge(LogId::new(1, 2));
        disk.persist(vote(4));
        assert!(matches!(reported.recv().unwrap(), DiskEvent::HardStatePersisted(_)));
        shared.full.store(false, Ordering::SeqCst);
        while !matches!(reported.recv().unwrap(), DiskEvent::Persisted(PersistToken(4))) {}
        disk.finish();
        let done = shared.done.lock().unwrap().clone();
        assert_eq!(done[3..], ["purge 2", "batch 4", "batch 3", "batch 4"]);
    }
}
