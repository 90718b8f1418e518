//! What a node makes of a hello: the judgement of the real door, over the core's own table, and what a
//! node does that is told that its directory went back in time, or that it was removed.

use balsa::raft::{NodeId, Seen};
use rand::Rng;

use super::network::{Hello, HelloRefusal};
use super::world::{Event, Life, World, say};

impl World {
    /// Whether a hello is taken.
    pub fn judge(&mut self, life: Life, hello: &Hello) -> Result<(), HelloRefusal> {
        let leads = self.leaders().contains(&life);
        let name = self.process(hello.from).map(|process| self.seats[process.seat.0].name.clone());
        let raft = self.raft_mut(life).expect("a member judges");
        let members = &raft.core.membership().members;
        if let (Some(member), Some(name)) = (members.get(&hello.id), name)
            && member.name != name
        {
            return Err(HelloRefusal::Elsewhere);
        }
        let is_member = members.contains_key(&hello.id);
        let seen = raft.seen.get(&hello.id).copied().unwrap_or_default();
        let guest = raft.guests.entry(hello.id).or_default();
        let here = Seen { boot: *guest, ..Seen::default() };
        let contradicts = |seen: Seen| seen.contradicts(hello.claims).is_some();
        if contradicts(here) || contradicts(seen) {
            return Err(HelloRefusal::WentBack(here.max(seen)));
        }
        *guest = (*guest).max(hello.claims.boot);
        if leads && !is_member {
            return Err(HelloRefusal::Removed);
        }
        let (id, claims) = (hello.id, hello.claims);
        self.input(life, |core| core.introduced(id, claims));
        Ok(())
    }

    /// A copy that was put back is taken for whole: a leader has given it all that was remembered of it
    /// before anybody has said so. Not one that is no member any more: of that the others have dropped
    /// what they remembered, and it has caught up with nothing. It stays an old copy until it starts over.
    pub fn settles(&mut self, life: Life) {
        let Some((dir, id)) = self.process(life).map(|process| (process.dir, process.id)) else {
            return;
        };
        let member = self.oracle.is_member(id);
        if self.dirs[dir.0].restored && member && !self.is_remembered(life) {
            self.dirs[dir.0].restored = false;
            say!(self, "{life:?} has caught up with what was remembered of it");
            self.counts.caught_up += 1;
        }
    }

    /// A peer says that it has seen more of this node than its directory holds. A hello may have been
    /// overtaken by what its sender said elsewhere: what counts is what the node claims by now.
    pub fn went_back(&mut self, life: Life, peer: NodeId, seen: Seen) {
        let Some(core) = self.core(life) else { return };
        if !seen.is_ahead_of(core.claims()) {
            return self.dial_soon(life, peer);
        }
        let dir = self.process(life).expect("it runs").dir;
        // Only of a volume that was put back, and only what its former life held.
        let claims = core.claims();
        let rightly = self.was_said_before(dir, claims, seen);
        assert!(rightly, "{life:?} is accused falsely: {seen:?}, {claims:?}");
        self.counts.recognised += 1;
        self.start_over(life);
    }

    /// A leader says at the door that this node is no member any more.
    pub fn removed(&mut self, life: Life, peer: NodeId) {
        self.note_removed(life);
        self.dial_soon(life, peer);
    }

    /// It counts until this node knows a leader: one that was deposed may say so wrongly.
    pub fn note_removed(&mut self, life: Life) {
        let raft = self.raft_mut(life).expect("only members are removed");
        if raft.core.status().soft_state.leader.is_none() {
            raft.removed = true;
        }
    }

    /// The directory is set aside, and the process comes up again with an empty one.
    pub fn start_over(&mut self, life: Life) {
        let Some(process) = self.process(life) else { return };
        let (seat, dir) = (process.seat, process.dir);
        say!(self, "{life:?} of {seat:?} starts over");
        self.crash(life);
        self.dirs[dir.0].lost = true;
        self.empty_volume(seat);
        let delay = self.rng.random_range(1..50);
        self.after(delay, Event::Start(seat));
    }
}
