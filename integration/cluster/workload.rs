//! Clients that write and read all the while, and remember what they asked for and were told.
//!
//! Each client has two kinds of keys: a *counter* of its own, which it only puts, and keys it shares
//! with all the others, on which it does everything. Keys are used for a while and then left for new
//! ones, so that the search for an order stays short; no value is written twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use balsa::client::{Client, Error, ErrorKind, Options, Written};
use balsa::codec::api::GetReply;
use bytes::Bytes;
use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::harness::{Cluster, runtime, tls};
use crate::linearize::{Answer, Input, Operation, Reply, Seen, Time};

const THREADS: u32 = 3;
const CLIENTS_PER_THREAD: u32 = 3;

/// Keys that are shared at a time.
const SHARED_KEYS: u64 = 4;

/// Acknowledged operations of all clients after which they go on to new keys.
const OPERATIONS_PER_KEYS: u64 = 3000;

/// Longest pause of a client between two operations.
const THINK_MS: u64 = 8;

/// One operation that is over.
pub(crate) struct Done {
    pub(crate) operation: Operation,
    /// Index and term of its entry, for acknowledged writes.
    pub(crate) entry: Option<(u64, u64)>,
}

/// The clients at work.
pub(crate) struct Workload {
    /// Operations acknowledged so far.
    pub(crate) acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Done>>>,
}

