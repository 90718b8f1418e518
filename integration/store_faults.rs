//! The ways in which a disk refuses: full, failing, locked, foreign, newer, damaged.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use balsa::exit::Exit;
use balsa::raft::{ClusterId, Index, LogId, NodeId, Term};
use balsa::storage::faulty::{Failure, Survival};
use balsa::storage::{
    DataDir, FaultyDisk, LogOptions, LogStore, MemoryDisk, MemoryLog, RealFs, RestoredLog,
    StorageError, Wal,
};

mod store_support;

use store_support::{batch, command, term};

const OPTIONS: LogOptions = LogOptions {
    segment_bytes: 16 << 10,
    first_segment_bytes: 8 << 10,
    reserve_bytes: 4 << 10,
    background: false,
};

fn open_dir(disk: &FaultyDisk) -> Result<DataDir, StorageError> {
    DataDir::open(disk.fs(), Path::new("/data"), "raft-0")
}

/// How a process ends that meets this error.
fn status(error: &StorageError) -> i32 {
    Exit::of_storage(error).code()
}

fn open(disk: &FaultyDisk) -> Result<(Wal, RestoredLog), StorageError> {
    open_dir(disk)?.open_log(OPTIONS)
}

/// Appends entries of one kibibyte until the store refuses; returns how many there are then.
fn fill(log: &mut Wal, mut last: u64) -> (u64, StorageError) {
    loop {
        let entry = command(1, last + 1, 1024);
        match log.append(&batch(None, None, vec![entry])) {
            Ok(()) => last += 1,
            Err(error) => return (last, error),
        }
        log.sync().unwrap();
    }
}

#[test]
fn a_full_disk_stops_entries_only_and_only_while_it_is_full() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    log.append(&batch(term(1, None), None, vec![])).unwrap();
    disk.set_room(Some(20 << 10));
    let (last, error) = fill(&mut log, 0);
    assert!(matches!(error, StorageError::NoSpace { .. }) && last > 5, "{last} {error}");

    // D11: nothing happened, and the log can be used: reads, elections, and their replies.
    assert_eq!(log.reader().read(Index(0), Index(last), u64::MAX).unwrap().len() as u64, last);
    for round in 2..=6 {
        log.append(&batch(term(round, Some(1)), None, vec![])).unwrap();
        log.sync().unwrap();
        let refused = log.append(&batch(None, None, vec![command(1, last + 1, 1024)]));
        assert!(matches!(refused, Err(StorageError::NoSpace { .. })));
    }

    // A start finds all of it, once there is room for the little that a start writes.
    let restarted = disk.fork();
    restarted.lose_power(Survival::Nothing);
    restarted.set_room(Some(9 << 10));
    let (_, restored) = open(&restarted).unwrap();
    assert_eq!(restored.shape.last(), LogId::new(1, last));
    assert_eq!(restored.hard_state.term, Term(6));

    // Room again: the refused batch goes through as it was.
    disk.set_room(None);
    log.append(&batch(None, None, vec![command(1, last + 1, 1024)])).unwrap();
    log.sync().unwrap();
    drop(log);
    let (_, restored) = open(&disk).unwrap();
    assert_eq!(restored.shape.last(), LogId::new(1, last + 1));
    assert_eq!(restored.hard_state.term, Term(6));
}

