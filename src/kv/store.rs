//! The state machine: applies the log's commands, each once and in order (S16).

use std::sync::Arc;

use bytes::Bytes;

use super::command::{Applied, Command, Operation, Outcome, Versioned, Write};
use super::frozen::Frozen;
use super::hash::{Part, PartHasher};
use super::limits::check_operation;
use super::sessions::{Bounds, Sessions, Standing};
use super::view::{Slot, View};
use crate::raft::membership::Membership;
use crate::raft::types::{Index, LogId};

/// Keys, values, revision, sessions and members after some prefix of the log. Two stores that applied the
/// same prefix are equal, whatever happened around them.
#[derive(Clone, Debug)]
pub struct Store {
    /// Its `applied` moves with every entry.
    pub(super) view: View,
    /// The last entry.
    pub(super) applied: LogId,
    pub(super) sessions: Sessions,
    /// The last membership applied; none before the first.
    pub(super) members: Option<Members>,
    /// The sum over the map's slots.
    entries_hash: u64,
}

/// A membership as of its entry. It is a part of the content, so that two nodes that took different
/// members from one log can be told (S5).
#[derive(Clone, Debug)]
pub(super) struct Members {
    pub(super) index: Index,
    pub(super) membership: Arc<Membership>,
    hash: u64,
}

impl Members {
    pub(super) fn new(index: Index, membership: Arc<Membership>) -> Members {
        let hash = membership_hash(index, &membership);
        Members { index, membership, hash }
    }
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
            members: None,
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

    /// Applies the membership that stands at `at`.
    ///
    /// # Panics
    /// As [`apply`](Store::apply).
    pub fn apply_membership(&mut self, at: LogId, membership: &Arc<Membership>) {
        self.skip(at);
        self.members = Some(Members::new(at.index, Arc::clone(membership)));
    }

    /// Passes an entry that carries nothing for the store: a no-op.
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

    /// Everything as it is now, in constant time, for a snapshot that another thread writes.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        Frozen {
            view: self.view.clone(),
            applied: self.applied,
            sessions: self.sessions.by_id(),
            members: self.members.clone(),
            state_hash: self.state_hash(),
        }
    }

    /// How many sessions the table holds.
    #[must_use]
    pub fn sessions_held(&self) -> usize {
        self.sessions.len()
    }

    /// The last index applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied.index
    }

    /// A number for the content: keys, values, revisions, sessions, and the members with the index
    /// of their entry. Equal stores have equal hashes on every machine and in every version (S5).
    /// The applied index is no part of it, so that no-ops make no difference.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let revision = PartHasher::new(Part::Revision).numbers(self.view.revision, 0).finish();
        let members = self.members.as_ref().map_or(0, |members| members.hash);
        let sums = self.entries_hash.wrapping_add(self.sessions.hash());
        sums.wrapping_add(revision).wrapping_add(members)
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
            self.view.bytes += value.len() as u64;
            self.view.bytes -= versioned.value.len() as u64;
            versioned.value = value;
            versioned.mod_revision = revision;
            versioned.version += 1;
            let hash = entry_hash(key, versioned);
            self.entries_hash = self.entries_hash.wrapping_sub(slot.hash).wrapping_add(hash);
            slot.hash = hash;
        } else {
            let versioned =
                Versioned { value, create_revision: revision, mod_revision: revision, version: 1 };
            self.insert(Bytes::copy_from_slice(key), versioned);
        }
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, key: Bytes, versioned: Versioned) {
        let hash = entry_hash(&key, &versioned);
        self.entries_hash = self.entries_hash.wrapping_add(hash);
        self.view.bytes += (key.len() + versioned.value.len()) as u64;
        let former = self.view.map.insert(key, Slot { versioned, hash });
        assert!(former.is_none(), "the sum counts each key once");
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let Some(slot) = self.view.map.remove(key) else { return false };
        self.entries_hash = self.entries_hash.wrapping_sub(slot.hash);
        self.view.bytes -= (key.len() + slot.versioned.value.len()) as u64;
        self.view.revision += 1;
        true
    }

    #[cfg(test)]
    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The bytes of the entries, from scratch.
    #[cfg(test)]
    pub(super) fn weigh(&self) -> u64 {
        let entries = self.view.map.iter();
        entries.map(|(key, slot)| (key.len() + slot.versioned.value.len()) as u64).sum()
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

/// Covers every field, in order.
fn membership_hash(index: Index, membership: &Membership) -> u64 {
    let Membership { members, voters, outgoing, retired } = membership;
    let mut hasher =
        PartHasher::new(Part::Membership).numbers(index.0, 0).numbers(members.len() as u64, 0);
    for (id, member) in members {
        hasher = hasher.numbers(id.0, 1).bytes(member.name.as_bytes());
        hasher = hasher.bytes(member.address.as_bytes());
    }
    for (tag, ids) in [(2, voters), (3, outgoing)] {
        hasher = ids.iter().fold(hasher, |hasher, id| hasher.numbers(id.0, tag));
    }
    for name in retired {
        hasher = hasher.numbers(0, 4).bytes(name.as_bytes());
    }
    hasher.finish()
}

fn entry_hash(key: &[u8], versioned: &Versioned) -> u64 {
    PartHasher::new(Part::Entry)
        .bytes(key)
        .bytes(&versioned.value)
        .numbers(versioned.create_revision, versioned.mod_revision)
        .numbers(versioned.version, 0)
        .finish()
}
