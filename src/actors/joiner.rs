//! The joiner: asks to be taken into the cluster that exists (`Boot.Join`), as long as this node is in
//! none, or was removed from its own, or has heard nothing of its members yet, or has known no leader for
//! long: it may have been removed while it slept, and followers do not know of whom their leader knows
//! nothing. It goes from seed to seed until one names the leader, and stays with that one while it answers.
//!
//! It decides nothing: the leader says when the node is a member and when it is none any more, the founder
//! whether that may be written down (a founding draft may have been accepted meanwhile).
//!
//! What when full? One question at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use crate::codec::api::{Code, LeaderHint};
use crate::raft::RoleKind;
use crate::raft::founding::Seed;
use crate::raft::seats::{Join, JoinAnswer};
use crate::rpc::{CallError, Dialer, Expect, Method, Purpose};

use super::deliver::Deliver;
use super::messages::{ClusterHeard, StartOver, TakenIn};
use super::replicator::hello;
use super::standing::{Present, Standing};

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// The same where the answer is most likely that nothing has changed: while a quorum is away, every node
/// that is left asks.
const LEADERLESS_PAUSE: Duration = Duration::from_secs(1);

/// Election timeouts without a leader that are no election any more.
const LEADERLESS_ELECTIONS: u32 = 5;

/// For the connection, and for the call.
const PATIENCE: Duration = Duration::from_secs(2);

/// Leader hints that are followed without a pause: they may form a loop (C4).
const HINTS_MAX: u32 = 2;

/// Seats whose last word is remembered; beyond that all are forgotten, and said once more.
const SAID_MAX: usize = 64;

/// See the module.
pub struct Joiner {
    name: String,
    address: String,
    seeds: Vec<Seed>,
    dialer: Arc<Dialer>,
    standing: Arc<Standing>,
    founder: Recipient<TakenIn>,
    supervisor: Recipient<StartOver>,
    /// The cluster that this node may be taken into, and who named it.
    heard: ClusterHeard,
    /// Whom to ask next: the leader as far as known, else the seats in turn.
    leader: Option<LeaderHint>,
    turn: usize,
    hints: u32,
    asking: bool,
    /// When somebody was last asked.
    asked: Option<Instant>,
    leaderless: Leaderless,
    said: Said,
}

/// How long no leader has been known.
struct Leaderless {
    since: Instant,
    /// So long that the node asks whether it is a member.
    limit: Duration,
}

/// What was last said of each seat about the wait. Seats are asked in turn, several times a second, and
/// each has its own reason.
#[derive(Default)]
struct Said(BTreeMap<String, String>);

/// What became of a question. Asking task → joiner; one for each.
#[derive(Message)]
#[rtype(result = "()")]
enum Asked {
    Answered(LeaderHint, JoinAnswer),
    /// The asked seat's node does not lead; perhaps it knows who does.
    Elsewhere(String, Option<LeaderHint>),
    Failed(LeaderHint, String),
}

/// What a joiner starts with.
pub struct Plan {
    /// Where this node wants to be reached.
    pub advertise: String,
    /// Where others may be found.
    pub seeds: Vec<Seed>,
    /// Makes connections.
    pub dialer: Arc<Dialer>,
    /// What the node says about itself.
    pub standing: Arc<Standing>,
    /// The longest election timeout.
    pub election: Duration,
    /// Hears that a cluster has taken this node in.
    pub founder: Recipient<TakenIn>,
    /// Hears that the directory is to be set aside.
    pub supervisor: Recipient<StartOver>,
}

impl Joiner {
    /// A joiner that has nobody to ask yet.
    #[must_use]
    pub fn new(plan: Plan) -> Joiner {
        let Plan { advertise: address, seeds, dialer, standing, election, founder, supervisor } =
            plan;
        let limit = election * LEADERLESS_ELECTIONS;
        Joiner {
            name: standing.own.name.clone(),
            address,
            seeds,
            dialer,
            standing,
            founder,
            supervisor,
            heard: ClusterHeard::default(),
            leader: None,
            turn: 0,
            hints: 0,
            asking: false,
            asked: None,
            leaderless: Leaderless { since: Instant::now(), limit },
            said: Said::default(),
        }
    }

    /// Whether a node that belongs to a cluster asks for nothing but its long wait for a leader.
    fn is_only_leaderless(&self) -> bool {
        self.standing.present().cluster_id.is_some() && !self.standing.may_be_out()
    }

