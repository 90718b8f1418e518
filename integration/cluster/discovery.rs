//! How nodes find each other by names: names that come late, point elsewhere, hang or hide a cluster, and
//! workers that fall silent. With real processes and a name server of the test's own.

mod harness;
mod silence;
mod twins;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use balsa::certs::{Authority, Existing, RawParams, Validity};
use balsa::codec::api::StatusReply;
use harness::load::Load;
use harness::names::{self, Names, SERVICE, Says, nobody, seat};
use harness::{Cluster, PATIENCE, Process, until};

/// Long enough for several rounds of asking, in each of which a cluster might be founded by mistake.
const SOME_ROUNDS: Duration = Duration::from_secs(7);

#[test]
#[ignore = "the process of a node; the other tests start it"]
fn node_process() {
    names::be_a_node();
}

/// Waits until a node says that it waits, in these words.
fn wait_until_it_waits(cluster: &Cluster, node: usize, words: &str) -> String {
    until(&format!("raft-{node} waits: {words}"), PATIENCE, || {
        cluster.status(node)?.waiting.filter(|why| why.contains(words))
    })
}

/// Looks for as long as `time` that none of these nodes is in a cluster.
fn assert_none_founded(cluster: &Cluster, nodes: &[usize], time: Duration) {
    cluster.watch(time, |cluster| {
        let statuses: Vec<StatusReply> =
            nodes.iter().filter_map(|node| cluster.status(*node)).collect();
        assert!(statuses.iter().all(|s| s.cluster_id.is_none()), "founded: {statuses:#?}");
    });
}

fn all_of(cluster: &Cluster, nodes: std::ops::Range<usize>) -> Vec<IpAddr> {
    nodes.map(|node| cluster.ip(node)).collect()
}

#[test]
fn names_that_come_one_by_one_late_or_old_are_waited_for() {
    let (mut cluster, mut names) = Cluster::prepare_named(3, 3);
    cluster.start_all();
    let why = wait_until_it_waits(&cluster, 0, "the name cannot be resolved");
    println!("raft-0 waits: {why}");
    // A pod's name is unknown for a second after its birth, and then the resolver takes its time.
    names.point(&seat(0), &[cluster.ip(0)]);
    let late = Duration::from_millis(3500);
    names.say(&seat(1), Says::Late(late, vec![cluster.ip(1)]));
    // Old addresses first: nobody's, and by now another node's.
    names.point(&seat(2), &[nobody(), cluster.ip(1), cluster.ip(2)]);
    let why = wait_until_it_waits(&cluster, 0, "a member of a cluster may be where nobody answers");
    assert!(why.contains(SERVICE), "{why}");
    assert_none_founded(&cluster, &[0, 1, 2], SOME_ROUNDS);
    names.point(SERVICE, &all_of(&cluster, 0..3));
    cluster.wait_for_leader();
    let client = cluster.client(PATIENCE);
    cluster.wait(client.put("k".into(), "v".into())).expect("acknowledged");
    cluster.assert_equal();
    cluster.assert_no_errors();
    println!("proved: nodes whose names come late and with old addresses found one cluster");
}

#[test]
fn an_address_of_somebody_else_behind_the_service_hinders_nobody() {
    let (mut cluster, mut names) = Cluster::prepare_named(3, 3);
    cluster.publish_all(&mut names);
    // The address of a pod that is gone is that of another cluster's pod now.
    let mut stranger = stranger(&cluster);
    stranger.start();
    let there = until("the stranger listens", PATIENCE, || {
        std::net::TcpStream::connect(&stranger.address).ok()?.peer_addr().ok()
    });
    let mut all = all_of(&cluster, 0..3);
    all.insert(0, there.ip());
    names.point(SERVICE, &all);
    names.point(&seat(1), &[there.ip(), cluster.ip(1)]);
    let begun = Instant::now();
    cluster.start_all();
    cluster.wait_for_leader();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(30), "without the minute of caution: {took:?}");
    let cluster_id = cluster.status(0).expect("it answers").cluster_id;
    assert!(cluster_id.is_some());
    println!("proved: founded in {took:.1?} beside another cluster's address");
}

/// A node of another cluster under the same CA, at an address of its own and our nodes' port.
fn stranger(cluster: &Cluster) -> Process {
    let ca = Authority::load(&cluster.certificates.join("ca")).expect("the CA");
    let issued = ca.issue_raw(&RawParams {
        organization: "elsewhere".into(),
        common_name: "raft-0".into(),
        uris: vec!["balsa://elsewhere/node/raft-0".into()],
        dns: vec!["localhost".into()],
        ips: Vec::new(),
        server_auth: true,
        client_auth: true,
        ca: false,
        validity: Validity::days(20).expect("a length"),
    });
    let certs = cluster.certificates.join("stranger");
    issued.expect("a certificate").save(&certs, Existing::Refuse).expect("it is saved");
    let (_, port) = cluster.nodes[0].address.rsplit_once(':').expect("a port");
    let address = format!("127.0.1.99:{port}");
    let seeds = format!("raft-0={address}");
    Process::new("raft-0", &address, cluster.path().join("stranger"), certs, &seeds)
}

