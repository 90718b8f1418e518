//! `cltraft bench`: a closed loop. Each client has one operation in flight; one operation is one
//! request with its own serial and its own answer.
//!
//! Clients share connections: a connection is one [`Client`] with one session. Keys are drawn
//! uniformly. Reads find their keys: they are written before the clock starts, which also opens the
//! connections. Operations still in flight at the end are not counted.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::answer::Failure;
use super::command::{Bench, BenchOp};
use super::json::Object;
use super::lang::Lang;
use crate::client::{Client, Error, Options};
use crate::rpc::Tls;

/// Keys written beforehand for operations that read, at most; then reads draw from these only.
const FILLED_MAX: u64 = 20_000;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    wanted: Bench,
    ops_per_s: f64,
    /// Microseconds.
    quantiles: [(&'static str, u64); 5],
    errors: u64,
    error: Option<String>,
}

impl Report {
    /// The report as one object.
    #[must_use]
    pub fn json(&self) -> Object {
        let object = Object::default()
            .with("op", word(self.wanted.op))
            .with("clients", self.wanted.clients as u64)
            .with("conns", self.wanted.conns as u64)
            .with("seconds", self.wanted.seconds)
            .with("value_size", self.wanted.value_size as u64)
            .with("keys", self.wanted.keys)
            .with("ops_per_s", self.ops_per_s);
        let object =
            self.quantiles.iter().fold(object, |object, (name, us)| object.with(name, *us));
        let object = object.with("errors", self.errors);
        match &self.error {
            Some(error) => object.with("first_error", error.as_str()),
            None => object,
        }
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self, lang: Lang) -> String {
        let Bench { op, clients, conns, seconds, .. } = &self.wanted;
        let (op, rate) = (word(*op), self.ops_per_s);
        let mut text = match lang {
            Lang::En => format!(
                "{op}: {rate:.0} operations/s, {clients} clients on {conns} connections, {seconds} s\n"
            ),
            Lang::Es => format!(
                "{op}: {rate:.0} operaciones/s, {clients} clientes en {conns} conexiones, {seconds} s\n"
            ),
        };
        for (name, us) in &self.quantiles {
            let name = name.trim_end_matches("_us");
            text += &format!("  {name:<5}{:>10.2} ms\n", *us as f64 / 1000.0);
        }
        text += &format!("  {} {}\n", lang.pick("errors", "errores"), self.errors);
        if let Some(error) = &self.error {
            text += &format!("  {}: {error}\n", lang.pick("the first", "el primero"));
        }
        text
    }
}

fn word(op: BenchOp) -> &'static str {
    match op {
        BenchOp::Put => "put",
        BenchOp::Get => "get",
        BenchOp::LocalGet => "local-get",
        BenchOp::Mixed => "mixed",
    }
}

/// One thread's share of the work, and what it found.
struct Share {
    clients: usize,
    conns: Vec<Options>,
}

/// What a thread, or all of them, measured.
struct Tally {
    latencies: Histogram<u64>,
    errors: u64,
    error: Option<String>,
}

impl Tally {
    fn new() -> Result<Tally, Failure> {
        // From a microsecond to a minute, three digits.
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 3)
            .map_err(|error| Failure::new("bench", error.to_string()))?;
        Ok(Tally { latencies, errors: 0, error: None })
    }

    fn count(&mut self, latency: Duration, result: Result<(), Error>) {
        match result {
            Ok(()) => {
                self.latencies
                    .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            }
            Err(error) => {
                self.errors += 1;
                self.error.get_or_insert(error.message);
            }
        }
    }
}

