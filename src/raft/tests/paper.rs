//! The rules of the Raft paper (extended version) and of the dissertation, each by its section, on
//! bare nodes without a network.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::message::{Append, AppendReply, HeartbeatReply, ReadRound};
use super::super::{
    Boot, Effects, Entry, Envelope, HardState, Index, LogId, LogShape, Message, NodeId, Payload,
    ReadToken, Refusal, RequestId, RoleKind, Term,
};
use super::super::{Node, Restored};
use super::bare::{
    ELECTION, append, appended, from, granted, heartbeat, lead, leader_effects, members, node,
    options, persist, role, seeded, vote,
};
use super::env::n;

/// §5.1: "If one server's current term is smaller than the other's, then it updates its current term
/// to the larger value", as candidate and as leader.
#[test]
fn s5_1_a_larger_term_is_adopted() {
    let mut leader = node(3, 1, &[1]);
    lead(&mut leader);
    let effects = leader.step(from(2, 7, heartbeat(0)));
    assert!(effects.leadership_lost);
    assert_eq!(effects.persist.and_then(|batch| batch.hard_state).map(|s| s.term), Some(Term(7)));
    assert_eq!(role(&leader), (RoleKind::Follower, 7));
}

/// §5.1: "If a server receives a request with a stale term number, it rejects the request." It is
/// answered, so that the sender learns of the larger term.
#[test]
fn s5_1_requests_of_an_old_term_are_answered_and_change_nothing() {
    for message in [heartbeat(1), append(LogId::ZERO, &[1], 1), vote(false, 4, LogId::new(4, 9))] {
        let mut follower = node(3, 5, &[1]);
        let before = follower.status();
        let effects = follower.step(from(2, 4, message));
        assert!(effects.persist.is_none());
        assert_eq!(effects.send_now.len(), 1, "one reply");
        assert_eq!(effects.send_now[0].term, Term(5));
        assert_eq!(effects.send_now[0].request, RequestId(2));
        assert_eq!(follower.status(), before);
    }
}

/// §5.2: leaders send periodic heartbeats.
#[test]
fn s5_2_a_leader_sends_heartbeats_at_their_pace() {
    let mut leader = node(3, 1, &[1]);
    lead(&mut leader);
    let beats = |effects: &Effects| {
        let beat = |e: &&Envelope| matches!(e.message, Message::Heartbeat(_));
        effects.send_now.iter().filter(beat).count()
    };
    let counts: Vec<usize> = (0..6).map(|_| beats(&leader.tick())).collect();
    assert_eq!(counts, [0, 2, 0, 2, 0, 2]);
}

/// §5.2: a candidate that hears a leader of its own term follows it.
#[test]
fn s5_2_a_candidate_yields_to_the_leader_of_its_term() {
    let mut candidate = node(1, 1, &[1]);
    while role(&candidate) != (RoleKind::Candidate, 2) {
        let _ = candidate.tick();
    }
    let effects = candidate.step(from(2, 2, heartbeat(0)));
    assert_eq!(role(&candidate), (RoleKind::Follower, 2));
    assert_eq!(effects.soft_state.and_then(|soft| soft.leader), Some(n(2)));
}

/// §5.2: "election timeouts are chosen randomly from a fixed interval", anew each time and
/// differently on every node (E9).
#[test]
fn s5_2_timeouts_are_random_and_within_their_range() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut waiting = seeded(3, 1, &[1], seed);
        for _ in 0..2 {
            let mut ticks = 0;
            while waiting.status().soft_state.role == RoleKind::Follower {
                let _ = waiting.tick();
                ticks += 1;
            }
            assert!((ELECTION..=2 * ELECTION).contains(&ticks), "{ticks} ticks");
            seen.insert(ticks);
            let _ = waiting.step(from(2, 1, heartbeat(0)));
        }
    }
    assert_eq!(seen.len() as u32, ELECTION + 1, "every length occurs: {seen:?}");
}

