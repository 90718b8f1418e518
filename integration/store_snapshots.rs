//! Snapshot files: written, received in parts, refused, and found again after a crash at any call
//! (D2, D13, D14, L9).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use balsa::exit::Exit;
use balsa::raft::{ClusterId, Index, LogId, SnapshotId, Term};
use balsa::storage::faulty::{Failure, Survival};
use balsa::storage::{
    DataDir, FaultyDisk, LogOptions, LogStore, RealFs, SnapshotHead, SnapshotStore, StorageError,
};

#[allow(dead_code)] // not all of it is used here
mod store_snapshot_support;
mod store_support;

use store_snapshot_support::{CLUSTER, content, from_elsewhere, head, receive, take};
use store_support::{batch, command, term};

const OPTIONS: LogOptions = LogOptions {
    segment_bytes: 16 << 10,
    first_segment_bytes: 8 << 10,
    reserve_bytes: 4 << 10,
    background: false,
};

fn open(disk: &FaultyDisk) -> Result<DataDir, StorageError> {
    DataDir::open(disk.fs(), Path::new("/data"), "raft-0")
}

fn names(disk: &FaultyDisk) -> Vec<String> {
    let inside = |path: &PathBuf| path.parent() == Some(Path::new("/data/snapshot"));
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    disk.paths().into_iter().filter(inside).map(name).collect()
}

/// Content of `pieces` pieces of 3000 bytes.
fn pieces(pieces: u8) -> Vec<Vec<u8>> {
    (0..pieces).map(|piece| vec![piece; 3000]).collect()
}

fn slices(pieces: &[Vec<u8>]) -> Vec<&[u8]> {
    pieces.iter().map(Vec::as_slice).collect()
}

#[test]
fn what_is_written_is_read_from_memory_and_from_files() {
    let temporary = tempfile::tempdir().unwrap();
    let path: &Path = &temporary.path().join("data");
    let content = pieces(5);
    let dir = DataDir::open(Arc::new(RealFs), path, "raft-0").unwrap();
    assert!(dir.snapshots().current().is_none());
    let last = LogId::new(3, 40);
    let file = take(dir.snapshots(), last, &slices(&content)).unwrap();
    assert_eq!((file.head(), file.id().last), (&head(last), last));
    let (id, bytes) = from_elsewhere(&head(last), &slices(&content));
    assert_eq!(file.id(), id, "equal content gives equal files");
    let found: Vec<_> = file.content().unwrap().map(Result::unwrap).collect();
    assert_eq!(found, content, "piece by piece, as it was written");
    assert_eq!(file.read_at(5, 100).unwrap(), bytes[5..105]);
    assert_eq!(file.read_at(id.bytes - 3, 100).unwrap(), bytes[bytes.len() - 3..]);
    assert!(file.read_at(id.bytes, 100).unwrap().is_empty());
    assert!(file.read_at(u64::MAX, 100).unwrap().is_empty());
    drop(dir);

    let dir = DataDir::open(Arc::new(RealFs), path, "raft-0").unwrap();
    let file = dir.snapshots().current().unwrap();
    assert_eq!((file.id(), file.head()), (id, &head(last)));
    // A newer one takes its place, and who is reading goes on.
    let newer = take(dir.snapshots(), LogId::new(3, 50), &[]).unwrap();
    assert_eq!(dir.snapshots().current().unwrap().id(), newer.id());
    assert_eq!(std::fs::read_dir(path.join("snapshot")).unwrap().count(), 1);
    assert_eq!(file.read_at(0, 1 << 20).unwrap(), bytes[..]);
    assert_eq!(store_snapshot_support::content(&file).unwrap(), content.concat());
}

#[test]
fn content_of_any_size_is_cut_into_pieces() {
    let disk = FaultyDisk::new();
    let dir = open(&disk).unwrap();
    let large = vec![7_u8; (2 << 20) + 5];
    let file = take(dir.snapshots(), LogId::new(1, 1), &[b"", &large, b"end"]).unwrap();
    let sizes: Vec<usize> = file.content().unwrap().map(|piece| piece.unwrap().len()).collect();
    assert_eq!(sizes, [1 << 20, 1 << 20, 5, 3]);
}

