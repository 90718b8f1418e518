//! MessagePack, in the shape Balsa uses it: maps with named fields, checked before decoding.
//!
//! Decoders recurse, and a stack that overflows ends the process. So [`check`] walks over the bytes
//! first, without recursion and without allocating, and refuses whatever is nested too deeply,
//! declares more than there is, or is followed by something else. Encoded numbers of any width are
//! accepted: what matters is that every node decodes the same bytes alike, and it does.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::shared;

/// Deepest nesting of arrays and maps. Our deepest format needs eight; the debug build's stack
/// holds several hundred.
pub const DEPTH_MAX: u32 = 32;

/// Why bytes are not what they should be. Whoever sent them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nested deeper than allowed.
    #[error("MessagePack nested deeper than {max} levels")]
    TooDeep {
        /// What is allowed.
        max: u32,
    },
    /// A value is cut off, or declares a length beyond the end.
    #[error("MessagePack ends before the value that begins at byte {at} does")]
    Truncated {
        /// Where the unfinished value begins.
        at: usize,
    },
    /// Something follows the value.
    #[error("{bytes} bytes follow the MessagePack value")]
    Trailing {
        /// How much.
        bytes: usize,
    },
    /// A type that none of our formats uses: an extension, or the reserved marker.
    #[error("MessagePack type {marker:#04x} at byte {at} is not used here")]
    Unsupported {
        /// The marker byte.
        marker: u8,
        /// Where.
        at: usize,
    },
    /// Sound MessagePack that says something else than expected.
    #[error("unexpected content: {0}")]
    Content(String),
}

/// Encodes with named fields.
///
/// # Panics
/// If the type cannot be encoded at all, which is a fault in its definition: everything encoded
/// here is our own and fits into memory.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Bytes {
    encode_sized(value, 128)
}

/// [`encode`] for a value that will take about `size` bytes, so that nothing large is moved while
/// the buffer grows.
#[must_use]
pub fn encode_sized<T: Serialize + ?Sized>(value: &T, size: usize) -> Bytes {
    let mut out = Vec::with_capacity(size);
    let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
    value.serialize(&mut serializer).expect("our own types can be encoded");
    Bytes::from(out)
}

/// Decodes exactly one value, after [`check`]. Byte strings behind `Bytes` are copied; see
/// [`decode_shared`].
///
/// # Errors
/// Says what is wrong with the bytes.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    check(bytes, DEPTH_MAX)?;
    rmp_serde::from_slice(bytes).map_err(|error| DecodeError::Content(error.to_string()))
}

/// As [`decode`], but fields marked with [`shared`] become slices of `bytes` instead of copies.
/// They keep the whole buffer alive.
///
/// # Errors
/// Says what is wrong with the bytes.
pub fn decode_shared<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, DecodeError> {
    shared::within(bytes, || decode(bytes))
}

/// Checks that `bytes` are one MessagePack value, nested at most `max_depth` (and never more than
/// [`DEPTH_MAX`]) deep, whose every declared length lies within the bytes.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(bytes: &[u8], max_depth: u32) -> Result<(), DecodeError> {
    let max = max_depth.min(DEPTH_MAX);
    // Values still to come at each open level.
    let mut open = [0u64; DEPTH_MAX as usize];
    let mut depth = 0usize;
    let mut at = 0usize;
    loop {
        let Item { size, children } = item(bytes, at)?;
        at += size;
        if children > 0 {
            // Each value takes at least one byte.
            if children > (bytes.len() - at) as u64 {
                return Err(DecodeError::Truncated { at: at - size });
            }
            if depth >= max as usize {
                return Err(DecodeError::TooDeep { max });
            }
            open[depth] = children;
            depth += 1;
            continue;
        }
        while depth > 0 {
            open[depth - 1] -= 1;
            if open[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            let rest = bytes.len() - at;
            return if rest == 0 { Ok(()) } else { Err(DecodeError::Trailing { bytes: rest }) };
        }
    }
}

/// One value's own bytes (without its children), and how many values it contains.
struct Item {
    size: usize,
    children: u64,
}

fn item(bytes: &[u8], at: usize) -> Result<Item, DecodeError> {
    let rest = &bytes[at..];
    let truncated = DecodeError::Truncated { at };
    let Some(&marker) = rest.first() else { return Err(truncated) };
    // A length of `width` bytes behind the marker.
    let length = |width: usize| -> Result<u64, DecodeError> {
        let field = rest.get(1..=width).ok_or(DecodeError::Truncated { at })?;
        Ok(field.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let low = u64::from(marker);
    let (head, body, children) = match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (1, 0, 0),
        0x80..=0x8f => (1, 0, 2 * (low & 0x0f)),
        0x90..=0x9f => (1, 0, low & 0x0f),
        0xa0..=0xbf => (1, low & 0x1f, 0),
        0xc4 | 0xd9 => (2, length(1)?, 0),
        0xc5 | 0xda => (3, length(2)?, 0),
        0xc6 | 0xdb => (5, length(4)?, 0),
        0xca | 0xce | 0xd2 => (1, 4, 0),
        0xcb | 0xcf | 0xd3 => (1, 8, 0),
        0xcc | 0xd0 => (1, 1, 0),
        0xcd | 0xd1 => (1, 2, 0),
        0xdc => (3, 0, length(2)?),
        0xdd => (5, 0, length(4)?),
        0xde => (3, 0, 2 * length(2)?),
        0xdf => (5, 0, 2 * length(4)?),
        0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(DecodeError::Unsupported { marker, at }),
    };
    match usize::try_from(body).ok().and_then(|body| body.checked_add(head)) {
        Some(size) if size <= rest.len() => Ok(Item { size, children }),
        _ => Err(truncated),
    }
}
