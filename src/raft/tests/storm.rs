//! Seeded storms: messages are lost, doubled, late and out of order; processes die and lose what their
//! disks had not completed; links are cut. Then everything heals, and there must be progress. The
//! [`oracle`](super::oracle) watches every step. One seed repeats one storm: `BALSA_STORM=seed`.
//! `BALSA_STORMS=count` asks for more of them.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::super::{Member, MembershipChange, Node, NodeId, Options, ReadToken, SnapshotMeta};
use super::env::Cluster;

pub(super) struct Storm {
    pub(super) rng: SmallRng,
    pub(super) cluster: Cluster,
    proposed: u64,
    reads: u64,
    /// Snapshots that are being taken.
    begun: BTreeMap<NodeId, SnapshotMeta>,
}

fn options(rng: &mut SmallRng) -> Options {
    Options {
        heartbeat_ticks: 2,
        election_ticks: (8, 16),
        inflight_appends: rng.random_range(1..6),
        inflight_bytes: rng.random_range(40..400),
        append_bytes: rng.random_range(40..200),
        append_entries: rng.random_range(1..5),
        uncommitted_bytes: 2000,
        pending_reads: 10,
        trailing_entries: rng.random_range(0..4),
        promote_lag: rng.random_range(0..5),
        pinned_bytes: *[0, 0, 500].choose(rng).expect("not empty"),
    }
}

impl Storm {
    pub(super) fn new(seed: u64) -> Storm {
        let mut rng = SmallRng::seed_from_u64(seed);
        let options = options(&mut rng);
        let voters = *[1, 2, 3, 3, 3, 4, 5].choose(&mut rng).expect("not empty");
        let learners = u64::from(rng.random_bool(0.2));
        let mut cluster = Cluster::new(voters, learners, options, seed, true);
        cluster.prompt_disks = rng.random_bool(0.3);
        cluster.hellos.by_hand = true;
        Storm { rng, cluster, proposed: 0, reads: 0, begun: BTreeMap::new() }
    }

    pub(super) fn someone(&mut self) -> NodeId {
        *self.cluster.ids().choose(&mut self.rng).expect("not empty")
    }

    pub(super) fn step(&mut self) {
        let id = self.someone();
        match self.rng.random_range(0..1000) {
            0..385 => self.deliver(),
            385..410 => self.hello(id),
            410..420 => self.snapshot(id),
            420..430 => self.change(id),
            430..620 => {
                for _ in 0..self.rng.random_range(1..6) {
                    self.cluster.input(id, Node::tick);
                }
            }
            620..770 => {
                if self.cluster.alive(id) {
                    self.cluster.persist_one(id);
                }
            }
            770..860 => self.propose(),
            860..910 => self.read(),
            910..955 => self.tell_lost(),
            955..967 => self.crash_or_restart(id),
            967..970 => {
                let other = self.someone();
                self.cluster.cuts.insert((id, other));
            }
            970..983 if self.cluster.cuts.is_empty() => {
                // A leader that is cut off goes on for a while, and what it appends must go.
                let leader = self.some_leader();
                self.cluster.isolate(leader);
                for _ in 0..3 {
                    self.propose_to(leader);
                }
            }
            983..985 => {
                // Half of them with a chance.
                if self.rng.random_bool(0.5) {
                    self.cluster.tick_all();
                }
                let leader = self.some_leader();
                self.cluster.transfer(leader, id);
            }
            985..988 => self.cluster.cuts.clear(),
            988..990 => self.falls_behind(id),
            _ => {
                let other = self.someone();
                self.cluster.input(id, |core| core.peer_gone(other));
            }
        }
        self.cluster.trace.clear();
    }

    fn deliver(&mut self) {
        let waiting = self.cluster.wire.len();
        if waiting == 0 {
            return;
        }
        // Mostly in order, now and then from anywhere.
        let at = if self.rng.random_bool(0.7) { 0 } else { self.rng.random_range(0..waiting) };
        let Some(packet) = self.cluster.wire.remove(at) else { return };
        match self.rng.random_range(0..100) {
            0..5 => self.cluster.lose(packet),
            5..10 => {
                self.cluster.wire.push_back(packet.clone());
                self.cluster.deliver(packet);
            }
            _ => self.cluster.deliver(packet),
        }
    }