#[test]
fn an_own_snapshot_that_is_given_up_or_overtaken_leaves_nothing() {
    let disk = FaultyDisk::new();
    let dir = open(&disk).unwrap();
    let store = dir.snapshots();
    let mut given_up = store.begin(&head(LogId::new(1, 5))).unwrap();
    given_up.write(b"content").unwrap();
    let mut slow = store.begin(&head(LogId::new(1, 6))).unwrap();
    slow.write(b"slow").unwrap();
    take(store, LogId::new(1, 9), &[b"fast"]).unwrap();
    drop(given_up);
    assert_eq!(slow.finish().unwrap().id().last, LogId::new(1, 9), "a newer one stays");
    assert_eq!(names(&disk).len(), 1, "{:?}", names(&disk));
    assert_eq!(content(&store.current().unwrap()).unwrap(), b"fast");
}

#[test]
fn a_snapshot_is_received_in_parts_over_breaks_and_restarts() {
    let content = pieces(9);
    let last = LogId::new(2, 30);
    let (id, bytes) = from_elsewhere(&head(last), &slices(&content));
    let disk = FaultyDisk::new();
    let mut dir = open(&disk).unwrap();
    let mut wanted = vec![0];
    for round in 1..=4_usize {
        let mut incoming = dir.snapshots().receive(id).unwrap();
        let from = incoming.next() as usize;
        assert!(from >= *wanted.last().unwrap(), "what was kept is not fetched again: {wanted:?}");
        wanted.push(from);
        // L9: the offset must be the one that is wanted.
        for wrong in [from + 1, from.wrapping_sub(1), bytes.len()] {
            assert_eq!(incoming.write(wrong as u64, b"xyz").unwrap(), from as u64);
        }
        let upto = from + 5000;
        assert_eq!(incoming.write(from as u64, &bytes[from..upto]).unwrap(), upto as u64);
        assert!(dir.snapshots().received(id).is_none());
        drop(incoming);
        if round % 2 == 0 {
            drop(dir);
            disk.kill();
            dir = open(&disk).unwrap();
        }
    }
    assert!(wanted[4] > 9000, "{wanted:?}");
    let file = receive(dir.snapshots(), id, &bytes, 4096).unwrap();
    assert_eq!((file.id(), file.head()), (id, &head(last)));
    assert!(dir.snapshots().current().is_none(), "it is not installed yet");
    // Nor does a restart forget it.
    drop(dir);
    disk.lose_power(Survival::Nothing);
    let dir = open(&disk).unwrap();
    let file = dir.snapshots().received(id).unwrap();
    assert_eq!(store_snapshot_support::content(&file).unwrap(), content.concat());
    assert!(dir.snapshots().received(SnapshotId { crc: id.crc ^ 1, ..id }).is_none());
    for _ in 0..2 {
        assert_eq!(dir.snapshots().install(last).unwrap().id(), id);
    }
    assert_eq!(dir.snapshots().current().unwrap().id(), id);
    assert!(dir.snapshots().received(id).is_none());
    assert_eq!(names(&disk).len(), 1, "{:?}", names(&disk));
}

#[test]
fn a_new_transfer_ends_the_one_before() {
    let disk = FaultyDisk::new();
    let dir = open(&disk).unwrap();
    let (id, bytes) = from_elsewhere(&head(LogId::new(2, 30)), &[b"one"]);
    let (other, others) = from_elsewhere(&head(LogId::new(2, 40)), &[b"two"]);
    let mut old = dir.snapshots().receive(id).unwrap();
    old.write(0, &bytes[..20]).unwrap();
    let mut same = dir.snapshots().receive(id).unwrap();
    let late = old.write(20, &bytes[20..]).unwrap_err();
    assert!(matches!(late, StorageError::UnsoundSnapshot { .. }), "{late}");
    assert!(late.to_string().contains("another transfer has begun"), "{late}");
    same.write(same.next(), &bytes[same.next() as usize..]).unwrap();
    let newest = dir.snapshots().receive(other).unwrap();
    assert!(same.finish().is_err(), "its file is gone");
    assert!(old.finish().is_err());
    drop(newest);
    receive(dir.snapshots(), other, &others, 1000).unwrap();
    assert_eq!(names(&disk).len(), 1, "{:?}", names(&disk));
}

