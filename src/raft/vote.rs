//! Whether to give a vote.

use super::message::Vote;
use super::types::{HardState, LogId, NodeId, Term};

/// The rule for a vote (Raft §5.2, §5.4.1; S12), in a term that the voter has already reached: no
/// other vote in this term, and the candidate's log is at least as up to date, compared as a pair.
pub(super) fn grants(own: HardState, last: LogId, candidate: NodeId, vote: &Vote) -> bool {
    vote.campaign == own.term
        && own.vote.is_none_or(|given| given == candidate)
        && vote.last >= last
}

/// The rule for a pre-vote: would a vote in a newer term be given? (dissertation 9.6)
pub(super) fn grants_pre(term: Term, last: LogId, vote: &Vote) -> bool {
    vote.campaign > term && vote.last >= last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// S12: the paper's two-step wording as the twin of the comparison as a pair.
        #[test]
        fn up_to_date_is_compared_as_a_pair(
            mine in (0u64..4, 0u64..4),
            theirs in (0u64..4, 0u64..4),
            voted in prop::option::of(1u64..3),
        ) {
            let (last, other) = (LogId::new(mine.0, mine.1), LogId::new(theirs.0, theirs.1));
            let own = HardState { term: Term(5), vote: voted.map(NodeId) };
            let vote = Vote::real(Term(5), other);

            let up_to_date = if theirs.0 == mine.0 { theirs.1 >= mine.1 } else { theirs.0 > mine.0 };
            let free = voted.is_none() || voted == Some(1);
            prop_assert_eq!(grants(own, last, NodeId(1), &vote), up_to_date && free);

            let pre = Vote::pre(Term(6), other);
            prop_assert_eq!(grants_pre(Term(5), last, &pre), up_to_date);
            prop_assert!(!grants_pre(Term(6), last, &pre), "the term must be new");
        }
    }
}
