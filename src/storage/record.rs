//! One record: the unit of writing, checking and cutting.
//!
//! ```text
//! offset  size
//!      0     4  crc32c of (salt, segment number, bytes 4.. including the padding)
//!      4     2  magic 0xBA15
//!      6     1  kind
//!      7     1  version of the payload's format
//!      8     4  length: this header and the payload, without padding; zero: nothing was written
//!      (D3)
//!     12     4  crc of the record before, 0 for the first record of all
//!     16     8  durable: where the last synced record ended when this one was written
//!     24     8  term
//!     32     8  index
//!     40        payload, padded with zeros to a multiple of eight
//! ```
//!
//! All numbers are little-endian. These 40 bytes and the rule of the checksum are fixed for ever;
//! what a newer version changes is the payload, or it adds kinds. So a newer record can be told
//! from a damaged one.
//!
//! Records stand side by side, but the first one behind a sync begins at the next sector boundary;
//! the gap stays zero.
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
/// A group commit begins at a multiple of this. So no sector holds parts of two commits, and a
/// write that goes wrong, or a sector that is lost, cannot hurt a commit before it together with
/// its proof.
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
    /// With header and padding: the next record starts this many bytes behind the start of this
    /// one.
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::segment::{self, HardStateRecord, SegmentHeader};
    use super::super::{Position, Seen, SegmentNumber};
    use super::*;
    use crate::raft::{Boot, HardState, Member, NodeId};

    const SEAL: (u64, SegmentNumber) = (0x5a17, SegmentNumber(3));

    fn seal() -> Seal {
        Seal::new(SEAL.0, SEAL.1)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes
            .chunks(8)
            .map(|eight| eight.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn one(kind: Kind, id: LogId, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut buffer = Vec::new();
        let frame = Frame { kind, previous: 0x0102_0304, durable: Position(512), id };
        encode(&mut buffer, seal(), frame, body);
        buffer
    }

    fn entry(payload: &Payload) -> Vec<u8> {
        one(Kind::Entry, LogId::new(2, 7), |out| encode_payload(out, payload))
    }

    fn membership() -> Membership {
        let member = Member { name: "raft-0".to_owned(), address: "a:6000".to_owned() };
        Membership {
            members: BTreeMap::from([(NodeId(9), member)]),
            voters: BTreeSet::from([NodeId(9)]),
            ..Membership::default()
        }
    }

    fn hard_state() -> HardState {
        HardState { term: Term(2), vote: Some(NodeId(9)) }
    }

    fn seen() -> BTreeMap<NodeId, Seen> {
        let seen = Seen { boot: Boot(1), term: Term(2), acknowledged: Index(3) };
        BTreeMap::from([(NodeId(8), seen)])
    }

    #[test]
    fn the_bytes_of_every_record_stay_as_they_are() {
        // A change here is a change of the format on disk: it needs a new version.
        assert_eq!(
            hex(&entry(&Payload::Noop)),
            "9c937bea15ba0401 2900000004030201 0002000000000000 0200000000000000 \
             0700000000000000 0000000000000000"
        );
        assert_eq!(
            hex(&entry(&Payload::Command(Bytes::from_static(b"chocolate")))),
            "a673f10315ba0401 3200000004030201 0002000000000000 0200000000000000 \
             0700000000000000 0163686f636f6c61 7465000000000000"
        );
        assert_eq!(
            hex(&entry(&Payload::Membership(Arc::new(membership())))),
            "ea6d562615ba0401 5900000004030201 0002000000000000 0200000000000000 \
             0700000000000000 0282a76d656d6265 7273810982a46e61 6d65a6726166742d \
             30a7616464726573 73a6613a36303030 a6766f7465727391 0900000000000000"
        );
        assert_eq!(
            hex(&one(Kind::Truncate, LogId::new(2, 6), |_| ())),
            "0f488ab315ba0301 2800000004030201 0002000000000000 0200000000000000 \
             0600000000000000"
        );
        let content = HardStateRecord { hard_state: hard_state(), seen: seen(), all_seen: false };
        let record = one(Kind::HardState, LogId::new(2, 0), |out| write_named(out, &content));
        assert_eq!(
            hex(&record),
            "1588cf1c15ba0201 6300000004030201 0002000000000000 0200000000000000 \
             0000000000000000 82aa686172645f73 7461746582a47465 726d02a4766f7465 \
             09a47365656e8108 83a4626f6f7401a4 7465726d02ac6163 6b6e6f776c656467 \
             6564030000000000"
        );
        let header = SegmentHeader {
            capacity: 4096,
            hard_state: hard_state(),
            seen: seen(),
            reached: Index::ZERO,
            begins_log: false,
        };
        let mut record = Vec::new();
        let last = LogId::new(2, 6);
        segment::encode_header(&mut record, seal(), 0x0102_0304, Position(512), last, &header);
        assert_eq!(
            hex(&record),
            "8b57c5d015ba0101 6f00000004030201 0002000000000000 0200000000000000 \
             0600000000000000 83a8636170616369 7479cd1000aa6861 72645f7374617465 \
             82a47465726d02a4 766f746509a47365 656e810883a4626f 6f7401a47465726d \
             02ac61636b6e6f77 6c65646765640300"
        );
    }

    #[test]
    fn what_was_added_later_stays_as_it_is_and_older_bytes_are_read() {
        let content =
            HardStateRecord { hard_state: hard_state(), seen: BTreeMap::new(), all_seen: true };
        let mut record = Vec::new();
        write_named(&mut record, &content);
        assert_eq!(
            hex(&record),
            "82aa686172645f73 7461746582a47465 726d02a4766f7465 09a8616c6c5f7365 656ec3"
        );
        let header = SegmentHeader {
            capacity: 4096,
            hard_state: hard_state(),
            seen: BTreeMap::new(),
            reached: Index(9),
            begins_log: true,
        };
        let mut record = Vec::new();
        write_named(&mut record, &header);
        assert_eq!(
            hex(&record),
            "85a8636170616369 7479cd1000aa6861 72645f7374617465 82a47465726d02a4 \
             766f746509a47365 656e80a772656163 68656409aa626567 696e735f6c6f67c3"
        );
        #[derive(serde::Serialize)]
        struct Older {
            capacity: u64,
            hard_state: HardState,
        }
        let mut older = Vec::new();
        write_named(&mut older, &Older { capacity: 4096, hard_state: hard_state() });
        let read: SegmentHeader = rmp_serde::from_slice(&older).unwrap();
        assert_eq!((read.reached, read.begins_log), (Index::ZERO, false));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for payload in [
            Payload::Noop,
            Payload::Command(Bytes::new()),
            Payload::Command(Bytes::from_static(b"12345678")),
            Payload::Membership(Arc::new(membership())),
        ] {
            let bytes = entry(&payload);
            assert_eq!(bytes.len() as u64, stored_bytes(&payload));
            let record = parse(&bytes, seal()).unwrap();
            assert_eq!((record.kind, record.id), (Kind::Entry, LogId::new(2, 7)));
            assert_eq!((record.previous, record.durable), (0x0102_0304, Position(512)));
            assert_eq!(record.bytes, bytes.len());
            let decoded = decode_entry(record.id, &Bytes::copy_from_slice(record.payload)).unwrap();
            assert_eq!(decoded.payload, payload);
        }
    }

    #[test]
    fn a_membership_with_a_field_from_the_future_is_read() {
        let mut bytes = vec![MEMBERSHIP];
        #[derive(serde::Serialize)]
        struct Later {
            witnesses: Vec<u64>,
            members: BTreeMap<NodeId, Member>,
            voters: BTreeSet<NodeId>,
        }
        let Membership { members, voters, .. } = membership();
        write_named(&mut bytes, &Later { witnesses: vec![4], members, voters });
        let entry = decode_entry(LogId::new(1, 1), &Bytes::from(bytes)).unwrap();
        assert_eq!(entry.payload, Payload::Membership(Arc::new(membership())));
    }

    #[test]
    fn a_record_parses_under_its_own_seal_only() {
        let bytes = entry(&Payload::Noop);
        for foreign in [Seal::new(SEAL.0 + 1, SEAL.1), Seal::new(SEAL.0, SEAL.1.next())] {
            assert_eq!(parse(&bytes, foreign), Err(NoRecord::Checksum), "D4");
        }
    }

    #[test]
    fn unwritten_space_is_empty_and_short_files_end_in_short_records() {
        assert_eq!(parse(&[0; 64], seal()), Err(NoRecord::Empty));
        let bytes = entry(&Payload::Noop);
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length], seal()), Err(NoRecord::Short));
        }
    }

    #[test]
    fn a_newer_version_or_kind_is_told_from_damage() {
        for (at, value) in [(7, VERSION + 1), (6, 99)] {
            let mut bytes = entry(&Payload::Noop);
            bytes[at] = value;
            assert_eq!(parse(&bytes, seal()), Err(NoRecord::Checksum));
            let crc = crc32c::crc32c_append(seal().0, &bytes[4..]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            assert!(matches!(parse(&bytes, seal()), Err(NoRecord::Newer(_))));
        }
    }

    #[test]
    fn payloads_that_make_no_sense_are_refused_in_words() {
        for bad in [&[][..], &[9], &[MEMBERSHIP], &[MEMBERSHIP, 0xc1, 0]] {
            assert!(decode_entry(LogId::new(1, 1), &Bytes::copy_from_slice(bad)).is_err());
        }
    }
}
