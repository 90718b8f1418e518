//! Members that come and go: nodes that ask to be taken in, the leader's policy of seats, and an admin.

use balsa::raft::founding::{Letter, Message};
use balsa::raft::founding::{Stage, member_reply};
use balsa::raft::seats::{Join, JoinAnswer, SeatOptions, Seats, Wish};
use balsa::raft::{ChangeRefusal, MembershipChange, NodeId};
use rand::Rng;
use rand::seq::IteratorRandom;

use super::world::{Event, Life, SeatId, TICK, World, say};

/// Ticks from one request to be taken in to the next.
const JOIN_TICKS: u64 = 25;

/// How long things take in these worlds: a seat is given again soon.
pub const SEAT_OPTIONS: SeatOptions = SeatOptions { limit_ticks: 60, retirement_ticks: 150 };

impl World {
    /// What a process does about the members at every tick.
    pub fn tend_members(&mut self, life: Life) {
        if let Some(raft) = self.raft_mut(life) {
            let change = raft.seats.tick(&raft.core);
            let questions = raft.seats.questions(&raft.core);
            if let Some(change) = change {
                // Whatever comes of it: the policy looks again.
                let _ = self.change(life, &change);
            }
            for question in questions {
                let delay = self.travel();
                self.after(delay, Event::SeatQuestion(life, question.name));
            }
        }
        if self.now / TICK % JOIN_TICKS == life.0 as u64 % JOIN_TICKS && self.wants_in(life) {
            for seat in (0..self.seats.len()).map(SeatId) {
                let delay = self.travel();
                self.after(delay, Event::Join(life, seat));
            }
        }
    }

    /// Whether a process asks to be taken in: it holds no draft and has no cluster, or was told that it
    /// is no member any more, or was taken in and has heard of no members since, or knows no leader. The
    /// real one waits a while before it asks for the last reason: it asks the same, less often.
    fn wants_in(&self, life: Life) -> bool {
        let Some(process) = self.process(life) else { return false };
        match &process.raft {
            None => process.cluster.is_none() && process.founding.record().stage == Stage::Empty,
            Some(raft) => {
                let core = &raft.core;
                raft.removed
                    || core.status().removed
                    || core.membership().members.is_empty()
                    || core.status().soft_state.leader.is_none()
            }
        }
    }

    /// A leader changes the members.
    pub fn change(&mut self, life: Life, change: &MembershipChange) -> Result<(), ChangeRefusal> {
        let raft = self.raft_mut(life).expect("a leader");
        let (result, effects) = raft.core.change(change);
        if let Ok(at) = result {
            say!(self, "{life:?} begins {change:?} at {at}");
            self.counts.change(change);
        }
        if let Err(ChangeRefusal::UnderWay { .. }) = result {
            self.counts.second_changes += 1;
        }
        self.carry_out(life, effects);
        result.map(|_| ())
    }

    /// Who is there, as the seat's address tells.
    pub fn seat_is_asked(&mut self, asker: Life, name: String) {
        let Some(from) = self.process(asker).map(|process| process.seat) else { return };
        let seat = self.seats.iter().position(|seat| seat.name == name).map(SeatId);
        let reachable = seat.filter(|to| !self.cut(from, *to) && !self.cut(*to, from));
        let there = reachable.and_then(|to| self.process(self.seats[to.0].at?));
        let answer = there.map(|process| process.answer());
        let free = answer.filter(|answer| answer.holds.is_none()).map(|answer| answer.node_id);
        let delay = self.travel();
        self.after(delay, Event::SeatAnswered(asker, name, free));
    }

    /// A process asks a seat to be taken in.
    pub fn join_arrives(&mut self, asker: Life, seat: SeatId) {
        let lost = self.loses();
        let Some(process) = self.process(asker) else { return };
        let from = process.seat;
        if lost || self.cut(from, seat) || self.cut(seat, from) {
            return;
        }
        let name = self.seats[from.0].name.clone();
        let join = Join {
            address: name.clone(),
            name,
            id: process.id,
            cluster: process.cluster,
            term: self.core(asker).map_or_else(Default::default, |it| it.status().soft_state.term),
        };
        let Some(life) = self.seats[seat.0].at else { return };
        let Some(raft) = self.raft_mut(life) else { return };
        let answer = raft.seats.join(&join, &raft.core);
        let delay = self.travel();
        self.after(delay, Event::JoinAnswered(asker, answer));
    }

