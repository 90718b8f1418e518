//! The twin: tries every order of the operations. Too slow for more than a handful, and too simple
//! to be wrong.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::linearize::{Answer, History, Input, Operation, Seen};

/// Whether some order explains the values in all answers, revisions aside.
pub(crate) fn explains_values(history: &History) -> bool {
    explains(history, &mut vec![false; history.operations.len()], &Model::default(), false)
}

/// Whether some order explains all answers with their revisions.
pub(crate) fn explains_revisions(history: &History) -> bool {
    explains(history, &mut vec![false; history.operations.len()], &Model::default(), true)
}

#[derive(Clone, Default)]
struct Model {
    map: BTreeMap<Bytes, Seen>,
    revision: u64,
}

impl Model {
    fn put(&mut self, key: &Bytes, value: &Bytes) {
        self.revision += 1;
        let seen = Seen { value: value.clone(), mod_revision: self.revision };
        self.map.insert(key.clone(), seen);
    }

    fn answer(&mut self, operation: &Operation) -> Answer {
        let key = &operation.key;
        let succeeded = match &operation.input {
            Input::Get => {
                return Answer::Read { seen: self.map.get(key).cloned(), revision: self.revision };
            }
            Input::Put(value) => {
                self.put(key, value);
                true
            }
            Input::Delete => {
                let existed = self.map.remove(key).is_some();
                self.revision += u64::from(existed);
                existed
            }
            Input::Cas { expected, value } => {
                let holds = self.map.get(key).map(|seen| &seen.value) == expected.as_ref();
                if holds {
                    self.put(key, value);
                }
                holds
            }
        };
        Answer::Written { succeeded, revision: self.revision }
    }
}

fn explains(history: &History, done: &mut Vec<bool>, model: &Model, revisions: bool) -> bool {
    let operations = &history.operations;
    let open = |done: &[bool], n: usize| !done[n] && operations[n].reply.is_some();
    if !(0..operations.len()).any(|n| open(done, n)) {
        return true;
    }
    for n in 0..operations.len() {
        let next = &operations[n];
        let overtaken = |m: usize| {
            open(done, m) && operations[m].reply.as_ref().is_some_and(|r| r.at < next.call)
        };
        if done[n] || (0..operations.len()).any(overtaken) {
            continue;
        }
        let mut model = model.clone();
        let answer = model.answer(next);
        if next.reply.as_ref().is_none_or(|reply| same(&reply.answer, &answer, revisions)) {
            done[n] = true;
            if explains(history, done, &model, revisions) {
                return true;
            }
            done[n] = false;
        }
    }
    false
}

fn same(told: &Answer, true_answer: &Answer, revisions: bool) -> bool {
    match (told, true_answer) {
        _ if revisions => told == true_answer,
        (Answer::Read { seen: a, .. }, Answer::Read { seen: b, .. }) => {
            a.as_ref().map(|seen| &seen.value) == b.as_ref().map(|seen| &seen.value)
        }
        (Answer::Written { succeeded: a, .. }, Answer::Written { succeeded: b, .. }) => a == b,
        _ => false,
    }
}
