//! The directory of snapshots: which file is the current one, and which may become it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::BLOCK_BYTES;
use super::super::fs::{File, Fs, Lock};
use super::format::{Fault, Pieces};
use super::incoming::Incoming;
use super::writer::SnapshotWriter;
use super::{LOG_ROOM_BYTES, SnapshotFile, SnapshotHead};
use crate::raft::{ClusterId, Index, LogId, SnapshotId, Term};
use crate::storage::StorageError;

/// What finds no room, for the message.
const SNAPSHOT: &str = "a snapshot";

/// The snapshots of a data directory. Clones are the same store; any thread may use it.
#[derive(Clone, Debug)]
pub struct SnapshotStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    state: Mutex<State>,
    /// Held while files get and lose their names, so that this happens one after the other.
    names: Mutex<()>,
    /// Counts transfers; held while one writes.
    turn: Mutex<u64>,
    /// What is written here belongs to the directory that is locked.
    _lock: Arc<dyn Lock>,
}

/// Never locked across a call to the disk.
#[derive(Debug, Default)]
struct State {
    /// Whose snapshots these are; none before the node belongs to a cluster.
    cluster: Option<ClusterId>,
    current: Option<SnapshotFile>,
    /// Complete, checked, newer than the current one; oldest first. At most two: the oldest, for which
    /// an install may be on its way, and the newest.
    received: Vec<SnapshotFile>,
    /// Found at the start under a name that counts, and not sound.
    broken: Vec<Broken>,
    /// Own ones begun, for their temporary names.
    begun: u64,
}

/// A file that was a current snapshot and is none.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) what: String,
}

/// What a file's name says.
enum Name {
    Current(LogId),
    Received(SnapshotId),
    Partial(SnapshotId),
    Temporary,
    Unknown,
}

fn current_name(last: LogId) -> String {
    format!("{:020}-{:020}.snap", last.index.0, last.term.0)
}

fn transfer_name(id: SnapshotId, extension: &str) -> String {
    let LogId { term, index } = id.last;
    format!("{:020}-{:020}-{}-{:08x}.{extension}", index.0, term.0, id.bytes, id.crc)
}

fn name_of(name: &str) -> Name {
    let Some((stem, extension)) = name.rsplit_once('.') else { return Name::Unknown };
    let mut fields = stem.split('-');
    let mut number = |radix| u64::from_str_radix(fields.next()?, radix).ok();
    let (index, term) = (number(10), number(10));
    let last = index.zip(term).map(|(index, term)| LogId { term: Term(term), index: Index(index) });
    match (extension, last) {
        ("snap", Some(last)) => Name::Current(last),
        ("received" | "part", Some(last)) => match (number(10), number(16)) {
            (Some(bytes), Some(crc)) => {
                let id = SnapshotId { last, bytes, crc: crc as u32 };
                if extension == "part" { Name::Partial(id) } else { Name::Received(id) }
            }
            _ => Name::Unknown,
        },
        ("tmp", _) => Name::Temporary,
        _ => Name::Unknown,
    }
}

