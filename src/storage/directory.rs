//! The data directory: who it belongs to, who may use it, and what lies in it.
//!
//! ```text
//! lock        locked for as long as a process uses the directory
//! identity    seat, node id, boot counter, salt of the log (small file)
//! founding    the founding record, opaque here (small file; only if there is one)
//! log/        the log's segments, 00000000000000000001.log and on
//! snapshot/   the snapshots
//! aside-*/    what lay here before it was set aside; nothing of it is read
//! ```

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::aside;
use super::fs::{Fs, Lock};
use super::recovery::{self, Source};
use super::small_file::{self, Format};
use super::snapshot::SnapshotStore;
use super::wal::{LogOptions, Wal};
use super::{BLOCK_BYTES, RestoredLog, SegmentNumber, StorageError};
use crate::raft::{Boot, ClusterId, NodeId};

const IDENTITY: Format = Format { magic: *b"BALSA-ID", version: 1 };
const FOUNDING: Format = Format { magic: *b"BALSA-FR", version: 1 };

/// The directory of the log's files.
pub(super) const LOG: &str = "log";

/// What finds no room, for the message.
const START: &str = "a start";
/// The small files that a start replaces, and the directories it makes.
const SMALL_FILES_BYTES: u64 = 4 * BLOCK_BYTES;
/// What a start needs that finds no room even for the boot counter: besides small files the
/// shortest segment, unless the last group commit makes it longer.
const START_BYTES: u64 = LogOptions::DEFAULT.reserve_bytes + 2 * BLOCK_BYTES + SMALL_FILES_BYTES;

/// What the identity file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    seat: String,
    node: NodeId,
    boot: Boot,
    /// Goes into every checksum of the log, so that no other directory's records parse in it.
    salt: u64,
    /// A segment of the log that is known to have begun: a log whose newest files are gone is
    /// noticed.
    segment: SegmentNumber,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterId>,
    /// The cluster's name, as in the certificates under which the directory was first used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster_name: Option<String>,
}

/// An open data directory, locked until it and everything opened through it is dropped.
#[derive(Debug)]
pub struct DataDir {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    identity: Mutex<Identity>,
    is_new: bool,
    snapshots: SnapshotStore,
    /// Held by the open log too: it has one writer.
    writer: Arc<()>,
    lock: Arc<dyn Lock>,
}

impl DataDir {
    /// Opens the directory of a seat, making it if there is none: then a node id is drawn that was
    /// never used before (M7, D17). Raises the boot counter durably (K4).
    ///
    /// # Errors
    /// [`StorageError::Locked`], [`StorageError::Foreign`] if it belongs to another seat,
    /// [`StorageError::NewerFormat`], [`StorageError::Damaged`] if the identity cannot be read, or
    /// is missing where there is a log, [`StorageError::NoSpace`] with what the whole start needs,
    /// or what the disk says.
    pub fn open(fs: Arc<dyn Fs>, path: &Path, seat: &str) -> Result<DataDir, StorageError> {
        DataDir::open_as(Arc::clone(&fs), path, seat)
            .map_err(|error| error.needing(&*fs, START, START_BYTES))
    }

