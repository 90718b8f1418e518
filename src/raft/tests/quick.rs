//! Quorums and the commit rule against a twin that tries every set of voters.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::change::{self, MembershipChange};
use super::super::commit;
use super::super::quorum::{VoteResult, is_quorum, majority, reached, vote_result};
use super::super::{Index, LogId, LogShape, Member, Membership, NodeId, Term};

/// The twin's definition: a set of voters is a quorum if its complement is not larger than, or as
/// large as, itself. Nothing is divided by two.
fn twin_is_quorum(voters: &BTreeSet<NodeId>, present: &BTreeSet<NodeId>) -> bool {
    let here = voters.iter().filter(|id| present.contains(id)).count();
    here > voters.len() - here
}

fn subsets(ids: &[NodeId]) -> Vec<BTreeSet<NodeId>> {
    (0..1u32 << ids.len())
        .map(|mask| {
            let chosen = ids.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0);
            chosen.map(|(_, id)| *id).collect()
        })
        .collect()
}

fn membership(voters: &BTreeSet<NodeId>, outgoing: &BTreeSet<NodeId>) -> Membership {
    let member = |id: NodeId| Member { name: format!("n{}", id.0), address: String::new() };
    let members = voters.union(outgoing).map(|id| (*id, member(*id))).collect();
    Membership {
        members,
        voters: voters.clone(),
        outgoing: outgoing.clone(),
        ..Membership::default()
    }
}

fn ids(count: u64) -> Vec<NodeId> {
    (1..=count).map(NodeId).collect()
}

fn all_halves_quorate(m: &Membership, present: &BTreeSet<NodeId>) -> bool {
    twin_is_quorum(&m.voters, present)
        && (m.outgoing.is_empty() || twin_is_quorum(&m.outgoing, present))
}

#[test]
fn majorities_of_one_to_nine_voters() {
    for count in 1..=9 {
        let all = ids(count);
        let m = membership(&all.iter().copied().collect(), &BTreeSet::new());
        let quorums: Vec<_> =
            subsets(&all).into_iter().filter(|s| is_quorum(&m, |id| s.contains(&id))).collect();
        for present in subsets(&all) {
            assert_eq!(
                is_quorum(&m, |id| present.contains(&id)),
                twin_is_quorum(&m.voters, &present),
                "{present:?} of {count}"
            );
        }
        let smallest = quorums.iter().map(BTreeSet::len).min().expect("all of them are one");
        assert_eq!(smallest, majority(count as usize), "R2");
    }
}

#[test]
fn any_two_quorums_meet_also_across_a_joint_membership() {
    let (old, new) = (ids(3), [2, 3, 4, 5].map(NodeId));
    let (old, new): (BTreeSet<_>, BTreeSet<_>) =
        (old.into_iter().collect(), new.into_iter().collect());
    let none = BTreeSet::new();
    let steps = [membership(&old, &none), membership(&new, &old), membership(&new, &none)];
    let every = subsets(&ids(5));
    for pair in steps.windows(2) {
        for a in every.iter().filter(|s| is_quorum(&pair[0], |id| s.contains(&id))) {
            for b in every.iter().filter(|s| is_quorum(&pair[1], |id| s.contains(&id))) {
                assert!(!a.is_disjoint(b), "S15: {a:?} and {b:?}");
            }
        }
    }
}

/// Every membership of up to five nodes in three seats, with at most one voter a seat and no change under
/// way: a node is absent, a learner or a voter.
fn memberships() -> impl Iterator<Item = Membership> {
    (0..3u32.pow(5)).filter_map(|mut code| {
        let mut m = Membership::default();
        for id in 1..=5 {
            let (kind, node) = (code % 3, NodeId(id));
            code /= 3;
            if kind > 0 {
                m.members.insert(node, in_seat(id));
            }
            if kind > 1 {
                m.voters.insert(node);
            }
        }
        (!m.voters.is_empty() && one_voter_a_seat(&m)).then_some(m)
    })
}

fn in_seat(id: u64) -> Member {
    Member { name: format!("seat {}", id % 3), address: String::new() }
}

fn one_voter_a_seat(m: &Membership) -> bool {
    let seats: BTreeSet<&str> = m.voters.iter().map(|id| m.members[id].name.as_str()).collect();
    seats.len() == m.voters.len()
}

/// Every change that can be asked for, sensible or not, with a sixth node that is no member.
fn changes() -> Vec<MembershipChange> {
    let mut all = Vec::new();
    for id in ids(6) {
        all.push(MembershipChange::Promote { id });
        all.push(MembershipChange::Remove { id });
        all.push(MembershipChange::Retire { id });
        for other in ids(6) {
            all.push(MembershipChange::Replace { old: id, new: other });
            let instead_of = Some(other);
            all.push(MembershipChange::AddLearner { id, member: in_seat(id.0), instead_of });
        }
        all.push(MembershipChange::AddLearner { id, member: in_seat(id.0), instead_of: None });
    }
    all
}

/// S15 by its definition: no set of nodes is a quorum of the one while the others are one of the other.
fn quorums_meet(a: &Membership, b: &Membership, every: &[BTreeSet<NodeId>]) -> bool {
    every
        .iter()
        .all(|set| !(is_quorum(a, |id| set.contains(&id)) && is_quorum(b, |id| !set.contains(&id))))
}

