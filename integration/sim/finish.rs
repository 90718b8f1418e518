//! The end of every run: the faults stop, what is down comes up, and then there must be progress. A run
//! that is safe and stuck has failed.

use std::collections::BTreeSet;
use std::time::Duration;

use balsa::raft::founding::Stage;
use balsa::raft::{Index, RoleKind};

use super::linearize::{self, Verdict};
use super::world::{DirId, Event, Seat, SeatId, TICK, World, say};

/// Ten election timeouts of the longest kind.
const TEN_TIMEOUTS: u64 = 10 * 20 * TICK;

impl World {
    /// Lets everything heal and judges what comes of it.
    pub fn finish(&mut self) {
        self.heal();
        self.wait_for("a cluster", 30_000, World::is_founded);
        self.wait_for("one leader", TEN_TIMEOUTS, World::is_led);
        let written = self.counts.written;
        self.wait_for("fresh write", TEN_TIMEOUTS, |world| world.counts.written > written + 3);
        self.wait_for("recognition of an old copy", TEN_TIMEOUTS, |world| !world.suspect());
        self.silent = true;
        self.wait_for("the last answers", 2 * TEN_TIMEOUTS, |world| {
            world.clients.iter().all(|client| !client.is_waiting())
        });
        self.wait_for("equal logs", 10 * TEN_TIMEOUTS, World::is_even);
        self.read_everything();
        self.judge_history();
    }

    /// Nothing goes wrong any more.
    fn heal(&mut self) {
        say!(self, "everything heals");
        self.calm = true;
        self.cuts.clear();
        self.settle_twins();
        for seat in (0..self.seats.len()).map(SeatId) {
            self.start_seat(seat);
        }
    }

    /// Of two processes under one name the one stays that is, or would be, a member.
    fn settle_twins(&mut self) {
        for seat in (0..self.seats.len()).map(SeatId) {
            let here = |dir: &DirId| self.dirs[dir.0].seat == seat && !self.dirs[dir.0].lost;
            let all: Vec<DirId> = (0..self.dirs.len()).map(DirId).filter(here).collect();
            if self.seats[seat.0].gone {
                continue;
            }
            let listed = |sure: bool| {
                all.iter().copied().find(|dir| is_listed(self, self.dirs[dir.0].id, sure))
            };
            let sits = |votes: bool| {
                all.iter().copied().find(|dir| {
                    let id = self.dirs[dir.0].id;
                    if votes { self.oracle.is_voter(id) } else { self.oracle.is_member(id) }
                })
            };
            let member = sits(true).or_else(|| sits(false));
            let founds = || listed(true).or_else(|| listed(false));
            let stays = member.or_else(founds).or(self.seats[seat.0].dir);
            let stays = stays.expect("a volume");
            self.seats[seat.0].dir = Some(stays);
            for life in self.running() {
                let process = self.process(life).expect("it runs");
                if process.seat == seat && process.dir != stays {
                    let dir = process.dir;
                    self.crash(life);
                    self.dirs[dir.0].lost = true;
                }
            }
            for dir in self.dirs.iter_mut().enumerate() {
                if dir.1.seat == seat && DirId(dir.0) != stays {
                    dir.1.lost = true;
                }
            }
            let at = self
                .running()
                .into_iter()
                .find(|life| self.process(*life).is_some_and(|process| process.dir == stays));
            self.seats[seat.0].at = at;
        }
    }

    /// Runs until something is true.
    fn wait_for(&mut self, what: &str, limit: u64, holds: impl Fn(&World) -> bool) {
        let latest = self.now + limit;
        while !holds(self) {
            assert!(
                self.now < latest,
                "liveness: no {what} in {limit} units of time{}",
                self.look()
            );
            let next = self.now + TICK;
            self.run_until(next);
            self.discard_hopeless_drafts();
            if next % 500 < TICK {
                self.admin_insists();
            }
        }
        say!(self, "there: {what}");
    }

    /// How everybody stands, for whoever reads a failure.
    pub fn look(&self) -> String {
        let mut text = String::new();
        if let Some(leader) = self.leaders().first() {
            text += &format!("\n{:?}", self.core(*leader).expect("it leads").membership());
        }
        for life in self.running() {
            let process = self.process(life).expect("it runs");
            text += &format!("\n{life:?} {:?} {} ", process.seat, process.id);
            match &process.raft {
                None => text += process.founding.waiting().unwrap_or("waits"),
                Some(raft) => text += &format!("{:?}, links {:?}", raft.core.status(), raft.links),
            }
        }
        text
    }

