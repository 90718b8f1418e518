//! The node actor: the sole owner of the protocol's core. Each handler translates a message into an
//! input, calls the core and runs its effects; no decision of the protocol is made here.
//!
//! Effects are run in one function, in the order of their contract
//! ([`raft::effects`]). All handlers are synchronous, so that no input ever sees
//! the core between a decision and its record (correctness A2).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::prelude::*;

use crate::codec::api::{Code, Refusal};
use crate::codec::raft as wire;
use crate::raft::{
    self, Effects, Envelope, Index, NodeId, PersistToken, ReadToken, RequestId, Seen,
};
use crate::rpc::Responder;

use super::applier::Applier;
use super::deliver::Deliver;
use super::disk_thread::DiskEvent;
use super::election_timer::NewestTick;
use super::fatal;
use super::log_source::LogSource;
use super::membership::Steward;
use super::messages::{
    Applied, Apply, DiskReported, Freeze, Froze, HandOver, Introduced, NoteSeen, PeerGone,
    PersistBatch, Propose, PurgeLog, Read, ReadIndex, RefuseReads, ReplyReceived, RequestReceived,
    Restore, ServeReads, SnapshotReported, Status, TakeSnapshot, TickElapsed, Waiter,
};
use super::peers::Peers;
use super::snapshot_desk::Desk;
use super::snapshot_receiver::Receiver;
use super::standing::{Present, Standing};
use super::start_over::WentBack;
use super::storage::Storage;

/// Batches handed to the disk and not completed, before proposals are refused as busy. Everything else
/// that causes a batch is bounded by the peers' windows.
pub const OUTSTANDING_BATCHES_MAX: u64 = 4096;

/// Entries committed and not applied, before proposals are refused as busy.
pub const APPLIED_LAG_MAX: u64 = 1 << 20;

/// Messages in the mailbox: a tripwire, not flow control; senders refuse or skip when it is full.
pub const MAILBOX: usize = 16 << 10;

/// What the node talks to.
pub struct Neighbours {
    /// In front of the disk.
    pub storage: Addr<Storage>,
    /// Owner of the state machine.
    pub applier: Addr<Applier>,
    /// A line to each peer.
    pub peers: Peers,
    /// Looks after the members.
    pub steward: Steward,
    /// Takes snapshots.
    pub desk: Desk,
    /// Receives them.
    pub receiver: Receiver,
    /// For a peer's word that this node's directory went back in time.
    pub went_back: WentBack,
}

/// See the module.
pub struct Node {
    pub(super) core: raft::Node,
    log: LogSource,
    pub(super) standing: Arc<Standing>,
    newest_tick: NewestTick,
    /// The newest tick that has been accounted for.
    ticked: u64,
    pub(super) neighbours: Neighbours,
    /// The newest batch handed to the disk, and the newest one completed in order.
    issued: PersistToken,
    completed: PersistToken,
    /// Messages that wait for the disk. Their tokens come in any order: each names the first batch that
    /// suffices for it.
    held: BTreeMap<PersistToken, Vec<Envelope>>,
    /// Clients that wait for their entry, in the order of the log.
    waiters: VecDeque<(Index, Waiter)>,
    /// Linearizable reads that wait for their index.
    reads: HashMap<ReadToken, Vec<Read>>,
    next_read: ReadToken,
    /// Peers that wait for the core's answer to their request. The core answers each exactly once.
    replies: HashMap<(NodeId, RequestId), Responder>,
    committed: Index,
    /// What was seen of the members, if the disk has not been told; and the batch behind which it was.
    unsaved: Option<Arc<BTreeMap<NodeId, Seen>>>,
    told_behind: PersistToken,
}

impl Node {
    /// A node around a core as it starts.
    #[must_use]
    pub fn new(
        core: raft::Node,
        log: LogSource,
        standing: Arc<Standing>,
        newest_tick: NewestTick,
        neighbours: Neighbours,
    ) -> Node {
        let mut node = Node {
            core,
            log,
            standing,
            newest_tick,
            ticked: 0,
            neighbours,
            issued: PersistToken::default(),
            completed: PersistToken::default(),
            held: BTreeMap::new(),
            waiters: VecDeque::new(),
            reads: HashMap::new(),
            next_read: ReadToken(0),
            replies: HashMap::new(),
            committed: Index::ZERO,
            unsaved: None,
            told_behind: PersistToken::default(),
        };
        node.neighbours.peers.follow(node.core.membership());
        node.publish();
        node
    }

