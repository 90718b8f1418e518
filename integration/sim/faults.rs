//! What goes wrong, and what people do to a cluster: chosen by the run's own generator.

use balsa::raft::{Membership, NodeId};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::world::{Directory, Event, Life, SeatId, World, say};

impl World {
    /// Something happens to the cluster, then, later, something else.
    pub fn fault(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.rng.random_range(1..=2 * self.knobs.faults_every);
        self.after(pause, Event::Fault);
        match self.rng.random_range(0..100) {
            0..10 => self.crash_someone(),
            10..18 => self.crash_a_leader(),
            18..26 => self.isolate_a_leader(),
            26..31 => self.isolate_someone(),
            31..36 => self.cut_one_way(),
            36..50 => self.cuts.clear(),
            50..56 => self.hand_over(),
            56..62 => self.stop_someone(),
            62..72 => self.wipe_someone(),
            72..80 => self.copy_someone(),
            80..88 => self.restore_someone(),
            88..91 => self.scale_up(),
            91..94 => self.admin_removes(),
            94..97 => self.admin_wishes(),
            _ => self.twin(),
        }
        self.admin_insists();
    }

    fn someone(&mut self) -> Option<Life> {
        self.running().choose(&mut self.rng).copied()
    }

    pub fn some_leader(&mut self) -> Option<Life> {
        self.leaders().choose(&mut self.rng).copied()
    }

    fn some_seat(&mut self) -> SeatId {
        SeatId(self.rng.random_range(0..self.seats.len()))
    }

    /// Now and then a leader dies in the middle of a change.
    pub fn change_interrupted(&mut self, life: Life, membership: &Membership) {
        let leads = self.leaders().contains(&life);
        if leads && membership.is_joint() && !self.calm && self.rng.random_bool(0.2) {
            let delay = self.rng.random_range(1..60);
            self.after(delay, Event::Crash(life));
        }
    }

    /// A leader dies, if it still leads and the members are still changing.
    pub fn crash_in_a_change(&mut self, life: Life) {
        let joint = self.core(life).is_some_and(|core| core.membership().is_joint());
        if joint && !self.calm && self.leaders().contains(&life) {
            self.counts.joint_interrupted += 1;
            self.crash_and_restart(life);
        }
    }

    /// The process dies, and comes back after a while.
    fn crash_and_restart(&mut self, life: Life) {
        if self.suspect() {
            return;
        }
        let seat = self.process(life).expect("it runs").seat;
        self.counts.crashes += 1;
        self.crash(life);
        let delay = self.rng.random_range(5..1500);
        self.after(delay, Event::Start(seat));
    }

    fn crash_someone(&mut self) {
        if let Some(life) = self.someone() {
            self.crash_and_restart(life);
        }
    }

    fn crash_a_leader(&mut self) {
        if let Some(life) = self.some_leader() {
            self.counts.leader_crashes += 1;
            self.crash_and_restart(life);
        }
    }

    /// Nothing reaches the seat and nothing leaves it.
    pub fn isolate(&mut self, seat: SeatId) {
        say!(self, "{seat:?} is isolated");
        self.counts.isolations += 1;
        for other in (0..self.seats.len()).map(SeatId).filter(|other| *other != seat) {
            self.cuts.insert((seat, other));
            self.cuts.insert((other, seat));
        }
    }

    fn isolate_someone(&mut self) {
        let seat = self.some_seat();
        self.isolate(seat);
    }

    pub fn isolate_a_leader(&mut self) {
        if let Some(life) = self.some_leader() {
            let seat = self.process(life).expect("it runs").seat;
            self.isolate(seat);
        }
    }

    fn cut_one_way(&mut self) {
        let (from, to) = (self.some_seat(), self.some_seat());
        if from != to {
            say!(self, "nothing passes from {from:?} to {to:?}");
            self.counts.cuts += 1;
            self.cuts.insert((from, to));
        }
    }

    /// An admin wants another leader.
    fn hand_over(&mut self) {
        let Some(life) = self.some_leader() else { return };
        let core = self.core(life).expect("a leader");
        let members: Vec<NodeId> = core.membership().members.keys().copied().collect();
        let to = *members.choose(&mut self.rng).expect("a leader has members");
        self.transfer(life, to);
    }

    fn transfer(&mut self, life: Life, to: NodeId) {
        say!(self, "{life:?} is to hand over to {to}");
        let raft = self.raft_mut(life).expect("a leader");
        let (result, effects) = raft.core.transfer(to);
        self.counts.transfers += u64::from(result.is_ok());
        self.carry_out(life, effects);
    }

    /// A process is told to stop: it hands over first, if it leads.
    fn stop_someone(&mut self) {
        let Some(life) = self.someone().filter(|_| !self.suspect()) else { return };
        let latest = self.now + 600;
        self.process_mut(life).expect("it runs").stopping = Some(latest);
        say!(self, "{life:?} is told to stop");
    }

    /// One more look at a process that is to stop.
    pub fn stops(&mut self, life: Life, latest: u64) {
        let leads = self.leaders().contains(&life);
        if leads && self.now < latest {
            let core = self.core(life).expect("a leader");
            let successor = core.successor().filter(|_| core.status().transfer.is_none());
            if let Some(to) = successor {
                self.transfer(life, to);
            }
            return;
        }
        if self.suspect() {
            return;
        }
        let seat = self.process(life).expect("it runs").seat;
        self.counts.stops += 1;
        self.crash(life);
        let delay = self.rng.random_range(5..300);
        self.after(delay, Event::Start(seat));
    }

    /// A second process under a name, with a directory of its own, while there is no cluster yet.
    fn twin(&mut self) {
        let seat = self.some_seat();
        // One seat at a time: who replaces every seat's node has replaced the cluster.
        let elsewhere = |dir: &Directory| {
            let volume =
                self.seats[dir.seat.0].dir.is_some_and(|there| self.dirs[there.0].id == dir.id);
            !dir.lost && dir.seat != seat && !volume
        };
        if self.dirs.iter().any(|dir| dir.cluster.is_some() || elsewhere(dir)) {
            return;
        }
        let former = self.seats[seat.0].dir;
        self.counts.twins += 1;
        let dir = self.empty_volume(seat);
        let life = self.start(dir);
        say!(self, "{life:?} is a second process in {seat:?}");
        // Either of the two may be the one that stays.
        if self.rng.random_bool(0.5) {
            self.seats[seat.0].dir = former;
        }
    }
}
