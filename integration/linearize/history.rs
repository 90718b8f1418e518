//! What clients did and were told.

use bytes::Bytes;

/// A moment, in nanoseconds of one monotonic clock for the whole history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A linearizable get.
    Get,
    /// A put of this value.
    Put(Bytes),
    /// A delete.
    Delete,
    /// A compare-and-swap.
    Cas {
        /// The value the key must have; none: it must not exist.
        expected: Option<Bytes>,
        /// The new value.
        value: Bytes,
    },
}

/// A key as a get saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its value.
    pub value: Bytes,
    /// The store's revision of its last change.
    pub mod_revision: u64,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a get.
    Read {
        /// The key, if it existed.
        seen: Option<Seen>,
        /// The store's revision at that moment.
        revision: u64,
    },
    /// To a write.
    Written {
        /// Whether it changed the store.
        succeeded: bool,
        /// The store's revision after it.
        revision: u64,
    },
}

/// An answer and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// When the client had it.
    pub at: Time,
    /// What it says.
    pub answer: Answer,
}

/// One operation. Writes that were refused, and so never happened, are left out by the recorder: if
/// a value of such a write is seen, it is a value nobody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who; for messages only.
    pub client: u32,
    /// On which key.
    pub key: Bytes,
    /// When the client began.
    pub call: Time,
    /// What it asked for.
    pub input: Input,
    /// `None`: the outcome is unknown. The write may happen at any time after `call`, or never.
    pub reply: Option<Reply>,
}

/// Operations in any order, on a store that was empty at revision zero before the first of them.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All of them.
    pub operations: Vec<Operation>,
}

impl Operation {
    /// The operation in one line, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        let text = |bytes: &Bytes| format!("\"{}\"", bytes.escape_ascii());
        let option = |bytes: Option<&Bytes>| bytes.map_or("none".to_owned(), text);
        let input = match &self.input {
            Input::Get => "get".to_owned(),
            Input::Put(value) => format!("put {}", text(value)),
            Input::Delete => "delete".to_owned(),
            Input::Cas { expected, value } => {
                format!("cas {} to {}", option(expected.as_ref()), text(value))
            }
        };
        let answer = match self.reply.as_ref().map(|reply| (&reply.answer, reply.at.0)) {
            None => "outcome unknown".to_owned(),
            Some((Answer::Read { seen, revision }, at)) => {
                let value = option(seen.as_ref().map(|seen| &seen.value));
                let changed = seen.as_ref().map_or(0, |seen| seen.mod_revision);
                format!("{value} of revision {changed}, store at {revision}, answered at {at}")
            }
            Some((Answer::Written { succeeded, revision }, at)) => {
                format!("succeeded: {succeeded}, store at {revision}, answered at {at}")
            }
        };
        let key = text(&self.key);
        format!("client {} called {input} on {key} at {}: {answer}", self.client, self.call.0)
    }
}
