//! Arguments, replies and refusals of the calls that clients, admins and probes make.
//!
//! Writes are not here: `Kv.Write` and `Kv.OpenSession` carry [`kv::command`](crate::kv::command).
//!
//! Keys and values are marked as [`shared`]: decoded with
//! [`decode_shared`](super::msgpack::decode_shared), they are slices of the received frame.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::shared;
use crate::kv::command::{Applied, Versioned};
use crate::raft::{ClusterId, Index, NodeId, RoleKind, Seen, Term};

/// Why a call was not carried out; the words are stable and appear as `error` in JSON output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Another node leads, or nobody does. Nothing happened; go to the leader.
    NotLeader,
    /// A limit on work in progress is reached. Nothing happened; try again later.
    Busy,
    /// The disk is full. Nothing happened.
    NoSpace,
    /// The arguments are malformed or name something impossible. Nothing happened.
    BadRequest,
    /// A key, value or request is over its limit. Nothing happened.
    TooLarge,
    /// The caller's certificate does not allow this call. Nothing happened.
    Denied,
    /// This version does not know the method. Nothing happened.
    UnknownMethod,
    /// The deadline passed before the call was begun. Nothing happened.
    DeadlineExceeded,
    /// The node has not joined a cluster yet, was removed from it, or is stopping. Nothing happened; try
    /// another node.
    Unavailable,
    /// The peer is not who the caller thinks, or of another cluster. Nothing happened.
    WrongPeer,
    /// The caller's node id was removed from the cluster. Nothing happened; a new node may take the
    /// seat.
    Removed,
    /// The caller's data directory is older than what this node has seen of it (a volume restored
    /// from a copy). Nothing happened; it goes the way of a lost disk.
    WentBack,
    /// Another change of the members is under way. Nothing happened; try again when it is done.
    UnderWay,
    /// The request contradicts the members as they are. Nothing happened; the message says what holds.
    Conflict,
    /// The session is unknown or has expired; the write was not executed.
    SessionExpired,
    /// The serial is outside the session's window; the write was not executed.
    SerialOutOfWindow,
    /// The command may or may not have been carried out; a retry with the same serial finds out.
    /// Also how a word of a later version is read, because it is the careful reading.
    #[serde(other)]
    Unknown,
}

/// Who leads, for a caller that wants to go there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderHint {
    /// The seat.
    pub name: String,
    /// Where it is reached, `HOST:PORT`.
    pub address: String,
}

/// A call's refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What to do next is decided by this.
    pub code: Code,
    /// One sentence for a person.
    pub message: String,
    /// Who leads, where that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<LeaderHint>,
    /// With [`Code::WentBack`]: the most that was seen of the caller, for it to compare itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Box<Seen>>,
}

/// What every answer of the store says about the node that gave it (mission S2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answerer {
    /// The seat that answered.
    pub name: String,
    /// Whether it leads.
    pub is_leader: bool,
    /// The seat that leads, as far as it knows.
    #[serde(default)]
    pub leader: Option<String>,
    /// Its term.
    pub term: u64,
}

/// Reply of `Kv.Write` and `Kv.OpenSession`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteReply {
    /// What the command did, the same bytes for every repetition.
    pub applied: Applied,
    /// Who answered.
    pub from: Answerer,
}

/// Arguments of `Kv.Get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetArgs {
    /// The key.
    #[serde(with = "shared")]
    pub key: Bytes,
    /// True: whatever this node has applied, possibly stale (R4). False: linearizable.
    #[serde(default)]
    pub local: bool,
}

/// Reply of `Kv.Get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetReply {
    /// The key's entry, if it exists.
    #[serde(default)]
    pub found: Option<KeyValue>,
    /// The store's revision at the moment of the read.
    pub revision: u64,
    /// The log index up to which the read reflects the log.
    pub index: u64,
    /// True if the read may be stale (`local`).
    #[serde(default)]
    pub local: bool,
    /// Who answered.
    pub from: Answerer,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    #[serde(with = "shared")]
    pub key: Bytes,
    /// The value.
    #[serde(with = "shared")]
    pub value: Bytes,
    /// The store's revision when the key was created.
    pub create_revision: u64,
    /// The store's revision of its last change.
    pub mod_revision: u64,
    /// Changes since it was created, from 1.
    pub version: u64,
}

