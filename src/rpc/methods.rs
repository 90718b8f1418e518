//! The table of methods: every call there is, who may make it, and how large it may be.
//!
//! Authority is decided here and nowhere else; a test walks every method with every role, and
//! `docs/protocol.md` is compared with this table (correctness section 9).

use std::fmt;

use crate::codec::api::Code;
use crate::identity::Role;
use crate::kv::limits::{PAGE_BYTES_MAX, REQUEST_BYTES_MAX};

/// A remote procedure, named `Service.Method` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Asks for a vote or a pre-vote.
    RaftVote,
    /// Brings entries.
    RaftAppend,
    /// Proves that a leader lives.
    RaftHeartbeat,
    /// Ends the sending of a snapshot.
    RaftInstall,
    /// Hands the leadership over.
    RaftTimeoutNow,
    /// Brings a piece of a snapshot.
    RaftSnapshot,
    /// Compares the content of the state machines.
    RaftAudit,
    /// Asks a node who it is and whether it has a cluster.
    BootAsk,
    /// Brings one message of the founding.
    BootDeliver,
    /// Asks to be taken into the cluster.
    BootJoin,
    /// Registers a session for writes.
    KvOpenSession,
    /// Puts, deletes, or compares and swaps.
    KvWrite,
    /// Reads one key.
    KvGet,
    /// Reads one page of keys.
    KvRange,
    /// Lists the members.
    ClusterMembers,
    /// Takes a node in, as a learner.
    ClusterAdd,
    /// Makes a learner a voter.
    ClusterPromote,
    /// Removes a member and retires its seat.
    ClusterRemove,
    /// Hands the leadership to another node.
    ClusterTransfer,
    /// Tells a node's state in numbers.
    NodeStatus,
    /// Answers the probes of Kubernetes.
    NodeProbe,
    /// Tells a node's metrics; who may call it may also fetch `/metrics`.
    NodeMetrics,
    /// Shows a node's log and store.
    NodeReplication,
    /// Takes a snapshot.
    NodeSnapshot,
    /// Stops a node.
    NodeStop,
}

/// What a connection's hello must have said before a method may be called on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nothing beyond what every hello says: the caller's own name.
    OwnName,
    /// The receiver's cluster id and node id as well, so that a message for a seat's former holder,
    /// or for another cluster at the same address, never reaches the core (K1, M7).
    Receiver,
}

/// One row of the table.
struct Row {
    method: Method,
    name: &'static str,
    roles: &'static [Role],
    binding: Binding,
    args_max: usize,
    changes: bool,
    /// What it may be refused with, beyond [`COMMON_CODES`].
    codes: &'static [Code],
    about: &'static str,
}

const fn row(
    method: Method,
    name: &'static str,
    roles: &'static [Role],
    args_max: usize,
    about: &'static str,
) -> Row {
    Row {
        method,
        name,
        roles,
        binding: Binding::OwnName,
        args_max,
        changes: false,
        codes: &[],
        about,
    }
}

impl Row {
    const fn bound_to_receiver(mut self) -> Row {
        self.binding = Binding::Receiver;
        self
    }

    const fn or(mut self, codes: &'static [Code]) -> Row {
        self.codes = codes;
        self
    }

    const fn changes_something(mut self) -> Row {
        self.changes = true;
        self
    }
}

const NODES: &[Role] = &[Role::Node];
const USERS: &[Role] = &[Role::Client, Role::Admin];
const ALL: &[Role] = &Role::ALL;
const PROBERS: &[Role] = &[Role::Node, Role::Admin];
const MONITORS: &[Role] = &[Role::Node, Role::Admin, Role::Monitor];
const ADMINS: &[Role] = &[Role::Admin];

/// What any call may be refused with.
pub const COMMON_CODES: [Code; 7] = [
    Code::BadRequest,
    Code::TooLarge,
    Code::Denied,
    Code::UnknownMethod,
    Code::DeadlineExceeded,
    Code::Busy,
    Code::Unknown,
];

const TO_A_NODE: &[Code] = &[Code::WrongPeer, Code::Unavailable];
const TO_A_NODE_WITH_A_DISK: &[Code] = &[Code::WrongPeer, Code::Unavailable, Code::NoSpace];
const CHANGES: &[Code] =
    &[Code::NotLeader, Code::Unavailable, Code::UnderWay, Code::Conflict, Code::NoSpace];
const SNAPSHOTS: &[Code] = &[Code::Unavailable, Code::NoSpace];
const FOUNDINGS: &[Code] = &[Code::Unavailable];
const SESSIONS: &[Code] = &[Code::NotLeader, Code::NoSpace, Code::Unavailable];
const WRITES: &[Code] = &[
    Code::NotLeader,
    Code::NoSpace,
    Code::Unavailable,
    Code::SessionExpired,
    Code::SerialOutOfWindow,
];
const READS: &[Code] = &[Code::NotLeader, Code::Unavailable];

