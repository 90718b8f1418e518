//! The few things done to the disk, each whole or not at all: a file is written beside its place,
//! synced, and renamed into it.
//!
//! Every change goes through [`step`], so that a test can stop after any one of them as a machine does
//! that loses its power.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::CertsError;

/// Keys, and everything that holds one.
pub(super) const PRIVATE: u32 = 0o600;
/// What is signed anyway.
pub(super) const PUBLIC: u32 = 0o644;

/// One file as it is to be: name, mode, content.
pub(super) type Wanted<'a> = (&'a str, u32, &'a str);

/// Makes `dir` with all its files, or finds that there is something in its place (false).
pub(super) fn create_directory(
    dir: &Path,
    mode: u32,
    files: &[Wanted<'_>],
) -> Result<bool, CertsError> {
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(CertsError::io("make", parent))?;
    let staging = Staging(beside(dir)?);
    step("make", &staging.0)?;
    DirBuilder::new().mode(mode).create(&staging.0).map_err(CertsError::io("make", &staging.0))?;
    for (name, mode, content) in files {
        write_new(&staging.0.join(name), *mode, content)?;
    }
    sync_directory(&staging.0)?;
    step("make", dir)?;
    // Renaming a directory succeeds over nothing and over an empty directory, never over content.
    match fs::rename(&staging.0, dir) {
        Ok(()) => {
            sync_directory(parent)?;
            Ok(true)
        }
        Err(e) => match e.kind() {
            ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => Ok(false),
            _ => Err(CertsError::io("make", dir)(e)),
        },
    }
}

/// Makes an empty directory unless there is one.
pub(super) fn ensure_directory(dir: &Path, mode: u32) -> Result<(), CertsError> {
    step("make", dir)?;
    match DirBuilder::new().mode(mode).create(dir) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(CertsError::io("make", dir)(e)),
        _ => Ok(()),
    }
}

/// Puts a file into its place, whatever was there.
pub(super) fn replace_file(
    dir: &Path,
    name: &str,
    mode: u32,
    content: &str,
) -> Result<(), CertsError> {
    let path = dir.join(name);
    let staging = Staging(beside(&path)?);
    write_new(&staging.0, mode, content)?;
    rename(&staging.0, &path)
}

/// Renames, over whatever file or empty directory is there.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), CertsError> {
    step("replace", to)?;
    fs::rename(from, to).map_err(CertsError::io("replace", to))
}

/// Removes a file; that it is gone already is fine.
pub(super) fn remove_file(path: &Path) -> Result<(), CertsError> {
    step("remove", path)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(CertsError::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes a directory with all that is in it. It is renamed away first, so that no half of it is ever
/// taken for the whole.
pub(super) fn remove_directory(path: &Path) -> Result<(), CertsError> {
    let staging = Staging(beside(path)?);
    rename(path, &staging.0)?;
    step("remove", &staging.0)?;
    fs::remove_dir_all(&staging.0).map_err(CertsError::io("remove", &staging.0))
}

pub(super) fn sync_directory(dir: &Path) -> Result<(), CertsError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(CertsError::io("sync", dir))
}

/// Removes what a run that was cut off left half-made in a directory, if that is there: among it may be
/// keys. Only for who holds the lock.
pub(super) fn sweep(dir: &Path) -> Result<(), CertsError> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(CertsError::io("read", dir))? {
        let entry = entry.map_err(CertsError::io("read", dir))?;
        if is_staging(&entry.file_name().to_string_lossy()) {
            let path = entry.path();
            let gone = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            gone.map_err(CertsError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Whether this is a name of [`beside`], of anything but a CA: one may be in the making without the
/// lock, which lies in the CA's directory.
fn is_staging(name: &str) -> bool {
    let random = name.strip_prefix('.').and_then(|name| name.rsplit_once('.'));
    random.is_some_and(|(of, random)| {
        of != super::layout::CA_DIR
            && random.len() == 16
            && random.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn write_new(path: &Path, mode: u32, content: &str) -> Result<(), CertsError> {
    step("make", path)?;
    // The mode is given at creation: there is no moment at which a key could be read by others.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(CertsError::io("make", path))?;
    file.write_all(content.as_bytes()).map_err(CertsError::io("write", path))?;
    file.sync_all().map_err(CertsError::io("sync", path))
}

/// A hidden name in the same directory that nobody else uses.
fn beside(path: &Path) -> Result<PathBuf, CertsError> {
    let random =
        getrandom::u64().map_err(|e| CertsError::Generate(format!("no randomness: {e}")))?;
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    Ok(path.with_file_name(format!(".{name}.{random:016x}")))
}

/// Something half-made, removed unless it was renamed away.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        #[cfg(test)]
        if fuse::blown() {
            return;
        }
        // Neither failure matters: after the rename there is nothing to remove, and after an error
        // that error is what is reported.
        let _ = fs::remove_dir_all(&self.0).or_else(|_| fs::remove_file(&self.0));
    }
}

/// Stands before every change.
#[cfg(not(test))]
fn step(_doing: &'static str, _path: &Path) -> Result<(), CertsError> {
    Ok(())
}

#[cfg(test)]
fn step(doing: &'static str, path: &Path) -> Result<(), CertsError> {
    fuse::burn().map_err(CertsError::io(doing, path))
}

/// Lets everything stop before a chosen change of the disk; for tests of this thread.
#[cfg(test)]
pub(super) mod fuse {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Lets `changes` happen and nothing after them; none: everything.
    pub(crate) fn set(changes: Option<u32>) {
        LEFT.set(changes);
    }

    pub(crate) fn blown() -> bool {
        LEFT.get() == Some(0)
    }

    pub(super) fn burn() -> io::Result<()> {
        match LEFT.get() {
            Some(0) => Err(io::Error::other("the test stops here")),
            left => {
                LEFT.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }
}
