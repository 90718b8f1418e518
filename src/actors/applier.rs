//! The applier: the sole owner of the key/value state machine. It applies committed entries in order,
//! answers the writes and linearizable reads that wait for them, and publishes the map for local reads.
//!
//! A snapshot from a leader replaces all of it: the new content is read and checked on a thread of its
//! own, and meanwhile nothing is applied and linearizable reads wait. Content for a snapshot of the
//! node's own is frozen here, in constant time, and written elsewhere.
//!
//! What when full? It is given only what is committed; the node stops admitting proposals while the
//! applier lags too far behind ([`APPLIED_LAG_MAX`](super::node::APPLIED_LAG_MAX)), and nothing is ever
//! dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use actix::prelude::*;

use crate::codec;
use crate::codec::api::{Code, GetReply, KeyValue, RangeReply, Refusal, WriteReply};
use crate::kv::{self, View, limits};
use crate::raft::{Entry, Index, Payload, SnapshotMeta};
use crate::storage::StorageError;

use super::deliver::Deliver;
use super::fatal;
use super::log_source::LogSource;
use super::messages::{
    Applied, Apply, Freeze, Froze, Read, ReadArgs, RefuseReads, Restore, ServeReads, Waiter,
};
use super::standing::{Content, Standing};

/// Bytes of entries applied in one turn, so that other work of the arbiter gets its share.
const TURN_BYTES: u64 = 1 << 20;

/// Reads the current snapshot. Called on a thread of its own.
pub type Load = Arc<dyn Fn() -> Result<kv::Store, StorageError> + Send + Sync>;

/// What the applier talks to.
pub struct Neighbours {
    /// Hears what is applied.
    pub applied: Recipient<Applied>,
    /// Takes frozen content.
    pub froze: Recipient<Froze>,
    /// Where a restored content comes from.
    pub load: Load,
}

/// See the module.
pub struct Applier {
    store: kv::Store,
    log: LogSource,
    standing: Arc<Standing>,
    neighbours: Neighbours,
    /// Apply up to here.
    target: Index,
    /// Who waits for which entry, in order.
    waiters: VecDeque<(Index, Waiter)>,
    /// Reads that wait for an index to be applied.
    reads: BTreeMap<Index, Vec<Read>>,
    /// A turn is scheduled or a read from the disk is under way.
    busy: bool,
    /// This snapshot takes the content's place; until it has, nothing is applied.
    restoring: Option<SnapshotMeta>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Turn;

/// The content of the current snapshot. Loading thread → applier, once for each restoring.
#[derive(Message)]
#[rtype(result = "()")]
struct Loaded(Result<Box<kv::Store>, StorageError>);

impl Applier {
    /// An applier over a store that has applied nothing, or what its snapshot holds.
    #[must_use]
    pub fn new(
        store: kv::Store,
        log: LogSource,
        standing: Arc<Standing>,
        neighbours: Neighbours,
    ) -> Applier {
        let target = store.applied();
        standing.meters.sessions.store(store.sessions_held() as u64, Ordering::Relaxed);
        standing.agreement.note(&[(target, store.state_hash())]);
        Applier {
            store,
            log,
            standing,
            neighbours,
            target,
            waiters: VecDeque::new(),
            reads: BTreeMap::new(),
            busy: false,
            restoring: None,
        }
    }

    fn turn(&mut self, ctx: &mut Context<Self>) {
        let applied = self.store.applied();
        if applied >= self.target || self.restoring.is_some() {
            self.busy = false;
            return;
        }
        self.busy = true;
        if let Some(entries) = self.log.read_recent(applied, self.target, TURN_BYTES) {
            self.apply(entries);
            self.next_turn(ctx);
            return;
        }
        let (log, target) = (self.log.clone(), self.target);
        let reading = async move { log.read(applied, target, TURN_BYTES).await };
        ctx.spawn(reading.into_actor(self).map(move |entries, applier, ctx| {
            match entries {
                // A snapshot takes their place, or has.
                _ if applier.restoring.is_some() || applier.store.applied() != applied => {}
                Ok(entries) => applier.apply(entries),
                // A snapshot is about to; its content comes with `Restore`, and the turns go on then.
                Err(_) if applier.log.is_replaced(applied.next()) => {
                    applier.busy = false;
                    return;
                }
                // Committed entries cannot be truncated (S10); what is missing or unreadable is damage.
                Err(error) => fatal::storage(&error),
            }
            applier.next_turn(ctx);
        }));
    }