    /// Hellos that were on their way arrive, in any order; or a node dials another.
    fn hello(&mut self, id: NodeId) {
        if self.cluster.hellos.on_their_way.is_empty() {
            let other = self.someone();
            self.cluster.dial(id, other);
        }
        for _ in 0..4 {
            let waiting = &mut self.cluster.hellos.on_their_way;
            if !waiting.is_empty() {
                let hello = waiting.swap_remove(self.rng.random_range(0..waiting.len()));
                self.cluster.judge_hello(hello);
            }
        }
    }

    /// Whoever believes to lead, an old leader in a minority included.
    fn some_leader(&mut self) -> NodeId {
        let cluster = &self.cluster;
        let leads = |id: &NodeId| cluster.alive(*id) && cluster.soft(*id).leader == Some(*id);
        let leaders: Vec<NodeId> = cluster.ids().into_iter().filter(leads).collect();
        match leaders.choose(&mut self.rng) {
            Some(id) => *id,
            None => self.someone(),
        }
    }

    fn propose(&mut self) {
        let id = self.some_leader();
        self.propose_to(id);
    }

    fn propose_to(&mut self, id: NodeId) {
        if self.cluster.alive(id) {
            let words: Vec<String> = (0..self.rng.random_range(1..4))
                .map(|part| format!("command {}.{part}", self.proposed))
                .collect();
            self.proposed += 1;
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.cluster.propose(id, &words);
        }
    }

    fn read(&mut self) {
        let id = self.some_leader();
        if self.cluster.alive(id) {
            let token = ReadToken(self.reads);
            self.reads += 1;
            self.cluster.oracle.read_arrives(token);
            self.cluster.input(id, |core| core.read_index(token));
        }
    }

    fn tell_lost(&mut self) {
        let waiting = self.cluster.lost.len();
        if waiting > 0 {
            let at = self.rng.random_range(0..waiting);
            let lost = self.cluster.lost.swap_remove(at);
            self.cluster.tell_lost(lost);
        }
    }

    /// One node sleeps while the others go on and purge what it lacks.
    fn falls_behind(&mut self, id: NodeId) {
        self.crash(id);
        for _ in 0..self.rng.random_range(4..30) {
            self.propose();
            self.cluster.tick_all();
        }
        for other in self.cluster.ids() {
            if let Some(snapshot) = self.cluster.begin_snapshot(other) {
                self.cluster.end_snapshot(other, snapshot);
            }
        }
    }

    /// Asks for some change of the members, sensible or not; `id` is part of it.
    fn change(&mut self, id: NodeId) {
        let leader = self.some_leader();
        if !self.cluster.alive(leader) {
            return;
        }
        let (other, count) = (self.someone(), self.cluster.nodes.len() as u64);
        let mut members = self.cluster.core(leader).membership().members.iter();
        let old = members.find(|(_, member)| member.name == format!("n{}", id.0));
        let instead_of = old.map(|(old, _)| *old);
        let change = match self.rng.random_range(0..8) {
            0 | 1 => {
                // A new node for the seat of `id`, or for one of its own.
                let new = NodeId(count + 1);
                let replaces = instead_of.filter(|_| self.rng.random_bool(0.5));
                let seat = if replaces.is_some() { id } else { new };
                let member = Member { name: format!("n{}", seat.0), address: String::new() };
                if count < 9 {
                    self.cluster.join(new);
                    MembershipChange::AddLearner { id: new, member, instead_of: replaces }
                } else {
                    MembershipChange::AddLearner { id, member, instead_of: None }
                }
            }
            2 | 3 => MembershipChange::Promote { id },
            4 | 5 => MembershipChange::Replace { old: other, new: id },
            _ if self.rng.random_bool(0.4) => MembershipChange::Remove { id },
            _ => MembershipChange::Promote { id },
        };
        self.cluster.change(leader, &change);
    }

    /// Begins or ends taking a snapshot.
    fn snapshot(&mut self, id: NodeId) {
        let id = if self.rng.random_bool(0.5) { self.some_leader() } else { id };
        if let Some(snapshot) = self.begun.remove(&id) {
            self.cluster.end_snapshot(id, snapshot);
        } else if let Some(snapshot) = self.cluster.begin_snapshot(id) {
            self.begun.insert(id, snapshot);
        }
    }

    pub(super) fn crash(&mut self, id: NodeId) {
        if self.cluster.alive(id) {
            self.begun.remove(&id);
            self.cluster.crash(id);
        }
    }

