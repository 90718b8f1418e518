//! What the disk has been asked to hold, and what it is known to hold.
//!
//! The core works ahead of its disk: term, vote and entries count in memory at once and leave as
//! batches, which complete in order. Whatever depends on a batch names its token (S17). A node that
//! crashes loses a suffix of its batches and no message that depended on one of them has left, so
//! working ahead looks from outside like a slow node, never like a forgetful one.

use std::collections::VecDeque;

use super::effects::{Persist, PersistToken};
use super::snapshot::SnapshotMeta;
use super::types::{Entry, HardState, Index, Term};

/// What must be durable before a message leaves, besides the term it carries (correctness 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Only the term.
    Term,
    /// The vote.
    Vote,
    /// The entries up to and including this index.
    Entries(Index),
}

/// One batch that has not completed.
#[derive(Clone, Debug)]
struct Batch {
    token: PersistToken,
    hard_state: Option<HardState>,
    /// A snapshot that this batch installs.
    install: Option<SnapshotMeta>,
    /// How far the log *as it is now* is durable once this batch completes. A later truncation lowers
    /// it, so that the completion of a batch whose tail was rewritten meanwhile proves nothing about
    /// the new tail (the ABA race of asynchronous storage).
    upto: Index,
    /// The highest index it writes, whatever becomes of it.
    reach: Index,
}

/// Invariants: tokens of `batches` grow by one up to `issued`; `persisted` and every `upto` are at
/// most the log's last index, and the newest of them equals it.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    issued: PersistToken,
    batches: VecDeque<Batch>,
    durable: HardState,
    persisted: Index,
    /// The highest index that was ever durable, and may have been acknowledged, truncated or not.
    reached: Index,
    /// Ticks since the oldest batch was handed over or another one completed.
    waiting: u32,
    /// The batch of the present input, open until the input ends.
    open: Option<Persist>,
    /// A snapshot that is durable since the last look.
    installed: Option<SnapshotMeta>,
}

impl Disk {
    /// A disk that holds everything there is, and once held entries up to `reached`.
    pub(super) fn new(durable: HardState, persisted: Index, reached: Index) -> Disk {
        Disk {
            issued: PersistToken(0),
            batches: VecDeque::new(),
            durable,
            persisted,
            reached: reached.max(persisted),
            waiting: 0,
            open: None,
            installed: None,
        }
    }

    /// The durable term and vote.
    pub(super) fn durable(&self) -> HardState {
        self.durable
    }

    /// The last durable index of the log as it is now.
    pub(super) fn persisted(&self) -> Index {
        self.persisted
    }

    /// The highest index that was ever durable, truncated or not.
    pub(super) fn reached(&self) -> Index {
        self.reached
    }

    /// The index up to which the log is durable once everything asked for is done: its last index.
    pub(super) fn asked_upto(&self) -> Index {
        self.batches.back().map_or(self.persisted, |batch| batch.upto)
    }

    /// Ticks for which the disk has completed nothing although it was asked to.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Counts one tick.
    pub(super) fn tick(&mut self) {
        self.waiting = if self.batches.is_empty() { 0 } else { self.waiting.saturating_add(1) };
    }

    /// Asks for a new term or vote.
    pub(super) fn write_hard_state(&mut self, hard_state: HardState) {
        let (persist, batch) = self.open();
        persist.hard_state = Some(hard_state);
        batch.hard_state = Some(hard_state);
    }

    /// Asks to drop everything behind an index.
    pub(super) fn truncate_after(&mut self, after: Index) {
        let (persist, _) = self.open();
        assert!(persist.entries.is_empty(), "a batch truncates before it appends (L2)");
        persist.truncate_after = Some(after);
        self.persisted = self.persisted.min(after);
        for batch in &mut self.batches {
            batch.upto = batch.upto.min(after);
        }
    }

    /// Asks for a snapshot in place of the whole log. Of the former log only what is committed is part
    /// of the new one.
    pub(super) fn install(&mut self, snapshot: SnapshotMeta, committed: Index) {
        let (persist, _) = self.open();
        let empty = persist.truncate_after.is_none() && persist.entries.is_empty();
        assert!(empty && persist.install.is_none(), "a snapshot comes before everything (S3)");
        persist.install = Some(snapshot.clone());
        self.persisted = self.persisted.min(committed);
        for batch in &mut self.batches {
            batch.upto = batch.upto.min(committed);
        }
        let batch = self.batches.back_mut().expect("the open batch is the newest");
        batch.upto = snapshot.last.index;
        batch.reach = snapshot.last.index;
        batch.install = Some(snapshot);
    }

