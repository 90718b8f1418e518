//! Disks that get full: small file systems in memory, with ballast that can be thrown out. Mounting
//! needs a privilege; without it these tests say loudly that they prove nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use balsa::client::ErrorKind;
use bytes::Bytes;

use crate::harness::{Cluster, PATIENCE, bytes, until};

/// Room for the first segment and the next one, but not together with the ballast.
const DISK_MIB: usize = 96;
const BALLAST_MIB: usize = 40;

/// A file system of its own for a node's data; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        fs::create_dir_all(at).expect("a directory to mount on");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "balsa-test"]);
        let mounted = mount.arg(at).output().is_ok_and(|output| output.status.success());
        mounted.then(|| SmallDisk(at.to_owned()))
    }

    fn fill(&self) {
        let ballast = vec![0xBA; BALLAST_MIB << 20];
        fs::write(self.0.join("ballast"), ballast).expect("the ballast still fits");
    }

    fn remount(&self, option: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{option}")]).arg(&self.0);
        assert!(mount.status().expect("mount is there").success(), "remounted: {option}");
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).expect("the ballast is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: its node may still run.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Nodes on small disks. The disks are dropped before the cluster, which removes its directory.
fn on_small_disks(count: usize) -> Option<(Cluster, Vec<SmallDisk>)> {
    let cluster = Cluster::prepare(count);
    let disks: Option<Vec<SmallDisk>> =
        cluster.nodes.iter().map(|node| SmallDisk::mount(&node.data)).collect();
    match disks {
        Some(disks) => Some((cluster, disks)),
        None => {
            eprintln!(
                "SKIPPED, NOTHING IS PROVED: mounting a small file system is not permitted here"
            );
            None
        }
    }
}

fn value() -> Bytes {
    Bytes::from(vec![b'v'; 256 << 10])
}

fn assert_there(cluster: &Cluster, acknowledged: &[Bytes]) {
    let store = cluster.assert_equal().store;
    for key in acknowledged {
        assert!(store.iter().any(|entry| entry.key == key), "acknowledged and lost: {key:?}");
    }
}

#[test]
fn a_leader_without_room_hands_over() {
    let Some((mut cluster, disks)) = on_small_disks(3) else { return };
    cluster.start_all();
    let full = cluster.wait_for_leader();
    disks[full].fill();
    let client = cluster.client(Duration::from_secs(30));
    let mut acknowledged = Vec::new();
    // Twice what the first segment holds.
    for number in 0..32 {
        let key = bytes(format!("k-{number}"));
        let written = cluster.wait(client.put(key.clone(), value()));
        written.unwrap_or_else(|error| panic!("two disks have room, yet {number}: {error}"));
        acknowledged.push(key);
    }
    let leader = cluster.wait_for_leader();
    assert_ne!(leader, full, "a leader without room hands over");
    assert!(cluster.nodes[full].said().contains("no space"), "it says why");
    disks[full].make_room();
    assert_there(&cluster, &acknowledged);
    cluster.assert_alive();
    println!(
        "proved: the leader's disk is full: another one leads, {} writes are acknowledged, and \
              the full node catches up by itself when there is room",
        acknowledged.len()
    );
}

#[test]
fn without_room_anywhere_writes_are_refused_until_there_is_some() {
    let Some((mut cluster, disks)) = on_small_disks(3) else { return };
    cluster.start_all();
    cluster.wait_for_leader();
    disks.iter().for_each(SmallDisk::fill);
    let client = cluster.client(Duration::from_secs(4));
    let mut acknowledged = Vec::new();
    let mut refusals = Vec::new();
    for number in 0..200 {
        let key = bytes(format!("k-{number}"));
        match cluster.wait(client.put(key.clone(), value())) {
            Ok(_) => acknowledged.push(key),
            Err(error) => refusals.push(error),
        }
        if refusals.iter().any(|error| error.word == "no_space") || refusals.len() == 8 {
            break;
        }
    }
    let words: Vec<_> = refusals.iter().map(|error| error.word).collect();
    assert!(words.contains(&"no_space"), "the refusals say no_space: {refusals:#?}");
    let no_space = refusals.iter().find(|error| error.word == "no_space").expect("just seen");
    assert_eq!(no_space.kind, ErrorKind::Refused);
    assert!(!acknowledged.is_empty(), "the first segment had room");
    cluster.assert_alive();
    disks.iter().for_each(SmallDisk::make_room);
    let key = bytes("afterwards");
    until("writes work again by themselves", PATIENCE, || {
        cluster.wait(client.put(key.clone(), value())).ok()
    });
    acknowledged.push(key);
    cluster.wait_for_leader();
    assert_there(&cluster, &acknowledged);
    cluster.assert_alive();
    println!(
        "proved: no room on any disk: {} writes acknowledged before are there, others are refused \
         (\"{no_space}\"; {words:?}), and it goes on by itself when there is room",
        acknowledged.len()
    );
}

#[test]
fn a_read_only_disk_is_a_disk_that_failed() {
    let Some((mut cluster, disks)) = on_small_disks(1) else { return };
    cluster.start_all();
    let client = cluster.client(Duration::from_secs(20));
    cluster.wait(client.put(bytes("k"), bytes("v"))).expect("acknowledged");
    cluster.kill_all();
    disks[0].remount("ro");
    let (code, said) = cluster.nodes[0].refuse();
    assert_eq!(code, 74, "a read-only disk:\n{said}");
    let data = cluster.nodes[0].data.display().to_string();
    assert!(said.contains("Read-only file system") && said.contains(&data), "{said}");
    disks[0].remount("rw");
    cluster.start_all();
    cluster.wait_for_leader();
    assert_there(&cluster, &[bytes("k")]);
    println!("proved: a read-only disk: status 74; when it can be written again all is there");
}
