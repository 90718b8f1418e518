//! Members that were changed while a node slept or was cut off: who was removed learns it, whomever it knows,
//! and who is a member stays one.

use std::time::{Duration, Instant};

use balsa::client::ErrorKind;

use crate::harness::{Cluster, PATIENCE, Process, bytes, until};

/// A node without a leader asks after five election timeouts of a second, then once a second until it has found
/// somebody who knows the leader. The rest is for a busy machine.
const TOLD: Duration = Duration::from_secs(20);

/// Long enough that a node without a leader asks, and a little more.
const LONG: Duration = Duration::from_secs(8);

/// What a node writes that asks.
const ASKS: &str = "asks whether it is still a member";

fn transfer(cluster: &Cluster, to: usize) {
    let name = cluster.nodes[to].name.clone();
    until(&format!("{name} leads"), PATIENCE, || {
        // Refused as long as the one that is to lead has not caught up.
        let _ = cluster.wait(cluster.admin().transfer(&name));
        cluster.leader_now().filter(|(leader, _)| *leader == to)
    });
}

/// Voters 0, 1 and 2; while 2 sleeps it is removed, and 3 comes and leads. All whom 2 knows follow.
#[test]
fn who_was_removed_while_it_slept_learns_it_from_a_leader_that_it_does_not_know() {
    let mut cluster = Cluster::start_with(3, &["--seat-limit", "1s"]);
    let client = cluster.client(PATIENCE);
    cluster.wait(client.put(bytes("before"), bytes("1"))).expect("acknowledged");
    cluster.assert_agree();
    let old = cluster.node_id(2);
    cluster.nodes[2].kill9();
    until("raft-2 is removed", PATIENCE, || {
        let _ = cluster.wait(cluster.admin().remove_member("raft-2"));
        cluster.members().filter(|members| members.iter().all(|m| m.name != "raft-2"))
    });
    // Beside a lost voter nobody gets a vote (M8).
    let three = cluster.one_more_seat();
    cluster.nodes[three].start();
    cluster.wait_for_new_voter(three, None);
    transfer(&cluster, three);
    cluster.wait_for_voters(&[0, 1, 3]);
    let (leader, term) = until("somebody leads", PATIENCE, || cluster.leader_now());
    assert_eq!(leader, three, "or it would be told at the door");
    // For a moment the leader goes on to tell it.
    cluster.nodes[three].wait_until_it_says(0, "no longer a member; connections closed");

    cluster.nodes[2].start();
    let begun = Instant::now();
    let why = until("the one that slept is told", TOLD, || {
        cluster.status(2)?.waiting.filter(|why| why.contains("was removed"))
    });
    let took = begun.elapsed();
    println!("raft-2, {took:.1?} after its start: {why}");
    assert!(why.contains("raft-3, which leads it, says so"), "{why}");
    let said = cluster.nodes[2].wait_until_it_says(0, "is retired");
    println!("and in its log: {said}");
    // Whoever asks it for the members is sent elsewhere, and so is who wants to read.
    let it_alone = vec![cluster.nodes[2].address.clone()];
    let client = cluster.client_of(it_alone, Duration::from_secs(2));
    let listed = cluster.wait(client.members()).map(|reply| reply.members);
    let read = cluster.wait(client.get(bytes("before"), true)).map(|reply| reply.found);
    for error in [listed.expect_err("an old list"), read.expect_err("an old value")] {
        assert_eq!(error.kind, ErrorKind::NoLeader, "{error}");
        assert!(error.to_string().contains("was removed from the cluster"), "{error}");
    }
    // Its own state it tells at once, although nobody tells it the others.
    let client = cluster.client_of(vec![cluster.nodes[2].address.clone()], PATIENCE);
    let begun = Instant::now();
    let statuses = cluster.wait(client.statuses());
    assert!(matches!(&statuses[..], [(_, Ok(status))] if status.node_id == old), "{statuses:?}");
    assert!(begun.elapsed() < TOLD, "{:?}", begun.elapsed());
    let next = cluster.nodes[0].address.clone();
    let client = cluster.client_of(vec![cluster.nodes[2].address.clone(), next], PATIENCE);
    let members = cluster.wait(client.members()).expect("the next one tells").members;
    assert!(members.iter().all(|member| member.name != "raft-2"), "{members:?}");

    // Retired: it waits, with its directory, and disturbs nobody (E8).
    cluster.watch(Duration::from_secs(2), |cluster| {
        if let Some(status) = cluster.status(2) {
            assert_eq!(status.node_id, old, "the seat is retired");
        }
        assert_eq!(cluster.leader_now(), Some((three, term)), "E8");
    });
    assert!(cluster.nodes[2].set_aside().is_empty());
    let address = cluster.nodes[2].address.clone();
    until("the seat is taken again", PATIENCE, || {
        cluster.wait(cluster.admin().add_member("raft-2", &address)).ok()
    });
    let (new, _) = cluster.wait_for_new_voter(2, Some(old));
    assert_eq!(cluster.nodes[2].set_aside().len(), 1, "nothing is deleted");
    cluster.wait_for_voters(&[0, 1, 2, 3]);
    cluster.assert_agree();
    println!("proved: told {took:.1?} after its start, back as {new} instead of {old}");
}

