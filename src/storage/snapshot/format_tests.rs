use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::raft::{ClusterId, Index, LogId, Member, Membership, NodeId, SnapshotMeta};
use crate::storage::FaultyDisk;

fn head() -> SnapshotHead {
    let member = Member { name: "raft-0".to_owned(), address: "a:6000".to_owned() };
    let membership = Membership {
        members: BTreeMap::from([(NodeId(9), member)]),
        voters: BTreeSet::from([NodeId(9)]),
        ..Membership::default()
    };
    let meta = SnapshotMeta {
        last: LogId::new(2, 7),
        membership: Arc::new(membership),
        membership_index: Index(1),
    };
    SnapshotHead { meta, cluster: ClusterId(5), state_hash: 6 }
}

fn path() -> &'static Path {
    Path::new("/file")
}

/// A whole file with these bodies.
fn encode(version: u32, bodies: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    write_named(&mut body, &head());
    let mut buffer = prefix(version).to_vec();
    let mut previous = crc32c::crc32c(&buffer);
    previous = encode_piece(&mut buffer, previous, Kind::Head, &body);
    let mut counts = Counts::default();
    for body in bodies {
        counts.add(body.len());
        previous = encode_piece(&mut buffer, previous, Kind::Content, body);
    }
    encode_piece(&mut buffer, previous, Kind::End, &counts.encode());
    buffer
}

/// What reading these bytes comes to.
fn decode(bytes: &[u8]) -> Result<(SnapshotHead, Vec<Bytes>, u32), Fault> {
    let disk = FaultyDisk::new();
    let file = disk.fs().create(path()).unwrap();
    file.write_at(bytes, 0).unwrap();
    let (mut pieces, head) = Pieces::open(file, path())?;
    let mut bodies = Vec::new();
    while let Some(body) = pieces.next()? {
        bodies.push(body);
    }
    assert_eq!(pieces.offset(), bytes.len() as u64);
    Ok((head, bodies, pieces.whole()))
}

fn must_be_broken(bytes: &[u8], what: &dyn std::fmt::Debug) {
    match decode(bytes) {
        Err(Fault::Broken(..)) => {}
        other => panic!("{what:?}: {other:?}"),
    }
}

#[test]
fn the_bytes_stay_as_they_are() {
    // A change here is a change of the format on disk and between nodes: it needs a new version.
    let bytes = encode(VERSION, &[b"chocolate"]);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = "42414c53412d534e010000008326d5fc010000007c00000083a46d65746183a46c61737482a47465 \
         726d02a5696e64657807aa6d656d6265727368697082a76d656d62657273810982a46e616d65a672 \
         6166742d30a761646472657373a6613a36303030a6766f746572739109b06d656d62657273686970 \
         5f696e64657801a7636c757374657205aa73746174655f686173680603ec72c10200000009000000 \
         63686f636f6c617465540c3fd9030000001000000001000000000000000900000000000000";
    assert_eq!(hex, expected.replace(' ', ""));
}

#[test]
fn what_is_encoded_is_decoded() {
    for bodies in [&[][..], &[&b"one"[..]], &[b"one", b"", b"three"], &[&[7; PIECE_MAX]]] {
        let bytes = encode(VERSION, bodies);
        let (found, decoded, whole) = decode(&bytes).unwrap();
        assert_eq!(
            (found, decoded),
            (head(), bodies.iter().map(|b| Bytes::copy_from_slice(b)).collect())
        );
        assert_eq!(whole, crc32c::crc32c(&bytes));
    }
    let (start, crc) = encode_head(&head());
    assert!(encode(VERSION, &[]).starts_with(&start));
    assert_eq!(start[PREFIX_BYTES..][..4], crc.to_le_bytes());
}

#[test]
fn every_flipped_bit_and_every_missing_byte_is_noticed() {
    let bytes = encode(VERSION, &[b"one", b"two"]);
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        must_be_broken(&bytes, &bit);
    }
    for keep in 0..bytes.len() {
        must_be_broken(&bytes[..keep], &keep);
    }
    must_be_broken(&[&bytes[..], &[0]].concat(), &"a byte more");
}

#[test]
fn pieces_cannot_be_swapped_left_out_or_taken_from_another_file() {
    let start = encode(VERSION, &[]).len() - PIECE_HEADER_BYTES - 16;
    let piece = PIECE_HEADER_BYTES + 3;
    let bytes = encode(VERSION, &[b"one", b"two"]);
    let (one, two) = (start..start + piece, start + piece..start + 2 * piece);
    let swapped =
        [&bytes[..start], &bytes[two.clone()], &bytes[one.clone()], &bytes[two.end..]].concat();
    must_be_broken(&swapped, &"swapped");
    must_be_broken(
        &[&bytes[..start], &bytes[two.clone()], &bytes[two.end..]].concat(),
        &"left out",
    );
    must_be_broken(&[&bytes[..one.end], &bytes[two.end..]].concat(), &"without the last");
    let other = encode(VERSION, &[b"eno", b"two"]);
    must_be_broken(&[&bytes[..one.end], &other[one.end..]].concat(), &"another file's");
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let bytes = encode(VERSION + 1, &[b"one"]);
    match decode(&bytes) {
        Err(Fault::Disk(StorageError::NewerFormat { found, known, .. })) => {
            assert_eq!((found, known), (VERSION + 1, VERSION));
        }
        other => panic!("{other:?}"),
    }
    let mut broken = encode(VERSION, &[b"one"]);
    broken[8] = 2;
    must_be_broken(&broken, &"a version that nobody wrote");
}

#[test]
fn a_head_that_no_node_can_have_written_is_refused() {
    let mut senseless = head();
    senseless.meta.membership_index = Index(8);
    let (mut bytes, crc) = encode_head(&senseless);
    encode_piece(&mut bytes, crc, Kind::End, &Counts::default().encode());
    must_be_broken(&bytes, &"a membership behind the snapshot");
}
