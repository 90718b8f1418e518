//! `srvraft discard` and `srvraft recover`, with directories of nodes that ran.

use std::path::Path;
use std::process::{Command, Output};

use balsa::client::Client;
use balsa::codec::api::RangeArgs;

use crate::harness::{Cluster, PATIENCE, bytes, until};
use crate::{OPERATION, put_all};

fn srvraft(words: &[&str], data: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_srvraft"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BALSA_") {
            command.env_remove(name);
        }
    }
    command.args(words).arg("--data-dir").arg(data).args(more);
    let Output { status, stdout, stderr } = command.output().expect("srvraft runs");
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code(), said)
}

fn count(cluster: &Cluster, client: &Client) -> usize {
    let args = RangeArgs { from: bytes(""), to: None, limit: 0, local: false };
    cluster.wait(client.range(&args)).expect("a page").entries.len()
}

#[test]
fn discard_sets_a_directory_aside_unless_it_is_in_use_or_anothers() {
    let mut cluster = Cluster::start(1);
    let data = cluster.nodes[0].data.clone();
    let (code, said) = srvraft(&["discard", "raft-0"], &data, &[]);
    assert_eq!(code, Some(73), "in use: {said}");
    cluster.kill_all();
    let (code, said) = srvraft(&["discard", "raft-1"], &data, &[]);
    assert_eq!(code, Some(73), "another's: {said}");
    assert!(said.contains("raft-0"), "{said}");
    let (code, said) = srvraft(&["discard", "raft-0"], &data.join("nothing"), &[]);
    assert_eq!(code, Some(73), "nothing there: {said}");
    assert!(cluster.nodes[0].set_aside().is_empty() && data.join("identity").is_file());
    let (code, said) = srvraft(&["discard", "raft-0"], &data, &[]);
    assert_eq!(code, Some(0), "{said}");
    let kept = cluster.nodes[0].set_aside();
    assert_eq!(kept.len(), 1);
    assert!(said.contains(&kept[0].display().to_string()), "{said}");
    println!(
        "proved: discard keeps everything, and refuses what is in use, another seat's, or nothing"
    );
}

#[test]
fn a_survivor_of_three_becomes_a_cluster_of_one() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(OPERATION);
    put_all(&cluster, &client, "k", 30);
    let before = cluster.assert_equal();
    let old = cluster.status(0).expect("it answers");
    let data = cluster.nodes[0].data.clone();
    let certs = cluster.nodes[0].certs.display().to_string();
    let recover = |data: &Path, more: &[&str]| {
        let more: Vec<&str> = ["--certs", &certs].iter().chain(more).copied().collect();
        srvraft(&["recover", "raft-0"], data, &more)
    };
    let (code, said) = recover(&data, &["--yes"]);
    assert_eq!(code, Some(73), "in use: {said}");
    cluster.kill_all();
    let (code, said) = recover(&cluster.nodes[1].data, &["--yes"]);
    assert_eq!(code, Some(73), "another seat's: {said}");
    let (code, said) = recover(&data.join("nothing"), &["--yes"]);
    assert_eq!(code, Some(73), "no directory: {said}");
    let (code, said) = srvraft(
        &["recover", "raft-0"],
        &data,
        &["--yes", "--certs", &cluster.nodes[1].certs.display().to_string()],
    );
    assert_eq!(code, Some(78), "another seat's certificate: {said}");
    let (code, said) = recover(&data, &[]);
    assert_eq!(code, Some(0), "{said}");
    for part in ["30 keys", "Lost is every", "Nothing was changed"] {
        assert!(said.contains(part), "\"{part}\" is not in: {said}");
    }
    assert!(cluster.nodes[0].set_aside().is_empty(), "without --yes nothing happens");

    let (code, said) = recover(&data, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(cluster.nodes[0].set_aside().len(), 1, "{said}");
    cluster.nodes[0].start();
    cluster.wait_for_leader();
    let now = cluster.status(0).expect("it answers");
    assert_ne!(now.cluster_id, old.cluster_id, "fenced by the cluster's id");
    assert_ne!(now.node_id, old.node_id, "M7: a new node");
    assert!(now.term > old.term, "S7: {} behind {}", now.term.0, old.term.0);
    let one = cluster.client_of(vec![cluster.nodes[0].address.clone()], OPERATION);
    assert_eq!(count(&cluster, &one), before.store.len());
    put_all(&cluster, &one, "after", 5);
    // What is left of the old cluster, should it come back after all, does not mix with it.
    cluster.nodes[1].start();
    let refused = || cluster.nodes[1].said().contains("belongs elsewhere").then_some(());
    until("the old node is told that it is of another cluster", PATIENCE, refused);
    assert_eq!(cluster.status(1).expect("it answers").cluster_id, old.cluster_id);
    put_all(&cluster, &one, "beside", 5);
    // Emptied, the other seats are taken in by themselves.
    for node in [1, 2] {
        cluster.nodes[node].kill9();
        let name = cluster.nodes[node].name.clone();
        let (code, said) = srvraft(&["discard", &name], &cluster.nodes[node].data, &[]);
        assert_eq!(code, Some(0), "{said}");
        cluster.nodes[node].start();
    }
    cluster.wait_for_voters(&[0, 1, 2]);
    assert_eq!(count(&cluster, &one), before.store.len() + 10);
    println!(
        "proved: a survivor becomes a cluster of one with all its keys, which the old one cannot reach and \
         empty seats join"
    );
}
