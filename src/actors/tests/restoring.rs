//! A leader's snapshot takes the place of log and state.

use std::sync::{Arc, Mutex, mpsc};

use actix::prelude::*;
use bytes::Bytes;

use crate::actors::applier::{self, Applier};
use crate::actors::deliver::Deliver;
use crate::actors::gate::Gate;
use crate::actors::log_source::LogSource;
use crate::actors::messages::{Applied, Apply, Froze, Read, ReadArgs, Restore, ServeReads, Waiter};
use crate::actors::standing::{Own, Standing};
use crate::codec::api::{Code, GetArgs, GetReply};
use crate::codec::decode;
use crate::codec::raft::{Direction, RaftCall, decode_envelope};
use crate::kv;
use crate::kv::command::Versioned;
use crate::kv::restore::Restore as Restoring;
use crate::raft::message::{Install, InstallReply};
use crate::raft::{Boot, Entry, Index, LogId, Message, NodeId, Payload, SnapshotMeta};
use crate::rpc::{Method, Responder};

use super::{NoReader, Reply, World, answered, eventually, meta, refused, still_waits, store_at};

fn noop(term: u64, index: u64) -> Entry {
    Entry { id: LogId::new(term, index), payload: Payload::Noop }
}

/// S17, L8: nothing is said of an installed snapshot, and nothing is made of it, before it is durable.
#[actix_rt::test]
async fn an_install_is_acknowledged_and_restored_when_it_is_durable() {
    let mut world = World::new();
    let last = LogId::new(2, 10);
    world.content.send(store_at(last)).unwrap();
    let install = Install { snapshot: meta(last) };
    let mut reply = world.ask(2, 2, Message::Install(install));
    world.sync_begins().await;
    assert!(still_waits(&mut reply).await, "S17");
    assert_eq!(world.standing.content().view.applied(), Index(1), "the old state goes on");

    world.allow.send(()).unwrap();
    let body = answered(reply).await;
    let reply = decode_envelope(RaftCall::Install, Direction::Reply, &body).unwrap();
    let installed = InstallReply::Installed { matched: last.index };
    assert_eq!(reply.message, Message::InstallReply(installed));
    world.applied(10).await;
    assert_eq!(world.standing.content().state_hash, store_at(last).state_hash());
    assert_eq!(world.standing.snapshots.read().installed, 1);

    // And the log goes on behind it.
    world.allow_syncs(8);
    let reply = world.append_behind(last, vec![noop(2, 11)], Index(11));
    answered(reply).await;
    world.applied(11).await;
}

/// Takes what an applier says.
#[derive(Clone, Default)]
struct Ears(Arc<Mutex<Vec<u64>>>);

impl Actor for Ears {
    type Context = Context<Self>;
}

impl Handler<Applied> for Ears {
    type Result = ();

    fn handle(&mut self, message: Applied, _: &mut Self::Context) {
        self.0.lock().unwrap().push(message.upto.0);
    }
}

impl Handler<Froze> for Ears {
    type Result = ();

    fn handle(&mut self, _: Froze, _: &mut Self::Context) {}
}

fn waiter(method: Method) -> (Waiter, Reply) {
    let (reply, answer) = Responder::detached(method);
    let permit = Gate::new(8, 1 << 20).admit(1, true).unwrap();
    (Waiter { reply, permit }, answer)
}

fn get(key: &'static str) -> (Read, Reply) {
    let (waiter, answer) = waiter(Method::KvGet);
    let args = ReadArgs::Get(GetArgs { key: Bytes::from_static(key.as_bytes()), local: false });
    (Read { args, waiter }, answer)
}

/// An applier that has applied one entry, and the way to the content of its next restoring.
struct Alone {
    applier: Addr<Applier>,
    log: LogSource,
    standing: Arc<Standing>,
    heard: Ears,
    content: mpsc::SyncSender<kv::Store>,
}

fn alone() -> Alone {
    alone_with(store_at(LogId::new(1, 1)))
}

fn alone_with(store: kv::Store) -> Alone {
    let own = Own { name: "raft-1".to_owned(), node_id: NodeId(1), boot: Boot(1) };
    let standing = Standing::new(own, store.view(), store.state_hash());
    let log = LogSource::start(Box::new(NoReader), Index(1), 1 << 20).unwrap();
    let heard = Ears::default();
    let ears = heard.clone().start();
    let (content, contents) = mpsc::sync_channel(8);
    let contents = Mutex::new(contents);
    let neighbours = applier::Neighbours {
        applied: ears.clone().recipient(),
        froze: ears.recipient(),
        load: Arc::new(move || Ok(contents.lock().unwrap().recv().unwrap_or_default())),
    };
    let applier = Applier::new(store, log.clone(), Arc::clone(&standing), neighbours).start();
    Alone { applier, log, standing, heard, content }
}

