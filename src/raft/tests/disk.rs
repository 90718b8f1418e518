//! A disk with two sides: what is *written* (handed over, readable, lost in a crash) and what is
//! *durable*. Beside its log each side keeps the whole history of that log, purged or not, which no real
//! disk has: it is what a state machine that applied all of it would hold, so that a snapshot here is
//! that history, and the oracle can compare nodes however much they have purged.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::super::{
    Entry, HardState, Index, LogId, LogShape, Membership, NodeId, Payload, Persist, PersistToken,
    Seen, SnapshotMeta,
};

/// A fingerprint of an entry and everything before it.
pub(super) type Chain = u64;

fn link(before: Chain, entry: &Entry) -> Chain {
    let mut hasher = DefaultHasher::new();
    (before, entry.id, format!("{:?}", entry.payload)).hash(&mut hasher);
    hasher.finish()
}

/// Every entry there ever was in a log, with its fingerprint; from index 1.
pub(super) type History = Vec<(LogId, Chain)>;

/// Snapshots by their last entry: two of the same entry hold the same.
pub(super) type Snapshots = BTreeMap<LogId, (SnapshotMeta, History)>;

/// A node's table of what it saw.
pub(super) type SeenOfAll = Arc<BTreeMap<NodeId, Seen>>;

/// One side of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimLog {
    pub(super) history: History,
    /// Entries that are purged.
    purged: usize,
    entries: Vec<Entry>,
    pub(super) snapshot: Option<SnapshotMeta>,
    /// The highest index it ever held.
    pub(super) reached: Index,
}

impl SimLog {
    /// What it holds, oldest first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn base(&self) -> LogId {
        self.purged.checked_sub(1).map_or(LogId::ZERO, |at| self.history[at].0)
    }

    pub(super) fn last(&self) -> LogId {
        self.history.last().map_or(LogId::ZERO, |(id, _)| *id)
    }

    /// Whether this entry is part of its history.
    pub(super) fn holds(&self, id: LogId) -> bool {
        id == LogId::ZERO || self.history.get(id.index.0 as usize - 1).is_some_and(|it| it.0 == id)
    }

    /// The entries behind an index, up to and including another. None: some are purged, or not there.
    pub(super) fn read(&self, after: Index, upto: Index) -> Option<Vec<Entry>> {
        let from = (after.0 as usize).checked_sub(self.purged)?;
        self.entries.get(from..upto.0 as usize - self.purged).map(<[Entry]>::to_vec)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.id.index.0, self.history.len() as u64 + 1, "a gap on disk (S3)");
        let before = self.history.last().map_or(0, |(_, chain)| *chain);
        self.history.push((entry.id, link(before, &entry)));
        self.reached = self.reached.max(entry.id.index);
        self.entries.push(entry);
    }

    pub(super) fn truncate(&mut self, after: Index) {
        let after = after.0 as usize;
        assert!(after >= self.purged, "what is purged is committed (S10)");
        self.history.truncate(after);
        self.entries.truncate(after - self.purged);
    }

    pub(super) fn purge(&mut self, upto: Index) {
        let count = upto.0 as usize - self.purged;
        self.entries.drain(..count);
        self.purged += count;
    }

    fn install(&mut self, snapshot: &SnapshotMeta, snapshots: &Snapshots) {
        assert!(!self.holds(snapshot.last), "a log that holds a snapshot's end stays (L8)");
        let (_, history) = &snapshots[&snapshot.last];
        self.history.clone_from(history);
        self.purged = history.len();
        self.reached = self.reached.max(snapshot.last.index);
        self.entries.clear();
        self.snapshot = Some(snapshot.clone());
    }

    /// Carries out a batch.
    pub(super) fn apply(&mut self, batch: &Persist, snapshots: &Snapshots) {
        if let Some(snapshot) = &batch.install {
            self.install(snapshot, snapshots);
        }
        if let Some(after) = batch.truncate_after {
            self.truncate(after);
        }
        for entry in &batch.entries {
            self.push(entry.clone());
        }
    }

    pub(super) fn shape(&self) -> LogShape {
        let mut shape = LogShape::new(self.base());
        for entry in &self.entries {
            shape.push(entry.id, entry.payload.size());
        }
        shape
    }

    pub(super) fn memberships(&self) -> Vec<(Index, Membership)> {
        let membership = |entry: &Entry| match &entry.payload {
            Payload::Membership(it) => Some((entry.id.index, Membership::clone(it))),
            _ => None,
        };
        self.entries.iter().filter_map(membership).collect()
    }

    /// Every membership it holds, that of the snapshot included, oldest first.
    pub(super) fn all_memberships(&self) -> Vec<(Index, Membership)> {
        let snapshot = self.snapshot.iter();
        let snapshot = snapshot.map(|it| (it.membership_index, Membership::clone(&it.membership)));
        let mut all: Vec<_> = snapshot.chain(self.memberships()).collect();
        all.sort_by_key(|(at, _)| *at);
        all.dedup_by_key(|(at, _)| *at);
        all
    }
}

/// One node's disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimDisk {
    pub(super) hard_state: HardState,
    pub(super) durable: SimLog,
    pub(super) written: SimLog,
    pub(super) queue: VecDeque<Persist>,
    /// What was seen of the members: written, on its way with a hard state, durable.
    pub(super) noted: SeenOfAll,
    pub(super) seen_in: Vec<(PersistToken, SeenOfAll)>,
    pub(super) seen: SeenOfAll,
}
