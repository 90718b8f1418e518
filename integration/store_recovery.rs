//! What a start makes of a log that was cut short or damaged: exhaustively over every call of a scripted
//! life, and over every bit of a reference log (D7-D10).

use std::fmt::Debug;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use balsa::raft::{Boot, Entry, HardState, Index, NodeId};
use balsa::storage::faulty::{Failure, SECTOR_BYTES, Survival};
use balsa::storage::{
    Batch, DataDir, FaultyDisk, LogOptions, LogStore, RestoredLog, StorageError, Wal,
};

mod store_support;

use store_support::{batch, command, term};

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
struct State {
    hard_state: HardState,
    entries: Vec<Entry>,
}

/// Every state that the records written so far went through, and which of them must last.
#[derive(Clone, Debug)]
struct Model {
    states: Vec<State>,
    /// A sync succeeded behind this state.
    synced: usize,
    /// Something was written behind this state after a sync had succeeded, so that damage to what came
    /// before it can be told from a torn tail.
    proven: usize,
}

impl Default for Model {
    fn default() -> Model {
        Model { states: vec![State::default()], synced: 0, proven: 0 }
    }
}

impl Model {
    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    /// Goes through the states of a batch: a crash may stop behind each of its records.
    fn append(&mut self, batch: &Batch) {
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

    fn sync(&mut self) {
        self.synced = self.states.len() - 1;
    }

    /// Checks what a start found, and goes on from there.
    fn restore(&mut self, found: &State) {
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
struct Life {
    disk: FaultyDisk,
    log: Option<Wal>,
    model: Model,
    node: Option<NodeId>,
    boot: Boot,
}

fn state_of(log: &Wal, restored: &RestoredLog) -> Result<State, StorageError> {
    let last = restored.shape.last().index;
    let entries = log.reader().read(Index::ZERO, last, u64::MAX)?;
    assert_eq!(entries.last().map(Entry::index).unwrap_or_default(), last);
    Ok(State { hard_state: restored.hard_state, entries })
}

fn open(disk: &FaultyDisk) -> Result<(DataDir, Wal, State), StorageError> {
    let dir = DataDir::open(disk.fs(), Path::new(DATA), "raft-0")?;
    let (log, restored) = dir.open_log(options())?;
    let state = state_of(&log, &restored)?;
    Ok((dir, log, state))
}

impl Life {
    fn new(disk: FaultyDisk) -> Life {
        Life { disk, log: None, model: Model::default(), node: None, boot: Boot(0) }
    }

    fn open(&mut self) -> Result<(), StorageError> {
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

    fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.model.append(batch);
        if self.model.synced + 1 < self.model.states.len() {
            self.model.proven = self.model.proven.max(self.model.synced);
        }
        self.log.as_mut().unwrap().append(batch)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.log.as_mut().unwrap().sync()?;
        self.model.sync();
        Ok(())
    }

    /// Another process after this one, unless this one died of a failure that nobody noticed yet.
    fn restart(&mut self) -> Result<(), StorageError> {
        if self.disk.is_dead() {
            return Err(StorageError::OutOfRange { after: Index::ZERO, upto: Index::ZERO });
        }
        self.log = None;
        self.disk.kill();
        self.open()
    }

    fn lose_power(&mut self, survival: Survival) {
        self.log = None;
        self.disk.lose_power(survival);
    }

    /// A life with elections, conflicts, group commits, full segments and restarts.
    fn run(&mut self) -> Result<(), StorageError> {
        self.open()?;
        self.append(&batch(term(1, Some(1)), None, vec![]))?;
        self.sync()?;
        for index in 1..=6 {
            self.append(&batch(None, None, vec![command(1, index, 90)]))?;
            if index % 2 == 0 {
                self.sync()?;
            }
        }
        self.append(&batch(term(3, None), Some(4), vec![command(3, 5, 10), command(3, 6, 10)]))?;
        self.append(&batch(term(3, Some(2)), None, vec![]))?;
        self.sync()?;
        self.append(&batch(None, None, vec![command(3, 7, 200), command(3, 8, 700)]))?;
        self.restart()?;
        self.append(&batch(term(4, None), Some(7), vec![]))?;
        self.sync()?;
        for index in 8..=12 {
            self.append(&batch(None, None, vec![command(4, index, 150)]))?;
            self.sync()?;
        }
        self.restart()?;
        self.append(&batch(term(5, Some(3)), Some(10), vec![command(5, 11, 33)]))?;
        self.sync()?;
        self.append(&batch(None, None, vec![command(5, 12, 33), command(5, 13, 33)]))?;
        self.sync()
    }

    /// A short life after a crash: it must be possible to go on.
    fn go_on(&mut self) {
        let state = self.model.now();
        let next = state.hard_state.term.0 + 1;
        let index = state.entries.len() as u64 + 1;
        self.append(&batch(term(next, None), None, vec![command(next, index, 300)])).unwrap();
        self.sync().unwrap();
    }
}

#[test]
fn the_scripted_life_is_remembered() {
    let mut life = Life::new(FaultyDisk::new());
    life.run().unwrap();
    let expected = life.model.now().clone();
    for survival in [Survival::Nothing, Survival::Some(1), Survival::Everything] {
        life.lose_power(survival);
        life.open().unwrap();
        assert_eq!(life.model.now(), &expected);
    }
}

/// Runs the scripted life with one failing call, then cuts the power and looks.
fn fail_and_recover(call: u64, failure: Failure, survival: Survival) {
    let mut life = Life::new(FaultyDisk::new());
    life.disk.fail_at(call, failure);
    if life.run().is_ok() {
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
    life.go_on();
    let found = life.model.now().clone();
    life.lose_power(Survival::Some(call));
    life.open().unwrap();
    assert_eq!(life.model.now(), &found, "{call} {failure:?} {survival:?}");
}

fn calls_of_the_scripted_life() -> u64 {
    let mut life = Life::new(FaultyDisk::new());
    life.run().unwrap();
    life.disk.calls()
}

#[test]
fn a_crash_at_any_call_keeps_all_that_was_synced() {
    let calls = calls_of_the_scripted_life();
    assert!(calls > 60, "the script is long enough to mean something: {calls}");
    for call in 0..calls {
        for failure in [Failure::DieBefore, Failure::DieAfter] {
            fail_and_recover(call, failure, Survival::Nothing);
            fail_and_recover(call, failure, Survival::Everything);
            for seed in 0..6 {
                fail_and_recover(call, failure, Survival::Some(seed * 1000 + call));
            }
        }
    }
}

#[test]
fn a_failing_call_stops_the_store_and_loses_nothing() {
    for call in 0..calls_of_the_scripted_life() {
        for failure in [Failure::Error(ErrorKind::Other), Failure::Partly] {
            fail_and_recover(call, failure, Survival::Nothing);
            fail_and_recover(call, failure, Survival::Everything);
            fail_and_recover(call, failure, Survival::Some(call));
        }
    }
}

#[test]
fn a_failing_read_is_reported_as_such_and_never_as_damage() {
    let mut life = Life::new(FaultyDisk::new());
    life.run().unwrap();
    life.lose_power(Survival::Nothing);
    let expected = life.model.now().clone();
    let mut failures = 0;
    for skip in 0.. {
        let disk = life.disk.fork();
        disk.fail_read_after(skip);
        match open(&disk) {
            Ok((_, _, state)) => {
                assert_eq!(state, expected);
                break;
            }
            Err(StorageError::Io { .. }) => failures += 1,
            Err(other) => panic!("read {skip}: {other}"),
        }
        disk.kill();
        assert_eq!(open(&disk).unwrap().2, expected, "a failed start changes nothing");
    }
    assert!(failures > 5, "{failures}");
}

/// A log of several segments whose last group commit is larger than one record.
fn reference() -> Life {
    let mut life = Life::new(FaultyDisk::new());
    life.run().unwrap();
    life.log = None;
    life.disk.lose_power(Survival::Nothing);
    life
}

fn log_files(disk: &FaultyDisk) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "log")).collect()
}

#[derive(Debug, Default)]
struct Verdicts {
    whole: usize,
    cut: usize,
    damaged: usize,
}

impl Verdicts {
    /// Opens a changed reference log: it must be whole, cut within its last group commit, or refused.
    fn judge(&mut self, life: &Life, change: impl FnOnce(&FaultyDisk), what: &dyn Debug) {
        let disk = life.disk.fork();
        change(&disk);
        match open(&disk) {
            Ok((_, _, state)) if state == *life.model.now() => self.whole += 1,
            Ok((_, _, state)) => {
                let allowed = &life.model.states[life.model.proven..];
                assert!(
                    allowed.contains(&state),
                    "{what:?}: something durable was lost: {state:?}"
                );
                self.cut += 1;
            }
            Err(error @ StorageError::Damaged { .. }) => {
                assert_eq!(error.exit_status(), 65);
                self.damaged += 1;
            }
            Err(error) => panic!("{what:?}: {error}"),
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_or_cut_within_the_last_commit() {
    let life = reference();
    let mut verdicts = Verdicts::default();
    for path in log_files(&life.disk) {
        let content = life.disk.content(&path).unwrap();
        // Behind the last byte that is not zero one sector stands for all.
        let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        for at in 0..content.len().min(end + SECTOR_BYTES) {
            for bit in 0..8 {
                let flip = |disk: &FaultyDisk| disk.corrupt(&path, |bytes| bytes[at] ^= 1 << bit);
                verdicts.judge(&life, flip, &(&path, at, bit));
            }
        }
    }
    assert!(verdicts.damaged > 1000 && verdicts.whole > 1000 && verdicts.cut > 100, "{verdicts:?}");
}

#[test]
fn every_zeroed_sector_is_refused_or_cut_within_the_last_commit() {
    let life = reference();
    let mut verdicts = Verdicts::default();
    for path in log_files(&life.disk) {
        let length = life.disk.content(&path).unwrap().len();
        for start in (0..length).step_by(SECTOR_BYTES) {
            let end = (start + SECTOR_BYTES).min(length);
            let zero = |disk: &FaultyDisk| disk.corrupt(&path, |bytes| bytes[start..end].fill(0));
            verdicts.judge(&life, zero, &(&path, start));
        }
    }
    assert!(verdicts.damaged > 3 && verdicts.whole > 1 && verdicts.cut > 0, "{verdicts:?}");
}

#[test]
fn every_shortened_or_missing_file_is_refused() {
    let life = reference();
    let mut verdicts = Verdicts::default();
    let files = log_files(&life.disk);
    let newest = files
        .iter()
        .rposition(|path| life.disk.content(path).unwrap().iter().any(|byte| *byte != 0))
        .unwrap();
    for (number, path) in files.iter().enumerate() {
        let length = life.disk.content(path).unwrap().len();
        for keep in 0..length {
            let damaged = verdicts.damaged;
            verdicts.judge(&life, |disk| disk.corrupt(path, |b| b.truncate(keep)), &(path, keep));
            assert!(number != newest || verdicts.damaged > damaged, "{path:?} {keep}");
            assert_eq!(verdicts.cut, 0, "a shorter file is no torn write: {path:?} {keep}");
        }
        let damaged = verdicts.damaged;
        verdicts.judge(&life, |disk| disk.fs().remove(path).unwrap(), path);
        assert!(number >= newest || verdicts.damaged > damaged, "{path:?} removed");
    }
    assert!(verdicts.damaged > 1000, "{verdicts:?}");
}
