//! What a node says of itself and of the members, put together from what is published and from the
//! core's state.

use crate::codec::api::{MemberStatus, MembersReply, StatusReply};
use crate::raft::{Index, Membership, NodeId, NodeStatus};

use super::standing::Standing;

/// Entries that a node may lag behind what its leader has committed and still count as caught up: a
/// moment of a fast leader, so that load alone makes nobody unready.
const READY_LAG_MAX: u64 = 4096;

/// Why this node is not ready, in one sentence; none: it is. Ready means a voter that knows its leader,
/// has caught up with it, serves, and was not asked to stop (design section 8).
#[must_use]
pub fn unready(standing: &Standing, status: Option<&NodeStatus>) -> Option<String> {
    if standing.is_stopping() {
        return Some("it was asked to stop".to_owned());
    }
    let Some(status) = status else {
        return Some(standing.waiting().unwrap_or_else(|| "the node is starting".to_owned()));
    };
    if let Some(why) = standing.waiting() {
        return Some(why);
    }
    if !standing.present().membership.voters.contains(&status.id) {
        return Some("it is a learner and no voter yet, or on its way out".to_owned());
    }
    if status.soft_state.leader.is_none() {
        return Some("it knows no leader at the moment".to_owned());
    }
    // What the leader has committed is known from its appends, and from heartbeats as far as this log
    // agrees with the leader's, so that zero means: not heard yet.
    let (upto, applied) = (status.leader_commit, standing.content().view.applied());
    if upto == Index::ZERO || upto.0.saturating_sub(applied.0) > READY_LAG_MAX {
        return Some(format!(
            "it is catching up: applied up to index {applied}, committed up to {upto}"
        ));
    }
    None
}

/// The reply to a probe: the status, with the reason why the node is not ready if it is not.
#[must_use]
pub fn probe_reply(standing: &Standing, status: Option<&NodeStatus>) -> StatusReply {
    let waiting = unready(standing, status);
    StatusReply { ready: waiting.is_none(), waiting, ..status_reply(standing, status) }
}

/// What the node says of itself; of its log only once it is a member.
#[must_use]
pub fn status_reply(standing: &Standing, status: Option<&NodeStatus>) -> StatusReply {
    let present = standing.present();
    let content = standing.content();
    StatusReply {
        name: standing.own.name.clone(),
        node_id: standing.own.node_id,
        cluster_id: present.cluster_id,
        role: present.soft_state.role,
        leader: present.leader_hint().map(|hint| hint.name),
        term: present.soft_state.term,
        last_index: status.map_or(Index::ZERO, |status| status.last.index),
        commit_index: status.map_or(Index::ZERO, |status| status.commit),
        applied_index: content.view.applied(),
        snapshot_index: status.map_or(Index::ZERO, |status| status.snapshot.index),
        state_hash: content.state_hash,
        waiting: standing.waiting(),
        stopping: standing.is_stopping(),
        snapshots: standing.snapshots.read(),
        ready: unready(standing, status).is_none(),
    }
}

/// While a change of the voters is under way, who only votes in the old or in the new membership is on
/// its way out or in.
fn role_of(id: NodeId, membership: &Membership) -> &'static str {
    match (membership.voters.contains(&id), membership.outgoing.contains(&id)) {
        (true, false) if membership.is_joint() => "joining",
        (true, _) => "voter",
        (false, true) => "leaving",
        (false, false) => "learner",
    }
}