impl SnapshotStore {
    /// Looks at what there is: removes what was never finished, checks the rest.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] for a snapshot of another cluster, [`StorageError::NewerFormat`],
    /// or the disk's. One that is not sound is no error yet: whether it is needed the log knows.
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        cluster: Option<ClusterId>,
        lock: Arc<dyn Lock>,
    ) -> Result<SnapshotStore, StorageError> {
        let names = fs.list(&dir).map_err(|error| StorageError::io("listing", &dir, error))?;
        let store = SnapshotStore(Arc::new(Inner {
            fs,
            dir,
            state: Mutex::new(State { cluster, ..State::default() }),
            names: Mutex::new(()),
            turn: Mutex::new(0),
            _lock: lock,
        }));
        let mut useless = Vec::new();
        let (mut received, mut partial) = (Vec::new(), Vec::new());
        // The names sort by index and term, so the newest comes first.
        for name in names.iter().rev() {
            let path = store.0.dir.join(name);
            match name_of(name) {
                Name::Current(last) => match store.check_current(&path, last) {
                    Ok(file) if store.current().is_none() => store.state().current = Some(file),
                    Ok(_) => useless.push(path),
                    Err(Fault::Broken(offset, what)) => {
                        store.state().broken.push(Broken { path, offset, what });
                    }
                    Err(Fault::Disk(error)) => return Err(error),
                },
                Name::Received(id) => received.push((path, id)),
                Name::Partial(id) => partial.push((path, id)),
                Name::Temporary => useless.push(path),
                Name::Unknown => {}
            }
        }
        for (path, id) in received.into_iter().rev() {
            match store.check_received(&path, id) {
                Ok(file) if store.is_news(id.last) => store.state().received.push(file),
                Ok(_) => useless.push(path),
                Err(Fault::Broken(offset, what)) => {
                    tracing::warn!(path = %path.display(), offset, what, "a received snapshot goes");
                    useless.push(path);
                }
                Err(Fault::Disk(error)) => return Err(error),
            }
        }
        // One that never became complete is of no use once the node has come further.
        let old = partial.into_iter().filter(|(_, id)| !store.is_news(id.last));
        useless.extend(old.map(|(path, _)| path));
        store.remove_all(&useless)?;
        Ok(store)
    }

    /// The newest snapshot that is durable.
    #[must_use]
    pub fn current(&self) -> Option<SnapshotFile> {
        self.state().current.clone()
    }

    /// Begins an own snapshot, under a temporary name.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]: nothing was written, and the node goes on.
    /// [`StorageError::Foreign`] if it is of another cluster than the directory. Others are the
    /// disk's.
    ///
    /// # Panics
    /// If the head makes no sense: it could not be read back.
    pub fn begin(&self, head: &SnapshotHead) -> Result<SnapshotWriter, StorageError> {
        assert!(head.meta.is_sound(), "no node can have written this: {:?}", head.meta);
        let number = {
            let mut state = self.state();
            state.begun += 1;
            state.begun
        };
        let path = self.0.dir.join(format!("{number}.tmp"));
        self.check_cluster(head.cluster, &path)?;
        let last = self.current().map_or(0, |file| file.id.bytes);
        self.check_room(last + last / 4)?;
        let file = self.0.fs.create(&path).map_err(|error| {
            self.no_room(StorageError::io("creating", &path, error), BLOCK_BYTES)
        })?;
        SnapshotWriter::begin(self.clone(), path, file, head)
    }

    /// Begins to receive a snapshot, or goes on with it where the durable part of it ends: also after
    /// a restart. What was received of others goes, and a transfer that still runs is refused from
    /// now on.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] if there is no room for the rest of it: nothing has changed, and the
    /// node goes on. Others are the disk's.
    pub fn receive(&self, id: SnapshotId) -> Result<Incoming, StorageError> {
        let mut turn = self.turn();
        let path = self.0.dir.join(transfer_name(id, "part"));
        let names = self.list()?;
        let others = names.iter().filter(|name| matches!(name_of(name), Name::Partial(_)));
        let others: Vec<PathBuf> =
            others.map(|name| self.0.dir.join(name)).filter(|other| *other != path).collect();
        self.remove_all(&others)?;
        let (file, next) = match self.0.fs.open(&path) {
            Ok(file) => {
                let sound = sound_part(&file, &path)?;
                (Some(file), sound)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => (None, 0),
            Err(error) => return Err(StorageError::io("opening", &path, error)),
        };
        self.check_room(id.bytes.saturating_sub(next))?;
        let file = match file {
            Some(file) => file,
            None => self.0.fs.create(&path).map_err(|error| {
                self.no_room(StorageError::io("creating", &path, error), id.bytes)
            })?,
        };
        file.set_len(next).map_err(|error| StorageError::io("shortening", &path, error))?;
        self.sync_dir()?;
        *turn += 1;
        // What was found may lie in the cache only; the next sync makes it durable.
        Ok(Incoming { store: self.clone(), id, path, file, next, synced: 0, turn: *turn })
    }

    /// A snapshot that was received as a whole, is checked, and not current yet.
    #[must_use]
    pub fn received(&self, id: SnapshotId) -> Option<SnapshotFile> {
        self.state().received.iter().find(|file| file.id == id).cloned()
    }

    /// Makes a received snapshot the current one, durably; nothing if it is. The log that goes on
    /// from it is the caller's to begin.
    ///
    /// # Errors
    /// The disk's.
    ///
    /// # Panics
    /// If no such snapshot was received (D14).
    pub fn install(&self, last: LogId) -> Result<SnapshotFile, StorageError> {
        let _names = self.names();
        if let Some(current) = self.current().filter(|file| file.head.meta.last == last) {
            return Ok(current);
        }
        let received = {
            let state = self.state();
            state.received.iter().rev().find(|file| file.head.meta.last == last).cloned()
        };
        let mut file = received
            .unwrap_or_else(|| panic!("an install of {last}, which was never received (D14)"));
        self.rename(&mut file, &current_name(last))?;
        self.make_current(file.clone())?;
        Ok(file)
    }

    /// From now on all snapshots must be of this cluster.
    pub(crate) fn set_cluster(&self, cluster: ClusterId) {
        self.state().cluster = Some(cluster);
    }

    /// The damage of the newest snapshot that is not sound; none if there is none.
    pub(crate) fn damage(&self) -> Option<StorageError> {
        let state = self.state();
        let broken = state.broken.first()?;
        Some(StorageError::damaged(&broken.path, broken.offset, &broken.what))
    }

    /// Removes what is not sound: the log does not need it (D15).
    pub(crate) fn drop_broken(&self) -> Result<(), StorageError> {
        let broken = std::mem::take(&mut self.state().broken);
        for Broken { path, offset, what } in &broken {
            tracing::warn!(path = %path.display(), offset, what, "a broken snapshot goes; the log does not need it");
        }
        let paths: Vec<PathBuf> = broken.into_iter().map(|broken| broken.path).collect();
        self.remove_all(&paths)
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, u64> {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads an own snapshot back, checks it, and makes it current.
    pub(super) fn publish(
        &self,
        path: &Path,
        file: Arc<dyn File>,
        id: SnapshotId,
    ) -> Result<SnapshotFile, StorageError> {
        let checked = check(file, path, Some(id)).map_err(|fault| fault.unsound(path));
        let mut checked = checked.inspect_err(|_| {
            let _ = self.remove_temporary(path);
        })?;
        let _names = self.names();
        if let Some(newer) = self.current().filter(|file| file.id.last > id.last) {
            self.remove_all(&[path.to_owned()])?;
            return Ok(newer);
        }
        self.rename(&mut checked, &current_name(id.last))?;
        self.make_current(checked.clone())?;
        Ok(checked)
    }

    /// Checks what was received as a whole, and gives it its name, or removes it.
    pub(super) fn accept(
        &self,
        path: &Path,
        file: Arc<dyn File>,
        id: SnapshotId,
    ) -> Result<SnapshotFile, StorageError> {
        let checked = check(file, path, Some(id))
            .map_err(|fault| fault.unsound(path))
            .and_then(|file| self.check_cluster(file.head.cluster, path).map(|()| file));
        let mut checked = match checked {
            Ok(checked) => checked,
            Err(error @ StorageError::Io { .. }) => return Err(error),
            Err(error) => {
                self.remove_all(&[path.to_owned()])?;
                return Err(error);
            }
        };
        let _names = self.names();
        self.rename(&mut checked, &transfer_name(id, "received"))?;
        let mut useless = Vec::new();
        {
            let mut state = self.state();
            state.received.retain(|file| file.id != id);
            state.received.push(checked.clone());
            state.received.sort_by_key(|file| file.id.last.index);
            while state.received.len() > 2 {
                let middle = state.received.iter().skip(1).position(|file| file.id != id);
                useless.push(state.received.remove(1 + middle.unwrap_or(0)).path);
            }
        }
        self.remove_all(&useless)?;
        Ok(checked)
    }

    pub(super) fn remove_temporary(&self, path: &Path) -> std::io::Result<()> {
        self.0.fs.remove(path)
    }

    /// If there is no room: says for what, how much it takes, and how much there is.
    pub(super) fn no_room(&self, error: StorageError, bytes: u64) -> StorageError {
        error.needing(&*self.0.fs, SNAPSHOT, bytes.saturating_add(LOG_ROOM_BYTES))
    }

    fn check_room(&self, bytes: u64) -> Result<(), StorageError> {
        let needed = bytes.saturating_add(LOG_ROOM_BYTES);
        match self.0.fs.free_bytes(&self.0.dir) {
            Ok(free) if free < needed => Err(StorageError::NoSpace {
                path: self.0.dir.display().to_string(),
                what: SNAPSHOT,
                needed_bytes: needed,
                free_bytes: Some(free),
            }),
            // What the file system cannot say shows when it is written.
            _ => Ok(()),
        }
    }

    fn check_cluster(&self, found: ClusterId, path: &Path) -> Result<(), StorageError> {
        match self.state().cluster {
            Some(expected) if expected != found => Err(StorageError::Foreign {
                path: path.display().to_string(),
                found: format!("cluster {found}"),
                expected: format!("cluster {expected}"),
            }),
            _ => Ok(()),
        }
    }

    fn check_current(&self, path: &Path, last: LogId) -> Result<SnapshotFile, Fault> {
        let found = self.check_file(path, None)?;
        if found.id.last != last {
            let what = format!("the file holds a snapshot of {}", found.id.last);
            return Err(Fault::Broken(0, what));
        }
        Ok(found)
    }

    fn check_received(&self, path: &Path, id: SnapshotId) -> Result<SnapshotFile, Fault> {
        self.check_file(path, Some(id))
    }

    fn check_file(&self, path: &Path, id: Option<SnapshotId>) -> Result<SnapshotFile, Fault> {
        let file = self.0.fs.open(path);
        let file = file.map_err(|error| Fault::Disk(StorageError::io("opening", path, error)))?;
        let found = check(file, path, id)?;
        self.check_cluster(found.head.cluster, path).map_err(Fault::Disk)?;
        Ok(found)
    }

    /// Whether a snapshot of this entry would be newer than the current one.
    fn is_news(&self, last: LogId) -> bool {
        self.state().current.as_ref().is_none_or(|file| file.id.last.index < last.index)
    }

    /// Gives a durable file another name, durably.
    fn rename(&self, file: &mut SnapshotFile, name: &str) -> Result<(), StorageError> {
        let path = self.0.dir.join(name);
        self.0.fs.rename(&file.path, &path).map_err(|error| {
            self.no_room(StorageError::io("renaming", &file.path, error), BLOCK_BYTES)
        })?;
        file.path = path;
        self.sync_dir()
    }

    /// Takes over a file that has its name for good; the older ones go.
    fn make_current(&self, file: SnapshotFile) -> Result<(), StorageError> {
        let last = file.id.last;
        let path = file.path.clone();
        {
            let mut state = self.state();
            state.current = Some(file);
            state.received.retain(|file| file.id.last.index > last.index);
        }
        let older = self.list()?.into_iter().filter(|name| match name_of(name) {
            Name::Current(other) => other.index <= last.index,
            Name::Received(id) => id.last.index <= last.index,
            _ => false,
        });
        let older: Vec<PathBuf> =
            older.map(|name| self.0.dir.join(name)).filter(|other| *other != path).collect();
        self.remove_all(&older)
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        let dir = &self.0.dir;
        self.0.fs.list(dir).map_err(|error| StorageError::io("listing", dir, error))
    }

    fn remove_all(&self, paths: &[PathBuf]) -> Result<(), StorageError> {
        for path in paths {
            match self.0.fs.remove(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StorageError::io("removing", path, error));
                }
                _ => {}
            }
        }
        if paths.is_empty() { Ok(()) } else { self.sync_dir() }
    }

    fn sync_dir(&self) -> Result<(), StorageError> {
        let dir = &self.0.dir;
        self.0.fs.sync_dir(dir).map_err(|error| StorageError::io("syncing", dir, error))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, ()> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a whole file, checks every piece and, if an id is given, that it is that file.
fn check(file: Arc<dyn File>, path: &Path, id: Option<SnapshotId>) -> Result<SnapshotFile, Fault> {
    let (mut pieces, head) = Pieces::open(Arc::clone(&file), path)?;
    pieces.drain()?;
    let found = SnapshotId { last: head.meta.last, bytes: pieces.offset(), crc: pieces.whole() };
    if let Some(id) = id.filter(|id| *id != found) {
        return Err(Fault::Broken(0, format!("the file is {found:?} and not {id:?}")));
    }
    Ok(SnapshotFile { id: found, head, path: path.to_owned(), file })
}

/// How much of a file that was being received is sound: a crash may have left anything behind that.
fn sound_part(file: &Arc<dyn File>, path: &Path) -> Result<u64, StorageError> {
    let (mut pieces, _) = match Pieces::open(Arc::clone(file), path) {
        Ok(opened) => opened,
        Err(Fault::Broken(..)) => return Ok(0),
        Err(Fault::Disk(error @ StorageError::Io { .. })) => return Err(error),
        Err(Fault::Disk(_)) => return Ok(0),
    };
    loop {
        let sound = pieces.offset();
        match pieces.next() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(pieces.offset()),
            Err(Fault::Broken(..)) => return Ok(sound),
            Err(Fault::Disk(error)) => return Err(error),
        }
    }
}
