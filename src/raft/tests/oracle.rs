//! Knows everything that happened in a cluster, and says when an invariant of
//! correctness.md section 1 is broken. It looks at disks and messages, not at what nodes believe.

use std::collections::{BTreeMap, BTreeSet};

use super::super::change;
use super::super::message::{AppendReply, InstallReply};
use super::super::{
    Boot, Envelope, HardState, Index, LogId, Message, NodeId, Payload, PeerStatus, Persist,
    ReadToken, Refusal, RoleKind, Seen, Term,
};
use super::disk::{Chain, History, SimDisk, SimLog};
use super::env::{SimNode, is_request};

#[derive(Default)]
pub(super) struct Oracle {
    /// S1.
    leaders: BTreeMap<Term, NodeId>,
    /// S3, S13: the one history behind every log id ever written.
    histories: BTreeMap<LogId, Chain>,
    /// S4, S5, S10: everything ever committed, in order.
    committed: History,
    /// S6: by node, in its present life.
    commits: BTreeMap<NodeId, Index>,
    /// S5, S16: the fingerprint of what each node has applied, by index.
    applied: BTreeMap<NodeId, Index>,
    roles: BTreeMap<NodeId, (RoleKind, Term)>,
    replies: BTreeMap<(NodeId, NodeId, u64), usize>,
    /// R1: what was committed anywhere when the read arrived.
    reads: BTreeMap<ReadToken, usize>,
    pub(super) reads_answered: usize,
    pub(super) truncations: usize,
    pub(super) installs: usize,
    /// Campaigns that a leader asked for.
    pub(super) transfers: usize,
    /// What a node, in its present life, was told by another: its terms, and as leader its acknowledgements.
    pub(super) told: BTreeMap<(NodeId, NodeId), Seen>,
    /// Directories that were put back to an older copy: their past is not what they say.
    pub(super) rewound: BTreeSet<NodeId>,
    /// Where changes of the members were completed.
    pub(super) changes: BTreeSet<Index>,
}

impl Oracle {
    /// Terms that had a leader.
    pub(super) fn leaderships(&self) -> usize {
        self.leaders.len()
    }

    /// Entries committed so far.
    pub(super) fn committed(&self) -> usize {
        self.committed.len()
    }

    /// A node began with a log that a test made up.
    pub(super) fn given(&mut self, log: &SimLog) {
        for (id, chain) in &log.history {
            let known = *self.histories.entry(*id).or_insert(*chain);
            assert_eq!(known, *chain, "the test's logs break log matching (S3)");
        }
    }

    pub(super) fn restarted(&mut self, id: NodeId) {
        self.commits.remove(&id);
        self.applied.remove(&id);
        self.roles.remove(&id);
        self.told.retain(|(listener, _), _| *listener != id);
    }

    /// A member's message has arrived.
    pub(super) fn hears(&mut self, id: NodeId, from: NodeId, term: Term) {
        let told = self.told.entry((id, from)).or_default();
        told.term = told.term.max(term);
    }

    /// A batch was handed to a disk; `log` has taken it over.
    pub(super) fn written(&mut self, id: NodeId, batch: &Persist, log: &SimLog) {
        self.truncations += usize::from(batch.truncate_after.is_some());
        if let Some(snapshot) = &batch.install {
            self.installs += 1;
            self.is_committed(id, &log.history[..snapshot.last.index.0 as usize]);
        }
        if batch.entries.iter().any(|entry| matches!(entry.payload, Payload::Membership(_))) {
            for pair in log.all_memberships().windows(2) {
                let (before, after) = (&pair[0].1, &pair[1].1);
                assert!(change::overlap(before, after), "{before:?} and {after:?} (S15)");
            }
        }
        for (entry, chain) in log.history.iter().rev().take(batch.entries.len()) {
            let author = self.leaders.get(&entry.term);
            let known = *self.histories.entry(*entry).or_insert_with(|| {
                // A leader's first batch is handed over before anybody has seen it lead.
                assert!(author.is_none_or(|author| *author == id), "one author a term (S13)");
                *chain
            });
            assert_eq!(known, *chain, "{entry} has two histories (S3)");
        }
    }