/// §5.2: first come, first served, one vote a term; a repeated request gets the repeated answer.
#[test]
fn s5_2_one_vote_a_term() {
    let mut voter = node(3, 1, &[1]);
    for (candidate, expected) in [(2, true), (3, false), (2, true)] {
        let effects = voter.step(from(candidate, 2, vote(false, 2, LogId::new(1, 1))));
        assert_eq!(granted(&persist(&mut voter, effects)), [expected], "n{candidate}");
    }
    let effects = voter.step(from(3, 3, vote(false, 3, LogId::new(1, 1))));
    assert_eq!(granted(&persist(&mut voter, effects)), [true], "a new term, a new vote");
}

/// §5.3: the follower truncates at the first conflicting entry and appends what is new (figure 2,
/// AppendEntries 3 and 4); an entry that is already there stays (L1).
#[test]
fn s5_3_a_follower_takes_over_the_leaders_log() {
    struct Case {
        base: (u64, u64),
        sent: &'static [u64],
        truncated: Option<u64>,
        appended: usize,
        last: (u64, u64),
    }
    let own = [1, 1, 2, 2];
    let cases = [
        Case { base: (2, 4), sent: &[3], truncated: None, appended: 1, last: (3, 5) },
        Case { base: (1, 2), sent: &[3], truncated: Some(2), appended: 1, last: (3, 3) },
        Case { base: (1, 2), sent: &[2, 3], truncated: Some(3), appended: 1, last: (3, 4) },
        Case { base: (1, 2), sent: &[2], truncated: None, appended: 0, last: (2, 4) },
        Case { base: (1, 1), sent: &[], truncated: None, appended: 0, last: (2, 4) },
        Case { base: (0, 0), sent: &[1, 1, 2, 2, 2], truncated: None, appended: 1, last: (2, 5) },
    ];
    for case in cases {
        let mut follower = node(3, 3, &own);
        let base = LogId::new(case.base.0, case.base.1);
        let effects = follower.step(from(2, 3, append(base, case.sent, 0)));
        let batch = effects.persist.clone();
        let truncated = batch.as_ref().and_then(|batch| batch.truncate_after);
        assert_eq!(truncated, case.truncated.map(Index), "base {base}");
        assert_eq!(batch.map_or(0, |batch| batch.entries.len()), case.appended, "base {base}");
        assert_eq!(follower.status().last, LogId::new(case.last.0, case.last.1));
        let matched = Index(case.base.1 + case.sent.len() as u64);
        let sent = persist(&mut follower, effects);
        assert_eq!(appended(&sent), AppendReply::Accepted { matched }, "base {base}");
    }
}

/// §5.3: refused if the log has no entry at the base with the base's term; the hint is strictly below
/// it, and its term is at most the base's (L5).
#[test]
fn s5_3_a_follower_refuses_an_unknown_base() {
    for (base, hint) in [((5, 9), (2, 4)), ((3, 4), (2, 3)), ((1, 4), (1, 2)), ((1, 9), (1, 2))] {
        let mut follower = node(3, 5, &[1, 1, 2, 2]);
        let base = LogId::new(base.0, base.1);
        let effects = follower.step(from(2, 5, append(base, &[5], 0)));
        assert!(effects.persist.is_none(), "a refusal writes nothing");
        let hint = LogId::new(hint.0, hint.1);
        let sent = persist(&mut follower, effects);
        assert_eq!(appended(&sent), AppendReply::Conflict { base, hint });
    }
}

/// Figure 2, AppendEntries 5: commit is the smaller of the leader's and the last *new* entry (L4), not
/// of the follower's own last.
#[test]
fn s5_3_a_follower_commits_only_what_was_verified() {
    let mut follower = node(3, 3, &[1, 1, 2, 2]);
    let effects = follower.step(from(2, 3, append(LogId::new(1, 1), &[1], 4)));
    assert_eq!(effects.commit, Some(Index(2)));
    // Nor does a heartbeat's word alone count, whatever its sender believes.
    let effects = follower.step(from(2, 3, heartbeat(4)));
    assert_eq!(effects.commit, None);
    assert_eq!(follower.status().commit, Index(2));
}