#[test]
fn a_start_removes_what_is_of_no_use_any_more() {
    let disk = FaultyDisk::new();
    let dir = open(&disk).unwrap();
    let (id, bytes) = from_elsewhere(&head(LogId::new(2, 30)), &[b"content"]);
    let (old, olds) = from_elsewhere(&head(LogId::new(2, 20)), &[b"content"]);
    receive(dir.snapshots(), old, &olds, 1000).unwrap();
    dir.snapshots().receive(id).unwrap().write(0, &bytes[..50]).unwrap();
    drop(dir);
    disk.kill();
    let dir = open(&disk).unwrap();
    assert_eq!(names(&disk).len(), 2, "either may still be wanted");
    take(dir.snapshots(), LogId::new(2, 31), &[b"own"]).unwrap();
    drop(dir);
    disk.kill();
    let dir = open(&disk).unwrap();
    assert_eq!(names(&disk).len(), 1, "{:?}", names(&disk));
    assert!(dir.snapshots().received(old).is_none());
}

#[test]
fn what_was_received_and_is_not_what_it_should_be_is_refused_and_removed() {
    let last = LogId::new(2, 30);
    let (id, bytes) = from_elsewhere(&head(last), &[b"some", b"content"]);
    let disk = FaultyDisk::new();
    let dir = open(&disk).unwrap();
    dir.write_cluster(CLUSTER).unwrap();
    let before = take(dir.snapshots(), LogId::new(1, 3), &[b"old"]).unwrap();
    let refused = |id: SnapshotId, bytes: &[u8]| {
        let error = receive(dir.snapshots(), id, bytes, 50).unwrap_err();
        assert!(dir.snapshots().received(id).is_none());
        assert_eq!(dir.snapshots().current().unwrap().id(), before.id(), "nothing is lost");
        error
    };
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = refused(id, &bytes);
        assert!(matches!(error, StorageError::UnsoundSnapshot { .. }), "{bit}: {error}");
        assert!(error.to_string().contains("nothing depends on it"), "{error}");
    }
    assert_eq!(names(&disk).len(), 1, "{:?}", names(&disk));
    // Cut short, in a place where a piece ends, and named accordingly.
    let (empty, _) = from_elsewhere(&head(last), &[]);
    let short = &bytes[..empty.bytes as usize - 28];
    let named = SnapshotId { last, bytes: short.len() as u64, crc: crc32c::crc32c(short) };
    assert!(matches!(refused(named, short), StorageError::UnsoundSnapshot { .. }));
    // Sound, but another one than was said.
    for other in [
        SnapshotId { crc: id.crc ^ 1, ..id },
        SnapshotId { last: LogId { term: Term(3), ..last }, ..id },
        SnapshotId { last: LogId { index: Index(31), ..last }, ..id },
    ] {
        assert!(matches!(refused(other, &bytes), StorageError::UnsoundSnapshot { .. }));
    }
    // Sound, and another cluster's.
    let foreign = SnapshotHead { cluster: ClusterId(6), ..head(last) };
    let (id, bytes) = from_elsewhere(&foreign, &[b"x"]);
    let error = refused(id, &bytes);
    assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
    assert!(matches!(dir.snapshots().begin(&foreign), Err(StorageError::Foreign { .. })));
    // More than was said.
    let mut incoming = dir.snapshots().receive(id).unwrap();
    assert!(incoming.write(0, &[&bytes[..], b"x"].concat()).is_err());
    assert_eq!(incoming.next(), 0);
}

#[test]
fn a_current_snapshot_of_another_cluster_is_named_at_the_start() {
    let disk = FaultyDisk::new();
    let dir = open(&disk).unwrap();
    let foreign = SnapshotHead { cluster: ClusterId(6), ..head(LogId::new(1, 3)) };
    dir.snapshots().begin(&foreign).unwrap().finish().unwrap();
    dir.write_cluster(CLUSTER).unwrap();
    drop(dir);
    let error = open(&disk).unwrap_err();
    assert_eq!(Exit::of_storage(&error).code(), 73, "{error}");
    assert!(error.to_string().contains(".snap belongs to cluster"), "{error}");
}

/// Lets a script run with a failure at each of its calls; then looks what a start finds.
fn at_every_call(
    prepared: &FaultyDisk,
    script: impl Fn(&DataDir) -> Result<(), StorageError>,
    look: impl Fn(&DataDir, bool),
) {
    let measured = prepared.fork();
    let dir = open(&measured).unwrap();
    let first = measured.calls();
    script(&dir).unwrap();
    let calls = measured.calls() - first;
    assert!(calls >= 3, "{calls} calls mean nothing");
    for call in 0..calls {
        for failure in [Failure::DieBefore, Failure::DieAfter, Failure::Partly] {
            let survivals = [Survival::Nothing, Survival::Everything];
            let some = (0..20).map(|seed| Survival::Some(seed * 100 + call));
            for survival in survivals.into_iter().chain(some) {
                let disk = prepared.fork();
                let dir = open(&disk).unwrap();
                disk.fail_at(first + call, failure);
                let done = script(&dir).is_ok();
                drop(dir);
                disk.lose_power(survival);
                disk.fail_at(u64::MAX, failure);
                let dir = open(&disk).unwrap_or_else(|error| panic!("{call} {failure:?}: {error}"));
                look(&dir, done);
                assert!(!names(&disk).iter().any(|name| name.ends_with("tmp")), "cleaned up");
            }
        }
    }
}

