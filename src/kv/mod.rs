//! LAYER 0: the key/value state machine, deterministic: no I/O, no clock, no randomness (S16).
//!
//! - [`command`]: what the log carries, and what each command answers.
//! - [`limits`]: how large keys, values, pages and the session table may be.
//! - [`store`]: applies commands in log order.
//! - [`view`]: a frozen look at the map, for readers on any thread.
//! - `sessions`: which writes were carried out already, so that none is carried out twice (S18).
//! - `hash`: what makes two stores comparable by one number (S5).
//!
//! Not here yet: transactions, leases, watches, and writing a store to a snapshot or reading it
//! back.

pub mod command;
mod hash;
pub mod limits;
mod sessions;
pub mod store;
#[cfg(test)]
mod tests;
pub mod view;

pub use command::{Applied, Command, Operation, Outcome, Versioned, Write};
pub use store::Store;
pub use view::View;
