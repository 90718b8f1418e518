//! Seats: who is taken in, who takes a lost node's place, who becomes a voter, and when
//! (design: lost disks; D18).
//!
//! A *seat* is a name, a *node* one data directory. A node with an empty directory asks the leader to be
//! taken in ([`Join`]), again and again, and is answered each time ([`JoinAnswer`]). [`Seats`] decides; it
//! is fed by whoever owns the [`Node`], one [`tick`](Seats::tick) for each of the node's, and what it
//! proposes goes to [`Node::change`] like an operator's wish. The core refuses what is not safe; this
//! policy only decides what is wanted. All of it is the memory of one leadership: another leader begins
//! with none, and the nodes ask again.
//!
//! # The rules
//!
//! * **A seat is free** when nobody holds it, or when every node that holds it was silent for an election
//!   timeout *and* the seat's address answers `Boot.Ask` with the asker's node id. The address asked is
//!   the one that will stand in the membership: a member's own for a known seat, the asker's for a new one.
//! * **A free seat is given** to the asker as a learner. A silent learner that was there before goes
//!   first, by a change of its own; a silent voter stays until the learner has caught up, and leaves by
//!   [`MembershipChange::Replace`], so that the number of voters never changes on the way.
//! * **A learner becomes a voter by itself** once it lacks no more than [`Options::promote_lag`] entries,
//!   in the place of the silent voter of its seat, or beside the others in a new one. In the place of a silent
//!   one only while a quorum of the present voters and of those to come is heard; beside the others only
//!   while all of them are, since one voter more makes a quorum larger and brings nobody who is lost back (M8).
//! * **One seat changes hands at most once** in [`SeatOptions::limit_ticks`], as far as this leadership
//!   remembers: a process that starts over and over must not fill the log.
//! * **A retired seat** ([`Membership::retired`]) is not given before this leader has counted
//!   [`SeatOptions::retirement_ticks`], or an admin asked for it.
//! * **A removed node** that asks with its old directory is told so, and to start over when its seat is free. Only
//!   if that is a fact: the members that it is not among are committed, by a leader whose term is no older than any
//!   that the asker knows. A member that was added later heard of that from a later term, so that a deposed leader
//!   tells no member anything.
//! * **A learner beside a voter that is heard again** goes, when it is silent itself. If both are heard,
//!   two processes run under one name: both stay as they are, and it is said.
//! * **A learner that stays silent** stays a member, since it counts for nothing; it is said
//!   ([`Seats::reports`]), and an operator may remove it.
//! * A leader that stops or hands over takes nobody in and changes nobody.
//!
//! What when full? At most [`MEMBERS_MAX`] seats hold members, and at most [`SEATS_MAX`] are remembered;
//! further ones wait and are told so.
//!
//! [`Options::promote_lag`]: super::options::Options::promote_lag

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::change::MembershipChange;
use super::membership::{Member, Membership};
use super::node::{Node, Role};
use super::types::{ClusterId, Index, NodeId, Term};

mod rules;
#[cfg(test)]
mod tests;
mod wish;

use rules::View;
pub use wish::{Wish, WishRefusal};

/// Seats that hold members, learners included. Every commit waits for a majority of the voters, and more
/// than a handful serve nobody; the limit keeps a mistake from filling the membership.
pub const MEMBERS_MAX: usize = 15;

/// Seats of which something is remembered at once, members' or not.
pub const SEATS_MAX: usize = 64;

/// Ticks from one question to a seat's address to the next.
const ASK_TICKS: u64 = 25;

/// Ticks after which a question that was never reported is given up.
const ASKED_TICKS: u64 = 1000;

/// Ticks for which an address's answer counts.
const ANSWER_TICKS: u64 = 200;

/// Ticks after which a node that no longer asks is forgotten.
const JOIN_TICKS: u64 = 300;

/// Ticks after which a change that the core refused is proposed again, so that the other seats get their
/// turn meanwhile.
const AGAIN_TICKS: u64 = 20;

/// Ticks after which a silent learner, or a seat with two living nodes, is reported (again).
const REPORT_TICKS: u64 = 60_000;

/// How long things take, in the leader's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatOptions {
    /// A seat is given at most once in this time.
    pub limit_ticks: u64,
    /// How long a removed seat stays retired.
    pub retirement_ticks: u64,
}

impl Default for SeatOptions {
    /// A minute and ten of them, at ten milliseconds a tick.
    fn default() -> SeatOptions {
        SeatOptions { limit_ticks: 6_000, retirement_ticks: 60_000 }
    }
}

/// Arguments of `Boot.Join`: a node asks the leader to be taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Its seat; the caller's certificate proves it.
    pub name: String,
    /// Its node id.
    pub id: NodeId,
    /// Where it wants to be reached, `HOST:PORT`.
    pub address: String,
    /// The cluster its directory belongs to; none: the directory is empty and holds no draft.
    #[serde(default)]
    pub cluster: Option<ClusterId>,
    /// The newest term it knows. A leader of a lower one knows less about the members than the asker,
    /// and never tells it that it was removed, or to start over.
    #[serde(default)]
    pub term: Term,
}

