//! What a process holds of a [`FaultyDisk`]: files, names, locks.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::fs::{File, Fs, Lock};
use super::{Change, Content, Failure, FaultyDisk, NameChange, State};

#[derive(Debug)]
pub(super) struct FaultyFs {
    pub(super) disk: FaultyDisk,
    pub(super) life: u64,
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    life: u64,
    file: u64,
}

#[derive(Debug)]
struct FaultyLock {
    disk: FaultyDisk,
    life: u64,
    path: PathBuf,
}

impl Lock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

fn position(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.check_alive(self.life)?;
        let number = state.reads;
        state.reads += 1;
        if state.read_plan == Some(number) {
            return Err(io::Error::other("a read that was planned to fail"));
        }
        let cached = &state.content(self.file).cached;
        let rest = cached.get(position(offset)..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = position(offset);
        self.disk.call(
            self.life,
            |state| state.change(self.file, Change::Write(offset, bytes.to_vec())),
            |state, failure| {
                if failure == Failure::Partly {
                    let half = bytes[..bytes.len() / 2].to_vec();
                    let _ = state.change(self.file, Change::Write(offset, half));
                }
            },
        )
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.call(
            self.life,
            |state| state.change(self.file, Change::Length(position(bytes))),
            |_, _| (),
        )
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call(
            self.life,
            |state| {
                let content = state.content(self.file);
                for change in std::mem::take(&mut content.unsynced) {
                    change.apply(&mut content.durable);
                }
                Ok(())
            },
            |state, _| state.content(self.file).unsynced.clear(),
        )
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.lock();
        state.check_alive(self.life)?;
        Ok(state.content(self.file).cached.len() as u64)
    }
}

impl FaultyFs {
    fn call<T>(&self, effect: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.disk.call(self.life, effect, |_, _| ())
    }

    fn file(&self, file: u64) -> Arc<dyn File> {
        Arc::new(FaultyFile { disk: self.disk.clone(), life: self.life, file })
    }
}

impl Fs for FaultyFs {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.call(|state| {
            if state.names.dirs.contains(path) {
                return Ok(false);
            }
            if !state.names.holds_parent(path) {
                return Err(io::Error::from(ErrorKind::NotFound));
            }
            state.change_name(path, NameChange::MakeDir(path.to_owned()));
            Ok(true)
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.disk.lock();
        state.check_alive(self.life)?;
        if !state.names.dirs.contains(path) {
            return Err(io::Error::from(ErrorKind::NotFound));
        }
        let inside = |name: &&PathBuf| name.parent() == Some(path);
        let names = state.names.files.keys().filter(inside);
        let names = names.chain(state.names.dirs.iter().filter(inside));
        let mut names: Vec<String> = names
            .filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.call(|state| {
            if !state.names.holds_parent(path) {
                return Err(io::Error::from(ErrorKind::NotFound));
            }
            let file = state.next_file;
            state.next_file += 1;
            state.files.insert(file, Content::default());
            state.change_name(path, NameChange::Create(path.to_owned(), file));
            Ok(file)
        })?;
        Ok(self.file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.disk.lock();
        state.check_alive(self.life)?;
        let file = state.names.files.get(path).copied();
        file.map(|file| self.file(file)).ok_or_else(|| io::Error::from(ErrorKind::NotFound))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|state| {
            let there = state.names.files.contains_key(from) || state.names.dirs.contains(from);
            if !there || !state.names.holds_parent(to) {
                return Err(io::Error::from(ErrorKind::NotFound));
            }
            if state.mounts.contains(from) {
                return Err(io::Error::from(ErrorKind::ResourceBusy));
            }
            state.change_name(to, NameChange::Rename(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|state| {
            if !state.names.files.contains_key(path) {
                return Err(io::Error::from(ErrorKind::NotFound));
            }
            state.change_name(path, NameChange::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(|state| {
            let changes = std::mem::take(&mut state.name_changes);
            for (dir, change) in changes {
                if dir == path {
                    state.durable_names.change(&change);
                } else {
                    state.name_changes.push((dir, change));
                }
            }
            Ok(())
        })
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let state = self.disk.lock();
        state.check_alive(self.life)?;
        Ok(state.room.unwrap_or(u64::MAX))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.disk.lock();
        state.check_alive(self.life)?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::Error::from(ErrorKind::WouldBlock));
        }
        Ok(Box::new(FaultyLock { disk: self.disk.clone(), life: self.life, path: path.to_owned() }))
    }
}
