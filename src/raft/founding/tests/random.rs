//! Thousands of short random lives of a founding: crashes at any write, lost directories, two
//! processes under one name, mail lost, repeated and out of order. The judge in `world` checks the
//! safety statement at every step; then everything is healed and progress is demanded.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::super::{Founding, Stage};
use super::world::{Counts, World};
use crate::raft::NodeId;

/// What became of one run after healing.
#[derive(Default, Debug)]
struct Outcomes {
    founded: usize,
    founded_before_heal: usize,
    discarded: usize,
    waiting_to_be_taken_in: usize,
}

struct Life {
    world: World,
    rng: SmallRng,
    seats: Vec<String>,
    /// Percent of the steps that are faults of the rough kind.
    rough: u32,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut rng = SmallRng::seed_from_u64(seed);
        let count = *[1, 2, 3, 3, 3, 3, 3, 5].choose(&mut rng).expect("a count");
        let seats: Vec<String> = (0..count).map(|n| format!("raft-{n}")).collect();
        let mut world = World::new(&seats);
        world.silent = true;
        world.service = rng.random_bool(0.5);
        let rough = *[0, 2, 5, 15].choose(&mut rng).expect("a share");
        Life { world, rng, seats, rough }
    }

    fn start_in(&mut self, seat: &str) {
        let seeds = self.world.seeds.clone();
        self.world.start(seat, seeds);
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.choose(&mut self.rng).copied()
    }

    fn step(&mut self) {
        // Faults come most while a draft is under way: that is where they have something to break.
        let drafting =
            self.world.processes.values().any(|process| process.disk.stage.held().is_some());
        let share = if drafting { self.rough * 2 } else { self.rough };
        if self.rng.random_ratio(share, 100) {
            return self.fault();
        }
        let running = self.world.running();
        match self.rng.random_range(0..100) {
            0..40 if !self.world.mail.is_empty() => {
                let n = self.rng.random_range(0..self.world.mail.len());
                let mail = self.world.mail.swap_remove(n);
                match self.rng.random_range(0..20) {
                    0 => {}
                    1 => {
                        self.world.mail.push(mail.clone());
                        self.world.deliver(mail);
                    }
                    _ => self.world.deliver(mail),
                }
            }
            40..60 if !self.world.rounds.is_empty() => {
                let round = self.rng.random_range(0..self.world.rounds.len());
                let question = self.rng.random_range(0..self.world.open_questions(round));
                let reachable = self.rng.random_ratio(39, 40);
                self.world.answer(round, question, reachable);
            }
            60..80 => {
                if let Some(id) = self.pick(&running) {
                    self.world.sync(id);
                }
            }
            _ => {
                if let Some(id) = self.pick(&running) {
                    for _ in 0..self.rng.random_range(1..30) {
                        self.world.input(id, Founding::tick);
                    }
                }
            }
        }
    }

    fn fault(&mut self) {
        let seats = self.seats.clone();
        // Half of all faults hit the drafter's seat, where they hurt most.
        let lowest = self.rng.random_bool(0.5);
        let Some(seat) = (if lowest { seats.first() } else { seats.choose(&mut self.rng) }) else {
            return;
        };
        let of_seat = |life: &Life, running: bool| -> Vec<NodeId> {
            let all = life.world.processes.iter().filter(|(_, p)| p.me.name == *seat && !p.lost);
            all.filter(|(_, p)| p.founding.is_some() == running).map(|(id, _)| *id).collect()
        };
        let (up, down) = (of_seat(self, true), of_seat(self, false));
        match self.rng.random_range(0..11) {
            0..3 => {
                if let Some(id) = self.pick(&up) {
                    self.world.crash(id);
                }
            }
            3..7 => match self.pick(&down) {
                Some(id) => self.world.boot(id),
                None if up.is_empty() => self.start_in(seat),
                None => {}
            },
            7..9 => {
                if let Some(id) = self.pick(&up) {
                    self.world.lose(id);
                    self.start_in(seat);
                }
            }
            9 if up.len() < 2 => self.start_in(seat),
            _ => {
                if let Some(id) = self.pick(&up) {
                    self.world.address.insert(seat.clone(), id);
                }
            }
        }
    }

    /// One process a seat, any of those that still have a directory; the rest is gone for good.
    fn heal(&mut self) {
        for seat in self.seats.clone() {
            let all = self.world.processes.iter().filter(|(_, p)| p.me.name == seat && !p.lost);
            let all: Vec<NodeId> = all.map(|(id, _)| *id).collect();
            let stays = self.pick(&all);
            for id in all {
                if Some(id) != stays {
                    self.world.lose(id);
                } else if self.world.processes[&id].founding.is_none() {
                    self.world.boot(id);
                }
            }
            match stays {
                Some(id) => drop(self.world.address.insert(seat, id)),
                None => self.start_in(&seat),
            }
        }
    }

    /// Time passes and nothing is lost any more, but the order is still any order.
    fn quiet(&mut self, ticks: u64) {
        for _ in 0..ticks {
            for id in self.world.running() {
                self.world.input(id, Founding::tick);
            }
            loop {
                let running = self.world.running();
                let writing: Vec<NodeId> = running
                    .into_iter()
                    .filter(|id| !self.world.processes[id].unsynced.is_empty())
                    .collect();
                if let Some(id) = self.pick(&writing) {
                    self.world.sync(id);
                } else if !self.world.mail.is_empty() {
                    let n = self.rng.random_range(0..self.world.mail.len());
                    let mail = self.world.mail.swap_remove(n);
                    self.world.deliver(mail);
                } else if !self.world.rounds.is_empty() {
                    self.world.answer(0, 0, true);
                } else {
                    break;
                }
            }
        }
    }

    /// Whether the rule itself leaves this node holding: its drafter is lost, and some other listed
    /// node can never refuse.
    fn bound(&self, id: NodeId) -> bool {
        let Stage::Held(draft) = &self.world.processes[&id].disk.stage else { return false };
        if draft.drafter == id || !self.world.processes[&draft.drafter].lost {
            return false;
        }
        let mut others = draft.members.keys().filter(|o| **o != draft.drafter && **o != id);
        draft.members.len() == 2
            || others.any(|other| {
                let process = &self.world.processes[other];
                process.lost || process.disk.stage.held() == Some(draft)
            })
    }

    /// Whether somebody still waits for a cluster all of which is lost: it is remembered for a while.
    fn mourn(&self) -> bool {
        let running = self.world.running();
        let waiting = |id: &NodeId| self.world.founding(*id).waiting();
        let waits =
            |id: &NodeId| waiting(id).is_some_and(|why| why.contains("waiting to be taken in"));
        running.iter().all(|id| waiting(id).is_some()) && running.iter().any(waits)
    }

    /// After healing: a cluster, and those who are not in it know why they wait.
    fn demand_progress(&mut self, outcomes: &mut Outcomes) {
        for _ in 0..self.seats.len() + 1 {
            self.quiet(200);
            if self.mourn() {
                self.quiet(1000);
            }
            let running = self.world.running();
            let clusters: std::collections::BTreeMap<_, _> = running
                .iter()
                .filter_map(|id| self.world.founding(*id).founded())
                .map(|founded| (founded.cluster_id, founded.membership))
                .collect();
            let mut discard = Vec::new();
            let mut others = Vec::new();
            for id in &running {
                let founding = self.world.founding(*id);
                if founding.founded().is_some() {
                    continue;
                }
                let waiting = founding.waiting().expect("who is not founded says why").to_owned();
                let listed = clusters.values().any(|membership| membership.contains(*id));
                assert!(!listed, "a listed node learns the decision: {waiting}");
                if waiting.contains("srvraft discard") {
                    assert!(self.bound(*id), "discard is asked for where nothing else helps");
                    discard.push(*id);
                } else {
                    others.push(waiting);
                }
            }
            if !clusters.is_empty() {
                for waiting in &others {
                    let named = clusters.keys().all(|id| waiting.contains(&id.to_string()));
                    assert!(named, "who is not in a cluster names it: {waiting}");
                    outcomes.waiting_to_be_taken_in += 1;
                }
            }
            if discard.is_empty() {
                assert!(
                    !clusters.is_empty(),
                    "nobody is in the way, and nothing is founded: {others:?}"
                );
                outcomes.founded += 1;
                return;
            }
            outcomes.discarded += discard.len();
            for id in discard {
                let seat = self.world.processes[&id].me.name.clone();
                self.world.lose(id);
                self.start_in(&seat);
            }
        }
        panic!("discarding did not help");
    }
}

