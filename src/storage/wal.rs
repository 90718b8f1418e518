//! The durable log: writing. What is written, and why it can be trusted after a crash, is told in
//! the [module above](super).

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::contract::{self, Standing};
use super::fs::{File, Fs, Lock};
use super::reader::{Place, Reader, SharedPlaces};
use super::record::{self, Frame, Kind, Seal};
use super::segment::{self, Ahead, HardStateRecord, SegmentHeader, Span};
use super::snapshot::SnapshotStore;
use super::{Batch, LogReader, LogStore, Position, Seen, SegmentNumber, StorageError};
use crate::raft::{HardState, Index, LogId, NodeId};

/// How a log is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Length of a segment in bytes. A batch that is longer gets a segment of its own size; on a disk
    /// that is nearly full segments are shorter.
    pub segment_bytes: u64,
    /// Length of the first segment after a start, if less: a start waits for its zeros to be
    /// written.
    pub first_segment_bytes: u64,
    /// Bytes at a segment's end that only hard states may use, so that the node can still vote and
    /// follow a term while there is no room for entries (D11). Room for some thousand of them.
    pub reserve_bytes: u64,
    /// Whether a thread makes the next segment ready; else the append that passes the middle of a
    /// segment does, which tests need to be repeatable.
    pub background: bool,
}

impl LogOptions {
    pub(crate) const DEFAULT: LogOptions = LogOptions {
        segment_bytes: 64 << 20,
        first_segment_bytes: 4 << 20,
        reserve_bytes: 256 << 10,
        background: true,
    };
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions::DEFAULT
    }
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) number: SegmentNumber,
    pub(crate) file: Arc<dyn File>,
    pub(crate) capacity: u64,
    /// Where the segment begins in the stream.
    pub(crate) base: Position,
    /// Where the last record ends in the file.
    pub(crate) offset: u64,
    /// Checksum of the record before it.
    pub(crate) previous: u32,
    pub(crate) seal: Seal,
}

impl Active {
    pub(crate) fn end(&self) -> Position {
        Position(self.base.0 + self.offset)
    }
}

/// What a [`Wal`] is made of; recovery fills it in.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) salt: u64,
    pub(crate) options: LogOptions,
    pub(crate) active: Active,
    pub(crate) places: SharedPlaces,
    pub(crate) hard_state: HardState,
    pub(crate) seen: BTreeMap<NodeId, Seen>,
    /// The highest index that the log ever held.
    pub(crate) reached: Index,
    /// The segments that have begun.
    pub(crate) spans: BTreeMap<SegmentNumber, Span>,
    pub(crate) snapshots: SnapshotStore,
}

/// A log in segment files. Opened by [`DataDir::open_log`](super::DataDir::open_log).
#[derive(Debug)]
pub struct Wal {
    parts: Parts,
    /// Up to here a sync has succeeded. Invariant: at most `parts.active.end()`.
    durable: Position,
    /// Whether `seen` has changed since it was written.
    seen_changed: bool,
    ahead: Ahead,
    /// Used for every batch anew, so that values are copied once, into here.
    buffer: Vec<u8>,
    /// The entries in `buffer`.
    staged: Vec<Place>,
    /// Set by the first failed write or sync (D1).
    failed: bool,
    /// Says that there is a writer.
    _writer: Arc<()>,
    _lock: Arc<dyn Lock>,
}

/// A buffer that one large batch has made larger than this is given back.
const KEEP_BUFFER_BYTES: usize = 8 << 20;

/// What encoding a batch ended with.
struct Encoded {
    previous: u32,
    hard_state_written: bool,
}

impl Wal {
    pub(crate) fn new(parts: Parts, writer: Arc<()>, lock: Arc<dyn Lock>) -> Wal {
        let durable = parts.active.end();
        let ahead = Ahead::new(Arc::clone(&parts.fs), parts.dir.clone(), parts.options.background);
        Wal {
            parts,
            durable,
            seen_changed: false,
            ahead,
            buffer: Vec::new(),
            staged: Vec::new(),
            failed: false,
            _writer: writer,
            _lock: lock,
        }
    }

