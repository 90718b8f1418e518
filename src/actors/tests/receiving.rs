//! The receiving side of a snapshot's transfer, over a disk in memory.

use std::sync::Arc;

use bytes::Bytes;

use crate::actors::snapshot_load::{current, load};
use crate::actors::snapshot_receiver::Receiver;
use crate::actors::standing::{Own, Standing};
use crate::codec::api::Code;
use crate::codec::decode;
use crate::codec::peer::{Chunk, ChunkReply};
use crate::codec::snapshot::Encoder;
use crate::raft::{Boot, Index, LogId, NodeId, SnapshotId, Term};
use crate::rpc::{Method, Responder};
use crate::storage::{FaultyDisk, SnapshotFile, SnapshotHead};

use super::{CLUSTER, Reply, answered, meta, refused, snapshots, store_at};

/// A snapshot that ends at this index, as its sender has it, in many pieces.
fn snapshot(last: u64) -> SnapshotFile {
    let last = LogId::new(2, last);
    let frozen = store_at(last).freeze();
    let store = snapshots(&FaultyDisk::new());
    let head = SnapshotHead { meta: meta(last), cluster: CLUSTER, state_hash: frozen.state_hash() };
    let mut writer = store.begin(&head).unwrap();
    for piece in Encoder::new(frozen) {
        for part in piece.chunks(50) {
            writer.write(part).unwrap();
        }
    }
    writer.finish().unwrap()
}

struct Bench {
    disk: FaultyDisk,
    receiver: Receiver,
    standing: Arc<Standing>,
}

impl Bench {
    fn new(disk: FaultyDisk) -> Bench {
        let store = store_at(LogId::new(1, 1));
        let own = Own { name: "raft-1".to_owned(), node_id: NodeId(1), boot: Boot(1) };
        let standing = Standing::new(own, store.view(), store.state_hash());
        let receiver = Receiver::start(snapshots(&disk), Arc::clone(&standing)).unwrap();
        Bench { disk, receiver, standing }
    }

    fn offer(&self, chunk: Chunk) -> Reply {
        let (reply, answer) = Responder::detached(Method::RaftSnapshot);
        self.receiver.take(chunk, reply);
        answer
    }

    async fn take(&self, chunk: Chunk) -> ChunkReply {
        decode(&answered(self.offer(chunk)).await).unwrap()
    }

    async fn ask(&self, id: SnapshotId) -> ChunkReply {
        self.take(chunk(id, 0, Bytes::new())).await
    }
}

fn chunk(snapshot: SnapshotId, offset: u64, data: Bytes) -> Chunk {
    let crc = crc32c::crc32c(&data);
    Chunk { from: NodeId(2), to: NodeId(1), term: Term(2), snapshot, offset, crc, data }
}

fn state(next: u64, complete: bool) -> ChunkReply {
    ChunkReply { next, complete }
}

#[actix_rt::test]
async fn pieces_come_in_order_and_the_whole_is_checked() {
    let bench = Bench::new(FaultyDisk::new());
    let file = snapshot(40);
    let (id, bytes) = (file.id(), file.id().bytes);
    let whole = file.read_at(0, 1 << 20).unwrap();
    assert_eq!(whole.len() as u64, bytes);
    assert!(!bench.receiver.holds(&file.head().meta));

    assert_eq!(bench.ask(id).await, state(0, false));
    assert_eq!(bench.take(chunk(id, 0, whole.slice(..100))).await, state(100, false));
    let stray = chunk(id, 200, whole.slice(200..300));
    assert_eq!(bench.take(stray).await, state(100, false), "nothing but the next piece");
    let twice = chunk(id, 0, whole.slice(..100));
    assert_eq!(bench.take(twice).await, state(100, false));

    let mut damaged = chunk(id, 100, whole.slice(100..200));
    damaged.crc ^= 1;
    assert_eq!(refused(bench.offer(damaged)).await.code, Code::BadRequest);
    let long = chunk(id, 100, Bytes::from(vec![0; whole.len()]));
    assert_eq!(refused(bench.offer(long)).await.code, Code::BadRequest);
    assert_eq!(bench.ask(id).await, state(100, false), "neither left a trace");

    assert!(!bench.receiver.holds(&file.head().meta));
    assert_eq!(bench.take(chunk(id, 100, whole.slice(100..))).await, state(bytes, true));
    assert!(bench.receiver.holds(&file.head().meta), "only now an install may follow");
    assert_eq!(bench.ask(id).await, state(bytes, true));
    assert_eq!(bench.standing.snapshots.read().received_bytes, bytes);
}

