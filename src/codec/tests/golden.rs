//! The exact bytes of commands, log contents, arguments and replies. A change here is a change of
//! the formats: it needs a version, and a reason in the commit.

use std::fmt::Debug;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bytes;
use crate::codec::api::*;
use crate::codec::{decode, decode_command, decode_shared, encode, encode_command, log_content};
use crate::kv::command::{Applied, Command, Operation, Outcome, Versioned, Write};
use crate::raft::{ClusterId, Index, Member, Membership, NodeId, Payload, RoleKind, Term};

/// Encodes to exactly these bytes, and back; and if it is a map, a reader that does not know a
/// field added behind it reads the same.
pub(super) fn golden<T>(value: &T, expected: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let encoded = encode(value);
    assert_eq!(encoded, expected, "{value:?} became b\"{}\"", encoded.escape_ascii());
    assert_eq!(&decode::<T>(expected).expect("decodes"), value);
    assert_eq!(&decode_shared::<T>(&encoded).expect("decodes"), value);
    if matches!(expected[0], 0x80..0x8f) && !is_enum(&encoded) {
        let later = with_field(expected);
        assert_eq!(&decode::<T>(&later).expect("an old reader skips a new field"), value);
    }
}

/// The same map with one more field, nested and large enough to be noticed.
pub(super) fn with_field(map: &[u8]) -> Vec<u8> {
    assert!(matches!(map[0], 0x80..0x8f));
    let mut later = map.to_vec();
    later[0] += 1;
    later.extend_from_slice(
        b"\xa5added\x93\xc0\x82\x01\xa3one\x02\xc4\x03\x00\x01\x02\xcb\x40\x09\x21\
          \xfb\x54\x44\x2d\x18",
    );
    later
}

/// Enums are maps of one variant and grow by variants, not by fields beside the variant.
fn is_enum(encoded: &[u8]) -> bool {
    let variants = ["session", "written"];
    encoded[0] == 0x81 && variants.iter().any(|name| encoded[2..].starts_with(name.as_bytes()))
}

fn command(value: &Command, expected: &[u8]) {
    let encoded = encode_command(value);
    assert_eq!(encoded, expected, "{value:?} became b\"{}\"", encoded.escape_ascii());
    assert_eq!(&decode_command(&encoded).expect("decodes"), value);
}

fn write(operation: Operation) -> Command {
    Command::Write(Write { session: 300, serial: 2, answered_below: 1, operation })
}

fn answerer() -> Answerer {
    Answerer { name: "raft-1".into(), is_leader: true, leader: Some("raft-1".into()), term: 3 }
}

fn key_value() -> KeyValue {
    let found = Versioned { value: bytes("v"), create_revision: 1, mod_revision: 200, version: 7 };
    KeyValue::new(bytes("k"), found)
}

#[test]
fn commands() {
    command(&Command::OpenSession, b"\x81\xacopen_session\x80");
    command(
        &write(Operation::Put { key: bytes("k"), value: bytes("v") }),
        b"\x81\xa5write\x84\xa7session\xcd\x01,\xa6serial\x02\xa5below\x01\xa2op\
          \x81\xa3put\x82\xa3key\xc4\x01k\xa5value\xc4\x01v",
    );
    command(
        &write(Operation::Delete { key: bytes("k") }),
        b"\x81\xa5write\x84\xa7session\xcd\x01,\xa6serial\x02\xa5below\x01\xa2op\
          \x81\xa6delete\x81\xa3key\xc4\x01k",
    );
    let expected = Some(bytes("old"));
    command(
        &write(Operation::Cas { key: bytes("k"), expected, value: bytes("v") }),
        b"\x81\xa5write\x84\xa7session\xcd\x01,\xa6serial\x02\xa5below\x01\xa2op\
          \x81\xa3cas\x83\xa3key\xc4\x01k\xa8expected\xc4\x03old\xa5value\xc4\x01v",
    );
    command(
        &write(Operation::Cas { key: bytes("k"), expected: None, value: bytes("") }),
        b"\x81\xa5write\x84\xa7session\xcd\x01,\xa6serial\x02\xa5below\x01\xa2op\
          \x81\xa3cas\x82\xa3key\xc4\x01k\xa5value\xc4\x00",
    );
}

