//! LAYER 0: the protocol, a pure and deterministic core. Inputs in, effects out; no I/O, no clock, no
//! threads, no async, no global randomness, no logging.

mod candidate;
mod commit;
mod common;
mod disk;
pub mod effects;
mod follower;
pub mod founding;
mod invariants;
mod leader;
pub mod log_shape;
pub mod membership;
pub mod message;
pub mod node;
pub mod options;
mod progress;
mod quorum;
mod read_index;
#[cfg(test)]
mod tests;
pub mod types;
mod vote;

pub use effects::{Effects, Persist, PersistToken, ReadOutcome, ReadToken, Refusal, SendRange};
pub use log_shape::LogShape;
pub use membership::{Member, Membership};
pub use message::{Envelope, Message, RequestId};
pub use node::{Node, NodeStatus, Restored};
pub use options::Options;
pub use types::{
    Boot, ClusterId, Entry, HardState, Index, LogId, NodeId, Payload, RoleKind, SoftState, Term,
};
