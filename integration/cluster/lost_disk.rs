//! A node whose disk is gone is taken in again by itself, as a new node in its old seat, and nobody
//! who writes meanwhile notices (design section 5).

use std::time::Duration;

use crate::harness::load::Load;
use crate::harness::{Cluster, PATIENCE, until};

/// A seat may be replaced this often; a minute where nobody is in a hurry.
const SEAT_LIMIT: &str = "1s";

/// Writes between two accidents.
const BETWEEN: u64 = 100;

/// How often in the test of many.
fn times() -> usize {
    if std::env::var_os("BALSA_LONG").is_some_and(|long| long == "1") { 10 } else { 3 }
}

/// Kills the node, takes its disk away, starts it, and waits until it votes again. How long that took.
fn lose_disk(cluster: &mut Cluster, load: &Load, node: usize) -> Duration {
    let old = cluster.node_id(node);
    cluster.nodes[node].kill9();
    load.wait_for(BETWEEN);
    cluster.nodes[node].wipe();
    cluster.nodes[node].start();
    let (new, took) = cluster.wait_for_new_voter(node, Some(old));
    assert_ne!(new, old, "M7: an empty directory is a new node");
    load.wait_for(BETWEEN);
    took
}

/// Stops the load and judges everything.
fn judge(cluster: &Cluster, load: Load) -> (u64, Duration) {
    let account = load.finish(cluster);
    cluster.wait_for_voters(&(0..cluster.nodes.len()).collect::<Vec<_>>());
    cluster.assert_no_errors();
    (account.acknowledged(), account.longest_gap())
}

/// One node loses its disk under load.
fn lose_one(what: &str, choose: impl Fn(&Cluster) -> usize) {
    let mut cluster = Cluster::start_with(3, &["--seat-limit", SEAT_LIMIT]);
    let load = Load::start(&cluster);
    let node = choose(&cluster);
    let took = lose_disk(&mut cluster, &load, node);
    let (writes, gap) = judge(&cluster, load);
    println!(
        "proved: a {what} without its disk votes again under a new id after {took:.1?}; {writes} \
         writes, none failed, none lost; longest gap {gap:.2?}"
    );
}

#[test]
fn a_follower_that_lost_its_disk_is_a_voter_again_in_seconds() {
    lose_one("follower", |cluster| cluster.other_than(cluster.wait_for_leader()));
}

#[test]
fn a_leader_that_lost_its_disk_is_a_voter_again_in_seconds() {
    lose_one("leader", Cluster::wait_for_leader);
}

#[test]
fn disks_are_lost_again_and_again() {
    let mut cluster = Cluster::start_with(3, &["--seat-limit", SEAT_LIMIT]);
    let load = Load::start(&cluster);
    let mut took = Vec::new();
    for round in 0..times() {
        took.push(lose_disk(&mut cluster, &load, round % 3));
    }
    let (writes, gap) = judge(&cluster, load);
    let longest = took.iter().max().expect("some rounds");
    println!(
        "proved: {} disks lost in a row, round robin, each back after at most {longest:.1?}; {writes} \
         writes, none failed, none lost; longest gap {gap:.2?}",
        took.len()
    );
}

/// What must not be repaired by itself: two new nodes of three are no quorum that remembers.
#[test]
fn a_majority_without_its_disks_does_not_answer() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(Duration::from_secs(20));
    cluster.wait(client.put("k".into(), "v".into())).expect("acknowledged");
    let keeper = cluster.wait_for_leader();
    let lost: Vec<usize> = (0..3).filter(|node| *node != keeper).collect();
    cluster.kill_all();
    for node in &lost {
        cluster.nodes[*node].wipe();
    }
    cluster.start_all();
    for node in &lost {
        let what = format!("raft-{node} says what it waits for");
        let why = until(&what, PATIENCE, || {
            cluster.status(*node)?.waiting.filter(|why| why.contains("waiting to be taken in"))
        });
        println!("raft-{node}: {why}");
    }
    cluster.watch(Duration::from_secs(4), |cluster| {
        let statuses = cluster.statuses().unwrap_or_default();
        assert!(statuses.iter().all(|s| s.leader.is_none()), "M6, E3: {statuses:#?}");
    });
    assert!(cluster.status(lost[0]).is_some_and(|status| status.cluster_id.is_none()), "M7");
    let impatient = cluster.client(Duration::from_secs(1));
    let refused = cluster.wait(impatient.get("k".into(), false)).expect_err("nobody leads");
    println!("proved: with two disks of three lost nobody leads or answers ({})", refused.word);
}
