//! The search for an order, one key at a time: depth first, with memory (Wing and Gong 1993, Lowe
//! 2017).
//!
//! Returns are passed in the order of time. To pass the return of an operation that has no place in
//! the order yet, some pending operations get theirs, that one last. What matters for everything
//! later is only the key's value, which pending operations have their place, and which unknown ones
//! are used up; a combination seen before is not searched again.
//!
//! The revisions in the answers only decide what is tried first, so that wrong ones cost time and
//! nothing else. Four observations keep the search small, none of them at the price of exactness:
//!
//! - An operation that only looks, and whose answer fits now, gets its place now.
//! - A value that only one operation can write is not overwritten while a later call will see it.
//! - An unknown operation is used only where it changes the value, not only to be overwritten
//!   unseen; and of several that do the same the first is used first.
//! - Values that nobody looks for are all the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Verdict;
use super::action::{ABSENT, Action, FIRST, Value, action, number_values};
use super::history::{Answer, History, Input, Operation, Time};

/// Combinations remembered for one key before the search gives up, so that a test that goes wrong
/// does not eat the machine.
const REMEMBERED_MAX: usize = 5_000_000;

/// Searches an order for each key, for at most `limit` in all.
#[must_use]
pub fn check(history: &History, limit: Duration) -> Verdict {
    let deadline = Instant::now() + limit;
    let mut keys: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        keys.entry(&operation.key).or_default().push(operation);
    }
    let mut unknown = None;
    for operations in keys.into_values() {
        match Search::new(operations).run(deadline) {
            Verdict::Linearizable => {}
            Verdict::Unknown(why) => unknown = Some(why),
            violation @ Verdict::Violation(_) => return violation,
        }
    }
    unknown.map_or(Verdict::Linearizable, Verdict::Unknown)
}

/// A set of small numbers. Invariant: the last word is not zero, so that equal sets are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, bit: usize) -> bool {
        self.0.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    fn set(&mut self, bit: usize) {
        if self.0.len() <= bit / 64 {
            self.0.resize(bit / 64 + 1, 0);
        }
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    fn clear(&mut self, bit: usize) {
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word &= !(1 << (bit % 64));
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

/// Where the search stands; all that matters for what is still possible.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Position {
    /// How many returns are passed.
    passed: usize,
    value: Value,
    /// Slots of pending operations that have their place.
    placed: Bits,
    /// Unknown operations used up, by their number.
    used: Bits,
    /// The value comes from an unknown operation, and nothing has seen it yet.
    unseen: bool,
}

/// A choice yet to be tried: this operation gets the next place.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// An answered operation.
    Answered(usize),
    /// An unknown one, by its number.
    Unknown(usize),
}

/// One operation that returned.
struct Answered<'a> {
    source: &'a Operation,
    action: Action,
    call: Time,
    returned: Time,
    /// The store's revision in the answer.
    revision: u64,
    /// Its place in `Position::placed` while it is pending; reused afterwards.
    slot: usize,
}

/// One operation of unknown outcome.
struct Unknown {
    call: Time,
    action: Action,
    /// The revision at which a get saw what it wrote, for what that is worth.
    revision: Option<u64>,
}

struct Search<'a> {
    /// In the order of their returns.
    answered: Vec<Answered<'a>>,
    /// For each return, the operations pending just before it, in the order of their returns.
    pending: Vec<Vec<usize>>,
    /// In the order of their calls.
    unknown: Vec<Unknown>,
    /// For each return, how many of the unknown ones were called before it.
    unknown_called: Vec<usize>,
    /// Which of the unknown ones leave a value, by that value, in order.
    unknown_writers: HashMap<Value, Vec<usize>>,
    /// For each value, the last call that must find it, if only one operation writes the value.
    wanted_until: Vec<Option<Time>>,
}