/// Measures.
///
/// # Errors
/// If the cluster cannot be reached at all, or a thread cannot be started.
pub(crate) async fn run(
    wanted: &Bench,
    tls: &Arc<Tls>,
    options: &Options,
) -> Result<Report, Failure> {
    fill(wanted, tls, options).await?;
    let shares = shares(wanted, options);
    let threads = shares.len();
    // Room for each thread's one tally, so that no thread ever waits to leave it.
    let (done, mut tallies) = tokio::sync::mpsc::channel(threads.max(1));
    let barrier = Arc::new(std::sync::Barrier::new(threads));
    for (number, share) in shares.into_iter().enumerate() {
        let (wanted, tls, done, barrier) =
            (wanted.clone(), tls.clone(), done.clone(), barrier.clone());
        let work = move || {
            let tally = runtime().and_then(|runtime| {
                LocalSet::new().block_on(&runtime, thread(&wanted, share, number, tls, &barrier))
            });
            // The receiver lives as long as this function is awaited.
            let _ = done.blocking_send(tally);
        };
        std::thread::Builder::new()
            .name(format!("bench-{number}"))
            .spawn(work)
            .map_err(|error| Failure::new("bench", format!("no thread: {error}")))?;
    }
    drop(done);
    let mut sum = Tally::new()?;
    while let Some(tally) = tallies.recv().await {
        let tally = tally?;
        sum.latencies += tally.latencies;
        sum.errors += tally.errors;
        sum.error = sum.error.or(tally.error);
    }
    let at = |quantile| sum.latencies.value_at_quantile(quantile);
    let quantiles = [
        ("p50_us", at(0.5)),
        ("p90_us", at(0.9)),
        ("p99_us", at(0.99)),
        ("p999_us", at(0.999)),
        ("max_us", sum.latencies.max()),
    ];
    let per_second = sum.latencies.len() as f64 / wanted.seconds as f64;
    Ok(Report {
        wanted: wanted.clone(),
        ops_per_s: (per_second * 10.0).round() / 10.0,
        quantiles,
        errors: sum.errors,
        error: sum.error,
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("bench", format!("no runtime: {error}")))
}

/// Splits clients and connections over the threads. Local reads are spread over the nodes: each
/// connection begins at another endpoint.
fn shares(wanted: &Bench, options: &Options) -> Vec<Share> {
    let part =
        |whole: usize, n: usize| whole / wanted.threads + usize::from(n < whole % wanted.threads);
    let mut started = 0;
    (0..wanted.threads)
        .map(|n| {
            let conns = (0..part(wanted.conns, n)).map(|_| {
                let mut options = options.clone();
                if wanted.op == BenchOp::LocalGet {
                    let count = options.endpoints.len().max(1);
                    options.endpoints.rotate_left(started % count);
                }
                started += 1;
                options
            });
            Share { conns: conns.collect(), clients: part(wanted.clients, n) }
        })
        .collect()
}

async fn thread(
    wanted: &Bench,
    share: Share,
    number: usize,
    tls: Arc<Tls>,
    barrier: &std::sync::Barrier,
) -> Result<Tally, Failure> {
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let conns: Vec<Client> =
        share.conns.into_iter().map(|options| Client::new(tls.clone(), options)).collect();
    for client in &conns {
        connect(wanted, client).await;
    }
    // Blocks this thread only, and only until the others have connected.
    barrier.wait();
    let end = Instant::now() + Duration::from_secs(wanted.seconds);
    let value = Bytes::from(vec![b'v'; wanted.value_size]);
    let mut tasks = Vec::with_capacity(share.clients);
    for n in 0..share.clients {
        let client = conns[n % conns.len()].clone();
        let (tally, value, wanted) = (tally.clone(), value.clone(), wanted.clone());
        let seed = (number * 1_000_003 + n) as u64;
        tasks.push(tokio::task::spawn_local(async move {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut turn = n as u64;
            while Instant::now() < end {
                turn += 1;
                let begun = Instant::now();
                let result = operation(&client, &wanted, &mut rng, turn, &value).await;
                let ended = Instant::now();
                if ended <= end {
                    tally.borrow_mut().count(ended - begun, result);
                }
            }
        }));
    }
    // What is still in flight a moment after the end is let go.
    let late = end + Duration::from_millis(200);
    for task in tasks {
        let abort = task.abort_handle();
        if tokio::time::timeout_at(late, task).await.is_err() {
            abort.abort();
        }
    }
    Ok(std::mem::replace(&mut *tally.borrow_mut(), Tally::new()?))
}

/// Opens the connection and the session. What goes wrong here goes wrong again while measuring, and is
/// counted there.
async fn connect(wanted: &Bench, client: &Client) {
    let ready = Instant::now() + Duration::from_secs(5);
    let _ = match wanted.op {
        BenchOp::Put | BenchOp::Mixed => client.ready(ready).await,
        BenchOp::Get => client.get(key(0), false).await.map(drop),
        BenchOp::LocalGet => client.get(key(0), true).await.map(drop),
    };
}

async fn operation(
    client: &Client,
    wanted: &Bench,
    rng: &mut SmallRng,
    turn: u64,
    value: &Bytes,
) -> Result<(), Error> {
    let read = match wanted.op {
        BenchOp::Put => false,
        BenchOp::Get | BenchOp::LocalGet => true,
        BenchOp::Mixed => turn.is_multiple_of(2),
    };
    if read {
        let key = key(rng.random_range(0..wanted.keys.min(FILLED_MAX)));
        client.get(key, wanted.op == BenchOp::LocalGet).await.map(drop)
    } else {
        client.put(key(rng.random_range(0..wanted.keys)), value.clone()).await.map(drop)
    }
}

fn key(n: u64) -> Bytes {
    Bytes::from(format!("bench/{n:010}"))
}

/// Writes the keys that will be read.
async fn fill(wanted: &Bench, tls: &Arc<Tls>, options: &Options) -> Result<(), Failure> {
    let client = Client::new(tls.clone(), options.clone());
    client.ready(Instant::now() + options.timeout).await?;
    if wanted.op == BenchOp::Put {
        return Ok(());
    }
    let value = Bytes::from(vec![b'v'; wanted.value_size]);
    let next = std::cell::Cell::new(0);
    let worker = || async {
        loop {
            let n = next.get();
            if n >= wanted.keys.min(FILLED_MAX) {
                return Ok::<(), Error>(());
            }
            next.set(n + 1);
            client.put(key(n), value.clone()).await?;
        }
    };
    let done = futures_util::future::join_all((0..64).map(|_| worker())).await;
    done.into_iter().collect::<Result<(), Error>>()?;
    Ok(())
}
