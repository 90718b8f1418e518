//! The exact bytes of what nodes say to each other, and of what the log holds besides commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bytes;
use super::golden::{golden, with_field};
use crate::codec::raft::{Direction, RaftCall, decode_envelope, encode_envelope, route};
use crate::raft::message::{self, AppendReply, HeartbeatReply, InstallReply, ReadRound, VoteReply};
use crate::raft::seats::MEMBERS_MAX;
use crate::raft::{
    Boot, Entry, Envelope, HardState, Index, LogId, Member, Membership, Message, NodeId, Payload,
    RequestId, Seen, SnapshotMeta, Term,
};

pub(super) fn envelope(message: Message) -> Envelope {
    Envelope { from: NodeId(1), to: NodeId(2), term: Term(3), request: RequestId(4), message }
}

fn check(message: Message, call: RaftCall, direction: Direction, expected: &[u8]) {
    assert_eq!(route(&message), (call, direction));
    let envelope = envelope(message);
    let encoded = encode_envelope(&envelope);
    assert_eq!(encoded, expected, "{envelope:?} became b\"{}\"", encoded.escape_ascii());
    assert_eq!(decode_envelope(call, direction, &encoded), Ok(envelope.clone()));
    let later = with_field(expected).into();
    assert_eq!(decode_envelope(call, direction, &later), Ok(envelope), "a new field is skipped");
}

pub(super) fn membership() -> Membership {
    let member = |n: u64| Member { name: format!("raft-{n}"), address: format!("h:{n}") };
    Membership::of_voters(BTreeMap::from([(NodeId(7), member(0)), (NodeId(300), member(1))]))
}

#[test]
fn votes() {
    let vote = message::Vote::pre(Term(4), LogId::new(2, 9));
    check(
        Message::Vote(vote),
        RaftCall::Vote,
        Direction::Request,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x83\xa3pre\xc3\xa8campaign\
          \x04\xa4last\x82\xa4term\x02\xa5index\t",
    );
    // What is remembered is written only where there is something.
    let seen = Seen { boot: Boot(5), term: Term(2), acknowledged: Index(9) };
    let (remembered, answered) = (vec![seen], Some(Boot(5)));
    let vote =
        message::Vote { remembered, answered, ..message::Vote::real(Term(4), LogId::new(2, 9)) };
    check(
        Message::Vote(vote),
        RaftCall::Vote,
        Direction::Request,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x85\xa3pre\xc2\xa8campaign\
          \x04\xa4last\x82\xa4term\x02\xa5index\t\xaaremembered\x91\x83\xa4boot\x05\xa4term\x02\
          \xacacknowledged\t\xa8answered\x05",
    );
    let (boot, seen) = (Boot(5), vec![(NodeId(7), seen)]);
    let reply = VoteReply { pre: true, campaign: Term(4), granted: true, boot, seen };
    check(
        Message::VoteReply(reply),
        RaftCall::Vote,
        Direction::Reply,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x85\xa3pre\xc3\xa8campaign\
          \x04\xa7granted\xc3\xa4boot\x05\xa4seen\x91\x92\x07\x83\xa4boot\x05\xa4term\x02\
          \xacacknowledged\t",
    );
    let (boot, seen) = (Boot(0), Vec::new());
    let reply = VoteReply { pre: false, campaign: Term(4), granted: true, boot, seen };
    check(
        Message::VoteReply(reply),
        RaftCall::Vote,
        Direction::Reply,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x83\xa3pre\xc2\xa8campaign\
          \x04\xa7granted\xc3",
    );
}

/// Every voter of the largest joint membership remembers something else.
#[test]
fn the_largest_vote_is_within_the_limit_of_its_method() {
    let line =
        |n| Seen { boot: Boot(u64::MAX - n), term: Term(1 << 61), acknowledged: Index(1 << 60) };
    let remembered = (0..2 * MEMBERS_MAX as u64).map(line).collect();
    let vote = message::Vote::real(Term(1 << 61), LogId::new(1 << 60, 1 << 60));
    let vote = message::Vote { transfer: true, remembered, answered: Some(Boot(u64::MAX)), ..vote };
    let size = encode_envelope(&envelope(Message::Vote(vote))).len();
    assert!(size < 4096, "{size} bytes");
}

#[test]
fn transfers() {
    let head = b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m";
    let timeout_now = Message::TimeoutNow(message::TimeoutNow {});
    check(timeout_now, RaftCall::TimeoutNow, Direction::Request, &[head, &b"\x80"[..]].concat());
    let reply = Message::TimeoutNowReply(message::TimeoutNowReply { campaigns: true });
    let expected = [head, &b"\x81\xa9campaigns\xc3"[..]].concat();
    check(reply, RaftCall::TimeoutNow, Direction::Reply, &expected);

    // The flag is written only where it is set, so that a former version's bytes stay what they were.
    let vote = message::Vote { transfer: true, ..message::Vote::real(Term(4), LogId::new(2, 9)) };
    check(
        Message::Vote(vote),
        RaftCall::Vote,
        Direction::Request,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x84\xa3pre\xc2\xa8campaign\
          \x04\xa4last\x82\xa4term\x02\xa5index\t\xa8transfer\xc3",
    );
}

