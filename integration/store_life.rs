//! One process after another on a simulated disk, and a model that says what must be remembered.

use std::path::{Path, PathBuf};

use balsa::raft::{Boot, Entry, HardState, Index, LogId, NodeId};
use balsa::storage::faulty::{Failure, Survival};
use balsa::storage::{
    Batch, DataDir, FaultyDisk, LogOptions, LogStore, RestoredLog, StorageError, Wal,
};

use crate::store_snapshot_support::{content, from_elsewhere, head, receive, take};
use crate::store_support::{batch, command, term};

/// Where the data directory is.
const DATA: &str = "/data";

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 1536,
        first_segment_bytes: 1024,
        reserve_bytes: 256,
        background: false,
    }
}

/// What a log says, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) hard_state: HardState,
    /// The log begins behind this entry. In the model: what an install put there; purging does not
    /// count.
    pub(crate) base: LogId,
    pub(crate) entries: Vec<Entry>,
}

impl State {
    pub(crate) fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    /// The entry of an index, or the base.
    pub(crate) fn id_at(&self, index: Index) -> Option<LogId> {
        if index == self.base.index {
            return Some(self.base);
        }
        self.entries.iter().map(|entry| entry.id).find(|id| id.index == index)
    }

    /// Whether a log that is the same but for a purged prefix was found.
    fn is_found(&self, found: &State, purged: Index) -> bool {
        let base = found.base;
        let upto = purged.max(self.base.index);
        let gone = base.index.0.saturating_sub(self.base.index.0) as usize;
        found.hard_state == self.hard_state
            && (self.base.index..=upto).contains(&base.index)
            && self.id_at(base.index) == Some(base)
            && self.entries[gone..] == found.entries
    }
}

/// Every state that the records written so far went through, and which of them must last.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) states: Vec<State>,
    /// A sync succeeded behind this state.
    pub(crate) synced: usize,
    /// Something was written behind this state after a sync had succeeded, so that damage to what
    /// came before it can be told from a torn tail.
    pub(crate) proven: usize,
    /// What was allowed to go.
    pub(crate) purged: Index,
    /// The last entry of the current snapshot.
    pub(crate) snapshot: LogId,
    /// One that is being written or installed.
    pub(crate) next_snapshot: Option<LogId>,
    /// The highest index there ever was on the disk for good.
    pub(crate) reached: Index,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            states: vec![State::default()],
            synced: 0,
            proven: 0,
            purged: Index::ZERO,
            snapshot: LogId::ZERO,
            next_snapshot: None,
            reached: Index::ZERO,
        }
    }
}

impl Model {
    pub(crate) fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    /// Goes through the states of a batch: a crash may stop behind each of its records.
    pub(crate) fn append(&mut self, batch: &Batch) {
        let mut state = self.now().clone();
        if let Some(hard_state) = batch.hard_state {
            state.hard_state = hard_state;
            self.states.push(state.clone());
        }
        if let Some(snapshot) = &batch.install {
            self.next_snapshot = Some(snapshot.last);
            state.base = snapshot.last;
            state.entries.clear();
            self.states.push(state.clone());
        }
        if let Some(after) = batch.truncate_after {
            state.entries.truncate((after.0 - state.base.index.0) as usize);
            if batch.entries.is_empty() {
                self.states.push(state.clone());
            }
        }
        for entry in &batch.entries {
            state.entries.push(entry.clone());
            self.states.push(state.clone());
        }
    }

    pub(crate) fn sync(&mut self) {
        let from = self.synced;
        self.synced = self.states.len() - 1;
        let reached = self.states[from..].iter().map(|state| state.last().index).max();
        self.reached = self.reached.max(reached.unwrap_or_default());
    }

    /// Checks what a start found, and goes on from there.
    pub(crate) fn restore(&mut self, found: &State, snapshot: LogId) {
        let from = self.synced;
        let purged = self.purged;
        let at = self.states[from..].iter().rposition(|state| state.is_found(found, purged));
        let at = at.unwrap_or_else(|| {
            panic!("found {found:#?}\nand not one of the states from {:#?} on", self.states[from])
        });
        self.states.truncate(from + at + 1);
        self.synced = from + at;
        self.purged = found.base.index;
        let allowed = [Some(self.snapshot), self.next_snapshot];
        assert!(allowed.contains(&Some(snapshot)), "found the snapshot {snapshot}: {self:#?}");
        let held = self.now().id_at(snapshot.index);
        let covered = held == Some(snapshot) || snapshot == LogId::ZERO;
        assert!(covered, "the log goes on from its snapshot {snapshot}: {:#?}", self.now());
        (self.snapshot, self.next_snapshot) = (snapshot, None);
    }
}

