//! The supervisor: starts everything in order, watches the actors that must live, and ends the process
//! in order.
//!
//! | arbiter | actors | why there |
//! |---|---|---|
//! | main | supervisor, founder, node, storage, replicators, auditor | one turn of the core and what it causes |
//! | serving | RPC listener, connections, applier | bytes, TLS, and the answers that go out there |
//! | timer | election timer | nothing may starve it |
//! | metrics | collector, the listener for scrapers | they may take nothing from the others |
//!
//! Besides the arbiters there are the disk thread, the log reader's, and those of snapshots: one that
//! takes them, one that receives them, one for each that is sent or loaded, and one for each state that a
//! loaded one replaces; and one that asks the volume how full it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_rt::ArbiterHandle;

use crate::config::{NodeConfig, OnDamage};
use crate::exit::Exit;
use crate::kv;
use crate::raft::{self, ClusterId, Restored, RoleKind, SeatOptions, Seats};
use crate::rpc::Dialer;
use crate::storage::{Batch, DataDir, LogOptions, LogStore, RestoredLog, StorageError};

use super::applier::{self, Applier};
use super::auditor::Auditor;
use super::deliver::Deliver;
use super::disk_thread::DiskThread;
use super::election_timer::{ElectionTimer, NewestTick};
use super::fatal;
use super::founder::Founded;
use super::inquirer::Inquirer;
use super::leave::stay_while_needed;
use super::log_source::LogSource;
use super::membership::{Steward, asking};
use super::messages::{
    DiskReported, FinishDisk, HandOver, SnapshotReported, StartOver, Stop, TakenIn,
};
use super::meters::TimedLog;
use super::node::{Neighbours, Node};
use super::peers::{Line, Peers};
use super::replicator::{Common, Patience, Replicator};
use super::rpc_listener::{RpcListener, StopAccepting};
use super::service::{Member, NodeService};
use super::snapshot_desk::Desk;
use super::snapshot_load::current;
use super::snapshot_receiver::Receiver;
use super::snapshot_taker::Taker;
use super::standing::{Content, Present, Standing};
use super::start_over::{start_over, when_gone_back};
use super::storage::Storage;

/// Bytes of recent entries kept in memory for replication and applying.
const RECENT_BYTES: u64 = 64 << 20;

/// How often the actors that must live are looked at.
const WATCH: Duration = Duration::from_millis(500);

/// How often a stopping leader looks whether another one leads.
const LOOK: Duration = Duration::from_millis(5);

/// How long a node that starts over lets its calls end.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long a stop waits for the disk.
const DISK_END: Duration = Duration::from_secs(10);

/// What the supervisor needs to start the member's actors.
pub struct Plan {
    /// The options.
    pub config: NodeConfig,
    /// The data directory, locked.
    pub directory: Arc<DataDir>,
    /// Makes connections to peers.
    pub dialer: Arc<Dialer>,
    /// What the node says about itself.
    pub standing: Arc<Standing>,
    /// What connections call.
    pub service: Arc<NodeService>,
    /// The RPC listener.
    pub listener: Addr<RpcListener>,
    /// Where the applier lives.
    pub serving: ArbiterHandle,
    /// Where the election timer lives.
    pub timing: ArbiterHandle,
    /// The supervisor itself.
    pub own: Addr<Supervisor>,
}

/// See the module.
pub struct Supervisor {
    plan: Plan,
    running: Option<Running>,
    stopping: bool,
}

struct Running {
    node: Addr<Node>,
    storage: Addr<Storage>,
    applier: Addr<Applier>,
    auditor: Addr<Auditor>,
    timer: Addr<ElectionTimer>,
}

impl Supervisor {
    /// A supervisor of a node whose listener is up and whose founder is at work.
    #[must_use]
    pub fn new(plan: Plan) -> Supervisor {
        Supervisor { plan, running: None, stopping: false }
    }

