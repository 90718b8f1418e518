//! Setting a data directory aside: it gets a dated name beside its own, nothing of it is removed, and
//! the next start finds an empty place (design section 5). What led to it may be damage, a directory
//! that went back in time, or a node that was removed: whatever it was, the old node id is never used
//! again, and whoever wants to know what happened finds everything.
//!
//! The directory as a whole is renamed, in one step:
//!
//! ```text
//! /data/raft-0  ->  /data/raft-0.20261121T101500Z-went-back
//! ```
//!
//! Where that cannot be (it is a mount point, as with volumes of Kubernetes; or the directory above
//! belongs to others) what it holds moves into a directory inside of it, which a start ignores:
//!
//! ```text
//! /data/aside-20261121T101500Z-went-back/{identity,founding,log,snapshot}
//! ```
//!
//! That takes several steps. Until all are done the directory's name ends in `.moving`; a start that
//! finds one goes on where the process before it was cut short, before it reads anything. So no start
//! sees an old log beside a new identity, or an identity without its log.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use super::StorageError;
use super::directory::lock;
use super::fs::Fs;

/// Copies kept at most: beyond that somebody must look, and a node that is set aside again and again
/// must not fill the disk.
pub const ASIDE_MAX: usize = 8;

const INSIDE: &str = "aside-";
const MOVING: &str = ".moving";
/// What belongs to the node. The lock stays: it is what keeps others out meanwhile.
const CONTENT: [&str; 6] =
    ["identity", "identity.tmp", "founding", "founding.tmp", "log", "snapshot"];
/// Longest part of a reason in a name.
const REASON_MAX: usize = 32;

/// Sets a data directory aside, after taking its lock. Returns where it lies now. `reason` is one word
/// or two, for the name.
///
/// # Errors
/// [`StorageError::Locked`] if a process uses it, [`StorageError::TooManyAside`], or the disk's: the
/// directory is then as it was, or set aside, or the next start sets it aside.
pub fn set_aside(fs: &dyn Fs, path: &Path, reason: &str) -> Result<PathBuf, StorageError> {
    let _lock = lock(fs, path)?;
    move_aside(fs, path, reason, OffsetDateTime::now_utc())
}

/// As [`set_aside`], for a directory whose lock the caller holds.
pub(super) fn move_aside(
    fs: &dyn Fs,
    path: &Path,
    reason: &str,
    now: OffsetDateTime,
) -> Result<PathBuf, StorageError> {
    // One that was begun before counts as well, and must not be mixed with this one.
    finish(fs, path)?;
    let earlier = earlier(fs, path)?;
    if earlier.len() >= ASIDE_MAX {
        return Err(StorageError::TooManyAside {
            path: path.display().to_string(),
            count: earlier.len(),
            example: earlier.first().map(|path| path.display().to_string()).unwrap_or_default(),
        });
    }
    let label = label(reason, now);
    if let Some(beside) = free_name(&earlier, |suffix| beside(path, &format!("{label}{suffix}"))) {
        match fs.rename(path, &beside) {
            Ok(()) => {
                sync(fs, parent(path))?;
                return Ok(beside);
            }
            Err(error) if must_stay(&error) => {
                tracing::debug!(path = %path.display(), %error, "moved into a directory inside");
            }
            Err(error) => return Err(StorageError::io("renaming", path, error)),
        }
    }
    let inside = free_name(&earlier, |suffix| Some(path.join(format!("{INSIDE}{label}{suffix}"))))
        .unwrap_or_else(|| path.join(format!("{INSIDE}{label}")));
    let moving = with_suffix(&inside, MOVING);
    fs.create_dir(&moving).map_err(|error| StorageError::io("creating", &moving, error))?;
    sync(fs, path)?;
    move_content(fs, path, &moving)?;
    Ok(inside)
}

/// Whether a directory can only be emptied: it is mounted, or what holds it is not ours to change.
fn must_stay(error: &io::Error) -> bool {
    use ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), ResourceBusy | PermissionDenied | CrossesDevices | ReadOnlyFilesystem)
}

