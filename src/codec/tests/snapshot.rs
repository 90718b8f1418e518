//! The content of a snapshot: its exact bytes, that it comes back whole, and that damage of any kind
//! is an error and never a store.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::bytes;
use super::golden_raft::membership;
use crate::codec::DecodeError;
use crate::codec::snapshot::{Decoder, Encoder, meta};
use crate::kv::command::{Command, Operation, Write};
use crate::kv::limits::{KEY_BYTES_MAX, SERIAL_WINDOW, VALUE_BYTES_MAX};
use crate::kv::{Frozen, Store};
use crate::raft::{Index, LogId, SnapshotMeta};

/// A store that has applied a membership and then these commands.
fn store(commands: &[Command]) -> Store {
    let mut store = Store::new();
    store.apply_membership(LogId::new(1, 1), &Arc::new(membership()));
    for (index, command) in (2..).zip(commands) {
        store.apply(LogId::new(1 + index / 10, index), Some(command));
    }
    store
}

fn write(session: u64, serial: u64, answered_below: u64, operation: Operation) -> Command {
    Command::Write(Write { session, serial, answered_below, operation })
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Operation {
    Operation::Put { key: key.into(), value: value.into() }
}

/// Two keys, and two sessions with every kind of reply that is kept.
fn small() -> Store {
    store(&[
        Command::OpenSession,
        write(2, 1, 1, put("a", "1")),
        write(2, 2, 1, put("b", "")),
        write(2, 3, 2, Operation::Delete { key: bytes("none") }),
        write(2, 5, 2, put("", "rejected")),
        Command::OpenSession,
        write(2, 6, 2, put("a", "22")),
    ])
}

fn encode(frozen: &Frozen) -> Vec<u8> {
    Encoder::new(frozen.clone()).flatten().collect()
}

fn decode(bytes: &[u8], frozen: &Frozen) -> Result<Store, DecodeError> {
    let mut decoder = Decoder::new();
    decoder.push(bytes)?;
    decoder.finish(&meta(frozen).expect("has members"), frozen.state_hash())
}

#[test]
fn the_bytes_are_pinned() {
    let frozen = small().freeze();
    let encoded = encode(&frozen);
    let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = include_str!("../testdata/content.hex").split_whitespace().collect::<String>();
    assert_eq!(hex, golden, "a change of the format needs a version");
    let restored = decode(&encoded, &frozen).expect("decodes");
    assert_eq!(encode(&restored.freeze()), encoded);
}

#[test]
fn an_empty_store_is_content_too() {
    let frozen = store(&[]).freeze();
    let restored = decode(&encode(&frozen), &frozen).expect("decodes");
    assert_eq!(restored.state_hash(), frozen.state_hash());
    assert_eq!(restored.applied(), Index(1));
    let before_any_members = Store::new().freeze();
    assert_eq!(meta(&before_any_members), None);
}

#[test]
fn every_flipped_bit_is_an_error() {
    let frozen = small().freeze();
    let encoded = encode(&frozen);
    for bit in 0..encoded.len() * 8 {
        let mut damaged = encoded.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&damaged, &frozen).is_err(), "bit {bit} of byte {}", bit / 8);
    }
}

#[test]
fn every_prefix_is_an_error_and_so_is_what_follows_the_end() {
    let frozen = small().freeze();
    let encoded = encode(&frozen);
    for end in 0..encoded.len() {
        assert!(decode(&encoded[..end], &frozen).is_err(), "{end} bytes");
    }
    for more in [&b"\0"[..], &encoded[..1], &encoded, &[0xff; 5], b"\x02\0\0\0\0"] {
        assert!(decode(&[&encoded, more].concat(), &frozen).is_err(), "{more:02x?}");
    }
}

#[test]
fn every_other_head_is_an_error() {
    let frozen = small().freeze();
    let encoded = encode(&frozen);
    let sound = meta(&frozen).expect("has members");
    let finish = |change: fn(&mut SnapshotMeta), hash: u64| {
        let mut meta = sound.clone();
        change(&mut meta);
        let mut decoder = Decoder::new();
        decoder.push(&encoded).expect("sound");
        decoder.finish(&meta, hash)
    };
    let hash = frozen.state_hash();
    finish(|_| {}, hash).expect("unchanged");
    assert!(finish(|_| {}, hash ^ 1).is_err());
    let changes: [fn(&mut SnapshotMeta); 5] = [
        |m| m.membership_index = Index(2),
        |m| m.membership_index = Index(0),
        |m| m.last.index = Index(7),
        |m| m.last.term.0 = 0,
        |m| Arc::make_mut(&mut m.membership).retired.extend(["raft-9".to_owned()]),
    ];
    for (case, change) in changes.into_iter().enumerate() {
        assert!(finish(change, hash).is_err(), "case {case}");
    }
}