/// C5: whoever waited for an entry that the snapshot covers is answered, with an unknown outcome;
/// reads wait for the new state, which the old one must not answer (R1).
#[actix_rt::test]
async fn waiting_reads_are_served_and_stranded_writes_are_told() {
    let Alone { applier, log, standing, heard, content } = alone();
    log.append(None, &[noop(1, 2), noop(1, 3)]);
    applier.deliver(Apply { upto: Index(3), waiters: Vec::new() });
    eventually("the log is applied", || standing.content().view.applied() == Index(3)).await;

    // The disk has thrown the log away before the applier hears of the snapshot.
    log.replaced(Index(10));
    let (stranded, fate) = waiter(Method::KvWrite);
    applier.deliver(Apply { upto: Index(5), waiters: vec![(Index(5), stranded)] });
    let (read, mut answer) = get("10");
    applier.deliver(ServeReads { index: Index(8), reads: vec![read] });
    assert!(still_waits(&mut answer).await, "no index of the old state will do");
    applier.deliver(Restore(meta(LogId::new(2, 10))));
    assert!(still_waits(&mut answer).await, "the new state is still being read");
    assert_eq!(heard.0.lock().unwrap().last(), Some(&3));

    content.send(store_at(LogId::new(2, 10))).unwrap();
    assert_eq!(refused(fate).await.code, Code::Unknown);
    let reply: GetReply = decode(&answered(answer).await).unwrap();
    assert!(reply.found.is_some() && reply.index == 10, "{reply:?}");
    eventually("the node hears of it", || heard.0.lock().unwrap().last() == Some(&10)).await;

    log.append(None, &[noop(2, 11)]);
    let (read, answer) = get("10");
    applier.deliver(ServeReads { index: Index(11), reads: vec![read] });
    applier.deliver(Apply { upto: Index(11), waiters: Vec::new() });
    let reply: GetReply = decode(&answered(answer).await).unwrap();
    assert_eq!(reply.index, 11, "entries behind the snapshot, and none that it covers");
}

#[actix_rt::test]
async fn the_newer_of_two_snapshots_in_a_row_is_what_remains() {
    let Alone { applier, standing, heard, content, .. } = alone();
    applier.deliver(Restore(meta(LogId::new(2, 10))));
    applier.deliver(Restore(meta(LogId::new(2, 20))));
    content.send(store_at(LogId::new(2, 10))).unwrap();
    content.send(store_at(LogId::new(2, 20))).unwrap();
    eventually("the newer one", || standing.content().view.applied() == Index(20)).await;
    eventually("said once", || *heard.0.lock().unwrap() == [20]).await;
}

/// A value that says on which thread it was given back.
struct Traced(Arc<Mutex<Option<String>>>);

impl AsRef<[u8]> for Traced {
    fn as_ref(&self) -> &[u8] {
        b"value"
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = std::thread::current().name().map(str::to_owned);
    }
}

/// The state at this entry, as from a snapshot; its first value is this one.
fn traced(last: LogId, value: Traced) -> kv::Store {
    let like = store_at(last);
    let frozen = like.freeze();
    let mut restore = Restoring::new(frozen.revision());
    let mut value = Some(Bytes::from_owner(value));
    for (key, versioned) in frozen.entries_after(None) {
        let value = value.take().unwrap_or_else(|| versioned.value.clone());
        restore.entry(key.clone(), Versioned { value, ..versioned.clone() }).unwrap();
    }
    for session in frozen.sessions_after(0) {
        restore.session(session).unwrap();
    }
    let SnapshotMeta { membership, membership_index, .. } = meta(last);
    restore.finish(last, membership_index, membership, like.state_hash()).unwrap()
}

/// With many keys it takes longer than an election timeout, and heartbeats are read on this arbiter.
#[actix_rt::test]
async fn the_former_state_is_given_back_elsewhere() {
    let thread = Arc::default();
    let last = LogId::new(1, 3);
    let store = traced(last, Traced(Arc::clone(&thread)));
    let Alone { applier, content, standing, .. } = alone_with(store);
    applier.deliver(Restore(meta(LogId::new(2, 10))));
    content.send(store_at(LogId::new(2, 10))).unwrap();
    eventually("it is restored", || standing.content().view.applied() == Index(10)).await;
    eventually("it is given back", || thread.lock().unwrap().is_some()).await;
    assert_eq!(thread.lock().unwrap().as_deref(), Some("snapshot-drop"));
}
