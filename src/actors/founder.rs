//! The founder: carries out what the pure core of founding ([`raft::founding`])
//! wants done, for as long as the process lives, so that a node that missed the decision can still
//! learn it from this one.
//!
//! Its record is written on this arbiter: it is a few hundred bytes, and nothing else runs before the
//! node is a member.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use crate::codec::api::{Code, LeaderHint, Refusal};
use crate::codec::msgpack;
use crate::config::NodeConfig;
use crate::raft::founding::{
    Answer, Ask, AskRound, Asked, Delivered, Effects, Founding, Letter, Me, Outgoing, Record,
    Reply, Seed, Sender, Stage,
};
use crate::raft::{self, ClusterId, NodeId};
use crate::rpc::{Call, Dialer, Expect, Method, Peer, Purpose, Responder};
use crate::storage::{Batch, DataDir, StorageError};

use super::deliver::Deliver;
use super::fatal;
use super::founding_round::Rounds;
use super::inquirer::{Inquirer, PATIENCE};
use super::messages::{ClusterHeard, TakenIn};
use super::replicator::hello;
use super::standing::{Present, Standing};
use super::supervisor::random;

/// How long a tick of founding is.
const TICK: Duration = Duration::from_millis(100);

/// The cluster is founded. Founder → supervisor, once a process.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Founded {
    /// The record it was founded from.
    pub record: raft::founding::Founded,
}

impl std::ops::Deref for Founded {
    type Target = raft::founding::Founded;

    fn deref(&self) -> &Self::Target {
        &self.record
    }
}

impl Founded {
    /// What the log begins with.
    #[must_use]
    pub fn first_batch(&self) -> Batch {
        Batch {
            token: raft::PersistToken::default(),
            hard_state: Some(self.record.hard_state()),
            install: None,
            truncate_after: None,
            entries: vec![self.record.entry()],
        }
    }
}

/// A `Boot.*` call. Connection → founder. Full: refused as busy.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FoundingCall {
    /// Who calls; its certificate has proved its seat.
    pub peer: Arc<Peer>,
    /// The call.
    pub call: Call,
}

/// A hello named a cluster. Connection → founder. A hint; may be lost.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Greeted {
    /// The seat that said so.
    pub name: String,
    /// Its cluster.
    pub cluster_id: ClusterId,
}

/// Replies of other nodes, and the end of a round of asking. Task → founder; bounded by what the core
/// wanted sent.
#[derive(Message)]
#[rtype(result = "()")]
enum Heard {
    Round(AskRound, Vec<Asked>),
    Letter(Letter),
}

/// Who hears what the founder finds out.
pub struct Listeners {
    /// The supervisor: this node founded a cluster.
    pub founded: Recipient<Founded>,
    /// The supervisor: this node was taken into one.
    pub taken_in: Recipient<TakenIn>,
    /// The joiner: there is a cluster that may take this node in.
    pub heard: Recipient<ClusterHeard>,
}

/// See the module.
pub struct Founder {
    founding: Founding,
    rounds: Rounds,
    directory: Arc<DataDir>,
    dialer: Arc<Dialer>,
    standing: Arc<Standing>,
    listeners: Listeners,
    /// Whether the supervisor has been told that the node is in a cluster.
    founded: bool,
    /// Where nodes with a cluster answered in the last round, by seat.
    members: BTreeMap<String, LeaderHint>,
    /// What the joiner was last told.
    heard: ClusterHeard,
    /// Seats of the seed list that were last heard of in another cluster.
    elsewhere: BTreeMap<String, ClusterId>,
}

