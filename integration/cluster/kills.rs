//! Kill -9, many times: clients write and read all the while, and everything they were told is judged
//! afterwards.
//!
//! Short form: a hundred kills. `BALSA_LONG=1`: a thousand. `BALSA_SEED=N` repeats the choices of a
//! run (which nodes die, when, and what the clients ask for), though not the machine's timing.

mod harness;
#[path = "../linearize/mod.rs"]
mod linearize;
mod workload;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use balsa::codec::api::{LogContent, ReplicationReply};
use balsa::raft::RoleKind;
use bytes::Bytes;
use harness::{Cluster, PATIENCE, pause};
use linearize::{Answer, History, Input, Verdict, judge};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use workload::{Done, Workload};

/// Writes and reads that must be acknowledged from one kill to the next.
const BETWEEN_KILLS: u64 = 50;

/// For the linearizability judges, all keys together.
const JUDGES: Duration = Duration::from_secs(120);

#[test]
fn nothing_acknowledged_is_lost_or_done_twice() {
    let kills =
        if std::env::var_os("BALSA_LONG").is_some_and(|long| long == "1") { 1000 } else { 100 };
    let seed = match std::env::var("BALSA_SEED") {
        Ok(seed) => seed.parse().expect("BALSA_SEED is a number"),
        Err(_) => getrandom::u64().expect("randomness"),
    };
    println!("{kills} kills with BALSA_SEED={seed}");
    let mut cluster = Cluster::start(3);
    let workload = Workload::start(&cluster, seed);
    let mut nemesis = Nemesis::new(kills, seed);
    nemesis.run(&mut cluster, &workload);
    workload.heal();
    cluster.start_all();
    cluster.wait_for_leader();
    let mut done = workload.stop();
    workload::read_back(&cluster, &mut done);
    let one = cluster.assert_equal();
    cluster.assert_no_errors();
    let writes = assert_nothing_lost(&done, &one);
    let most = assert_nothing_twice(&done, &one);
    let operations = done.len();
    let unknown = done.iter().filter(|done| done.operation.reply.is_none()).count();
    let gap = longest_gap(&done);
    println!(
        "{} kills ({} of leaders, {} of two or three at once) in {:.0} s; {operations} operations, \
         {writes} acknowledged writes, {unknown} of unknown outcome; {} entries in the log; longest \
         time without an acknowledged write: {:.2} s",
        nemesis.done,
        nemesis.leaders,
        nemesis.several,
        nemesis.took.as_secs_f64(),
        one.log.len(),
        gap.as_secs_f64()
    );
    let began = Instant::now();
    let history = History { operations: done.into_iter().map(|done| done.operation).collect() };
    match judge(&history, JUDGES) {
        Verdict::Linearizable => {}
        Verdict::Violation(why) => panic!("R1, S18: not linearizable: {why}"),
        Verdict::Unknown(why) => {
            panic!("the judges came to no verdict, which proves nothing: {why}")
        }
    }
    println!(
        "proved: every acknowledged write is in the log of all three where its answer said; no write \
         was done twice (the busiest key was put {most} times); every key's history is linearizable \
         ({:.1} s to judge); logs, maps and state hashes are equal; no node wrote an error",
        began.elapsed().as_secs_f64()
    );
}

/// Every acknowledged write that changed something is in the log at the index and term of its answer
/// (S5, S9). Returns how many there are.
fn assert_nothing_lost(done: &[Done], one: &ReplicationReply) -> usize {
    let mut count = 0;
    for Done { operation, entry } in done {
        let Some((index, term)) = *entry else { continue };
        count += 1;
        let what = operation.describe();
        let line = usize::try_from(index).ok().and_then(|index| one.log.get(index - 1));
        let line = line.unwrap_or_else(|| panic!("lost: entry {index} of {what}"));
        assert_eq!(line.term.0, term, "lost: entry {index} has another term: {what}");
        let key = &operation.key;
        let same = match (&line.content, &operation.input) {
            (LogContent::Put { key: k, value: v }, Input::Put(value)) => k == key && v == value,
            (LogContent::Delete { key: k }, Input::Delete) => k == key,
            (LogContent::Cas { key: k, expected: e, value: v }, Input::Cas { expected, value }) => {
                k == key && e == expected && v == value
            }
            _ => false,
        };
        assert!(same, "lost: entry {index} is {:?} and not {what}", line.content);
    }
    count
}

