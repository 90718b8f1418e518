//! Clusters of real processes: certificates, ports, directories, and questions to the nodes.
//!
//! Every wait is a question asked again and again until its deadline. A cluster ends its processes,
//! and nobody else's, when it is dropped, also by a panic; then it also prints the ends of the nodes'
//! logs and leaves its directory.

// Several test programs use this module, each a part of it.
#![allow(dead_code, unreachable_pub)]

#[path = "harness/agree.rs"]
pub mod agree;
#[path = "harness/load.rs"]
pub mod load;
#[path = "harness/names.rs"]
pub mod names;
#[path = "harness/process.rs"]
pub mod process;
#[path = "harness/proxy.rs"]
pub mod proxy;
#[path = "harness/reload.rs"]
pub mod reload;
#[path = "harness/seats.rs"]
pub mod seats;

use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use balsa::certs::{Authority, Existing, Profile, Validity};
use balsa::client::{Client, Options};
use balsa::codec::api::{LogContent, ReplicationReply, StatusReply};
use balsa::identity::{Identity, Role};
use balsa::raft::RoleKind;
use balsa::rpc::Tls;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub use process::Process;

/// For everything that only has to happen some time, on a machine that may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster's name in all certificates.
pub const CLUSTER: &str = "balsa";

/// One test with processes at a time: they measure time, and a machine may have two cores.
static TURN: Mutex<()> = Mutex::new(());

/// A cluster of real processes.
pub struct Cluster {
    /// The nodes by ordinal.
    pub nodes: Vec<Process>,
    admin: Client,
    runtime: Runtime,
    /// Holds `ca` and the directories of nodes, `client` and `admin`.
    pub certificates: PathBuf,
    directory: TempDir,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Cluster {
    /// Makes everything for `count` nodes and starts nothing.
    pub fn prepare(count: usize) -> Cluster {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Cluster::beside(count, Some(turn))
    }

    /// The same for a second cluster in one test.
    pub fn prepare_another(count: usize) -> Cluster {
        Cluster::beside(count, None)
    }

    fn beside(count: usize, turn: Option<MutexGuard<'static, ()>>) -> Cluster {
        let directory = TempDir::with_prefix_in("cluster-", env!("CARGO_TARGET_TMPDIR"))
            .expect("a temporary directory");
        let certificates = directory.path().join("certs");
        let seats: Vec<String> = (0..count).map(|ordinal| format!("raft-{ordinal}")).collect();
        issue_all(&certificates, CLUSTER, &seats);
        let addresses: Vec<String> =
            free_ports(count).into_iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let seeds: Vec<String> =
            seats.iter().zip(&addresses).map(|(name, at)| format!("{name}={at}")).collect();
        let seeds = seeds.join(",");
        let node = |(name, address): (&String, &String)| {
            let own = directory.path().join(name);
            Process::new(name, address, own, certificates.join(name), &seeds)
        };
        let nodes: Vec<Process> = seats.iter().zip(&addresses).map(node).collect();
        Cluster::of(nodes, certificates, directory, turn)
    }

    fn of(
        nodes: Vec<Process>,
        certificates: PathBuf,
        directory: TempDir,
        turn: Option<MutexGuard<'static, ()>>,
    ) -> Cluster {
        let addresses = nodes.iter().map(|node| node.address.clone()).collect();
        let (runtime, admin) = (runtime(), admin(&certificates, addresses));
        Cluster { nodes, admin, runtime, certificates, directory, _turn: turn }
    }

    /// Takes the admin's certificate from [`certificates`](Cluster::certificates) anew.
    pub fn log_in(&mut self) {
        self.admin = admin(&self.certificates, self.addresses());
    }

    /// A cluster of `count` nodes with a leader.
    pub fn start(count: usize) -> Cluster {
        let mut cluster = Cluster::prepare(count);
        cluster.start_all();
        cluster.wait_for_leader();
        cluster
    }

    /// Starts every node that does not run.
    pub fn start_all(&mut self) {
        self.nodes.iter_mut().filter(|node| !node.runs()).for_each(Process::start);
    }

    pub fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(Process::kill9);
    }

    /// Where files of the test may lie.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// A client with its own session. Its connections live on the runtime that first uses it.
    pub fn client(&self, timeout: Duration) -> Client {
        self.client_of(self.addresses(), timeout)
    }

    /// The same, with these endpoints only.
    pub fn client_of(&self, endpoints: Vec<String>, timeout: Duration) -> Client {
        let options = Options { endpoints, timeout, redirect: true };
        Client::new(tls(&self.certificates, "client"), options)
    }

    /// The cluster's own client, with an admin's certificate.
    pub fn admin(&self) -> &Client {
        &self.admin
    }

    /// Waits for a future, on the cluster's own runtime.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// What a node says of itself, if it answers.
    pub fn status(&self, node: usize) -> Option<StatusReply> {
        let asked = self.admin.status(&self.nodes[node].address);
        let limit = Duration::from_secs(3);
        self.wait(async { tokio::time::timeout(limit, asked).await }).ok()?.ok()
    }

