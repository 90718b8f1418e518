//! Volumes that are lost, and volumes that are put back from a copy. The world loses no more than Raft
//! allows: a majority of every membership in force stays whole, and a copy is put back only where
//! so many alive remember more than it holds that no quorum is without one of them. What nobody there can
//! know is beyond the promise.

use std::collections::BTreeSet;
use std::sync::Arc;

use balsa::raft::founding::Stage;
use balsa::raft::{Membership, NodeId, Seen};
use rand::Rng;

use super::quorums;
use super::world::{DirId, Directory, Event, Life, SeatId, World, say};

/// A directory as it was.
pub struct Copy {
    seat: SeatId,
    directory: Directory,
}

impl World {
    /// Every membership that may still decide something. Not those that a node which slept through
    /// changes knows by its own disk: their members may all be gone.
    fn in_force(&self) -> Vec<Arc<Membership>> {
        let settled = self.oracle.newest_membership();
        let mut all = Vec::new();
        for dir in self.dirs.iter().filter(|dir| !dir.lost) {
            for log in [&dir.written, &dir.durable] {
                let newer = log.memberships.iter().filter(|(at, _)| *at >= settled);
                all.extend(newer.map(|(_, membership)| Arc::clone(membership)));
            }
            if let Stage::Held(draft) | Stage::Decided(draft) = &dir.record.stage
                && self.oracle.cluster().is_none_or(|_| settled.0 <= 1)
            {
                all.push(Arc::new(draft.founded().membership));
            }
        }
        all
    }

    /// Whether the world goes on without this directory. It must not need a seat that two directories
    /// share: one of them will have to go, and nobody knows yet which.
    pub fn spares(&self, without: DirId) -> bool {
        let kept = || self.dirs.iter().enumerate().filter(|(_, dir)| !dir.lost);
        let shared = |seat: SeatId| kept().filter(|(_, dir)| dir.seat == seat).count() > 1;
        let whole = |id: NodeId| {
            kept().any(|(at, dir)| {
                dir.id == id && !dir.restored && DirId(at) != without && !shared(dir.seat)
            })
        };
        self.in_force().iter().all(|membership| quorums::is_quorum(membership, whole))
    }

    /// A seat's volume is lost; its process comes back with an empty one.
    pub fn wipe_someone(&mut self) {
        let seat = SeatId(self.rng.random_range(0..self.seats.len()));
        let Some(dir) = self.seats[seat.0].dir else { return };
        if !self.spares(dir) || self.suspect() {
            return;
        }
        self.wipe(seat);
    }

    /// The volume of a seat is lost.
    pub fn wipe(&mut self, seat: SeatId) {
        let dir = self.seats[seat.0].dir.expect("a volume");
        say!(self, "{seat:?} loses its volume");
        self.counts.wipes += 1;
        if let Some(life) = self.life_of(dir) {
            self.crash(life);
        }
        self.dirs[dir.0].lost = true;
        self.empty_volume(seat);
        let delay = self.rng.random_range(5..500);
        self.after(delay, Event::Start(seat));
    }

    /// Keeps a copy of a volume, as its disk is at this moment.
    pub fn copy_someone(&mut self) {
        let seat = SeatId(self.rng.random_range(0..self.seats.len()));
        let Some(dir) = self.seats[seat.0].dir else { return };
        let dir = &self.dirs[dir.0];
        if dir.cluster.is_none() || dir.restored || dir.durable.memberships.is_empty() {
            return;
        }
        let directory = Directory {
            id: dir.id,
            seat,
            boot: dir.boot,
            record: dir.record.clone(),
            cluster: dir.cluster,
            disk: dir.disk.copy(),
            written: dir.durable.clone(),
            durable: dir.durable.clone(),
            lost: false,
            restored: true,
            lost_touch: self.rng.random_bool(0.5),
        };
        say!(self, "the volume of {seat:?} is copied");
        self.copies.push(Copy { seat, directory });
    }

    /// Whether a copy that was put back is running and has not been recognised yet. Meanwhile nobody who
    /// remembers dies.
    pub fn suspect(&self) -> bool {
        self.dirs.iter().any(|dir| dir.restored && !dir.lost)
    }

