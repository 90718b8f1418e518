//! The hashes of the newest applied indexes, so that nodes can compare their content as of one index,
//! and never "about now" (S5).

use std::collections::VecDeque;

use crate::raft::types::Index;

/// How many indexes are remembered, at most.
pub const HISTORY_MAX: usize = 4096;

/// What was the content's hash as of each of the newest indexes. What when full? The oldest is
/// forgotten.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The newest index noted.
    last: Index,
    /// The hashes up to it, oldest first.
    hashes: VecDeque<u64>,
    /// The index last asked for, kept beyond the others: the verdict on it comes later.
    asked: Option<(Index, u64)>,
}

impl History {
    /// Notes the hash after the entry at `index`. Where that is not the next one (after a snapshot was
    /// installed) the history begins anew.
    pub fn note(&mut self, index: Index, hash: u64) {
        if index != self.last.next() {
            self.hashes.clear();
            self.asked = None;
        }
        if self.hashes.len() == HISTORY_MAX {
            self.hashes.pop_front();
        }
        self.last = index;
        self.hashes.push_back(hash);
    }

    /// The newest index noted; zero if there is none.
    #[must_use]
    pub fn last(&self) -> Index {
        self.last
    }

    /// The hash as of this index, if it is known.
    #[must_use]
    pub fn at(&self, index: Index) -> Option<u64> {
        if let Some((asked, hash)) = self.asked
            && asked == index
        {
            return Some(hash);
        }
        let back = usize::try_from(self.last.0.checked_sub(index.0)?).ok()?;
        self.hashes.get(self.hashes.len().checked_sub(back + 1)?).copied()
    }

    /// As [`at`](History::at); what is answered is kept until the next question.
    pub fn ask(&mut self, index: Index) -> Option<u64> {
        let hash = self.at(index)?;
        self.asked = Some((index, hash));
        Some(hash)
    }
}