impl Founder {
    /// A founder over the directory's record.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn new(
        config: &NodeConfig,
        directory: Arc<DataDir>,
        dialer: Arc<Dialer>,
        standing: Arc<Standing>,
        listeners: Listeners,
    ) -> Result<Founder, StorageError> {
        let record = match directory.founding()? {
            None => Record::default(),
            Some(bytes) => msgpack::decode::<Record>(&bytes).map_err(|error| {
                damaged(config, format!("the founding record cannot be read: {error}"))
            })?,
        };
        let cluster = directory.cluster();
        judge(config, &record, cluster)?;
        if let Stage::Held(draft) = &record.stage {
            tracing::info!(cluster = %draft.cluster_id, "a founding draft was held at the last stop");
        }
        let seeds = seeds(config);
        let me = Me {
            id: directory.node_id(),
            boot: directory.boot(),
            name: config.name.clone(),
            address: config.advertise.clone(),
            seeds: seeds.clone(),
        };
        let mut founding = Founding::new(me, record, random());
        if let (Some(cluster), None) = (cluster, founding.founded()) {
            founding.taken_in(cluster);
        }
        let inquirer = Inquirer::new(Arc::clone(&dialer), Arc::clone(&standing));
        let service = config.service.as_deref();
        let rounds = Rounds::new(seeds, service, Arc::clone(&dialer), inquirer);
        Ok(Founder {
            founding,
            rounds,
            directory,
            dialer,
            standing,
            listeners,
            founded: false,
            members: BTreeMap::new(),
            heard: ClusterHeard::default(),
            elsewhere: BTreeMap::new(),
        })
    }

    /// Runs what one input caused; `call` takes the reply to its caller, if the input came as a call.
    fn run(
        &mut self,
        effects: Effects,
        call: Option<(Responder, NodeId)>,
        ctx: &mut Context<Self>,
    ) {
        let mut work = VecDeque::from([(effects, call)]);
        while let Some((effects, call)) = work.pop_front() {
            let mut durable = None;
            if let Some(persist) = effects.persist {
                let record = msgpack::encode(&persist.record);
                if let Err(error) = self.directory.write_founding(&record) {
                    fatal::storage(&error);
                }
                durable = Some(persist.token);
            }
            // The write above has completed, and they complete in order: whatever waits for a token
            // may leave.
            if let Some((reply, caller)) = call {
                let message = match effects.reply {
                    None => None,
                    Some(Reply::Now(message) | Reply::AfterPersist(_, message)) => Some(message),
                };
                let own = self.founding.sender();
                let letter = message.map(|message| Letter { from: own, to: caller, message });
                reply.send(&Delivered { letter });
            }
            for outgoing in effects.send_now {
                self.deliver(outgoing, ctx);
            }
            for (_, outgoing) in effects.send_after_persist {
                self.deliver(outgoing, ctx);
            }
            if let Some(round) = effects.ask {
                self.ask(round, ctx);
            }
            if let Some(why) = effects.waiting
                && !self.founded
            {
                tracing::info!("{why}");
                let present = Present::clone(&self.standing.present());
                self.standing.publish(Present { waiting: Some(why), ..present });
            }
            if let Some(record) = effects.founded {
                self.announce(record);
            }
            if let Some(token) = durable {
                work.push_back((self.founding.persisted(token), None));
            }
        }
        self.tell_joiner();
    }

    /// A node's certificate proves its seat, and it named another cluster. When most seats of the seed
    /// list are in one other cluster, it is this directory that does not belong here.
    fn heard_of_another(&mut self, own: ClusterId, Greeted { name, cluster_id }: Greeted) {
        if cluster_id == own {
            self.elsewhere.remove(&name);
            return;
        }
        if name == self.founding.sender().name
            || !self.rounds.seeds().iter().any(|seed| seed.name == name)
        {
            return;
        }
        self.elsewhere.insert(name, cluster_id);
        let there = self.elsewhere.values().filter(|id| **id == cluster_id).count();
        if 2 * there > self.rounds.seeds().len() {
            let seats: Vec<&str> = self.elsewhere.keys().map(String::as_str).collect();
            fatal::storage(&StorageError::Foreign {
                path: self.directory.path().display().to_string(),
                found: format!("cluster {own}"),
                expected: format!("cluster {cluster_id}, in which {} are", seats.join(", ")),
            });
        }
    }

    fn announce(&mut self, record: raft::founding::Founded) {
        self.founded = true;
        tracing::info!(cluster = %record.cluster_id, "member of a cluster");
        // Once a process; without it nothing would ever start.
        self.listeners.founded.deliver(Founded { record });
    }

    /// Tells the joiner what it may ask for, whenever that has changed.
    fn tell_joiner(&mut self) {
        let cluster = self.founding.cluster_heard();
        let members = match cluster {
            Some(_) => self.members.values().cloned().collect(),
            None => Vec::new(),
        };
        let heard = ClusterHeard { cluster, members };
        if heard != self.heard {
            self.heard = heard.clone();
            // Clusters and their members seldom come and go.
            self.listeners.heard.deliver(heard);
        }
    }

    /// The directory says that a cluster has taken this node in.
    fn announce_taken_in(&mut self, cluster_id: ClusterId) {
        self.founded = true;
        tracing::info!(cluster = %cluster_id, "taken into a cluster");
        // Once a process; without it nothing would ever start.
        self.listeners.taken_in.deliver(TakenIn { cluster_id });
    }

    /// Takes one letter to its seat; a letter that cannot be delivered is dropped, the core repeats it.
    fn deliver(&self, outgoing: Outgoing, ctx: &mut Context<Self>) {
        let (dialer, standing) = (Arc::clone(&self.dialer), Arc::clone(&self.standing));
        let own = ctx.address();
        actix_rt::spawn(async move {
            let hello = hello(&standing, Purpose::Control, None);
            let expect = Expect::Node(outgoing.name.clone());
            let delivered: Result<Delivered, String> = async {
                let connection = dialer
                    .dial(&outgoing.address, expect, hello, PATIENCE)
                    .await
                    .map_err(|error| error.to_string())?;
                let delivered = connection
                    .call_timeout(Method::BootDeliver, &outgoing.letter, PATIENCE)
                    .await
                    .map_err(|error| error.to_string());
                connection.close();
                delivered
            }
            .await;
            match delivered {
                Ok(Delivered { letter: Some(letter) }) => {
                    // One for each letter of the core.
                    own.deliver(Heard::Letter(letter));
                }
                Ok(Delivered { letter: None }) => {}
                Err(error) => tracing::debug!(seat = outgoing.name, error, "letter not delivered"),
            }
        });
    }

    /// One round of asking, each question with a deadline.
    fn ask(&self, round: AskRound, ctx: &mut Context<Self>) {
        let asking = self.rounds.clone().ask(self.founding.answer(), round);
        let own = ctx.address();
        actix_rt::spawn(async move {
            // One for each round of the core.
            own.deliver(Heard::Round(round, asking.await));
        });
    }

    /// Notes where members of a cluster can be asked to be taken in.
    fn note_members(&mut self, asked: &[Asked]) {
        let answers = asked.iter().filter_map(|asked| asked.result.as_ref().ok());
        let members = answers.filter(|answer| answer.cluster_id.is_some());
        let hint = |answer: &Answer| LeaderHint {
            name: answer.name.clone(),
            address: answer.address.clone(),
        };
        self.members = members.map(|answer| (answer.name.clone(), hint(answer))).collect();
    }
}

