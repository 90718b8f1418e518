//! Nodes that find each other by names, and a name server that does what the test says.
//!
//! Each node has an address of its own on loopback, and all have one port, as pods have. The nodes are
//! real processes, but of the test's own executable: it is the shipped node with a resolver that reads
//! files. `node_process` must be a test of the program that uses this:
//!
//! ```text
//! #[test]
//! #[ignore = "the process of a node; the other tests start it"]
//! fn node_process() { harness::names::be_a_node(); }
//! ```

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use balsa::certs::{Authority, Validity};
use balsa::config::{NodeCommand, Parsed};
use balsa::identity::Role;
use balsa::rpc::Resolver;
use balsa::{actors, cli, telemetry};
use tempfile::TempDir;

use super::{CLUSTER, Cluster, Process, TURN, free_ports, issue_at, pause};

/// The name behind which all nodes are found.
pub const SERVICE: &str = "svc.test";

/// Files of names, the first one that knows a name counts.
const FILES: &str = "NODE_NAMES";

/// The node's arguments, with this between them.
const ARGUMENTS: &str = "NODE_ARGUMENTS";
const BETWEEN: u8 = 0x1f;

/// What the name server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// These addresses, in this order.
    Addresses(Vec<IpAddr>),
    /// The same, after a while.
    Late(Duration, Vec<IpAddr>),
    /// There is no such name.
    Nothing,
    /// Nothing, ever.
    Hangs,
}

/// A file of names, read anew for each lookup.
pub struct Names {
    path: PathBuf,
    says: BTreeMap<String, Says>,
}

impl Names {
    fn new(path: PathBuf) -> Names {
        let names = Names { path, says: BTreeMap::new() };
        names.write();
        names
    }

    /// From now on.
    pub fn say(&mut self, name: &str, says: Says) {
        self.says.insert(name.to_owned(), says);
        self.write();
    }

    /// The name has these addresses from now on.
    pub fn point(&mut self, name: &str, addresses: &[IpAddr]) {
        self.say(name, Says::Addresses(addresses.to_vec()));
    }

    /// Says nothing any more of any name.
    pub fn forget_all(&mut self) {
        self.says.clear();
        self.write();
    }

    fn write(&self) {
        let mut text = String::new();
        for (name, says) in &self.says {
            let addresses =
                |of: &[IpAddr]| of.iter().map(|ip| format!(" {ip}")).collect::<String>();
            let words = match says {
                Says::Addresses(of) => addresses(of),
                Says::Late(after, of) => format!(" after {}{}", after.as_millis(), addresses(of)),
                Says::Nothing => " nothing".to_owned(),
                Says::Hangs => " hangs".to_owned(),
            };
            text.push_str(&format!("{name}{words}\n"));
        }
        let new = self.path.with_extension("new");
        fs::write(&new, text).expect("a file of names");
        fs::rename(&new, &self.path).expect("the file of names is replaced");
    }
}

impl Cluster {
    /// Makes everything for `count` nodes that look for each other by the service, of whose seats the
    /// first `founders` found. No name is known yet. Starts nothing.
    pub fn prepare_named(count: usize, founders: usize) -> (Cluster, Names) {
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let directory = TempDir::with_prefix_in("cluster-", env!("CARGO_TARGET_TMPDIR"))
            .expect("a temporary directory");
        let certificates = directory.path().join("certs");
        let days = Validity::days(30).expect("a length");
        let authority = Authority::create(CLUSTER, days).expect("a CA");
        authority.save(&certificates.join("ca")).expect("the CA is saved");
        for (role, name) in [(Role::Client, "client"), (Role::Admin, "admin")] {
            super::issue(&authority, role, name, &certificates.join(name));
        }
        let names = Names::new(directory.path().join("names"));
        let port = free_ports(1)[0];
        let node = |ordinal: usize| {
            let name = format!("raft-{ordinal}");
            let own = directory.path().join(&name);
            let certs = certificates.join(&name);
            let addresses = [address_of(ordinal), twin_address_of(ordinal)];
            issue_at(&authority, Role::Node, &name, &addresses, &certs);
            let address = format!("{}:{port}", address_of(ordinal));
            assert!(TcpListener::bind(&address).is_ok(), "{address} is free, as 127.0.0.1 was");
            let mut node = Process::new(&name, &address, own, certs, "");
            let found = ["--service", SERVICE, "--replicas", &founders.to_string()];
            node.more.extend(found.map(OsString::from));
            node.more.extend(["--port".into(), port.to_string().into()]);
            node.names = vec![names.path.clone()];
            node
        };
        let nodes = (0..count).map(node).collect();
        (Cluster::of(nodes, certificates, directory, Some(turn)), names)
    }