    /// Whether a snapshot is on its way to the disk.
    pub(super) fn installs(&self) -> bool {
        self.batches.iter().any(|batch| batch.install.is_some())
    }

    /// The newest snapshot that has become durable since this was last asked.
    pub(super) fn take_installed(&mut self) -> Option<SnapshotMeta> {
        self.installed.take()
    }

    /// Asks for an entry behind the last.
    pub(super) fn append(&mut self, entry: Entry) {
        let (persist, batch) = self.open();
        assert_eq!(entry.id.index, batch.upto.next(), "the disk gets no gap (S3)");
        batch.upto = entry.id.index;
        batch.reach = entry.id.index;
        persist.entries.push(entry);
    }

    /// Closes the present input's batch.
    pub(super) fn take(&mut self) -> Option<Persist> {
        self.open.take()
    }

    /// Everything up to this token is durable. False: that was known.
    ///
    /// # Panics
    /// If no such batch was handed over.
    pub(super) fn complete(&mut self, token: PersistToken) -> bool {
        assert!(token <= self.issued, "completion of a batch that was never handed over (S17)");
        let mut news = false;
        while self.batches.front().is_some_and(|batch| batch.token <= token) {
            let Some(batch) = self.batches.pop_front() else { break };
            if let Some(hard_state) = batch.hard_state {
                assert_no_regress(self.durable, hard_state);
                self.durable = hard_state;
            }
            if batch.install.is_some() {
                self.installed = batch.install;
            }
            self.persisted = self.persisted.max(batch.upto);
            self.reached = self.reached.max(batch.reach);
            self.waiting = 0;
            news = true;
        }
        news
    }

    /// Term and vote of this batch are durable although batches before it are not: the disk had no room
    /// for entries, and let them go ahead. Older ones that still wait are superseded. False: that was
    /// known, or there is no such batch.
    pub(super) fn complete_hard_state(&mut self, token: PersistToken) -> bool {
        let Some(at) = self.batches.iter().position(|batch| batch.token == token) else {
            return false;
        };
        let Some(hard_state) = self.batches[at].hard_state else { return false };
        assert_no_regress(self.durable, hard_state);
        self.durable = hard_state;
        for batch in self.batches.iter_mut().take(at + 1) {
            batch.hard_state = None;
        }
        true
    }

    /// The token a message must wait for, if any: the first batch after which the term it carries and
    /// what else it needs are durable.
    pub(super) fn awaits(&self, current: HardState, needs: Needs) -> Option<PersistToken> {
        let term = self.awaits_term(current.term);
        let rest = match needs {
            Needs::Term => None,
            Needs::Vote if self.durable == current => None,
            Needs::Vote => Some(self.first(|batch| batch.hard_state == Some(current))),
            Needs::Entries(upto) if upto <= self.persisted => None,
            Needs::Entries(upto) => Some(self.first(|batch| batch.upto >= upto)),
        };
        term.max(rest)
    }

    fn awaits_term(&self, term: Term) -> Option<PersistToken> {
        if self.durable.term >= term {
            return None;
        }
        Some(self.first(|batch| batch.hard_state.is_some_and(|state| state.term >= term)))
    }

    fn first(&self, covers: impl Fn(&Batch) -> bool) -> PersistToken {
        let batch = self.batches.iter().find(|batch| covers(batch));
        batch.expect("what is not durable is in a batch on its way (S17)").token
    }

    fn open(&mut self) -> (&mut Persist, &mut Batch) {
        if self.open.is_none() {
            self.issued = PersistToken(self.issued.0 + 1);
            let upto = self.asked_upto();
            let reach = Index::ZERO;
            let batch = Batch { token: self.issued, hard_state: None, install: None, upto, reach };
            self.batches.push_back(batch);
        }
        let token = self.issued;
        let persist = self.open.get_or_insert_with(|| Persist {
            token,
            hard_state: None,
            install: None,
            truncate_after: None,
            entries: Vec::new(),
        });
        (persist, self.batches.back_mut().expect("the open batch is the newest"))
    }
}

/// Term and vote never go back; within a term the vote changes only from none (S7).
pub(super) fn assert_no_regress(old: HardState, new: HardState) {
    assert!(new.term >= old.term, "a term never goes back (S7)");
    assert!(
        new.term > old.term || old.vote.is_none() || new.vote == old.vote,
        "one vote a term (S7)"
    );
}

#[cfg(test)]
mod tests {
    use super::super::types::{LogId, NodeId, Payload};
    use super::*;

    fn entry(term: u64, index: u64) -> Entry {
        Entry { id: LogId::new(term, index), payload: Payload::Noop }
    }

