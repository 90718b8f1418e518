//! The policy of the seats with nodes that run: disks are lost, seats come and go, and the cluster looks
//! after itself.

use std::collections::{BTreeMap, BTreeSet};

use super::super::seats::{Join, JoinAnswer, SeatOptions, Seats};
use super::super::{ClusterId, MembershipChange, NodeId, RoleKind, Term};
use super::bare::options;
use super::env::{Cluster, n};

const OURS: ClusterId = ClusterId(7);

/// A cluster with the policy on every node, and the processes that want to be taken in.
struct House {
    cluster: Cluster,
    seats: BTreeMap<NodeId, Seats>,
    /// Who answers at the address of a seat.
    there: BTreeMap<String, NodeId>,
    /// Nodes with an empty directory, and their seats.
    joining: BTreeMap<NodeId, String>,
    /// What the last answer was.
    said: BTreeMap<NodeId, JoinAnswer>,
    options: SeatOptions,
}

impl House {
    fn of(voters: u64) -> House {
        let cluster = Cluster::new(voters, 0, options(), 11, true);
        let there = (1..=voters).map(|id| (format!("n{id}"), n(id))).collect();
        let mut house = House {
            cluster,
            seats: BTreeMap::new(),
            there,
            joining: BTreeMap::new(),
            said: BTreeMap::new(),
            options: SeatOptions { limit_ticks: 20, retirement_ticks: 400 },
        };
        house.until("a leader", |house| house.leads().is_some());
        house
    }

    fn leads(&self) -> Option<NodeId> {
        self.cluster.leader().filter(|id| {
            let status = self.cluster.core(*id).status();
            status.commit >= status.membership_index && status.commit.0 > 1
        })
    }

    fn alive(&self) -> Vec<NodeId> {
        self.cluster.ids().into_iter().filter(|id| self.cluster.alive(*id)).collect()
    }

    /// One tick for every node and its policy; the empty nodes ask all of them.
    fn tick(&mut self) {
        self.cluster.tick_all();
        for id in self.alive() {
            let seats = self.seats.entry(id).or_insert_with(|| Seats::new(OURS, self.options));
            let change = seats.tick(self.cluster.core(id));
            for question in seats.questions(self.cluster.core(id)) {
                seats.answered(&question.name, self.there.get(&question.name).copied());
            }
            for (asker, name) in &self.joining {
                let (name, address) = (name.clone(), format!("{name}.test:6000"));
                let join = Join { name, id: *asker, address, cluster: None, term: Term::default() };
                if self.cluster.soft(id).role == RoleKind::Leader {
                    self.said.insert(*asker, seats.join(&join, self.cluster.core(id)));
                }
            }
            if let Some(change) = change {
                self.cluster.change(id, &change);
                self.cluster.settle();
            }
        }
        let member = |(id, answer): (&NodeId, &JoinAnswer)| {
            (*answer == JoinAnswer::Member { cluster: OURS }).then_some(*id)
        };
        let taken_in: Vec<NodeId> = self.said.iter().filter_map(member).collect();
        for id in taken_in {
            self.said.remove(&id);
            if self.joining.remove(&id).is_some() {
                self.cluster.restart(id);
            }
        }
    }

    fn until(&mut self, what: &str, done: impl Fn(&House) -> bool) {
        for _ in 0..2_000 {
            if done(self) {
                return;
            }
            self.tick();
        }
        panic!("never: {what}\n{}", self.cluster.trace.join("\n"));
    }

    /// A process with an empty directory comes up in a seat; whoever ran there is gone.
    fn arrives(&mut self, seat: &str, id: NodeId) {
        if let Some(old) = self.there.insert(seat.to_owned(), id)
            && self.cluster.nodes.contains_key(&old)
            && self.cluster.alive(old)
        {
            self.cluster.crash(old);
        }
        self.cluster.blank(id);
        self.joining.insert(id, seat.to_owned());
    }

