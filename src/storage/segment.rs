//! A segment: one file of records, as long as its header says from its first byte on. The next one
//! is made ready while the current one fills, so that nobody waits for it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use super::fs::{File, Fs};
use super::record::{self, Frame, Kind, Seal};
use super::{BLOCK_BYTES, Position, Seen, SegmentNumber, StorageError};
use crate::raft::{HardState, Index, LogId, NodeId};

/// What a segment's header says besides its frame. The frame's `previous` is the checksum of the
/// record before, its `durable` the position at which the segment begins, its id the last entry
/// before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentHeader {
    /// The file's length while it is the newest one; a shorter file was cut by someone.
    pub(crate) capacity: u64,
    /// Term and vote before the segment's own records, so that older segments can go.
    pub(crate) hard_state: HardState,
    /// What was seen of other nodes, all of it, likewise.
    #[serde(default)]
    pub(crate) seen: BTreeMap<NodeId, Seen>,
    /// The highest index that the log held before. Older versions did not write it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) reached: Index,
    /// The log begins anew here, behind the last entry of a snapshot that is in its place: nothing
    /// before counts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) begins_log: bool,
}

fn is_zero(index: &Index) -> bool {
    *index == Index::ZERO
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for it
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The payload of a hard-state record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HardStateRecord {
    /// Term and vote.
    pub(crate) hard_state: HardState,
    /// What was seen of other nodes: what changed since the last hard state, in records of older
    /// versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) seen: BTreeMap<NodeId, Seen>,
    /// Whether `seen` is the whole table.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) all_seen: bool,
}

/// What the purging of a prefix needs to know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The last entry before the segment.
    pub(crate) last: LogId,
    /// The lowest index behind which a record in it drops entries; the highest number if none does.
    pub(crate) lowest: Index,
}

impl Span {
    pub(crate) fn new(last: LogId) -> Span {
        Span { last, lowest: Index(u64::MAX) }
    }
}

/// The newest segment with which a log may begin that needs no entry up to and including `upto`, and
/// whose next entry lies in `next` if there is one. It must say everything that still counts: entries
/// before it are not needed, and no record from it on reaches back behind its beginning, where a
/// replay would know nothing.
pub(crate) fn first_needed(
    spans: &BTreeMap<SegmentNumber, Span>,
    next: Option<SegmentNumber>,
    upto: Index,
) -> Option<SegmentNumber> {
    let mut lowest = Index(u64::MAX);
    spans
        .iter()
        .rev()
        .find(|(number, span)| {
            lowest = lowest.min(span.lowest);
            next.is_none_or(|next| **number <= next)
                && span.last.index <= upto
                && span.last.index <= lowest
        })
        .map(|(number, _)| *number)
}

/// Appends a segment's header to `buffer`; returns its checksum.
pub(crate) fn encode_header(
    buffer: &mut Vec<u8>,
    seal: Seal,
    previous: u32,
    base: Position,
    last: LogId,
    header: &SegmentHeader,
) -> u32 {
    let frame = Frame { kind: Kind::Segment, previous, durable: base, id: last };
    record::encode(buffer, seal, frame, |out| record::write_named(out, header))
}

/// More than a header takes.
pub(crate) fn header_room(seen: &BTreeMap<NodeId, Seen>) -> u64 {
    1024 + 64 * seen.len() as u64
}

/// The file of a segment.
pub(crate) fn path(dir: &Path, number: SegmentNumber) -> PathBuf {
    dir.join(format!("{:020}.log", number.0))
}

/// The segment that a file name stands for.
pub(crate) fn number_of(name: &str) -> Option<SegmentNumber> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 {
        return None;
    }
    digits.parse().ok().filter(|number| *number > 0).map(SegmentNumber)
}