    /// Where the next batch goes in the active segment's file.
    fn start(&self) -> u64 {
        let offset = self.parts.active.offset;
        let begins_commit = self.durable == self.parts.active.end();
        if begins_commit { offset.next_multiple_of(record::SECTOR_BYTES) } else { offset }
    }

    /// Puts the active segment's header into the buffer; returns its checksum. With a snapshot's last
    /// entry the log begins anew behind that.
    fn encode_header(&mut self, begins_behind: Option<LogId>) -> u32 {
        let active = &self.parts.active;
        let header = SegmentHeader {
            capacity: active.capacity,
            hard_state: self.parts.hard_state,
            seen: self.parts.seen.clone(),
            reached: self.parts.reached,
            begins_log: begins_behind.is_some(),
        };
        let last = begins_behind.unwrap_or_else(|| self.parts.places.lock().last());
        segment::encode_header(
            &mut self.buffer,
            active.seal,
            active.previous,
            active.base,
            last,
            &header,
        )
    }

    /// Makes the active segment's header (if it has none yet) and the batch into bytes.
    fn encode(&mut self, batch: &Batch) -> Encoded {
        self.buffer.clear();
        self.staged.clear();
        let batch_start = self.start();
        let active = &self.parts.active;
        let seal = active.seal;
        let durable = self.durable;
        let mut previous = active.previous;
        if active.offset == 0 {
            previous = self.encode_header(None);
        }
        let active = &self.parts.active;
        if let Some(hard_state) = batch.hard_state {
            let id = LogId { term: hard_state.term, index: Index::ZERO };
            let frame = Frame { kind: Kind::HardState, previous, durable, id };
            let all_seen = self.seen_changed;
            let seen = if all_seen { self.parts.seen.clone() } else { BTreeMap::new() };
            let content = HardStateRecord { hard_state, seen, all_seen };
            previous = record::encode(&mut self.buffer, seal, frame, |out| {
                record::write_named(out, &content);
            });
        }
        // With entries behind it a truncation needs no record: the first of them has its effect,
        // and in the same step (L2).
        if let (Some(after), []) = (batch.truncate_after, batch.entries.as_slice()) {
            let id = LogId {
                term: batch.hard_state.unwrap_or(self.parts.hard_state).term,
                index: after,
            };
            let frame = Frame { kind: Kind::Truncate, previous, durable, id };
            previous = record::encode(&mut self.buffer, seal, frame, |_| ());
        }
        for entry in &batch.entries {
            let start = self.buffer.len();
            let frame = Frame { kind: Kind::Entry, previous, durable, id: entry.id };
            previous = record::encode(&mut self.buffer, seal, frame, |out| {
                record::encode_payload(out, &entry.payload);
            });
            self.staged.push(Place {
                term: entry.id.term,
                segment: active.number,
                offset: batch_start + start as u64,
                bytes: (self.buffer.len() - start) as u32,
            });
        }
        Encoded { previous, hard_state_written: batch.hard_state.is_some() }
    }

    /// Twice as long as this one, up to the full length: after a start the next one must be ready
    /// before the short first one is full, also on a slow disk.
    fn next_capacity(&self) -> u64 {
        self.parts.options.segment_bytes.min(self.parts.active.capacity.saturating_mul(2))
    }

    /// Whether the encoded batch fits into the active segment, using the reserve or not.
    fn fits(&self, use_reserve: bool) -> bool {
        let reserve = if use_reserve { 0 } else { self.parts.options.reserve_bytes };
        let needed = self.start() + self.buffer.len() as u64;
        needed <= self.parts.active.capacity.saturating_sub(reserve)
    }