    /// The node is in a cluster: starts the member, once a process.
    fn begin(&mut self, cluster_id: ClusterId, first: Option<&Batch>) {
        if self.running.is_some() {
            return;
        }
        match self.start_member(cluster_id, first) {
            Ok(()) => {}
            Err(error @ StorageError::Damaged { .. })
                if self.plan.config.on_damage == OnDamage::Replace =>
            {
                tracing::error!("{error}");
                start_over(&self.plan.directory, "damaged");
            }
            Err(error) => fatal::storage(&error),
        }
    }

    /// Starts what makes a member: over the log as it is, with `first` in it if it is empty and the
    /// cluster was founded here, or with nothing if the node was taken in.
    fn start_member(
        &mut self,
        cluster_id: ClusterId,
        first: Option<&Batch>,
    ) -> Result<(), StorageError> {
        let Plan { config, directory, dialer, standing, service, serving, timing, .. } = &self.plan;
        directory.write_cluster(cluster_id)?;
        let options = LogOptions::default();
        let (mut wal, mut restored) = directory.open_log(options)?;
        if let Some(first) = first
            && restored.shape.last() == raft::LogId::ZERO
        {
            // The founding decided and is on disk; the log begins with its membership. A crash between
            // the two leads here again.
            wal.append(first)?;
            wal.sync()?;
            drop(wal);
            (wal, restored) = directory.open_log(options)?;
        }
        let RestoredLog { hard_state, shape, memberships, snapshot, seen, reached, .. } = restored;
        let store = match snapshot {
            Some(_) => current(directory.snapshots())?,
            None => kv::Store::new(),
        };
        standing.publish_content(Content { view: store.view(), state_hash: store.state_hash() });
        let own = standing.own.clone();
        tracing::info!(
            node = %own.node_id,
            cluster = %cluster_id,
            term = hard_state.term.0,
            last = %shape.last(),
            snapshot = store.applied().0,
            boot = own.boot.count(),
            "log opened"
        );
        let last = shape.last().index;
        let failed = |source| StorageError::Io {
            action: "starting a thread for",
            path: config.data_dir.display().to_string(),
            source,
        };
        let log = LogSource::start(wal.reader(), last, RECENT_BYTES).map_err(failed)?;
        let restored = Restored {
            hard_state,
            log: shape,
            memberships,
            snapshot,
            applied: store.applied(),
            boot: own.boot,
            seen,
            reached,
        };
        let core = raft::Node::new(own.node_id, config.raft, random(), restored);
        standing.note_claims(core.claims());
        standing.publish_seen(Arc::new(core.seen().clone()));
        let status = core.status();
        standing.publish(Present {
            cluster_id: Some(cluster_id),
            soft_state: status.soft_state,
            membership: Arc::new(core.membership().clone()),
            waiting: None,
        });

        let snapshots = directory.snapshots().clone();
        let election = config.tick * config.raft.election_ticks.0;
        let common = Common {
            dialer: Arc::clone(dialer),
            standing: Arc::clone(standing),
            log: log.clone(),
            snapshots: snapshots.clone(),
            start_over: self.plan.own.clone().recipient(),
            patience: Patience {
                dial: Duration::from_secs(2).max(election * 2),
                control: election,
                bulk: Duration::from_secs(2).max(election * 4),
            },
        };
        let newest_tick = NewestTick::default();
        let context = Context::<Node>::new();
        let node = context.address();
        let reports = node.clone().recipient::<DiskReported>();
        let timed = TimedLog { log: wal, meters: Arc::clone(&standing.meters) };
        let disk = DiskThread::start(Box::new(timed), move |event| {
            // One for each group of batches, and batches are bounded; the node must hear it.
            reports.deliver(DiskReported(event));
        })
        .map_err(failed)?;
        standing.meters.backlog.store(Some(disk.backlog()));
        let storage = Storage::new(disk).start();
        let (answers, gone) = (node.clone().recipient(), node.clone().recipient());
        let peers = Peers::new(own.node_id, config.raft.election_ticks.1, move |peer| {
            let (answers, gone) = (answers.clone(), gone.clone());
            Line::to(&Replicator::new(peer, common.clone(), answers, gone, random()).start())
        });
        let ticks = |time: Duration| (time.as_nanos() / config.tick.as_nanos().max(1)) as u64;
        let seats = SeatOptions {
            limit_ticks: ticks(config.seat_limit),
            retirement_ticks: ticks(config.retirement),
        };
        let inquirer = Inquirer::new(Arc::clone(dialer), Arc::clone(standing));
        let asking = asking(inquirer, node.clone().recipient());
        let steward = Steward::new(Seats::new(cluster_id, seats), config.tick, asking);
        let reports = node.clone().recipient::<SnapshotReported>();
        let taker = Taker::start(snapshots.clone(), cluster_id, move |taking| {
            // One for each snapshot; the node must hear it.
            reports.deliver(SnapshotReported(taking));
        })
        .map_err(failed)?;
        let (newest, applied) = (status.snapshot.index, status.applied);
        let desk = Desk::new(config.snapshots, taker, snapshots.clone(), newest, applied);
        let receiver = Receiver::start(snapshots.clone(), Arc::clone(standing)).map_err(failed)?;
        let (applier_log, applier_standing) = (log.clone(), Arc::clone(standing));
        let neighbours = applier::Neighbours {
            applied: node.clone().recipient(),
            froze: node.clone().recipient(),
            load: Arc::new(move || current(&snapshots)),
        };
        let applier = Applier::start_in_arbiter(serving, move |_| {
            Applier::new(store, applier_log, applier_standing, neighbours)
        });
        let neighbours = Neighbours {
            storage: storage.clone(),
            applier: applier.clone(),
            peers,
            steward,
            desk,
            receiver: receiver.clone(),
            went_back: when_gone_back(Arc::clone(standing), self.plan.own.clone().recipient()),
        };
        context.run(Node::new(
            core,
            log.clone(),
            Arc::clone(standing),
            Arc::clone(&newest_tick),
            neighbours,
        ));
        let (tick, ticks) = (config.tick, node.clone().recipient());
        let timer = ElectionTimer::start_in_arbiter(timing, move |_| ElectionTimer {
            tick,
            newest: newest_tick,
            node: ticks,
        });
        service.joined(Member { node: node.clone(), log, receiver });
        let (audited, dialer) = (Arc::clone(standing), Arc::clone(dialer));
        let start_over = self.plan.own.clone().recipient();
        let auditor = Auditor::new(config, audited, dialer, node.clone(), start_over).start();
        self.running = Some(Running { node, storage, applier, auditor, timer });
        Ok(())
    }

