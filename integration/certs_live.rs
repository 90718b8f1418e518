//! `cltraft certs renew` and `rotate-ca` on a cluster that runs, under load: no restart, no failed write,
//! no other leader. The steps wait for what the program says they must wait for.

#[path = "cluster/harness.rs"]
mod harness;

use std::fs;
use std::path::Path;
use std::process::Command;

use balsa::rpc::Tls;
use harness::load::Load;
use harness::reload::{Before, LOADED, wait_for_reloads};
use harness::{Cluster, tls};

/// Writes between two steps.
const BETWEEN: u64 = 100;

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

/// Waits until every node and the client have read their files anew.
fn all_loaded(cluster: &Cluster, since: &[usize], client: &Tls, reloads: u64) {
    cluster.wait_until_all_say(since, LOADED);
    wait_for_reloads(client, reloads);
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
    let before = Before::of(&cluster);

    // In place, as for a cluster of `cltraft local`.
    let said = certs(&there, &["renew", "--all"]);
    assert_eq!(said.matches("  valid until ").count(), 6, "five, and the list: {said}");
    all_loaded(&cluster, &before.said, &client, 1);
    cluster.wait_for_lines(LOADED);
    cluster.log_in();
    load.wait_for(BETWEEN);

    // Somewhere else, and copied.
    let office = cluster.path().join("office");
    let copied = Command::new("cp").arg("-r").arg(&there).arg(&office).status();
    assert!(copied.expect("cp").success());
    for (number, step) in ["trust", "reissue", "drop"].iter().enumerate() {
        let since = cluster.marks();
        let said = certs(&office, &["rotate-ca", step]);
        assert!(said.contains(&format!("Step {} of 3", number + 1)), "{said}");
        deliver(&office, &there);
        all_loaded(&cluster, &since, &client, number as u64 + 2);
        if *step == "reissue" {
            cluster.wait_for_lines(LOADED);
        }
        cluster.log_in();
        load.wait_for(BETWEEN);
    }
    let bundle = fs::read_to_string(there.join("raft-0/ca.crt")).expect("a bundle");
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1, "the new CA alone");

    before.assert_undisturbed(&cluster);
    for (node, since) in cluster.nodes.iter().zip(&before.said) {
        let said = node.said().split_off(*since);
        let unused = said.lines().find(|line| line.contains("not used"));
        assert_eq!(unused, None, "{}: no half of a change is read", node.name);
    }
    let account = load.finish(&cluster);
    cluster.assert_no_errors();
    println!("proved: all certificates renewed and the CA changed while running: {account}");
}