/// Arguments of `Kv.Range`: keys from `from` (inclusive) to `to` (exclusive), in byte order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeArgs {
    /// First key, inclusive.
    #[serde(with = "shared")]
    pub from: Bytes,
    /// End, exclusive; `None`: to the last key.
    #[serde(default, with = "shared::optional")]
    pub to: Option<Bytes>,
    /// Entries wanted at most; zero: as many as a page may hold.
    #[serde(default)]
    pub limit: u32,
    /// As in [`GetArgs`].
    #[serde(default)]
    pub local: bool,
}

/// Reply of `Kv.Range`: one page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeReply {
    /// The entries, in key order.
    pub entries: Vec<KeyValue>,
    /// The key at which the next page begins, if there is more.
    #[serde(default, with = "shared::optional")]
    pub next: Option<Bytes>,
    /// As in [`GetReply`].
    pub revision: u64,
    /// As in [`GetReply`].
    pub index: u64,
    /// As in [`GetReply`].
    #[serde(default)]
    pub local: bool,
    /// Who answered.
    pub from: Answerer,
}

/// Reply of `Node.Status`, and of `Node.Probe`, where `waiting` says in any case why it is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The seat.
    pub name: String,
    /// The node that holds it.
    pub node_id: NodeId,
    /// Its cluster; none while it waits to be founded or taken in.
    #[serde(default)]
    pub cluster_id: Option<ClusterId>,
    /// What it is at the moment.
    pub role: RoleKind,
    /// The seat that leads, as far as it knows.
    #[serde(default)]
    pub leader: Option<String>,
    /// Its term.
    pub term: Term,
    /// Last index of its log.
    pub last_index: Index,
    /// Commit index.
    pub commit_index: Index,
    /// Applied index.
    pub applied_index: Index,
    /// Index covered by its snapshot; zero if it has none.
    pub snapshot_index: Index,
    /// Hash of the state machine's content at `applied_index`.
    pub state_hash: u64,
    /// Why it is not serving, in one sentence, if it is not.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Whether it has been asked to stop.
    #[serde(default)]
    pub stopping: bool,
    /// What it has done with snapshots since it started.
    #[serde(default)]
    pub snapshots: SnapshotCounters,
    /// Whether it is a voter that knows its leader, has caught up, serves, and was not asked to stop.
    #[serde(default)]
    pub ready: bool,
}

/// Reply of `Node.Metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsReply {
    /// The seat.
    pub name: String,
    /// All metrics in the OpenMetrics text format, as `/metrics` has them.
    pub text: String,
}

/// What a process has done with snapshots since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCounters {
    /// Snapshots of its own state.
    #[serde(default)]
    pub taken: u64,
    /// Milliseconds that the newest one took, from the frozen view to the durable file.
    #[serde(default)]
    pub last_ms: u64,
    /// Bytes of the newest snapshot, taken or received.
    #[serde(default)]
    pub last_bytes: u64,
    /// Bytes of snapshots sent to peers, repeated ones included.
    #[serde(default)]
    pub sent_bytes: u64,
    /// Bytes of snapshots received.
    #[serde(default)]
    pub received_bytes: u64,
    /// Snapshots from a leader that replaced this node's state.
    #[serde(default)]
    pub installed: u64,
}

/// One member in the reply of `Cluster.Members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The seat.
    pub name: String,
    /// The node that holds it.
    pub node_id: NodeId,
    /// `voter` or `learner`; while the voters change also `joining` or `leaving`, who vote in the new or in
    /// the old membership only.
    pub role: String,
    /// Where it is reached.
    pub address: String,
    /// Highest index known to be on its disk; only a leader knows.
    #[serde(default)]
    pub match_index: Option<Index>,
}

/// Reply of `Cluster.Members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersReply {
    /// All members, by name.
    pub members: Vec<MemberStatus>,
    /// Who answered.
    pub from: Answerer,
}

/// Arguments of `Cluster.Add`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddArgs {
    /// The seat.
    pub name: String,
    /// Where its node is reached, `HOST:PORT`.
    pub address: String,
}

/// Arguments of `Cluster.Remove`, `Cluster.Promote` and `Cluster.Transfer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatArgs {
    /// The seat.
    pub name: String,
}

/// Reply of `Cluster.Add`, `Cluster.Remove` and `Cluster.Promote`: the change is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeReply {
    /// The seat.
    pub name: String,
    /// The node that holds it, or held it.
    pub node_id: NodeId,
    /// `learner`, `voter`, or `removed`.
    pub role: String,
    /// Where the membership that the change led to stands in the log.
    pub index: Index,
    /// Who answered.
    pub from: Answerer,
}

