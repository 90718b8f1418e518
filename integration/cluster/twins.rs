//! Two processes under one name and one certificate, each with a directory of its own: as when a worker is
//! cut off, its pod deleted by force, started elsewhere with an empty disk, and the worker comes back.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use balsa::codec::api::LogContent;
use balsa::raft::{NodeId, RoleKind};

use crate::harness::load::Load;
use crate::harness::names::{Names, SERVICE, seat};
use crate::harness::{Cluster, PATIENCE, pause, until};

/// Three nodes that find each other by names, one of which, a follower, has a twin that is not started yet.
struct Town {
    cluster: Cluster,
    names: Names,
    leader: usize,
    old: usize,
    twin: usize,
}

impl Town {
    fn with_seat_limit(limit: &str) -> Town {
        let (mut cluster, mut names) = Cluster::prepare_named(3, 3);
        cluster.give_all(&["--seat-limit", limit]);
        cluster.publish_all(&mut names);
        cluster.start_all();
        let leader = cluster.wait_for_leader();
        let old = cluster.other_than(leader);
        let twin = cluster.twin_of(old);
        Town { cluster, names, leader, old, twin }
    }

    /// The seat's name leads to this one of the two from now on.
    fn point_at(&mut self, node: usize) {
        let others = (0..3).filter(|other| *other != self.old);
        let all: Vec<IpAddr> = others.chain([node]).map(|node| self.cluster.ip(node)).collect();
        self.names.point(&seat(self.old), &[self.cluster.ip(node)]);
        self.names.point(SERVICE, &all);
    }

    /// The old one is cut off; the twin takes its seat. Their node ids.
    fn replace_old_by_twin(&mut self) -> (NodeId, NodeId) {
        let old = self.cluster.node_id(self.old);
        self.cluster.nodes[self.old].freeze();
        self.point_at(self.twin);
        self.cluster.nodes[self.twin].start();
        let (new, took) = self.cluster.wait_for_new_voter(self.twin, Some(old));
        assert_ne!(old, new, "M7");
        println!("the twin votes after {took:.1?}");
        (old, new)
    }

    fn term(&self) -> u64 {
        until("the leader answers", PATIENCE, || self.cluster.status(self.leader)).term.0
    }

    /// Who holds the seat, as the leader knows, and nobody else: a node that was removed may answer, too.
    fn holders(&self) -> Option<Vec<NodeId>> {
        let admin = self.cluster.admin();
        let reply = self.cluster.wait(admin.members_of_leader()).ok()?;
        let members = reply.from.is_leader.then_some(reply.members)?;
        let name = &self.cluster.nodes[self.old].name;
        Some(members.iter().filter(|m| m.name == *name).map(|m| m.node_id).collect())
    }
}

#[test]
fn a_pod_that_comes_back_to_a_seat_that_was_given_away_is_told_so_and_changes_nothing() {
    let mut town = Town::with_seat_limit("1s");
    let load = Load::start(&town.cluster);
    let (old, new) = town.replace_old_by_twin();
    let term = town.term();
    load.wait_for(50);

    town.cluster.nodes[town.old].thaw();
    let why = until("the old one is told", PATIENCE, || {
        town.cluster.status(town.old)?.waiting.filter(|why| why.contains("was removed"))
    });
    println!("the old one says: {why}");
    let stays = |town: &Town, time: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < time {
            let returned = town.cluster.status(town.old).expect("it answers");
            assert_eq!(returned.node_id, old);
            // It may ask whether it would be voted for, for whoever told it may have been deposed; it gets no
            // answer, and raises no term.
            assert!(
                !matches!(returned.role, RoleKind::Candidate | RoleKind::Leader)
                    && returned.term.0 <= term,
                "E8: it does not campaign: {returned:?}"
            );
            assert!(returned.waiting.is_some(), "it does not serve: {returned:?}");
            assert_eq!(town.term(), term, "E8: nobody was disturbed");
            if let Some(holders) = town.holders() {
                assert_eq!(holders, [new], "M7");
            }
            pause(Duration::from_millis(100));
        }
    };
    stays(&town, Duration::from_secs(3));
    // Names that lead back to it change nothing either, as long as the other one lives.
    town.point_at(town.old);
    stays(&town, Duration::from_secs(3));

    // It is a new node as soon as its seat is free.
    town.cluster.nodes[town.twin].kill9();
    let (newest, took) = town.cluster.wait_for_new_voter(town.old, Some(old));
    assert!(newest != new && newest != old, "M7: ids are never used again");
    println!("the old one has started over and votes after {took:.1?}");
    let account = load.finish(&town.cluster);
    println!("proved: {} writes, none lost", account.acknowledged());
}

/// How long each of the two is there, then the other one.
const TURN: Duration = Duration::from_millis(1500);

/// A seat is given at most once in this time.
const SEAT_LIMIT: Duration = Duration::from_secs(5);

#[test]
fn two_pods_that_are_there_by_turns_change_the_members_at_most_once_in_a_while() {
    let mut town = Town::with_seat_limit(&format!("{}s", SEAT_LIMIT.as_secs()));
    let load = Load::start(&town.cluster);
    town.replace_old_by_twin();
    let changes = |town: &Town| {
        let log = town.cluster.replication(town.leader).log;
        log.iter().filter(|line| matches!(line.content, LogContent::Membership { .. })).count()
    };
    let before = changes(&town);
    let begun = Instant::now();
    for _ in 0..6 {
        for (comes, goes) in [(town.old, town.twin), (town.twin, town.old)] {
            // One that started over too often has stopped, and says so.
            if town.cluster.nodes[goes].ended().is_none() && town.cluster.nodes[goes].runs() {
                town.cluster.nodes[goes].freeze();
            }
            town.point_at(comes);
            if town.cluster.nodes[comes].ended().is_none() && town.cluster.nodes[comes].runs() {
                town.cluster.nodes[comes].thaw();
            }
            pause(TURN);
        }
    }
    let took = begun.elapsed();
    let changed = changes(&town) - before;
    // A learner goes, another comes, and takes the voter's place by a joint membership and its end.
    let most = 4 * (took.as_secs() / SEAT_LIMIT.as_secs() + 2);
    assert!(changed as u64 <= most, "{changed} changes of the members in {took:?}");
    println!("{changed} changes of the members in {took:.1?}, at most {most}");

    // One of them goes for good.
    town.cluster.nodes[town.old].kill9();
    town.cluster.wait_for_new_voter(town.twin, None);
    town.cluster.wait_for_voters(&[0, 1, 2]);
    let account = load.finish(&town.cluster);
    println!("proved: {} writes, none lost", account.acknowledged());
}
