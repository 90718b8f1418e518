//! Where a log begins: behind what was purged, and behind the snapshot that stands for it.

use balsa::raft::{Entry, Index, LogId, NodeId, Term};
use balsa::storage::{Batch, StorageError};

use crate::beds::beds;
use crate::store_snapshot_support::meta;
use crate::store_support::{batch, command, term};

/// Entries of term 1 with these indices, of 300 bytes.
fn entries(indices: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indices.map(|index| command(1, index, 300)).collect()
}

#[test]
fn what_is_purged_is_gone_and_the_rest_is_as_it_was() {
    for bed in beds() {
        let (mut log, restored) = bed.open();
        assert_eq!(restored.snapshot, None);
        for index in 1..=20 {
            log.append(&batch(term(1, None), None, entries(index..=index))).unwrap();
            log.sync().unwrap();
        }
        bed.take(LogId::new(1, 18));
        for upto in [0, 7, 15, 15, 3] {
            log.purge(LogId::new(u64::from(upto > 0), upto)).unwrap();
        }
        let gone = log.reader().read(Index(14), Index(16), u64::MAX);
        assert!(matches!(gone, Err(StorageError::OutOfRange { .. })), "{bed:?}");
        let rest = log.reader().read(Index(15), Index(20), u64::MAX).unwrap();
        assert_eq!(rest, entries(16..=20), "{bed:?}");
        log.append(&batch(term(2, None), Some(19), vec![command(2, 20, 10)])).unwrap();
        log.sync().unwrap();
        drop(log);
        let (log, restored) = bed.open();
        // A part of a file cannot go.
        let base = restored.shape.base();
        assert!((LogId::new(1, 11)..=LogId::new(1, 15)).contains(&base), "{bed:?}: {base}");
        assert_eq!(restored.shape.last(), LogId::new(2, 20));
        assert_eq!(restored.snapshot, Some(meta(LogId::new(1, 18))));
        assert_eq!((restored.hard_state.term, restored.reached), (Term(2), Index(20)));
        let rest = log.reader().read(Index(15), Index(19), u64::MAX).unwrap();
        assert_eq!(rest, entries(16..=19), "{bed:?}");
    }
}

#[test]
fn an_installed_snapshot_takes_the_place_of_the_log() {
    for bed in beds() {
        let (mut log, _) = bed.open();
        log.append(&batch(term(1, None), None, entries(1..=9))).unwrap();
        log.sync().unwrap();
        // One behind the log, then one in a log that conflicts, with entries behind it.
        for (last, behind) in [(LogId::new(2, 30), 0), (LogId::new(4, 32), 2)] {
            bed.receive(last);
            let entries = (1..=behind).map(|at| command(last.term.0, last.index.0 + at, 10));
            let entries: Vec<Entry> = entries.collect();
            let install = Some(meta(last));
            let whole = batch(term(last.term.0, None), None, entries.clone());
            log.append(&Batch { install, ..whole }).unwrap();
            let gone = log.reader().read(Index(5), Index(7), u64::MAX);
            assert!(matches!(gone, Err(StorageError::OutOfRange { .. })), "{bed:?}");
            log.sync().unwrap();
            drop(log);
            let (reopened, restored) = bed.open();
            assert_eq!(restored.shape.base(), last, "{bed:?}");
            assert_eq!(restored.shape.last().index.0, last.index.0 + behind);
            assert_eq!(restored.hard_state.term, last.term);
            assert_eq!(restored.snapshot, Some(meta(last)));
            let upto = restored.shape.last().index;
            assert_eq!(reopened.reader().read(last.index, upto, u64::MAX).unwrap(), entries);
            log = reopened;
            for index in upto.0 + 1..=upto.0 + 5 {
                let entry = command(last.term.0, index, 200);
                log.append(&batch(None, None, vec![entry])).unwrap();
            }
            log.sync().unwrap();
        }
    }
}

#[test]
fn a_snapshot_that_goes_further_than_the_log_makes_it_begin_behind() {
    // What an install that was cut short leaves: the snapshot is current, and the log is the old one.
    for bed in beds() {
        let (mut log, _) = bed.open();
        log.append(&batch(term(3, Some(1)), None, entries(1..=5))).unwrap();
        log.sync().unwrap();
        bed.take(LogId::new(2, 4));
        drop(log);
        let (_, restored) = bed.open();
        assert_eq!(restored.shape.base(), LogId::new(2, 4), "{bed:?}");
        assert_eq!(restored.shape.last(), LogId::new(2, 4));
        assert_eq!(restored.hard_state.term, Term(3));
        assert_eq!(restored.hard_state.vote, Some(NodeId(1)));
        assert_eq!(restored.reached, Index(5), "it may have been acknowledged");
    }
}

#[test]
fn entries_of_a_later_term_than_a_snapshots_end_give_way_to_it() {
    // The paper's figure 8: they were never committed, and a still later leader brought the snapshot's
    // entries through.
    for bed in beds() {
        let (mut log, _) = bed.open();
        log.append(&batch(term(3, Some(1)), None, entries(1..=3))).unwrap();
        log.append(&batch(None, None, vec![command(3, 4, 20), command(3, 5, 20)])).unwrap();
        log.append(&batch(term(4, None), None, vec![])).unwrap();
        log.sync().unwrap();
        bed.take(LogId::new(2, 4));
        drop(log);
        let (_, restored) = bed.open();
        assert_eq!(restored.shape.last(), LogId::new(2, 4), "{bed:?}");
        assert_eq!(restored.hard_state.term, Term(4));
        assert_eq!(restored.reached, Index(5), "it may have been acknowledged");
    }
}

#[test]
fn the_highest_index_there_ever_was_is_remembered() {
    for bed in beds() {
        let (mut log, restored) = bed.open();
        assert_eq!(restored.reached, Index::ZERO);
        log.append(&batch(term(1, None), None, entries(1..=8))).unwrap();
        log.sync().unwrap();
        log.append(&batch(term(2, None), Some(3), vec![command(2, 4, 900)])).unwrap();
        log.sync().unwrap();
        for index in 5..=6 {
            drop(log);
            let (reopened, restored) = bed.open();
            assert_eq!(restored.reached, Index(8), "{bed:?}");
            log = reopened;
            log.append(&batch(None, None, vec![command(2, index, 900)])).unwrap();
            log.sync().unwrap();
            // Also when the entries that say so are gone.
            bed.take(LogId::new(2, index));
            log.purge(LogId::new(2, index)).unwrap();
        }
        drop(log);
        assert_eq!(bed.open().1.reached, Index(8), "{bed:?}");
    }
}
