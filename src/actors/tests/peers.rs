//! Lines to peers: they follow the membership.

use std::sync::{Arc, Mutex};

use actix::prelude::*;

use crate::actors::messages::{Leave, Replicate, SendRequest, StreamSnapshot};
use crate::actors::peers::{Line, Peer, Peers};
use crate::raft::{
    Entry, Index, LogId, Member, Membership, NodeId, Payload, RequestId, SendRange, SendSnapshot,
    Term,
};

use super::{World, answered, eventually, membership};

/// Lines that write down what they are told, for which peer, in order.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<String>>>);

struct Recorder {
    peer: Peer,
    lines: Lines,
}

impl Lines {
    pub(super) fn starter(&self) -> impl Fn(Peer) -> Line + 'static {
        let lines = self.clone();
        move |peer| {
            lines.note(format!("start {} at {}", peer.id.0, peer.member.address));
            Line::to(&Recorder { peer, lines: lines.clone() }.start())
        }
    }

    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    pub(super) fn said(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Recorder {
    fn note(&self, what: &str) {
        self.lines.note(format!("{what} {} at {}", self.peer.id.0, self.peer.member.address));
    }
}

impl Handler<Replicate> for Recorder {
    type Result = ();

    fn handle(&mut self, _: Replicate, _: &mut Self::Context) {
        self.note("range");
    }
}

impl Handler<SendRequest> for Recorder {
    type Result = ();

    fn handle(&mut self, _: SendRequest, _: &mut Self::Context) {
        self.note("request");
    }
}

impl Handler<StreamSnapshot> for Recorder {
    type Result = ();

    fn handle(&mut self, _: StreamSnapshot, _: &mut Self::Context) {
        self.note("snapshot");
    }
}

impl Handler<Leave> for Recorder {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        self.note("leave");
        ctx.stop();
    }
}

fn range(to: u64, request: u64) -> SendRange {
    SendRange {
        to: NodeId(to),
        request: RequestId(request),
        term: Term(1),
        base: LogId::new(1, 1),
        upto: Index(1),
        commit: Index(1),
    }
}

fn snapshot(to: u64, request: u64) -> SendSnapshot {
    let (to, request) = (NodeId(to), RequestId(request));
    SendSnapshot { to, request, term: Term(1), snapshot: LogId::new(1, 1) }
}

fn of(ids: &[u64]) -> Membership {
    let member = |n: u64| Member { name: format!("raft-{n}"), address: format!("h{n}:1") };
    Membership::of_voters(ids.iter().map(|n| (NodeId(*n), member(*n))).collect())
}

#[actix_rt::test]
async fn a_line_lives_from_its_members_appearance_until_a_while_after_it_left() {
    let lines = Lines::default();
    let mut peers = Peers::new(NodeId(1), 2, lines.starter());
    peers.follow(&of(&[1, 2, 3]));
    assert_eq!(lines.said(), ["start 2 at h2:1", "start 3 at h3:1"], "none to itself");

    // Nobody is there to take it: unanswered, at the next tick and once.
    peers.replicate(range(4, 70));
    peers.snapshot(snapshot(4, 71));
    let unanswered = [70, 71].map(|request| (NodeId(4), RequestId(request)));
    assert_eq!(peers.tick(), unanswered);
    assert_eq!(peers.tick(), []);

    peers.follow(&of(&[1, 2, 4]));
    peers.snapshot(snapshot(4, 72));
    peers.replicate(range(3, 73));
    assert_eq!(peers.tick(), [], "a peer that has just left is still told so");
    assert_eq!(peers.tick(), []);
    assert_eq!(peers.tick(), []);
    peers.replicate(range(3, 74));
    assert_eq!(peers.tick(), [(NodeId(3), RequestId(74))], "its farewell is over");
    let expected = ["start 4 at h4:1", "snapshot 4 at h4:1", "range 3 at h3:1", "leave 3 at h3:1"];
    eventually("each line was told its part", || {
        let mut said = lines.said().split_off(2);
        said.sort();
        let mut expected = expected.map(str::to_owned);
        expected.sort();
        said == expected
    })
    .await;
}

#[actix_rt::test]
async fn one_who_comes_back_keeps_its_line_and_one_who_moved_gets_another() {
    let lines = Lines::default();
    let mut peers = Peers::new(NodeId(1), 1, lines.starter());
    peers.follow(&of(&[1, 2, 3]));
    peers.follow(&of(&[1, 2]));
    peers.follow(&of(&[1, 2, 3]));
    for _ in 0..4 {
        assert_eq!(peers.tick(), []);
    }
    assert_eq!(lines.said(), ["start 2 at h2:1", "start 3 at h3:1"]);

    let mut moved = of(&[1, 2, 3]);
    moved.members.get_mut(&NodeId(3)).unwrap().address = "elsewhere:1".to_owned();
    peers.follow(&moved);
    peers.replicate(range(3, 1));
    let expected = ["start 3 at elsewhere:1", "leave 3 at h3:1", "range 3 at elsewhere:1"];
    eventually("the former line ends", || {
        expected.iter().all(|what| lines.said().contains(&(*what).to_owned()))
    })
    .await;
    assert_eq!(lines.said().len(), 5);
}

/// M1: a membership counts from being appended on, and so do the lines.
#[actix_rt::test]
async fn a_node_follows_the_membership_that_it_appends() {
    let mut world = World::new();
    world.allow_syncs(8);
    let mut wider = membership();
    let member = Member { name: "raft-4".to_owned(), address: "h4:1".to_owned() };
    wider.members.insert(NodeId(4), member);
    let payload = Payload::Membership(Arc::new(wider));
    let entry = Entry { id: LogId::new(2, 2), payload };
    let reply = world.append_behind(LogId::new(1, 1), vec![entry], Index::ZERO);
    answered(reply).await;
    let expected = ["start 2 at h2:1", "start 3 at h3:1", "start 4 at h4:1"];
    assert_eq!(world.lines.said(), expected);
    assert!(world.standing.present().membership.contains(NodeId(4)), "and it is published");
}
