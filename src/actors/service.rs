//! What the RPC listener's connections call: judges hellos, decodes and checks arguments, and hands
//! work to the actors, all requests of one read as one message. It runs on the connections' arbiter
//! and holds no state of the protocol.
//!
//! What when full? Clients' requests over the gate's limits, or that find the node's mailbox full,
//! are refused as busy before any work; peers' requests are bounded by their own windows and refused
//! as busy only by a full mailbox.

use std::sync::Arc;

use actix::prelude::*;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::codec;
use crate::codec::api::{Code, GetArgs, RangeArgs, Refusal, ReplicationArgs, StatusReply};
use crate::codec::peer::Chunk;
use crate::codec::raft::{self as wire, Direction, RaftCall};
use crate::identity::{Identity, Role};
use crate::kv::command::Command;
use crate::raft::{Message, NodeId, NodeStatus};
use crate::rpc::{Call, CloseCode, Hello, HelloAck, Meter, Method, Peer, Responder, Service};

use super::applier::answer_read;
use super::audits::Audits;
use super::deliver::Deliver;
use super::door::{Door, claims};
use super::founder::{Founder, FoundingCall, Greeted};
use super::gate::Gate;
use super::log_source::LogSource;
use super::member_calls as calls;
use super::messages::{
    Introduced, Proposal, Propose, Read, ReadArgs, ReadIndex, RequestReceived, StartOver, Status,
    Stop, TakeSnapshot, Waiter,
};
use super::metrics::Collector;
use super::node::Node;
use super::replication;
use super::replies::{members_reply, probe_reply, status_reply};
use super::snapshot_receiver::Receiver;
use super::standing::Standing;

/// What serves once the node is a member. Kept addresses: a clone for each message would each own a
/// mailbox slot.
pub struct Member {
    /// The core's owner.
    pub node: Addr<Node>,
    /// The log's entries.
    pub log: LogSource,
    /// Takes snapshots from a leader.
    pub receiver: Receiver,
}

/// See the module.
pub struct NodeService {
    standing: Arc<Standing>,
    gate: Arc<Gate>,
    founder: Addr<Founder>,
    stop: Recipient<Stop>,
    member: ArcSwapOption<Member>,
    door: Door,
    /// Questions about the node's state that are being answered.
    questions: Arc<Semaphore>,
    /// Probes that are being answered.
    probes: Arc<Semaphore>,
    /// Pages of the log that are being read.
    pages: Arc<Semaphore>,
    audits: Audits,
    meter: Arc<Meter>,
    metrics: Arc<Collector>,
}

/// `Node.Status` and `Cluster.Members` answered at once; further ones are refused as busy.
const QUESTIONS_MAX: usize = 64;

/// `Node.Probe` answered at once, apart from other questions, so that those never make a node unready.
const PROBES_MAX: usize = 8;

/// `Node.Replication` answered at once: each reads the disk and shows every value.
const PAGES_MAX: usize = 4;

/// How often one of them begins anew because the log was purged while it was read.
const PURGES_MAX: usize = 3;

/// Commands shorter than this are copied out of the buffer they were received in. The log keeps recent
/// commands in memory, and a slice of some bytes would keep its whole read buffer.
const SHARED_BYTES_MIN: usize = 16 << 10;

impl NodeService {
    /// A service of a node that is not a member yet.
    #[must_use]
    pub fn new(
        standing: Arc<Standing>,
        gate: Arc<Gate>,
        meter: Arc<Meter>,
        metrics: Arc<Collector>,
        founder: Addr<Founder>,
        stop: Recipient<Stop>,
        start_over: Recipient<StartOver>,
    ) -> NodeService {
        let audits = Audits::new(Arc::clone(&standing), start_over);
        let door = Door::new(Arc::clone(&standing));
        NodeService {
            standing,
            gate,
            founder,
            stop,
            member: ArcSwapOption::empty(),
            door,
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            probes: Arc::new(Semaphore::new(PROBES_MAX)),
            pages: Arc::new(Semaphore::new(PAGES_MAX)),
            audits,
            meter,
            metrics,
        }
    }

    /// The node has become a member.
    pub fn joined(&self, member: Member) {
        self.metrics.joined(member.node.clone());
        self.member.store(Some(Arc::new(member)));
    }

