//! Linearizable reads without a log entry (dissertation 6.4; R1).
//!
//! A read is answered with the commit index once a quorum has confirmed, by answering a heartbeat that
//! was sent after the read arrived, that its leader still led. Reads wait for a *round*; all reads
//! that arrive while a round is under way share the next one. Rounds are numbered by the leader and by
//! nothing that a caller could repeat.

use std::collections::VecDeque;

use super::effects::ReadToken;
use super::message::ReadRound;
use super::types::Index;

/// Reads that one round will confirm.
#[derive(Clone, Debug)]
struct Round {
    round: ReadRound,
    /// The commit index when the round began, which was after each of its reads arrived.
    index: Index,
    tokens: Vec<ReadToken>,
}

/// Invariant: `under_way` has growing rounds, the newest at most `newest`.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    newest: ReadRound,
    /// Arrived, but in no round yet.
    waiting: Vec<ReadToken>,
    under_way: VecDeque<Round>,
}

impl Reads {
    /// The newest round; every heartbeat carries it.
    pub(super) fn newest(&self) -> ReadRound {
        self.newest
    }

    /// Reads not answered yet.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.under_way.iter().map(|round| round.tokens.len()).sum::<usize>()
    }

    pub(super) fn arrive(&mut self, token: ReadToken) {
        self.waiting.push(token);
    }

    /// Whether reads wait and no round is under way, so that one should begin at once.
    pub(super) fn idle(&self) -> bool {
        self.under_way.is_empty() && !self.waiting.is_empty()
    }

    /// Begins a round for the reads that wait, if there are any. False: there are none.
    pub(super) fn begin(&mut self, commit: Index) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        self.newest = ReadRound(self.newest.0 + 1);
        let tokens = std::mem::take(&mut self.waiting);
        self.under_way.push_back(Round { round: self.newest, index: commit, tokens });
        true
    }

    /// A quorum has answered heartbeats of this round or later ones: the reads that this confirms,
    /// each with its index.
    pub(super) fn confirm(&mut self, round: ReadRound) -> Vec<(ReadToken, Index)> {
        let mut confirmed = Vec::new();
        while self.under_way.front().is_some_and(|first| first.round <= round) {
            let Some(first) = self.under_way.pop_front() else { break };
            confirmed.extend(first.tokens.into_iter().map(|token| (token, first.index)));
        }
        confirmed
    }

    /// All reads, in the order of their arrival; for a leader that steps down.
    pub(super) fn into_tokens(self) -> impl Iterator<Item = ReadToken> {
        self.under_way.into_iter().flat_map(|round| round.tokens).chain(self.waiting)
    }
}
