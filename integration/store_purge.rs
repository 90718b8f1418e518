//! Own snapshots, purging and installs in a log's life: over every call of scripted lives, and what
//! the disk holds in the end (D2, D13, D15).

use std::io::ErrorKind;

use balsa::raft::{Index, LogId};
use balsa::storage::faulty::{Failure, Survival};
use balsa::storage::{Batch, FaultyDisk, LogStore, StorageError};

mod store_life;
#[allow(dead_code)] // not all of it is used here
mod store_snapshot_support;
mod store_support;

use store_life::{Life, Script, calls_of, fail_and_recover, log_files, open};
use store_snapshot_support::meta;
use store_support::{batch, command, term};

/// A script with snapshots of one's own, conflicts before and behind them, and purges.
fn purging(life: &mut Life) -> Result<(), StorageError> {
    life.open()?;
    life.append(&batch(term(1, Some(1)), None, vec![]))?;
    for index in 1..=12 {
        life.append(&batch(None, None, vec![command(1, index, 300)]))?;
        life.sync()?;
    }
    // Segments in the middle reach back behind their own beginning.
    life.append(&batch(term(2, None), Some(7), vec![command(2, 8, 400)]))?;
    life.append(&batch(None, None, vec![command(2, 9, 400)]))?;
    life.append(&batch(term(3, None), Some(8), vec![command(3, 9, 900)]))?;
    life.sync()?;
    life.snapshot(6)?;
    life.purge(4)?;
    for index in 10..=16 {
        life.append(&batch(None, None, vec![command(3, index, 500)]))?;
        life.sync()?;
    }
    life.snapshot(14)?;
    life.restart()?;
    life.append(&batch(None, None, vec![command(3, 17, 100)]))?;
    life.sync()?;
    life.purge(13)?;
    life.append(&batch(term(4, None), Some(15), vec![command(4, 16, 100)]))?;
    life.sync()?;
    // A segment that begins behind 16 and says in its first record what 16 is: it cannot be the first
    // one, although all before it may go, and it must not be taken for that after a crash.
    let rewritten = vec![command(5, 16, 1500), command(5, 17, 1500)];
    life.append(&batch(term(5, None), Some(15), rewritten))?;
    life.sync()?;
    life.snapshot(17)?;
    life.purge(16)?;
    life.restart()?;
    for index in 18..=24 {
        life.append(&batch(None, None, vec![command(5, index, 500)]))?;
        life.sync()?;
    }
    life.snapshot(24)?;
    life.purge(23)
}

fn install(
    life: &mut Life,
    last: LogId,
    behind: Vec<balsa::raft::Entry>,
) -> Result<(), StorageError> {
    // Beyond the snapshot's, so that a lost term would show.
    let hard_state = term(last.term.0 + 1, None);
    let install = Some(meta(last));
    life.append(&Batch { install, ..batch(hard_state, None, behind) })
}

/// A script in which a leader's snapshots take the log's place: of a log that is shorter, and of one
/// that conflicts.
fn installing(life: &mut Life) -> Result<(), StorageError> {
    life.open()?;
    life.append(&batch(term(1, Some(1)), None, vec![]))?;
    for index in 1..=5 {
        life.append(&batch(None, None, vec![command(1, index, 300)]))?;
        life.sync()?;
    }
    life.receive(LogId::new(2, 9), 700)?;
    life.append(&batch(None, None, vec![command(1, 6, 100)]))?;
    install(life, LogId::new(2, 9), vec![])?;
    life.sync()?;
    for index in 10..=15 {
        life.append(&batch(None, None, vec![command(2, index, 300)]))?;
        life.sync()?;
    }
    life.restart()?;
    life.receive(LogId::new(4, 12), 100_000)?;
    install(life, LogId::new(4, 12), vec![command(4, 13, 20), command(4, 14, 900)])?;
    life.sync()?;
    life.snapshot(13)?;
    life.purge(13)?;
    life.append(&batch(term(6, None), None, vec![command(6, 15, 20)]))?;
    life.sync()?;
    // Of an earlier term than what it replaces (Figure 8).
    life.receive(LogId::new(5, 15), 100_000)?;
    let install = Some(meta(LogId::new(5, 15)));
    life.append(&Batch { install, ..batch(term(7, None), None, vec![]) })?;
    life.sync()
}

fn crash_everywhere(script: Script, at_least: u64) {
    let calls = calls_of(script);
    assert!(calls > at_least, "the script is long enough to mean something: {calls}");
    for call in 0..calls {
        for failure in [Failure::DieBefore, Failure::DieAfter] {
            fail_and_recover(script, call, failure, Survival::Nothing);
            fail_and_recover(script, call, failure, Survival::Everything);
            for seed in 0..3 {
                fail_and_recover(script, call, failure, Survival::Some(seed * 1000 + call));
            }
        }
        for failure in [Failure::Error(ErrorKind::Other), Failure::Partly] {
            fail_and_recover(script, call, failure, Survival::Nothing);
            fail_and_recover(script, call, failure, Survival::Some(call));
        }
    }
}

