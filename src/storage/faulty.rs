//! A disk in memory that can fail like a real one: for tests and simulations.
//!
//! It keeps, for each file, what a reader sees (the page cache) and what survives a power failure,
//! with the writes in between; for each directory likewise. The model is the one that the
//! [module above](super) states: a power failure keeps or loses each unsynced sector for itself, or
//! a part of it, and a prefix of a directory's unsynced changes. A failed sync makes the cache
//! forget that its pages were never written, so that the next sync succeeds and means nothing (D1).
//!
//! A *call* is anything that changes something or syncs. Calls are counted from zero over the
//! disk's whole life, so that a test can repeat a run and fail each of them in turn.

mod handles;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::handles::FaultyFs;
use super::fs::Fs;

/// Unit in which unsynced bytes survive or not.
pub const SECTOR_BYTES: usize = 512;

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The process dies before the call has any effect.
    DieBefore,
    /// The process dies when the call is done.
    DieAfter,
    /// The call fails without effect; a sync loses what it should have written (D1).
    Error(ErrorKind),
    /// A write stops in the middle and fails; other calls fail without effect.
    Partly,
}

/// What of the unsynced survives a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Everything: the same as if only the process had died, and the cache were flushed later.
    Everything,
    /// Each sector for itself, drawn from this seed.
    Some(u64),
}

/// The disk. Clones are the same disk; [`fork`](FaultyDisk::fork) makes another one.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    files: BTreeMap<u64, Content>,
    names: Names,
    durable_names: Names,
    /// Changes to names that no sync has made durable, oldest first.
    name_changes: Vec<(PathBuf, NameChange)>,
    locks: BTreeSet<PathBuf>,
    mounts: BTreeSet<PathBuf>,
    /// Which process's handles are valid.
    life: u64,
    dead: bool,
    next_file: u64,
    calls: u64,
    plan: Option<(u64, Failure)>,
    read_plan: Option<u64>,
    reads: u64,
    room: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug)]
enum NameChange {
    MakeDir(PathBuf),
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Names {
    fn holds_parent(&self, path: &Path) -> bool {
        path.parent().is_none_or(|parent| self.dirs.contains(parent))
    }

    fn change(&mut self, change: &NameChange) {
        match change {
            NameChange::MakeDir(path) => {
                self.dirs.insert(path.clone());
            }
            NameChange::Create(path, file) => {
                self.files.insert(path.clone(), *file);
            }
            NameChange::Rename(from, to) => {
                if let Some(file) = self.files.remove(from) {
                    self.files.insert(to.clone(), file);
                    return;
                }
                let moved = |path: &PathBuf| {
                    let rest = path.strip_prefix(from).ok()?;
                    Some(if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) })
                };
                let files = std::mem::take(&mut self.files);
                self.files = files
                    .into_iter()
                    .map(|(path, file)| (moved(&path).unwrap_or(path), file))
                    .collect();
                let dirs = std::mem::take(&mut self.dirs);
                self.dirs = dirs.into_iter().map(|path| moved(&path).unwrap_or(path)).collect();
            }
            NameChange::Remove(path) => {
                self.files.remove(path);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Change::Length(length) => bytes.resize(*length, 0),
        }
    }

    /// What a power failure leaves of the change.
    fn survive(&self, bytes: &mut Vec<u8>, chance: &mut SmallRng) {
        let Change::Write(offset, data) = self else {
            if chance.random_bool(0.5) {
                self.apply(bytes);
            }
            return;
        };
        let mut start = *offset;
        while start < offset + data.len() {
            let end = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(offset + data.len());
            let piece = &data[start - offset..end - offset];
            let keep = match chance.random_range(0..5) {
                0 | 1 => piece.len(),
                2 => chance.random_range(0..=piece.len()),
                _ => 0,
            };
            if keep > 0 {
                Change::Write(start, piece[..keep].to_vec()).apply(bytes);
            }
            start = end;
        }
    }
}

impl FaultyDisk {
    /// An empty disk with the root directory and endless room.
    #[must_use]
    pub fn new() -> FaultyDisk {
        let disk = FaultyDisk::default();
        {
            let mut state = disk.lock();
            state.names.dirs.insert(PathBuf::from("/"));
            state.durable_names = state.names.clone();
        }
        disk
    }

    /// The file system as the process sees it that runs now.
    #[must_use]
    pub fn fs(&self) -> Arc<dyn Fs> {
        Arc::new(FaultyFs { disk: self.clone(), life: self.lock().life })
    }

