//! Encoding bodies without a buffer of their own for each: small ones pass through a scratch buffer
//! of the thread, large ones keep what they were written into.
//!
//! Decoding is `codec::msgpack`'s, which checks depth and size first.

use std::cell::RefCell;

use bytes::Bytes;
use serde::Serialize;

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
