//! Who leads next: giving votes, counting them, and campaigning, of one's own accord or because the
//! leader hands over.

use super::candidate::{Campaign, Words};
use super::disk::Needs;
use super::message::{Message, RequestId, TimeoutNowReply, Vote, VoteReply};
use super::node::{Node, Role};
use super::quorum::VoteResult;
use super::types::{HardState, NodeId, Seen, Term};
use super::vote;

impl Node {
    /// Everyone answers, learners too: one that was promoted may not know it yet (etcd 10998).
    pub(super) fn on_vote(&mut self, from: NodeId, term: Term, request: RequestId, vote: Vote) {
        let Vote { pre, campaign, transfer, .. } = vote;
        let claimed = if pre { term.next() } else { term };
        // A leader that hands over wants this election (E4, E12). It asks only voters, so that whoever
        // says so and is none here was asked by a leader of long ago, or is to ask again (E8).
        let sticks = !(transfer && self.membership().is_voter(from))
            && match &self.role {
                Role::Follower(follower) => follower.sticks_against(from, &self.common),
                // It would have stepped down by now if it had no quorum (E5).
                Role::Leader(_) => true,
                Role::PreCandidate(_) | Role::Candidate(_) => false,
            };
        let may = self.is_judged(from, &vote) && !sticks;
        let granted = may && campaign == claimed && self.grants(from, &vote);
        let needs = if granted && !pre { Needs::Vote } else { Needs::Term };
        let seen = if pre { self.common.seen.list() } else { Vec::new() };
        let reply = VoteReply { pre, campaign, granted, boot: self.common.boot, seen };
        self.common.send(from, request, Message::VoteReply(reply), needs);
    }

    /// Whether this node's directory has been judged well enough for its answer to count (`greeting.rs`).
    fn is_judged(&mut self, from: NodeId, vote: &Vote) -> bool {
        let mut accused = false;
        for seen in &vote.remembered {
            accused |= self.hear_of_oneself(from, *seen);
        }
        if accused {
            return false;
        }
        if !vote.pre && vote.answered == Some(self.common.boot) {
            self.common.greeting.judged();
        }
        let knows_members = !self.membership().voters.is_empty();
        knows_members
            && if vote.pre { !self.common.greeting.has_gone_back() } else { self.may_vote() }
    }

    /// A peer says what is remembered of this node; true if that is more than it claims. Only a member is
    /// believed that the directory went back, since that ends it: whoever was removed, or never was one,
    /// may be wrong.
    fn hear_of_oneself(&mut self, from: NodeId, seen: Seen) -> bool {
        let ahead = seen.is_ahead_of(self.common.claims());
        if ahead && self.membership().contains(from) {
            self.common.greeting.went_back();
            self.common.effects.went_back = Some((from, seen));
            if !matches!(self.role, Role::Follower(_)) {
                self.become_follower(self.common.term(), None);
            }
        }
        ahead
    }

    /// Decides on a vote that neither stickiness nor its own form speaks against, and records it.
    fn grants(&mut self, from: NodeId, vote: &Vote) -> bool {
        let last = self.common.log.last();
        if vote.pre {
            return vote::grants_pre(self.common.term(), last, vote);
        }
        if vote.campaign > self.common.term() {
            self.become_follower(vote.campaign, None);
        }
        let own = self.common.hard_state();
        let spent = vote.campaign == self.common.greeting.began_in() && own.vote.is_none();
        let granted = !spent && vote::grants(own, last, from, vote);
        if granted {
            let term = self.common.term();
            self.common.set_hard_state(HardState { term, vote: Some(from) });
            // Only a real grant resets the timer (E1).
            if let Role::Follower(follower) = &mut self.role {
                follower.reset_timer(&mut self.common);
            }
        }
        granted
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, request: RequestId, reply: VoteReply) {
        let own = self.common.id;
        for (_, seen) in reply.seen.iter().filter(|(id, _)| *id == own) {
            self.hear_of_oneself(from, *seen);
        }
        self.common.note_process(from, reply.boot);
        if let Role::PreCandidate(campaign) | Role::Candidate(campaign) = &mut self.role {
            campaign.answer(from, request, reply);
            self.count_votes();
        }
    }

    pub(super) fn count_votes(&mut self) {
        let (pre, result) = match &self.role {
            Role::PreCandidate(campaign) => (true, campaign.result(&self.common)),
            Role::Candidate(campaign) => (false, campaign.result(&self.common)),
            Role::Follower(_) | Role::Leader(_) => return,
        };
        match result {
            VoteResult::Won if pre => self.win_pre_vote(),
            // The own vote is on its way to the disk, and its completion counts again (E3).
            VoteResult::Won if self.common.disk.durable() != self.common.hard_state() => {}
            VoteResult::Won => self.become_leader(),
            VoteResult::Lost => self.become_follower(self.common.term(), None),
            VoteResult::Pending => {}
        }
    }

    pub(super) fn campaign_timed_out(&mut self) {
        if self.common.disk_stands_still() {
            self.become_follower(self.common.term(), None);
        } else {
            self.become_pre_candidate();
        }
    }

    pub(super) fn become_pre_candidate(&mut self) {
        self.role = Role::PreCandidate(Campaign::pre_vote(&mut self.common));
        self.count_votes();
    }

    /// A quorum would vote for this node, and remembers no more of it than it claims.
    fn win_pre_vote(&mut self) {
        self.common.greeting.judged();
        if let Role::PreCandidate(campaign) = &mut self.role {
            let words = campaign.take_words();
            self.become_candidate(false, &words);
        }
    }

    /// Asks for votes. `transfer`: the leader wants it so, and nobody is to stick to that leader.
    fn become_candidate(&mut self, transfer: bool, words: &Words) {
        let term = self.common.term().next();
        self.common.set_hard_state(HardState { term, vote: Some(self.common.id) });
        self.role = Role::Candidate(Campaign::vote(&mut self.common, transfer, words));
    }

    /// The leader asks this node to take over at once (dissertation 3.10, E12): no pre-vote, since the
    /// leader has seen to it that this log is as good as its own.
    pub(super) fn on_timeout_now(&mut self, from: NodeId, term: Term, request: RequestId) {
        let follows = self.follow(from, term).is_some();
        let fit = self.common.is_voter() && !self.common.disk_stands_still();
        let campaigns = follows && fit && self.may_vote();
        self.reply(from, request, Message::TimeoutNowReply(TimeoutNowReply { campaigns }));
        if campaigns {
            self.become_candidate(true, &Words::new());
        }
    }
}
