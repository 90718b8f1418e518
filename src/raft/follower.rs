//! Following a leader, or waiting for one. A learner is a follower that is no voter.

use super::commit;
use super::common::Common;
use super::disk::Needs;
use super::message::{
    Append, AppendReply, Heartbeat, HeartbeatReply, Install, InstallReply, Message, RequestId,
};
use super::types::{Index, LogId, NodeId};

/// Invariants: `verified` is at most the log's last index; one leader a term (S1).
#[derive(Clone, Debug)]
pub(super) struct Follower {
    /// Who leads this term, as far as known.
    leader: Option<NodeId>,
    /// Ticks since the leader was last heard. Only meaningful with a leader.
    since_leader: u32,
    /// Up to here this log is known to be the log of this term's leader (L4).
    verified: Index,
    /// The highest commit index that this term's leader has named here: how far there is to go.
    leader_commit: Index,
    /// Ticks since the election timer was reset.
    elapsed: u32,
    /// When to campaign.
    timeout: u32,
}

impl Follower {
    pub(super) fn new(common: &mut Common, leader: Option<NodeId>) -> Follower {
        // An entry of the present term was made by the term's only leader and stands behind that
        // leader's own prefix (S13, S3): such a log needs no append to be verified. A restarted
        // follower thereby believes heartbeats at once.
        let last = common.log.last();
        let verified = if last.term == common.term() { last.index } else { Index::ZERO };
        let timeout = common.draw_timeout();
        Follower {
            leader,
            since_leader: 0,
            verified,
            leader_commit: Index::ZERO,
            elapsed: 0,
            timeout,
        }
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    pub(super) fn verified(&self) -> Index {
        self.verified
    }

    pub(super) fn leader_commit(&self) -> Index {
        self.leader_commit
    }

    /// Counts one tick. True: it is time to campaign.
    pub(super) fn tick(&mut self, common: &mut Common) -> bool {
        self.since_leader = self.since_leader.saturating_add(1);
        self.elapsed += 1;
        if self.elapsed < self.timeout {
            return false;
        }
        self.leader = None;
        self.reset_timer(common);
        common.may_lead() && !common.greeting.has_gone_back() && !common.disk_stands_still()
    }

    /// Whether a leader other than `candidate` was heard so recently that no vote is given (E4).
    pub(super) fn sticks_against(&self, candidate: NodeId, common: &Common) -> bool {
        self.leader.is_some_and(|leader| leader != candidate)
            && self.since_leader < common.election_min()
    }

    pub(super) fn reset_timer(&mut self, common: &mut Common) {
        self.elapsed = 0;
        self.timeout = common.draw_timeout();
    }

    /// The leader of this term has been heard.
    pub(super) fn heard(&mut self, leader: NodeId, common: &mut Common) {
        assert!(
            self.leader.is_none_or(|known| known == leader),
            "two leaders in term {} (S1)",
            common.term()
        );
        self.leader = Some(leader);
        self.since_leader = 0;
        self.reset_timer(common);
    }

    /// The leader's process is gone: it no longer counts as heard, and the wait gets short.
    pub(super) fn leader_gone(&mut self, common: &mut Common) {
        self.leader = None;
        self.timeout = self.timeout.min(self.elapsed + common.draw_short_delay());
    }

    /// Entries from the leader of this term.
    pub(super) fn append(
        &mut self,
        common: &mut Common,
        from: NodeId,
        request: RequestId,
        append: Append,
    ) {
        let Append { base, commit, entries } = append;
        self.leader_commit = self.leader_commit.max(commit);
        if !self.accepts(common, base) {
            let upto = common.log.last().index.min(base.index.prev());
            let hint = common.log.last_at_most(upto, base.term);
            let reply = AppendReply::Conflict { base, hint };
            common.send(from, request, Message::AppendReply(reply), Needs::Term);
            return;
        }
        let mut matched = base.index;
        for entry in entries {
            assert_eq!(entry.id.index, matched.next(), "an append has no gap (S3)");
            matched = entry.id.index;
            if matched <= common.log.base().index || common.log.holds(entry.id) {
                continue;
            }
            // Only the first entry whose term differs truncates: a late or short append never
            // shortens a log that agrees with it (L1).
            if matched <= common.log.last().index {
                assert!(matched > self.verified, "a leader does not contradict itself (S2)");
                common.truncate_after(matched.prev());
            }
            common.append(entry);
        }
        self.verified = self.verified.max(matched);
        common.raise_commit(commit::of_follower(commit, self.verified));
        let reply = AppendReply::Accepted { matched };
        common.send(from, request, Message::AppendReply(reply), Needs::Entries(matched));
    }

    /// Whether the log agrees with the leader's at `base`. What is purged here is committed, hence
    /// equal (L3).
    fn accepts(&self, common: &Common, base: LogId) -> bool {
        let accepts = base.index < common.log.base().index || common.log.holds(base);
        assert!(
            accepts || base.index > common.commit().max(self.verified),
            "a leader's log holds what is committed (S4)"
        );
        accepts
    }

    /// The leader of this term says that it lives.
    pub(super) fn heartbeat(
        &mut self,
        common: &mut Common,
        from: NodeId,
        request: RequestId,
        heartbeat: Heartbeat,
    ) {
        for (id, seen) in heartbeat.seen {
            common.note_seen(id, seen);
        }
        self.leader_commit = self.leader_commit.max(heartbeat.commit);
        common.raise_commit(commit::of_follower(heartbeat.commit, self.verified));
        let reply = HeartbeatReply { round: heartbeat.round };
        common.send(from, request, Message::HeartbeatReply(reply), Needs::Term);
    }

    /// A snapshot of the leader of this term has arrived, complete and checked.
    pub(super) fn install(
        &mut self,
        common: &mut Common,
        from: NodeId,
        request: RequestId,
        install: Install,
    ) {
        let snapshot = install.snapshot;
        let last = snapshot.last;
        let known = common.log.term_at(last.index);
        let contradicts = last.index <= common.commit() && known.is_some_and(|it| it != last.term);
        if contradicts || last.term > common.term() || !snapshot.is_sound() {
            // Nothing that is committed here is given up for it (S10).
            let reply = Message::InstallReply(InstallReply::Refused);
            common.send(from, request, reply, Needs::Term);
            return;
        }
        if last.index > common.commit() {
            if known == Some(last.term) {
                // The log holds all of it, so that only the commit is news.
                common.raise_commit(last.index);
            } else {
                common.install(snapshot);
            }
            self.verified = self.verified.max(last.index);
        }
        let reply = Message::InstallReply(InstallReply::Installed { matched: last.index });
        common.send(from, request, reply, Needs::Entries(last.index));
    }
}
