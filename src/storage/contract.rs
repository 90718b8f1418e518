//! What every batch must keep, asserted before a byte of it is written, in every store alike. A
//! violation is an error in the program, and going on would turn it into a lie on disk.

use super::Batch;
use crate::raft::{HardState, Index, LogId, Term};

/// Where a log stands when a batch arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) hard_state: HardState,
    /// The last purged entry.
    pub(crate) base: LogId,
    pub(crate) last: LogId,
}

/// Whether `new` may follow `old`: a higher term, or the same term with a vote that was none (S7).
pub(crate) fn may_follow(old: HardState, new: HardState) -> bool {
    new.term > old.term || (new.term == old.term && (old.vote.is_none() || old.vote == new.vote))
}

/// Checks a batch; `term_at` tells the term of an entry of the log, or of its purge point.
///
/// # Panics
/// If the batch breaks a rule.
pub(crate) fn check(standing: Standing, batch: &Batch, term_at: impl Fn(Index) -> Option<Term>) {
    let Standing { hard_state, mut base, mut last } = standing;
    if let Some(new) = batch.hard_state {
        assert!(
            may_follow(hard_state, new),
            "term and vote never go back (S7): {hard_state:?} -> {new:?}"
        );
    }
    let term = batch.hard_state.unwrap_or(hard_state).term;
    let install = batch.install.as_ref().map(|snapshot| snapshot.last);
    if let Some(snapshot) = install.filter(|snapshot| *snapshot != base) {
        assert!(
            snapshot.index > base.index,
            "a snapshot of {snapshot} for a log that is purged up to {base} (L8)"
        );
        assert_ne!(
            term_at(snapshot.index),
            Some(snapshot.term),
            "a log that holds a snapshot's end stays (L8)"
        );
        (base, last) = (snapshot, snapshot);
    }
    // Behind an install there is nothing but the snapshot's end.
    let term_at = |index| if base == last { Some(base.term) } else { term_at(index) };
    let from = batch.truncate_after.unwrap_or(last.index);
    assert!(
        from >= base.index && from <= last.index,
        "a truncation behind {from} in a log from {base} to {last} (S10)"
    );
    let mut before = LogId {
        term: term_at(from).unwrap_or_else(|| panic!("the log has no term for index {from} (L6)")),
        index: from,
    };
    for entry in &batch.entries {
        assert_eq!(entry.id.index, before.index.next(), "an append leaves no gap (S3)");
        assert!(
            entry.id.term >= before.term,
            "terms in a log never go back (S13): {} behind {before}",
            entry.id
        );
        assert!(
            entry.id.term <= term,
            "entry {} is of a term beyond the hard state's, {term} (S17)",
            entry.id
        );
        before = entry.id;
    }
}

/// Checks that the entries up to `upto` may go: the log holds that entry, and the current snapshot
/// covers it.
///
/// # Panics
/// If a rule is broken.
pub(crate) fn check_purge(
    standing: Standing,
    upto: LogId,
    term: Option<Term>,
    snapshot: Option<LogId>,
) {
    assert_eq!(
        term,
        Some(upto.term),
        "a purge up to {upto} of a log up to {} (S10)",
        standing.last
    );
    assert!(
        snapshot.is_some_and(|snapshot| snapshot.index >= upto.index),
        "a purge up to {upto} behind a snapshot up to {snapshot:?} (D13)"
    );
}
