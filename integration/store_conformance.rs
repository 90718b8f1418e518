//! What every log store must do: one suite, run against files, memory, and a simulated disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use balsa::raft::{
    Boot, Entry, HardState, Index, LogId, Member, Membership, NodeId, Payload, Term,
};
use balsa::storage::{Batch, LogStore, Seen, StorageError};

#[path = "store_conformance/beds.rs"]
mod beds;
#[path = "store_conformance/beginning.rs"]
mod beginning;
#[allow(dead_code)] // not all of it is used here
mod store_snapshot_support;
mod store_support;

use beds::beds;
use store_support::{batch, command, term};

fn read_all(log: &dyn LogStore, last: u64) -> Vec<Entry> {
    log.reader().read(Index(0), Index(last), u64::MAX).unwrap()
}

#[test]
fn a_new_log_is_empty() {
    for bed in beds() {
        let (log, restored) = bed.open();
        assert_eq!(restored.hard_state, HardState::default());
        assert_eq!(restored.shape.last(), LogId::ZERO);
        assert!(restored.memberships.is_empty() && restored.seen.is_empty());
        assert_eq!(read_all(&*log, 0), Vec::new());
        let beyond = log.reader().read(Index(0), Index(1), 100);
        assert!(matches!(beyond, Err(StorageError::OutOfRange { .. })), "{bed:?}");
    }
}

#[test]
fn what_was_synced_is_there_after_every_open() {
    for bed in beds() {
        let mut expected = Vec::new();
        for round in 1..=6_u64 {
            let (mut log, restored) = bed.open();
            assert_eq!(restored.shape.last().index.0, expected.len() as u64);
            assert_eq!(restored.hard_state.term, Term(round - 1));
            assert_eq!(read_all(&*log, expected.len() as u64), expected, "{bed:?}");
            log.append(&batch(term(round, Some(round)), None, vec![])).unwrap();
            for _ in 0..10 {
                let entry = command(round, expected.len() as u64 + 1, 50 * round as usize);
                log.append(&batch(None, None, vec![entry.clone()])).unwrap();
                log.sync().unwrap();
                expected.push(entry);
            }
        }
        let (_, restored) = bed.open();
        for entry in &expected {
            assert_eq!(restored.shape.term_at(entry.id.index), Some(entry.id.term), "{bed:?}");
        }
    }
}

#[test]
fn a_range_is_served_as_far_as_it_is_written() {
    for bed in beds() {
        let (mut log, _) = bed.open();
        let entries: Vec<Entry> = (1..=4).map(|index| command(1, index, 40)).collect();
        log.append(&batch(term(1, None), None, entries.clone())).unwrap();
        let reader = log.reader();
        let read = |after: u64, upto: u64| reader.read(Index(after), Index(upto), u64::MAX);
        for after in 0..4 {
            assert_eq!(read(after, 9).unwrap(), entries[after as usize..], "{bed:?}");
        }
        assert_eq!(reader.read(Index(1), Index(9), 1).unwrap(), entries[1..2], "{bed:?}");
        for after in [4, 5, 8] {
            let beyond = read(after, 9);
            assert!(matches!(beyond, Err(StorageError::OutOfRange { .. })), "{bed:?}");
        }
    }
}

#[test]
fn a_conflicting_suffix_is_replaced() {
    for bed in beds() {
        let (mut log, _) = bed.open();
        let old: Vec<Entry> = (1..=9).map(|index| command(1, index, 200)).collect();
        log.append(&batch(term(1, None), None, old.clone())).unwrap();
        log.sync().unwrap();
        let new = vec![command(2, 4, 10), command(2, 5, 10)];
        log.append(&batch(term(2, None), Some(3), new.clone())).unwrap();
        let expected = [&old[..3], &new[..]].concat();
        assert_eq!(read_all(&*log, 5), expected);
        let gone = log.reader().read(Index(5), Index(6), u64::MAX);
        assert!(matches!(gone, Err(StorageError::OutOfRange { .. })), "{bed:?}");
        log.sync().unwrap();
        drop(log);
        let (log, restored) = bed.open();
        assert_eq!(restored.shape.last(), LogId::new(2, 5));
        assert_eq!(read_all(&*log, 5), expected, "{bed:?}");
    }
}