    fn watch(&self) {
        let Some(running) = &self.running else { return };
        let alive = [
            ("node", running.node.connected()),
            ("storage", running.storage.connected()),
            ("applier", running.applier.connected()),
            ("auditor", running.auditor.connected()),
            ("election timer", running.timer.connected()),
            ("rpc listener", self.plan.listener.connected()),
        ];
        if !self.stopping
            && let Some((name, _)) = alive.iter().find(|(_, connected)| !connected)
        {
            fatal::actor(name);
        }
    }
}

/// Waits, no longer than an election may take, until another node leads. A stop without that is safe
/// too: the others elect.
pub(super) async fn hand_over(node: &Addr<Node>, standing: &Standing, patience: Duration) {
    if !node.send(HandOver).await.unwrap_or(false) {
        return;
    }
    let handed = async {
        while standing.present().soft_state.role == RoleKind::Leader {
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(patience, handed).await {
        Ok(()) => tracing::info!("leadership handed over"),
        Err(_) => tracing::warn!("nobody took the leadership over in time"),
    }
}

/// A disk that hangs must not keep a stopping process alive for ever (A7): nothing that waits for it
/// has been said, so ending without it loses nothing.
fn limit_the_disks_end() {
    let watch = std::thread::Builder::new().name("last-watch".to_owned()).spawn(|| {
        let end = Instant::now() + DISK_END;
        // A park may end early.
        while Instant::now() < end {
            std::thread::park_timeout(end.saturating_duration_since(Instant::now()));
        }
        tracing::error!("the disk did not finish within {DISK_END:?}; the process ends without it");
        std::process::exit(Exit::Disk.code());
    });
    if let Err(error) = watch {
        tracing::warn!(%error, "the disk's end cannot be watched");
    }
}

/// A seed for what must differ between nodes and processes, such as election timeouts (E9).
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|error| {
        tracing::error!(%error, "no randomness from the operating system; the process ends");
        std::process::exit(Exit::Disk.code())
    })
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(WATCH, |supervisor, _| supervisor.watch());
        for kind in [
            tokio::signal::unix::SignalKind::terminate(),
            tokio::signal::unix::SignalKind::interrupt(),
        ] {
            let own = ctx.address();
            match tokio::signal::unix::signal(kind) {
                Ok(mut signal) => {
                    actix_rt::spawn(async move {
                        while signal.recv().await.is_some() {
                            // A full mailbox holds a stop already.
                            let _ = own.try_send(Stop { reason: "signal".into() });
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "a signal cannot be caught"),
            }
        }
    }
}

impl Handler<Founded> for Supervisor {
    type Result = ();

    fn handle(&mut self, founded: Founded, _: &mut Self::Context) {
        self.begin(founded.cluster_id, Some(&founded.first_batch()));
    }
}

impl Handler<TakenIn> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: TakenIn, _: &mut Self::Context) {
        self.begin(message.cluster_id, None);
    }
}