#[test]
fn outcomes() {
    golden(&Outcome::Session { session: 5 }, b"\x81\xa7session\x81\xa7session\x05");
    golden(
        &Outcome::Written { revision: 9, succeeded: true },
        b"\x81\xa7written\x82\xa8revision\t\xa9succeeded\xc3",
    );
    golden(&Outcome::SessionExpired, b"\xafsession_expired");
    golden(&Outcome::SerialOutOfWindow, b"\xb4serial_out_of_window");
    golden(&Outcome::Rejected, b"\xa8rejected");
    let outcome = Outcome::Written { revision: 9, succeeded: false };
    golden(
        &Applied { index: 70_000, term: 3, outcome: outcome.clone() },
        b"\x83\xa5index\xce\x00\x01\x11p\xa4term\x03\xa7outcome\x81\xa7written\x82\
          \xa8revision\t\xa9succeeded\xc2",
    );
    let applied = Applied { index: 4, term: 3, outcome };
    golden(
        &WriteReply { applied, from: answerer() },
        b"\x82\xa7applied\x83\xa5index\x04\xa4term\x03\xa7outcome\x81\xa7written\
          \x82\xa8revision\t\xa9succeeded\xc2\xa4from\x84\xa4name\xa6raft-1\xa9is_leader\
          \xc3\xa6leader\xa6raft-1\xa4term\x03",
    );
}

#[test]
fn refusals() {
    golden(&Refusal::new(Code::Busy, "try later"), b"\x82\xa4code\xa4busy\xa7message\xa9try later");
    let leader = Some(LeaderHint { name: "raft-2".into(), address: "h:6000".into() });
    golden(
        &Refusal { code: Code::NotLeader, message: "no".into(), leader, seen: None },
        b"\x83\xa4code\xaanot_leader\xa7message\xa2no\xa6leader\x82\xa4name\xa6raft-2\
          \xa7address\xa6h:6000",
    );
}

#[test]
fn every_code_is_its_word_on_the_wire() {
    let codes = [
        Code::NotLeader,
        Code::Busy,
        Code::NoSpace,
        Code::Unknown,
        Code::BadRequest,
        Code::TooLarge,
        Code::Denied,
        Code::UnknownMethod,
        Code::DeadlineExceeded,
        Code::Unavailable,
        Code::WrongPeer,
        Code::SessionExpired,
        Code::SerialOutOfWindow,
    ];
    for code in codes {
        assert_eq!(encode(&code), encode(code.word()));
    }
}

#[test]
fn reads() {
    golden(&GetArgs { key: bytes("k"), local: true }, b"\x82\xa3key\xc4\x01k\xa5local\xc3");
    let reply = GetReply {
        found: Some(key_value()),
        revision: 200,
        index: 250,
        local: false,
        from: answerer(),
    };
    golden(
        &reply,
        b"\x85\xa5found\x85\xa3key\xc4\x01k\xa5value\xc4\x01v\xafcreate_revision\
          \x01\xacmod_revision\xcc\xc8\xa7version\x07\xa8revision\xcc\xc8\xa5index\
          \xcc\xfa\xa5local\xc2\xa4from\x84\xa4name\xa6raft-1\xa9is_leader\xc3\xa6leader\
          \xa6raft-1\xa4term\x03",
    );
    golden(
        &RangeArgs { from: bytes("a"), to: Some(bytes("b")), limit: 10, local: false },
        b"\x84\xa4from\xc4\x01a\xa2to\xc4\x01b\xa5limit\n\xa5local\xc2",
    );
    golden(
        &RangeArgs { from: bytes(""), to: None, limit: 0, local: false },
        b"\x84\xa4from\xc4\x00\xa2to\xc0\xa5limit\x00\xa5local\xc2",
    );
    let reply = RangeReply {
        entries: vec![key_value()],
        next: Some(bytes("l")),
        revision: 200,
        index: 250,
        local: true,
        from: Answerer::default(),
    };
    golden(
        &reply,
        b"\x86\xa7entries\x91\x85\xa3key\xc4\x01k\xa5value\xc4\x01v\xafcreate_revision\
          \x01\xacmod_revision\xcc\xc8\xa7version\x07\xa4next\xc4\x01l\xa8revision\
          \xcc\xc8\xa5index\xcc\xfa\xa5local\xc3\xa4from\x84\xa4name\xa0\xa9is_leader\
          \xc2\xa6leader\xc0\xa4term\x00",
    );
}

