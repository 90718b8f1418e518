//! Opening a log: read everything back, tell a torn tail from damage, and begin a fresh segment.
//! The rules and their reasons are in the [module above](super).
//!
//! The last group commit is *unverified*: the process may have died before its sync, or because of
//! it, and then what reads well comes from the page cache only (D1). So a start writes it anew:
//! into the next segment, or, if nothing in the newest segment is verified, into a file that
//! replaces that one. Either has its name only after it is durable, and nothing is ever appended
//! behind a cut (D9).
//!
//! **Where the log begins.** At its oldest segment; or at the newest one whose header says that the
//! log begins anew there, for what is older only waits to be removed. A purge removes the oldest
//! files first, and cut short it may leave segments whose records reach back behind the first of
//! them; the log then begins behind those, where that purge would have stopped. Wherever it begins,
//! the current snapshot must cover what was before, or something durable is lost.
//!
//! **Finishing an install.** A log that does not hold the current snapshot's last entry goes, and a
//! segment that begins anew behind that entry takes its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fs::Fs;
use super::record::{Kind, Seal};
use super::replay::Replay;
use super::scan::{Head, Item, Window, read_head};
use super::segment;
use super::snapshot::SnapshotStore;
use super::tail::Tail;
use super::wal::{LogOptions, Parts};
use super::{Position, RestoredLog, SegmentNumber, StorageError};
use crate::raft::LogId;

/// What opening needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) salt: u64,
    /// The newest segment must be at least this one; zero for a log that was never opened.
    pub(crate) at_least: SegmentNumber,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) options: LogOptions,
}

/// Opens the log, writing what has to be written before it can be used.
///
/// # Errors
/// [`StorageError::Damaged`], [`StorageError::NewerFormat`], [`StorageError::NoSpace`] if there is
/// not even room for a short first segment, or the disk's.
pub(crate) fn open(source: &Source) -> Result<(Parts, RestoredLog), StorageError> {
    let segments = Segments::list(source)?;
    let mut replay = Replay::default();
    let (first, mut tail) = match segments.newest()? {
        None => (SegmentNumber(1), Tail::of_new_log()),
        Some(newest) => {
            let first = segments.replay_sealed(newest, &mut replay)?;
            let tail = Newest::read(source, newest, &segments, &mut replay)?;
            segments.check_nothing_durable_behind(newest, tail.end)?;
            (first, tail.tail)
        }
    };
    check_covered(source, &segments.path(first), &replay)?;
    let first = match to_begin_behind(source, &replay, &tail)? {
        Some(snapshot) => {
            tracing::warn!(%snapshot, log = %replay.last(), "the log begins anew behind the snapshot");
            let path = segments.path(tail.number);
            tail.begin_anew(snapshot, &mut replay)
                .map_err(|what| StorageError::damaged(&path, 0, what))?;
            tail.number
        }
        None => first,
    };
    let active = tail.begin_segment(source, &mut replay)?;
    segments.clean_up(&tail, first, active.number)?;
    source.snapshots.drop_broken()?;
    Ok(replay.finish(source, active))
}

/// A log that begins behind an entry needs a snapshot that holds what was before (D15).
fn check_covered(source: &Source, path: &Path, replay: &Replay) -> Result<(), StorageError> {
    let base = replay.base;
    let current = source.snapshots.current().map(|file| file.id().last);
    if base == LogId::ZERO || current.is_some_and(|last| last.index >= base.index) {
        return Ok(());
    }
    // If the snapshot that it needs is there and broken, that is the damage.
    Err(source.snapshots.damage().unwrap_or_else(|| {
        let held = current.map_or("no snapshot holds anything".to_owned(), |last| {
            format!("the snapshot holds what is up to {last}")
        });
        StorageError::damaged(path, 0, format!("the log begins behind entry {base}, and {held}"))
    }))
}

/// The current snapshot's last entry, if the log does not hold it and must begin behind it.
fn to_begin_behind(
    source: &Source,
    replay: &Replay,
    tail: &Tail,
) -> Result<Option<LogId>, StorageError> {
    let Some(file) = source.snapshots.current() else { return Ok(None) };
    let snapshot = file.id().last;
    match tail.term_at(snapshot, replay) {
        Some(term) if term == snapshot.term => Ok(None),
        // What is purged was committed, as the snapshot's end was. An entry that is not may be of a later
        // term than the snapshot's end (Figure 8), but never of the newest one: whoever sent the snapshot
        // led a later term than the entries that it replaces.
        Some(term) if replay.base.index == snapshot.index || term >= tail.term(replay) => {
            let what = format!("the log holds term {term} where the snapshot ends with {snapshot}");
            Err(StorageError::damaged(&source.dir, 0, what))
        }
        _ if replay.base.term > snapshot.term => {
            let what =
                format!("the log begins behind {}, the snapshot ends with {snapshot}", replay.base);
            Err(StorageError::damaged(&source.dir, 0, what))
        }
        _ => Ok(Some(snapshot)),
    }
}

