//! Limits and tick counts of the core. The defaults stand here and nowhere else.

/// How the core behaves. All times are in ticks; the runtime decides how long a tick is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A leader sends heartbeats this often.
    pub heartbeat_ticks: u32,
    /// An election timeout is drawn anew each time from this range, both ends included (E9). The lower
    /// end is also the time for which a follower sticks to its leader (E4) and within which a leader
    /// must hear a majority (E5).
    pub election_ticks: (u32, u32),
    /// Appends to one peer that may be unanswered.
    pub inflight_appends: usize,
    /// Bytes to one peer that may be unanswered; at least one append is always allowed.
    pub inflight_bytes: u64,
    /// Bytes of entries in one append; at least one entry is always sent.
    pub append_bytes: u64,
    /// Entries in one append.
    pub append_entries: u64,
    /// Bytes of entries a leader holds uncommitted before it refuses proposals as busy.
    pub uncommitted_bytes: u64,
    /// Linearizable reads waiting at once before further ones are refused as busy.
    pub pending_reads: usize,
    /// Entries that a snapshot covers and that are kept all the same, for followers that are a little
    /// slow. Each takes four bytes of memory, and its room on the disk.
    pub trailing_entries: u64,
    /// Bytes of further entries that are kept as long as a follower that answers still needs them; zero:
    /// none are.
    pub pinned_bytes: u64,
    /// Entries that a learner may lack when it becomes a voter (M5).
    pub promote_lag: u64,
}

/// Four hundred megabytes of memory, for the log's shape.
const TRAILING_ENTRIES_MAX: u64 = 100_000_000;

/// So much can be sent within a few seconds.
const PROMOTE_LAG_MAX: u64 = 1_000_000;

impl Default for Options {
    fn default() -> Options {
        Options {
            heartbeat_ticks: 10,
            election_ticks: (50, 100),
            inflight_appends: 64,
            inflight_bytes: 8 << 20,
            append_bytes: 1 << 20,
            append_entries: 4096,
            uncommitted_bytes: 64 << 20,
            pending_reads: 1 << 16,
            trailing_entries: 10_000,
            pinned_bytes: 256 << 20,
            promote_lag: 100,
        }
    }
}

impl Options {
    /// Everything that is wrong with these options, in words for a person; empty when all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let (low, high) = self.election_ticks;
        if self.heartbeat_ticks == 0 {
            problems.push("the heartbeat must be at least one tick".to_owned());
        }
        if low > high {
            problems.push(format!("the election timeout's range {low}-{high} is upside down"));
        }
        if low < self.heartbeat_ticks.saturating_mul(2) {
            problems.push(format!(
                "the election timeout ({low} ticks) must be at least twice the heartbeat ({} ticks)",
                self.heartbeat_ticks
            ));
        }
        for (name, value) in [
            ("inflight_appends", self.inflight_appends as u64),
            ("inflight_bytes", self.inflight_bytes),
            ("append_bytes", self.append_bytes),
            ("append_entries", self.append_entries),
            ("uncommitted_bytes", self.uncommitted_bytes),
            ("pending_reads", self.pending_reads as u64),
        ] {
            if value == 0 {
                problems.push(format!("{name} must be at least one"));
            }
        }
        for (name, value, max, why) in [
            ("trailing_entries", self.trailing_entries, TRAILING_ENTRIES_MAX, "each takes memory"),
            (
                "promote_lag",
                self.promote_lag,
                PROMOTE_LAG_MAX,
                "commits wait for a voter that lacks more",
            ),
        ] {
            if value > max {
                problems.push(format!("{name} ({value}) must be at most {max}: {why}"));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_named_at_once() {
        assert_eq!(Options::default().problems(), Vec::<String>::new());
        let options = Options {
            heartbeat_ticks: 0,
            election_ticks: (9, 8),
            inflight_bytes: 0,
            pending_reads: 0,
            trailing_entries: TRAILING_ENTRIES_MAX + 1,
            promote_lag: u64::MAX,
            ..Options::default()
        };
        let problems = options.problems().join("\n");
        for word in [
            "heartbeat",
            "upside down",
            "inflight_bytes",
            "pending_reads",
            "trailing",
            "promote_lag",
        ] {
            assert!(problems.contains(word), "{word} is not in: {problems}");
        }
    }
}
