//! Asking for votes: first whether an election could be won (pre-vote, dissertation 9.6), then in a
//! new term for the votes themselves.

use std::collections::BTreeMap;

use super::common::Common;
use super::disk::Needs;
use super::message::{Message, RequestId, Vote, VoteReply};
use super::quorum::{self, VoteResult};
use super::types::{NodeId, Term};

/// One round of asking. Answers are matched with their own request, so that those to a former round
/// count for nothing (E3).
#[derive(Clone, Debug)]
pub(super) struct Campaign {
    pre: bool,
    /// The term to lead.
    term: Term,
    asked: BTreeMap<NodeId, RequestId>,
    votes: BTreeMap<NodeId, bool>,
    elapsed: u32,
    timeout: u32,
}

impl Campaign {
    /// Asks every other voter whether it would vote for this node. A question changes nothing, so one's
    /// own yes counts at once.
    pub(super) fn pre_vote(common: &mut Common) -> Campaign {
        let (term, last) = (common.term().next(), common.log.last());
        let mut campaign = Campaign::ask(common, Vote::pre(term, last), Needs::Term);
        campaign.votes.insert(common.id, true);
        campaign
    }

    /// Asks every other voter for its vote in the present term. One's own counts when it is durable
    /// ([`Campaign::own_vote_durable`]).
    pub(super) fn vote(common: &mut Common, transfer: bool) -> Campaign {
        let vote = Vote { transfer, ..Vote::real(common.term(), common.log.last()) };
        Campaign::ask(common, vote, Needs::Vote)
    }

    fn ask(common: &mut Common, vote: Vote, needs: Needs) -> Campaign {
        let membership = common.membership();
        let others: Vec<NodeId> = membership.members.keys().copied().collect();
        let others: Vec<NodeId> = others
            .into_iter()
            .filter(|id| *id != common.id && common.membership().is_voter(*id))
            .collect();
        let mut asked = BTreeMap::new();
        for to in others {
            let request = common.next_request();
            asked.insert(to, request);
            common.send(to, request, Message::Vote(vote), needs);
        }
        let timeout = common.draw_timeout();
        let Vote { pre, campaign: term, .. } = vote;
        Campaign { pre, term, asked, votes: BTreeMap::new(), elapsed: 0, timeout }
    }

    /// Counts one tick. True: this round has taken too long.
    pub(super) fn tick(&mut self) -> bool {
        self.elapsed += 1;
        self.elapsed >= self.timeout
    }

    /// The vote for oneself is on disk (E3, E11).
    pub(super) fn own_vote_durable(&mut self, id: NodeId) {
        self.votes.insert(id, true);
    }

    /// A voter has answered.
    pub(super) fn answer(&mut self, from: NodeId, request: RequestId, reply: VoteReply) {
        let mine = reply.pre == self.pre
            && reply.campaign == self.term
            && self.asked.get(&from) == Some(&request);
        if mine {
            self.votes.insert(from, reply.granted);
        }
    }

    pub(super) fn result(&self, common: &Common) -> VoteResult {
        quorum::vote_result(common.membership(), |id| self.votes.get(&id).copied())
    }
}
