//! The node's shell around the core: real node, storage, applier and disk thread over a disk that
//! completes when the test says so. The core's own tests cannot see what goes wrong here.

mod acknowledgements;
mod peers;
mod receiving;
mod restoring;
mod snapshots;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::applier::{self, Applier};
use super::deliver::Deliver;
use super::disk_thread::DiskThread;
use super::election_timer::NewestTick;
use super::log_source::LogSource;
use super::membership::Steward;
use super::messages::{DiskReported, RequestReceived, SnapshotReported};
use super::node::{Neighbours, Node};
use super::peers::Peers;
use super::snapshot_desk::Desk;
use super::snapshot_receiver::Receiver;
use super::snapshot_taker::Taker;
use super::standing::{Own, Standing};
use super::storage::Storage;
use crate::codec::api::Refusal;
use crate::config::SnapshotPolicy;
use crate::kv;
use crate::kv::command::{Command, Operation, Write};
use crate::raft::message::{Append, Heartbeat, ReadRound};
use crate::raft::{
    self, Boot, ClusterId, Entry, Envelope, HardState, Index, LogId, LogShape, Member, Membership,
    Message, NodeId, Options, Payload, RequestId, Restored, SeatOptions, Seats, Seen, SnapshotMeta,
    Term,
};
use crate::rpc::{Method, Responder};
use crate::storage::{
    Batch, DataDir, FaultyDisk, LogReader, LogStore, SnapshotStore, StorageError,
};

/// Long enough for anything that is going to happen.
const SOON: Duration = Duration::from_secs(10);
/// Long enough to notice what should not happen.
const A_WHILE: Duration = Duration::from_millis(100);

const CLUSTER: ClusterId = ClusterId(77);

/// A disk whose syncs complete one by one, when the test allows it.
struct Disk {
    allowed: mpsc::Receiver<()>,
    synced: mpsc::SyncSender<()>,
    full: Arc<AtomicBool>,
    purged: Arc<Mutex<Vec<LogId>>>,
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

    fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        self.purged.lock().unwrap().push(upto);
        Ok(())
    }

    fn reader(&self) -> Box<dyn LogReader> {
        Box::new(NoReader)
    }

    fn note_seen(&mut self, _: &BTreeMap<NodeId, Seen>) {}
}

struct NoReader;

impl LogReader for NoReader {
    fn read(&self, after: Index, upto: Index, _: u64) -> Result<Vec<Entry>, StorageError> {
        Err(StorageError::OutOfRange { after, upto })
    }
}

/// Node 1 of three, in term 1, behind a snapshot of one entry.
struct World {
    node: Addr<Node>,
    standing: Arc<Standing>,
    snapshots: SnapshotStore,
    /// What the snapshots are on.
    disk: FaultyDisk,
    /// Lets one sync complete.
    allow: mpsc::SyncSender<()>,
    /// Hears that a sync has begun.
    syncing: mpsc::Receiver<()>,
    full: Arc<AtomicBool>,
    purged: Arc<Mutex<Vec<LogId>>>,
    /// The content that the next restoring finds.
    content: mpsc::SyncSender<kv::Store>,
    lines: peers::Lines,
    requests: u64,
}

type Reply = oneshot::Receiver<Result<Bytes, Refusal>>;

/// The members 1 to 3, which vote.
fn membership() -> Membership {
    let member = |n| Member { name: format!("raft-{n}"), address: format!("h{n}:1") };
    Membership::of_voters((1..=3).map(|n| (NodeId(n), member(n))).collect())
}

/// The put that stands at this index, of a key that is called like it.
fn put(index: u64) -> Command {
    let (key, value) = (Bytes::from(index.to_string()), Bytes::from_static(b"value"));
    let operation = Operation::Put { key, value };
    Command::Write(Write { session: 2, serial: index, answered_below: index, operation })
}

/// The state behind `last`: the members, a session, and puts.
fn store_at(last: LogId) -> kv::Store {
    let mut store = kv::Store::new();
    store.apply_membership(LogId::new(1, 1), &Arc::new(membership()));
    for index in 2..=last.index.0 {
        let at = LogId { term: last.term, index: Index(index) };
        let command = if index == 2 { Command::OpenSession } else { put(index) };
        store.apply(at, Some(&command));
    }
    store
}

fn meta(last: LogId) -> SnapshotMeta {
    SnapshotMeta { last, membership: Arc::new(membership()), membership_index: Index(1) }
}

/// A directory of snapshots in memory.
fn snapshots(disk: &FaultyDisk) -> SnapshotStore {
    let directory = DataDir::open(disk.fs(), Path::new("/data"), "raft-1").unwrap();
    directory.write_cluster(CLUSTER).unwrap();
    directory.snapshots().clone()
}

