//! The client over real connections: two nodes that speak the real transport around one store, of
//! which the second leads. Pages hold two entries, so that paging is needed at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;

use tokio::net::TcpListener;

use super::*;
use crate::certs::{Authority, Existing, Profile, Validity};
use crate::codec::api::{
    KeyValue, LeaderHint, LogContent, LogLine, MemberStatus, MembersReply, Refusal,
    ReplicationArgs, ReplicationReply, StatusReply,
};
use crate::identity::{Identity, Role};
use crate::kv::command::Versioned;
use crate::raft::{Index, NodeId, RoleKind, Term};
use crate::rpc;

/// Entries in a page.
const PAGE: usize = 2;

struct Seat {
    ordinal: u64,
    addresses: Arc<Vec<String>>,
    world: Fake,
    stopper: Mutex<Option<rpc::Stopper>>,
    meter: Arc<rpc::Meter>,
}

impl Seat {
    fn name(&self) -> String {
        format!("raft-{}", self.ordinal)
    }

    fn from(&self) -> Answerer {
        let leader = Some("raft-1".to_owned());
        Answerer { name: self.name(), is_leader: self.ordinal == 1, leader, term: 7 }
    }

    fn page(&self, from: &[u8], to: Option<&[u8]>) -> (Vec<KeyValue>, Option<Bytes>) {
        let (page, next) = self.world.world().store.view().range(from, to, PAGE, usize::MAX);
        let entry = |(key, found): (Bytes, Versioned)| KeyValue {
            key,
            value: found.value,
            create_revision: found.create_revision,
            mod_revision: found.mod_revision,
            version: found.version,
        };
        (page.into_iter().map(entry).collect(), next)
    }

    fn status(&self) -> StatusReply {
        StatusReply {
            name: self.name(),
            node_id: NodeId(self.ordinal + 1),
            cluster_id: Some(crate::raft::ClusterId(7)),
            role: if self.ordinal == 1 { RoleKind::Leader } else { RoleKind::Follower },
            leader: Some("raft-1".into()),
            term: Term(7),
            last_index: Index(5),
            commit_index: Index(5),
            applied_index: Index(5),
            snapshot_index: Index(0),
            state_hash: 0,
            waiting: None,
            stopping: false,
            snapshots: Default::default(),
            ready: true,
        }
    }

    fn members(&self) -> MembersReply {
        let member = |(ordinal, address): (usize, &String)| MemberStatus {
            name: format!("raft-{ordinal}"),
            node_id: NodeId(ordinal as u64 + 1),
            role: "voter".into(),
            address: address.clone(),
            match_index: None,
        };
        let members = self.addresses.iter().enumerate().map(member).collect();
        MembersReply { members, from: self.from() }
    }

    /// A log of five entries.
    fn replication(&self, args: &ReplicationArgs) -> ReplicationReply {
        let first = args.from.max(1);
        let last = (first + PAGE as u64 - 1).min(5);
        let line =
            |index| LogLine { index: Index(index), term: Term(7), content: LogContent::Noop };
        let (store, next_key) = self.page(&args.store_from, None);
        ReplicationReply {
            name: self.name(),
            first_index: Index(1),
            last_index: Index(5),
            log: (first..=last).map(line).collect(),
            next_index: (last < 5).then(|| Index(last + 1)),
            store,
            next_key,
            applied_index: Index(5),
        }
    }

