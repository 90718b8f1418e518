//! A replicator: one actor for each peer. It keeps two connections to it, reads the ranges that the
//! core wants sent, sends votes, heartbeats and appends as calls, and hands each answer, or its
//! absence, back to the node. It holds nothing the protocol relies on.
//!
//! Heartbeats and votes have a connection of their own, so that they never wait behind appends. A
//! snapshot has a third one, which lives as long as it is being sent
//! ([`snapshot_sender`](super::snapshot_sender)).
//!
//! What when full? The core's window bounds what is here; while the peer is away every request is
//! handed back as unanswered at once, and the core probes at the pace of its heartbeats.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;

use crate::codec::api::{Code, Refusal};
use crate::codec::raft::{self as wire, Direction, RaftCall};
use crate::raft::message::Append;
use crate::raft::{Entry, Envelope, Message, NodeId, RequestId, Seen, SendRange};
use crate::rpc::hello::VERSIONS;
use crate::rpc::{
    Backoff, CloseCode, CloseReason, Connection, DialError, Dialer, Expect, Hello, Method, Purpose,
};
use crate::storage::{SnapshotStore, StorageError};

use super::deliver::Deliver;
use super::log_source::LogSource;
use super::messages::{
    Dialled, Ended, Lane, Leave, PeerGone, Replicate, ReplyReceived, SendRequest, Stale, StartOver,
    StreamSnapshot,
};
use super::meters::PeerMeter;
use super::peers::Peer;
use super::snapshot_sender::Sending;
use super::standing::Standing;

/// The delay after the first failed dial, and the longest one.
const REDIAL_BASE: Duration = Duration::from_millis(20);
const REDIAL_MAX: Duration = Duration::from_millis(500);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Connect, TLS and hello together.
    pub dial: Duration,
    /// A vote or heartbeat.
    pub control: Duration,
    /// An append.
    pub bulk: Duration,
}

/// What all replicators share.
#[derive(Clone)]
pub struct Common {
    /// Makes connections.
    pub dialer: Arc<Dialer>,
    /// This node's face, for hellos.
    pub standing: Arc<Standing>,
    /// Where entries come from.
    pub log: LogSource,
    /// Where snapshots come from.
    pub snapshots: SnapshotStore,
    /// Deadlines.
    pub patience: Patience,
    /// For a peer's word that this node's directory went back in time.
    pub start_over: Recipient<StartOver>,
}

struct Line {
    connection: Option<Connection>,
    /// Counts the lane's connections: what is heard of a former one is no news.
    number: u64,
    /// A dial is under way, or waits for its back-off.
    dialing: bool,
    backoff: Backoff,
    /// Whether the last connection ended without a word, so that a refused redial means a dead process.
    dropped: bool,
}

/// See the module.
pub struct Replicator {
    peer: Peer,
    common: Common,
    answers: Recipient<ReplyReceived>,
    gone: Recipient<PeerGone>,
    control: Line,
    bulk: Line,
    /// Ranges to send, in order.
    ranges: VecDeque<SendRange>,
    /// A range is being read from the disk.
    reading: bool,
    /// A snapshot is being sent.
    sending: Option<SpawnHandle>,
    seed: u64,
    /// Why the peer was not trusted when last dialed; it has been said.
    complaint: Option<String>,
    meter: Arc<PeerMeter>,
}

impl Replicator {
    /// A replicator to one peer. `seed` spreads the back-offs.
    #[must_use]
    pub fn new(
        peer: Peer,
        common: Common,
        answers: Recipient<ReplyReceived>,
        gone: Recipient<PeerGone>,
        seed: u64,
    ) -> Replicator {
        let meter = common.standing.meters.peer(peer.id);
        let line = |seed| Line {
            connection: None,
            number: 0,
            dialing: false,
            backoff: Backoff::new(seed, REDIAL_BASE, REDIAL_MAX),
            dropped: false,
        };
        Replicator {
            peer,
            common,
            answers,
            gone,
            control: line(seed),
            bulk: line(seed.wrapping_add(1)),
            ranges: VecDeque::new(),
            reading: false,
            sending: None,
            seed,
            complaint: None,
            meter,
        }
    }

