//! Whatever the leader sees and whoever asks, what is proposed never makes the cluster less safe.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::super::{change, quorum};
use super::*;

/// Checks one proposal against the rules, said anew.
fn judge(world: &World, change: &MembershipChange, answers: &BTreeMap<String, NodeId>) {
    let membership = &world.membership;
    let heard = |id: NodeId| id == n(1) || !world.silent.contains(&id);
    assert!(world.settled, "one change at a time (S14)");
    let next = carried_out(membership, change);
    for voters in [membership, &next] {
        assert!(quorum::is_quorum(voters, heard) || next.voters == membership.voters, "{change:?}");
    }
    assert!(next.voters.contains(&n(1)), "the leader stays");
    let fit = |id: &NodeId| {
        let matched = world.matched.get(id).copied().unwrap_or(world.last);
        assert!(heard(*id) && world.last <= matched + 100, "{id} is not fit (M5)");
    };
    match change {
        MembershipChange::AddLearner { id, member, instead_of } => {
            assert_eq!(next.voters, membership.voters);
            assert_eq!(answers.get(&member.name), Some(id), "it is at the seat's address");
            let mut holders = membership.members.iter().filter(|(_, it)| it.name == member.name);
            assert!(holders.all(|(old, _)| Some(*old) == *instead_of && !heard(*old)));
            assert!(!membership.retired.contains(&member.name));
        }
        MembershipChange::Promote { id } => {
            fit(id);
            assert_eq!(next.voters.len(), membership.voters.len() + 1);
        }
        MembershipChange::Replace { old, new } => {
            fit(new);
            assert!(!heard(*old), "the old holder is silent");
            assert_eq!(next.voters.len(), membership.voters.len());
        }
        MembershipChange::Remove { id } => {
            assert!(!membership.is_voter(*id), "no voter is removed without one in its place");
            assert!(!heard(*id));
        }
        MembershipChange::Retire { .. } => panic!("only an admin retires a seat"),
    }
}

#[test]
fn nothing_that_is_proposed_makes_the_cluster_less_safe() {
    let mut kinds = BTreeMap::new();
    for seed in 0..40 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let voters = rng.random_range(1..=5);
        let mut world = World::of(voters);
        world.seats.options = SeatOptions { limit_ticks: 60, retirement_ticks: 1_000_000 };
        let mut next_id = 100;
        // Which node runs at each seat's address, and what was last answered there.
        let mut there: BTreeMap<u64, u64> = (1..=7).map(|seat| (seat, seat)).collect();
        let mut answers = BTreeMap::new();
        for _ in 0..300 {
            match rng.random_range(0..10) {
                0 => {
                    next_id += 1;
                    let seat = rng.random_range(1..=7);
                    if let Some(old) = there.insert(seat, next_id) {
                        world.silent.insert(n(old));
                    }
                    world.matched.insert(n(next_id), 0);
                }
                1 => {
                    let id = n(rng.random_range(2..=voters.max(2)));
                    if !world.silent.remove(&id) {
                        world.silent.insert(id);
                    }
                }
                2 | 3 => world.matched.values_mut().for_each(|matched| *matched = 1_000),
                4 => world.settled = rng.random_bool(0.8),
                5 if rng.random_bool(0.1) => {
                    let retire = MembershipChange::Retire { id: n(rng.random_range(2..=next_id)) };
                    if change::after(&world.membership, &retire).is_ok() {
                        world.carry_out(&retire);
                    }
                }
                _ => {
                    let seat = rng.random_range(1..=7);
                    let id = if rng.random_bool(0.9) { there[&seat] } else { next_id + 1_000 };
                    world.ask(&join(seat, id));
                    if rng.random_bool(0.7) {
                        let name = format!("s{seat}");
                        world.seats.answered(&name, Some(n(there[&seat])));
                        answers.insert(name, n(there[&seat]));
                    }
                }
            }
            for _ in 0..rng.random_range(1..20) {
                let Some(change) = world.tick() else { continue };
                judge(&world, &change, &answers);
                *kinds
                    .entry(format!("{change:?}").split(' ').next().unwrap().to_owned())
                    .or_insert(0) += 1;
                if rng.random_bool(0.8) {
                    world.carry_out(&change);
                }
            }
        }
    }
    assert_eq!(kinds.len(), 4, "every kind of proposal came up: {kinds:?}");
    assert!(kinds.values().all(|count| *count > 10), "{kinds:?}");
}