    /// Puts a copy back in the place of its own later self.
    pub fn restore_someone(&mut self) {
        if self.copies.is_empty() || self.suspect() {
            return;
        }
        let at = self.rng.random_range(0..self.copies.len());
        let Copy { seat, directory } = self.copies.swap_remove(at);
        let Some(present) = self.seats[seat.0].dir else { return };
        let same = self.dirs[present.0].id == directory.id && !self.dirs[present.0].lost;
        if !same || !self.spares(present) {
            return;
        }
        let copied = &directory.durable;
        let claims = Seen {
            boot: directory.boot.next(0),
            term: copied.hard_state.term,
            acknowledged: copied.reached,
        };
        let known = copied.memberships.last().map(|(_, membership)| Arc::clone(membership));
        if !self.enough_know(present, claims, known) {
            self.counts.beyond_knowledge += 1;
            return;
        }
        say!(self, "the volume of {seat:?} is put back from a copy");
        self.counts.restored += 1;
        if let Some(life) = self.life_of(present) {
            self.crash(life);
        }
        self.dirs[present.0].lost = true;
        self.seats[seat.0].dir = Some(DirId(self.dirs.len()));
        self.dirs.push(directory);
        let delay = self.rng.random_range(5..100);
        self.after(delay, Event::Start(seat));
        // Often the others need its vote before it has said hello.
        if self.rng.random_bool(0.5) {
            self.isolate_a_leader();
        }
    }

    /// Whether a copy that claims this must be found out before it votes: of each half in which it votes,
    /// so many have seen more of it, and the newest term in which it may have voted, that every quorum
    /// holds one of them. Of the others everybody has, and all of them run; so do those that the copy takes
    /// for members, unless they are gone.
    fn enough_know(&self, present: DirId, claims: Seen, known: Option<Arc<Membership>>) -> bool {
        let (id, present) = (self.dirs[present.0].id, &self.dirs[present.0].durable);
        let runs = |other: NodeId| self.lives.iter().flatten().find(|it| it.id == other);
        let knows = |other: NodeId| {
            runs(other).filter(|process| process.stopping.is_none()).is_some_and(|process| {
                process.raft.as_ref().and_then(|raft| raft.seen.get(&id)).is_some_and(|seen| {
                    seen.contradicts(claims).is_some() && seen.term >= present.hard_state.term
                })
            })
        };
        let gone = |other: NodeId| self.dirs.iter().all(|dir| dir.id != other || dir.lost);
        let known = known.iter().flat_map(|membership| membership.members.keys());
        let mut known = known.filter(|other| **other != id && !gone(**other));
        let few = |half: &BTreeSet<NodeId>| {
            let ignorant = half.iter().filter(|other| **other != id && !knows(**other)).count();
            !half.contains(&id) || ignorant < half.len() / 2
        };
        known.all(|other| knows(*other))
            && self.in_force().iter().all(|membership| {
                few(&membership.voters)
                    && few(&membership.outgoing)
                    && membership.members.keys().filter(|other| **other != id).all(|other| {
                        knows(*other) || (membership.is_voter(*other) && runs(*other).is_some())
                    })
            })
    }

    /// Whether anybody who runs remembers more of a node than it claims: in the table, which elections go by
    /// before it is handed out, or at the door, which has seen boots that no table holds.
    pub fn is_remembered(&self, life: Life) -> bool {
        let Some(core) = self.core(life) else { return true };
        let (id, claims) = (core.status().id, core.claims());
        self.lives.iter().flatten().filter_map(|process| process.raft.as_ref()).any(|raft| {
            let line = raft.core.seen().get(&id).copied();
            let guest = raft.guests.get(&id).map(|boot| Seen { boot: *boot, ..Seen::default() });
            line.into_iter().chain(guest).any(|seen| seen.is_ahead_of(claims))
        })
    }

    /// The directories of the same node that are lost.
    fn lost_of(&self, dir: DirId) -> impl Iterator<Item = &Directory> {
        let id = self.dirs[dir.0].id;
        self.dirs.iter().filter(move |it| it.id == id && it.lost)
    }

    /// Whether this can have been seen of a node before its volume was put back from a copy: a lost
    /// directory of its own held as much, but for what the copy itself has said since.
    pub fn was_said_before(&self, dir: DirId, claims: Seen, seen: Seen) -> bool {
        self.lost_of(dir).any(|it| {
            let (term, acknowledged) = (it.durable.hard_state.term, it.durable.reached);
            !seen.exceeds(Seen { boot: it.boot, term, acknowledged }.max(claims))
        })
    }

    /// Whether a copy that was put back has no vote and no acknowledgement left to betray: it is beyond the
    /// terms that it has forgotten, and holds what it had acknowledged. Then it may vote, and need not be
    /// recognised, though somebody may still know the boot of the life that it has forgotten.
    pub fn has_nothing_to_betray(&self, dir: DirId) -> bool {
        let own = &self.dirs[dir.0].durable;
        self.lost_of(dir).all(|it| {
            let (now, then) = (own.hard_state, it.durable.hard_state);
            own.reached >= it.durable.reached && (now.term > then.term || now == then)
        })
    }
}
