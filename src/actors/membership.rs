//! The node's part in who its members are: it lets the policy of the seats
//! ([`raft::seats`](crate::raft::seats)) propose, asks addresses who is there, answers nodes that want to
//! be taken in, and carries out an admin's orders.
//!
//! An order is answered when what it wanted is committed and no change is under way any more, when it
//! turns out that it cannot be had, or after [`PATIENCE`], with the word that its outcome is unknown.
//!
//! What when full? [`ORDERS_MAX`] orders wait at once; further ones are refused as busy.

use std::time::Duration;

use actix::prelude::*;

use crate::codec::api::{ChangeReply, Code, Refusal, TransferReply};
use crate::raft::founding::Answer;
use crate::raft::seats::{SeatQuestion, Seats, Wish};
use crate::raft::{ChangeRefusal, MembershipChange, NodeId, RoleKind, Term, TransferRefusal};
use crate::rpc::Responder;

use super::inquirer::{Inquirer, NoAnswer};
use super::messages::{AddressAnswered, JoinAsked, Order, Ordered};
use super::node::Node;
use super::refusals;

/// How long an order may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Orders that wait at once.
const ORDERS_MAX: usize = 16;

/// Asks an address who is there; the answer comes back as [`AddressAnswered`].
pub type Asking = Box<dyn Fn(SeatQuestion, Option<u64>)>;

/// What the node actor keeps for its members besides the core.
pub struct Steward {
    seats: Seats,
    asking: Asking,
    /// [`PATIENCE`] in ticks.
    patience: u64,
    now: u64,
    orders: Vec<Waiting>,
    last_order: u64,
}

/// An order that is not answered yet.
struct Waiting {
    number: u64,
    since: u64,
    /// The leadership in which it was taken on.
    term: Term,
    goal: Goal,
    reply: Responder,
}

/// When an order is carried out.
enum Goal {
    /// The address has answered: then it becomes another goal.
    Found,
    /// The wish's node is what the wish says.
    Wished { wish: Wish, node: NodeId },
    /// Anybody is a member in this seat.
    Taken { name: String, was: NodeId },
    /// This node leads.
    Leads { name: String, node: NodeId },
}

impl Steward {
    /// A steward whose ticks are this long.
    #[must_use]
    pub fn new(seats: Seats, tick: Duration, asking: Asking) -> Steward {
        let patience = (PATIENCE.as_nanos() / tick.as_nanos().max(1)) as u64;
        Steward { seats, asking, patience, now: 0, orders: Vec::new(), last_order: 0 }
    }

    /// The node is about to stop: it takes nobody in any more.
    pub fn stop(&mut self) {
        self.seats.stop();
    }

    fn take_on(&mut self, term: Term, goal: Goal, reply: Responder) -> u64 {
        self.last_order += 1;
        let (number, since) = (self.last_order, self.now);
        self.orders.push(Waiting { number, since, term, goal, reply });
        number
    }
}

/// Asks with `Boot.Ask`, and reports to the node.
#[must_use]
pub fn asking(inquirer: Inquirer, node: Recipient<AddressAnswered>) -> Asking {
    use super::deliver::Deliver;
    Box::new(move |question, order| {
        let (inquiry, node) = (inquirer.ask(&question.name, &question.address), node.clone());
        actix_rt::spawn(async move {
            let answer = inquiry.await;
            // One for each question; an admin may wait for it.
            node.deliver(AddressAnswered { question, order, answer });
        });
    })
}

impl Node {
    /// Once a tick.
    pub(super) fn look_after_members(&mut self) {
        let steward = &mut self.neighbours.steward;
        steward.now += 1;
        let change = steward.seats.tick(&self.core);
        for question in steward.seats.questions(&self.core) {
            (steward.asking)(question, None);
        }
        for report in steward.seats.reports() {
            tracing::warn!("{report}");
        }
        if let Some(change) = change
            && let Err(why) = self.change(&change)
        {
            tracing::debug!(?change, ?why, "members do not change");
        }
        self.note_removal();
        for waiting in std::mem::take(&mut self.neighbours.steward.orders) {
            self.follow_up(waiting);
        }
    }

