//! Snapshots (paper §7) and changes of the members (paper §6, dissertation 4), rule by rule, on bare nodes
//! without a network. Elections, replication and commit are in [`paper`](super::paper).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::message::{AppendReply, Install, InstallReply, TimeoutNow};
use super::super::{
    Boot, ChangeRefusal, Effects, Envelope, HardState, Index, LogId, LogShape, MembershipChange,
    Message, Node, Refusal, Restored, RoleKind, SnapshotMeta, Term,
};
use super::bare::{
    append, appended, from, granted, heartbeat, lead, leader_effects, members, node, options,
    persist, role, vote,
};
use super::env::n;

fn snapshot(last: LogId) -> SnapshotMeta {
    SnapshotMeta { last, membership: Arc::new(members(4)), membership_index: Index(1) }
}

fn install(snapshot: SnapshotMeta) -> Message {
    Message::Install(Install { snapshot })
}

fn answer(node: &mut Node, effects: Effects) -> InstallReply {
    match persist(node, effects).last().map(|envelope| envelope.message.clone()) {
        Some(Message::InstallReply(reply)) => reply,
        other => panic!("not a snapshot's answer: {other:?}"),
    }
}

/// §7, InstallSnapshot 6: a log that holds the snapshot's last entry is kept, with what follows it.
#[test]
fn s7_a_log_that_holds_the_snapshots_end_is_kept() {
    let mut follower = node(3, 2, &[1, 1, 2, 2]);
    let effects = follower.step(from(2, 2, install(snapshot(LogId::new(2, 3)))));
    assert!(effects.persist.is_none());
    assert_eq!(effects.commit, Some(Index(3)), "it is news about the commit");
    assert_eq!(answer(&mut follower, effects), InstallReply::Installed { matched: Index(3) });
    assert_eq!(follower.status().last, LogId::new(2, 4));
    assert_eq!(follower.membership(), &members(3), "the log's own");
}

/// §7, InstallSnapshot 7 and 8: any other log is discarded, all of it, and the snapshot's membership
/// becomes active (M6).
#[test]
fn s7_any_other_log_is_discarded() {
    for log in [&[1, 1][..], &[1, 1, 1, 1, 1, 1]] {
        let mut follower = node(3, 2, log);
        let effects = follower.step(from(2, 2, install(snapshot(LogId::new(2, 4)))));
        let batch = effects.persist.clone().expect("a batch");
        assert_eq!(batch.install, Some(snapshot(LogId::new(2, 4))));
        assert_eq!(effects.commit, None, "nothing of the former log is applied any more");
        assert!(effects.restore.is_none() && effects.send_now.is_empty(), "nor said yet (S17)");
        assert_eq!(effects.membership.as_deref(), Some(&members(4)));
        let effects = follower.persisted(batch.token);
        assert_eq!(effects.restore, Some(snapshot(LogId::new(2, 4))));
        let status = follower.status();
        assert_eq!((status.first, status.last), (Index(5), LogId::new(2, 4)));
        assert_eq!((status.commit, status.persisted), (Index(4), Index(4)));
        let effects = follower.applied(Index(4));
        assert_eq!(effects, Effects::default());
        // Entries go on behind it; what is covered is taken for committed (L3).
        let effects = follower.step(from(2, 2, append(LogId::new(1, 3), &[2, 2], 5)));
        let sent = persist(&mut follower, effects);
        assert_eq!(appended(&sent), AppendReply::Accepted { matched: Index(5) });
        assert_eq!(follower.status().commit, Index(5));
    }
}

/// What was committed of the former log, but was still on its way to the disk, is not handed out for
/// applying any more: it may be gone before it is read, and the snapshot covers it.
#[test]
fn s7_nothing_of_a_replaced_log_is_applied() {
    let mut follower = node(3, 2, &[1]);
    let effects = follower.step(from(2, 2, append(LogId::new(1, 1), &[2, 2], 3)));
    assert_eq!(effects.commit, Some(Index(1)), "its disk has no more yet");
    let entries = effects.persist.expect("a batch").token;
    let effects = follower.step(from(2, 2, install(snapshot(LogId::new(2, 9)))));
    let installed = effects.persist.expect("a batch").token;
    assert_eq!(follower.persisted(entries).commit, None);
    let effects = follower.persisted(installed);
    assert_eq!((effects.commit, effects.restore.is_some()), (None, true));
}

