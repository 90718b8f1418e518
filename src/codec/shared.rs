//! Byte strings that are decoded as slices of the buffer they arrived in.
//!
//! `bytes` decodes a `Bytes` by copying, because a deserializer only ever sees a borrowed slice and
//! cannot know which buffer owns it. Fields marked `#[serde(with = "crate::codec::shared")]` (or
//! `shared::optional`) can: `within` notes the buffer for the time of one decoding call on this
//! thread, and a slice that lies inside it is shared. Anything else (a plain `decode`, an array of
//! numbers) is copied, so the mark never changes what is decoded, only what it costs.
//!
//! The alternative, a borrowing twin for every type with bytes in it, would double the wire types.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::ser::Serializer;

thread_local! {
    static BUFFER: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Puts the former buffer back, also when decoding panics.
struct Restore(Option<Bytes>);

impl Drop for Restore {
    fn drop(&mut self) {
        BUFFER.with(|buffer| buffer.replace(self.0.take()));
    }
}

/// Runs one decoding of `buffer`, in which marked fields may share it.
pub(super) fn within<R>(buffer: &Bytes, decode: impl FnOnce() -> R) -> R {
    let _restore = Restore(BUFFER.with(|slot| slot.replace(Some(buffer.clone()))));
    decode()
}

fn share(slice: &[u8]) -> Bytes {
    BUFFER.with(|buffer| match &*buffer.borrow() {
        Some(buffer)
            if buffer.as_ptr_range().start <= slice.as_ptr()
                && slice.as_ptr_range().end <= buffer.as_ptr_range().end =>
        {
            buffer.slice_ref(slice)
        }
        _ => Bytes::copy_from_slice(slice),
    })
}

/// Encodes as a byte string.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Decodes a byte string or a text, shared if possible.
///
/// # Errors
/// The deserializer's.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    deserializer.deserialize_bytes(BytesVisitor)
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_borrowed_bytes<E: Error>(self, slice: &'de [u8]) -> Result<Bytes, E> {
        Ok(share(slice))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Bytes, E> {
        Ok(share(text.as_bytes()))
    }

    fn visit_bytes<E: Error>(self, slice: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes::copy_from_slice(slice))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(Bytes::from(bytes))
    }

    /// JSON has no byte strings and writes arrays of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        Ok(Bytes::from(bytes))
    }
}

/// The same for `Option<Bytes>`; give the field `default` as well, so that it may be left out.
pub mod optional {
    use std::fmt;

    use bytes::Bytes;
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    /// Encodes as a byte string or nil.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(
        bytes: &Option<Bytes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_some(bytes),
            None => serializer.serialize_none(),
        }
    }

    /// Decodes nil, or a byte string that is shared if possible.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Bytes>, D::Error> {
        deserializer.deserialize_option(OptionVisitor)
    }

    struct OptionVisitor;

    impl<'de> Visitor<'de> for OptionVisitor {
        type Value = Option<Bytes>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a byte string or nothing")
        }

        fn visit_none<E: Error>(self) -> Result<Option<Bytes>, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Option<Bytes>, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Option<Bytes>, D::Error> {
            super::deserialize(inner).map(Some)
        }
    }
}
