//! The commands of design section 7 against a cluster: text to the letter, JSON with its field names
//! in their order.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::pattern::assert_like;
use crate::tools::{Cluster, run};

#[test]
fn every_command_in_text() {
    let cluster = Cluster::start();
    let say = |words: &[&str]| cluster.ask(words);
    let block = |first: &str| {
        format!(
            "---- REMOTE ANSWER ----\n- {first}\n- LogIndex: <n>\n- Term: <n>\n- IsLeader: true\n\
             - LeaderId: <o>\n---- END OF REMOTE ANSWER ----\n"
        )
    };
    assert_like(say(&["put", "0x0000", "chocolate"]).fine(), &block("Value: chocolate"));
    assert_like(say(&["get", "0x0000"]).fine(), &block("Value: chocolate"));
    assert_like(say(&["cas", "0x0000", "chocolate", "-5"]).fine(), &block("Applied: true"));
    assert_like(say(&["cas", "new", "--absent", "two words"]).fine(), &block("Applied: true"));
    assert_like(say(&["put", "gone", "x"]).fine(), &block("Value: x"));
    assert_like(say(&["delete", "gone"]).fine(), &block("Deleted: true"));
    assert_eq!(say(&["range", "--prefix", "0x"]).fine(), "0x0000: -5\n");
    assert_eq!(say(&["range", "0", "z"]).fine(), "0x0000: -5\nnew: two words\n");
    assert_eq!(say(&["range", "0", "--limit", "1"]).fine(), "0x0000: -5\n");
    assert_eq!(say(&["range", "--prefix", "none"]).fine(), "");
    assert_like(
        say(&["status"]).fine(),
        "[Node Information]\nNode: 0 | Term: <n:t> | IsLeader: <text> | Leader: <o:l>\n\
         [Node Information]\nNode: 1 | Term: <n:t> | IsLeader: <text> | Leader: <o:l>\n\
         [Node Information]\nNode: 2 | Term: <n:t> | IsLeader: <text> | Leader: <o:l>\n",
    );
    for name in ["1", "raft-1", cluster.endpoint(1)] {
        let one = "[Node Information]\nNode: 1 | Term: <n> | IsLeader: <text> | Leader: <o>\n";
        assert_like(say(&["status", name]).fine(), one);
    }
    let (leader, _) = cluster.leader_and_follower();
    let log = say(&["replication", &leader.to_string()]);
    assert_like(
        &without_noops(log.fine()),
        "Log (len=<n>):\n\
         [1] {1 1 {membership raft-0 raft-1 raft-2}}\n\
         [<n:a>] {<n:a> <n> {session <n:a>}}\n\
         [<n:b>] {<n:b> <n> {put 0x0000 chocolate}}\n\
         [<n:c>] {<n:c> <n> {session <n:c>}}\n\
         [<n:d>] {<n:d> <n> {cas 0x0000 chocolate -5}}\n\
         [<n:e>] {<n:e> <n> {session <n:e>}}\n\
         [<n:f>] {<n:f> <n> {cas new - two words}}\n\
         [<n:g>] {<n:g> <n> {session <n:g>}}\n\
         [<n:h>] {<n:h> <n> {put gone x}}\n\
         [<n:i>] {<n:i> <n> {session <n:i>}}\n\
         [<n:j>] {<n:j> <n> {delete gone}}\n\
         [<n:k>] {<n:k> <n> {session <n:k>}}\n\
         [<n:l>] {<n:l> <n> {put who leads}}\n\
         ----- Store (limited keys) -----\n\
         0x0000: -5\nnew: two words\nwho: leads\n-----\n",
    );
    let short = say(&["replication", &leader.to_string(), "--from", "1", "--limit", "1"]);
    assert_like(
        short.fine(),
        "Log (len=<n>):\n[1] {1 1 {membership raft-0 raft-1 raft-2}}\n... more from 2\n\
         ----- Store (limited keys) -----\n0x0000: -5\n... more from <text>\n-----\n",
    );
    let (_, follower) = cluster.leader_and_follower();
    assert_eq!(say(&["stop", &follower.to_string()]).fine(), format!("Node {follower} stopped.\n"));
}

