//! The node's lines to its peers: one for each other member, from the moment at which the membership
//! names it (M1), and for a while one to each that has just left, since the core still tells it so.
//!
//! What when a peer has no line? Whatever is for it counts as unanswered, which the core hears with
//! the next tick: late enough that asking again for ever costs nothing, soon enough to notice.

use std::collections::BTreeMap;

use actix::prelude::*;

use crate::raft::{Envelope, Member, Membership, NodeId, RequestId, SendRange, SendSnapshot};

use super::deliver::Deliver;
use super::messages::{Leave, Replicate, SendRequest, StreamSnapshot};

/// A peer: a node and its seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its node id.
    pub id: NodeId,
    /// Its seat.
    pub member: Member,
}

/// What takes messages to one peer: its replicator, or what stands for it in a test.
pub struct Line {
    ranges: Recipient<Replicate>,
    requests: Recipient<SendRequest>,
    snapshots: Recipient<StreamSnapshot>,
    leave: Recipient<Leave>,
}

impl Line {
    /// The line that this actor is.
    #[must_use]
    pub fn to<A>(actor: &Addr<A>) -> Line
    where
        A: Actor<Context = Context<A>>
            + Handler<Replicate>
            + Handler<SendRequest>
            + Handler<StreamSnapshot>
            + Handler<Leave>,
    {
        Line {
            ranges: actor.clone().recipient(),
            requests: actor.clone().recipient(),
            snapshots: actor.clone().recipient(),
            leave: actor.clone().recipient(),
        }
    }
}

struct Held {
    member: Member,
    line: Line,
    /// Ticks after which it ends, if its peer is no member any more.
    left: Option<u32>,
}

/// See the module.
pub struct Peers {
    own: NodeId,
    /// Ticks for which a peer that has left keeps its line.
    farewell: u32,
    start: Box<dyn Fn(Peer) -> Line>,
    held: BTreeMap<NodeId, Held>,
    /// Requests for which there was no line.
    unanswered: Vec<(NodeId, RequestId)>,
}

impl Peers {
    /// No peers yet. `start` makes a line; one of a peer that has left lives for `farewell` ticks, the
    /// longest election timeout.
    #[must_use]
    pub fn new(own: NodeId, farewell: u32, start: impl Fn(Peer) -> Line + 'static) -> Peers {
        let (held, unanswered) = (BTreeMap::new(), Vec::new());
        Peers { own, farewell, start: Box::new(start), held, unanswered }
    }

    /// The membership is this one from now on: starts the lines that are missing.
    pub fn follow(&mut self, membership: &Membership) {
        for (id, member) in &membership.members {
            if *id == self.own {
                continue;
            }
            match self.held.get_mut(id) {
                Some(held) if held.member == *member => held.left = None,
                _ => {
                    let peer = Peer { id: *id, member: member.clone() };
                    let line = (self.start)(peer);
                    let held = Held { member: member.clone(), line, left: None };
                    if let Some(former) = self.held.insert(*id, held) {
                        former.end();
                    }
                }
            }
        }
        for (id, held) in &mut self.held {
            if !membership.contains(*id) && held.left.is_none() {
                held.left = Some(self.farewell);
            }
        }
    }

    /// Counts one tick: ends the lines whose time is over, and returns what counts as unanswered.
    #[must_use]
    pub fn tick(&mut self) -> Vec<(NodeId, RequestId)> {
        self.held.retain(|_, held| match &mut held.left {
            Some(0) => {
                held.end();
                false
            }
            Some(ticks) => {
                *ticks -= 1;
                true
            }
            None => true,
        });
        std::mem::take(&mut self.unanswered)
    }

    /// Takes a range to its peer.
    pub fn replicate(&mut self, range: SendRange) {
        match self.held.get(&range.to) {
            // Bounded by the core's window of unanswered appends; must not be lost.
            Some(held) => held.line.ranges.deliver(Replicate(range)),
            None => self.unanswered.push((range.to, range.request)),
        }
    }

    /// Takes a request to its peer.
    pub fn request(&mut self, envelope: Envelope) {
        match self.held.get(&envelope.to) {
            // One vote or heartbeat for each peer and round, each answered or given up; must not be
            // lost silently.
            Some(held) => held.line.requests.deliver(SendRequest(envelope)),
            None => self.unanswered.push((envelope.to, envelope.request)),
        }
    }

    /// Has a snapshot sent to its peer.
    pub fn snapshot(&mut self, send: SendSnapshot) {
        match self.held.get(&send.to) {
            // One at a time for each peer; must not be lost.
            Some(held) => held.line.snapshots.deliver(StreamSnapshot(send)),
            None => self.unanswered.push((send.to, send.request)),
        }
    }
}

impl Held {
    fn end(&self) {
        // Once for each line; without it its connections would stay.
        self.line.leave.deliver(Leave);
    }
}
