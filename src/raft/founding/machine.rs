//! The state machine: one input in, one [`Effects`] out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::membership::Member;
use super::super::types::{ClusterId, NodeId};
use super::effects::{AskRound, Effects, Outgoing, Persist, RecordToken, Reply};
use super::message::{Answer, Letter, Message, Sender, member_reply};
use super::record::{Draft, Founded, Me, Record, Seed, Stage};
use super::survey::{Asked, Survey};

/// Ticks from one round of asking to the next.
const ASK_TICKS: u64 = 25;
/// Ticks after which a round that was never reported is given up and another one begun.
const ROUND_TICKS: u64 = 1000;
/// Ticks after which drafts and inquiries are said again.
const REPEAT_TICKS: u64 = 25;
/// Ticks for which a cluster id seen in a hello or an answer keeps this node from founding: its members may
/// be on the move. Not for ever: the cluster may have been taken down on purpose, all of it, so that a new
/// one can be founded.
const GREETING_TICKS: u64 = 1000;
/// Ticks for which the lowest seat, with nothing else in its way, waits for a service's name or an address
/// behind it that does not answer. Longer than any resolver in a Kubernetes cluster keeps a negative or an
/// old answer (30 s), and not for ever: the name may have no address where the seats' names have one, and a
/// pod beyond the seeds may never start.
pub(super) const CAUTION_TICKS: u64 = 600;
/// Cluster ids that are remembered; one is enough to wait, two to name both.
const GREETINGS_MAX: usize = 16;
/// Draft ids that may be refused for good. When there are more, refusals are for now only, which keeps
/// everything safe and at worst leaves a draft of a lost drafter for a person to discard.
pub(super) const REFUSED_MAX: usize = 1024;

/// One node's part in founding its cluster; afterwards, what it knows about that.
///
/// Invariants: `record` is `durable` with all of `writes` after it; everything ever said was true of
/// `durable` when it left (S17); `record.stage` leaves `Held` only for a decision or by the rule in the
/// module's tour, and never leaves `Decided`.
#[derive(Debug)]
pub struct Founding {
    pub(super) me: Me,
    /// Draws cluster ids, nothing else.
    rng: SmallRng,
    /// The newest record, perhaps still on its way to the disk. Decisions are taken on this one.
    pub(super) record: Record,
    /// What is on disk. Answers to `Boot.Ask` are given from this one.
    durable: Record,
    /// Writes under way, oldest first.
    writes: VecDeque<Persist>,
    newest: RecordToken,
    now: u64,
    round: AskRound,
    /// The tick at which the round under way began.
    asking_since: Option<u64>,
    next_ask: u64,
    /// The last complete round, unless something happened since that calls for a new one.
    pub(super) survey: Option<Survey>,
    /// Since when every round has found nothing in the way but something behind the service that does not
    /// answer.
    cautious_since: Option<u64>,
    /// Cluster ids from hellos and answers: who named it, and when.
    greetings: BTreeMap<ClusterId, (String, u64)>,
    /// Who has accepted this node's own draft; itself always. The others are asked anew after a restart.
    pub(super) accepted: BTreeSet<NodeId>,
    /// Who has refused the held draft of another node for good. Asked anew after a restart.
    pub(super) refusals: BTreeSet<NodeId>,
    /// Why a listed node does not accept this node's own draft yet.
    pub(super) excuses: BTreeMap<NodeId, String>,
    /// The cluster that took this node in; on disk. It founds nothing any more.
    taken_in: Option<ClusterId>,
    waiting: Option<String>,
}

impl Founding {
    /// A node as it starts, with the record found on its disk ([`Record::default`] for a new
    /// directory). `seed` feeds the generator of cluster ids: draw it from the operating system, anew
    /// for every process.
    ///
    /// # Panics
    /// If two seeds have the same name (the options are judged before), or if the record is of another
    /// node.
    #[must_use]
    pub fn new(mut me: Me, record: Record, seed: u64) -> Founding {
        me.seeds.sort();
        for pair in me.seeds.windows(2) {
            assert!(pair[0].name != pair[1].name, "the seed list names {} twice", pair[0].name);
        }
        if let Stage::Held(draft) | Stage::Decided(draft) = &record.stage {
            assert!(
                draft.members.contains_key(&me.id),
                "the founding record lists its own node (D8)"
            );
        }
        let me_id = me.id;
        let mut founding = Founding {
            me,
            rng: SmallRng::seed_from_u64(seed),
            durable: record.clone(),
            record,
            writes: VecDeque::new(),
            newest: RecordToken(0),
            now: 0,
            round: AskRound(0),
            asking_since: None,
            next_ask: 0,
            survey: None,
            cautious_since: None,
            greetings: BTreeMap::new(),
            accepted: BTreeSet::from([me_id]),
            refusals: BTreeSet::new(),
            excuses: BTreeMap::new(),
            taken_in: None,
            waiting: None,
        };
        founding.waiting = founding.sentence();
        founding
    }

