//! The way back from a snapshot to a store: every rule that a store keeps is checked, and at the end
//! the sum of what was read must be the hash that the snapshot names. A snapshot proves itself.

use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use super::command::{Outcome, Versioned};
use super::frozen::SavedSession;
use super::limits::{VALUE_BYTES_MAX, Violation, check_key};
use super::sessions::Session;
use super::store::Members;
use crate::raft::membership::Membership;
use crate::raft::types::{Index, LogId, Term};

/// A rule that content breaks. No store of this program ever does: the content is damaged, or
/// somebody made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Keys come in strictly ascending byte order.
    #[error("a key is not behind the one before it")]
    KeyOrder,
    /// A key or value over its limit.
    #[error("{0}")]
    Limit(#[from] Violation),
    /// 1 ≤ create revision ≤ mod revision ≤ the store's, and no more versions than revisions between.
    #[error("the revisions or the version of a key are impossible")]
    Revisions,
    /// A session breaks a rule of the table.
    #[error("session {id}: {rule}")]
    Session {
        /// Its id.
        id: u64,
        /// Which rule.
        rule: &'static str,
    },
    /// Something in it is newer than the snapshot's last entry.
    #[error("it holds what is newer than its last entry, {last}")]
    TooNew {
        /// The snapshot's last entry.
        last: LogId,
    },
    /// The sum of what was read is not what the snapshot names.
    #[error("its hash is {found:016x} and should be {expected:016x}")]
    Hash {
        /// What the snapshot names.
        expected: u64,
        /// What was read.
        found: u64,
    },
}

/// A store in the making.
#[derive(Debug)]
pub struct Restore {
    store: Store,
    /// The newest term in a kept reply.
    term: Term,
}

impl Restore {
    /// A store with this revision and nothing in it.
    #[must_use]
    pub fn new(revision: u64) -> Restore {
        let mut store = Store::new();
        store.view.revision = revision;
        Restore { store, term: Term::default() }
    }

    /// Adds the next key. Key and value are kept as they are: they must not be slices of something
    /// larger.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn entry(&mut self, key: Bytes, versioned: Versioned) -> Result<(), Unsound> {
        check_key(&key)?;
        if versioned.value.len() > VALUE_BYTES_MAX {
            return Err(Violation::ValueTooLong { length: versioned.value.len() }.into());
        }
        if self.store.view.map.get_max().is_some_and(|(last, _)| *last >= key) {
            return Err(Unsound::KeyOrder);
        }
        let Versioned { create_revision: create, mod_revision: changed, version, .. } = versioned;
        let sound = 1 <= create && create <= changed && changed <= self.store.view.revision;
        if !sound || version == 0 || version - 1 > changed - create {
            return Err(Unsound::Revisions);
        }
        self.store.insert(key, versioned);
        Ok(())
    }

    /// Adds the next session.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn session(&mut self, saved: SavedSession) -> Result<(), Unsound> {
        let SavedSession { id, touched, answered_below, replies } = saved;
        for (_, reply) in &replies {
            self.term = self.term.max(Term(reply.term));
            let sound = match reply.outcome {
                Outcome::Written { revision, .. } => revision <= self.store.view.revision,
                Outcome::Rejected => true,
                // Nothing was executed, and nothing kept.
                Outcome::Session { .. } | Outcome::SessionExpired | Outcome::SerialOutOfWindow => {
                    false
                }
            };
            if !sound {
                return Err(Unsound::Session { id, rule: "such a reply is never kept" });
            }
        }
        let session = Session { touched, answered_below, replies: replies.into() };
        let restored = self.store.sessions.restore(id, session);
        restored.map_err(|rule| Unsound::Session { id, rule })
    }

    /// The store as of `last`, if the sum of it all is `expected`.
    ///
    /// # Errors
    /// If it is not, or something in it is newer than `last`.
    pub fn finish(
        self,
        last: LogId,
        membership_index: Index,
        membership: Arc<Membership>,
        expected: u64,
    ) -> Result<Store, Unsound> {
        let Restore { mut store, term } = self;
        let newest = Index(store.sessions.last_use()).max(membership_index);
        // A revision is one write, and a write is one entry.
        if newest.max(Index(store.view.revision)) > last.index || term > last.term {
            return Err(Unsound::TooNew { last });
        }
        store.applied = last;
        store.view.applied = last.index;
        store.members = Some(Members::new(membership_index, membership));
        let found = store.state_hash();
        if found == expected { Ok(store) } else { Err(Unsound::Hash { expected, found }) }
    }
}
