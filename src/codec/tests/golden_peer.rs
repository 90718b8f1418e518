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
    golden(
        &chunk,
        b"\x87\xa4from\x01\xa2to\x02\xa4term\x03\xa8snapshot\x83\xa4last\x82\xa4term\x02\
          \xa5index\xcd\x01,\xa5bytes\xce\x00\x10\x00\x00\xa3crc\xce\xde\xad\xbe\xef\xa6\
          offset\xcc\x80\xa3crc\x05\xa4data\xc4\x04data",
    );
    golden(&ChunkReply { next: 132, complete: false }, b"\x82\xa4next\xcc\x84\xa8complete\xc2");
}

#[test]
fn audits() {
    let audit = |ask| Audit { from: NodeId(1), to: NodeId(2), term: Term(3), ask };
    golden(
        &audit(AuditAsk::Hash { index: Index(300) }),
        b"\x84\xa4from\x01\xa2to\x02\xa4term\x03\xa3ask\x81\xa4hash\x81\xa5index\xcd\x01\
          ,",
    );
    let verdict = |hash| AuditAsk::Verdict { index: Index(300), hash };
    golden(
        &audit(verdict(Some(u64::MAX))),
        b"\x84\xa4from\x01\xa2to\x02\xa4term\x03\xa3ask\x81\xa7verdict\x82\xa5index\xcd\
          \x01,\xa4hash\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    );
    golden(
        &audit(verdict(None)),
        b"\x84\xa4from\x01\xa2to\x02\xa4term\x03\xa3ask\x81\xa7verdict\x82\xa5index\xcd\
          \x01,\xa4hash\xc0",
    );
    golden(
        &AuditReply { hash: Some(1 << 63) },
        b"\x81\xa4hash\xcf\x80\x00\x00\x00\x00\x00\x00\x00",
    );
    golden(&AuditReply { hash: None }, b"\x81\xa4hash\xc0");
}

#[test]
fn what_admins_ask_for() {
    let from = Answerer::default();
    golden(
        &AddArgs { name: "raft-3".into(), address: "h:6000".into() },
        b"\x82\xa4name\xa6raft-3\xa7address\xa6h:6000",
    );
    golden(&SeatArgs { name: "raft-3".into() }, b"\x81\xa4name\xa6raft-3");
    let (name, role) = ("raft-3".to_owned(), "voter".to_owned());
    let change =
        ChangeReply { name, node_id: NodeId(9), role, index: Index(7), from: from.clone() };
    golden(
        &change,
        b"\x85\xa4name\xa6raft-3\xa7node_id\t\xa4role\xa5voter\xa5index\x07\xa4from\x84\
          \xa4name\xa0\xa9is_leader\xc2\xa6leader\xc0\xa4term\x00",
    );
    golden(
        &TransferReply { leader: "raft-1".into(), term: Term(4), from },
        b"\x83\xa6leader\xa6raft-1\xa4term\x04\xa4from\x84\xa4name\xa0\xa9is_leader\xc2\
          \xa6leader\xc0\xa4term\x00",
    );
    let (index, term) = (Index(300), Term(2));
    let (bytes, milliseconds) = (1 << 20, 12);
    golden(
        &SnapshotReply { name: "raft-3".into(), index, term, bytes, milliseconds },
        b"\x85\xa4name\xa6raft-3\xa5index\xcd\x01,\xa4term\x02\xa5bytes\xce\x00\x10\x00\
          \x00\xacmilliseconds\x0c",
    );
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
    assert!(!status.ready, "nobody said so");
}
