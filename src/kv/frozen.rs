//! All of a store at one moment. It takes constant time to make, whatever is applied afterwards does
//! not change it, and it goes to any thread: a snapshot is written from it while the store goes on.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use super::command::{Applied, Versioned};
use super::sessions::Session;
use super::store::Members;
use super::view::View;
use crate::raft::membership::Membership;
use crate::raft::types::{Index, LogId};

/// See the module.
#[derive(Clone, Debug)]
pub struct Frozen {
    pub(super) view: View,
    pub(super) applied: LogId,
    /// Without the order of their use, which follows from them.
    pub(super) sessions: OrdMap<u64, Session>,
    pub(super) members: Option<Members>,
    pub(super) state_hash: u64,
}

/// A session as a snapshot holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSession {
    /// The session's id: the index of the entry that registered it.
    pub id: u64,
    /// Log index of the last entry that named it.
    pub touched: u64,
    /// The client has the answers to all serials below.
    pub answered_below: u64,
    /// Kept replies by serial, in order.
    pub replies: Vec<(u64, Applied)>,
}

impl Frozen {
    /// The last entry whose effect it holds.
    #[must_use]
    pub fn applied(&self) -> LogId {
        self.applied
    }

    /// The content's hash ([`Store::state_hash`](super::Store::state_hash)).
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.state_hash
    }

    /// The members as of the last entry, and where the entry of that membership stood; none if the log
    /// has said nothing of members yet.
    #[must_use]
    pub fn membership(&self) -> Option<(Index, &Arc<Membership>)> {
        self.members.as_ref().map(|members| (members.index, &members.membership))
    }

    /// The store's revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.view.revision
    }

    /// The map.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The keys behind this one, in byte order; with none, all of them.
    pub fn entries_after(
        &self,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&Bytes, &Versioned)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.view.map.range::<_, [u8]>((from, Bound::Unbounded));
        slots.map(|(key, slot)| (key, &slot.versioned))
    }

    /// The sessions behind this id, in order.
    pub fn sessions_after(&self, after: u64) -> impl Iterator<Item = SavedSession> {
        self.sessions.range((Bound::Excluded(after), Bound::Unbounded)).map(|(id, session)| {
            SavedSession {
                id: *id,
                touched: session.touched,
                answered_below: session.answered_below,
                replies: session.replies.iter().cloned().collect(),
            }
        })
    }
}
