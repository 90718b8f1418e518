//! Writes all the while, each in its client's session, and an account of what became of them.
//!
//! Each client puts its own keys, one after the other, so that what a key must hold in the end, and how
//! often it was changed, is known to the letter: a write that was lost or done twice is seen. See
//! `workload` for clients that compete, and reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use balsa::client::{Client, Options};
use balsa::codec::api::KeyValue;
use balsa::rpc::Tls;
use bytes::Bytes;
use futures_util::future::join_all;

use super::{Cluster, PATIENCE, runtime, tls, until};

/// Clients, each with a session and one write under way.
const CLIENTS: u64 = 4;

/// Keys of each client, used in turn.
const KEYS: u64 = 50;

/// Between two writes of a client: the machine has other things to do.
const THINK: Duration = Duration::from_millis(4);

/// What a session has to get a write through. A write that fails in spite of it is a failed write.
const OPERATION: Duration = Duration::from_secs(30);

/// The clients at work.
pub struct Load {
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Writer>>,
}

/// What became of all writes.
pub struct Account {
    /// When each write was acknowledged, in order; the beginning and the end, too.
    moments: Vec<Instant>,
    /// Of each key its last value and how often it was put.
    keys: BTreeMap<Bytes, (Bytes, u64)>,
    /// What was not acknowledged, and why.
    pub failures: Vec<String>,
}

struct Writer {
    client: Client,
    number: u64,
    common: (Arc<AtomicU64>, Arc<AtomicBool>),
    account: Account,
}

impl Load {
    /// Starts all clients; returns when each has written.
    pub fn start(cluster: &Cluster) -> Load {
        Load::start_as(cluster, &tls(&cluster.certificates, "client"))
    }

    /// The same with an identity that the test keeps an eye on.
    pub fn start_as(cluster: &Cluster, identity: &Arc<Tls>) -> Load {
        let (acknowledged, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let writer = |number: u64| {
            let mut endpoints = cluster.addresses();
            let first = usize::try_from(number).expect("a small number") % endpoints.len();
            endpoints.rotate_left(first);
            let options = Options { endpoints, timeout: OPERATION, redirect: true };
            let client = Client::new(identity.clone(), options);
            let account =
                Account { moments: Vec::new(), keys: BTreeMap::new(), failures: Vec::new() };
            Writer { client, number, common: (acknowledged.clone(), stop.clone()), account }
        };
        let writers: Vec<Writer> = (0..CLIENTS).map(writer).collect();
        let thread = std::thread::spawn(move || {
            runtime().block_on(join_all(writers.into_iter().map(Writer::run)))
        });
        let load = Load { acknowledged, stop, thread };
        load.wait_for(10 * CLIENTS);
        load
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes are acknowledged.
    pub fn wait_for(&self, more: u64) {
        let wanted = self.acknowledged() + more;
        let what = format!("{more} more writes are acknowledged");
        until(&what, PATIENCE, || (self.acknowledged() >= wanted).then_some(()));
    }

    /// Stops, and judges: all nodes hold the same, and with it every write, of which none failed.
    #[track_caller]
    pub fn finish(self, cluster: &Cluster) -> Account {
        let account = self.stop();
        let contents = cluster.assert_agree();
        account.assert_none_failed_or_lost(&contents[0].store);
        account
    }

    /// Waits for the writes that are under way.
    pub fn stop(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let writers = self.thread.join().expect("no client panics");
        let mut all = Account { moments: Vec::new(), keys: BTreeMap::new(), failures: Vec::new() };
        for Writer { account, .. } in writers {
            all.moments.extend(account.moments);
            all.keys.extend(account.keys);
            all.failures.extend(account.failures);
        }
        all.moments.sort_unstable();
        all
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (acknowledged, failed) = (self.acknowledged(), self.failures.len());
        let gap = self.longest_gap();
        write!(f, "{acknowledged} writes acknowledged, {failed} failed; longest gap {gap:.3?}")
    }
}

impl Account {
    /// Acknowledged writes.
    pub fn acknowledged(&self) -> u64 {
        self.keys.values().map(|(_, count)| count).sum()
    }

    /// Not one write failed, and each was done exactly once (C2, S18). `store` is what a node holds.
    #[track_caller]
    pub fn assert_none_failed_or_lost(&self, store: &[KeyValue]) {
        assert!(self.failures.is_empty(), "failed writes:\n{}", self.failures.join("\n"));
        let there: BTreeMap<&Bytes, &KeyValue> =
            store.iter().map(|entry| (&entry.key, entry)).collect();
        for (key, (value, count)) in &self.keys {
            let entry = there.get(key).unwrap_or_else(|| panic!("{key:?} is lost"));
            let held = (&entry.value, entry.version);
            assert_eq!(held, (value, *count), "{key:?}: (last value, puts) held and acknowledged");
        }
    }

    /// The longest time without any acknowledged write.
    pub fn longest_gap(&self) -> Duration {
        self.longest_gap_between(self.moments[0], self.moments[self.moments.len() - 1])
    }

    /// The longest time without any acknowledged write that ended in this span.
    pub fn longest_gap_between(&self, from: Instant, to: Instant) -> Duration {
        let pairs = self.moments.windows(2).filter(|pair| (from..=to).contains(&pair[1]));
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

impl Writer {
    async fn run(mut self) -> Writer {
        let (acknowledged, stop) = self.common.clone();
        for round in 0u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let key = Bytes::from(format!("load-{}-{}", self.number, round % KEYS));
            let value = Bytes::from(format!("{}.{round}", self.number));
            match self.client.put(key.clone(), value.clone()).await {
                Ok(_) => {
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    self.account.moments.push(Instant::now());
                    let (last, count) = self.account.keys.entry(key).or_default();
                    (*last, *count) = (value, *count + 1);
                }
                Err(error) => self.account.failures.push(format!("{key:?}: {error:?}")),
            }
            tokio::time::sleep(THINK).await;
        }
        self
    }
}