/// What all clients share.
#[derive(Clone)]
struct Common {
    clock: Instant,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Workload {
    /// Starts all clients.
    pub(crate) fn start(cluster: &Cluster, seed: u64) -> Workload {
        let common =
            Common { clock: Instant::now(), acknowledged: Arc::default(), stop: Arc::default() };
        let client = |number: u32| {
            let mut random = SmallRng::seed_from_u64(seed ^ (u64::from(number) + 1) << 32);
            let mut endpoints = cluster.addresses();
            endpoints.shuffle(&mut random);
            // Some give up early, so that there are writes of unknown outcome; most do not.
            let timeout = Duration::from_secs(if number.is_multiple_of(3) { 1 } else { 15 });
            let options = Options { endpoints, timeout, redirect: true };
            let tls = tls(&cluster.certificates, "client");
            let common = common.clone();
            Worker { number, tls, options, random, common, done: Vec::new(), serial: 0 }
        };
        let thread = |thread: u32| {
            let numbers = thread * CLIENTS_PER_THREAD..(thread + 1) * CLIENTS_PER_THREAD;
            let workers: Vec<Worker> = numbers.map(client).collect();
            std::thread::spawn(move || {
                let all = runtime().block_on(join_all(workers.into_iter().map(Worker::run)));
                all.into_iter().flatten().collect()
            })
        };
        let threads = (0..THREADS).map(thread).collect();
        Workload { acknowledged: common.acknowledged, stop: common.stop, threads }
    }

    /// No more kills: clients finish what they are at.
    pub(crate) fn heal(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for all clients.
    pub(crate) fn stop(self) -> Vec<Done> {
        self.heal();
        let ended = self.threads.into_iter().map(|thread| thread.join().expect("no client panics"));
        ended.flatten().collect()
    }
}

/// Whether a key is only ever put, and by one client.
pub(crate) fn is_counter(key: &[u8]) -> bool {
    key.starts_with(b"counter-")
}

/// Reads every key that was ever written, as one more client of the history.
pub(crate) fn read_back(cluster: &Cluster, done: &mut Vec<Done>) {
    let keys: std::collections::BTreeSet<Bytes> =
        done.iter().map(|done| done.operation.key.clone()).collect();
    let client = cluster.client(Duration::from_secs(30));
    // After everything else, by any clock.
    let moments = |operation: &Operation| operation.reply.as_ref().map_or(operation.call, |r| r.at);
    let last = done.iter().map(|done| moments(&done.operation).0).max();
    let clock = Instant::now();
    let now = || Time(last.unwrap_or(0) + 1 + nanoseconds(clock));
    for key in keys {
        let call = now();
        let read = cluster.wait(client.get(key.clone(), false)).expect("the cluster is healed");
        let reply = Some(Reply { at: now(), answer: read_answer(read) });
        let operation = Operation { client: u32::MAX, key, call, input: Input::Get, reply };
        done.push(Done { operation, entry: None });
    }
}

struct Worker {
    number: u32,
    tls: Arc<balsa::rpc::Tls>,
    options: Options,
    random: SmallRng,
    common: Common,
    done: Vec<Done>,
    /// Makes values unique.
    serial: u64,
}

impl Worker {
    async fn run(mut self) -> Vec<Done> {
        let mut client = Client::new(self.tls.clone(), self.options.clone());
        // What was last read or written of each shared key, for conditions that hold now and then.
        let mut known: Vec<Option<Bytes>> = vec![None; SHARED_KEYS as usize];
        let mut keys = 0;
        while !self.common.stop.load(Ordering::Relaxed) {
            let era = self.common.acknowledged.load(Ordering::Relaxed) / OPERATIONS_PER_KEYS;
            if era != keys {
                keys = era;
                known.fill(None);
                // A new session now and then.
                client = Client::new(self.tls.clone(), self.options.clone());
            }
            let slot = self.random.random_range(0..SHARED_KEYS);
            let shared = Bytes::from(format!("shared-{era}-{slot}"));
            let slot = &mut known[slot as usize];
            self.serial += 1;
            let value = Bytes::from(format!("{}.{}", self.number, self.serial));
            let (key, input) = match self.random.random_range(0..100) {
                0..25 => (Bytes::from(format!("counter-{era}-{}", self.number)), Input::Put(value)),
                25..45 => (shared, Input::Put(value)),
                45..65 => (shared, Input::Cas { expected: slot.clone(), value }),
                65..70 => (shared, Input::Delete),
                _ => (shared, Input::Get),
            };
            let seen = self.operate(&client, key, input).await;
            if let Some(seen) = seen {
                *slot = seen;
            }
            let think = Duration::from_millis(self.random.random_range(0..=THINK_MS));
            tokio::time::sleep(think).await;
        }
        self.done
    }

    /// Does it, and remembers it unless it provably had no effect. Returns what the key holds
    /// according to the answer, if it is a shared one.
    async fn operate(
        &mut self,
        client: &Client,
        key: Bytes,
        input: Input,
    ) -> Option<Option<Bytes>> {
        let shared = !is_counter(&key);
        let call = self.now();
        let (answer, entry, seen) = match &input {
            Input::Get => match client.get(key.clone(), false).await {
                Ok(read) => {
                    let seen = read.found.as_ref().map(|found| found.value.clone());
                    (read_answer(read), None, Some(seen))
                }
                Err(error) => {
                    assert_ne!(error.kind, ErrorKind::Unknown, "a read is never unknown: {error}");
                    return None;
                }
            },
            Input::Put(value) => {
                let written = client.put(key.clone(), value.clone()).await;
                self.written(written, &key, &input, call, Some(value.clone()))?
            }
            Input::Delete => {
                let written = client.delete(key.clone()).await;
                self.written(written, &key, &input, call, None)?
            }
            Input::Cas { expected, value } => {
                let written = client.cas(key.clone(), expected.clone(), value.clone()).await;
                self.written(written, &key, &input, call, Some(value.clone()))?
            }
        };
        self.common.acknowledged.fetch_add(1, Ordering::Relaxed);
        let reply = Some(Reply { at: self.now(), answer });
        let operation = Operation { client: self.number, key, call, input, reply };
        self.done.push(Done { operation, entry });
        seen.filter(|_| shared)
    }

    /// Sorts the three outcomes of a write (C3).
    #[expect(clippy::type_complexity, reason = "used in the function above only")]
    fn written(
        &mut self,
        written: Result<Written, Error>,
        key: &Bytes,
        input: &Input,
        call: Time,
        leaves: Option<Bytes>,
    ) -> Option<(Answer, Option<(u64, u64)>, Option<Option<Bytes>>)> {
        match written {
            Ok(Written { revision, succeeded, index, term, .. }) => {
                let seen = succeeded.then_some(leaves);
                Some((Answer::Written { succeeded, revision }, Some((index, term)), seen))
            }
            Err(error) if error.kind == ErrorKind::Unknown => {
                let (key, input) = (key.clone(), input.clone());
                let operation = Operation { client: self.number, key, call, input, reply: None };
                self.done.push(Done { operation, entry: None });
                None
            }
            // Refused: if its value is ever seen, it is one that nobody wrote, and the judges say so.
            Err(error) => {
                assert_ne!(error.kind, ErrorKind::Untrusted, "{error}");
                None
            }
        }
    }

    fn now(&self) -> Time {
        Time(nanoseconds(self.common.clock))
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).expect("less than five centuries")
}

fn read_answer(read: GetReply) -> Answer {
    let seen =
        read.found.map(|found| Seen { value: found.value, mod_revision: found.mod_revision });
    Answer::Read { seen, revision: read.revision }
}
