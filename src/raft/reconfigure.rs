//! The leader's part in a change of the members: whether it may begin, its end, and a leader's own
//! departure. The rules of the change itself are in `change.rs`.

use std::sync::Arc;

use super::change::{self, ChangeRefusal, MembershipChange};
use super::common::Common;
use super::effects::Effects;
use super::leader::Leader;
use super::membership::Membership;
use super::node::{Node, Role, soft_state};
use super::progress::Progress;
use super::quorum;
use super::types::{LogId, NodeId, Payload};

impl Node {
    /// Changes the members. On success the change's first entry stands at the returned log id; it is done
    /// when [`NodeStatus::membership_index`](super::status::NodeStatus::membership_index) is committed,
    /// that or a later one, and the membership is not joint. A leader that goes out of office completes
    /// nothing; the next one does (M9).
    ///
    /// # Errors
    /// [`ChangeRefusal`]: nothing was appended.
    pub fn change(&mut self, change: &MembershipChange) -> (Result<LogId, ChangeRefusal>, Effects) {
        let result = match &mut self.role {
            Role::Leader(leader) => leader.change(&mut self.common, change),
            _ => {
                let leader = soft_state(&self.common, &self.role).leader;
                Err(ChangeRefusal::NotLeader { leader })
            }
        };
        (result, self.finish())
    }
}

impl Leader {
    /// Appends the first step of a change.
    pub(super) fn change(
        &mut self,
        common: &mut Common,
        change: &MembershipChange,
    ) -> Result<LogId, ChangeRefusal> {
        if let Some(to) = self.transfers_to() {
            return Err(ChangeRefusal::Transferring { to });
        }
        if common.commit() < self.first() {
            return Err(ChangeRefusal::NotReady);
        }
        let (membership, index) = (common.membership(), common.membership_index());
        if index > common.commit() || membership.is_joint() {
            return Err(ChangeRefusal::UnderWay { index });
        }
        let next = change::after(membership, change)?;
        for id in next.voters.difference(&membership.voters) {
            self.is_fit(common, *id)?;
        }
        let present = |id| {
            let peer = self.peers.get(&id);
            id == common.id || peer.is_some_and(|peer| peer.answers_within(common.election_min()))
        };
        // Learners change no quorum, whatever it looks like at the moment.
        if next.voters != membership.voters && !quorum::is_quorum(&next, present) {
            return Err(ChangeRefusal::NoQuorum);
        }
        Ok(self.reconfigure(common, next))
    }

    /// Whether a learner may vote: heard lately, and its log nearly complete, so that nothing waits for
    /// it (M5, M8).
    fn is_fit(&self, common: &Common, id: NodeId) -> Result<(), ChangeRefusal> {
        let last = common.log.last().index;
        let fit = self.peers.get(&id).filter(|peer| peer.answers_within(common.election_min()));
        let Some(peer) = fit else { return Err(ChangeRefusal::Silent) };
        let matched = peer.matched();
        if !peer.replicates() || last.0 - matched.0 > common.options.promote_lag {
            return Err(ChangeRefusal::Behind { matched, last });
        }
        Ok(())
    }

    /// Appends a membership, which is active at once (M1).
    fn reconfigure(&mut self, common: &mut Common, next: Membership) -> LogId {
        assert_eq!(self.transfers_to(), None, "a successor stays what it is (E12)");
        assert!(change::overlap(common.membership(), &next), "consecutive quorums meet (S15)");
        self.append(common, Payload::Membership(Arc::new(next)));
        let last = common.log.last();
        let membership = Arc::clone(common.shared_membership());
        for id in membership.members.keys().filter(|id| **id != common.id) {
            self.peers.entry(*id).or_insert_with(|| Progress::new(last.index));
        }
        for (id, peer) in &mut self.peers {
            peer.set_leaving(!membership.contains(*id));
        }
        self.replicate(common);
        last
    }

    /// Ends a joint membership that is committed, whoever began it (M9); not while the leadership is
    /// being handed over, so that the successor's log stays complete: it will do it.
    pub(super) fn complete_change(&mut self, common: &mut Common) {
        let joint = common.membership().is_joint();
        let committed = common.commit() >= common.membership_index().max(self.first());
        if joint && committed && self.transfers_to().is_none() {
            let next = change::completed(common.membership());
            self.reconfigure(common, next);
        }
    }

    /// Whether this leader is no voter any more and that is committed, so that its work is done (M4).
    pub(super) fn is_removed(&self, common: &Common) -> bool {
        !common.is_voter() && common.commit() >= common.membership_index()
    }

    /// The last words of a leader that was removed: what is committed, and that the best of the others
    /// may lead (M4).
    pub(super) fn bid_farewell(&self, common: &mut Common) {
        self.send_heartbeats(common, true);
        if let Some(successor) = self.successor(common) {
            self.send_timeout_now(common, successor);
        }
    }

    /// Lets go of peers that left, once they have had the time to hear of it. No decision waits for
    /// them (E8).
    pub(super) fn forget_the_departed(&mut self, common: &Common) {
        if common.commit() >= common.membership_index() {
            let limit = common.election_min();
            self.peers.retain(|_, peer| !peer.has_left(limit));
        }
    }

    /// Whether a node is no member any more, but still to hear of that.
    pub(super) fn sees_off(&self, common: &Common, id: NodeId) -> bool {
        self.peers.contains_key(&id) && !common.membership().contains(id)
    }
}
