//! Who the members are, and what a quorum of them is.
//!
//! While the voters change the membership is joint: two majorities are needed, of the new and of the
//! outgoing voters (Raft §6). How one membership leads to the next is in `change.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::types::NodeId;

/// One member: a seat (name and address) and the node that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The seat, such as `raft-1`.
    pub name: String,
    /// Where the seat is reached, `HOST:PORT`; resolved anew on every connect, never stored as an IP
    /// found by resolution (correctness K1).
    pub address: String,
}

/// The members, and which of them vote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Everyone, voters and learners.
    pub members: BTreeMap<NodeId, Member>,
    /// Who votes. Invariant: a subset of `members`.
    pub voters: BTreeSet<NodeId>,
    /// The voters of the former configuration while a change is under way, else empty.
    /// Invariant: a subset of `members`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub outgoing: BTreeSet<NodeId>,
    /// Seats that an admin removed: nobody is taken in there without being asked for, until the
    /// retirement ends (design: lost disks, scale).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub retired: BTreeSet<String>,
}

impl Membership {
    /// A membership in which everyone votes.
    #[must_use]
    pub fn of_voters(members: BTreeMap<NodeId, Member>) -> Membership {
        let voters = members.keys().copied().collect();
        Membership { members, voters, ..Membership::default() }
    }

    /// Whether this node counts for a quorum.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether a change of the voters is under way.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether this node is a member at all.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.members.contains_key(&id)
    }

    /// The holder of a seat, the newest voter first if two nodes share the name during a replacement.
    #[must_use]
    pub fn holder(&self, name: &str) -> Option<NodeId> {
        let mut holders: Vec<NodeId> =
            self.members.iter().filter(|(_, m)| m.name == name).map(|(id, _)| *id).collect();
        holders.sort_by_key(|id| !self.voters.contains(id));
        holders.first().copied()
    }

    /// Bytes that this membership takes in a log entry, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        let members: usize =
            self.members.values().map(|m| m.name.len() + m.address.len() + 32).sum();
        members + self.retired.iter().map(|name| name.len() + 8).sum::<usize>()
    }
}