    /// A node that was removed, and knows the entry that says so, waits and says why.
    fn note_removal(&self) {
        if self.core.status().removed {
            self.standing.note_removed("its own log");
        }
    }

    fn change(&mut self, change: &MembershipChange) -> Result<(), ChangeRefusal> {
        let (result, effects) = self.core.change(change);
        if result.is_ok() {
            tracing::info!(?change, "members change");
        }
        self.run(effects);
        result.map(|_| ())
    }

    fn heard(&self, id: NodeId) -> bool {
        let status = self.core.status();
        id == status.id || status.peers.iter().any(|peer| peer.id == id && peer.active)
    }

    /// Takes the first step towards a wish, and its answer on.
    fn wish(&mut self, wish: Wish, reply: Responder) {
        match self.step_towards(&wish) {
            Ok(node) => {
                let term = self.core.status().soft_state.term;
                self.neighbours.steward.take_on(term, Goal::Wished { wish, node }, reply);
            }
            Err(refusal) => reply.refuse(refusal),
        }
    }

    /// Begins the change that a wish stands for now, if it stands for one still; whom it is about.
    fn step_towards(&mut self, wish: &Wish) -> Result<NodeId, Refusal> {
        let membership = self.core.membership();
        let change = Seats::change_for(wish, membership, |id| self.heard(id))
            .map_err(|why| Refusal::new(Code::Conflict, why.to_string()))?;
        let about = |change: &MembershipChange| match (wish, change) {
            (Wish::Add { id, .. }, _) => *id,
            (_, MembershipChange::AddLearner { id, .. })
            | (_, MembershipChange::Promote { id })
            | (_, MembershipChange::Replace { new: id, .. })
            | (_, MembershipChange::Remove { id })
            | (_, MembershipChange::Retire { id }) => *id,
        };
        match (change, wish) {
            (Some(change), _) => {
                let node = about(&change);
                self.change(&change).map(|()| node).map_err(|why| {
                    let refusal = refusals::of_change(why, wish.seat(), self.core.membership());
                    refusal.unwrap_or_else(|| self.standing.not_leader())
                })
            }
            (None, Wish::Add { id, .. }) => Ok(*id),
            (None, Wish::Promote { name } | Wish::Remove { name }) => {
                Err(Refusal::new(Code::Conflict, format!("{name} is so already")))
            }
        }
    }

    /// Answers an order if there is anything to say, and keeps it otherwise.
    fn follow_up(&mut self, mut waiting: Waiting) {
        match self.outcome(&mut waiting) {
            Some(Outcome::Changed(reply)) => waiting.reply.send(&reply),
            Some(Outcome::Transferred(reply)) => waiting.reply.send(&reply),
            Some(Outcome::Refused(refusal)) => waiting.reply.refuse(refusal),
            None => self.neighbours.steward.orders.push(waiting),
        }
    }

