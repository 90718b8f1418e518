//! Keys and values are not copied on their way through.

use bytes::Bytes;

use super::bytes;
use super::golden_raft::envelope;
use crate::codec::api::{Answerer, GetArgs, GetReply, KeyValue, LogContent, RangeArgs};
use crate::codec::raft::{Direction, RaftCall, decode_envelope, encode_envelope};
use crate::codec::{decode, decode_command, decode_shared, encode, encode_command, log_content};
use crate::kv::command::{Command, Operation, Write};
use crate::raft::message::Append;
use crate::raft::{Entry, Index, LogId, Message, Payload};

fn lies_within(part: &Bytes, whole: &Bytes) -> bool {
    whole.as_ptr_range().contains(&part.as_ptr())
}

fn put() -> Command {
    let operation = Operation::Put { key: bytes("key"), value: Bytes::from(vec![7; 1 << 20]) };
    Command::Write(Write { session: 1, serial: 1, answered_below: 1, operation })
}

#[test]
fn a_command_shares_its_buffer() {
    let buffer = encode_command(&put());
    let Ok(Command::Write(write)) = decode_command(&buffer) else { panic!("decodes") };
    let Operation::Put { key, value } = write.operation else { panic!("a put") };
    assert!(lies_within(&key, &buffer) && lies_within(&value, &buffer));
    let LogContent::Put { value, .. } = log_content(&Payload::Command(buffer.clone())) else {
        panic!("a put")
    };
    assert!(lies_within(&value, &buffer));
    let operation =
        Operation::Cas { key: bytes("k"), expected: Some(bytes("old")), value: bytes("new") };
    let write = Write { session: 1, serial: 1, answered_below: 1, operation };
    let buffer = encode_command(&Command::Write(write));
    let Ok(Command::Write(write)) = decode_command(&buffer) else { panic!("decodes") };
    let Operation::Cas { expected: Some(expected), .. } = write.operation else { panic!("a cas") };
    assert!(lies_within(&expected, &buffer), "also where it is optional");
}

#[test]
fn an_append_shares_its_buffer() {
    let payload = Payload::Command(encode_command(&put()));
    let entries = vec![Entry { id: LogId::new(1, 1), payload }];
    let append = Append { base: LogId::ZERO, commit: Index(0), entries };
    let buffer = encode_envelope(&envelope(Message::Append(append)));
    let decoded = decode_envelope(RaftCall::Append, Direction::Request, &buffer).expect("decodes");
    let Message::Append(append) = decoded.message else { panic!("an append") };
    let Payload::Command(command) = &append.entries[0].payload else { panic!("a command") };
    assert!(lies_within(command, &buffer));
}

#[test]
fn arguments_and_replies_share_their_buffer() {
    let buffer = encode(&GetArgs { key: bytes("key"), local: false });
    let args: GetArgs = decode_shared(&buffer).expect("decodes");
    assert!(lies_within(&args.key, &buffer));
    let buffer =
        encode(&RangeArgs { from: bytes("a"), to: Some(bytes("b")), limit: 0, local: true });
    let args: RangeArgs = decode_shared(&buffer).expect("decodes");
    assert!(lies_within(&args.from, &buffer) && lies_within(&args.to.expect("an end"), &buffer));
    let found = KeyValue {
        key: bytes("key"),
        value: bytes("value"),
        create_revision: 1,
        mod_revision: 1,
        version: 1,
    };
    let reply = GetReply {
        found: Some(found),
        revision: 1,
        index: 1,
        local: false,
        from: Answerer::default(),
    };
    let buffer = encode(&reply);
    let reply: GetReply = decode_shared(&buffer).expect("decodes");
    assert!(lies_within(&reply.found.expect("found").value, &buffer));
}

#[test]
fn a_plain_decode_copies_and_an_earlier_buffer_is_forgotten() {
    let first = encode(&GetArgs { key: bytes("first"), local: false });
    let second = encode(&GetArgs { key: bytes("second"), local: false });
    let _: GetArgs = decode_shared(&first).expect("decodes");
    decode_shared::<GetArgs>(&first.slice(1..)).expect_err("a failed decode is forgotten, too");
    assert!(first.is_unique());
    let args: GetArgs = decode(&second).expect("decodes");
    assert!(!lies_within(&args.key, &second));
    assert!(second.is_unique());
}