fn live(seed: u64, outcomes: &mut Outcomes) -> Counts {
    let mut life = Life::new(seed);
    for seat in life.seats.clone() {
        if life.rng.random_bool(0.9) {
            life.start_in(&seat);
        }
    }
    for _ in 0..life.rng.random_range(20..300) {
        life.step();
    }
    outcomes.founded_before_heal += usize::from(life.world.counts.decided > 0);
    life.heal();
    life.demand_progress(outcomes);
    life.world.counts
}

/// `BALSA_FOUNDING_SEED=N` lives one life again, `BALSA_FOUNDING_LIVES=N` lives as many.
#[test]
fn random_lives_are_safe_and_go_on() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let mut outcomes = Outcomes::default();
    if let Some(seed) = number("BALSA_FOUNDING_SEED") {
        live(seed, &mut outcomes);
        return;
    }
    let mut sum = Counts::default();
    for seed in 0..number("BALSA_FOUNDING_LIVES").unwrap_or(2000) {
        println!("BALSA_FOUNDING_SEED={seed}");
        let counts = live(seed, &mut outcomes);
        sum.drafted += counts.drafted;
        sum.withdrawn += counts.withdrawn;
        sum.let_go_by_withdrawal += counts.let_go_by_withdrawal;
        sum.let_go_by_refusals += counts.let_go_by_refusals;
        sum.decided += counts.decided;
        sum.learned += counts.learned;
    }
    println!("{outcomes:?} {sum:?}");
    // A test that never meets a fault proves nothing about it.
    for (what, times) in [
        ("withdrawn", sum.withdrawn),
        ("let go by withdrawal", sum.let_go_by_withdrawal),
        ("let go by refusals", sum.let_go_by_refusals),
        ("founded before healing", outcomes.founded_before_heal),
        ("discarded", outcomes.discarded),
        ("waiting to be taken in", outcomes.waiting_to_be_taken_in),
    ] {
        assert!(times >= 15, "{what}: only {times} times");
    }
}
