//! Files that are not as the node left them, and a disk that fails while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use balsa::client::Client;
use bytes::Bytes;

use crate::harness::{Cluster, PATIENCE, bytes};

/// Long enough for an election and more, on a busy machine.
const OPERATION: Duration = Duration::from_secs(20);

/// Puts keys one after the other, so that each has a group commit of its own.
fn put_all(cluster: &Cluster, client: &Client, prefix: &str, count: usize) {
    for number in 0..count {
        let value = bytes(format!("{prefix}-value-{number:04}"));
        cluster.wait(client.put(bytes(format!("{prefix}-{number}")), value)).expect("acknowledged");
    }
}

/// Every file of a node's log.
fn log_files(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(data.join("log")).expect("the log's directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.clone(), fs::read(path).expect("a file of the log"))).collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[test]
fn damage_in_the_middle_is_refused_and_nothing_is_cut() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(OPERATION);
    put_all(&cluster, &client, "k", 60);
    let victim = cluster.other_than(cluster.wait_for_leader());
    cluster.assert_equal();
    cluster.nodes[victim].kill9();
    let files = log_files(&cluster.nodes[victim].data);
    let (path, offset) = files
        .iter()
        .find_map(|(path, content)| Some((path, find(content, b"k-value-0030")?)))
        .expect("the value is in the log");
    let mut spoilt = files[path].clone();
    spoilt[offset] ^= 0x20;
    fs::write(path, &spoilt).expect("one bit is flipped");
    let damaged = log_files(&cluster.nodes[victim].data);
    // Twice: the first refusal must not have changed anything either.
    for _ in 0..2 {
        let (code, said) = cluster.nodes[victim].refuse();
        assert_eq!(code, 65, "damage in the middle:\n{said}");
        let name = path.display().to_string();
        for word in [name.as_str(), "is damaged at byte", "--on-damage replace"] {
            assert!(said.contains(word), "\"{word}\" is not in:\n{said}");
        }
        assert!(log_files(&cluster.nodes[victim].data) == damaged, "D8: nothing is cut or changed");
    }
    put_all(&cluster, &client, "two-serve", 10);
    fs::write(path, &files[path]).expect("the bit is put back");
    cluster.nodes[victim].start();
    cluster.wait_for_leader();
    let one = cluster.assert_equal();
    assert_eq!(one.store.len(), 70);
    println!(
        "proved: a flipped bit in the middle: status 65, the file stays; put back, all is there"
    );
}

#[test]
fn a_small_file_that_is_damaged_or_missing_is_refused() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client(OPERATION);
    put_all(&cluster, &client, "k", 3);
    cluster.kill_all();
    for name in ["identity", "founding"] {
        let path = cluster.nodes[0].data.join(name);
        let good = fs::read(&path).expect("the file");
        let mut bad = good.clone();
        bad[good.len() - 1] ^= 1;
        fs::write(&path, &bad).expect("one bit is flipped");
        let (code, said) = cluster.nodes[0].refuse();
        assert_eq!(code, 65, "{name} is damaged:\n{said}");
        assert!(said.contains(&path.display().to_string()), "{said}");
        if name == "identity" {
            fs::remove_file(&path).expect("removed");
            let (code, said) = cluster.nodes[0].refuse();
            assert_eq!(code, 65, "{name} is missing, and there is a log (D17, M6):\n{said}");
            assert!(said.contains(&path.display().to_string()), "{said}");
        }
        fs::write(&path, &good).expect("put back");
    }
    cluster.start_all();
    cluster.wait_for_leader();
    assert_eq!(cluster.assert_equal().store.len(), 3);
    // A node that was taken in later has no record of the founding: the identity names the cluster.
    cluster.kill_all();
    fs::remove_file(cluster.nodes[0].data.join("founding")).expect("removed");
    cluster.start_all();
    cluster.wait_for_leader();
    assert_eq!(cluster.assert_equal().store.len(), 3);
    println!(
        "proved: a damaged or missing identity, a damaged founding record: status 65, nothing is made up"
    );
}

