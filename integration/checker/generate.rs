//! Random histories of a store that works, and ways to spoil them.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::{IndexedMutRandom, IndexedRandom, SliceRandom};

use crate::linearize::{Answer, History, Input, Operation, Reply, Seen, Time};

/// What clients do.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) clients: u32,
    pub(crate) operations: usize,
    pub(crate) keys: u32,
    /// How many operations get no answer.
    pub(crate) unknown_per_cent: u32,
}

impl Workload {
    /// Small enough for anything.
    pub(crate) fn small() -> Workload {
        Workload { clients: 4, operations: 50, keys: 2, unknown_per_cent: 5 }
    }
}

/// When a planned operation takes effect.
struct Plan {
    client: u32,
    call: u64,
    effect: Option<u64>,
    returned: Option<u64>,
}

/// A history of a store that does each operation at one moment between its call and its return. One
/// of unknown outcome happens much later, or never.
pub(crate) fn sound(rng: &mut SmallRng, workload: &Workload) -> History {
    let mut clocks = vec![0u64; workload.clients as usize];
    let mut plans = Vec::new();
    for _ in 0..workload.operations {
        let client = rng.random_range(0..workload.clients);
        let call = clocks[client as usize] + rng.random_range(1..20);
        let returned = call + rng.random_range(1..40);
        clocks[client as usize] = returned;
        let unknown = rng.random_ratio(workload.unknown_per_cent, 100);
        let late = call + rng.random_range(0..400);
        plans.push(match (unknown, rng.random_bool(0.5)) {
            (false, _) => {
                let effect = Some(rng.random_range(call..=returned));
                Plan { client, call, effect, returned: Some(returned) }
            }
            (true, true) => Plan { client, call, effect: Some(late), returned: None },
            (true, false) => Plan { client, call, effect: None, returned: None },
        });
    }
    plans.shuffle(rng);
    plans.sort_by_key(|plan| plan.effect);
    let mut store = Store::default();
    let mut operations: Vec<Operation> =
        (0..).zip(plans).map(|(n, plan)| store.operation(rng, workload, n, &plan)).collect();
    operations.shuffle(rng);
    History { operations }
}

#[derive(Default)]
struct Store {
    map: BTreeMap<Bytes, Seen>,
    revision: u64,
}

impl Store {
    fn operation(&mut self, rng: &mut SmallRng, load: &Workload, n: u32, plan: &Plan) -> Operation {
        let key = Bytes::from(format!("k{}", rng.random_range(0..load.keys)));
        let value = Bytes::from(format!("v{n}"));
        let present = self.map.get(&key).map(|seen| seen.value.clone());
        let input = match rng.random_range(0..10) {
            0..=3 => Input::Get,
            4..=6 => Input::Put(value),
            7 => Input::Delete,
            _ if rng.random_bool(0.7) => Input::Cas { expected: present.clone(), value },
            _ => {
                let expected = Some(Bytes::from(format!("v{}", rng.random_range(0..=n))));
                Input::Cas { expected, value }
            }
        };
        let answer = plan.effect.map(|_| self.answer(&key, &input));
        let reply = plan.returned.zip(answer).map(|(at, answer)| Reply { at: Time(at), answer });
        Operation { client: plan.client, key, call: Time(plan.call), input, reply }
    }

    fn answer(&mut self, key: &Bytes, input: &Input) -> Answer {
        let present = self.map.get(key).cloned();
        let written = match input {
            Input::Get => return Answer::Read { seen: present, revision: self.revision },
            Input::Put(value) => Some(Some(value)),
            Input::Delete => present.map(|_| None),
            Input::Cas { expected, value } => {
                (present.map(|seen| seen.value) == *expected).then_some(Some(value))
            }
        };
        if let Some(new) = written {
            self.revision += 1;
            match new {
                None => self.map.remove(key),
                Some(value) => {
                    let seen = Seen { value: value.clone(), mod_revision: self.revision };
                    self.map.insert(key.clone(), seen)
                }
            };
        }
        Answer::Written { succeeded: written.is_some(), revision: self.revision }
    }
}

