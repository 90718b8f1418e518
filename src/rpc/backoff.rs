//! How long to wait before the next attempt: exponential, capped, jittered, seeded.
//!
//! Pure: it knows no clock. Each delay is drawn from the upper half of a doubling range ("equal
//! jitter"), so that many who lost the same peer do not come back in step, and none comes back at
//! once.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A sequence of delays.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempt: u32,
    rng: SmallRng,
}

impl Backoff {
    /// Delays from about `base`, doubling up to `max`; the same seed gives the same delays.
    #[must_use]
    pub fn new(seed: u64, base: Duration, max: Duration) -> Backoff {
        Backoff { base, max: max.max(base), attempt: 0, rng: SmallRng::seed_from_u64(seed) }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let doubled = self.base.saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX));
        let ceiling = doubled.min(self.max);
        if doubled < self.max {
            self.attempt += 1;
        }
        let half = ceiling / 2;
        let spread = u64::try_from((ceiling - half).as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(self.rng.random_range(0..=spread))
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(2);

    #[test]
    fn delays_double_within_their_halves_up_to_the_cap() {
        let mut backoff = Backoff::new(7, BASE, MAX);
        let mut ceiling = BASE;
        for _ in 0..100 {
            let delay = backoff.next_delay();
            assert!(delay >= ceiling / 2 && delay <= ceiling, "{delay:?} for {ceiling:?}");
            ceiling = (ceiling * 2).min(MAX);
        }
        backoff.reset();
        assert!(backoff.next_delay() <= BASE);
    }

    #[test]
    fn one_seed_one_sequence() {
        let delays = |seed| {
            let mut backoff = Backoff::new(seed, BASE, MAX);
            (0..20).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut backoff = Backoff::new(0, Duration::MAX, Duration::ZERO);
        for _ in 0..50 {
            assert!(backoff.next_delay() >= Duration::MAX / 2);
        }
        let mut never = Backoff::new(0, Duration::ZERO, Duration::ZERO);
        assert_eq!(never.next_delay(), Duration::ZERO);
    }
}
