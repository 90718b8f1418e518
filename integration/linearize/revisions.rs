//! The check by revisions (C6).
//!
//! Every change of the store has a revision of its own, and every answer carries the store's
//! revision at its moment. That puts everything answered into one order: the write of revision `r`
//! at `r`, and whatever only looked at the store while it was at `r` directly behind it. What is
//! left to check:
//!
//! 1. **One write a revision**: none is claimed twice, and none is taken by nobody. A revision
//!    without an answered write belongs to a write of unknown outcome; each of these takes at most
//!    one. A write applied twice takes two.
//! 2. **Real time**: whatever returned before another was called is not behind it.
//! 3. **Values**: each get saw what the last write of its key left; each condition held, or not, as
//!    answered.
//!
//! Which unknown write has a revision is certain only if some get saw its value there. Where an
//! unknown write could explain an answer otherwise, it is believed to; what that misses is for the
//! search to find.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::Verdict;
use super::history::{Answer, History, Input, Operation, Time};

/// Checks a history whose values are unique per key, as far as writes of unknown outcome go.
#[must_use]
pub fn check(history: &History) -> Verdict {
    match Check::new(history).and_then(|check| check.run()) {
        Ok(()) => Verdict::Linearizable,
        Err(verdict) => verdict,
    }
}

fn violation<T>(why: String) -> Result<T, Verdict> {
    Err(Verdict::Violation(why))
}

/// A place in the store's order: the write of a revision, or (true) just behind it.
type Place = (u64, bool);

struct Check<'a> {
    history: &'a History,
    /// The write of each revision, as far as it is certain.
    writes: BTreeMap<u64, &'a Operation>,
    /// Unknown writes whose revision is not certain, in the order of their calls.
    unplaced: Vec<&'a Operation>,
    /// Revisions that some write took, nobody knows which, in order.
    gaps: Vec<u64>,
}

/// What an unknown write could have done to explain an answer.
enum Need<'a> {
    Absence,
    Existence,
    Value(&'a Bytes),
    Change,
}

