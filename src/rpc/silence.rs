//! Whether a peer has fallen silent. A machine without power, a paused container or a cut network answers
//! nothing and resets nothing, so that a connection to it stays up for minutes, and with it whoever waits
//! for that peer to come back, perhaps at another address. A call that times out alone proves little: it
//! may be slow. So everything that arrives counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const NEVER: u64 = u64::MAX;

/// What is heard on one connection.
#[derive(Debug)]
pub(super) struct Silence {
    limit: Duration,
    /// How often something arrived.
    heard: AtomicU64,
    /// The first call that timed out since something arrived: how often that was, and when it was made.
    unanswered: Mutex<Option<(u64, Instant)>>,
    /// How often something had arrived when a sign of life was asked for last; `NEVER` if it was not.
    asked: AtomicU64,
    /// How often something had arrived when the silence became too long; `NEVER` if it did not.
    long: AtomicU64,
}

impl Silence {
    /// Of a connection on which nobody should wait in vain for longer than this.
    pub(super) fn new(limit: Duration) -> Silence {
        let never = || AtomicU64::new(NEVER);
        let (heard, unanswered) = (AtomicU64::new(0), Mutex::new(None));
        Silence { limit, heard, unanswered, asked: never(), long: never() }
    }

    /// Something arrived, whatever it is.
    pub(super) fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// What a call remembers when it is made.
    pub(super) fn now(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// A call that was made at `begun`, with `heard` as it was then, has timed out. Whether nothing has
    /// arrived for too long although somebody waited for it.
    pub(super) fn unanswered(&self, heard: u64, begun: Instant) -> bool {
        if heard != self.now() {
            return false;
        }
        let mut first = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match *first {
            Some((before, since)) if before == heard => since,
            _ => begun,
        };
        *first = Some((heard, since));
        let long = since.elapsed() >= self.limit;
        if long {
            self.long.store(heard, Ordering::Relaxed);
        }
        long
    }

    /// Nothing has arrived since `heard`, and somebody waits: whether a sign of life has been asked for since
    /// then. The first one who waits asks for all.
    pub(super) fn is_asked_for(&self, heard: u64, ask: impl FnOnce() -> bool) -> bool {
        if self.asked.swap(heard, Ordering::Relaxed) == heard {
            return true;
        }
        let asked = ask();
        if !asked {
            self.asked.store(NEVER, Ordering::Relaxed);
        }
        asked
    }

    /// The sign of life that was asked for has not come in time. Whether nothing else has either, since
    /// `heard`.
    pub(super) fn fell(&self, heard: u64) -> bool {
        let silent = heard == self.now();
        if silent {
            self.long.store(heard, Ordering::Relaxed);
        }
        silent
    }

    /// Whether there is such a silence, and nothing has arrived since.
    pub(super) fn is_long(&self) -> bool {
        self.long.load(Ordering::Relaxed) == self.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_ends_with_the_first_thing_that_arrives() {
        let silence = Silence::new(Duration::ZERO);
        let (heard, begun) = (silence.now(), Instant::now());
        assert!(!silence.is_long());
        assert!(silence.unanswered(heard, begun) && silence.is_long());
        silence.heard();
        assert!(!silence.is_long(), "the peer is there again");
        assert!(!silence.unanswered(heard, begun), "something has arrived since that call");
    }

    #[test]
    fn one_of_those_who_wait_asks_for_all() {
        let silence = Silence::new(Duration::ZERO);
        let heard = silence.now();
        assert!(!silence.is_asked_for(heard, || false), "there was no room");
        assert!(silence.is_asked_for(heard, || true));
        assert!(silence.is_asked_for(heard, || unreachable!("it has been asked")));
        assert!(silence.fell(heard) && silence.is_long());
        silence.heard();
        assert!(!silence.fell(heard) && !silence.is_long());
        let mut again = false;
        assert!(silence.is_asked_for(silence.now(), || {
            again = true;
            true
        }));
        assert!(again, "another silence is another question");
    }
}
