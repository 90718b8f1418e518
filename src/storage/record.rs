//! One record: the unit of writing, checking and cutting.
//!
//! ```text
//! offset  size
//!      0     4  crc32c of (salt, segment number, bytes 4.. including the padding)
//!      4     2  magic 0xBA15
//!      6     1  kind
//!      7     1  version of the payload's format
//!      8     4  length: this header and the payload, without padding; zero: nothing was written (D3)
//!     12     4  crc of the record before, 0 for the first record of all
//!     16     8  durable: where the last synced record ended when this one was written
//!     24     8  term
//!     32     8  index
//!     40        payload, padded with zeros to a multiple of eight
//! ```
//!
//! All numbers are little-endian. These 40 bytes and the rule of the checksum are fixed for ever; what
//! a newer version changes is the payload, or it adds kinds. So a newer record can be told from a
//! damaged one.
//!
//! Records stand side by side, but the first one behind a sync begins at the next sector boundary; the
//! gap stays zero.
//!
//! The salt is drawn with the data directory and the segment number is the file's, so a record of
//! another directory, of another segment, or planted by a client inside a value never parses (D4).

use std::sync::Arc;

use bytes::Bytes;

use super::{Position, SegmentNumber};
use crate::raft::{Entry, Index, LogId, Membership, Payload, Term};

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 40;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// A group commit begins at a multiple of this. So no sector holds parts of two commits, and a write
/// that goes wrong, or a sector that is lost, cannot hurt a commit before it together with its proof.
pub(crate) const SECTOR_BYTES: u64 = 512;
/// No record is longer. Far above a request's limit (1.5 MiB), so that a broken length is noticed.
pub(crate) const MAX_RECORD_BYTES: usize = 16 << 20;
/// The newest payload version known here, of every kind.
pub(crate) const VERSION: u8 = 1;

const MAGIC: u16 = 0xBA15;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The first record of a segment.
    Segment = 1,
    /// Term and vote, and what was seen of other nodes.
    HardState = 2,
    /// Everything behind `index` is dropped.
    Truncate = 3,
    /// An entry; it drops everything from its index on and takes that place (L2).
    Entry = 4,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        [Kind::Segment, Kind::HardState, Kind::Truncate, Kind::Entry]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What binds a checksum to one segment of one data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal(u32);

impl Seal {
    pub(crate) fn new(salt: u64, segment: SegmentNumber) -> Seal {
        Seal(crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &segment.0.to_le_bytes()))
    }
}

/// A record that parsed: its checksum holds, its kind and version are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) crc: u32,
    pub(crate) previous: u32,
    pub(crate) durable: Position,
    pub(crate) id: LogId,
    pub(crate) payload: &'a [u8],
    /// With header and padding: the next record starts this many bytes behind the start of this one.
    pub(crate) bytes: usize,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRecord {
    /// Length zero: nothing was written here.
    Empty,
    /// Not even a header.
    Short,
    /// The magic number is wrong.
    Magic,
    /// The length is impossible.
    Length,
    /// The checksum is wrong.
    Checksum,
    /// Sound, but of a kind or version that is not known yet.
    Newer(u8),
}

impl NoRecord {
    /// In words, for a message.
    pub(crate) fn what(self) -> &'static str {
        match self {
            NoRecord::Empty => "an empty record",
            NoRecord::Short => "the file ends inside a record",
            NoRecord::Magic => "no record begins here",
            NoRecord::Length => "a record with an impossible length",
            NoRecord::Checksum => "a record with a wrong checksum",
            NoRecord::Newer(_) => "a record of a newer format",
        }
    }
}

/// Whether a record might begin with these bytes; cheap.
pub(crate) fn may_begin(bytes: &[u8]) -> bool {
    bytes.len() >= 6 && u16_at(bytes, 4) == MAGIC
}

/// The length with padding that a header states, if it is a header and the length is possible.
pub(crate) fn stated_bytes(header: &[u8]) -> Result<usize, NoRecord> {
    if header.len() < HEADER_BYTES {
        return Err(NoRecord::Short);
    }
    let length = u32_at(header, 8) as usize;
    if length == 0 {
        return Err(NoRecord::Empty);
    }
    if u16_at(header, 4) != MAGIC {
        return Err(NoRecord::Magic);
    }
    if !(HEADER_BYTES..=MAX_RECORD_BYTES).contains(&length) {
        return Err(NoRecord::Length);
    }
    Ok(length.next_multiple_of(ALIGN))
}