#[test]
fn a_crash_at_any_call_leaves_the_former_snapshot_or_the_new_one() {
    let disk = FaultyDisk::new();
    let old = LogId::new(1, 3);
    let new = LogId::new(1, 9);
    take(open(&disk).unwrap().snapshots(), old, &[&[1; 2000]]).unwrap();
    let script = |dir: &DataDir| take(dir.snapshots(), new, &slices(&pieces(3))).map(drop);
    at_every_call(&disk, script, |dir, done| {
        let file = dir.snapshots().current().expect("one of the two");
        assert!(file.id().last == new || (!done && file.id().last == old), "D13");
        let expected = if file.id().last == new { pieces(3).concat() } else { vec![1; 2000] };
        assert_eq!(content(&file).unwrap(), expected);
    });
}

#[test]
fn a_crash_at_any_call_of_a_transfer_lets_it_go_on() {
    let last = LogId::new(2, 30);
    let parts = pieces(6);
    let (id, bytes) = from_elsewhere(&head(last), &slices(&parts));
    let old = LogId::new(1, 3);
    let disk = FaultyDisk::new();
    take(open(&disk).unwrap().snapshots(), old, &[b"old"]).unwrap();
    let script = |dir: &DataDir| {
        let mut incoming = dir.snapshots().receive(id)?;
        incoming.write(0, &bytes[..7000])?;
        drop(incoming);
        receive(dir.snapshots(), id, &bytes, 2500)?;
        dir.snapshots().install(last).map(drop)
    };
    at_every_call(&disk, script, |dir, done| {
        let store = dir.snapshots();
        let current = store.current().expect("one of the two").id();
        assert!(current == id || (!done && current.last == old), "D13");
        if current != id {
            receive(store, id, &bytes, 2500).unwrap();
            store.install(last).unwrap();
        }
        assert_eq!(content(&store.current().unwrap()).unwrap(), parts.concat());
    });
}

#[test]
fn an_own_snapshot_that_is_not_read_back_as_written_is_not_current() {
    let disk = FaultyDisk::new();
    let dir = open(&disk).unwrap();
    take(dir.snapshots(), LogId::new(1, 3), &[b"old"]).unwrap();
    let mut writer = dir.snapshots().begin(&head(LogId::new(1, 9))).unwrap();
    writer.write(&[5; 4000]).unwrap();
    let temporary = names(&disk).into_iter().find(|name| name.ends_with("tmp")).unwrap();
    disk.corrupt(&Path::new("/data/snapshot").join(temporary), |bytes| bytes[2000] ^= 1);
    let error = writer.finish().unwrap_err();
    assert!(matches!(error, StorageError::UnsoundSnapshot { .. }), "D13: {error}");
    assert_eq!(dir.snapshots().current().unwrap().id().last, LogId::new(1, 3));
    assert_eq!(names(&disk).len(), 1, "{:?}", names(&disk));
}

#[test]
fn rot_is_noticed_while_the_content_is_read() {
    let disk = FaultyDisk::new();
    let dir = open(&disk).unwrap();
    let file = take(dir.snapshots(), LogId::new(1, 3), &slices(&pieces(3))).unwrap();
    let path = Path::new("/data/snapshot").join(&names(&disk)[0]);
    disk.corrupt(&path, |bytes| bytes[5000] ^= 1);
    let found: Vec<_> = file.content().unwrap().collect();
    assert!(found[0].is_ok());
    assert!(matches!(found[1], Err(StorageError::Damaged { .. })), "D16: {:?}", found[1]);
    assert_eq!(found.len(), 2, "nothing behind the first error");
}

/// What it takes, from the error that says that it is not there.
fn needed(error: &StorageError) -> u64 {
    assert!(error.to_string().contains("a snapshot needs about"), "{error}");
    match error {
        StorageError::NoSpace { needed_bytes, .. } => *needed_bytes,
        other => panic!("{other}"),
    }
}

