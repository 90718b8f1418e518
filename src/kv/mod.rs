//! LAYER 0: the key/value state machine, deterministic: no I/O, no clock, no randomness (S16).

pub mod command;
pub mod limits;
