//! How much clients' work a node takes on at once. A request over the limit is refused as busy before
//! any work is done for it; peers' requests are not counted here, their windows bound them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::{Counter, Gauge};

/// Counts requests and their bytes from their arrival to their answer.
#[derive(Debug)]
pub struct Gate {
    requests_max: usize,
    bytes_max: usize,
    requests: AtomicUsize,
    bytes: AtomicUsize,
    /// Of the requests, those that write; for metrics.
    writes: Gauge,
    /// Writes that were not carried out after all, or whose outcome is unknown.
    failed: Counter,
}

/// One admitted request; gives back its share when dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    bytes: usize,
    writes: bool,
}

impl Gate {
    /// Limits on requests and on their bytes, both counted from arrival to answer.
    #[must_use]
    pub fn new(requests_max: usize, bytes_max: usize) -> Arc<Gate> {
        let (requests, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (writes, failed) = (Gauge::default(), Counter::default());
        Arc::new(Gate { requests_max, bytes_max, requests, bytes, writes, failed })
    }

    /// Takes a request of this many bytes in, or does not.
    #[must_use]
    pub fn admit(self: &Arc<Self>, bytes: usize, writes: bool) -> Option<Permit> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if writes {
            self.writes.up();
        }
        let permit = Permit { gate: Arc::clone(self), bytes, writes };
        (requests <= self.requests_max && held <= self.bytes_max).then_some(permit)
    }

    /// Writes held now, and how many failed so far.
    #[must_use]
    pub fn writes(&self) -> (u64, u64) {
        (self.writes.read(), self.failed.read())
    }

    /// Requests held now.
    #[cfg(test)]
    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// What was asked for has not happened, or nobody can tell.
    pub fn note_failure(&self) {
        if self.writes {
            self.gate.failed.one();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.writes {
            self.gate.writes.down();
        }
        self.gate.requests.fetch_sub(1, Ordering::Relaxed);
        self.gate.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_a_refused_request_gives_back_what_it_took() {
        let gate = Gate::new(2, 100);
        let first = gate.admit(60, true).unwrap();
        assert!(gate.admit(41, true).is_none(), "over the bytes");
        let second = gate.admit(40, false).unwrap();
        assert!(gate.admit(0, false).is_none(), "over the requests");
        assert_eq!(gate.writes(), (1, 0));
        first.note_failure();
        second.note_failure();
        drop(first);
        assert_eq!(gate.writes(), (0, 1), "reads are not counted");
        assert!(gate.admit(60, false).is_some());
        drop(second);
        assert_eq!(gate.requests(), 0);
    }
}
