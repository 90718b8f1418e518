//! The log's shape: which entries exist, in which terms, and how large they are. It answers every
//! question the protocol asks about the log without touching a payload or the disk.

use std::collections::VecDeque;

use super::types::{Index, LogId};

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
    pub fn term_at(&self, index: Index) -> Option<super::types::Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last_index() {
            return None;
        }
        let run = self.runs.partition_point(|run| run.index <= index);
        Some(self.runs[run - 1].term)
    }

    fn last_index(&self) -> Index {
        Index(self.base.index.0 + self.sizes.len() as u64)
    }
}