    /// What became of a request to be taken in.
    pub fn join_answered(&mut self, life: Life, answer: JoinAnswer) {
        if !self.wants_in(life) {
            return;
        }
        let process = self.lives[life.0].as_mut().expect("it wants in");
        match answer {
            JoinAnswer::Wait { .. } => {}
            JoinAnswer::Member { cluster } if process.raft.is_none() => {
                assert_eq!(Some(cluster), self.oracle.cluster(), "there is one cluster");
                process.cluster = Some(cluster);
                self.dirs[process.dir.0].cluster = Some(cluster);
                self.counts.joined += 1;
                self.start_core(life);
            }
            JoinAnswer::Member { .. } => {}
            JoinAnswer::Removed { why } => {
                let core = &process.raft.as_ref().expect("it has a cluster").core;
                // Who has not heard anything since it was taken in knows no term that would protect it, and
                // has nothing to lose.
                let told = !core.membership().members.is_empty();
                let member = told && self.oracle.is_member(process.id);
                assert!(!member, "{life:?} is a member and told that it was removed: {why}");
                self.note_removed(life);
            }
            JoinAnswer::StartOver { why } => {
                let id = process.id;
                let member = self.oracle.is_member(id);
                assert!(!member, "{life:?} is a member and told to start over: {why}");
                self.counts.returned += 1;
                self.start_over(life);
            }
        }
    }

    /// A node that was taken in answers a founding letter.
    pub fn member_answers(&mut self, life: Life, letter: &Letter) -> Option<Message> {
        let process = self.process(life)?;
        let cluster = process.cluster.filter(|_| process.founding.founded().is_none())?;
        member_reply(process.id, cluster, None, &letter.message)
    }

    /// An admin removes a member of any kind, the leader included; half of them for good.
    pub fn admin_removes(&mut self) {
        let Some(leader) = self.some_leader() else { return };
        let membership = self.core(leader).expect("it leads").membership().clone();
        let seats = self.seats.iter().filter(|seat| !seat.gone).count();
        let Some(member) = membership.members.values().choose(&mut self.rng) else { return };
        let seat = self.seats.iter().position(|seat| seat.name == member.name).expect("a seat");
        if seats > 3 && self.rng.random_bool(0.7) {
            self.leaves_for_good(SeatId(seat));
        } else if membership.voters.len() > 3
            && self.seats[seat].dir.is_some_and(|dir| self.spares(dir))
        {
            // Who was lost a moment ago still counts as heard, and the others may need whom is removed.
            self.admin_retires(leader, member.name.clone());
        }
    }

    /// The seat's process and its volume go; an admin then asks for the removal until it is done.
    fn leaves_for_good(&mut self, seat: SeatId) {
        let Some(dir) = self.seats[seat.0].dir else { return };
        if seat.0 < 2 || !self.spares(dir) {
            return;
        }
        say!(self, "{seat:?} is scaled down");
        self.counts.scaled_down += 1;
        self.seats[seat.0].gone = true;
        self.seats[seat.0].dir = None;
        // A second process's directory, too.
        self.dirs.iter_mut().filter(|dir| dir.seat == seat).for_each(|dir| dir.lost = true);
        for life in self.running() {
            if self.process(life).is_some_and(|process| process.seat == seat) {
                self.crash(life);
            }
        }
    }

    /// Asks once more for the removal of members whose seats are gone.
    pub fn admin_insists(&mut self) {
        let Some(leader) = self.some_leader() else { return };
        let membership = self.core(leader).expect("it leads").membership();
        let is_gone = |name: &str| self.seats.iter().any(|seat| seat.gone && seat.name == name);
        let mut members = membership.members.values();
        let Some(member) = members.find(|member| is_gone(&member.name)) else { return };
        self.admin_retires(leader, member.name.clone());
    }

    /// `cltraft member remove`, as the real node understands it.
    fn admin_retires(&mut self, leader: Life, name: String) {
        let core = self.core(leader).expect("it leads");
        let wish = Wish::Remove { name };
        if let Ok(Some(change)) = Seats::change_for(&wish, core.membership(), |_| true) {
            let _ = self.change(leader, &change);
        }
    }

    /// One more seat: its node knows the others, and joins by itself.
    pub fn scale_up(&mut self) {
        if self.seats.iter().filter(|seat| !seat.gone).count() < 5 && self.seats.len() < 7 {
            let seat = self.add_seat();
            say!(self, "{seat:?} is new");
            self.counts.scaled_up += 1;
            self.after(10, Event::Start(seat));
        }
    }

    /// An admin wants some change, sensible or not.
    pub fn admin_wishes(&mut self) {
        let Some(leader) = self.some_leader() else { return };
        let members = self.core(leader).expect("it leads").membership().members.clone();
        let one = members.keys().copied().choose(&mut self.rng).unwrap_or(NodeId(1));
        let other = members.keys().copied().choose(&mut self.rng).unwrap_or(NodeId(1));
        let change = match self.rng.random_range(0..3) {
            0 => MembershipChange::Promote { id: one },
            1 => MembershipChange::Replace { old: one, new: other },
            _ => MembershipChange::AddLearner {
                id: one,
                member: members[&other].clone(),
                instead_of: None,
            },
        };
        let _ = self.change(leader, &change);
    }
}