/// One process after another on one disk.
pub(crate) struct Life {
    pub(crate) disk: FaultyDisk,
    pub(crate) log: Option<Wal>,
    pub(crate) dir: Option<DataDir>,
    pub(crate) model: Model,
    node: Option<NodeId>,
    boot: Boot,
}

fn state_of(log: &Wal, restored: &RestoredLog) -> Result<State, StorageError> {
    let base = restored.shape.base();
    let last = restored.shape.last().index;
    let entries = log.reader().read(base.index, last, u64::MAX)?;
    assert_eq!(entries.last().map_or(base.index, Entry::index), last);
    for entry in &entries {
        assert_eq!(restored.shape.term_at(entry.index()), Some(entry.id.term));
    }
    Ok(State { hard_state: restored.hard_state, base, entries })
}

#[allow(dead_code)]
pub(crate) fn open(disk: &FaultyDisk) -> Result<(DataDir, Wal, State), StorageError> {
    let dir = DataDir::open(disk.fs(), Path::new(DATA), "raft-0")?;
    let (log, restored) = dir.open_log(options())?;
    let state = state_of(&log, &restored)?;
    Ok((dir, log, state))
}

impl Life {
    pub(crate) fn new(disk: FaultyDisk) -> Life {
        let model = Model::default();
        Life { disk, log: None, dir: None, model, node: None, boot: Boot(0) }
    }

    pub(crate) fn open(&mut self) -> Result<(), StorageError> {
        let dir = DataDir::open(self.disk.fs(), Path::new(DATA), "raft-0")?;
        let (log, restored) = dir.open_log(options())?;
        let state = state_of(&log, &restored)?;
        // A crash may come between the boot counter and here, so it may have been raised meanwhile.
        assert!(dir.boot() > self.boot, "the boot counter never repeats (K4)");
        self.boot = dir.boot();
        assert!(self.node.is_none_or(|node| node == dir.node_id()), "a directory has one node id");
        self.node = Some(dir.node_id());
        let current = dir.snapshots().current();
        let snapshot = current.as_ref().map_or(LogId::ZERO, |file| file.id().last);
        assert_eq!(restored.snapshot, current.as_ref().map(|file| file.head().meta.clone()));
        self.model.restore(&state, snapshot);
        assert!(restored.reached >= self.model.reached, "what was reached is not forgotten");
        self.model.reached = restored.reached;
        if let Some(file) = current {
            assert_eq!(content(&file)?, snapshot_content(snapshot), "the snapshot is whole");
        }
        self.log = Some(log);
        self.dir = Some(dir);
        Ok(())
    }

    pub(crate) fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let installed = batch.install.as_ref().map(|snapshot| snapshot.last);
        let installing = self.model.states.len() + usize::from(batch.hard_state.is_some());
        self.model.append(batch);
        if self.model.synced + 1 < self.model.states.len() {
            self.model.proven = self.model.proven.max(self.model.synced);
        }
        self.log.as_mut().unwrap().append(batch)?;
        if let Some(snapshot) = installed {
            // An install and what comes before it is durable at once.
            (self.model.snapshot, self.model.next_snapshot) = (snapshot, None);
            self.model.synced = installing;
            self.model.reached = self.model.reached.max(snapshot.index);
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        self.log.as_mut().unwrap().sync()?;
        self.model.sync();
        Ok(())
    }

    /// Another process after this one, unless this one died of a failure that nobody noticed yet.
    pub(crate) fn restart(&mut self) -> Result<(), StorageError> {
        if self.disk.is_dead() {
            return Err(StorageError::OutOfRange { after: Index::ZERO, upto: Index::ZERO });
        }
        self.end();
        self.disk.kill();
        self.open()
    }

    pub(crate) fn lose_power(&mut self, survival: Survival) {
        self.end();
        self.disk.lose_power(survival);
    }

    fn end(&mut self) {
        self.log = None;
        self.dir = None;
    }
}

/// What the snapshot of an entry holds here: long enough for several sectors.
fn snapshot_content(last: LogId) -> Vec<u8> {
    let text = format!("everything up to {last}; ");
    text.repeat(30 + (last.index.0 % 50) as usize).into_bytes()
}

