//! The protocol's entry points: one input in, one [`Effects`] out. Here are the rules that hold in
//! every role, first of all the rule of terms, and the changes from one role to another; what a role
//! does by itself is in the role's own file.

use std::sync::Arc;

use bytes::Bytes;

use super::candidate::Campaign;
use super::common::Common;
use super::disk::Needs;
use super::effects::{Effects, PersistToken, ReadToken, Refusal};
use super::follower::Follower;
use super::invariants;
use super::leader::Leader;
use super::membership::Membership;
use super::message::{AppendReply, Envelope, HeartbeatReply, InstallReply, Message, RequestId};
use super::options::Options;
use super::status::Restored;
use super::types::{HardState, Index, LogId, NodeId, RoleKind, SoftState, Term};

/// What a node does at the moment, and what it needs for that. A learner is a follower.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Leader),
}

/// One member's Raft state.
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) common: Common,
    pub(super) role: Role,
    /// As last reported in the effects.
    reported: SoftState,
    reported_membership: Arc<Membership>,
}

impl Node {
    /// A node as it starts: follower (or learner) in its restored term. `seed` feeds the one generator
    /// from which election timeouts are drawn.
    ///
    /// # Panics
    /// If what was restored contradicts itself: entries newer than the term (S7), an applied index
    /// outside the log, a snapshot that the log does not go on from (S10), no membership.
    #[must_use]
    pub fn new(id: NodeId, options: Options, seed: u64, restored: Restored) -> Node {
        let mut common = Common::new(id, options, seed, restored);
        let role = Role::Follower(Follower::new(&mut common, None));
        common.look_at_the_members();
        let reported = soft_state(&common, &role);
        let reported_membership = Arc::clone(common.shared_membership());
        Node { common, role, reported, reported_membership }
    }

    /// One tick of time has passed.
    pub fn tick(&mut self) -> Effects {
        self.common.disk.tick();
        self.common.tick_seen();
        match &mut self.role {
            Role::Follower(follower) => {
                if follower.tick(&mut self.common) {
                    self.become_pre_candidate();
                }
            }
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => {
                if campaign.tick() {
                    self.campaign_timed_out();
                }
            }
            Role::Leader(leader) => {
                if !leader.tick(&mut self.common) {
                    self.become_follower(self.common.term(), None);
                }
            }
        }
        self.finish()
    }

    /// A message arrived. One that is not addressed to this node is dropped.
    pub fn step(&mut self, envelope: Envelope) -> Effects {
        if envelope.to == self.common.id && envelope.from != self.common.id {
            self.common.note_term(envelope.from, envelope.term);
            self.receive(envelope);
        }
        self.finish()
    }

    /// Clients want these commands appended, all or none. On success they stand at the returned log
    /// ids: the first one, the others behind it in the same term.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was appended (C3).
    ///
    /// # Panics
    /// If there are no commands: there would be no log id to return.
    pub fn propose(&mut self, commands: Vec<Bytes>) -> (Result<LogId, Refusal>, Effects) {
        assert!(!commands.is_empty(), "a proposal holds at least one command");
        let result = match &mut self.role {
            Role::Leader(leader) => leader.propose(&mut self.common, commands),
            _ => Err(self.not_leader()),
        };
        (result, self.finish())
    }

    /// A client wants a linearizable read. The answer is in `Effects::reads`, now or later.
    pub fn read_index(&mut self, token: ReadToken) -> Effects {
        match &mut self.role {
            Role::Leader(leader) => leader.read(&mut self.common, token),
            _ => {
                let refusal = self.not_leader();
                self.common.answer_read(token, Err(refusal));
            }
        }
        self.finish()
    }

    /// The disk completed a batch, and with it every earlier one.
    pub fn persisted(&mut self, token: PersistToken) -> Effects {
        if self.common.disk.complete(token) {
            match &mut self.role {
                Role::Candidate(campaign) => {
                    if self.common.disk.durable() == self.common.hard_state() {
                        campaign.own_vote_durable(self.common.id);
                        self.count_votes();
                    }
                }
                Role::Leader(leader) => leader.advance_commit(&mut self.common),
                Role::Follower(_) | Role::PreCandidate(_) => {}
            }
        }
        self.finish()
    }

