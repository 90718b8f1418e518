//! Knows everything that happened in a cluster, and says when an invariant of
//! correctness.md section 1 is broken. It looks at disks and messages, not at what nodes believe.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::message::AppendReply;
use super::super::{
    Entry, Envelope, HardState, Index, LogId, Membership, Message, NodeId, Payload, Persist,
    ReadToken, Refusal, RoleKind, Term,
};
use super::env::{SimDisk, SimNode, is_request};

/// A fingerprint of an entry and everything before it.
type Chain = u64;

fn link(before: Chain, entry: &Entry) -> Chain {
    let mut hasher = DefaultHasher::new();
    (before, entry.id, format!("{:?}", entry.payload)).hash(&mut hasher);
    hasher.finish()
}

fn chains(entries: &[Entry]) -> Vec<Chain> {
    let mut chain = 0;
    entries
        .iter()
        .map(|entry| {
            chain = link(chain, entry);
            chain
        })
        .collect()
}

pub(super) struct Oracle {
    membership: Membership,
    /// S1.
    leaders: BTreeMap<Term, NodeId>,
    /// S3, S13: the one history behind every log id ever written.
    histories: BTreeMap<LogId, Chain>,
    /// S4, S5, S10: everything ever committed, in order.
    committed: Vec<(LogId, Chain)>,
    /// S6: by node, in its present life.
    commits: BTreeMap<NodeId, Index>,
    /// S5, S16: the fingerprint of what each node has applied, by index.
    applied: BTreeMap<NodeId, Index>,
    written: BTreeMap<NodeId, Vec<Chain>>,
    roles: BTreeMap<NodeId, (RoleKind, Term)>,
    replies: BTreeMap<(NodeId, NodeId, u64), usize>,
    /// R1: what was committed anywhere when the read arrived.
    reads: BTreeMap<ReadToken, usize>,
    pub(super) reads_answered: usize,
    pub(super) truncations: usize,
}

impl Oracle {
    pub(super) fn new(founding: &Entry, membership: &Membership) -> Oracle {
        let chain = link(0, founding);
        let first = vec![chain];
        Oracle {
            membership: membership.clone(),
            leaders: BTreeMap::new(),
            histories: BTreeMap::from([(founding.id, chain)]),
            committed: Vec::new(),
            commits: BTreeMap::new(),
            applied: BTreeMap::new(),
            written: membership.members.keys().map(|id| (*id, first.clone())).collect(),
            roles: BTreeMap::new(),
            replies: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_answered: 0,
            truncations: 0,
        }
    }

    /// Terms that had a leader.
    pub(super) fn leaderships(&self) -> usize {
        self.leaders.len()
    }

    /// Entries committed so far.
    pub(super) fn committed(&self) -> usize {
        self.committed.len()
    }

    /// A node began with a log that a test made up.
    pub(super) fn given(&mut self, entries: &[Entry]) {
        for (entry, chain) in entries.iter().zip(chains(entries)) {
            let known = *self.histories.entry(entry.id).or_insert(chain);
            assert_eq!(known, chain, "the test's logs break log matching (S3)");
        }
    }

    pub(super) fn restarted(&mut self, id: NodeId, durable: &[Entry]) {
        self.commits.remove(&id);
        self.applied.remove(&id);
        self.roles.remove(&id);
        self.written.insert(id, chains(durable));
    }

    /// A batch was handed to a disk.
    pub(super) fn written(&mut self, id: NodeId, batch: &Persist) {
        let log = self.written.get_mut(&id).expect("a known node");
        if let Some(after) = batch.truncate_after {
            assert!(after.0 as usize >= 1, "the founding entry stays (S10)");
            log.truncate(after.0 as usize);
            self.truncations += 1;
        }
        for entry in &batch.entries {
            let chain = link(log.last().copied().unwrap_or(0), entry);
            log.push(chain);
            let author = self.leaders.get(&entry.id.term);
            let known = *self.histories.entry(entry.id).or_insert_with(|| {
                // A leader's first batch is handed over before anybody has seen it lead.
                assert!(author.is_none_or(|author| *author == id), "one author a term (S13)");
                chain
            });
            assert_eq!(known, chain, "{} has two histories (S3)", entry.id);
        }
    }

    /// A disk's term and vote change.
    pub(super) fn hard_state(&self, id: NodeId, old: HardState, new: HardState) {
        assert!(new.term >= old.term, "{id}: term went back on disk (S7)");
        let same = new.term == old.term;
        assert!(!same || old.vote.is_none() || old.vote == new.vote, "{id} voted twice (S7)");
    }

    /// After every input of a node.
    pub(super) fn after_input(&mut self, id: NodeId, nodes: &BTreeMap<NodeId, SimNode>) {
        let node = &nodes[&id];
        let Some(core) = &node.core else { return };
        let status = core.status();
        let now = (status.soft_state.role, status.soft_state.term);
        let before = self.roles.insert(id, now);
        assert!(before.is_none_or(|(_, term)| term <= now.1), "{id}: term went back (S7)");
        if now.0 == RoleKind::Leader && before != Some(now) {
            self.takes_office(id, now.1);
        }
        let commit = self.commits.insert(id, status.commit).unwrap_or_default();
        assert!(status.commit >= commit, "{id}: commit went back (S6)");
        if status.commit > commit {
            self.commits_upto(id, status.commit, now, nodes);
        }
    }

