//! What waits to be written on one connection, and the loop that writes it.
//!
//! Frames are queued from any thread; the connection's task takes everything queued and hands it to
//! TLS in one go, so that many small frames share a record and a system call. Small bodies are copied
//! behind one another, large ones are queued as they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::frame::Head;
use super::wire::Encoded;

#[derive(Debug, Default)]
struct Queue {
    /// Whole frames, in pieces.
    pieces: VecDeque<Bytes>,
    /// Small frames behind the pieces.
    tail: BytesMut,
    /// Nothing more will be queued.
    ended: bool,
}

/// Frames waiting to be written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Bytes queued and not yet accepted by TLS.
    bytes: AtomicUsize,
    /// The same of all connections that share a limit.
    total: Arc<AtomicUsize>,
    wake: Notify,
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.total.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// Pieces handed to one vectored write.
const SLICES: usize = 64;

impl Outbox {
    /// An outbox whose bytes count towards `total`.
    pub(super) fn counted(total: Arc<AtomicUsize>) -> Outbox {
        Outbox { queue: Mutex::default(), bytes: AtomicUsize::new(0), total, wake: Notify::new() }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        // Nothing below panics between two changes that belong together.
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Queues a frame. False if the outbox has ended, and the frame will never be written.
    pub(super) fn push(&self, head: &Head, body: Encoded<'_>) -> bool {
        let mut queue = self.queue();
        if queue.ended {
            return false;
        }
        let before = queue.tail.len();
        head.write(body.len(), &mut queue.tail);
        let added = queue.tail.len() - before + body.len();
        match body {
            Encoded::Small(bytes) => queue.tail.extend_from_slice(bytes),
            Encoded::Large(bytes) => {
                let head = queue.tail.split().freeze();
                queue.pieces.push_back(head);
                queue.pieces.push_back(bytes);
            }
        }
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.total.fetch_add(added, Ordering::Relaxed);
        drop(queue);
        self.wake.notify_one();
        true
    }

    /// Nothing more will be queued; the writer ends when it has written what there is.
    pub(super) fn end(&self) {
        self.queue().ended = true;
        self.wake.notify_one();
    }

    /// Bytes queued and not yet accepted by TLS.
    pub(super) fn queued(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes queued on all connections that share a limit with this one.
    pub(super) fn queued_in_all(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Everything queued, as soon as there is anything; `None` once ended and empty.
    async fn take(&self) -> Option<VecDeque<Bytes>> {
        loop {
            {
                let mut queue = self.queue();
                if !queue.tail.is_empty() {
                    let tail = queue.tail.split().freeze();
                    queue.pieces.push_back(tail);
                }
                if !queue.pieces.is_empty() {
                    return Some(std::mem::take(&mut queue.pieces));
                }
                if queue.ended {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Writes whatever is queued until the outbox has ended and is empty, then closes the write side.
    /// `progress` is called whenever the peer has taken something.
    ///
    /// # Errors
    /// `TimedOut` if the peer takes nothing for `stall`, else what the connection reports. What was
    /// half written poisons the stream, so the caller must close the connection (A4).
    pub(super) async fn write_to<W: AsyncWrite + Unpin>(
        &self,
        stream: &mut W,
        stall: Duration,
        progress: impl Fn(),
    ) -> io::Result<()> {
        while let Some(mut pieces) = self.take().await {
            while !pieces.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut used = 0;
                for (slice, piece) in slices.iter_mut().zip(&pieces) {
                    *slice = IoSlice::new(piece);
                    used += 1;
                }
                let written = timeout(stall, stream.write_vectored(&slices[..used]))
                    .await
                    .map_err(stalled)??;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.bytes.fetch_sub(written, Ordering::Relaxed);
                self.total.fetch_sub(written, Ordering::Relaxed);
                consume(&mut pieces, written);
                progress();
            }
            timeout(stall, stream.flush()).await.map_err(stalled)??;
        }
        timeout(stall, stream.shutdown()).await.map_err(stalled)?
    }
}

fn stalled(_: tokio::time::error::Elapsed) -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Removes the first `written` bytes.
fn consume(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = pieces.front_mut() {
        if first.len() > written {
            first.advance(written);
            return;
        }
        written -= first.len();
        pieces.pop_front();
    }
}