    fn open_as(fs: Arc<dyn Fs>, path: &Path, seat: &str) -> Result<DataDir, StorageError> {
        let made = create_dirs(&*fs, path)?;
        let lock: Arc<dyn Lock> = Arc::from(lock(&*fs, path)?);
        aside::finish(&*fs, path)?;
        let found = read_identity(&*fs, path)?;
        let is_new = found.is_none();
        let mut identity = match found {
            Some(identity) if identity.seat != seat => {
                return Err(StorageError::Foreign {
                    path: path.display().to_string(),
                    found: format!("node {}", identity.seat),
                    expected: format!("node {seat}"),
                });
            }
            Some(identity) => identity,
            None => {
                check_empty(&*fs, path)?;
                sync_ancestors(&*fs, path, &made)?;
                Identity {
                    seat: seat.to_owned(),
                    node: NodeId(random(path)?),
                    boot: Boot(0),
                    salt: random(path)?,
                    segment: SegmentNumber(0),
                    cluster: None,
                    cluster_name: None,
                }
            }
        };
        // Two lives that begin from copies of one directory are told apart by the lot.
        identity.boot = identity.boot.next(lot(path)?);
        write_identity(&*fs, path, &identity)?;
        create_dirs(&*fs, &path.join(LOG))?;
        let snapshot = path.join("snapshot");
        create_dirs(&*fs, &snapshot)?;
        let snapshots =
            SnapshotStore::open(Arc::clone(&fs), snapshot, identity.cluster, Arc::clone(&lock))?;
        fs.sync_dir(path).map_err(|error| StorageError::io("syncing", path, error))?;
        Ok(DataDir {
            fs,
            path: path.to_owned(),
            identity: Mutex::new(identity),
            is_new,
            snapshots,
            writer: Arc::new(()),
            lock,
        })
    }

    /// Where the directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node that this directory is. Never zero.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.identity().node
    }

    /// This life of the directory; it counts how often the directory was opened, this time included.
    #[must_use]
    pub fn boot(&self) -> Boot {
        self.identity().boot
    }

    /// Whether this call of [`open`](DataDir::open) drew the node id.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The cluster it belongs to, once it does.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.identity().cluster
    }

    /// Writes down, durably and for good, to which cluster the node belongs.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] if it belongs to another one; the disk's.
    pub fn write_cluster(&self, cluster: ClusterId) -> Result<(), StorageError> {
        match self.cluster() {
            Some(found) if found == cluster => Ok(()),
            Some(found) => Err(StorageError::Foreign {
                path: self.path.display().to_string(),
                found: format!("cluster {found}"),
                expected: format!("cluster {cluster}"),
            }),
            None => {
                self.change_identity(|identity| identity.cluster = Some(cluster))?;
                self.snapshots.set_cluster(cluster);
                Ok(())
            }
        }
    }

    /// Binds the directory to the cluster that the certificates name, durably and for good: under
    /// another cluster's certificates a node would serve foreign data as that cluster's.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] if it belongs to another one; the disk's.
    pub fn bind_cluster_name(&self, name: &str) -> Result<(), StorageError> {
        let bound = self.identity().cluster_name.clone();
        match bound {
            Some(found) if found == name => Ok(()),
            Some(found) => Err(StorageError::Foreign {
                path: self.path.display().to_string(),
                found: format!("cluster {found}"),
                expected: format!("cluster {name}"),
            }),
            None => self.change_identity(|identity| identity.cluster_name = Some(name.to_owned())),
        }
    }

    /// The founding record as it was last written.
    ///
    /// # Errors
    /// [`StorageError::Damaged`], [`StorageError::NewerFormat`], or the disk's.
    pub fn founding(&self) -> Result<Option<Vec<u8>>, StorageError> {
        small_file::read(&*self.fs, &self.path.join("founding"), FOUNDING)
    }

    /// Replaces the founding record; durable when it returns. A crash leaves the old one or the
    /// new.
    ///
    /// # Errors
    /// The disk's; what the file holds then is the old record or the new, and the process must end.
    pub fn write_founding(&self, record: &[u8]) -> Result<(), StorageError> {
        small_file::write(&*self.fs, &self.path.join("founding"), FOUNDING, record)
    }

    /// The snapshots.
    #[must_use]
    pub fn snapshots(&self) -> &SnapshotStore {
        &self.snapshots
    }

    /// Sets the directory aside, under the lock that this holds; nothing opened through it may be
    /// used any more. See [`set_aside`](super::set_aside).
    ///
    /// # Errors
    /// Those of [`set_aside`](super::set_aside).
    pub fn set_aside(&self, reason: &str) -> Result<PathBuf, StorageError> {
        aside::move_aside(&*self.fs, &self.path, reason, time::OffsetDateTime::now_utc())
    }

    /// Opens the log. Everything it returns is durable. If the current snapshot goes further than the
    /// log, because an install was cut short or a snapshot was written into a new directory, the log
    /// begins behind it.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if something durable is lost, a snapshot that the log needs included,
    /// [`StorageError::NewerFormat`], [`StorageError::NoSpace`] if there is no room even to start, or the
    /// disk's.
    ///
    /// # Panics
    /// If the log is open already: two writers would overwrite each other.
    pub fn open_log(&self, options: LogOptions) -> Result<(Wal, RestoredLog), StorageError> {
        assert_eq!(Arc::strong_count(&self.writer), 1, "a log has one writer");
        let source = {
            let identity = self.identity();
            Source {
                fs: Arc::clone(&self.fs),
                dir: self.path.join(LOG),
                salt: identity.salt,
                at_least: identity.segment,
                snapshots: self.snapshots.clone(),
                options,
            }
        };
        let (parts, restored) = recovery::open(&source).map_err(|error| match error {
            StorageError::NoSpace { needed_bytes, .. } => {
                error.needing(&*self.fs, START, needed_bytes + SMALL_FILES_BYTES)
            }
            other => other,
        })?;
        if parts.active.number != source.at_least {
            let segment = parts.active.number;
            self.change_identity(|identity| identity.segment = segment)?;
        }
        let mut log = Wal::new(parts, Arc::clone(&self.writer), Arc::clone(&self.lock));
        log.drop_superseded()?;
        Ok((log, restored))
    }

    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_identity(&self, change: impl FnOnce(&mut Identity)) -> Result<(), StorageError> {
        let mut identity = self.identity();
        let mut changed = identity.clone();
        change(&mut changed);
        write_identity(&*self.fs, &self.path, &changed)?;
        *identity = changed;
        Ok(())
    }
}

