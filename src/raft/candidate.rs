//! Asking for votes: first whether an election could be won (pre-vote, dissertation 9.6), then in a
//! new term for the votes themselves.

use std::collections::BTreeMap;

use super::common::Common;
use super::disk::Needs;
use super::message::{Message, RequestId, Vote, VoteReply};
use super::quorum::{self, VoteResult};
use super::types::{Boot, NodeId, Seen, Term};

/// What a voter has said beside its answer to the question.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// The process that has answered, if it was known to run before the question was asked.
    boot: Option<Boot>,
    seen: Vec<(NodeId, Seen)>,
}

/// The words of those who have answered the question.
pub(super) type Words = BTreeMap<NodeId, Word>;

/// One round of asking. Answers are matched with their own request, so that those to a former round
/// count for nothing (E3).
#[derive(Clone, Debug)]
pub(super) struct Campaign {
    pre: bool,
    /// The term to lead.
    term: Term,
    asked: BTreeMap<NodeId, RequestId>,
    votes: BTreeMap<NodeId, bool>,
    words: Words,
    /// The processes that were known to run when this round began.
    running: BTreeMap<NodeId, Boot>,
    elapsed: u32,
    timeout: u32,
}

impl Campaign {
    /// Asks every other voter whether it would vote for this node. A question changes nothing, so one's
    /// own yes counts at once.
    pub(super) fn pre_vote(common: &mut Common) -> Campaign {
        let (term, last) = (common.term().next(), common.log.last());
        let mut campaign =
            Campaign::ask(common, &Vote::pre(term, last), &Words::new(), Needs::Term);
        campaign.votes.insert(common.id, true);
        campaign
    }

    /// Asks every other voter for its vote in the present term. One's own counts when it is durable
    /// ([`Campaign::own_vote_durable`]). `words`: what was said in answer to the question.
    pub(super) fn vote(common: &mut Common, transfer: bool, words: &Words) -> Campaign {
        let vote = Vote { transfer, ..Vote::real(common.term(), common.log.last()) };
        Campaign::ask(common, &vote, words, Needs::Vote)
    }

    fn ask(common: &mut Common, vote: &Vote, words: &Words, needs: Needs) -> Campaign {
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
            let (remembered, answered) = (remembered(common, words, to), words.get(&to));
            let answered = answered.and_then(|word| word.boot);
            let vote = Vote { remembered, answered, ..vote.clone() };
            common.send(to, request, Message::Vote(vote), needs);
        }
        let timeout = common.draw_timeout();
        let (pre, term, votes) = (vote.pre, vote.campaign, BTreeMap::new());
        let (words, running) = (Words::new(), common.processes.clone());
        Campaign { pre, term, asked, votes, words, running, elapsed: 0, timeout }
    }

    /// What was said in answer to the question.
    pub(super) fn take_words(&mut self) -> Words {
        std::mem::take(&mut self.words)
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
            let boot = self.running.get(&from).copied().filter(|boot| *boot == reply.boot);
            self.words.insert(from, Word { boot, seen: reply.seen });
        }
    }

    pub(super) fn result(&self, common: &Common) -> VoteResult {
        quorum::vote_result(common.membership(), |id| self.votes.get(&id).copied())
    }
}

/// What this candidate and those who have answered it remember of a voter, each as it is: merged, the
/// numbers of two lives would look like one.
fn remembered(common: &Common, words: &Words, of: NodeId) -> Vec<Seen> {
    let own = common.seen.of(of);
    let others = words.values().flat_map(|word| &word.seen);
    let others = others.filter(|(id, _)| *id == of).map(|(_, seen)| *seen);
    let mut all = Vec::new();
    for seen in own.into_iter().chain(others) {
        if !all.contains(&seen) {
            all.push(seen);
        }
    }
    all
}