/// Keys that are only ever put, by one client: their version counts the puts that were done. It lies
/// between those acknowledged and those not refused (S18). Returns the highest version.
fn assert_nothing_twice(done: &[Done], one: &ReplicationReply) -> u64 {
    let mut bounds: BTreeMap<&Bytes, (u64, u64)> = BTreeMap::new();
    let puts = done.iter().map(|done| &done.operation);
    for put in puts.filter(|operation| {
        workload::is_counter(&operation.key) && matches!(operation.input, Input::Put(_))
    }) {
        let (acknowledged, possible) = bounds.entry(&put.key).or_default();
        *possible += 1;
        *acknowledged += u64::from(put.reply.is_some());
    }
    assert!(!bounds.is_empty(), "there are counters");
    let mut most = 0;
    for (key, (acknowledged, possible)) in bounds {
        let found = one.store.iter().find(|entry| entry.key == key);
        let version = found.map_or(0, |entry| entry.version);
        assert!(
            (acknowledged..=possible).contains(&version),
            "{key:?} was changed {version} times, by {acknowledged} acknowledged and at most \
             {possible} puts"
        );
        most = most.max(version);
    }
    most
}

/// The longest time in which no client got an acknowledgement of a write.
fn longest_gap(done: &[Done]) -> Duration {
    let written = |done: &Done| match &done.operation.reply {
        Some(reply) if matches!(reply.answer, Answer::Written { .. }) => Some(reply.at.0),
        _ => None,
    };
    let mut moments: Vec<u64> = done.iter().filter_map(written).collect();
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
    Duration::from_nanos(gaps.max().unwrap_or_default())
}

/// Who kills.
struct Nemesis {
    random: SmallRng,
    wanted: usize,
    done: usize,
    leaders: usize,
    several: usize,
    took: Duration,
    /// When each dead node is started again.
    starts: Vec<(Instant, usize)>,
}

impl Nemesis {
    fn new(wanted: usize, seed: u64) -> Nemesis {
        Nemesis {
            random: SmallRng::seed_from_u64(seed),
            wanted,
            done: 0,
            leaders: 0,
            several: 0,
            took: Duration::ZERO,
            starts: Vec::new(),
        }
    }

    fn run(&mut self, cluster: &mut Cluster, workload: &Workload) {
        let began = Instant::now();
        let mut acknowledged = workload.acknowledged.load(Ordering::Relaxed);
        let mut since = Instant::now();
        while self.done < self.wanted {
            pause(Duration::from_millis(5));
            cluster.assert_alive();
            self.start_the_due(cluster);
            let now = workload.acknowledged.load(Ordering::Relaxed);
            if now < acknowledged + BETWEEN_KILLS {
                assert!(
                    since.elapsed() < PATIENCE,
                    "L: only {} operations were acknowledged in {} s; running: {:?}",
                    now - acknowledged,
                    PATIENCE.as_secs(),
                    cluster.running()
                );
                continue;
            }
            self.strike(cluster);
            acknowledged = workload.acknowledged.load(Ordering::Relaxed);
            since = Instant::now();
        }
        self.took = began.elapsed();
    }

    fn start_the_due(&mut self, cluster: &mut Cluster) {
        let now = Instant::now();
        self.starts.retain(|(due, node)| {
            let is_due = *due <= now;
            if is_due {
                cluster.nodes[*node].start();
            }
            !is_due
        });
    }

    /// Kills one, two or all three of those that run.
    fn strike(&mut self, cluster: &mut Cluster) {
        let running = cluster.running();
        let leader = running.iter().copied().find(|node| {
            cluster.status(*node).is_some_and(|status| status.role == RoleKind::Leader)
        });
        let count = match self.random.random_range(0..100) {
            0..80 => 1,
            80..92 => 2,
            _ => 3,
        };
        let mut victims: Vec<usize> =
            running.choose_multiple(&mut self.random, count).copied().collect();
        if let Some(leader) = leader
            && count == 1
            && self.random.random_bool(0.3)
        {
            victims = vec![leader];
        }
        self.several += usize::from(victims.len() > 1);
        for victim in victims {
            cluster.nodes[victim].kill9();
            self.done += 1;
            self.leaders += usize::from(Some(victim) == leader);
            let delay = Duration::from_millis(self.random.random_range(0..700));
            self.starts.push((Instant::now() + delay, victim));
        }
    }
}
