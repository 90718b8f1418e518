//! One round of asking, and what it proves.

use std::collections::{BTreeMap, BTreeSet};

use super::super::types::{ClusterId, NodeId};
use super::message::Answer;
use super::record::Seed;

/// What became of one question of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The seat that was asked for; none for the service's name itself, and for an address behind it that
    /// belongs to none of the seats.
    pub seat: Option<String>,
    /// The answer, or in a few words why there is none (such as "its name does not resolve").
    pub result: Result<Answer, String>,
}

/// All answers of one round. They may be of slightly different moments; nothing rests on more than
/// each answer's own word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// By seat, then by node id: two processes under one name are two answers.
    answers: BTreeMap<String, BTreeMap<NodeId, Answer>>,
    /// Seats that were asked for and did not answer, with the reason.
    silent: BTreeMap<String, String>,
    /// What else was asked and did not answer: the service's name, or an address behind it.
    unheard: BTreeSet<String>,
}

impl Survey {
    pub(super) fn of(results: Vec<Asked>) -> Survey {
        let mut survey = Survey::default();
        for Asked { seat, result } in results {
            match (seat, result) {
                (Some(seat), Ok(answer)) if seat != answer.name => {
                    survey.silent.insert(seat, format!("{} answers instead", answer.name));
                    survey.add(answer);
                }
                (_, Ok(answer)) => survey.add(answer),
                (Some(seat), Err(why)) => {
                    survey.silent.insert(seat, why);
                }
                (None, Err(why)) => {
                    survey.unheard.insert(why);
                }
            }
        }
        survey
    }

    fn add(&mut self, answer: Answer) {
        self.answers.entry(answer.name.clone()).or_default().insert(answer.node_id, answer);
    }

    /// The clusters that answered, each with the seats that named it.
    pub(super) fn clusters(&self) -> BTreeMap<ClusterId, BTreeSet<String>> {
        let mut clusters: BTreeMap<ClusterId, BTreeSet<String>> = BTreeMap::new();
        for answer in self.answers.values().flat_map(BTreeMap::values) {
            if let Some(id) = answer.cluster_id {
                clusters.entry(id).or_default().insert(answer.name.clone());
            }
        }
        clusters
    }

    /// The answers under one name.
    pub(super) fn under(&self, name: &str) -> impl Iterator<Item = &Answer> {
        self.answers.get(name).into_iter().flat_map(BTreeMap::values)
    }

    /// Why a seat did not answer.
    pub(super) fn silence(&self, name: &str) -> Option<&str> {
        self.silent.get(name).map(String::as_str)
    }

    /// What else there may be that was not heard, one reason each. It proves nothing, but a cluster may be
    /// there.
    pub(super) fn unheard(&self) -> &BTreeSet<String> {
        &self.unheard
    }

    /// Whether the seat answered, and only with other node ids than this one.
    pub(super) fn changed_hands(&self, name: &str, from: NodeId) -> bool {
        self.under(name).next().is_some() && self.under(name).all(|answer| answer.node_id != from)
    }

    /// The only answer under a name.
    pub(super) fn sole(&self, name: &str) -> Option<&Answer> {
        let mut answers = self.under(name);
        answers.next().filter(|_| answers.next().is_none())
    }

    /// Whether an answer's seed list is this one (ordered by name).
    pub(super) fn same_seeds(answer: &Answer, seeds: &[Seed]) -> bool {
        let mut theirs = answer.seeds.clone();
        theirs.sort();
        theirs == seeds
    }
}