    fn outcome(&mut self, waiting: &mut Waiting) -> Option<Outcome> {
        let steward = &self.neighbours.steward;
        let late = steward.now - waiting.since >= steward.patience;
        let status = self.core.status();
        let membership = self.core.membership();
        let settled = status.commit >= status.membership_index && !membership.is_joint();
        let leads =
            status.soft_state.role == RoleKind::Leader && status.soft_state.term == waiting.term;
        let changed = |name: &str, node: NodeId| {
            let role = match membership.contains(node) {
                true if membership.is_voter(node) => "voter",
                true => "learner",
                false => "removed",
            };
            Outcome::Changed(ChangeReply {
                name: name.to_owned(),
                node_id: node,
                role: role.to_owned(),
                index: status.membership_index,
                from: self.standing.answerer(),
            })
        };
        match &waiting.goal {
            Goal::Found => late.then(|| refused(Code::Conflict, "the address did not answer")),
            Goal::Wished { wish, node } => {
                let (name, reached) = match wish {
                    Wish::Add { name, .. } => (name, membership.contains(*node)),
                    Wish::Promote { name } => (name, membership.voters.contains(node)),
                    Wish::Remove { name } => (name, !membership.contains(*node)),
                };
                if settled && reached {
                    return Some(changed(name, *node));
                }
                if !leads {
                    return Some(refused(
                        Code::Unknown,
                        "the leadership ended before the change was finished; `cltraft member list` \
                         shows what became of it",
                    ));
                }
                if late {
                    return Some(refused(
                        Code::Unknown,
                        "the change has begun and is not finished yet; `cltraft member list` shows \
                         what becomes of it",
                    ));
                }
                if settled {
                    // A first step is done, and the wish asks for another.
                    let wish = wish.clone();
                    return match self.step_towards(&wish) {
                        Ok(_) => None,
                        Err(refusal) if matches!(refusal.code, Code::UnderWay | Code::Busy) => None,
                        Err(refusal) => Some(Outcome::Refused(refusal)),
                    };
                }
                None
            }
            Goal::Taken { name, was } => {
                if let Some(node) = membership.holder(name).filter(|_| settled) {
                    return Some(changed(name, node));
                }
                (late || !leads).then(|| {
                    refused(
                        Code::Conflict,
                        format!(
                            "node {was} at {name} was removed from the cluster before; its seat is open \
                             now, and it is taken in by itself as soon as it has started over with an \
                             empty directory"
                        ),
                    )
                })
            }
            Goal::Leads { name, node } => match status.soft_state.leader {
                Some(leader) if leader == *node => Some(Outcome::Transferred(TransferReply {
                    leader: name.clone(),
                    term: status.soft_state.term,
                    from: self.standing.answerer(),
                })),
                Some(leader) if leader == status.id && status.transfer.is_some() && !late => None,
                Some(leader) if leader == status.id => Some(refused(
                    Code::Conflict,
                    format!("{name} did not take over in time; the leader is the same as before"),
                )),
                Some(_) => {
                    Some(refused(Code::Conflict, format!("another node leads now, not {name}")))
                }
                None => late.then(|| {
                    refused(Code::Unknown, format!("it is not known yet whether {name} leads"))
                }),
            },
        }
    }

    fn add(&mut self, name: String, address: String, reply: Responder) {
        // Before anybody is asked: a seat that is held is not given, whoever may be at the address.
        let probe = Wish::Add { name: name.clone(), id: NodeId(0), address: address.clone() };
        if let Err(why) = Seats::change_for(&probe, self.core.membership(), |id| self.heard(id)) {
            return reply.refuse(Refusal::new(Code::Conflict, why.to_string()));
        }
        let term = self.core.status().soft_state.term;
        let steward = &mut self.neighbours.steward;
        let number = steward.take_on(term, Goal::Found, reply);
        (steward.asking)(SeatQuestion { name, address }, Some(number));
    }

    /// The address that an admin named has answered, or has not.
    fn found(
        &mut self,
        question: SeatQuestion,
        answer: Result<Answer, NoAnswer>,
        reply: Responder,
    ) {
        let SeatQuestion { name, address } = question;
        let conflict = |why: String| Refusal::new(Code::Conflict, why);
        let answer = match answer {
            Ok(answer) => answer,
            Err(NoAnswer::SomebodyElse(why)) => {
                return reply.refuse(conflict(format!("that is not where {name} is: {why}")));
            }
            Err(NoAnswer::Silence(why)) => {
                return reply.refuse(Refusal::new(
                    Code::Conflict,
                    format!(
                        "no node answers as {name} at {address} ({why}); start srvraft {name} there, with \
                         an empty data directory, and try again"
                    ),
                ));
            }
        };
        if answer.name != name {
            return reply.refuse(conflict(format!("{} answers at {address}", answer.name)));
        }
        if let Some(draft) = answer.holds {
            return reply.refuse(conflict(format!(
                "{name} at {address} holds the undecided draft of a cluster, {draft}; let it finish, or \
                 run `srvraft discard` there"
            )));
        }
        let ours = self.standing.present().cluster_id;
        match answer.cluster_id {
            None => self.wish(Wish::Add { name, id: answer.node_id, address }, reply),
            theirs if theirs == ours => self.reopen(name, answer.node_id, reply),
            Some(theirs) => reply.refuse(conflict(format!(
                "{name} at {address} belongs to cluster {theirs}; `srvraft discard` there makes it an \
                 empty node"
            ))),
        }
    }

