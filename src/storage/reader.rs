//! Where each entry lies, shared by the writer and its readers, and the reading itself.
//!
//! Records are never overwritten while their segment exists: a truncation only forgets where they
//! lie. So a reader takes the places under a short lock and reads the bytes without it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::fs::{File, Fs};
use super::record::{self, Kind, Seal};
use super::segment;
use super::{LogReader, SegmentNumber, StorageError};
use crate::raft::{Entry, Index, LogId, Term};

/// Where an entry's record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) term: Term,
    pub(crate) segment: SegmentNumber,
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

/// All entries' places. Invariant: `places[i]` is the entry of index `base.index + 1 + i`.
#[derive(Debug, Default)]
pub(crate) struct Places {
    base: LogId,
    places: VecDeque<Place>,
    /// Files that are open; others are opened when they are read. None is older than `first`: the
    /// disk gives a removed file's room back only when nobody has it open.
    files: BTreeMap<SegmentNumber, Arc<dyn File>>,
    /// The oldest segment that is there.
    first: SegmentNumber,
}

/// Files kept open at most, so that many segments do not use up the process's file descriptors.
const OPEN_FILES: usize = 16;

impl Places {
    /// A log that begins behind `base`.
    pub(crate) fn new(base: LogId) -> Places {
        Places { base, ..Places::default() }
    }

    /// Begins anew behind `base`, a snapshot's end.
    pub(crate) fn reset(&mut self, base: LogId) {
        self.base = base;
        self.places = VecDeque::new();
    }

    /// Forgets the entries up to and including `upto`, which is there.
    pub(crate) fn purge(&mut self, upto: LogId) {
        let count = upto.index.0.saturating_sub(self.base.index.0);
        self.places.drain(..usize::try_from(count).unwrap_or(usize::MAX));
        self.places.shrink_to(self.places.len().saturating_mul(2));
        self.base = upto;
    }

    /// The segment of an entry.
    pub(crate) fn segment_of(&self, index: Index) -> Option<SegmentNumber> {
        let at = index.0.checked_sub(self.base.index.0 + 1)?;
        self.places.get(usize::try_from(at).ok()?).map(|place| place.segment)
    }

    /// Files before this one are gone.
    pub(crate) fn forget_files_before(&mut self, first: SegmentNumber) {
        self.first = first;
        self.files = self.files.split_off(&first);
    }

    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    pub(crate) fn last(&self) -> LogId {
        match self.places.back() {
            Some(place) => LogId { term: place.term, index: self.last_index() },
            None => self.base,
        }
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let at = index.0.checked_sub(self.base.index.0 + 1)?;
        self.places.get(usize::try_from(at).ok()?).map(|place| place.term)
    }

    pub(crate) fn push(&mut self, place: Place) {
        self.places.push_back(place);
    }

    /// Forgets the entries behind `after`.
    pub(crate) fn truncate(&mut self, after: Index) {
        let keep = after.0.saturating_sub(self.base.index.0);
        self.places.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    pub(crate) fn add_file(&mut self, number: SegmentNumber, file: Arc<dyn File>) {
        if number < self.first {
            return;
        }
        self.files.insert(number, file);
        while self.files.len() > OPEN_FILES {
            // The oldest one: the newest is the one written to, and old entries are read seldom.
            self.files.pop_first();
        }
    }

    fn last_index(&self) -> Index {
        Index(self.base.index.0 + self.places.len() as u64)
    }

    /// The places of the entries behind `after` up to `upto`, as many as `max_bytes` allows and as
    /// are written; none if a first one is wanted and not there.
    fn range(&self, after: Index, upto: Index, max_bytes: u64) -> Option<Vec<Place>> {
        let last = self.last_index();
        let nothing_there = after > last || (after == last && upto > last);
        if after < self.base.index || nothing_there {
            return None;
        }
        let mut bytes = 0;
        let first = usize::try_from(after.0 - self.base.index.0).ok()?;
        let count = usize::try_from(upto.0.saturating_sub(after.0)).ok()?;
        let fits = |place: &&Place| {
            let is_first = bytes == 0;
            bytes += u64::from(place.bytes);
            is_first || bytes <= max_bytes
        };
        Some(self.places.iter().skip(first).take(count).take_while(fits).copied().collect())
    }
}

/// Shared between the log and its readers.
#[derive(Clone, Debug)]
pub(crate) struct SharedPlaces(Arc<Mutex<Places>>);

impl SharedPlaces {
    pub(crate) fn new(places: Places) -> SharedPlaces {
        SharedPlaces(Arc::new(Mutex::new(places)))
    }

    /// Never held across a call to the disk.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads entries of a log that another thread writes.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) salt: u64,
    pub(crate) places: SharedPlaces,
}

/// Records closer together than this are read in one go, with what lies between them.
const GAP_BYTES: u64 = 4096;

impl Reader {
    fn file(&self, number: SegmentNumber) -> Result<Arc<dyn File>, StorageError> {
        if let Some(file) = self.places.lock().files.get(&number) {
            return Ok(Arc::clone(file));
        }
        let path = segment::path(&self.dir, number);
        let file =
            self.fs.open(&path).map_err(|error| StorageError::io("opening", &path, error))?;
        self.places.lock().add_file(number, Arc::clone(&file));
        Ok(file)
    }

    /// Reads records that lie close together in one segment.
    fn read_run(
        &self,
        run: &[Place],
        index: Index,
        entries: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let path = segment::path(&self.dir, first.segment);
        let start = first.offset;
        let length = last.offset + u64::from(last.bytes) - start;
        let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let count = self
            .file(first.segment)?
            .read_at(&mut buffer, start)
            .map_err(|error| StorageError::io("reading", &path, error))?;
        buffer.truncate(count);
        let buffer = Bytes::from(buffer);
        let seal = Seal::new(self.salt, first.segment);
        for (number, place) in run.iter().enumerate() {
            let damaged =
                |what: &dyn std::fmt::Display| StorageError::damaged(&path, place.offset, what);
            let from = usize::try_from(place.offset - start).unwrap_or(usize::MAX);
            let bytes = buffer.get(from..).unwrap_or_default();
            let record = record::parse(bytes, seal).map_err(|error| damaged(&error.what()))?;
            let id = LogId { term: place.term, index: Index(index.0 + number as u64) };
            if record.kind != Kind::Entry || record.id != id {
                return Err(damaged(&format!("{} where {id} was written", record.id)));
            }
            let payload = buffer.slice_ref(record.payload);
            entries.push(record::decode_entry(id, &payload).map_err(|what| damaged(&what))?);
        }
        Ok(())
    }
}

impl LogReader for Reader {
    fn read(&self, after: Index, upto: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let gone = || StorageError::OutOfRange { after, upto };
        let range = || self.places.lock().range(after, upto, max_bytes);
        let places = range().ok_or_else(gone)?;
        self.read_places(after, &places).map_err(|error| {
            // Files that were removed meanwhile are no failure of the disk.
            let there = range().is_some_and(|now| now.first() == places.first());
            if there { error } else { gone() }
        })
    }
}

impl Reader {
    fn read_places(&self, after: Index, places: &[Place]) -> Result<Vec<Entry>, StorageError> {
        let mut entries = Vec::with_capacity(places.len());
        let close = |a: &Place, b: &Place| {
            let end = a.offset + u64::from(a.bytes);
            a.segment == b.segment && b.offset >= end && b.offset - end <= GAP_BYTES
        };
        for run in places.chunk_by(close) {
            let index = Index(after.0 + 1 + entries.len() as u64);
            self.read_run(run, index, &mut entries)?;
        }
        Ok(entries)
    }
}