    #[test]
    fn a_completion_proves_nothing_about_a_tail_rewritten_since() {
        let mut disk = Disk::new(HardState { term: Term(2), vote: None }, Index(3), Index(3));
        disk.append(entry(2, 4));
        disk.append(entry(2, 5));
        let first = disk.take().expect("a batch").token;
        disk.truncate_after(Index(4));
        disk.append(entry(3, 5));
        let second = disk.take().expect("a batch").token;

        assert!(disk.complete(first));
        assert_eq!(disk.persisted(), Index(4), "5@2 is durable, but the log holds 5@3");
        assert!(disk.complete(second));
        assert_eq!(disk.persisted(), Index(5));
        assert!(!disk.complete(first), "a completion counts once");
    }

    #[test]
    fn a_message_waits_for_the_first_batch_that_suffices() {
        let mut disk = Disk::new(HardState { term: Term(1), vote: None }, Index(1), Index(1));
        let voted = HardState { term: Term(2), vote: Some(NodeId(7)) };
        disk.write_hard_state(HardState { term: Term(2), vote: None });
        let term = disk.take().map(|batch| batch.token);
        disk.write_hard_state(voted);
        let vote = disk.take().map(|batch| batch.token);
        disk.append(entry(2, 2));
        let log = disk.take().map(|batch| batch.token);

        assert_eq!(disk.awaits(voted, Needs::Term), term);
        assert_eq!(disk.awaits(voted, Needs::Vote), vote);
        assert_eq!(disk.awaits(voted, Needs::Entries(Index(1))), term, "the term it carries");
        assert_eq!(disk.awaits(voted, Needs::Entries(Index(2))), log);
        disk.complete(vote.expect("a batch"));
        assert_eq!(disk.awaits(voted, Needs::Vote), None);
        assert_eq!(disk.awaits(voted, Needs::Entries(Index(2))), log);
    }

    /// Of a log that a snapshot replaces, only what was committed is worth anything, whatever of it
    /// completes meanwhile.
    #[test]
    fn a_snapshot_on_its_way_makes_the_former_tail_worthless() {
        let mut disk = Disk::new(HardState { term: Term(2), vote: None }, Index(3), Index(3));
        disk.append(entry(2, 4));
        let entries = disk.take().expect("a batch").token;
        let membership = std::sync::Arc::default();
        let last = LogId::new(3, 9);
        let snapshot = SnapshotMeta { last, membership, membership_index: Index(1) };
        disk.install(snapshot.clone(), Index(2));
        let install = disk.take().expect("a batch").token;
        disk.append(entry(3, 10));
        let behind = disk.take().expect("a batch").token;

        assert_eq!(disk.persisted(), Index(2));
        disk.complete(entries);
        assert_eq!((disk.persisted(), disk.installs()), (Index(2), true));
        let state = disk.durable();
        assert_eq!(disk.awaits(state, Needs::Entries(Index(9))), Some(install));
        disk.complete(install);
        assert_eq!((disk.persisted(), disk.take_installed()), (Index(9), Some(snapshot)));
        assert_eq!((disk.take_installed(), disk.installs()), (None, false));
        disk.complete(behind);
        assert_eq!(disk.persisted(), Index(10));
    }

    #[test]
    fn a_hard_state_that_went_ahead_frees_terms_and_votes_but_no_entries() {
        let mut disk = Disk::new(HardState { term: Term(1), vote: None }, Index(1), Index(1));
        disk.write_hard_state(HardState { term: Term(2), vote: None });
        disk.append(entry(2, 2));
        let stuck = disk.take().expect("a batch").token;
        let voted = HardState { term: Term(3), vote: Some(NodeId(7)) };
        disk.write_hard_state(voted);
        let ahead = disk.take().expect("a batch").token;

        assert!(!disk.complete_hard_state(PersistToken(9)), "no such batch");
        assert!(disk.complete_hard_state(ahead));
        assert!(!disk.complete_hard_state(ahead), "it counts once");
        assert_eq!(disk.durable(), voted);
        assert_eq!(disk.awaits(voted, Needs::Vote), None);
        assert_eq!(disk.awaits(voted, Needs::Entries(Index(2))), Some(stuck));
        assert_eq!(disk.persisted(), Index(1));
        assert!(disk.complete(ahead), "and all before it");
        assert_eq!((disk.durable(), disk.persisted()), (voted, Index(2)));
    }

    #[test]
    #[should_panic(expected = "S7")]
    fn a_vote_is_never_changed() {
        let state = |vote| HardState { term: Term(2), vote: Some(NodeId(vote)) };
        assert_no_regress(state(1), state(2));
    }
}