    /// The ordinals of the nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].runs()).collect()
    }

    /// What all nodes that run say of themselves, if they all answer.
    pub fn statuses(&self) -> Option<Vec<StatusReply>> {
        self.assert_alive();
        self.running().into_iter().map(|node| self.status(node)).collect()
    }

    /// The node that leads and that all running nodes follow, as soon as there is one.
    pub fn wait_for_leader(&self) -> usize {
        until("a leader that all running nodes know", PATIENCE, || {
            let statuses = self.statuses()?;
            let leader = statuses.iter().find(|status| status.role == RoleKind::Leader)?;
            let agree = |status: &StatusReply| {
                status.term == leader.term && status.leader.as_ref() == Some(&leader.name)
            };
            statuses.iter().all(agree).then(|| self.ordinal(&leader.name))
        })
    }

    /// The ordinal of a seat.
    pub fn ordinal(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("no seat is called {name}"))
    }

    /// A node other than `node` that runs.
    pub fn other_than(&self, node: usize) -> usize {
        let other = self.running().into_iter().find(|other| *other != node);
        other.expect("another running node")
    }

    /// As [`assert_agree`](Cluster::assert_agree), of a cluster in which nothing is purged yet: all hold
    /// the whole log (mission S3). Returns the one log and map.
    pub fn assert_equal(&self) -> ReplicationReply {
        let mut contents = self.assert_agree();
        for one in &contents {
            assert_eq!(one.first_index.0, 1, "{}: nothing is purged yet", one.name);
            assert_eq!(one.log.len() as u64, one.last_index.0, "every entry is there: L1");
            assert_eq!(one.log.len(), contents[0].log.len(), "S9: {}", one.name);
        }
        contents.swap_remove(0)
    }

    /// The whole log and map of a node.
    pub fn replication(&self, node: usize) -> ReplicationReply {
        let asked = self.admin.replication(&self.nodes[node].address, 0, bytes::Bytes::new(), None);
        self.wait(asked).unwrap_or_else(|error| panic!("{}: {error}", self.nodes[node].name))
    }

    /// Fails if a node that should run has ended by itself.
    pub fn assert_alive(&self) {
        for node in &self.nodes {
            if let Some(status) = node.ended() {
                panic!("{} ended by itself: {status}", node.name);
            }
        }
    }

    /// Fails if a node wrote an error into its log, in whichever of its lives.
    pub fn assert_no_errors(&self) {
        for node in &self.nodes {
            let errors = node.errors();
            assert!(errors.is_empty(), "{} says:\n{}", node.name, errors.join("\n"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
            eprintln!("the cluster's directory is left: {}", self.directory.path().display());
            for node in &self.nodes {
                eprintln!("--- the end of {}'s log\n{}", node.name, node.last_words());
            }
        }
    }
}

pub fn admin(certificates: &Path, endpoints: Vec<String>) -> Client {
    let options = Options { endpoints, timeout: Duration::from_secs(5), redirect: true };
    Client::new(tls(certificates, "admin"), options)
}

/// A runtime of one thread.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The TLS identity `name` of a directory that [`issue_all`] filled; it follows its files.
pub fn tls(certificates: &Path, name: &str) -> Arc<Tls> {
    let directory = certificates.join(name);
    let tls = Tls::load(&directory, None).expect("certificates that were made just now");
    tls.watch(&directory, None).expect("a thread");
    tls
}

/// Makes a CA, and certificates for these seats, `client` and `admin`.
pub fn issue_all(out: &Path, cluster: &str, seats: &[String]) {
    let authority = Authority::create(cluster, Validity::days(30).expect("a length"));
    let authority = authority.expect("a CA");
    authority.save(&out.join("ca")).expect("the CA is saved");
    let nodes = seats.iter().map(|seat| (Role::Node, seat.as_str()));
    for (role, name) in nodes.chain([(Role::Client, "client"), (Role::Admin, "admin")]) {
        issue(&authority, role, name, &out.join(name));
    }
}

/// Makes one certificate for a node on loopback, a client or an admin.
pub fn issue(authority: &Authority, role: Role, name: &str, directory: &Path) {
    issue_at(authority, role, name, &[[127, 0, 0, 1].into()], directory);
}

/// The same for a node that is reached at other addresses of this machine.
pub fn issue_at(
    authority: &Authority,
    role: Role,
    name: &str,
    addresses: &[IpAddr],
    directory: &Path,
) {
    let node = role == Role::Node;
    let cluster = authority.cluster().expect("the CA names its cluster");
    let issued = authority.issue(&Profile {
        identity: Identity::new(cluster, role, name).expect("good names"),
        dns: if node { vec!["localhost".into()] } else { Vec::new() },
        ips: if node { addresses.to_vec() } else { Vec::new() },
        validity: Validity::days(20).expect("a length"),
    });
    let saved = issued.expect("a certificate").save(directory, Existing::Refuse);
    saved.expect("the certificate is saved");
}

/// Ports that are free now. They are below the range that the kernel takes for outgoing connections,
/// which else could hold a port just when its node starts again.
pub fn free_ports(count: usize) -> Vec<u16> {
    let mut held: Vec<(u16, TcpListener)> = Vec::new();
    while held.len() < count {
        let drawn = getrandom::u32().expect("randomness") % 20_000;
        let port = 11_000 + u16::try_from(drawn).expect("below 20000");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
    }
    held.into_iter().map(|(port, _)| port).collect()
}

/// Asks until there is an answer; fails at the deadline.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", limit.as_secs());
        pause(Duration::from_millis(10));
    }
}

/// Between two questions, or for a delay that is itself a part of the test's input.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread of a test's own, on which nobody else waits"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Whether a log's line carries this put.
pub fn is_put(content: &LogContent, key: &[u8], value: &[u8]) -> bool {
    matches!(content, LogContent::Put { key: k, value: v } if k == key && v == value)
}

pub fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}