    fn votes(&self, id: NodeId) -> bool {
        self.leads().is_some_and(|leader| {
            let core = self.cluster.core(leader);
            let status = core.status();
            !core.membership().is_joint()
                && status.commit >= status.membership_index
                && core.membership().voters.contains(&id)
        })
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.cluster.core(self.leads().expect("a leader")).membership().voters.clone()
    }

    /// A fresh write is committed everywhere.
    fn writes(&mut self) {
        let leader = self.leads().expect("a leader");
        self.cluster.propose(leader, &["x"]);
        let last = self.cluster.core(leader).status().last.index;
        self.until("everybody applies the write", |house| {
            house.alive().iter().all(|id| house.cluster.core(*id).status().applied >= last)
        });
    }
}

#[test]
fn disks_are_lost_one_after_the_other_and_each_seat_votes_again() {
    let mut house = House::of(3);
    for round in 0..9 {
        house.writes();
        let seat = format!("n{}", round % 3 + 1);
        let id = n(10 + round);
        house.arrives(&seat, id);
        house.until("the new node votes", |house| house.votes(id));
        assert_eq!(house.voters().len(), 3);
        house.writes();
    }
    assert_eq!(house.voters(), BTreeSet::from([n(16), n(17), n(18)]));
}

#[test]
fn the_leaders_disk_is_lost() {
    let mut house = House::of(3);
    house.writes();
    let leader = house.leads().unwrap();
    house.arrives(&format!("n{}", leader.0), n(10));
    house.until("the new node votes", |house| house.votes(n(10)));
    house.writes();
}

#[test]
fn a_lost_disk_beside_a_dead_voter_waits_for_a_quorum() {
    let mut house = House::of(3);
    house.cluster.crash(n(2));
    house.arrives("n3", n(10));
    for _ in 0..500 {
        house.tick();
    }
    assert!(!house.cluster.alive(n(10)), "one of three takes nobody in (D17)");
    assert!(house.alive().iter().all(|id| house.cluster.soft(*id).role != RoleKind::Leader));
    house.cluster.restart(n(2));
    house.until("the new node votes", |house| house.votes(n(10)));
    house.writes();
}

#[test]
fn seats_come_and_go() {
    let mut house = House::of(3);
    for (seat, id) in [("n4", n(10)), ("n5", n(11))] {
        house.arrives(seat, id);
        house.until("the new seat votes", |house| house.votes(id));
    }
    assert_eq!(house.voters().len(), 5);
    house.writes();

    let leader = house.leads().unwrap();
    house.cluster.change(leader, &MembershipChange::Retire { id: n(11) });
    house.until("it has left", |house| house.leads().is_some() && house.voters().len() == 4);
    house.arrives("n5", n(12));
    for _ in 0..300 {
        house.tick();
    }
    assert!(matches!(&house.said[&n(12)], JoinAnswer::Wait { why } if why.contains("is retired")));
    house.until("the retirement is over", |house| house.votes(n(12)));
    house.writes();
}

#[test]
fn a_node_that_is_lost_again_before_it_votes_is_replaced_by_its_successor() {
    let mut house = House::of(3);
    house.arrives("n3", n(10));
    house.until("it is taken in", |house| house.cluster.alive(n(10)));
    house.arrives("n3", n(11));
    house.until("the newest node votes", |house| house.votes(n(11)));
    assert_eq!(house.voters().len(), 3);
    assert!(!house.cluster.core(house.leads().unwrap()).membership().contains(n(10)));
    house.writes();
}

#[test]
fn a_second_process_under_a_name_does_not_push_the_first_one_out() {
    let mut house = House::of(3);
    // It answers at the seat's address, but the member is heard all the same.
    house.cluster.blank(n(10));
    house.joining.insert(n(10), "n3".to_owned());
    house.there.insert("n3".to_owned(), n(10));
    for _ in 0..300 {
        house.tick();
    }
    assert_eq!(house.voters(), BTreeSet::from([n(1), n(2), n(3)]));
    let seat_of_leader = house.leads() == Some(n(3));
    assert!(matches!(
        &house.said[&n(10)],
        JoinAnswer::Wait { why } if why.contains("still answers") || seat_of_leader
    ));
}
