//! The log's shape: which entries exist, in which terms, and how large they are. It answers every
//! question the protocol asks about the log without touching a payload or the disk.

use std::collections::VecDeque;

use super::types::{Index, LogId, Term};

/// Invariants: `runs` is strictly increasing in both index and term; `sizes` has one element for each
/// index in `base.index + 1 ..= last().index`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogShape {
    /// The last purged entry; `LogId::ZERO` while nothing is purged.
    base: LogId,
    /// The first index of each term present, oldest first.
    runs: VecDeque<LogId>,
    /// The size of each entry, as [`Payload::size`](super::types::Payload::size) counts it.
    sizes: VecDeque<u32>,
}

impl LogShape {
    /// A log whose entries up to and including `base` are purged and which holds nothing else.
    #[must_use]
    pub fn new(base: LogId) -> LogShape {
        LogShape { base, runs: VecDeque::new(), sizes: VecDeque::new() }
    }

    /// The last entry, or the purge point if there is none.
    #[must_use]
    pub fn last(&self) -> LogId {
        match self.runs.back() {
            Some(run) => LogId { term: run.term, index: self.last_index() },
            None => self.base,
        }
    }

    /// The last purged entry.
    #[must_use]
    pub fn base(&self) -> LogId {
        self.base
    }

    /// Adds one entry behind the last.
    ///
    /// # Panics
    /// If the index leaves a gap or the term goes back (S3, S13).
    pub fn push(&mut self, id: LogId, size: u32) {
        let last = self.last();
        assert_eq!(id.index, last.index.next(), "an append leaves no gap (S3)");
        assert!(id.term >= last.term, "terms in a log never go back (S13)");
        if self.runs.back().is_none_or(|run| run.term != id.term) {
            self.runs.push_back(id);
        }
        self.sizes.push_back(size);
    }

    /// The term of an index, if the log can still tell: the purge point can, what is before it or
    /// behind the last cannot (L6).
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last_index() {
            return None;
        }
        let run = self.runs.partition_point(|run| run.index <= index);
        Some(self.runs[run - 1].term)
    }

    /// The first index that the log holds, or would hold if it is empty.
    #[must_use]
    pub fn first_index(&self) -> Index {
        self.base.index.next()
    }

    /// Whether exactly this entry is in the log, or is its purge point.
    #[must_use]
    pub fn holds(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The first entry of each term present, oldest first.
    pub fn runs(&self) -> impl Iterator<Item = LogId> + '_ {
        self.runs.iter().copied()
    }

    /// Drops everything behind an index.
    ///
    /// # Panics
    /// If that would reach into the purged prefix, which is committed (S10).
    pub fn truncate_after(&mut self, after: Index) {
        assert!(after >= self.base.index, "what is purged is committed and stays (S10)");
        while self.runs.back().is_some_and(|run| run.index > after) {
            self.runs.pop_back();
        }
        self.sizes.truncate(offset(self.base.index, after));
    }

    /// Drops everything up to and including an index, which becomes the purge point; nothing if it is
    /// purged already.
    ///
    /// # Panics
    /// If the log does not reach that far.
    pub fn purge_upto(&mut self, upto: Index) {
        if upto <= self.base.index {
            return;
        }
        let term = self.term_at(upto).expect("only what is there can be purged (S10)");
        let behind = (self.last_index() > upto).then(|| self.term_at(upto.next())).flatten();
        self.sizes.drain(..offset(self.base.index, upto));
        while self.runs.front().is_some_and(|run| run.index <= upto) {
            self.runs.pop_front();
        }
        self.base = LogId { term, index: upto };
        // The run that held `upto` may go on behind it.
        if let Some(term) = behind
            && self.runs.front().is_none_or(|run| run.term != term)
        {
            self.runs.push_front(LogId { term, index: upto.next() });
        }
    }

    /// The lowest index behind which the entries up to and including `upto` have at most so many
    /// bytes; at least the purge point.
    #[must_use]
    pub fn tail(&self, upto: Index, max_bytes: u64) -> Index {
        let (mut after, mut bytes) = (upto.max(self.base.index), 0);
        let held = offset(self.base.index, upto).min(self.sizes.len());
        for size in self.sizes.range(..held).rev() {
            bytes += u64::from(*size);
            if bytes > max_bytes {
                break;
            }
            after = after.prev();
        }
        after
    }

    /// The last log id at or below `upto` whose term is at most `term`; the purge point if there is
    /// none. Both sides of conflict back-tracking search with it (Raft §5.3, L5).
    #[must_use]
    pub fn last_at_most(&self, upto: Index, term: Term) -> LogId {
        let by_index = self.runs.partition_point(|run| run.index <= upto);
        let by_term = self.runs.partition_point(|run| run.term <= term);
        let count = by_index.min(by_term);
        let Some(run) = count.checked_sub(1).map(|at| self.runs[at]) else {
            return self.base;
        };
        let end = self.runs.get(count).map_or(self.last_index(), |next| next.index.prev());
        LogId { term: run.term, index: end.min(upto) }
    }

    /// Bytes of the entries behind `after` up to and including `upto`, as far as they are present.
    #[must_use]
    pub fn bytes(&self, after: Index, upto: Index) -> u64 {
        self.sizes_behind(after).take(offset(after.max(self.base.index), upto)).map(u64::from).sum()
    }

    /// How far the entries behind `after` go within a limit of bytes and of entries: the last index
    /// and the bytes up to it. One entry always fits, however large; none gives `after` and zero.
    #[must_use]
    pub fn fit(&self, after: Index, max_bytes: u64, max_entries: u64) -> (Index, u64) {
        let (mut upto, mut bytes) = (after, 0);
        for size in self.sizes_behind(after) {
            let with = bytes + u64::from(size);
            let entries = upto.0 - after.0;
            if entries > 0 && (with > max_bytes || entries >= max_entries) {
                break;
            }
            (upto, bytes) = (upto.next(), with);
        }
        (upto, bytes)
    }

    fn sizes_behind(&self, after: Index) -> impl Iterator<Item = u32> + '_ {
        let skip = offset(self.base.index, after).min(self.sizes.len());
        self.sizes.range(skip..).copied()
    }

    fn last_index(&self) -> Index {
        Index(self.base.index.0 + self.sizes.len() as u64)
    }
}

