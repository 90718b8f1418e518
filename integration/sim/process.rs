//! A process: the shell around the real core, the real state machine and the real storage trait. It
//! carries out effects by the contract of `raft::effects`, in that order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use balsa::codec::command::decode_command;
use balsa::codec::snapshot::{Decoder, Encoder};
use balsa::kv::{Frozen, Store};
use balsa::raft::founding::{Answer, Founding, Letter, Record};
use balsa::raft::message::{Append, Install};
use balsa::raft::seats::Seats;
use balsa::raft::{
    Boot, ClusterId, Effects, Envelope, Index, LogId, Message, Node, NodeId, Payload, Persist,
    PersistToken, RequestId, Restored, Seen, SendRange, SendSnapshot, SnapshotMeta, Term,
};
use balsa::storage::{LogReader, LogStore, MemoryLog};
use bytes::Bytes;
use rand::Rng;

use super::client::{Request, Said};
use super::members::SEAT_OPTIONS;
use super::world::{DirId, Event, Life, SeatId, TICK, World, say};

/// A snapshot, as bytes.
pub struct Snapshot {
    pub meta: SnapshotMeta,
    pub state_hash: u64,
    pub pieces: Vec<Bytes>,
}

impl Snapshot {
    fn of(meta: &SnapshotMeta, content: Frozen) -> Snapshot {
        let state_hash = content.state_hash();
        Snapshot { meta: meta.clone(), state_hash, pieces: Encoder::new(content).collect() }
    }

    fn content(&self) -> Store {
        let mut decoder = Decoder::new();
        for piece in &self.pieces {
            decoder.push(piece).expect("a snapshot's piece is sound");
        }
        decoder.finish(&self.meta, self.state_hash).expect("a snapshot comes back whole (D14)")
    }
}

pub struct Process {
    pub seat: SeatId,
    pub dir: DirId,
    pub id: NodeId,
    pub boot: Boot,
    pub founding: Founding,
    /// Its cluster, once that is on disk.
    pub cluster: Option<ClusterId>,
    /// Founding records on their way to the disk.
    pub records: VecDeque<(balsa::raft::founding::effects::RecordToken, Record)>,
    pub record_written: balsa::raft::founding::effects::RecordToken,
    /// Letters that wait for a record.
    pub letters: Vec<(balsa::raft::founding::effects::RecordToken, Letter, SeatId, Option<Life>)>,
    pub raft: Option<Raft>,
    /// It is to stop by this moment at the latest.
    pub stopping: Option<u64>,
}

/// What a member of a cluster has besides.
pub struct Raft {
    pub core: Node,
    log: MemoryLog,
    reader: Box<dyn LogReader>,
    pub store: Store,
    written: PersistToken,
    /// The sync under way covers everything up to here.
    syncing: Option<PersistToken>,
    synced: PersistToken,
    held: Vec<(PersistToken, Envelope)>,
    /// What may be applied.
    upto: Index,
    restore: Option<SnapshotMeta>,
    applying: bool,
    snapshotting: bool,
    /// What the door goes by: what is known of each member, and the newest boot that has been here.
    pub seen: Arc<BTreeMap<NodeId, Seen>>,
    pub seats: Seats,
    /// A leader has said that this node is no member any more.
    pub removed: bool,
    pub guests: BTreeMap<NodeId, Boot>,
    /// Connections to peers that are up.
    pub links: BTreeMap<NodeId, Life>,
    pub dialing: BTreeSet<NodeId>,
    /// Who is owed the answer to which request.
    pub askers: BTreeMap<(NodeId, RequestId), Life>,
    /// Clients that wait for an entry.
    pub proposals: BTreeMap<Index, (Term, Request)>,
    /// Clients that wait for a read's index, then for its application.
    pub reads: BTreeMap<u64, Request>,
    pub parked: Vec<(Index, Request)>,
    pub next_read: u64,
}

impl Process {
    /// What it answers to those who ask who it is.
    pub fn answer(&self) -> Answer {
        let answer = self.founding.answer();
        Answer { cluster_id: answer.cluster_id.or(self.cluster), ..answer }
    }
}

