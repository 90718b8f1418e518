//! Random lives of a log and its snapshots against a model that remembers everything.

use balsa::raft::{Entry, HardState, Index, LogId, Term};
use balsa::storage::faulty::Survival;
use balsa::storage::{Batch, FaultyDisk, LogStore, StorageError};
use proptest::prelude::*;

mod store_life;
#[allow(dead_code)] // not all of it is used here
mod store_snapshot_support;
mod store_support;

use store_life::Life;
use store_support::{batch, command};

#[derive(Clone, Debug)]
enum Step {
    /// A later term, perhaps with a vote.
    Term {
        later: u64,
        vote: Option<u64>,
    },
    /// Entries of these sizes.
    Append(Vec<usize>),
    /// A new leader's entries in the place of the last few.
    Conflict {
        back: u64,
        sizes: Vec<usize>,
    },
    /// The last few entries go.
    Truncate {
        back: u64,
    },
    Sync,
    /// An own snapshot of what is synced but the last few entries.
    Snapshot {
        back: u64,
    },
    /// What the snapshot covers goes, but the last few entries of that.
    Purge {
        trailing: u64,
    },
    /// A new leader's snapshot takes the log's place: it ends so far behind what is committed.
    Install {
        ahead: u64,
        sizes: Vec<usize>,
    },
    /// Another process, with the cache as it is.
    Restart,
    /// A power failure that keeps what this seed says.
    PowerLoss(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = || prop::collection::vec(prop_oneof![0..40_usize, 0..900_usize], 1..5);
    let step = prop_oneof![
        2 => (1..3_u64, prop::option::of(1..4_u64))
            .prop_map(|(later, vote)| Step::Term { later, vote }),
        6 => sizes().prop_map(Step::Append),
        2 => (0..4_u64, sizes()).prop_map(|(back, sizes)| Step::Conflict { back, sizes }),
        1 => (0..4_u64).prop_map(|back| Step::Truncate { back }),
        5 => Just(Step::Sync),
        2 => (0..6_u64).prop_map(|back| Step::Snapshot { back }),
        2 => (0..6_u64).prop_map(|trailing| Step::Purge { trailing }),
        1 => (1..20_u64, prop::collection::vec(0..300_usize, 0..3))
            .prop_map(|(ahead, sizes)| Step::Install { ahead, sizes }),
        1 => Just(Step::Restart),
        1 => any::<u64>().prop_map(Step::PowerLoss),
    ];
    prop::collection::vec(step, 1..60)
}

fn entries(term: Term, after: u64, sizes: &[usize]) -> Vec<Entry> {
    (after + 1..).zip(sizes).map(|(index, size)| command(term.0, index, *size)).collect()
}

fn take(life: &mut Life, step: &Step) -> Result<(), StorageError> {
    let state = life.model.now();
    let HardState { term, vote } = state.hard_state;
    let last = state.last().index.0;
    // What a snapshot holds is committed and stays (S10).
    let committed = life.model.snapshot.index.0;
    match step {
        Step::Term { later, vote } => {
            life.append(&batch(store_support::term(term.0 + later, *vote), None, vec![]))
        }
        Step::Append(sizes) => life.append(&batch(None, None, entries(term, last, sizes))),
        Step::Conflict { back, sizes } => {
            let term = term.next();
            let hard_state = HardState { term, vote: None };
            let after = last.saturating_sub(*back).max(committed);
            life.append(&batch(Some(hard_state), Some(after), entries(term, after, sizes)))
        }
        Step::Truncate { back } => {
            let hard_state = HardState { term, vote };
            let after = last.saturating_sub(*back).max(committed);
            life.append(&batch(Some(hard_state), Some(after), vec![]))
        }
        Step::Sync => life.sync(),
        Step::Snapshot { back } => {
            let synced = &life.model.states[life.model.synced];
            let now = life.model.now();
            let common = synced.entries.iter().zip(&now.entries).take_while(|(a, b)| a == b);
            let common = now.base.index.0 + common.count() as u64;
            let index = common.saturating_sub(*back);
            if index <= committed { Ok(()) } else { life.snapshot(index) }
        }
        Step::Purge { trailing } => {
            let upto = committed.saturating_sub(*trailing);
            if upto <= life.model.purged.0.max(state.base.index.0) {
                Ok(())
            } else {
                life.purge(upto)
            }
        }
        Step::Install { ahead, sizes } => {
            let term = term.next();
            let snapshot = LogId { term, index: Index(committed + ahead) };
            life.receive(snapshot, 200)?;
            let hard_state = HardState { term, vote: None };
            let behind = entries(term, snapshot.index.0, sizes);
            let install = Some(store_snapshot_support::meta(snapshot));
            life.append(&Batch { install, ..batch(Some(hard_state), None, behind) })
        }
        Step::Restart => life.restart(),
        Step::PowerLoss(seed) => {
            life.lose_power(Survival::Some(*seed));
            life.open()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_random_life_is_remembered(steps in steps()) {
        let mut life = Life::new(FaultyDisk::new());
        life.open().unwrap();
        for step in &steps {
            take(&mut life, step).unwrap();
            // What was written can be read at once, in whole and from any index.
            let log = life.log.as_ref().unwrap();
            let (now, purged) = (life.model.now(), life.model.purged);
            let last = now.last().index.0;
            let reader = log.reader();
            for after in 0..=last {
                let found = reader.read(Index(after), Index(last), 500);
                if after < now.base.index.0.max(purged.0) {
                    let gone = matches!(found, Err(StorageError::OutOfRange { .. }));
                    prop_assert!(gone, "{after} of {now:?}");
                    continue;
                }
                let found = found.unwrap();
                let expected = &now.entries[(after - now.base.index.0) as usize..];
                prop_assert_eq!(&found[..], &expected[..found.len()]);
                prop_assert!(!found.is_empty() || after == last);
            }
        }
        life.lose_power(Survival::Nothing);
        life.open().unwrap();
    }
}
