//! A client of the cluster.

mod error;

use bytes::Bytes;
pub use error::{Error, ErrorKind};

/// The first key behind all keys that begin with `prefix`; none if they go on to the last key.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let cut = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=cut].to_vec();
    end[cut] += 1;
    Some(Bytes::from(end))
}