impl World {
    /// Starts the core with what the directory holds.
    pub fn start_core(&mut self, life: Life) {
        let seed = self.rng.random();
        let options = self.options;
        let Some(process) = &self.lives[life.0] else { return };
        let directory = &mut self.dirs[process.dir.0];
        let cluster = directory.cluster.expect("a member has a cluster");
        let (log, restored) = MemoryLog::open(&directory.disk);
        directory.durable.compare(restored.hard_state, &restored.shape);
        directory.written.copy_from(&directory.durable);
        let snapshot = restored.snapshot.map(|meta| &self.snapshots[&meta.last]);
        let store = snapshot.map_or_else(Store::new, Snapshot::content);
        let restored = Restored {
            boot: process.boot,
            seen: restored.seen,
            reached: restored.reached,
            hard_state: restored.hard_state,
            log: restored.shape,
            memberships: restored.memberships,
            snapshot: snapshot.map(|snapshot| snapshot.meta.clone()),
            applied: store.applied(),
        };
        let seen = Arc::new(restored.seen.clone());
        let core = Node::new(process.id, options, seed, restored);
        let raft = Raft {
            core,
            reader: log.reader(),
            log,
            upto: store.applied(),
            store,
            seen,
            guests: BTreeMap::new(),
            seats: Seats::new(cluster, SEAT_OPTIONS),
            removed: false,
            written: PersistToken(0),
            syncing: None,
            synced: PersistToken(0),
            held: Vec::new(),
            restore: None,
            applying: false,
            snapshotting: false,
            links: BTreeMap::new(),
            dialing: BTreeSet::new(),
            askers: BTreeMap::new(),
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
            parked: Vec::new(),
            next_read: 0,
        };
        self.oracle.started(life, &raft.core);
        say!(self, "{life:?} begins as a member, at {}", raft.core.status().last);
        if let Some(process) = &mut self.lives[life.0] {
            process.raft = Some(raft);
        }
        self.dial_members(life);
    }

    /// Gives a core one input and carries out what it causes.
    pub fn input(&mut self, life: Life, input: impl FnOnce(&mut Node) -> Effects) {
        let Some(raft) = self.raft_mut(life) else { return };
        let effects = input(&mut raft.core);
        self.carry_out(life, effects);
    }

    pub fn raft_mut(&mut self, life: Life) -> Option<&mut Raft> {
        self.lives[life.0].as_mut()?.raft.as_mut()
    }

    /// The one function that carries out effects, in the order of their contract.
    pub fn carry_out(&mut self, life: Life, effects: Effects) {
        let Some(process) = self.process(life) else { return };
        let (id, dir) = (process.id, process.dir);
        if let Some(soft) = effects.soft_state {
            say!(self, "{life:?} is {} of term {}, leader {:?}", soft.role, soft.term, soft.leader);
            self.oracle.role(life, id, soft, &self.dirs[dir.0].written);
            self.counts.role(soft, id);
        }
        if let Some(soft) = effects.soft_state
            && soft.leader.is_some()
        {
            self.raft_mut(life).expect("it just acted").removed = false;
        }
        if let Some(membership) = &effects.membership {
            say!(self, "{life:?} has the members {membership:?}");
            self.change_interrupted(life, membership);
            self.dial_members(life);
        }
        if let Some(seen) = effects.seen {
            let raft = self.raft_mut(life).expect("it just acted");
            raft.log.note_seen(&seen);
            raft.seen = seen;
        }
        if let Some(batch) = effects.persist {
            self.write(life, dir, &batch);
        }
        for envelope in effects.send_now {
            self.departs(life, envelope);
        }
        for range in effects.replicate {
            self.read_and_send(life, range);
        }
        for send in effects.snapshots {
            self.send_snapshot(life, send);
        }
        for (token, envelope) in effects.send_after_persist {
            let raft = self.raft_mut(life).expect("it just acted");
            if token <= raft.synced {
                self.departs(life, envelope);
            } else {
                raft.held.push((token, envelope));
            }
        }
        let raft = self.raft_mut(life).expect("it just acted");
        if effects.restore.is_some() {
            raft.restore = effects.restore;
        }
        if let Some(upto) = effects.commit {
            raft.upto = upto;
        }
        if raft.restore.is_some() || effects.commit.is_some() {
            self.apply_soon(life);
        }
        if let Some(base) = effects.purge {
            self.purge(life, dir, base);
        }
        for outcome in effects.reads {
            self.read_judged(life, outcome);
        }
        if effects.leadership_lost {
            self.leadership_lost(life);
        }
        if let Some((peer, seen)) = effects.went_back {
            say!(self, "{life:?} hears from {peer} that its directory went back: {seen:?}");
            self.counts.found_by_votes += 1;
            self.after(0, Event::FoundOut(life, peer, seen));
        }
        self.oracle.after_input(life, id, &self.lives, &self.dirs);
    }

    fn purge(&mut self, life: Life, dir: DirId, base: LogId) {
        say!(self, "{life:?} purges up to {base}");
        self.counts.purges += 1;
        let raft = self.raft_mut(life).expect("it just acted");
        raft.log.purge(base).expect("memory does not fail");
        let directory = &mut self.dirs[dir.0];
        directory.written.purge(base.index);
        if directory.durable.stamp(base.index).is_some() {
            directory.durable.purge(base.index);
        }
    }