/// S10, and what cannot come from a leader: refused, and nothing changes.
#[test]
fn a_snapshot_that_contradicts_what_is_committed_is_refused() {
    let unsound = SnapshotMeta { membership_index: Index(9), ..snapshot(LogId::new(2, 8)) };
    let nobody = SnapshotMeta { membership: Arc::default(), ..snapshot(LogId::new(2, 8)) };
    let future = snapshot(LogId::new(7, 8));
    for bad in [snapshot(LogId::new(1, 3)), unsound, nobody, future] {
        let mut follower = node(3, 2, &[1]);
        let effects = follower.step(from(2, 2, append(LogId::new(1, 1), &[2, 2], 3)));
        persist(&mut follower, effects);
        let before = follower.status();
        let effects = follower.step(from(2, 2, install(bad.clone())));
        assert!(effects.persist.is_none(), "{bad:?}");
        assert_eq!(answer(&mut follower, effects), InstallReply::Refused, "{bad:?}");
        assert_eq!(follower.status(), before, "{bad:?}");
    }
}

/// Figure 13, rule 1: a snapshot of an old leader is not taken.
#[test]
fn s7_a_snapshot_of_an_old_term_is_refused() {
    let mut follower = node(3, 5, &[1]);
    let effects = follower.step(from(2, 4, install(snapshot(LogId::new(2, 4)))));
    assert!(effects.persist.is_none());
    assert_eq!(effects.send_now[0].term, Term(5));
}

/// S11: an answer that claims more than can be in a snapshot proves nothing.
#[test]
fn a_boast_about_a_snapshot_proves_nothing() {
    let mut leader = node(3, 1, &[1]);
    let effects = leader_effects(&mut leader);
    let probe = effects.replicate.iter().find(|range| range.to == n(2)).expect("a probe").request;
    persist(&mut leader, effects);
    let boast = Message::InstallReply(InstallReply::Installed { matched: Index(2) });
    for request in [probe, super::super::RequestId(999)] {
        let effects = leader.step(Envelope { request, ..from(2, 2, boast.clone()) });
        assert_eq!(effects.commit, None);
    }
    assert!(leader.status().peers.iter().all(|peer| peer.matched == Index::ZERO));
}

/// S6: only what is applied is in a snapshot, and only what is in one is purged.
#[test]
fn purging_stays_behind_the_snapshot() {
    let mut single = node(1, 1, &[1]);
    lead(&mut single);
    let (_, effects) = single.propose(vec![Bytes::from_static(b"x"); 20]);
    persist(&mut single, effects);
    assert_eq!(single.status().commit, Index(22));
    let _ = single.applied(Index(15));
    let meta = single.snapshot_at(Index(15)).expect("newer than none");
    assert_eq!((meta.last, meta.membership_index), (LogId::new(2, 15), Index(1)));
    let effects = single.snapshot_taken(meta.last);
    assert_eq!(effects.purge, None, "ten thousand entries trail");
    assert_eq!(single.status().snapshot, LogId::new(2, 15));
    assert_eq!(single.snapshot_at(Index(15)), None, "there is one");
}

#[test]
#[should_panic(expected = "S6")]
fn a_snapshot_of_what_is_not_applied_is_fatal() {
    let mut single = node(1, 1, &[1]);
    lead(&mut single);
    let _ = single.snapshot_taken(LogId::new(1, 1));
}

/// D14, S10: a node does not start from a snapshot and a log that do not belong together.
#[test]
fn a_log_goes_on_from_its_snapshot() {
    let start = |base: (u64, u64), terms: &[u64], last: (u64, u64), applied: u64| {
        let mut log = LogShape::new(LogId::new(base.0, base.1));
        for (at, term) in terms.iter().enumerate() {
            log.push(LogId::new(*term, base.1 + at as u64 + 1), 32);
        }
        let restored = Restored {
            hard_state: HardState { term: Term(5), vote: None },
            log,
            memberships: Vec::new(),
            snapshot: Some(snapshot(LogId::new(last.0, last.1))),
            applied: Index(applied),
            boot: Boot(1),
            seen: BTreeMap::new(),
            reached: Index::ZERO,
        };
        std::panic::catch_unwind(|| Node::new(n(1), options(), 1, restored)).is_ok()
    };
    assert!(start((2, 4), &[2, 3], (2, 4), 4));
    assert!(start((2, 4), &[2, 3], (2, 5), 5));
    assert!(!start((2, 4), &[2, 3], (2, 3), 4), "a hole between the two");
    assert!(!start((2, 4), &[2, 3], (2, 9), 9), "a log that ends before it");
    assert!(!start((2, 4), &[2, 3], (3, 5), 5), "another history");
    assert!(!start((2, 4), &[2, 3], (2, 5), 4), "a state machine older than it");
}

