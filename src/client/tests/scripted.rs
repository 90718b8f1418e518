//! A network of scripted nodes around a real state machine: what happens to each call is told beforehand,
//! and what was executed can be asked of the store.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::super::codec;
use super::super::network::{Distrust, Network, Trouble};
use crate::codec::api::{
    Answerer, ChangeReply, Code, LeaderHint, MemberStatus, MembersReply, Refusal, WriteReply,
};
use crate::kv::Store;
use crate::kv::command::Applied;
use crate::raft::LogId;
use crate::rpc::Method;

/// What happens to the next call at an address.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The node executes it, and the answer is lost.
    LoseReply,
    /// It is lost on the way there.
    LoseRequest,
    /// Nobody listens.
    Dead,
    /// The certificate is not accepted.
    Untrusted,
    /// Its certificate or ours is revoked.
    Revoked,
    /// The certificate is good, and somebody else's.
    SomebodyElse,
    /// The node refuses.
    Refuse(Code),
    /// The node says that another one leads.
    Elsewhere(&'static str),
    /// The node does not answer.
    Hang,
    /// Nothing at all comes from there.
    Silent,
    /// It takes so long to get there and back; nothing comes within less.
    Far(Duration),
}

#[derive(Default)]
pub(super) struct World {
    pub(super) store: Store,
    pub(super) leader: Option<&'static str>,
    /// Once each, in order.
    faults: HashMap<&'static str, VecDeque<Fault>>,
    /// For ever.
    pub(super) always: HashMap<&'static str, Fault>,
    /// Every call, in order.
    pub(super) calls: Vec<(String, Method, Bytes)>,
    /// How long each call might take that met with [`Fault::Silent`].
    pub(super) silences: Vec<Duration>,
}

#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<World>>);

impl Fake {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(super) fn script(&self, address: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.world().faults.entry(address).or_default().extend(faults);
    }

    pub(super) fn always(&self, address: &'static str, fault: Fault) {
        self.world().always.insert(address, fault);
    }

    pub(super) fn called(&self, method: Method) -> Vec<String> {
        let world = self.world();
        world.calls.iter().filter(|call| call.1 == method).map(|call| call.0.clone()).collect()
    }

    /// The store's revision: how many writes changed it.
    pub(super) fn revision(&self) -> u64 {
        self.world().store.view().revision()
    }
}

impl World {
    pub(super) fn apply(&mut self, args: &Bytes) -> Applied {
        let at = LogId { term: crate::raft::Term(7), index: self.store.applied().next() };
        self.store.apply(at, codec::decode_command(args).ok().as_ref())
    }

    /// Of whoever is asked.
    fn members(&self) -> MembersReply {
        let member = |address: &str| MemberStatus {
            name: format!("seat-{address}"),
            node_id: crate::raft::NodeId(7),
            role: "voter".into(),
            address: address.to_owned(),
            match_index: None,
        };
        let leader = self.leader.map(|address| format!("seat-{address}"));
        let members = self.leader.into_iter().map(member).collect();
        MembersReply { members, from: Answerer { leader, ..Answerer::default() } }
    }

    fn execute(&mut self, address: &str, method: Method, args: &Bytes) -> Result<Bytes, Trouble> {
        if method == Method::ClusterMembers {
            return Ok(codec::encode(&self.members()));
        }
        if self.leader != Some(address) {
            return Err(refusal(Code::NotLeader, self.leader));
        }
        if method == Method::ClusterRemove {
            return Ok(codec::encode(&removed()));
        }
        assert!(matches!(method, Method::KvWrite | Method::KvOpenSession), "{method}");
        let from = Answerer { name: "raft-1".into(), is_leader: true, ..Answerer::default() };
        Ok(codec::encode(&WriteReply { applied: self.apply(args), from }))
    }
}

pub(super) fn removed() -> ChangeReply {
    ChangeReply {
        name: "raft-2".into(),
        node_id: crate::raft::NodeId(7),
        role: "removed".into(),
        index: crate::raft::Index(9),
        from: Answerer::default(),
    }
}

pub(super) fn refusal(code: Code, leader: Option<&str>) -> Trouble {
    let leader = leader.map(|at| LeaderHint { name: format!("seat-{at}"), address: at.into() });
    Trouble::Refused(Refusal { code, message: format!("{code:?}"), leader, seen: None })
}

impl Network for Fake {
    fn call(
        &self,
        address: &str,
        method: Method,
        args: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, Trouble>> + Send {
        let mut world = self.world();
        world.calls.push((address.to_owned(), method, args.clone()));
        let once = match world.faults.iter_mut().find(|(at, _)| **at == address) {
            // Sessions are opened, and leaders found, undisturbed, unless the address is out of order
            // altogether.
            _ if matches!(method, Method::KvOpenSession | Method::ClusterMembers) => None,
            Some((_, faults)) => faults.pop_front(),
            None => None,
        };
        let always = world.always.iter().find(|(at, _)| **at == address);
        let fault = once.or_else(|| always.map(|(_, fault)| fault.clone()));
        let lost = || Err(Trouble::Lost("connection lost".into()));
        let not_reached = |distrust| Err(Trouble::NotReached { why: "nobody".into(), distrust });
        let fault = match fault {
            Some(Fault::Far(time)) => (timeout < time).then_some(Fault::Silent),
            other => other,
        };
        let hang = matches!(fault, Some(Fault::Hang));
        let result = match fault {
            None => world.execute(address, method, &args),
            Some(Fault::LoseReply) => {
                world.apply(&args);
                lost()
            }
            Some(Fault::LoseRequest) => lost(),
            Some(Fault::Hang) => Err(Trouble::Unresolved("no answer in time".into())),
            Some(Fault::Silent | Fault::Far(_)) => {
                world.silences.push(timeout);
                lost()
            }
            Some(Fault::Dead) => not_reached(None),
            Some(Fault::Untrusted) => not_reached(Some(Distrust::Denied)),
            Some(Fault::Revoked) => not_reached(Some(Distrust::Revoked)),
            Some(Fault::SomebodyElse) => not_reached(Some(Distrust::SomebodyElse)),
            Some(Fault::Refuse(code)) => Err(refusal(code, None)),
            Some(Fault::Elsewhere(there)) => Err(refusal(Code::NotLeader, Some(there))),
        };
        async move {
            if hang {
                tokio::time::sleep(timeout).await;
            }
            result
        }
    }

    fn seat_at(&self, address: &str) -> Option<String> {
        (address == "c").then(|| "seat-far:9".to_owned())
    }
}