/// Goes on where a process was cut short that was setting this directory aside. The caller holds the
/// lock.
pub(super) fn finish(fs: &dyn Fs, path: &Path) -> Result<(), StorageError> {
    for name in list(fs, path)? {
        if name.starts_with(INSIDE) && name.ends_with(MOVING) {
            tracing::warn!(path = %path.display(), name, "setting aside goes on");
            move_content(fs, path, &path.join(name))?;
        }
    }
    Ok(())
}

/// Moves what is still there, and then says by the name that nothing is missing.
fn move_content(fs: &dyn Fs, path: &Path, moving: &Path) -> Result<(), StorageError> {
    for name in list(fs, path)?.iter().filter(|name| CONTENT.contains(&name.as_str())) {
        let from = path.join(name);
        fs.rename(&from, &moving.join(name))
            .map_err(|error| StorageError::io("moving", &from, error))?;
    }
    sync(fs, moving)?;
    sync(fs, path)?;
    let name = moving.file_name().unwrap_or_default().to_string_lossy();
    let done = path.join(name.strip_suffix(MOVING).unwrap_or(&name));
    fs.rename(moving, &done).map_err(|error| StorageError::io("renaming", moving, error))?;
    sync(fs, path)
}

/// How often a directory was set aside within the last `span`, by the dates in the names.
///
/// # Errors
/// If the directory cannot be listed.
pub fn set_aside_lately(fs: &dyn Fs, path: &Path, span: Duration) -> Result<usize, StorageError> {
    let since = stamp(OffsetDateTime::now_utc() - span);
    // Of equal length and most significant first, so that they compare as text.
    let is_late = |copy: &PathBuf| {
        let name = copy.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.trim_start_matches(INSIDE);
        let date = name.rsplit_once('.').map_or(name, |(_, label)| label);
        date.get(..since.len()).is_some_and(|date| date >= since.as_str())
    };
    Ok(earlier(fs, path)?.iter().filter(|copy| is_late(copy)).count())
}

/// The copies that there are, beside the directory and inside of it.
fn earlier(fs: &dyn Fs, path: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let mut found: Vec<PathBuf> = list(fs, path)?
        .into_iter()
        .filter(|name| name.starts_with(INSIDE))
        .map(|name| path.join(name))
        .collect();
    if let Some(own) = path.file_name() {
        let prefix = format!("{}.", own.to_string_lossy());
        // A directory above that cannot be read cannot be written either: nothing of ours is there.
        let beside = fs.list(parent(path)).unwrap_or_default();
        found.extend(
            beside
                .iter()
                .filter(|name| name.strip_prefix(&prefix).is_some_and(is_label))
                .map(|name| parent(path).join(name)),
        );
    }
    Ok(found)
}

/// The first of some names that is not taken: without a suffix, or with a number.
fn free_name(earlier: &[PathBuf], name: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let suffixes = (1..=ASIDE_MAX + 1).map(|number| match number {
        1 => String::new(),
        _ => format!("-{number}"),
    });
    suffixes.filter_map(|suffix| name(&suffix)).find(|path| !earlier.contains(path))
}

/// `20261121T101500Z-REASON`, with of the reason what may stand in any file name.
fn label(reason: &str, now: OffsetDateTime) -> String {
    let reason: String = reason
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '-' })
        .take(REASON_MAX)
        .collect();
    format!("{}-{reason}", stamp(now))
}

fn stamp(time: OffsetDateTime) -> String {
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Whether a name's rest was made by [`label`].
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    digits(0..8) && digits(9..15) && bytes[8] == b'T' && bytes[15..].starts_with(b"Z-")
}

fn beside(path: &Path, label: &str) -> Option<PathBuf> {
    let own = path.file_name()?.to_string_lossy();
    Some(parent(path).join(format!("{own}.{label}")))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}{suffix}"))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn list(fs: &dyn Fs, path: &Path) -> Result<Vec<String>, StorageError> {
    fs.list(path).map_err(|error| StorageError::io("listing", path, error))
}

fn sync(fs: &dyn Fs, path: &Path) -> Result<(), StorageError> {
    fs.sync_dir(path).map_err(|error| StorageError::io("syncing", path, error))
}