/// How many indices lie behind `after` up to and including `upto`.
fn offset(after: Index, upto: Index) -> usize {
    usize::try_from(upto.0.saturating_sub(after.0)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The twin: one term and one size per index, searched from end to end.
    struct Plain {
        base: LogId,
        entries: Vec<(Term, u32)>,
    }

    impl Plain {
        fn ids(&self) -> Vec<LogId> {
            let behind = self.entries.iter().enumerate().map(|(at, (term, _))| LogId {
                term: *term,
                index: Index(self.base.index.0 + 1 + at as u64),
            });
            std::iter::once(self.base).chain(behind).collect()
        }
    }

    fn both(base: LogId, steps: &[(u64, u32)]) -> (LogShape, Plain) {
        let mut shape = LogShape::new(base);
        let mut plain = Plain { base, entries: Vec::new() };
        let mut term = base.term;
        for (raise, size) in steps {
            term = Term(term.0 + raise);
            shape.push(LogId { term, index: shape.last().index.next() }, *size);
            plain.entries.push((term, *size));
        }
        (shape, plain)
    }

    proptest! {
        #[test]
        fn equals_a_plain_list(
            base in prop_oneof![Just(LogId::ZERO), Just(LogId::new(2, 7))],
            steps in prop::collection::vec((0u64..3, 1u32..50), 0..20),
            (keep, purge) in (0usize..21, 0usize..21),
            (upto, term, after) in (0u64..30, 0u64..30, 0u64..30),
            (max_bytes, max_entries) in (1u64..200, 1u64..6),
        ) {
            let (mut shape, mut plain) = both(base, &steps);
            let keep = keep.min(plain.entries.len());
            shape.truncate_after(Index(base.index.0 + keep as u64));
            plain.entries.truncate(keep);
            let purge = purge.min(plain.entries.len());
            let base = plain.ids()[purge];
            shape.purge_upto(base.index);
            plain.entries.drain(..purge);
            plain.base = base;
            let ids = plain.ids();
            prop_assert_eq!(shape.base(), base);

            prop_assert_eq!(shape.last(), *ids.last().expect("the base"));
            prop_assert_eq!(shape.runs().count(), {
                let mut terms: Vec<Term> = plain.entries.iter().map(|e| e.0).collect();
                terms.dedup();
                terms.len()
            });
            for index in 0..35 {
                let expected = ids.iter().find(|id| id.index == Index(index)).map(|id| id.term);
                prop_assert_eq!(shape.term_at(Index(index)), expected);
            }
            let hint = ids.iter().rev().find(|id| id.index.0 <= upto && id.term.0 <= term);
            prop_assert_eq!(shape.last_at_most(Index(upto), Term(term)), *hint.unwrap_or(&base));

            let size_of = |id: &LogId| plain.entries[(id.index.0 - base.index.0 - 1) as usize].1;
            let between: u64 = ids[1..]
                .iter()
                .filter(|id| id.index.0 > after && id.index.0 <= upto)
                .map(|id| u64::from(size_of(id)))
                .sum();
            prop_assert_eq!(shape.bytes(Index(after), Index(upto)), between);

            let end = Index(upto).clamp(base.index, shape.last().index);
            let tail = shape.tail(end, max_bytes);
            prop_assert!(tail >= base.index && shape.bytes(tail, end) <= max_bytes);
            if tail > base.index {
                prop_assert!(shape.bytes(tail.prev(), end) > max_bytes, "more would fit");
            }

            let after = Index(after.max(base.index.0));
            let (end, bytes) = shape.fit(after, max_bytes, max_entries);
            prop_assert_eq!(shape.bytes(after, end), bytes);
            let count = end.0 - after.0;
            prop_assert!(count <= max_entries && (bytes <= max_bytes || count == 1));
            if end < shape.last().index {
                let more = shape.bytes(after, end.next());
                prop_assert!(count == max_entries || more > max_bytes, "stopped for no reason");
            }
        }
    }

    #[test]
    #[should_panic(expected = "S3")]
    fn refuses_a_gap() {
        LogShape::default().push(LogId::new(1, 2), 1);
    }

    #[test]
    #[should_panic(expected = "S13")]
    fn refuses_a_term_that_goes_back() {
        let mut shape = LogShape::new(LogId::new(3, 7));
        shape.push(LogId::new(2, 8), 1);
    }

    #[test]
    #[should_panic(expected = "S10")]
    fn refuses_to_truncate_what_is_purged() {
        LogShape::new(LogId::new(3, 7)).truncate_after(Index(6));
    }
}
