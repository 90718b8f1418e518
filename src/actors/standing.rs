//! What this node may say about itself at any moment, published by the node actor and read without a
//! lock by connections, replicators and the applier. It is a copy for answers and hints; no decision
//! of the protocol is made from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::agreement::Agreement;
use crate::codec::api::{Answerer, Code, LeaderHint, Refusal};
use crate::kv::View;
use crate::raft::{Boot, ClusterId, Membership, NodeId, RoleKind, Seen, SoftState, Term};

use super::meters::Meters;
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
    /// Whether the content is that of the others.
    pub agreement: Agreement,
    present: ArcSwap<Present>,
    content: ArcSwap<Content>,
    leading: AtomicU64,
    claims: ArcSwap<Seen>,
    seen: ArcSwap<BTreeMap<NodeId, Seen>>,
    /// How this node knows that it was removed, as long as nobody leads it.
    removed: ArcSwapOption<String>,
    stopping: AtomicBool,
    /// What was done with snapshots.
    pub snapshots: SnapshotMeter,
    /// What was counted of everything else.
    pub meters: Arc<Meters>,
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
        let claims = Seen { boot: own.boot, ..Seen::default() };
        Arc::new(Standing {
            own,
            agreement: Agreement::default(),
            present: ArcSwap::from_pointee(present),
            content: ArcSwap::from_pointee(Content { view, state_hash }),
            leading: AtomicU64::new(0),
            claims: ArcSwap::from_pointee(claims),
            seen: ArcSwap::default(),
            removed: ArcSwapOption::empty(),
            stopping: AtomicBool::new(false),
            snapshots: SnapshotMeter::default(),
            meters: Arc::default(),
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
        if present.soft_state.leader.is_some() {
            self.removed.store(None);
        }
        self.meters.standing(&present.soft_state);
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

    /// What a hello of this node says: its boot, and the term and the highest acknowledged index that
    /// are on its disk, never those that are only in memory, which a crash takes back.
    #[must_use]
    pub fn claims(&self) -> Seen {
        **self.claims.load()
    }

    /// Notes what has become durable.
    pub fn note_claims(&self, claims: Seen) {
        self.claims.store(Arc::new(self.claims().max(claims)));
    }

    /// The most that is known of each member, for the door.
    #[must_use]
    pub fn seen(&self) -> Arc<BTreeMap<NodeId, Seen>> {
        self.seen.load_full()
    }

    /// Publishes what is known of the members.
    pub fn publish_seen(&self, seen: Arc<BTreeMap<NodeId, Seen>>) {
        self.seen.store(seen);
    }

    /// This node was removed, as its own log says, or a leader. That counts until this node knows a
    /// leader: one that was deposed without knowing it may say so wrongly.
    pub fn note_removed(&self, whence: &str) {
        if self.present.load().soft_state.leader.is_none()
            && self.removed.swap(Some(Arc::new(whence.to_owned()))).is_none()
        {
            tracing::warn!("{}", self.removed_sentence(whence));
        }
    }

    /// A leader says that this node is a member: who said otherwise had been deposed, or is about to remove it.
    pub fn note_member(&self) {
        self.removed.store(None);
    }

    /// Whether this node has been removed from its cluster, as far as it knows: then it asks to be taken
    /// in, and does not serve.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load().is_some()
    }

    /// The refusal of a node that was removed, if this one was: what it holds, and whom it takes for members,
    /// is of then.
    #[must_use]
    pub fn no_member(&self) -> Option<Refusal> {
        let whence = self.removed.load_full()?;
        Some(Refusal::new(Code::Unavailable, self.removed_sentence(&whence)))
    }

    /// Whether a node that belongs to a cluster has reason to ask at once whether it is a member: it was
    /// removed, as far as it knows; or it was taken in and has heard of no members since, for if it was
    /// removed before it could, nobody will tell it.
    #[must_use]
    pub fn may_be_out(&self) -> bool {
        self.is_removed() || self.present.load().membership.members.is_empty()
    }

    fn removed_sentence(&self, whence: &str) -> String {
        format!(
            "{} was removed from the cluster ({whence}); it waits until the seat may be taken again",
            self.own.name
        )
    }

    /// The node has been asked to stop.
    pub fn note_stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether the node has been asked to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Why the node does not serve, if it does not.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        let present = self.present.load();
        let removed = || self.removed.load().as_ref().map(|whence| self.removed_sentence(whence));
        let withheld = || self.agreement.withheld().map(|why| why.to_string());
        present.waiting.clone().or_else(removed).or_else(withheld)
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
        Refusal { code: Code::NotLeader, message, leader, seen: None }
    }

    /// The refusal of a node that is in no cluster yet, if this one is not.
    #[must_use]
    pub fn not_serving(&self) -> Option<Refusal> {
        self.waiting().map(|why| Refusal::new(Code::Unavailable, why))
    }
}