    /// One tick of time has passed.
    pub fn tick(&mut self) -> Effects {
        let mut effects = Effects::default();
        self.now += 1;
        if self.record.stage.decided().is_some() || self.taken_in.is_some() {
            return effects;
        }
        let now = self.now;
        self.greetings.retain(|_, (_, at)| now - *at < GREETING_TICKS);
        if self.asking_since.is_some_and(|since| now - since >= ROUND_TICKS) {
            self.asking_since = None;
        }
        if self.asking_since.is_none() && now >= self.next_ask {
            self.round.0 += 1;
            self.asking_since = Some(now);
            effects.ask = Some(self.round);
        }
        if now.is_multiple_of(REPEAT_TICKS) {
            self.repeat(&mut effects);
        }
        self.finish(effects)
    }

    /// A round of asking is over: everyone has answered, failed or run out of time. A round that is not
    /// the newest, or was overtaken by an acceptance or a refusal meanwhile, is ignored.
    pub fn asked(&mut self, round: AskRound, results: Vec<Asked>) -> Effects {
        if round != self.round || self.asking_since.is_none() || self.taken_in.is_some() {
            return Effects::default();
        }
        self.asking_since = None;
        self.next_ask = self.now + ASK_TICKS;
        let survey = Survey::of(results);
        for (id, names) in survey.clusters() {
            names.iter().for_each(|name| self.remember(name, id));
        }
        let unheard = !survey.unheard().is_empty();
        self.survey = Some(survey);
        let cautious = unheard && self.unfit().is_none();
        self.cautious_since = cautious.then(|| self.cautious_since.unwrap_or(self.now));
        let mut effects = Effects::default();
        self.consider(&mut effects);
        self.finish(effects)
    }

    /// The hello of another node, on a connection made by either side, named a cluster id.
    pub fn greeted(&mut self, name: &str, cluster_id: ClusterId) -> Effects {
        if self.taken_in.is_some() {
            return Effects::default();
        }
        self.remember(name, cluster_id);
        let mut effects = Effects::default();
        self.consider(&mut effects);
        self.finish(effects)
    }

    fn remember(&mut self, name: &str, cluster_id: ClusterId) {
        if self.greetings.len() < GREETINGS_MAX || self.greetings.contains_key(&cluster_id) {
            self.greetings.insert(cluster_id, (name.to_owned(), self.now));
        }
    }

    /// A letter arrived, as a call or as the answer to one.
    pub fn received(&mut self, letter: Letter) -> Effects {
        let mut effects = Effects::default();
        let Letter { from, to, message } = letter;
        if to != self.me.id || from.node_id == self.me.id {
            return effects;
        }
        let decided = self.record.stage.decided();
        if let Some(cluster_id) = self.taken_in.or(decided.map(|record| record.cluster_id)) {
            let answer = member_reply(self.me.id, cluster_id, decided, &message);
            self.reply(&mut effects, answer);
            return effects;
        }
        match message {
            Message::Draft(draft) => self.on_draft(&from, draft, &mut effects),
            Message::Accept { draft } => self.on_accept(&from, draft, &mut effects),
            Message::Refuse { draft, for_good, why } => {
                self.on_refuse(&from, draft, for_good, why, &mut effects);
            }
            Message::Withdraw { draft } => self.on_withdraw(&from, draft, &mut effects),
            Message::Decided(draft) => self.on_decided(&from, &draft, &mut effects),
            Message::Inquire { draft, drafter, gone } => {
                self.on_inquire(draft, drafter, gone, &mut effects);
            }
        }
        self.finish(effects)
    }

    /// A write is durable, and with it every earlier one.
    pub fn persisted(&mut self, token: RecordToken) -> Effects {
        let mut effects = Effects::default();
        let knew = self.founded().is_some();
        while self.writes.front().is_some_and(|write| write.token <= token) {
            if let Some(write) = self.writes.pop_front() {
                self.durable = write.record;
            }
        }
        if !knew {
            effects.founded = self.founded();
        }
        effects
    }

    /// What `Boot.Ask` is answered with: only what is on disk, so that nobody counts as evidence of a
    /// cluster before it has learned the decision.
    #[must_use]
    pub fn answer(&self) -> Answer {
        Answer {
            name: self.me.name.clone(),
            node_id: self.me.id,
            boot: self.me.boot,
            address: self.me.address.clone(),
            seeds: self.me.seeds.clone(),
            cluster_id: self.taken_in.or(self.founded().map(|founded| founded.cluster_id)),
            holds: self.durable.stage.held().map(|draft| draft.cluster_id),
        }
    }