    fn write(&mut self, life: Life, dir: DirId, batch: &Persist) {
        let installed = batch.install.as_ref().map(|meta| self.oracle.committed_at(meta.last));
        let directory = &mut self.dirs[dir.0];
        let (before, id) = (directory.written.last(), directory.id);
        self.oracle.before_write(id, batch, &directory.written);
        directory.written.apply(batch, installed);
        self.oracle.written(id, batch, &directory.written);
        let (hard_state, entries) = (batch.hard_state, batch.entries.len());
        say!(self, "{life:?} writes {hard_state:?}, {before} and {entries} entries");
        let raft = self.raft_mut(life).expect("it just acted");
        raft.log.append(batch).expect("memory has room");
        raft.written = batch.token;
        self.sync_soon(life);
    }

    /// Begins a sync, unless one is under way.
    fn sync_soon(&mut self, life: Life) {
        let slow = !self.calm && self.rng.random_bool(0.01);
        let time = self.rng.random_range(1..=self.knobs.sync) * if slow { 20 } else { 1 };
        let raft = self.raft_mut(life).expect("it just acted");
        if raft.syncing.is_none() && raft.written > raft.synced {
            raft.syncing = Some(raft.written);
            self.after(time, Event::Synced(life));
        }
    }

    /// A sync is done.
    pub fn synced(&mut self, life: Life) {
        let Some(process) = self.process(life) else { return };
        let dir = process.dir;
        let raft = self.raft_mut(life).expect("only a member syncs");
        raft.log.sync().expect("memory does not fail");
        let token = raft.syncing.take().expect("a sync was under way");
        raft.synced = token;
        let directory = &mut self.dirs[dir.0];
        directory.durable.copy_from(&directory.written);
        self.oracle.durable(directory.id, &directory.durable);
        self.input(life, |core| core.persisted(token));
        let raft = self.raft_mut(life).expect("it runs");
        let held = std::mem::take(&mut raft.held);
        let (ready, held) = held.into_iter().partition(|(waits, _)| *waits <= token);
        raft.held = held;
        for (_, envelope) in ready {
            self.departs(life, envelope);
        }
        self.sync_soon(life);
    }

    fn read_and_send(&mut self, life: Life, range: SendRange) {
        let raft = self.raft_mut(life).expect("it just acted");
        let SendRange { to, request, term, base, upto, commit } = range;
        let id = raft.core.status().id;
        let Ok(entries) = raft.reader.read(base.index, upto, u64::MAX) else {
            self.after(1, Event::Unanswered(life, to, request));
            return;
        };
        let message = Message::Append(Append { base, commit, entries });
        self.departs(life, Envelope { from: id, to, term, request, message });
    }

    /// Sends the newest snapshot; all of it at once, and much later than a message.
    fn send_snapshot(&mut self, life: Life, send: SendSnapshot) {
        let raft = self.raft_mut(life).expect("it just acted");
        let status = raft.core.status();
        let snapshot = self.snapshots[&status.snapshot].meta.clone();
        assert!(snapshot.last >= send.snapshot, "the newest snapshot is at least this one");
        say!(self, "{life:?} sends the snapshot {} to {}", snapshot.last, send.to);
        let message = Message::Install(Install { snapshot });
        let SendSnapshot { to, request, term, .. } = send;
        self.departs(life, Envelope { from: status.id, to, term, request, message });
    }

    fn apply_soon(&mut self, life: Life) {
        let delay = self.rng.random_range(0..8);
        let raft = self.raft_mut(life).expect("it just acted");
        if !raft.applying {
            raft.applying = true;
            self.after(delay, Event::Apply(life));
        }
    }

    /// The applier does what it was asked to.
    pub fn apply(&mut self, life: Life) {
        let Some(raft) = self.raft_mut(life) else { return };
        raft.applying = false;
        if let Some(meta) = raft.restore.take() {
            return self.restore(life, &meta);
        }
        let (after, upto) = (raft.store.applied(), raft.upto);
        if upto <= after {
            return;
        }
        let Ok(entries) = raft.reader.read(after, upto, 500) else {
            // A snapshot that is being installed has taken their place; it is to be restored next.
            return;
        };
        for entry in &entries {
            self.apply_one(life, entry.id, &entry.payload);
        }
        let raft = self.raft_mut(life).expect("it runs");
        let applied = raft.store.applied();
        if applied < upto {
            self.apply_soon(life);
        }
        self.input(life, |core| core.applied(applied));
        self.answer_parked(life);
        self.snapshot_if_due(life);
    }