/// The bytes needed and the bytes free that an error for want of room names.
fn room(error: &StorageError) -> (u64, u64) {
    match error {
        StorageError::NoSpace { needed_bytes, free_bytes, .. } => {
            (*needed_bytes, free_bytes.expect("the faulty disk knows"))
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_full_disk_goes_on_as_soon_as_there_is_room_for_the_batch() {
    // D11: long before a segment of the full length fits again.
    let options = LogOptions { segment_bytes: 1 << 20, ..OPTIONS };
    let disk = FaultyDisk::new();
    let (mut log, _) = open_dir(&disk).unwrap().open_log(options).unwrap();
    log.append(&batch(term(1, None), None, vec![])).unwrap();
    disk.set_room(Some(0));
    let (mut last, mut error) = fill(&mut log, 0);
    for round in 0..5 {
        let (needed, free) = room(&error);
        assert_eq!(free, 0);
        assert!(needed < 16 << 10, "the batch, the reserve and a header: {needed}");
        assert!(error.to_string().contains(&format!("needs about {} KiB", needed / 1024)));
        let next = batch(None, None, vec![command(1, last + 1, 1024)]);
        for room in (0..needed).step_by(1 << 10).chain([needed - 1]) {
            disk.set_room(Some(room));
            assert!(matches!(log.append(&next), Err(StorageError::NoSpace { .. })), "{room}");
        }
        // From the second round on there is more, and a segment as long as may be uses it.
        let more = round * (9 << 10);
        disk.set_room(Some(needed + more));
        log.append(&next).unwrap();
        log.sync().unwrap();
        last += 1;
        let before = last;
        (last, _) = fill(&mut log, last);
        assert!((last - before) * (3 << 10) >= more, "{round}: {before} to {last}");
        disk.set_room(Some(0));
        let next = batch(None, None, vec![command(1, last + 1, 1024)]);
        error = log.append(&next).expect_err("nothing was freed");
    }
    // A batch as long as many segments names what it takes.
    let long = batch(None, None, vec![command(1, last + 1, 300 << 10)]);
    let (needed, _) = room(&log.append(&long).unwrap_err());
    assert!((300 << 10..320 << 10).contains(&needed), "{needed}");
    disk.set_room(Some(needed));
    log.append(&long).unwrap();
    log.sync().unwrap();
    drop(log);
    disk.set_room(None);
    assert_eq!(open(&disk).unwrap().1.shape.last(), LogId::new(1, last + 1));
}

#[test]
fn a_prepared_segment_makes_way_for_a_batch_that_it_cannot_hold() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    // Past the middle of the second segment, so that the third one, of 16 KiB, is ready.
    log.append(&batch(term(1, None), None, vec![command(1, 1, 3 << 10)])).unwrap();
    log.append(&batch(None, None, vec![command(1, 2, 10 << 10)])).unwrap();
    log.sync().unwrap();
    assert!(disk.content(Path::new("/data/log/00000000000000000003.log")).is_some());
    disk.set_room(Some(24 << 10));
    log.append(&batch(None, None, vec![command(1, 3, 30 << 10)])).unwrap();
    log.sync().unwrap();
    drop(log);
    disk.set_room(None);
    assert_eq!(open(&disk).unwrap().1.shape.last(), LogId::new(1, 3));
}

#[test]
fn a_start_without_room_says_so_and_changes_nothing() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    log.append(&batch(term(1, None), None, vec![command(1, 1, 100)])).unwrap();
    log.sync().unwrap();
    drop(log);
    for room in [0, 100, 1000, 5000] {
        disk.set_room(Some(room));
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, StorageError::NoSpace { .. }), "{room}: {error}");
        assert!(error.to_string().contains("a start needs about"), "{room}: {error}");
        assert!(error.to_string().contains("make room"), "{room}: {error}");
        disk.kill();
    }
    // What it names is enough, also where the first write is already one too many.
    for small in [0, 1000] {
        let disk = disk.fork();
        disk.set_room(Some(small));
        let open = || open_dir(&disk)?.open_log(LogOptions::default());
        let (needed, free) = room(&open().unwrap_err());
        assert!(free <= small && (256 << 10..512 << 10).contains(&needed), "{needed} {free}");
        disk.kill();
        disk.set_room(Some(needed));
        assert_eq!(open().unwrap().1.shape.last(), LogId::new(1, 1));
    }
    disk.set_room(None);
    assert_eq!(open(&disk).unwrap().1.shape.last(), LogId::new(1, 1));
}

#[test]
fn a_start_with_little_room_makes_do_with_a_short_segment() {
    let disk = FaultyDisk::new();
    drop(open(&disk).unwrap());
    disk.set_room(Some(20 << 10));
    let long = LogOptions { segment_bytes: 1 << 20, first_segment_bytes: 1 << 20, ..OPTIONS };
    let (mut log, _) = open_dir(&disk).unwrap().open_log(long).unwrap();
    log.append(&batch(term(1, Some(1)), None, vec![])).unwrap();
    log.sync().unwrap();
}