    /// Another disk with the same content, plans and counters.
    #[must_use]
    pub fn fork(&self) -> FaultyDisk {
        FaultyDisk(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Whether the running process has died in a planned failure.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Lets the call with this number fail.
    pub fn fail_at(&self, call: u64, failure: Failure) {
        self.lock().plan = Some((call, failure));
    }

    /// Lets the read that comes after `skip` further ones fail.
    pub fn fail_read_after(&self, skip: u64) {
        let mut state = self.lock();
        state.read_plan = Some(state.reads + skip);
    }

    /// Makes a directory one that cannot be renamed, as if something were mounted there.
    pub fn mount(&self, path: &Path) {
        self.lock().mounts.insert(path.to_owned());
    }

    /// Limits the room to so many further bytes, or lifts the limit.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    /// Ends the process, if it still runs: its handles fail from now on and its locks are free.
    /// What it wrote stays in the cache, and planned failures stay planned.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.life += 1;
        state.dead = false;
        state.locks.clear();
    }

    /// Ends the process and cuts the power.
    pub fn lose_power(&self, survival: Survival) {
        self.kill();
        let mut state = self.lock();
        let seed = if let Survival::Some(seed) = survival { seed } else { 0 };
        let mut chance = SmallRng::seed_from_u64(seed);
        for content in state.files.values_mut() {
            if survival == Survival::Everything {
                content.durable.clone_from(&content.cached);
            }
            for change in std::mem::take(&mut content.unsynced) {
                match survival {
                    Survival::Some(_) => change.survive(&mut content.durable, &mut chance),
                    Survival::Nothing | Survival::Everything => {}
                }
            }
            content.cached.clone_from(&content.durable);
        }
        state.lose_names(survival, &mut chance);
    }

    /// The files that there are.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().names.files.keys().cloned().collect()
    }

    /// A file's content as a reader sees it.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.names.files.get(path)?;
        Some(state.files[file].cached.clone())
    }

    /// Changes a file behind everybody's back, durably: rot.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let Some(file) = state.names.files.get(path).copied() else { return };
        let content = state.content(file);
        change(&mut content.cached);
        content.durable.clone_from(&content.cached);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one call, or what the plan makes of it. `partly` is what a failing write still does.
    fn call<T>(
        &self,
        life: u64,
        effect: impl FnOnce(&mut State) -> io::Result<T>,
        fails: impl FnOnce(&mut State, Failure),
    ) -> io::Result<T> {
        let mut state = self.lock();
        state.check_alive(life)?;
        let number = state.calls;
        state.calls += 1;
        match state.plan.filter(|(at, _)| *at == number) {
            None => effect(&mut state),
            Some((_, Failure::DieBefore)) => Err(state.die()),
            Some((_, Failure::DieAfter)) => {
                let _ = effect(&mut state);
                Err(state.die())
            }
            Some((_, failure)) => {
                fails(&mut state, failure);
                let kind = if let Failure::Error(kind) = failure { kind } else { ErrorKind::Other };
                Err(io::Error::from(kind))
            }
        }
    }
}

impl State {
    fn check_alive(&self, life: u64) -> io::Result<()> {
        if self.dead || self.life != life {
            return Err(io::Error::other("this process is dead"));
        }
        Ok(())
    }

    fn die(&mut self) -> io::Error {
        self.dead = true;
        io::Error::other("the process died in this call")
    }

    fn content(&mut self, file: u64) -> &mut Content {
        self.files.entry(file).or_default()
    }

    fn change(&mut self, file: u64, change: Change) -> io::Result<()> {
        let content = self.files.entry(file).or_default();
        let before = content.cached.len() as u64;
        let after = match &change {
            Change::Write(offset, data) => before.max((offset + data.len()) as u64),
            Change::Length(length) => *length as u64,
        };
        if let Some(room) = &mut self.room {
            if after > before + *room {
                return Err(io::Error::from(ErrorKind::StorageFull));
            }
            *room = *room + before - after;
        }
        change.apply(&mut content.cached);
        content.unsynced.push(change);
        Ok(())
    }

    fn change_name(&mut self, path: &Path, change: NameChange) {
        let before: u64 = self.used();
        self.names.change(&change);
        let after = self.used();
        if let Some(room) = &mut self.room {
            *room += before.saturating_sub(after);
        }
        let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
        self.name_changes.push((parent, change));
    }

    fn used(&self) -> u64 {
        self.names.files.values().map(|file| self.files[file].cached.len() as u64).sum()
    }

    fn lose_names(&mut self, survival: Survival, chance: &mut SmallRng) {
        // In each directory a prefix of the changes survives.
        let mut cut = BTreeSet::new();
        for (dir, change) in std::mem::take(&mut self.name_changes) {
            let keep = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Some(_) => chance.random_bool(0.5),
            };
            if !keep {
                cut.insert(dir.clone());
            }
            if !cut.contains(&dir) {
                self.durable_names.change(&change);
            }
        }
        // What is in a directory that is gone is gone.
        let names = &mut self.durable_names;
        while let Some(lost) = names.dirs.iter().find(|dir| !names.holds_parent(dir)).cloned() {
            names.dirs.remove(&lost);
        }
        let dirs = names.dirs.clone();
        names.files.retain(|path, _| path.parent().is_none_or(|parent| dirs.contains(parent)));
        self.names = self.durable_names.clone();
    }
}
