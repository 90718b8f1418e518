//! What a node has whatever its role: term and vote, log, membership, commit, and the effects of the
//! present input.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::disk::{Disk, Needs, assert_no_regress};
use super::effects::{Effects, ReadOutcome, ReadToken, Refusal};
use super::greeting::Greeting;
use super::log_shape::LogShape;
use super::membership::Membership;
use super::message::{Envelope, Message, RequestId};
use super::options::Options;
use super::seen::SeenTable;
use super::snapshot::{SnapshotMeta, purge_point};
use super::status::Restored;
use super::types::{Boot, Entry, HardState, Index, LogId, NodeId, Payload, Term};

#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) id: NodeId,
    pub(super) options: Options,
    /// The only source of chance, seeded once (E9).
    rng: SmallRng,
    /// As of now; `disk` knows what of it is durable.
    hard_state: HardState,
    pub(super) log: LogShape,
    /// The membership as of the snapshot, if there is one, then every membership in the log behind it,
    /// oldest first, never empty. The last one is active: from being appended, not from being committed
    /// (M1).
    memberships: Vec<(Index, Arc<Membership>)>,
    /// The last entry of the newest snapshot, taken or installed; zero if there is none.
    snapshot: LogId,
    /// Never goes back (S6); at most the log's last index.
    commit: Index,
    /// At most `commit`.
    applied: Index,
    pub(super) disk: Disk,
    /// The disk has no room for entries (D11).
    pub(super) disk_full: bool,
    /// Of this process.
    pub(super) boot: Boot,
    /// Who has judged this node since it started.
    pub(super) greeting: Greeting,
    /// The process of each member that was heard last.
    pub(super) processes: BTreeMap<NodeId, Boot>,
    /// What is remembered of each member.
    pub(super) seen: SeenTable,
    /// A membership that counts this node in was committed, as far as this process knows.
    taken_in: bool,
    pub(super) effects: Effects,
    last_request: RequestId,
    reported_commit: Index,
}

impl Common {
    pub(super) fn new(id: NodeId, options: Options, seed: u64, restored: Restored) -> Common {
        let Restored { hard_state, log, memberships, snapshot, applied, boot, seen, reached } =
            restored;
        let last = log.last();
        let covered = snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        assert!(last.term <= hard_state.term, "no entry is newer than the term (S7)");
        assert!(applied <= last.index, "applied {applied} is behind the log's end {last} (S10)");
        assert!(applied.next() >= log.first_index(), "a hole between {applied} and the log (S10)");
        let base = log.base();
        assert!(base.index <= covered.index, "a hole between {covered} and the log (S10)");
        assert!(log.holds(covered), "the log does not go on from the snapshot at {covered} (S10)");
        assert!(applied >= covered.index, "a state machine older than its snapshot (D14)");
        let memberships = memberships_from(memberships, snapshot, last);
        let problems = options.problems();
        assert!(problems.is_empty(), "unusable options: {}", problems.join("; "));
        Common {
            id,
            options,
            rng: SmallRng::seed_from_u64(seed),
            hard_state,
            disk: Disk::new(hard_state, last.index, reached),
            log,
            memberships,
            snapshot: covered,
            commit: applied,
            applied,
            disk_full: false,
            boot,
            greeting: Greeting::new(hard_state.term),
            processes: BTreeMap::new(),
            seen: SeenTable::new(seen),
            taken_in: false,
            effects: Effects::default(),
            last_request: first_request(seed),
            reported_commit: applied,
        }
    }