    fn next_turn(&mut self, ctx: &mut Context<Self>) {
        if self.store.applied() < self.target {
            ctx.notify(Turn);
        } else {
            self.busy = false;
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        let begun = Instant::now();
        self.standing.meters.applied.add(entries.len() as u64);
        let mut answers = Vec::new();
        let bytes = entries.iter().map(|entry| u64::from(entry.payload.size())).sum();
        let mut hashes = Vec::with_capacity(entries.len());
        for entry in entries {
            let waiter = match self.waiters.front() {
                Some((index, _)) if *index == entry.id.index => self.waiters.pop_front(),
                _ => None,
            };
            let applied = match &entry.payload {
                Payload::Command(bytes) => {
                    // Undecodable bytes are answered the same way on every node (S16).
                    let command = codec::decode_command(bytes).ok();
                    Some(self.store.apply(entry.id, command.as_ref()))
                }
                Payload::Membership(membership) => {
                    self.store.apply_membership(entry.id, membership);
                    None
                }
                Payload::Noop => {
                    self.store.skip(entry.id);
                    None
                }
            };
            hashes.push((entry.id.index, self.store.state_hash()));
            if let (Some((_, waiter)), Some(applied)) = (waiter, applied) {
                answers.push((waiter, applied));
            }
        }
        self.standing.agreement.note(&hashes);
        self.publish();
        let now = Instant::now();
        self.standing.meters.apply.observe(now.duration_since(begun));
        let from = self.standing.answerer();
        let withheld = self.standing.agreement.withheld();
        for (mut waiter, applied) in answers {
            waiter.reply.answered_at(now);
            match &withheld {
                None => waiter.reply.send(&WriteReply { applied, from: from.clone() }),
                // It is committed; what it did is what the nodes disagree about.
                Some(why) => waiter.refuse(Refusal::new(Code::Unknown, &**why)),
            }
        }
        self.serve_reads();
        self.report(bytes);
    }

    fn publish(&self) {
        let (view, state_hash) = (self.store.view(), self.store.state_hash());
        self.standing.publish_content(Content { view, state_hash });
        let sessions = self.store.sessions_held() as u64;
        self.standing.meters.sessions.store(sessions, Ordering::Relaxed);
    }

    fn report(&self, bytes: u64) {
        // One for each turn, and turns are bounded by what is committed; the node must hear it.
        self.neighbours.applied.deliver(Applied { upto: self.store.applied(), bytes });
    }

    /// Reads the current snapshot on a thread of its own.
    fn load(&self, ctx: &mut Context<Self>) {
        let (load, own) = (Arc::clone(&self.neighbours.load), ctx.address());
        let loading =
            std::thread::Builder::new().name("snapshot-load".to_owned()).spawn(move || {
                let loaded = load().map(Box::new);
                // One for each restoring; without it nothing would ever be applied again.
                own.deliver(Loaded(loaded));
            });
        if let Err(source) = loading {
            let (action, path) = ("starting a thread for", "the snapshot".to_owned());
            fatal::storage(&StorageError::Io { action, path, source });
        }
    }

    /// Takes over a snapshot's content.
    fn take_over(&mut self, store: kv::Store, ctx: &mut Context<Self>) {
        let Some(wanted) = self.restoring.take() else { return };
        assert!(store.applied() >= wanted.last.index, "the snapshot that was installed (L8)");
        let former = std::mem::replace(&mut self.store, store);
        let applied = self.store.applied();
        self.target = self.target.max(applied);
        let behind = self.waiters.partition_point(|(index, _)| *index <= applied);
        for (_, waiter) in self.waiters.drain(..behind) {
            // Its entry was committed, but what it answered stands only in the sessions now (C5).
            waiter.overtaken();
        }
        tracing::info!(last = %wanted.last, %applied, "state replaced by a snapshot");
        self.standing.snapshots.installed();
        self.standing.agreement.note(&[(applied, self.store.state_hash())]);
        self.publish();
        release(former);
        self.serve_reads();
        self.report(0);
        if !self.busy {
            self.turn(ctx);
        }
    }

    fn serve_reads(&mut self) {
        let waiting = self.reads.split_off(&self.store.applied().next());
        let ready = std::mem::replace(&mut self.reads, waiting);
        if ready.is_empty() {
            return;
        }
        let (view, now) = (self.store.view(), Instant::now());
        for mut read in ready.into_values().flatten() {
            read.waiter.reply.answered_at(now);
            answer_read(&self.standing, &view, read, false);
        }
    }
}

/// Gives a content back that was replaced, on a thread of its own: with many keys that takes longer than
/// the connections of this arbiter, heartbeats among them, can be kept waiting.
fn release(former: kv::Store) {
    let releasing =
        std::thread::Builder::new().name("snapshot-drop".to_owned()).spawn(move || drop(former));
    if let Err(error) = releasing {
        tracing::warn!(%error, "no thread to release the former state; it was done at once");
    }
}

/// Answers one read from a view of the map; `local` says in the answer that it may be stale (R4).
pub fn answer_read(standing: &Standing, view: &View, read: Read, local: bool) {
    if let Some(refusal) = standing.agreement.refusal() {
        return read.waiter.refuse(refusal);
    }
    let from = standing.answerer();
    let (revision, index) = (view.revision(), view.applied().0);
    let Read { args, waiter } = read;
    match args {
        ReadArgs::Get(args) => {
            let found = view.get(&args.key).map(|entry| key_value(args.key.clone(), entry));
            waiter.reply.send(&GetReply { found, revision, index, local, from });
        }
        ReadArgs::Range(args) => {
            let wanted = if args.limit == 0 { limits::PAGE_ENTRIES_MAX } else { args.limit };
            let limit = wanted.min(limits::PAGE_ENTRIES_MAX) as usize;
            let (page, next) =
                view.range(&args.from, args.to.as_deref(), limit, limits::PAGE_BYTES_MAX);
            let entries = page.into_iter().map(|(key, entry)| key_value(key, &entry)).collect();
            waiter.reply.send(&RangeReply { entries, next, revision, index, local, from });
        }
    }
}

/// A key's entry as it travels.
#[must_use]
pub fn key_value(key: bytes::Bytes, entry: &kv::command::Versioned) -> KeyValue {
    KeyValue {
        key,
        value: entry.value.clone(),
        create_revision: entry.create_revision,
        mod_revision: entry.mod_revision,
        version: entry.version,
    }
}

impl Actor for Applier {
    type Context = Context<Self>;
}

impl Handler<Apply> for Applier {
    type Result = ();

