//! One process after another on a simulated disk, and a model that says what must be remembered.

use std::path::Path;

use balsa::raft::{Boot, Entry, HardState, Index, NodeId};
use balsa::storage::faulty::Survival;
use balsa::storage::{
    Batch, DataDir, FaultyDisk, LogOptions, LogStore, RestoredLog, StorageError, Wal,
};

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
    pub(crate) entries: Vec<Entry>,
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
}

impl Default for Model {
    fn default() -> Model {
        Model { states: vec![State::default()], synced: 0, proven: 0 }
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
        if let Some(after) = batch.truncate_after {
            state.entries.truncate(after.0 as usize);
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
        self.synced = self.states.len() - 1;
    }

    /// Checks what a start found, and goes on from there.
    pub(crate) fn restore(&mut self, found: &State) {
        let from = self.synced;
        let at = self.states[from..].iter().rposition(|state| state == found);
        let at = at.unwrap_or_else(|| {
            panic!("found {found:#?}\nand not one of the states from {:#?} on", self.states[from])
        });
        self.states.truncate(from + at + 1);
        self.sync();
    }
}

/// One process after another on one disk.
pub(crate) struct Life {
    pub(crate) disk: FaultyDisk,
    pub(crate) log: Option<Wal>,
    pub(crate) model: Model,
    node: Option<NodeId>,
    boot: Boot,
}

fn state_of(log: &Wal, restored: &RestoredLog) -> Result<State, StorageError> {
    let last = restored.shape.last().index;
    let entries = log.reader().read(Index::ZERO, last, u64::MAX)?;
    assert_eq!(entries.last().map(Entry::index).unwrap_or_default(), last);
    Ok(State { hard_state: restored.hard_state, entries })
}

pub(crate) fn open(disk: &FaultyDisk) -> Result<(DataDir, Wal, State), StorageError> {
    let dir = DataDir::open(disk.fs(), Path::new(DATA), "raft-0")?;
    let (log, restored) = dir.open_log(options())?;
    let state = state_of(&log, &restored)?;
    Ok((dir, log, state))
}

impl Life {
    pub(crate) fn new(disk: FaultyDisk) -> Life {
        Life { disk, log: None, model: Model::default(), node: None, boot: Boot(0) }
    }

    pub(crate) fn open(&mut self) -> Result<(), StorageError> {
        let (dir, log, state) = open(&self.disk)?;
        // A crash may come between the boot counter and here, so it may have been raised meanwhile.
        assert!(dir.boot() > self.boot, "the boot counter never repeats (K4)");
        self.boot = dir.boot();
        assert!(self.node.is_none_or(|node| node == dir.node_id()), "a directory has one node id");
        self.node = Some(dir.node_id());
        self.model.restore(&state);
        self.log = Some(log);
        Ok(())
    }

    pub(crate) fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.model.append(batch);
        if self.model.synced + 1 < self.model.states.len() {
            self.model.proven = self.model.proven.max(self.model.synced);
        }
        self.log.as_mut().unwrap().append(batch)
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
        self.log = None;
        self.disk.kill();
        self.open()
    }

    pub(crate) fn lose_power(&mut self, survival: Survival) {
        self.log = None;
        self.disk.lose_power(survival);
    }
}
