//! Workers that are silent instead of refusing: nothing comes back, and nothing is reset.

use std::time::{Duration, Instant};

use balsa::client::ErrorKind;

use crate::harness::load::Load;
use crate::harness::proxy::Proxy;
use crate::harness::{Cluster, PATIENCE, until};

/// From the silence of a line until it is replaced: 1.5 s until it counts as silent, and a dial. The rest is
/// for a busy machine.
const NOTICED: Duration = Duration::from_secs(8);

/// Three nodes, each reached by the others through a proxy.
fn behind_proxies() -> (Cluster, Vec<Proxy>) {
    let mut cluster = Cluster::prepare(3);
    let proxies = (0..3).map(|node| cluster.put_proxy(node)).collect();
    cluster.start_all();
    cluster.wait_for_leader();
    (cluster, proxies)
}

/// Waits until the node has applied what the leader has committed by now. How long that took.
fn wait_until_caught_up(
    cluster: &Cluster,
    node: usize,
    leader: usize,
    limit: Duration,
) -> Duration {
    let begun = Instant::now();
    let commit = until("the leader answers", PATIENCE, || cluster.status(leader)).commit_index;
    until(&format!("raft-{node} has applied {commit}"), limit, || {
        (cluster.status(node)?.applied_index >= commit).then_some(())
    });
    begun.elapsed()
}

#[test]
fn a_follower_whose_connections_fell_silent_is_dialed_anew() {
    let (cluster, proxies) = behind_proxies();
    let leader = cluster.wait_for_leader();
    let follower = cluster.other_than(leader);
    let load = Load::start(&cluster);
    load.wait_for(100);
    proxies[follower].mute_standing();
    load.wait_for(50);
    let took = wait_until_caught_up(&cluster, follower, leader, NOTICED);
    load.finish(&cluster);
    println!(
        "proved: a follower behind lines without a sign of life was reached anew in {took:.1?}"
    );
}

#[test]
fn a_client_leaves_a_connection_that_fell_silent() {
    let (cluster, proxies) = behind_proxies();
    let leader = cluster.wait_for_leader();
    let addresses = proxies.iter().map(|proxy| proxy.address.clone()).collect();
    let client = cluster.client_of(addresses, Duration::from_secs(10));
    cluster.wait(client.put("k".into(), "1".into())).expect("acknowledged");
    proxies[leader].mute_standing();
    let begun = Instant::now();
    cluster.wait(client.put("k".into(), "2".into())).expect("acknowledged");
    let took = begun.elapsed();
    assert!(took < NOTICED, "{took:?}");
    let again = Instant::now();
    cluster.wait(client.put("k".into(), "3".into())).expect("acknowledged");
    assert!(again.elapsed() < Duration::from_secs(1), "{:?}", again.elapsed());
    let read = cluster.wait(client.get("k".into(), false)).expect("an answer");
    assert_eq!(read.found.map(|found| found.value).as_deref(), Some(&b"3"[..]));
    println!("proved: a client whose leader fell silent and moved got through after {took:.1?}");
}

/// The system goes on to take connections for a process that is paused, and to acknowledge every byte.
#[test]
fn a_paused_follower_is_waited_for_by_nobody_and_taken_back_at_once() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let follower = cluster.other_than(leader);
    let load = Load::start(&cluster);
    cluster.nodes[follower].freeze();
    // Several times as long as a silence takes to be noticed: it is dialed again and again meanwhile.
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        load.wait_for(50);
    }
    cluster.nodes[follower].thaw();
    let took = wait_until_caught_up(&cluster, follower, leader, NOTICED);
    let account = load.finish(&cluster);
    let gap = account.longest_gap();
    assert!(gap < Duration::from_secs(3), "{gap:?}");
    cluster.assert_no_errors();
    println!("proved: a follower paused for 6 s is back {took:.1?} later; longest gap {gap:.2?}");
}

/// Its machine takes connections and acknowledges bytes; nobody reads them. Those who follow it name it as their leader
/// until they have elected another.
#[test]
fn clients_leave_a_paused_leader_as_soon_as_there_is_another() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let load = Load::start(&cluster);
    load.wait_for(100);
    cluster.nodes[leader].freeze();
    load.wait_for(200);
    cluster.nodes[leader].thaw();
    load.wait_for(200);
    let account = load.stop();
    let contents = cluster.assert_agree();
    account.assert_none_failed_or_lost(&contents[0].store);
    let gap = account.longest_gap();
    assert!(gap < NOTICED, "{gap:?}");
    println!("proved: writes went on {gap:.2?} after their leader had been paused");
}

#[test]
fn a_paused_node_is_not_said_to_have_stopped() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let follower = cluster.other_than(leader);
    let admin = cluster.admin();
    let address = &cluster.nodes[follower].address;
    cluster.wait(admin.status(address)).expect("an answer");
    cluster.nodes[follower].freeze();
    let told = cluster.wait(admin.stop(address)).expect_err("nobody knows");
    assert_eq!(told.kind, ErrorKind::Unknown, "{told}");
    cluster.nodes[follower].thaw();
}