    fn handle(&mut self, message: Apply, ctx: &mut Self::Context) {
        assert!(message.upto >= self.target, "the commit index never goes back (S6)");
        let meters = &self.standing.meters;
        meters.committed.add(message.upto.0 - self.target.0);
        if !message.waiters.is_empty() {
            let now = Instant::now();
            for (_, waiter) in &message.waiters {
                let arrived = waiter.reply.received();
                meters.commit.observe(now.saturating_duration_since(arrived));
            }
        }
        self.target = message.upto;
        self.waiters.extend(message.waiters);
        if !self.busy {
            self.turn(ctx);
        }
    }
}

impl Handler<Turn> for Applier {
    type Result = ();

    fn handle(&mut self, _: Turn, ctx: &mut Self::Context) {
        self.turn(ctx);
    }
}

impl Handler<ServeReads> for Applier {
    type Result = ();

    fn handle(&mut self, message: ServeReads, _: &mut Self::Context) {
        if message.index <= self.store.applied() {
            let (view, now) = (self.store.view(), Instant::now());
            for mut read in message.reads {
                read.waiter.reply.answered_at(now);
                answer_read(&self.standing, &view, read, false);
            }
        } else {
            self.reads.entry(message.index).or_default().extend(message.reads);
        }
    }
}

impl Handler<RefuseReads> for Applier {
    type Result = ();

    fn handle(&mut self, _: RefuseReads, _: &mut Self::Context) {
        for read in self.reads.split_off(&self.target.next()).into_values().flatten() {
            read.waiter.refuse(self.standing.not_leader());
        }
    }
}

impl Handler<Restore> for Applier {
    type Result = ();

    fn handle(&mut self, message: Restore, ctx: &mut Self::Context) {
        let Restore(snapshot) = message;
        if snapshot.last.index <= self.store.applied() {
            // What was loaded for the one before was this one already.
            return;
        }
        let loads = self.restoring.is_some();
        self.restoring = Some(snapshot);
        if !loads {
            self.load(ctx);
        }
    }
}

impl Handler<Loaded> for Applier {
    type Result = ();

    fn handle(&mut self, message: Loaded, ctx: &mut Self::Context) {
        match message.0 {
            // Another one was installed while this one was being read.
            Ok(store)
                if self.restoring.as_ref().is_some_and(|it| it.last.index > store.applied()) =>
            {
                self.load(ctx);
            }
            Ok(store) => self.take_over(*store, ctx),
            Err(error) => fatal::storage(&error),
        }
    }
}

impl Handler<Freeze> for Applier {
    type Result = ();

    fn handle(&mut self, _: Freeze, _: &mut Self::Context) {
        // One for each `Freeze`, behind the `Applied` of what it holds.
        self.neighbours.froze.deliver(Froze(self.store.freeze()));
    }
}