/// A node that waits to be taken in knows nobody: it does not campaign, gives no vote, since no voter was
/// ever without a log, and takes what a leader sends.
#[test]
fn a_blank_node_waits_and_answers() {
    let restored = Restored {
        hard_state: HardState::default(),
        log: LogShape::default(),
        memberships: Vec::new(),
        snapshot: None,
        applied: Index::ZERO,
        boot: Boot(1),
        seen: BTreeMap::new(),
        reached: Index::ZERO,
    };
    let mut blank = Node::new(n(1), options(), 1, restored);
    for _ in 0..100 {
        assert_eq!(blank.tick(), Effects::default());
    }
    let effects = blank.step(from(2, 4, vote(false, 4, LogId::new(3, 9))));
    assert_eq!(granted(&persist(&mut blank, effects)), [false]);
    let effects = blank.step(from(2, 4, install(snapshot(LogId::new(3, 9)))));
    assert_eq!(answer(&mut blank, effects), InstallReply::Installed { matched: Index(9) });
    assert_eq!(blank.membership(), &members(4));
}

/// Dissertation 3.10: a voter that is asked campaigns at once; a node that is none does not.
#[test]
fn d3_10_only_a_voter_campaigns_when_asked() {
    let mut voter = node(3, 1, &[1]);
    let _ = voter.step(from(2, 1, heartbeat(1)));
    let effects = voter.step(from(2, 1, Message::TimeoutNow(TimeoutNow {})));
    assert_eq!(role(&voter), (RoleKind::Candidate, 2), "no pre-vote, however lately it heard one");
    let asked = persist(&mut voter, effects);
    let asks = asked.iter().filter(|it| matches!(&it.message, Message::Vote(it) if it.transfer));
    assert_eq!(asks.count(), 2);
    let mut late = node(3, 5, &[1]);
    let _ = late.step(from(2, 4, Message::TimeoutNow(TimeoutNow {})));
    assert_eq!(role(&late), (RoleKind::Follower, 5), "of an old leader");
}

/// Dissertation 4.3: while the membership is joint, an entry needs a majority of both.
#[test]
fn d4_3_commit_needs_both_majorities() {
    let mut leader = node(3, 1, &[1]);
    let effects = leader_effects(&mut leader);
    let probe = |id: u64, effects: &Effects| {
        effects.replicate.iter().rfind(|range| range.to == n(id)).expect("a range").request
    };
    let accept = |leader: &mut Node, id: u64, request, matched| {
        let reply = Message::AppendReply(AppendReply::Accepted { matched: Index(matched) });
        leader.step(Envelope { request, ..from(id, 2, reply) })
    };
    let (second, third) = (probe(2, &effects), probe(3, &effects));
    assert_eq!(
        leader.change(&MembershipChange::Remove { id: n(3) }).0,
        Err(ChangeRefusal::NotReady)
    );
    persist(&mut leader, effects);
    let _ = accept(&mut leader, 2, second, 2);
    let _ = accept(&mut leader, 3, third, 2);
    // {1, 2, 3} to {2, 3}: of the new voters the leader is none.
    let (result, effects) = leader.change(&MembershipChange::Remove { id: n(1) });
    assert_eq!(result, Ok(LogId::new(2, 3)));
    assert!(effects.membership.as_ref().is_some_and(|it| it.is_joint()), "active at once (M1)");
    let (second, third) = (probe(2, &effects), probe(3, &effects));
    persist(&mut leader, effects);
    let _ = accept(&mut leader, 2, second, 3);
    assert_eq!(leader.status().commit, Index(2), "two of the old, one of the new");
    let effects = accept(&mut leader, 3, third, 3);
    assert_eq!(leader.status().commit, Index(3));
    assert!(effects.membership.is_some_and(|it| !it.is_joint()), "completed in the same breath");
    assert_eq!(role(&leader).0, RoleKind::Leader, "until its departure is committed (M4)");
}

/// E12: a leader that hands over takes nothing, whatever it is asked.
#[test]
fn e12_nothing_is_accepted_while_handing_over() {
    let mut leader = node(3, 1, &[1]);
    lead(&mut leader);
    assert_eq!(leader.successor(), Some(n(2)));
    let (result, _) = leader.transfer(n(2));
    assert_eq!(result, Ok(()));
    let refusal = Refusal::Transferring { to: n(2) };
    assert_eq!(leader.propose(vec![Bytes::new()]).0, Err(refusal));
    let read = leader.read_index(super::super::ReadToken(1)).reads;
    assert_eq!(read[0].result, Err(refusal));
    let change = MembershipChange::Remove { id: n(3) };
    assert_eq!(leader.change(&change).0, Err(ChangeRefusal::Transferring { to: n(2) }));
}