impl<'a> Check<'a> {
    fn new(history: &'a History) -> Result<Check<'a>, Verdict> {
        let mut writes: BTreeMap<u64, &Operation> = BTreeMap::new();
        let mut highest = 0;
        for operation in &history.operations {
            let Some((revision, changed)) = answered(operation) else { continue };
            highest = highest.max(revision);
            if !changed {
                if matches!(operation.input, Input::Put(_)) {
                    return violation(format!("a put always succeeds: {}", operation.describe()));
                }
                continue;
            }
            if revision == 0 {
                return violation(format!("a write without a revision: {}", operation.describe()));
            }
            if let Some(other) = writes.insert(revision, operation) {
                return violation(format!(
                    "revision {revision} was given twice: {}; {}",
                    other.describe(),
                    operation.describe()
                ));
            }
        }
        let unknown = identify(history, &mut writes)?;
        let mut unplaced: Vec<&Operation> = unknown.into_values().collect();
        unplaced.extend(
            history
                .operations
                .iter()
                .filter(|operation| operation.reply.is_none() && operation.input == Input::Delete),
        );
        unplaced.sort_by_key(|operation| operation.call);
        // Counted before they are listed: a mad revision would make a long list.
        let taken = writes.range(..=highest).count() as u64;
        if highest - taken > unplaced.len() as u64 {
            let first = (1..).find(|revision| !writes.contains_key(revision)).unwrap_or(0);
            return violation(format!(
                "{} revisions up to {highest} belong to no answered write, the first is {first}, \
                 but only {} writes have an unknown outcome",
                highest - taken,
                unplaced.len()
            ));
        }
        let gaps = (1..=highest).filter(|revision| !writes.contains_key(revision)).collect();
        Ok(Check { history, writes, unplaced, gaps })
    }

    fn run(&self) -> Result<(), Verdict> {
        self.real_time()?;
        self.values()
    }

    /// Sweeps over the calls in the order of time, remembering the furthest place that had
    /// returned.
    fn real_time(&self) -> Result<(), Verdict> {
        let mut calls: Vec<(Time, Option<Place>, &Operation)> = Vec::new();
        let mut returns: Vec<(Time, Place, &Operation)> = Vec::new();
        for operation in &self.history.operations {
            if let (Some((revision, changed)), Some(reply)) =
                (answered(operation), &operation.reply)
            {
                let place = (revision, !changed);
                calls.push((operation.call, Some(place), operation));
                returns.push((reply.at, place, operation));
            }
        }
        for (revision, operation) in &self.writes {
            if operation.reply.is_none() {
                calls.push((operation.call, Some((*revision, false)), operation));
            }
        }
        calls.extend(self.unplaced.iter().map(|operation| (operation.call, None, *operation)));
        calls.sort_by_key(|(call, ..)| *call);
        returns.sort_by_key(|(at, ..)| *at);
        let mut returns = returns.into_iter().peekable();
        let mut furthest: Option<(Place, &Operation)> = None;
        // For each unplaced write, the revision that everything it can have lies behind.
        let mut lows = Vec::new();
        for (call, place, operation) in calls {
            while let Some((_, place, operation)) = returns.next_if(|(at, ..)| *at < call) {
                if furthest.is_none_or(|(furthest, _)| furthest < place) {
                    furthest = Some((place, operation));
                }
            }
            match (place, furthest) {
                (Some(place), Some((reached, before))) if reached > place => {
                    return violation(format!(
                        "the store had reached revision {} when an operation was called that took \
                         place at {}: {}; {}",
                        reached.0,
                        place.0,
                        before.describe(),
                        operation.describe()
                    ));
                }
                (None, reached) => lows.push(reached.map_or(0, |((revision, _), _)| revision)),
                _ => {}
            }
        }
        // Both grow, so giving each gap the earliest write left is as good as any other way.
        match self.gaps.iter().zip(&lows).find(|(gap, low)| low >= gap) {
            Some((gap, _)) => violation(format!(
                "revision {gap} belongs to no answered write, and every write of unknown outcome \
                 that is left was called when the store was there already"
            )),
            None => Ok(()),
        }
    }

    /// Replays each key in the order of revisions.
    fn values(&self) -> Result<(), Verdict> {
        let mut keys: BTreeMap<&Bytes, Vec<(Place, &Operation)>> = BTreeMap::new();
        for (revision, operation) in &self.writes {
            keys.entry(&operation.key).or_default().push(((*revision, false), operation));
        }
        for operation in &self.history.operations {
            if let Some((revision, false)) = answered(operation) {
                keys.entry(&operation.key).or_default().push(((revision, true), operation));
            }
        }
        for mut timeline in keys.into_values() {
            timeline.sort_by_key(|(place, _)| *place);
            // The revision of the last certain write, and the value it left.
            let mut state: (u64, Option<&Bytes>) = (0, None);
            for ((revision, looked), operation) in timeline {
                let upto = if looked { revision } else { revision - 1 };
                if let Some(need) = fits(operation, looked, state)?
                    && !self.explained(operation, state.0, upto, &need)
                {
                    return violation(format!(
                        "at revision {revision} the key had {} since revision {}: {}",
                        state.1.map_or("no value".to_owned(), |value| {
                            format!("the value \"{}\"", value.escape_ascii())
                        }),
                        state.0,
                        operation.describe()
                    ));
                }
                if !looked {
                    state = (revision, written(operation));
                }
            }
        }
        Ok(())
    }

    /// Whether an unknown write of the key may have done what is needed, in a gap of this range.
    fn explained(&self, operation: &Operation, after: u64, upto: u64, need: &Need) -> bool {
        let first = self.gaps.partition_point(|gap| *gap <= after);
        self.gaps.get(first).is_some_and(|gap| *gap <= upto)
            && self.unplaced.iter().any(|unknown| {
                unknown.key == operation.key
                    && match need {
                        Need::Absence => written(unknown).is_none(),
                        Need::Existence => written(unknown).is_some(),
                        Need::Value(value) => written(unknown) == Some(value),
                        Need::Change => true,
                    }
            })
    }
}

/// The revision of an answer, and whether the operation changed the store.
fn answered(operation: &Operation) -> Option<(u64, bool)> {
    Some(match (&operation.input, &operation.reply.as_ref()?.answer) {
        (Input::Get, Answer::Read { revision, .. }) => (*revision, false),
        (
            Input::Put(_) | Input::Delete | Input::Cas { .. },
            Answer::Written { revision, succeeded },
        ) => (*revision, *succeeded),
        _ => panic!("an answer to something else: {}", operation.describe()),
    })
}

/// The value a write leaves, if it succeeds.
fn written(operation: &Operation) -> Option<&Bytes> {
    match &operation.input {
        Input::Put(value) | Input::Cas { value, .. } => Some(value),
        Input::Get | Input::Delete => None,
    }
}

/// Finds the writer of everything that was seen, and adds unknown writes to `writes` where a get
/// shows their revision. Returns the unknown puts and compare-and-swaps that nobody saw.
fn identify<'a>(
    history: &'a History,
    writes: &mut BTreeMap<u64, &'a Operation>,
) -> Result<HashMap<(&'a Bytes, &'a Bytes), &'a Operation>, Verdict> {
    let mut writers: HashMap<(&Bytes, &Bytes), (u32, Option<&Operation>)> = HashMap::new();
    for operation in &history.operations {
        let changed = answered(operation).is_none_or(|(_, changed)| changed);
        if let (Some(value), true) = (written(operation), changed) {
            let (count, unknown) = writers.entry((&operation.key, value)).or_default();
            *count += 1;
            if operation.reply.is_none() {
                *unknown = Some(operation);
            }
        }
    }
    let mut unknown = HashMap::new();
    for (name, (count, writer)) in writers {
        let Some(writer) = writer else { continue };
        if count > 1 {
            return Err(Verdict::Unknown(format!(
                "a value is written more than once, so its writer is not certain: {}",
                writer.describe()
            )));
        }
        unknown.insert(name, writer);
    }
    for operation in &history.operations {
        let Some(Answer::Read { seen: Some(seen), revision }) =
            operation.reply.as_ref().map(|reply| &reply.answer)
        else {
            continue;
        };
        if seen.mod_revision == 0 || seen.mod_revision > *revision {
            return violation(format!("a revision that cannot be: {}", operation.describe()));
        }
        let writer = match writes.get(&seen.mod_revision) {
            Some(writer) => *writer,
            None => match unknown.remove(&(&operation.key, &seen.value)) {
                Some(writer) => {
                    writes.insert(seen.mod_revision, writer);
                    writer
                }
                None => {
                    return violation(format!(
                        "nobody wrote this value at this revision: {}",
                        operation.describe()
                    ));
                }
            },
        };
        if writer.key != operation.key || written(writer) != Some(&seen.value) {
            return violation(format!(
                "the write of the revision seen wrote something else: {}; {}",
                writer.describe(),
                operation.describe()
            ));
        }
    }
    Ok(unknown)
}

