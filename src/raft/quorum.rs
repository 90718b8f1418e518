//! Majorities: of one set of voters, or of both sets while a change is under way (Raft §6).
//!
//! Everything that needs a quorum asks here: elections, commit, read rounds and check quorum (M3).

use std::collections::BTreeSet;

use super::membership::Membership;
use super::types::NodeId;

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VoteResult {
    /// A quorum said yes.
    Won,
    /// A quorum can no longer say yes.
    Lost,
    /// Open.
    Pending,
}

/// Members needed out of `voters`, oneself included once (R2).
pub(super) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest value that a quorum has reached: the commit rule over indices, and the same rule over
/// read rounds. In a joint membership both majorities must have reached it.
pub(super) fn reached<T: Ord + Copy + Default>(
    membership: &Membership,
    value: impl Fn(NodeId) -> T,
) -> T {
    let incoming = reached_in(&membership.voters, &value);
    if membership.outgoing.is_empty() {
        return incoming;
    }
    incoming.min(reached_in(&membership.outgoing, &value))
}

fn reached_in<T: Ord + Copy + Default>(
    voters: &BTreeSet<NodeId>,
    value: &impl Fn(NodeId) -> T,
) -> T {
    if voters.is_empty() {
        return T::default();
    }
    let mut values: Vec<T> = voters.iter().map(|id| value(*id)).collect();
    values.sort_unstable_by(|a, b| b.cmp(a));
    values[majority(voters.len()) - 1]
}

/// How a vote stands, given each voter's answer so far.
pub(super) fn vote_result(
    membership: &Membership,
    answer: impl Fn(NodeId) -> Option<bool>,
) -> VoteResult {
    let incoming = vote_in(&membership.voters, &answer);
    if membership.outgoing.is_empty() {
        return incoming;
    }
    match (incoming, vote_in(&membership.outgoing, &answer)) {
        (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
        (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
        _ => VoteResult::Pending,
    }
}

fn vote_in(voters: &BTreeSet<NodeId>, answer: &impl Fn(NodeId) -> Option<bool>) -> VoteResult {
    let needed = majority(voters.len());
    let yes = voters.iter().filter(|id| answer(**id) == Some(true)).count();
    let no = voters.iter().filter(|id| answer(**id) == Some(false)).count();
    if yes >= needed {
        VoteResult::Won
    } else if voters.len() - no < needed {
        VoteResult::Lost
    } else {
        VoteResult::Pending
    }
}

/// Whether the nodes for which `present` holds make a quorum.
pub(super) fn is_quorum(membership: &Membership, present: impl Fn(NodeId) -> bool) -> bool {
    vote_result(membership, |id| Some(present(id))) == VoteResult::Won
}