    fn answer(&self, call: rpc::Call) {
        let rpc::Call { method, args, reply, .. } = call;
        let hint = LeaderHint { name: "raft-1".into(), address: self.addresses[1].clone() };
        let elsewhere = Refusal {
            code: Code::NotLeader,
            message: "raft-0 does not lead".into(),
            leader: Some(hint),
            seen: None,
        };
        match method {
            Method::ClusterMembers => reply.send(&self.members()),
            Method::NodeStatus => reply.send(&self.status()),
            Method::NodeReplication => {
                reply.send(&self.replication(&codec::decode_shared(&args).unwrap()));
            }
            Method::NodeStop => {
                reply.send(&BTreeMap::<String, u64>::new());
                self.stopper.lock().unwrap().take();
            }
            _ if self.ordinal != 1 => reply.refuse(elsewhere),
            Method::KvOpenSession | Method::KvWrite => {
                let applied = self.world.world().apply(&args);
                reply.send(&WriteReply { applied, from: self.from() });
            }
            Method::KvGet => {
                let args: GetArgs = codec::decode_shared(&args).unwrap();
                let mut end = args.key.to_vec();
                end.push(0);
                let found = self.page(&args.key, Some(&end)).0.pop();
                let (revision, from) = (self.world.revision(), self.from());
                reply.send(&GetReply { found, revision, index: 5, local: args.local, from });
            }
            _ => {
                let args: RangeArgs = codec::decode_shared(&args).unwrap();
                let (entries, next) = self.page(&args.from, args.to.as_deref());
                let (revision, from) = (self.world.revision(), self.from());
                let local = args.local;
                reply.send(&RangeReply { entries, next, revision, index: 5, local, from });
            }
        }
    }
}

impl rpc::Service for Seat {
    fn greet(&self, _: &Identity, _: &rpc::Hello) -> Result<rpc::HelloAck, Refusal> {
        Ok(rpc::HelloAck::new(self.name()))
    }

    fn dispatch(&self, _: &Arc<rpc::Peer>, calls: Vec<rpc::Call>) {
        calls.into_iter().for_each(|call| self.answer(call));
    }

    fn closed(&self, _: &Arc<rpc::Peer>) {}

    fn meter(&self) -> &Arc<rpc::Meter> {
        &self.meter
    }
}

/// Certificates as every cluster has them.
fn certificates(dir: &Path) {
    let authority = Authority::create("test", Validity::days(1).unwrap()).unwrap();
    for (role, name) in [(Role::Node, "raft-0"), (Role::Node, "raft-1"), (Role::Admin, "admin")] {
        let identity = Identity::new("test", role, name).unwrap();
        let ips = match role {
            Role::Node => vec![IpAddr::from([127, 0, 0, 1])],
            _ => Vec::new(),
        };
        let validity = Validity::days(1).unwrap();
        let profile = Profile { identity, dns: Vec::new(), ips, validity };
        let issued = authority.issue(&profile).unwrap();
        issued.save(&dir.join(name), Existing::Refuse).unwrap();
    }
}

/// Two nodes and an admin's client that knows only the first `endpoints` of them.
async fn live(dir: &Path, endpoints: usize) -> (Client, Fake, Vec<String>) {
    certificates(dir);
    let mut listeners = Vec::new();
    for _ in 0..2 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses: Vec<_> =
        listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    let (world, shared) = (Fake::default(), Arc::new(addresses.clone()));
    for (ordinal, listener) in listeners.into_iter().enumerate() {
        let tls = Tls::load(&dir.join(format!("raft-{ordinal}")), None).unwrap();
        let (stopper, stop) = rpc::stop();
        let seat = Seat {
            ordinal: ordinal as u64,
            addresses: shared.clone(),
            world: world.clone(),
            stopper: Mutex::new(Some(stopper)),
            meter: Arc::default(),
        };
        tokio::spawn(rpc::serve(listener, tls, rpc::Limits::default(), Arc::new(seat), stop));
    }
    let options = Options {
        endpoints: addresses[..endpoints].to_vec(),
        timeout: Duration::from_secs(10),
        redirect: true,
    };
    let tls = Tls::load(&dir.join("admin"), None).unwrap();
    (Client::new(tls, options), world, addresses)
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn writes_and_reads_find_the_leader_behind_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let (client, world, _) = live(dir.path(), 1).await;
    let written = client.put(text("k"), text("v")).await.unwrap();
    assert_eq!((written.revision, written.from.name.as_str()), (1, "raft-1"));
    let found = client.get(text("k"), false).await.unwrap().found.unwrap();
    assert_eq!((found.value, found.version), (text("v"), 1));
    let swapped = client.cas(text("k"), Some(text("x")), text("y")).await.unwrap();
    assert!(!swapped.succeeded, "C7: an answer, not an error");
    assert!(client.delete(text("k")).await.unwrap().succeeded);
    assert!(client.get(text("k"), false).await.unwrap().found.is_none());
    assert_eq!(world.revision(), 2);
}