    /// Goes on in the next segment, which has room for so many bytes.
    fn rotate(&mut self, bytes: u64) -> Result<(), StorageError> {
        let options = self.parts.options;
        let needed = bytes + segment::header_room(&self.parts.seen) + options.reserve_bytes;
        let number = self.parts.active.number.next();
        let ready = match self.ahead.take(number, needed, self.next_capacity()) {
            Ok(ready) => ready,
            Err(error @ StorageError::NoSpace { .. }) => return Err(error),
            Err(error) => return Err(self.fail(error)),
        };
        // A segment that has begun proves that all before it is durable; so it must be.
        self.sync_active()?;
        let active = &mut self.parts.active;
        *active = Active {
            number,
            file: Arc::clone(&ready.file),
            capacity: ready.capacity,
            base: active.end(),
            offset: 0,
            previous: active.previous,
            seal: Seal::new(self.parts.salt, number),
        };
        self.parts.places.lock().add_file(number, ready.file);
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), StorageError> {
        let end = self.parts.active.end();
        if self.durable == end {
            return Ok(());
        }
        if let Err(error) = self.parts.active.file.sync() {
            let path = segment::path(&self.parts.dir, self.parts.active.number);
            return Err(self.fail(StorageError::Io {
                action: "syncing",
                path: path.display().to_string(),
                source: error,
            }));
        }
        self.durable = end;
        Ok(())
    }

    /// From here on every call fails: what the disk holds is no longer known (D1).
    fn fail(&mut self, error: StorageError) -> StorageError {
        self.failed = true;
        error
    }

    fn check_health(&self) -> Result<(), StorageError> {
        if !self.failed {
            return Ok(());
        }
        Err(StorageError::Io {
            action: "using",
            path: self.parts.dir.display().to_string(),
            source: io::Error::other("an earlier write or sync failed, and nothing can be trusted"),
        })
    }

    fn standing(&self) -> Standing {
        let places = self.parts.places.lock();
        Standing { hard_state: self.parts.hard_state, base: places.base(), last: places.last() }
    }
}

impl Wal {
    /// Writes a batch that installs nothing.
    fn write(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut encoded = self.encode(batch);
        if self.buffer.is_empty() {
            return Ok(());
        }
        if !self.fits(false) {
            match self.rotate(self.buffer.len() as u64) {
                Ok(()) => {
                    encoded = self.encode(batch);
                    assert!(self.fits(false), "a segment made for a batch holds it");
                }
                // The reserve is for what cannot wait: term and vote.
                Err(StorageError::NoSpace { .. })
                    if batch.entries.is_empty() && self.fits(true) => {}
                Err(error) => return Err(error),
            }
        }
        self.put(encoded.previous, None)?;
        if let Some(hard_state) = batch.hard_state {
            self.parts.hard_state = hard_state;
        }
        if encoded.hard_state_written {
            self.seen_changed = false;
        }
        {
            let mut places = self.parts.places.lock();
            if let Some(after) = batch.truncate_after {
                if after < places.last().index
                    && let Some(span) = self.parts.spans.get_mut(&self.parts.active.number)
                {
                    span.lowest = span.lowest.min(after);
                }
                places.truncate(after);
            }
            self.staged.drain(..).for_each(|place| places.push(place));
            self.parts.reached = self.parts.reached.max(places.last().index);
        }
        if self.buffer.capacity() > KEEP_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
        let active = &self.parts.active;
        if active.offset > active.capacity / 2 {
            let number = active.number.next();
            let capacity = self.next_capacity();
            self.ahead.start(number, capacity);
        }
        Ok(())
    }

    /// Writes the buffer behind what is there, or as the beginning of the active segment.
    fn put(&mut self, previous: u32, begins_behind: Option<LogId>) -> Result<(), StorageError> {
        let start = self.start();
        let active = &self.parts.active;
        if let Err(source) = active.file.write_at(&self.buffer, start) {
            let path = segment::path(&self.parts.dir, active.number).display().to_string();
            return Err(self.fail(StorageError::Io { action: "writing", path, source }));
        }
        let active = &mut self.parts.active;
        if active.offset == 0 {
            let last = begins_behind.unwrap_or_else(|| self.parts.places.lock().last());
            self.parts.spans.insert(active.number, Span::new(last));
        }
        active.offset = start + self.buffer.len() as u64;
        active.previous = previous;
        Ok(())
    }

