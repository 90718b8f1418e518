//! `cltraft certs renew` and `rotate-ca` on a cluster that runs, under load: no restart, no failed write,
//! no other leader. The steps wait for what the program says they must wait for.

#[path = "cluster/harness.rs"]
mod harness;

use std::fs;
use std::path::Path;
use std::process::Command;

use balsa::rpc::Tls;
use harness::load::Load;
use harness::{Cluster, PATIENCE, Process, tls, until};

/// Writes between two steps.
const BETWEEN: u64 = 100;
const LOADED: &str = "certificates loaded anew";

/// Runs `cltraft certs`, which must succeed, and returns what it printed.
fn certs(out: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cltraft"));
    let finished = command.arg("certs").args(arguments).arg("--out").arg(out).output();
    let finished = finished.expect("cltraft");
    let said = String::from_utf8_lossy(&finished.stdout).into_owned();
    let errors = String::from_utf8_lossy(&finished.stderr);
    assert!(finished.status.success(), "{arguments:?}: {said}{errors}");
    said
}

fn marks(cluster: &Cluster) -> Vec<usize> {
    cluster.nodes.iter().map(|node| node.said().len()).collect()
}

/// Waits until every node and the client have read their files anew.
fn all_loaded(cluster: &Cluster, since: &[usize], client: &Tls, reloads: u64) {
    for (node, since) in cluster.nodes.iter().zip(since) {
        node.wait_until_it_says(*since, LOADED);
    }
    let what = format!("the client has loaded its certificates anew {reloads} times");
    until(&what, PATIENCE, || (client.reloads() == reloads).then_some(()));
}

/// Waits until each node's two lines to each other node are newer than what it has loaded last.
fn lines_are_new(cluster: &Cluster) {
    let others = |node: &Process| {
        let others = cluster.nodes.iter().map(|peer| peer.name.clone());
        let name = node.name.clone();
        others.filter(move |peer| *peer != name).collect::<Vec<_>>()
    };
    for node in &cluster.nodes {
        for peer in others(node) {
            for lane in ["Control", "Bulk"] {
                let what = format!("{}'s {lane} line to {peer} is new", node.name);
                until(&what, PATIENCE, || {
                    let said = node.said();
                    let since = said.rfind(LOADED)?;
                    let is = |line: &str| {
                        [" connected", &peer, lane].iter().all(|part| line.contains(part))
                    };
                    said[since..].lines().any(is).then_some(())
                });
            }
        }
    }
}

fn refusals(node: &Process, since: usize) -> Vec<String> {
    let said = node.said().split_off(since);
    let bad = |line: &&str| {
        (line.contains("refused ") && line.contains("/node/"))
            || line.contains("no longer trusted")
            || line.contains("not used")
    };
    said.lines().filter(bad).map(str::to_owned).collect()
}

/// Copies as anybody would: file after file, by name, each written over in its place.
fn deliver(office: &Path, to: &Path) {
    for name in ["admin", "client", "raft-0", "raft-1", "raft-2"] {
        let copied = Command::new("cp").arg("-r").arg(office.join(name)).arg(to).status();
        assert!(copied.expect("cp").success(), "{name}");
    }
}

#[test]
fn certificates_and_the_ca_are_replaced_under_load() {
    let mut cluster = Cluster::start(3);
    let there = cluster.certificates.clone();
    let client = tls(&there, "client");
    let load = Load::start_as(&cluster, &client);
    let before = cluster.leader_now();
    let processes: Vec<u32> = cluster.nodes.iter().map(Process::pid).collect();
    let begun = marks(&cluster);

    // In place, as for a cluster of `cltraft local`.
    let said = certs(&there, &["renew", "--all"]);
    assert_eq!(said.matches("  valid until ").count(), 6, "five, and the list: {said}");
    all_loaded(&cluster, &begun, &client, 1);
    lines_are_new(&cluster);
    cluster.log_in();
    load.wait_for(BETWEEN);

    // Somewhere else, and copied.
    let office = cluster.path().join("office");
    let copied = Command::new("cp").arg("-r").arg(&there).arg(&office).status();
    assert!(copied.expect("cp").success());
    for (number, step) in ["trust", "reissue", "drop"].iter().enumerate() {
        let since = marks(&cluster);
        let said = certs(&office, &["rotate-ca", step]);
        assert!(said.contains(&format!("Step {} of 3", number + 1)), "{said}");
        deliver(&office, &there);
        all_loaded(&cluster, &since, &client, number as u64 + 2);
        if *step == "reissue" {
            lines_are_new(&cluster);
        }
        cluster.log_in();
        load.wait_for(BETWEEN);
    }
    let bundle = fs::read_to_string(there.join("raft-0/ca.crt")).expect("a bundle");
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1, "the new CA alone");

    assert_eq!(cluster.leader_now(), before, "the same leader in the same term");
    let now: Vec<u32> = cluster.nodes.iter().map(Process::pid).collect();
    assert_eq!(now, processes, "no restart");
    cluster.assert_alive();
    for (node, since) in cluster.nodes.iter().zip(begun) {
        let refused = refusals(node, since);
        assert!(refused.is_empty(), "{}: {refused:#?}", node.name);
    }
    let account = load.stop();
    let contents = cluster.assert_agree();
    account.assert_none_failed_or_lost(&contents[0].store);
    cluster.assert_no_errors();
    println!(
        "proved: all certificates renewed and the CA changed while running: {} writes, none failed; \
         longest gap {:.3?}",
        account.acknowledged(),
        account.longest_gap()
    );
}