/// S15, S14 and the shape of what changes lead to, for every membership and every change there is.
#[test]
fn every_change_of_every_small_membership_keeps_quorums_together() {
    let (every, changes) = (subsets(&ids(6)), changes());
    let (mut accepted, mut joint) = (0, 0);
    for before in memberships() {
        for change in &changes {
            let Ok(next) = change::after(&before, change) else { continue };
            accepted += 1;
            let done = if next.is_joint() { change::completed(&next) } else { next.clone() };
            for (from, to) in [(&before, &next), (&next, &done)] {
                assert!(change::overlap(from, to), "{from:?} to {to:?} (S15)");
                assert!(quorums_meet(from, to, &every), "{from:?} to {to:?} (S15)");
            }
            for m in [&next, &done] {
                let mut counted = m.voters.iter().chain(&m.outgoing);
                assert!(counted.all(|id| m.contains(*id)), "voters are members: {m:?}");
                assert!(!m.voters.is_empty() && one_voter_a_seat(m), "{change:?} of {before:?}");
            }
            joint += usize::from(next.is_joint());
            assert_eq!(next.is_joint(), before.voters != done.voters, "{change:?} of {before:?}");
            assert!(!done.is_joint());
            let moved = before.voters.symmetric_difference(&done.voters).count();
            let expected = match change {
                MembershipChange::AddLearner { .. } => 0..=0,
                MembershipChange::Promote { .. } => 1..=1,
                MembershipChange::Remove { .. } | MembershipChange::Retire { .. } => 0..=1,
                MembershipChange::Replace { .. } => 2..=2,
            };
            assert!(expected.contains(&moved), "{change:?} moves {moved} voters");
        }
    }
    assert!(accepted > 1000 && joint > 400, "{accepted} accepted, {joint} of them joint");
}

/// The short form of S15 never accepts what the definition does not.
#[test]
fn what_overlaps_meets() {
    let every = subsets(&ids(4));
    let sets = &every[..];
    let mut met = 0;
    let joints = || sets.iter().flat_map(|v| sets.iter().map(move |o| membership(v, o)));
    let all: Vec<Membership> = joints().filter(|m| !m.voters.is_empty()).collect();
    for a in &all {
        for b in all.iter().filter(|b| change::overlap(a, b)) {
            assert!(quorums_meet(a, b, sets), "{a:?} and {b:?}");
            met += 1;
        }
    }
    assert!(met > all.len(), "{met}");
}

fn voters() -> impl Strategy<Value = BTreeSet<NodeId>> {
    prop::collection::btree_set((1u64..=9).prop_map(NodeId), 1..=9)
}

fn maybe_voters() -> impl Strategy<Value = BTreeSet<NodeId>> {
    prop_oneof![Just(BTreeSet::new()), voters()]
}

proptest! {
    /// What a quorum has reached is the largest value for which the nodes at or above it are a quorum.
    #[test]
    fn reached_equals_the_twin(
        incoming in voters(),
        outgoing in maybe_voters(),
        values in prop::collection::btree_map((1u64..=9).prop_map(NodeId), 0u64..12, 0..9),
    ) {
        let m = membership(&incoming, &outgoing);
        let value = |id: NodeId| values.get(&id).copied().unwrap_or_default();
        let twin = (0..12)
            .rev()
            .find(|least| {
                let at_least = (1..=9).map(NodeId).filter(|id| value(*id) >= *least).collect();
                all_halves_quorate(&m, &at_least)
            })
            .unwrap_or_default();
        prop_assert_eq!(reached(&m, value), twin);
    }

    /// Won: the yeses are a quorum. Lost: not even if everyone who is silent said yes.
    #[test]
    fn vote_result_equals_the_twin(
        incoming in voters(),
        outgoing in maybe_voters(),
        answers in prop::collection::btree_map((1u64..=9).prop_map(NodeId), any::<bool>(), 0..9),
    ) {
        let m = membership(&incoming, &outgoing);
        let saying = |wanted: &dyn Fn(Option<bool>) -> bool| -> BTreeSet<NodeId> {
            (1..=9).map(NodeId).filter(|id| wanted(answers.get(id).copied())).collect()
        };
        let twin = if all_halves_quorate(&m, &saying(&|answer| answer == Some(true))) {
            VoteResult::Won
        } else if all_halves_quorate(&m, &saying(&|answer| answer != Some(false))) {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        };
        prop_assert_eq!(vote_result(&m, |id| answers.get(&id).copied()), twin);
    }

    /// S8 and S9 at once: the twin walks the whole log.
    #[test]
    fn commit_equals_the_twin(
        incoming in voters(),
        outgoing in maybe_voters(),
        raises in prop::collection::vec(0u64..2, 1..12),
        matched in prop::collection::btree_map((1u64..=9).prop_map(NodeId), 0u64..12, 0..9),
        behind in 0u64..2,
    ) {
        let m = membership(&incoming, &outgoing);
        let mut log = LogShape::default();
        let mut term = 1;
        for (at, raise) in raises.iter().enumerate() {
            term += raise;
            log.push(LogId::new(term, at as u64 + 1), 1);
        }
        let matched: BTreeMap<NodeId, Index> = matched
            .into_iter()
            .map(|(id, at)| (id, Index(at.min(raises.len() as u64))))
            .collect();
        let value = |id: NodeId| matched.get(&id).copied().unwrap_or_default();
        let own = Term(term + behind);

        // The highest entry of the leader's own term that a quorum holds.
        let twin = (1..=raises.len() as u64).map(Index).rev().find(|index| {
            let holders = (1..=9).map(NodeId).filter(|id| value(*id) >= *index).collect();
            log.term_at(*index) == Some(own) && all_halves_quorate(&m, &holders)
        });
        prop_assert_eq!(commit::of_leader(&m, &log, own, value), twin);
    }
}
