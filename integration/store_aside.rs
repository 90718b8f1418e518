//! Setting a data directory aside: beside its own place or inside of it, and after a crash at any call
//! (design section 5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use balsa::exit::Exit;
use balsa::raft::{LogId, NodeId};
use balsa::storage::faulty::{Failure, Survival};
use balsa::storage::{
    ASIDE_MAX, DataDir, FaultyDisk, Fs, LogOptions, LogStore, RealFs, StorageError, set_aside,
    set_aside_lately,
};

#[allow(dead_code)] // not all of it is used here
mod store_snapshot_support;
mod store_support;

use store_snapshot_support::{CLUSTER, take};
use store_support::{batch, command, term};

const OPTIONS: LogOptions = LogOptions {
    segment_bytes: 16 << 10,
    first_segment_bytes: 8 << 10,
    reserve_bytes: 4 << 10,
    background: false,
};

const DATA: &str = "/volume/data";

fn open(fs: Arc<dyn Fs>, path: &Path) -> Result<DataDir, StorageError> {
    DataDir::open(fs, path, "raft-0")
}

/// Uses a directory; returns its node id.
fn live(fs: Arc<dyn Fs>, path: &Path) -> NodeId {
    let dir = open(fs, path).unwrap();
    dir.write_cluster(CLUSTER).unwrap();
    dir.write_founding(b"decided").unwrap();
    let (mut log, _) = dir.open_log(OPTIONS).unwrap();
    log.append(&batch(term(1, None), None, vec![command(1, 1, 10), command(1, 2, 10)])).unwrap();
    log.sync().unwrap();
    take(dir.snapshots(), LogId::new(1, 1), &[b"state"]).unwrap();
    dir.node_id()
}

/// A disk with a directory that was used; `mounted`: it cannot be renamed.
fn prepared(mounted: bool) -> (FaultyDisk, NodeId) {
    let disk = FaultyDisk::new();
    let node = live(disk.fs(), Path::new(DATA));
    disk.kill();
    if mounted {
        disk.mount(Path::new(DATA));
    }
    (disk, node)
}

/// The files below a directory, by their names below it, but for the lock.
fn files(disk: &FaultyDisk, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = disk.paths().into_iter();
    paths
        .filter_map(|path| {
            let name = path.strip_prefix(dir).ok()?.to_owned();
            let is_own = !name.starts_with("lock") && !name.to_string_lossy().starts_with("aside-");
            is_own.then(|| (name, disk.content(&path).unwrap()))
        })
        .collect()
}

#[test]
fn everything_is_kept_and_the_place_is_empty() {
    for mounted in [false, true] {
        let (disk, node) = prepared(mounted);
        let before = files(&disk, Path::new(DATA));
        let aside = set_aside(&*disk.fs(), Path::new(DATA), "Went back!").unwrap();
        let name = aside.file_name().unwrap().to_string_lossy().into_owned();
        let parent = if mounted { DATA } else { "/volume" };
        assert_eq!(aside.parent(), Some(Path::new(parent)));
        assert!(name.starts_with(if mounted { "aside-2" } else { "data.2" }), "{name}");
        assert!(name.ends_with("Z-went-back-"), "{name}");
        assert_eq!(files(&disk, &aside), before, "nothing of it is removed or changed");

        disk.lose_power(Survival::Nothing);
        let dir = open(disk.fs(), Path::new(DATA)).unwrap();
        assert!(dir.is_new() && dir.node_id() != node, "M7, D17");
        assert_eq!((dir.cluster(), dir.founding().unwrap()), (None, None));
        assert!(dir.snapshots().current().is_none());
        let (_, restored) = dir.open_log(OPTIONS).unwrap();
        assert_eq!(restored.shape.last(), LogId::ZERO);
        assert_eq!(files(&disk, &aside), before);
    }
}

#[test]
fn it_works_on_files_too() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("data");
    let node = live(Arc::new(RealFs), &path);
    let dir = open(Arc::new(RealFs), &path).unwrap();
    let locked = set_aside(&RealFs, &path, "damaged").unwrap_err();
    assert!(matches!(locked, StorageError::Locked { .. }), "{locked}");
    // Whoever holds the lock may.
    let aside = dir.set_aside("damaged").unwrap();
    drop(dir);
    assert!(aside.join("identity").exists() && aside.join("log").is_dir() && !path.exists());
    let dir = open(Arc::new(RealFs), &path).unwrap();
    assert!(dir.is_new() && dir.node_id() != node);
}

#[test]
fn a_directory_above_that_belongs_to_others_is_left_alone() {
    let (disk, node) = prepared(false);
    for kind in [std::io::ErrorKind::PermissionDenied, std::io::ErrorKind::ReadOnlyFilesystem] {
        let disk = disk.fork();
        disk.fail_at(disk.calls(), Failure::Error(kind));
        let aside = set_aside(&*disk.fs(), Path::new(DATA), "x").unwrap();
        assert_eq!(aside.parent(), Some(Path::new(DATA)));
        assert_ne!(open(disk.fs(), Path::new(DATA)).unwrap().node_id(), node);
    }
}