    fn raft(&self, member: &Member, peer: &Peer, call: Call) {
        let kind = match call.method {
            Method::RaftVote => RaftCall::Vote,
            Method::RaftAppend => RaftCall::Append,
            Method::RaftTimeoutNow => RaftCall::TimeoutNow,
            Method::RaftInstall => RaftCall::Install,
            _ => RaftCall::Heartbeat,
        };
        let envelope = match wire::decode_envelope(kind, Direction::Request, &call.args) {
            Ok(envelope) => envelope,
            Err(error) => return call.reply.refuse(bad_request(&error)),
        };
        if let Err(refusal) = self.judge_travel(peer, envelope.from, envelope.to) {
            return call.reply.refuse(refusal);
        }
        let present = self.standing.present();
        if present.leads() && !present.membership.contains(envelope.from) {
            // It redials, and is told by the answer to its hello that it was removed.
            peer.close(CloseCode::Renew, "this node leads, and the sender is no member any more");
        }
        if let Message::Install(install) = &envelope.message
            && !member.receiver.holds(&install.snapshot)
        {
            let message = format!("the snapshot at {} is not here", install.snapshot.last);
            return call.reply.refuse(Refusal::new(Code::Unavailable, message));
        }
        let message = RequestReceived { envelope, reply: call.reply };
        if let Err(SendError::Full(message) | SendError::Closed(message)) =
            member.node.try_send(message)
        {
            message.reply.refuse(busy());
        }
    }

    /// Whether a message between nodes may come over this connection. Whoever is no member here is let
    /// in all the same: a node that slept through changes does not know its leader yet, and what a
    /// message may do is the core's to decide.
    fn judge_travel(&self, peer: &Peer, from: NodeId, to: NodeId) -> Result<(), Refusal> {
        let own = self.standing.own.node_id;
        if to == own && from != own && Some(from) == peer.hello.node_id {
            return Ok(());
        }
        let caller = peer.hello.node_id.unwrap_or(NodeId(0));
        let message =
            format!("the message is from {from} to {to}, the connection is from {caller} to {own}");
        Err(Refusal::new(Code::WrongPeer, message))
    }

    /// A piece of a snapshot.
    fn chunk(&self, member: &Member, peer: &Peer, call: Call) {
        let chunk = match codec::decode_shared::<Chunk>(&call.args) {
            Ok(chunk) => chunk,
            Err(error) => return call.reply.refuse(bad_request(&error)),
        };
        match self.judge_travel(peer, chunk.from, chunk.to) {
            Ok(()) => member.receiver.take(chunk, call.reply),
            Err(refusal) => call.reply.refuse(refusal),
        }
    }

    fn snapshot(&self, member: &Member, reply: Responder) {
        if let Err(SendError::Full(message) | SendError::Closed(message)) =
            member.node.try_send(TakeSnapshot { reply })
        {
            message.reply.refuse(busy());
        }
    }

    fn waiter(&self, reply: Responder, bytes: usize, writes: bool) -> Option<Waiter> {
        match self.gate.admit(bytes, writes) {
            Some(permit) => Some(Waiter { reply, permit }),
            None => {
                reply.refuse(busy());
                None
            }
        }
    }

    fn proposal(&self, call: Call) -> Option<Proposal> {
        let command = if call.method == Method::KvOpenSession {
            codec::command::encode_command(&Command::OpenSession)
        } else {
            match codec::admit_command(&call.args) {
                Ok(Command::Write(_)) => {}
                Ok(Command::OpenSession) => {
                    call.reply.refuse(Refusal::new(
                        Code::BadRequest,
                        "Kv.Write carries writes; open a session with Kv.OpenSession",
                    ));
                    return None;
                }
                Err(refusal) => {
                    call.reply.refuse(refusal);
                    return None;
                }
            }
            if call.args.len() < SHARED_BYTES_MIN {
                Bytes::copy_from_slice(&call.args)
            } else {
                call.args
            }
        };
        let waiter = self.waiter(call.reply, command.len(), true)?;
        Some(Proposal { command, waiter })
    }