#[test]
fn the_first_failed_sync_is_final() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    log.append(&batch(term(1, None), None, vec![command(1, 1, 100)])).unwrap();
    log.sync().unwrap();
    log.append(&batch(None, None, vec![command(1, 2, 100)])).unwrap();
    disk.fail_at(disk.calls(), Failure::Error(ErrorKind::Other));
    assert!(matches!(log.sync(), Err(StorageError::Io { .. })));
    // The disk would say yes now, having forgotten that the pages were dirty (D1).
    assert!(matches!(log.sync(), Err(StorageError::Io { .. })));
    assert!(log.append(&batch(None, None, vec![command(1, 3, 100)])).is_err());
    drop(log);
    // The next process finds the entry in the cache; by saying so it makes it durable.
    disk.kill();
    let (_, restored) = open(&disk).unwrap();
    assert_eq!(restored.shape.last(), LogId::new(1, 2));
    disk.lose_power(Survival::Nothing);
    assert_eq!(open(&disk).unwrap().1.shape.last(), LogId::new(1, 2));
}

#[test]
fn a_full_disk_found_by_a_write_ends_the_store() {
    // Preallocation should make it impossible; a file system that breaks that promise is not
    // trusted.
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    disk.fail_at(disk.calls(), Failure::Error(ErrorKind::StorageFull));
    let error = log.append(&batch(term(1, None), None, vec![])).unwrap_err();
    assert!(matches!(error, StorageError::Io { .. }) && status(&error) == 74, "{error}");
    assert!(log.sync().is_err());
}

#[test]
fn rot_is_noticed_by_every_read() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    let entries: Vec<_> = (1..=3).map(|index| command(1, index, 100)).collect();
    log.append(&batch(term(1, None), None, entries)).unwrap();
    log.sync().unwrap();
    let reader = log.reader();
    let path = Path::new("/data/log/00000000000000000001.log");
    let content = disk.content(path).unwrap();
    let value = command(1, 2, 100);
    let balsa::raft::Payload::Command(value) = value.payload else { panic!("a command") };
    let at = content.windows(100).position(|window| window == &value[..]).unwrap();
    disk.corrupt(path, |bytes| bytes[at + 50] ^= 4);
    assert_eq!(reader.read(Index(0), Index(1), u64::MAX).unwrap().len(), 1);
    for (after, upto) in [(0, 3), (1, 2), (1, 3)] {
        let error = reader.read(Index(after), Index(upto), u64::MAX).unwrap_err();
        assert_eq!(status(&error), 65, "D16: {error}");
    }
    assert_eq!(reader.read(Index(2), Index(3), u64::MAX).unwrap().len(), 1);
}

#[test]
fn a_value_that_looks_like_a_record_is_a_value() {
    // A client stores the bytes of a real record of this very segment in the value that gets torn.
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    log.append(&batch(term(1, None), None, vec![command(1, 1, 8)])).unwrap();
    log.sync().unwrap();
    let path = Path::new("/data/log/00000000000000000001.log");
    let stolen = disk.content(path).unwrap()[512..1024].to_vec();
    let mut forged = command(1, 2, 0);
    let value = [&[b'x'; 600][..], &stolen, &stolen, &stolen].concat();
    forged.payload = balsa::raft::Payload::Command(value.into());
    log.append(&batch(None, None, vec![forged])).unwrap();
    for seed in 0..100 {
        let disk = disk.fork();
        disk.lose_power(Survival::Some(seed));
        let (_, restored) = open(&disk).unwrap();
        assert!(restored.shape.last() == LogId::new(1, 1) || restored.shape.last().index.0 == 2);
    }
}

#[test]
fn memory_forgets_what_was_not_synced() {
    let disk = MemoryDisk::default();
    let (mut log, _) = MemoryLog::open(&disk);
    let entries: Vec<_> = (1..=3).map(|index| command(1, index, 1)).collect();
    log.append(&batch(term(1, Some(1)), None, entries)).unwrap();
    log.sync().unwrap();
    log.append(&batch(term(2, None), Some(1), vec![command(2, 2, 1)])).unwrap();
    disk.lose_power();
    let (_, restored) = MemoryLog::open(&disk);
    assert_eq!(restored.shape.last(), LogId::new(1, 3));
    assert_eq!((restored.hard_state.term, restored.hard_state.vote), (Term(1), Some(NodeId(1))));
}

