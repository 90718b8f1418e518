//! The policy over looks at a leader that the tests make up, rule by rule and at random. With nodes that
//! run it is told in the core's own tests.

use super::super::status::PeerStatus;
use super::*;

mod random;
mod wishes;

const OURS: ClusterId = ClusterId(0xc1);

fn n(id: u64) -> NodeId {
    NodeId(id)
}

fn options() -> SeatOptions {
    SeatOptions { limit_ticks: 500, retirement_ticks: 2_000 }
}

/// A leader's world that can be changed at will. Seats are `s1`, `s2` …
struct World {
    membership: Membership,
    settled: bool,
    transfers: bool,
    silent: BTreeSet<NodeId>,
    /// Nobody has answered this leader yet; who is not silent still counts as heard.
    new: bool,
    matched: BTreeMap<NodeId, u64>,
    last: u64,
    seats: Seats,
}

impl World {
    /// Nodes 1 … `voters` in the seats of the same number; node 1 leads.
    fn of(voters: u64) -> World {
        let member = |id: u64| Member { name: format!("s{id}"), address: format!("s{id}:6000") };
        let membership =
            Membership::of_voters((1..=voters).map(|id| (n(id), member(id))).collect());
        World {
            membership,
            settled: true,
            transfers: false,
            silent: BTreeSet::new(),
            new: false,
            matched: BTreeMap::new(),
            last: 1_000,
            seats: Seats::new(OURS, options()),
        }
    }

