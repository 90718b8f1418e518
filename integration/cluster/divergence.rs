//! A node whose content is not the others': it is forged here in the one place where nothing but the
//! comparison of hashes can find it, a snapshot that is sound in itself.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use balsa::codec::snapshot::{Decoder, Encoder};
use balsa::kv::frozen::Frozen;
use balsa::kv::restore::{Restore, Unsound};
use balsa::storage::{DataDir, RealFs, SnapshotHead};
use bytes::Bytes;

use crate::harness::{Cluster, PATIENCE, bytes, until};

const FORGED: &str = "key-07";

/// The store again, with another value under one key.
fn rebuild(frozen: &Frozen) -> Restore {
    let mut restore = Restore::new(frozen.revision());
    for (key, versioned) in frozen.entries_after(None) {
        let mut versioned = versioned.clone();
        if *key == FORGED {
            versioned.value = Bytes::from_static(b"forged");
        }
        restore.entry(key.clone(), versioned).expect("sound");
    }
    for session in frozen.sessions_after(0) {
        restore.session(session).expect("sound");
    }
    restore
}

/// Writes a snapshot of the same entry with other content in the place of the node's own. Everything
/// about it is sound: checksums, order, the hash of what is in it.
fn forge(data: &Path, seat: &str, scratch: &Path) {
    let open = |path: &Path| DataDir::open(Arc::new(RealFs), path, seat).expect("a directory");
    let own = open(data);
    let current = own.snapshots().current().expect("it has taken a snapshot");
    let head = current.head().clone();
    let mut decoder = Decoder::new();
    for piece in current.content().expect("readable") {
        decoder.push(&piece.expect("sound")).expect("sound");
    }
    let store = decoder.finish(&head.meta, head.state_hash).expect("sound");
    let frozen = store.freeze();
    let finish = |expected| {
        let (last, index) = (head.meta.last, head.meta.membership_index);
        rebuild(&frozen).finish(last, index, Arc::clone(&head.meta.membership), expected)
    };
    let Err(Unsound::Hash { found, .. }) = finish(!head.state_hash) else {
        panic!("another value has another hash")
    };
    assert_ne!(found, head.state_hash, "D14: the hash covers the values");
    let forged = finish(found).expect("it is what it says");
    let elsewhere = open(scratch);
    elsewhere.write_cluster(head.cluster).expect("written");
    let head = SnapshotHead { state_hash: found, ..head };
    let mut writer = elsewhere.snapshots().begin(&head).expect("begun");
    for piece in Encoder::new(forged.freeze()) {
        writer.write(&piece).expect("written");
    }
    drop(writer.finish().expect("a sound snapshot"));
    let file = |directory: &Path| {
        let entries = fs::read_dir(directory.join("snapshot")).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut paths = paths.filter(|path| path.extension().is_some_and(|kind| kind == "snap"));
        paths.next().expect("a snapshot")
    };
    let (from, to) = (file(scratch), file(data));
    assert_eq!(from.file_name(), to.file_name(), "the same entry");
    fs::copy(from, to).expect("put in its place");
}

#[test]
fn a_node_with_other_content_begins_anew() {
    let mut cluster = Cluster::start_with(3, &["--seat-limit", "1s", "--trailing-entries", "10"]);
    let client = cluster.client(Duration::from_secs(20));
    for number in 0..40 {
        let put = client.put(bytes(format!("key-{number:02}")), bytes(format!("v{number}")));
        cluster.wait(put).expect("acknowledged");
    }
    cluster.assert_agree();
    let leader = cluster.wait_for_leader();
    let node = cluster.other_than(leader);
    let taken = cluster.wait(cluster.admin().take_snapshot(&cluster.nodes[node].address));
    println!("{:?}", taken.expect("a snapshot"));
    let old = cluster.node_id(node);
    cluster.nodes[node].kill9();
    let name = cluster.nodes[node].name.clone();
    forge(&cluster.nodes[node].data, &name, &cluster.path().join("scratch"));
    let said = cluster.nodes[node].said().len();
    cluster.nodes[node].start();
    // Until it is found out it may even serve; a write gives the leader something to compare.
    until("writes go on", PATIENCE, || cluster.wait(client.put("go".into(), "on".into())).ok());
    let (new, took) = cluster.wait_for_new_voter(node, Some(old));
    assert_ne!(new, old, "S5");
    assert_eq!(cluster.nodes[node].set_aside().len(), 1, "nothing is deleted");
    let lines = cluster.nodes[node].said().split_off(said);
    let says = lines.lines().find(|line| line.contains("content") || line.contains("hash"));
    let says = says.unwrap_or_else(|| panic!("it says nothing of it:\n{lines}"));
    let contents = cluster.assert_agree();
    for content in &contents {
        let held = content.store.iter().find(|entry| entry.key == FORGED).expect("the key");
        assert_eq!(held.value, "v7", "{}", content.name);
    }
    assert_eq!(contents[0].store.len(), 41);
    println!(
        "{says}\nproved: a node with other content is a voter with the right one after {took:.1?}"
    );
}
