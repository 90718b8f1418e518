//! Reading a segment record by record, without having all of it in memory.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::fs::File;
use super::record::{self, HEADER_BYTES, Kind, NoRecord, Record, Seal};
use super::recovery::Source;
use super::segment::{self, SegmentHeader};
use super::{Position, SegmentNumber, StorageError};
use crate::raft::LogId;

/// Why no record follows another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Where in the file it should begin.
    pub(crate) offset: u64,
    pub(crate) what: &'static str,
    /// A sound record stands there that was written when all before it was durable, behind another
    /// record than the one that is there now (S3). No crash does that: no place is written twice.
    pub(crate) refutes: bool,
}

/// A sliding look at a file, so that a segment need not be in memory as a whole.
pub(crate) struct Window {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
    pub(crate) start: u64,
    pub(crate) buffer: Vec<u8>,
}

pub(crate) const WINDOW_BYTES: usize = 1 << 20;

impl Window {
    pub(crate) fn open(source: &Source, number: SegmentNumber) -> Result<Window, StorageError> {
        let path = segment::path(&source.dir, number);
        let file =
            source.fs.open(&path).map_err(|error| StorageError::io("opening", &path, error))?;
        let length = file.len().map_err(|error| StorageError::io("reading", &path, error))?;
        Ok(Window { file, path, length, start: 0, buffer: Vec::new() })
    }

    /// `count` bytes from `offset`, fewer only at the end of the file.
    pub(crate) fn bytes(&mut self, offset: u64, count: usize) -> Result<&[u8], StorageError> {
        let end = (offset + count as u64).min(self.length);
        let held = self.start..self.start + self.buffer.len() as u64;
        if offset < held.start || end > held.end {
            let want = (count.max(WINDOW_BYTES) as u64).min(self.length.saturating_sub(offset));
            self.buffer.resize(usize::try_from(want).unwrap_or(usize::MAX), 0);
            let count = self
                .file
                .read_at(&mut self.buffer, offset)
                .map_err(|error| StorageError::io("reading", &self.path, error))?;
            self.buffer.truncate(count);
            self.start = offset;
        }
        Ok(self.held(offset, count))
    }

    pub(crate) fn held(&self, offset: u64, count: usize) -> &[u8] {
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let rest = self.buffer.get(from..).unwrap_or_default();
        &rest[..count.min(rest.len())]
    }

    /// The record at `offset`.
    pub(crate) fn record(
        &mut self,
        offset: u64,
        seal: Seal,
    ) -> Result<Result<Record<'_>, NoRecord>, StorageError> {
        let total = match record::stated_bytes(self.bytes(offset, HEADER_BYTES)?) {
            Ok(total) => total,
            Err(none) => return Ok(Err(none)),
        };
        self.bytes(offset, total)?;
        match record::parse(self.held(offset, total), seal) {
            Err(NoRecord::Newer(version)) => Err(StorageError::NewerFormat {
                path: self.path.display().to_string(),
                found: u32::from(version),
                known: u32::from(record::VERSION),
            }),
            parsed => Ok(parsed),
        }
    }

    /// The record that follows one with the checksum `previous` which ends at `offset`: side by
    /// side, or at the next sector boundary if a sync came between. Else where it should be and why
    /// it is not there.
    pub(crate) fn next(
        &mut self,
        offset: u64,
        previous: u32,
        base: Position,
        seal: Seal,
    ) -> Result<Result<Item, Missing>, StorageError> {
        const FOREIGN: &str = "a record that does not follow the one before it";
        let beside = match self.record(offset, seal)? {
            Ok(record) if record.previous == previous => return Ok(Ok(Item::of(&record, offset))),
            Ok(_) => FOREIGN,
            Err(none) => none.what(),
        };
        let boundary = offset.next_multiple_of(record::SECTOR_BYTES);
        let durable = Position(base.0 + offset);
        let (behind, refutes) = match self.record(boundary, seal)? {
            Ok(record) if record.previous == previous && record.durable == durable => {
                return Ok(Ok(Item::of(&record, boundary)));
            }
            Ok(record) => (FOREIGN, record.durable == durable),
            Err(none) => (none.what(), false),
        };
        // Nothing but zeros up to the boundary is a sync's padding: the record belongs behind it.
        let gap = usize::try_from(boundary - offset).unwrap_or(usize::MAX);
        if self.bytes(offset, gap)?.iter().all(|byte| *byte == 0) {
            Ok(Err(Missing { offset: boundary, what: behind, refutes }))
        } else {
            Ok(Err(Missing { offset, what: beside, refutes }))
        }
    }

    /// Where, at or behind `offset`, a sound record says that more than `position` was durable.
    pub(crate) fn find_proof(
        &mut self,
        offset: u64,
        seal: Seal,
        position: Position,
    ) -> Result<Option<u64>, StorageError> {
        let mut at = offset.next_multiple_of(record::ALIGN as u64);
        while at < self.length {
            let chunk = self.bytes(at, WINDOW_BYTES)?;
            if chunk.is_empty() {
                break;
            }
            let candidates: Vec<u64> = chunk
                .chunks(record::ALIGN)
                .enumerate()
                .filter(|(_, head)| record::may_begin(head))
                .map(|(number, _)| at + (number * record::ALIGN) as u64)
                .collect();
            at += chunk.len().next_multiple_of(record::ALIGN) as u64;
            for candidate in candidates {
                if self.record(candidate, seal)?.is_ok_and(|sound| sound.durable > position) {
                    return Ok(Some(candidate));
                }
            }
        }
        Ok(None)
    }
}

/// The header of a segment and what its frame says.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) header: SegmentHeader,
    pub(crate) base: Position,
    pub(crate) last: LogId,
    pub(crate) previous: u32,
    pub(crate) crc: u32,
    pub(crate) bytes: u64,
}

pub(crate) fn read_head(
    source: &Source,
    number: SegmentNumber,
) -> Result<Option<Head>, StorageError> {
    let mut window = Window::open(source, number)?;
    let Ok(record) = window.record(0, Seal::new(source.salt, number))? else { return Ok(None) };
    if record.kind != Kind::Segment {
        return Ok(None);
    }
    let (crc, bytes) = (record.crc, record.bytes as u64);
    let (base, last, previous) = (record.durable, record.id, record.previous);
    let header: SegmentHeader = rmp_serde::from_slice(record.payload).map_err(|error| {
        StorageError::damaged(&window.path, 0, format!("a header that cannot be read: {error}"))
    })?;
    Ok(Some(Head { header, base, last, previous, crc, bytes }))
}

/// A record taken out of its file.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) id: LogId,
    pub(crate) payload: Bytes,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
    pub(crate) previous: u32,
    pub(crate) durable: Position,
}

impl Item {
    pub(crate) fn of(record: &Record<'_>, offset: u64) -> Item {
        Item {
            kind: record.kind,
            id: record.id,
            payload: Bytes::copy_from_slice(record.payload),
            offset,
            bytes: record.bytes as u64,
            crc: record.crc,
            previous: record.previous,
            durable: record.durable,
        }
    }
}
