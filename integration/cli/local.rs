//! `cltraft local`: kill -9 and what comes back from it (mission S3), and that it ends its own
//! processes and nobody else's.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::failures::signal;
use crate::harness::{PATIENCE, until};
use crate::tools::{CLTRAFT, Cluster, run};

fn runs(pid: u32) -> bool {
    // A process that has ended and was not waited for has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| !words.is_empty())
}

/// Until the logs and maps of all three are the same, line by line; what they say.
fn assert_same(cluster: &Cluster) -> String {
    until("replication of all three is the same", PATIENCE, || {
        let said: Vec<_> = ["0", "1", "2"].map(|n| cluster.ask(&["replication", n])).into();
        let same = said.iter().all(|one| one.code == 0 && one.out == said[0].out);
        same.then(|| said[0].out.clone())
    })
}

#[test]
fn kill_9_of_the_leader_and_of_all_three_loses_nothing() {
    let cluster = Cluster::start();
    for n in 0..5 {
        cluster.ask(&["put", &format!("key-{n}"), &format!("value-{n}")]).fine();
    }
    let (leader, _) = cluster.leader_and_follower();
    let dead = cluster.pid(leader);
    let said = cluster.local(&["--kill", &leader.to_string()]);
    assert_eq!(said.fine(), format!("raft-{leader}: is killed\n"));
    assert!(!runs(dead) && !cluster.pid_file(leader).exists());
    let killed = Instant::now();
    let put = cluster.ask(&["-o", "json", "put", "after", "the kill"]);
    println!("the next write was acknowledged {:?} after the kill", killed.elapsed());
    let put = put.object();
    assert_eq!((put["applied"].as_bool(), put["error"].as_str()), (Some(true), None), "{put}");
    assert_ne!(put["leader"], format!("raft-{leader}"), "{put}");
    let said = cluster.local(&["--start", &format!("raft-{leader}")]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.out, format!("raft-{leader}: runs\n"));
    let before = assert_same(&cluster);
    let pids: Vec<u32> = (0..3).map(|n| cluster.pid(n)).collect();
    signal("-KILL", &pids);
    until("all three are dead", PATIENCE, || pids.iter().all(|pid| !runs(*pid)).then_some(()));
    // The same call as the first time: the directory is the cluster.
    let again = cluster.local(&["--detach", "-o", "json"]);
    assert_eq!(again.code, 0, "{again:?}");
    let object = again.object();
    let endpoints: Vec<_> = cluster.endpoints.split(',').collect();
    assert_eq!(object["endpoints"], serde_json::json!(endpoints));
    assert_eq!(Path::new(object["certs"].as_str().expect("a path")), cluster.certs);
    assert!(object["leader"].as_str().is_some_and(|name| name.starts_with("raft-")), "{object}");
    assert!((0..3).all(|n| !pids.contains(&cluster.pid(n))), "new processes");
    for n in 0..5 {
        let read = cluster.ask(&["-o", "json", "get", &format!("key-{n}")]).object();
        assert_eq!(read["value"], format!("value-{n}"), "S3");
    }
    let after = assert_same(&cluster);
    let log = |text: &str| text.lines().skip(1).take_while(|l| l.starts_with('[')).count();
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (old, new) = (log(&before), log(&after));
    assert!(new >= old && lines(&after)[..old] == lines(&before)[..old], "S7, S9:\n{after}");
    assert_eq!(lines(&after)[new..], lines(&before)[old..], "the same map");
}

