//! What founding wants done. The runtime carries it out in this order:
//!
//! 1. `persist` is handed to the disk: the whole record replaces the former one (temporary file,
//!    fsync, rename, fsync of the directory). Writes complete in the order in which they were handed
//!    over; each comes back as [`Founding::persisted`](super::Founding::persisted). A write that fails
//!    ends the process (design: durability).
//! 2. `reply`, `send_now` and `send_after_persist` leave, the ones with a token when that write is
//!    durable. A letter that cannot be delivered is dropped; it is repeated by itself.
//! 3. `ask` starts a round of asking.
//! 4. `founded` starts the Raft node (in the order that the module's tour gives).
//! 5. `waiting` is logged and shown.

use super::message::{Letter, Message};
use super::record::{Founded, Record};

/// Names one write of the record; they grow by one. Not the log's tokens: the two are never mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordToken(pub u64);

/// Names one round of asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskRound(pub u64);

/// A record for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Reported back when it is durable.
    pub token: RecordToken,
    /// The whole record.
    pub record: Record,
}

/// A letter and where to take it: `Boot.Deliver` to the seat's address, accepting only a certificate
/// of that seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The seat.
    pub name: String,
    /// Where it is reached, `HOST:PORT`.
    pub address: String,
    /// The letter.
    pub letter: Letter,
}

/// The reply to the letter that was just received, if that came as a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// May leave at once.
    Now(Message),
    /// Claims something that is not durable yet: leaves with this write. If the process stops first
    /// the call simply stays unanswered.
    AfterPersist(RecordToken, Message),
}

/// Everything one input caused.
#[must_use = "effects that are not run are lost messages and lost writes"]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// For the disk.
    pub persist: Option<Persist>,
    /// The answer to the letter just received; none: an empty [`Delivered`](super::Delivered). To be
    /// dropped where the letter was itself an answer.
    pub reply: Option<Reply>,
    /// Letters that may leave at once.
    pub send_now: Vec<Outgoing>,
    /// Letters that leave when the named write is durable.
    pub send_after_persist: Vec<(RecordToken, Outgoing)>,
    /// Ask every seed (its own seat too) and every address that the service's name resolves to, all at
    /// once and each with a deadline, and report them together as
    /// [`Founding::asked`](super::Founding::asked): silence too, but not that of an address which is
    /// certainly somebody else's. A former round may still be under way; its report does no harm.
    pub ask: Option<AskRound>,
    /// The decision is on disk: this node is in a cluster. Reported once a process, and not for a
    /// record that was found decided at the start ([`Founding::founded`](super::Founding::founded)).
    pub founded: Option<Founded>,
    /// Why the node still waits, in one sentence, whenever that has changed.
    pub waiting: Option<String>,
}
