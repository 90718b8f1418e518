//! What keeps a node from starting: options, certificates, addresses, directories.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use balsa::certs::Authority;
use balsa::identity::Role;

use crate::harness::{Cluster, PATIENCE, Process, bytes, free_ports, issue, issue_all};

/// One start that must be refused: with this status, and one error that holds all these words.
fn assert_refused(node: &mut Process, status: i32, words: &[&str]) {
    let (code, said) = node.refuse();
    assert_eq!(code, status, "the exit status of {}; it said:\n{said}", node.name);
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("ERROR")).collect();
    let [error] = errors.as_slice() else { panic!("one error, and not:\n{said}") };
    for word in words {
        assert!(error.contains(word), "\"{word}\" is not in: {error}");
    }
    println!("status {code}: {}", error.split("ERROR ").last().unwrap_or_default());
}

#[test]
fn wrong_arguments_are_told_all_at_once() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_srvraft"));
    let run = command
        .args(["Raft_1", "--seeds", "raft-0", "--frobnicate", "--tick", "soon", "--listen", "here"])
        .args(["--election", "9-5", "--log-format", "xml"])
        .env_clear()
        .output()
        .expect("srvraft starts");
    assert_eq!(run.status.code(), Some(64));
    let said = String::from_utf8_lossy(&run.stderr);
    for word in [
        "'Raft_1'",
        "--seeds: 'raft-0'",
        "--frobnicate",
        "--tick: 'soon'",
        "--listen: 'here'",
        "--election: ",
        "--log-format: 'xml'",
        "--data-dir",
        "--certs",
        "--help",
    ] {
        assert!(said.contains(word), "{word} is not in:\n{said}");
    }
    assert!(run.stdout.is_empty());
    println!("proved: status 64 and one report:\n{said}");
}

#[test]
fn bad_certificates_and_keys_are_named() {
    let mut cluster = Cluster::prepare(2);
    let good = cluster.nodes[0].certs.clone();
    let other = cluster.nodes[1].certs.clone();
    let stranger = cluster.path().join("stranger");
    issue_all(&stranger, "elsewhere", &["raft-0".to_owned()]);
    let bad = |name: &str, spoil: &dyn Fn(&Path)| {
        let directory = cluster.path().join(name);
        fs::create_dir(&directory).expect("a directory");
        for file in ["ca.crt", "tls.crt", "tls.key"] {
            // Copies the mode, too.
            fs::copy(good.join(file), directory.join(file)).expect("a copy");
        }
        spoil(&directory);
        directory
    };
    let remove = |file: &'static str| {
        move |directory: &Path| fs::remove_file(directory.join(file)).expect("removed")
    };
    let write = |file: &'static str, content: &'static str| {
        move |directory: &Path| fs::write(directory.join(file), content).expect("written")
    };
    let copy = |from: &Path, file: &'static str| {
        let from = from.join(file);
        move |directory: &Path| {
            fs::copy(&from, directory.join(file)).expect("copied");
        }
    };
    let world_readable = |directory: &Path| {
        fs::set_permissions(directory.join("tls.key"), Permissions::from_mode(0o644))
            .expect("mode");
    };
    // A file that nobody can read, not even who may read every file: a directory.
    let unreadable = |directory: &Path| {
        fs::remove_file(directory.join("tls.key")).expect("removed");
        fs::create_dir(directory.join("tls.key")).expect("a directory in its place");
    };
    let cases: Vec<(_, Vec<&str>)> = vec![
        (bad("no-key", &remove("tls.key")), vec!["tls.key is missing", "gen-certs.sh"]),
        (bad("no-crt", &remove("tls.crt")), vec!["tls.crt is missing"]),
        (bad("no-ca", &remove("ca.crt")), vec!["ca.crt is missing"]),
        (bad("open-key", &world_readable), vec!["tls.key", "0644", "chmod o-rwx"]),
        (bad("unreadable-key", &unreadable), vec!["tls.key", "cannot be read"]),
        (bad("garbage", &write("tls.crt", "no certificate")), vec!["tls.crt"]),
        (bad("mismatch", &copy(&other, "tls.key")), vec!["do not belong together", "tls.key"]),
        (other.clone(), vec!["node/raft-1", "raft-0"]),
        (cluster.certificates.join("admin"), vec!["admin/admin", "raft-0"]),
    ];
    let node = &mut cluster.nodes[0];
    for (directory, words) in cases {
        node.certs = directory;
        assert_refused(node, 78, &words);
        assert!(!node.data.exists(), "a node that may not start touches nothing");
    }
    node.certs = stranger.join("raft-0");
    node.more = vec!["--cluster".into(), "balsa".into()];
    assert_refused(node, 78, &["--cluster says balsa", "elsewhere"]);
    println!(
        "proved: a missing, open, unreadable, foreign or mismatched certificate or key: status 78"
    );
}

#[test]
fn a_port_in_use_is_named() {
    let mut cluster = Cluster::prepare(1);
    let address = cluster.nodes[0].address.clone();
    let holder = TcpListener::bind(&address).expect("the port is free");
    assert_refused(&mut cluster.nodes[0], 71, &[&address, "--listen"]);
    drop(holder);
    cluster.start_all();
    cluster.wait_for_leader();
    println!("proved: status 71 while the port is in use; the same command works when it is free");
}

