//! Bodies: MessagePack with named fields, checked for depth and size before anything is decoded.

use std::cell::RefCell;

use bytes::Bytes;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};

use crate::codec::api::{Code, LeaderHint, Refusal};

/// Containers within containers that a body may have. The decoder recurses once a level, and its own
/// limit lies beyond what a thread's stack holds (correctness section 9).
const DEPTH_MAX: u32 = 32;

/// Bodies up to this size are copied behind one another into one buffer; larger ones travel as they
/// are.
pub(super) const COPY_MAX: usize = 4 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An encoded body: borrowed from a scratch buffer if small, owned if large.
pub(super) enum Encoded<'a> {
    Small(&'a [u8]),
    Large(Bytes),
}

impl Encoded<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Encoded::Small(bytes) => bytes.len(),
            Encoded::Large(bytes) => bytes.len(),
        }
    }
}

/// A body that is encoded already.
pub(super) fn raw(bytes: &Bytes) -> Encoded<'_> {
    if bytes.len() <= COPY_MAX { Encoded::Small(bytes) } else { Encoded::Large(bytes.clone()) }
}

/// Encodes a body and hands it to `then`.
pub(super) fn encode<T: Serialize + ?Sized, R>(
    value: &T,
    then: impl FnOnce(Encoded<'_>) -> R,
) -> Result<R, String> {
    // Taken out and put back, so that a `Serialize` that itself encodes something finds no borrow.
    let mut scratch = SCRATCH.with(|scratch| std::mem::take(&mut *scratch.borrow_mut()));
    scratch.clear();
    let mut serializer = rmp_serde::Serializer::new(&mut scratch).with_struct_map();
    value.serialize(&mut serializer).map_err(|e| e.to_string())?;
    if scratch.len() > COPY_MAX {
        return Ok(then(Encoded::Large(Bytes::from(scratch))));
    }
    let result = then(Encoded::Small(&scratch));
    SCRATCH.with(|slot| *slot.borrow_mut() = scratch);
    Ok(result)
}

/// Decodes a whole body.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    check(bytes)?;
    rmp_serde::from_slice(bytes).map_err(|e| e.to_string())
}

/// Whether the bytes are one MessagePack value, whole, without anything behind it, and not too deep.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    // Values still to come at each open level; the lowest level is the one value itself.
    let mut open = [0u64; DEPTH_MAX as usize + 1];
    open[0] = 1;
    let mut level = 0;
    let mut at = 0usize;
    loop {
        while open[level] == 0 {
            if level == 0 {
                let rest = bytes.len() - at;
                return if rest == 0 { Ok(()) } else { Err(format!("{rest} bytes follow it")) };
            }
            level -= 1;
        }
        open[level] -= 1;
        let marker = *bytes.get(at).ok_or("it ends too early")?;
        at += 1;
        let (width, unit, fixed, per_item) = shape(marker)?;
        let count = if width == 0 { fixed } else { read_count(bytes, &mut at, width)? };
        let skipped = count.checked_mul(unit).and_then(|n| usize::try_from(n).ok());
        let extra = usize::from(matches!(marker, 0xc7..=0xc9));
        let end = skipped.and_then(|n| at.checked_add(n)).and_then(|n| n.checked_add(extra));
        at = end.filter(|end| *end <= bytes.len()).ok_or("it ends too early")?;
        if per_item > 0 {
            level += 1;
            if level > DEPTH_MAX as usize {
                return Err(format!("it nests deeper than {DEPTH_MAX} levels"));
            }
            open[level] = count * per_item;
        }
    }
}

/// For a marker byte: bytes of the count behind it, bytes skipped for each counted unit, the count if
/// it is in the marker, and values that each counted item holds.
fn shape(marker: u8) -> Result<(usize, u64, u64, u64), String> {
    Ok(match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0, 0, 0),
        0x80..=0x8f => (0, 0, u64::from(marker & 0x0f), 2),
        0x90..=0x9f => (0, 0, u64::from(marker & 0x0f), 1),
        0xa0..=0xbf => (0, 1, u64::from(marker & 0x1f), 0),
        0xc1 => return Err("it holds the byte 0xc1, which MessagePack does not use".to_owned()),
        0xc4 | 0xc7 | 0xd9 => (1, 1, 0, 0),
        0xc5 | 0xc8 | 0xda => (2, 1, 0, 0),
        0xc6 | 0xc9 | 0xdb => (4, 1, 0, 0),
        0xca | 0xce | 0xd2 => (0, 1, 4, 0),
        0xcb | 0xcf | 0xd3 => (0, 1, 8, 0),
        0xcc | 0xd0 => (0, 1, 1, 0),
        0xcd | 0xd1 => (0, 1, 2, 0),
        0xd4 => (0, 1, 2, 0),
        0xd5 => (0, 1, 3, 0),
        0xd6 => (0, 1, 5, 0),
        0xd7 => (0, 1, 9, 0),
        0xd8 => (0, 1, 17, 0),
        0xdc => (2, 0, 0, 1),
        0xdd => (4, 0, 0, 1),
        0xde => (2, 0, 0, 2),
        0xdf => (4, 0, 0, 2),
    })
}

fn read_count(bytes: &[u8], at: &mut usize, width: usize) -> Result<u64, String> {
    let digits = bytes.get(*at..*at + width).ok_or("it ends too early")?;
    *at += width;
    Ok(digits.iter().fold(0, |count, digit| count << 8 | u64::from(*digit)))
}

/// A refusal as it is read: a code that a newer peer has added must not make it unreadable.
#[derive(Deserialize)]
struct WireRefusal {
    code: String,
    message: String,
    #[serde(default)]
    leader: Option<LeaderHint>,
}

/// Reads a refusal. A code that this version does not know becomes [`Code::Unknown`], which promises
/// nothing about what happened.
pub(super) fn decode_refusal(bytes: &[u8]) -> Result<Refusal, String> {
    let WireRefusal { code, message, leader } = decode(bytes)?;
    let word: StrDeserializer<'_, ValueError> = code.as_str().into_deserializer();
    let code = Code::deserialize(word).unwrap_or(Code::Unknown);
    Ok(Refusal { code, message, leader })
}
