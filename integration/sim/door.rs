//! What a node makes of a hello: the judgement of the real door, over the core's own table, and what a
//! node does that is told that its directory went back in time.

use balsa::raft::{NodeId, Seen};

use rand::Rng;

use super::network::{Hello, HelloRefusal};
use super::world::{Event, Life, World, say};

impl World {
    /// What a node says of itself in a hello.
    pub fn claims(&self, life: Life) -> Seen {
        let process = self.process(life).expect("it runs");
        let core = self.core(life).expect("a member says hello");
        let status = core.status();
        Seen { boot: process.boot, term: status.soft_state.term, acknowledged: status.persisted }
    }

    /// Whether a hello is taken.
    pub fn judge(&mut self, _life: Life, _hello: &Hello) -> Result<(), HelloRefusal> {
        Ok(())
    }

    /// This node's hello was taken by a peer.
    pub fn greeted(&mut self, _life: Life, _peer: NodeId) {}

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