/// Makes a segment's file with `content` at its start and zeros behind it, durable under its name
/// in one step; a file of that name is replaced.
///
/// # Errors
/// [`StorageError::NoSpace`]: nothing has changed. Others are final.
pub(crate) fn create(
    fs: &dyn Fs,
    dir: &Path,
    number: SegmentNumber,
    capacity: u64,
    content: &[u8],
) -> Result<Arc<dyn File>, StorageError> {
    let path = path(dir, number);
    let temporary = path.with_extension("tmp");
    let no_room = |error: StorageError| error.needing(fs, "the next segment of the log", capacity);
    let fill = || -> io::Result<Arc<dyn File>> {
        let file = fs.create(&temporary)?;
        file.allocate(capacity)?;
        if !content.is_empty() {
            file.write_at(content, 0)?;
        }
        file.sync()?;
        Ok(file)
    };
    let file = fill().map_err(|error| {
        // Gives the room back. If even that fails the next start removes it.
        let _ = fs.remove(&temporary);
        no_room(StorageError::io("preparing", &path, error))
    })?;
    fs.rename(&temporary, &path)
        .map_err(|error| no_room(StorageError::io("renaming", &path, error)))?;
    fs.sync_dir(dir).map_err(|error| StorageError::io("syncing", dir, error))?;
    Ok(file)
}

/// An empty segment that is ready to be written.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) file: Arc<dyn File>,
    pub(crate) capacity: u64,
}

/// Makes the next segment ready, ahead of need.
#[derive(Debug)]
pub(crate) struct Ahead {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    background: bool,
    job: Job,
}

#[derive(Debug)]
enum Job {
    Idle,
    Running(SegmentNumber, JoinHandle<Result<Ready, StorageError>>),
    Done(SegmentNumber, Result<Ready, StorageError>),
}

impl Ahead {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: PathBuf, background: bool) -> Ahead {
        Ahead { fs, dir, background, job: Job::Idle }
    }

    /// Begins to make a segment ready unless that has begun already. Failure shows in
    /// [`take`](Ahead::take).
    pub(crate) fn start(&mut self, number: SegmentNumber, capacity: u64) {
        if !matches!(self.job, Job::Idle) {
            return;
        }
        let (fs, dir) = (Arc::clone(&self.fs), self.dir.clone());
        let work =
            move || create(&*fs, &dir, number, capacity, &[]).map(|file| Ready { file, capacity });
        if self.background {
            let thread = std::thread::Builder::new().name("log-ahead".to_owned());
            // Without a thread the segment is made when it is needed.
            if let Ok(handle) = thread.spawn(work) {
                self.job = Job::Running(number, handle);
            }
        } else {
            self.job = Job::Done(number, work());
        }
    }

    /// The segment `number` with at least `needed` bytes: the one made ready, or one made now of
    /// `capacity` bytes; or, if the disk is nearly full, of half of that, and so on down to what is
    /// needed, so that the log goes on as soon as there is room for the batch (D11).
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] if there is no room for the smallest one, after which it can be
    /// tried again; others are final.
    pub(crate) fn take(
        &mut self,
        number: SegmentNumber,
        needed: u64,
        capacity: u64,
    ) -> Result<Ready, StorageError> {
        match self.finish() {
            Some((made, Ok(ready))) if made == number && ready.capacity >= needed => {
                return Ok(ready);
            }
            // Too short for this batch, and never begun: it must not hold the room that the longer
            // one needs.
            Some((made, Ok(_))) => {
                let path = path(&self.dir, made);
                self.fs
                    .remove(&path)
                    .map_err(|error| StorageError::io("removing", &path, error))?;
            }
            Some((_, Err(error))) if !matches!(error, StorageError::NoSpace { .. }) => {
                return Err(error);
            }
            _ => {}
        }
        let smallest = needed.next_multiple_of(BLOCK_BYTES);
        let mut capacity = capacity.max(smallest);
        loop {
            match create(&*self.fs, &self.dir, number, capacity, &[]) {
                Ok(file) => return Ok(Ready { file, capacity }),
                Err(StorageError::NoSpace { free_bytes, .. }) if capacity > smallest => {
                    capacity = (capacity / 2).max(smallest);
                    // What the file system says it cannot hold is not tried.
                    while capacity > smallest && free_bytes.is_some_and(|free| capacity > free) {
                        capacity = (capacity / 2).max(smallest);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a job that runs.
    fn finish(&mut self) -> Option<(SegmentNumber, Result<Ready, StorageError>)> {
        match std::mem::replace(&mut self.job, Job::Idle) {
            Job::Idle => None,
            Job::Done(number, result) => Some((number, result)),
            Job::Running(number, handle) => {
                let result = handle.join().unwrap_or_else(|_| {
                    let error = io::Error::other("the thread that prepares segments panicked");
                    Err(StorageError::io("preparing", &self.dir, error))
                });
                Some((number, result))
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The directory's lock must outlive every writer in it.
        self.finish();
    }
}