/// §5.4.1: the vote is refused to a candidate whose log is less up to date (S12).
#[test]
fn s5_4_1_only_an_up_to_date_candidate_gets_the_vote() {
    for (last, expected) in
        [((2, 2), true), ((2, 3), true), ((3, 1), true), ((2, 1), false), ((1, 9), false)]
    {
        for pre in [true, false] {
            let mut voter = node(3, 3, &[1, 2]);
            let term = if pre { 3 } else { 4 };
            let effects = voter.step(from(2, term, vote(pre, 4, LogId::new(last.0, last.1))));
            assert_eq!(granted(&persist(&mut voter, effects)), [expected], "{last:?} {pre}");
        }
    }
}

/// §5.5: requests are idempotent; a repeated append is answered and changes nothing.
#[test]
fn s5_5_a_repeated_append_changes_nothing() {
    let mut follower = node(3, 2, &[1]);
    let request = from(2, 2, append(LogId::new(1, 1), &[2, 2], 1));
    let effects = follower.step(request.clone());
    let first = persist(&mut follower, effects);
    let effects = follower.step(request);
    assert!(effects.persist.is_none());
    assert_eq!(persist(&mut follower, effects), first);
}

/// §6: a server that hears a leader disregards votes, without taking over their term.
#[test]
fn s6_a_vote_is_disregarded_while_a_leader_is_heard() {
    let mut follower = node(3, 2, &[1]);
    let _ = follower.step(from(2, 2, heartbeat(0)));
    for pre in [true, false] {
        let term = if pre { 2 } else { 3 };
        let effects = follower.step(from(3, term, vote(pre, 3, LogId::new(2, 9))));
        assert_eq!(granted(&effects.send_now), [false]);
        assert_eq!(role(&follower), (RoleKind::Follower, 2));
    }
    // E4: not against the leader itself.
    let effects = follower.step(from(2, 2, vote(true, 3, LogId::new(2, 9))));
    assert_eq!(granted(&effects.send_now), [true]);
    // And no longer than the shortest election timeout.
    for _ in 0..ELECTION {
        let _ = follower.tick();
    }
    let effects = follower.step(from(3, 2, vote(true, 3, LogId::new(2, 9))));
    assert_eq!(granted(&effects.send_now), [true]);
}

/// §6: "a server always uses the latest configuration in its log, regardless of whether the entry is
/// committed", and the one before it when that entry is truncated (M1).
#[test]
fn s6_a_membership_is_active_when_appended_and_goes_with_its_entry() {
    let mut follower = node(3, 2, &[1]);
    let entry = Entry {
        id: LogId::new(2, 2),
        payload: Payload::Membership(std::sync::Arc::new(members(4))),
    };
    let change = Append { base: LogId::new(1, 1), commit: Index(1), entries: vec![entry] };
    let effects = follower.step(from(2, 2, Message::Append(change)));
    assert_eq!(follower.membership(), &members(4), "before its own disk has it");
    persist(&mut follower, effects);
    let effects = follower.step(from(3, 3, append(LogId::new(1, 1), &[3], 1)));
    assert_eq!(effects.persist.and_then(|batch| batch.truncate_after), Some(Index(1)));
    assert_eq!(follower.membership(), &members(3));
}

/// §5.3: the sender may cut an append short; the leader goes on where it ended.
#[test]
fn s5_3_an_append_that_was_cut_short_is_continued() {
    let mut leader = node(3, 1, &[1]);
    let effects = leader_effects(&mut leader);
    let accept = |leader: &mut Node, request, matched| {
        let reply = Message::AppendReply(AppendReply::Accepted { matched: Index(matched) });
        leader.step(Envelope { request, ..from(2, 2, reply) })
    };
    let to_n2 = |effects: &Effects| effects.replicate.iter().find(|r| r.to == n(2)).copied();
    let probe = to_n2(&effects).expect("a probe");
    persist(&mut leader, effects);
    let _ = accept(&mut leader, probe.request, 2);
    let (_, effects) = leader.propose(vec![Bytes::from_static(b"x"); 3]);
    let range = to_n2(&effects).expect("three entries");
    assert_eq!((range.base.index, range.upto), (Index(2), Index(5)));
    let effects = accept(&mut leader, range.request, 3);
    let rest = to_n2(&effects).expect("the rest, without waiting for a heartbeat");
    assert_eq!(rest.base.index, Index(3));
}