#[test]
fn status_and_members() {
    let status = StatusReply {
        name: "raft-0".into(),
        node_id: NodeId(u64::MAX),
        cluster_id: Some(ClusterId(1)),
        role: RoleKind::PreCandidate,
        leader: None,
        term: Term(3),
        last_index: Index(9),
        commit_index: Index(8),
        applied_index: Index(7),
        snapshot_index: Index(0),
        state_hash: 1 << 63,
        waiting: None,
        stopping: false,
        snapshots: Default::default(),
        ready: true,
    };
    golden(
        &status,
        b"\x8f\xa4name\xa6raft-0\xa7node_id\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xaacluster_id\
          \x01\xa4role\xadpre_candidate\xa6leader\xc0\xa4term\x03\xaalast_index\t\
          \xaccommit_index\x08\xadapplied_index\x07\xaesnapshot_index\x00\xaastate_hash\
          \xcf\x80\x00\x00\x00\x00\x00\x00\x00\xa7waiting\xc0\xa8stopping\xc2\xa9snapshots\
          \x86\xa5taken\x00\xa7last_ms\x00\xaalast_bytes\x00\xaasent_bytes\x00\xaereceived_bytes\x00\
          \xa9installed\x00\xa5ready\xc3",
    );
    let member = MemberStatus {
        name: "raft-0".into(),
        node_id: NodeId(5),
        role: "voter".into(),
        address: "h:1".into(),
        match_index: Some(Index(3)),
    };
    golden(
        &MembersReply { members: vec![member], from: Answerer::default() },
        b"\x82\xa7members\x91\x85\xa4name\xa6raft-0\xa7node_id\x05\xa4role\xa5voter\
          \xa7address\xa3h:1\xabmatch_index\x03\xa4from\x84\xa4name\xa0\xa9is_leader\
          \xc2\xa6leader\xc0\xa4term\x00",
    );
}

#[test]
fn replication() {
    golden(
        &ReplicationArgs { from: 1, limit: 2, store_from: bytes("k") },
        b"\x83\xa4from\x01\xa5limit\x02\xaastore_from\xc4\x01k",
    );
    let contents = [
        LogContent::Noop,
        LogContent::Session,
        LogContent::Membership { names: vec!["raft-0".into()] },
        LogContent::Put { key: bytes("k"), value: bytes("\u{e9}\0") },
        LogContent::Delete { key: bytes("k") },
        LogContent::Cas { key: bytes("k"), expected: None, value: bytes("v") },
        LogContent::Cas { key: bytes("k"), expected: Some(bytes("e")), value: bytes("v") },
        LogContent::Other,
    ];
    let log = (1..)
        .zip(contents)
        .map(|(n, content)| LogLine { index: Index(n), term: Term(1), content })
        .collect();
    let reply = ReplicationReply {
        name: "raft-0".into(),
        first_index: Index(1),
        last_index: Index(9),
        log,
        next_index: Some(Index(9)),
        store: vec![key_value()],
        next_key: None,
        applied_index: Index(9),
    };
    golden(
        &reply,
        b"\x88\xa4name\xa6raft-0\xabfirst_index\x01\xaalast_index\t\xa3log\x98\x83\
          \xa5index\x01\xa4term\x01\xa7content\x81\xa4kind\xa4noop\x83\xa5index\x02\
          \xa4term\x01\xa7content\x81\xa4kind\xa7session\x83\xa5index\x03\xa4term\
          \x01\xa7content\x82\xa4kind\xaamembership\xa5names\x91\xa6raft-0\x83\xa5index\
          \x04\xa4term\x01\xa7content\x83\xa4kind\xa3put\xa3key\xc4\x01k\xa5value\
          \xc4\x03\xc3\xa9\x00\x83\xa5index\x05\xa4term\x01\xa7content\x82\xa4kind\
          \xa6delete\xa3key\xc4\x01k\x83\xa5index\x06\xa4term\x01\xa7content\x84\
          \xa4kind\xa3cas\xa3key\xc4\x01k\xa8expected\xc0\xa5value\xc4\x01v\x83\xa5index\
          \x07\xa4term\x01\xa7content\x84\xa4kind\xa3cas\xa3key\xc4\x01k\xa8expected\
          \xc4\x01e\xa5value\xc4\x01v\x83\xa5index\x08\xa4term\x01\xa7content\x81\
          \xa4kind\xa5other\xaanext_index\t\xa5store\x91\x85\xa3key\xc4\x01k\xa5value\
          \xc4\x01v\xafcreate_revision\x01\xacmod_revision\xcc\xc8\xa7version\x07\
          \xa8next_key\xc0\xadapplied_index\t",
    );
}

