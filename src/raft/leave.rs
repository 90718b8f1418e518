//! Whether a node that was asked to stop may leave now, or had better wait for others to come back
//! (design section 5). A stop never changes the membership (M7): the quorum stays what it is, and a node
//! that leaves is one that does not answer.

use std::collections::BTreeSet;

use super::membership::Membership;
use super::quorum::{VoteResult, vote_result};
use super::types::NodeId;

/// What a node that was asked to stop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The others go on without it.
    Free,
    /// Waiting would not help: the others alone are no quorum even when all are up, or there is none
    /// with this node either, such as when everybody is being stopped.
    InVain,
    /// The cluster answers because of this node, and will do without it once others are back.
    Needed,
}

/// Whether `me` may leave, with these others `serving`: voters that answer, have not been asked to stop,
/// and know a leader.
#[must_use]
pub fn leaving(membership: &Membership, me: NodeId, serving: &BTreeSet<NodeId>) -> Leaving {
    let quorum =
        |up: &dyn Fn(NodeId) -> bool| vote_result(membership, |id| Some(up(id))) == VoteResult::Won;
    if quorum(&|id| id != me && serving.contains(&id)) {
        Leaving::Free
    } else if !quorum(&|id| id != me) || !quorum(&|id| id == me || serving.contains(&id)) {
        Leaving::InVain
    } else {
        Leaving::Needed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::membership::Member;
    use super::*;

    fn voters(ids: std::ops::RangeInclusive<u64>) -> Membership {
        let member = |id| Member { name: format!("raft-{id}"), address: format!("h:{id}") };
        Membership::of_voters(ids.map(|id| (NodeId(id), member(id))).collect())
    }

    fn asked(membership: &Membership, me: u64, serving: &[u64]) -> Leaving {
        leaving(membership, NodeId(me), &serving.iter().map(|id| NodeId(*id)).collect())
    }

    #[test]
    fn it_leaves_when_the_others_are_a_quorum() {
        assert_eq!(asked(&voters(1..=3), 1, &[2, 3]), Leaving::Free);
        assert_eq!(asked(&voters(1..=5), 1, &[2, 3, 4]), Leaving::Free);
    }

    #[test]
    fn it_waits_when_the_quorum_hangs_on_it() {
        assert_eq!(asked(&voters(1..=3), 1, &[2]), Leaving::Needed);
        assert_eq!(asked(&voters(1..=5), 1, &[2, 3]), Leaving::Needed);
        assert_eq!(asked(&voters(1..=4), 1, &[2, 3]), Leaving::Needed);
    }

    #[test]
    fn it_does_not_wait_in_vain() {
        // A whole cluster that is taken down, and a quorum that is lost already.
        assert_eq!(asked(&voters(1..=3), 1, &[]), Leaving::InVain);
        assert_eq!(asked(&voters(1..=5), 1, &[2]), Leaving::InVain);
        // One or two voters are never a quorum without one of them.
        assert_eq!(asked(&voters(1..=1), 1, &[]), Leaving::InVain);
        assert_eq!(asked(&voters(1..=2), 1, &[2]), Leaving::InVain);
    }

    #[test]
    fn learners_and_strangers_leave_at_once_and_count_for_nothing() {
        let mut membership = voters(1..=3);
        membership.voters.remove(&NodeId(3));
        membership.members.extend(voters(4..=4).members);
        membership.voters.insert(NodeId(4));
        assert_eq!(asked(&membership, 3, &[1, 2]), Leaving::Free, "a learner");
        assert_eq!(asked(&membership, 9, &[1, 2]), Leaving::Free, "no member");
        assert_eq!(asked(&membership, 1, &[2, 3]), Leaving::Needed, "a learner is no voter");
        let none = Membership { members: BTreeMap::new(), ..Membership::default() };
        assert_ne!(asked(&none, 1, &[]), Leaving::Needed);
    }

    #[test]
    fn in_a_change_of_the_voters_both_majorities_count() {
        let mut membership = voters(1..=5);
        membership.outgoing = [1, 2, 3].map(NodeId).into();
        membership.voters = [3, 4, 5].map(NodeId).into();
        assert_eq!(asked(&membership, 3, &[1, 4, 5]), Leaving::Needed);
        assert_eq!(asked(&membership, 3, &[1, 2, 4, 5]), Leaving::Free);
        assert_eq!(asked(&membership, 3, &[1, 4]), Leaving::Needed);
        assert_eq!(asked(&membership, 3, &[4, 5]), Leaving::InVain, "one of the outgoing");
    }
}