    /// Term and vote of this batch are durable, though batches with entries before it wait for room on
    /// the disk (D11).
    pub fn hard_state_persisted(&mut self, token: PersistToken) -> Effects {
        if self.common.disk.complete_hard_state(token)
            && let Role::Candidate(campaign) = &mut self.role
            && self.common.disk.durable() == self.common.hard_state()
        {
            campaign.own_vote_durable(self.common.id);
            self.count_votes();
        }
        self.finish()
    }

    /// The state machine has applied everything up to and including this index.
    pub fn applied(&mut self, upto: Index) -> Effects {
        self.common.set_applied(upto);
        self.finish()
    }

    /// A request to a peer ended without an answer (connection lost, deadline passed, a snapshot given
    /// up). What it carried may or may not have arrived.
    pub fn unanswered(&mut self, peer: NodeId, request: RequestId) -> Effects {
        if let Role::Leader(leader) = &mut self.role {
            leader.unanswered(peer, request);
        }
        self.finish()
    }

    /// The connection to a peer was reset and the immediate redial was refused: its process is gone. A
    /// hint that shortens a wait; safety never rests on it (design: time and election).
    pub fn peer_gone(&mut self, peer: NodeId) -> Effects {
        if let Role::Follower(follower) = &mut self.role
            && follower.leader() == Some(peer)
        {
            follower.leader_gone(&mut self.common);
        }
        self.finish()
    }