#[test]
fn log_contents() {
    let command = |operation| Payload::Command(encode_command(&write(operation)));
    let (key, value, expected) = (bytes("k"), bytes("v"), Some(bytes("e")));
    let cas = Operation::Cas { key: key.clone(), expected: expected.clone(), value: value.clone() };
    let put = Operation::Put { key: key.clone(), value: value.clone() };
    let members = [(NodeId(9), "raft-0"), (NodeId(2), "raft-1")]
        .map(|(id, name)| (id, Member { name: name.into(), address: format!("{name}:6000") }));
    let cases = [
        (Payload::Noop, LogContent::Noop),
        (
            Payload::Membership(Membership::of_voters(members.into()).into()),
            LogContent::Membership { names: vec!["raft-0".into(), "raft-1".into()] },
        ),
        (Payload::Command(encode_command(&Command::OpenSession)), LogContent::Session),
        (command(put), LogContent::Put { key: key.clone(), value: value.clone() }),
        (command(Operation::Delete { key: key.clone() }), LogContent::Delete { key: key.clone() }),
        (command(cas), LogContent::Cas { key, expected, value }),
        (Payload::Command(bytes("?")), LogContent::Other),
    ];
    for (payload, content) in cases {
        assert_eq!(log_content(&payload), content);
    }
}

/// What the first version leaves out, a later one must do without: every field with a default.
#[test]
fn absent_fields_have_defaults() {
    let args: GetArgs = decode(b"\x81\xa3key\xc4\x01k").expect("decodes");
    assert_eq!(args, GetArgs { key: bytes("k"), local: false });
    let args: RangeArgs = decode(b"\x81\xa4from\xc4\x01k").expect("decodes");
    assert_eq!(args, RangeArgs { from: bytes("k"), to: None, limit: 0, local: false });
    let args: ReplicationArgs = decode(b"\x80").expect("decodes");
    assert_eq!(args, ReplicationArgs::default());
    let content: LogContent =
        decode(b"\x83\xa4kind\xa3cas\xa3key\xc4\x01k\xa5value\xc4\x01v").expect("decodes");
    let (key, value) = (bytes("k"), bytes("v"));
    assert_eq!(content, LogContent::Cas { key, expected: None, value });
}

/// A new word for a kind of refusal or of entry: an old reader goes on with the careful reading.
#[test]
fn unknown_words_are_read_carefully() {
    let refusal: Refusal = decode(b"\x82\xa4code\xa6quorum\xa7message\xa2no").expect("decodes");
    assert_eq!(refusal.code, Code::Unknown, "anything may have happened");
    let content: LogContent =
        decode(b"\x82\xa4kind\xa3txn\xa3ops\x91\x81\xa3put\x01").expect("decodes");
    assert_eq!(content, LogContent::Other);
}

/// Fields added later inside a command, where a reader of today skips them.
#[test]
fn a_command_with_fields_of_a_later_version_is_read() {
    let later = bytes_of(
        b"\x81\xa5write\x85\xa7session\x07\xa6serial\x02\xa5below\x01\xa5lease\x92\x01\x02\xa2op\
          \x81\xa3put\x83\xa3key\xc4\x01k\xa5value\xc4\x01v\xa3ttl\xcd\x03\xe8",
    );
    let operation = Operation::Put { key: bytes("k"), value: bytes("v") };
    let expected = Write { session: 7, serial: 2, answered_below: 1, operation };
    assert_eq!(decode_command(&later), Ok(Command::Write(expected)));
    let later = bytes_of(b"\x81\xacopen_session\x81\xa3ttl\x05");
    assert_eq!(decode_command(&later), Ok(Command::OpenSession));
    // An unknown operation is not skipped: it would have changed the store.
    let later = bytes_of(
        b"\x81\xa5write\x84\xa7session\x07\xa6serial\x02\xa5below\x01\xa2op\x81\xa4move\x80",
    );
    decode_command(&later).expect_err("refused");
}

fn bytes_of(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}