    fn crash_or_restart(&mut self, id: NodeId) {
        if self.cluster.alive(id) {
            self.crash(id);
        } else {
            self.restart(id);
        }
    }

    fn restart(&mut self, id: NodeId) {
        self.cluster.restart(id);
        for other in self.cluster.ids() {
            self.cluster.dial(id, other);
            self.cluster.dial(other, id);
        }
    }

    /// The faults stop: one leader within ten election timeouts, one log, a fresh write on all disks.
    fn heal(&mut self, seed: u64) {
        self.cluster.cuts.clear();
        for id in self.cluster.ids() {
            if !self.cluster.alive(id) {
                self.cluster.restart(id);
            }
        }
        self.cluster.hellos.by_hand = false;
        self.cluster.greet_all();
        for _ in 0..160 {
            self.cluster.tick_all();
        }
        let leader = self.cluster.leader().unwrap_or_else(|| panic!("seed {seed}: no leader"));
        self.cluster.propose(leader, &["the last word"]);
        let token = ReadToken(u64::MAX);
        self.cluster.oracle.read_arrives(token);
        let answered = self.cluster.oracle.reads_answered;
        self.cluster.input(leader, |core| core.read_index(token));
        for _ in 0..20 {
            self.cluster.tick_all();
        }
        let cluster = &self.cluster;
        assert!(
            cluster.oracle.holds_command(&cluster.nodes, "the last word"),
            "seed {seed}: stuck"
        );
        assert!(cluster.oracle.reads_answered > answered, "seed {seed}: a read hangs");
        cluster.oracle.assert_converged(&cluster.nodes, leader);
    }
}

/// What happened in storms, so that they can be seen to be storms.
#[derive(Debug, Default)]
struct Weather {
    entries: usize,
    reads: usize,
    leaderships: usize,
    truncations: usize,
    installs: usize,
    changes: usize,
    transfers: usize,
}

fn blow(seed: u64, weather: &mut Weather) {
    let mut storm = Storm::new(seed);
    for _ in 0..4000 {
        storm.step();
    }
    let oracle = &storm.cluster.oracle;
    weather.entries += oracle.committed();
    weather.reads += oracle.reads_answered;
    weather.leaderships += oracle.leaderships();
    weather.truncations += oracle.truncations;
    weather.installs += oracle.installs;
    weather.changes += oracle.changes.len();
    weather.transfers += oracle.transfers;
    storm.heal(seed);
}

#[test]
fn storms() {
    let mut weather = Weather::default();
    if let Some(seed) = std::env::var("BALSA_STORM").ok().and_then(|seed| seed.parse().ok()) {
        return blow(seed, &mut weather);
    }
    let count = std::env::var("BALSA_STORMS").ok().and_then(|count| count.parse().ok());
    let storms: usize = count.unwrap_or(500);
    for seed in 0..storms as u64 {
        let calm = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            blow(seed, &mut weather);
        }));
        if let Err(why) = calm {
            eprintln!("storm {seed} broke; repeat it with BALSA_STORM={seed}");
            std::panic::resume_unwind(why);
        }
    }
    eprintln!("{storms} storms: {weather:?}");
    // A storm in which nothing gets through, or nothing goes wrong, proves nothing.
    assert!(weather.entries > 10 * storms, "{weather:?}");
    assert!(weather.reads > 3 * storms, "{weather:?}");
    assert!(weather.leaderships > 3 * storms, "{weather:?}");
    assert!(weather.truncations > storms / 8, "{weather:?}");
    assert!(weather.changes > storms / 8, "{weather:?}");
    assert!(weather.transfers > storms / 16, "{weather:?}");
    assert!(weather.installs > storms / 8, "{weather:?}");
}

/// Determinism: the same inputs cause the same effects, so that a seed repeats its storm.
#[test]
fn a_seed_repeats_its_storm() {
    let story = |seed| {
        let mut storm = Storm::new(seed);
        let mut told = Vec::new();
        for _ in 0..500 {
            storm.step();
            let nodes = storm.cluster.nodes.values();
            told.push(nodes.map(|node| format!("{:?}", node.core)).collect::<Vec<_>>());
        }
        told
    };
    for seed in 0..3 {
        assert!(story(seed) == story(seed), "seed {seed} told two stories");
    }
}
