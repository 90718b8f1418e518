//! What a store is made of beyond its map: members, a frozen look, a history of hashes, and what a
//! restored store may not be.

use std::sync::Arc;

use bytes::Bytes;

use super::{Log, bytes, delete, put, written};
use crate::kv::command::{Applied, Outcome, Versioned};
use crate::kv::frozen::SavedSession;
use crate::kv::history::HISTORY_MAX;
use crate::kv::limits::{KEY_BYTES_MAX, SERIAL_WINDOW, VALUE_BYTES_MAX};
use crate::kv::restore::{Restore, Unsound};
use crate::kv::sessions::Bounds;
use crate::kv::{History, Store};
use crate::raft::membership::{Member, Membership};
use crate::raft::types::{Index, LogId, NodeId};

fn member(name: &str, address: &str) -> Member {
    Member { name: name.to_owned(), address: address.to_owned() }
}

/// Two voters, a learner, a change under way, and a retired seat.
fn members() -> Membership {
    let of = |id: u64| (NodeId(id), member(&format!("raft-{id}"), &format!("h{id}:6000")));
    Membership {
        members: [of(1), of(2), of(3)].into(),
        voters: [NodeId(1), NodeId(2)].into(),
        outgoing: [NodeId(1)].into(),
        retired: ["raft-7".to_owned()].into(),
    }
}

fn hash_with(index: u64, members: Membership) -> u64 {
    let mut store = Store::new();
    for index in 1..index {
        store.skip(LogId::new(1, index));
    }
    store.apply_membership(LogId::new(1, index), &Arc::new(members));
    store.state_hash()
}

#[test]
fn every_field_of_the_members_counts_for_the_hash_and_so_does_its_index_s5() {
    let changes: [fn(&mut Membership); 10] = [
        |_| {},
        |m| m.members.get_mut(&NodeId(1)).unwrap().name.push('0'),
        |m| m.members.get_mut(&NodeId(3)).unwrap().address.push('0'),
        |m| m.members.extend([(NodeId(4), member("raft-4", "h4:6000"))]),
        |m| m.members.retain(|id, _| *id != NodeId(3)),
        |m| m.voters.extend([NodeId(3)]),
        |m| m.outgoing.extend([NodeId(2)]),
        |m| m.outgoing.clear(),
        |m| m.retired.extend(["raft-8".to_owned()]),
        |m| m.retired.clear(),
    ];
    let mut hashes: Vec<u64> = changes
        .iter()
        .map(|change| {
            let mut members = members();
            change(&mut members);
            hash_with(3, members)
        })
        .collect();
    hashes.extend([hash_with(4, members()), Store::new().state_hash()]);
    // A voter less and an outgoing one more are not the same as nothing.
    let mut moved = members();
    moved.voters.remove(&NodeId(2));
    moved.outgoing.insert(NodeId(2));
    hashes.push(hash_with(3, moved));
    let count = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), count);
    assert_eq!(hash_with(3, members()), hash_with(3, members()));
}

/// As `the_hash_is_pinned`, and for the same reason.
#[test]
fn the_hash_of_the_members_is_pinned() {
    assert_eq!(hash_with(3, members()), 0xbf6d205d5b3a51ac);
}

#[test]
fn a_later_membership_takes_the_place_of_the_earlier_one() {
    let (mut one, mut other) = (Store::new(), Store::new());
    let (first, second) = (Arc::new(Membership::default()), Arc::new(members()));
    one.apply_membership(LogId::new(1, 1), &first);
    other.skip(LogId::new(1, 1));
    assert_ne!(one.state_hash(), other.state_hash());
    one.apply_membership(LogId::new(1, 2), &second);
    other.apply_membership(LogId::new(1, 2), &second);
    assert_eq!(one.state_hash(), other.state_hash());
    assert_eq!(one.freeze().membership(), Some((Index(2), &second)));
    assert_eq!(Store::new().freeze().membership(), None);
}

#[test]
fn what_is_frozen_stays_while_the_store_goes_on_and_goes_to_any_thread() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    let kept = log.write(s, 1, 1, put("x", "old"));
    let frozen = log.store.freeze();
    let before = (log.store.state_hash(), log.store.applied());
    log.write(s, 2, 2, put("x", "new"));
    log.write(s, 3, 3, delete("x"));
    log.open();
    let seen = std::thread::spawn(move || {
        assert_eq!((frozen.state_hash(), frozen.applied().index), before);
        let entries: Vec<_> = frozen.entries_after(None).collect();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].1.value, "old");
        assert_eq!(frozen.entries_after(Some(b"x")).count(), 0);
        assert_eq!((frozen.revision(), frozen.session_count()), (1, 1));
        frozen.sessions_after(0).collect::<Vec<_>>()
    });
    let saved = SavedSession { id: s, touched: 2, answered_below: 1, replies: vec![(1, kept)] };
    assert_eq!(seen.join().expect("joins"), [saved]);
}

#[test]
fn the_history_knows_the_newest_indexes_and_no_others() {
    let mut history = History::default();
    assert_eq!(history.at(Index(0)), None);
    for index in 5..=9 {
        history.note(Index(index), index * 10);
    }
    assert_eq!(
        [4, 5, 7, 9, 10].map(|i| history.at(Index(i))),
        [None, Some(50), Some(70), Some(90), None]
    );
    assert_eq!(history.ask(Index(6)), Some(60));
    // A snapshot was installed: what was before it was another past.
    history.note(Index(100), 7);
    assert_eq!([6, 9, 100].map(|i| history.at(Index(i))), [None, None, Some(7)]);
    assert_eq!(history.last(), Index(100));
}

