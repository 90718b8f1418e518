//! Directories that are put back to an older copy in the middle of a storm. Whoever still lives and was told
//! more by the node than the copy knows must refuse its hello; what nobody alive was told, nobody can know.

use rand::Rng;

use super::super::message::{Heartbeat, ReadRound};
use super::super::{Boot, Index, Message, NodeId, Seen, Term};
use super::bare;
use super::env::n;
use super::storm::Storm;

/// What came of the copies, so that the test can be seen to test something.
#[derive(Debug, Default)]
struct Outcome {
    recognised: usize,
    /// The copy lacked something that somebody alive had been told.
    told: usize,
    /// It lacked something, and nobody alive had been told.
    unknowable: usize,
}

fn rewind(seed: u64, outcome: &mut Outcome) {
    let mut storm = Storm::new(seed);
    for _ in 0..storm.rng.random_range(200..1000) {
        storm.step();
    }
    let id = storm.someone();
    let copy = storm.cluster.copy_disk(id);
    for _ in 0..storm.rng.random_range(10..400) {
        storm.step();
    }
    storm.crash(id);
    let disk = &storm.cluster.nodes[&id].disk;
    let (term, acknowledged) = (copy.0.hard_state.term, copy.0.durable.reached);
    let claims = Seen { boot: Boot(copy.1 + 1), term, acknowledged };
    let lacks = disk.hard_state.term > term
        || disk.durable.reached > acknowledged
        || (disk.hard_state.term == term && disk.hard_state.vote != copy.0.hard_state.vote);
    let cluster = &mut storm.cluster;
    cluster.cuts.clear();
    let others: Vec<NodeId> =
        cluster.ids().into_iter().filter(|other| *other != id && cluster.alive(*other)).collect();
    let told = |other: &NodeId| {
        let told = cluster.oracle.told.get(&(*other, id)).copied().unwrap_or_default();
        told.exceeds(claims)
    };
    let knowing: Vec<NodeId> = others.iter().copied().filter(told).collect();
    cluster.put_back(id, copy);
    cluster.restart(id);
    for other in others {
        cluster.hellos.recognised.clear();
        cluster.greet(id, other);
        let recognised = cluster.hellos.recognised.contains(&id);
        assert!(recognised || !knowing.contains(&other), "seed {seed}: {other} does not see it");
        outcome.recognised += usize::from(recognised);
    }
    outcome.told += usize::from(!knowing.is_empty());
    outcome.unknowable += usize::from(lacks && knowing.is_empty());
}

#[test]
fn the_boot_of_a_directory_put_back_is_not_taken_over_by_what_it_has_forgotten() {
    let mut node = bare::node(3, 5, &[1]);
    let (life, next) = (Boot(0).next(7), Boot(0).next(7).next(7));
    let seen = |boot, term, index| Seen { boot, term: Term(term), acknowledged: Index(index) };
    let known = seen(life, 5, 900);
    let _ = node.introduced(n(2), known);
    // A leader dials it, and is told by the acknowledgement what it is.
    let put_back = seen(next, 4, 800);
    let _ = node.introduced(n(2), put_back);
    assert!(node.seen()[&n(2)].contradicts(put_back).is_some(), "its own hello is refused");
    // Or a leader says so that remembers less of it.
    let heartbeat =
        Heartbeat { commit: Index(0), round: ReadRound(0), seen: vec![(n(2), put_back)] };
    let _ = node.step(bare::from(3, 5, Message::Heartbeat(heartbeat)));
    assert!(node.seen()[&n(2)].contradicts(put_back).is_some(), "its own hello is refused");
    // The directory as it should be is taken for what it is.
    let _ = node.introduced(n(2), seen(next, 5, 900));
    assert_eq!(node.seen()[&n(2)], seen(next, 5, 900));
}

#[test]
fn a_directory_put_back_is_recognised_by_everyone_who_was_told_more() {
    let mut outcome = Outcome::default();
    for seed in 0..300 {
        rewind(seed, &mut outcome);
    }
    eprintln!("{outcome:?}");
    assert!(outcome.told > 10, "{outcome:?}");
    assert!(outcome.recognised > outcome.told, "the leader's view spreads: {outcome:?}");
}