    /// What to ask, if there is anything to ask for.
    fn question(&mut self) -> Option<Join> {
        let present = self.standing.present();
        let long = self.leaderless.look(&present, Instant::now());
        if present.cluster_id.is_none() && self.heard.cluster.is_none()
            || self.is_only_leaderless() && !long
        {
            return None;
        }
        Some(Join {
            name: self.name.clone(),
            id: self.standing.own.node_id,
            address: self.address.clone(),
            cluster: present.cluster_id,
            term: present.soft_state.term,
        })
    }

    /// The seats that may know a leader: the seeds, those who named the cluster, and the members as they
    /// were when this node was one.
    fn seats(&self) -> Vec<LeaderHint> {
        let mut seats: BTreeMap<String, String> =
            self.seeds.iter().map(|seed| (seed.name.clone(), seed.address.clone())).collect();
        for member in &self.heard.members {
            seats.entry(member.name.clone()).or_insert_with(|| member.address.clone());
        }
        for member in self.standing.present().membership.members.values() {
            seats.insert(member.name.clone(), member.address.clone());
        }
        seats.remove(&self.name);
        seats.into_iter().map(|(name, address)| LeaderHint { name, address }).collect()
    }

    fn next_seat(&mut self) -> Option<LeaderHint> {
        if let Some(leader) = self.leader.clone() {
            return Some(leader);
        }
        let seats = self.seats();
        self.turn = self.turn.wrapping_add(1);
        seats.get(self.turn % seats.len().max(1)).cloned()
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        // Each time, or a leader that was known between two questions would be missed.
        let Some(join) = self.question() else {
            self.leader = None;
            self.said = Said::default();
            return;
        };
        if self.asking {
            return;
        }
        if self.is_only_leaderless() {
            let lately = self.asked.is_some_and(|at| at.elapsed() < LEADERLESS_PAUSE);
            if lately && self.hints == 0 {
                return;
            }
            let own = self.name.clone();
            let why = "it has known no leader for long, and asks whether it is still a member";
            self.say(&own, format!("{own}: {why}"));
        }
        let Some(seat) = self.next_seat() else { return };
        self.asking = true;
        self.asked = Some(Instant::now());
        let (dialer, standing) = (Arc::clone(&self.dialer), Arc::clone(&self.standing));
        let own = ctx.address();
        actix_rt::spawn(async move {
            let asked = ask(&dialer, &standing, seat, &join).await;
            // One for each question, and there is one at a time.
            own.deliver(asked);
        });
    }

    /// Says why the node waits, in its log once for each seat and reason, and in its status.
    fn say(&mut self, seat: &str, why: String) {
        let present = self.standing.present();
        if self.said.is_news(seat, &why) {
            tracing::info!("{why}");
        }
        if let (None, Some(cluster)) = (present.cluster_id, self.heard.cluster) {
            let waiting = format!("waiting to be taken into cluster {cluster}: {why}");
            self.standing.publish(Present { waiting: Some(waiting), ..Present::clone(&present) });
        }
    }

    fn heed(&mut self, leader: LeaderHint, answer: JoinAnswer) {
        self.hints = 0;
        let name = leader.name.clone();
        match answer {
            JoinAnswer::Wait { why } => {
                self.say(&name, format!("{name} says: {why}"));
                self.leader = Some(leader);
            }
            JoinAnswer::Member { cluster } => {
                self.leader = Some(leader);
                if self.standing.present().cluster_id.is_none() {
                    // Once for each answer, and the founder ignores what does not fit.
                    self.founder.deliver(TakenIn { cluster_id: cluster });
                } else {
                    self.standing.note_member();
                    self.say(&name, format!("{name} leads, and says that this node is a member"));
                }
            }
            JoinAnswer::Removed { why } => {
                self.standing.note_removed(&format!("{name}, which leads it, says so"));
                self.say(&name, format!("{name} says: {why}"));
                self.leader = Some(leader);
            }
            JoinAnswer::StartOver { why } => {
                let present = self.standing.present();
                let leads = present.soft_state.role == RoleKind::Leader;
                let long = self.leaderless.look(&present, Instant::now());
                if (self.standing.may_be_out() || long) && !leads {
                    tracing::warn!("{name} says: {why}");
                    // One for each answer, and the supervisor ignores repeats.
                    self.supervisor.deliver(StartOver { reason: "removed".into() });
                }
            }
        }
    }
}

impl Leaderless {
    /// Looks whether a leader is known now, which begins the wait anew; whether it has been long. Without
    /// a cluster there is nothing to wait for.
    fn look(&mut self, present: &Present, now: Instant) -> bool {
        if present.soft_state.leader.is_some() || present.cluster_id.is_none() {
            self.since = now;
        }
        now.duration_since(self.since) >= self.limit
    }
}