    fn line(&mut self, lane: Lane) -> &mut Line {
        match lane {
            Lane::Control => &mut self.control,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn dial(&mut self, lane: Lane, after: Duration, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.line(lane).dialing, true) {
            return;
        }
        let dialer = Arc::clone(&self.common.dialer);
        let (address, expect) =
            (self.peer.member.address.clone(), Expect::Node(self.peer.member.name.clone()));
        let purpose = match lane {
            Lane::Control => Purpose::Control,
            Lane::Bulk => Purpose::Bulk,
        };
        let (standing, receiver) = (Arc::clone(&self.common.standing), self.peer.id);
        let start_over = self.common.start_over.clone();
        let (patience, name) = (self.common.patience.dial, self.peer.member.name.clone());
        let own = ctx.address();
        actix_rt::spawn(async move {
            tokio::time::sleep(after).await;
            let hello = hello(&standing, purpose, Some(receiver));
            let dialled = match dialer.dial(&address, expect, hello, patience).await {
                Ok(connection) => Dialled::Up(lane, connection),
                Err(error) => {
                    tracing::debug!(peer = name, ?lane, %error, "no connection");
                    if let DialError::HelloRefused { refusal, .. } = &error {
                        heed(refusal, &name, &standing, &start_over);
                    }
                    let refused = matches!(error, DialError::Refused { .. });
                    let distrust = is_distrust(&error).then(|| error.to_string());
                    Dialled::Failed { lane, refused, distrust }
                }
            };
            // One for each dial; a replicator without it would never dial again.
            own.deliver(dialled);
        });
    }

    /// Says once why this peer is not trusted, and again only when the reason is another: dialing goes
    /// on several times a second.
    fn complain(&mut self, distrust: Option<String>) {
        if let Some(why) = &distrust
            && self.complaint != distrust
        {
            tracing::warn!(peer = self.peer.member.name, "not connected: {why}");
        }
        self.complaint = distrust;
    }

    fn unanswered(&self, request: RequestId) {
        // One for each request of the core; it must hear of each.
        self.answers.deliver(ReplyReceived::Unanswered { peer: self.peer.id, request });
    }

    /// Starts a call whose answer goes to the node.
    fn call(&mut self, lane: Lane, call: RaftCall, args: Bytes, request: RequestId) {
        let patience = match lane {
            Lane::Control => self.common.patience.control,
            Lane::Bulk => self.common.patience.bulk,
        };
        let Some(connection) = self.line(lane).connection.clone() else {
            self.unanswered(request);
            return;
        };
        let (answers, peer) = (self.answers.clone(), self.peer.id);
        let meter =
            (call == RaftCall::Heartbeat).then(|| (Arc::clone(&self.meter), Instant::now()));
        actix_rt::spawn(async move {
            let answered = connection.call_raw(method(call), args, patience).await;
            let reply = answered.ok().and_then(|body| {
                wire::decode_envelope(call, Direction::Reply, &body)
                    .ok()
                    .filter(|envelope| envelope.from == peer && envelope.request == request)
            });
            if let (Some((meter, begun)), Some(_)) = (meter, &reply) {
                meter.answered(begun.elapsed());
            }
            let reply = match reply {
                Some(envelope) => ReplyReceived::Answered(envelope),
                None => ReplyReceived::Unanswered { peer, request },
            };
            // One for each call, and calls are bounded by the core's window.
            answers.deliver(reply);
        });
    }

    /// Sends waiting ranges in order, as far as their entries are at hand.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        while !self.reading {
            let Some(range) = self.ranges.pop_front() else { return };
            if self.bulk.connection.is_none() {
                self.unanswered(range.request);
                continue;
            }
            let (after, upto) = (range.base.index, range.upto);
            if after == upto {
                self.send_range(range, Vec::new());
                continue;
            }
            if let Some(entries) = self.common.log.read_recent(after, upto, u64::MAX) {
                self.send_range(range, entries);
                continue;
            }
            self.reading = true;
            let log = self.common.log.clone();
            // The core has cut the range already, by its own measure of sizes.
            let reading = async move { log.read(after, upto, u64::MAX).await };
            ctx.spawn(reading.into_actor(self).map(move |entries, replicator, ctx| {
                replicator.reading = false;
                match entries {
                    Ok(entries) => replicator.send_range(range, entries),
                    Err(error) => {
                        // Purged meanwhile: the peer will need a snapshot, as the core finds out.
                        if !matches!(error, StorageError::OutOfRange { .. }) {
                            let peer = &replicator.peer.member.name;
                            tracing::warn!(peer, %error, "range not read");
                        }
                        replicator.unanswered(range.request);
                    }
                }
                replicator.pump(ctx);
            }));
        }
    }

    fn send_range(&mut self, range: SendRange, entries: Vec<Entry>) {
        // What was read is the leader's log only while it still leads (S2): a former leader's log may
        // have been overwritten meanwhile.
        if !self.common.standing.leads(range.term) {
            self.unanswered(range.request);
            return;
        }
        let append = Append { base: range.base, commit: range.commit, entries };
        let envelope = Envelope {
            from: self.common.standing.own.node_id,
            to: range.to,
            term: range.term,
            request: range.request,
            message: Message::Append(append),
        };
        self.send_envelope(Lane::Bulk, &envelope);
    }

    fn send_envelope(&mut self, lane: Lane, envelope: &Envelope) {
        let (call, _) = wire::route(&envelope.message);
        self.call(lane, call, wire::encode_envelope(envelope), envelope.request);
    }
}