/// The seat that a directory belongs to, without opening it or changing anything; none if it holds no
/// node.
///
/// # Errors
/// [`StorageError::Damaged`], [`StorageError::NewerFormat`], or the disk's.
pub fn seat_of(fs: &dyn Fs, path: &Path) -> Result<Option<String>, StorageError> {
    Ok(read_identity(fs, path)?.map(|identity| identity.seat))
}

fn read_identity(fs: &dyn Fs, path: &Path) -> Result<Option<Identity>, StorageError> {
    let file = path.join("identity");
    let Some(bytes) = small_file::read(fs, &file, IDENTITY)? else { return Ok(None) };
    rmp_serde::from_slice(&bytes).map(Some).map_err(|error| {
        StorageError::damaged(&file, 0, format!("an identity that cannot be read: {error}"))
    })
}

fn write_identity(fs: &dyn Fs, path: &Path, identity: &Identity) -> Result<(), StorageError> {
    let bytes = rmp_serde::to_vec_named(identity).expect("a plain struct always encodes");
    small_file::write(fs, &path.join("identity"), IDENTITY, &bytes)
}

/// Locks a data directory that is there.
pub(super) fn lock(fs: &dyn Fs, path: &Path) -> Result<Box<dyn Lock>, StorageError> {
    fs.lock(&path.join("lock")).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => StorageError::Locked { path: path.display().to_string() },
        _ => StorageError::io("locking", path, error),
    })
}

/// A new identity over an old log would be a node that forgot its votes: refused (D17).
fn check_empty(fs: &dyn Fs, path: &Path) -> Result<(), StorageError> {
    let names = fs.list(path).map_err(|error| StorageError::io("listing", path, error))?;
    if names.iter().any(|name| ["log", "founding", "snapshot"].contains(&name.as_str())) {
        return Err(StorageError::damaged(
            &path.join("identity"),
            0,
            "the file is missing, and the directory is not empty",
        ));
    }
    Ok(())
}

