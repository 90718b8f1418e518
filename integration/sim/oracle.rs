//! Sees everything and judges it after every step. The numbers are those of the project's list of
//! invariants; what the core asserts by itself is here again wherever it needs more than one node, or
//! the disks, to be seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use balsa::kv::{Applied, Command, Outcome};
use balsa::raft::message::{AppendReply, InstallReply};
use balsa::raft::{
    ClusterId, Envelope, HardState, Index, LogId, Membership, Message, Node, NodeId, NodeStatus,
    Payload, Persist, RoleKind, SoftState, Term,
};

use super::mirror::{Mirror, Stamp};
use super::process::{Process, Snapshot};
use super::quorums;
use super::world::{Directory, Life};

#[derive(Default)]
pub struct Oracle {
    cluster: Option<(ClusterId, Membership)>,
    /// Who leads a term (S1).
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry that was ever written, with its prefix (S3).
    entries: HashMap<(Index, Term), Stamp>,
    /// What is committed, from index 1 on (S4, S5, S10).
    committed: Vec<Stamp>,
    /// Who got which node id's vote (S7).
    votes: BTreeMap<(Term, NodeId), NodeId>,
    /// What every running core looked like after its last input.
    looks: BTreeMap<Life, NodeStatus>,
    /// Whose next vote is judged: the last entry of whoever asks for it (S12).
    asked: Option<(NodeId, Term, LogId)>,
    /// The content's hash after each index, from 1 on (S5).
    hashes: Vec<u64>,
    /// The first answer to each write (S18).
    answers: BTreeMap<(u64, u64), Applied>,
    /// The memberships that were appended, by index and term.
    memberships: BTreeMap<(Index, Term), Arc<Membership>>,
    /// Memberships that were appended in this step, each with where the one before it stands.
    appended: Vec<(Index, LogId)>,
    /// Pairs of memberships whose quorums were enumerated (S15).
    overlaps: Vec<(Arc<Membership>, Arc<Membership>)>,
}

impl Oracle {
    /// Up to here is committed.
    pub fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// The answer that a write of a session got first.
    pub fn answer(&self, session: u64, serial: u64) -> Option<&Applied> {
        self.answers.get(&(session, serial))
    }

    fn committed_stamp(&self, index: Index) -> Option<Stamp> {
        let at = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.committed.get(at).copied()
    }

    /// The stamp of a snapshot's last entry, which is committed.
    pub fn committed_at(&self, last: LogId) -> Stamp {
        let stamp =
            self.committed_stamp(last.index).expect("a snapshot holds what is committed (S5)");
        assert_eq!(stamp.term, last.term, "a snapshot ends with a committed entry (S10)");
        stamp
    }

    /// A cluster is founded, as one of its members sees it.
    pub fn founded(&mut self, cluster: ClusterId, membership: &Membership) {
        let first = self.cluster.get_or_insert_with(|| (cluster, membership.clone()));
        assert_eq!(first, &(cluster, membership.clone()), "founding gives one cluster or none");
    }

    /// All directories that had decided are lost, so that a founding may begin anew. Nothing was ever
    /// committed in what they founded.
    pub fn founding_lost(&mut self) {
        assert!(
            self.committed.is_empty(),
            "S10: a founding is discarded and something is committed"
        );
        self.cluster = None;
        self.entries.clear();
        self.memberships.clear();
    }

    /// The newest membership that is committed.
    fn settled(&self) -> Option<(Index, &Arc<Membership>)> {
        let committed = |(index, term): &(Index, Term)| {
            self.committed_stamp(*index).is_some_and(|stamp| stamp.term == *term)
        };
        let mut newest = self.memberships.iter().rev();
        newest.find(|(at, _)| committed(at)).map(|((index, _), membership)| (*index, membership))
    }

    /// Where the newest committed membership stands.
    pub fn newest_membership(&self) -> Index {
        self.settled().map_or(Index::ZERO, |(index, _)| index)
    }