/// Whether somebody has to change something before this peer can be reached: a certificate, or which
/// process runs where. A peer that is away, or not ready yet, is no news.
fn is_distrust(error: &DialError) -> bool {
    let mistaken = matches!(error, DialError::HelloRefused { refusal, .. }
        if matches!(refusal.code, Code::WrongPeer | Code::Denied));
    error.is_authority() || mistaken
}

/// What a refused hello means for this node itself. Its directory may have gone back in time: the peer
/// says what it has seen, and a hello can be overtaken by newer words of its own process, so that this
/// is compared once more with what is on the disk now, which no word of this process exceeds.
fn heed(refusal: &Refusal, peer: &str, standing: &Standing, start_over: &Recipient<StartOver>) {
    match (refusal.code, &refusal.seen) {
        (Code::WentBack, Some(seen)) if seen.is_ahead_of(standing.claims()) => {
            tracing::error!("{peer} refuses this node: {refusal}");
            // Must not be lost; repeats are ignored.
            start_over.deliver(StartOver { reason: "went back".into() });
        }
        (Code::Removed, _) => standing.note_removed(&format!("{peer}, which leads it, says so")),
        _ => {}
    }
}

/// The method of a call between cores.
fn method(call: RaftCall) -> Method {
    match call {
        RaftCall::Vote => Method::RaftVote,
        RaftCall::Append => Method::RaftAppend,
        RaftCall::Heartbeat => Method::RaftHeartbeat,
        RaftCall::Install => Method::RaftInstall,
        RaftCall::TimeoutNow => Method::RaftTimeoutNow,
    }
}

/// This node's hello.
#[must_use]
pub fn hello(standing: &Standing, purpose: Purpose, receiver: Option<NodeId>) -> Hello {
    let claims = standing.claims();
    Hello {
        versions: VERSIONS,
        cluster_id: standing.present().cluster_id,
        name: standing.own.name.clone(),
        node_id: Some(standing.own.node_id),
        boot: claims.boot,
        term: claims.term,
        acknowledged: claims.acknowledged,
        receiver,
        purpose,
    }
}

impl Actor for Replicator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.dial(Lane::Control, Duration::ZERO, ctx);
        self.dial(Lane::Bulk, Duration::ZERO, ctx);
    }
}

impl Handler<Dialled> for Replicator {
    type Result = ();

