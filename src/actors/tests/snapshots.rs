//! A node's own snapshots: when they are taken, what they free, and who is told.

use bytes::Bytes;

use crate::actors::deliver::Deliver;
use crate::actors::messages::TakeSnapshot;
use crate::codec::api::{Code, SnapshotReply};
use crate::codec::command::encode_command;
use crate::codec::decode;
use crate::config::SnapshotPolicy;
use crate::kv::command::Command;
use crate::raft::{Entry, Index, LogId, Options, Payload};
use crate::rpc::{Method, Responder};

use super::{Reply, World, answered, eventually, put, refused};

fn command(index: u64, command: &Command) -> Entry {
    Entry { id: LogId::new(2, index), payload: Payload::Command(encode_command(command)) }
}

/// Entries 2 up to and including `last`: a session and puts.
fn entries(last: u64) -> Vec<Entry> {
    let puts = (3..=last).map(|index| command(index, &put(index)));
    std::iter::once(command(2, &Command::OpenSession)).chain(puts).collect()
}

fn policy(entries: u64, bytes: u64) -> SnapshotPolicy {
    SnapshotPolicy { bytes, entries }
}

impl World {
    /// Whether and where the current snapshot ends.
    fn snapshot(&self) -> Option<u64> {
        self.snapshots.current().map(|file| file.id().last.index.0)
    }

    fn take_snapshot(&self) -> Reply {
        let (reply, answer) = Responder::detached(Method::NodeSnapshot);
        self.node.deliver(TakeSnapshot { reply });
        answer
    }
}

async fn taken(reply: Reply) -> SnapshotReply {
    let body: Bytes = answered(reply).await;
    decode(&body).unwrap()
}

#[actix_rt::test]
async fn a_snapshot_is_taken_when_the_log_has_grown_enough_and_frees_what_it_covers() {
    let options = Options { trailing_entries: 2, ..Options::default() };
    let mut world = World::with(policy(6, u64::MAX), options);
    world.allow_syncs(16);
    answered(world.append_behind(LogId::new(1, 1), entries(6), Index(6))).await;
    world.applied(6).await;
    assert_eq!(world.snapshot(), None, "five entries are not six");

    let seventh = command(7, &put(7));
    answered(world.append_behind(LogId::new(2, 6), vec![seventh], Index(7))).await;
    eventually("a snapshot", || world.snapshot() == Some(7)).await;
    let purged = || world.purged.lock().unwrap().clone();
    eventually("the log is purged", || !purged().is_empty()).await;
    assert_eq!(purged(), [LogId::new(2, 5)], "two trailing entries stay");
    let counters = world.standing.snapshots.read();
    assert_eq!((counters.taken, counters.installed), (1, 0));
    let file = world.snapshots.current().unwrap();
    assert_eq!(counters.last_bytes, file.id().bytes);
    assert_eq!(file.head().state_hash, world.standing.content().state_hash);
}

#[actix_rt::test]
async fn bytes_of_entries_count_as_well() {
    let mut world = World::with(policy(u64::MAX, 200), Options::default());
    world.allow_syncs(16);
    answered(world.append_behind(LogId::new(1, 1), entries(3), Index(3))).await;
    world.applied(3).await;
    assert_eq!(world.snapshot(), None);
    let more: Vec<Entry> = (4..=9).map(|index| command(index, &put(index))).collect();
    answered(world.append_behind(LogId::new(2, 3), more, Index(9))).await;
    eventually("a snapshot", || world.snapshot() == Some(9)).await;
    let purged = world.purged.lock().unwrap().clone();
    assert!(purged.iter().all(|upto| *upto == LogId::new(1, 1)), "all others trail: {purged:?}");
}

#[actix_rt::test]
async fn an_admin_gets_a_snapshot_of_all_that_is_applied() {
    let mut world = World::new();
    world.allow_syncs(16);
    let refusal = refused(world.take_snapshot()).await;
    assert_eq!(refusal.code, Code::Unavailable, "nothing is there to be kept: {refusal:?}");

    answered(world.append_behind(LogId::new(1, 1), entries(4), Index(4))).await;
    world.applied(4).await;
    let (first, second) = (world.take_snapshot(), world.take_snapshot());
    let first = taken(first).await;
    assert_eq!((first.index, first.term.0), (Index(4), 2));
    assert_eq!(taken(second).await.index, Index(4), "no second one for the same");
    assert_eq!(world.standing.snapshots.read().taken, 1);
    let file = world.snapshots.current().unwrap();
    assert_eq!((file.id().last, file.id().bytes), (LogId::new(2, 4), first.bytes));
    assert_eq!(taken(world.take_snapshot()).await.bytes, first.bytes, "and again the same");
}

/// D11: without room for a snapshot the node goes on, and says so to whoever asked.
#[actix_rt::test]
async fn a_snapshot_that_finds_no_room_is_given_up_and_the_node_goes_on() {
    let mut world = World::with(policy(6, u64::MAX), Options::default());
    world.allow_syncs(16);
    answered(world.append_behind(LogId::new(1, 1), entries(4), Index(4))).await;
    world.applied(4).await;
    world.disk.set_room(Some(0));
    assert_eq!(refused(world.take_snapshot()).await.code, Code::NoSpace);
    let more = (5..=9).map(|index| command(index, &put(index))).collect();
    answered(world.append_behind(LogId::new(2, 4), more, Index(9))).await;
    world.applied(9).await;
    assert_eq!(world.snapshot(), None, "one is due, and waits for its time");

    // An admin need not wait for it.
    world.disk.set_room(None);
    assert_eq!(taken(world.take_snapshot()).await.index, Index(9));
    assert_eq!(world.standing.snapshots.read().taken, 1);
}
