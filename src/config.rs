//! How a node is set up: plain values, already judged.
//!
//! The text they come from (arguments and environment) is read and judged in
//! [`cli::options`](crate::cli::options) and [`cli::node_options`](crate::cli::node_options), so that
//! everything below the executables gets values it can rely on.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::raft;

/// Everything `srvraft` needs to know before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The seat, such as `raft-1`.
    pub name: String,
    /// Where the log and the hard state are kept.
    pub data_dir: PathBuf,
    /// Where the RPC listener binds.
    pub listen: SocketAddr,
    /// Where metrics are served over HTTPS; none: nowhere.
    pub metrics: Option<SocketAddr>,
    /// `HOST:PORT` under which the other nodes and the clients reach this one.
    pub advertise: String,
    /// The seats that found the cluster, each with its address; at least one.
    pub seeds: Vec<Seed>,
    /// The name behind which all nodes are found, the seats beyond the seeds among them; `HOST:PORT`.
    pub service: Option<String>,
    /// Directory of certificates, keys and revocation lists.
    pub certs: PathBuf,
    /// The cluster's name; none: the one the certificate names.
    pub cluster: Option<String>,
    /// Real time of one tick of the core.
    pub tick: Duration,
    /// The core's tick counts and limits.
    pub raft: raft::Options,
    /// When a snapshot is taken.
    pub snapshots: SnapshotPolicy,
    /// A seat's holder is replaced at most once in this time.
    pub seat_limit: Duration,
    /// A seat that an admin removed is not taken again by itself for this time.
    pub retirement: Duration,
    /// What to do about damage in the middle of the log.
    pub on_damage: OnDamage,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// What `srvraft` was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeCommand {
    /// Run a node.
    Serve(Box<NodeConfig>),
    /// Set a seat's directory aside, so that its next start begins with an empty one.
    Discard {
        /// The seat.
        name: String,
        /// The directory.
        data_dir: PathBuf,
    },
    /// Make a cluster of one of what a seat's directory holds: the way out when a majority lost its
    /// disks.
    Recover(Recover),
    /// Ask a node that runs on this machine how it is.
    Probe(Probe),
}

/// What `srvraft probe` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub question: Question,
    /// The seat.
    pub name: String,
    /// Where its node listens, as seen from this machine.
    pub address: SocketAddr,
    /// The seat's certificates.
    pub certs: PathBuf,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Does the node answer at all?
    Live,
    /// Is it a voter that has caught up and serves?
    Ready,
}

/// What `srvraft recover` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recover {
    /// The seat.
    pub name: String,
    /// Its directory.
    pub data_dir: PathBuf,
    /// The seat's certificates.
    pub certs: PathBuf,
    /// Carry it out; else only say what would be done.
    pub yes: bool,
}

/// A seat of the founding list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The seat.
    pub name: String,
    /// Its `HOST:PORT`.
    pub address: String,
}

/// What a node does about damage in the middle of its log (design: durability).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// Refuse to start and say what to do.
    #[default]
    Stop,
    /// Set the directory aside under a dated name, and start as a node that lost its disk.
    Replace,
}

/// When a node takes a snapshot: as soon as the log behind the newest one has grown by either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Bytes of entries.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> SnapshotPolicy {
        SnapshotPolicy { bytes: 256 << 20, entries: 1_000_000 }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The default of `--tick`; the other defaults of time are in [`raft::Options`].
pub const TICK_DEFAULT: Duration = Duration::from_millis(10);

/// The default of `--seat-limit`.
pub const SEAT_LIMIT_DEFAULT: Duration = Duration::from_secs(60);

/// The default of `--retirement`.
pub const RETIREMENT_DEFAULT: Duration = Duration::from_secs(600);

/// The default of `--timeout` of a probe; Kubernetes' own limit must be longer.
pub const PROBE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);

/// The port nodes listen on unless told otherwise (mission S7).
pub const PORT_DEFAULT: u16 = 6000;

/// What reading the arguments led to, if nothing was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// Go on with this.
    Run(T),
    /// Print this (help, version) and end with status 0.
    Print(String),
}

/// Everything that is wrong with the options of one call, in one report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct UsageReport {
    /// The executable.
    pub program: &'static str,
    /// One sentence each; never empty.
    pub problems: Vec<String>,
}

impl fmt::Display for UsageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => writeln!(f, "{}: {only}", self.program)?,
            many => {
                writeln!(f, "{}: {} things are wrong:", self.program, many.len())?;
                for problem in many {
                    writeln!(f, "  - {problem}")?;
                }
            }
        }
        write!(f, "`{} --help` shows what there is.", self.program)
    }
}