    fn handle(&mut self, message: Dialled, ctx: &mut Self::Context) {
        match message {
            Dialled::Up(lane, connection) => {
                let ack = connection.ack();
                let claims =
                    Seen { boot: ack.boot, term: ack.term, acknowledged: ack.acknowledged };
                tracing::info!(peer = self.peer.member.name, ?lane, "connected");
                if lane == Lane::Control {
                    self.complaint = None;
                }
                self.meter.connected(lane, true);
                let line = self.line(lane);
                line.dialing = false;
                line.backoff.reset();
                line.number += 1;
                let number = line.number;
                let (stale, mut closed) = (connection.stale(), Box::pin(connection.closed()));
                // A former one is closed once the calls in flight on it are answered.
                line.connection = Some(connection);
                let greeted = ReplyReceived::Greeted { peer: self.peer.id, claims };
                // One for each connection; votes wait for it, and it goes before what comes over it.
                self.answers.deliver(greeted);
                let own = ctx.address();
                actix_rt::spawn(async move {
                    let ended = tokio::select! {
                        biased;
                        reason = &mut closed => Some(reason),
                        () = stale => None,
                    };
                    let reason = match ended {
                        Some(reason) => reason,
                        None => {
                            // Once for each connection; without it the old certificate would stay.
                            own.deliver(Stale { lane, number });
                            closed.await
                        }
                    };
                    // A connection that its peer wants anew says nothing about the peer's process; one
                    // that a stopping peer closes says as much as a reset.
                    let renewed = matches!(&reason, CloseReason::Announced(notice)
                        if notice.code == CloseCode::Renew);
                    // One for each connection; without it the lane would stay dead.
                    own.deliver(Ended { lane, number, renewed, reason: reason.to_string() });
                });
            }
            Dialled::Failed { lane, refused, distrust } => {
                if lane == Lane::Control {
                    self.complain(distrust);
                }
                let line = self.line(lane);
                line.dialing = false;
                let dead = std::mem::take(&mut line.dropped) && refused;
                let after = line.backoff.next_delay();
                if dead && lane == Lane::Control {
                    tracing::info!(peer = self.peer.member.name, "gone: nothing listens there");
                    let peer = self.peer.id;
                    // A hint; a full mailbox may lose it.
                    let _ = self.gone.try_send(PeerGone { peer });
                }
                self.dial(lane, after, ctx);
            }
        }
    }
}

impl Handler<Stale> for Replicator {
    type Result = ();

    fn handle(&mut self, message: Stale, ctx: &mut Self::Context) {
        let Stale { lane, number } = message;
        if self.line(lane).number == number {
            self.dial(lane, Duration::ZERO, ctx);
        }
    }
}

impl Handler<Ended> for Replicator {
    type Result = ();

    fn handle(&mut self, message: Ended, ctx: &mut Self::Context) {
        let Ended { lane, number, renewed, reason } = message;
        if self.line(lane).number != number {
            return;
        }
        tracing::info!(peer = self.peer.member.name, ?lane, reason, "connection ended");
        self.meter.connected(lane, false);
        let line = self.line(lane);
        line.connection = None;
        line.dropped = !renewed;
        self.dial(lane, Duration::ZERO, ctx);
        self.pump(ctx);
    }
}

impl Handler<Replicate> for Replicator {
    type Result = ();

    fn handle(&mut self, message: Replicate, ctx: &mut Self::Context) {
        self.ranges.push_back(message.0);
        self.pump(ctx);
    }
}

impl Handler<SendRequest> for Replicator {
    type Result = ();

    fn handle(&mut self, message: SendRequest, _: &mut Self::Context) {
        self.send_envelope(Lane::Control, &message.0);
    }
}

impl Handler<StreamSnapshot> for Replicator {
    type Result = ();

    fn handle(&mut self, message: StreamSnapshot, ctx: &mut Self::Context) {
        // The core has given the former one up; its answer would be to nobody's question.
        if let Some(former) = self.sending.take() {
            ctx.cancel_future(former);
        }
        let sending = Sending::run(self.peer.clone(), self.common.clone(), message.0, self.seed);
        let handle = ctx.spawn(sending.into_actor(self).map(|reply, replicator, _| {
            replicator.sending = None;
            // One for each request of the core; it must hear of each.
            replicator.answers.deliver(reply);
        }));
        self.sending = Some(handle);
    }
}

impl Handler<Leave> for Replicator {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        tracing::info!(peer = self.peer.member.name, "no longer a member; connections closed");
        for line in [&self.control, &self.bulk] {
            if let Some(connection) = &line.connection {
                connection.close();
            }
        }
        ctx.stop();
    }
}
