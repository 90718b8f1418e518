//! What an operator asks for, by the names of seats.

use super::*;

fn wished(world: &World, wish: &Wish) -> Result<Option<MembershipChange>, WishRefusal> {
    Seats::change_for(wish, &world.membership, |id| !world.silent.contains(&id))
}

fn add(seat: u64, id: u64) -> Wish {
    Wish::Add { name: format!("s{seat}"), id: n(id), address: format!("s{seat}:6000") }
}

#[test]
fn an_unknown_seat_is_refused_with_those_that_there_are() {
    let world = World::of(3);
    for wish in [Wish::Promote { name: "s9".into() }, Wish::Remove { name: "s9".into() }] {
        let refusal = wished(&world, &wish).unwrap_err();
        assert_eq!(refusal.to_string(), "no member sits in s9; the seats are s1, s2, s3");
    }
}

#[test]
fn a_new_node_is_added_and_a_held_seat_is_not_given() {
    let mut world = World::of(3);
    assert_eq!(wished(&world, &add(4, 9)), Ok(added(4, 9, None)));
    assert_eq!(wished(&world, &add(3, 3)), Ok(None), "it is a member already");
    let refusal = wished(&world, &add(3, 9)).unwrap_err();
    assert_eq!(refusal, WishRefusal::Held { name: "s3".into(), holder: n(3) });
    world.silent.insert(n(3));
    assert_eq!(wished(&world, &add(3, 9)), Ok(added(3, 9, Some(3))));

    let full = World::of(MEMBERS_MAX as u64);
    assert_eq!(wished(&full, &add(99, 999)), Err(WishRefusal::Full));
}

#[test]
fn a_lost_learner_of_a_lost_voter_goes_first() {
    let mut world = World::of(3);
    world.silent.extend([n(3), n(9)]);
    world.carry_out(&added(3, 9, Some(3)).unwrap());
    assert_eq!(wished(&world, &add(3, 10)), Ok(Some(MembershipChange::Remove { id: n(9) })));
}

#[test]
fn a_learner_is_promoted_in_its_seat() {
    let mut world = World::of(3);
    let refusal = wished(&world, &Wish::Promote { name: "s3".into() }).unwrap_err();
    assert_eq!(refusal.to_string(), "s3 votes already");
    world.carry_out(&added(4, 9, None).unwrap());
    let promote = wished(&world, &Wish::Promote { name: "s4".into() });
    assert_eq!(promote, Ok(Some(MembershipChange::Promote { id: n(9) })));
    world.carry_out(&added(3, 10, Some(3)).unwrap());
    let replace = wished(&world, &Wish::Promote { name: "s3".into() });
    assert_eq!(replace, Ok(Some(MembershipChange::Replace { old: n(3), new: n(10) })));
}

#[test]
fn removing_a_seat_retires_it_with_its_learner() {
    let mut world = World::of(3);
    world.carry_out(&added(3, 10, Some(3)).unwrap());
    let retire = wished(&world, &Wish::Remove { name: "s3".into() }).unwrap();
    assert_eq!(retire, Some(MembershipChange::Retire { id: n(3) }));
    world.carry_out(&retire.unwrap());
    assert_eq!(world.membership.members.len(), 2);
    assert_eq!(world.membership.retired, BTreeSet::from(["s3".to_owned()]));
}
