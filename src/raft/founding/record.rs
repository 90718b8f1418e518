//! What a founding is about, and what of it is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::membership::{Member, Membership};
use super::super::types::{Boot, ClusterId, Entry, HardState, LogId, NodeId, Payload, Term};
use super::message::Sender;

/// A seat of the seed list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seed {
    /// The seat, such as `raft-1`.
    pub name: String,
    /// Where the seat is looked for, `HOST:PORT`; resolved anew for every connection (K1).
    pub address: String,
}

/// Who a node is while it founds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// This directory's node id.
    pub id: NodeId,
    /// This process's boot counter.
    pub boot: Boot,
    /// This node's seat.
    pub name: String,
    /// Where it wants to be reached once it is a member (`--advertise`), `HOST:PORT`.
    pub address: String,
    /// The seed list, itself included unless it sits outside; in any order, each name once.
    pub seeds: Vec<Seed>,
}

/// A founding record: the cluster that will be if every listed node accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// The new cluster's id; it also names the draft, because every draft has a new one.
    pub cluster_id: ClusterId,
    /// The node in the lowest seat, which alone may decide or withdraw.
    pub drafter: NodeId,
    /// The seed list that all listed nodes share, ordered by name.
    pub seeds: Vec<Seed>,
    /// Every seat of the list with the node id it answered with.
    pub members: BTreeMap<NodeId, Member>,
}

/// How far a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It holds no draft.
    #[default]
    Empty,
    /// It drafted this record and has not withdrawn it, or accepted it and has not let it go.
    Held(Draft),
    /// It knows that this record was decided. Final.
    Decided(Draft),
}

/// Everything that founding keeps on disk: one small file, replaced atomically.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// How far this node is.
    #[serde(default)]
    pub stage: Stage,
    /// Drafts, by cluster id, that this node does not hold and will never accept (again).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub refused: BTreeSet<ClusterId>,
}

/// A decided founding: what the log and the Raft node start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founded {
    /// The new cluster.
    pub cluster_id: ClusterId,
    /// Its first members, all voters.
    pub membership: Membership,
}

impl Draft {
    /// Whether this sender is listed under the seat and the node id it speaks for.
    #[must_use]
    pub fn lists(&self, sender: &Sender) -> bool {
        self.members.get(&sender.node_id).is_some_and(|member| member.name == sender.name)
    }

    /// The node listed for a seat.
    #[must_use]
    pub fn holder(&self, name: &str) -> Option<NodeId> {
        self.members.iter().find(|(_, member)| member.name == name).map(|(id, _)| *id)
    }

    /// The name of the drafter's seat.
    #[must_use]
    pub fn drafter_name(&self) -> &str {
        self.members.get(&self.drafter).map_or("", |member| &member.name)
    }

    /// What is wrong with this record in itself: one node for each seat, and the drafter in the lowest.
    #[must_use]
    pub fn flaw(&self) -> Option<&'static str> {
        let seats: BTreeSet<&str> = self.seeds.iter().map(|seed| seed.name.as_str()).collect();
        let names: BTreeSet<&str> = self.members.values().map(|m| m.name.as_str()).collect();
        if names != seats || names.len() != self.members.len() || seats.len() != self.seeds.len() {
            return Some("the draft does not list exactly one node for each seat");
        }
        if seats.first() != Some(&self.drafter_name()) {
            return Some("the drafter does not hold the lowest seat");
        }
        None
    }

    /// The cluster that this record founds once it is decided.
    #[must_use]
    pub fn founded(&self) -> Founded {
        Founded {
            cluster_id: self.cluster_id,
            membership: Membership::of_voters(self.members.clone()),
        }
    }
}

impl Stage {
    /// The draft this node holds undecided.
    #[must_use]
    pub fn held(&self) -> Option<&Draft> {
        match self {
            Stage::Held(draft) => Some(draft),
            Stage::Empty | Stage::Decided(_) => None,
        }
    }

    /// The record this node's cluster was founded from.
    #[must_use]
    pub fn decided(&self) -> Option<&Draft> {
        match self {
            Stage::Decided(draft) => Some(draft),
            Stage::Empty | Stage::Held(_) => None,
        }
    }
}

impl Founded {
    /// The hard state every founding member starts with: the term of the first entry, no vote.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        HardState { term: Term(1), vote: None }
    }

    /// The first entry of every founding member's log, the same everywhere: the membership, as if
    /// committed in term 1 by all of them.
    #[must_use]
    pub fn entry(&self) -> Entry {
        Entry {
            id: LogId::new(1, 1),
            payload: Payload::Membership(Arc::new(self.membership.clone())),
        }
    }
}