    fn read(&self, call: Call) -> Option<Read> {
        let args = if call.method == Method::KvGet {
            codec::decode_shared::<GetArgs>(&call.args).map(ReadArgs::Get)
        } else {
            codec::decode_shared::<RangeArgs>(&call.args).map(ReadArgs::Range)
        };
        let args = match args {
            Ok(args) => args,
            Err(error) => {
                call.reply.refuse(bad_request(&error));
                return None;
            }
        };
        let waiter = self.waiter(call.reply, call.args.len(), false)?;
        Some(Read { args, waiter })
    }

    /// Answers with what `tell` makes of the core's state, if there is one yet.
    fn status(
        &self,
        member: Option<&Arc<Member>>,
        permits: &Arc<Semaphore>,
        tell: fn(&Standing, Option<&NodeStatus>) -> StatusReply,
        reply: Responder,
    ) {
        let standing = Arc::clone(&self.standing);
        let Some(member) = member else {
            reply.send(&tell(&standing, None));
            return;
        };
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            return reply.refuse(busy());
        };
        let asked = member.node.send(Status);
        tokio::spawn(async move {
            let _permit = permit;
            match asked.await {
                Ok(status) => reply.send(&tell(&standing, Some(&status))),
                Err(_) => reply.refuse(busy()),
            }
        });
    }

    fn members(&self, member: &Member, reply: Responder) {
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
            return reply.refuse(busy());
        };
        let standing = Arc::clone(&self.standing);
        let asked = member.node.send(Status);
        tokio::spawn(async move {
            let _permit = permit;
            match asked.await {
                Ok(status) => reply.send(&members_reply(&standing, &status)),
                Err(_) => reply.refuse(busy()),
            }
        });
    }

    fn replication(&self, member: &Arc<Member>, call: Call) {
        let args = match codec::decode_shared::<ReplicationArgs>(&call.args) {
            Ok(args) => args,
            Err(error) => return call.reply.refuse(bad_request(&error)),
        };
        let Ok(permit) = Arc::clone(&self.pages).try_acquire_owned() else {
            return call.reply.refuse(busy());
        };
        let (standing, member) = (Arc::clone(&self.standing), Arc::clone(member));
        tokio::spawn(async move {
            let _permit = permit;
            for _ in 0..PURGES_MAX {
                let Ok(status) = member.node.send(Status).await else {
                    return call.reply.refuse(busy());
                };
                match replication::page(&standing, &member.log, &status, &args).await {
                    Ok(Some(page)) => return call.reply.send(&page),
                    Ok(None) => {}
                    Err(refusal) => return call.reply.refuse(refusal),
                }
            }
            call.reply.refuse(busy());
        });
    }
}

impl Service for NodeService {
    fn greet(&self, peer: &Identity, hello: &Hello) -> Result<HelloAck, Refusal> {
        if let Some(cluster_id) = hello.cluster_id
            && peer.role() == Role::Node
        {
            // A hint; a full mailbox may lose it.
            let name = peer.name().to_owned();
            let _ = self.founder.try_send(Greeted { name, cluster_id });
        }
        self.door.judge(peer, hello)?;
        match (&*self.member.load(), hello.node_id) {
            (Some(member), Some(id)) if peer.role() == Role::Node => {
                // Before any request on this connection; one for each that is taken.
                member.node.deliver(Introduced { peer: id, claims: claims(hello) });
            }
            // Whoever is let in as a member counts upon being remembered.
            (None, _) if hello.receiver.is_some() => {
                let refusal = self.standing.not_serving();
                return Err(refusal.unwrap_or_else(busy));
            }
            _ => {}
        }
        let (own, claims) = (&self.standing.own, self.standing.claims());
        Ok(HelloAck {
            cluster_id: self.standing.present().cluster_id,
            node_id: Some(own.node_id),
            boot: claims.boot,
            term: claims.term,
            acknowledged: claims.acknowledged,
            ..HelloAck::new(&own.name)
        })
    }