/// Waits until the node follows the leader, and proves that it is the one that it was.
fn assert_it_is_the_same(cluster: &Cluster, node: usize, was: balsa::raft::NodeId) {
    until("it follows again", PATIENCE, || {
        cluster.status(node).filter(|it| it.leader.is_some() && it.waiting.is_none())
    });
    assert_eq!(cluster.node_id(node), was, "M7: a sound member never starts over");
    assert!(cluster.nodes[node].set_aside().is_empty());
}

#[test]
fn a_member_that_is_cut_off_for_long_asks_and_stays_what_it_is() {
    let mut cluster = Cluster::prepare(3);
    let proxy = cluster.put_proxy(2);
    cluster.start_all();
    cluster.wait_for_leader();
    let client = cluster.client(PATIENCE);
    cluster.wait(client.put(bytes("before"), bytes("1"))).expect("acknowledged");
    cluster.assert_agree();
    transfer(&cluster, 0);
    cluster.wait_for_leader();
    let was = cluster.node_id(2);

    // Nobody reaches it, and it reaches everybody.
    let (_, term) = until("somebody leads", PATIENCE, || cluster.leader_now());
    let said = cluster.nodes[2].said().len();
    proxy.cut_off();
    println!("{}", cluster.nodes[2].wait_until_it_says(said, ASKS));
    println!("{}", cluster.nodes[2].wait_until_it_says(said, "says that this node is a member"));
    proxy.heal();
    assert_it_is_the_same(&cluster, 2, was);
    assert_eq!(cluster.leader_now().map(|(_, now)| now), Some(term), "E8: nobody was disturbed");

    // The majority is silent.
    let said = cluster.nodes[2].said().len();
    cluster.nodes[..2].iter().for_each(Process::freeze);
    let end = Instant::now() + LONG;
    println!("{}", cluster.nodes[2].wait_until_it_says(said, ASKS));
    until("it was cut off for long", PATIENCE, || (Instant::now() >= end).then_some(()));
    cluster.nodes[..2].iter().for_each(Process::thaw);
    assert_it_is_the_same(&cluster, 2, was);
    let asks = cluster.nodes[2].said().split_off(said).matches(ASKS).count();
    assert_eq!(asks, 1, "it is said once");
    cluster.wait(client.put(bytes("after"), bytes("2"))).expect("acknowledged");
    let contents = cluster.assert_agree();
    assert!(contents.iter().all(|one| one.store.len() == 2), "before and after");
    cluster.assert_no_errors();
    println!("proved: a member without a leader for {LONG:?} asked, and is what it was");
}