    /// The cluster this node is in, once the decision is on its disk.
    #[must_use]
    pub fn founded(&self) -> Option<Founded> {
        self.durable.stage.decided().map(Draft::founded)
    }

    /// The cluster that this node may be taken into: the only one that was seen lately, and only while
    /// this node is in none, holds no draft, and no former one is on its way to the disk.
    #[must_use]
    pub fn cluster_heard(&self) -> Option<ClusterId> {
        let free =
            self.taken_in.is_none() && self.record.stage == Stage::Empty && self.writes.is_empty();
        let clusters = self.clusters();
        let mut ids = clusters.keys();
        let only = ids.next().copied().filter(|_| ids.next().is_none());
        only.filter(|_| free)
    }

    /// A cluster has taken this node in, and that is on its disk: from now on it answers as a member, and
    /// accepts no draft.
    ///
    /// # Panics
    /// If it holds a draft or knows a decision: then it may be in another cluster.
    pub fn taken_in(&mut self, cluster_id: ClusterId) {
        assert_eq!(self.record.stage, Stage::Empty, "a node that holds a draft is not taken in");
        self.taken_in = Some(cluster_id);
        self.waiting = None;
    }

    /// Why the node still waits, in one sentence; none once it has learned the decision.
    #[must_use]
    pub fn waiting(&self) -> Option<&str> {
        self.waiting.as_deref()
    }

