//! What each letter does to a node that does not know a decision yet.

use super::super::types::{ClusterId, NodeId};
use super::effects::Effects;
use super::machine::{Founding, REFUSED_MAX};
use super::message::{Message, Sender};
use super::record::{Draft, Stage};

impl Founding {
    pub(super) fn on_draft(&mut self, from: &Sender, draft: Draft, effects: &mut Effects) {
        let id = draft.cluster_id;
        if self.record.stage.held() == Some(&draft) {
            return self.reply(effects, Some(Message::Accept { draft: id }));
        }
        let for_good = self.record.refused.contains(&id);
        if let Some(why) = self.objection(from, &draft) {
            return self.reply(effects, Some(Message::Refuse { draft: id, for_good, why }));
        }
        assert!(self.record.stage == Stage::Empty && !for_good, "one draft at a time");
        self.refusals.clear();
        self.record.stage = Stage::Held(draft);
        self.ask_anew();
        self.write(effects);
        self.reply(effects, Some(Message::Accept { draft: id }));
    }

    /// Why this draft cannot be accepted, at least now.
    fn objection(&self, from: &Sender, draft: &Draft) -> Option<String> {
        if self.record.refused.contains(&draft.cluster_id) {
            return Some("it was refused for good before".to_owned());
        }
        if let Some(held) = self.record.stage.held() {
            let (id, seat) = (held.cluster_id, held.drafter_name());
            return Some(format!("it holds draft {id} of {seat} (node {})", held.drafter));
        }
        if let Some(flaw) = draft.flaw() {
            return Some(flaw.to_owned());
        }
        if draft.drafter != from.node_id || !draft.lists(from) {
            return Some("a draft is accepted from its drafter only".to_owned());
        }
        if !draft.lists(&self.sender()) {
            return Some("the draft does not list this node".to_owned());
        }
        if draft.seeds != self.me.seeds {
            return Some("its seed list is another".to_owned());
        }
        let seen = self.clusters();
        let (cluster, names) = seen.first_key_value()?;
        let names = names.iter().cloned().collect::<Vec<_>>().join(", ");
        Some(format!("cluster {cluster} exists ({names})"))
    }

    pub(super) fn on_accept(&mut self, from: &Sender, id: ClusterId, effects: &mut Effects) {
        let Stage::Held(draft) = &self.record.stage else { return };
        if draft.drafter == self.me.id && draft.cluster_id == id && draft.lists(from) {
            self.accepted.insert(from.node_id);
            self.excuses.remove(&from.node_id);
            self.decide_if_unanimous(effects);
        }
    }

    pub(super) fn on_refuse(
        &mut self,
        from: &Sender,
        id: ClusterId,
        for_good: bool,
        why: String,
        effects: &mut Effects,
    ) {
        let Stage::Held(draft) = &self.record.stage else { return };
        if draft.cluster_id != id || !draft.lists(from) {
            return;
        }
        if draft.drafter == self.me.id {
            if for_good {
                self.withdraw(effects);
                self.ask_anew(); // whatever led to the refusal, the next draft rests on a new round
            } else if !self.accepted.contains(&from.node_id) {
                self.excuses.insert(from.node_id, why);
            }
        } else if for_good {
            let others = self.others(draft);
            self.refusals.insert(from.node_id);
            if !others.is_empty() && others.is_subset(&self.refusals) {
                self.let_go(effects);
            }
        }
    }

    pub(super) fn on_withdraw(&mut self, from: &Sender, id: ClusterId, effects: &mut Effects) {
        let Stage::Held(draft) = &self.record.stage else { return };
        if draft.cluster_id == id && draft.drafter == from.node_id && draft.lists(from) {
            self.let_go(effects);
        }
    }

    pub(super) fn on_decided(&mut self, from: &Sender, decided: &Draft, effects: &mut Effects) {
        // A decision about a draft that this node does not hold cannot be one: it lacks an acceptance.
        if self.record.stage.held() == Some(decided) && decided.lists(from) {
            self.record.stage = Stage::Decided(decided.clone());
            self.write(effects);
        }
    }

    pub(super) fn on_inquire(
        &mut self,
        id: ClusterId,
        drafter: NodeId,
        gone: bool,
        effects: &mut Effects,
    ) {
        if self.record.stage.held().is_some_and(|draft| draft.cluster_id == id) {
            return;
        }
        if drafter == self.me.id {
            return self.reply(effects, Some(Message::Withdraw { draft: id }));
        }
        if !self.record.refused.contains(&id) {
            if !gone || self.record.refused.len() >= REFUSED_MAX {
                return;
            }
            self.record.refused.insert(id);
            self.write(effects);
        }
        let why = "its drafter's seat changed hands".to_owned();
        self.reply(effects, Some(Message::Refuse { draft: id, for_good: true, why }));
    }
}
