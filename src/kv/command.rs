//! What the log carries for the state machine, and what the state machine answers.
//!
//! These types are also the arguments and replies of `Kv.Write` and `Kv.OpenSession`: a server
//! proposes the bytes it received, so that a value is not copied on its way to the disk. They
//! therefore evolve as wire formats do: named fields, new ones with a default.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One command of the replicated state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Registers a session; its id is the index of this entry (dissertation 6.3).
    OpenSession,
    /// A write inside a session.
    Write(Write),
}

/// A write and its place in its session (S18, C1, C2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The session, as returned by its registration.
    pub session: u64,
    /// This write's number within the session, from 1; a retry repeats it.
    pub serial: u64,
    /// The client has the answers to all serials below this one and will never repeat them.
    pub answered_below: u64,
    /// What to do.
    pub operation: Operation,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Sets a key if its present value is as expected. A condition that does not hold is a
    /// successful operation with `succeeded: false` (C7).
    Cas {
        /// The key.
        key: Bytes,
        /// The value it must have; `None`: it must not exist.
        expected: Option<Bytes>,
        /// Its new value.
        value: Bytes,
    },
}

/// What a command did. The bytes of a repeated write's reply are identical to the first's (S18).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Index of the entry that carried the command.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened to a command. Every outcome is deterministic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The session is registered.
    Session {
        /// Its id.
        session: u64,
    },
    /// The write was carried out.
    Written {
        /// The store's revision after it. It grows by one with every write that changed the store.
        revision: u64,
        /// Put: true. Delete: whether the key existed. Compare-and-swap: whether the condition
        /// held.
        succeeded: bool,
    },
    /// The session is unknown or has expired; nothing was executed (C1).
    SessionExpired,
    /// The serial is outside the session's window or was answered long ago; nothing was executed.
    SerialOutOfWindow,
    /// The entry holds no command this version understands, or one over a limit; nothing was
    /// executed. Servers check before they propose, so only a fault of theirs leads here.
    Rejected,
}

/// A key's value and its history in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// The store's revision when the key was created.
    pub create_revision: u64,
    /// The store's revision of its last change.
    pub mod_revision: u64,
    /// Changes since it was created, from 1.
    pub version: u64,
}