    /// What the policy is given to see; everybody not said otherwise is heard and has everything.
    fn with<T>(&mut self, act: impl FnOnce(&mut Seats, &View<'_>) -> T) -> T {
        let members = self.membership.members.keys().filter(|id| **id != n(1));
        let peer = |id: &NodeId| PeerStatus {
            id: *id,
            matched: Index(self.matched.get(id).copied().unwrap_or(self.last)),
            active: !self.silent.contains(id),
        };
        let membership = self.membership.clone();
        let view = View {
            id: n(1),
            term: Term(5),
            membership: &membership,
            settled: self.settled,
            transfers: self.transfers,
            last: Index(self.last),
            lag: 100,
            peers: members.clone().map(|id| (*id, peer(id))).collect(),
            answering: members
                .copied()
                .filter(|id| !self.silent.contains(id) && !self.new)
                .collect(),
        };
        if self.seats.term.is_none() {
            self.seats.term = Some(view.term);
            self.seats.members = membership.members.keys().copied().collect();
        }
        act(&mut self.seats, &view)
    }

    fn tick(&mut self) -> Option<MembershipChange> {
        self.with(|seats, view| {
            seats.now += 1;
            seats.propose(view)
        })
    }

    /// Ticks until something is proposed.
    fn next(&mut self, ticks: u64) -> Option<MembershipChange> {
        (0..ticks).find_map(|_| self.tick())
    }

    fn ask(&mut self, join: &Join) -> JoinAnswer {
        self.with(|seats, view| seats.answer(join, view))
    }

    fn why(&mut self, join: &Join) -> String {
        match self.ask(join) {
            JoinAnswer::Wait { why } => why,
            other => panic!("no mere reason to wait: {other:?}"),
        }
    }

    /// A node asks, its address is asked, and `there` answers.
    fn ask_and_find(&mut self, join: &Join, there: u64) -> JoinAnswer {
        self.ask(join);
        self.with(|seats, view| seats.ask(view));
        self.seats.answered(&join.name, Some(n(there)));
        self.ask(join)
    }

    /// Does what was proposed, as the core would, all of it at once.
    fn carry_out(&mut self, change: &MembershipChange) {
        self.membership = carried_out(&self.membership, change);
    }
}

fn carried_out(membership: &Membership, change: &MembershipChange) -> Membership {
    let after = super::super::change::after(membership, change).expect("the core takes it");
    super::super::change::completed(&after)
}

fn join(seat: u64, id: u64) -> Join {
    let (name, address) = (format!("s{seat}"), format!("s{seat}:6000"));
    Join { name, id: n(id), address, cluster: None, term: Term(0) }
}

fn added(seat: u64, id: u64, instead_of: Option<u64>) -> Option<MembershipChange> {
    let member = Member { name: format!("s{seat}"), address: format!("s{seat}:6000") };
    Some(MembershipChange::AddLearner { id: n(id), member, instead_of: instead_of.map(n) })
}

#[test]
fn a_lost_voter_is_replaced_in_two_steps() {
    let mut world = World::of(3);
    world.silent.insert(n(3));
    assert!(matches!(world.ask_and_find(&join(3, 9), 9), JoinAnswer::Wait { .. }));
    let add = world.tick();
    assert_eq!(add, added(3, 9, Some(3)));
    world.carry_out(&add.unwrap());
    assert_eq!(world.membership.voters, BTreeSet::from([n(1), n(2), n(3)]), "nobody left yet");
    assert_eq!(world.ask(&join(3, 9)), JoinAnswer::Member { cluster: OURS });

    world.matched.insert(n(9), world.last - 101);
    assert_eq!(world.next(50), None, "it has not caught up (M5)");
    world.matched.insert(n(9), world.last - 100);
    let replace = world.next(50);
    assert_eq!(replace, Some(MembershipChange::Replace { old: n(3), new: n(9) }));
    world.carry_out(&replace.unwrap());
    assert_eq!(world.membership.voters, BTreeSet::from([n(1), n(2), n(9)]));
    assert_eq!(world.next(1_000), None);
}

#[test]
fn a_holder_that_is_heard_keeps_its_seat() {
    let mut world = World::of(3);
    world.ask_and_find(&join(3, 9), 9);
    assert_eq!(world.next(1_000), None);
    let why = world.why(&join(3, 9));
    assert!(why.contains("held by node 0000000000000003, which still answers"), "{why}");
}

#[test]
fn a_silent_holder_keeps_its_seat_until_its_address_answers_with_the_new_node() {
    let mut world = World::of(3);
    world.silent.insert(n(3));
    world.ask(&join(3, 9));
    assert_eq!(world.next(20), None, "nobody has answered yet");
    for there in [None, Some(n(3)), Some(n(8))] {
        world.ask(&join(3, 9));
        world.seats.answered("s3", there);
        assert_eq!(world.next(20), None, "{there:?} is at the address");
    }
    let why = world.why(&join(3, 9));
    assert!(why.contains("node 0000000000000008 answers at s3:6000 as s3"), "{why}");
    world.ask_and_find(&join(3, 9), 9);
    assert_eq!(world.tick(), added(3, 9, Some(3)));
}

#[test]
fn an_answer_of_long_ago_proves_nothing() {
    let mut world = World::of(3);
    world.ask_and_find(&join(3, 9), 9);
    for _ in 0..ANSWER_TICKS {
        world.ask(&join(3, 9));
        assert_eq!(world.tick(), None, "the holder is heard");
    }
    world.silent.insert(n(3));
    world.ask(&join(3, 9));
    assert_eq!(world.tick(), None);
    let why = world.why(&join(3, 9));
    assert!(why.starts_with("asking at s3:6000"), "{why}");
}

#[test]
fn each_seat_is_asked_about_at_its_own_address_one_question_at_a_time() {
    let mut world = World::of(3);
    world.silent.insert(n(3));
    let moved = Join { address: "elsewhere:1".to_owned(), ..join(3, 9) };
    world.ask(&moved);
    world.ask(&join(4, 10));
    let questions = world.with(|seats, view| seats.ask(view));
    let asked: Vec<(&str, &str)> =
        questions.iter().map(|it| (it.name.as_str(), it.address.as_str())).collect();
    assert_eq!(asked, [("s3", "s3:6000"), ("s4", "s4:6000")], "known seat, new seat");
    assert_eq!(world.with(|seats, view| seats.ask(view)), []);
    world.seats.answered("s3", Some(n(9)));
    assert_eq!(world.with(|seats, view| seats.ask(view)), [], "that answer is fresh");
    world.next(1);
    // The address that answered is the one that will stand in the membership, whatever the node says.
    world.seats.seats.get_mut("s3").unwrap().again = 0;
    world.ask(&moved);
    assert_eq!(world.tick(), added(3, 9, Some(3)));
}

#[test]
fn the_leader_s_own_seat_is_taken() {
    let mut world = World::of(3);
    world.ask_and_find(&join(1, 9), 9);
    assert_eq!(world.next(100), None);
    assert!(world.why(&join(1, 9)).contains("s1 leads"));
}

#[test]
fn a_new_seat_joins_as_a_learner_and_is_promoted() {
    let mut world = World::of(3);
    world.ask_and_find(&join(4, 9), 9);
    let add = world.tick();
    assert_eq!(add, added(4, 9, None));
    world.carry_out(&add.unwrap());
    let promote = world.next(50);
    assert_eq!(promote, Some(MembershipChange::Promote { id: n(9) }));
    world.carry_out(&promote.unwrap());
    assert_eq!(world.membership.voters.len(), 4);
}

/// M8: with a fourth voter beside three, of which one is lost, three of four are needed. If it is lost at that
/// very moment the cluster stands still for good.
#[test]
fn nobody_votes_beside_a_voter_that_is_silent() {
    let mut world = World::of(3);
    let add = added(4, 9, None).unwrap();
    world.carry_out(&add);
    world.silent.insert(n(3));
    assert_eq!(world.next(500), None);
    // A new leader counts everybody as heard, and waits until they have answered.
    (world.new, world.silent) = (true, BTreeSet::new());
    assert_eq!(world.next(500), None);
    (world.new, world.silent) = (false, BTreeSet::from([n(3)]));
    // In the place of the lost one somebody may vote: the number of voters stays the same.
    world.carry_out(&added(3, 8, Some(3)).unwrap());
    let replace = MembershipChange::Replace { old: n(3), new: n(8) };
    assert_eq!(world.next(50), Some(replace.clone()));
    world.carry_out(&replace);
    assert_eq!(world.next(50), Some(MembershipChange::Promote { id: n(9) }));
}

#[test]
fn nothing_is_proposed_while_a_change_is_under_way() {
    let mut world = World::of(3);
    world.ask_and_find(&join(4, 9), 9);
    world.settled = false;
    assert_eq!(world.next(20), None);
    world.settled = true;
    assert_eq!(world.tick(), added(4, 9, None));
}

#[test]
fn a_member_is_told_only_once_that_is_committed() {
    let mut world = World::of(3);
    world.settled = false;
    assert!(world.why(&join(2, 2)).contains("is being taken in"));
    world.settled = true;
    assert_eq!(world.ask(&join(2, 2)), JoinAnswer::Member { cluster: OURS });
    assert!(world.why(&join(3, 2)).contains("sits in s2, not in s3"));
    // Never told to start over, whatever its directory says.
    let old = Join { cluster: Some(OURS), term: Term(1), ..join(2, 2) };
    assert_eq!(world.ask(&old), JoinAnswer::Member { cluster: OURS });
}

#[test]
fn another_cluster_s_node_is_told_both_names() {
    let mut world = World::of(3);
    let foreign = Join { cluster: Some(ClusterId(0xf0)), ..join(4, 9) };
    let why = world.why(&foreign);
    assert!(why.contains("00000000000000f0") && why.contains("00000000000000c1"), "{why}");
    assert!(world.seats.seats.is_empty(), "and not remembered");
}

#[test]
fn the_newest_node_of_a_seat_takes_the_place_of_a_learner_that_was_lost_too() {
    let mut world = World::of(3);
    world.silent.insert(n(3));
    world.ask_and_find(&join(3, 9), 9);
    let add = world.tick().unwrap();
    world.carry_out(&add);
    world.silent.insert(n(9));
    world.matched.insert(n(9), 0);

    // Not more than once in a while …
    world.ask_and_find(&join(3, 10), 10);
    assert!(world.why(&join(3, 10)).contains("changed hands only a moment ago"));
    assert_eq!(world.next(400), None);
    for _ in 0..options().limit_ticks {
        world.tick();
    }
    // … and then the silent learner goes before the new one comes.
    world.ask_and_find(&join(3, 10), 10);
    let remove = world.tick();
    assert_eq!(remove, Some(MembershipChange::Remove { id: n(9) }));
    world.carry_out(&remove.unwrap());
    world.ask_and_find(&join(3, 10), 10);
    let add = world.next(50);
    assert_eq!(add, added(3, 10, Some(3)));
    world.carry_out(&add.unwrap());
    assert_eq!(world.next(50), Some(MembershipChange::Replace { old: n(3), new: n(10) }));
}

#[test]
fn a_learner_beside_a_voter_that_is_back_goes_when_it_is_silent() {
    let mut world = World::of(3);
    world.silent.insert(n(3));
    world.ask_and_find(&join(3, 9), 9);
    let add = world.tick().unwrap();
    world.carry_out(&add);
    world.silent.clear();
    assert_eq!(world.next(100), None, "both live: nobody can say which one is meant");
    world.silent.insert(n(9));
    assert_eq!(world.next(100), Some(MembershipChange::Remove { id: n(9) }));
}

#[test]
fn of_two_processes_of_one_seat_the_one_at_its_address_is_taken() {
    let mut world = World::of(3);
    world.silent.insert(n(3));
    world.ask_and_find(&join(3, 9), 9);
    assert!(world.why(&join(3, 10)).contains("two processes run under one name"));
    assert_eq!(world.tick(), added(3, 9, Some(3)), "the other one did not push it aside");
}

#[test]
fn a_retired_seat_waits_for_its_time_or_for_an_admin() {
    let mut world = World::of(4);
    world.carry_out(&MembershipChange::Retire { id: n(4) });
    assert_eq!(world.membership.retired, BTreeSet::from(["s4".to_owned()]));
    for _ in 0..options().retirement_ticks - 10 {
        assert_eq!(world.tick(), None);
    }
    world.ask_and_find(&join(4, 9), 9);
    assert!(world.why(&join(4, 9)).contains("is retired"));
    assert_eq!(world.tick(), None);
    for _ in 0..10 {
        world.tick();
    }
    world.ask_and_find(&join(4, 9), 9);
    let add = world.next(50);
    assert_eq!(add, added(4, 9, None), "its time is over");
    world.carry_out(&add.unwrap());
    assert!(world.membership.retired.is_empty(), "and so is the retirement");

    let mut world = World::of(4);
    world.carry_out(&MembershipChange::Retire { id: n(4) });
    world.ask_and_find(&join(4, 9), 9);
    assert_eq!(world.tick(), None);
    world.seats.reopen("s4");
    assert_eq!(world.tick(), added(4, 9, None), "an admin asked for it");
}

#[test]
fn a_new_leader_counts_a_retirement_anew() {
    let mut world = World::of(4);
    world.carry_out(&MembershipChange::Retire { id: n(4) });
    for _ in 0..options().retirement_ticks {
        world.tick();
    }
    world.seats.forget(None);
    world.ask_and_find(&join(4, 9), 9);
    assert_eq!(world.next(options().retirement_ticks - 1), None);
}

#[test]
fn a_removed_node_starts_over_when_its_seat_is_free() {
    let mut world = World::of(4);
    world.carry_out(&MembershipChange::Remove { id: n(4) });
    let old = Join { cluster: Some(OURS), term: Term(5), ..join(4, 4) };
    assert!(matches!(world.ask(&old), JoinAnswer::Removed { .. }), "nobody has looked yet");
    world.settled = false;
    assert!(matches!(world.ask_and_find(&old, 4), JoinAnswer::Wait { .. }), "no fact yet");
    world.settled = true;
    let newer = Join { term: Term(6), ..old.clone() };
    assert!(world.why(&newer).contains("knows a newer term"), "it knows more than we do");
    assert!(matches!(world.ask(&old), JoinAnswer::StartOver { .. }));
    assert_eq!(world.next(100), None, "its old directory is never taken in (M7)");

    let mut world = World::of(4);
    world.carry_out(&MembershipChange::Retire { id: n(4) });
    match world.ask_and_find(&old, 4) {
        JoinAnswer::Removed { why } => assert!(why.contains("is retired"), "{why}"),
        other => panic!("retired: {other:?}"),
    }
}

/// Whoever asks because it has known no leader for long may be a member.
#[test]
fn only_who_is_no_member_by_a_fact_is_told_that_it_was_removed() {
    let mut world = World::of(3);
    let old = |seat: u64, id: u64, term: u64| Join {
        cluster: Some(OURS),
        term: Term(term),
        ..join(seat, id)
    };
    for term in [0, 5, 6, 99] {
        assert_eq!(world.ask(&old(2, 2, term)), JoinAnswer::Member { cluster: OURS });
        assert!(world.seats.seats.is_empty(), "a member's question leaves no trace");
        assert!(world.with(|seats, view| seats.ask(view)).is_empty(), "and asks nobody");
    }
    // Whatever is in its way: taken, or retired, or nobody has looked.
    let says_removed = |answer| matches!(answer, JoinAnswer::Removed { .. });
    assert!(says_removed(world.ask(&old(3, 77, 5))), "its seat is taken");
    for (settled, term) in [(false, 5), (true, 6), (false, 6)] {
        world.settled = settled;
        for seat in [3, 4] {
            let answer = world.ask_and_find(&old(seat, 77, term), 77);
            assert!(matches!(answer, JoinAnswer::Wait { .. }), "{settled} {term}: {answer:?}");
        }
    }
    world.settled = true;
    assert!(!says_removed(world.ask(&join(3, 78))), "an empty directory was never a member's");
}

#[test]
fn a_removed_node_waits_while_another_one_lives_in_its_seat() {
    let mut world = World::of(3);
    let old = Join { cluster: Some(OURS), term: Term(5), ..join(3, 77) };
    assert!(matches!(world.ask_and_find(&old, 77), JoinAnswer::Removed { .. }));
    world.silent.insert(n(3));
    assert!(matches!(world.ask_and_find(&old, 77), JoinAnswer::StartOver { .. }));
}

#[test]
fn seats_and_what_is_remembered_of_them_are_limited() {
    let mut world = World::of(MEMBERS_MAX as u64);
    world.ask_and_find(&join(40, 99), 99);
    assert!(world.why(&join(40, 99)).contains("takes no more"));
    world.silent.insert(n(3));
    world.ask_and_find(&join(3, 98), 98);
    assert_eq!(world.tick(), added(3, 98, Some(3)), "a known seat has its place");
    for seat in 100..100 + 2 * SEATS_MAX as u64 {
        world.ask(&join(seat, seat));
    }
    assert!(world.seats.seats.len() <= SEATS_MAX);
    assert!(world.why(&join(999, 999)).contains("looked after already"));
    for _ in 0..=JOIN_TICKS.max(options().limit_ticks) {
        world.tick();
    }
    assert!(world.seats.seats.len() <= 1, "who does not ask any more is forgotten");
}

#[test]
fn one_seat_that_cannot_be_served_does_not_hold_up_the_others() {
    let mut world = World::of(3);
    world.ask_and_find(&join(4, 9), 9);
    world.ask_and_find(&join(5, 10), 10);
    let first = world.tick();
    assert_eq!(first, added(4, 9, None));
    // The core refuses that one; the other seat has its turn.
    assert_eq!(world.tick(), added(5, 10, None));
    assert_eq!(world.next(AGAIN_TICKS), first);
}

#[test]
fn a_learner_that_waits_for_a_lost_voter_is_reported() {
    let mut world = World::of(3);
    world.carry_out(&added(4, 9, None).unwrap());
    world.silent.insert(n(3));
    assert_eq!(world.next(REPORT_TICKS - 1), None);
    assert!(world.seats.reports().is_empty(), "not at once");
    assert_eq!(world.next(2), None);
    let reports = world.seats.reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].contains("the learner s4") && reports[0].contains("and s3 does not"));
    world.silent.clear();
    assert_eq!(world.next(50), Some(MembershipChange::Promote { id: n(9) }));
    assert!(world.seats.reports().is_empty());
}

#[test]
fn a_learner_that_stays_silent_is_kept_and_reported() {
    let mut world = World::of(3);
    world.ask_and_find(&join(4, 9), 9);
    let add = world.tick().unwrap();
    world.carry_out(&add);
    world.silent.insert(n(9));
    for _ in 0..=REPORT_TICKS {
        assert_eq!(world.tick(), None);
    }
    let reports = world.seats.reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].contains("member remove s4"), "{reports:?}");
    assert!(world.membership.contains(n(9)));
}