/// What else must have happened for this operation to be right in this state; `None` if nothing.
fn fits<'a>(
    operation: &'a Operation,
    looked: bool,
    (since, value): (u64, Option<&Bytes>),
) -> Result<Option<Need<'a>>, Verdict> {
    let need = match (&operation.input, looked) {
        (Input::Get, _) => match operation.reply.as_ref().map(|reply| &reply.answer) {
            Some(Answer::Read { seen: Some(seen), .. }) => {
                // The write seen is certain, so whatever is behind it in the order came later.
                if seen.mod_revision != since || Some(&seen.value) != value {
                    return violation(format!(
                        "revision {since} changed the key before this: {}",
                        operation.describe()
                    ));
                }
                None
            }
            _ => value.is_some().then_some(Need::Absence),
        },
        (Input::Put(_), _) => None,
        (Input::Delete, false) => value.is_none().then_some(Need::Existence),
        (Input::Delete, true) => value.is_some().then_some(Need::Absence),
        (Input::Cas { expected, .. }, true) => (value == expected.as_ref()).then_some(Need::Change),
        (Input::Cas { expected, .. }, false) if value == expected.as_ref() => None,
        (Input::Cas { expected: None, .. }, false) => Some(Need::Absence),
        (Input::Cas { expected: Some(expected), .. }, false) => Some(Need::Value(expected)),
    };
    Ok(need)
}