/// Whether the record fits the cluster that the directory belongs to.
///
/// A directory with a cluster never founds another (M6), whatever else it holds. The cluster is written
/// down behind the decision by a node that founded it, and behind an empty record by one that was taken in.
/// So beside it there is a decision, or no draft at all: then the node was taken in, or it founded the
/// cluster and lost this file, which does no harm. Its log begins with the founding entry, and if that is
/// missing as well, nothing was ever said: it waits for a leader's entries like any node that was taken in,
/// its identity keeps it from being a new node, and the log's own marks tell a log that was lost.
fn judge(
    config: &NodeConfig,
    record: &Record,
    cluster: Option<ClusterId>,
) -> Result<(), StorageError> {
    let Some(cluster) = cluster else { return Ok(()) };
    match &record.stage {
        Stage::Empty => Ok(()),
        Stage::Decided(draft) if draft.cluster_id == cluster => Ok(()),
        Stage::Held(draft) | Stage::Decided(draft) => Err(damaged(
            config,
            format!(
                "the directory belongs to cluster {cluster}, but its founding record is about cluster {}: \
                 the file is of another time or place. Put the right one back from a copy of the disk, or \
                 run `srvraft discard`, which sets the directory aside, so that the node is taken in anew",
                draft.cluster_id
            ),
        )),
    }
}

