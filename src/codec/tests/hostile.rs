//! Bytes that someone made to hurt (correctness, section 9): each is an error, none ends the
//! process, none takes memory by declaring it.

use bytes::Bytes;

use super::bytes;
use super::golden_raft::envelope;
use crate::codec::api::{Code, GetArgs, RangeArgs, RangeReply, Refusal, ReplicationReply};
use crate::codec::command::validate_key;
use crate::codec::msgpack::DEPTH_MAX;
use crate::codec::raft::{Direction, RaftCall, decode_envelope, encode_envelope};
use crate::codec::{
    DecodeError, admit_command, check, decode, decode_command, decode_shared, encode_command,
    validate,
};
use crate::kv::command::{Command, Operation, Write};
use crate::kv::limits::{KEY_BYTES_MAX, REQUEST_BYTES_MAX, VALUE_BYTES_MAX};
use crate::raft::message::Append;
use crate::raft::{Index, LogId, Message};

/// Every decoder there is, on a thread with the stack that worker threads get.
fn all_decoders(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    let decoders = move || {
        let _ = check(&input, DEPTH_MAX);
        let _ = decode_command(&input);
        let _ = decode_shared::<GetArgs>(&input);
        let _ = decode_shared::<RangeArgs>(&input);
        let _ = decode_shared::<RangeReply>(&input);
        let _ = decode_shared::<ReplicationReply>(&input);
        let _ = decode_shared::<Refusal>(&input);
        for call in RaftCall::ALL {
            for direction in [Direction::Request, Direction::Reply] {
                let _ = decode_envelope(call, direction, &input);
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(decoders);
    thread.expect("a thread").join().expect("no decoder panics");
}

#[test]
fn nesting_is_bounded_before_anything_recurses() {
    for opener in [&b"\x91"[..], b"\x81\xc0", b"\xdc\x00\x01", b"\xdf\x00\x00\x00\x01\x01"] {
        let nested = |levels: usize| [opener.repeat(levels), b"\xc0".to_vec()].concat();
        assert_eq!(check(&nested(32), DEPTH_MAX), Ok(()));
        assert_eq!(check(&nested(33), DEPTH_MAX), Err(DecodeError::TooDeep { max: 32 }));
        assert_eq!(check(&nested(33), 1000), Err(DecodeError::TooDeep { max: 32 }));
        assert_eq!(check(&nested(2), 1), Err(DecodeError::TooDeep { max: 1 }));
        assert_eq!(check(&nested(1), 0), Err(DecodeError::TooDeep { max: 0 }));
        all_decoders(&nested(1_000_000));
        // Inside a field that every reader skips.
        let mut skipped = b"\x82\xa3key\xc4\x01k\xa1z".to_vec();
        skipped.extend(nested(100_000));
        all_decoders(&skipped);
        assert_eq!(decode::<GetArgs>(&skipped), Err(DecodeError::TooDeep { max: 32 }));
    }
}

#[test]
fn declared_lengths_lie_within_the_input() {
    let bombs: [&[u8]; 12] = [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdc\xff\xff\xc0",
        b"\xde\xff\xff\xc0",
        b"\xc5\xff\xff\x00",
        b"\xda\xff\xff\x00",
        b"\xc4\x02\x00",
        b"\x9f\xc0",
        b"\x81\xc0",
        b"\xa2a",
    ];
    for bomb in bombs {
        assert_eq!(check(bomb, DEPTH_MAX), Err(DecodeError::Truncated { at: 0 }), "{bomb:02x?}");
        all_decoders(bomb);
        let inside = [b"\x81\xa7entries", bomb].concat();
        all_decoders(&inside);
        assert!(decode::<RangeReply>(&inside).is_err());
    }
    // The children fit, but not their own children.
    assert_eq!(check(b"\x92\x92\xc0\xc0", DEPTH_MAX), Err(DecodeError::Truncated { at: 4 }));
    assert_eq!(check(b"\x92\xc0\xcf\x00", DEPTH_MAX), Err(DecodeError::Truncated { at: 2 }));
}

#[test]
fn exactly_one_value_of_known_types() {
    assert_eq!(check(b"", DEPTH_MAX), Err(DecodeError::Truncated { at: 0 }));
    assert_eq!(check(b"\xc0\xc0", DEPTH_MAX), Err(DecodeError::Trailing { bytes: 1 }));
    assert_eq!(check(b"\x91\xc0\x00\x00", DEPTH_MAX), Err(DecodeError::Trailing { bytes: 2 }));
    let mut used = 0;
    for marker in 0..=255u8 {
        let padded = [&[marker][..], &[0; 16]].concat();
        let unused = matches!(marker, 0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8);
        let refused = Err(DecodeError::Unsupported { marker, at: 0 });
        assert_eq!(check(&padded, DEPTH_MAX) == refused, unused, "{marker:#04x}");
        used += u32::from(!unused);
        all_decoders(&padded);
    }
    assert_eq!(used, 247);
}

#[test]
fn every_prefix_of_a_message_is_refused() {
    let operation =
        Operation::Cas { key: bytes("k"), expected: Some(bytes("e")), value: bytes("v") };
    let write = Write { session: 300, serial: 70_000, answered_below: 1, operation };
    let whole = encode_command(&Command::Write(write));
    for end in 0..whole.len() {
        let part = whole.slice(..end);
        assert!(matches!(decode_command(&part), Err(DecodeError::Truncated { .. })), "{end}");
    }
}

#[test]
fn content_that_does_not_fit_is_refused() {
    let cases: [(&str, &[u8]); 9] = [
        ("a field twice", b"\x83\xa3key\xc4\x01k\xa5local\xc3\xa5local\xc2"),
        ("a missing field", b"\x81\xa5local\xc3"),
        ("a number for a flag", b"\x82\xa3key\xc4\x01k\xa5local\x01"),
        ("a float for bytes", b"\x81\xa3key\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
        ("a map for bytes", b"\x81\xa3key\x80"),
        ("large numbers for bytes", b"\x81\xa3key\x91\xcd\x01\x00"),
        ("a number as the name of a field", b"\x81\xc0\xc0"),
        ("a name that is no text", b"\x81\xa3\xff\xfe\xfd\xc0"),
        ("a text at all", b"\xa3key"),
    ];
    for (what, input) in cases {
        assert_eq!(check(input, DEPTH_MAX), Ok(()), "{what}: sound MessagePack");
        let decoded = decode::<GetArgs>(input);
        assert!(matches!(decoded, Err(DecodeError::Content(_))), "{what}: {decoded:?}");
        all_decoders(input);
    }
    // Negative, too large, or a float, where a number is meant.
    for number in [&b"\xff"[..], b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00", b"\xca\x40\x00\x00\x00"] {
        let input = [b"\x82\xa4from\xc4\x00\xa5limit", number].concat();
        assert!(matches!(decode::<RangeArgs>(&input), Err(DecodeError::Content(_))));
    }
    // Numbers wider than need be are harmless and accepted.
    let wide = b"\x82\xa4from\xc4\x00\xa5limit\xcf\x00\x00\x00\x00\x00\x00\x00\x05";
    assert_eq!(decode::<RangeArgs>(wide).expect("decodes").limit, 5);
}

#[test]
fn entries_of_an_append_are_whole_or_refused() {
    let append = Append { base: LogId::new(1, 8), commit: Index(7), entries: vec![] };
    let probe = encode_envelope(&envelope(Message::Append(append)));
    let decode = |entry: &[u8]| {
        let probe = probe.strip_suffix(b"\x90").expect("no entries");
        let input = Bytes::from([probe, b"\x91", entry].concat());
        decode_envelope(RaftCall::Append, Direction::Request, &input)
    };
    decode(b"\x82\xa1t\x01\xa1k\x00").expect("a no-op");
    let broken: [&[u8]; 6] = [
        b"\x82\xa1t\x01\xa1k\x01",
        b"\x82\xa1t\x01\xa1k\x02",
        b"\x83\xa1t\x01\xa1k\x00\xa1d\xc4\x00",
        b"\x83\xa1t\x01\xa1k\x03\xa1d\xc4\x00",
        b"\x81\xa1t\x01",
        b"\x83\xa1t\x01\xa1k\x02\xa1d\xc4\x00",
    ];
    for entry in broken {
        assert!(matches!(decode(entry), Err(DecodeError::Content(_))), "{entry:02x?}");
    }
    let append = Append { base: LogId::new(1, u64::MAX), commit: Index(0), entries: vec![] };
    let probe = encode_envelope(&envelope(Message::Append(append)));
    let probe = probe.strip_suffix(b"\x90").expect("no entries");
    let input = Bytes::from([probe, b"\x91\x82\xa1t\x01\xa1k\x00"].concat());
    decode_envelope(RaftCall::Append, Direction::Request, &input).expect_err("no index is left");
}

#[test]
fn limits_are_refused_by_name() {
    let command = |serial, answered_below, operation| {
        Command::Write(Write { session: 1, serial, answered_below, operation })
    };
    let sized = |key: usize, value: usize| Operation::Put {
        key: Bytes::from(vec![b'k'; key]),
        value: Bytes::from(vec![b'v'; value]),
    };
    let (put, delete) = (sized(1, 1), Operation::Delete { key: Bytes::new() });
    assert_eq!(validate(&command(1, 1, sized(KEY_BYTES_MAX, VALUE_BYTES_MAX))), Ok(()));
    assert_eq!(validate(&Command::OpenSession), Ok(()));
    assert_eq!(validate(&command(1, 0, put.clone())), Ok(()), "a mark not set yet");
    let refused = [
        (command(1, 1, sized(KEY_BYTES_MAX + 1, 1)), Code::TooLarge, "the limit is 4096"),
        (command(1, 1, sized(1, VALUE_BYTES_MAX + 1)), Code::TooLarge, "the limit is 1048576"),
        (command(1, 1, delete), Code::BadRequest, "1 to 4096 bytes"),
        (command(0, 0, put.clone()), Code::BadRequest, "serials begin at 1"),
        (command(1, 2, put), Code::BadRequest, "itself included"),
    ];
    for (command, code, words) in refused {
        let refusal = validate(&command).expect_err("over a limit");
        assert_eq!(refusal.code, code);
        assert!(refusal.message.contains(words), "{refusal}");
        assert_eq!(admit_command(&encode_command(&command)), Err(refusal));
    }
    let refusal = validate_key(&[b'k'; KEY_BYTES_MAX + 1]).expect_err("too long");
    assert_eq!(refusal.code, Code::TooLarge);
    let large = Operation::Cas {
        key: bytes("k"),
        expected: Some(Bytes::from(vec![0; VALUE_BYTES_MAX])),
        value: Bytes::from(vec![0; VALUE_BYTES_MAX]),
    };
    let refusal = admit_command(&encode_command(&command(1, 1, large))).expect_err("too large");
    assert_eq!(refusal.code, Code::TooLarge);
    assert!(refusal.message.contains(&REQUEST_BYTES_MAX.to_string()), "{refusal}");
    let refusal = admit_command(&bytes("junk")).expect_err("junk");
    assert_eq!(refusal.code, Code::BadRequest);
}
