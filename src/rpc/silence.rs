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
    /// How often something had arrived when the silence became too long; `NEVER` if it did not.
    long: AtomicU64,
}

impl Silence {
    /// Of a connection on which nobody should wait in vain for longer than this.
    pub(super) fn new(limit: Duration) -> Silence {
        let (heard, unanswered, long) =
            (AtomicU64::new(0), Mutex::new(None), AtomicU64::new(NEVER));
        Silence { limit, heard, unanswered, long }
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

    /// Whether there is such a silence, and nothing has arrived since.
    pub(super) fn is_long(&self) -> bool {
        self.long.load(Ordering::Relaxed) == self.now()
    }
}

/// Listens on a connection on which calls may rightly wait for long, a write to a leader without a quorum for
/// one: when nothing comes, a sign of life is asked for, and only if that does not come either, nobody is there.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// How often something had arrived at the last look.
    heard: u64,
    /// Looks since then at which somebody waited and nothing had come.
    quiet: u32,
    /// At which of them a sign of life was asked for.
    asked: Option<u32>,
}

impl Listening {
    /// Looks in a [`Limits::silence`](super::Limits::silence).
    pub(super) const LOOKS: u32 = 6;

    /// Looks without anything after which a sign of life is asked for.
    const QUIET: u32 = 2;

    /// Bytes that may still be on their way at each further look: the question comes behind them. A line that
    /// carries less, 128 KiB a second by default, is as good as none.
    const BYTES: usize = 32 << 10;

    /// Looks once: how often something has arrived, and how many bytes were sent that wait for an answer, if
    /// anybody waits. `ask` asks for a sign of life; false if it could not. True: there is nobody.
    pub(super) fn look(
        &mut self,
        heard: u64,
        waiting: Option<usize>,
        ask: impl FnOnce() -> bool,
    ) -> bool {
        let Some(bytes) = waiting.filter(|_| heard == self.heard) else {
            *self = Listening { heard, ..Listening::default() };
            return false;
        };
        self.quiet += 1;
        match self.asked {
            Some(at) => {
                let on_their_way = u32::try_from(bytes / Self::BYTES).unwrap_or(u32::MAX);
                self.quiet - at >= (Self::LOOKS - Self::QUIET).saturating_add(on_their_way)
            }
            None => {
                if self.quiet >= Self::QUIET && ask() {
                    self.asked = Some(self.quiet);
                }
                false
            }
        }
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
    fn a_sign_of_life_is_asked_for_before_somebody_is_given_up() {
        let (mut listening, asked) = (Listening::default(), std::cell::Cell::new(0));
        let mut look = |heard: u64, waiting: Option<usize>, room: bool| {
            let ask = || {
                asked.set(asked.get() + u32::from(room));
                room
            };
            listening.look(heard, waiting, ask)
        };
        for _ in 0..20 {
            assert!(!look(7, None, true), "nobody waits");
        }
        for heard in 8..20 {
            assert!(!look(heard, Some(9), true), "something comes");
        }
        assert_eq!(asked.get(), 0, "so nothing needs to be asked");
        for _ in 0..20 {
            assert!(!look(20, Some(9), false), "nothing is proved without a question");
        }
        let mut looks = 1;
        while !look(20, Some(9), true) {
            looks += 1;
        }
        assert_eq!((asked.get(), looks), (1, Listening::LOOKS - Listening::QUIET + 1));
        assert!(!look(21, Some(9), true), "it lives");
        let ended = (2..20).find(|_| look(21, Some(9), true));
        assert_eq!((asked.get(), ended), (2, Some(Listening::LOOKS + 1)));
    }

    #[test]
    fn what_is_on_its_way_has_time_to_arrive() {
        let looks = |bytes: usize| {
            let mut listening = Listening::default();
            (1..).find(|_| listening.look(0, Some(bytes), || true))
        };
        assert_eq!(looks(100), Some(Listening::LOOKS));
        assert_eq!(looks(1 << 20), Some(Listening::LOOKS + 32));
    }
}
