//! Do the state machines agree? A verdict over the hashes of their content as of one index (S5).
//!
//! A fault of ours or a flipped bit can let one node apply something else than the others. Nobody can
//! tell from one hash which of two is right; that a quorum has the same one is what is believed, as with
//! everything else here. Learners are compared, and never counted.

use std::collections::{BTreeMap, BTreeSet};

use super::membership::Membership;
use super::quorum::is_quorum;
use super::types::NodeId;

/// What the hashes of one index say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too few voters have answered, and no two of them differ.
    Open,
    /// A quorum has this hash, one of each half while the membership is joint.
    Majority {
        /// The hash.
        hash: u64,
        /// Who has another one; empty if all that answered agree.
        outsiders: BTreeSet<NodeId>,
    },
    /// Voters differ, and no quorum of those that answered agrees: who is right cannot be told.
    NoMajority,
}

/// Judges the answers for one index. Who is silent, or does not know the index, is not in `hashes`; who
/// is no member does not count.
#[must_use]
pub fn judge(membership: &Membership, hashes: &BTreeMap<NodeId, u64>) -> Verdict {
    let of_voters: BTreeSet<u64> =
        hashes.iter().filter(|(id, _)| membership.is_voter(**id)).map(|(_, hash)| *hash).collect();
    // At most one of them: two quorums have a voter in common (S15).
    let majority = of_voters
        .iter()
        .copied()
        .find(|hash| is_quorum(membership, |id| hashes.get(&id) == Some(hash)));
    match majority {
        Some(hash) => {
            let differs =
                |(id, other): &(&NodeId, &u64)| **other != hash && membership.contains(**id);
            let outsiders = hashes.iter().filter(differs).map(|(id, _)| *id).collect();
            Verdict::Majority { hash, outsiders }
        }
        None if of_voters.len() > 1 => Verdict::NoMajority,
        None => Verdict::Open,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::raft::Member;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn membership(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Membership {
        let all = voters.iter().chain(outgoing).chain(learners);
        let member = |id: &u64| Member { name: format!("raft-{id}"), address: "h:1".to_owned() };
        Membership {
            members: all.map(|id| (NodeId(*id), member(id))).collect(),
            voters: ids(voters),
            outgoing: ids(outgoing),
            ..Membership::default()
        }
    }

    fn verdict(membership: &Membership, hashes: &[(u64, u64)]) -> Verdict {
        judge(membership, &hashes.iter().map(|(id, hash)| (NodeId(*id), *hash)).collect())
    }

    fn majority(hash: u64, outsiders: &[u64]) -> Verdict {
        Verdict::Majority { hash, outsiders: ids(outsiders) }
    }

    #[test]
    fn the_minority_is_whoever_differs_from_a_quorum() {
        let three = membership(&[1, 2, 3], &[], &[4]);
        assert_eq!(verdict(&three, &[(1, 7), (2, 7), (3, 7)]), majority(7, &[]));
        assert_eq!(verdict(&three, &[(1, 7), (2, 7), (3, 8)]), majority(7, &[3]));
        assert_eq!(verdict(&three, &[(1, 7), (2, 8), (3, 8)]), majority(8, &[1]));
        assert_eq!(verdict(&three, &[(1, 7), (2, 7)]), majority(7, &[]), "one is silent");
        assert_eq!(verdict(&membership(&[1], &[], &[]), &[(1, 7)]), majority(7, &[]));
    }

    #[test]
    fn too_few_answers_say_nothing_until_two_differ() {
        let three = membership(&[1, 2, 3], &[], &[4]);
        assert_eq!(verdict(&three, &[]), Verdict::Open);
        assert_eq!(verdict(&three, &[(1, 7)]), Verdict::Open);
        assert_eq!(verdict(&three, &[(1, 7), (2, 8)]), Verdict::NoMajority);
        assert_eq!(verdict(&three, &[(1, 7), (2, 8), (3, 9)]), Verdict::NoMajority);
        let five = membership(&[1, 2, 3, 4, 5], &[], &[]);
        assert_eq!(verdict(&five, &[(1, 7), (2, 7)]), Verdict::Open);
        assert_eq!(verdict(&five, &[(1, 7), (2, 7), (3, 8)]), Verdict::NoMajority);
        assert_eq!(verdict(&five, &[(1, 7), (2, 7), (3, 8), (4, 7)]), majority(7, &[3]));
    }

    #[test]
    fn learners_are_compared_and_not_counted() {
        let two = membership(&[1, 2], &[], &[3, 4]);
        assert_eq!(verdict(&two, &[(1, 7), (2, 7), (3, 8), (4, 8)]), majority(7, &[3, 4]));
        assert_eq!(verdict(&two, &[(1, 7), (3, 7), (4, 7)]), Verdict::Open);
        assert_eq!(verdict(&two, &[(1, 7), (3, 8)]), Verdict::Open);
        assert_eq!(verdict(&two, &[(1, 7), (2, 8), (3, 7), (4, 7)]), Verdict::NoMajority);
        assert_eq!(verdict(&two, &[(1, 7), (2, 7), (9, 8)]), majority(7, &[]), "9 is no member");
    }

    #[test]
    fn while_joint_both_halves_must_agree() {
        let joint = membership(&[1, 2, 4], &[1, 2, 3], &[]);
        assert_eq!(verdict(&joint, &[(1, 7), (2, 7), (3, 8), (4, 9)]), majority(7, &[3, 4]));
        assert_eq!(verdict(&joint, &[(1, 7), (4, 7), (2, 8), (3, 8)]), Verdict::NoMajority);
        assert_eq!(verdict(&joint, &[(1, 7), (4, 7)]), Verdict::Open);
    }

    proptest! {
        /// Against counting heads, hash by hash.
        #[test]
        fn the_verdict_is_that_of_counting_heads(
            voters in prop::collection::btree_set(0u64..7, 1..6),
            outgoing in prop::collection::btree_set(0u64..7, 0..6),
            learners in prop::collection::btree_set(0u64..9, 0..3),
            answers in prop::collection::btree_map(0u64..10, 0u64..3, 0..9),
        ) {
            let list = |set: &BTreeSet<u64>| set.iter().copied().collect::<Vec<_>>();
            let members = membership(&list(&voters), &list(&outgoing), &list(&learners));
            let answers: Vec<(u64, u64)> = answers.into_iter().collect();
            let has = |half: &BTreeSet<u64>, hash: u64| {
                let heads = answers.iter().filter(|(id, h)| half.contains(id) && *h == hash);
                half.is_empty() || 2 * heads.count() > half.len()
            };
            let quorums: Vec<u64> =
                (0..3).filter(|hash| has(&voters, *hash) && has(&outgoing, *hash)).collect();
            prop_assert!(quorums.len() <= 1);
            let of_voters = |id: &u64| voters.contains(id) || outgoing.contains(id);
            let expected = match quorums.first() {
                Some(hash) => majority(
                    *hash,
                    &answers
                        .iter()
                        .filter(|(id, h)| h != hash && (of_voters(id) || learners.contains(id)))
                        .map(|(id, _)| *id)
                        .collect::<Vec<_>>(),
                ),
                None => {
                    let mut counted: Vec<u64> =
                        answers.iter().filter(|(id, _)| of_voters(id)).map(|(_, h)| *h).collect();
                    counted.sort_unstable();
                    counted.dedup();
                    if counted.len() > 1 { Verdict::NoMajority } else { Verdict::Open }
                }
            };
            prop_assert_eq!(verdict(&members, &answers), expected);
        }
    }
}