    /// Runs what one input caused, in the order of the contract.
    pub(super) fn run(&mut self, effects: Effects) {
        let soft_state = effects.soft_state;
        if soft_state.is_some() || effects.membership.is_some() {
            // First of all, so that nothing read for a lost leadership is sent any more (S2).
            self.publish();
        }
        if let Some(membership) = &effects.membership {
            self.neighbours.peers.follow(membership);
        }
        if let Some(seen) = effects.seen {
            self.standing.publish_seen(Arc::clone(&seen));
            self.unsaved = Some(seen);
        }
        self.save_seen(effects.persist.as_ref().is_some_and(|batch| batch.hard_state.is_some()));
        if let Some(persist) = effects.persist {
            self.issued = persist.token;
            if let Some(snapshot) = &persist.install {
                // Said before the disk hears of it, so that nobody takes what is gone for damage.
                self.log.replaced(snapshot.last.index);
                self.neighbours.desk.installs(snapshot.last.index);
                self.neighbours.receiver.installing(snapshot.last.index);
            }
            self.log.append(persist.truncate_after, &persist.entries);
            // Bounded by `OUTSTANDING_BATCHES_MAX` and the peers' windows; must not be lost.
            self.neighbours.storage.deliver(PersistBatch(persist));
        }
        for envelope in effects.send_now {
            self.send(envelope);
        }
        for range in effects.replicate {
            self.neighbours.peers.replicate(range);
        }
        for snapshot in effects.snapshots {
            self.neighbours.peers.snapshot(snapshot);
        }
        for (token, envelope) in effects.send_after_persist {
            if token <= self.completed {
                self.send(envelope);
            } else {
                self.held.entry(token).or_default().push(envelope);
            }
        }
        if let Some(snapshot) = effects.restore {
            self.neighbours.receiver.installed(snapshot.last.index);
            // Once for each installed snapshot; the state machine must follow.
            self.neighbours.applier.deliver(Restore(snapshot));
        }
        if let Some(upto) = effects.commit {
            self.committed = upto;
            let done = self.waiters.partition_point(|(index, _)| *index <= upto);
            let waiters = self.waiters.drain(..done).collect();
            // Bounded by what is admitted; committed entries must be applied.
            self.neighbours.applier.deliver(Apply { upto, waiters });
        }
        if let Some(upto) = effects.purge {
            // Bounded by the snapshots taken and by the peers' progress.
            self.neighbours.storage.deliver(PurgeLog(upto));
        }
        for outcome in effects.reads {
            let Some(reads) = self.reads.remove(&outcome.token) else { continue };
            match outcome.result {
                // Bounded by the reads admitted; their callers must be answered.
                Ok(index) => self.neighbours.applier.deliver(ServeReads { index, reads }),
                Err(refusal) => self.refuse(reads.into_iter().map(|read| read.waiter), refusal),
            }
        }
        if effects.leadership_lost {
            for (_, waiter) in self.waiters.drain(..) {
                waiter.outcome_unknown();
            }
            // One for each leadership; the reads' callers must be answered (C5).
            self.neighbours.applier.deliver(RefuseReads);
        }
        if let Some((peer, seen)) = effects.went_back {
            (self.neighbours.went_back)(peer, seen);
        }
        if let Some(soft_state) = soft_state {
            let leader = self.standing.present().leader_hint().map(|hint| hint.name);
            tracing::info!(
                role = %soft_state.role,
                term = soft_state.term.0,
                leader = leader.as_deref().unwrap_or("-"),
                "standing changed"
            );
        }
    }

    /// Tells the disk what was seen: always before a hard state, with which it is written; else once for
    /// what is outstanding, so that a disk which hangs is not told without end.
    fn save_seen(&mut self, goes_with_hard_state: bool) {
        let due = goes_with_hard_state || self.completed >= self.told_behind;
        if let Some(seen) = self.unsaved.take_if(|_| due) {
            self.told_behind = self.issued;
            // At most one for each batch; must not come behind the hard state it belongs to.
            self.neighbours.storage.deliver(NoteSeen(seen));
        }
    }

