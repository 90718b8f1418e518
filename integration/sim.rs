//! The simulator: whole nodes made of the real pure parts (founding, core, state machine, the storage
//! trait in memory), and a world of one thread in which the network, the disks, the processes and the
//! people do their worst. One seed is one run, and the same run every time.
//!
//! What must always hold is checked after every step (`sim/oracle.rs`); every run ends with a world that
//! heals, in which there must be progress (`sim/finish.rs`).
//!
//! `BALSA_SEED=n` runs one seed and prints its story; `BALSA_SIMS=n` asks for more runs.

#![allow(unreachable_pub, missing_docs)]

#[path = "linearize/mod.rs"]
mod linearize;

#[path = "sim/boot.rs"]
mod boot;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/counts.rs"]
mod counts;
#[path = "sim/door.rs"]
mod door;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/finish.rs"]
mod finish;
#[path = "sim/members.rs"]
mod members;
#[path = "sim/mirror.rs"]
mod mirror;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/process.rs"]
mod process;
#[path = "sim/quorums.rs"]
mod quorums;
#[path = "sim/scripts.rs"]
mod scripts;
#[path = "sim/trace.rs"]
mod trace;
#[path = "sim/volumes.rs"]
mod volumes;
#[path = "sim/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use counts::Counts;
use world::World;

/// How long things go wrong, in units of time.
const CHAOS: u64 = 8_000;

fn world(seed: u64, print: bool) -> World {
    let seats = [3, 3, 3, 5][usize::try_from(seed % 4).expect("small")];
    World::new(seed, seats, 3, print)
}

/// One run; a failure names its seed.
fn run(seed: u64, print: bool) -> (u64, Counts) {
    let mut world = world(seed, print);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run(CHAOS)));
    if let Err(panic) = outcome {
        let why = panic.downcast_ref::<String>().map_or("see above", String::as_str);
        panic!("seed {seed} at {}: {why}\nBALSA_SEED={seed} tells its story", world.now);
    }
    (world.trace.hash(), world.counts)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
}

/// Runs seeds on two threads and adds up what they counted.
fn run_all(seeds: std::ops::Range<u64>) -> Counts {
    let half = |odd: u64| {
        let seeds = seeds.clone().filter(move |seed| seed % 2 == odd);
        std::thread::spawn(move || {
            let mut sum = Counts::default();
            for seed in seeds {
                sum.add(&run(seed, false).1);
            }
            sum
        })
    };
    let (one, other) = (half(0), half(1));
    let mut sum = Counts::default();
    for thread in [one, other] {
        match thread.join() {
            Ok(counts) => sum.add(&counts),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    sum
}

#[test]
fn a_thousand_worlds() {
    if let Some(seed) = number("BALSA_SEED") {
        run(seed, true);
        return;
    }
    let counts = run_all(0..number("BALSA_SIMS").unwrap_or(1000));
    for (name, count) in counts.named() {
        println!("{count:>9} {name}");
    }
    for (name, count) in counts.named() {
        let rare = name == counts::RARE;
        assert!(count > 0 || rare, "no run had any of these: {name}");
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 7, 42] {
        assert_eq!(run(seed, false).0, run(seed, false).0, "seed {seed} ran two ways");
    }
    assert_ne!(run(1, false).0, run(2, false).0, "the seed makes no difference");
}

#[test]
fn a_wiped_majority_elects_nobody() {
    scripts::a_wiped_majority_elects_nobody();
}