/// Parses the record at the start of `bytes`.
pub(crate) fn parse(bytes: &[u8], seal: Seal) -> Result<Record<'_>, NoRecord> {
    let total = stated_bytes(bytes)?;
    let Some(whole) = bytes.get(..total) else { return Err(NoRecord::Short) };
    let crc = u32_at(whole, 0);
    if crc32c::crc32c_append(seal.0, &whole[4..]) != crc {
        return Err(NoRecord::Checksum);
    }
    let version = whole[7];
    let Some(kind) = Kind::of(whole[6]).filter(|_| version <= VERSION) else {
        return Err(NoRecord::Newer(version.max(VERSION + 1)));
    };
    Ok(Record {
        kind,
        crc,
        previous: u32_at(whole, 12),
        durable: Position(u64_at(whole, 16)),
        id: LogId { term: Term(u64_at(whole, 24)), index: Index(u64_at(whole, 32)) },
        payload: &whole[HEADER_BYTES..u32_at(whole, 8) as usize],
        bytes: total,
    })
}

/// What an encoder needs to know besides the payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) previous: u32,
    pub(crate) durable: Position,
    pub(crate) id: LogId,
}

/// Appends a record to `buffer`, whose payload `body` writes in place; returns its checksum.
pub(crate) fn encode(
    buffer: &mut Vec<u8>,
    seal: Seal,
    frame: Frame,
    body: impl FnOnce(&mut Vec<u8>),
) -> u32 {
    let start = buffer.len();
    debug_assert_eq!(start % ALIGN, 0);
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&MAGIC.to_le_bytes());
    buffer.extend_from_slice(&[frame.kind as u8, VERSION]);
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&frame.previous.to_le_bytes());
    buffer.extend_from_slice(&frame.durable.0.to_le_bytes());
    buffer.extend_from_slice(&frame.id.term.0.to_le_bytes());
    buffer.extend_from_slice(&frame.id.index.0.to_le_bytes());
    body(buffer);
    let length = buffer.len() - start;
    assert!(length <= MAX_RECORD_BYTES, "a record of {length} bytes could not be read back");
    buffer[start + 8..start + 12].copy_from_slice(&(length as u32).to_le_bytes());
    buffer.resize(start + length.next_multiple_of(ALIGN), 0);
    let crc = crc32c::crc32c_append(seal.0, &buffer[start + 4..]);
    buffer[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Writes what an entry carries: one byte of kind, then its bytes. A membership is MessagePack with
/// field names, so that fields can be added.
pub(crate) fn encode_payload(buffer: &mut Vec<u8>, payload: &Payload) {
    match payload {
        Payload::Noop => buffer.push(NOOP),
        Payload::Command(bytes) => {
            buffer.push(COMMAND);
            buffer.extend_from_slice(bytes);
        }
        Payload::Membership(membership) => {
            buffer.push(MEMBERSHIP);
            write_named(buffer, &**membership);
        }
    }
}

/// Bytes that an entry takes on disk: the measure of every read limit.
pub(crate) fn stored_bytes(payload: &Payload) -> u64 {
    let body = match payload {
        Payload::Noop => 0,
        Payload::Command(bytes) => bytes.len(),
        Payload::Membership(membership) => {
            let mut bytes = Vec::new();
            write_named(&mut bytes, &**membership);
            bytes.len()
        }
    };
    (HEADER_BYTES + 1 + body).next_multiple_of(ALIGN) as u64
}

/// Reads an entry's payload. `bytes` is shared, not copied.
///
/// # Errors
/// In words, if the checksum holds and the content still makes no sense.
pub(crate) fn decode_entry(id: LogId, bytes: &Bytes) -> Result<Entry, String> {
    let payload = match bytes.first() {
        Some(&NOOP) => Payload::Noop,
        Some(&COMMAND) => Payload::Command(bytes.slice(1..)),
        Some(&MEMBERSHIP) => Payload::Membership(Arc::new(
            rmp_serde::from_slice::<Membership>(&bytes[1..])
                .map_err(|error| format!("a membership that cannot be read: {error}"))?,
        )),
        Some(kind) => return Err(format!("an entry of unknown kind {kind}")),
        None => return Err("an entry without a kind".to_owned()),
    };
    Ok(Entry { id, payload })
}

/// Appends a value as MessagePack with field names.
pub(crate) fn write_named<T: serde::Serialize>(buffer: &mut Vec<u8>, value: &T) {
    rmp_serde::encode::write_named(buffer, value)
        .expect("our own plain types always encode, and memory takes them");
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}
