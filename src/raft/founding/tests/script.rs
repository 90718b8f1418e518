//! Golden scripts: `testdata/*.txt`, one story each. `UPDATE_GOLDENFILES=1 cargo test` writes them
//! anew; every difference must be understood.
//!
//! | command | does |
//! |---|---|
//! | `seats NAME...` | the seed list of every node started from here on |
//! | `start NAME [seeds="A,B"]` | a process with a new, empty directory; labelled `NAME/1`, `NAME/2`, ... |
//! | `go [TICKS]` | time passes for everybody, mail is delivered in order, disks are quick |
//! | `tick [TICKS]` | time passes, mail piles up |
//! | `deliver\|drop KIND [from=LABEL] [to=LABEL]` | the matching letters now under way; `any` is every kind |
//! | `copy KIND ...`, `late` | keeps copies of letters; delivers the copies at last |
//! | `slow\|quick LABEL`, `sync LABEL` | a disk completes its writes one by one on `sync`, or at once |
//! | `crash`, `lose`, `boot LABEL [seeds="A,B"]` | kill -9; that and the directory is lost; start again |
//! | `address NAME LABEL` | the seat's address leads to this process |
//! | `service` | the service's name resolves to every running process |
//! | `unheard WHY`, `heard` | something behind the service's name does not answer; it is gone |
//! | `hello LABEL from=NAME cluster=N` | a connection's hello named a cluster |
//! | `status` | what every running node says |

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;

use goldenscript::{Command, Context};

use super::super::Seed;
use super::world::{Mail, World, seed};
use crate::raft::{ClusterId, NodeId};

#[derive(Default)]
struct Script {
    world: World,
    copies: Vec<Mail>,
    slow: BTreeSet<NodeId>,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn words(command: &Command) -> Vec<&str> {
    let mut args = command.consume_args();
    std::iter::from_fn(|| args.next_pos()).collect()
}

fn word(command: &Command, place: usize) -> Outcome<&str> {
    words(command).get(place).copied().ok_or_else(|| "a word is missing".into())
}

impl Script {
    fn find(&self, label: &str) -> Outcome<NodeId> {
        let found = self.world.processes.iter().find(|(_, process)| process.label == label);
        found.map(|(id, _)| *id).ok_or_else(|| format!("no node {label}").into())
    }

    /// Quick disks write, and rounds of asking are answered.
    fn follow_up(&mut self) {
        loop {
            let quick = |id: &NodeId| !self.slow.contains(id);
            let mut busy = self.world.running().into_iter().filter(quick);
            if let Some(id) = busy.find(|id| !self.world.processes[id].unsynced.is_empty()) {
                self.world.sync(id);
            } else if !self.world.rounds.is_empty() {
                self.world.answer(0, 0, true);
            } else {
                return;
            }
        }
    }

    fn tick(&mut self) {
        for id in self.world.running() {
            self.world.input(id, |founding| founding.tick());
            self.follow_up();
        }
    }

    fn settle(&mut self) {
        while !self.world.mail.is_empty() {
            let mail = self.world.mail.remove(0);
            self.world.deliver(mail);
            self.follow_up();
        }
    }

    /// Takes the matching letters out of the mail.
    fn take(&mut self, command: &Command) -> Outcome<Vec<Mail>> {
        let mut args = command.consume_args();
        let kind = args.next_pos().ok_or("which kind?")?.to_owned();
        let from = args.take_key("from").map(|label| self.find(label)).transpose()?;
        let to = args.take_key("to").map(|label| self.find(label)).transpose()?;
        args.reject_next()?;
        let (taken, left) = std::mem::take(&mut self.world.mail).into_iter().partition(|mail| {
            (kind == "any" || World::kind(&mail.letter.message) == kind)
                && from.is_none_or(|id| mail.letter.from.node_id == id)
                && to.is_none_or(|id| mail.letter.to == id)
        });
        self.world.mail = left;
        let taken: Vec<Mail> = taken;
        if taken.is_empty() {
            return Err("no such letter is under way".into());
        }
        Ok(taken)
    }

    fn node(&self, command: &Command) -> Outcome<NodeId> {
        self.find(word(command, 0)?)
    }

