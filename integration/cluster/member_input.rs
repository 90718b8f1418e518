//! Changes of the members that make no sense: one clear sentence each, and nothing changes.

use std::time::Duration;

use balsa::client::{Error, ErrorKind};
use balsa::codec::api::MemberStatus;

use crate::harness::{Cluster, PATIENCE, until};

/// The refusal, in one sentence that names what it is about.
#[track_caller]
fn assert_conflict(error: &Error, words: &[&str]) {
    assert_eq!((error.kind, error.word), (ErrorKind::Refused, "conflict"), "{error}");
    for word in words {
        assert!(error.message.contains(word), "\"{word}\" is not in: {error}");
    }
    assert!(!error.message.contains('\n'), "one sentence: {error}");
    println!("{}: {error}", error.word);
}

fn who(members: Option<Vec<MemberStatus>>) -> Vec<(String, balsa::raft::NodeId, String)> {
    let members = members.expect("somebody answers");
    members.into_iter().map(|member| (member.name, member.node_id, member.role)).collect()
}

#[test]
fn what_contradicts_the_members_is_refused() {
    let cluster = Cluster::start(3);
    let admin = cluster.admin();
    let before = who(cluster.members());
    let address = cluster.nodes[1].address.clone();
    let taken = cluster.wait(admin.add_member("raft-1", &address));
    assert_conflict(&taken.expect_err("it is a member"), &["raft-1"]);
    let twice = cluster.wait(admin.add_member("raft-7", &address));
    assert_conflict(&twice.expect_err("that is the address of raft-1"), &[&address]);
    let unknown = cluster.wait(admin.remove_member("raft-7"));
    assert_conflict(&unknown.expect_err("no such member"), &["raft-7"]);
    let unknown = cluster.wait(admin.promote_member("raft-7"));
    assert_conflict(&unknown.expect_err("no such member"), &["raft-7"]);
    for name in ["", "Raft_7", "raft-1,raft-2"] {
        let bad = cluster.wait(admin.add_member(name, "127.0.0.1:1")).expect_err("no name");
        assert_eq!((bad.kind, bad.word), (ErrorKind::Refused, "bad_request"), "{bad}");
    }
    let bad = cluster.wait(admin.add_member("raft-7", "nowhere")).expect_err("no address");
    assert_eq!((bad.kind, bad.word), (ErrorKind::Refused, "bad_request"), "{bad}");
    assert_eq!(who(cluster.members()), before, "nothing has changed");
    cluster.assert_no_errors();
}

#[test]
fn the_last_voter_stays() {
    let cluster = Cluster::start(1);
    let client = cluster.client(Duration::from_secs(20));
    cluster.wait(client.put("k".into(), "v".into())).expect("acknowledged");
    let last = cluster.wait(cluster.admin().remove_member("raft-0"));
    assert_conflict(&last.expect_err("nobody would be left"), &["last voter"]);
    let read = cluster.wait(client.get("k".into(), false)).expect("it goes on");
    assert!(read.found.is_some());
    assert_eq!(cluster.assert_agree()[0].store.len(), 1);
}

/// Two of three are dead: nothing can be committed, and a removal would not help.
#[test]
fn without_a_quorum_nothing_is_changed() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let before = who(cluster.members());
    let dead: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    for node in &dead {
        cluster.nodes[*node].kill9();
    }
    until("the leader has given up", PATIENCE, || {
        cluster.status(leader).filter(|status| status.leader.is_none())
    });
    let name = cluster.nodes[dead[0]].name.clone();
    let refused = cluster.wait(cluster.admin().remove_member(&name)).expect_err("nobody leads");
    assert_eq!(refused.kind, ErrorKind::NoLeader, "{refused}");
    println!("{}: {refused}", refused.word);
    for node in dead {
        cluster.nodes[node].start();
    }
    cluster.wait_for_leader();
    assert_eq!(who(cluster.members()), before, "M1: nothing has changed");
    cluster.assert_agree();
}

/// A directory of a removed node, started again, neither votes nor disturbs: it says so and waits.
#[test]
fn a_directory_of_a_removed_node_waits() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let node = cluster.other_than(leader);
    let name = cluster.nodes[node].name.clone();
    // It sleeps through its removal.
    cluster.nodes[node].kill9();
    let removed = cluster.wait(cluster.admin().remove_member(&name)).expect("two are a quorum");
    assert_eq!(removed.role, "removed");
    let said = cluster.nodes[node].said().len();
    cluster.nodes[node].start();
    let line = cluster.nodes[node].wait_until_it_says(said, "removed");
    println!("{line}");
    let why = until("it says what it waits for", PATIENCE, || cluster.status(node)?.waiting);
    assert!(why.contains("removed") || why.contains("retired"), "{why}");
    cluster.watch(Duration::from_secs(3), |cluster| {
        let (now, _) = cluster.leader_now().expect("the leader is not disturbed");
        assert_eq!(now, leader, "E1: a removed node deposes nobody");
    });
    let members = who(cluster.members());
    assert!(members.len() == 2 && members.iter().all(|(member, ..)| *member != name));
    println!("proved: the directory of a removed node says so and waits: {why}");
}
