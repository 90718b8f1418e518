//! Where stores are tried: files, memory, and a simulated disk.

use std::cell::RefCell;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use balsa::raft::LogId;
use balsa::storage::faulty::Survival;
use balsa::storage::{
    DataDir, FaultyDisk, Fs, LogOptions, LogStore, MemoryDisk, MemoryLog, RealFs, RestoredLog,
    SnapshotStore,
};

use crate::store_snapshot_support::{self, from_elsewhere, head, meta};

/// A place where a store can be opened again and again.
pub(crate) trait Bed: Debug {
    fn open(&self) -> (Box<dyn LogStore>, RestoredLog);
    /// An own snapshot becomes the current one, durably.
    fn take(&self, last: LogId);
    /// Another node's snapshot is received as a whole.
    fn receive(&self, last: LogId);
}

/// The snapshots of the log that is open; they hold the directory's lock.
type Open = RefCell<Option<SnapshotStore>>;

fn open_files(fs: Arc<dyn Fs>, path: &Path, open: &Open) -> (Box<dyn LogStore>, RestoredLog) {
    let dir = DataDir::open(fs, path, "raft-0").unwrap();
    let (log, restored) = dir.open_log(small()).unwrap();
    *open.borrow_mut() = Some(dir.snapshots().clone());
    (Box::new(log), restored)
}

fn take_file(open: &Open, last: LogId) {
    let store = open.borrow().clone().unwrap();
    store_snapshot_support::take(&store, last, &[b"state"]).unwrap();
}

fn receive_file(open: &Open, last: LogId) {
    let (id, bytes) = from_elsewhere(&head(last), &[b"state"]);
    let store = open.borrow().clone().unwrap();
    store_snapshot_support::receive(&store, id, &bytes, 100).unwrap();
}

/// Segments so small that every test crosses several.
fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 2048,
        first_segment_bytes: 1024,
        reserve_bytes: 512,
        background: true,
    }
}

#[derive(Debug)]
struct Files(tempfile::TempDir, Open);

impl Bed for Files {
    fn open(&self) -> (Box<dyn LogStore>, RestoredLog) {
        self.1.take();
        open_files(Arc::new(RealFs), &self.0.path().join("data"), &self.1)
    }
    fn take(&self, last: LogId) {
        take_file(&self.1, last);
    }
    fn receive(&self, last: LogId) {
        receive_file(&self.1, last);
    }
}

#[derive(Debug)]
struct Memory(MemoryDisk);

impl Bed for Memory {
    fn open(&self) -> (Box<dyn LogStore>, RestoredLog) {
        let (log, restored) = MemoryLog::open(&self.0);
        (Box::new(log), restored)
    }
    fn take(&self, last: LogId) {
        self.0.snapshot_taken(&meta(last));
    }
    fn receive(&self, last: LogId) {
        self.0.offer_snapshot(meta(last));
    }
}

/// A simulated disk that loses everything unsynced whenever the store is opened anew.
#[derive(Debug)]
struct PowerLoss(FaultyDisk, Open);

impl Bed for PowerLoss {
    fn open(&self) -> (Box<dyn LogStore>, RestoredLog) {
        self.0.lose_power(Survival::Nothing);
        open_files(self.0.fs(), Path::new("/data"), &self.1)
    }
    fn take(&self, last: LogId) {
        take_file(&self.1, last);
    }
    fn receive(&self, last: LogId) {
        receive_file(&self.1, last);
    }
}

/// One of each kind, empty.
pub(crate) fn beds() -> Vec<Box<dyn Bed>> {
    vec![
        Box::new(Files(tempfile::tempdir().unwrap(), Open::default())),
        Box::new(Memory(MemoryDisk::default())),
        Box::new(PowerLoss(FaultyDisk::new(), Open::default())),
    ]
}