impl World {
    fn new() -> World {
        World::with(SnapshotPolicy::default(), Options::default())
    }

    fn with(policy: SnapshotPolicy, options: Options) -> World {
        let (allow, allowed) = mpsc::sync_channel(64);
        let (synced, syncing) = mpsc::sync_channel(64);
        let (content, contents) = mpsc::sync_channel(8);
        let (full, purged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let disk = Disk { allowed, synced, full: Arc::clone(&full), purged: Arc::clone(&purged) };

        let first = LogId::new(1, 1);
        let restored = Restored {
            hard_state: HardState { term: Term(1), vote: None },
            log: LogShape::new(first),
            memberships: Vec::new(),
            snapshot: Some(meta(first)),
            applied: first.index,
            boot: Boot(1),
            seen: BTreeMap::new(),
            reached: first.index,
        };
        let farewell = options.election_ticks.1;
        let mut core = raft::Node::new(NodeId(1), options, 7, restored);
        for peer in [2, 3] {
            let effects = core.greeted(NodeId(peer));
            assert_eq!(effects, raft::Effects::default());
        }
        let store = store_at(first);
        let own = Own { name: "raft-1".to_owned(), node_id: NodeId(1), boot: Boot(1) };
        let standing = Standing::new(own, store.view(), store.state_hash());
        let log = LogSource::start(Box::new(NoReader), first.index, 1 << 20).unwrap();
        let context = Context::<Node>::new();
        let node = context.address();
        let reports = node.clone().recipient::<DiskReported>();
        let report = move |event| reports.deliver(DiskReported(event));
        let disk = DiskThread::start(Box::new(disk), report).unwrap();
        let contents = Mutex::new(contents);
        let neighbours = applier::Neighbours {
            applied: node.clone().recipient(),
            froze: node.clone().recipient(),
            // An error says that the test has ended.
            load: Arc::new(move || Ok(contents.lock().unwrap().recv().unwrap_or_default())),
        };
        let applier = Applier::new(store, log.clone(), Arc::clone(&standing), neighbours).start();
        let storage = Storage::new(disk).start();
        let faulty = FaultyDisk::new();
        let snapshots = snapshots(&faulty);
        let reports = node.clone().recipient::<SnapshotReported>();
        let report = move |taking| reports.deliver(SnapshotReported(taking));
        let taker = Taker::start(snapshots.clone(), CLUSTER, report).unwrap();
        let desk = Desk::new(policy, taker, snapshots.clone(), first.index, first.index);
        let receiver = Receiver::start(snapshots.clone(), Arc::clone(&standing)).unwrap();
        let lines = peers::Lines::default();
        let peers = Peers::new(NodeId(1), farewell, lines.starter());
        let seats = Seats::new(CLUSTER, SeatOptions::default());
        let steward = Steward::new(seats, Duration::from_millis(10), Box::new(|_, _| {}));
        let went_back = Box::new(|_, _| {});
        let neighbours = Neighbours { storage, applier, peers, steward, desk, receiver, went_back };
        let ticks = NewestTick::default();
        context.run(Node::new(core, log, Arc::clone(&standing), ticks, neighbours));
        World {
            node,
            standing,
            snapshots,
            disk: faulty,
            allow,
            syncing,
            full,
            purged,
            content,
            lines,
            requests: 0,
        }
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
        let entry = Entry { id: LogId::new(term, 2), payload: Payload::Noop };
        self.append_behind(LogId::new(1, 1), vec![entry], Index::ZERO)
    }

    /// Entries behind `base`, of the term of the last one.
    fn append_behind(&mut self, base: LogId, entries: Vec<Entry>, commit: Index) -> Reply {
        let term = entries.last().map_or(base.term, |entry| entry.id.term);
        self.ask(2, term.0, Message::Append(Append { base, commit, entries }))
    }

    /// Lets the next syncs complete at once.
    fn allow_syncs(&self, count: usize) {
        for _ in 0..count {
            self.allow.send(()).unwrap();
        }
    }

    /// Waits until the disk has a sync under way that is not allowed to complete yet.
    async fn sync_begins(&self) {
        eventually("a sync begins", || self.syncing.try_recv().is_ok()).await;
    }

    async fn applied(&self, index: u64) {
        let applied = || self.standing.content().view.applied() == Index(index);
        eventually(&format!("{index} is applied"), applied).await;
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn answered(reply: Reply) -> Bytes {
    timeout(SOON, reply).await.expect("in time").expect("answered").expect("not refused")
}

async fn refused(reply: Reply) -> Refusal {
    timeout(SOON, reply).await.expect("in time").expect("answered").expect_err("refused")
}

async fn still_waits(reply: &mut Reply) -> bool {
    timeout(A_WHILE, reply).await.is_err()
}
