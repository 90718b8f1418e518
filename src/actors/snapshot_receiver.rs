//! Takes snapshots from a leader: one thread writes the pieces of one file at a time, in order, checks
//! the whole when it is there, and says so. What a leader's snapshot may do is the core's to decide,
//! with the install that follows.
//!
//! What when full? [`QUEUE_MAX`] pieces wait for the thread; further ones are refused as busy and come
//! again. Without room on the disk they are refused as such, and the node goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::codec::api::{Code, Refusal};
use crate::codec::peer::{Chunk, ChunkReply};
use crate::raft::{Index, SnapshotId, SnapshotMeta};
use crate::rpc::Responder;
use crate::storage::{Incoming, SnapshotFile, SnapshotStore, StorageError};

use super::fatal;
use super::standing::Standing;

/// Pieces that may wait; more than one sender has in flight.
const QUEUE_MAX: usize = 64;

/// A handle to the thread; clones are the same.
#[derive(Clone)]
pub struct Receiver {
    queue: SyncSender<(Chunk, Responder)>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The last index of the newest received snapshot that is being installed, or zero: it must not be
    /// replaced meanwhile.
    installing: AtomicU64,
    /// The snapshot that arrived last and is complete.
    arrived: Mutex<Option<SnapshotMeta>>,
}

impl Receiver {
    /// Starts the thread. It ends with the last handle.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(store: SnapshotStore, standing: Arc<Standing>) -> std::io::Result<Receiver> {
        let (queue, pieces) = sync_channel::<(Chunk, Responder)>(QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let mut writer = Writer { store, standing, shared: Arc::clone(&shared), incoming: None };
        std::thread::Builder::new().name("snapshot-in".to_owned()).spawn(move || {
            for (chunk, reply) in pieces {
                match writer.take(&chunk) {
                    Ok(answer) => reply.send(&answer),
                    Err(refusal) => reply.refuse(refusal),
                }
            }
        })?;
        Ok(Receiver { queue, shared })
    }

    /// Hands a piece over, or a question.
    pub fn take(&self, chunk: Chunk, reply: Responder) {
        match self.queue.try_send((chunk, reply)) {
            Ok(()) => {}
            Err(TrySendError::Full((_, reply)) | TrySendError::Disconnected((_, reply))) => {
                reply.refuse(Refusal::new(Code::Busy, "too many pieces wait for the disk"));
            }
        }
    }

    /// Whether this snapshot is here, complete and checked, or was and is installed.
    #[must_use]
    pub fn holds(&self, snapshot: &SnapshotMeta) -> bool {
        self.shared.arrived().as_ref() == Some(snapshot)
    }

    /// The installation of the snapshot that ends here has been handed to the disk. While one is under
    /// way no other snapshot is received.
    pub fn installing(&self, last: Index) {
        self.shared.installing.fetch_max(last.0, Ordering::SeqCst);
    }

    /// The installation of the snapshot that ends here is durable; a newer one may still be under way.
    pub fn installed(&self, last: Index) {
        let done = |newest| (newest <= last.0).then_some(0);
        // An error says that a newer one is.
        let _ = self.shared.installing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, done);
    }
}

impl Shared {
    fn arrived(&self) -> MutexGuard<'_, Option<SnapshotMeta>> {
        // Nothing panics while the lock is held.
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    store: SnapshotStore,
    standing: Arc<Standing>,
    shared: Arc<Shared>,
    incoming: Option<(SnapshotId, Incoming)>,
}

impl Writer {
    fn take(&mut self, chunk: &Chunk) -> Result<ChunkReply, Refusal> {
        let id = chunk.snapshot;
        // Not what safety rests on, which is the core's judgement of the install: it only spares the
        // disk the work of a leader that is none any more.
        if chunk.term < self.standing.present().soft_state.term {
            let why = format!("the sender's term, {}, is over", chunk.term);
            return Err(Refusal::new(Code::Unavailable, why));
        }
        if let Some(file) = self.complete(id) {
            return Ok(self.arrived(&file));
        }
        let (_, incoming) = match &mut self.incoming {
            Some(known) if known.0 == id => known,
            other => {
                if self.shared.installing.load(Ordering::SeqCst) > 0 {
                    let why = "another snapshot is being installed here; try again";
                    return Err(Refusal::new(Code::Unavailable, why));
                }
                // Closed before the next one takes its place.
                *other = None;
                let incoming = self.store.receive(id).map_err(refusal)?;
                tracing::info!(
                    from = %chunk.from,
                    last = %id.last,
                    bytes = id.bytes,
                    begins_at = incoming.next(),
                    "a snapshot arrives"
                );
                other.insert((id, incoming))
            }
        };
        let mut next = incoming.next();
        if !chunk.data.is_empty() && chunk.offset == next {
            let bytes = chunk.data.len() as u64;
            if bytes > id.bytes - next || crc32c::crc32c(&chunk.data) != chunk.crc {
                let why = format!("the piece at {next} is damaged, or longer than its snapshot");
                return Err(Refusal::new(Code::BadRequest, why));
            }
            match incoming.write(next, &chunk.data) {
                Ok(reached) => next = reached,
                Err(error) => {
                    self.incoming = None;
                    return Err(refusal(error));
                }
            }
            self.standing.snapshots.received(bytes);
        }
        match self.incoming.take_if(|_| next == id.bytes) {
            Some((_, incoming)) => {
                let file = incoming.finish().map_err(refusal)?;
                Ok(self.arrived(&file))
            }
            None => Ok(ChunkReply { next, complete: false }),
        }
    }

    /// The file, if it is here already: its install has not come yet, or its answer was lost.
    fn complete(&self, id: SnapshotId) -> Option<SnapshotFile> {
        let current = || self.store.current().filter(|file| file.id() == id);
        self.store.received(id).or_else(current)
    }

    fn arrived(&self, file: &SnapshotFile) -> ChunkReply {
        let mut arrived = self.shared.arrived();
        if arrived.as_ref() != Some(&file.head().meta) {
            let id = file.id();
            tracing::info!(last = %id.last, bytes = id.bytes, "snapshot received and checked");
            self.standing.snapshots.completed(id.bytes);
            *arrived = Some(file.head().meta.clone());
        }
        ChunkReply { next: file.id().bytes, complete: true }
    }
}

/// What the sender hears. Whatever is wrong with the file is its affair; whatever is wrong with this
/// disk ends the process.
fn refusal(error: StorageError) -> Refusal {
    match &error {
        StorageError::NoSpace { .. } => Refusal::new(Code::NoSpace, error.to_string()),
        StorageError::UnsoundSnapshot { .. }
        | StorageError::Foreign { .. }
        | StorageError::NewerFormat { .. } => {
            tracing::error!("a snapshot that was sent here is not taken: {error}");
            Refusal::new(Code::BadRequest, error.to_string())
        }
        _ => fatal::storage(&error),
    }
}
