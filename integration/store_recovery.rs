//! What a start makes of a log that was cut short or damaged: exhaustively over every call of a
//! scripted life, and over every bit of a reference log (D7-D10).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::ErrorKind;
use std::path::PathBuf;

use balsa::exit::Exit;
use balsa::raft::Payload;
use balsa::storage::faulty::{Failure, SECTOR_BYTES, Survival};
use balsa::storage::{FaultyDisk, LogStore, StorageError};

mod store_life;
mod store_support;

use store_life::{Life, open};
use store_support::{batch, command, term};

/// A life with elections, conflicts, group commits, full segments and restarts.
fn run(life: &mut Life) -> Result<(), StorageError> {
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

/// A short life after a crash: it must be possible to go on, and to start again after that; so
/// nothing may be written behind what is left of a torn tail (D9).
fn go_on(life: &mut Life) {
    let state = life.model.now();
    let next = state.hard_state.term.0 + 1;
    let index = state.entries.len() as u64 + 1;
    life.append(&batch(term(next, None), None, vec![command(next, index, 300)])).unwrap();
    life.sync().unwrap();
}

#[test]
fn the_scripted_life_is_remembered() {
    let mut life = Life::new(FaultyDisk::new());
    run(&mut life).unwrap();
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
    if run(&mut life).is_ok() {
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

fn calls_of_the_scripted_life() -> u64 {
    let mut life = Life::new(FaultyDisk::new());
    run(&mut life).unwrap();
    life.disk.calls()
}

/// The calls include those that make the directory and its first files, and every sync of a
/// directory (D2): a name that was not durable when something relied on it would be missed here.
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

/// L2: deleting a conflicting suffix and appending the new one is one step on disk.
#[test]
fn a_crash_between_truncation_and_append_leaves_the_old_suffix_or_the_new() {
    let mut base = Life::new(FaultyDisk::new());
    base.open().unwrap();
    let old: Vec<_> = (1..=6).map(|index| command(1, index, 20)).collect();
    base.append(&batch(term(3, None), None, old.clone())).unwrap();
    base.sync().unwrap();
    base.log = None;
    base.disk.lose_power(Survival::Nothing);
    // The first new entry alone is longer than a sector, or both fit into one.
    for bytes in [20, 700] {
        let new = [command(3, 5, bytes), command(3, 6, bytes)];
        let replaced =
            [[&old[..4], &new[..1]].concat(), [&old[..4], &new[..]].concat(), old.clone()];
        let mut found = [0; 3];
        for (failure, seed) in [Failure::DieBefore, Failure::DieAfter]
            .into_iter()
            .flat_map(|failure| (0..150).map(move |seed| (failure, seed)))
        {
            for call in 0..8 {
                let disk = base.disk.fork();
                let (_, mut log, _) = open(&disk).unwrap();
                disk.fail_at(disk.calls() + call, failure);
                let synced = log
                    .append(&batch(None, Some(4), new.to_vec()))
                    .and_then(|()| log.sync())
                    .is_ok();
                drop(log);
                disk.lose_power(Survival::Some(seed));
                disk.fail_at(u64::MAX, failure);
                let (_, _, state) = open(&disk).unwrap();
                let outcome = replaced.iter().position(|entries| *entries == state.entries);
                let outcome = outcome.unwrap_or_else(|| panic!("L2: {:?}", state.entries));
                assert!(!synced || outcome == 1, "what was synced is there");
                found[outcome] += 1;
            }
        }
        assert!(found.iter().all(|count| *count > 0), "{bytes}: {found:?}");
    }
}

/// D3: a segment has its full length before the first record is in it, so that no sync has to write
/// a new length; and the zeros in it are no records.
#[test]
fn preallocated_zeros_are_no_records_and_no_write_makes_a_file_longer() {
    let lengths = |disk: &FaultyDisk| -> BTreeMap<PathBuf, usize> {
        let length = |path: PathBuf| (disk.content(&path).unwrap().len(), path);
        log_files(disk).into_iter().map(length).map(|(length, path)| (path, length)).collect()
    };
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    life.append(&batch(term(1, None), None, vec![])).unwrap();
    life.sync().unwrap();
    for index in 1..=20 {
        let before = lengths(&life.disk);
        life.append(&batch(None, None, vec![command(1, index, 60)])).unwrap();
        life.sync().unwrap();
        let after = lengths(&life.disk);
        assert!(before.iter().all(|(path, length)| after[path] == *length), "{before:?} {after:?}");
        let newest = after.keys().next_back().unwrap();
        assert!(life.disk.content(newest).unwrap().ends_with(&[0; 256]), "the rest is zeros");
        let disk = life.disk.fork();
        disk.lose_power(Survival::Nothing);
        assert_eq!(&open(&disk).unwrap().2, life.model.now());
    }
}

/// D9: where a tail was cut nothing is ever appended, so that the second start after the cut finds
/// what was written between the two.
#[test]
fn after_a_cut_the_log_goes_on_in_a_fresh_segment() {
    let life = reference();
    let torn = log_files(&life.disk)
        .into_iter()
        .rfind(|path| life.disk.content(path).unwrap().iter().any(|byte| *byte != 0))
        .unwrap();
    let content = life.disk.content(&torn).unwrap();
    let last = content.iter().rposition(|byte| *byte != 0).unwrap();
    let disk = life.disk.fork();
    disk.corrupt(&torn, |bytes| bytes[last] ^= 1);
    let (_, mut log, cut) = open(&disk).unwrap();
    assert!(cut.entries.len() < life.model.now().entries.len());
    let after_cut = disk.content(&torn).unwrap();
    let index = cut.entries.len() as u64 + 1;
    log.append(&batch(term(9, None), None, vec![command(9, index, 50)])).unwrap();
    log.sync().unwrap();
    drop(log);
    assert_eq!(disk.content(&torn).unwrap(), after_cut, "nothing was added to the torn segment");
    for _ in 0..2 {
        disk.lose_power(Survival::Nothing);
        let (_, _, state) = open(&disk).unwrap();
        assert_eq!(state.entries[..cut.entries.len()], cut.entries);
        assert_eq!(state.entries[cut.entries.len()..], [command(9, index, 50)]);
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
    run(&mut life).unwrap();
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
    run(&mut life).unwrap();
    life.log = None;
    life.disk.lose_power(Survival::Nothing);
    life
}

/// A log of three short segments, for what takes a start for every bit.
fn short_reference() -> Life {
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    life.append(&batch(term(1, Some(1)), None, vec![command(1, 1, 9), command(1, 2, 9)])).unwrap();
    life.sync().unwrap();
    life.append(&batch(term(2, None), Some(1), vec![command(2, 2, 9)])).unwrap();
    life.restart().unwrap();
    life.append(&batch(None, None, vec![command(2, 3, 9)])).unwrap();
    life.sync().unwrap();
    life.append(&batch(None, Some(2), vec![])).unwrap();
    life.sync().unwrap();
    life.restart().unwrap();
    life.append(&batch(None, None, vec![command(2, 3, 9)])).unwrap();
    life.sync().unwrap();
    life.append(&batch(None, None, vec![command(2, 4, 9), command(2, 5, 9)])).unwrap();
    life.sync().unwrap();
    life.log = None;
    life.disk.lose_power(Survival::Nothing);
    life
}

/// A log of many small group commits in segments that one process filled.
fn chatty_reference() -> Life {
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    life.append(&batch(term(1, None), None, vec![])).unwrap();
    for index in 1..=16 {
        life.append(&batch(None, None, vec![command(1, index, 20)])).unwrap();
        life.sync().unwrap();
    }
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
    /// Opens a changed reference log: it must be whole, cut within its last group commit, or
    /// refused.
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
                assert_eq!(Exit::of_storage(&error), Exit::Damaged);
                self.damaged += 1;
            }
            Err(error) => panic!("{what:?}: {error}"),
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_or_cut_within_the_last_commit() {
    let life = short_reference();
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

fn zero_every_sector(life: &Life) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for path in log_files(&life.disk) {
        let length = life.disk.content(&path).unwrap().len();
        for start in (0..length).step_by(SECTOR_BYTES) {
            let end = (start + SECTOR_BYTES).min(length);
            let zero = |disk: &FaultyDisk| disk.corrupt(&path, |bytes| bytes[start..end].fill(0));
            verdicts.judge(life, zero, &(&path, start));
        }
    }
    verdicts
}

#[test]
fn every_zeroed_sector_is_refused_or_cut_within_the_last_commit() {
    let verdicts = zero_every_sector(&reference());
    assert!(verdicts.damaged > 3 && verdicts.whole > 1 && verdicts.cut > 0, "{verdicts:?}");
}

#[test]
fn a_lost_sector_takes_no_commit_and_its_proof_together() {
    let life = chatty_reference();
    assert!(log_files(&life.disk).len() > 3, "several segments were filled");
    let verdicts = zero_every_sector(&life);
    // Every commit but the last is missed; the last one is the only one that can be cut.
    assert!(verdicts.damaged >= 15 && verdicts.cut == 1, "{verdicts:?}");
}

#[test]
fn a_broken_header_does_not_hide_a_segment() {
    let life = chatty_reference();
    let files = log_files(&life.disk);
    for path in &files {
        let mut verdicts = Verdicts::default();
        let content = life.disk.content(path).unwrap();
        let commits = content.chunks(SECTOR_BYTES).filter(|s| s.iter().any(|b| *b != 0)).count();
        for at in 0..40 {
            let flip = |disk: &FaultyDisk| disk.corrupt(path, |bytes| bytes[at] ^= 0x10);
            verdicts.judge(&life, flip, &(path, at));
        }
        // A segment with one commit may have been torn while it began; an empty one has no header.
        assert!(commits < 2 || verdicts.damaged == 40, "{path:?} {commits} {verdicts:?}");
    }
}

#[test]
fn a_sound_record_in_the_place_of_another_is_refused() {
    let life = chatty_reference();
    for path in log_files(&life.disk) {
        let content = life.disk.content(&path).unwrap();
        let used = |sector: &[u8]| sector.iter().any(|byte| *byte != 0);
        let sectors = content.chunks(SECTOR_BYTES).take_while(|sector| used(sector)).count();
        for (from, to) in (1..sectors).flat_map(|from| (1..sectors).map(move |to| (from, to))) {
            let copy = content[from * SECTOR_BYTES..][..SECTOR_BYTES].to_vec();
            let misdirect = |disk: &FaultyDisk| {
                disk.corrupt(&path, |bytes| {
                    bytes[to * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(&copy);
                });
            };
            Verdicts::default().judge(&life, misdirect, &(&path, from, to));
        }
    }
}

#[test]
fn damage_is_reported_where_it_is_and_as_what_it_is() {
    let life = chatty_reference();
    let files = log_files(&life.disk);
    let path = &files[0];
    let content = life.disk.content(path).unwrap();
    // Each commit is one record at the start of a sector, with padding behind it.
    let sectors = content.chunks(SECTOR_BYTES).take_while(|s| s.iter().any(|b| *b != 0)).count();
    assert!(sectors > 1 && content[sectors * SECTOR_BYTES - 8..][..8] == [0; 8]);
    let report = |at: usize, bit: u8| {
        let disk = life.disk.fork();
        disk.corrupt(path, |bytes| bytes[at] ^= bit);
        match open(&disk) {
            Err(StorageError::Damaged { offset, what, .. }) => (offset as usize, what),
            other => panic!("byte {at}: {other:?}"),
        }
    };
    for start in (1..sectors).map(|sector| sector * SECTOR_BYTES) {
        let (offset, what) = report(start + 44, 1);
        assert_eq!(offset, start);
        assert!(what.starts_with("a record with a wrong checksum"), "{what}");
        assert!(what.contains("--on-damage replace") && what.contains("set aside"), "{what}");
        let (offset, what) = report(start + 4, 1);
        assert_eq!(offset, start);
        assert!(what.starts_with("no record begins here"), "{what}");
        // In the padding nothing is lost, so it is not looked at.
        let disk = life.disk.fork();
        disk.corrupt(path, |bytes| bytes[start + SECTOR_BYTES - 8] ^= 1);
        assert_eq!(&open(&disk).unwrap().2, life.model.now());
    }
}

/// S3: the chain of checksums tells two sound records apart that say the same index and term.
#[test]
fn a_record_of_the_same_index_and_term_with_another_payload_is_refused() {
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    life.append(&batch(term(1, None), None, vec![])).unwrap();
    life.sync().unwrap();
    life.log = None;
    life.disk.kill();
    // One directory and its copy, in which another value stands at index 1: for each, what follows.
    let write = |value: u8, more: u64| {
        let disk = life.disk.fork();
        let (_, mut log, _) = open(&disk).unwrap();
        let mut first = command(1, 1, 0);
        first.payload = Payload::Command(vec![value; 100].into());
        log.append(&batch(None, None, vec![first])).unwrap();
        log.sync().unwrap();
        for index in 2..2 + more {
            log.append(&batch(None, None, vec![command(1, index, 100)])).unwrap();
            log.sync().unwrap();
        }
        disk
    };
    let other = write(b'y', 0);
    // The successor lies beside it, or the segment goes on into the next one.
    for more in 0..8 {
        let disk = write(b'x', more);
        let differs = |path: &&PathBuf| disk.content(path) != other.content(path);
        let path = log_files(&other).iter().find(differs).cloned().unwrap();
        let (own, foreign) = (disk.content(&path).unwrap(), other.content(&path).unwrap());
        let sector = own
            .chunks(SECTOR_BYTES)
            .zip(foreign.chunks(SECTOR_BYTES))
            .position(|(own, foreign)| own != foreign)
            .unwrap();
        let place = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        disk.corrupt(&path, |bytes| bytes[place.clone()].copy_from_slice(&foreign[place.clone()]));
        disk.kill();
        match (more, open(&disk).map(|(_, _, state)| state)) {
            // The newest record of all has no successor that could tell.
            (0, Ok(state)) => assert_eq!(state.entries.len(), 1),
            (1.., Err(StorageError::Damaged { what, offset, .. })) => {
                assert!(what.contains("follow"), "S3: {what}");
                assert_eq!(offset as usize, place.end, "the successor is the witness: {what}");
            }
            (_, other) => panic!("{more}: {other:?}"),
        }
    }
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