/// A flipped bit that the piece's own checksum does not tell: the sender has read it from its disk.
#[actix_rt::test]
async fn a_file_that_is_not_what_its_name_says_is_refused_and_begun_anew() {
    let bench = Bench::new(FaultyDisk::new());
    let file = snapshot(40);
    let id = file.id();
    let mut whole = file.read_at(0, 1 << 20).unwrap().to_vec();
    whole[200] ^= 1;
    let refusal = refused(bench.offer(chunk(id, 0, Bytes::from(whole)))).await;
    assert_eq!(refusal.code, Code::BadRequest, "{refusal:?}");
    assert!(!bench.receiver.holds(&file.head().meta));
    assert_eq!(bench.ask(id).await, state(0, false));
}

#[actix_rt::test]
async fn a_transfer_goes_on_after_a_restart_and_gives_way_to_another() {
    let bench = Bench::new(FaultyDisk::new());
    let (first, second) = (snapshot(40), snapshot(60));
    let whole = first.read_at(0, 1 << 20).unwrap();
    bench.take(chunk(first.id(), 0, whole.slice(..500))).await;

    let Bench { disk, receiver, .. } = bench;
    drop(receiver);
    disk.kill();
    let bench = Bench::new(disk.fork());
    let ChunkReply { next, complete } = bench.ask(first.id()).await;
    assert!(!complete && (300..=500).contains(&next), "as far as it is sound: {next}");
    let rest = whole.slice(usize::try_from(next).unwrap()..);
    assert!(bench.take(chunk(first.id(), next, rest)).await.complete);

    let whole = second.read_at(0, 1 << 20).unwrap();
    let half = whole.len() / 2;
    bench.take(chunk(second.id(), 0, whole.slice(..half))).await;
    assert!(bench.receiver.holds(&first.head().meta), "what is complete stays");

    // While one is being installed no other takes its place.
    bench.receiver.installing(Index(40));
    bench.receiver.installing(Index(60));
    bench.receiver.installed(Index(40));
    let third = snapshot(80);
    let refusal = refused(bench.offer(chunk(third.id(), 0, Bytes::new()))).await;
    assert_eq!(refusal.code, Code::Unavailable);
    bench.receiver.installed(Index(60));
    assert_eq!(bench.ask(third.id()).await, state(0, false));
    assert_eq!(bench.ask(second.id()).await, state(0, false), "one transfer at a time");
}

#[actix_rt::test]
async fn a_sender_of_a_former_term_and_a_full_disk_are_refused() {
    let bench = Bench::new(FaultyDisk::new());
    let file = snapshot(40);
    let mut present = (*bench.standing.present()).clone();
    present.soft_state.term = Term(3);
    bench.standing.publish(present.clone());
    let refusal = refused(bench.offer(chunk(file.id(), 0, Bytes::new()))).await;
    assert_eq!(refusal.code, Code::Unavailable);
    present.soft_state.term = Term(2);
    bench.standing.publish(present);

    bench.disk.set_room(Some(0));
    let refusal = refused(bench.offer(chunk(file.id(), 0, Bytes::new()))).await;
    assert_eq!(refusal.code, Code::NoSpace);
    bench.disk.set_room(None);
    let whole = file.read_at(0, 1 << 20).unwrap();
    assert!(bench.take(chunk(file.id(), 0, whole)).await.complete, "and goes on by itself");
}

/// D14: what was received becomes, byte for byte, the state that was frozen.
#[actix_rt::test]
async fn a_received_snapshot_is_the_state_that_was_frozen() {
    let disk = FaultyDisk::new();
    let store = snapshots(&disk);
    let own = Own { name: "raft-1".to_owned(), node_id: NodeId(1), boot: Boot(1) };
    let empty = store_at(LogId::new(1, 1));
    let standing = Standing::new(own, empty.view(), empty.state_hash());
    let receiver = Receiver::start(store.clone(), standing).unwrap();
    let file = snapshot(40);
    let (reply, answer) = Responder::detached(Method::RaftSnapshot);
    receiver.take(chunk(file.id(), 0, file.read_at(0, 1 << 20).unwrap()), reply);
    answered(answer).await;
    store.install(file.id().last).unwrap();
    let restored = current(&store).unwrap();
    let sent = load(&file).unwrap();
    assert_eq!(restored.state_hash(), sent.state_hash());
    assert_eq!(restored.state_hash(), store_at(LogId::new(2, 40)).state_hash());
    assert_eq!(restored.applied(), sent.applied());
}