impl Supervisor {
    /// Gives the leadership away, answers the calls in flight and finishes the disk, in this order. A
    /// node that was asked to stop stays before that while the cluster needs it; one that starts over
    /// finishes the disk before the calls.
    fn end(&self, stays: bool) -> impl Future<Output = ()> + use<> {
        let listener = self.plan.listener.clone();
        let running = self.running.as_ref();
        let node = running.map(|running| running.node.clone());
        let storage = running.map(|running| running.storage.clone());
        let (standing, dialer) = (Arc::clone(&self.plan.standing), Arc::clone(&self.plan.dialer));
        let patience = self.plan.config.tick * self.plan.config.raft.election_ticks.1;
        async move {
            if let Some(node) = node {
                if stays {
                    stay_while_needed(&dialer, &standing).await;
                }
                hand_over(&node, &standing, patience).await;
            }
            let finish_disk = async {
                if let Some(storage) = storage {
                    limit_the_disks_end();
                    let _ = storage.send(FinishDisk).await;
                }
            };
            if stays {
                // Calls in flight are answered first; the disk goes last, so that whatever they were told
                // is on it.
                let _ = listener.send(StopAccepting).await;
                finish_disk.await;
            } else {
                // Without its disk it gives no vote, acknowledges nothing and wins no election: what it has
                // forgotten counts no longer than it must (D17).
                finish_disk.await;
                let _ = tokio::time::timeout(FAREWELL, listener.send(StopAccepting)).await;
            }
        }
    }
}

fn stop_the_process() {
    tracing::info!("stopped");
    System::current().stop_with_code(Exit::Stopped.code());
}

impl Handler<Stop> for Supervisor {
    type Result = ();

    fn handle(&mut self, stop: Stop, ctx: &mut Self::Context) {
        // Also if the node is about to begin anew: then it does not.
        self.plan.standing.note_stopping();
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        tracing::info!(reason = %stop.reason, "stopping");
        let ending = self.end(true);
        ctx.spawn(ending.into_actor(self).map(|(), _, _| stop_the_process()));
    }
}

impl Handler<StartOver> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: StartOver, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        tracing::error!(reason = %message.reason, "this node starts over, as one that lost its disk");
        let ending = self.end(false);
        ctx.spawn(ending.into_actor(self).map(move |(), supervisor, _| {
            if supervisor.plan.standing.is_stopping() {
                return stop_the_process();
            }
            start_over(&supervisor.plan.directory, &message.reason)
        }));
    }
}