    fn seeds(&self, command: &Command) -> Option<Vec<Seed>> {
        let list = command.consume_args().take_key("seeds")?;
        Some(list.split(',').map(seed).collect())
    }

    fn status(&mut self) {
        for id in self.world.running() {
            let label = self.world.label(id);
            let founding = self.world.founding(id);
            let line = match (founding.founded(), founding.waiting()) {
                (Some(founded), _) => {
                    let names = founded.membership.members.values().map(|m| m.name.as_str());
                    let mut names: Vec<&str> = names.collect();
                    names.sort_unstable();
                    format!("{label} is in {} with {}", founded.cluster_id, names.join(" "))
                }
                (None, waiting) => format!("{label} waits: {}", waiting.unwrap_or("-")),
            };
            let line = self.world.readable(&line);
            self.world.log.push(line);
        }
        self.world.log.sort();
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outcome<String> {
        let count = |default: u64| -> Outcome<u64> {
            word(command, 0).map_or(Ok(default), |text| Ok(text.parse()?))
        };
        match command.name.as_str() {
            "seats" => {
                let names: Vec<String> = words(command).into_iter().map(str::to_owned).collect();
                self.world = World::new(&names);
            }
            "start" => {
                let name = word(command, 0)?.to_owned();
                let seeds = self.seeds(command).unwrap_or_else(|| self.world.seeds.clone());
                self.world.start(&name, seeds);
            }
            "go" => {
                for _ in 0..count(100)? {
                    self.tick();
                    self.settle();
                }
            }
            "tick" => (0..count(1)?).for_each(|_| self.tick()),
            "deliver" => {
                for mail in self.take(command)? {
                    self.world.deliver(mail);
                    self.follow_up();
                }
            }
            "drop" => drop(self.take(command)?),
            "copy" => {
                let taken = self.take(command)?;
                self.copies.extend(taken.iter().cloned());
                self.world.mail.extend(taken);
            }
            "late" => {
                for mail in std::mem::take(&mut self.copies) {
                    self.world.deliver(mail);
                    self.follow_up();
                }
            }
            "slow" => {
                let id = self.node(command)?;
                self.slow.insert(id);
            }
            "quick" => {
                let id = self.node(command)?;
                self.slow.remove(&id);
                self.follow_up();
            }
            "sync" => {
                let id = self.node(command)?;
                self.world.sync(id);
                self.follow_up();
            }
            "crash" => {
                let id = self.node(command)?;
                self.world.crash(id);
            }
            "lose" => {
                let id = self.node(command)?;
                self.world.lose(id);
            }
            "boot" => {
                let id = self.node(command)?;
                if let Some(seeds) = self.seeds(command) {
                    self.world.process(id).me.seeds = seeds;
                }
                self.world.boot(id);
            }
            "address" => {
                let name = word(command, 0)?.to_owned();
                let id = self.find(word(command, 1)?)?;
                self.world.address.insert(name, id);
            }
            "service" => self.world.service = true,
            "unheard" => self.world.unheard = Some(word(command, 0)?.to_owned()),
            "heard" => self.world.unheard = None,
            "hello" => {
                let id = self.node(command)?;
                let mut args = command.consume_args();
                let name = args.take_key("from").ok_or("from whom?")?.to_owned();
                let cluster = ClusterId(args.take_key("cluster").ok_or("which?")?.parse()?);
                self.world.input(id, |founding| founding.greeted(&name, cluster));
                self.follow_up();
            }
            "status" => self.status(),
            other => return Err(format!("unknown command {other}").into()),
        }
        let mut output = std::mem::take(&mut self.world.log).join("\n");
        if !output.is_empty() {
            output.push('\n');
        }
        Ok(output)
    }
}

#[test]
fn stories() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/raft/founding/testdata");
    let mut stories: Vec<PathBuf> =
        std::fs::read_dir(directory).expect("testdata").map(|e| e.expect("entry").path()).collect();
    stories.sort();
    assert!(stories.len() >= 20, "every story is told: {}", stories.len());
    for story in stories {
        println!("{}", story.display());
        goldenscript::run(&mut Script::default(), story).expect("a readable story");
    }
}
