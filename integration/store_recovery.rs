//! What a start makes of a log that was cut short or damaged: exhaustively over every call of a
//! scripted life (D1-D3, D7).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use balsa::storage::faulty::{Failure, Survival};
use balsa::storage::{FaultyDisk, LogStore, StorageError};

mod store_life;
#[allow(dead_code)] // not all of it is used here
mod store_snapshot_support;
mod store_support;

use store_life::{Life, calls_of, fail_and_recover, log_files, open, run};
use store_support::{batch, command, term};

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

/// The calls include those that make the directory and its first files, and every sync of a
/// directory (D2): a name that was not durable when something relied on it would be missed here.
#[test]
fn a_crash_at_any_call_keeps_all_that_was_synced() {
    let calls = calls_of(run);
    assert!(calls > 60, "the script is long enough to mean something: {calls}");
    for call in 0..calls {
        for failure in [Failure::DieBefore, Failure::DieAfter] {
            fail_and_recover(run, call, failure, Survival::Nothing);
            fail_and_recover(run, call, failure, Survival::Everything);
            for seed in 0..6 {
                fail_and_recover(run, call, failure, Survival::Some(seed * 1000 + call));
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

#[test]
fn a_failing_call_stops_the_store_and_loses_nothing() {
    for call in 0..calls_of(run) {
        for failure in [Failure::Error(ErrorKind::Other), Failure::Partly] {
            fail_and_recover(run, call, failure, Survival::Nothing);
            fail_and_recover(run, call, failure, Survival::Everything);
            fail_and_recover(run, call, failure, Survival::Some(call));
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