/// Arguments that are a few numbers and names.
const SMALL: usize = 4 << 10;
/// A founding message lists every seat with its name and address.
const FOUNDING: usize = 64 << 10;
/// A snapshot names every member with its name and address.
const MEMBERS: usize = 64 << 10;
/// A piece of a snapshot, and what frames it.
const CHUNK: usize = 512 << 10;
/// An append carries entries worth a page, or one entry of any size, and what frames them.
const APPEND: usize = 2 * REQUEST_BYTES_MAX;
/// Two keys of a range.
const KEYS: usize = 16 << 10;

/// The table, in the order of [`Method`].
const TABLE: [Row; 25] = [
    row(Method::RaftVote, "Raft.Vote", NODES, SMALL, "asks for a vote or a pre-vote")
        .bound_to_receiver()
        .changes_something()
        .or(TO_A_NODE),
    row(Method::RaftAppend, "Raft.Append", NODES, APPEND, "brings entries of the log")
        .bound_to_receiver()
        .changes_something()
        .or(TO_A_NODE),
    row(Method::RaftHeartbeat, "Raft.Heartbeat", NODES, SMALL, "proves that a leader lives")
        .bound_to_receiver()
        .changes_something()
        .or(TO_A_NODE),
    row(
        Method::RaftInstall,
        "Raft.Install",
        NODES,
        MEMBERS,
        "asks to take a snapshot that was sent",
    )
    .bound_to_receiver()
    .changes_something()
    .or(TO_A_NODE),
    row(Method::RaftTimeoutNow, "Raft.TimeoutNow", NODES, SMALL, "hands the leadership over")
        .bound_to_receiver()
        .changes_something()
        .or(TO_A_NODE),
    row(Method::RaftSnapshot, "Raft.Snapshot", NODES, CHUNK, "brings a piece of a snapshot")
        .bound_to_receiver()
        .changes_something()
        .or(TO_A_NODE_WITH_A_DISK),
    row(Method::RaftAudit, "Raft.Audit", NODES, SMALL, "compares the content of the nodes")
        .bound_to_receiver()
        .changes_something()
        .or(TO_A_NODE),
    row(Method::BootAsk, "Boot.Ask", NODES, FOUNDING, "asks who a node is").or(FOUNDINGS),
    row(Method::BootDeliver, "Boot.Deliver", NODES, FOUNDING, "brings one message of the founding")
        .changes_something()
        .or(FOUNDINGS),
    row(Method::BootJoin, "Boot.Join", NODES, SMALL, "asks to be taken into the cluster")
        .changes_something()
        .or(READS),
    row(Method::KvOpenSession, "Kv.OpenSession", USERS, SMALL, "registers a session for writes")
        .changes_something()
        .or(SESSIONS),
    row(Method::KvWrite, "Kv.Write", USERS, REQUEST_BYTES_MAX, "puts, deletes, compares and swaps")
        .changes_something()
        .or(WRITES),
    row(Method::KvGet, "Kv.Get", USERS, KEYS, "reads one key").or(READS),
    row(Method::KvRange, "Kv.Range", USERS, KEYS, "reads one page of keys").or(READS),
    row(Method::ClusterMembers, "Cluster.Members", USERS, SMALL, "lists the members").or(READS),
    row(Method::ClusterAdd, "Cluster.Add", ADMINS, SMALL, "takes a node in, as a learner")
        .changes_something()
        .or(CHANGES),
    row(Method::ClusterPromote, "Cluster.Promote", ADMINS, SMALL, "makes a learner a voter")
        .changes_something()
        .or(CHANGES),
    row(
        Method::ClusterRemove,
        "Cluster.Remove",
        ADMINS,
        SMALL,
        "removes a member, retires its seat",
    )
    .changes_something()
    .or(CHANGES),
    row(Method::ClusterTransfer, "Cluster.Transfer", ADMINS, SMALL, "hands the leadership over")
        .changes_something()
        .or(CHANGES),
    row(Method::NodeStatus, "Node.Status", ALL, SMALL, "tells a node's state in numbers"),
    row(Method::NodeProbe, "Node.Probe", PROBERS, SMALL, "answers the probes of Kubernetes"),
    row(Method::NodeMetrics, "Node.Metrics", MONITORS, SMALL, "tells a node's metrics as text"),
    row(Method::NodeReplication, "Node.Replication", ADMINS, KEYS, "shows a node's log and store")
        .or(FOUNDINGS),
    row(Method::NodeSnapshot, "Node.Snapshot", ADMINS, SMALL, "takes a snapshot")
        .changes_something()
        .or(SNAPSHOTS),
    row(Method::NodeStop, "Node.Stop", ADMINS, SMALL, "stops a node").changes_something(),
];