#[test]
fn each_action_says_what_it_did_and_touches_only_its_own() {
    let cluster = Cluster::start();
    let json = |words: &[&str]| {
        let said = cluster.local(&[&["-o", "json"], words].concat());
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    };
    let pids: Vec<u32> = (0..3).map(|n| cluster.pid(n)).collect();
    // One that has nothing to do with this cluster, and one that belongs to another.
    let mut stranger = stranger();
    let other = Other::start(&cluster.path().join("other"));
    assert_eq!(json(&["--start", "0"]), "{\"name\":\"raft-0\",\"started\":false}\n");
    assert_eq!(json(&["--kill", "0"]), "{\"name\":\"raft-0\",\"killed\":true}\n");
    assert_eq!(json(&["--kill", "raft-0"]), "{\"name\":\"raft-0\",\"killed\":false}\n");
    assert_eq!(json(&["--stop", "1"]), "{\"name\":\"raft-1\",\"stopped\":true}\n");
    assert_eq!(json(&["--stop", "1"]), "{\"name\":\"raft-1\",\"stopped\":false}\n");
    assert_eq!(pids.iter().map(|pid| runs(*pid)).collect::<Vec<_>>(), [false, false, true]);
    // The system gave the number to somebody else meanwhile.
    for pid in [stranger.id(), other.pid()] {
        fs::write(cluster.pid_file(0), format!("{pid}\n")).expect("the pid file");
        assert_eq!(json(&["--kill", "0"]), "{\"name\":\"raft-0\",\"killed\":false}\n");
        fs::write(cluster.pid_file(0), format!("{pid}\n")).expect("the pid file");
        assert_eq!(json(&["--stop", "0"]), "{\"name\":\"raft-0\",\"stopped\":false}\n");
        assert!(runs(pid), "a foreign process was ended");
    }
    fs::write(cluster.pid_file(0), format!("{}\n", stranger.id())).expect("the pid file");
    assert_eq!(json(&["--start", "0"]), "{\"name\":\"raft-0\",\"started\":true}\n");
    assert_ne!(cluster.pid(0), stranger.id());
    fs::write(cluster.pid_file(1), format!("{}\n", stranger.id())).expect("the pid file");
    let (pid, third) = (cluster.pid(0), cluster.pid(2));
    assert_eq!(json(&["--down"]), "{\"stopped\":[\"raft-0\",\"raft-2\"]}\n");
    assert!(!runs(pid) && !runs(third), "all of its own have ended");
    assert!(runs(stranger.id()) && runs(other.pid()), "and nobody else");
    assert_eq!(json(&["--down"]), "{\"stopped\":[]}\n");
    assert_eq!(cluster.local(&["--down"]).fine(), "no node was running\n");
    for (words, part) in
        [(&["--kill", "7"][..], "raft-0, raft-1, raft-2"), (&["--nodes", "5"], "5")]
    {
        let said = cluster.local(words);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(part), "{said:?}");
    }
    let nowhere = run(Command::new(CLTRAFT).args(["local", "--down", "--dir", "/nonexistent"]));
    assert_eq!((nowhere.code, nowhere.out.as_str()), (1, ""), "{nowhere:?}");
    assert!(nowhere.err.contains("--dir"), "{nowhere:?}");
    // Two lead themselves, but the cluster is three: who is missing is named, and why.
    let data = |n: u32| cluster.dir.join(format!("raft-{n}")).join("data");
    fs::remove_dir_all(data(1)).expect("the data of raft-1");
    fs::rename(data(0), data(1)).expect("the data of raft-0");
    let said = cluster.local(&["--detach"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    for part in ["raft-1 has ended", "belongs to"] {
        assert!(said.err.contains(part), "{part} is not in {said:?}");
    }
    stranger.kill().and_then(|()| stranger.wait()).expect("one's own child");
}

/// Waits for input that never comes.
fn stranger() -> Child {
    Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("sleep is there")
}

/// A cluster of one in the foreground; SIGTERM takes it down.
struct Other {
    child: Child,
    pid_file: std::path::PathBuf,
}

impl Other {
    fn start(dir: &Path) -> Other {
        let mut command = Command::new(CLTRAFT);
        command.args(["local", "--nodes", "1", "--dir"]).arg(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("cltraft starts");
        let other = Other { child, pid_file: dir.join("raft-0").join("pid") };
        until("the other node runs", PATIENCE, || other.pid_file.exists().then_some(()));
        other
    }

    fn pid(&self) -> u32 {
        let text = fs::read_to_string(&self.pid_file).expect("it runs");
        text.trim().parse().expect("a process id")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let node = self.pid();
        signal("-TERM", &[self.child.id()]);
        let ended = until("the other cluster ends", PATIENCE, || self.child.try_wait().ok()?);
        if !std::thread::panicking() {
            assert!(ended.success(), "{ended}");
            assert!(!runs(node), "a cluster in the foreground takes its nodes with it");
        }
    }
}

#[test]
fn who_ends_it_while_it_starts_ends_its_nodes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // The first process has just been started; nobody leads yet.
    drop(Other::start(&directory.path().join("d")));
}

#[test]
fn a_port_that_is_taken_is_said_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let port = crate::harness::free_ports(1)[0];
    let _held = std::net::TcpListener::bind(("127.0.0.1", port)).expect("free a moment ago");
    let begun = Instant::now();
    let mut command = Command::new(CLTRAFT);
    command.args(["local", "--nodes", "1", "--detach", "--base-port", &port.to_string(), "--dir"]);
    let said = run(command.arg(directory.path().join("d")));
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("raft-0 has ended") && said.err.contains("in use"), "{said:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "not after the whole patience");
}
