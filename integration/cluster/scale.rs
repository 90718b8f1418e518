//! From three nodes to five and back, whoever dies meanwhile.

use std::time::{Duration, Instant};

use balsa::client::{Client, Error, ErrorKind};
use balsa::codec::api::ChangeReply;

use crate::harness::load::Load;
use crate::harness::{Cluster, PATIENCE, until};

/// Writes between two steps.
const BETWEEN: u64 = 50;

/// Longer than a change takes, and than the retirement of nobody.
const OPTIONS: [&str; 2] = ["--seat-limit", "1s"];

/// Kills whoever leads, and starts it again when another one does.
fn kill_the_leader(cluster: &mut Cluster) {
    let (leader, term) = until("somebody leads", PATIENCE, || cluster.leader_now());
    cluster.nodes[leader].kill9();
    until("another one leads", PATIENCE, || cluster.leader_now().filter(|(_, now)| *now > term));
    cluster.nodes[leader].start();
}

/// Removes a member, again and again as long as the outcome is unknown or another change runs.
fn remove(cluster: &Cluster, name: &str) {
    until(&format!("{name} is removed"), PATIENCE, || {
        let gone = |cluster: &Cluster| {
            cluster.members().filter(|members| members.iter().all(|m| m.name != name)).map(drop)
        };
        match cluster.wait(cluster.admin().remove_member(name)) {
            Ok(reply) => {
                assert_eq!((reply.name.as_str(), reply.role.as_str()), (name, "removed"));
                Some(())
            }
            Err(error) if matches!(error.word, "under_way" | "unknown") => gone(cluster),
            Err(error) if error.kind == ErrorKind::NoLeader => gone(cluster),
            // An attempt whose outcome was unknown had been carried out.
            Err(error) => gone(cluster).or_else(|| panic!("{name}: {error:?}")),
        }
    });
}

#[test]
fn three_five_and_three_while_leaders_die() {
    let mut cluster = Cluster::start_with(3, &OPTIONS);
    let load = Load::start(&cluster);
    for _ in 0..2 {
        let node = cluster.one_more_seat();
        cluster.nodes[node].start();
        let name = cluster.nodes[node].name.clone();
        // As soon as the first phase is seen, whoever began it dies; the next leader goes on.
        until(&format!("{name} is a member"), PATIENCE, || {
            cluster.members()?.into_iter().find(|member| member.name == name)
        });
        kill_the_leader(&mut cluster);
        let (_, took) = cluster.wait_for_new_voter(node, None);
        println!("{name} votes {took:.1?} after the leader that took it in had died");
        load.wait_for(BETWEEN);
    }
    cluster.wait_for_voters(&[0, 1, 2, 3, 4]);
    cluster.assert_alive();
    for node in [4, 3] {
        let name = cluster.nodes[node].name.clone();
        // With a quorum that does not answer the change is begun and not finished when its leader dies.
        let (leader, _) = until("somebody leads", PATIENCE, || cluster.leader_now());
        let others: Vec<usize> = (0..=node).filter(|other| *other != leader).collect();
        let frozen = &others[..others.len() / 2 + 1];
        frozen.iter().for_each(|other| cluster.nodes[*other].freeze());
        let said = cluster.nodes[leader].said().len();
        let at_the_leader = vec![cluster.nodes[leader].address.clone()];
        let asked = begin_removal(admin_at(&cluster, at_the_leader), &name);
        let begun = cluster.nodes[leader].wait_until_it_says(said, "members change");
        println!("{begun}");
        cluster.nodes[leader].kill9();
        frozen.iter().for_each(|other| cluster.nodes[*other].thaw());
        let error = asked.join().expect("no panic").expect_err("its leader died");
        assert_eq!(error.kind, ErrorKind::Unknown, "C3: {error}");
        cluster.nodes[leader].start();
        remove(&cluster, &name);
        load.wait_for(BETWEEN);
        let what = format!("{name} says that it was removed");
        let why = until(&what, PATIENCE, || cluster.status(node)?.waiting);
        println!("{name}: {why}");
    }
    cluster.wait_for_voters(&[0, 1, 2]);
    for node in [3, 4] {
        let (code, name) = (cluster.nodes[node].terminate(), &cluster.nodes[node].name);
        assert_eq!(code, Some(0), "{name} is not needed any more and stops");
    }
    let account = load.finish(&cluster);
    cluster.wait_for_voters(&[0, 1, 2]);
    cluster.assert_no_errors();
    println!("proved: 3, 5 and 3 nodes with a leader killed in each of four changes: {account}");
}

