//! Collects what was counted, asks the node how it is, and makes the text that is scraped, for
//! `/metrics` and `Node.Metrics` alike. Everything is observed from outside: nobody waits for the
//! collector, and what it cannot find out in time is missing from the text.
//!
//! It lives on an arbiter of its own, with the page's listener, so that neither scrapers nor a volume
//! that hangs take anything from the node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_rt::ArbiterHandle;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::codec::api::{Code, MetricsReply, Refusal};
use crate::metrics::report::CONTENT_TYPE;
use crate::metrics::{Metric, Report, process};
use crate::raft::{Membership, NodeStatus};
use crate::rpc::{DatedKind, Making, Meter, Page, Responder, Tls};
use crate::storage::{Usage, usage};

use super::gate::Gate;
use super::messages::Status;
use super::node::Node;
use super::replies::unready;
use super::standing::Standing;

/// A text that was made within this time is good for whoever asks.
const FRESH: Duration = Duration::from_millis(200);

/// How long the node may take to answer, and the volume.
const PATIENCE: Duration = Duration::from_secs(1);

/// The shortest time over which the saturation is measured.
const WINDOW: Duration = Duration::from_secs(10);

/// `Node.Metrics` answered at once; further ones are refused as busy.
const QUESTIONS_MAX: usize = 8;

/// Looks at a volume, on a thread that may hang with it. The answer goes nowhere if nobody waits any more.
type Look = oneshot::Sender<std::io::Result<Usage>>;

/// See the module.
pub struct Collector {
    standing: Arc<Standing>,
    tls: Arc<Tls>,
    meter: Arc<Meter>,
    gate: Arc<Gate>,
    node: ArcSwapOption<Addr<Node>>,
    volume: SyncSender<Look>,
    arbiter: ArbiterHandle,
    started: f64,
    saturation: Mutex<Saturation>,
    questions: Arc<Semaphore>,
    /// Held while a text is made.
    made: tokio::sync::Mutex<Option<(Instant, Bytes)>>,
}

