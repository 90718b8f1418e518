//! A node that another cluster takes in: which one that may be, and that it founds nothing afterwards.

use super::super::*;
use super::world::seed;
use crate::raft::{Boot, ClusterId, Member, NodeId};

const ME: NodeId = NodeId(10);
const OTHERS: ClusterId = ClusterId(0xa);

/// `raft-0` of three, the lowest seat, which would draft.
fn node() -> Founding {
    let seeds = (0..3).map(|n| seed(&format!("raft-{n}"))).collect();
    let address = seed("raft-0").address;
    let me = Me { id: ME, boot: Boot(1), name: "raft-0".to_owned(), address, seeds };
    Founding::new(me, Record::default(), 5)
}

/// What the seats answer: `raft-1` may have a cluster.
fn round(cluster_id: Option<ClusterId>) -> Vec<Asked> {
    let seeds: Vec<Seed> = (0..3).map(|n| seed(&format!("raft-{n}"))).collect();
    let answer = |n: u64| {
        let Seed { name, address } = seed(&format!("raft-{n}"));
        let answer = Answer {
            name: name.clone(),
            node_id: NodeId(10 + n),
            boot: Boot(1),
            address,
            seeds: seeds.clone(),
            cluster_id: cluster_id.filter(|_| n == 1),
            holds: None,
        };
        Asked { seat: Some(name), result: Ok(answer) }
    };
    (0..3).map(answer).collect()
}

fn asked(node: &mut Founding, results: Vec<Asked>) -> Effects {
    let asking = std::iter::repeat_with(|| node.tick().ask).take(10_000).flatten().next();
    let asking = asking.expect("it asks again and again");
    node.asked(asking, results)
}

#[test]
fn one_cluster_is_heard_and_two_are_none() {
    let mut node = node();
    assert_eq!(node.cluster_heard(), None);
    let _ = asked(&mut node, round(Some(OTHERS)));
    assert_eq!(node.cluster_heard(), Some(OTHERS));
    let _ = node.greeted("raft-2", OTHERS);
    assert_eq!(node.cluster_heard(), Some(OTHERS));
    let _ = node.greeted("raft-2", ClusterId(0xb));
    assert_eq!(node.cluster_heard(), None, "it waits and names both");
    assert!(node.waiting().is_some_and(|why| why.contains("different clusters")));
}

#[test]
fn a_node_with_a_draft_may_not_be_taken_in() {
    let mut node = node();
    let effects = asked(&mut node, round(None));
    let token = effects.persist.expect("it drafts").token;
    let _ = node.greeted("raft-1", OTHERS);
    let Stage::Empty = node.record().stage else { panic!("it withdraws its draft") };
    assert_eq!(node.cluster_heard(), None, "but that is not on disk yet");
    let _ = node.persisted(token);
    assert_eq!(node.cluster_heard(), None);
    let _ = node.persisted(RecordToken(token.0 + 1));
    assert_eq!(node.cluster_heard(), Some(OTHERS));
}

#[test]
fn a_node_that_was_taken_in_answers_as_a_member_and_founds_nothing() {
    let mut node = node();
    let _ = asked(&mut node, round(Some(OTHERS)));
    node.taken_in(OTHERS);
    assert_eq!(node.answer().cluster_id, Some(OTHERS));
    assert_eq!(node.waiting(), None);
    assert_eq!(node.cluster_heard(), None, "it has one");
    for _ in 0..5_000 {
        assert_eq!(node.tick(), Effects::default());
    }
    assert_eq!(node.greeted("raft-2", ClusterId(0xb)), Effects::default());

    let member = |n: u64| {
        let Seed { name, address } = seed(&format!("raft-{n}"));
        (NodeId(10 + n), Member { name, address })
    };
    let draft = Draft {
        cluster_id: ClusterId(0xc),
        drafter: NodeId(11),
        seeds: (0..3).map(|n| seed(&format!("raft-{n}"))).collect(),
        members: (0..3).map(member).collect(),
    };
    let from = Sender { name: "raft-1".to_owned(), node_id: NodeId(11) };
    let letter = Letter { from, to: ME, message: Message::Draft(draft) };
    let effects = node.received(letter);
    assert_eq!(effects.persist, None, "true for as long as the cluster is on disk");
    assert!(matches!(effects.reply, Some(Reply::Now(Message::Refuse { for_good: true, .. }))));
}

#[test]
#[should_panic(expected = "a node that holds a draft is not taken in")]
fn taking_in_a_node_that_holds_a_draft_is_fatal() {
    let mut node = node();
    let effects = asked(&mut node, round(None));
    assert!(effects.persist.is_some(), "it drafts");
    node.taken_in(OTHERS);
}
