//! Runs the stories in `testdata`. Each is a script whose answers were written by the code and read by
//! a person; `UPDATE_GOLDENFILES=1 cargo test --lib raft` writes them anew, and the diff is to be read
//! again.
//!
//! Verbs: `cluster V [learners=L] [disk=manual] [heartbeat= election= …]`,
//! `given n term= [vote=] [log=t.t.…]` (terms from index 2), `tick n [times]`, `heartbeat n`,
//! `campaign n`, `elect n` (the others hear that their leader is gone), `propose n text…`,
//! `read n number`, `deliver [from= to= kind= max=]`, `delay …`, `drop …`, `repeat …` (delivers a copy),
//! `release` (what was delayed goes out), `timeout` (askers learn of what was lost), `persist n [times]`,
//! `settle [except=n]` (but for that disk), `cut a b`, `oneway a b` (a no longer reaches b),
//! `snapshot n [begins]` (of what is applied; with `begins` it is durable only at `snapshot_ends n`),
//! `transfer n to`, `join n` (a new node starts), `add leader n [seat=] [instead_of=]`, `greet a b` (a's
//! hello reaches b; all do by themselves unless `cluster` says `hellos=manual`), `dial a b` (it is on its
//! way) and `hellos` (those arrive), `copy n` and `put_back n` (its disk), `seen n` (what it remembers),
//! `promote leader n`, `remove leader n`, `retire leader n`, `replace leader old new`, `full n` and
//! `room n` (of the disk), `isolate n`, `heal`, `crash n`, `restart n`, `gone n peer`, `status`, `log`.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::path::Path;

use goldenscript::{ArgumentConsumer, Command, Context, Runner};

use super::super::node::Node;
use super::super::{
    HardState, LogId, Member, MembershipChange, Message, NodeId, Options, ReadToken, SnapshotMeta,
    Term,
};
use super::disk::SimDisk;
use super::env::{Cluster, Packet, n};
use super::show;

#[derive(Default)]
struct Story {
    cluster: Option<Cluster>,
    delayed: VecDeque<Packet>,
    /// Snapshots that are being taken.
    begun: BTreeMap<NodeId, SnapshotMeta>,
    /// Disks as they were once.
    copies: BTreeMap<NodeId, (SimDisk, u64)>,
}

type Args<'a> = ArgumentConsumer<'a>;
type Outcome<T> = Result<T, Box<dyn Error>>;

fn number(args: &mut Args<'_>, key: &str, default: u64) -> Outcome<u64> {
    Ok(args.take_key(key).map(str::parse).transpose()?.unwrap_or(default))
}

fn next(args: &mut Args<'_>) -> Outcome<u64> {
    Ok(args.next_pos().ok_or("an argument is missing")?.parse()?)
}

fn node(args: &mut Args<'_>) -> Outcome<NodeId> {
    let word = args.next_pos().ok_or("a node is missing")?;
    Ok(n(word.trim_start_matches('n').parse()?))
}

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Vote(_) => "vote",
        Message::VoteReply(_) => "vote_reply",
        Message::Append(_) => "append",
        Message::AppendReply(_) => "append_reply",
        Message::Heartbeat(_) => "heartbeat",
        Message::HeartbeatReply(_) => "heartbeat_reply",
        Message::TimeoutNow(_) => "timeout_now",
        Message::TimeoutNowReply(_) => "timeout_now_reply",
        Message::Install(_) => "snapshot",
        Message::InstallReply(_) => "snapshot_reply",
    }
}

