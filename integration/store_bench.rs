//! How many appends a second a directory's disk makes durable, one at a time and in groups:
//! `cargo run --release --example store_bench -- DIR [SECONDS]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balsa::raft::{Entry, HardState, Index, LogId, Payload, PersistToken, Term};
use balsa::storage::{Batch, DataDir, LogOptions, LogStore, RealFs, StorageError};
use bytes::Bytes;

const VALUE_BYTES: usize = 128;

fn main() -> Result<(), StorageError> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().unwrap_or_else(|| "store-bench-data".to_owned()));
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2);
    let dir = DataDir::open(Arc::new(RealFs), &path, "bench")?;
    let (mut log, restored) = dir.open_log(LogOptions::default())?;
    let mut last = restored.shape.last().index;
    let term = restored.hard_state.term.next();
    let mut hard_state = Some(HardState { term, vote: None });
    for group in [1_u64, 16, 256] {
        let mut syncs: Vec<Duration> = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(seconds) {
            for _ in 0..group {
                last = last.next();
                log.append(&batch(hard_state.take(), term, last))?;
            }
            let before = Instant::now();
            log.sync()?;
            syncs.push(before.elapsed());
        }
        let elapsed = begin.elapsed().as_secs_f64();
        syncs.sort();
        let at = |part: f64| syncs[((syncs.len() - 1) as f64 * part) as usize].as_micros();
        println!(
            "group={group} appends_per_s={:.0} syncs_per_s={:.0} sync_us: p50={} p99={} max={}",
            (syncs.len() as u64 * group) as f64 / elapsed,
            syncs.len() as f64 / elapsed,
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    let begin = Instant::now();
    let mut after = Index::ZERO;
    let reader = log.reader();
    while after < last {
        after = reader.read(after, last, 1 << 20)?.last().map_or(last, |entry| entry.id.index);
    }
    println!("read_back_entries={last} seconds={:.2}", begin.elapsed().as_secs_f64());
    drop(log);
    let begin = Instant::now();
    drop(dir.open_log(LogOptions::default())?);
    println!("reopened_in_seconds={:.2}", begin.elapsed().as_secs_f64());
    Ok(())
}

fn batch(hard_state: Option<HardState>, term: Term, index: Index) -> Batch {
    let payload = Payload::Command(Bytes::from(vec![b'v'; VALUE_BYTES]));
    let entries = vec![Entry { id: LogId { term, index }, payload }];
    Batch { token: PersistToken(index.0), hard_state, truncate_after: None, entries, install: None }
}