    /// The record as it is, or will be when the writes under way are done.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// How this node signs.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender { name: self.me.name.clone(), node_id: self.me.id }
    }

    /// Clusters that have been seen, each with the seats that named it.
    pub(super) fn clusters(&self) -> BTreeMap<ClusterId, BTreeSet<String>> {
        let mut clusters = self.survey.as_ref().map(Survey::clusters).unwrap_or_default();
        for (id, (name, _)) in &self.greetings {
            clusters.entry(*id).or_default().insert(name.clone());
        }
        // The held draft's own cluster is no other cluster: it is its decision, soon to be learned.
        if let Some(draft) = self.record.stage.held() {
            clusters.remove(&draft.cluster_id);
        }
        clusters
    }

    /// Whether it is too early to found beside whoever may be behind the service and has not answered.
    pub(super) fn is_cautious(&self) -> bool {
        self.survey.as_ref().is_some_and(|survey| !survey.unheard().is_empty())
            && self.cautious_since.is_none_or(|since| self.now - since < CAUTION_TICKS)
    }

    /// Whether the drafter's seat has answered, and with another node id than the drafter's.
    pub(super) fn drafter_gone(&self, draft: &Draft) -> bool {
        let name = draft.drafter_name();
        self.survey.as_ref().is_some_and(|survey| survey.changed_hands(name, draft.drafter))
    }

    /// Forgets the last round and the one under way: what they say may be older than what just happened.
    /// (A round from before a draft was accepted may show the drafter's predecessor in its seat.)
    pub(super) fn ask_anew(&mut self) {
        self.survey = None;
        self.asking_since = None;
        self.next_ask = self.now;
    }

    /// The listed nodes whose refusals free this node from another's draft: all but the drafter and
    /// itself. Empty with two seats, and then nothing but the drafter frees it.
    pub(super) fn others(&self, draft: &Draft) -> BTreeSet<NodeId> {
        let mut others: BTreeSet<NodeId> = draft.members.keys().copied().collect();
        others.remove(&draft.drafter);
        others.remove(&self.me.id);
        others
    }

    /// What the last round calls for: withdraw, draft, or nothing.
    fn consider(&mut self, effects: &mut Effects) {
        if let Stage::Held(draft) = &self.record.stage
            && draft.drafter == self.me.id
        {
            let changed = self.survey.as_ref().is_some_and(|survey| {
                draft.members.iter().any(|(id, member)| {
                    *id != self.me.id && survey.changed_hands(&member.name, *id)
                })
            });
            if changed || draft.seeds != self.me.seeds || !self.clusters().is_empty() {
                self.withdraw(effects);
            }
        }
        let lowest = self.me.seeds.first().is_some_and(|seed| seed.name == self.me.name);
        if self.record.stage == Stage::Empty && lowest && self.obstacle().is_none() {
            self.draft(effects);
        }
    }

    /// The lowest seat drafts a record of everyone who answered. Nothing is in its way.
    fn draft(&mut self, effects: &mut Effects) {
        let Some(survey) = &self.survey else { return };
        let mut members = BTreeMap::new();
        for Seed { name, .. } in &self.me.seeds {
            let (id, address) = if *name == self.me.name {
                (self.me.id, self.me.address.clone())
            } else {
                let Some(answer) = survey.sole(name) else { return };
                (answer.node_id, answer.address.clone())
            };
            members.insert(id, Member { name: name.clone(), address });
        }
        let cluster_id = loop {
            let id = ClusterId(self.rng.random());
            if id.0 != 0 && !self.record.refused.contains(&id) {
                break id;
            }
        };
        let seeds = self.me.seeds.clone();
        let draft = Draft { cluster_id, drafter: self.me.id, seeds, members };
        if draft.flaw().is_some() {
            return; // one node id under two names: somebody lies, and no cluster is founded on that
        }
        self.record.stage = Stage::Held(draft);
        self.write(effects);
        self.repeat(effects);
        self.decide_if_unanimous(effects);
    }

    /// The drafter gives its own draft up. What it does not hold it never decides.
    pub(super) fn withdraw(&mut self, effects: &mut Effects) {
        let Stage::Held(draft) = std::mem::take(&mut self.record.stage) else { return };
        assert_eq!(draft.drafter, self.me.id, "only the drafter withdraws a draft");
        self.accepted = BTreeSet::from([self.me.id]);
        self.excuses.clear();
        self.write(effects);
        for id in self.others(&draft) {
            let message = Message::Withdraw { draft: draft.cluster_id };
            self.send(effects, &draft, id, message);
        }
    }

    /// Lets another node's draft go; the caller has the proof.
    pub(super) fn let_go(&mut self, effects: &mut Effects) {
        let Stage::Held(draft) = std::mem::take(&mut self.record.stage) else { return };
        assert_ne!(draft.drafter, self.me.id, "a drafter withdraws its own draft");
        self.refusals.clear();
        if self.record.refused.len() < REFUSED_MAX {
            self.record.refused.insert(draft.cluster_id);
        }
        self.write(effects);
    }

    pub(super) fn decide_if_unanimous(&mut self, effects: &mut Effects) {
        let Stage::Held(draft) = &self.record.stage else { return };
        if draft.drafter != self.me.id || !draft.members.keys().all(|id| self.accepted.contains(id))
        {
            return;
        }
        let draft = draft.clone();
        self.record.stage = Stage::Decided(draft.clone());
        self.write(effects);
        for id in self.others(&draft) {
            self.send(effects, &draft, id, Message::Decided(draft.clone()));
        }
    }

    /// Says again what may have been lost.
    fn repeat(&mut self, effects: &mut Effects) {
        let Stage::Held(draft) = &self.record.stage else { return };
        let draft = draft.clone();
        if draft.drafter == self.me.id {
            for id in self.others(&draft) {
                if !self.accepted.contains(&id) {
                    self.send(effects, &draft, id, Message::Draft(draft.clone()));
                }
            }
        } else {
            let gone = self.drafter_gone(&draft);
            let inquiry =
                Message::Inquire { draft: draft.cluster_id, drafter: draft.drafter, gone };
            for id in draft.members.keys().copied().filter(|id| *id != self.me.id) {
                self.send(effects, &draft, id, inquiry.clone());
            }
        }
    }

    /// Hands the record to the disk; a later change within the same input takes the place of this one.
    pub(super) fn write(&mut self, effects: &mut Effects) {
        if effects.persist.is_none() {
            self.newest.0 += 1;
        } else {
            self.writes.pop_back();
        }
        let write = Persist { token: self.newest, record: self.record.clone() };
        self.writes.push_back(write.clone());
        effects.persist = Some(write);
    }

    /// Every statement waits for the newest write: it is about the record as it is now (S17).
    pub(super) fn reply(&self, effects: &mut Effects, message: Option<Message>) {
        effects.reply = message.map(|message| match self.writes.back() {
            Some(write) => Reply::AfterPersist(write.token, message),
            None => Reply::Now(message),
        });
    }

    /// As [`reply`](Founding::reply), to a node that `draft` lists.
    fn send(&self, effects: &mut Effects, draft: &Draft, to: NodeId, message: Message) {
        let Some(member) = draft.members.get(&to) else { return };
        let outgoing = Outgoing {
            name: member.name.clone(),
            address: member.address.clone(),
            letter: Letter { from: self.sender(), to, message },
        };
        match self.writes.back() {
            Some(write) => effects.send_after_persist.push((write.token, outgoing)),
            None => effects.send_now.push(outgoing),
        }
    }

    fn finish(&mut self, mut effects: Effects) -> Effects {
        let sentence = self.sentence();
        if sentence != self.waiting {
            effects.waiting.clone_from(&sentence);
            self.waiting = sentence;
        }
        effects
    }
}
