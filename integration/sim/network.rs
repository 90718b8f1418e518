//! Connections and what travels on them. A node dials its peers and begins with a hello, which the
//! other side's door judges; only then do messages pass. A message may be lost, late, doubled or
//! overtaken; whoever asked is told that no answer will come, as a call's deadline does.

use balsa::raft::{Envelope, Message, Node, NodeId, Seen, SnapshotMeta};
use rand::Rng;

use super::world::{Event, Life, Packet, SeatId, TICK, World, say};

/// The first thing said on a connection.
#[derive(Clone, Debug)]
pub struct Hello {
    pub from: Life,
    pub id: NodeId,
    pub to: SeatId,
    /// Which node the caller looks for.
    pub receiver: NodeId,
    /// What the caller says of itself.
    pub claims: Seen,
}

/// Why a hello is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloRefusal {
    /// Nobody, or somebody else, sits there.
    Elsewhere,
    /// The caller's directory has gone back in time: this was seen of it.
    WentBack(Seen),
    /// The callee leads, and the caller is no member any more.
    Removed,
}

/// Requests are told from replies by their kind.
pub fn is_request(message: &Message) -> bool {
    matches!(
        message,
        Message::Vote(_)
            | Message::Append(_)
            | Message::Heartbeat(_)
            | Message::Install(_)
            | Message::TimeoutNow(_)
    )
}

/// Ticks after which an idle connection is closed.
const IDLE_TICKS: u64 = 100;

/// Whether it gives or asks for a vote. A question and its answer change nothing.
fn takes_part_in_an_election(message: &Message) -> bool {
    match message {
        Message::Vote(vote) => !vote.pre,
        Message::VoteReply(reply) => reply.granted && !reply.pre,
        _ => false,
    }
}

impl World {
    /// Whether nothing passes from one seat to another.
    pub fn cut(&self, from: SeatId, to: SeatId) -> bool {
        self.cuts.contains(&(from, to))
    }

    fn seat_of(&self, life: Life) -> Option<SeatId> {
        self.process(life).map(|process| process.seat)
    }

    /// A message leaves its node.
    pub fn departs(&mut self, life: Life, envelope: Envelope) {
        let process = self.process(life).expect("it just acted");
        let dir = process.dir;
        self.oracle.departs(&envelope, &self.dirs[dir.0].durable);
        let suspect = self.dirs[dir.0].restored && takes_part_in_an_election(&envelope.message);
        assert!(!suspect || self.has_nothing_to_betray(dir), "an old copy votes: {envelope:?}");
        let request = is_request(&envelope.message);
        let raft = self.raft_mut(life).expect("it just acted");
        let to = if request {
            raft.links.get(&envelope.to).copied()
        } else {
            raft.askers.remove(&(envelope.to, envelope.request))
        };
        let Some(to) = to else {
            if request {
                self.after(5, Event::Unanswered(life, envelope.to, envelope.request));
            }
            return;
        };
        let packet = Packet { envelope, from: life, to, request };
        if self.loses() {
            return self.lose(packet);
        }
        let big = matches!(packet.envelope.message, Message::Install(_));
        let delay = self.travel() + if big { self.rng.random_range(20..200) } else { 0 };
        if !self.calm && self.rng.random_bool(self.knobs.doubles) {
            let late = delay + self.travel();
            self.after(late, Event::Packet(packet.clone()));
        }
        self.after(delay, Event::Packet(packet));
    }

    /// A message does not arrive; mostly its connection is gone with it.
    fn lose(&mut self, packet: Packet) {
        self.counts.lost += 1;
        let deadline = self.rng.random_range(10..60);
        let (asker, other) =
            if packet.request { (packet.from, packet.to) } else { (packet.to, packet.from) };
        let Envelope { from, to, request, .. } = packet.envelope;
        let peer = if packet.request { to } else { from };
        self.after(deadline, Event::Unanswered(asker, peer, request));
        let gone = self.process(other).is_none() || self.rng.random_bool(0.5);
        if gone && let Some(raft) = self.raft_mut(asker) {
            if raft.links.get(&peer) == Some(&other) {
                raft.links.remove(&peer);
            }
            self.dial_soon(asker, peer);
        }
    }

    /// A message arrives.
    pub fn arrives(&mut self, packet: Packet) {
        let (from, to) = (packet.from, packet.to);
        let Some(seat) = self.seat_of(to).filter(|_| self.core(to).is_some()) else {
            return self.lose(packet);
        };
        // What a process that has died sent before is still on its way.
        if let Some(sender) = self.seat_of(from)
            && self.cut(sender, seat)
        {
            return self.lose(packet);
        }
        let raft = self.raft_mut(to).expect("it has a core");
        if packet.request {
            raft.askers.insert((packet.envelope.from, packet.envelope.request), from);
        }
        say!(self, "{to:?} hears {:?}", packet.envelope);
        self.oracle.arrives(&packet.envelope);
        if let Message::Install(install) = &packet.envelope.message {
            self.snapshot_arrives(to, &install.snapshot);
        }
        self.input(to, |core| core.step(packet.envelope));
    }

