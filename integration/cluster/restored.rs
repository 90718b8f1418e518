//! Directories that went back in time: a volume restored from a copy, and the old disk of a seat that
//! somebody else holds by now. Each is recognised, set aside, and goes the way of a lost disk (design
//! section 5).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use balsa::raft::{HardState, NodeId};
use balsa::storage::{DataDir, LogOptions, RealFs};

use crate::harness::load::Load;
use crate::harness::{Cluster, PATIENCE, until};

const OPTIONS: [&str; 2] = ["--seat-limit", "1s"];

/// Several election time-outs, of one second at most.
const SEVERAL: Duration = Duration::from_secs(4);

/// Writes between the copy and the accident, and how old the copy is at least.
fn age() -> (u64, Duration) {
    match std::env::var_os("BALSA_LONG").is_some_and(|long| long == "1") {
        true => (2000, Duration::from_secs(10)),
        false => (300, Duration::from_secs(1)),
    }
}

/// Copies the disk of a node that is down for a moment; returns when the copy is old.
fn copy_and_go_on(cluster: &mut Cluster, load: &Load, node: usize) -> PathBuf {
    let copy = cluster.path().join("copy");
    cluster.nodes[node].kill9();
    cluster.nodes[node].keep_copy(&copy);
    cluster.nodes[node].start();
    cluster.wait_for_leader();
    let (writes, time) = age();
    let begun = Instant::now();
    load.wait_for(writes);
    until("the copy is old", PATIENCE, || (begun.elapsed() >= time).then_some(()));
    copy
}

/// The node has set its directory aside and votes under another id; and after it had been put back, the
/// old directory voted for nobody: two votes in a term would be one from before and one from after (E2).
fn assert_began_anew(cluster: &Cluster, node: usize, old: NodeId, copy: &Path) -> Duration {
    let (new, took) = cluster.wait_for_new_voter(node, Some(old));
    assert_ne!(new, old);
    let aside = cluster.nodes[node].set_aside();
    let [aside] = aside.as_slice() else {
        panic!("nothing is deleted, and it was done once: {aside:?}")
    };
    let seat = &cluster.nodes[node].name;
    let (before, after) = (hard_state(copy, seat), hard_state(aside, seat));
    assert!(
        after == before || after.term > before.term && after.vote.is_none(),
        "E2: put back with {before:?}, set aside with {after:?}"
    );
    took
}

/// Term and vote of a directory that nobody uses.
fn hard_state(directory: &Path, seat: &str) -> HardState {
    let open = DataDir::open(Arc::new(RealFs), directory, seat).expect("a sound directory");
    let (_, restored) = open.open_log(LogOptions::default()).expect("a sound log");
    restored.hard_state
}

#[test]
fn a_volume_put_back_from_a_copy_is_recognised() {
    let mut cluster = Cluster::start_with(3, &OPTIONS);
    let load = Load::start(&cluster);
    let node = cluster.other_than(cluster.wait_for_leader());
    let old = cluster.node_id(node);
    let copy = copy_and_go_on(&mut cluster, &load, node);
    assert_eq!(cluster.node_id(node), old, "an ordinary restart changes nothing");
    cluster.nodes[node].kill9();
    cluster.nodes[node].put_back(&copy);
    cluster.nodes[node].start();
    let took = assert_began_anew(&cluster, node, old, &copy);
    let account = load.finish(&cluster);
    cluster.wait_for_voters(&[0, 1, 2]);
    println!(
        "proved: a volume put back from a copy is recognised, and votes again under a new id after \
         {took:.1?}; {} writes, none failed, none lost",
        account.acknowledged()
    );
}

/// Without the leader the other two would elect one of them, if the vote of a node that went back
/// were good for anything. Its vote of the time between may be another (E2).
#[test]
fn a_copy_votes_for_nobody() {
    let mut cluster = Cluster::start_with(3, &OPTIONS);
    let load = Load::start(&cluster);
    let leader = cluster.wait_for_leader();
    let node = cluster.other_than(leader);
    let old = cluster.node_id(node);
    let copy = copy_and_go_on(&mut cluster, &load, node);
    let account = load.stop();
    let leader = cluster.wait_for_leader();
    assert_ne!(leader, node, "it was started last");
    let other = 3 - leader - node;
    cluster.assert_agree();
    cluster.nodes[node].kill9();
    cluster.nodes[leader].kill9();
    cluster.nodes[node].put_back(&copy);
    cluster.nodes[node].start();
    let recognised = || {
        let status = cluster.status(node)?;
        (status.node_id != old).then_some(status)
    };
    until("the copy is recognised without a leader", PATIENCE, recognised);
    cluster.watch(SEVERAL, |cluster| {
        let statuses = cluster.statuses().unwrap_or_default();
        assert!(statuses.iter().all(|s| s.leader.is_none()), "E2: {statuses:#?}");
    });
    cluster.nodes[leader].start();
    let leads = cluster.wait_for_leader_of(&[leader, other]);
    let took = assert_began_anew(&cluster, node, old, &copy);
    let contents = cluster.assert_agree();
    account.assert_none_failed_or_lost(&contents[0].store);
    println!(
        "proved: an old copy helps nobody to a leader's place; with the leader back raft-{leads} \
         leads, and the copy's seat votes again after {took:.1?}"
    );
}

/// Nobody was there to see it: what is remembered is on disks.
#[test]
fn a_copy_put_back_while_all_were_down_is_recognised() {
    let mut cluster = Cluster::start_with(3, &OPTIONS);
    let load = Load::start(&cluster);
    let node = cluster.other_than(cluster.wait_for_leader());
    let old = cluster.node_id(node);
    let copy = copy_and_go_on(&mut cluster, &load, node);
    // A new term, which everybody writes down, and with it what was seen.
    let leader = cluster.wait_for_leader();
    let next = cluster.nodes[3 - leader - node].name.clone();
    cluster.wait(cluster.admin().transfer(&next)).expect("handed over");
    load.wait_for(100);
    let account = load.stop();
    cluster.assert_agree();
    cluster.kill_all();
    cluster.nodes[node].put_back(&copy);
    cluster.start_all();
    let took = assert_began_anew(&cluster, node, old, &copy);
    let contents = cluster.assert_agree();
    account.assert_none_failed_or_lost(&contents[0].store);
    println!("proved: a copy put back while all were down votes under a new id after {took:.1?}");
}

/// Somebody finds the disk that was thought lost, and puts it back.
#[test]
fn the_old_disk_of_a_seat_that_is_taken_is_set_aside() {
    let mut cluster = Cluster::start_with(3, &OPTIONS);
    let load = Load::start(&cluster);
    let node = cluster.other_than(cluster.wait_for_leader());
    let first = cluster.node_id(node);
    let kept = cluster.path().join("kept");
    cluster.nodes[node].kill9();
    cluster.nodes[node].keep_copy(&kept);
    cluster.nodes[node].wipe();
    cluster.nodes[node].start();
    let (second, _) = cluster.wait_for_new_voter(node, Some(first));
    load.wait_for(100);
    cluster.nodes[node].kill9();
    cluster.nodes[node].put_back(&kept);
    cluster.nodes[node].start();
    let took = assert_began_anew(&cluster, node, first, &kept);
    let third = cluster.node_id(node);
    assert!(third != first && third != second, "M7: an id is never used again");
    let account = load.finish(&cluster);
    cluster.wait_for_voters(&[0, 1, 2]);
    println!(
        "proved: the old disk of a seat that is taken is set aside, and the seat votes under a third \
         id after {took:.1?}; {} writes, none failed, none lost",
        account.acknowledged()
    );
}