impl<'a> Search<'a> {
    fn new(operations: Vec<&'a Operation>) -> Search<'a> {
        let values = number_values(&operations);
        let seen: HashMap<&Bytes, u64> = operations
            .iter()
            .filter_map(|operation| match &operation.reply.as_ref()?.answer {
                Answer::Read { seen: Some(seen), .. } => Some((&seen.value, seen.mod_revision)),
                _ => None,
            })
            .collect();
        let (mut answered, mut unknown) = (Vec::new(), Vec::new());
        for source in operations {
            let action = action(source, &values);
            match &source.reply {
                Some(reply) => answered.push(Answered {
                    source,
                    action,
                    call: source.call,
                    returned: reply.at,
                    revision: match reply.answer {
                        Answer::Read { revision, .. } | Answer::Written { revision, .. } => {
                            revision
                        }
                    },
                    slot: 0,
                }),
                // A get without an answer explains nothing and needs no explanation.
                None if source.input == Input::Get => {}
                None => {
                    let revision = match &source.input {
                        Input::Put(value) | Input::Cas { value, .. } => seen.get(value).copied(),
                        Input::Get | Input::Delete => None,
                    };
                    unknown.push(Unknown { call: source.call, action, revision });
                }
            }
        }
        answered.sort_by_key(|operation| operation.returned);
        unknown.sort_by_key(|operation| operation.call);
        let wanted_until = wanted_until(&answered, &unknown, values.len() + FIRST as usize);
        let pending = pending(&mut answered);
        let called = |operation: &Answered| {
            unknown.partition_point(|other| other.call <= operation.returned)
        };
        let unknown_called = answered.iter().map(called).collect();
        let mut unknown_writers: HashMap<Value, Vec<usize>> = HashMap::new();
        for (number, operation) in unknown.iter().enumerate() {
            let left = operation.action.writes().unwrap_or(ABSENT);
            unknown_writers.entry(left).or_default().push(number);
        }
        Search { answered, pending, unknown, unknown_called, unknown_writers, wanted_until }
    }

    fn run(&self, deadline: Instant) -> Verdict {
        let mut start = Position {
            passed: 0,
            value: ABSENT,
            placed: Bits::default(),
            used: Bits::default(),
            unseen: false,
        };
        self.settle(&mut start);
        let mut furthest = start.passed;
        let mut seen = HashSet::from([start.clone()]);
        let mut stack = vec![(self.choices(&start), start)];
        let mut steps = 0u32;
        while let Some((choices, position)) = stack.last_mut() {
            if position.passed == self.answered.len() {
                return Verdict::Linearizable;
            }
            let Some(choice) = choices.pop() else {
                stack.pop();
                continue;
            };
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(256) && Instant::now() > deadline {
                return self.gave_up("the time limit is reached", furthest);
            }
            if seen.len() > REMEMBERED_MAX {
                return self.gave_up("too many combinations", furthest);
            }
            let mut next = position.clone();
            self.place(&mut next, choice);
            self.settle(&mut next);
            furthest = furthest.max(next.passed);
            if seen.insert(next.clone()) {
                stack.push((self.choices(&next), next));
            }
        }
        let culprit = self.answered[furthest].source.describe();
        Verdict::Violation(format!(
            "no order of the operations on this key explains more than the first {furthest} of {} \
             answers; it fails at: {culprit}",
            self.answered.len()
        ))
    }

    /// Gives a place to whatever only looks and fits, and passes all returns that can be passed.
    fn settle(&self, position: &mut Position) {
        while let Some(pending) = self.pending.get(position.passed) {
            for &index in pending {
                let Answered { slot, action, .. } = self.answered[index];
                if action.only_looks()
                    && !position.placed.has(slot)
                    && action.step(position.value).is_some()
                {
                    position.placed.set(slot);
                    position.unseen = false;
                }
            }
            let slot = self.answered[position.passed].slot;
            if !position.placed.has(slot) {
                return;
            }
            position.placed.clear(slot);
            position.passed += 1;
        }
    }

    /// What could get the next place, the most promising last: that is the lowest revision. If the
    /// revisions are right, the search then goes straight on; if they are wrong, it goes astray
    /// first.
    fn choices(&self, position: &Position) -> Vec<Choice> {
        let mut choices = Vec::new();
        let Some(pending) = self.pending.get(position.passed) else { return choices };
        let now = self.answered[position.passed].returned;
        if self.wanted_until[position.value as usize].is_some_and(|last| last > now) {
            return choices;
        }
        // Only what finds the value that an unknown operation left justifies having used it.
        let blind = |action: Action| matches!(action, Action::Put(_) | Action::Delete(None));
        // Of several that do the same, the first: they are all there for good.
        let mut offered = HashSet::new();
        for number in self.helpful(position, pending) {
            let action = self.unknown[number].action;
            let changes = action.step(position.value).is_some_and(|new| new != position.value);
            let useful = changes && !(position.unseen && blind(action));
            if useful && !position.used.has(number) && offered.insert(action) {
                choices.push(Choice::Unknown(number));
            }
        }
        for &index in pending {
            let Answered { slot, action, .. } = self.answered[index];
            // Also if it changes nothing now: later it might undo what somebody is to see.
            let fits = action.step(position.value).is_some();
            if fits && !position.placed.has(slot) && !(position.unseen && blind(action)) {
                choices.push(Choice::Answered(index));
            }
        }
        let due = self.answered[position.passed].revision;
        choices.sort_by_key(|choice| {
            Reverse(match choice {
                Choice::Answered(index) => (self.answered[*index].revision, 0, *index),
                // Used for the one that is due, if nothing better is known.
                Choice::Unknown(number) => match self.unknown[*number].revision {
                    Some(revision) => (revision, 0, *number),
                    None => (due, 1, *number),
                },
            })
        });
        choices
    }

    /// The unknown operations that could, alone or through other unknown ones, make a pending
    /// operation fit, in order.
    fn helpful(&self, position: &Position, pending: &[usize]) -> Vec<usize> {
        let called = self.unknown_called[position.passed];
        let mut wanted = Vec::new();
        for &index in pending {
            let Answered { slot, action, .. } = self.answered[index];
            if position.placed.has(slot) || action.step(position.value).is_some() {
                continue;
            }
            match action.sees() {
                Some(value) => wanted.push(value),
                // Any other value would do.
                None => return (0..called).collect(),
            }
        }
        let mut helpful = BTreeSet::new();
        while let Some(value) = wanted.pop() {
            let Some(writers) = self.unknown_writers.get(&value) else { continue };
            for &number in writers.iter().take_while(|number| **number < called) {
                if !position.used.has(number)
                    && helpful.insert(number)
                    && let Action::Cas { expected, .. } = self.unknown[number].action
                {
                    wanted.push(expected);
                }
            }
        }
        helpful.into_iter().collect()
    }

    fn place(&self, position: &mut Position, choice: Choice) {
        let action = match choice {
            Choice::Answered(index) => {
                position.placed.set(self.answered[index].slot);
                position.unseen = false;
                self.answered[index].action
            }
            Choice::Unknown(number) => {
                position.used.set(number);
                position.unseen = true;
                self.unknown[number].action
            }
        };
        position.value = action.step(position.value).expect("chosen because it fits");
    }

    fn gave_up(&self, why: &str, furthest: usize) -> Verdict {
        let key = &self.answered[0].source.key;
        Verdict::Unknown(format!(
            "key \"{}\": {why}, with {furthest} of {} answers explained",
            key.escape_ascii(),
            self.answered.len()
        ))
    }
}

/// Gives slots, and lists for each return what is pending just before it. An operation called at
/// the very moment of a return counts as pending: the clock cannot tell.
fn pending(answered: &mut [Answered]) -> Vec<Vec<usize>> {
    let mut by_call: Vec<usize> = (0..answered.len()).collect();
    by_call.sort_by_key(|index| answered[*index].call);
    let mut calls = by_call.into_iter().peekable();
    let (mut now, mut free, mut slots) = (Vec::new(), Vec::new(), 0);
    let mut lists = Vec::with_capacity(answered.len());
    for passed in 0..answered.len() {
        let returned = answered[passed].returned;
        while let Some(index) = calls.next_if(|index| answered[*index].call <= returned) {
            assert!(answered[index].call <= answered[index].returned, "called before it returned");
            answered[index].slot = free.pop().unwrap_or_else(|| {
                slots += 1;
                slots - 1
            });
            now.push(index);
        }
        now.sort_unstable();
        lists.push(now.clone());
        now.retain(|index| *index != passed);
        free.push(answered[passed].slot);
    }
    lists
}

fn wanted_until(answered: &[Answered], unknown: &[Unknown], values: usize) -> Vec<Option<Time>> {
    let mut writers = vec![0; values];
    let actions = answered.iter().map(|operation| operation.action);
    for value in
        actions.chain(unknown.iter().map(|operation| operation.action)).filter_map(Action::writes)
    {
        writers[value as usize] += 1;
    }
    let mut wanted = vec![None; values];
    for operation in answered {
        if let Some(value) = operation.action.sees() {
            // The key's absence and what nobody looks for have any number of writers.
            if value >= FIRST && writers[value as usize] <= 1 {
                let last = &mut wanted[value as usize];
                *last = (*last).max(Some(operation.call));
            }
        }
    }
    wanted
}