/// Seats are named after their first holder.
fn change(cluster: &Cluster, verb: &str, args: &mut Args<'_>) -> Outcome<MembershipChange> {
    let id = node(args)?;
    Ok(match verb {
        "add" => {
            let old = args.take_key("instead_of").map(|old| old.trim_start_matches('n').parse());
            let instead_of = old.transpose()?.map(n);
            let seat = args.take_key("seat").map(str::to_owned);
            let members = cluster.leader().map(|leader| &cluster.core(leader).membership().members);
            let name = seat.or_else(|| {
                let old = members?.get(&instead_of?)?;
                Some(old.name.clone())
            });
            let name = name.unwrap_or_else(|| show::node(id));
            let address = format!("{name}.test:6000");
            MembershipChange::AddLearner { id, member: Member { name, address }, instead_of }
        }
        "promote" => MembershipChange::Promote { id },
        "remove" => MembershipChange::Remove { id },
        "retire" => MembershipChange::Retire { id },
        _ => MembershipChange::Replace { old: id, new: node(args)? },
    })
}

/// Which packets a verb means.
struct Filter {
    from: Option<NodeId>,
    to: Option<NodeId>,
    kind: Option<String>,
    max: usize,
}

impl Filter {
    fn parse(args: &mut Args<'_>) -> Outcome<Filter> {
        let id = |text: Option<&str>| -> Outcome<Option<NodeId>> {
            Ok(text.map(|t| t.trim_start_matches('n').parse()).transpose()?.map(n))
        };
        Ok(Filter {
            from: id(args.take_key("from"))?,
            to: id(args.take_key("to"))?,
            kind: args.take_key("kind").map(str::to_owned),
            max: number(args, "max", u64::MAX)? as usize,
        })
    }

    fn takes(&self, packet: &Packet) -> bool {
        let envelope = &packet.envelope;
        self.from.is_none_or(|id| id == envelope.from)
            && self.to.is_none_or(|id| id == envelope.to)
            && self.kind.as_ref().is_none_or(|word| word == kind(&envelope.message))
    }

    fn take(&self, wire: &mut VecDeque<Packet>) -> Vec<Packet> {
        let mut taken = Vec::new();
        let mut rest = VecDeque::new();
        for packet in wire.drain(..) {
            if taken.len() < self.max && self.takes(&packet) {
                taken.push(packet);
            } else {
                rest.push_back(packet);
            }
        }
        *wire = rest;
        taken
    }
}

impl Story {
    fn cluster(&mut self) -> Outcome<&mut Cluster> {
        self.cluster.as_mut().ok_or_else(|| "no cluster yet".into())
    }

    fn create(&mut self, args: &mut Args<'_>) -> Outcome<()> {
        let voters = next(args)?;
        let learners = number(args, "learners", 0)?;
        let manual = args.take_key("disk") == Some("manual");
        let hellos = args.take_key("hellos") != Some("manual");
        let defaults = Options::default();
        // One length for every timeout, so that a story does not depend on chance.
        let election = number(args, "election", 10)? as u32;
        let options = Options {
            heartbeat_ticks: number(args, "heartbeat", 3)? as u32,
            election_ticks: (election, election),
            inflight_appends: number(args, "inflight_appends", 64)? as usize,
            inflight_bytes: number(args, "inflight_bytes", defaults.inflight_bytes)?,
            append_bytes: number(args, "append_bytes", defaults.append_bytes)?,
            append_entries: number(args, "append_entries", defaults.append_entries)?,
            uncommitted_bytes: number(args, "uncommitted_bytes", defaults.uncommitted_bytes)?,
            pending_reads: number(args, "pending_reads", 1000)? as usize,
            trailing_entries: number(args, "trailing", 0)?,
            pinned_bytes: number(args, "pinned", 0)?,
            promote_lag: number(args, "promote_lag", 2)?,
        };
        let mut cluster = Cluster::new(voters, learners, options, 1, hellos);
        cluster.prompt_disks = !manual;
        self.cluster = Some(cluster);
        Ok(())
    }

    fn given(&mut self, args: &mut Args<'_>) -> Outcome<()> {
        let id = node(args)?;
        let term = Term(number(args, "term", 1)?);
        let vote = match number(args, "vote", 0)? {
            0 => None,
            id => Some(n(id)),
        };
        let terms = args.take_key("log").unwrap_or_default();
        let terms = terms.split('.').filter(|t| !t.is_empty()).map(str::parse);
        let terms: Vec<u64> = terms.collect::<Result<_, _>>()?;
        let cluster = self.cluster()?;
        cluster.given(id, HardState { term, vote }, &terms);
        cluster.trace.clear();
        Ok(())
    }

