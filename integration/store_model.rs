//! Random lives of a log against a model that remembers everything.

use balsa::raft::{Entry, HardState, Index, Term};
use balsa::storage::faulty::Survival;
use balsa::storage::{FaultyDisk, LogStore, StorageError};
use proptest::prelude::*;

mod store_life;
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
    let last = state.entries.len() as u64;
    match step {
        Step::Term { later, vote } => {
            life.append(&batch(store_support::term(term.0 + later, *vote), None, vec![]))
        }
        Step::Append(sizes) => life.append(&batch(None, None, entries(term, last, sizes))),
        Step::Conflict { back, sizes } => {
            let term = term.next();
            let hard_state = HardState { term, vote: None };
            let after = last.saturating_sub(*back);
            life.append(&batch(Some(hard_state), Some(after), entries(term, after, sizes)))
        }
        Step::Truncate { back } => {
            let hard_state = HardState { term, vote };
            let after = last.saturating_sub(*back);
            life.append(&batch(Some(hard_state), Some(after), vec![]))
        }
        Step::Sync => life.sync(),
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
            let now = life.model.now();
            let last = now.entries.len() as u64;
            let reader = log.reader();
            for after in 0..=last {
                let found = reader.read(Index(after), Index(last), 500).unwrap();
                let expected = &now.entries[after as usize..];
                prop_assert_eq!(&found[..], &expected[..found.len()]);
                prop_assert!(!found.is_empty() || after == last);
            }
        }
        life.lose_power(Survival::Nothing);
        life.open().unwrap();
    }
}
