//! The node's shell around the core: real node, storage, applier and disk thread over a disk that
//! completes when the test says so. The core's own tests cannot see what goes wrong here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::applier::Applier;
use super::deliver::Deliver;
use super::disk_thread::DiskThread;
use super::election_timer::NewestTick;
use super::log_source::LogSource;
use super::membership::Steward;
use super::messages::{DiskReported, RequestReceived};
use super::node::{Neighbours, Node};
use super::standing::{Own, Standing};
use super::storage::Storage;
use crate::codec::api::Refusal;
use crate::codec::raft::{Direction, RaftCall, decode_envelope};
use crate::kv;
use crate::raft::message::{Append, AppendReply, Heartbeat, ReadRound, Vote};
use crate::raft::{
    self, Boot, ClusterId, Entry, Envelope, HardState, Index, LogId, LogShape, Member, Membership,
    Message, NodeId, Options, Payload, RequestId, Restored, SeatOptions, Seats, Term,
};
use crate::rpc::{Method, Responder};
use crate::storage::{Batch, LogReader, LogStore, Seen, StorageError};

/// Long enough for anything that is going to happen.
const SOON: Duration = Duration::from_secs(10);
/// Long enough to notice what should not happen.
const A_WHILE: Duration = Duration::from_millis(100);

/// A disk whose syncs complete one by one, when the test allows it.
struct Disk {
    allowed: mpsc::Receiver<()>,
    synced: mpsc::SyncSender<()>,
    full: Arc<AtomicBool>,
}

impl LogStore for Disk {
    fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if self.full.load(Ordering::SeqCst) && !batch.entries.is_empty() {
            return Err(StorageError::NoSpace {
                path: "test".to_owned(),
                what: "an entry",
                needed_bytes: 4096,
                free_bytes: Some(0),
            });
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        // An error says that the test has ended.
        let _ = self.synced.send(());
        let _ = self.allowed.recv();
        Ok(())
    }

    fn reader(&self) -> Box<dyn LogReader> {
        Box::new(NoReader)
    }

    fn note_seen(&mut self, _: &BTreeMap<NodeId, Seen>) {}
    fn purge(&mut self, _: LogId) -> Result<(), StorageError> {
        Ok(())
    }
}

struct NoReader;

impl LogReader for NoReader {
    fn read(&self, after: Index, upto: Index, _: u64) -> Result<Vec<Entry>, StorageError> {
        Err(StorageError::OutOfRange { after, upto })
    }
}

/// Node 1 of three, in term 1 with one entry.
struct World {
    node: Addr<Node>,
    /// Lets one sync complete.
    allow: mpsc::SyncSender<()>,
    /// Hears that a sync has begun.
    syncing: mpsc::Receiver<()>,
    full: Arc<AtomicBool>,
    requests: u64,
}

type Reply = oneshot::Receiver<Result<Bytes, Refusal>>;

impl World {
    fn new() -> World {
        let (allow, allowed) = mpsc::sync_channel(64);
        let (synced, syncing) = mpsc::sync_channel(64);
        let full = Arc::new(AtomicBool::new(false));
        let disk = Disk { allowed, synced, full: Arc::clone(&full) };

        let member = |n| Member { name: format!("raft-{n}"), address: format!("h{n}:1") };
        let members: BTreeMap<_, _> = (1..=3).map(|n| (NodeId(n), member(n))).collect();
        let mut log = LogShape::default();
        log.push(LogId::new(1, 1), 100);
        let restored = Restored {
            hard_state: HardState { term: Term(1), vote: None },
            log,
            memberships: vec![(Index(1), Membership::of_voters(members))],
            snapshot: None,
            applied: Index::ZERO,
            boot: Boot(1),
            seen: BTreeMap::new(),
            reached: Index::ZERO,
        };
        let mut core = raft::Node::new(NodeId(1), Options::default(), 7, restored);
        // Else it would give no vote yet.
        assert_eq!(core.greeted(NodeId(2)), raft::Effects::default());
        let store = kv::Store::new();
        let own = Own { name: "raft-1".to_owned(), node_id: NodeId(1), boot: Boot(1) };
        let standing = Standing::new(own, store.view(), store.state_hash());
        let log = LogSource::start(Box::new(NoReader), Index(1), 1 << 20).unwrap();
        let context = Context::<Node>::new();
        let node = context.address();
        let reports = node.clone().recipient::<DiskReported>();
        let report = move |event| reports.deliver(DiskReported(event));
        let disk = DiskThread::start(Box::new(disk), report).unwrap();
        let applied = node.clone().recipient();
        let applier = Applier::new(store, log.clone(), Arc::clone(&standing), applied).start();
        let storage = Storage::new(disk).start();
        let seats = Seats::new(ClusterId(1), SeatOptions::default());
        let steward = Steward::new(seats, Duration::from_millis(10), Box::new(|_, _| {}));
        let neighbours = Neighbours { storage, applier, replicators: BTreeMap::new(), steward };
        context.run(Node::new(core, log, standing, NewestTick::default(), neighbours));
        World { node, allow, syncing, full, requests: 0 }
    }