/// What only some tests do in a life.
#[allow(dead_code)]
impl Life {
    /// Takes a snapshot of what is synced, up to `index`.
    pub(crate) fn snapshot(&mut self, index: u64) -> Result<(), StorageError> {
        let last = self.model.states[self.model.synced].id_at(Index(index)).unwrap();
        self.model.next_snapshot = Some(last);
        let bytes = snapshot_content(last);
        let dir = self.dir.as_ref().unwrap();
        let (one, two) = bytes.split_at(bytes.len() / 3);
        take(dir.snapshots(), last, &[one, two])?;
        (self.model.snapshot, self.model.next_snapshot) = (last, None);
        Ok(())
    }

    pub(crate) fn purge(&mut self, index: u64) -> Result<(), StorageError> {
        let upto = self.model.now().id_at(Index(index)).unwrap();
        self.model.purged = self.model.purged.max(upto.index);
        self.log.as_mut().unwrap().purge(upto)
    }

    /// Receives another node's snapshot of `last`, in parts of `part` bytes.
    pub(crate) fn receive(&mut self, last: LogId, part: usize) -> Result<(), StorageError> {
        let (id, bytes) = from_elsewhere(&head(last), &[&snapshot_content(last)]);
        receive(self.dir.as_ref().unwrap().snapshots(), id, &bytes, part).map(drop)
    }
}

/// What a test does in a life.
#[allow(dead_code)]
pub(crate) type Script = fn(&mut Life) -> Result<(), StorageError>;

/// A short life after a crash: it must be possible to go on, and to start again after that; so
/// nothing may be written behind what is left of a torn tail (D9).
#[allow(dead_code)]
fn go_on(life: &mut Life) {
    let state = life.model.now();
    let next = state.hard_state.term.0 + 1;
    let index = state.last().index.0 + 1;
    life.append(&batch(term(next, None), None, vec![command(next, index, 300)])).unwrap();
    life.sync().unwrap();
}

/// Runs a script with one failing call, then cuts the power and looks.
#[allow(dead_code)]
pub(crate) fn fail_and_recover(script: Script, call: u64, failure: Failure, survival: Survival) {
    let mut life = Life::new(FaultyDisk::new());
    life.disk.fail_at(call, failure);
    if script(&mut life).is_ok() {
        // Only what is done ahead of need may fail unnoticed, and not for ever.
        assert!(matches!(failure, Failure::Error(_) | Failure::Partly), "call {call} was survived");
    }
    life.lose_power(survival);
    life.open().unwrap_or_else(|error| panic!("{call} {failure:?} {survival:?}: {error}"));
    let found = life.model.now().clone();
    // What was found is a promise now, even if the cache was all there was (D1).
    life.lose_power(Survival::Nothing);
    life.open().unwrap();
    assert_eq!(life.model.now(), &found, "{call} {failure:?} {survival:?}");
    go_on(&mut life);
    let found = life.model.now().clone();
    life.lose_power(Survival::Some(call));
    life.open().unwrap();
    assert_eq!(life.model.now(), &found, "{call} {failure:?} {survival:?}");
}

/// How many calls a script makes.
#[allow(dead_code)]
pub(crate) fn calls_of(script: Script) -> u64 {
    let mut life = Life::new(FaultyDisk::new());
    script(&mut life).unwrap();
    life.disk.calls()
}

/// A script: a life with elections, conflicts, group commits, full segments and restarts.
#[allow(dead_code)]
pub(crate) fn run(life: &mut Life) -> Result<(), StorageError> {
    life.open()?;
    life.append(&batch(term(1, Some(1)), None, vec![]))?;
    life.sync()?;
    for index in 1..=6 {
        life.append(&batch(None, None, vec![command(1, index, 90)]))?;
        if index % 2 == 0 {
            life.sync()?;
        }
    }
    life.append(&batch(term(3, None), Some(4), vec![command(3, 5, 10), command(3, 6, 10)]))?;
    life.append(&batch(term(3, Some(2)), None, vec![]))?;
    life.sync()?;
    life.append(&batch(None, None, vec![command(3, 7, 200), command(3, 8, 700)]))?;
    life.restart()?;
    life.append(&batch(term(4, None), Some(7), vec![]))?;
    life.sync()?;
    for index in 8..=12 {
        life.append(&batch(None, None, vec![command(4, index, 150)]))?;
        life.sync()?;
    }
    life.restart()?;
    life.append(&batch(term(5, Some(3)), Some(10), vec![command(5, 11, 33)]))?;
    life.sync()?;
    life.append(&batch(None, None, vec![command(5, 12, 33), command(5, 13, 33)]))?;
    life.sync()
}

/// The segments' files.
#[allow(dead_code)]
pub(crate) fn log_files(disk: &FaultyDisk) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "log")).collect()
}
