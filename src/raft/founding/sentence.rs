//! Why a node waits, in one sentence for a person.

use std::collections::BTreeSet;

use super::super::types::NodeId;
use super::machine::Founding;
use super::message::Answer;
use super::record::{Draft, Seed, Stage};
use super::survey::Survey;

impl Founding {
    /// Why the node waits; none once it knows the decision.
    pub(super) fn sentence(&self) -> Option<String> {
        match &self.record.stage {
            Stage::Decided(_) => None,
            Stage::Held(draft) if draft.drafter == self.me.id => Some(self.drafting(draft)),
            Stage::Held(draft) => Some(self.holding(draft)),
            Stage::Empty => Some(self.obstacle().unwrap_or_else(|| {
                let lowest = self.me.seeds.first().map_or("", |seed| seed.name.as_str());
                format!("every seed answers and is empty; {lowest}, the lowest seat, is to draft")
            })),
        }
    }

    /// What keeps this node, whether it is the lowest seat or not, from seeing a cluster founded.
    /// None: all seeds answered the last round, all empty, all with this seed list, one node each, and
    /// whoever else is behind the service's name answered too, or has been waited for.
    pub(super) fn obstacle(&self) -> Option<String> {
        self.unfit().or_else(|| self.is_cautious().then(|| self.unheard()))
    }

    /// The same, whatever is behind the service's name.
    pub(super) fn unfit(&self) -> Option<String> {
        let name = &self.me.name;
        let clusters = self.clusters();
        let named = |(id, seats): (_, &BTreeSet<String>)| {
            format!("cluster {id} ({})", join(seats.iter().map(String::as_str), ", "))
        };
        if clusters.len() > 1 {
            let all = join(clusters.iter().map(named), " and ");
            return Some(format!(
                "different clusters answer, {all}: this node waits until one is left; check the \
                 seeds, and which of the clusters is meant"
            ));
        }
        if let Some(cluster) = clusters.first_key_value() {
            return Some(format!("{} exists: waiting to be taken in", named(cluster)));
        }
        if !self.me.seeds.iter().any(|seed| seed.name == *name) {
            let list = join(self.me.seeds.iter().map(|seed| seed.name.as_str()), ", ");
            return Some(format!(
                "{name} is not in its own seed list ({list}), so it founds nothing: waiting to be \
                 taken in"
            ));
        }
        let Some(survey) = &self.survey else {
            return Some("asking the seeds".to_owned());
        };
        self.unfit_seats(survey)
    }

    fn unfit_seats(&self, survey: &Survey) -> Option<String> {
        let mut silent = Vec::new();
        let mut differing = Vec::new();
        for Seed { name, address } in &self.me.seeds {
            let mut ids: BTreeSet<NodeId> =
                survey.under(name).map(|answer| answer.node_id).collect();
            if *name == self.me.name {
                ids.insert(self.me.id);
            }
            if ids.len() > 1 {
                return Some(format!(
                    "more than one process answers as {name} (nodes {}): waiting until one is left",
                    join(ids.iter(), ", ")
                ));
            }
            if ids.is_empty() {
                let why = survey.silence(name).unwrap_or("not asked yet");
                silent.push(format!("{name} at {address} ({why})"));
            }
            differing.extend(
                survey.under(name).find(|answer| !Survey::same_seeds(answer, &self.me.seeds)),
            );
        }
        if !silent.is_empty() {
            return Some(format!("no answer from {}", join(silent.iter(), ", ")));
        }
        let Answer { name, seeds, .. } = differing.first()?;
        Some(format!(
            "{name} has the seeds {}, but {} has {}: give every node the same list",
            list(seeds),
            self.me.name,
            list(&self.me.seeds)
        ))
    }

    fn unheard(&self) -> String {
        let unheard = self.survey.as_ref().map(Survey::unheard);
        format!(
            "every seed answers and is empty, but a member of a cluster may be where nobody answers: {}. \
             Asking on, for a minute at most",
            join(unheard.into_iter().flatten(), "; ")
        )
    }

    fn drafting(&self, draft: &Draft) -> String {
        let missing = draft.seeds.iter().filter_map(|Seed { name, .. }| {
            let id = draft.holder(name).filter(|id| !self.accepted.contains(id))?;
            let silence = self.survey.as_ref().and_then(|survey| survey.silence(name));
            Some(match silence.or(self.excuses.get(&id).map(String::as_str)) {
                Some(why) => format!("{name} ({why})"),
                None => name.clone(),
            })
        });
        format!("drafted cluster {}; not yet accepted by {}", draft.cluster_id, join(missing, ", "))
    }

    fn holding(&self, draft: &Draft) -> String {
        let (id, seat, drafter) = (draft.cluster_id, draft.drafter_name(), draft.drafter);
        if !self.drafter_gone(draft) {
            return format!("accepted draft {id} of {seat}; waiting for its decision");
        }
        let others = self.others(draft);
        let holdout = |seed: &&Seed| {
            draft
                .holder(&seed.name)
                .is_some_and(|id| others.contains(&id) && !self.refusals.contains(&id))
        };
        let holdouts = join(draft.seeds.iter().filter(holdout).map(|seed| &seed.name), ", ");
        let until = if others.is_empty() {
            "nobody else can say whether it was decided".to_owned()
        } else {
            format!("waiting for {holdouts} to refuse it or to know its decision")
        };
        format!(
            "accepted draft {id} of {seat}'s node {drafter}, but another node answers as {seat} now; \
             {until}. If this lasts and {seat}'s old data directory is lost, run `srvraft discard` \
             on every node that says this"
        )
    }
}

fn list(seeds: &[Seed]) -> String {
    join(seeds.iter().map(|seed| format!("{}={}", seed.name, seed.address)), ",")
}

fn join<T: std::fmt::Display>(items: impl Iterator<Item = T>, separator: &str) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}