/// Reply of `Boot.Join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinAnswer {
    /// The node is a member, and the entry that says so is committed: it may write the cluster down.
    Member {
        /// The cluster.
        cluster: ClusterId,
    },
    /// Not now; to be asked again.
    Wait {
        /// Why, in one sentence for a person.
        why: String,
    },
    /// The asker's directory is of a member that was removed, and its seat is not to be had now; to be
    /// asked again.
    Removed {
        /// Why the seat is not to be had, in one sentence for a person.
        why: String,
    },
    /// The asker's directory is of a member that was removed: it is to be set aside, so that the node
    /// comes back as a new one and is taken in.
    StartOver {
        /// Why, in one sentence for a person.
        why: String,
    },
}

/// A question that the runtime is to ask: `Boot.Ask` at this address, accepting only a certificate of
/// that seat. The answer goes to [`Seats::answered`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatQuestion {
    /// The seat.
    pub name: String,
    /// Where.
    pub address: String,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Seats {
    cluster: ClusterId,
    options: SeatOptions,
    now: u64,
    stopping: bool,
    /// The leadership that the rest is about.
    term: Option<Term>,
    seats: BTreeMap<String, Seat>,
    /// The members when last looked, to see who is new.
    members: BTreeSet<NodeId>,
    /// Since when a learner has been silent, and when that was last said.
    silent: BTreeMap<NodeId, Silence>,
    reports: Vec<String>,
}

/// What this leadership remembers of a seat. All numbers are ticks.
#[derive(Clone, Debug, Default)]
struct Seat {
    asker: Option<Asker>,
    /// A question is under way since.
    asking: Option<u64>,
    /// The address's last answer: who is there, if anybody answered.
    answer: Option<(Option<NodeId>, u64)>,
    /// When a node was last taken in here.
    taken: Option<u64>,
    /// Nothing is proposed for the seat before.
    again: u64,
    /// The retirement is counted since.
    retired: Option<u64>,
    /// An admin has asked for a node here: neither retirement nor limit stand in its way.
    wanted: bool,
}

#[derive(Clone, Debug)]
struct Asker {
    id: NodeId,
    address: String,
    /// Its directory is that of a removed member.
    removed: bool,
    at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    since: u64,
    said: Option<u64>,
}

impl Seats {
    /// The policy of a node in this cluster.
    #[must_use]
    pub fn new(cluster: ClusterId, options: SeatOptions) -> Seats {
        Seats {
            cluster,
            options,
            now: 0,
            stopping: false,
            term: None,
            seats: BTreeMap::new(),
            members: BTreeSet::new(),
            silent: BTreeMap::new(),
            reports: Vec::new(),
        }
    }

    /// One tick of time has passed. The change to propose now, if any; whatever the core answers, nothing
    /// needs to be reported back.
    pub fn tick(&mut self, node: &Node) -> Option<MembershipChange> {
        self.now += 1;
        let view = self.look(node)?;
        self.propose(&view)
    }

    /// A node asks to be taken in. Its name is proved by the caller.
    pub fn join(&mut self, join: &Join, node: &Node) -> JoinAnswer {
        match self.look(node) {
            Some(view) => self.answer(join, &view),
            None => JoinAnswer::Wait {
                why: "the node that was asked does not lead, or is about to hand over".to_owned(),
            },
        }
    }

    fn answer(&mut self, join: &Join, view: &View<'_>) -> JoinAnswer {
        let wait = |why: String| JoinAnswer::Wait { why };
        if let Some(theirs) = join.cluster
            && theirs != self.cluster
        {
            return wait(format!(
                "{}'s directory belongs to cluster {theirs}, and this is cluster {}",
                join.name, self.cluster
            ));
        }
        self.notice(view);
        if let Some(member) = view.membership.members.get(&join.id) {
            return if member.name != join.name {
                wait(format!("node {} sits in {}, not in {}", join.id, member.name, join.name))
            } else if view.settled {
                JoinAnswer::Member { cluster: self.cluster }
            } else {
                wait(format!("{} is being taken in", join.name))
            };
        }
        if !self.seats.contains_key(&join.name) && self.seats.len() >= SEATS_MAX {
            return wait(format!("{SEATS_MAX} seats are being looked after already"));
        }
        let asker = Asker {
            id: join.id,
            address: join.address.clone(),
            removed: join.cluster.is_some(),
            at: self.now,
        };
        self.listen(&join.name, asker);
        if join.cluster.is_some() && join.term > view.term {
            return wait(format!(
                "node {} knows a newer term than the leader; a later leader can tell whether it was removed",
                join.id
            ));
        }
        let removed = join.cluster.is_some() && view.settled;
        match self.obstacle(&join.name, join.id, view) {
            Some(why) if removed => JoinAnswer::Removed { why },
            Some(why) => wait(why),
            None if join.cluster.is_none() => {
                wait(format!("{} is about to be taken in", join.name))
            }
            None if !removed => wait("the members are changing".to_owned()),
            None => JoinAnswer::StartOver {
                why: format!(
                    "node {} was removed from the cluster, and its seat {} is free: it starts over \
                     with an empty directory",
                    join.id, join.name
                ),
            },
        }
    }

