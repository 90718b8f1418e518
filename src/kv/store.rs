//! The state machine: applies the log's commands, each once and in order (S16).

use bytes::Bytes;

use super::command::{Applied, Command, Operation, Outcome, Versioned, Write};
use super::hash::{Part, PartHasher};
use super::limits::check_operation;
use super::sessions::{Bounds, Sessions, Standing};
use super::view::{Slot, View};
use crate::raft::types::{Index, LogId};

/// Keys, values, revision and sessions after some prefix of the log. Two stores that applied the
/// same prefix are equal, whatever happened around them.
#[derive(Clone, Debug)]
pub struct Store {
    /// Its `applied` moves with every entry.
    view: View,
    /// The last entry.
    applied: LogId,
    sessions: Sessions,
    /// The sum over the map's slots.
    entries_hash: u64,
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

impl Store {
    /// The state before the first entry.
    #[must_use]
    pub fn new() -> Store {
        Store::with_bounds(Bounds::default())
    }

    pub(super) fn with_bounds(bounds: Bounds) -> Store {
        Store {
            view: View::default(),
            applied: LogId::ZERO,
            sessions: Sessions::new(bounds),
            entries_hash: 0,
        }
    }

    /// Applies the command that stands at `at`; `None` stands for bytes that hold no command this
    /// version understands.
    ///
    /// The keys and values taken over are copied, once: what a command holds are slices of the
    /// buffer it arrived in, and a small value must not keep a large buffer alive for as long as it
    /// is stored.
    ///
    /// # Panics
    /// If `at` is not the entry behind the last one applied (S16) or its term goes back (S13).
    pub fn apply(&mut self, at: LogId, command: Option<&Command>) -> Applied {
        self.skip(at);
        let outcome = match command {
            None => Outcome::Rejected,
            Some(Command::OpenSession) => {
                self.sessions.open(at.index.0);
                Outcome::Session { session: at.index.0 }
            }
            Some(Command::Write(write)) => return self.write(at, write),
        };
        applied(at, outcome)
    }

    /// Passes an entry that carries nothing for the store: a no-op, a membership.
    ///
    /// # Panics
    /// As [`apply`](Store::apply).
    pub fn skip(&mut self, at: LogId) {
        assert_eq!(at.index, self.applied.index.next(), "applied once, without a gap (S16)");
        assert!(at.term >= self.applied.term, "terms in a log never go back (S13)");
        self.applied = at;
        self.view.applied = at.index;
    }

    /// The map as it is now, for readers on any thread.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// The last index applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied.index
    }

    /// A number for the content: keys, values, revisions, sessions. Equal stores have equal hashes
    /// on every machine and in every version (S5). The applied index is no part of it, so that
    /// no-ops make no difference.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let revision = PartHasher::new(Part::Revision).numbers(self.view.revision, 0).finish();
        self.entries_hash.wrapping_add(self.sessions.hash()).wrapping_add(revision)
    }

    fn write(&mut self, at: LogId, write: &Write) -> Applied {
        match self.sessions.stand(at.index.0, write) {
            Standing::Repeated(reply) => reply,
            Standing::Expired => applied(at, Outcome::SessionExpired),
            Standing::OutOfWindow => applied(at, Outcome::SerialOutOfWindow),
            Standing::New => {
                let outcome = match check_operation(&write.operation) {
                    Ok(()) => self.carry_out(&write.operation),
                    Err(_) => Outcome::Rejected,
                };
                let reply = applied(at, outcome);
                self.sessions.record(write, &reply);
                reply
            }
        }
    }

    fn carry_out(&mut self, operation: &Operation) -> Outcome {
        let succeeded = match operation {
            Operation::Put { key, value } => {
                self.put(key, value);
                true
            }
            Operation::Delete { key } => self.delete(key),
            Operation::Cas { key, expected, value } => {
                let holds = self.view.get(key).map(|found| &found.value) == expected.as_ref();
                if holds {
                    self.put(key, value);
                }
                holds
            }
        };
        Outcome::Written { revision: self.view.revision, succeeded }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.view.revision += 1;
        let revision = self.view.revision;
        let value = Bytes::copy_from_slice(value);
        if let Some(slot) = self.view.map.get_mut(key) {
            let versioned = &mut slot.versioned;
            versioned.value = value;
            versioned.mod_revision = revision;
            versioned.version += 1;
            let hash = entry_hash(key, versioned);
            self.entries_hash = self.entries_hash.wrapping_sub(slot.hash).wrapping_add(hash);
            slot.hash = hash;
        } else {
            let versioned =
                Versioned { value, create_revision: revision, mod_revision: revision, version: 1 };
            let hash = entry_hash(key, &versioned);
            self.entries_hash = self.entries_hash.wrapping_add(hash);
            self.view.map.insert(Bytes::copy_from_slice(key), Slot { versioned, hash });
        }
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let Some(slot) = self.view.map.remove(key) else { return false };
        self.entries_hash = self.entries_hash.wrapping_sub(slot.hash);
        self.view.revision += 1;
        true
    }

    #[cfg(test)]
    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The hash of the entries, from scratch.
    #[cfg(test)]
    pub(super) fn recount(&self) -> (u64, u64) {
        let fresh = self.view.map.iter().map(|(key, slot)| entry_hash(key, &slot.versioned));
        (fresh.fold(0, u64::wrapping_add), self.entries_hash)
    }
}

fn applied(at: LogId, outcome: Outcome) -> Applied {
    Applied { index: at.index.0, term: at.term.0, outcome }
}

fn entry_hash(key: &[u8], versioned: &Versioned) -> u64 {
    PartHasher::new(Part::Entry)
        .bytes(key)
        .bytes(&versioned.value)
        .numbers(versioned.create_revision, versioned.mod_revision)
        .numbers(versioned.version, 0)
        .finish()
}