    /// A snapshot has arrived as a whole, before the core hears of it.
    fn snapshot_arrives(&mut self, life: Life, meta: &SnapshotMeta) {
        let process = self.process(life).expect("it runs");
        self.dirs[process.dir.0].disk.offer_snapshot(meta.clone());
        let commit = self.core(life).expect("it has a core").status().commit;
        if commit >= meta.last.index {
            self.counts.overtaken += 1;
        }
    }

    /// Connects to every other member.
    pub fn dial_members(&mut self, life: Life) {
        let Some(raft) = self.raft_mut(life) else { return };
        let own = raft.core.status().id;
        let peers: Vec<NodeId> = raft.core.membership().members.keys().copied().collect();
        for peer in peers.into_iter().filter(|peer| *peer != own) {
            self.dial_soon(life, peer);
        }
    }

    /// Nothing passes on the connections of a node that hears of no leader, and what is idle for long is
    /// closed: so it says hello anew, and may learn that it was removed.
    pub fn close_idle(&mut self, life: Life) {
        let leaderless = |core: &Node| core.status().soft_state.leader.is_none();
        let due = self.now / TICK % IDLE_TICKS == life.0 as u64 % IDLE_TICKS;
        if due && self.core(life).is_some_and(leaderless) {
            self.raft_mut(life).expect("it has a core").links.clear();
            self.dial_members(life);
        }
    }

    /// Connects after a while, unless that is done or under way.
    pub fn dial_soon(&mut self, life: Life, peer: NodeId) {
        let slow = !self.calm && self.rng.random_bool(0.1);
        let delay = self.rng.random_range(1..60) * if slow { 10 } else { 1 };
        let lost_touch = self.process(life).is_some_and(|it| self.dirs[it.dir.0].lost_touch);
        let delay = delay + if lost_touch && !self.calm { 1000 } else { 0 };
        let Some(raft) = self.raft_mut(life) else { return };
        if !raft.links.contains_key(&peer) && raft.dialing.insert(peer) {
            self.after(delay, Event::Dial(life, peer));
        }
    }

    /// The seat that a member's name leads to.
    fn seat_of_member(&self, life: Life, peer: NodeId) -> Option<SeatId> {
        let member = self.core(life)?.membership().members.get(&peer)?.clone();
        self.seats.iter().position(|seat| seat.name == member.name).map(SeatId)
    }

    /// A node dials a peer's seat and says hello.
    pub fn dials(&mut self, life: Life, peer: NodeId) {
        let (Some(to), Some(from)) = (self.seat_of_member(life, peer), self.seat_of(life)) else {
            if let Some(raft) = self.raft_mut(life) {
                raft.dialing.remove(&peer);
            }
            return;
        };
        let id = self.process(life).expect("it runs").id;
        let claims = self.core(life).expect("a member says hello").claims();
        let delay = self.travel();
        if self.loses() || self.cut(from, to) || self.cut(to, from) {
            let refusal = Err(HelloRefusal::Elsewhere);
            self.after(50, Event::HelloAnswered(life, peer, refusal));
        } else {
            let hello = Hello { from: life, id, to, receiver: peer, claims };
            self.after(delay, Event::Hello(hello));
        }
    }

    /// A hello is judged.
    pub fn hello_arrives(&mut self, hello: Hello) {
        let answer = match self.seats[hello.to.0].at {
            Some(life) if self.core(life).is_some() => {
                let process = self.process(life).expect("it runs");
                if process.id == hello.receiver {
                    let claims = self.core(life).expect("it judges").claims();
                    self.judge(life, &hello).map(|()| (life, claims))
                } else {
                    Err(HelloRefusal::Elsewhere)
                }
            }
            _ => Err(HelloRefusal::Elsewhere),
        };
        let delay = self.travel();
        self.after(delay, Event::HelloAnswered(hello.from, hello.receiver, answer));
    }

    /// A hello was taken, or not.
    pub fn hello_answered(
        &mut self,
        life: Life,
        peer: NodeId,
        answer: Result<(Life, Seen), HelloRefusal>,
    ) {
        let Some(raft) = self.raft_mut(life) else { return };
        raft.dialing.remove(&peer);
        match answer {
            Ok((other, claims)) => {
                raft.links.insert(peer, other);
                self.input(life, |core| core.introduced(peer, claims));
                self.input(life, |core| core.greeted(peer));
            }
            Err(HelloRefusal::Elsewhere) => self.dial_soon(life, peer),
            Err(HelloRefusal::WentBack(seen)) => self.went_back(life, peer, seen),
            Err(HelloRefusal::Removed) => self.removed(life, peer),
        }
    }
}