    fn apply_one(&mut self, life: Life, at: LogId, payload: &Payload) {
        let raft = self.raft_mut(life).expect("it runs");
        let (applied, command) = match payload {
            Payload::Command(bytes) => {
                let command = decode_command(bytes).ok();
                (Some(raft.store.apply(at, command.as_ref())), command)
            }
            Payload::Noop => {
                raft.store.skip(at);
                (None, None)
            }
            Payload::Membership(membership) => {
                raft.store.apply_membership(at, membership);
                (None, None)
            }
        };
        let hash = raft.store.state_hash();
        let waiting = raft.proposals.remove(&at.index);
        let dir = self.process(life).expect("it runs").dir;
        self.oracle.applied(
            at,
            &self.dirs[dir.0].written,
            hash,
            command.as_ref(),
            applied.as_ref(),
        );
        if let Some((term, request)) = waiting {
            let said = match applied {
                Some(applied) if term == at.term => Said::Applied(applied),
                _ => Said::Unknown,
            };
            self.says(life, request, said);
        }
    }

    fn restore(&mut self, life: Life, meta: &SnapshotMeta) {
        let content = self.snapshots[&meta.last].content();
        say!(self, "{life:?} restores the snapshot {}", meta.last);
        self.counts.installed += 1;
        let raft = self.raft_mut(life).expect("it runs");
        assert!(meta.last.index >= raft.store.applied(), "a restore goes forward (S16)");
        raft.store = content;
        let stale = std::mem::take(&mut raft.proposals);
        let (stale, kept) = stale.into_iter().partition(|(at, _)| *at <= meta.last.index);
        raft.proposals = kept;
        let stale: BTreeMap<_, (Term, Request)> = stale;
        for (_, (_, request)) in stale {
            self.says(life, request, Said::Unknown);
        }
        self.input(life, |core| core.applied(meta.last.index));
        self.answer_parked(life);
        self.apply_soon(life);
    }

    fn snapshot_if_due(&mut self, life: Life) {
        let every = self.knobs.snapshot_entries;
        let time = self.rng.random_range(1..100);
        let raft = self.raft_mut(life).expect("it runs");
        let status = raft.core.status();
        if raft.snapshotting || status.applied.0 < status.snapshot.index.0 + every {
            return;
        }
        let Some(meta) = raft.core.snapshot_at(raft.store.applied()) else { return };
        raft.snapshotting = true;
        let snapshot = Snapshot::of(&meta, raft.store.freeze());
        self.oracle.snapshot(&snapshot, self.snapshots.get(&meta.last));
        self.snapshots.insert(meta.last, snapshot);
        self.after(time, Event::SnapshotWritten(life, meta));
    }

    /// A snapshot of its own is durable.
    pub fn snapshot_written(&mut self, life: Life, meta: SnapshotMeta) {
        let Some(raft) = self.raft_mut(life) else { return };
        raft.snapshotting = false;
        say!(self, "{life:?} has taken the snapshot {}", meta.last);
        self.counts.snapshots += 1;
        let dir = self.process(life).expect("it runs").dir;
        self.dirs[dir.0].disk.snapshot_taken(&meta);
        self.input(life, |core| core.snapshot_taken(meta.last));
    }

    /// One tick of a process.
    pub fn tick(&mut self, life: Life) {
        let Some(process) = self.process(life) else { return };
        let stopping = process.stopping;
        self.after(TICK, Event::Tick(life));
        if process_founds(self, life) {
            self.found(life, None, |founding| founding.tick());
        }
        self.input(life, Node::tick);
        self.settles(life);
        self.tend_members(life);
        self.close_idle(life);
        if let Some(latest) = stopping {
            self.stops(life, latest);
        }
    }

    /// The process dies. What was not synced is gone, unless the disk had it all the same.
    pub fn crash(&mut self, life: Life) {
        let lucky = self.rng.random_bool(0.3);
        let Some(process) = self.lives[life.0].take() else { return };
        say!(self, "{life:?} of {:?} dies", process.seat);
        let directory = &mut self.dirs[process.dir.0];
        if let Some(mut raft) = process.raft {
            if lucky {
                raft.log.sync().expect("memory does not fail");
                directory.durable.copy_from(&directory.written);
                self.oracle.durable(directory.id, &directory.durable);
            }
            for ((_, request), asker) in raft.askers {
                self.after(30, Event::Unanswered(asker, process.id, request));
            }
        }
        let directory = &mut self.dirs[process.dir.0];
        directory.disk.lose_power();
        directory.written.copy_from(&directory.durable);
        self.oracle.stopped(life);
        let seat = &mut self.seats[process.seat.0];
        if seat.at == Some(life) {
            seat.at = None;
        }
    }
}

fn process_founds(world: &World, life: Life) -> bool {
    world.process(life).is_some_and(|process| process.raft.is_none())
}
