//! LAYER 0: the key/value state machine, deterministic: no I/O, no clock, no randomness (S16).
//!
//! - [`command`]: what the log carries, and what each command answers.
//! - [`limits`]: how large keys, values, pages and the session table may be.
//! - [`store`]: applies commands in log order.
//! - [`view`]: a frozen look at the map, for readers on any thread.
//! - [`frozen`]: all of the content at one moment, for a snapshot; [`restore`]: the way back.
//! - [`history`]: the hashes of the newest applied indexes.
//! - `sessions`: which writes were carried out already, so that none is carried out twice (S18).
//! - `hash`: what makes two stores comparable by one number (S5).
//!
//! Not here yet: transactions, leases, watches.

pub mod command;
pub mod frozen;
mod hash;
pub mod history;
pub mod limits;
pub mod restore;
mod sessions;
pub mod store;
#[cfg(test)]
mod tests;
pub mod view;

pub use command::{Applied, Command, Operation, Outcome, Versioned, Write};
pub use frozen::Frozen;
pub use history::History;
pub use store::Store;
pub use view::View;
