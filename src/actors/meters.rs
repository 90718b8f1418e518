//! What the actors count, from any thread. The transport counts in [`rpc::Meter`](crate::rpc::Meter),
//! snapshots in [`SnapshotMeter`](super::snapshot_meter::SnapshotMeter), writes under way in the
//! [`Gate`](super::gate::Gate). Nothing here is read by anything but the collector of metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::metrics::{Counter, Histogram};
use crate::raft::{LogId, NodeId, SoftState, Term};
use crate::storage::{Batch, LogReader, LogStore, Seen, StorageError};

use super::disk_thread::Backlog;
use super::messages::Lane;

/// See the module.
#[derive(Default)]
pub struct Meters {
    /// Syncs of the log.
    pub wal_fsync: Histogram,
    /// Batches applied.
    pub apply: Histogram,
    /// Writes, from their arrival to their commitment.
    pub commit: Histogram,
    /// Entries learnt to be committed.
    pub committed: Counter,
    /// Entries applied.
    pub applied: Counter,
    /// Sessions in the store.
    pub sessions: AtomicU64,
    /// Leaderships learnt of.
    pub leader_changes: Counter,
    /// The newest one.
    led: Mutex<Option<(NodeId, Term)>>,
    /// What waits for the disk thread, once there is one.
    pub backlog: ArcSwapOption<Backlog>,
    peers: Mutex<BTreeMap<NodeId, Weak<PeerMeter>>>,
}

/// What a replicator notes of its peer.
#[derive(Debug, Default)]
pub struct PeerMeter {
    control: AtomicBool,
    bulk: AtomicBool,
    /// Zero: none was measured on the connection that is up.
    rtt_ns: AtomicU64,
}

impl Meters {
    /// What the node now knows of who leads. Called when that changes, which is seldom enough for a lock.
    pub fn standing(&self, soft_state: &SoftState) {
        let Some(leader) = soft_state.leader else { return };
        let mut led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        if led.replace((leader, soft_state.term)) != Some((leader, soft_state.term)) {
            self.leader_changes.one();
        }
    }

    /// A meter for a new line to this peer, which lives as long as its line.
    #[must_use]
    pub fn peer(&self, id: NodeId) -> Arc<PeerMeter> {
        let meter = Arc::<PeerMeter>::default();
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, meter| meter.strong_count() > 0);
        peers.insert(id, Arc::downgrade(&meter));
        meter
    }

    /// The meter of the newest line to this peer, if there is one.
    #[must_use]
    pub fn of_peer(&self, id: NodeId) -> Option<Arc<PeerMeter>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).get(&id)?.upgrade()
    }
}

impl PeerMeter {
    /// One of the two lasting connections is up, or is not.
    pub fn connected(&self, lane: Lane, up: bool) {
        match lane {
            Lane::Control => {
                self.control.store(up, Ordering::Relaxed);
                self.rtt_ns.store(0, Ordering::Relaxed);
            }
            Lane::Bulk => self.bulk.store(up, Ordering::Relaxed),
        }
    }

    /// A heartbeat was answered after so long. Smoothed as TCP does it (RFC 6298 section 2): an eighth
    /// of each new one.
    pub fn answered(&self, took: Duration) {
        let new = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let smooth = match self.rtt_ns.load(Ordering::Relaxed) {
            0 => new,
            old => old - old / 8 + new / 8,
        };
        self.rtt_ns.store(smooth, Ordering::Relaxed);
    }

    /// Whether both connections are up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.control.load(Ordering::Relaxed) && self.bulk.load(Ordering::Relaxed)
    }

    /// How long the peer takes to answer, if it was measured.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        match self.rtt_ns.load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }
}

/// A log whose syncs are measured.
pub struct TimedLog<L> {
    /// The log.
    pub log: L,
    /// Where they are counted.
    pub meters: Arc<Meters>,
}

impl<L: LogStore> LogStore for TimedLog<L> {
    fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.log.append(batch)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let begun = Instant::now();
        let synced = self.log.sync();
        self.meters.wal_fsync.observe(begun.elapsed());
        synced
    }

    fn reader(&self) -> Box<dyn LogReader> {
        self.log.reader()
    }

    fn note_seen(&mut self, seen: &BTreeMap<NodeId, Seen>) {
        self.log.note_seen(seen);
    }

    fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        self.log.purge(upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::RoleKind;

    #[test]
    fn a_leadership_counts_once() {
        let meters = Meters::default();
        let led = |term, leader: Option<u64>| {
            let leader = leader.map(NodeId);
            meters.standing(&SoftState { role: RoleKind::Follower, term: Term(term), leader });
            meters.leader_changes.read()
        };
        assert_eq!(led(1, None), 0);
        assert_eq!(led(1, Some(7)), 1);
        assert_eq!(led(1, Some(7)), 1, "it was heard again");
        assert_eq!(led(2, None), 1);
        assert_eq!(led(2, Some(8)), 2);
        assert_eq!(led(3, None), 2);
        assert_eq!(led(3, Some(8)), 3, "the same node, elected again");
    }

    #[test]
    fn a_peer_is_connected_by_both_lanes_and_forgets_its_times_with_the_first() {
        let meters = Meters::default();
        let peer = meters.peer(NodeId(1));
        peer.connected(Lane::Control, true);
        assert!(!peer.is_connected());
        peer.connected(Lane::Bulk, true);
        assert!(meters.of_peer(NodeId(1)).unwrap().is_connected());
        assert_eq!(peer.rtt(), None);
        peer.answered(Duration::from_millis(8));
        assert_eq!(peer.rtt(), Some(Duration::from_millis(8)));
        peer.answered(Duration::from_millis(16));
        assert_eq!(peer.rtt(), Some(Duration::from_millis(9)));
        peer.connected(Lane::Control, false);
        assert_eq!((peer.is_connected(), peer.rtt()), (false, None));
        drop(peer);
        assert!(meters.of_peer(NodeId(1)).is_none(), "its line has ended");
        let _other = meters.peer(NodeId(2));
        assert_eq!(meters.peers.lock().unwrap().len(), 1, "nothing is kept of lines that ended");
    }
}