#[test]
fn every_command_in_json() {
    let cluster = Cluster::start();
    let say = |words: &[&str]| cluster.ask(&[&["-o", "json"], words].concat());
    let from = "\"index\":<n>,\"term\":<n>,\"leader\":\"<seat>\"";
    let wrote = |key: &str, revision: u32, done: &str| {
        format!("{{\"key\":\"{key}\",\"revision\":{revision},{from},\"{done}\":true}}\n")
    };
    assert_like(say(&["put", "0x0000", "chocolate"]).fine(), &wrote("0x0000", 1, "applied"));
    assert_like(
        say(&["get", "0x0000"]).fine(),
        &format!(
            "{{\"key\":\"0x0000\",\"value\":\"chocolate\",\"create_revision\":1,\
             \"mod_revision\":1,\"version\":1,{from}}}\n"
        ),
    );
    assert_like(say(&["cas", "0x0000", "chocolate", "n"]).fine(), &wrote("0x0000", 2, "applied"));
    assert_like(say(&["put", "gone", "x"]).fine(), &wrote("gone", 3, "applied"));
    assert_like(say(&["delete", "gone"]).fine(), &wrote("gone", 4, "deleted"));
    let first = "\"key\":\"0x0000\",\"value\":\"n\",\"create_revision\":1,\"mod_revision\":2,\
                 \"version\":2";
    let entry = format!("{{{first},{from}}}\n");
    assert_like(say(&["range", "--prefix", "0x"]).fine(), &entry);
    assert_like(say(&["range", "0", "z"]).fine(), &entry);
    let status = |node: &str| {
        format!(
            "{{\"name\":\"{node}\",\"node_id\":\"<id>\",\"cluster_id\":\"<id:cluster>\",\
             \"role\":\"<text>\",\"is_leader\":<text>,\"leader\":\"<seat:l>\",\"term\":<n:t>,\
             \"last_index\":<n>,\"commit_index\":<n>,\"applied_index\":<n>,\
             \"snapshot_index\":0,\"state_hash\":\"<id>\"}}\n"
        )
    };
    let all = status("raft-0") + &status("raft-1") + &status("raft-2");
    assert_like(say(&["status"]).fine(), &all);
    assert_like(say(&["status", "2"]).fine(), &status("raft-2"));
    let (leader, follower) = cluster.leader_and_follower();
    let log = say(&["replication", &leader.to_string()]);
    let session = |name: &str| {
        format!("{{\"index\":<n:{name}>,\"term\":<n>,\"kind\":\"session\",\"session\":<n:{name}>}}")
    };
    let line = |kind: &str, rest: &str| {
        format!("{{\"index\":<n>,\"term\":<n>,\"kind\":\"{kind}\",\"key\":{rest}}}")
    };
    let lines = [
        "{\"index\":1,\"term\":1,\"kind\":\"membership\",\
         \"names\":[\"raft-0\",\"raft-1\",\"raft-2\"]}"
            .to_owned(),
        session("a"),
        line("put", "\"0x0000\",\"value\":\"chocolate\""),
        session("b"),
        line("cas", "\"0x0000\",\"expected\":\"chocolate\",\"value\":\"n\""),
        session("c"),
        line("put", "\"gone\",\"value\":\"x\""),
        session("d"),
        line("delete", "\"gone\""),
        session("e"),
        line("put", "\"who\",\"value\":\"leads\""),
    ];
    let golden = format!(
        "{{\"name\":\"raft-{leader}\",\"first_index\":1,\"last_index\":<n:last>,\
         \"applied_index\":<n:last>,\"log\":[{}],\"store\":[{{{first}}},{{\"key\":\"who\",\
         \"value\":\"leads\",\"create_revision\":5,\"mod_revision\":5,\"version\":1}}]}}\n",
        lines.join(",")
    );
    assert_like(&without_noop_objects(log.fine()), &golden);
    let page = say(&["replication", &leader.to_string(), "--limit", "1"]).object();
    assert_eq!((page["next_index"].as_u64(), page["next_key"].as_str()), (Some(2), Some("who")));
    let mut binary = cluster.command(&["put", "bin"]);
    run(binary.arg(OsStr::from_bytes(b"\xff"))).fine();
    let read = say(&["get", "bin"]);
    assert!(read.fine().starts_with("{\"key\":\"bin\",\"value_base64\":\"/w==\","), "{read:?}");
    assert!(cluster.ask(&["get", "bin"]).fine().contains("- Value: \\xff\n"));
    let stopped = say(&["stop", &follower.to_string()]);
    assert_eq!(stopped.fine(), format!("{{\"name\":\"raft-{follower}\",\"stopped\":true}}\n"));
}

/// How often a leader was elected is the machine's affair.
fn without_noops(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.ends_with("{noop}}\n")).collect()
}

fn without_noop_objects(json: &str) -> String {
    let (head, rest) = json.split_once("\"log\":[{").expect("a log");
    let (log, tail) = rest.split_once("}],\"store\":").expect("a store behind the log");
    let kept: Vec<&str> =
        log.split("},{").filter(|object| !object.ends_with("\"kind\":\"noop\"")).collect();
    format!("{head}\"log\":[{{{}}}],\"store\":{tail}", kept.join("},{"))
}