#[test]
fn a_truncation_without_entries_lasts() {
    for bed in beds() {
        let (mut log, _) = bed.open();
        let old: Vec<Entry> = (1..=4).map(|index| command(1, index, 10)).collect();
        log.append(&batch(term(1, None), None, old.clone())).unwrap();
        log.append(&batch(None, Some(2), vec![])).unwrap();
        log.sync().unwrap();
        drop(log);
        let (mut log, restored) = bed.open();
        assert_eq!(restored.shape.last(), LogId::new(1, 2), "{bed:?}");
        log.append(&batch(None, Some(0), vec![])).unwrap();
        log.sync().unwrap();
        drop(log);
        assert_eq!(bed.open().1.shape.last(), LogId::ZERO, "{bed:?}");
    }
}

#[test]
fn memberships_come_back_and_go_with_their_entries() {
    let membership = |name: &str| {
        let member = Member { name: name.to_owned(), address: format!("{name}.example:6000") };
        Membership {
            members: BTreeMap::from([(NodeId(7), member)]),
            voters: BTreeSet::from([NodeId(7)]),
            ..Membership::default()
        }
    };
    let entry = |index, name: &str| Entry {
        id: LogId::new(1, index),
        payload: Payload::Membership(Arc::new(membership(name))),
    };
    for bed in beds() {
        let (mut log, _) = bed.open();
        let noop = Entry { id: LogId::new(1, 2), payload: Payload::Noop };
        let entries = vec![entry(1, "raft-0"), noop, entry(3, "raft-1"), entry(4, "raft-2")];
        log.append(&batch(term(1, None), None, entries.clone())).unwrap();
        log.append(&batch(None, Some(3), vec![])).unwrap();
        log.sync().unwrap();
        drop(log);
        let (log, restored) = bed.open();
        let expected = vec![(Index(1), membership("raft-0")), (Index(3), membership("raft-1"))];
        assert_eq!(restored.memberships, expected, "{bed:?}");
        assert_eq!(read_all(&*log, 3), entries[..3], "{bed:?}");
    }
}

#[test]
fn reads_stop_at_the_limit_and_give_at_least_one_entry() {
    for bed in beds() {
        let (mut log, _) = bed.open();
        let entries: Vec<Entry> = (1..=8).map(|index| command(1, index, 100)).collect();
        log.append(&batch(term(1, None), None, entries.clone())).unwrap();
        let reader = log.reader();
        let read = |after, upto, bytes| reader.read(Index(after), Index(upto), bytes).unwrap();
        assert_eq!(read(2, 8, 0), entries[2..3], "{bed:?}");
        assert_eq!(read(2, 8, 300), entries[2..4], "{bed:?}");
        assert_eq!(read(2, 4, u64::MAX), entries[2..4], "{bed:?}");
        assert_eq!(read(8, 8, 100), vec![], "{bed:?}");
    }
}

#[test]
fn what_was_seen_is_written_with_the_next_hard_state() {
    let seen =
        |boot, term, index| Seen { boot: Boot(boot), term: Term(term), acknowledged: Index(index) };
    let table = |pairs: &[(u64, Seen)]| -> BTreeMap<NodeId, Seen> {
        pairs.iter().map(|(node, seen)| (NodeId(*node), *seen)).collect()
    };
    for bed in beds() {
        let (mut log, _) = bed.open();
        log.note_seen(&table(&[(7, seen(1, 5, 10))]));
        let first = table(&[(7, seen(2, 5, 11)), (8, seen(1, 1, 1))]);
        log.note_seen(&first);
        log.append(&batch(term(1, None), None, vec![command(1, 1, 1)])).unwrap();
        log.note_seen(&table(&[(9, seen(9, 9, 9))]));
        log.sync().unwrap();
        drop(log);
        let (mut log, restored) = bed.open();
        assert_eq!(restored.seen, first, "not with a write of its own: {bed:?}");
        // The table is replaced: who is no member any more goes.
        let second = table(&[(8, seen(3, 3, 3))]);
        log.note_seen(&second);
        log.append(&batch(term(2, None), None, vec![])).unwrap();
        log.sync().unwrap();
        drop(log);
        let (mut log, restored) = bed.open();
        assert_eq!(restored.seen, second, "{bed:?}");
        log.note_seen(&BTreeMap::new());
        log.append(&batch(term(3, None), None, vec![])).unwrap();
        // Over the border of a segment.
        log.append(&batch(None, None, vec![command(3, 2, 3000)])).unwrap();
        log.sync().unwrap();
        drop(log);
        assert_eq!(bed.open().1.seen, BTreeMap::new(), "{bed:?}");
    }
}