/// The members as this node knows them, and how far they are as the leader knows it.
#[must_use]
pub fn members_reply(standing: &Standing, status: &NodeStatus) -> MembersReply {
    let present = standing.present();
    let mut members: Vec<MemberStatus> = present
        .membership
        .members
        .iter()
        .map(|(id, member)| {
            let role = role_of(*id, &present.membership);
            let peer = status.peers.iter().find(|peer| peer.id == *id);
            let own = (*id == status.id).then_some(status.persisted);
            MemberStatus {
                name: member.name.clone(),
                node_id: *id,
                role: role.to_owned(),
                address: member.address.clone(),
                match_index: peer.map(|peer| peer.matched).or(own),
            }
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    MembersReply { members, from: standing.answerer() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv;
    use crate::raft::{Boot, LogId, Member, RoleKind, SoftState, Term};

    use super::super::standing::{Own, Present};

    const OWN: NodeId = NodeId(3);
    const LEADER: NodeId = NodeId(1);

    /// A follower in a cluster of two voters, `lag` entries behind.
    fn follower(lag: u64) -> (std::sync::Arc<Standing>, NodeStatus) {
        let own = Own { name: "raft-3".to_owned(), node_id: OWN, boot: Boot(0).next(1) };
        let standing = Standing::new(own, kv::Store::new().view(), 0);
        let soft_state =
            SoftState { role: RoleKind::Follower, term: Term(2), leader: Some(LEADER) };
        let mut membership = Membership::default();
        for id in [LEADER, OWN] {
            let member = Member { name: format!("raft-{}", id.0), address: "h:1".to_owned() };
            membership.members.insert(id, member);
            membership.voters.insert(id);
        }
        standing.publish(Present {
            soft_state,
            membership: std::sync::Arc::new(membership),
            waiting: None,
            ..Present::clone(&standing.present())
        });
        let status = NodeStatus {
            id: OWN,
            soft_state,
            first: Index(1),
            last: LogId::new(2, lag),
            persisted: Index(lag),
            snapshot: LogId::ZERO,
            membership_index: Index(1),
            commit: Index::ZERO,
            leader_commit: Index(lag),
            applied: Index::ZERO,
            peers: Vec::new(),
            removed: false,
            transfer: None,
        };
        (standing, status)
    }

    fn unready_for(standing: &Standing, status: &NodeStatus, why: &str) {
        let reply = probe_reply(standing, Some(status));
        assert!(!reply.ready && !status_reply(standing, Some(status)).ready);
        let said = reply.waiting.expect("a reason");
        assert!(said.contains(why), "{why} is not in: {said}");
    }

    #[test]
    fn a_voter_that_is_not_far_behind_is_ready() {
        let (standing, status) = follower(READY_LAG_MAX);
        let reply = probe_reply(&standing, Some(&status));
        assert_eq!((reply.ready, reply.waiting), (true, None));
        let (standing, status) = follower(READY_LAG_MAX + 1);
        unready_for(&standing, &status, "applied up to index 0, committed up to 4097");
        let (standing, status) = follower(0);
        unready_for(&standing, &status, "it is catching up");
    }

    #[test]
    fn whoever_is_no_voter_or_knows_no_leader_is_not_ready() {
        let (standing, status) = follower(1);
        let of = |change: fn(&mut Membership) -> bool| {
            let mut present = Present::clone(&standing.present());
            let mut membership = Membership::clone(&present.membership);
            assert!(change(&mut membership));
            present.membership = std::sync::Arc::new(membership);
            standing.publish(present);
        };
        of(|membership| membership.voters.remove(&OWN));
        unready_for(&standing, &status, "it is a learner");
        of(|membership| membership.outgoing.insert(OWN));
        unready_for(&standing, &status, "on its way out");
        of(|membership| membership.voters.insert(OWN));
        assert!(probe_reply(&standing, Some(&status)).ready, "it votes in the new membership too");
        let soft_state = SoftState { leader: None, ..status.soft_state };
        unready_for(&standing, &NodeStatus { soft_state, ..status }, "it knows no leader");
    }

    #[test]
    fn whoever_does_not_serve_says_why() {
        let (standing, status) = follower(1);
        assert_eq!(unready(&standing, None).as_deref(), Some("the node is starting"));
        assert!(!standing.agreement.heed(Index(0), None), "who is right is not known");
        unready_for(&standing, &status, "no majority");
        standing.note_stopping();
        unready_for(&standing, &status, "it was asked to stop");
    }
}