#[test]
fn a_crash_at_any_call_of_a_purge_keeps_the_log() {
    crash_everywhere(purging, 100);
}

#[test]
fn a_crash_at_any_call_of_an_install_leaves_the_old_log_or_the_new() {
    crash_everywhere(installing, 100);
}

fn bytes_of(disk: &FaultyDisk) -> usize {
    disk.paths().iter().filter_map(|path| disk.content(path)).map(|content| content.len()).sum()
}

#[test]
fn purging_bounds_what_is_on_disk_and_in_memory() {
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    life.append(&batch(term(1, None), None, vec![])).unwrap();
    let mut most = 0;
    for index in 1..=400_u64 {
        life.append(&batch(None, None, vec![command(1, index, 200)])).unwrap();
        life.sync().unwrap();
        if index % 20 == 0 {
            life.snapshot(index).unwrap();
            life.purge(index - 5).unwrap();
            if index > 40 {
                most = most.max(bytes_of(&life.disk));
            }
        }
        if index % 70 == 0 {
            life.restart().unwrap();
        }
    }
    // Five trailing entries, what shares a segment with them, two snapshots, one segment ahead.
    assert!(most < 12 << 10, "{most} bytes, of {} written", 400 * 300);
    let files = log_files(&life.disk).len();
    assert!(files <= 8, "{files} segments");
    life.lose_power(Survival::Nothing);
    let (_, _, found) = open(&life.disk).unwrap();
    assert!(found.entries.len() <= 10, "{} entries", found.entries.len());
}

#[test]
fn what_is_purged_cannot_be_read_and_the_rest_can() {
    let mut life = Life::new(FaultyDisk::new());
    purging(&mut life).unwrap();
    let log = life.log.as_ref().unwrap();
    let gone = log.reader().read(Index(22), Index(24), u64::MAX);
    assert!(matches!(gone, Err(StorageError::OutOfRange { .. })), "{gone:?}");
    assert_eq!(log.reader().read(Index(23), Index(24), u64::MAX).unwrap().len(), 1);
    // Again, or up to less: nothing happens.
    let calls = life.disk.calls();
    life.log.as_mut().unwrap().purge(LogId::new(5, 23)).unwrap();
    life.log.as_mut().unwrap().purge(LogId::new(1, 4)).unwrap();
    assert_eq!(life.disk.calls(), calls);
}

#[test]
fn starts_without_anything_new_leave_no_segments_behind() {
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    for round in 1..=30 {
        life.append(&batch(term(round, Some(1)), None, vec![])).unwrap();
        life.sync().unwrap();
        life.append(&batch(term(round, Some(1)), None, vec![])).unwrap();
        life.sync().unwrap();
        life.restart().unwrap();
    }
    assert!(log_files(&life.disk).len() <= 2, "{:?}", log_files(&life.disk));
    // Nor do those whose entries a snapshot holds.
    for index in 1..=30 {
        life.append(&batch(None, None, vec![command(30, index, 10)])).unwrap();
        life.sync().unwrap();
        life.snapshot(index).unwrap();
        life.purge(index).unwrap();
        life.restart().unwrap();
    }
    assert!(log_files(&life.disk).len() <= 3, "{:?}", log_files(&life.disk));
}

/// A log that a purge has shortened, with its snapshot.
fn purged() -> Life {
    let mut life = Life::new(FaultyDisk::new());
    purging(&mut life).unwrap();
    life.lose_power(Survival::Nothing);
    life
}

fn snapshot_files(disk: &FaultyDisk) -> Vec<std::path::PathBuf> {
    let is_snapshot = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "snap");
    disk.paths().into_iter().filter(is_snapshot).collect()
}

#[test]
fn a_purged_log_without_its_snapshot_is_damage() {
    let life = purged();
    let files = snapshot_files(&life.disk);
    assert_eq!(files.len(), 1, "the older one is gone");
    let gone = life.disk.fork();
    gone.fs().remove(&files[0]).unwrap();
    let error = open(&gone).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("no snapshot holds"), "{error}");
    assert!(error.to_string().contains("--on-damage replace"), "{error}");
    // Every byte of the file is checked, and the file is what the message names.
    let length = life.disk.content(&files[0]).unwrap().len();
    for at in (0..length).step_by(7).chain([length - 1]) {
        let broken = life.disk.fork();
        broken.corrupt(&files[0], |bytes| bytes[at] ^= 8);
        let error = open(&broken).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{at}: {error}");
        assert!(error.to_string().contains(".snap is damaged"), "{at}: {error}");
        broken.corrupt(&files[0], |bytes| bytes[at] ^= 8);
        broken.kill();
        open(&broken).unwrap_or_else(|error| panic!("nothing was lost meanwhile: {error}"));
    }
    let short = life.disk.fork();
    short.corrupt(&files[0], |bytes| bytes.truncate(length / 2));
    assert!(matches!(open(&short).unwrap_err(), StorageError::Damaged { .. }));
}