/// Reply of `Cluster.Transfer`: the leadership has been given up, and the successor leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferReply {
    /// The seat that leads now.
    pub leader: String,
    /// In this term.
    pub term: Term,
    /// Who answered.
    pub from: Answerer,
}

/// Reply of `Node.Snapshot`: the snapshot is on the node's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReply {
    /// The seat.
    pub name: String,
    /// Last index it covers.
    pub index: Index,
    /// Term of that entry.
    pub term: Term,
    /// Its size.
    pub bytes: u64,
    /// How long it took.
    pub milliseconds: u64,
}

/// Arguments of `Node.Replication` (mission S5): one page of the log and one of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationArgs {
    /// First log index wanted; zero: the first there is.
    #[serde(default)]
    pub from: u64,
    /// Entries wanted at most, of the log and of the store each; zero: as many as a page may hold.
    #[serde(default)]
    pub limit: u32,
    /// First key of the store wanted.
    #[serde(default, with = "shared")]
    pub store_from: Bytes,
}

/// Reply of `Node.Replication`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationReply {
    /// The seat.
    pub name: String,
    /// First index the node still holds.
    pub first_index: Index,
    /// Last index.
    pub last_index: Index,
    /// A page of the log.
    pub log: Vec<LogLine>,
    /// Where the log's next page begins, if there is more.
    #[serde(default)]
    pub next_index: Option<Index>,
    /// A page of the store.
    pub store: Vec<KeyValue>,
    /// Where the store's next page begins, if there is more.
    #[serde(default, with = "shared::optional")]
    pub next_key: Option<Bytes>,
    /// The applied index the store's page was read at.
    pub applied_index: Index,
}

/// One entry of the log, for people and for comparisons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Where it stands.
    pub index: Index,
    /// Who authored it.
    pub term: Term,
    /// What it carries.
    pub content: LogContent,
}

/// What an entry carries, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LogContent {
    /// A new leader's first entry.
    Noop,
    /// A session's registration.
    Session,
    /// A change of the members.
    Membership {
        /// The seats, in order.
        names: Vec<String>,
    },
    /// A put.
    Put {
        /// The key.
        #[serde(with = "shared")]
        key: Bytes,
        /// The value.
        #[serde(with = "shared")]
        value: Bytes,
    },
    /// A delete.
    Delete {
        /// The key.
        #[serde(with = "shared")]
        key: Bytes,
    },
    /// A compare-and-swap.
    Cas {
        /// The key.
        #[serde(with = "shared")]
        key: Bytes,
        /// The value it must have; none: it must not exist.
        #[serde(default, with = "shared::optional")]
        expected: Option<Bytes>,
        /// The new value.
        #[serde(with = "shared")]
        value: Bytes,
    },
    /// Something this version cannot name, or the node that answered could not.
    #[serde(other)]
    Other,
}

impl Refusal {
    /// A refusal without a hint.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), leader: None, seen: None }
    }
}

impl KeyValue {
    /// A key as a read of the store finds it. Shares the store's bytes.
    #[must_use]
    pub fn new(key: Bytes, found: Versioned) -> KeyValue {
        let Versioned { value, create_revision, mod_revision, version } = found;
        KeyValue { key, value, create_revision, mod_revision, version }
    }
}

impl Code {
    /// Every one, in the order of the enum.
    pub const ALL: [Code; 17] = [
        Code::NotLeader,
        Code::Busy,
        Code::NoSpace,
        Code::BadRequest,
        Code::TooLarge,
        Code::Denied,
        Code::UnknownMethod,
        Code::DeadlineExceeded,
        Code::Unavailable,
        Code::WrongPeer,
        Code::Removed,
        Code::WentBack,
        Code::UnderWay,
        Code::Conflict,
        Code::SessionExpired,
        Code::SerialOutOfWindow,
        Code::Unknown,
    ];

    /// The stable word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Code::NotLeader => "not_leader",
            Code::Busy => "busy",
            Code::NoSpace => "no_space",
            Code::Unknown => "unknown",
            Code::BadRequest => "bad_request",
            Code::TooLarge => "too_large",
            Code::Denied => "denied",
            Code::UnknownMethod => "unknown_method",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::Unavailable => "unavailable",
            Code::WrongPeer => "wrong_peer",
            Code::Removed => "removed",
            Code::WentBack => "went_back",
            Code::UnderWay => "under_way",
            Code::Conflict => "conflict",
            Code::SessionExpired => "session_expired",
            Code::SerialOutOfWindow => "serial_out_of_window",
        }
    }
}