/// Lets a get see what a put or compare-and-swap left that had been overwritten when the get was
/// called. False if the history has no such pair.
pub(crate) fn make_a_read_stale(rng: &mut SmallRng, history: &mut History) -> bool {
    // Key, revision, value, and when it was called and answered.
    let mut writes: Vec<(Bytes, u64, Option<Bytes>, Time, Time)> = Vec::new();
    for operation in &history.operations {
        let value = match &operation.input {
            Input::Get => continue,
            Input::Put(value) | Input::Cas { value, .. } => Some(value.clone()),
            Input::Delete => None,
        };
        if let Some(Reply { at, answer: Answer::Written { succeeded: true, revision } }) =
            operation.reply
        {
            writes.push((operation.key.clone(), revision, value, operation.call, at));
        }
    }
    writes.sort_by_key(|(_, revision, ..)| *revision);
    let mut gets: Vec<&mut Operation> = history
        .operations
        .iter_mut()
        .filter(|operation| operation.input == Input::Get && operation.reply.is_some())
        .collect();
    gets.shuffle(rng);
    for get in gets {
        let mine: Vec<_> = writes.iter().filter(|(key, ..)| *key == get.key).collect();
        let stale: Vec<_> = mine
            .windows(2)
            .filter(|pair| pair[0].2.is_some() && pair[0].4 < pair[1].3 && pair[1].4 < get.call)
            .map(|pair| pair[0])
            .collect();
        if let Some((_, revision, Some(value), ..)) = stale.choose(rng)
            && let Some(reply) = &mut get.reply
        {
            let seen = Seen { value: value.clone(), mod_revision: *revision };
            reply.answer = Answer::Read { seen: Some(seen), revision: *revision };
            return true;
        }
    }
    false
}

/// Changes one thing at random, possibly without harm.
pub(crate) fn spoil(rng: &mut SmallRng, history: &mut History) {
    let writes: Vec<(Bytes, u64)> = history
        .operations
        .iter()
        .filter_map(|operation| match (&operation.input, &operation.reply) {
            (Input::Put(value) | Input::Cas { value, .. }, Some(reply)) => match reply.answer {
                Answer::Written { revision, .. } => Some((value.clone(), revision)),
                Answer::Read { .. } => None,
            },
            (Input::Put(value) | Input::Cas { value, .. }, None) => Some((value.clone(), 1)),
            _ => None,
        })
        .collect();
    let highest = writes.len() as u64 + 1;
    let Some(victim) = history.operations.choose_mut(rng) else { return };
    let what = rng.random_range(0..4);
    match &mut victim.reply {
        Some(reply) if what == 0 => {
            let later = rng.random_range(0..60);
            victim.call.0 += later;
            reply.at.0 += later;
        }
        None => victim.call.0 += rng.random_range(0..60),
        Some(reply) => match &mut reply.answer {
            Answer::Written { succeeded, .. } if what == 1 => *succeeded = !*succeeded,
            Answer::Written { revision, .. } => *revision = rng.random_range(0..=highest),
            Answer::Read { revision, .. } if what == 1 => *revision = rng.random_range(0..=highest),
            Answer::Read { seen, .. } => {
                *seen = writes.choose(rng).map(|(value, revision)| Seen {
                    value: value.clone(),
                    mod_revision: *revision,
                });
            }
        },
    }
}

/// Leaves only two values in the whole history.
pub(crate) fn confuse_values(history: &mut History) {
    let confuse =
        |value: &mut Bytes| *value = Bytes::from(format!("v{}", value.last().map_or(0, |b| b % 2)));
    for operation in &mut history.operations {
        match &mut operation.input {
            Input::Put(value) => confuse(value),
            Input::Cas { expected, value } => {
                confuse(value);
                expected.as_mut().map(confuse);
            }
            Input::Get | Input::Delete => {}
        }
        if let Some(Reply { answer: Answer::Read { seen: Some(seen), .. }, .. }) =
            &mut operation.reply
        {
            confuse(&mut seen.value);
        }
    }
}