    fn takes_office(&mut self, id: NodeId, term: Term) {
        let leader = *self.leaders.entry(term).or_insert(id);
        assert_eq!(leader, id, "two leaders in term {term} (S1)");
        let log = &self.written[&id];
        for (at, (entry, chain)) in self.committed.iter().enumerate() {
            assert_eq!(log.get(at), Some(chain), "leader {id} of {term} lacks {entry} (S4)");
        }
    }

    fn commits_upto(
        &mut self,
        id: NodeId,
        upto: Index,
        (role, term): (RoleKind, Term),
        nodes: &BTreeMap<NodeId, SimNode>,
    ) {
        let written = &nodes[&id].disk.written;
        let log = &self.written[&id];
        for at in 0..upto.0 as usize {
            let entry = (written[at].id, log[at]);
            match self.committed.get(at) {
                Some(known) => assert_eq!(*known, entry, "{id} commits another entry (S5, S10)"),
                None => self.committed.push(entry),
            }
        }
        if role != RoleKind::Leader {
            return;
        }
        let last = written[upto.0 as usize - 1].id;
        assert_eq!(last.term, term, "an older entry was committed by counting (S9)");
        for voters in [&self.membership.voters, &self.membership.outgoing] {
            let hold = |id: &&NodeId| SimDisk::holds(&nodes[id].disk.durable, last);
            let holders = voters.iter().filter(hold).count();
            assert!(
                voters.is_empty() || holders > voters.len() / 2,
                "{last} is on {holders} disks only, yet {id} commits it (S8)"
            );
        }
    }

    /// A node's state machine may apply up to here.
    pub(super) fn applied(&mut self, id: NodeId, upto: Index, durable: &[Entry]) {
        let before = self.applied.insert(id, upto).unwrap_or_default();
        assert!(upto > before, "{id} applies in order and once (S16)");
        assert!(upto.0 as usize <= durable.len(), "{id} applies what its disk lacks (S10)");
    }

    /// A message leaves: what it claims must be on its sender's disk (S17, correctness 6.1).
    pub(super) fn departs(&mut self, envelope: &Envelope, nodes: &BTreeMap<NodeId, SimNode>) {
        let disk = &nodes[&envelope.from].disk;
        let (durable, term) = (disk.hard_state, envelope.term);
        assert!(durable.term >= term, "{envelope:?} carries a term not on disk (S17)");
        let current = durable.term == term;
        match &envelope.message {
            Message::Vote(vote) if !vote.pre => {
                let own = durable.vote == Some(envelope.from);
                assert!(own || !current, "{envelope:?} leaves before the own vote (S17)");
                let last = disk.durable.last().map(|entry| entry.id);
                assert!(!current || last >= Some(vote.last), "{envelope:?} boasts (S17)");
            }
            Message::VoteReply(reply) if reply.granted && !reply.pre => {
                let given = durable.vote == Some(envelope.to);
                assert!(given || !current, "{envelope:?} promises a vote not on disk (S17)");
            }
            Message::AppendReply(AppendReply::Accepted { matched }) if current => {
                let (log, at) = (chains(&disk.durable), matched.0 as usize);
                assert!(at <= log.len(), "{envelope:?} claims more than the disk has (S17)");
                let leader = (self.leaders.get(&term) == Some(&envelope.to))
                    .then(|| chains(&nodes[&envelope.to].disk.written));
                if let Some(leader) = leader
                    && nodes[&envelope.to].core.is_some()
                    && self.roles.get(&envelope.to) == Some(&(RoleKind::Leader, term))
                {
                    assert_eq!(leader[..at], log[..at], "{envelope:?} differs (S3)");
                }
            }
            _ => {}
        }
        if !is_request(&envelope.message) {
            let key = (envelope.from, envelope.to, envelope.request.0);
            *self.replies.entry(key).or_default() += 1;
        }
    }

    /// Replies that have left so far for a request.
    pub(super) fn replies_to(&self, request: &Envelope) -> usize {
        let key = (request.to, request.from, request.request.0);
        self.replies.get(&key).copied().unwrap_or_default()
    }

    /// A read arrives somewhere.
    pub(super) fn read_arrives(&mut self, token: ReadToken) {
        self.reads.insert(token, self.committed.len());
    }

    /// A read is answered: it must see all that was committed when it arrived (R1).
    pub(super) fn read_answered(&mut self, token: ReadToken, result: Result<Index, Refusal>) {
        let known = self.reads.remove(&token).expect("a read is answered once (C5)");
        if let Ok(index) = result {
            assert!(index.0 as usize >= known, "read {token:?} misses a write (R1)");
            self.reads_answered += 1;
        }
    }

    /// Everyone who runs holds the same log and has committed all of it.
    pub(super) fn assert_converged(&self, nodes: &BTreeMap<NodeId, SimNode>) {
        let logs: BTreeSet<Vec<LogId>> = nodes
            .values()
            .filter(|node| node.core.is_some())
            .map(|node| node.disk.durable.iter().map(|entry| entry.id).collect())
            .collect();
        assert_eq!(logs.len(), 1, "the logs differ after healing: {logs:?}");
        for node in nodes.values() {
            let Some(core) = &node.core else { continue };
            let status = core.status();
            assert_eq!(status.applied, status.last.index, "{} is not done", status.id);
        }
    }

    /// Whether a command is committed.
    pub(super) fn holds_command(&self, nodes: &BTreeMap<NodeId, SimNode>, command: &str) -> bool {
        nodes.values().any(|node| {
            node.disk
                .durable
                .iter()
                .take(self.committed.len())
                .any(|entry| matches!(&entry.payload, Payload::Command(bytes) if bytes == command))
        })
    }
}
