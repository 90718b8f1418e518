//! `srvraft probe` against real nodes in every state: what Kubernetes would see of them.

mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;

use balsa::certs::{Authority, Existing, RawParams, Validity};
use balsa::identity::{Identity, Role};
use harness::{Cluster, PATIENCE, Process, free_ports, until};
use time::{Duration, OffsetDateTime};

/// What one probe printed, and whether it succeeded.
struct Said {
    yes: bool,
    line: String,
}

impl Said {
    /// Fails unless the answer was this and its line holds the words.
    fn check(&self, yes: bool, words: &str) {
        assert!(self.yes == yes && self.line.contains(words), "{}: {}", self.yes, self.line);
        println!("{} {}", if yes { "0" } else { "1" }, self.line);
    }
}

/// Runs a probe with the node's settings in the environment, as in a pod.
fn ask(question: &str, name: &str, address: &str, certs: &Path, more: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_srvraft"));
    command.env_clear().args(["probe", question]).args(more);
    command.env("BALSA_NAME", name).env("BALSA_LISTEN", address).env("BALSA_CERTS", certs);
    let run = command.output().expect("srvraft starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (out, err) = (text(run.stdout), text(run.stderr));
    let yes = match run.status.code() {
        Some(0) => true,
        Some(1) => false,
        other => panic!("status {other:?}: {out}{err}"),
    };
    let (line, silent) = if yes { (out, err) } else { (err, out) };
    assert!(silent.is_empty() && line.lines().count() == 1, "one line: {line}{silent}");
    Said { yes, line: line.trim_end().to_owned() }
}

fn of(question: &str, node: &Process) -> Said {
    ask(question, &node.name, &node.address, &node.certs, &[])
}

fn until_ready(node: &Process) -> Said {
    until("the node is ready", PATIENCE, || Some(of("ready", node)).filter(|said| said.yes))
}

fn until_unready(node: &Process, words: &str) {
    let said = until("the node says why it is not ready", PATIENCE, || {
        Some(of("ready", node)).filter(|said| !said.yes && said.line.contains(words))
    });
    said.check(false, words);
}

#[test]
fn a_node_is_live_before_it_is_ready_and_without_a_quorum() {
    let mut cluster = Cluster::prepare(3);
    of("live", &cluster.nodes[0]).check(false, "nothing listens there");
    of("ready", &cluster.nodes[0]).check(false, "raft-0 is not ready: ");

    cluster.nodes[0].start();
    until("it answers", PATIENCE, || of("live", &cluster.nodes[0]).yes.then_some(()));
    until_unready(&cluster.nodes[0], "raft-1");

    cluster.start_all();
    let leader = cluster.wait_for_leader();
    for node in &cluster.nodes {
        until_ready(node).check(true, &format!("led by raft-{leader}"));
        of("live", node).check(true, &format!("{} is live", node.name));
    }

    let (first, second) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[first].kill9();
    cluster.nodes[leader].kill9();
    until_unready(&cluster.nodes[second], "it knows no leader");
    of("live", &cluster.nodes[second]).check(true, "is live");

    cluster.nodes[second].freeze();
    let node = &cluster.nodes[second];
    let short = ["--timeout", "300ms"];
    let said = ask("live", &node.name, &node.address, &node.certs, &short);
    said.check(false, "no answer within");
    node.thaw();
    until("it answers again", PATIENCE, || of("live", node).yes.then_some(()));
}

#[test]
fn whoever_was_removed_or_is_asked_to_stop_is_live_and_not_ready() {
    let mut cluster = Cluster::start(4);
    let leader = cluster.wait_for_leader();
    let [gone, killed, stays] = [1, 2, 3].map(|further| (leader + further) % 4);
    let name = cluster.nodes[gone].name.clone();
    cluster.wait(cluster.admin().remove_member(&name)).expect("removed");
    until_unready(&cluster.nodes[gone], "removed");
    until("it answers", PATIENCE, || of("live", &cluster.nodes[gone]).yes.then_some(()));

    // Of the three that are left one is killed: the other stays a while, because the cluster needs it.
    until_ready(&cluster.nodes[stays]);
    cluster.nodes[killed].kill9();
    let pid = i32::try_from(cluster.nodes[stays].pid()).expect("a pid");
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("one's own child");
    until_unready(&cluster.nodes[stays], "it was asked to stop");
    of("live", &cluster.nodes[stays]).check(true, "is live");
}

/// A certificate of this seat whose time is over, in a directory of its own.
fn expired(cluster: &Cluster, name: &str) -> PathBuf {
    let authority = Authority::load(&cluster.certificates.join("ca")).expect("the CA");
    let now = OffsetDateTime::now_utc();
    let identity = Identity::new(harness::CLUSTER, Role::Node, name).expect("good names");
    let raw = RawParams {
        organization: harness::CLUSTER.into(),
        common_name: name.into(),
        uris: vec![identity.to_string()],
        dns: vec!["localhost".into()],
        ips: vec![[127, 0, 0, 1].into()],
        server_auth: true,
        client_auth: true,
        ca: false,
        validity: Validity {
            not_before: now - Duration::days(9),
            not_after: now - Duration::days(2),
        },
    };
    let directory = cluster.path().join("expired");
    let issued = authority.issue_raw(&raw).expect("a certificate");
    issued.save(&directory, Existing::Refuse).expect("saved");
    directory
}

#[test]
fn bad_certificates_never_end_a_node_that_answers() {
    let mut cluster = Cluster::prepare(2);
    cluster.start_all();
    cluster.wait_for_leader();
    let (node, other) = (&cluster.nodes[0], &cluster.nodes[1]);
    until_ready(node);
    let both = |certs: &Path, words: &str| {
        let [live, ready] =
            ["live", "ready"].map(|question| ask(question, &node.name, &node.address, certs, &[]));
        live.check(true, "raft-0 is live");
        live.check(true, words);
        ready.check(false, words);
    };
    both(&expired(&cluster, "raft-0"), "expired");
    both(&cluster.path().join("nowhere"), "ca.crt is missing");
    both(&other.certs, "not for node raft-0");
    let foreign = cluster.path().join("foreign");
    harness::issue_all(&foreign, harness::CLUSTER, &["raft-0".to_owned()]);
    both(&foreign.join("raft-0"), "none of the CAs");

    // But another node at this address is not an answer of this one.
    let wrong = ask("live", &node.name, &other.address, &node.certs, &[]);
    wrong.check(false, "this is the address of raft-0");
    let nobody = format!("127.0.0.1:{}", free_ports(1)[0]);
    let missing = cluster.path().join("nowhere");
    ask("live", "raft-0", &nobody, &missing, &[]).check(false, "ca.crt is missing");
    of("live", node).check(true, "raft-0 is live");
}
