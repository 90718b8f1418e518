//! What the bytes are, what becomes of bytes of another version, and what hostile bytes cannot do.

mod golden;
mod golden_peer;
mod golden_raft;
mod hostile;
mod properties;
mod sharing;
mod snapshot;

use bytes::Bytes;

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
