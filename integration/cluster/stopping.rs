//! Stops that wait while the cluster needs the node, and those that do not. None changes the members.

use std::time::{Duration, Instant};

use balsa::codec::api::MemberStatus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Cluster, PATIENCE, Process, until};
use crate::{OPERATION, put_all};

/// Shorter than a node stays at most, so that who ends within it has not waited in vain.
const WITHOUT_WAITING: Duration = Duration::from_secs(6);

fn ask_to_stop(node: &Process) {
    let pid = Pid::from_raw(i32::try_from(node.pid()).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("SIGTERM to one's own child");
}

/// The members without their matches, which move.
fn members(cluster: &Cluster) -> Vec<MemberStatus> {
    let members = cluster.members().expect("somebody answers");
    let bare = |member| MemberStatus { match_index: None, ..member };
    members.into_iter().map(bare).collect()
}

#[test]
fn a_whole_cluster_stops_without_waiting_and_keeps_its_members() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(OPERATION);
    put_all(&cluster, &client, "k", 10);
    let before = members(&cluster);
    let asked = Instant::now();
    cluster.nodes.iter().for_each(ask_to_stop);
    for node in &cluster.nodes {
        assert_eq!(node.wait_for_end(WITHOUT_WAITING), Some(0), "{}", node.name);
    }
    let took = asked.elapsed();
    assert!(took < WITHOUT_WAITING, "{took:?}");
    cluster.start_all();
    cluster.wait_for_leader();
    assert_eq!(members(&cluster), before, "M7: a stop changes no membership");
    assert_eq!(cluster.assert_equal().store.len(), 10);
    println!("proved: three nodes stopped at once are gone after {:.1} s", took.as_secs_f32());
}

#[test]
fn a_node_stays_until_another_one_is_back() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(OPERATION);
    put_all(&cluster, &client, "k", 10);
    let before = members(&cluster);
    let leader = cluster.wait_for_leader();
    let first = cluster.other_than(leader);
    cluster.nodes[first].kill9();
    let second = cluster.other_than(leader);
    for asked in [second, leader] {
        ask_to_stop(&cluster.nodes[asked]);
        let stopping = || cluster.status(asked).filter(|status| status.stopping);
        until("the node says that it was asked to stop", PATIENCE, stopping);
        // It serves on meanwhile: without it nothing could be acknowledged.
        put_all(&cluster, &client, &format!("while-{asked}-stays"), 10);
        assert!(cluster.nodes[asked].said().contains("stays until others are back"));
        let away = if asked == second { first } else { second };
        cluster.nodes[away].start();
        assert_eq!(cluster.nodes[asked].wait_for_end(PATIENCE), Some(0));
        put_all(&cluster, &client, &format!("after-{asked}-left"), 10);
    }
    cluster.start_all();
    cluster.wait_for_leader();
    assert_eq!(members(&cluster), before, "M7: a stop changes no membership");
    assert_eq!(cluster.assert_equal().store.len(), 50);
    println!(
        "proved: a follower and a leader without which there is no quorum stay until there is one"
    );
}