    /// A node holds this to be committed: so must everyone, without an exception.
    fn is_committed(&mut self, id: NodeId, history: &[(LogId, Chain)]) {
        let known = history.len().min(self.committed.len());
        assert_eq!(history[..known], self.committed[..known], "{id} differs (S5, S10)");
        self.committed.extend_from_slice(&history[known..]);
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
        self.remembers(id, &status.peers, nodes);
        let now = (status.soft_state.role, status.soft_state.term);
        let before = self.roles.insert(id, now);
        assert!(before.is_none_or(|(_, term)| term <= now.1), "{id}: term went back (S7)");
        if now.0 == RoleKind::Leader && before != Some(now) {
            self.takes_office(id, now.1, &node.disk.written);
        }
        let commit = self.commits.insert(id, status.commit).unwrap_or_default();
        assert!(status.commit >= commit, "{id}: commit went back (S6)");
        if status.commit > commit {
            self.commits_upto(id, status.commit, now, nodes);
        }
        if now.0 == RoleKind::Leader {
            let all = node.disk.written.all_memberships();
            // By what is committed, which a new leader need not know yet.
            let committed = self.committed.len() as u64;
            let pending = all.iter().filter(|(at, _)| at.0 > committed).count();
            assert!(pending <= 1, "{id} has {pending} changes under way (S14)");
            if pending == 0 && all.len() > 1 && all.last().is_some_and(|it| !it.1.is_joint()) {
                self.changes.insert(all.last().expect("one").0);
            }
        }
    }

    /// What nodes remember of each other: never more than a node would say of itself after a crash right
    /// now, nor more than it says now; and a leader all that was acknowledged to it.
    fn remembers(&mut self, id: NodeId, peers: &[PeerStatus], nodes: &BTreeMap<NodeId, SimNode>) {
        let durably = |id: NodeId| {
            let SimNode { disk, boots, .. } = &nodes[&id];
            let (term, acknowledged) = (disk.hard_state.term, disk.durable.reached);
            Seen { boot: Boot(*boots), term, acknowledged }
        };
        let honest = |id: &NodeId| !self.rewound.contains(id);
        let core = nodes[&id].core.as_ref().expect("it just acted");
        assert!(!core.claims().exceeds(durably(id)), "{id} boasts: {:?} (S17)", core.claims());
        for (other, seen) in core.seen().iter().filter(|(other, _)| honest(other)) {
            assert!(!seen.exceeds(durably(*other)), "{id} accuses {other} of {seen:?}");
            if let Some(other) = &nodes[other].core {
                assert!(!seen.exceeds(other.claims()), "{other:?} claims too little");
            }
        }
        for other in nodes.values().filter_map(|node| node.core.as_ref()).filter(|_| honest(&id)) {
            let seen = other.seen().get(&id).copied().unwrap_or_default();
            assert!(!seen.exceeds(core.claims()), "{id} claims less than it has shown");
        }
        for peer in peers.iter().filter(|it| core.membership().contains(it.id)) {
            let told = self.told.entry((id, peer.id)).or_default();
            told.acknowledged = told.acknowledged.max(peer.matched);
        }
        let members = core.membership();
        self.told.retain(|(listener, of), _| *listener != id || members.contains(*of));
        for ((_, of), told) in self.told.iter().filter(|((listener, _), _)| *listener == id) {
            let seen = core.seen().get(of).copied().unwrap_or_default();
            assert!(!told.exceeds(seen), "{id} forgets of {of} that it was {told:?}");
        }
    }

    fn takes_office(&mut self, id: NodeId, term: Term, log: &SimLog) {
        let leader = *self.leaders.entry(term).or_insert(id);
        assert_eq!(leader, id, "two leaders in term {term} (S1)");
        for (at, known) in self.committed.iter().enumerate() {
            assert_eq!(log.history.get(at), Some(known), "leader {id} of {term} lacks it (S4)");
        }
    }

    fn commits_upto(
        &mut self,
        id: NodeId,
        upto: Index,
        (role, term): (RoleKind, Term),
        nodes: &BTreeMap<NodeId, SimNode>,
    ) {
        let log = &nodes[&id].disk.written;
        let before = self.committed.len() as u64;
        self.is_committed(id, &log.history[..upto.0 as usize]);
        if role != RoleKind::Leader {
            return;
        }
        let last = log.history[upto.0 as usize - 1].0;
        assert_eq!(last.term, term, "an older entry was committed by counting (S9)");
        // The newest membership; and one that nobody had committed so far was active itself, even if
        // its leader has completed it in the same breath.
        let all = log.all_memberships();
        let (_, newest) = all.last().expect("a leader knows the members");
        let fresh = all.iter().filter(|(at, _)| at.0 > before && *at <= upto).map(|it| &it.1);
        let sets = fresh.chain([newest]).flat_map(|it| [&it.voters, &it.outgoing]);
        for voters in sets {
            let hold = |id: &&NodeId| nodes[id].disk.durable.holds(last);
            let holders = voters.iter().filter(hold).count();
            assert!(
                voters.is_empty() || holders > voters.len() / 2,
                "{last} is on {holders} disks only, yet {id} commits it (S8)"
            );
        }
    }