/// Starts, an election time-out of one second at most, and a write, on a busy machine.
const SEVERAL: Duration = Duration::from_secs(15);

/// Asks for a removal from a thread of its own.
fn begin_removal(admin: Client, name: &str) -> std::thread::JoinHandle<Result<ChangeReply, Error>> {
    let name = name.to_owned();
    std::thread::spawn(move || crate::harness::runtime().block_on(admin.remove_member(&name)))
}

/// A client's connections belong to the runtime that first uses it, so each thread has its own.
fn admin_at(cluster: &Cluster, endpoints: Vec<String>) -> Client {
    crate::harness::admin(&cluster.certificates, endpoints)
}

#[test]
fn a_leader_that_is_removed_finishes_and_goes() {
    let mut cluster = Cluster::start_with(3, &OPTIONS);
    let node = cluster.one_more_seat();
    cluster.nodes[node].start();
    cluster.wait_for_new_voter(node, None);
    let load = Load::start(&cluster);
    let leader = cluster.wait_for_leader();
    let name = cluster.nodes[leader].name.clone();
    let reply = cluster.wait(cluster.admin().remove_member(&name));
    let reply = reply.expect("M9: a leader carries its own removal through");
    assert_eq!((reply.name.as_str(), reply.role.as_str()), (name.as_str(), "removed"));
    let others: Vec<usize> = (0..4).filter(|other| *other != leader).collect();
    cluster.wait_for_voters(&others);
    until("the removed leader says so and waits", PATIENCE, || {
        let status = cluster.status(leader)?;
        let why = status.waiting.filter(|_| status.role != balsa::raft::RoleKind::Leader)?;
        println!("{name}: {why}");
        Some(())
    });
    load.wait_for(BETWEEN);
    // It is not taken in again by itself, not even by a new start.
    assert_eq!(cluster.nodes[leader].terminate(), Some(0));
    cluster.nodes[leader].start();
    cluster.nodes[leader].wait_until_it_says(0, "removed");
    load.wait_for(BETWEEN);
    cluster.watch(Duration::from_secs(3), |cluster| {
        if let Some(members) = cluster.members() {
            assert!(members.iter().all(|m| m.name != name), "retired: {members:?}");
        }
    });
    // Until an admin wants it back.
    let address = cluster.nodes[leader].address.clone();
    let reply = until("the seat is taken again", PATIENCE, || {
        cluster.wait(cluster.admin().add_member(&name, &address)).ok()
    });
    assert_eq!(reply.name, name);
    cluster.wait_for_new_voter(leader, None);
    cluster.wait_for_voters(&[0, 1, 2, 3]);
    let account = load.finish(&cluster);
    println!(
        "proved: a leader that is removed finishes, then goes; its seat is retired until `member \
         add`: {account}"
    );
}

