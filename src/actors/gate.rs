//! How much clients' work a node takes on at once. A request over the limit is refused as busy before
//! any work is done for it; peers' requests are not counted here, their windows bound them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts requests and their bytes from their arrival to their answer.
#[derive(Debug)]
pub struct Gate {
    requests_max: usize,
    bytes_max: usize,
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

/// One admitted request; gives back its share when dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    bytes: usize,
}

impl Gate {
    /// Limits on requests and on their bytes, both counted from arrival to answer.
    #[must_use]
    pub fn new(requests_max: usize, bytes_max: usize) -> Arc<Gate> {
        let (requests, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Gate { requests_max, bytes_max, requests, bytes })
    }

    /// Takes a request of this many bytes in, or does not.
    #[must_use]
    pub fn admit(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let permit = Permit { gate: Arc::clone(self), bytes };
        (requests <= self.requests_max && held <= self.bytes_max).then_some(permit)
    }

    /// Requests held now.
    #[cfg(test)]
    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
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
        let first = gate.admit(60).unwrap();
        assert!(gate.admit(41).is_none(), "over the bytes");
        let second = gate.admit(40).unwrap();
        assert!(gate.admit(0).is_none(), "over the requests");
        drop(first);
        assert!(gate.admit(60).is_some());
        drop(second);
        assert_eq!(gate.requests(), 0);
    }
}
