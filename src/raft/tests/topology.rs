//! E6: wherever some majority is fully connected, a leader arises, stays, and commits.

use super::super::Options;
use super::env::{Cluster, n};

fn pairs() -> Vec<(u64, u64)> {
    (1..=5).flat_map(|a| (a + 1..=5).map(move |b| (a, b))).collect()
}

fn linked(links: u32, a: u64, b: u64) -> bool {
    let key = (a.min(b), a.max(b));
    pairs().iter().position(|pair| *pair == key).is_some_and(|at| links & (1 << at) != 0)
}

/// Whether three of the five nodes are all linked with each other.
fn some_majority_is_connected(links: u32) -> bool {
    (1..=5).any(|a| {
        (a + 1..=5).any(|b| {
            (b + 1..=5).any(|c| linked(links, a, b) && linked(links, b, c) && linked(links, a, c))
        })
    })
}

fn options() -> Options {
    Options { heartbeat_ticks: 2, election_ticks: (10, 20), ..Options::default() }
}

/// Every one of the 1024 graphs over five nodes, cut out of a cluster that node 1 leads.
#[test]
fn every_topology_with_a_connected_majority_gets_a_stable_leader() {
    for links in (0..1024).filter(|links| some_majority_is_connected(*links)) {
        let mut cluster = Cluster::new(5, 0, options(), u64::from(links), true);
        cluster.elect(n(1));
        for (a, b) in pairs().into_iter().filter(|(a, b)| !linked(links, *a, *b)) {
            cluster.cuts.insert((n(a), n(b)));
            cluster.cuts.insert((n(b), n(a)));
        }
        // "Within ten election timeouts".
        for _ in 0..200 {
            cluster.tick_all();
        }
        let leader = cluster.leader().unwrap_or_else(|| panic!("links {links:010b}: no leader"));
        let term = cluster.soft(leader).term;
        let committed = cluster.oracle.committed();
        cluster.propose(leader, &["progress"]);
        for _ in 0..100 {
            cluster.tick_all();
        }
        assert!(cluster.oracle.committed() > committed, "links {links:010b}: no progress");
        let still = cluster.leader();
        assert_eq!(still, Some(leader), "links {links:010b}: the leader changes");
        assert_eq!(cluster.soft(leader).term, term, "links {links:010b}: the term grows");
        cluster.trace.clear();
    }
}

/// The same for every way to cut single directions of the links of one node.
#[test]
fn one_way_cuts_around_a_leader_do_not_stop_the_others() {
    for cuts in 0..256u32 {
        let mut cluster = Cluster::new(5, 0, options(), u64::from(cuts), true);
        cluster.elect(n(1));
        for other in 2..=5u64 {
            let at = (other - 2) * 2;
            if cuts & (1 << at) != 0 {
                cluster.cuts.insert((n(1), n(other)));
            }
            if cuts & (2 << at) != 0 {
                cluster.cuts.insert((n(other), n(1)));
            }
        }
        for _ in 0..200 {
            cluster.tick_all();
        }
        let leader = cluster.leader().unwrap_or_else(|| panic!("cuts {cuts:08b}: no leader"));
        let committed = cluster.oracle.committed();
        cluster.propose(leader, &["progress"]);
        for _ in 0..50 {
            cluster.tick_all();
        }
        assert!(cluster.oracle.committed() > committed, "cuts {cuts:08b}: no progress");
    }
}
