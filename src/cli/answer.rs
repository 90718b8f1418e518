//! What a command found out, before it is written as text or as JSON.

use bytes::Bytes;

use super::bench::Report;
use super::selftest::Step;
use crate::client::{self, ErrorKind, Written};
use crate::codec::api::{
    ChangeReply, GetReply, KeyValue, MembersReply, MetricsReply, ReplicationReply, SnapshotReply,
    StatusReply, TransferReply,
};
use crate::config::UsageReport;

/// Exit status of `cltraft`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Nothing happened, and trying again does not help by itself.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There is no such key.
    NotFound = 3,
    /// The condition of a compare-and-swap did not hold.
    ConditionNotMet = 4,
    /// The write may or may not have happened.
    Unknown = 5,
    /// No leader, no quorum, no node; or the node asked does not lead and `--no-redirect` was given.
    NoLeader = 6,
    /// Refused by TLS or authority.
    Untrusted = 7,
}

/// A command that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A stable word.
    pub word: &'static str,
    /// One sentence.
    pub message: String,
    /// The exit status it leads to.
    pub exit: Exit,
    /// The seat that leads, as far as is known.
    pub leader: Option<String>,
}

/// What a write did to a key, and how it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Set it to this.
    Put(Bytes),
    /// Removed it.
    Delete,
    /// Set it to this if it was as expected.
    Cas(Bytes),
}

/// A node asked for its state: its answer, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAnswer {
    /// Where it was asked.
    pub endpoint: String,
    /// The seat, if it is known although the node did not answer.
    pub name: Option<String>,
    /// Its answer.
    pub status: Result<StatusReply, Failure>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Of `put`, `delete`, `cas`.
    Written {
        /// The key.
        key: Bytes,
        /// What was to be done to it.
        write: Write,
        /// What was done.
        written: Written,
    },
    /// Of `get`.
    Read {
        /// The key.
        key: Bytes,
        /// The reply.
        reply: GetReply,
    },
    /// Of `range`: some entries, and the log index they reflect.
    Entries {
        /// The entries.
        entries: Vec<KeyValue>,
        /// The index.
        index: u64,
        /// Term of the node that answered.
        term: u64,
        /// The seat that leads, as far as it knows.
        leader: Option<String>,
    },
    /// Of `status`.
    Nodes(Vec<NodeAnswer>),
    /// Of `metrics`.
    Metrics(MetricsReply),
    /// Of `replication`.
    Replication(ReplicationReply),
    /// Of `stop`.
    Stopped {
        /// The seat.
        name: String,
    },
    /// Of `member list`.
    Members(MembersReply),
    /// Of `member add`, `remove`, `promote`.
    Changed(ChangeReply),
    /// Of `transfer`.
    Transferred(TransferReply),
    /// Of `snapshot take`.
    Snapshot(SnapshotReply),
    /// Of `test`: one line of it.
    Step(Step),
    /// Of `bench`.
    Measured(Report),
    /// Of any of them.
    Failed(Failure),
}

impl Failure {
    /// A failure of the command itself, not of a call.
    #[must_use]
    pub fn new(word: &'static str, message: impl Into<String>) -> Failure {
        Failure { word, message: message.into(), exit: Exit::Failed, leader: None }
    }

    /// A command line that is wrong, with everything that is wrong about it.
    #[must_use]
    pub fn usage(report: &UsageReport) -> Failure {
        Failure { exit: Exit::Usage, ..Failure::new("usage", report.problems.join("; ")) }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        let exit = match error.kind {
            ErrorKind::Refused => Exit::Failed,
            ErrorKind::NoLeader => Exit::NoLeader,
            ErrorKind::Untrusted => Exit::Untrusted,
            ErrorKind::Unknown => Exit::Unknown,
        };
        let leader = error.leader.map(|hint| hint.name);
        Failure { word: error.word, message: error.message, exit, leader }
    }
}

impl Answer {
    /// The exit status the answer leads to.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Answer::Written { written, .. } if written.succeeded => Exit::Done,
            Answer::Written { write: Write::Delete, .. } => Exit::NotFound,
            Answer::Written { .. } => Exit::ConditionNotMet,
            Answer::Read { reply, .. } if reply.found.is_none() => Exit::NotFound,
            // One node that answers is what a look at the whole cluster is for.
            Answer::Nodes(nodes) if nodes.iter().any(|node| node.status.is_ok()) => Exit::Done,
            Answer::Nodes(nodes) => nodes
                .iter()
                .filter_map(|node| node.status.as_ref().err())
                .map(|f| f.exit)
                .max()
                .unwrap_or(Exit::Done),
            Answer::Failed(failure) => failure.exit,
            _ => Exit::Done,
        }
    }

    /// What did not go as wished, if something did not: for the failure's fields in JSON and the line
    /// on standard error in text.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let exit = self.exit();
        let (key, leader) = match self {
            Answer::Failed(failure) => return Some(failure.clone()),
            Answer::Written { key, written, .. } => (key, written.from.leader.clone()),
            Answer::Read { key, reply } => (key, reply.from.leader.clone()),
            _ => return None,
        };
        let key = super::text::shown(key);
        let (word, message) = match exit {
            Exit::NotFound => ("not_found", format!("there is no key {key}")),
            Exit::ConditionNotMet => ("condition_not_met", format!("{key} is not as expected")),
            _ => return None,
        };
        Some(Failure { word, message, exit, leader })
    }
}