    /// A node's state machine may apply up to here.
    pub(super) fn applied(&mut self, id: NodeId, upto: Index, durable: &SimLog) {
        let before = self.applied.insert(id, upto).unwrap_or(durable.base().index);
        assert!(upto > before, "{id} applies in order and once (S16)");
        assert!(upto <= durable.last().index, "{id} applies what its disk lacks (S10)");
        assert!(durable.read(before, upto).is_some(), "{id} applies what is gone (S16)");
    }

    /// A node's state machine takes over a snapshot's content.
    pub(super) fn restored(&mut self, id: NodeId, last: LogId, durable: &SimLog) {
        let before = self.applied.insert(id, last.index).unwrap_or_default();
        assert!(last.index > before, "{id} goes back to an older state (S16)");
        let durable = durable.snapshot.as_ref().map(|snapshot| snapshot.last);
        assert_eq!(durable, Some(last), "{id} restores what its disk lacks (S17)");
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
                let last = disk.durable.last();
                assert!(!current || last >= vote.last, "{envelope:?} boasts (S17)");
            }
            Message::VoteReply(reply) if reply.granted && !reply.pre => {
                let given = durable.vote == Some(envelope.to);
                assert!(given || !current, "{envelope:?} promises a vote not on disk (S17)");
            }
            Message::TimeoutNowReply(reply) => self.transfers += usize::from(reply.campaigns),
            Message::AppendReply(AppendReply::Accepted { matched })
            | Message::InstallReply(InstallReply::Installed { matched })
                if current =>
            {
                self.claims(envelope, matched.0 as usize, disk, nodes);
            }
            _ => {}
        }
        if !is_request(&envelope.message) {
            let key = (envelope.from, envelope.to, envelope.request.0);
            *self.replies.entry(key).or_default() += 1;
        }
    }

    /// The sender claims to hold what the leader of its term holds, up to here.
    fn claims(
        &self,
        envelope: &Envelope,
        at: usize,
        disk: &SimDisk,
        nodes: &BTreeMap<NodeId, SimNode>,
    ) {
        let log = &disk.durable.history;
        assert!(at <= log.len(), "{envelope:?} claims more than the disk has (S17)");
        let leader = &nodes[&envelope.to];
        let leads = leader.core.is_some()
            && self.leaders.get(&envelope.term) == Some(&envelope.to)
            && self.roles.get(&envelope.to) == Some(&(RoleKind::Leader, envelope.term));
        if leads {
            let leader = &leader.disk.written.history;
            assert_eq!(leader[..at], log[..at], "{envelope:?} differs (S3)");
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

    /// Every member that runs holds the same log and has committed all of it.
    pub(super) fn assert_converged(&self, nodes: &BTreeMap<NodeId, SimNode>, leader: NodeId) {
        let leader = nodes[&leader].core.as_ref().expect("it leads");
        let members = leader.membership();
        assert!(!members.is_joint(), "a change is left half done (M9)");
        let nodes: Vec<&SimNode> = members.members.keys().map(|id| &nodes[id]).collect();
        let running = || nodes.iter().filter(|node| node.core.is_some());
        let logs: BTreeSet<&History> = running().map(|node| &node.disk.durable.history).collect();
        assert_eq!(logs.len(), 1, "the logs differ after healing: {logs:?}");
        for core in running().filter_map(|node| node.core.as_ref()) {
            assert_eq!(core.membership(), members, "one membership for all");
            let status = core.status();
            assert_eq!(status.applied, status.last.index, "{} is not done", status.id);
        }
    }

    /// Whether a command is committed, and not purged everywhere.
    pub(super) fn holds_command(&self, nodes: &BTreeMap<NodeId, SimNode>, command: &str) -> bool {
        let committed = self.committed.len() as u64;
        nodes.values().flat_map(|node| node.disk.durable.entries()).any(|entry| {
            entry.id.index.0 <= committed
                && matches!(&entry.payload, Payload::Command(bytes) if bytes == command)
        })
    }
}