    /// Whether a node is a member by what is committed.
    pub fn is_member(&self, id: NodeId) -> bool {
        self.settled().is_some_and(|(_, membership)| membership.contains(id))
    }

    /// Whether a node votes by what is committed.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.settled().is_some_and(|(_, membership)| membership.is_voter(id))
    }

    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster.as_ref().map(|(cluster, _)| *cluster)
    }

    pub fn started(&mut self, life: Life, core: &Node) {
        self.looks.insert(life, core.status());
    }

    pub fn stopped(&mut self, life: Life) {
        self.looks.remove(&life);
    }

    /// S1, S4: a role has changed. `log` is what the node has written before the new term's entries.
    pub fn role(&mut self, _life: Life, id: NodeId, soft: SoftState, log: &Mirror) {
        if soft.role != RoleKind::Leader {
            return;
        }
        let leader = *self.leaders.entry(soft.term).or_insert(id);
        assert_eq!(leader, id, "S1: two leaders in term {}", soft.term);
        let end = self.committed();
        if let Some(stamp) = self.committed_stamp(end) {
            assert!(
                log.holds(end, stamp),
                "S4: {id} leads term {} without the committed entry {end}",
                soft.term
            );
        }
    }

    /// S2, S7, S10: a batch, against the log it is for.
    pub fn before_write(&mut self, id: NodeId, batch: &Persist, log: &Mirror) {
        if let Some(new) = batch.hard_state {
            let old = log.hard_state;
            let first = new.term > old.term || old.vote.is_none() || old.vote == new.vote;
            assert!(new.term >= old.term && first, "S7: {id} goes from {old:?} to {new:?}");
            self.vote(id, new, log);
        }
        if let Some(after) = batch.truncate_after {
            let term = batch.hard_state.unwrap_or(log.hard_state).term;
            assert_ne!(self.leaders.get(&term), Some(&id), "S2: the leader of {term} truncates");
            let next = after.next();
            if let (Some(here), Some(there)) = (log.stamp(next), self.committed_stamp(next)) {
                assert_ne!(here, there, "S10: {id} truncates the committed entry {next}");
            }
        }
        if let Some(meta) = &batch.install {
            let reached = self.committed_at(meta.last);
            assert!(
                log.stamp(meta.last.index) != Some(reached),
                "L8: {id} installs the snapshot {} over the very same log",
                meta.last
            );
        }
    }

    /// S7: one vote a term, counted when it is on disk: what never got there was never said.
    pub fn durable(&mut self, id: NodeId, disk: &Mirror) {
        let HardState { term, vote } = disk.hard_state;
        if let Some(to) = vote {
            let first = *self.votes.entry((term, id)).or_insert(to);
            assert_eq!(first, to, "S7: {id} votes twice in term {term}");
        }
    }

    fn vote(&mut self, id: NodeId, new: HardState, log: &Mirror) {
        let Some(to) = new.vote else { return };
        if to != id && log.hard_state.vote != new.vote {
            let (from, term, last) = self.asked.expect("a vote is asked for");
            assert_eq!((from, term), (to, new.term), "S12: a vote goes to who asks for it");
            assert!(last >= log.last(), "S12: {id} at {} votes for {to} at {last}", log.last());
        }
    }

    /// S3, S13: entries are in a log, of a leader or of a follower.
    pub fn written(&mut self, id: NodeId, batch: &Persist, log: &Mirror) {
        for entry in &batch.entries {
            let LogId { term, index } = entry.id;
            let stamp = log.stamp(index).expect("just written");
            if let Some(known) = self.entries.get(&(index, term)) {
                assert_eq!(*known, stamp, "S3: {id} holds another prefix up to {}", entry.id);
                continue;
            }
            let founding = term == Term(1) && index == Index(1);
            let author = self.leaders.get(&term);
            assert!(
                founding || author == Some(&id),
                "S13: {} appears at {id} and not at its term's leader",
                entry.id
            );
            self.entries.insert((index, term), stamp);
            if let Payload::Membership(membership) = &entry.payload {
                self.membership(entry.id, membership, log);
            }
        }
    }

    /// S14, S15: a leader appends a membership.
    fn membership(&mut self, at: LogId, membership: &Arc<Membership>, log: &Mirror) {
        self.memberships.insert((at.index, at.term), Arc::clone(membership));
        let mut former = log.memberships.iter().rev().filter(|(index, _)| *index < at.index);
        let Some((index, before)) = former.next() else { return };
        self.appended.push((*index, at));
        let known = self.overlaps.iter().any(|(a, b)| a == before && b == membership);
        if !known {
            assert!(quorums::meet(before, membership), "S15: {before:?} and {membership:?}");
            self.overlaps.push((Arc::clone(before), Arc::clone(membership)));
        }
    }

    /// S14: what the leader has just appended came after all former memberships were committed, and
    /// after an entry of its own term was (M2). It need not be the last one: a leader that was deposed
    /// and does not know it yet may begin a change, which nobody will ever commit.
    fn one_change_at_a_time(&mut self) {
        let committed = self.committed();
        for (before, at) in std::mem::take(&mut self.appended) {
            assert!(before <= committed, "S14: a membership at {at} before {before} is committed");
            let own = self.committed.iter().rev().any(|stamp| stamp.term == at.term);
            assert!(own, "S14, M2: a membership at {at} before an entry of its own term");
        }
    }

    /// S12 needs to know what was asked.
    pub fn arrives(&mut self, envelope: &Envelope) {
        if let Message::Vote(vote) = &envelope.message
            && !vote.pre
        {
            self.asked = Some((envelope.from, vote.campaign, vote.last));
        }
    }

    /// S17: what a message claims is on its sender's disk.
    pub fn departs(&mut self, envelope: &Envelope, disk: &Mirror) {
        let Envelope { from, to, term, .. } = envelope;
        let durable = disk.hard_state;
        assert!(durable.term >= *term, "S17: {from} says term {term}, its disk {durable:?}");
        match &envelope.message {
            Message::Vote(vote) if !vote.pre => {
                let own = HardState { term: vote.campaign, vote: Some(*from) };
                assert!(durable.term > own.term || durable == own, "S17: a candidate's own vote");
            }
            Message::VoteReply(reply) if reply.granted && !reply.pre => {
                let given = HardState { term: reply.campaign, vote: Some(*to) };
                assert!(durable.term > given.term || durable == given, "S17: a vote is on disk");
            }
            Message::AppendReply(AppendReply::Accepted { matched })
            | Message::InstallReply(InstallReply::Installed { matched }) => {
                assert!(*matched <= disk.last_index(), "S17: {from} acknowledges {matched}");
            }
            _ => {}
        }
    }

    /// S5, S6, S8, S9, S11: after every input of a core.
    pub fn after_input(
        &mut self,
        life: Life,
        id: NodeId,
        lives: &[Option<Process>],
        dirs: &[Directory],
    ) {
        let Some(process) = &lives[life.0] else { return };
        let Some(raft) = &process.raft else { return };
        let now = raft.core.status();
        let was = self.looks.insert(life, now.clone()).expect("it has started");
        let log = &dirs[process.dir.0].written;
        assert!(now.commit >= was.commit && now.applied >= was.applied, "S6: {now:?} {was:?}");
        assert!(now.snapshot.index >= was.snapshot.index, "S6: a snapshot goes back");
        assert!(now.first.prev() <= now.snapshot.index, "S6: purged beyond the snapshot: {now:?}");
        assert!(now.snapshot.index <= now.commit && now.applied <= now.commit, "S6: {now:?}");
        assert!(now.commit <= now.last.index, "S6: {now:?}");
        assert_eq!(now.last, log.last(), "the core's log is the one it has written");
        let led = leads(&was) && was.soft_state.term == now.soft_state.term;
        if now.commit > was.commit {
            let news = now.commit > self.committed();
            self.commit(id, now.commit, log);
            if led && news {
                let term = log.stamp(now.commit).map(|stamp| stamp.term);
                assert_eq!(
                    term,
                    Some(now.soft_state.term),
                    "S9: an older term's entry by counting"
                );
                let stamp = self.committed_stamp(now.commit).expect("just committed");
                let holds = |voter: NodeId| {
                    dirs.iter().any(|dir| dir.id == voter && dir.durable.holds(now.commit, stamp))
                };
                let membership = raft.core.membership();
                assert!(
                    quorums::is_quorum(membership, holds),
                    "S8: {} is committed by {id}, and on too few disks",
                    now.commit
                );
            }
        }
        self.one_change_at_a_time();
        if led {
            for peer in &now.peers {
                let before = was.peers.iter().find(|other| other.id == peer.id);
                let before = before.map_or(Index::ZERO, |peer| peer.matched);
                assert!(peer.matched >= before, "S11: {} goes back: {before} {peer:?}", peer.id);
                let holds =
                    |dir: &Directory| dir.id == peer.id && dir.durable.last_index() >= peer.matched;
                let moved = peer.matched > before;
                assert!(!moved || dirs.iter().any(holds), "S11: {peer:?} is not on any disk");
            }
        }
    }

    /// S5, S10: a node believes that everything up to here is committed.
    fn commit(&mut self, id: NodeId, upto: Index, log: &Mirror) {
        for index in self.committed().0 + 1..=upto.0 {
            let stamp = log.stamp(Index(index)).expect("what is committed anew is in the log");
            self.committed.push(stamp);
        }
        let known = self.committed_stamp(upto).expect("just there");
        assert!(log.holds(upto, known), "S5: {id} commits another entry at {upto}");
    }

    /// S5, S16, S18: an entry was applied.
    pub fn applied(
        &mut self,
        at: LogId,
        log: &Mirror,
        hash: u64,
        command: Option<&Command>,
        applied: Option<&Applied>,
    ) {
        let committed = self.committed_stamp(at.index).expect("only what is committed is applied");
        assert_eq!(committed.term, at.term, "S5: {at} is applied and was not committed");
        assert!(log.holds(at.index, committed), "S5: {at} is applied from another log");
        self.same_content(at.index, hash);
        if let (Some(Command::Write(write)), Some(applied)) = (command, applied) {
            let kept = matches!(applied.outcome, Outcome::Written { .. });
            let key = (write.session, write.serial);
            match self.answers.get(&key) {
                Some(first) if kept => {
                    assert_eq!(first, applied, "S18: serial {key:?} is answered twice");
                }
                None if kept => {
                    assert_eq!(applied.index, at.index.0, "S18: {key:?} was never carried out");
                    self.answers.insert(key, applied.clone());
                }
                _ => {}
            }
        }
    }

    /// S5: equal applied indexes mean equal content.
    fn same_content(&mut self, index: Index, hash: u64) {
        let at = usize::try_from(index.0 - 1).expect("a small log");
        match self.hashes.get(at) {
            Some(known) => assert_eq!(*known, hash, "S5: another content after {index}"),
            None => {
                assert_eq!(at, self.hashes.len(), "S16: {index} is applied, and one before it not");
                self.hashes.push(hash);
            }
        }
    }

    /// S5, M6: a snapshot is taken, perhaps not the first of its index.
    pub fn snapshot(&mut self, snapshot: &Snapshot, twin: Option<&Snapshot>) {
        let meta = &snapshot.meta;
        assert!(meta.is_sound(), "a snapshot that a node takes is sound: {meta:?}");
        self.committed_at(meta.last);
        self.same_content(meta.last.index, snapshot.state_hash);
        if let Some(twin) = twin {
            assert_eq!(&twin.meta, meta, "S5, M6: equal snapshots carry equal members");
            assert_eq!(twin.pieces, snapshot.pieces, "S5: equal stores give equal bytes");
        }
    }
}

fn leads(status: &NodeStatus) -> bool {
    status.soft_state.role == RoleKind::Leader
}
