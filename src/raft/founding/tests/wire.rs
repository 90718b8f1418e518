//! The wire and disk forms: named fields, and older bytes without the newer fields are still read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::super::*;
use super::world::seed;
use crate::raft::{Boot, ClusterId, Member, NodeId};

fn draft() -> Draft {
    let member = |name: &str| Member { name: name.to_owned(), address: seed(name).address };
    Draft {
        cluster_id: ClusterId(7),
        drafter: NodeId(u64::MAX),
        seeds: vec![seed("raft-0"), seed("raft-1")],
        members: BTreeMap::from([
            (NodeId(u64::MAX), member("raft-0")),
            (NodeId(2), member("raft-1")),
        ]),
    }
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = rmp_serde::to_vec_named(value).expect("encodes");
    let back: T = rmp_serde::from_slice(&bytes).expect("decodes");
    assert_eq!(&back, value);
}

#[test]
fn every_message_and_record_survives_messagepack() {
    let from = Sender { name: "raft-0".to_owned(), node_id: NodeId(u64::MAX) };
    let id = ClusterId(7);
    for message in [
        Message::Draft(draft()),
        Message::Accept { draft: id },
        Message::Refuse { draft: id, for_good: true, why: "no".to_owned() },
        Message::Withdraw { draft: id },
        Message::Decided(draft()),
        Message::Inquire { draft: id, drafter: NodeId(2), gone: true },
    ] {
        let letter = Letter { from: from.clone(), to: NodeId(2), message };
        round_trip(&letter);
        round_trip(&Delivered { letter: Some(letter) });
    }
    round_trip(&Delivered::default());
    round_trip(&Ask { from });
    for stage in [Stage::Empty, Stage::Held(draft()), Stage::Decided(draft())] {
        round_trip(&Record { stage, refused: [ClusterId(3), ClusterId(u64::MAX)].into() });
    }
}

#[test]
fn an_answer_without_the_optional_fields_is_read_and_unknown_fields_are_skipped() {
    #[derive(Serialize, Deserialize)]
    struct Other {
        name: String,
        node_id: u64,
        address: String,
        seeds: Vec<Seed>,
        added_in_a_later_version: Vec<u8>,
    }
    let other = Other {
        name: "raft-1".to_owned(),
        node_id: 9,
        address: "h:1".to_owned(),
        seeds: vec![seed("raft-0")],
        added_in_a_later_version: vec![1, 2],
    };
    let bytes = rmp_serde::to_vec_named(&other).expect("encodes");
    let answer: Answer = rmp_serde::from_slice(&bytes).expect("decodes");
    assert_eq!((answer.node_id, answer.boot, answer.cluster_id), (NodeId(9), Boot(0), None));
}

#[test]
fn an_empty_record_file_body_is_an_empty_record() {
    let record: Record = rmp_serde::from_slice(&[0x80]).expect("decodes");
    assert_eq!(record, Record::default());
}

#[test]
fn a_member_answers_with_its_record_or_never_accepts() {
    let me = NodeId(2);
    let ask = |draft: u64, drafter: u64| Message::Inquire {
        draft: ClusterId(draft),
        drafter: NodeId(drafter),
        gone: false,
    };
    let reply = |message| member_reply(me, ClusterId(7), Some(&draft()), &message);
    assert_eq!(reply(ask(7, 1)), Some(Message::Decided(draft())));
    assert_eq!(reply(ask(8, 2)), Some(Message::Withdraw { draft: ClusterId(8) }));
    assert!(matches!(reply(ask(8, 1)), Some(Message::Refuse { for_good: true, .. })));
    assert_eq!(reply(Message::Accept { draft: ClusterId(7) }), None);
    // Taken in, so without a record: it has no decision to tell, even of its own cluster.
    let taken_in = member_reply(me, ClusterId(7), None, &Message::Draft(draft()));
    assert!(matches!(taken_in, Some(Message::Refuse { for_good: true, .. })));
}

#[test]
fn the_first_entry_is_the_same_on_every_member() {
    let founded = draft().founded();
    assert_eq!(founded.entry().id, crate::raft::types::LogId::new(1, 1));
    assert_eq!(founded.hard_state().term, founded.entry().id.term);
    assert_eq!(founded.entry(), draft().founded().entry());
    assert_eq!(founded.membership.voters.len(), 2);
}