    /// Sends a request through its peer's replicator, and an answer to the call that asked.
    fn send(&mut self, envelope: Envelope) {
        if wire::route(&envelope.message).1 == wire::Direction::Request {
            self.neighbours.peers.request(envelope);
        } else if let Some(reply) = self.replies.remove(&(envelope.to, envelope.request)) {
            reply.send_raw(&wire::encode_envelope(&envelope));
        }
    }

    /// Begins a snapshot if one is due.
    fn take_snapshot(&mut self) {
        if self.neighbours.desk.begins(&self.standing) {
            // One at a time; without its answer none would ever be taken.
            self.neighbours.applier.deliver(Freeze);
        }
    }

    fn publish(&self) {
        let status = self.core.status();
        let former = self.standing.present();
        self.standing.publish(Present {
            cluster_id: former.cluster_id,
            soft_state: status.soft_state,
            membership: Arc::new(self.core.membership().clone()),
            waiting: None,
        });
        if status.removed {
            self.standing.note_removed("its own log says so");
        }
    }

    fn refuse(&self, waiters: impl Iterator<Item = Waiter>, refusal: raft::Refusal) {
        let refusal = match refusal {
            raft::Refusal::NotLeader { .. } => self.standing.not_leader(),
            raft::Refusal::Busy => Refusal::new(
                Code::Busy,
                "the leader holds as much uncommitted work as it may; try again",
            ),
            raft::Refusal::Transferring { .. } => {
                Refusal::new(Code::Busy, "the leadership is being handed over; try again")
            }
            raft::Refusal::NoSpace => Refusal::new(
                Code::NoSpace,
                format!("{} has no space left for its log", self.standing.own.name),
            ),
        };
        for waiter in waiters {
            waiter.refuse(refusal.clone());
        }
    }

    /// Whether as much is under way at the disk or the applier as may be.
    fn saturated(&self) -> bool {
        let lag = self.committed.0.saturating_sub(self.standing.content().view.applied().0);
        self.issued.0 - self.completed.0 >= OUTSTANDING_BATCHES_MAX || lag >= APPLIED_LAG_MAX
    }

    fn persisted(&mut self, token: PersistToken) {
        self.completed = token;
        let effects = self.core.persisted(token);
        let upto = self.core.persisted_index();
        self.log.persisted(upto);
        // Before anything is said of it.
        self.standing.note_claims(self.core.claims());
        let waiting = self.held.split_off(&PersistToken(token.0 + 1));
        let ready = std::mem::replace(&mut self.held, waiting);
        for (waited_for, envelopes) in ready {
            assert!(waited_for <= self.completed, "nothing is said before it is durable (S17)");
            envelopes.into_iter().for_each(|envelope| self.send(envelope));
        }
        self.run(effects);
    }

    /// Term and vote of this batch are durable although entries before it wait for room. What claims
    /// entries waits on; the term and vote of earlier batches are superseded by these, so that whatever
    /// else waited for one of them may leave (S7).
    fn hard_state_persisted(&mut self, token: PersistToken) {
        let effects = self.core.hard_state_persisted(token);
        self.standing.note_claims(self.core.claims());
        let mut ready = Vec::new();
        for (_, envelopes) in self.held.range_mut(..=token) {
            ready.extend(envelopes.extract_if(.., |held| !held.message.claims_entries()));
        }
        self.held.retain(|_, envelopes| !envelopes.is_empty());
        ready.into_iter().for_each(|envelope| self.send(envelope));
        self.run(effects);
    }
}

impl Actor for Node {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<TickElapsed> for Node {
    type Result = ();

    fn handle(&mut self, message: TickElapsed, _: &mut Self::Context) {
        // A backlog counts as one tick: the first one handled stands for all sent by then.
        if message.number <= self.ticked {
            return;
        }
        self.ticked = self.newest_tick.load(Ordering::Relaxed);
        for (peer, request) in self.neighbours.peers.tick() {
            let effects = self.core.unanswered(peer, request);
            self.run(effects);
        }
        let effects = self.core.tick();
        self.run(effects);
        self.look_after_members();
    }
}

impl Handler<RequestReceived> for Node {
    type Result = ();

    fn handle(&mut self, message: RequestReceived, _: &mut Self::Context) {
        let RequestReceived { envelope, reply } = message;
        self.replies.insert((envelope.from, envelope.request), reply);
        let effects = self.core.step(envelope);
        self.run(effects);
    }
}

impl Handler<ReplyReceived> for Node {
    type Result = ();

