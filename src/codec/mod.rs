//! LAYER 1: bytes only. How the core's and the state machine's types look on the wire and on disk,
//! and the arguments and replies of every call.
//!
//! Everything that may evolve is MessagePack with named fields: a field added later has a default, so
//! that an old reader skips it and a new reader of old bytes does without it. Depth and size are
//! checked before anything is decoded.

pub mod api;
