//! Everything comes back as it went out, and nothing that comes in does harm.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::golden_raft::{envelope, membership};
use crate::codec::api::{GetReply, MembersReply, RangeReply, ReplicationReply, StatusReply};
use crate::codec::msgpack::DEPTH_MAX;
use crate::codec::raft::{Direction, RaftCall, decode_envelope, encode_envelope};
use crate::codec::{check, decode, decode_command, decode_shared, encode, encode_command};
use crate::kv::command::{Applied, Command, Operation, Outcome, Write};
use crate::raft::message::Append;
use crate::raft::{Entry, Envelope, Index, LogId, Message, Payload, Term};

fn some_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (some_bytes(), some_bytes()).prop_map(|(key, value)| Operation::Put { key, value }),
        some_bytes().prop_map(|key| Operation::Delete { key }),
        (some_bytes(), prop::option::of(some_bytes()), some_bytes())
            .prop_map(|(key, expected, value)| Operation::Cas { key, expected, value }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let write = (any::<u64>(), any::<u64>(), any::<u64>(), operation()).prop_map(
        |(session, serial, answered_below, operation)| {
            Command::Write(Write { session, serial, answered_below, operation })
        },
    );
    prop_oneof![1 => Just(Command::OpenSession), 9 => write]
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Noop),
        some_bytes().prop_map(Payload::Command),
        Just(Payload::Membership(membership().into())),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<u64>().prop_map(|session| Outcome::Session { session }),
        (any::<u64>(), any::<bool>())
            .prop_map(|(revision, succeeded)| Outcome::Written { revision, succeeded }),
        Just(Outcome::SessionExpired),
        Just(Outcome::SerialOutOfWindow),
        Just(Outcome::Rejected),
    ]
}

/// Bytes that look like MessagePack often enough to get somewhere.
fn near_misses() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 1..4),
        prop::sample::select(vec![
            &b"\x81"[..],
            b"\x82",
            b"\x85",
            b"\x91",
            b"\x92",
            b"\xa1f",
            b"\xa1m",
            b"\xa3key",
            b"\xa5value",
            b"\xa5write",
            b"\xa2op",
            b"\xa3put",
            b"\xa7entries",
            b"\xc4\x01k",
            b"\xc0",
            b"\xcd\x01\x00",
            b"\x01",
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Decodes with everything; whatever is understood is understood the same after a round trip.
fn decode_all(input: &Bytes) {
    if let Ok(command) = decode_command(input) {
        check(input, DEPTH_MAX).expect("decoded without a check");
        assert_eq!(decode_command(&encode_command(&command)), Ok(command));
    }
    for call in RaftCall::ALL {
        for direction in [Direction::Request, Direction::Reply] {
            if let Ok(envelope) = decode_envelope(call, direction, input) {
                let again = decode_envelope(call, direction, &encode_envelope(&envelope));
                assert_eq!(again, Ok(envelope));
            }
        }
    }
    let _ = decode_shared::<GetReply>(input);
    let _ = decode_shared::<RangeReply>(input);
    let _ = decode_shared::<StatusReply>(input);
    let _ = decode_shared::<MembersReply>(input);
    let _ = decode_shared::<ReplicationReply>(input);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn commands_come_back(command in command()) {
        let encoded = encode_command(&command);
        prop_assert_eq!(decode_command(&encoded), Ok(command));
    }

    /// Appends whose terms never go back come back; all others are refused (S13).
    #[test]
    fn appends_come_back(
        (base, index) in (0..1u64 << 62, 1..u64::MAX - 10),
        commit in any::<u64>(),
        steps in vec((0..3u64, payload()), 0..8),
        backwards in 1..3u64,
    ) {
        let mut term = base;
        let entries: Vec<Entry> = (index + 1..)
            .zip(steps)
            .map(|(index, (step, payload))| {
                term = (term + step).min(1 << 62);
                Entry { id: LogId::new(term, index), payload }
            })
            .collect();
        let append = Append { base: LogId::new(base, index), commit: Index(commit), entries };
        let mut envelope = envelope(Message::Append(append.clone()));
        envelope.term = Term(term);
        let read = |envelope: &Envelope| {
            let encoded = encode_envelope(envelope);
            decode_envelope(RaftCall::Append, Direction::Request, &encoded)
        };
        prop_assert_eq!(read(&envelope), Ok(envelope.clone()));

        if append.entries.is_empty() || term < backwards {
            return Ok(());
        }
        let beyond = Envelope { term: Term(term - backwards), ..envelope.clone() };
        prop_assert!(read(&beyond).is_err(), "an entry beyond its sender's term");
        let mut falling = append;
        falling.base.term = Term(falling.entries[0].id.term.0 + backwards);
        let falling = Envelope { message: Message::Append(falling), ..envelope };
        prop_assert!(read(&falling).is_err(), "a term that goes back");
    }

    #[test]
    fn outcomes_come_back(index in any::<u64>(), term in any::<u64>(), outcome in outcome()) {
        let applied = Applied { index, term, outcome };
        prop_assert_eq!(decode::<Applied>(&encode(&applied)), Ok(applied));
    }

    #[test]
    fn no_bytes_do_harm(random in vec(any::<u8>(), 0..200), near in near_misses()) {
        decode_all(&random.into());
        decode_all(&near.into());
    }

    #[test]
    fn no_damage_does_harm(
        command in command(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let mut damaged = encode_command(&command).to_vec();
        let at = at.index(damaged.len());
        damaged[at] ^= 1u8 << bit;
        decode_all(&damaged.into());
    }
}