impl Collector {
    /// A collector for the process that works in this directory. Called on the arbiter where the node
    /// will live, whose thread is watched.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        standing: Arc<Standing>,
        tls: Arc<Tls>,
        meter: Arc<Meter>,
        gate: Arc<Gate>,
        directory: &Path,
        arbiter: ArbiterHandle,
    ) -> std::io::Result<Arc<Collector>> {
        Ok(Arc::new(Collector {
            standing,
            tls,
            meter,
            gate,
            node: ArcSwapOption::empty(),
            volume: watch_volume(directory.to_owned())?,
            arbiter,
            started: process::unix_now(),
            saturation: Mutex::new(Saturation::of(process::own_thread())),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            made: tokio::sync::Mutex::default(),
        }))
    }

    /// The node has become a member.
    pub fn joined(&self, node: Addr<Node>) {
        self.node.store(Some(Arc::new(node)));
    }

    /// Answers `Node.Metrics`.
    pub fn answer(self: &Arc<Self>, reply: Responder) {
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
            let message = "as many ask for metrics as may at once; try again";
            return reply.refuse(Refusal::new(Code::Busy, message));
        };
        let collector = Arc::clone(self);
        // False only if the process is ending; then the call is answered with its connection.
        self.arbiter.spawn(async move {
            let _permit = permit;
            let text = String::from_utf8_lossy(&collector.text().await).into_owned();
            reply.send(&MetricsReply { name: collector.standing.own.name.clone(), text });
        });
    }

    /// The text, at most [`FRESH`] old.
    async fn text(&self) -> Bytes {
        let mut made = self.made.lock().await;
        match &*made {
            Some((when, text)) if when.elapsed() < FRESH => text.clone(),
            _ => {
                let text = Bytes::from(self.collect().await.text());
                *made = Some((Instant::now(), text.clone()));
                text
            }
        }
    }

    async fn collect(&self) -> Report {
        let mut report = Report::default();
        let (status, usage) = tokio::join!(self.ask_node(), self.ask_volume());
        report.labelled(Metric::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1);
        let answer = status.as_ref().map(|(status, _)| status);
        self.of_cluster(&mut report, answer);
        self.of_writes(&mut report);
        self.of_snapshots(&mut report);
        self.of_store(&mut report);
        self.of_connections(&mut report);
        self.of_certificates(&mut report);
        if let Some((_, took)) = status {
            report.labelled(Metric::MailboxDelay, &["node"], took.as_secs_f64());
        }
        if let Some(backlog) = &*self.standing.meters.backlog.load() {
            report.labelled(Metric::MailboxDepth, &["storage"], backlog.waiting());
        }
        if let Some(usage) = usage {
            report.add(Metric::WalBytes, usage.log_bytes);
            report.add(Metric::DiskFree, usage.free_bytes);
        }
        self.of_process(&mut report);
        report
    }

    /// The node's state, and how long it took to tell it. None if it is no member yet, or too busy.
    async fn ask_node(&self) -> Option<(NodeStatus, Duration)> {
        let node = self.node.load_full()?;
        let begun = Instant::now();
        let status = timeout(PATIENCE, node.send(Status)).await.ok()?.ok()?;
        Some((status, begun.elapsed()))
    }

    async fn ask_volume(&self) -> Option<Usage> {
        let (look, seen) = oneshot::channel();
        // Full: the looks before this one still wait for the volume.
        self.volume.try_send(look).ok()?;
        timeout(PATIENCE, seen).await.ok()?.ok()?.ok()
    }

    fn of_cluster(&self, report: &mut Report, status: Option<&NodeStatus>) {
        let present = self.standing.present();
        let soft_state = present.soft_state;
        report.add(Metric::Ready, unready(&self.standing, status).is_none());
        report.add(Metric::HasLeader, soft_state.leader.is_some());
        report.add(Metric::IsLeader, present.leads());
        report.add(Metric::Term, soft_state.term.0);
        report.add(Metric::LeaderChanges, self.standing.meters.leader_changes.read());
        let membership = &present.membership;
        let voters = membership.voters.len() as u64;
        report.labelled(Metric::Members, &["voter"], voters);
        let learners = membership.members.keys().filter(|id| !membership.voters.contains(id));
        report.labelled(Metric::Members, &["learner"], learners.count() as u64);
        report.add(Metric::AppliedIndex, self.standing.content().view.applied().0);
        if let Some(status) = status {
            report.add(Metric::LastLogIndex, status.last.index.0);
            report.add(Metric::CommitIndex, status.commit.0);
            report.add(Metric::SnapshotIndex, status.snapshot.index.0);
        }
        self.of_peers(report, membership, status);
    }

    fn of_peers(&self, report: &mut Report, membership: &Membership, status: Option<&NodeStatus>) {
        // While a seat changes hands two of its nodes may be members: the newer one, which answers, counts.
        let mut seats: BTreeMap<&str, (bool, Option<Duration>, Option<u64>)> = BTreeMap::new();
        let leads = self.standing.present().leads();
        for (id, member) in &membership.members {
            if *id == self.standing.own.node_id {
                continue;
            }
            let meter = self.standing.meters.of_peer(*id);
            let connected = meter.as_ref().is_some_and(|meter| meter.is_connected());
            let rtt = meter.and_then(|meter| meter.rtt()).filter(|_| leads);
            let lag = status.and_then(|status| {
                let peer = status.peers.iter().find(|peer| peer.id == *id)?;
                Some(status.last.index.0.saturating_sub(peer.matched.0))
            });
            let seen = (connected, rtt, lag);
            let seat = seats.entry(member.name.as_str()).or_insert(seen);
            if connected && !seat.0 {
                *seat = seen;
            }
        }
        for (name, (connected, rtt, lag)) in seats {
            report.labelled(Metric::PeerConnected, &[name], connected);
            if let Some(rtt) = rtt {
                report.labelled(Metric::PeerRtt, &[name], rtt.as_secs_f64());
            }
            if let Some(lag) = lag {
                report.labelled(Metric::PeerLag, &[name], lag);
            }
        }
    }

    fn of_writes(&self, report: &mut Report) {
        let meters = &self.standing.meters;
        let (pending, failed) = self.gate.writes();
        report.add(Metric::ProposalsCommitted, meters.committed.read());
        report.add(Metric::ProposalsApplied, meters.applied.read());
        report.add(Metric::ProposalsPending, pending);
        report.add(Metric::ProposalsFailed, failed);
        report.add(Metric::WalFsync, meters.wal_fsync.read());
        report.add(Metric::Apply, meters.apply.read());
        report.add(Metric::Commit, meters.commit.read());
    }

    fn of_snapshots(&self, report: &mut Report) {
        let counts = self.standing.snapshots.read();
        report.labelled(Metric::Snapshots, &["taken"], counts.taken);
        report.labelled(Metric::Snapshots, &["failed"], self.standing.snapshots.failures());
        report.labelled(Metric::Snapshots, &["installed"], counts.installed);
        if counts.taken > 0 {
            let took = Duration::from_millis(counts.last_ms);
            report.add(Metric::SnapshotDuration, took.as_secs_f64());
        }
        if counts.last_bytes > 0 {
            report.add(Metric::SnapshotBytes, counts.last_bytes);
        }
    }

    fn of_store(&self, report: &mut Report) {
        let content = self.standing.content();
        report.add(Metric::DbBytes, content.view.bytes());
        report.add(Metric::DbKeys, content.view.len() as u64);
        report.add(Metric::Sessions, self.standing.meters.sessions.load(Ordering::Relaxed));
    }

    fn of_connections(&self, report: &mut Report) {
        for (role, count) in self.meter.connections() {
            report.labelled(Metric::Connections, &[role.word()], count);
        }
        for (reason, count) in self.meter.refusals() {
            report.labelled(Metric::Refused, &[reason.word()], count);
        }
        for (method, code, count) in self.meter.calls() {
            report.labelled(Metric::Requests, &[method, code], count);
        }
        for (method, took) in self.meter.durations() {
            report.labelled(Metric::RequestDuration, &[method.name()], took);
        }
    }

    fn of_certificates(&self, report: &mut Report) {
        let mut first: BTreeMap<DatedKind, i64> = BTreeMap::new();
        for dated in self.tls.dates() {
            let end = first.entry(dated.kind).or_insert(dated.until);
            *end = dated.until.min(*end);
        }
        for (kind, end) in first {
            // Before 1970 nothing of ours ended.
            let end = u64::try_from(end).unwrap_or(0);
            report.labelled(Metric::CertNotAfter, &[kind.word()], end);
        }
        report.labelled(Metric::CertReloads, &["loaded"], self.tls.reloads());
        report.labelled(Metric::CertReloads, &["refused"], self.tls.refused_reloads());
    }

    fn of_process(&self, report: &mut Report) {
        let mut saturation = self.saturation.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = saturation.read() {
            report.add(Metric::LoopSaturation, share);
        }
        let seen = process::Process::read();
        for (metric, value) in [
            (Metric::ResidentMemory, seen.resident_bytes),
            (Metric::OpenFds, seen.open_fds),
            (Metric::MaxFds, seen.max_fds),
        ] {
            if let Some(value) = value {
                report.add(metric, value);
            }
        }
        if let Some(seconds) = seen.cpu_seconds {
            report.add(Metric::CpuSeconds, seconds);
        }
        report.add(Metric::StartTime, self.started);
    }
}