#[test]
fn records_out_of_place_unknown_or_too_long_are_errors() {
    let frozen = small().freeze();
    let encoded = encode(&frozen);
    let mut records = Vec::new();
    let mut rest = &encoded[..];
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[1..5].try_into().expect("four"));
        let (record, behind) = rest.split_at(5 + length as usize);
        records.push(record);
        rest = behind;
    }
    assert_eq!(records.iter().map(|record| record[0]).collect::<Vec<_>>(), [1, 2, 2, 3, 3]);
    for one in 0..records.len() {
        for other in 0..one {
            let mut swapped = records.clone();
            swapped.swap(one, other);
            assert!(decode(&swapped.concat(), &frozen).is_err(), "{one} and {other} swapped");
        }
        let mut twice = records.clone();
        twice.insert(one, records[one]);
        assert!(decode(&twice.concat(), &frozen).is_err(), "{one} twice");
        let mut unknown = records.concat();
        unknown.splice(..0, *b"\x09\0\0\0\0");
        assert!(decode(&unknown, &frozen).is_err());
    }
    // Refused by its length alone, before any of it is waited for.
    let mut decoder = Decoder::new();
    decoder.push(records[0]).expect("sound");
    decoder.push(b"\x02\xff\xff\xff\x00").expect_err("too long");
    let version = encoded.windows(8).position(|bytes| bytes == b"version\x01").expect("named");
    let mut newer = encoded.clone();
    newer[version + 7] = 2;
    let error = decode(&newer, &frozen).expect_err("a later version");
    assert!(error.to_string().contains("version 2"), "{error}");
}

#[test]
fn pieces_are_bounded_and_the_largest_records_fit() {
    let key =
        |i: usize| [vec![b'k'; KEY_BYTES_MAX - 1], vec![b'0' + u8::try_from(i).unwrap()]].concat();
    let mut commands = vec![Command::OpenSession];
    for i in 0..5 {
        let value = if i % 2 == 0 { VALUE_BYTES_MAX } else { 70_000 };
        commands.push(write(2, i as u64 + 1, 1, put(key(i), vec![b'v'; value])));
    }
    for serial in 6..=SERIAL_WINDOW {
        commands.push(write(2, serial, 1, put("x", "")));
    }
    let frozen = store(&commands).freeze();
    let pieces: Vec<Bytes> = Encoder::new(frozen.clone()).collect();
    assert!(pieces.len() >= 3);
    let largest = KEY_BYTES_MAX + VALUE_BYTES_MAX + 256 + (128 << 10) + 5;
    assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= largest));
    let restored = decode(&pieces.concat(), &frozen).expect("decodes");
    assert_eq!(restored.state_hash(), frozen.state_hash());
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Write { session: usize, serial: u64, below: u64, operation: Operation },
}

fn step() -> impl Strategy<Value = Step> {
    let key = || vec(any::<u8>(), 0..3).prop_map(Bytes::from);
    let value = || vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let operation = prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| Operation::Put { key, value }),
        1 => key().prop_map(|key| Operation::Delete { key }),
        1 => (key(), prop::option::of(value()), value())
            .prop_map(|(key, expected, value)| Operation::Cas { key, expected, value }),
    ];
    let write = (0usize..4, 0u64..20, 0u64..20, operation).prop_map(
        |(session, serial, below, operation)| Step::Write { session, serial, below, operation },
    );
    prop_oneof![1 => Just(Step::Open), 8 => write]
}

/// The commands of some steps, for a log that begins at index 2.
fn commands(steps: Vec<Step>) -> Vec<Command> {
    let mut opened = vec![4_000];
    (2..)
        .zip(steps)
        .map(|(index, step)| match step {
            Step::Open => {
                opened.push(index);
                Command::OpenSession
            }
            Step::Write { session, serial, below, operation } => {
                write(opened[opened.len().saturating_sub(1 + session)], serial, below, operation)
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Frozen at any place of its log and read back in pieces of any size, a store answers the rest of
    /// the log as the first one does, and ends up equal.
    #[test]
    fn a_store_comes_back_and_goes_on_as_before(
        steps in vec(step(), 0..120),
        cut in any::<prop::sample::Index>(),
        sizes in vec(1usize..200, 1..10),
    ) {
        let commands = commands(steps);
        let cut = cut.index(commands.len() + 1);
        let mut original = store(&commands[..cut]);
        let frozen = original.freeze();
        let encoded = encode(&frozen);
        let mut decoder = Decoder::new();
        let (mut rest, mut sizes) = (&encoded[..], sizes.into_iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            decoder.push(piece).unwrap();
            rest = behind;
        }
        let mut restored = decoder.finish(&meta(&frozen).unwrap(), frozen.state_hash()).unwrap();
        prop_assert_eq!(&encode(&restored.freeze()), &encoded);
        for (index, command) in (cut as u64 + 2..).zip(&commands[cut..]) {
            let at = LogId::new(1 + index / 10, index);
            prop_assert_eq!(restored.apply(at, Some(command)), original.apply(at, Some(command)));
            prop_assert_eq!(restored.state_hash(), original.state_hash());
        }
        prop_assert_eq!(encode(&restored.freeze()), encode(&original.freeze()));
        prop_assert_eq!(encode(&frozen), encoded, "what is frozen stays");
    }

    /// Random damage of more than a bit.
    #[test]
    fn no_damage_is_a_store(at in any::<prop::sample::Index>(), junk in vec(any::<u8>(), 1..40)) {
        let frozen = small().freeze();
        let encoded = encode(&frozen);
        let mut damaged = encoded.clone();
        let from = at.index(damaged.len());
        let upto = (from + junk.len()).min(damaged.len());
        damaged.splice(from..upto, junk);
        prop_assume!(damaged != encoded);
        prop_assert!(decode(&damaged, &frozen).is_err());
    }
}