#[test]
fn one_directory_has_one_user_and_one_seat() {
    let temporary = tempfile::tempdir().unwrap();
    let path: &Path = &temporary.path().join("a/b/data");
    let open = |seat: &str| DataDir::open(Arc::new(RealFs), path, seat);
    let first = open("raft-0").unwrap();
    assert!(first.is_new() && first.node_id() != NodeId(0) && first.boot().count() == 1);
    let locked = open("raft-0").unwrap_err();
    assert!(matches!(locked, StorageError::Locked { .. }) && status(&locked) == 73);
    // The log holds the lock as well.
    let node = first.node_id();
    let log = first.open_log(OPTIONS).unwrap();
    drop(first);
    assert!(matches!(open("raft-0"), Err(StorageError::Locked { .. })));
    drop(log);
    let foreign = open("raft-1").unwrap_err();
    assert!(matches!(foreign, StorageError::Foreign { .. }) && status(&foreign) == 73);
    assert!(foreign.to_string().contains("raft-0") && foreign.to_string().contains("raft-1"));
    let again = open("raft-0").unwrap();
    assert!(!again.is_new() && again.node_id() == node && again.boot().count() == 2);
}

#[test]
fn two_directories_are_two_nodes() {
    let nodes: Vec<NodeId> =
        (0..20).map(|_| open_dir(&FaultyDisk::new()).unwrap().node_id()).collect();
    let different: std::collections::BTreeSet<_> = nodes.iter().collect();
    assert_eq!(different.len(), nodes.len(), "M7, D17");
}

#[test]
fn a_directory_keeps_its_cluster_and_its_founding_record() {
    let disk = FaultyDisk::new();
    let dir = open_dir(&disk).unwrap();
    assert_eq!((dir.cluster(), dir.founding().unwrap()), (None, None));
    dir.write_founding(b"a draft").unwrap();
    dir.write_founding(b"a decision").unwrap();
    dir.write_cluster(ClusterId(5)).unwrap();
    drop(dir);
    disk.lose_power(Survival::Nothing);
    let dir = open_dir(&disk).unwrap();
    assert_eq!(dir.cluster(), Some(ClusterId(5)));
    assert_eq!(dir.founding().unwrap().as_deref(), Some(&b"a decision"[..]));
    dir.write_cluster(ClusterId(5)).unwrap();
    let foreign = dir.write_cluster(ClusterId(6)).unwrap_err();
    assert!(matches!(foreign, StorageError::Foreign { .. }), "{foreign}");
    disk.corrupt(Path::new("/data/founding"), |bytes| bytes[25] ^= 1);
    assert_eq!(status(&dir.founding().unwrap_err()), 65);
}

#[test]
fn a_directory_without_its_identity_is_no_new_node() {
    let disk = FaultyDisk::new();
    drop(open(&disk).unwrap());
    let identity = Path::new("/data/identity");
    let gone = disk.fork();
    gone.fs().remove(identity).unwrap();
    assert_eq!(status(&open_dir(&gone).unwrap_err()), 65, "D17");
    let damaged = disk.fork();
    damaged.corrupt(identity, |bytes| bytes[30] ^= 1);
    let error = open_dir(&damaged).unwrap_err();
    assert_eq!(status(&error), 65);
    assert!(error.to_string().contains("/data/identity") && error.to_string().contains("aside"));
    // What cannot be read is left as it is.
    assert_eq!(damaged.content(identity).unwrap().len(), disk.content(identity).unwrap().len());
}

#[test]
fn a_log_that_vanished_is_damage() {
    let disk = FaultyDisk::new();
    drop(open(&disk).unwrap());
    for path in disk.paths().iter().filter(|path| path.starts_with("/data/log")) {
        disk.fs().remove(path).unwrap();
    }
    assert_eq!(status(&open(&disk).unwrap_err()), 65);
}

#[test]
fn the_log_of_another_directory_is_damage() {
    let (one, other) = (FaultyDisk::new(), FaultyDisk::new());
    drop(open(&one).unwrap());
    drop(open(&other).unwrap());
    let path = Path::new("/data/log/00000000000000000001.log");
    let content = other.content(path).unwrap();
    one.corrupt(path, |bytes| *bytes = content);
    assert_eq!(status(&open(&one).unwrap_err()), 65, "D4");
}