    /// A peer's request, and where its answer will be.
    fn ask(&mut self, from: u64, term: u64, message: Message) -> Reply {
        self.requests += 1;
        let envelope = Envelope {
            from: NodeId(from),
            to: NodeId(1),
            term: Term(term),
            request: RequestId(self.requests),
            message,
        };
        let (reply, answer) = Responder::detached(Method::RaftAppend);
        self.node.deliver(RequestReceived { envelope, reply });
        answer
    }

    fn heartbeat(&mut self, term: u64) -> Reply {
        let heartbeat = Heartbeat { commit: Index::ZERO, round: ReadRound(0), seen: Vec::new() };
        self.ask(2, term, Message::Heartbeat(heartbeat))
    }

    /// One entry behind the first, of this term.
    fn append(&mut self, term: u64) -> Reply {
        let base = LogId::new(1, 1);
        let entry = Entry { id: LogId::new(term, 2), payload: Payload::Noop };
        let append = Append { base, commit: Index::ZERO, entries: vec![entry] };
        self.ask(2, term, Message::Append(append))
    }

    /// Waits until the disk has a sync under way that is not allowed to complete yet.
    async fn sync_begins(&self) {
        let begun = async {
            while self.syncing.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, begun).await.expect("a sync begins");
    }
}

async fn answered(reply: Reply) -> Bytes {
    timeout(SOON, reply).await.expect("in time").expect("answered").expect("not refused")
}

async fn still_waits(reply: &mut Reply) -> bool {
    timeout(A_WHILE, reply).await.is_err()
}

/// S17: the tokens that messages wait for come in any order, for each names the first batch that
/// suffices. An acknowledgement must not slip out with a message of an earlier batch behind it.
#[actix_rt::test]
async fn an_acknowledgement_waits_for_its_own_batch() {
    let mut world = World::new();
    let first = world.heartbeat(2);
    world.sync_begins().await;
    let mut acknowledgement = world.append(2);
    let (second, third) = (world.heartbeat(2), world.heartbeat(2));

    world.allow.send(()).unwrap();
    for heartbeat in [first, second, third] {
        answered(heartbeat).await;
    }
    world.sync_begins().await;
    assert!(still_waits(&mut acknowledgement).await, "its batch is not durable (S17)");

    world.allow.send(()).unwrap();
    let body = answered(acknowledgement).await;
    let reply = decode_envelope(RaftCall::Append, Direction::Reply, &body).unwrap();
    let accepted = AppendReply::Accepted { matched: Index(2) };
    assert_eq!(reply.message, Message::AppendReply(accepted));
}

/// D11: term and vote have room when entries have none, so that a node with a full disk goes on
/// answering in later terms, votes, and acknowledges nothing that is not durable.
#[actix_rt::test]
async fn a_full_disk_leaves_terms_and_votes_alone() {
    let mut world = World::new();
    // Syncs complete at once from here on.
    for _ in 0..60 {
        world.allow.send(()).unwrap();
    }
    answered(world.heartbeat(2)).await;
    world.full.store(true, Ordering::SeqCst);
    // A new term that comes with entries: its term goes ahead, its entries wait.
    let mut acknowledgement = world.append(3);
    assert!(still_waits(&mut acknowledgement).await, "there is no room for it");

    for term in 3..6 {
        for _ in 0..3 {
            answered(world.heartbeat(term)).await;
        }
    }
    // The leader is silent for the follower's whole patience only in ticks; its own successor asks.
    let vote = Vote { pre: false, campaign: Term(6), last: LogId::new(5, 9), transfer: false };
    let body = answered(world.ask(2, 6, Message::Vote(vote))).await;
    let reply = decode_envelope(RaftCall::Vote, Direction::Reply, &body).unwrap();
    assert!(matches!(&reply.message, Message::VoteReply(reply) if reply.granted), "{reply:?}");
    assert!(still_waits(&mut acknowledgement).await, "S17");

    world.full.store(false, Ordering::SeqCst);
    answered(acknowledgement).await;
}
