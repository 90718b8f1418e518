//! The exact bytes of what came with snapshots, members and audits: between nodes beside the
//! protocol's own messages, and from admins.

use super::bytes;
use super::golden::golden;
use crate::codec::api::*;
use crate::codec::decode;
use crate::codec::peer::{Audit, AuditAsk, AuditReply, Chunk, ChunkReply};
use crate::raft::{Index, LogId, NodeId, SnapshotId, Term};

#[test]
fn pieces_of_snapshots() {
    let snapshot = SnapshotId { last: LogId::new(2, 300), bytes: 1 << 20, crc: 0xdead_beef };
    let chunk = Chunk {
        from: NodeId(1),
        to: NodeId(2),
        term: Term(3),
        snapshot,
        offset: 128,
        crc: 5,
        data: bytes("data"),
    };
    golden(&chunk, b"");
    golden(&ChunkReply { next: 132, complete: false }, b"");
}

#[test]
fn audits() {
    let audit = |ask| Audit { from: NodeId(1), to: NodeId(2), term: Term(3), ask };
    golden(&audit(AuditAsk::Hash { index: Index(300) }), b"");
    let verdict = |hash| AuditAsk::Verdict { index: Index(300), hash };
    golden(&audit(verdict(Some(u64::MAX))), b"");
    golden(&audit(verdict(None)), b"");
    golden(&AuditReply { hash: Some(1 << 63) }, b"");
    golden(&AuditReply { hash: None }, b"");
}

#[test]
fn what_admins_ask_for() {
    let from = Answerer::default();
    golden(&AddArgs { name: "raft-3".into(), address: "h:6000".into() }, b"");
    golden(&SeatArgs { name: "raft-3".into() }, b"");
    let (name, role) = ("raft-3".to_owned(), "voter".to_owned());
    let change = ChangeReply { name, node_id: NodeId(9), role, index: Index(7), from: from.clone() };
    golden(&change, b"");
    golden(&TransferReply { leader: "raft-1".into(), term: Term(4), from }, b"");
    let (index, term) = (Index(300), Term(2));
    let (bytes, milliseconds) = (1 << 20, 12);
    golden(&SnapshotReply { name: "raft-3".into(), index, term, bytes, milliseconds }, b"");
}

/// What nodes without snapshots answer.
#[test]
fn a_status_of_the_former_version_is_read() {
    let status: StatusReply = decode(
        b"\x8c\xa4name\xa6raft-0\xa7node_id\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xaacluster_id\
          \x01\xa4role\xadpre_candidate\xa6leader\xc0\xa4term\x03\xaalast_index\t\
          \xaccommit_index\x08\xadapplied_index\x07\xaesnapshot_index\x00\xaastate_hash\
          \xcf\x80\x00\x00\x00\x00\x00\x00\x00\xa7waiting\xc0",
    )
    .expect("decodes");
    assert_eq!((status.stopping, status.snapshots), (false, SnapshotCounters::default()));
}
