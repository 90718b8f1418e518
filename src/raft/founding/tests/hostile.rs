//! Letters that no sound node writes: nothing in them is believed, and nothing ends the process.

use std::collections::BTreeMap;

use super::super::*;
use super::world::seed;
use crate::raft::{Boot, ClusterId, Member, NodeId};

const ME: NodeId = NodeId(11);
const CLUSTER: ClusterId = ClusterId(77);

/// `raft-1` of `count` seats, with an empty directory.
fn node(count: u64) -> Founding {
    let seeds = (0..count).map(|n| seed(&format!("raft-{n}"))).collect();
    let address = seed("raft-1").address;
    Founding::new(
        Me { id: ME, boot: Boot(1), name: "raft-1".to_owned(), address, seeds },
        Record::default(),
        5,
    )
}

/// Node 10 in `raft-0`, 11 in `raft-1`, and so on.
fn draft(count: u64) -> Draft {
    let name = |n: u64| format!("raft-{n}");
    let member = |n| Member { name: name(n), address: seed(&name(n)).address };
    Draft {
        cluster_id: CLUSTER,
        drafter: NodeId(10),
        seeds: (0..count).map(|n| seed(&name(n))).collect(),
        members: (0..count).map(|n| (NodeId(10 + n), member(n))).collect(),
    }
}

fn letter(name: &str, from: u64, message: Message) -> Letter {
    Letter { from: Sender { name: name.to_owned(), node_id: NodeId(from) }, to: ME, message }
}

/// A node that has accepted `draft(count)` and has it on disk.
fn holder(count: u64) -> Founding {
    let mut node = node(count);
    let effects = node.received(letter("raft-0", 10, Message::Draft(draft(count))));
    let Some(Persist { token, record }) = effects.persist else { panic!("it accepts") };
    assert_eq!(record.stage, Stage::Held(draft(count)));
    assert_eq!(effects.reply, Some(Reply::AfterPersist(token, Message::Accept { draft: CLUSTER })));
    assert_eq!(node.persisted(token), Effects::default());
    node
}

fn refuses(draft: Draft, name: &str, from: u64) {
    let mut node = node(3);
    let effects = node.received(letter(name, from, Message::Draft(draft)));
    assert_eq!(effects.persist, None);
    let refused =
        matches!(effects.reply, Some(Reply::Now(Message::Refuse { for_good: false, .. })));
    assert!(refused, "{:?}", effects.reply);
}

#[test]
fn a_draft_is_accepted_only_whole_and_from_its_drafter() {
    refuses(draft(3), "raft-2", 12);
    refuses(draft(3), "raft-0", 99);
    refuses(draft(3), "raft-9", 10);
    refuses(draft(2), "raft-0", 10); // another seed list
    refuses(Draft { drafter: NodeId(12), ..draft(3) }, "raft-2", 12); // not the lowest seat

    let without = |id: u64| {
        let mut draft = draft(3);
        draft.members.remove(&NodeId(id));
        draft
    };
    refuses(without(12), "raft-0", 10);
    let mut stranger = without(11);
    stranger.members.insert(NodeId(98), draft(3).members[&ME].clone());
    refuses(stranger, "raft-0", 10); // somebody else in this node's seat
    let mut swapped = without(12);
    let other = swapped.members.insert(ME, draft(3).members[&NodeId(12)].clone());
    swapped.members.extend(other.map(|member| (NodeId(12), member)));
    refuses(swapped, "raft-0", 10); // this node in another's seat
    refuses(Draft { seeds: Vec::new(), members: BTreeMap::new(), ..draft(3) }, "raft-0", 10);
}

#[test]
fn a_letter_for_another_node_or_from_itself_is_dropped() {
    let mut node = node(3);
    let mut wrong = letter("raft-0", 10, Message::Draft(draft(3)));
    wrong.to = NodeId(55);
    assert_eq!(node.received(wrong), Effects::default());
    assert_eq!(node.received(letter("raft-1", 11, Message::Draft(draft(3)))), Effects::default());
}

#[test]
fn a_decision_is_learned_only_of_the_held_draft() {
    assert_eq!(
        node(3).received(letter("raft-0", 10, Message::Decided(draft(3)))),
        Effects::default()
    );
    let mut altered = draft(3);
    altered.members.get_mut(&NodeId(12)).expect("listed").address = "elsewhere:1".to_owned();
    for (name, from, decided) in
        [("raft-0", 10, altered), ("raft-0", 99, draft(3)), ("raft-7", 10, draft(3))]
    {
        let mut node = holder(3);
        assert_eq!(
            node.received(letter(name, from, Message::Decided(decided))),
            Effects::default()
        );
        assert_eq!(node.record().stage, Stage::Held(draft(3)));
    }
    let mut node = holder(3);
    let effects = node.received(letter("raft-2", 12, Message::Decided(draft(3))));
    assert_eq!(node.answer().cluster_id, None, "not before it is on disk");
    let founded = node.persisted(effects.persist.expect("written").token).founded;
    assert_eq!(founded, Some(draft(3).founded()));
    assert_eq!(node.answer().cluster_id, Some(CLUSTER));
}

#[test]
fn only_the_drafter_withdraws_and_only_the_other_listed_nodes_free_by_refusing() {
    let refuse = || Message::Refuse { draft: CLUSTER, for_good: true, why: String::new() };
    let withdraw = || Message::Withdraw { draft: CLUSTER };
    let keeps = |count: u64, name: &str, from: u64, message: Message| {
        let mut node = holder(count);
        assert_eq!(node.received(letter(name, from, message)).persist, None);
        assert_eq!(node.record().stage, Stage::Held(draft(count)));
    };
    keeps(3, "raft-2", 12, withdraw());
    keeps(3, "raft-0", 99, withdraw());
    keeps(3, "raft-0", 10, refuse()); // a drafter withdraws, it does not refuse
    keeps(3, "raft-2", 99, refuse());
    keeps(3, "raft-2", 12, Message::Refuse { draft: CLUSTER, for_good: false, why: String::new() });
    keeps(2, "raft-0", 10, refuse()); // nobody's refusals are not everybody's
    keeps(4, "raft-2", 12, refuse()); // one of two

    let mut node = holder(4);
    let first = node.received(letter("raft-2", 12, refuse()));
    assert_eq!(first.persist, None);
    let second = node.received(letter("raft-3", 13, refuse()));
    let record = second.persist.expect("let go").record;
    assert_eq!(record, Record { stage: Stage::Empty, refused: [CLUSTER].into() });
}

#[test]
fn refusals_for_good_are_bounded_and_then_given_for_now_only() {
    let mut node = node(3);
    let inquire =
        |n: u64| Message::Inquire { draft: ClusterId(n), drafter: NodeId(10), gone: true };
    for n in 1..=2000 {
        let effects = node.received(letter("raft-2", 12, inquire(n)));
        assert_eq!(effects.reply.is_some(), effects.persist.is_some());
    }
    assert_eq!(node.record().refused.len(), 1024);
    let again = node.received(letter("raft-2", 12, inquire(1)));
    assert!(again.reply.is_some(), "what was refused stays refused");
}