/// Bytes of the longest method name a frame may carry.
pub const METHOD_NAME_MAX: usize = 64;

/// Bytes a reply may have: two pages, each with one entry over its end, and their framing.
pub const REPLY_BYTES_MAX: usize = 2 * (PAGE_BYTES_MAX + REQUEST_BYTES_MAX) + (1 << 20);

impl Method {
    /// Every method, in the table's order.
    pub const ALL: [Method; TABLE.len()] = {
        let mut all = [Method::RaftVote; TABLE.len()];
        let mut i = 0;
        while i < TABLE.len() {
            assert!(TABLE[i].method as usize == i, "the table is in the enum's order");
            all[i] = TABLE[i].method;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The name on the wire, such as `Kv.Get`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The method of that name, if this version knows it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.name() == name)
    }

    /// The method of that name, as the frame brings it.
    pub(super) fn from_bytes(name: &[u8]) -> Option<Method> {
        TABLE.iter().find(|row| row.name.as_bytes() == name).map(|row| row.method)
    }

    /// Whether a certificate of this role may call it.
    #[must_use]
    pub fn allows(self, role: Role) -> bool {
        self.row().roles.contains(&role)
    }

    /// Who may call it.
    #[must_use]
    pub fn roles(self) -> &'static [Role] {
        self.row().roles
    }

    /// What the connection's hello must have said.
    #[must_use]
    pub fn binding(self) -> Binding {
        self.row().binding
    }

    /// Bytes its encoded arguments may have.
    #[must_use]
    pub fn args_max(self) -> usize {
        self.row().args_max
    }

    /// Whether carrying it out may change something, so that a lost reply leaves its outcome unknown.
    #[must_use]
    pub fn changes_something(self) -> bool {
        self.row().changes
    }

    /// What it may be refused with, beyond [`COMMON_CODES`].
    #[must_use]
    pub fn codes(self) -> &'static [Code] {
        self.row().codes
    }

    /// What it does, in a few words, for the protocol's document.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.row().about
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole of design section 6, written out once more and by hand: a row added or widened
    /// without this list being changed on purpose fails here.
    #[test]
    fn every_method_with_every_role() {
        let allowed: &[(&str, &str)] = &[
            ("Raft.Vote", "node"),
            ("Raft.Append", "node"),
            ("Raft.Heartbeat", "node"),
            ("Raft.Install", "node"),
            ("Raft.TimeoutNow", "node"),
            ("Raft.Snapshot", "node"),
            ("Raft.Audit", "node"),
            ("Boot.Ask", "node"),
            ("Boot.Deliver", "node"),
            ("Boot.Join", "node"),
            ("Kv.OpenSession", "client admin"),
            ("Kv.Write", "client admin"),
            ("Kv.Get", "client admin"),
            ("Kv.Range", "client admin"),
            ("Cluster.Members", "client admin"),
            ("Cluster.Add", "admin"),
            ("Cluster.Promote", "admin"),
            ("Cluster.Remove", "admin"),
            ("Cluster.Transfer", "admin"),
            ("Node.Status", "node client admin monitor"),
            ("Node.Probe", "node admin"),
            ("Node.Metrics", "node admin monitor"),
            ("Node.Replication", "admin"),
            ("Node.Snapshot", "admin"),
            ("Node.Stop", "admin"),
        ];
        assert_eq!(Method::ALL.len(), allowed.len());
        for (method, (name, roles)) in Method::ALL.into_iter().zip(allowed) {
            assert_eq!(method.name(), *name);
            for role in Role::ALL {
                let expected = roles.split(' ').any(|word| word == role.word());
                assert_eq!(method.allows(role), expected, "{name} by {role}");
            }
            let to_node = name.starts_with("Raft.");
            assert_eq!(method.binding() == Binding::Receiver, to_node, "{name}");
        }
    }

    #[test]
    fn names_are_found_and_only_they() {
        for method in Method::ALL {
            assert_eq!(Method::from_name(method.name()), Some(method));
            assert_eq!(Method::from_bytes(method.name().as_bytes()), Some(method));
            assert!(method.name().len() <= METHOD_NAME_MAX);
        }
        for other in ["", "kv.get", "Kv.Get ", "Kv", "Raft.", "Kv.Get\0"] {
            assert_eq!(Method::from_name(other), None, "{other:?}");
        }
    }
}