/// §8: "a leader must have the latest information on which entries are committed": a no-op first.
#[test]
fn s8_a_leader_begins_with_a_no_op_and_reads_wait_for_it() {
    let mut leader = node(1, 1, &[1]);
    let mut effects = leader.tick();
    while role(&leader).0 != RoleKind::Candidate {
        effects = leader.tick();
    }
    let vote = effects.persist.expect("the vote").token;
    let noop = leader.persisted(vote).persist.expect("the no-op");
    assert_eq!(noop.entries[0].payload, Payload::Noop);
    assert!(leader.read_index(ReadToken(1)).reads.is_empty(), "not before it is committed");
    let effects = leader.persisted(noop.token);
    assert_eq!(effects.reads.len(), 1);
    assert_eq!(effects.reads[0].result, Ok(Index(2)));
}

/// Dissertation 9.6: a pre-vote changes neither term, vote nor timer (E1).
#[test]
fn d9_6_a_pre_vote_changes_nothing() {
    let mut voter = node(3, 1, &[1]);
    let mut twin = voter.clone();
    for tick in 0..2 * ELECTION {
        let effects = voter.step(from(2, 1, vote(true, 2, LogId::new(1, 1))));
        assert!(effects.persist.is_none());
        assert_eq!(voter.status(), twin.status(), "tick {tick}");
        assert_eq!(voter.tick().soft_state, twin.tick().soft_state, "tick {tick}");
    }
}

/// Dissertation 9.6: a pre-candidate does not raise its term until it has a quorum.
#[test]
fn d9_6_a_lonely_node_never_raises_its_term() {
    let mut lonely = node(3, 4, &[1]);
    for _ in 0..50 * ELECTION {
        assert!(lonely.tick().persist.is_none());
    }
    assert_eq!(role(&lonely), (RoleKind::PreCandidate, 4));
}

/// Dissertation 10.2.1: the leader's own disk counts like any other, when it is done.
#[test]
fn d10_2_1_the_leader_counts_itself_when_its_disk_has_completed() {
    let mut leader = node(1, 1, &[1]);
    lead(&mut leader);
    let (result, effects) = leader.propose(vec![Bytes::from_static(b"x")]);
    let id = result.expect("it leads");
    assert_eq!(effects.commit, None);
    let token = effects.persist.expect("the entry").token;
    assert_eq!(leader.persisted(token).commit, Some(id.index));
}

/// E3, S11: an answer to no open request changes nothing, and one of a node that is no member not
/// even the term.
#[test]
fn answers_count_only_for_their_own_request_and_from_members() {
    let mut leader = node(3, 1, &[1]);
    lead(&mut leader);
    let before = leader.status();
    let accepted = Message::AppendReply(AppendReply::Accepted { matched: Index(2) });
    let effects = leader.step(from(2, 2, accepted.clone()));
    assert_eq!(effects.commit, None, "request 2 was for a vote");
    let effects = leader.step(from(9, 50, accepted));
    assert_eq!(effects, Effects::default(), "n9 is no member");
    assert_eq!(leader.status(), before);
}

/// A message for another node id is not for this one (M7), nor is one that claims to be its own.
#[test]
fn messages_for_others_are_dropped() {
    let mut follower = node(3, 1, &[1]);
    let mut astray = from(2, 9, heartbeat(0));
    astray.to = n(7);
    assert_eq!(follower.step(astray), Effects::default());
    assert_eq!(follower.step(from(1, 9, heartbeat(0))), Effects::default());
    assert_eq!(role(&follower), (RoleKind::Follower, 1));
}