    pub(super) fn term(&self) -> Term {
        self.hard_state.term
    }

    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(super) fn commit(&self) -> Index {
        self.commit
    }

    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.memberships.last().expect("never empty").1
    }

    /// The same, to keep.
    pub(super) fn shared_membership(&self) -> &Arc<Membership> {
        &self.memberships.last().expect("never empty").1
    }

    /// Where the active membership stands in the log.
    pub(super) fn membership_index(&self) -> Index {
        self.memberships.last().expect("never empty").0
    }

    /// The last entry of the newest snapshot.
    pub(super) fn snapshot(&self) -> LogId {
        self.snapshot
    }

    /// What a snapshot of the state machine as of `last` carries (M6).
    pub(super) fn snapshot_at(&self, last: LogId) -> SnapshotMeta {
        let behind = self.memberships.partition_point(|(at, _)| *at <= last.index);
        let (membership_index, membership) =
            self.memberships[behind.checked_sub(1).expect("snapshots only go forward")].clone();
        SnapshotMeta { last, membership, membership_index }
    }

    /// A snapshot of what is applied is durable.
    pub(super) fn set_snapshot(&mut self, last: LogId) {
        assert!(last.index <= self.applied, "a snapshot holds what is applied (S6)");
        assert!(self.log.holds(last), "a snapshot is of this log (S10)");
        let kept = self.memberships.partition_point(|(at, _)| *at <= last.index).saturating_sub(1);
        self.memberships.drain(..kept);
        self.snapshot = last;
    }

    /// Takes a snapshot that reaches further than what is committed here, in place of the log.
    pub(super) fn install(&mut self, snapshot: SnapshotMeta) {
        let last = snapshot.last;
        assert!(last.index > self.commit, "a snapshot at or below commit is ignored (L8)");
        assert!(last.term <= self.term(), "no entry is newer than the term (S13)");
        self.log = LogShape::new(last);
        self.memberships = vec![(snapshot.membership_index, Arc::clone(&snapshot.membership))];
        self.disk.install(snapshot, self.commit);
        self.snapshot = last;
        self.commit = last.index;
    }

    /// Purges what the snapshot covers and nobody needs; `pins` are the indices behind which somebody
    /// does. `again`: what is purged already is said once more.
    pub(super) fn purge(&mut self, pins: impl Iterator<Item = Index>, again: bool) {
        let upto = purge_point(&self.log, self.snapshot.index, &self.options, pins);
        let more = upto > self.log.base().index;
        if more {
            self.log.purge_upto(upto);
        }
        if more || (again && self.log.base() != LogId::ZERO) {
            self.effects.purge = Some(self.log.base());
        }
    }

    pub(super) fn is_voter(&self) -> bool {
        self.membership().is_voter(self.id)
    }

    /// Whether this node may be needed as a leader: it votes, or did so before an entry that is not known to
    /// be committed. Of those who go on perhaps nobody holds that entry, and then a former quorum needs
    /// this node's vote, which its better log does not let it give. So it campaigns, and leads without
    /// counting itself until its removal is committed (dissertation 4.2.2, M4).
    pub(super) fn may_lead(&self) -> bool {
        // The one before the newest is committed (S14), so that no older one matters.
        let open = self.membership_index() > self.commit;
        let mut in_force = self.memberships.iter().rev().take(if open { 2 } else { 1 });
        in_force.any(|(_, membership)| membership.is_voter(self.id))
    }

    /// The shortest election timeout: how long a follower sticks to its leader (E4) and how long a
    /// leader may go without a quorum (E5).
    pub(super) fn election_min(&self) -> u32 {
        self.options.election_ticks.0
    }

    /// A fresh election timeout (E9).
    pub(super) fn draw_timeout(&mut self) -> u32 {
        let (low, high) = self.options.election_ticks;
        self.rng.random_range(low..=high)
    }

    /// A short delay after which a follower whose leader's process is gone campaigns; random, so that
    /// two survivors seldom collide.
    pub(super) fn draw_short_delay(&mut self) -> u32 {
        self.rng.random_range(1..=(self.options.heartbeat_ticks / 2).max(1))
    }

    /// Whether the disk is full or has stood still for so long that campaigning would only take a
    /// leader away from others (D11, D12).
    pub(super) fn disk_stands_still(&self) -> bool {
        self.disk_full || self.disk.waiting() >= self.election_min()
    }

    /// Moves to a new term or casts the vote.
    pub(super) fn set_hard_state(&mut self, new: HardState) {
        assert_no_regress(self.hard_state, new);
        if new != self.hard_state {
            self.hard_state = new;
            self.disk.write_hard_state(new);
        }
    }

    /// Appends an entry behind the last and asks the disk for it. The payload is passed on, not kept,
    /// except that of a membership.
    pub(super) fn append(&mut self, entry: Entry) {
        assert!(entry.id.term <= self.term(), "no entry is newer than the term (S13)");
        self.log.push(entry.id, entry.payload.size());
        if let Payload::Membership(membership) = &entry.payload {
            self.memberships.push((entry.id.index, Arc::clone(membership)));
        }
        self.disk.append(entry);
    }

    /// Drops a conflicting suffix, and with it the memberships that stand in it (M1).
    pub(super) fn truncate_after(&mut self, after: Index) {
        assert!(after >= self.commit, "what is committed is never truncated (S10)");
        self.log.truncate_after(after);
        self.disk.truncate_after(after);
        self.memberships.retain(|(index, _)| *index <= after);
        assert!(!self.memberships.is_empty(), "the founding membership is committed (S10)");
    }

    /// Raises the commit index, if that is more than is known already.
    pub(super) fn raise_commit(&mut self, upto: Index) {
        assert!(upto <= self.log.last().index, "commit is within the log (S6)");
        self.commit = self.commit.max(upto);
    }

    pub(super) fn set_applied(&mut self, upto: Index) {
        assert!(upto >= self.applied, "applied never goes back (S16)");
        assert!(upto <= self.commit, "only what is committed is applied (S6)");
        self.applied = upto;
    }

    /// A request id that this process has not used before (S11).
    pub(super) fn next_request(&mut self) -> RequestId {
        self.last_request = RequestId(self.last_request.0 + 1);
        self.last_request
    }

    /// Sends a message as soon as what it claims is durable: the term it carries, and `needs` (S17).
    pub(super) fn send(&mut self, to: NodeId, request: RequestId, message: Message, needs: Needs) {
        let envelope = Envelope { from: self.id, to, term: self.term(), request, message };
        match self.disk.awaits(self.hard_state, needs) {
            None => self.effects.send_now.push(envelope),
            Some(token) => self.effects.send_after_persist.push((token, envelope)),
        }
    }

    pub(super) fn answer_read(&mut self, token: ReadToken, result: Result<Index, Refusal>) {
        self.effects.reads.push(ReadOutcome { token, result });
    }

    /// Draws the conclusions from a membership or a commit that may be new.
    pub(super) fn look_at_the_members(&mut self) {
        let membership = Arc::clone(self.shared_membership());
        self.greeting.judge(self.id, &membership);
        let commit = self.commit;
        let mut committed = self.memberships.iter().filter(|(at, _)| *at <= commit);
        self.taken_in = self.taken_in || committed.any(|(_, it)| it.contains(self.id));
    }

    /// Whether this node was a member, is none any more, and that is committed. Not one that is still
    /// catching up with the entry that takes it in.
    pub(super) fn is_removed(&self) -> bool {
        let out = !self.membership().contains(self.id) && self.commit >= self.membership_index();
        out && self.taken_in
    }

    /// Ends an input: closes the disk's batch and hands out everything that was caused.
    pub(super) fn take_effects(&mut self) -> Effects {
        self.effects.persist = self.disk.take();
        if self.effects.persist.as_ref().is_some_and(|batch| batch.hard_state.is_some()) {
            // It is written with the hard state, so that it should be as of now.
            self.publish_seen();
        }
        if let Some(snapshot) = self.disk.take_installed() {
            self.reported_commit = self.reported_commit.max(snapshot.last.index);
            self.effects.restore = Some(snapshot);
        }
        // The state machine reads entries back from the log, and must never be ahead of a log that
        // lost its tail in a crash (S10): what is committed elsewhere waits for this disk. What a
        // snapshot on its way covers may be gone before it is read.
        let appliable = self.commit.min(self.disk.persisted());
        if appliable > self.reported_commit && !self.disk.installs() {
            self.reported_commit = appliable;
            self.effects.commit = Some(appliable);
        }
        std::mem::take(&mut self.effects)
    }
}

/// Where this process begins to number its requests: far from where former processes of the node did,
/// so that a late answer to one of theirs answers none of ours (S11, A6).
fn first_request(seed: u64) -> RequestId {
    // Not the generator of the timeouts, whose sequence the stories of the tests tell.
    RequestId(SmallRng::seed_from_u64(!seed).random::<u64>() >> 2)
}

/// The memberships a node begins with.
fn memberships_from(
    in_log: Vec<(Index, Membership)>,
    snapshot: Option<SnapshotMeta>,
    last: LogId,
) -> Vec<(Index, Arc<Membership>)> {
    let mut all: Vec<(Index, Arc<Membership>)> = Vec::new();
    let mut covered = Index::ZERO;
    if let Some(snapshot) = snapshot {
        covered = snapshot.membership_index;
        all.push((covered, snapshot.membership));
    }
    let behind = in_log.into_iter().filter(|(at, _)| *at > covered);
    all.extend(behind.map(|(at, membership)| (at, Arc::new(membership))));
    if all.is_empty() {
        // A node that waits to be taken in knows nobody, and campaigns and counts nowhere.
        assert_eq!(last, LogId::ZERO, "a log begins with the founding membership");
        all.push((Index::ZERO, Arc::default()));
    }
    all
}