/// What a start finds: the old node with all that it had, or a new one and the old one aside. Never
/// anything between.
fn look(disk: &FaultyDisk, before: &BTreeMap<PathBuf, Vec<u8>>, node: NodeId, what: &str) -> bool {
    let dir = open(disk.fs(), Path::new(DATA)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let is_old = dir.node_id() == node;
    assert_eq!(dir.is_new(), !is_old, "{what}");
    let (_, restored) = dir.open_log(OPTIONS).unwrap_or_else(|error| panic!("{what}: {error}"));
    let last = if is_old { LogId::new(1, 2) } else { LogId::ZERO };
    assert_eq!(restored.shape.last(), last, "an old log beside a new identity: {what}");
    assert_eq!(dir.cluster().is_some(), is_old, "{what}");
    assert_eq!(dir.founding().unwrap().is_some(), is_old, "{what}");
    assert_eq!(dir.snapshots().current().is_some(), is_old, "{what}");
    if !is_old {
        let identities: Vec<PathBuf> =
            disk.paths().into_iter().filter(|path| path.ends_with("identity")).collect();
        let aside = identities.iter().find(|path| path.parent() != Some(Path::new(DATA)));
        let aside = aside.unwrap_or_else(|| panic!("{what}: the old one is gone"));
        assert_eq!(files(disk, aside.parent().unwrap()), *before, "{what}");
        let moving = |path: &PathBuf| path.to_string_lossy().contains(".moving");
        assert!(!identities.iter().any(moving), "{what}: {identities:?}");
    }
    is_old
}

#[test]
fn a_crash_at_any_call_leaves_the_old_directory_or_an_empty_one() {
    for mounted in [false, true] {
        let (disk, node) = prepared(mounted);
        let before = files(&disk, Path::new(DATA));
        let measured = disk.fork();
        set_aside(&*measured.fs(), Path::new(DATA), "damaged").unwrap();
        let calls = measured.calls() - disk.calls();
        assert!(calls >= if mounted { 10 } else { 2 }, "{calls}");
        let mut outcomes = [0, 0];
        for call in 0..calls {
            for failure in [Failure::DieBefore, Failure::DieAfter] {
                let survivals = [Survival::Nothing, Survival::Everything];
                let some = (0..30).map(|seed| Survival::Some(seed * 100 + call));
                for survival in survivals.into_iter().chain(some) {
                    let what = format!("{mounted} {call} {failure:?} {survival:?}");
                    let disk = disk.fork();
                    disk.fail_at(disk.calls() + call, failure);
                    let done = set_aside(&*disk.fs(), Path::new(DATA), "damaged").is_ok();
                    disk.lose_power(survival);
                    disk.fail_at(u64::MAX, failure);
                    let is_old = look(&disk, &before, node, &what);
                    assert!(!(done && is_old), "{what}");
                    outcomes[usize::from(is_old)] += 1;
                }
            }
        }
        assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
    }
}

#[test]
fn a_crash_while_a_start_finishes_it_is_no_different() {
    let (disk, node) = prepared(true);
    let before = files(&disk, Path::new(DATA));
    // Cut short in the middle: the identity has moved, the log has not.
    disk.fail_at(disk.calls() + 4, Failure::DieBefore);
    set_aside(&*disk.fs(), Path::new(DATA), "damaged").unwrap_err();
    disk.fail_at(u64::MAX, Failure::DieBefore);
    disk.lose_power(Survival::Everything);
    let measured = disk.fork();
    open(measured.fs(), Path::new(DATA)).unwrap();
    for call in 0..measured.calls() - disk.calls() {
        for seed in 0..20 {
            let disk = disk.fork();
            disk.fail_at(disk.calls() + call, Failure::DieAfter);
            let _ = open(disk.fs(), Path::new(DATA));
            disk.lose_power(Survival::Some(seed));
            disk.fail_at(u64::MAX, Failure::DieAfter);
            let what = format!("{call} {seed}");
            // A start after that may have drawn its identity already.
            let dir = open(disk.fs(), Path::new(DATA)).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_ne!(dir.node_id(), node, "{what}");
            let (_, restored) = dir.open_log(OPTIONS).unwrap();
            assert_eq!(restored.shape.last(), LogId::ZERO, "{what}");
            let paths = disk.paths();
            let aside = paths.iter().find(|path| {
                path.ends_with("identity") && path.to_string_lossy().contains("aside-")
            });
            assert_eq!(files(&disk, aside.unwrap().parent().unwrap()), before, "{what}");
        }
    }
}

#[test]
fn at_most_so_many_are_kept() {
    for mounted in [false, true] {
        let (disk, _) = prepared(mounted);
        for _ in 0..ASIDE_MAX {
            set_aside(&*disk.fs(), Path::new(DATA), "diverged").unwrap();
            live(disk.fs(), Path::new(DATA));
        }
        let lately = |seconds| {
            let span = std::time::Duration::from_secs(seconds);
            set_aside_lately(&*disk.fs(), Path::new(DATA), span).unwrap()
        };
        assert_eq!(lately(3600), ASIDE_MAX);
        let before = disk.paths();
        let error = set_aside(&*disk.fs(), Path::new(DATA), "diverged").unwrap_err();
        assert_eq!(Exit::of_storage(&error).code(), 65);
        assert!(error.to_string().contains("8 earlier ones are kept already"), "{error}");
        assert_eq!(disk.paths(), before);
        open(disk.fs(), Path::new(DATA)).unwrap();
    }
}