#[test]
fn installs() {
    let snapshot = SnapshotMeta {
        last: LogId::new(3, 500),
        membership: Arc::new(membership()),
        membership_index: Index(1),
    };
    check(
        Message::Install(message::Install { snapshot }),
        RaftCall::Install,
        Direction::Request,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x81\xa8snapshot\x83\xa4last\x82\xa4term\
          \x03\xa5index\xcd\x01\xf4\xaamembership\x82\xa7members\x82\x07\x82\xa4name\xa6raft-0\xa7\
          address\xa3h:0\xcd\x01,\x82\xa4name\xa6raft-1\xa7address\xa3h:1\xa6voters\x92\x07\xcd\x01,\
          \xb0membership_index\x01",
    );
    let installed =
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x81\xa9installed\x81\xa7matched\xcd\x01\xf4";
    let refused = b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\xa7refused";
    for (reply, expected) in [
        (InstallReply::Installed { matched: Index(500) }, &installed[..]),
        (InstallReply::Refused, refused),
    ] {
        check(Message::InstallReply(reply), RaftCall::Install, Direction::Reply, expected);
    }
}

#[test]
fn heartbeats() {
    let heartbeat =
        message::Heartbeat { commit: Index(500), round: ReadRound(6), seen: Vec::new() };
    let seen = Seen { boot: Boot(2), term: Term(3), acknowledged: Index(500) };
    let regular = message::Heartbeat { seen: vec![(NodeId(7), seen)], ..heartbeat.clone() };
    check(
        Message::Heartbeat(regular),
        RaftCall::Heartbeat,
        Direction::Request,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x83\xa6commit\xcd\x01\xf4\xa5round\x06\
          \xa4seen\x91\x92\x07\x83\xa4boot\x02\xa4term\x03\xacacknowledged\xcd\x01\xf4",
    );
    // Without anything to tell, the bytes are what they were in a former version.
    check(
        Message::Heartbeat(heartbeat),
        RaftCall::Heartbeat,
        Direction::Request,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x82\xa6commit\xcd\x01\xf4\xa5round\x06",
    );
    let reply = HeartbeatReply { round: ReadRound(6) };
    check(
        Message::HeartbeatReply(reply),
        RaftCall::Heartbeat,
        Direction::Reply,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x81\xa5round\x06",
    );
}

#[test]
fn appends() {
    let payloads = [
        Payload::Noop,
        Payload::Command(bytes("cmd")),
        Payload::Membership(Arc::new(membership())),
        Payload::Command(bytes("")),
    ];
    let entries = (9..)
        .zip(payloads)
        .map(|(index, payload)| Entry { id: LogId::new(3, index), payload })
        .collect();
    let append = message::Append { base: LogId::new(2, 8), commit: Index(7), entries };
    check(
        Message::Append(append),
        RaftCall::Append,
        Direction::Request,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x83\xa4base\x82\xa4term\x02\
          \xa5index\x08\xa6commit\x07\xa7entries\x94\x82\xa1t\x03\xa1k\x00\x83\xa1t\
          \x03\xa1k\x01\xa1d\xc4\x03cmd\x83\xa1t\x03\xa1k\x02\xa1m\x82\xa7members\
          \x82\x07\x82\xa4name\xa6raft-0\xa7address\xa3h:0\xcd\x01,\x82\xa4name\xa6raft-1\
          \xa7address\xa3h:1\xa6voters\x92\x07\xcd\x01,\x83\xa1t\x03\xa1k\x01\xa1d\
          \xc4\x00",
    );
    let probe = message::Append { base: LogId::ZERO, commit: Index(0), entries: vec![] };
    check(
        Message::Append(probe),
        RaftCall::Append,
        Direction::Request,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x83\xa4base\x82\xa4term\x00\
          \xa5index\x00\xa6commit\x00\xa7entries\x90",
    );
    let reply = AppendReply::Accepted { matched: Index(12) };
    check(
        Message::AppendReply(reply),
        RaftCall::Append,
        Direction::Reply,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x81\xa8accepted\x81\xa7matched\x0c",
    );
    let reply = AppendReply::Conflict { base: LogId::new(2, 8), hint: LogId::new(1, 5) };
    check(
        Message::AppendReply(reply),
        RaftCall::Append,
        Direction::Reply,
        b"\x85\xa1f\x01\xa1t\x02\xa1e\x03\xa1r\x04\xa1m\x81\xa8conflict\x82\xa4base\
          \x82\xa4term\x02\xa5index\x08\xa4hint\x82\xa4term\x01\xa5index\x05",
    );
}

#[test]
fn memberships_and_hard_state() {
    golden(
        &membership(),
        b"\x82\xa7members\x82\x07\x82\xa4name\xa6raft-0\xa7address\xa3h:0\xcd\x01,\
          \x82\xa4name\xa6raft-1\xa7address\xa3h:1\xa6voters\x92\x07\xcd\x01,",
    );
    let mut joint = membership();
    joint.outgoing = BTreeSet::from([NodeId(7)]);
    golden(
        &joint,
        b"\x83\xa7members\x82\x07\x82\xa4name\xa6raft-0\xa7address\xa3h:0\xcd\x01,\
          \x82\xa4name\xa6raft-1\xa7address\xa3h:1\xa6voters\x92\x07\xcd\x01,\xa8outgoing\
          \x91\x07",
    );
    golden(&HardState { term: Term(3), vote: Some(NodeId(9)) }, b"\x82\xa4term\x03\xa4vote\t");
    golden(&HardState { term: Term(3), vote: None }, b"\x82\xa4term\x03\xa4vote\xc0");
}
