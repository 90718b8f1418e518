//! Leading: proposing, replicating, committing, confirming reads, and giving up without a quorum.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::commit;
use super::common::Common;
use super::disk::Needs;
use super::effects::{ReadToken, Refusal, SendRange, SendSnapshot};
use super::message::{
    AppendReply, Heartbeat, HeartbeatReply, InstallReply, Message, ReadRound, RequestId,
};
use super::progress::Progress;
use super::quorum;
use super::read_index::Reads;
use super::transfer::Transfer;
use super::types::{Entry, Index, LogId, NodeId, Payload};

/// Invariants: `peers` are the other members, and those that have just left; everything behind and at
/// `first` is of this term.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    /// This leadership's first entry, a no-op. Until it is committed no read is answered (R1) and
    /// nothing older is known to be committed (S9).
    first: Index,
    pub(super) peers: BTreeMap<NodeId, Progress>,
    /// Ticks since the last regular heartbeats; those of read rounds come in between.
    elapsed: u32,
    reads: Reads,
    /// Bytes of the entries behind the commit index.
    uncommitted: u64,
    /// The leadership is being handed over.
    pub(super) transfer: Option<Transfer>,
    /// Ticks since the own disk was found to be unfit for leading.
    pub(super) unfit: u32,
}

impl Leader {
    /// Takes the leadership: appends a no-op and tells everyone.
    pub(super) fn new(common: &mut Common) -> Leader {
        let next = common.log.last().index.next();
        let members = common.membership().members.keys();
        let peers =
            members.filter(|id| **id != common.id).map(|id| (*id, Progress::new(next))).collect();
        let uncommitted = common.log.bytes(common.commit(), common.log.last().index);
        let mut leader = Leader {
            first: next,
            peers,
            elapsed: 0,
            reads: Reads::default(),
            uncommitted,
            transfer: None,
            unfit: 0,
        };
        leader.append(common, Payload::Noop);
        leader.replicate(common);
        leader.send_heartbeats(common, true);
        leader
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (NodeId, &Progress)> {
        self.peers.iter().map(|(id, progress)| (*id, progress))
    }

    /// How far a peer's disk is known to hold this log.
    pub(super) fn matched(&self, id: NodeId) -> Index {
        self.peers.get(&id).map_or(Index::ZERO, Progress::matched)
    }

    pub(super) fn first(&self) -> Index {
        self.first
    }

    pub(super) fn uncommitted(&self) -> u64 {
        self.uncommitted
    }

    /// The reads that wait; for stepping down.
    pub(super) fn into_reads(self) -> impl Iterator<Item = ReadToken> {
        self.reads.into_tokens()
    }

    /// Counts one tick. False: no quorum has been heard for an election timeout (E5), or nobody took over
    /// from a leader with an unfit disk (D11, D12), and the leadership is to end.
    pub(super) fn tick(&mut self, common: &mut Common) -> bool {
        for progress in self.peers.values_mut() {
            progress.tick();
        }
        let limit = common.election_min();
        let heard = |id: NodeId| {
            id == common.id || self.peers.get(&id).is_some_and(|peer| peer.heard_within(limit))
        };
        if !quorum::is_quorum(common.membership(), heard) {
            return false;
        }
        self.tick_transfer(common);
        if !self.tick_unfit(common) {
            return false;
        }
        self.forget_the_departed(common);
        self.complete_change(common);
        self.elapsed += 1;
        if self.elapsed >= common.options.heartbeat_ticks {
            self.elapsed = 0;
            if self.may_confirm_reads(common) {
                self.reads.begin(common.commit());
            }
            self.send_heartbeats(common, true);
            self.peers.values_mut().for_each(Progress::resume);
            self.replicate(common);
            self.purge(common, false);
        }
        true
    }

    /// Purges what no peer needs any more (Raft §7).
    pub(super) fn purge(&self, common: &mut Common, again: bool) {
        let limit = common.election_min();
        common.purge(self.peers.values().filter_map(|progress| progress.pin(limit)), again);
    }

    /// Appends the commands, all or none.
    pub(super) fn propose(
        &mut self,
        common: &mut Common,
        commands: Vec<Bytes>,
    ) -> Result<LogId, Refusal> {
        self.accepts()?;
        if common.disk_full {
            return Err(Refusal::NoSpace);
        }
        let payloads: Vec<Payload> = commands.into_iter().map(Payload::Command).collect();
        let bytes: u64 = payloads.iter().map(|payload| u64::from(payload.size())).sum();
        if self.uncommitted > 0 && self.uncommitted + bytes > common.options.uncommitted_bytes {
            return Err(Refusal::Busy);
        }
        let first = LogId { term: common.term(), index: common.log.last().index.next() };
        for payload in payloads {
            self.append(common, payload);
        }
        self.replicate(common);
        Ok(first)
    }

    pub(super) fn append(&mut self, common: &mut Common, payload: Payload) {
        let id = LogId { term: common.term(), index: common.log.last().index.next() };
        self.uncommitted += u64::from(payload.size());
        common.append(Entry { id, payload });
    }

    /// A linearizable read has arrived.
    pub(super) fn read(&mut self, common: &mut Common, token: ReadToken) {
        let full = self.reads.len() >= common.options.pending_reads;
        let busy = if full { Err(Refusal::Busy) } else { Ok(()) };
        if let Err(refusal) = self.accepts().and(busy) {
            common.answer_read(token, Err(refusal));
            return;
        }
        self.reads.arrive(token);
        self.confirm_reads(common);
    }

    /// Answers what a quorum has confirmed, and begins the next round if reads wait for one.
    fn confirm_reads(&mut self, common: &mut Common) {
        loop {
            let newest = self.reads.newest();
            let round = quorum::reached(common.membership(), |id| {
                if id == common.id {
                    return newest;
                }
                self.peers.get(&id).map_or(ReadRound(0), Progress::confirmed)
            });
            for (token, index) in self.reads.confirm(round) {
                common.answer_read(token, Ok(index));
            }
            if !self.reads.idle() || !self.may_confirm_reads(common) {
                return;
            }
            self.reads.begin(common.commit());
            self.send_heartbeats(common, false);
        }
    }

    /// Whether an entry of this leadership is committed, so that the commit index is the cluster's
    /// (R1, Raft §8).
    fn may_confirm_reads(&self, common: &Common) -> bool {
        common.commit() >= self.first
    }

    /// Says that this node leads. A regular heartbeat spreads what is remembered of each member; those of
    /// read rounds, of which there may be many, do not.
    pub(super) fn send_heartbeats(&self, common: &mut Common, regular: bool) {
        let round = self.reads.newest();
        let seen = if regular { common.seen.list() } else { Vec::new() };
        for (id, progress) in &self.peers {
            let commit = common.commit().min(progress.matched());
            let request = common.next_request();
            let heartbeat = Heartbeat { commit, round, seen: seen.clone() };
            common.send(*id, request, Message::Heartbeat(heartbeat), Needs::Term);
        }
    }

    /// Sends to every peer what may be sent to it.
    pub(super) fn replicate(&mut self, common: &mut Common) {
        for (id, progress) in &mut self.peers {
            replicate_to(*id, progress, common);
        }
    }

    /// A peer has answered an append.
    pub(super) fn append_reply(
        &mut self,
        common: &mut Common,
        from: NodeId,
        request: RequestId,
        reply: AppendReply,
    ) {
        let Some(progress) = self.peers.get_mut(&from) else { return };
        progress.heard();
        match reply {
            AppendReply::Accepted { matched } => {
                if progress.accepted(request, matched) {
                    common.note_acknowledged(from, progress.matched());
                    self.advance_commit(common);
                }
            }
            AppendReply::Conflict { base, hint } => {
                progress.refused(request, base, hint, &common.log);
            }
        }
        if let Some(progress) = self.peers.get_mut(&from) {
            replicate_to(from, progress, common);
        }
        self.advance_transfer(common);
    }

    /// A peer has answered a snapshot.
    pub(super) fn install_reply(
        &mut self,
        common: &mut Common,
        from: NodeId,
        request: RequestId,
        reply: InstallReply,
    ) {
        let Some(progress) = self.peers.get_mut(&from) else { return };
        progress.heard();
        match reply {
            InstallReply::Installed { matched } => {
                if progress.installed(request, matched, common.commit()) {
                    common.note_acknowledged(from, progress.matched());
                    self.advance_commit(common);
                }
            }
            InstallReply::Refused => progress.unanswered(request),
        }
        if let Some(progress) = self.peers.get_mut(&from) {
            replicate_to(from, progress, common);
        }
        self.advance_transfer(common);
    }

    /// A peer has answered a heartbeat.
    pub(super) fn heartbeat_reply(
        &mut self,
        common: &mut Common,
        from: NodeId,
        reply: HeartbeatReply,
    ) {
        let Some(progress) = self.peers.get_mut(&from) else { return };
        progress.heard();
        if reply.round > self.reads.newest() {
            return; // Nonsense: rounds are the leader's own (R1).
        }
        progress.confirm(reply.round);
        self.confirm_reads(common);
    }

    /// A request to a peer got no answer.
    pub(super) fn unanswered(&mut self, peer: NodeId, request: RequestId) {
        if let Some(progress) = self.peers.get_mut(&peer) {
            progress.unanswered(request);
        }
        self.end_transfer(request);
    }

    /// Commits what a quorum has on disk, oneself included as far as the own disk has completed.
    pub(super) fn advance_commit(&mut self, common: &mut Common) {
        let upto = commit::of_leader(common.membership(), &common.log, common.term(), |id| {
            if id == common.id {
                return common.disk.persisted();
            }
            self.matched(id)
        });
        let before = common.commit();
        if let Some(upto) = upto.filter(|upto| *upto > before) {
            self.uncommitted -= common.log.bytes(before, upto);
            common.raise_commit(upto);
            // Reads that waited for this leadership's first commit can begin now.
            self.confirm_reads(common);
            self.complete_change(common);
        }
    }
}

fn replicate_to(to: NodeId, progress: &mut Progress, common: &mut Common) {
    assert_eq!(common.disk.durable().term, common.term(), "a leader's term is durable (S17)");
    if progress.wants_snapshot() {
        let (request, snapshot) = (common.next_request(), common.snapshot());
        assert!(snapshot.index >= common.log.base().index, "what is purged is in a snapshot (S6)");
        progress.snapshot_sent(request, snapshot);
        common.effects.snapshots.push(SendSnapshot { to, request, term: common.term(), snapshot });
    }
    while let Some(range) = progress.next_range(&common.log, &common.options) {
        let request = common.next_request();
        progress.sent(request, range);
        common.effects.replicate.push(SendRange {
            to,
            request,
            term: common.term(),
            base: range.base,
            upto: range.upto,
            commit: common.commit(),
        });
    }
}
