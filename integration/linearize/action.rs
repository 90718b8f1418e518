//! What an operation does to the value of its key, with values as numbers.

use std::collections::HashMap;

use bytes::Bytes;

use super::history::{Answer, Input, Operation};

/// A value of the key, as a number.
pub(super) type Value = u32;
/// The key does not exist.
pub(super) const ABSENT: Value = 0;
/// Some value that is mentioned nowhere but in its own write: which one makes no difference.
pub(super) const UNSEEN: Value = 1;
/// The first value that makes a difference.
pub(super) const FIRST: Value = 2;

/// An operation with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Read(Value),
    Put(Value),
    /// With whether the key existed, if known.
    Delete(Option<bool>),
    /// With whether the condition held, if known.
    Cas {
        expected: Value,
        new: Value,
        held: Option<bool>,
    },
    /// An answer that no store gives: a put that did not succeed.
    Impossible,
}

impl Action {
    /// The value after it, if it can happen at this value.
    pub(super) fn step(self, value: Value) -> Option<Value> {
        match self {
            Action::Read(seen) => (seen == value).then_some(value),
            Action::Put(new) => Some(new),
            Action::Delete(None) => Some(ABSENT),
            Action::Delete(Some(existed)) => (existed == (value != ABSENT)).then_some(ABSENT),
            Action::Cas { expected, new, held } => {
                let holds = value == expected;
                let fits = held.is_none_or(|held| held == holds);
                fits.then_some(if holds { new } else { value })
            }
            Action::Impossible => None,
        }
    }

    /// The value it needs to find, if there is just one.
    pub(super) fn sees(self) -> Option<Value> {
        match self {
            Action::Read(value) => Some(value),
            Action::Delete(Some(false)) => Some(ABSENT),
            Action::Cas { expected, held: Some(true), .. } => Some(expected),
            _ => None,
        }
    }

    /// Whether it leaves every value as it is. Such an operation may have its place as soon as it
    /// fits. (A put of the value that is there may not: it may be needed for its effect later.)
    pub(super) fn only_looks(self) -> bool {
        match self {
            Action::Read(_) | Action::Delete(Some(false)) => true,
            Action::Cas { expected, new, held } => {
                held == Some(false) || held == Some(true) && expected == new
            }
            _ => false,
        }
    }

    pub(super) fn writes(self) -> Option<Value> {
        match self {
            Action::Put(new) | Action::Cas { new, .. } => Some(new),
            _ => None,
        }
    }
}

/// Numbers all values; those that are mentioned once, where they are written, get [`UNSEEN`].
pub(super) fn number_values<'a>(operations: &[&'a Operation]) -> HashMap<&'a Bytes, Value> {
    let mut mentions: HashMap<&Bytes, (u32, bool)> = HashMap::new();
    for operation in operations {
        let (written, looked_for) = match &operation.input {
            Input::Get => (None, None),
            Input::Put(value) => (Some(value), None),
            Input::Delete => (None, None),
            Input::Cas { expected, value } => (Some(value), expected.as_ref()),
        };
        let seen = match operation.reply.as_ref().map(|reply| &reply.answer) {
            Some(Answer::Read { seen: Some(seen), .. }) => Some(&seen.value),
            _ => None,
        };
        for (value, is_written) in [(written, true), (looked_for, false), (seen, false)] {
            if let Some(value) = value {
                let (count, only_written) = mentions.entry(value).or_insert((0, true));
                *count += 1;
                *only_written &= is_written;
            }
        }
    }
    let mut next = FIRST;
    let number = |(value, (count, only_written))| {
        if count == 1 && only_written {
            return (value, UNSEEN);
        }
        next += 1;
        (value, next - 1)
    };
    mentions.into_iter().map(number).collect()
}

pub(super) fn action(operation: &Operation, values: &HashMap<&Bytes, Value>) -> Action {
    let number = |value: Option<&Bytes>| value.map_or(ABSENT, |value| values[value]);
    let succeeded = operation.reply.as_ref().map(|reply| match (&operation.input, &reply.answer) {
        (Input::Get, Answer::Read { .. }) => true,
        (Input::Put(_) | Input::Delete | Input::Cas { .. }, Answer::Written { succeeded, .. }) => {
            *succeeded
        }
        _ => panic!("an answer to something else: {}", operation.describe()),
    });
    match &operation.input {
        Input::Get => match operation.reply.as_ref().map(|reply| &reply.answer) {
            Some(Answer::Read { seen, .. }) => {
                Action::Read(number(seen.as_ref().map(|seen| &seen.value)))
            }
            _ => Action::Read(ABSENT),
        },
        Input::Put(_) if succeeded == Some(false) => Action::Impossible,
        Input::Put(value) => Action::Put(number(Some(value))),
        Input::Delete => Action::Delete(succeeded),
        Input::Cas { expected, value } => {
            let expected = number(expected.as_ref());
            Action::Cas { expected, new: number(Some(value)), held: succeeded }
        }
    }
}
