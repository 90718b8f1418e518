//! Handing the leadership over (dissertation 3.10, E12): to stop without a gap, or because an operator
//! wants another leader.
//!
//! The leader accepts nothing new, waits until the successor's disk holds its whole log, and with it the
//! membership in which the successor votes, then asks it to campaign at once. What it has appended goes
//! on being replicated and committed, and reads that wait go on being confirmed. After one election
//! timeout it was in vain, and the leader leads on as before. No membership is appended meanwhile, so
//! that the successor stays the voter that it was found to be; only a higher term ends it sooner.
//!
//! A leader whose disk is full or stands still does the same of its own accord. Nobody has to take over:
//! with an unfit disk for one shortest election timeout, it steps down (D11, D12). It never counts itself
//! meanwhile for what its disk has not completed.

use super::common::Common;
use super::disk::Needs;
use super::effects::{Effects, Refusal};
use super::leader::Leader;
use super::message::{Message, RequestId, TimeoutNow, TimeoutNowReply};
use super::node::{Node, Role, soft_state};
use super::types::NodeId;

/// Why the leadership is not handed over. In each case nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferRefusal {
    /// Another node leads, or nobody does.
    NotLeader {
        /// Who leads, as far as known.
        leader: Option<NodeId>,
    },
    /// This node leads already.
    ToItself,
    /// No member has that id.
    Unknown,
    /// It is a learner, or a voter that is on its way out.
    NotVoter,
    /// The leadership is being handed over to another.
    UnderWay {
        /// To whom.
        to: NodeId,
    },
}

/// A transfer that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    to: NodeId,
    elapsed: u32,
    /// The request to campaign, once the successor was ready for it.
    asked: Option<RequestId>,
}

impl Node {
    /// Gives the leadership to another voter (dissertation 3.10). From now on no proposal and no read is
    /// accepted, until another leads or, after one shortest election timeout, this was in vain (E12);
    /// [`NodeStatus::transfer`](super::status::NodeStatus::transfer) tells.
    ///
    /// # Errors
    /// [`TransferRefusal`]: nothing happened.
    pub fn transfer(&mut self, to: NodeId) -> (Result<(), TransferRefusal>, Effects) {
        let result = match &mut self.role {
            Role::Leader(leader) => leader.transfer(&mut self.common, to),
            _ => {
                let leader = soft_state(&self.common, &self.role).leader;
                Err(TransferRefusal::NotLeader { leader })
            }
        };
        (result, self.finish())
    }

    /// Of a leader: who would lead soonest if this node stopped, the voter among those heard lately
    /// whose log reaches furthest.
    #[must_use]
    pub fn successor(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.successor(&self.common),
            _ => None,
        }
    }

    /// The disk has no room for entries (true), or has again (false). A leader without room hands over and
    /// takes no proposal; if nobody takes over within the shortest election timeout it gives up. A node
    /// without room does not campaign; its entries wait, and term and vote still reach the disk (design:
    /// durability, D11).
    pub fn disk_full(&mut self, full: bool) -> Effects {
        self.common.disk_full = full;
        match &mut self.role {
            Role::Leader(leader) if full => leader.leave_to_a_successor(&mut self.common),
            Role::PreCandidate(_) | Role::Candidate(_) if full => {
                self.become_follower(self.common.term(), None);
            }
            _ => {}
        }
        self.finish()
    }
}

impl Leader {
    /// Begins to hand over; to whom that is under way already: nothing new.
    pub(super) fn transfer(
        &mut self,
        common: &mut Common,
        to: NodeId,
    ) -> Result<(), TransferRefusal> {
        if to == common.id {
            return Err(TransferRefusal::ToItself);
        }
        if !common.membership().contains(to) {
            return Err(TransferRefusal::Unknown);
        }
        if !common.membership().voters.contains(&to) {
            return Err(TransferRefusal::NotVoter);
        }
        match self.transfers_to() {
            Some(other) if other != to => return Err(TransferRefusal::UnderWay { to: other }),
            Some(_) => {}
            None => {
                self.transfer = Some(Transfer { to, elapsed: 0, asked: None });
                self.advance_transfer(common);
            }
        }
        Ok(())
    }