impl Said {
    /// Whether this was not the last word about that seat; it is now.
    fn is_news(&mut self, seat: &str, why: &str) -> bool {
        if self.0.get(seat).is_some_and(|said| said == why) {
            return false;
        }
        if self.0.len() >= SAID_MAX {
            self.0.clear();
        }
        self.0.insert(seat.to_owned(), why.to_owned());
        true
    }
}

async fn ask(dialer: &Dialer, standing: &Standing, seat: LeaderHint, join: &Join) -> Asked {
    let hello = hello(standing, Purpose::Control, None);
    let dialled =
        dialer.dial(&seat.address, Expect::Node(seat.name.clone()), hello, PATIENCE).await;
    let connection = match dialled {
        Ok(connection) => connection,
        Err(error) => return Asked::Failed(seat, error.to_string()),
    };
    let answer = connection.call_timeout(Method::BootJoin, join, PATIENCE).await;
    connection.close();
    match answer {
        Ok(answer) => Asked::Answered(seat, answer),
        Err(CallError::Refused(refusal)) if refusal.code == Code::NotLeader => {
            Asked::Elsewhere(seat.name, refusal.leader)
        }
        // Its own reason to wait may be this node's: told on, the two would grow without end.
        Err(CallError::Refused(refusal)) if refusal.code == Code::Unavailable => {
            Asked::Failed(seat, "it is not serving either".to_owned())
        }
        Err(error) => Asked::Failed(seat, error.to_string()),
    }
}

impl Actor for Joiner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(PAUSE, Joiner::ask);
    }
}

impl Handler<ClusterHeard> for Joiner {
    type Result = ();

    fn handle(&mut self, message: ClusterHeard, ctx: &mut Self::Context) {
        let other = message.cluster != self.heard.cluster;
        self.heard = message;
        if other {
            self.leader = None;
            self.ask(ctx);
        }
    }
}

impl Handler<Asked> for Joiner {
    type Result = ();

    fn handle(&mut self, message: Asked, ctx: &mut Self::Context) {
        self.asking = false;
        if self.question().is_none() {
            return; // It is a member now, or holds a draft: what was asked for is of no use.
        }
        match message {
            Asked::Answered(leader, answer) => self.heed(leader, answer),
            Asked::Elsewhere(asked, leader) => {
                if leader.is_none() {
                    self.say(&asked, format!("{asked} knows no leader at the moment"));
                }
                self.leader = leader.filter(|leader| leader.name != self.name);
                self.hints += 1;
                if self.leader.is_some() && self.hints <= HINTS_MAX {
                    self.ask(ctx);
                } else {
                    self.hints = 0;
                    self.leader = None;
                }
            }
            Asked::Failed(seat, why) => {
                self.hints = 0;
                self.leader = None;
                self.say(&seat.name, format!("{} could not be asked: {why}", seat.name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::standing::Own;
    use super::*;
    use crate::kv;
    use crate::raft::{Boot, ClusterId, NodeId, SoftState};

    #[test]
    fn a_member_asks_only_after_long_without_a_leader() {
        let own = Own { name: "raft-3".to_owned(), node_id: NodeId(3), boot: Boot(1) };
        let standing = Standing::new(own, kv::Store::new().view(), 0);
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut leaderless = Leaderless { since: begun, limit: Duration::from_secs(5) };
        let mut look = |cluster: bool, leader: bool, seconds: u64| {
            let former = standing.present();
            let soft_state = SoftState { leader: leader.then_some(NodeId(1)), ..former.soft_state };
            let cluster_id = cluster.then_some(ClusterId(7));
            let present = Present { cluster_id, soft_state, ..Present::clone(&former) };
            leaderless.look(&present, at(seconds))
        };
        assert!(!look(false, false, 60), "a founding may take its time");
        assert!(!look(true, false, 61));
        assert!(!look(true, false, 64));
        assert!(look(true, false, 65), "five seconds");
        assert!(look(true, false, 99), "and as long as it lasts");
        assert!(!look(true, true, 100), "an answer that comes now is of no use any more");
        assert!(!look(true, false, 101));
        assert!(look(true, false, 105));
    }

    #[test]
    fn seats_that_fail_in_turn_are_spoken_of_once_each() {
        let mut said = Said::default();
        let lines = (0..100).filter(|n| said.is_news(["raft-0", "raft-1"][n % 2], "is away"));
        assert_eq!(lines.count(), 2);
        assert!(said.is_news("raft-0", "is starting"));
        assert!(said.is_news("raft-0", "is away"), "away again");
        (0..1000).for_each(|n| assert!(said.is_news(&format!("seat-{n}"), "is away")));
        assert!(said.0.len() <= SAID_MAX);
    }
}
