//! What `cltraft` can be told to do, and how each command's words are read. The same reading serves
//! the command line and the shell.

mod admin;
mod certs;
mod local;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use bytes::Bytes;

pub use admin::Change;
pub use local::{Local, LocalAction};

use super::certs::CertsCommand;
use super::judge::Judge;
use super::source::Source;
use super::values;
use crate::kv::limits::PAGE_ENTRIES_MAX;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Source,
        /// The node to try first.
        first: Option<String>,
    },
    /// Reads a key.
    Get {
        /// The key.
        key: Bytes,
        /// Possibly stale, from the node asked.
        local: bool,
        /// The node to try first.
        first: Option<String>,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Sets a key if its value is as expected.
    Cas {
        /// The key.
        key: Bytes,
        /// The value it must have; none: it must not exist.
        expected: Option<Bytes>,
        /// The new value.
        value: Bytes,
    },
    /// Reads keys in order.
    Range {
        /// First key.
        from: Bytes,
        /// End, exclusive; none: to the last key.
        to: Option<Bytes>,
        /// Entries at most.
        limit: Option<u64>,
    },
    /// A node's state, or every node's.
    Status {
        /// The node.
        node: Option<String>,
    },
    /// A node's metrics.
    Metrics {
        /// The node.
        node: String,
    },
    /// A node's log and store.
    Replication {
        /// The node.
        node: String,
        /// First log index.
        from: u64,
        /// First key of the store; empty: its first.
        from_key: Bytes,
        /// Entries at most, of the log and of the store each; none: everything.
        limit: Option<u32>,
    },
    /// Stops a node.
    Stop {
        /// The node.
        node: String,
    },
    /// Lists the members.
    Members,
    /// Changes them.
    Change(Change),
    /// Hands the leadership over.
    Transfer {
        /// To this node.
        node: String,
    },
    /// Takes a snapshot.
    Snapshot {
        /// On this node.
        node: String,
    },
    /// The automatic client (mission S9).
    Test {
        /// How long to wait for the cluster first.
        wait: Option<Duration>,
    },
    /// Waits for SIGTERM.
    Idle,
    /// The interactive client (mission S4).
    Shell,
    /// Measures.
    Bench(Bench),
    /// A cluster on this machine.
    Local(Local),
    /// Makes or shows certificates.
    Certs(CertsCommand),
}

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bench {
    /// Which operation.
    pub op: BenchOp,
    /// Clients, each with one operation in flight.
    pub clients: usize,
    /// Connections they share.
    pub conns: usize,
    /// How long.
    pub seconds: u64,
    /// Bytes of a value.
    pub value_size: usize,
    /// Different keys.
    pub keys: u64,
    /// Threads of the load generator.
    pub threads: usize,
}

/// An operation to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchOp {
    /// Writes.
    Put,
    /// Linearizable reads.
    Get,
    /// Reads that may be stale, from every node.
    LocalGet,
    /// A write and a linearizable read in turn.
    Mixed,
}

impl Command {
    /// Whether the command talks to a cluster given by `--endpoints`.
    #[must_use]
    pub fn needs_cluster(&self) -> bool {
        !matches!(self, Command::Idle | Command::Local(_) | Command::Certs(_))
    }
}

/// The commands by name, in English and in Spanish, for reading and for completion.
pub const NAMES: [(&str, &str); 18] = [
    ("put", "escribir"),
    ("get", "leer"),
    ("delete", "borrar"),
    ("cas", "comparar"),
    ("range", "rango"),
    ("status", "estado"),
    ("metrics", "metricas"),
    ("replication", "estadoReplicacion"),
    ("stop", "detener"),
    ("member", "miembro"),
    ("transfer", "transferir"),
    ("snapshot", "instantanea"),
    ("test", "probar"),
    ("shell", "shell"),
    ("idle", "idle"),
    ("bench", "bench"),
    ("local", "local"),
    ("certs", "certs"),
];

/// Whether there is a command of this name that talks to a cluster given by `--endpoints`.
pub(crate) fn is_for_cluster(name: &str) -> bool {
    let known = NAMES.iter().any(|(english, spanish)| name == *english || name == *spanish);
    known && !matches!(name, "idle" | "local" | "certs")
}