    /// What an operator does where a founding is blocked for good: the drafter's directory is lost, and
    /// nobody knows whether it had decided (`srvraft discard`).
    fn discard_hopeless_drafts(&mut self) {
        if self.now % 2000 >= TICK || self.is_decided() {
            return;
        }
        let lost: BTreeSet<_> = self.dirs.iter().filter(|dir| dir.lost).map(|dir| dir.id).collect();
        let kept = self.dirs.iter().filter(|dir| !dir.lost);
        let kept: BTreeSet<_> = kept.map(|dir| dir.id).collect();
        for life in self.running() {
            let process = self.process(life).expect("it runs");
            if let Stage::Held(draft) = &process.founding.record().stage
                && lost.contains(&draft.drafter)
                && !kept.contains(&draft.drafter)
            {
                self.counts.discards += 1;
                self.oracle.founding_lost();
                self.start_over(life);
            }
        }
    }

    /// Whether anybody who is left has decided, or is about to.
    fn is_decided(&self) -> bool {
        let decided = |stage: &Stage| matches!(stage, Stage::Decided(_));
        self.dirs
            .iter()
            .any(|dir| !dir.lost && (dir.cluster.is_some() || decided(&dir.record.stage)))
            || self.lives.iter().flatten().any(|process| decided(&process.founding.record().stage))
    }

    fn is_founded(&self) -> bool {
        self.present().all(|seat| seat.at.is_some_and(|life| self.core(life).is_some()))
    }

    /// The seats that there are.
    fn present(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().filter(|seat| !seat.gone)
    }

    /// One leader, whom everybody who is a member follows.
    fn is_led(&self) -> bool {
        let leaders: BTreeSet<_> =
            self.soft_states().map(|soft| (soft.term, soft.leader)).collect();
        leaders.len() == 1 && leaders.iter().all(|(_, leader)| leader.is_some())
    }

    fn soft_states(&self) -> impl Iterator<Item = balsa::raft::SoftState> + '_ {
        let lives = self.seats.iter().filter_map(|seat| self.core(seat.at?));
        let members = lives.filter(|core| self.oracle.is_member(core.status().id));
        members.map(|core| core.status().soft_state)
    }

    /// Everybody has applied the same log to its end, and everybody is a voter of one membership.
    fn is_even(&self) -> bool {
        let mut ends = BTreeSet::new();
        let seats = self.present().count();
        for seat in self.present() {
            let Some(core) = seat.at.and_then(|life| self.core(life)) else { return false };
            let status = core.status();
            let voter = core.membership().voters.contains(&status.id);
            let settled = !core.membership().is_joint()
                && core.membership().voters.len() == seats
                && core.membership().members.len() == seats;
            if !voter || !settled || status.applied != status.last.index {
                return false;
            }
            ends.insert((status.last, status.membership_index));
        }
        ends.len() == 1
    }

    /// Every acknowledged write can be read: what the revisions' judge sees only if somebody looks.
    fn read_everything(&mut self) {
        let leader = self.leaders().first().copied().expect("one leads");
        let followers = self.soft_states().filter(|soft| soft.role == RoleKind::Follower).count();
        assert_eq!(followers + 1, self.present().count(), "liveness: everybody else follows");
        let end = self.core(leader).expect("it leads").status().applied;
        assert!(end >= self.oracle.committed() && end > Index::ZERO, "S10: the end holds it all");
        self.read_all_keys(leader);
    }

    fn judge_history(&mut self) {
        let verdict = linearize::judge(&self.story.history, Duration::from_secs(20));
        assert_eq!(verdict, Verdict::Linearizable, "the clients' history");
    }

    /// A whole run.
    pub fn run(&mut self, chaos: u64) {
        let first = self.knobs.faults_every;
        self.after(first, Event::Fault);
        self.run_until(chaos);
        self.finish();
    }
}

/// Whether a draft that somebody has on disk, or a decided one, lists this node.
fn is_listed(world: &World, id: balsa::raft::NodeId, decided: bool) -> bool {
    world.dirs.iter().any(|dir| match &dir.record.stage {
        Stage::Decided(draft) => draft.members.contains_key(&id),
        Stage::Held(draft) => !decided && draft.members.contains_key(&id),
        Stage::Empty => false,
    })
}