/// Five members, the seeds are three of them, and all three have lost their disks while the two others are
/// cut off from them: only the service shows that there is a cluster.
#[test]
fn no_cluster_is_founded_beside_members_beyond_the_seeds() {
    let (mut cluster, mut names) = Cluster::prepare_named(5, 3);
    cluster.publish_all(&mut names);
    cluster.start_all();
    cluster.wait_for_voters(&[0, 1, 2, 3, 4]);
    let load = Load::start(&cluster);
    load.wait_for(100);
    let account = load.stop();
    let old = cluster.status(3).expect("it answers").cluster_id;

    // The two that stay know nobody's address any more, so that they cannot be heard of by themselves.
    let mut blind: Vec<Names> = [3, 4].map(|node| cluster.own_names(node)).into();
    for node in [3, 4] {
        cluster.nodes[node].kill9();
    }
    for names in &mut blind {
        for node in 0..5 {
            names.say(&seat(node), Says::Nothing);
        }
    }
    let copies: Vec<_> = (0..3)
        .map(|node| {
            let copy = cluster.path().join(format!("copy-{node}"));
            cluster.nodes[node].kill9();
            cluster.nodes[node].keep_copy(&copy);
            cluster.nodes[node].wipe();
            copy
        })
        .collect();

    // First not even the service's name resolves, as for a moment after a restart.
    names.say(SERVICE, Says::Nothing);
    cluster.start_all();
    let why = wait_until_it_waits(&cluster, 0, "a member of a cluster may be where nobody answers");
    println!("raft-0 waits: {why}");
    assert_none_founded(&cluster, &[0, 1, 2], SOME_ROUNDS);
    names.point(SERVICE, &all_of(&cluster, 0..5));
    for node in 0..3 {
        let why = wait_until_it_waits(&cluster, node, "waiting to be taken in");
        println!("raft-{node} waits: {why}");
    }
    assert_none_founded(&cluster, &[0, 1, 2], SOME_ROUNDS);

    // The disks are found again: it is still the same cluster, with all that was acknowledged.
    for (node, copy) in copies.iter().enumerate() {
        cluster.nodes[node].kill9();
        cluster.nodes[node].put_back(copy);
        cluster.nodes[node].start();
    }
    blind.iter_mut().for_each(Names::forget_all);
    cluster.wait_for_leader();
    let contents = cluster.assert_agree();
    account.assert_none_failed_or_lost(&contents[0].store);
    assert_eq!(cluster.status(0).expect("it answers").cluster_id, old, "M6");
    println!("proved: three empty seeds of three founded nothing beside two members of five");
}

#[test]
fn a_cluster_under_other_seats_takes_in_who_heard_of_it_by_the_service() {
    let (mut cluster, mut names) = Cluster::prepare_named(4, 1);
    cluster.publish_all(&mut names);
    let seeds: Vec<String> =
        (1..4).map(|node| format!("raft-{node}={}", cluster.nodes[node].address)).collect();
    for node in 1..4 {
        let more = &mut cluster.nodes[node].more;
        more.clear();
        cluster.nodes[node].seeds = seeds.join(",");
        cluster.nodes[node].start();
    }
    cluster.wait_for_leader();
    // Alone in its seed list, it would found at once if it did not ask further.
    cluster.nodes[0].start();
    cluster.wait_for_new_voter(0, None);
    cluster.wait_for_voters(&[0, 1, 2, 3]);
    cluster.assert_agree();
    println!("proved: a node whose only seed is itself joined the cluster behind the service");
}

#[test]
fn a_resolver_that_hangs_holds_up_neither_a_member_nor_its_end() {
    let (mut cluster, mut names) = Cluster::prepare_named(3, 3);
    cluster.publish_all(&mut names);
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    let node = cluster.other_than(leader);
    let mut own = cluster.own_names(node);
    for name in (0..3).map(seat).chain([SERVICE.to_owned()]) {
        own.say(&name, Says::Hangs);
    }
    // Its peers reach it, so it follows as ever; it reaches nobody.
    cluster.nodes[node].kill9();
    cluster.nodes[node].start();
    cluster.wait_for_leader();
    let client = cluster.client(PATIENCE);
    for n in 0..20 {
        cluster.wait(client.put(format!("k{n}").into(), "v".into())).expect("acknowledged");
    }
    cluster.assert_equal();
    let begun = Instant::now();
    assert_eq!(cluster.nodes[node].terminate(), Some(0));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "K2: {took:?}");
    println!("proved: a node whose resolver hangs follows, and stops within {took:.1?}");
}