    /// A node with a directory of this cluster: that of a removed member starts over and comes by itself.
    fn reopen(&mut self, name: String, node: NodeId, reply: Responder) {
        if self.core.membership().contains(node) {
            let why = format!("node {node} is the member of {name} already");
            return reply.refuse(Refusal::new(Code::Conflict, why));
        }
        let term = self.core.status().soft_state.term;
        let steward = &mut self.neighbours.steward;
        steward.seats.reopen(&name);
        steward.take_on(term, Goal::Taken { name, was: node }, reply);
    }

    fn transfer_to(&mut self, name: String, reply: Responder) {
        let membership = self.core.membership();
        let Some(node) = membership.holder(&name) else {
            return reply.refuse(refusals::unknown_seat(&name, membership));
        };
        let (result, effects) = self.core.transfer(node);
        let term = self.core.status().soft_state.term;
        self.run(effects);
        match result {
            // To itself: it leads, which is what was wanted.
            Ok(()) | Err(TransferRefusal::ToItself) => {
                self.neighbours.steward.take_on(term, Goal::Leads { name, node }, reply);
            }
            Err(why) => {
                let refusal = refusals::of_transfer(why, &name, self.core.membership());
                reply.refuse(refusal.unwrap_or_else(|| self.standing.not_leader()));
            }
        }
    }
}

enum Outcome {
    Changed(ChangeReply),
    Transferred(TransferReply),
    Refused(Refusal),
}

fn refused(code: Code, message: impl Into<String>) -> Outcome {
    Outcome::Refused(Refusal::new(code, message))
}

impl Handler<JoinAsked> for Node {
    type Result = ();

    fn handle(&mut self, message: JoinAsked, _: &mut Self::Context) {
        let JoinAsked { join, reply } = message;
        if self.core.status().soft_state.role != RoleKind::Leader {
            return reply.refuse(self.standing.not_leader());
        }
        reply.send(&self.neighbours.steward.seats.join(&join, &self.core));
    }
}

impl Handler<Ordered> for Node {
    type Result = ();

    fn handle(&mut self, message: Ordered, _: &mut Self::Context) {
        let Ordered { order, reply } = message;
        if self.core.status().soft_state.role != RoleKind::Leader {
            return reply.refuse(self.standing.not_leader());
        }
        if self.neighbours.steward.orders.len() >= ORDERS_MAX {
            let why = "the leader has as many changes to carry out as it may take on; try again";
            return reply.refuse(Refusal::new(Code::Busy, why));
        }
        match order {
            Order::Add { name, address } => self.add(name, address, reply),
            Order::Promote { name } => self.wish(Wish::Promote { name }, reply),
            Order::Remove { name } => self.wish(Wish::Remove { name }, reply),
            Order::Transfer { name } => self.transfer_to(name, reply),
        }
    }
}

impl Handler<AddressAnswered> for Node {
    type Result = ();

    fn handle(&mut self, message: AddressAnswered, _: &mut Self::Context) {
        let AddressAnswered { question, order, answer } = message;
        let Some(number) = order else {
            let ours = self.standing.present().cluster_id;
            let fit = |answer: &Answer| {
                let cluster = answer.cluster_id;
                answer.name == question.name
                    && answer.holds.is_none()
                    && (cluster.is_none() || cluster == ours)
            };
            let there = answer.ok().filter(fit).map(|answer| answer.node_id);
            return self.neighbours.steward.seats.answered(&question.name, there);
        };
        let orders = &mut self.neighbours.steward.orders;
        let Some(at) = orders.iter().position(|waiting| waiting.number == number) else { return };
        let waiting = orders.swap_remove(at);
        self.found(question, answer, waiting.reply);
    }
}