/// The text as a page; a handle, so that making it outlives whoever asked.
pub struct MetricsPage(pub Arc<Collector>);

impl Page for MetricsPage {
    fn media_type(&self) -> &'static str {
        CONTENT_TYPE
    }

    fn make(&self) -> Making {
        let collector = Arc::clone(&self.0);
        Box::pin(async move { collector.text().await })
    }
}

/// A thread that looks at the volume when it is asked to.
fn watch_volume(directory: PathBuf) -> std::io::Result<SyncSender<Look>> {
    let (asking, looks) = sync_channel::<Look>(1);
    std::thread::Builder::new().name("volume".to_owned()).spawn(move || {
        for look in looks {
            // Whoever asked may have lost patience.
            let _ = look.send(usage(&directory));
        }
    })?;
    Ok(asking)
}

/// How busy one thread is, over the time since a reading that is at least [`WINDOW`] old where there is one.
struct Saturation {
    thread: u64,
    /// The readings from which the next shares are counted: the older one is used, the younger one
    /// takes its place when it is old enough.
    older: (Instant, Option<Duration>),
    younger: (Instant, Option<Duration>),
}

impl Saturation {
    fn of(thread: u64) -> Saturation {
        let reading = (Instant::now(), process::wanted(thread));
        Saturation { thread, older: reading, younger: reading }
    }

    fn read(&mut self) -> Option<f64> {
        self.share(Instant::now(), process::wanted(self.thread))
    }

    fn share(&mut self, now: Instant, wanted: Option<Duration>) -> Option<f64> {
        if now.duration_since(self.younger.0) >= WINDOW {
            self.older = std::mem::replace(&mut self.younger, (now, wanted));
        }
        let (since, before) = self.older;
        let span = now.duration_since(since);
        let busy = wanted?.checked_sub(before?)?;
        // The two clocks are not read at the same moment.
        (!span.is_zero()).then(|| (busy.as_secs_f64() / span.as_secs_f64()).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_saturation_is_measured_over_a_while() {
        let start = Instant::now();
        let zero = (start, Some(Duration::ZERO));
        let mut saturation = Saturation { thread: 0, older: zero, younger: zero };
        let mut share = |at: u64, busy: u64| {
            let at = start + Duration::from_secs(at);
            saturation.share(at, Some(Duration::from_secs(busy)))
        };
        assert_eq!(share(0, 0), None, "no time has passed");
        assert_eq!(share(4, 1), Some(0.25));
        assert_eq!(share(10, 5), Some(0.5), "since the start");
        assert_eq!(share(14, 7), Some(0.5), "still since the start, 14 s");
        assert_eq!(share(20, 15), Some(1.0), "since the reading at 10 s");
        assert_eq!(share(50, 15), Some(0.0), "since the reading at 20 s");
        assert_eq!(saturation.share(start + Duration::from_secs(60), None), None);
    }
}