    /// Makes a received snapshot current and begins the log anew behind it. Everything is durable when
    /// this returns. A start finishes it when a crash comes between any two steps.
    fn install(&mut self, last: LogId) -> Result<(), StorageError> {
        self.sync_active()?;
        match self.parts.snapshots.install(last) {
            Ok(_) => {}
            Err(error @ StorageError::NoSpace { .. }) => return Err(error),
            Err(error) => return Err(self.fail(error)),
        }
        self.rotate(0)?;
        self.parts.reached = self.parts.reached.max(last.index);
        self.buffer.clear();
        let previous = self.encode_header(Some(last));
        self.put(previous, Some(last))?;
        self.sync_active()?;
        self.parts.places.lock().reset(last);
        let first = self.parts.active.number;
        self.remove_before(first)
    }

    /// Removes the segments that hold nothing which still counts: as far as a start may.
    pub(crate) fn drop_superseded(&mut self) -> Result<(), StorageError> {
        let (upto, next) = {
            let places = self.parts.places.lock();
            let upto = places.base().index;
            (upto, places.segment_of(upto.next()))
        };
        // A segment whose beginning is not durable cannot be the first one.
        let begun = self.durable > self.parts.active.base;
        let mut spans = self.parts.spans.clone();
        if !begun && let Some(span) = spans.get_mut(&self.parts.active.number) {
            span.last.index = Index(u64::MAX);
        }
        match segment::first_needed(&spans, next, upto) {
            Some(first) => self.remove_before(first),
            None => Ok(()),
        }
    }

    /// Removes the older segments, the oldest first, so that what a crash leaves has no gap.
    fn remove_before(&mut self, first: SegmentNumber) -> Result<(), StorageError> {
        let kept = self.parts.spans.split_off(&first);
        let gone = std::mem::replace(&mut self.parts.spans, kept);
        if gone.is_empty() {
            return Ok(());
        }
        self.parts.places.lock().forget_files_before(first);
        let dir = self.parts.dir.clone();
        for number in gone.keys() {
            let path = segment::path(&dir, *number);
            if let Err(error) = self.parts.fs.remove(&path) {
                return Err(self.fail(StorageError::io("removing", &path, error)));
            }
        }
        let synced = self.parts.fs.sync_dir(&dir);
        synced.map_err(|error| self.fail(StorageError::io("syncing", &dir, error)))
    }
}

impl LogStore for Wal {
    fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.check_health()?;
        let standing = self.standing();
        contract::check(standing, batch, |index| self.parts.places.lock().term_at(index));
        let Some(snapshot) = &batch.install else { return self.write(batch) };
        let part = |hard_state| Batch {
            token: batch.token,
            hard_state,
            install: None,
            truncate_after: None,
            entries: Vec::new(),
        };
        if batch.hard_state.is_some() {
            self.write(&part(batch.hard_state))?;
        }
        // Tried again after an error that was none of the install's own.
        if standing.base != snapshot.last {
            self.install(snapshot.last)?;
        }
        let entries = batch.entries.clone();
        self.write(&Batch { truncate_after: batch.truncate_after, entries, ..part(None) })
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.check_health()?;
        self.sync_active()
    }

    fn reader(&self) -> Box<dyn LogReader> {
        Box::new(Reader {
            fs: Arc::clone(&self.parts.fs),
            dir: self.parts.dir.clone(),
            salt: self.parts.salt,
            places: self.parts.places.clone(),
        })
    }

    fn note_seen(&mut self, seen: &BTreeMap<NodeId, Seen>) {
        if *seen != self.parts.seen {
            self.parts.seen.clone_from(seen);
            self.seen_changed = true;
        }
    }

    fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        self.check_health()?;
        let standing = self.standing();
        if upto.index <= standing.base.index {
            return Ok(());
        }
        let covered = self.parts.snapshots.current().map(|file| file.id().last);
        {
            let mut places = self.parts.places.lock();
            contract::check_purge(standing, upto, places.term_at(upto.index), covered);
            places.purge(upto);
        }
        self.drop_superseded()
    }
}