    fn dispatch(&self, peer: &Arc<Peer>, calls: Vec<Call>) {
        let member = self.member.load_full();
        let removed = self.standing.no_member();
        let withheld = removed.clone().or_else(|| self.standing.agreement.refusal());
        let mut proposals = Vec::new();
        let mut reads = Vec::new();
        for call in calls {
            let refusal = match call.method {
                Method::ClusterMembers => &removed,
                method if is_kv(method) => &withheld,
                _ => &None,
            };
            if let Some(refusal) = refusal {
                call.reply.refuse(refusal.clone());
                continue;
            }
            match (call.method, &member) {
                (Method::NodeStatus, member) => {
                    self.status(member.as_ref(), &self.questions, status_reply, call.reply);
                }
                (Method::NodeProbe, member) => {
                    self.status(member.as_ref(), &self.probes, probe_reply, call.reply);
                }
                (Method::NodeMetrics, _) => self.metrics.answer(call.reply),
                (Method::NodeStop, _) => {
                    call.reply.send(&status_reply(&self.standing, None));
                    let reason = format!("{} asked for it", peer.identity);
                    // A full mailbox holds a stop already.
                    let _ = self.stop.try_send(Stop { reason: reason.into() });
                }
                (Method::BootAsk | Method::BootDeliver, _) => {
                    let call = FoundingCall { peer: Arc::clone(peer), call };
                    if let Err(SendError::Full(call) | SendError::Closed(call)) =
                        self.founder.try_send(call)
                    {
                        call.call.reply.refuse(busy());
                    }
                }
                (_, None) => {
                    let refusal = self.standing.not_serving();
                    call.reply.refuse(refusal.unwrap_or_else(busy));
                }
                (
                    Method::RaftVote
                    | Method::RaftAppend
                    | Method::RaftHeartbeat
                    | Method::RaftInstall
                    | Method::RaftTimeoutNow,
                    Some(member),
                ) => self.raft(member, peer, call),
                (Method::RaftAudit, Some(_)) => self.audits.answer(peer, call),
                (Method::KvOpenSession | Method::KvWrite, Some(_)) => {
                    proposals.extend(self.proposal(call));
                }
                (Method::KvGet | Method::KvRange, Some(_)) => {
                    if let Some(read) = self.read(call) {
                        if read.local() {
                            answer_read(&self.standing, &self.standing.content().view, read, true);
                        } else {
                            reads.push(read);
                        }
                    }
                }
                (Method::RaftSnapshot, Some(member)) => self.chunk(member, peer, call),
                (Method::NodeSnapshot, Some(member)) => self.snapshot(member, call.reply),
                (Method::BootJoin, Some(member)) => calls::join(&member.node, peer, call),
                (
                    Method::ClusterAdd
                    | Method::ClusterPromote
                    | Method::ClusterRemove
                    | Method::ClusterTransfer,
                    Some(member),
                ) => calls::order(&member.node, call),
                (Method::ClusterMembers, Some(member)) => self.members(member, call.reply),
                (Method::NodeReplication, Some(member)) => self.replication(member, call),
            }
        }
        let Some(member) = member else { return };
        if !proposals.is_empty()
            && let Err(SendError::Full(message) | SendError::Closed(message)) =
                member.node.try_send(Propose { proposals })
        {
            message.proposals.into_iter().for_each(|proposal| proposal.waiter.refuse(busy()));
        }
        if !reads.is_empty()
            && let Err(SendError::Full(message) | SendError::Closed(message)) =
                member.node.try_send(ReadIndex { reads })
        {
            message.reads.into_iter().for_each(|read| read.waiter.refuse(busy()));
        }
    }

    fn opened(&self, peer: &Arc<Peer>) {
        self.door.opened(peer);
    }

    fn closed(&self, peer: &Arc<Peer>) {
        self.door.closed(peer);
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

impl Read {
    fn local(&self) -> bool {
        match &self.args {
            ReadArgs::Get(args) => args.local,
            ReadArgs::Range(args) => args.local,
        }
    }
}

fn is_kv(method: Method) -> bool {
    matches!(method, Method::KvOpenSession | Method::KvWrite | Method::KvGet | Method::KvRange)
}

fn busy() -> Refusal {
    Refusal::new(Code::Busy, "the node has as much work as it may take on; try again")
}

fn bad_request(error: &codec::DecodeError) -> Refusal {
    Refusal::new(Code::BadRequest, format!("the arguments cannot be read: {error}"))
}