impl Present {
    /// Whether the node leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.soft_state.role == RoleKind::Leader
    }

    /// Who leads, with the address of its seat.
    #[must_use]
    pub fn leader_hint(&self) -> Option<LeaderHint> {
        let member = self.membership.members.get(&self.soft_state.leader?)?;
        Some(LeaderHint { name: member.name.clone(), address: member.address.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv;
    use crate::raft::{Index, Member};

    fn standing() -> Arc<Standing> {
        let own = Own { name: "raft-3".to_owned(), node_id: NodeId(3), boot: Boot(0).next(1) };
        Standing::new(own, kv::Store::new().view(), 0)
    }

    fn led_by(standing: &Standing, leader: Option<NodeId>) {
        let present = Present::clone(&standing.present());
        let soft_state = SoftState { leader, ..present.soft_state };
        standing.publish(Present { soft_state, waiting: None, ..present });
    }

    #[test]
    fn a_removed_node_says_so_until_it_knows_a_leader() {
        let standing = standing();
        led_by(&standing, None);
        assert_eq!((standing.is_removed(), standing.waiting()), (false, None));
        standing.note_removed("raft-1, which leads it, says so");
        assert!(standing.is_removed());
        let why = standing.not_serving().unwrap();
        assert!(why.message.starts_with("raft-3 was removed from the cluster (raft-1"), "{why}");
        let refusal = standing.no_member().unwrap();
        assert_eq!((refusal.code, &refusal.message), (Code::Unavailable, &why.message));
        // The one who said so had been deposed without knowing it.
        led_by(&standing, Some(NodeId(2)));
        assert_eq!((standing.is_removed(), standing.waiting()), (false, None));
        assert_eq!(standing.no_member(), None);
        standing.note_removed("raft-1, which leads it, says so");
        assert!(!standing.is_removed(), "who knows a leader does not heed it");
        led_by(&standing, None);
        standing.note_removed("raft-1, which leads it, says so");
        standing.note_member();
        assert_eq!((standing.is_removed(), standing.waiting()), (false, None));
    }

    #[test]
    fn a_node_that_was_taken_in_asks_until_it_knows_the_members() {
        let standing = standing();
        let present = Present::clone(&standing.present());
        standing.publish(Present { cluster_id: Some(ClusterId(7)), waiting: None, ..present });
        assert!(standing.may_be_out(), "it may have been removed before it heard anything");
        let member = Member { name: "raft-3".to_owned(), address: "h:1".to_owned() };
        let membership = Arc::new(Membership::of_voters([(NodeId(3), member)].into()));
        let present = Present::clone(&standing.present());
        standing.publish(Present { membership, ..present });
        assert!(!standing.may_be_out());
        standing.note_removed("its own log says so");
        assert!(standing.may_be_out());
    }

    #[test]
    fn claims_only_grow() {
        let standing = standing();
        let boot = standing.own.boot;
        assert_eq!(standing.claims(), Seen { boot, ..Seen::default() });
        let durable = Seen { boot, term: Term(3), acknowledged: Index(9) };
        standing.note_claims(durable);
        standing.note_claims(Seen { term: Term(2), ..Seen::default() });
        assert_eq!(standing.claims(), durable);
    }
}
