//! A client of the cluster.

mod error;

use bytes::Bytes;
pub use error::{Error, ErrorKind};

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The store's revision after it.
    pub revision: u64,
    /// Put: true. Delete: whether the key existed. Compare-and-swap: whether the condition held.
    pub succeeded: bool,
    /// Index of the entry that carried it.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Who answered.
    pub from: crate::codec::api::Answerer,
}

/// The first key behind all keys that begin with `prefix`; none if they go on to the last key.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let cut = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=cut].to_vec();
    end[cut] += 1;
    Some(Bytes::from(end))
}