/// Design: the sender of a request need not be a member here; this node may not know its leader yet.
#[test]
fn a_leader_that_is_not_in_the_own_membership_is_followed() {
    let mut follower = node(3, 1, &[1]);
    let effects = follower.step(from(9, 4, append(LogId::new(1, 1), &[4], 0)));
    let sent = persist(&mut follower, effects);
    assert_eq!(appended(&sent), AppendReply::Accepted { matched: Index(2) });
    assert_eq!(follower.status().soft_state.leader, Some(n(9)));
}

/// S1: two leaders in one term end the process that learns of it.
#[test]
#[should_panic(expected = "S1")]
fn a_second_leader_of_the_own_term_is_fatal() {
    let mut leader = node(3, 1, &[1]);
    lead(&mut leader);
    let _ = leader.step(from(2, 2, heartbeat(0)));
}

/// S10: what is committed is never truncated.
#[test]
#[should_panic(expected = "S4")]
fn a_leader_that_lacks_a_committed_entry_is_fatal() {
    let mut follower = node(3, 2, &[1]);
    let effects = follower.step(from(2, 2, append(LogId::new(1, 1), &[2, 2], 3)));
    persist(&mut follower, effects);
    assert_eq!(follower.status().commit, Index(3));
    let _ = follower.step(from(3, 3, append(LogId::new(3, 3), &[3], 0)));
}

/// S10, from the front: a conflicting entry at or below commit.
#[test]
#[should_panic(expected = "S10")]
fn truncating_a_committed_entry_is_fatal() {
    let mut follower = node(3, 2, &[1]);
    let effects = follower.step(from(2, 2, append(LogId::new(1, 1), &[2, 2], 3)));
    persist(&mut follower, effects);
    let _ = follower.step(from(3, 3, append(LogId::new(2, 2), &[3], 0)));
}

/// A follower, and a leader that lost its place, say who leads (C3: refused, nothing happened).
#[test]
fn refusals_name_the_leader() {
    let mut follower = node(3, 1, &[1]);
    let refusal = |leader| Err(Refusal::NotLeader { leader });
    assert_eq!(follower.propose(vec![Bytes::new()]).0, refusal(None));
    let _ = follower.step(from(2, 3, heartbeat(0)));
    assert_eq!(follower.propose(vec![Bytes::new()]).0, refusal(Some(n(2))));
}

/// R1, S11: answers to what was never asked prove nothing, and take nobody down.
#[test]
fn nonsense_from_a_peer_proves_nothing() {
    let mut leader = node(3, 1, &[1]);
    let effects = leader_effects(&mut leader);
    let probe = effects.replicate.iter().find(|range| range.to == n(2)).expect("a probe").request;
    let reply = Message::HeartbeatReply(HeartbeatReply { round: ReadRound(9) });
    let _ = leader.step(from(2, 2, reply));
    assert!(leader.read_index(ReadToken(1)).reads.is_empty());
    let boast = Message::AppendReply(AppendReply::Accepted { matched: Index(99) });
    let effects = leader.step(Envelope { request: probe, ..from(2, 2, boast) });
    assert_eq!(effects.commit, None);
    assert!(leader.status().peers.iter().all(|peer| peer.matched == Index::ZERO));
}

/// S7, S10: what contradicts itself was not written by this program, or not all of it is there.
#[test]
fn a_node_restored_from_nonsense_does_not_start() {
    let nonsense = |term: u64, applied: u64| {
        let mut log = LogShape::default();
        log.push(LogId::new(3, 1), 32);
        let restored = Restored {
            hard_state: HardState { term: Term(term), vote: None },
            log,
            memberships: vec![(Index(1), members(3))],
            snapshot: None,
            applied: Index(applied),
            boot: Boot(1),
            seen: BTreeMap::new(),
            reached: Index::ZERO,
        };
        std::panic::catch_unwind(|| Node::new(NodeId(1), options(), 1, restored)).is_err()
    };
    assert!(nonsense(2, 0), "entries newer than the term (S7)");
    assert!(nonsense(3, 2), "applied behind the end of the log (S10)");
    assert!(!nonsense(3, 1));
}