    fn traffic(&mut self, verb: &str, args: &mut Args<'_>) -> Outcome<()> {
        let filter = Filter::parse(args)?;
        let cluster = self.cluster.as_mut().ok_or("no cluster yet")?;
        let packets = if verb == "repeat" {
            cluster.wire.iter().filter(|p| filter.takes(p)).take(filter.max).cloned().collect()
        } else {
            filter.take(&mut cluster.wire)
        };
        if packets.is_empty() {
            return Err("no such message is on its way".into());
        }
        for packet in packets {
            match verb {
                "drop" => cluster.lose(packet),
                "delay" => {
                    cluster.trace.push(format!("delayed: {}", show::envelope(&packet.envelope)));
                    self.delayed.push_back(packet);
                }
                _ => cluster.deliver(packet),
            }
        }
        Ok(())
    }

    fn network(&mut self, verb: &str, args: &mut Args<'_>) -> Outcome<()> {
        let first = node(args)?;
        let cluster = self.cluster()?;
        if verb == "isolate" {
            cluster.isolate(first);
            return Ok(());
        }
        let second = node(args)?;
        cluster.cuts.insert((first, second));
        if verb == "cut" {
            cluster.cuts.insert((second, first));
        }
        Ok(())
    }

    fn end_snapshot(&mut self, id: NodeId) -> Outcome<()> {
        let begun = self.begun.remove(&id).ok_or("none is being taken")?;
        self.cluster()?.end_snapshot(id, begun);
        Ok(())
    }

    fn copies(&mut self, verb: &str, id: NodeId) -> Outcome<()> {
        if verb == "copy" {
            let copy = self.cluster()?.copy_disk(id);
            self.copies.insert(id, copy);
        } else {
            let copy = self.copies.remove(&id).ok_or("there is no copy")?;
            self.cluster()?.put_back(id, copy);
        }
        Ok(())
    }

    fn status(&mut self) -> Outcome<()> {
        let cluster = self.cluster()?;
        for id in cluster.ids() {
            if !cluster.alive(id) {
                cluster.trace.push(format!("{} is down", show::node(id)));
                continue;
            }
            let status = cluster.core(id).status();
            let mut line = show::soft(id, status.soft_state);
            if status.snapshot != LogId::ZERO {
                line += &format!("; snapshot {} first {}", status.snapshot, status.first);
            }
            line += &format!(
                "; last {} persisted {} commit {}",
                status.last, status.persisted, status.commit
            );
            if let Some(to) = status.transfer {
                line += &format!("; hands over to {}", show::node(to));
            }
            if status.removed {
                line += "; removed";
            }
            for peer in status.peers {
                let mark = if peer.active { "" } else { " silent" };
                line += &format!("; {} has {}{mark}", show::node(peer.id), peer.matched);
            }
            cluster.trace.push(line);
        }
        Ok(())
    }

    fn logs(&mut self) -> Outcome<()> {
        let cluster = self.cluster()?;
        for id in cluster.ids() {
            let log = &cluster.nodes[&id].disk.durable;
            let shown: Vec<String> = log.entries().iter().map(show::entry).collect();
            cluster.trace.push(format!("{}: {}", show::node(id), shown.join(", ")));
        }
        Ok(())
    }