/// The files that are there.
struct Segments<'a> {
    source: &'a Source,
    /// Every file that is named like a segment; the head is none if it has no sound header.
    heads: BTreeMap<SegmentNumber, Option<Head>>,
    /// Left over by an interrupted start.
    temporary: Vec<String>,
}

impl Segments<'_> {
    fn list(source: &Source) -> Result<Segments<'_>, StorageError> {
        let names = source
            .fs
            .list(&source.dir)
            .map_err(|error| StorageError::io("listing", &source.dir, error))?;
        let mut heads = BTreeMap::new();
        let mut temporary = Vec::new();
        for name in names {
            if name.ends_with(".tmp") {
                temporary.push(name);
            } else if let Some(number) = segment::number_of(&name) {
                heads.insert(number, read_head(source, number)?);
            }
        }
        Ok(Segments { source, heads, temporary })
    }

    fn path(&self, number: SegmentNumber) -> PathBuf {
        segment::path(&self.source.dir, number)
    }

    fn head(&self, number: SegmentNumber) -> Result<&Head, StorageError> {
        match self.heads.get(&number) {
            Some(Some(head)) => Ok(head),
            Some(None) => {
                Err(StorageError::damaged(&self.path(number), 0, "the segment's header is broken"))
            }
            None => Err(StorageError::damaged(&self.path(number), 0, "the segment is missing")),
        }
    }

    /// The newest segment that has begun; none if the log is new.
    fn newest(&self) -> Result<Option<SegmentNumber>, StorageError> {
        let newest = self.heads.iter().rev().find(|(_, head)| head.is_some());
        let newest = newest.map_or(SegmentNumber(0), |(number, _)| *number);
        if newest < self.source.at_least {
            // Reports the segment that must be there and is not, or does not begin.
            return self.head(self.source.at_least).map(|_| None);
        }
        if newest == SegmentNumber(0) && !self.heads.is_empty() {
            return Err(StorageError::damaged(&self.source.dir, 0, "no segment has a header"));
        }
        Ok(Some(newest).filter(|number| *number > SegmentNumber(0)))
    }

    /// Replays all segments before `newest`; whatever is wrong there is damage, for a segment is
    /// synced as a whole before the next one begins. Returns the one at which the log begins.
    fn replay_sealed(
        &self,
        newest: SegmentNumber,
        replay: &mut Replay,
    ) -> Result<SegmentNumber, StorageError> {
        let begins_log = |head: &Option<Head>| head.as_ref().is_some_and(|it| it.header.begins_log);
        let mut anew = self.heads.range(..=newest).rev().filter(|(_, head)| begins_log(head));
        let mut first = match anew.next() {
            Some((number, _)) => *number,
            None => self.heads.keys().next().copied().unwrap_or(newest),
        };
        let mut number = first;
        while number < newest {
            let (head, next) = (self.head(number)?, self.head(number.next())?);
            let goes_on = self.replay_one(number, head, next, replay)?;
            number = number.next();
            if !goes_on {
                *replay = Replay::default();
                first = number;
            }
        }
        Ok(first)
    }

    /// False: the log does not begin before this segment's end.
    fn replay_one(
        &self,
        number: SegmentNumber,
        head: &Head,
        next: &Head,
        replay: &mut Replay,
    ) -> Result<bool, StorageError> {
        let path = self.path(number);
        let damaged = |offset: u64, what: &str| StorageError::damaged(&path, offset, what);
        let mut window = Window::open(self.source, number)?;
        let seal = Seal::new(self.source.salt, number);
        replay.begin(head, number).map_err(|what| damaged(0, &what))?;
        let end = next
            .base
            .0
            .checked_sub(head.base.0)
            .filter(|end| (head.bytes..=window.length).contains(end))
            .ok_or_else(|| {
                damaged(window.length, "the segment is shorter than the next one says")
            })?;
        let (mut offset, mut previous) = (head.bytes, head.crc);
        let mut goes_on = true;
        while offset < end {
            let item = window
                .next(offset, previous, head.base, seal)?
                .map_err(|missing| damaged(missing.offset, missing.what))?;
            previous = item.crc;
            goes_on &= !replay.is_cut_off(&item);
            if goes_on {
                replay.apply(&item, number).map_err(|what| damaged(offset, &what))?;
            }
            offset = item.offset + item.bytes;
        }
        // The chain goes on over the border (S3).
        if offset != end || previous != next.previous {
            return Err(damaged(offset, "the next segment does not follow this one"));
        }
        Ok(goes_on)
    }

    /// Refuses to cut at `end` if any later file proves that more than this was durable.
    fn check_nothing_durable_behind(
        &self,
        newest: SegmentNumber,
        end: Position,
    ) -> Result<(), StorageError> {
        for number in self.heads.keys().filter(|number| **number > newest) {
            let mut window = Window::open(self.source, *number)?;
            let seal = Seal::new(self.source.salt, *number);
            if let Some(offset) = window.find_proof(0, seal, end)? {
                return Err(StorageError::damaged(
                    &window.path,
                    0,
                    format!(
                        "the segment's header is broken and the record at byte {offset} is sound"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Gives back room: what counts no longer, the oldest first, what was cut off, and files that were
    /// prepared or torn.
    fn clean_up(
        &self,
        tail: &Tail,
        first: SegmentNumber,
        active: SegmentNumber,
    ) -> Result<(), StorageError> {
        let fs = &self.source.fs;
        let remove = |path: &Path| {
            fs.remove(path).map_err(|error| StorageError::io("removing", path, error))
        };
        let is_needed = |number: &SegmentNumber| (first..=active).contains(number);
        for number in self.heads.keys().filter(|number| !is_needed(number)) {
            remove(&self.path(*number))?;
        }
        for name in &self.temporary {
            // The new segment's file may have had the same temporary name and have got its own.
            let path = self.source.dir.join(name);
            match fs.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StorageError::io("removing", &path, error));
                }
                _ => {}
            }
        }
        if let Some((sealed, length)) = tail.sealed.filter(|(sealed, _)| *sealed >= first) {
            let path = self.path(sealed);
            let file = fs.open(&path).map_err(|error| StorageError::io("opening", &path, error))?;
            file.set_len(length).map_err(|error| StorageError::io("shortening", &path, error))?;
        }
        fs.sync_dir(&self.source.dir)
            .map_err(|error| StorageError::io("syncing", &self.source.dir, error))
    }
}

/// What the newest segment ends with, once it is clear that it may be cut there.
struct Newest {
    end: Position,
    tail: Tail,
}

impl Newest {
    /// Replays the verified part of the newest segment and keeps the unverified rest.
    fn read(
        source: &Source,
        number: SegmentNumber,
        segments: &Segments<'_>,
        replay: &mut Replay,
    ) -> Result<Newest, StorageError> {
        let head = segments.head(number)?;
        let path = segments.path(number);
        let damaged = |offset: u64, what: &str| StorageError::damaged(&path, offset, what);
        let mut window = Window::open(source, number)?;
        if window.length != head.header.capacity {
            let what = format!(
                "the file has {} bytes and was made with {}",
                window.length, head.header.capacity
            );
            return Err(damaged(window.length.min(head.header.capacity), &what));
        }
        let seal = Seal::new(source.salt, number);
        replay.begin(head, number).map_err(|what| damaged(0, &what))?;
        let mut items: Vec<Item> = Vec::new();
        let mut durable = head.base;
        // A segment that holds nothing but terms and votes is as good as the header of its successor:
        // so starts without entries between them do not leave one segment each.
        let mut only_hard_states = true;
        let (mut offset, mut previous) = (head.bytes, head.crc);
        let stop = loop {
            let item = match window.next(offset, previous, head.base, seal)? {
                Ok(item) => item,
                Err(missing) => break missing,
            };
            if item.durable != durable {
                // A sync came between: it verified all that was before.
                if item.durable != Position(head.base.0 + offset) {
                    return Err(damaged(item.offset, "an impossible mark of what was durable"));
                }
                durable = item.durable;
                for item in items.drain(..) {
                    only_hard_states &= item.kind == Kind::HardState;
                    replay.apply(&item, number).map_err(|what| damaged(item.offset, &what))?;
                }
            }
            previous = item.crc;
            offset = item.offset + item.bytes;
            items.push(item);
        };
        let end = Position(head.base.0 + offset);
        if stop.refutes {
            return Err(damaged(stop.offset, stop.what));
        }
        if let Some(proof) = window.find_proof(offset, seal, end)? {
            let what =
                format!("{}, and the record at byte {proof} says that it was durable", stop.what);
            return Err(damaged(stop.offset, &what));
        }
        let tail = if only_hard_states {
            Tail {
                number,
                base: head.base,
                previous: head.previous,
                items,
                sealed: None,
                begins_log: head.header.begins_log,
            }
        } else {
            let first = items.first().map_or(previous, |item| item.previous);
            Tail {
                number: number.next(),
                base: durable,
                previous: first,
                items,
                sealed: Some((number, durable.0 - head.base.0)),
                begins_log: false,
            }
        };
        Ok(Newest { end, tail })
    }
}