    /// To whom the leadership is being handed over.
    pub(super) fn transfers_to(&self) -> Option<NodeId> {
        self.transfer.map(|transfer| transfer.to)
    }

    /// Nothing new is accepted while the leadership is handed over, neither writes nor reads (E12).
    pub(super) fn accepts(&self) -> Result<(), Refusal> {
        self.transfers_to().map_or(Ok(()), |to| Err(Refusal::Transferring { to }))
    }

    /// Counts one tick of a transfer.
    pub(super) fn tick_transfer(&mut self, common: &Common) {
        if let Some(transfer) = &mut self.transfer {
            transfer.elapsed += 1;
            if transfer.elapsed >= common.election_min() {
                self.transfer = None;
            }
        }
    }

    /// Counts one tick of a leader whose disk is full, or has completed nothing for one shortest election
    /// timeout (D11, D12): at once, and again with each heartbeat's time, it tries to hand over to whoever
    /// is best for it, unless that is under way. Its own disk need not hold what it has appended: the
    /// successor's must. False: one shortest election timeout has passed like this.
    pub(super) fn tick_unfit(&mut self, common: &mut Common) -> bool {
        if !common.disk_stands_still() {
            self.unfit = 0;
            return true;
        }
        if self.unfit.is_multiple_of(common.options.heartbeat_ticks) {
            self.leave_to_a_successor(common);
        }
        self.unfit += 1;
        self.unfit <= common.election_min()
    }

    /// Begins to hand over to the best successor, if there is one and nothing is under way.
    pub(super) fn leave_to_a_successor(&mut self, common: &mut Common) {
        if let Some(successor) = self.successor(common).filter(|_| self.transfer.is_none()) {
            let begun = Leader::transfer(self, common, successor);
            assert_eq!(begun, Ok(()), "a successor is another voter (E12)");
        }
    }

    /// Asks the successor to campaign, once its disk holds everything there is. The membership in which
    /// it votes is part of that, so that it knows (openraft 1805).
    pub(super) fn advance_transfer(&mut self, common: &mut Common) {
        let Some(Transfer { to, asked: None, .. }) = self.transfer else { return };
        if self.matched(to) == common.log.last().index {
            let request = self.send_timeout_now(common, to);
            if let Some(transfer) = &mut self.transfer {
                transfer.asked = Some(request);
            }
        }
    }

    pub(super) fn send_timeout_now(&self, common: &mut Common, to: NodeId) -> RequestId {
        let request = common.next_request();
        common.send(to, request, Message::TimeoutNow(TimeoutNow {}), Needs::Term);
        request
    }

    /// The successor has answered.
    pub(super) fn timeout_now_reply(&mut self, request: RequestId, reply: TimeoutNowReply) {
        if !reply.campaigns {
            self.end_transfer(request);
        }
    }

    /// If this was the request to campaign, the successor will not, or it may not have heard.
    pub(super) fn end_transfer(&mut self, request: RequestId) {
        if self.transfer.is_some_and(|transfer| transfer.asked == Some(request)) {
            self.transfer = None;
        }
    }

    /// The voter, among those heard lately, whose log reaches furthest.
    pub(super) fn successor(&self, common: &Common) -> Option<NodeId> {
        let limit = common.election_min();
        let voters = &common.membership().voters;
        let fit = self.peers().filter(|(id, peer)| voters.contains(id) && peer.heard_within(limit));
        // The first of equals, so that the answer does not depend on chance.
        fit.max_by_key(|(id, peer)| (peer.matched(), std::cmp::Reverse(*id))).map(|(id, _)| id)
    }
}