    /// The addresses to ask now, at most one question for each seat at a time.
    pub fn questions(&mut self, node: &Node) -> Vec<SeatQuestion> {
        self.look(node).map_or_else(Vec::new, |view| self.ask(&view))
    }

    fn ask(&mut self, view: &View<'_>) -> Vec<SeatQuestion> {
        let now = self.now;
        let mut questions = Vec::new();
        // Nobody is asked about a seat that is not given anyway.
        let open: BTreeSet<String> =
            self.seats.keys().filter(|name| self.closed(name, view).is_none()).cloned().collect();
        for (name, seat) in self.seats.iter_mut().filter(|(name, _)| open.contains(*name)) {
            let Some(asker) = &seat.asker else { continue };
            let under_way = seat.asking.is_some_and(|since| now - since < ASKED_TICKS);
            let fresh = seat.answer.is_some_and(|(_, at)| now - at < ASK_TICKS);
            if under_way || fresh {
                continue;
            }
            seat.asking = Some(now);
            let address = view.address_of(name).unwrap_or(&asker.address).to_owned();
            questions.push(SeatQuestion { name: name.clone(), address });
        }
        questions
    }

    /// Who answered at the address of a seat: a node with that seat's certificate, and with nothing that
    /// keeps it from being taken in (such as a founding draft). None: nobody.
    pub fn answered(&mut self, name: &str, id: Option<NodeId>) {
        if let Some(seat) = self.seats.get_mut(name) {
            seat.asking = None;
            seat.answer = Some((id, self.now));
        }
    }

    /// An admin wants the seat to be taken by whoever comes: its retirement ends, and the limit does not
    /// count, until a node was taken in there or the leadership ends.
    pub fn reopen(&mut self, name: &str) {
        if self.seats.contains_key(name) || self.seats.len() < SEATS_MAX {
            self.seats.entry(name.to_owned()).or_default().wanted = true;
        }
    }

    /// This node is about to stop: it takes nobody in any more.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// What a person should know, each once in a while. One sentence each; for the log.
    pub fn reports(&mut self) -> Vec<String> {
        std::mem::take(&mut self.reports)
    }

    /// What the policy may go by, if the node leads and neither stops nor hands over. Forgets what
    /// belongs to another leadership.
    fn look<'a>(&mut self, node: &'a Node) -> Option<View<'a>> {
        let view = match node.role() {
            Role::Leader(leader) => Some(View::of(node, leader)),
            _ => None,
        };
        let term = view.as_ref().map(|view| view.term);
        if self.term != term {
            self.forget(term);
            if let Some(view) = &view {
                self.members = view.membership.members.keys().copied().collect();
            }
        }
        view.filter(|view| !self.stopping && !view.transfers)
    }

    fn propose(&mut self, view: &View<'_>) -> Option<MembershipChange> {
        self.notice(view);
        let (name, change) = self.wanted_change(view)?;
        self.seats.entry(name).or_default().again = self.now + AGAIN_TICKS;
        Some(change)
    }

    fn forget(&mut self, term: Option<Term>) {
        self.term = term;
        self.seats.clear();
        self.members.clear();
        self.silent.clear();
        self.reports.clear();
    }

    /// Keeps what is remembered in step with the members and with time.
    fn notice(&mut self, view: &View<'_>) {
        let now = self.now;
        let membership = view.membership;
        for (id, member) in &membership.members {
            if self.members.insert(*id)
                && (self.seats.contains_key(&member.name) || self.seats.len() < SEATS_MAX)
            {
                let seat = self.seats.entry(member.name.clone()).or_default();
                *seat = Seat { taken: Some(now), ..Seat::default() };
            }
        }
        self.members.retain(|id| membership.contains(*id));
        for name in &membership.retired {
            if self.seats.contains_key(name) || self.seats.len() < SEATS_MAX {
                self.seats.entry(name.clone()).or_default().retired.get_or_insert(now);
            }
        }
        let limit = self.options.limit_ticks;
        for (name, seat) in &mut self.seats {
            if !membership.retired.contains(name) {
                seat.retired = None;
            }
            seat.asker.take_if(|asker| now - asker.at >= JOIN_TICKS);
            seat.taken.take_if(|at| now - *at >= limit);
        }
        self.seats.retain(|_, seat| seat.matters(now));
        self.notice_silence(view);
    }
}

impl Seat {
    fn matters(&self, now: u64) -> bool {
        self.asker.is_some()
            || self.taken.is_some()
            || self.retired.is_some()
            || self.wanted
            || self.again > now
    }
}