#[tokio::test]
async fn pages_follow_each_other_up_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (client, _, addresses) = live(dir.path(), 2).await;
    for key in ["a1", "a2", "a3", "a4", "a5", "b1"] {
        client.put(text(key), text("v")).await.unwrap();
    }
    let keys = async |limit| {
        let mut pages = client.pages(text("a"), prefix_end(b"a"), limit);
        let mut sizes = Vec::new();
        while let Some(page) = pages.next().await {
            sizes.push(page.unwrap().entries.len());
        }
        sizes
    };
    assert_eq!(keys(None).await, [2, 2, 1]);
    assert_eq!(keys(Some(4)).await, [2, 2]);
    // Five entries of the log and six of the store, two a page.
    let whole = client.replication(&addresses[0], 0, Bytes::new(), None).await.unwrap();
    let indexes: Vec<u64> = whole.log.iter().map(|line| line.index.0).collect();
    assert_eq!(indexes, [1, 2, 3, 4, 5]);
    assert_eq!(whole.store.len(), 6);
    assert_eq!((whole.next_index, whole.next_key), (None, None));
    let page = client.replication(&addresses[0], 2, Bytes::new(), Some(2)).await.unwrap();
    assert_eq!((page.log.len(), page.next_index), (2, Some(Index(4))));
    // What a page names as the next key is where one may go on.
    let from = page.next_key.unwrap();
    let rest = client.replication(&addresses[0], 2, from, None).await.unwrap();
    assert_eq!(rest.store.len(), whole.store.len() - page.store.len());
}

#[tokio::test]
async fn nodes_are_found_by_ordinal_by_name_and_beyond_the_endpoints() {
    let dir = tempfile::tempdir().unwrap();
    let (client, _, addresses) = live(dir.path(), 1).await;
    for (called, ordinal) in [("0", 0), ("raft-0", 0), ("1", 1), ("raft-1", 1)] {
        let node = client.node(called).await.unwrap();
        assert_eq!(node.address, addresses[ordinal], "{called}");
        assert_eq!(node.name, Some(format!("raft-{ordinal}")));
    }
    let node = client.node(&addresses[1]).await.unwrap();
    assert_eq!((node.address, node.name), (addresses[1].clone(), None));
    let error = client.node("7").await.unwrap_err();
    assert_eq!((error.kind, error.word), (ErrorKind::Refused, "no_such_node"));
    let names: Vec<_> = client.statuses().await.into_iter().map(|(node, _)| node.name).collect();
    assert_eq!(names, [Some("raft-0".to_owned()), Some("raft-1".to_owned())]);
}

#[tokio::test]
async fn a_stopped_node_is_gone_when_the_call_returns() {
    let dir = tempfile::tempdir().unwrap();
    let (client, _, addresses) = live(dir.path(), 2).await;
    client.stop(&addresses[0]).await.unwrap();
    let error = client.status(&addresses[0]).await.unwrap_err();
    assert_eq!((error.kind, error.word), (ErrorKind::NoLeader, "unreachable"));
    assert!(client.status(&addresses[1]).await.is_ok());
}

#[tokio::test]
async fn a_cluster_of_another_ca_is_not_trusted() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, world, addresses) = live(dir.path(), 2).await;
    certificates(other.path());
    let tls = Tls::load(&other.path().join("admin"), None).unwrap();
    let options =
        Options { endpoints: addresses, timeout: Duration::from_secs(10), redirect: true };
    let error = Client::new(tls, options).put(text("k"), text("v")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Untrusted, "{error}");
    assert_eq!(world.revision(), 0);
}