    fn act(&mut self, verb: &str, args: &mut Args<'_>) -> Outcome<()> {
        match verb {
            "cluster" => self.create(args)?,
            "given" => self.given(args)?,
            "deliver" | "drop" | "delay" | "repeat" => self.traffic(verb, args)?,
            "cut" | "oneway" | "isolate" => self.network(verb, args)?,
            "status" => self.status()?,
            "log" => self.logs()?,
            "release" => {
                let mut delayed = std::mem::take(&mut self.delayed);
                self.cluster()?.wire.append(&mut delayed);
            }
            "heal" => {
                self.cluster()?.cuts.clear();
                self.cluster()?.greet_all();
            }
            "copy" | "put_back" => self.copies(verb, node(args)?)?,
            "hellos" => self.cluster()?.judge_hellos(),
            "snapshot" => {
                let id = node(args)?;
                let begun = self.cluster()?.begin_snapshot(id).ok_or("nothing to take")?;
                self.begun.insert(id, begun);
                if args.next_pos() != Some("begins") {
                    self.end_snapshot(id)?;
                }
            }
            "snapshot_ends" => self.end_snapshot(node(args)?)?,
            "settle" => {
                let idle = args.take_key("except").map(|id| id.trim_start_matches('n').parse());
                let idle = idle.transpose()?.map(n);
                self.cluster()?.settle_except(idle);
            }
            "timeout" => {
                let cluster = self.cluster()?;
                for lost in std::mem::take(&mut cluster.lost) {
                    cluster.tell_lost(lost);
                }
            }
            _ => self.act_on_node(verb, args)?,
        }
        Ok(())
    }

    fn act_on_node(&mut self, verb: &str, args: &mut Args<'_>) -> Outcome<()> {
        let id = node(args)?;
        let heartbeat = 3;
        let cluster = self.cluster()?;
        match verb {
            "tick" => {
                for _ in 0..next(args).unwrap_or(1) {
                    cluster.input(id, Node::tick);
                }
            }
            "heartbeat" => (0..heartbeat).for_each(|_| cluster.input(id, Node::tick)),
            "campaign" => cluster.campaign(id),
            "elect" => cluster.elect(id),
            "propose" => {
                let words: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
                cluster.propose(id, &words);
            }
            "read" => {
                let token = ReadToken(next(args)?);
                cluster.oracle.read_arrives(token);
                cluster.input(id, |core| core.read_index(token));
            }
            "persist" => {
                for _ in 0..next(args).unwrap_or(1) {
                    if !cluster.persist_one(id) {
                        return Err("the disk has nothing to do".into());
                    }
                }
            }
            "transfer" => {
                let to = node(args)?;
                cluster.transfer(id, to);
            }
            "join" => cluster.join(id),
            "dial" => {
                let to = node(args)?;
                cluster.dial(id, to);
            }
            "greet" => {
                let to = node(args)?;
                cluster.greet(id, to);
            }
            "seen" => cluster.tell_seen(id),
            "add" | "promote" | "remove" | "retire" | "replace" => {
                let change = change(cluster, verb, args)?;
                cluster.change(id, &change);
            }
            "full" => cluster.input(id, |core| core.disk_full(true)),
            "crash" => cluster.crash(id),
            "restart" => cluster.restart(id),
            "gone" => {
                let peer = node(args)?;
                cluster.input(id, |core| core.peer_gone(peer));
            }
            "room" => cluster.input(id, |core| core.disk_full(false)),
            _ => return Err(format!("unknown verb {verb}").into()),
        }
        Ok(())
    }
}

impl Runner for Story {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let done = self.act(&command.name, &mut args);
        args.reject_next()?;
        let trace = match &mut self.cluster {
            Some(cluster) => std::mem::take(&mut cluster.trace),
            None => Vec::new(),
        };
        if !context.fail {
            done?;
            return Ok(trace.join("\n"));
        }
        done.map(|()| trace.join("\n"))
    }
}

fn run_all(section: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft/testdata").join(section);
    let entries = std::fs::read_dir(&root).expect("the section exists");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no stories in {}", root.display());
    let mut failed = Vec::new();
    for path in paths {
        let run = std::panic::catch_unwind(|| goldenscript::run(&mut Story::default(), &path));
        match run {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed.push(format!("{}: {error}", path.display())),
            Err(_) => failed.push(format!("{}: see above", path.display())),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

macro_rules! sections {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            run_all(stringify!($name));
        }
    )*};
}
sections!(append, commit, election, greeting, seen, read, restart, snapshot, transfer, membership);
