//! LAYER 1: bytes only. How the core's and the state machine's types look on the wire and on disk,
//! and the arguments and replies of every call.
//!
//! Everything that may evolve is MessagePack with named fields: a field added later has a default,
//! so that an old reader skips it and a new reader of old bytes does without it. Depth and size are
//! checked before anything is decoded.
//!
//! - [`msgpack`]: encoding, checking, decoding.
//! - [`shared`]: byte strings that stay in the buffer they arrived in.
//! - [`command`]: what clients send and the log keeps.
//! - [`raft`]: what nodes say to each other.
//! - [`peer`]: what nodes say beside the protocol's own messages.
//! - [`snapshot`]: a store as bytes, and back.
//! - [`api`]: everything else that can be called.

pub mod api;
pub mod command;
pub mod msgpack;
pub mod peer;
pub mod raft;
pub mod shared;
pub mod snapshot;
#[cfg(test)]
mod tests;

pub use command::{admit_command, decode_command, encode_command, log_content, validate};
pub use msgpack::{DecodeError, check, decode, decode_shared, encode};
