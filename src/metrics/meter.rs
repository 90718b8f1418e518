//! Counters, gauges and histograms to be touched from any thread, without a lock.
//!
//! The library's own histogram takes a lock for each observation; these are sums of relaxed atomics, of
//! which each has one thread or two that write to it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts so many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts one more.
    pub fn one(&self) {
        self.add(1);
    }

    /// The count.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// One more.
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The value; what is counted up and down in different threads is never shown below zero.
    #[must_use]
    pub fn read(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// Upper ends of the buckets of every histogram, microseconds: from a call that is answered from memory
/// to a disk that hangs.
pub const BOUNDS_US: [u64; 16] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// How long something took, counted by [`BOUNDS_US`].
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last one has no upper end.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// A histogram as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Counts by bucket, each without those before it; the last bucket has no upper end.
    pub buckets: [u64; BOUNDS_US.len() + 1],
    /// Sum of all that was observed, seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        // 584 years fit.
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1000 < nanoseconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The counts as they are.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let mut read = Distribution::default();
        for (count, bucket) in read.buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        read.sum = Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)).as_secs_f64();
        read
    }
}

impl Distribution {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_includes_its_upper_end() {
        let histogram = Histogram::default();
        for microseconds in [0, 100, 101, 10_000_000, 10_000_001, 60_000_000] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let read = histogram.read();
        assert_eq!(read.buckets[..2], [2, 1]);
        assert_eq!(read.buckets[BOUNDS_US.len() - 1..], [1, 2]);
        assert_eq!(read.count(), 6);
        assert!((read.sum - 80.000_202).abs() < 1e-9, "{}", read.sum);
    }

    #[test]
    fn the_bounds_go_up() {
        assert!(BOUNDS_US.windows(2).all(|two| two[0] < two[1]));
    }

    #[test]
    fn what_went_down_first_is_not_shown_below_zero() {
        let gauge = Gauge::default();
        gauge.down();
        assert_eq!(gauge.read(), 0);
        gauge.up();
        gauge.up();
        assert_eq!(gauge.read(), 1);
    }
}