#[test]
fn without_room_a_snapshot_says_so_and_the_log_goes_on() {
    let disk = FaultyDisk::new();
    let dir = open(&disk).unwrap();
    let (mut log, _) = dir.open_log(OPTIONS).unwrap();
    let store: &SnapshotStore = dir.snapshots();
    let entries = (1..=3).map(|index| command(1, index, 100)).collect();
    log.append(&batch(term(1, None), None, entries)).unwrap();
    log.sync().unwrap();
    let large: &[u8] = &[3; 200 << 10];
    let old = take(store, LogId::new(1, 1), &[large]).unwrap();
    let before = names(&disk);

    // As much as the last one took must be free, and something for the log.
    disk.set_room(Some(1 << 20));
    assert!(needed(&store.begin(&head(LogId::new(1, 2))).unwrap_err()) > 1 << 20);
    let (id, bytes) = from_elsewhere(&head(LogId::new(2, 9)), &[large]);
    assert!(needed(&store.receive(id).unwrap_err()) > id.bytes);
    let endless = SnapshotId { bytes: u64::MAX, ..id };
    needed(&store.receive(endless).unwrap_err());
    assert_eq!(names(&disk), before, "nothing has begun");

    // It runs out on the way.
    disk.set_room(Some(2 << 20));
    let mut writer = store.begin(&head(LogId::new(1, 2))).unwrap();
    let mut incoming = store.receive(id).unwrap();
    incoming.write(0, &bytes[..1000]).unwrap();
    disk.set_room(Some(1000));
    needed(&writer.write(large).unwrap_err());
    drop(writer);
    disk.set_room(Some(1000));
    needed(&incoming.write(1000, &bytes[1000..]).unwrap_err());
    log.append(&batch(term(2, None), None, vec![command(2, 4, 100)])).unwrap();
    log.sync().unwrap();
    assert_eq!(store.current().unwrap().id(), old.id());

    // Room again: both go on.
    disk.set_room(None);
    incoming.write(1000, &bytes[1000..]).unwrap();
    incoming.finish().unwrap();
    take(store, LogId::new(1, 2), &[large]).unwrap();
}

#[test]
fn a_directory_that_is_given_a_snapshot_goes_on_behind_it() {
    // What `srvraft recover` does: a new directory, a cluster, a snapshot; then the log.
    let last = LogId::new(7, 100);
    let script = |disk: &FaultyDisk| -> Result<(), StorageError> {
        let dir = open(disk)?;
        dir.write_cluster(CLUSTER)?;
        take(dir.snapshots(), last, &[b"rescued"])?;
        let (mut log, restored) = dir.open_log(OPTIONS)?;
        assert_eq!((restored.shape.base(), restored.shape.last()), (last, last));
        assert_eq!(restored.hard_state.term, Term(7), "no entry is of a later term (S17)");
        assert_eq!(restored.reached, Index(100));
        assert_eq!(restored.snapshot, Some(head(last).meta));
        log.append(&batch(term(8, None), None, vec![command(8, 101, 10)]))?;
        log.sync()
    };
    let disk = FaultyDisk::new();
    script(&disk).unwrap();
    for survival in [Survival::Nothing, Survival::Everything] {
        disk.lose_power(survival);
        let dir = open(&disk).unwrap();
        let (log, restored) = dir.open_log(OPTIONS).unwrap();
        assert_eq!(restored.shape.base(), last);
        assert_eq!(log.reader().read(Index(100), Index(101), 100).unwrap().len(), 1);
        assert_eq!(content(&dir.snapshots().current().unwrap()).unwrap(), b"rescued");
    }
    // A crash on the way leaves a directory that is finished by doing the same once more.
    for call in 0..disk.calls() {
        let disk = FaultyDisk::new();
        disk.fail_at(call, Failure::DieAfter);
        let _ = script(&disk);
        disk.lose_power(Survival::Some(call));
        disk.fail_at(u64::MAX, Failure::DieAfter);
        let dir = open(&disk).unwrap();
        dir.write_cluster(CLUSTER).unwrap();
        if dir.snapshots().current().is_none() {
            take(dir.snapshots(), last, &[b"rescued"]).unwrap();
        }
        let (_, restored) = dir.open_log(OPTIONS).unwrap();
        assert_eq!(restored.shape.base(), last, "{call}");
    }
}
