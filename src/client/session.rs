//! A session: which writes of this client are under way, so that the cluster can tell a repetition
//! from a new write (C1, C2).
//!
//! Every write has a serial. As long as it may be repeated it is *outstanding*. The lowest outstanding
//! serial goes along as `answered_below`: the cluster may forget all replies below it. A serial whose
//! outcome stays unknown is given up, never used again, and no longer holds the mark back: should a
//! late copy of it arrive afterwards, it is refused as long answered, or was carried out once before.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::kv::limits::SERIAL_WINDOW;

/// A registered session.
#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    serials: Mutex<Serials>,
    /// Rung when the mark moves.
    moved: Notify,
}

/// One write's place in its session, held as long as the write may be repeated.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    session: &'a Session,
    pub(super) serial: u64,
    pub(super) answered_below: u64,
}

#[derive(Debug)]
struct Serials {
    next: u64,
    outstanding: BTreeSet<u64>,
}

impl Session {
    pub(super) fn new(id: u64) -> Session {
        let serials = Mutex::new(Serials { next: 1, outstanding: BTreeSet::new() });
        Session { id, serials, moved: Notify::new() }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The next serial, as soon as the window has room for it.
    pub(super) async fn ticket(&self) -> Ticket<'_> {
        loop {
            // Registered before the look, so that no move in between is missed.
            let moved = self.moved.notified();
            if let Some((serial, answered_below)) = self.serials().begin() {
                return Ticket { session: self, serial, answered_below };
            }
            moved.await;
        }
    }

    fn serials(&self) -> MutexGuard<'_, Serials> {
        self.serials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.session.serials().end(self.serial) {
            self.session.moved.notify_waiters();
        }
    }
}

impl Serials {
    fn answered_below(&self) -> u64 {
        self.outstanding.first().copied().unwrap_or(self.next)
    }

    fn begin(&mut self) -> Option<(u64, u64)> {
        let serial = self.next;
        if serial >= self.answered_below() + SERIAL_WINDOW {
            return None;
        }
        self.next += 1;
        self.outstanding.insert(serial);
        let below = self.answered_below();
        assert!(below <= serial, "C2: serial {serial} is outstanding, yet answered below {below}");
        Some((serial, below))
    }

    /// True if the mark moved.
    fn end(&mut self, serial: u64) -> bool {
        let before = self.answered_below();
        let was = self.outstanding.remove(&serial);
        assert!(was, "C2: serial {serial} ended twice");
        self.answered_below() > before
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_mark_follows_the_lowest_outstanding_serial() {
        let session = Session::new(9);
        let take = || session.ticket().now_or_never().expect("there is room");
        let (one, two, three) = (take(), take(), take());
        assert_eq!((one.serial, two.serial, three.serial), (1, 2, 3));
        assert_eq!(three.answered_below, 1);
        drop(two);
        assert_eq!(take().answered_below, 1);
        drop(one);
        assert_eq!(take().answered_below, 3);
        drop(three);
        let last = take();
        assert_eq!((last.serial, last.answered_below), (6, 6));
    }

    #[test]
    fn the_window_is_never_passed() {
        let session = Session::new(9);
        let mut held: Vec<_> =
            (0..SERIAL_WINDOW).map(|_| session.ticket().now_or_never().expect("room")).collect();
        let mut waiting = Box::pin(session.ticket());
        assert!(waiting.as_mut().now_or_never().is_none());
        // Only the lowest one holds the others back.
        held.pop();
        assert!(waiting.as_mut().now_or_never().is_none());
        held.remove(0);
        let next = waiting.now_or_never().expect("the mark has moved");
        assert_eq!(next.serial, SERIAL_WINDOW + 1);
        assert_eq!(next.answered_below, 2);
    }
}
