//! Runs that follow a script, on the same world.

use balsa::raft::NodeId;

use super::world::{DirId, Life, SeatId, TICK, World};

/// A world of so many seats that has founded its cluster and does nothing else.
fn founded(seats: usize) -> World {
    let mut world = World::new(4, seats, 2, false);
    world.calm = true;
    world.run_until(10_000);
    assert_eq!(world.leaders().len(), 1, "one leads{}", world.look());
    world
}

impl World {
    fn directory(&self, seat: usize) -> DirId {
        self.seats[seat].dir.expect("a volume")
    }

    fn id_of(&self, seat: usize) -> NodeId {
        self.dirs[self.directory(seat).0].id
    }

    fn stop_seat(&mut self, seat: usize) {
        let life: Life = self.seats[seat].at.expect("it runs");
        self.crash(life);
    }

    /// The term in which anybody has led last.
    fn elections(&self) -> u64 {
        self.counts.elections
    }
}

/// Example D17: a write acknowledged by three of five, the fourth and the fifth cut off; the third loses
/// its disk, the first and the second die. What is left is three seats of five, and only two whole
/// directories, which know nothing of the write: nobody may be elected. With one of the two back the
/// write can be read.
pub fn a_wiped_majority_elects_nobody() {
    let mut world = founded(5);
    let leader = world.leaders()[0];
    let first = world.process(leader).expect("it leads").seat.0;
    let others: Vec<usize> = (0..5).filter(|seat| *seat != first).collect();
    let (second, third, fourth, fifth) = (others[0], others[1], others[2], others[3]);
    for seat in [fourth, fifth] {
        world.isolate(SeatId(seat));
    }
    let before = world.oracle.committed();
    let written = world.counts.written;
    world.run_until(world.now + 2_000);
    assert!(world.oracle.committed() > before && world.counts.written > written, "three commit");
    let committed = world.oracle.committed();

    world.silent = true;
    world.stop_seat(first);
    world.stop_seat(second);
    let lost = world.id_of(third);
    world.wipe(SeatId(third));
    world.cuts.clear();
    let elections = world.elections();
    world.run_until(world.now + 50 * 20 * TICK);
    assert_ne!(world.id_of(third), lost, "an empty directory is another node");
    assert_eq!(world.elections(), elections, "nobody was elected");
    assert!(world.leaders().is_empty(), "nobody leads");
    assert_eq!(world.oracle.committed(), committed, "nothing new is committed");

    world.start_seat(SeatId(first));
    world.run_until(world.now + 10_000);
    assert_eq!(world.leaders().len(), 1, "with one back there are three of five{}", world.look());
    world.start_seat(SeatId(second));
    world.silent = false;
    for client in 0..world.clients.len() {
        world.client_acts(client);
    }
    world.finish();
    let replaced = world.id_of(third);
    assert!(world.oracle.is_voter(replaced), "the lost seat votes again");
    assert!(world.oracle.committed() > committed, "the old writes and the new ones are there");
}