#[test]
fn a_directory_in_use_or_of_another_seat_is_refused() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client(Duration::from_secs(20));
    cluster.wait(client.put(bytes("k"), bytes("v"))).expect("acknowledged");
    let own = &cluster.nodes[0];
    let seeds = own.seeds.clone();
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let directory = cluster.path().join("second");
    let mut second = Process::new("raft-0", &address, directory, own.certs.clone(), &seeds);
    second.data = own.data.clone();
    let data = own.data.display().to_string();
    assert_refused(&mut second, 73, &[&data, "in use by another process", "--data-dir"]);
    cluster.wait(client.put(bytes("k"), bytes("w"))).expect("the first goes on");
    cluster.kill_all();
    let authority = Authority::load(&cluster.certificates.join("ca")).expect("the CA");
    let certs = cluster.certificates.join("raft-1");
    issue(&authority, Role::Node, "raft-1", &certs);
    let seeds = format!("{seeds},raft-1={address}");
    let directory = cluster.path().join("third");
    let mut third = Process::new("raft-1", &address, directory, certs, &seeds);
    third.data = cluster.nodes[0].data.clone();
    assert_refused(&mut third, 73, &[&data, "raft-0", "raft-1"]);
    cluster.start_all();
    cluster.wait_for_leader();
    let found = cluster.wait(client.get(bytes("k"), false)).expect("get").found;
    assert_eq!(found.map(|found| found.value), Some(bytes("w")), "nothing is lost");
    println!("proved: status 73 for a locked directory and for another seat's; nothing is lost");
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(Duration::from_secs(20));
    cluster.wait(client.put(bytes("k"), bytes("ours"))).expect("acknowledged");
    // Another cluster with the same seat in it, under another name.
    let mut other = Cluster::prepare_another(1);
    let certificates = other.path().join("elsewhere");
    issue_all(&certificates, "elsewhere", &["raft-0".to_owned()]);
    other.nodes[0].certs = certificates.join("raft-0");
    other.certificates = certificates;
    other.log_in();
    other.start_all();
    other.wait_for_leader();
    let stranger = other.client(Duration::from_secs(20));
    other.wait(stranger.put(bytes("k"), bytes("theirs"))).expect("acknowledged");
    other.kill_all();
    cluster.nodes[0].kill9();
    let own = std::mem::replace(&mut cluster.nodes[0].data, other.nodes[0].data.clone());
    let data = other.nodes[0].data.display().to_string();
    assert_refused(&mut cluster.nodes[0], 73, &[&data, "elsewhere", "balsa"]);
    cluster.wait(client.put(bytes("k"), bytes("still ours"))).expect("the others go on");
    cluster.nodes[0].data = own;
    cluster.nodes[0].start();
    other.start_all();
    cluster.wait_for_leader();
    cluster.assert_equal();
    other.wait_for_leader();
    let theirs = other.wait(stranger.get(bytes("k"), false)).expect("get").found;
    assert_eq!(theirs.map(|found| found.value), Some(bytes("theirs")), "nothing is lost there");
    println!("proved: status 73 for a directory of another cluster; nothing is lost in either");
}

#[test]
fn a_directory_of_another_founding_is_shut_out() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(Duration::from_secs(20));
    cluster.wait(client.put(bytes("k"), bytes("old"))).expect("acknowledged");
    let former = cluster.status(0).and_then(|status| status.cluster_id).expect("founded");
    cluster.kill_all();
    let old = cluster.path().join("old");
    fs::rename(&cluster.nodes[0].data, &old).expect("set aside");
    for node in &cluster.nodes[1..] {
        fs::remove_dir_all(&node.data).expect("removed");
    }
    // The same seats and certificates, and a cluster that is not the same.
    cluster.start_all();
    cluster.wait_for_leader();
    let present = cluster.status(0).and_then(|status| status.cluster_id).expect("founded");
    assert_ne!(former, present, "M6: every founding draws a cluster id");
    let client = cluster.client(Duration::from_secs(20));
    cluster.wait(client.put(bytes("k"), bytes("new"))).expect("acknowledged");
    cluster.nodes[0].kill9();
    let own = std::mem::replace(&mut cluster.nodes[0].data, old);
    cluster.nodes[0].start();
    let status = cluster.nodes[0].wait_for_end(PATIENCE);
    assert_eq!(status, Some(73), "most seats are in another cluster");
    let said = cluster.nodes[0].said();
    let (ours, theirs) = (format!("cluster {present}"), format!("cluster {former}"));
    let clear = |line: &str| {
        line.contains(&ours) && line.contains(&theirs) && line.contains("raft-1, raft-2")
    };
    assert!(said.lines().any(clear), "it names both clusters, and who is where:\n{said}");
    cluster.wait(client.put(bytes("k"), bytes("newer"))).expect("the others go on");
    cluster.nodes[0].data = own;
    cluster.nodes[0].start();
    cluster.wait_for_leader();
    let store = cluster.assert_equal().store;
    assert_eq!(store.len(), 1);
    assert_eq!(store[0].value, bytes("newer"));
    println!(
        "proved: a directory of an earlier founding takes part in nothing and ends with status 73, both clusters named"
    );
}

#[test]
fn a_path_that_cannot_be_a_directory_is_a_disk_that_failed() {
    let mut cluster = Cluster::prepare(1);
    let file = cluster.path().join("file");
    fs::write(&file, "a file").expect("written");
    cluster.nodes[0].data = file.join("data");
    let data = cluster.nodes[0].data.display().to_string();
    assert_refused(&mut cluster.nodes[0], 74, &[&data]);
    assert_eq!(fs::read(&file).expect("still there"), b"a file");
    println!("proved: status 74 for a data directory below a file, and the file is as it was");
}