/// Makes a directory and those above it; returns those that it made, the lowest first.
fn create_dirs(fs: &dyn Fs, path: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let mut made = Vec::new();
    let created = match (fs.create_dir(path), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == ErrorKind::NotFound => {
            made = create_dirs(fs, parent)?;
            fs.create_dir(path)
        }
        (other, _) => other,
    };
    if created.map_err(|error| StorageError::io("creating", path, error))? {
        made.insert(0, path.to_owned());
    }
    Ok(made)
}

/// Makes the way to a new directory durable (D2): all of it, since an earlier start may have made
/// part of it and been cut short. Directories above that hold nothing of what this start `made` may
/// refuse: on a mount that is read-only, belongs to others, or has no such sync, there is nothing to
/// make durable.
fn sync_ancestors(fs: &dyn Fs, path: &Path, made: &[PathBuf]) -> Result<(), StorageError> {
    use ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    for ancestor in path.ancestors().skip(1) {
        let holds_new_name = made.iter().any(|made| made.parent() == Some(ancestor));
        match fs.sync_dir(ancestor) {
            Err(error)
                if !holds_new_name
                    && matches!(
                        error.kind(),
                        InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported
                    ) =>
            {
                tracing::debug!(path = %ancestor.display(), %error, "not synced");
            }
            other => other.map_err(|error| StorageError::io("syncing", ancestor, error))?,
        }
    }
    Ok(())
}

fn lot(path: &Path) -> Result<u32, StorageError> {
    random(path).map(|number| (number & u64::from(u32::MAX)) as u32)
}

fn random(path: &Path) -> Result<u64, StorageError> {
    loop {
        match getrandom::u64() {
            Ok(0) => {}
            Ok(number) => return Ok(number),
            Err(error) => {
                return Err(StorageError::io(
                    "drawing a node id for",
                    path,
                    std::io::Error::other(error.to_string()),
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::faulty::{Failure, FaultyDisk};
    use super::*;

    const REFUSALS: [ErrorKind; 3] =
        [ErrorKind::InvalidInput, ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied];

    /// Syncs the way to `/a/b/data`, of which the last `made` levels are new, and lets the sync of
    /// the directory `level` steps above it fail.
    fn sync_with(made: usize, level: u64, kind: ErrorKind) -> Result<(), StorageError> {
        let path = Path::new("/a/b/data");
        let made: Vec<PathBuf> = path.ancestors().take(made).map(Path::to_owned).collect();
        let disk = FaultyDisk::new();
        disk.fail_at(disk.calls() + level - 1, Failure::Error(kind));
        sync_ancestors(&*disk.fs(), path, &made)
    }

    #[test]
    fn directories_above_may_refuse_to_be_synced_if_nothing_new_is_in_them() {
        for kind in REFUSALS {
            for made in 0..=3 {
                for level in 1..=3 {
                    // D2: the names that this start made are durable, or it fails.
                    let tolerated = sync_with(made, level, kind).is_ok();
                    assert_eq!(tolerated, level as usize > made, "{kind:?} {made} {level}");
                }
            }
        }
        for level in 1..=3 {
            assert!(sync_with(0, level, ErrorKind::Other).is_err(), "a failing disk is no refusal");
        }
    }

    #[test]
    fn the_directories_made_are_known_and_the_data_directory_must_be_synced() {
        let disk = FaultyDisk::new();
        let path = Path::new("/a/b/data");
        disk.fs().create_dir(Path::new("/a")).unwrap();
        let made = create_dirs(&*disk.fs(), path).unwrap();
        assert_eq!(made, [path, Path::new("/a/b")]);
        assert!(create_dirs(&*disk.fs(), path).unwrap().is_empty());

        // D2: the last call of a start syncs the data directory itself.
        let open = |disk: &FaultyDisk| DataDir::open(disk.fs(), path, "raft-0").map(drop);
        let measured = disk.fork();
        open(&measured).unwrap();
        for kind in REFUSALS {
            let disk = disk.fork();
            disk.fail_at(measured.calls() - 1, Failure::Error(kind));
            let error = open(&disk).unwrap_err();
            assert!(error.to_string().starts_with("syncing /a/b/data failed"), "{error}");
        }
    }
}