/// The first one cannot be committed while three of five do not answer, so the second finds it under
/// way. Elections are slow here, or the leader would give up first.
#[test]
fn of_two_changes_at_once_one_wins() {
    let mut cluster = Cluster::prepare(5);
    cluster.give_all(&["--election", "400-600"]);
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    cluster.assert_agree();
    let others: Vec<usize> = (0..5).filter(|node| *node != leader).collect();
    for node in &others[..3] {
        cluster.nodes[*node].freeze();
    }
    let [first, second] = [others[0], others[1]].map(|node| cluster.nodes[node].name.clone());
    // Those that are frozen are not asked for the way.
    let admin = || admin_at(&cluster, vec![cluster.nodes[leader].address.clone()]);
    let asked = [begin_removal(admin(), &first), begin_removal(admin(), &second)];
    until("one of the two is answered", Duration::from_secs(3), || {
        asked.iter().any(std::thread::JoinHandle::is_finished).then_some(())
    });
    for node in &others[..3] {
        cluster.nodes[*node].thaw();
    }
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for outcome in asked.map(|asked| asked.join().expect("no panic")) {
        match outcome {
            Ok(reply) => won.push(reply.name),
            Err(error) => lost.push(error),
        }
    }
    let ([won], [error]) = (won.as_slice(), lost.as_slice()) else {
        panic!("S14: {won:?} and {lost:?}")
    };
    assert_eq!((error.kind, error.word), (ErrorKind::Refused, "under_way"), "{error}");
    let left: Vec<usize> = (0..5).filter(|node| cluster.nodes[*node].name != *won).collect();
    cluster.wait_for_voters(&left);
    println!("proved: of two changes at once one wins, the other is told: {error}");
}

/// Voters 0, 1, 2 are exchanged for 0, 3, 4 while 0 sleeps. Then 4 is gone, too, and 0 starts: all whom
/// it knows are gone for good, and it is one of two that are left of three.
#[test]
fn who_slept_through_an_exchange_of_members_makes_a_quorum() {
    let mut cluster = Cluster::start_with(3, &OPTIONS);
    let client = cluster.client(PATIENCE);
    cluster.wait(client.put("before".into(), "1".into())).expect("acknowledged");
    cluster.assert_agree();
    cluster.nodes[0].kill9();
    for _ in 0..2 {
        let node = cluster.one_more_seat();
        cluster.nodes[node].start();
        // Beside a lost voter nobody gets a vote by itself (M8).
        let name = cluster.nodes[node].name.clone();
        until(&format!("{name} is promoted by hand"), PATIENCE, || {
            cluster.wait(cluster.admin().promote_member(&name)).ok()
        });
        cluster.wait_for_new_voter(node, None);
    }
    for node in [1, 2] {
        remove(&cluster, &format!("raft-{node}"));
        cluster.nodes[node].kill9();
        cluster.wait_for_leader_of(&[2, 3, 4]);
    }
    cluster.wait_for_voters(&[0, 3, 4]);
    let both = vec![cluster.nodes[3].address.clone(), cluster.nodes[4].address.clone()];
    let client = cluster.client_of(both, PATIENCE);
    cluster.wait(client.put("while it slept".into(), "2".into())).expect("acknowledged");
    // Whoever leads by now does so no more; and the one that is left has been judged by nobody either.
    cluster.nodes[4].kill9();
    cluster.nodes[3].kill9();
    let begun = Instant::now();
    cluster.nodes[3].start();
    cluster.nodes[0].start();
    let leader = cluster.wait_for_leader_of(&[0, 3]);
    assert_eq!(leader, 3, "S4: only one of them holds what was acknowledged");
    let left = vec![cluster.nodes[0].address.clone(), cluster.nodes[3].address.clone()];
    let client = cluster.client_of(left, PATIENCE);
    cluster.wait(client.put("after".into(), "3".into())).expect("acknowledged");
    let took = begun.elapsed();
    assert!(took < SEVERAL, "it took {took:.1?}");
    for (key, value) in [("before", "1"), ("while it slept", "2"), ("after", "3")] {
        let reply = cluster.wait(client.get(key.into(), false)).expect("a quorum answers");
        let found = reply.found.map(|found| found.value);
        assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key}");
    }
    println!(
        "proved: a voter whose known members are all gone votes; {took:.1?} from its start to a write"
    );
}
