//! What this node may say about itself at any moment, published by the node actor and read without a
//! lock by connections, replicators and the applier. It is a copy for answers and hints; no decision
//! of the protocol is made from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::codec::api::{Answerer, Code, LeaderHint, Refusal};
use crate::kv::View;
use crate::raft::{Boot, ClusterId, Index, Membership, NodeId, RoleKind, SoftState, Term};

use super::snapshot_meter::SnapshotMeter;

/// The node's fixed facts about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The seat.
    pub name: String,
    /// The node that holds it.
    pub node_id: NodeId,
    /// This process's boot counter.
    pub boot: Boot,
}

/// What changes.
#[derive(Clone, Debug)]
pub struct Present {
    /// The cluster, once the node is in one.
    pub cluster_id: Option<ClusterId>,
    /// Role, term, leader.
    pub soft_state: SoftState,
    /// The active membership.
    pub membership: Arc<Membership>,
    /// Why the node does not serve, if it does not.
    pub waiting: Option<String>,
}

/// The state machine as of its last batch.
#[derive(Clone)]
pub struct Content {
    /// The map; cloning is cheap.
    pub view: View,
    /// Hash of the content at `view.applied()`.
    pub state_hash: u64,
}

/// See the module.
pub struct Standing {
    /// Who this is.
    pub own: Own,
    present: ArcSwap<Present>,
    content: ArcSwap<Content>,
    leading: AtomicU64,
    persisted: AtomicU64,
    /// What was done with snapshots.
    pub snapshots: SnapshotMeter,
}

impl Standing {
    /// A node that is in no cluster yet.
    #[must_use]
    pub fn new(own: Own, view: View, state_hash: u64) -> Arc<Standing> {
        let soft_state =
            SoftState { role: RoleKind::Follower, term: Term::default(), leader: None };
        let present = Present {
            cluster_id: None,
            soft_state,
            membership: Arc::default(),
            waiting: Some("the node is starting".to_owned()),
        };
        Arc::new(Standing {
            own,
            present: ArcSwap::from_pointee(present),
            content: ArcSwap::from_pointee(Content { view, state_hash }),
            leading: AtomicU64::new(0),
            persisted: AtomicU64::new(0),
            snapshots: SnapshotMeter::default(),
        })
    }

    /// The present state.
    #[must_use]
    pub fn present(&self) -> Arc<Present> {
        self.present.load_full()
    }

    /// Publishes a new present state.
    pub fn publish(&self, present: Present) {
        let leads = present.soft_state.role == RoleKind::Leader;
        self.leading.store(if leads { present.soft_state.term.0 } else { 0 }, Ordering::SeqCst);
        self.present.store(Arc::new(present));
    }

    /// Whether the node leads this term. A range read for an append may only be sent while this still
    /// holds: a leader never changes its own log (S2), a former one may.
    #[must_use]
    pub fn leads(&self, term: Term) -> bool {
        self.leading.load(Ordering::SeqCst) == term.0
    }

    /// The state machine's content.
    #[must_use]
    pub fn content(&self) -> Arc<Content> {
        self.content.load_full()
    }

    /// Publishes the state machine's content.
    pub fn publish_content(&self, content: Content) {
        self.content.store(Arc::new(content));
    }

    /// The highest index this node has acknowledged as durable; for its hello.
    #[must_use]
    pub fn acknowledged(&self) -> Index {
        Index(self.persisted.load(Ordering::Relaxed))
    }

    /// Notes the last durable index.
    pub fn note_persisted(&self, upto: Index) {
        self.persisted.store(upto.0, Ordering::Relaxed);
    }

    /// What every answer says about the node that gave it (mission S2).
    #[must_use]
    pub fn answerer(&self) -> Answerer {
        let present = self.present.load();
        Answerer {
            name: self.own.name.clone(),
            is_leader: present.soft_state.role == RoleKind::Leader,
            leader: present.leader_hint().map(|hint| hint.name),
            term: present.soft_state.term.0,
        }
    }

    /// The refusal of a node that does not lead, with a hint if it knows who does.
    #[must_use]
    pub fn not_leader(&self) -> Refusal {
        let present = self.present.load();
        let leader = present.leader_hint();
        let message = match &leader {
            Some(hint) => format!("{} does not lead; {} does", self.own.name, hint.name),
            None => format!("{} knows no leader at the moment", self.own.name),
        };
        Refusal { code: Code::NotLeader, message, leader }
    }

    /// The refusal of a node that is in no cluster yet, if this one is not.
    #[must_use]
    pub fn not_serving(&self) -> Option<Refusal> {
        let present = self.present.load();
        present.waiting.as_ref().map(|why| Refusal::new(Code::Unavailable, why.clone()))
    }
}

impl Present {
    /// Who leads, with the address of its seat.
    #[must_use]
    pub fn leader_hint(&self) -> Option<LeaderHint> {
        let member = self.membership.members.get(&self.soft_state.leader?)?;
        Some(LeaderHint { name: member.name.clone(), address: member.address.clone() })
    }
}
