//! Snapshots with real processes: the log stays bounded, a follower that slept for too long is brought
//! back by a snapshot, and everything starts from snapshot and log.

mod harness;

use std::fs;
use std::path::Path;
use std::time::Duration;

use balsa::client::Client;
use balsa::codec::api::StatusReply;
use balsa::raft::RoleKind;
use bytes::Bytes;
use harness::{Cluster, PATIENCE, bytes, until};

/// Long enough for an election and more, on a busy machine.
const OPERATION: Duration = Duration::from_secs(20);

/// Bytes of each value: all of them together are more than what the log may keep.
const VALUE_BYTES: usize = 4096;

/// Three nodes that take snapshots often and keep little else.
fn cluster() -> Cluster {
    let mut cluster = Cluster::prepare(3);
    for node in &mut cluster.nodes {
        let options = ["--snapshot-entries", "300", "--trailing-entries", "50"];
        node.more.extend(options.map(Into::into));
    }
    cluster.start_all();
    cluster.wait_for_leader();
    cluster
}

/// Puts `count` keys, so many at a time that appends are not tiny.
fn put_many(cluster: &Cluster, client: &Client, prefix: &str, count: usize) {
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let keys: Vec<Bytes> = (0..count).map(|number| bytes(format!("{prefix}-{number}"))).collect();
    for some in keys.chunks(100) {
        let puts = some.iter().map(|key| client.put(key.clone(), value.clone()));
        let written = cluster.wait(futures_util::future::join_all(puts));
        written.into_iter().for_each(|written| assert!(written.expect("acknowledged").succeeded));
    }
}

/// Waits until all running nodes have applied the same, and compares (S16).
fn settled(cluster: &Cluster) -> Vec<StatusReply> {
    let statuses = until("all running nodes have applied one log", PATIENCE, || {
        let statuses = cluster.statuses()?;
        let first = statuses.first()?.clone();
        let same = |status: &StatusReply| {
            let indexes = [status.last_index, status.commit_index, status.applied_index];
            indexes == [first.last_index; 3] && status.term == first.term
        };
        statuses.iter().all(same).then_some(statuses)
    });
    let hashes: Vec<u64> = statuses.iter().map(|status| status.state_hash).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "S16: {statuses:#?}");
    statuses
}

/// The first index that a node's log still holds.
fn first_index(cluster: &Cluster, node: usize) -> u64 {
    let address = &cluster.nodes[node].address;
    let page = cluster.wait(cluster.admin().replication(address, 0, Bytes::new(), Some(1)));
    let page = page.expect("an admin may look");
    let line = page.log.first().map(|line| line.index);
    assert!(line.is_none_or(|index| index == page.first_index), "a page begins where the log does");
    page.first_index.0
}

/// Bytes that the files of a directory take.
fn bytes_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("a directory");
    // A file that goes meanwhile takes nothing.
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

/// S10 of the mission: the state is recovered although the log no longer holds what was missed.
#[test]
fn a_follower_that_slept_past_the_log_is_brought_back_by_a_snapshot() {
    let mut cluster = cluster();
    let client = cluster.client(OPERATION);
    put_many(&cluster, &client, "before", 20);
    settled(&cluster);
    let leader = cluster.wait_for_leader();
    let sleeper = cluster.other_than(leader);
    let slept_at = cluster.status(sleeper).expect("it runs").last_index;
    assert_eq!(cluster.nodes[sleeper].terminate(), Some(0));

    put_many(&cluster, &client, "meanwhile", 2000);
    for node in cluster.running() {
        until("the log no longer holds what the sleeper needs", PATIENCE, || {
            (first_index(&cluster, node) > slept_at.0 + 1).then_some(())
        });
        let status = cluster.status(node).expect("it runs");
        assert!(status.snapshots.taken > 0 && status.snapshot_index > slept_at, "{status:#?}");
    }

    cluster.nodes[sleeper].start();
    let statuses = settled(&cluster);
    let of = |node: usize| {
        let name = &cluster.nodes[node].name;
        statuses.iter().find(|status| status.name == *name).expect("it answers")
    };
    let counters = of(sleeper).snapshots;
    assert_eq!(counters.installed, 1, "{counters:?}");
    assert!(counters.received_bytes > 1000 * VALUE_BYTES as u64, "{counters:?}");
    let sent: u64 = statuses.iter().map(|status| status.snapshots.sent_bytes).sum();
    assert!(sent >= counters.received_bytes, "{statuses:#?}");
    assert!(sent < counters.received_bytes * 3 / 2, "nothing is sent again for nothing: {sent}");

    // It is a full member: it serves, and with it the other follower may go.
    let other = (0..3).find(|node| *node != leader && *node != sleeper).expect("three nodes");
    assert_eq!(cluster.nodes[other].terminate(), Some(0));
    put_many(&cluster, &client, "after", 20);
    settled(&cluster);
    for key in ["before-19", "meanwhile-0", "meanwhile-1999", "after-0"] {
        let found = cluster.wait(client.get(bytes(key), false)).expect("get");
        assert_eq!(found.found.expect(key).value.len(), VALUE_BYTES, "{key}");
    }
    cluster.assert_no_errors();
}

#[test]
fn everything_starts_from_snapshot_and_log_and_the_disk_is_bounded() {
    let mut cluster = cluster();
    let client = cluster.client(OPERATION);
    put_many(&cluster, &client, "same", 400);
    // Over and over the same keys: what is kept does not grow, what was written does.
    for _ in 0..6 {
        put_many(&cluster, &client, "same", 400);
    }
    let before = settled(&cluster);
    let kill = cluster.running().len();
    assert_eq!(kill, 3);
    cluster.kill_all();
    cluster.start_all();
    cluster.wait_for_leader();
    let after = settled(&cluster);
    for (before, after) in before.iter().zip(&after) {
        assert!(after.snapshot_index >= before.snapshot_index, "{before:#?} {after:#?}");
        assert!(after.snapshot_index.0 > 2000, "{after:#?}");
        assert_eq!(after.snapshots.installed, 0, "from its own disk: {after:#?}");
    }
    assert_eq!(before[0].state_hash, after[0].state_hash, "S16: not a write more or less");
    let found = cluster.wait(client.get(bytes("same-399"), false)).expect("get");
    assert_eq!(found.found.expect("the key").version, 7);

    // A snapshot by hand covers everything there is.
    let address = cluster.nodes[0].address.clone();
    let taken = cluster.wait(cluster.admin().take_snapshot(&address)).expect("taken");
    let status = cluster.status(0).expect("it runs");
    assert!(taken.index >= after[0].applied_index && taken.bytes == status.snapshots.last_bytes);
    assert_eq!(status.snapshot_index, taken.index);
    until("the log is purged behind it", PATIENCE, || {
        (first_index(&cluster, 0) + 50 > taken.index.0).then_some(())
    });

    for node in &cluster.nodes {
        // Not a byte of the 11 MB that were written remains but the newest of each key, at most two
        // snapshots of them, and segments of a fixed size.
        let (log, snapshots) = (node.data.join("log"), node.data.join("snapshot"));
        let content = 400 * (VALUE_BYTES as u64 + 200);
        assert!(bytes_below(&snapshots) < 2 * content, "{}", node.name);
        assert!(bytes_below(&log) <= 3 * (64 << 20), "{}", node.name);
    }
    let leads = |status: &StatusReply| status.role == RoleKind::Leader;
    assert_eq!(cluster.statuses().expect("all run").iter().filter(|it| leads(it)).count(), 1);
    cluster.assert_no_errors();
}
