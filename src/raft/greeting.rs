//! Who has judged this node since it started.
//!
//! A directory can be an older copy of itself: a volume put back from a backup. It has forgotten votes it
//! gave and entries it acknowledged, and cannot know that; but others remember (`seen.rs`), and the hello
//! with which a node dials a peer says how far its own directory goes. A peer that remembers more refuses
//! the hello. So after a start no vote and no pre-vote is given, and no campaign begun, of one's own
//! accord or asked for, before enough peers have accepted a hello to make a majority with this node:
//! of each half, if the membership is joint.
//!
//! * A single voter needs nobody.
//! * A node that takes itself for a learner may have been promoted without knowing it yet, and then its
//!   vote may be needed (M5, etcd 10998). It counts itself as one voter more.
//! * Whom this node takes for no voter counts in both halves: after a long sleep, the learners that it
//!   knows may be the voters that are left.
//! * A node that knows no membership gives no vote: it was never a voter, since a learner is promoted
//!   only when it holds the log (M5), or it has forgotten that it was one.
//! * A refusal here changes nothing: the term of a vote request is not taken over either.
//!
//! Once open, it stays open as long as the process lives, whatever becomes of the membership and of the
//! connections: the hellos judged the past, and the directory cannot grow older while it is open.
//! Following, acknowledging and learning are not held back, since they say only what the disk holds now.
//!
//! What nobody alive remembers cannot be recognised this way: if the one peer that got a vote is away
//! and never spread it, the majority that is there knows nothing of it.

use std::collections::BTreeSet;

use super::membership::Membership;
use super::quorum;
use super::types::NodeId;

/// Invariant: once `open`, always open.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting {
    /// Peers that accepted this process's hello.
    greeted: BTreeSet<NodeId>,
    open: bool,
}

impl Greeting {
    /// A peer has accepted this process's hello.
    pub(super) fn greeted(&mut self, peer: NodeId) {
        if !self.open {
            self.greeted.insert(peer);
        }
    }

    /// Whether votes may be given and asked for.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Looks again, the greeted peers or the membership being others than before.
    pub(super) fn judge(&mut self, own: NodeId, membership: &Membership) {
        if !self.open && self.suffices(own, membership) {
            self.open = true;
            self.greeted.clear();
        }
    }

    fn suffices(&self, own: NodeId, membership: &Membership) -> bool {
        let seat = |id: &NodeId| membership.members.get(id).map(|member| &member.name);
        let enough = |half: &BTreeSet<NodeId>| {
            let has_place = half.contains(&own)
                || seat(&own).is_some() && half.iter().any(|voter| seat(voter) == seat(&own));
            let voters = half.len() + usize::from(!has_place);
            let counts = |id: &&NodeId| half.contains(*id) || !membership.is_voter(**id);
            let greeted = self.greeted.iter().filter(|id| **id != own).filter(counts).count();
            greeted + 1 >= quorum::majority(voters)
        };
        let outgoing = &membership.outgoing;
        !membership.voters.is_empty()
            && enough(&membership.voters)
            && (outgoing.is_empty() || enough(outgoing))
    }
}

#[cfg(test)]
mod tests {
    use super::super::membership::Member;
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// Node 1 among these voters, greeted by these peers.
    fn opens(voters: &[u64], outgoing: &[u64], greeted: &[u64]) -> bool {
        let (voters, outgoing) = (ids(voters), ids(outgoing));
        let membership = Membership { voters, outgoing, ..Membership::default() };
        let mut greeting = Greeting::default();
        greeted.iter().for_each(|id| greeting.greeted(NodeId(*id)));
        greeting.judge(NodeId(1), &membership);
        greeting.is_open()
    }

    #[test]
    fn a_majority_with_oneself() {
        assert!(opens(&[1], &[], &[]), "a single voter needs nobody");
        assert!(!opens(&[1, 2], &[], &[]));
        assert!(opens(&[1, 2], &[], &[2]));
        assert!(opens(&[1, 2, 3], &[], &[3]));
        assert!(!opens(&[1, 2, 3, 4], &[], &[3]));
        assert!(opens(&[1, 2, 3, 4], &[], &[3, 4]));
        assert!(!opens(&[1, 2, 3, 4, 5], &[], &[5]));
        assert!(!opens(&[1, 2, 3], &[], &[1]), "oneself counts once");
    }

    #[test]
    fn both_halves_of_a_joint_membership() {
        assert!(!opens(&[1, 4, 5], &[1, 2, 3], &[2]));
        assert!(!opens(&[1, 4, 5], &[1, 2, 3], &[4, 5]));
        assert!(opens(&[1, 4, 5], &[1, 2, 3], &[2, 4]));
        assert!(opens(&[1, 2, 4], &[1, 2, 3], &[2]), "one that is in both");
    }

    #[test]
    fn learners_and_strangers() {
        assert!(!opens(&[2], &[], &[]), "a learner asks around as if it voted");
        assert!(opens(&[2, 3], &[], &[3]));
        assert!(opens(&[1, 2, 3], &[], &[7]), "it may have been promoted meanwhile");
        assert!(!opens(&[], &[], &[2, 3]), "who knows no members gives no vote");
    }

    #[test]
    fn a_learner_in_the_seat_of_a_voter_counts_in_its_place() {
        let seat = |name: &str| Member { name: name.to_owned(), address: String::new() };
        let members = [(1, "a"), (2, "b"), (3, "c"), (4, "a")];
        let members = members.into_iter().map(|(id, name)| (NodeId(id), seat(name))).collect();
        let membership = Membership { members, voters: ids(&[2, 3, 4]), ..Membership::default() };
        let mut greeting = Greeting::default();
        greeting.judge(NodeId(1), &membership);
        assert!(!greeting.is_open());
        // Node 1 may vote already, in the place of node 4, and node 3 may be lost.
        greeting.greeted(NodeId(2));
        greeting.judge(NodeId(1), &membership);
        assert!(greeting.is_open());
    }

    #[test]
    fn once_open_it_stays_open() {
        let mut greeting = Greeting::default();
        let single = Membership { voters: ids(&[1]), ..Membership::default() };
        greeting.judge(NodeId(1), &single);
        greeting.judge(NodeId(1), &Membership { voters: ids(&[1, 2, 3]), ..single });
        assert!(greeting.is_open());
    }
}