#[test]
fn a_torn_tail_is_cut_and_the_node_starts() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(OPERATION);
    put_all(&cluster, &client, "k", 30);
    cluster.assert_equal();
    let victim = cluster.other_than(cluster.wait_for_leader());
    cluster.nodes[victim].kill9();
    let files = log_files(&cluster.nodes[victim].data);
    let written = |content: &[u8]| content.iter().rposition(|byte| *byte != 0);
    let (path, last) = files
        .iter()
        .rev()
        .find_map(|(path, content)| Some((path, written(content)?)))
        .expect("something is in the log");
    // Half of a record, as a write leaves it that power cut off.
    let begin = (last + 1).next_multiple_of(8);
    let mut torn = files[path].clone();
    let head = torn[..40].to_vec();
    torn[begin..begin + 40].copy_from_slice(&head);
    torn[begin + 40..begin + 57].copy_from_slice(b"half of a payload");
    fs::write(path, &torn).expect("the tail is torn");
    put_all(&cluster, &client, "meanwhile", 10);
    cluster.nodes[victim].start();
    cluster.wait_for_leader();
    let one = cluster.assert_equal();
    assert_eq!(one.store.len(), 40);
    cluster.assert_no_errors();
    println!("proved: half a record at the log's end is cut off (D7), and nothing else");
}

#[test]
fn a_newer_format_is_refused() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client(OPERATION);
    put_all(&cluster, &client, "k", 3);
    cluster.kill_all();
    let identity = cluster.nodes[0].data.join("identity");
    let old = fs::read(&identity).expect("the identity file");
    let mut newer = old.clone();
    // Magic (8), version (4), length (4), checksum (4), content.
    newer[8..12].copy_from_slice(&7u32.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&newer[..16]), &newer[20..]);
    newer[16..20].copy_from_slice(&crc.to_le_bytes());
    fs::write(&identity, &newer).expect("written");
    let (code, said) = cluster.nodes[0].refuse();
    assert_eq!(code, 76, "a newer format:\n{said}");
    let name = identity.display().to_string();
    for word in [name.as_str(), "has format 7", "reads up to 1", "use a newer srvraft"] {
        assert!(said.contains(word), "\"{word}\" is not in:\n{said}");
    }
    assert_eq!(fs::read(&identity).expect("still there"), newer, "nothing is changed");
    fs::write(&identity, &old).expect("put back");
    cluster.start_all();
    cluster.wait_for_leader();
    assert_eq!(cluster.assert_equal().store.len(), 3);
    println!("proved: a directory of a newer version: status 76, and it is left as it was");
}

#[test]
fn a_disk_that_fails_ends_its_node_and_loses_nothing() {
    let big = Bytes::from(vec![b'x'; 400 << 10]);
    // Alone, so that the node that fails is the leader.
    let mut one = Cluster::prepare(1);
    one.nodes[0].file_blocks = Some(8 << 10);
    one.start_all();
    one.wait_for_leader();
    let client = one.client(Duration::from_secs(3));
    let mut acknowledged = Vec::new();
    for number in 0..200 {
        let key = bytes(format!("big-{number}"));
        match one.wait(client.put(key.clone(), big.clone())) {
            Ok(_) => acknowledged.push(key),
            Err(_) => break,
        }
    }
    assert_eq!(one.nodes[0].wait_for_end(PATIENCE), Some(74), "a failed write ends the process");
    let errors = one.nodes[0].errors();
    assert_eq!(errors.len(), 1, "one clear error: {errors:#?}");
    assert!(errors[0].contains("File too large") && errors[0].contains(".log"), "{errors:?}");
    assert!(acknowledged.len() > 3, "some writes fitted: {}", acknowledged.len());
    one.nodes[0].file_blocks = None;
    one.start_all();
    one.wait_for_leader();
    let there = one.assert_equal().store;
    for key in &acknowledged {
        assert!(there.iter().any(|entry| entry.key == key && entry.value == big), "lost: {key:?}");
    }
    drop(one);
    // One of three: the others go on.
    let mut three = Cluster::start(3);
    let victim = three.other_than(three.wait_for_leader());
    three.nodes[victim].kill9();
    three.nodes[victim].file_blocks = Some(8 << 10);
    three.nodes[victim].start();
    three.wait_for_leader();
    let client = three.client(OPERATION);
    for number in 0..30 {
        let key = bytes(format!("big-{number}"));
        three.wait(client.put(key, big.clone())).expect("two nodes have sound disks");
    }
    assert_eq!(three.nodes[victim].wait_for_end(PATIENCE), Some(74));
    three.nodes[victim].file_blocks = None;
    three.nodes[victim].start();
    three.wait_for_leader();
    assert_eq!(three.assert_equal().store.len(), 30);
    println!(
        "proved: a disk that fails: status 74, \"{}\"; {} acknowledged writes of a single node are \
         there afterwards, and with three nodes nobody notices",
        errors[0].split("ERROR ").last().unwrap_or_default(),
        acknowledged.len()
    );
}
