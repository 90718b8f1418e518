//! What this process has done with snapshots, counted for status and metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::codec::api::SnapshotCounters;

/// Counts from any thread.
#[derive(Debug, Default)]
pub struct SnapshotMeter {
    taken: AtomicU64,
    failed: AtomicU64,
    last_ms: AtomicU64,
    last_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    installed: AtomicU64,
}

impl SnapshotMeter {
    /// A snapshot of the node's own was taken.
    pub fn taken(&self, bytes: u64, took: Duration) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(milliseconds, Ordering::Relaxed);
        self.last_bytes.store(bytes, Ordering::Relaxed);
    }

    /// A snapshot of the node's own was given up.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many of the node's own were given up.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// So many bytes of a snapshot were handed to a connection.
    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes of a snapshot arrived.
    pub fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A snapshot is here, complete.
    pub fn completed(&self, bytes: u64) {
        self.last_bytes.store(bytes, Ordering::Relaxed);
    }

    /// A leader's snapshot has replaced the state.
    pub fn installed(&self) {
        self.installed.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts as they are.
    #[must_use]
    pub fn read(&self) -> SnapshotCounters {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SnapshotCounters {
            taken: of(&self.taken),
            last_ms: of(&self.last_ms),
            last_bytes: of(&self.last_bytes),
            sent_bytes: of(&self.sent_bytes),
            received_bytes: of(&self.received_bytes),
            installed: of(&self.installed),
        }
    }
}
