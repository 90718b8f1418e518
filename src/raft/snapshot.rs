//! What the core knows of snapshots (Raft §7): up to where one reaches and who the members are there,
//! never what is in it; and how far the log behind it may be purged.
//!
//! A snapshot of one's own is taken by the runtime, when it likes, of what is applied
//! ([`Node::snapshot_at`] says what it must carry), and reported when
//! it is durable. A snapshot from the leader is moved by the runtime; only when a follower holds all of
//! it, checked, does its core hear of it, as a [`Message::Install`](super::message::Message::Install),
//! and decides.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::effects::Effects;
use super::log_shape::LogShape;
use super::membership::Membership;
use super::node::{Node, Role};
use super::options::Options;
use super::types::{Index, LogId};

/// Names one snapshot file: two files of one name hold the same bytes, so that a transfer which broke
/// off can be taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotId {
    /// The last entry whose effect it holds.
    pub last: LogId,
    /// Bytes of the whole file.
    pub bytes: u64,
    /// CRC-32C of the whole file.
    pub crc: u32,
}

/// What every snapshot carries besides the state: written into its file, and read from there (D14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry whose effect the snapshot holds.
    pub last: LogId,
    /// The members as of that entry.
    pub membership: Arc<Membership>,
    /// Where the entry of that membership stood: its own index, at most the snapshot's (M6).
    pub membership_index: Index,
}

impl SnapshotMeta {
    /// Whether it can have been written by a node of this program.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let membership = &self.membership;
        self.membership_index <= self.last.index
            && self.membership_index > Index::ZERO
            && !membership.voters.is_empty()
            && membership
                .voters
                .iter()
                .chain(&membership.outgoing)
                .all(|id| membership.contains(*id))
    }
}

impl Node {
    /// What a snapshot of the state machine as it is must carry, if it has applied up to `applied`.
    /// None: a snapshot that was installed meanwhile is newer, and this one not worth taking.
    ///
    /// # Panics
    /// If that is more than the core was told to be applied ([`Node::applied`]).
    #[must_use]
    pub fn snapshot_at(&self, applied: Index) -> Option<SnapshotMeta> {
        assert!(applied <= self.common.applied(), "a snapshot holds what is applied (S6)");
        let term = self.common.log.term_at(applied)?;
        let last = LogId { term, index: applied };
        (last.index > self.common.snapshot().index).then(|| self.common.snapshot_at(last))
    }

    /// A snapshot with this last entry, taken here, is durable, checked and can be read, its directory
    /// entry included (D13). What it covers may be purged as far as nobody needs it.
    ///
    /// # Panics
    /// If it is not of this log, or holds more than is applied.
    pub fn snapshot_taken(&mut self, last: LogId) -> Effects {
        if last.index > self.common.snapshot().index {
            self.common.set_snapshot(last);
            match &self.role {
                Role::Leader(leader) => leader.purge(&mut self.common, true),
                _ => self.common.purge(std::iter::empty(), true),
            }
        }
        self.finish()
    }
}

/// Up to where a log behind a snapshot may be purged: the newest entries of the snapshot are kept for
/// followers that are a little slow (`trailing_entries`), and so is what a follower that is being
/// caught up will need next (`pins`), the latter only within `pinned_bytes`, so that a follower that
/// never catches up cannot fill the disk.
pub(super) fn purge_point(
    log: &LogShape,
    snapshot: Index,
    options: &Options,
    pins: impl Iterator<Item = Index>,
) -> Index {
    let want = Index(snapshot.0.saturating_sub(options.trailing_entries));
    match pins.min() {
        Some(pin) if pin < want && want > log.base().index => {
            pin.max(log.tail(want, options.pinned_bytes))
        }
        _ => want,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(base: u64, last: u64) -> LogShape {
        let mut log = LogShape::new(LogId::new(1, base));
        for index in base + 1..=last {
            log.push(LogId::new(1, index), 100);
        }
        log
    }

    fn point(log: &LogShape, snapshot: u64, pins: &[u64]) -> u64 {
        let options = Options { trailing_entries: 10, pinned_bytes: 1000, ..Options::default() };
        purge_point(log, Index(snapshot), &options, pins.iter().copied().map(Index)).0
    }

    #[test]
    fn the_newest_entries_and_what_is_needed_stay() {
        let log = log(0, 60);
        assert_eq!(point(&log, 50, &[]), 40, "trailing entries stay");
        assert_eq!(point(&log, 5, &[]), 0, "there is nothing to purge yet");
        assert_eq!(point(&log, 50, &[45, 60]), 40, "nobody needs what is behind the trailing ones");
        assert_eq!(point(&log, 50, &[35, 60]), 35, "a follower still needs 36");
        assert_eq!(point(&log, 50, &[3]), 30, "at most a thousand bytes are pinned");
    }

    #[test]
    fn what_is_purged_does_not_come_back() {
        let log = log(45, 60);
        assert_eq!(point(&log, 50, &[3]), 40, "no more than is wanted without a pin");
    }
}