    fn handle(&mut self, message: ReplyReceived, _: &mut Self::Context) {
        let effects = match message {
            ReplyReceived::Answered(envelope) => self.core.step(envelope),
            ReplyReceived::Unanswered { peer, request } => self.core.unanswered(peer, request),
            ReplyReceived::Greeted { peer, claims } => {
                let effects = self.core.introduced(peer, claims);
                self.run(effects);
                self.core.greeted(peer)
            }
        };
        self.run(effects);
    }
}

impl Handler<Introduced> for Node {
    type Result = ();

    fn handle(&mut self, message: Introduced, _: &mut Self::Context) {
        let effects = self.core.introduced(message.peer, message.claims);
        self.run(effects);
    }
}

impl Handler<PeerGone> for Node {
    type Result = ();

    fn handle(&mut self, message: PeerGone, _: &mut Self::Context) {
        let effects = self.core.peer_gone(message.peer);
        self.run(effects);
    }
}

impl Handler<Propose> for Node {
    type Result = ();

    fn handle(&mut self, message: Propose, _: &mut Self::Context) {
        let (commands, waiters): (Vec<_>, Vec<_>) =
            message.proposals.into_iter().map(|p| (p.command, p.waiter)).unzip();
        if self.saturated() {
            self.refuse(waiters.into_iter(), raft::Refusal::Busy);
            return;
        }
        let (result, effects) = self.core.propose(commands);
        match result {
            Ok(first) => {
                let indexes = (first.index.0..).map(Index);
                self.waiters.extend(indexes.zip(waiters));
            }
            Err(refusal) => self.refuse(waiters.into_iter(), refusal),
        }
        self.run(effects);
    }
}

impl Handler<ReadIndex> for Node {
    type Result = ();

    fn handle(&mut self, message: ReadIndex, _: &mut Self::Context) {
        let token = self.next_read;
        self.next_read = ReadToken(token.0 + 1);
        self.reads.insert(token, message.reads);
        let effects = self.core.read_index(token);
        self.run(effects);
    }
}

impl Handler<DiskReported> for Node {
    type Result = ();

    fn handle(&mut self, message: DiskReported, _: &mut Self::Context) {
        match message.0 {
            DiskEvent::Persisted(token) => self.persisted(token),
            DiskEvent::HardStatePersisted(token) => self.hard_state_persisted(token),
            DiskEvent::Full(full) => {
                let effects = self.core.disk_full(full);
                self.run(effects);
            }
            DiskEvent::Failed(error) => fatal::storage(&error),
        }
    }
}

impl Handler<Applied> for Node {
    type Result = ();

    fn handle(&mut self, message: Applied, _: &mut Self::Context) {
        let Applied { upto, bytes } = message;
        let effects = self.core.applied(upto);
        self.run(effects);
        self.neighbours.desk.applied(upto, bytes);
        self.take_snapshot();
    }
}

impl Handler<Froze> for Node {
    type Result = ();

    fn handle(&mut self, message: Froze, _: &mut Self::Context) {
        let meta = self.core.snapshot_at(message.0.applied().index);
        self.neighbours.desk.froze(message.0, meta);
    }
}

impl Handler<SnapshotReported> for Node {
    type Result = ();

    fn handle(&mut self, message: SnapshotReported, _: &mut Self::Context) {
        if let Some(last) = self.neighbours.desk.reported(message.0, &self.standing) {
            let effects = self.core.snapshot_taken(last);
            self.run(effects);
        }
        self.take_snapshot();
    }
}

impl Handler<TakeSnapshot> for Node {
    type Result = ();

    fn handle(&mut self, message: TakeSnapshot, _: &mut Self::Context) {
        self.neighbours.desk.asked(message.reply);
        self.take_snapshot();
    }
}

impl Handler<HandOver> for Node {
    type Result = bool;

    fn handle(&mut self, _: HandOver, _: &mut Self::Context) -> bool {
        self.neighbours.steward.stop();
        let Some(to) = self.core.successor() else { return false };
        let (result, effects) = self.core.transfer(to);
        self.run(effects);
        result.is_ok()
    }
}

impl Handler<Status> for Node {
    type Result = MessageResult<Status>;

    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.core.status())
    }
}
