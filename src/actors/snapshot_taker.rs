//! The one thread that writes this node's own snapshots, from a frozen view, while the state machine
//! goes on.
//!
//! It rests as long as it works, so that it takes at most half of a processor and of the disk from
//! the log's syncs. What when there is no room? The snapshot is given up, and tried again later; the
//! log keeps what it has.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::codec::snapshot::{self, Encoder};
use crate::kv;
use crate::raft::{ClusterId, SnapshotId, SnapshotMeta};
use crate::storage::{SnapshotFile, SnapshotHead, SnapshotStore, StorageError};

/// Bytes written between two rests.
const STINT_BYTES: usize = 1 << 20;

/// The longest rest: a disk that hangs for a while need not be waited for twice.
const REST_MAX: Duration = Duration::from_millis(100);

/// What became of a snapshot.
#[derive(Debug)]
pub enum Taking {
    /// It is durable, checked, and the current one.
    Taken {
        /// Which file.
        id: SnapshotId,
        /// From the frozen view to the durable file.
        took: Duration,
    },
    /// It was given up, or has failed.
    Failed(StorageError),
}

/// A snapshot to be written.
struct Job {
    frozen: kv::Frozen,
    meta: SnapshotMeta,
    begun: Instant,
}

/// The sending side, kept by the node. The thread ends with it, or with the process: a file that is
/// not finished has a temporary name, and the next start removes it.
pub struct Taker {
    queue: SyncSender<Job>,
}

impl Taker {
    /// Starts the thread. `report` is called on it, once for each snapshot.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        store: SnapshotStore,
        cluster: ClusterId,
        report: impl Fn(Taking) + Send + 'static,
    ) -> std::io::Result<Taker> {
        let (queue, jobs) = sync_channel::<Job>(1);
        std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            for Job { frozen, meta, begun } in jobs {
                report(match write(&store, cluster, frozen, meta) {
                    Ok(file) => Taking::Taken { id: file.id(), took: begun.elapsed() },
                    Err(error) => Taking::Failed(error),
                });
            }
        })?;
        Ok(Taker { queue })
    }

    /// Has a snapshot written.
    ///
    /// # Panics
    /// If `meta` is not of this view (D14, M6), or another snapshot is still waiting.
    pub fn take(&self, frozen: kv::Frozen, meta: SnapshotMeta) {
        let carried = snapshot::meta(&frozen);
        assert_eq!(
            carried.as_ref(),
            Some(&meta),
            "the log and the content agree on the members, and on where they stand (M6)"
        );
        match self.queue.try_send(Job { frozen, meta, begun: Instant::now() }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => panic!("one snapshot is taken at a time"),
            // The thread ends by a panic only, and the hook ends the process.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

fn write(
    store: &SnapshotStore,
    cluster: ClusterId,
    frozen: kv::Frozen,
    meta: SnapshotMeta,
) -> Result<SnapshotFile, StorageError> {
    let head = SnapshotHead { meta, cluster, state_hash: frozen.state_hash() };
    let mut writer = store.begin(&head)?;
    let (mut stint, mut begun) = (0, Instant::now());
    for piece in Encoder::new(frozen) {
        writer.write(&piece)?;
        stint += piece.len();
        if stint >= STINT_BYTES {
            rest(begun.elapsed().min(REST_MAX));
            (stint, begun) = (0, Instant::now());
        }
    }
    writer.finish()
}

/// Nobody unparks this thread, and a rest that ends early would do no harm.
fn rest(time: Duration) {
    std::thread::park_timeout(time);
}
