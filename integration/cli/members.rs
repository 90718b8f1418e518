//! What an admin changes: the members, who leads, snapshots; and a node more on one machine.

use crate::harness::{PATIENCE, until};
use crate::pattern::assert_like;
use crate::tools::{Cluster, Said};

const MEMBER: &str = "{\"name\":\"<seat>\",\"node_id\":\"<id>\",\"role\":\"voter\",\
                      \"address\":\"127.0.0.1:<n>\",\"match_index\":<n>}\n";

/// Standard output of a call that ended well, whatever it said about waiting.
#[track_caller]
fn fine(said: &Said) -> &str {
    assert_eq!(said.code, 0, "{said:?}");
    &said.out
}

#[test]
fn every_command_of_an_admin_in_text() {
    let cluster = Cluster::start();
    let say = |words: &[&str]| cluster.ask(words);
    let line = |n: u32| {
        format!("Node: {n} | Role: voter | Match: <n> | Address: 127.0.0.1:<n> | NodeId: <id>\n")
    };
    let three = format!("[Members]\n{}{}{}", line(0), line(1), line(2));
    assert_like(say(&["member", "list"]).fine(), &three);
    assert_like(
        say(&["--lang", "es", "miembro", "listar"]).fine(),
        &three
            .replace("[Members]", "[Miembros]")
            .replace("Node:", "Nodo:")
            .replace("Role: voter", "Papel: votante")
            .replace("Match:", "Coincide:")
            .replace("Address:", "Dirección:")
            .replace("NodeId:", "IdNodo:"),
    );
    let said = cluster.local(&["--add", "3", "--wait", "60s"]);
    assert_eq!(fine(&said), "raft-3: runs\n");
    assert_like(say(&["member", "list"]).fine(), &(three.clone() + &line(3)));
    assert_like(say(&["transfer", "3"]).fine(), "Node 3 leads, in term <n>.\n");
    let spanish = "Nodo 1 es el líder, en el mandato <n>.\n";
    assert_like(say(&["--lang", "es", "transferir", "raft-1"]).fine(), spanish);
    assert_like(
        say(&["snapshot", "take", "2"]).fine(),
        "Node 2: snapshot up to index <n>, term <n>: <n> bytes, <n> ms.\n",
    );
    assert_like(
        say(&["status", "2"]).fine(),
        "[Node Information]\nNode: 2 | Term: <n> | IsLeader: <text> | Leader: <o>\n\
         Snapshot: up to index <n>\n",
    );
    assert_like(say(&["member", "remove", "raft-3"]).fine(), "Node 3 removed, at index <n>.\n");
    assert_like(say(&["member", "list"]).fine(), &three);
    until("raft-3 knows it", PATIENCE, || {
        let said = say(&["status", cluster_endpoint(&cluster, 3).as_str()]);
        (said.code == 0 && said.out.contains("\nWaiting: ")).then_some(())
    });
    assert_eq!(fine(&cluster.local(&["--stop", "3"])), "raft-3: has stopped\n");
    let said = say(&["member", "remove", "raft-3"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.starts_with("error: ") && said.err.contains("raft-3"), "{said:?}");
}

/// The endpoints as they are now.
fn cluster_endpoint(cluster: &Cluster, node: usize) -> String {
    let text = std::fs::read_to_string(cluster.dir.join("endpoints")).expect("the list");
    text.trim().split(',').nth(node).expect("so many endpoints").to_owned()
}

#[test]
fn every_command_of_an_admin_in_json() {
    let cluster = Cluster::start();
    let say = |words: &[&str]| cluster.ask(&[&["-o", "json"], words].concat());
    assert_like(say(&["member", "list"]).fine(), &MEMBER.repeat(3));
    let added = cluster.local(&["-o", "json", "--add", "raft-3", "--wait", "60s"]);
    assert_eq!(fine(&added), "{\"name\":\"raft-3\",\"added\":true}\n");
    assert_like(say(&["member", "list"]).fine(), &MEMBER.repeat(4));
    let moved = say(&["transfer", "raft-3"]);
    assert_like(moved.fine(), "{\"leader\":\"raft-3\",\"term\":<n>}\n");
    assert_like(
        say(&["snapshot", "take", "raft-3"]).fine(),
        "{\"name\":\"raft-3\",\"index\":<n>,\"term\":<n>,\"bytes\":<n>,\"milliseconds\":<n>}\n",
    );
    let status = say(&["status", "3"]).object();
    assert!(status["snapshot_index"].as_u64() > Some(0), "{status}");
    assert_eq!(status["snapshots"]["taken"], 1, "{status}");
    // It leads, carries its own removal through, and goes.
    let removed = say(&["member", "remove", "raft-3"]);
    assert_like(
        removed.fine(),
        "{\"name\":\"raft-3\",\"node_id\":\"<id>\",\"role\":\"removed\",\"index\":<n>,\
         \"leader\":<text>}\n",
    );
    assert_like(say(&["member", "list"]).fine(), &MEMBER.repeat(3));
    for words in [
        &["member", "remove", "raft-3"][..],
        &["member", "promote", "raft-3"],
        &["member", "add", "raft-0", "127.0.0.1:1"],
    ] {
        let said = say(words);
        assert_eq!((said.code, said.object()["error"].as_str()), (1, Some("conflict")), "{said:?}");
    }
    let said = say(&["transfer", "7"]);
    assert_eq!((said.code, said.object()["error"].as_str()), (1, Some("no_such_node")), "{said:?}");
    // The retired seat is taken again when an admin says so.
    let address = cluster_endpoint(&cluster, 3);
    let added = say(&["member", "add", "raft-3", &address]);
    assert_like(
        added.fine(),
        "{\"name\":\"raft-3\",\"node_id\":\"<id>\",\"role\":\"learner\",\"index\":<n>,\
         \"leader\":\"<seat>\"}\n",
    );
    until("raft-3 votes again", PATIENCE, || {
        let list = say(&["member", "list"]);
        (list.out.matches("\"role\":\"voter\"").count() == 4).then_some(())
    });
}

#[test]
fn a_node_is_added_once_and_in_turn() {
    let cluster = Cluster::start();
    for (words, part) in [
        (&["--add", "raft-1"][..], "raft-1 is there already; --start raft-1 starts it"),
        (&["--add", "5"], "the next node of this cluster is raft-3, not 5"),
    ] {
        let said = cluster.local(words);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        assert!(said.err.contains(part), "{part} is not in {said:?}");
    }
    assert_eq!(fine(&cluster.local(&["--add", "3"])), "raft-3: runs\n");
    let node = cluster.pid(3);
    assert_eq!(fine(&cluster.local(&["--kill", "3"])), "raft-3: is killed\n");
    assert_eq!(fine(&cluster.local(&["--start", "3"])), "raft-3: runs\n");
    assert_ne!(cluster.pid(3), node);
    assert_eq!(
        fine(&cluster.local(&["--down", "-o", "json"])),
        "{\"stopped\":[\"raft-0\",\"raft-1\",\"raft-2\",\"raft-3\"]}\n"
    );
}

/// Two of three are dead: nobody leads, and that is said as always.
#[test]
fn without_a_quorum_nothing_is_changed() {
    let cluster = Cluster::start();
    let (leader, follower) = cluster.leader_and_follower();
    let other = 3 - leader - follower;
    for node in [follower, other] {
        cluster.local(&["--kill", &node.to_string()]).fine();
    }
    let words = |words: &[&str]| {
        let mut command = cluster.command(&[&["-o", "json"], words].concat());
        crate::tools::run(command.env("BALSA_TIMEOUT", "3s"))
    };
    until("the leader has given up", PATIENCE, || {
        words(&["status", &leader.to_string()]).object()["leader"].is_null().then_some(())
    });
    for change in [&["member", "remove", "raft-0"][..], &["transfer", &format!("raft-{leader}")]] {
        let said = words(change);
        assert_eq!((said.code, said.object()["exit"].as_u64()), (6, Some(6)), "{said:?}");
    }
}