    /// The active membership.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.common.membership()
    }

    pub(super) fn common(&self) -> &Common {
        &self.common
    }

    pub(super) fn role(&self) -> &Role {
        &self.role
    }

    fn receive(&mut self, envelope: Envelope) {
        let Envelope { from, term, request, message, .. } = envelope;
        match message {
            Message::Vote(vote) => self.on_vote(from, term, request, vote),
            Message::Append(append) => match self.follow(from, term) {
                Some((follower, common)) => follower.append(common, from, request, append),
                // Only the higher term in the envelope matters to a former leader; that nothing at
                // all is held is true in any case.
                None => {
                    let reply = AppendReply::Accepted { matched: Index::ZERO };
                    self.reply(from, request, Message::AppendReply(reply));
                }
            },
            Message::Heartbeat(heartbeat) => match self.follow(from, term) {
                Some((follower, common)) => follower.heartbeat(common, from, request, heartbeat),
                None => {
                    let reply = HeartbeatReply { round: heartbeat.round };
                    self.reply(from, request, Message::HeartbeatReply(reply));
                }
            },
            Message::Install(install) => match self.follow(from, term) {
                Some((follower, common)) => follower.install(common, from, request, install),
                None => {
                    self.reply(from, request, Message::InstallReply(InstallReply::Refused));
                }
            },
            Message::TimeoutNow(_) => self.on_timeout_now(from, term, request),
            Message::TimeoutNowReply(reply) => {
                if self.heed_reply(from, term)
                    && term == self.common.term()
                    && let Role::Leader(leader) = &mut self.role
                {
                    leader.timeout_now_reply(request, reply);
                }
            }
            Message::VoteReply(reply) => {
                if self.heed_reply(from, term) {
                    self.on_vote_reply(from, request, reply);
                }
            }
            Message::AppendReply(reply) => {
                if self.heed_reply(from, term)
                    && let Role::Leader(leader) = &mut self.role
                {
                    if term == self.common.term() {
                        leader.append_reply(&mut self.common, from, request, reply);
                    } else {
                        // An answer of a former term answers nothing; its request must not stay open
                        // for it (S11, L10).
                        leader.unanswered(from, request);
                    }
                }
            }
            Message::InstallReply(reply) => {
                if self.heed_reply(from, term)
                    && let Role::Leader(leader) = &mut self.role
                {
                    if term == self.common.term() {
                        leader.install_reply(&mut self.common, from, request, reply);
                    } else {
                        leader.unanswered(from, request);
                    }
                }
            }
            Message::HeartbeatReply(reply) => {
                if self.heed_reply(from, term)
                    && term == self.common.term()
                    && let Role::Leader(leader) = &mut self.role
                {
                    leader.heartbeat_reply(&mut self.common, from, reply);
                }
            }
        }
    }

    /// Whether an answer counts: only a member's does, and one of a higher term ends what it answers
    /// (Raft §5.1; E2, E7).
    fn heed_reply(&mut self, from: NodeId, term: Term) -> bool {
        if !self.membership().contains(from) {
            // What a peer says that has just left counts for nothing but its own farewell.
            return term == self.common.term()
                && matches!(&self.role, Role::Leader(it) if it.sees_off(&self.common, from));
        }
        if term > self.common.term() {
            self.become_follower(term, None);
            return false;
        }
        true
    }

    /// Follows the leader of a term, unless this node is in a higher one already.
    pub(super) fn follow(
        &mut self,
        leader: NodeId,
        term: Term,
    ) -> Option<(&mut Follower, &mut Common)> {
        if term < self.common.term() {
            return None;
        }
        let leads = matches!(self.role, Role::Leader(_));
        assert!(!(leads && term == self.common.term()), "two leaders in term {term} (S1)");
        if term > self.common.term() || !matches!(self.role, Role::Follower(_)) {
            self.become_follower(term, Some(leader));
        }
        match &mut self.role {
            Role::Follower(follower) => {
                follower.heard(leader, &mut self.common);
                Some((follower, &mut self.common))
            }
            _ => None,
        }
    }

    /// Ends whatever the node did. A leadership's waiting reads are refused (R1); the outcome of its
    /// proposals is unknown (C3).
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        if term > self.common.term() {
            self.common.set_hard_state(HardState { term, vote: None });
        }
        let follower = Role::Follower(Follower::new(&mut self.common, leader));
        if let Role::Leader(former) = std::mem::replace(&mut self.role, follower) {
            self.common.effects.leadership_lost = true;
            self.common.effects.replicate.clear();
            self.common.effects.snapshots.clear();
            for token in former.into_reads() {
                self.common.answer_read(token, Err(Refusal::NotLeader { leader }));
            }
        }
    }

    pub(super) fn become_leader(&mut self) {
        self.role = Role::Leader(Leader::new(&mut self.common));
    }

    fn not_leader(&self) -> Refusal {
        match soft_state(&self.common, &self.role).leader {
            None if self.common.disk_full => Refusal::NoSpace,
            leader => Refusal::NotLeader { leader },
        }
    }

    pub(super) fn reply(&mut self, to: NodeId, request: RequestId, message: Message) {
        self.common.send(to, request, message, Needs::Term);
    }

    pub(super) fn finish(&mut self) -> Effects {
        if let Role::Leader(leader) = &self.role
            && leader.is_removed(&self.common)
        {
            leader.bid_farewell(&mut self.common);
            self.become_follower(self.common.term(), None);
        }
        self.common.look_at_the_members();
        let now = soft_state(&self.common, &self.role);
        if now != self.reported {
            self.reported = now;
            self.common.effects.soft_state = Some(now);
        }
        if *self.common.shared_membership() != self.reported_membership {
            self.reported_membership = Arc::clone(self.common.shared_membership());
            self.common.effects.membership = Some(Arc::clone(&self.reported_membership));
        }
        let effects = self.common.take_effects();
        invariants::check(self);
        effects
    }
}

pub(super) fn soft_state(common: &Common, role: &Role) -> SoftState {
    let (kind, leader) = match role {
        Role::Follower(follower) if common.is_voter() => (RoleKind::Follower, follower.leader()),
        Role::Follower(follower) => (RoleKind::Learner, follower.leader()),
        Role::PreCandidate(_) => (RoleKind::PreCandidate, None),
        Role::Candidate(_) => (RoleKind::Candidate, None),
        Role::Leader(_) => (RoleKind::Leader, Some(common.id)),
    };
    SoftState { role: kind, term: common.term(), leader }
}