    /// What this node alone is told of names, before what all are told.
    pub fn own_names(&mut self, node: usize) -> Names {
        let node = &mut self.nodes[node];
        let names = Names::new(node.log.with_file_name("names"));
        node.names.insert(0, names.path.clone());
        names
    }

    /// A second process under the name and the certificate of this node, with an empty directory and at
    /// another address; not started yet. Its place among the nodes.
    pub fn twin_of(&mut self, node: usize) -> usize {
        let (ordinal, of) = (self.nodes.len(), &self.nodes[node]);
        let (_, port) = of.address.rsplit_once(':').expect("a port");
        let address = format!("{}:{port}", twin_address_of(node));
        let own = self.directory.path().join(format!("{}-twin", of.name));
        let mut twin = Process::new(&of.name, &address, own, of.certs.clone(), "");
        twin.more.clone_from(&of.more);
        twin.names.clone_from(&of.names);
        self.nodes.push(twin);
        self.log_in();
        ordinal
    }

    /// A node's address as it was made.
    pub fn ip(&self, node: usize) -> IpAddr {
        let address: SocketAddr = self.nodes[node].address.parse().expect("an address");
        address.ip()
    }

    /// Publishes all nodes, each under its seat's name and all under the service's.
    pub fn publish_all(&self, names: &mut Names) {
        let all: Vec<IpAddr> = (0..self.nodes.len()).map(|node| self.ip(node)).collect();
        for (node, ip) in all.iter().enumerate() {
            names.point(&seat(node), &[*ip]);
        }
        names.point(SERVICE, &all);
    }
}

/// The name of a seat.
pub fn seat(ordinal: usize) -> String {
    format!("raft-{ordinal}.{SERVICE}")
}

/// Where a node is made to listen.
pub fn address_of(ordinal: usize) -> IpAddr {
    [127, 0, 1, u8::try_from(ordinal + 1).expect("few nodes")].into()
}

/// Where a second process under the same name is made to listen.
pub fn twin_address_of(ordinal: usize) -> IpAddr {
    [127, 0, 2, u8::try_from(ordinal + 1).expect("few nodes")].into()
}

/// An address where nobody is: packets to it are answered by nobody, or refused.
pub fn nobody() -> IpAddr {
    [127, 0, 9, 9].into()
}

/// The command that runs a node with these arguments by these files of names.
pub(super) fn command(files: &[PathBuf], arguments: &[OsString]) -> Command {
    let own = std::env::current_exe().expect("this program");
    let mut command = Command::new(own);
    let files = std::env::join_paths(files).expect("paths without a colon");
    let joined = arguments.iter().map(|word| word.as_bytes()).collect::<Vec<_>>();
    command
        .args(["node_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FILES, files)
        .env(ARGUMENTS, OsStr::from_bytes(&joined.join(&BETWEEN)));
    command
}

/// Runs as the node that a test has described in the environment; without one, does nothing.
pub fn be_a_node() {
    let (Some(files), Some(arguments)) = (std::env::var_os(FILES), std::env::var_os(ARGUMENTS))
    else {
        return;
    };
    let files: Vec<PathBuf> = std::env::split_paths(&files).collect();
    let words = arguments.as_bytes().split(|byte| *byte == BETWEEN);
    let words = words.map(|word| OsString::from_vec(word.to_vec())).collect();
    let parsed = cli::node_options::parse_node(words, &|_| None);
    let Ok(Parsed::Run(NodeCommand::Serve(config))) = parsed else { panic!("{parsed:?}") };
    telemetry::init(config.log_format);
    let resolver = Resolver::new(Arc::new(move |address| look_up(&files, address)));
    let code = actors::run::run_resolving(*config, resolver).code();
    std::process::exit(code);
}

fn look_up(files: &[PathBuf], address: &str) -> io::Result<Vec<SocketAddr>> {
    let (name, port) = address.rsplit_once(':').expect("HOST:PORT");
    let port: u16 = port.parse().expect("a port");
    let line = files.iter().find_map(|file| line_about(file, name));
    let mut words = line.as_deref().unwrap_or("nothing").split(' ').peekable();
    if words.next_if_eq(&"after").is_some() {
        let after = words.next().and_then(|text| text.parse().ok()).expect("milliseconds");
        pause(Duration::from_millis(after));
    }
    match words.peek() {
        Some(&"nothing") => Err(io::Error::other("Name or service not known")),
        Some(&"hangs") => loop {
            std::thread::park();
        },
        _ => {
            let address = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), port);
            Ok(words.map(address).collect())
        }
    }
}

/// What a file says of a name.
fn line_about(file: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).expect("a file of names");
    text.lines().find_map(|line| {
        let (of, says) = line.split_once(' ')?;
        (of == name).then(|| says.to_owned())
    })
}