#[test]
fn a_batch_larger_than_a_segment_fits() {
    for bed in beds() {
        let (mut log, _) = bed.open();
        let entries: Vec<Entry> = (1..=5).map(|index| command(1, index, 5000)).collect();
        log.append(&batch(term(1, None), None, entries.clone())).unwrap();
        log.append(&batch(None, None, vec![command(1, 6, 10)])).unwrap();
        log.sync().unwrap();
        drop(log);
        let (log, _) = bed.open();
        assert_eq!(read_all(&*log, 5), entries, "{bed:?}");
    }
}

/// Runs `wrong` against a store with three entries of term 2 and a vote for node 1.
fn must_panic(wrong: &Batch) {
    for bed in beds() {
        let (mut log, _) = bed.open();
        let entries = (1..=3).map(|index| command(2, index, 1)).collect();
        log.append(&batch(term(2, Some(1)), None, entries)).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| log.append(wrong)));
        assert!(outcome.is_err(), "{bed:?} took {wrong:?}");
    }
}

#[test]
fn batches_that_break_the_rules_are_refused() {
    // S7: the term goes back; the vote is taken back; the vote changes.
    must_panic(&batch(term(1, None), None, vec![]));
    must_panic(&batch(term(2, None), None, vec![]));
    must_panic(&batch(term(2, Some(2)), None, vec![]));
    // S3: a gap; an index twice.
    must_panic(&batch(None, None, vec![command(2, 5, 1)]));
    must_panic(&batch(None, None, vec![command(2, 3, 1)]));
    must_panic(&batch(None, Some(1), vec![command(2, 3, 1)]));
    // S13: the term of entries goes back. S17: an entry ahead of the durable term.
    must_panic(&batch(None, None, vec![command(1, 4, 1)]));
    must_panic(&batch(None, None, vec![command(3, 4, 1)]));
    // S10: truncation beyond the end.
    must_panic(&batch(None, Some(4), vec![]));
}

#[test]
fn a_reader_on_another_thread_sees_whole_states_only() {
    for bed in beds() {
        let (mut log, _) = bed.open();
        log.append(&batch(term(1, None), None, vec![command(1, 1, 1)])).unwrap();
        let reader = log.reader();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut reads = 0_u64;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) || reads == 0 {
                match reader.read(Index(0), Index(6), u64::MAX) {
                    // The suffix 2..=6 is always of one term, whole or cut behind 3.
                    Ok(entries) if entries.len() > 1 => {
                        assert!([3, 6].contains(&entries.len()), "{}", entries.len());
                        assert!(entries[1..].iter().all(|e| e.id.term == entries[1].id.term));
                        reads += 1;
                    }
                    Ok(entries) => assert_eq!(entries.len(), 1, "before the first suffix"),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for round in 2..100 {
            let entries = (2..=6).map(|index| command(round, index, 60)).collect();
            log.append(&batch(term(round, None), Some(1), entries)).unwrap();
            log.append(&batch(None, Some(3), vec![])).unwrap();
            let entries = (4..=6).map(|index| command(round, index, 60)).collect();
            log.append(&batch(None, None, entries)).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        thread.join().unwrap();
    }
}