#[test]
fn a_full_history_forgets_the_oldest_but_not_what_was_asked_for() {
    let mut history = History::default();
    let last = HISTORY_MAX as u64 + 10;
    for index in 1..=last {
        history.note(Index(index), index);
        if index == 3 {
            assert_eq!(history.ask(Index(3)), Some(3));
            assert_eq!(history.ask(Index(4)), None, "it is not there yet");
        }
    }
    assert_eq!([2, 3, 10, 11].map(|i| history.at(Index(i))), [None, Some(3), None, Some(11)]);
    assert_eq!(history.ask(Index(last)), Some(last));
    assert_eq!(history.at(Index(3)), None, "the newest question only");
}

fn versioned(create_revision: u64, mod_revision: u64, version: u64) -> Versioned {
    Versioned { value: Bytes::new(), create_revision, mod_revision, version }
}

fn reply(index: u64, outcome: Outcome) -> Applied {
    Applied { index, term: 1, outcome }
}

#[test]
fn keys_that_no_store_holds_are_refused() {
    let mut restore = Restore::new(10);
    assert_eq!(restore.entry(bytes("b"), versioned(2, 10, 9)), Ok(()));
    for key in ["", "a", "b"] {
        restore.entry(bytes(key), versioned(1, 1, 1)).expect_err("not behind the last");
    }
    for (create, changed, version) in [(0, 1, 1), (3, 2, 1), (1, 11, 1), (1, 1, 0), (2, 5, 5)] {
        let refused = restore.entry(bytes("c"), versioned(create, changed, version));
        assert_eq!(refused, Err(Unsound::Revisions), "{create} {changed} {version}");
    }
    let long = Bytes::from(vec![b'x'; KEY_BYTES_MAX + 1]);
    assert!(matches!(restore.entry(long, versioned(1, 1, 1)), Err(Unsound::Limit(_))));
    let value = Bytes::from(vec![b'x'; VALUE_BYTES_MAX + 1]);
    let large = Versioned { value, ..versioned(1, 1, 1) };
    assert!(matches!(restore.entry(bytes("c"), large), Err(Unsound::Limit(_))));
}

#[test]
fn sessions_that_no_store_holds_are_refused() {
    let ok = || SavedSession {
        id: 4,
        touched: 9,
        answered_below: 3,
        replies: vec![(3, reply(5, written(10, true))), (5, reply(9, Outcome::Rejected))],
    };
    let broken: [fn(&mut SavedSession); 13] = [
        |s| s.id = 0,
        |s| s.touched = 3,
        |s| s.answered_below = 0,
        |s| s.answered_below = 4,
        |s| s.replies[1].0 = 3,
        |s| s.replies[1].0 = 2,
        |s| s.replies[1].0 = 3 + SERIAL_WINDOW,
        |s| s.replies[0].1.index = 4,
        |s| s.replies[1].1.index = 10,
        |s| s.replies[0].1.outcome = written(11, true),
        |s| s.replies[0].1.outcome = Outcome::Session { session: 1 },
        |s| s.replies[0].1.outcome = Outcome::SessionExpired,
        |s| s.replies[0].1.outcome = Outcome::SerialOutOfWindow,
    ];
    for (case, change) in broken.iter().enumerate() {
        let mut session = ok();
        change(&mut session);
        let refused = Restore::new(10).session(session);
        assert!(matches!(refused, Err(Unsound::Session { .. })), "case {case}: {refused:?}");
    }
    let mut restore = Restore::new(10);
    assert_eq!(restore.session(ok()), Ok(()));
    restore.session(ok()).expect_err("twice");
    let second = SavedSession { id: 5, replies: vec![], ..ok() };
    restore.session(second).expect_err("one entry names one session");
}

#[test]
fn a_restored_store_holds_nothing_newer_than_its_last_entry_and_has_the_named_hash() {
    let members = Arc::new(members());
    let finish = |last: LogId, at: u64, expected: u64| {
        let mut restore = Restore::new(2);
        restore.entry(bytes("k"), versioned(1, 2, 2)).expect("sound");
        let replies = vec![(1, Applied { index: 8, term: 3, outcome: Outcome::Rejected })];
        let session = SavedSession { id: 4, touched: 9, answered_below: 1, replies };
        restore.session(session).expect("sound");
        restore.finish(last, Index(at), Arc::clone(&members), expected)
    };
    for (last, at) in [(LogId::new(3, 8), 1), (LogId::new(2, 9), 1), (LogId::new(3, 9), 10)] {
        assert_eq!(finish(last, at, 0).err(), Some(Unsound::TooNew { last }), "{last} {at}");
    }
    let last = LogId::new(3, 9);
    let Err(Unsound::Hash { expected: 0, found }) = finish(last, 1, 0) else {
        panic!("a hash of zero");
    };
    let store = finish(last, 1, found).expect("sound");
    assert_eq!((store.applied(), store.state_hash()), (Index(9), found));
    store.sessions().check();
    let other = finish(last, 2, found).expect_err("the index of the members is part of it");
    assert!(matches!(other, Unsound::Hash { .. }));
}
