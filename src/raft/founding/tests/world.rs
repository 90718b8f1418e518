//! Nodes, their disks, the mail between them, and a judge of the safety statement: what the module's
//! tour claims is checked here after every change of any disk and for every letter that leaves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::*;
use crate::raft::{Boot, ClusterId, NodeId};

/// One directory and, while it runs, its process.
pub(super) struct Process {
    pub(super) me: Me,
    /// Behind the name: `raft-0/2` is the second node that ever sat in the seat.
    pub(super) label: String,
    pub(super) founding: Option<Founding>,
    pub(super) disk: Record,
    /// Handed over and not durable; lost in a crash.
    pub(super) unsynced: VecDeque<Persist>,
    held_back: Vec<(RecordToken, Mail)>,
    synced: RecordToken,
    /// Its directory is gone for ever.
    pub(super) lost: bool,
}

/// A letter on its way.
#[derive(Clone)]
pub(super) struct Mail {
    pub(super) letter: Letter,
    /// The seat it is taken to; none: it goes back over the connection on which the call came.
    pub(super) seat: Option<String>,
}

/// A round of asking under way.
pub(super) struct Round {
    pub(super) asker: NodeId,
    number: AskRound,
    open: Vec<(Option<String>, Option<NodeId>)>,
    results: Vec<Asked>,
}

/// How often something happened, so that a test can tell whether it tested anything.
#[derive(Default, Debug)]
pub(super) struct Counts {
    pub(super) drafted: usize,
    pub(super) withdrawn: usize,
    pub(super) let_go_by_withdrawal: usize,
    pub(super) let_go_by_refusals: usize,
    pub(super) decided: usize,
    pub(super) learned: usize,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) seeds: Vec<Seed>,
    /// Every directory there ever was, by its node id.
    pub(super) processes: BTreeMap<NodeId, Process>,
    /// Whom a seat's address leads to.
    pub(super) address: BTreeMap<String, NodeId>,
    /// Whether the service's name resolves to every running process.
    pub(super) service: bool,
    /// What is behind the service and does not answer, if anything.
    pub(super) unheard: Option<String>,
    pub(super) mail: Vec<Mail>,
    pub(super) rounds: Vec<Round>,
    /// The story so far, if anybody reads it.
    pub(super) log: Vec<String>,
    pub(super) silent: bool,
    pub(super) counts: Counts,
    clusters: Vec<ClusterId>,
    drafts: BTreeMap<ClusterId, Draft>,
    /// Who ever had which draft on disk.
    held: BTreeSet<(NodeId, ClusterId)>,
    decided: BTreeMap<NodeId, Draft>,
    next: u64,
}

impl World {
    pub(super) fn new(seats: &[String]) -> World {
        let seeds = seats.iter().map(|name| seed(name)).collect();
        World { seeds, ..World::default() }
    }