/// The seed list of the options.
#[must_use]
pub fn seeds(config: &NodeConfig) -> Vec<Seed> {
    let seed = |seed: &crate::config::Seed| Seed {
        name: seed.name.clone(),
        address: seed.address.clone(),
    };
    config.seeds.iter().map(seed).collect()
}

fn damaged(config: &NodeConfig, what: String) -> StorageError {
    let path = config.data_dir.join("founding").display().to_string();
    StorageError::Damaged { path, offset: 0, what }
}

impl Actor for Founder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(record) = self.founding.founded() {
            self.announce(record);
        } else if let Some(cluster) = self.directory.cluster() {
            self.announce_taken_in(cluster);
        }
        ctx.run_interval(TICK, |founder, ctx| {
            let effects = founder.founding.tick();
            founder.run(effects, None, ctx);
        });
    }
}

impl Handler<FoundingCall> for Founder {
    type Result = ();

    fn handle(&mut self, message: FoundingCall, ctx: &mut Self::Context) {
        let FoundingCall { peer, call } = message;
        let refuse = |reply: Responder, why: String| {
            reply.refuse(Refusal::new(Code::BadRequest, why));
        };
        let foreign = |from: &Sender| {
            (from.name != peer.identity.name())
                .then(|| format!("{} speaks for {}", peer.identity, from.name))
        };
        match call.method {
            Method::BootAsk => match msgpack::decode::<Ask>(&call.args) {
                Ok(ask) => match foreign(&ask.from) {
                    Some(why) => refuse(call.reply, why),
                    None => call.reply.send(&self.founding.answer()),
                },
                Err(error) => refuse(call.reply, error.to_string()),
            },
            _ => match msgpack::decode::<Letter>(&call.args) {
                Ok(letter) => match foreign(&letter.from) {
                    Some(why) => refuse(call.reply, why),
                    None => {
                        let caller = letter.from.node_id;
                        let effects = self.founding.received(letter);
                        self.run(effects, Some((call.reply, caller)), ctx);
                    }
                },
                Err(error) => refuse(call.reply, error.to_string()),
            },
        }
    }
}

impl Handler<Heard> for Founder {
    type Result = ();

    fn handle(&mut self, message: Heard, ctx: &mut Self::Context) {
        let effects = match message {
            Heard::Round(round, asked) => {
                self.note_members(&asked);
                self.founding.asked(round, asked)
            }
            Heard::Letter(letter) => self.founding.received(letter),
        };
        self.run(effects, None, ctx);
    }
}

impl Handler<Greeted> for Founder {
    type Result = ();

    fn handle(&mut self, message: Greeted, ctx: &mut Self::Context) {
        if let Some(own) = self.directory.cluster() {
            self.heard_of_another(own, message);
        } else {
            let effects = self.founding.greeted(&message.name, message.cluster_id);
            self.run(effects, None, ctx);
        }
    }
}

impl Handler<TakenIn> for Founder {
    type Result = ();

    /// Written down only if it is still the one cluster that there is for this node: a draft may have been
    /// accepted since the joiner asked.
    fn handle(&mut self, message: TakenIn, _: &mut Self::Context) {
        let TakenIn { cluster_id } = message;
        if self.founding.cluster_heard() != Some(cluster_id) {
            return;
        }
        if let Err(error) = self.directory.write_cluster(cluster_id) {
            fatal::storage(&error);
        }
        self.founding.taken_in(cluster_id);
        self.tell_joiner();
        self.announce_taken_in(cluster_id);
    }
}