/// Reads a command's words, noting everything wrong in `judge`. None if something is.
pub(crate) fn read(judge: &mut Judge<'_>, words: Vec<OsString>) -> Option<Command> {
    let mut words = Words { words: words.into_iter(), said: String::new() };
    // The command behind a misspelt option is still judged.
    let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
    while let Some(option) = words.words.as_slice().first().filter(|word| is_option(word)) {
        judge.problem(format!("there is no option {}", option.to_string_lossy()));
        words.next();
    }
    let name = words.next()?.to_string_lossy().into_owned();
    let known = NAMES.iter().find(|(english, spanish)| name == *english || name == *spanish);
    let Some((english, spanish)) = known else {
        judge.problem(format!("there is no command '{name}'"));
        return None;
    };
    // The assignment's forms name a node first: `leer <lider> <clave>`.
    let spanish_form = name == *spanish && name != *english;
    words.said = name.clone();
    let command = match *english {
        "put" => {
            let file = judge.bytes("file").map(|path| Source::File(path.into()));
            let stdin = judge.flag("stdin").then_some(Source::Stdin);
            if let (Some(_), Some(_)) = (&file, &stdin) {
                judge.problem("give one of --file and --stdin");
            }
            let elsewhere = file.or(stdin);
            let all = if elsewhere.is_some() { 2 } else { 3 };
            let first = (spanish_form && words.left() == all).then(|| words.text()).flatten();
            let key = words.bytes(judge, "KEY");
            let value = match elsewhere {
                Some(source) => Some(source),
                None => words.bytes(judge, "VALUE (or --file, --stdin)").map(Source::Given),
            };
            key.zip(value).map(|(key, value)| Command::Put { key, value, first })
        }
        "get" => {
            let first = (spanish_form && words.left() == 2).then(|| words.text()).flatten();
            let local = judge.flag("local");
            words.bytes(judge, "KEY").map(|key| Command::Get { key, local, first })
        }
        "delete" => words.bytes(judge, "KEY").map(|key| Command::Delete { key }),
        "cas" => {
            let key = words.bytes(judge, "KEY");
            let expected = match judge.flag("absent") {
                true => Some(None),
                false => words.bytes(judge, "EXPECTED").map(Some),
            };
            let value = words.bytes(judge, "NEW");
            key.zip(expected).zip(value).map(|((key, expected), value)| Command::Cas {
                key,
                expected,
                value,
            })
        }
        "range" => range(judge, &mut words),
        "status" => match words.left() {
            0 => Some(Command::Status { node: None }),
            _ => words.node(judge).map(|node| Command::Status { node: Some(node) }),
        },
        "metrics" => words.node(judge).map(|node| Command::Metrics { node }),
        "replication" => {
            let from = judge.option("from", |text| values::number(text, 1, u64::MAX));
            let limit = limit(judge).and_then(|limit| u32::try_from(limit).ok());
            let from = from.unwrap_or(0);
            let from_key =
                judge.bytes("from_key").map_or_else(Bytes::new, |key| key.into_vec().into());
            words.node(judge).map(|node| Command::Replication { node, from, from_key, limit })
        }
        "stop" => words.node(judge).map(|node| Command::Stop { node }),
        "member" => admin::member(judge, &mut words),
        "transfer" => words.node(judge).map(|node| Command::Transfer { node }),
        "snapshot" => admin::snapshot(judge, &mut words),
        "test" => {
            let wait = judge.setting("wait", |t| values::duration(t, Duration::from_secs(1)));
            Some(Command::Test { wait })
        }
        "shell" => Some(Command::Shell),
        "idle" => Some(Command::Idle),
        "bench" => Some(bench(judge)),
        "local" => local::read(judge),
        _ => certs::read(judge, &mut words),
    };
    words.end(judge);
    command
}

fn limit(judge: &mut Judge<'_>) -> Option<u64> {
    judge.option("limit", |text| values::number(text, 1, u64::from(PAGE_ENTRIES_MAX) * 100_000))
}

fn range(judge: &mut Judge<'_>, words: &mut Words) -> Option<Command> {
    let limit = limit(judge);
    if let Some(prefix) = judge.bytes("prefix") {
        let from = Bytes::from(prefix.into_vec());
        let to = crate::client::prefix_end(&from);
        return Some(Command::Range { from, to, limit });
    }
    let from = words.bytes(judge, "FROM (or --prefix)")?;
    let to = match words.left() {
        0 => None,
        _ => words.bytes(judge, "TO"),
    };
    Some(Command::Range { from, to, limit })
}

fn bench(judge: &mut Judge<'_>) -> Command {
    let op = judge.setting("op", |text| match text {
        "put" => Ok(BenchOp::Put),
        "get" => Ok(BenchOp::Get),
        "local-get" => Ok(BenchOp::LocalGet),
        "mixed" => Ok(BenchOp::Mixed),
        _ => Err(format!("'{text}' is none of put, get, local-get, mixed")),
    });
    let mut count = |name, high, default| {
        let number = judge.setting(name, |text| values::number(text, 1, high)).unwrap_or(default);
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    let clients = count("clients", 100_000, 64);
    let conns = count("conns", 10_000, 8).min(clients);
    let threads = count("threads", 256, 1).min(conns);
    let seconds = count("seconds", 86_400, 10) as u64;
    let value_size = count("value_size", crate::kv::limits::VALUE_BYTES_MAX as u64, 128);
    let keys = count("keys", 1_000_000_000, 10_000) as u64;
    let op = op.unwrap_or(BenchOp::Put);
    Command::Bench(Bench { op, clients, conns, seconds, value_size, keys, threads })
}

/// The words of one command.
struct Words {
    words: std::vec::IntoIter<OsString>,
    said: String,
}

impl Words {
    fn next(&mut self) -> Option<OsString> {
        self.words.next()
    }

    fn left(&self) -> usize {
        self.words.len()
    }

    fn text(&mut self) -> Option<String> {
        self.next().map(|word| word.to_string_lossy().into_owned())
    }

    fn bytes(&mut self, judge: &mut Judge<'_>, what: &str) -> Option<Bytes> {
        let word = self.next();
        if word.is_none() {
            judge.problem(format!("{} needs {what}", self.said));
        }
        word.map(|word| Bytes::from(word.into_vec()))
    }

    fn node(&mut self, judge: &mut Judge<'_>) -> Option<String> {
        let word = self.text();
        match word.as_deref() {
            None => judge.problem(format!("{} needs a NODE, such as 1 or raft-1", self.said)),
            Some(option) if option.starts_with('-') => {
                judge.problem(format!("there is no option {option}"));
            }
            Some(_) => return word,
        }
        None
    }

    /// What follows a word that is wrong has no meaning either, and is not worth a sentence of its own.
    fn skip(&mut self) {
        self.words = Vec::new().into_iter();
    }

    fn end(self, judge: &mut Judge<'_>) {
        for word in self.words {
            judge.problem(format!("'{}' is one word too many", word.to_string_lossy()));
        }
    }
}