    /// A process with a new, empty directory; it takes over the seat's address.
    pub(super) fn start(&mut self, name: &str, seeds: Vec<Seed>) -> NodeId {
        self.next += 1;
        // Scattered, so that the order of node ids says nothing about seats or age.
        let id = NodeId(self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let nth = 1 + self.processes.values().filter(|process| process.me.name == name).count();
        let me =
            Me { id, boot: Boot(0), name: name.to_owned(), address: seed(name).address, seeds };
        let process = Process {
            me,
            label: format!("{name}/{nth}"),
            founding: None,
            disk: Record::default(),
            unsynced: VecDeque::new(),
            held_back: Vec::new(),
            synced: RecordToken(0),
            lost: false,
        };
        self.processes.insert(id, process);
        self.boot(id);
        id
    }

    /// Starts the process of a directory that has none.
    pub(super) fn boot(&mut self, id: NodeId) {
        self.next += 1;
        let seed = self.next;
        let process = self.process(id);
        assert!(process.founding.is_none() && !process.lost, "a directory is locked, or lost");
        process.me.boot.0 += 1;
        process.synced = RecordToken(0);
        let founding = Founding::new(process.me.clone(), process.disk.clone(), seed);
        let name = process.me.name.clone();
        let waits = founding.waiting().map(str::to_owned);
        process.founding = Some(founding);
        self.address.insert(name, id);
        if let Some(waits) = waits {
            self.say(id, &format!("waits: {waits}"));
        }
    }

    /// kill -9: what is not durable is gone, and what waited for it never leaves.
    pub(super) fn crash(&mut self, id: NodeId) {
        let process = self.process(id);
        process.founding = None;
        process.unsynced.clear();
        process.held_back.clear();
        self.rounds.retain(|round| round.asker != id);
    }

    /// The directory is lost too.
    pub(super) fn lose(&mut self, id: NodeId) {
        self.crash(id);
        self.process(id).lost = true;
    }

    pub(super) fn process(&mut self, id: NodeId) -> &mut Process {
        self.processes.get_mut(&id).expect("a process")
    }

    pub(super) fn label(&self, id: NodeId) -> String {
        self.processes.get(&id).map_or_else(|| id.to_string(), |process| process.label.clone())
    }

    pub(super) fn running(&self) -> Vec<NodeId> {
        let all = self.processes.iter();
        all.filter(|(_, process)| process.founding.is_some()).map(|(id, _)| *id).collect()
    }

    pub(super) fn founding(&self, id: NodeId) -> &Founding {
        self.processes[&id].founding.as_ref().expect("a running process")
    }

    /// One input for one node, and its effects.
    pub(super) fn input(&mut self, id: NodeId, input: impl FnOnce(&mut Founding) -> Effects) {
        let founding = self.process(id).founding.as_mut().expect("a running process");
        let effects = input(founding);
        self.run(id, effects, None);
    }

    /// Takes a letter to the process that the address, or the connection, leads to.
    pub(super) fn deliver(&mut self, mail: Mail) {
        let receiver = match &mail.seat {
            Some(seat) => self.address.get(seat).copied(),
            None => Some(mail.letter.to),
        };
        let Some(id) = receiver.filter(|id| self.processes[id].founding.is_some()) else {
            return;
        };
        // Only a call can be answered.
        let answer_to = mail.seat.is_some().then_some(mail.letter.from.node_id);
        let founding = self.process(id).founding.as_mut().expect("a running process");
        let effects = founding.received(mail.letter);
        self.run(id, effects, answer_to);
    }

    /// Completes the oldest write of a node's disk.
    pub(super) fn sync(&mut self, id: NodeId) {
        let Some(Persist { token, record }) = self.process(id).unsynced.pop_front() else { return };
        self.judge_disk(id, &record);
        let process = self.process(id);
        process.disk = record;
        process.synced = token;
        let (ready, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut process.held_back).into_iter().partition(|(t, _)| *t <= token);
        process.held_back = later;
        for (_, mail) in ready {
            self.post(mail);
        }
        self.input(id, |founding| founding.persisted(token));
    }

    /// One question of a round gets its answer or fails; the last one completes the round.
    pub(super) fn answer(&mut self, round: usize, question: usize, reachable: bool) {
        let (seat, target) = self.rounds[round].open.remove(question);
        let target = target.or_else(|| self.address.get(seat.as_ref()?).copied());
        let answerer = target.filter(|id| reachable && self.processes[id].founding.is_some());
        let result = match answerer {
            Some(id) => Ok(self.founding(id).answer()),
            None => Err("no connection".to_owned()),
        };
        self.rounds[round].results.push(Asked { seat, result });
        if self.rounds[round].open.is_empty() {
            let Round { asker, number, results, .. } = self.rounds.remove(round);
            self.input(asker, |founding| founding.asked(number, results));
        }
    }

    pub(super) fn open_questions(&self, round: usize) -> usize {
        self.rounds[round].open.len()
    }

    fn run(&mut self, id: NodeId, effects: Effects, answer_to: Option<NodeId>) {
        let Effects { persist, reply, send_now, send_after_persist, ask, founded, waiting } =
            effects;
        if let Some(persist) = persist {
            if !self.silent {
                let text = self.stage_text(&persist.record);
                self.say(id, &format!("writes: {text}"));
            }
            self.process(id).unsynced.push_back(persist);
        }
        let mut letters: Vec<(RecordToken, Mail)> = Vec::new();
        if let (Some(reply), Some(to)) = (reply, answer_to) {
            let (token, message) = match reply {
                Reply::Now(message) => (RecordToken(0), message),
                Reply::AfterPersist(token, message) => (token, message),
            };
            let from = self.founding(id).sender();
            letters.push((token, Mail { letter: Letter { from, to, message }, seat: None }));
        }
        let now = send_now.into_iter().map(|outgoing| (RecordToken(0), outgoing));
        for (token, Outgoing { name, letter, .. }) in now.chain(send_after_persist) {
            letters.push((token, Mail { letter, seat: Some(name) }));
        }
        for (token, mail) in letters {
            if token <= self.process(id).synced {
                self.post(mail);
            } else {
                self.process(id).held_back.push((token, mail));
            }
        }
        if let Some(number) = ask {
            let mut open: Vec<_> = self.process(id).me.seeds.clone();
            let mut open: Vec<_> = open.drain(..).map(|seed| (Some(seed.name), None)).collect();
            if self.service {
                open.extend(self.running().into_iter().map(|id| (None, Some(id))));
            }
            let unheard = self.unheard.iter();
            let results =
                unheard.map(|why| Asked { seat: None, result: Err(why.clone()) }).collect();
            self.rounds.push(Round { asker: id, number, open, results });
        }
        if let Some(founded) = founded {
            let cluster = self.cluster(founded.cluster_id);
            assert_eq!(self.decided[&id].founded(), founded, "founded is what the disk says");
            self.say(id, &format!("is founded: {cluster}"));
        }
        if let Some(waiting) = waiting {
            self.say(id, &format!("waits: {waiting}"));
        }
        // Nobody counts as evidence before it has learned the decision.
        let claims = self.founding(id).answer().cluster_id;
        assert_eq!(claims, self.processes[&id].disk.stage.decided().map(|d| d.cluster_id));
    }

    /// A letter leaves: each statement must be on the speaker's disk (S17).
    fn post(&mut self, mail: Mail) {
        let from = mail.letter.from.node_id;
        let Record { stage, refused } = &self.processes[&from].disk;
        let held = stage.held().map(|draft| draft.cluster_id);
        let decided = stage.decided().map(|draft| draft.cluster_id);
        let sound = match &mail.letter.message {
            Message::Draft(draft) => held == Some(draft.cluster_id) && draft.drafter == from,
            Message::Accept { draft } => held == Some(*draft),
            Message::Inquire { draft, .. } => held == Some(*draft),
            Message::Decided(draft) => stage.decided() == Some(draft),
            Message::Withdraw { draft } => {
                held != Some(*draft)
                    && decided != Some(*draft)
                    && self.drafts.get(draft).is_none_or(|draft| draft.drafter == from)
            }
            Message::Refuse { draft, for_good, .. } => {
                held != Some(*draft)
                    && decided != Some(*draft)
                    && (!for_good || refused.contains(draft) || decided.is_some())
            }
        };
        assert!(sound, "said before it was on disk: {:?}", mail.letter);
        if !self.silent {
            let text = self.letter_text(&mail.letter);
            self.log.push(format!("    {text}"));
        }
        self.mail.push(mail);
    }

    /// A record becomes durable: the safety statement.
    fn judge_disk(&mut self, id: NodeId, new: &Record) {
        let old = self.processes[&id].disk.clone();
        assert!(old.stage.decided().is_none() || old == *new, "a decision is final");
        assert!(old.refused.is_subset(&new.refused), "for good means for good");
        if let Some(draft) = old.stage.held()
            && new.stage != old.stage
            && new.stage.decided() != Some(draft)
        {
            self.judge_letting_go(id, draft);
        }
        if let Some(draft) = new.stage.held()
            && old.stage != new.stage
        {
            let foreign = draft.drafter != id;
            assert!(!foreign || old.stage == Stage::Empty, "one draft at a time");
            assert!(!old.refused.contains(&draft.cluster_id), "never what was refused for good");
            assert!(
                self.held.insert((id, draft.cluster_id)),
                "what was let go is not taken up again"
            );
            if !foreign {
                self.counts.drafted += 1;
                self.drafts.insert(draft.cluster_id, draft.clone());
            }
        }
        if let Some(draft) = new.stage.decided()
            && old.stage.decided().is_none()
        {
            let alone = draft.members.len() == 1;
            assert!(alone || old.stage.held() == Some(draft), "only a held draft is decided");
            for member in draft.members.keys() {
                let accepted = alone || self.held.contains(&(*member, draft.cluster_id));
                assert!(accepted, "a decision is unanimous");
            }
            for other in self.decided.values().filter(|o| o.cluster_id != draft.cluster_id) {
                let shared = other.members.keys().any(|node| draft.members.contains_key(node));
                assert!(!shared, "two clusters were decided over one node id");
            }
            self.decided.insert(id, draft.clone());
            if draft.drafter == id {
                self.counts.decided += 1;
            } else {
                assert!(self.decided.contains_key(&draft.drafter), "the drafter decides first");
                self.counts.learned += 1;
            }
        }
    }

    fn judge_letting_go(&mut self, id: NodeId, draft: &Draft) {
        assert!(!self.decided.values().any(|d| d == draft), "a decided draft is never let go");
        if draft.drafter == id {
            self.counts.withdrawn += 1;
            return;
        }
        // A lost directory keeps its last record here: losing it withdraws and refuses nothing.
        let withdrawn = self.processes[&draft.drafter].disk.stage.held() != Some(draft);
        let mut others =
            draft.members.keys().filter(|other| **other != draft.drafter && **other != id);
        let has_others = draft.members.len() > 2;
        let refused = has_others
            && others.all(|other| {
                let Record { stage, refused } = &self.processes[other].disk;
                let never = refused.contains(&draft.cluster_id) || stage.decided().is_some();
                never && stage.held() != Some(draft) && stage.decided() != Some(draft)
            });
        assert!(withdrawn || refused, "a draft is let go only by the rule");
        if withdrawn {
            self.counts.let_go_by_withdrawal += 1;
        } else {
            self.counts.let_go_by_refusals += 1;
        }
    }

    fn say(&mut self, id: NodeId, text: &str) {
        if self.silent {
            return;
        }
        let label = self.label(id);
        let text = self.readable(text);
        self.log.push(format!("{label} {text}"));
    }

    /// `C1`, `C2`, ... in the order of appearance.
    fn cluster(&mut self, id: ClusterId) -> String {
        let place = self.clusters.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.clusters.push(id);
            self.clusters.len() - 1
        });
        format!("C{}", place + 1)
    }

    /// A sentence with labels instead of hexadecimal ids.
    pub(super) fn readable(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (place, id) in self.clusters.iter().enumerate() {
            text = text.replace(&id.to_string(), &format!("C{}", place + 1));
        }
        for (id, process) in &self.processes {
            text = text.replace(&id.to_string(), &process.label);
        }
        text
    }

    fn stage_text(&mut self, record: &Record) -> String {
        let mut text = match &record.stage {
            Stage::Empty => "holds nothing".to_owned(),
            Stage::Held(draft) => {
                let nodes: Vec<String> = draft.members.values().map(|m| m.name.clone()).collect();
                assert_eq!(nodes.len(), draft.seeds.len());
                let mut nodes: Vec<String> =
                    draft.members.keys().map(|id| self.label(*id)).collect();
                nodes.sort();
                format!("holds {} of {}", self.cluster(draft.cluster_id), nodes.join(" "))
            }
            Stage::Decided(draft) => format!("decided {}", self.cluster(draft.cluster_id)),
        };
        if !record.refused.is_empty() {
            let refused: Vec<String> = record.refused.iter().map(|id| self.cluster(*id)).collect();
            let refused: BTreeSet<String> = refused.into_iter().collect();
            let refused: Vec<String> = refused.into_iter().collect();
            text.push_str(&format!(", refused {} for good", refused.join(" ")));
        }
        text
    }

    pub(super) fn kind(message: &Message) -> &'static str {
        match message {
            Message::Draft(_) => "draft",
            Message::Accept { .. } => "accept",
            Message::Refuse { .. } => "refuse",
            Message::Withdraw { .. } => "withdraw",
            Message::Decided(_) => "decided",
            Message::Inquire { .. } => "inquire",
        }
    }

    pub(super) fn letter_text(&mut self, letter: &Letter) -> String {
        let (id, extra) = match &letter.message {
            Message::Draft(draft) | Message::Decided(draft) => (draft.cluster_id, String::new()),
            Message::Accept { draft } | Message::Withdraw { draft } => (*draft, String::new()),
            Message::Refuse { draft, for_good, why } => {
                let why = self.readable(why);
                (*draft, format!(" {}: {why}", if *for_good { "for good" } else { "for now" }))
            }
            Message::Inquire { draft, gone, .. } => {
                (*draft, if *gone { ": its drafter is gone".to_owned() } else { String::new() })
            }
        };
        let (from, to) = (self.label(letter.from.node_id), self.label(letter.to));
        format!("{from} -> {to}: {} {}{extra}", World::kind(&letter.message), self.cluster(id))
    }
}

pub(super) fn seed(name: &str) -> Seed {
    Seed { name: name.to_owned(), address: format!("{name}.raft-service:6000") }
}