#[test]
fn a_broken_snapshot_that_the_log_does_not_need_goes() {
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    let entries = (1..=5).map(|index| command(1, index, 100)).collect();
    life.append(&batch(term(1, None), None, entries)).unwrap();
    life.sync().unwrap();
    life.snapshot(4).unwrap();
    let expected = life.model.now().clone();
    life.lose_power(Survival::Nothing);
    let files = snapshot_files(&life.disk);
    life.disk.corrupt(&files[0], |bytes| bytes[50] ^= 1);
    let (dir, _, found) = open(&life.disk).unwrap();
    assert_eq!(found, expected, "D15: the log begins at its first entry, so nothing is missing");
    assert!(dir.snapshots().current().is_none() && snapshot_files(&life.disk).is_empty());
}

#[test]
fn a_snapshot_that_contradicts_the_log_is_damage() {
    let life = purged();
    // A snapshot that ends with an earlier term than the log has there, or before the log begins.
    for (last, what) in
        [(LogId::new(4, 24), "the log holds term"), (LogId::new(1, 3), "holds what is")]
    {
        let disk = life.disk.fork();
        for path in snapshot_files(&disk) {
            disk.fs().remove(&path).unwrap();
        }
        let dir = balsa::storage::DataDir::open(disk.fs(), std::path::Path::new("/data"), "raft-0");
        let dir = dir.unwrap();
        store_snapshot_support::take(dir.snapshots(), last, &[b"x"]).unwrap();
        drop(dir);
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn an_older_copy_of_the_snapshot_does_not_take_the_place_of_a_newer_one() {
    let mut life = Life::new(FaultyDisk::new());
    life.open().unwrap();
    let entries = (1..=8).map(|index| command(1, index, 100)).collect();
    life.append(&batch(term(1, None), None, entries)).unwrap();
    life.sync().unwrap();
    life.snapshot(4).unwrap();
    let old = snapshot_files(&life.disk).remove(0);
    let copy = life.disk.content(&old).unwrap();
    life.snapshot(6).unwrap();
    life.purge(5).unwrap();
    life.lose_power(Survival::Nothing);
    let file = life.disk.fs().create(&old).unwrap();
    file.write_at(&copy, 0).unwrap();
    file.sync().unwrap();
    life.disk.fs().sync_dir(old.parent().unwrap()).unwrap();
    life.open().unwrap();
    assert_eq!(snapshot_files(&life.disk).len(), 1, "the older one is removed");
    assert_eq!(life.model.snapshot, LogId::new(1, 6));
}

#[test]
fn rules_of_purge_and_install_are_kept() {
    let refuses = |act: &dyn Fn(&mut Life) -> Result<(), StorageError>| {
        let mut life = Life::new(FaultyDisk::new());
        purging(&mut life).unwrap();
        let act = std::panic::AssertUnwindSafe(|| act(&mut life));
        assert!(std::panic::catch_unwind(act).is_err());
    };
    // Beyond the log, another term; beyond the snapshot (6.1).
    refuses(&|life| life.log.as_mut().unwrap().purge(LogId::new(5, 40)));
    refuses(&|life| life.log.as_mut().unwrap().purge(LogId::new(4, 24)));
    refuses(&|life| {
        life.append(&batch(None, None, vec![command(5, 25, 1)]))?;
        life.sync()?;
        life.log.as_mut().unwrap().purge(LogId::new(5, 25))
    });
    // D14: a snapshot that is not there. L8: one whose end the log holds, one that is purged.
    refuses(&|life| install(life, LogId::new(6, 30), vec![]));
    refuses(&|life| {
        life.receive(LogId::new(5, 24), 100)?;
        install(life, LogId::new(5, 24), vec![])
    });
    refuses(&|life| {
        life.receive(LogId::new(5, 20), 100)?;
        install(life, LogId::new(5, 20), vec![])
    });
    // S3: what comes behind an install follows its end.
    refuses(&|life| {
        life.receive(LogId::new(6, 30), 100)?;
        install(life, LogId::new(6, 30), vec![command(6, 32, 1)])
    });
}
