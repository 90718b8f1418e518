//! The simulator's own model of a log: one stamp an entry, each of which stands for the whole prefix up
//! to it. It shares nothing with the storage under test, whose contents are compared with it at every
//! start.

use std::sync::Arc;

use balsa::raft::{Entry, HardState, Index, LogId, LogShape, Membership, Payload, Persist, Term};

use super::trace::{hash_bytes, mix};

/// An entry's term, and a hash of it and of everything before it (S3: the prefix chain).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    pub term: Term,
    pub chain: u64,
}

/// A log and the hard state beside it.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    pub hard_state: HardState,
    /// The last entry that is purged.
    base: Index,
    base_stamp: Stamp,
    stamps: Vec<Stamp>,
    /// The highest index it ever held.
    pub reached: Index,
    /// The memberships in the log, and the snapshot's, oldest first.
    pub memberships: Vec<(Index, Arc<Membership>)>,
}

impl Stamp {
    /// The stamp of an entry behind this one.
    pub fn then(self, entry: &Entry) -> Stamp {
        let payload = match &entry.payload {
            Payload::Noop => 1,
            Payload::Command(bytes) => hash_bytes(2, bytes),
            Payload::Membership(membership) => hash_bytes(3, format!("{membership:?}").as_bytes()),
        };
        let term = entry.id.term;
        Stamp { term, chain: mix(mix(self.chain, term.0), payload) }
    }
}

impl Mirror {
    /// The index of the last entry.
    pub fn last_index(&self) -> Index {
        Index(self.base.0 + self.stamps.len() as u64)
    }

    /// The last entry.
    pub fn last(&self) -> LogId {
        let term = self.stamps.last().unwrap_or(&self.base_stamp).term;
        LogId { term, index: self.last_index() }
    }

    /// The stamp at an index; none if it is purged or not there.
    pub fn stamp(&self, index: Index) -> Option<Stamp> {
        match index.0.checked_sub(self.base.0)? {
            0 => Some(self.base_stamp),
            at => self.stamps.get(usize::try_from(at - 1).ok()?).copied(),
        }
    }

    /// Whether everything up to this entry is there, by the log or by a snapshot that covers it.
    pub fn holds(&self, index: Index, stamp: Stamp) -> bool {
        index < self.base || self.stamp(index) == Some(stamp)
    }

    /// Drops what is behind `after`.
    fn truncate_after(&mut self, after: Index) {
        let keep = after.0.checked_sub(self.base.0).expect("a truncation is within the log (S10)");
        self.stamps.truncate(usize::try_from(keep).expect("a small log"));
        self.memberships.retain(|(at, _)| *at <= after);
    }

    /// Takes a batch. `installed` is the stamp of the snapshot's last entry, if it brings one.
    pub fn apply(&mut self, batch: &Persist, installed: Option<Stamp>) {
        if let Some(hard_state) = batch.hard_state {
            self.hard_state = hard_state;
        }
        if let (Some(meta), Some(stamp)) = (&batch.install, installed) {
            self.base = meta.last.index;
            self.base_stamp = stamp;
            self.stamps.clear();
            self.memberships = vec![(meta.membership_index, Arc::clone(&meta.membership))];
        }
        if let Some(after) = batch.truncate_after {
            self.truncate_after(after);
        }
        self.reached = self.reached.max(self.base);
        for entry in &batch.entries {
            self.reached = self.reached.max(entry.id.index);
            let before = *self.stamps.last().unwrap_or(&self.base_stamp);
            self.stamps.push(before.then(entry));
            if let Payload::Membership(membership) = &entry.payload {
                self.memberships.push((entry.id.index, Arc::clone(membership)));
            }
        }
    }

    /// Drops everything up to and including `upto`, and the memberships that are older than the newest
    /// one up to there.
    pub fn purge(&mut self, upto: Index) {
        if upto <= self.base {
            return;
        }
        self.base_stamp = self.stamp(upto).expect("a purge point is within the log (S6)");
        let gone = usize::try_from(upto.0 - self.base.0).expect("a small log");
        self.stamps.drain(..gone);
        self.base = upto;
        let old = self.memberships.partition_point(|(at, _)| *at <= upto);
        self.memberships.drain(..old.saturating_sub(1));
    }

    /// Takes over what another one holds, into the room there is.
    pub fn copy_from(&mut self, other: &Mirror) {
        self.hard_state = other.hard_state;
        self.base = other.base;
        self.base_stamp = other.base_stamp;
        self.reached = other.reached;
        self.stamps.clone_from(&other.stamps);
        self.memberships.clone_from(&other.memberships);
    }

    /// Compares with what a start found. A store may keep more of the prefix than it must.
    pub fn compare(&self, hard_state: HardState, shape: &LogShape) {
        assert_eq!(self.hard_state, hard_state, "the log brings back what was synced last (S7)");
        assert_eq!(self.last(), shape.last(), "the log brings back every synced entry");
        assert!(shape.base().index <= self.base, "nothing is purged before it may be");
        for at in self.base.0 + 1..=self.last_index().0 {
            let here = self.stamp(Index(at)).map(|stamp| stamp.term);
            assert_eq!(here, shape.term_at(Index(at)), "the entry at {at} is the one written");
        }
    }
}
