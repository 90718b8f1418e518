//! What `srvraft`'s options mean: from text to a [`NodeCommand`], or one report of everything wrong.
//!
//! A seat may be called like a command. One word is always the seat of a node to run; a command is two
//! words, itself and its seat or its question, by which no node was ever started.

mod seeds;

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use self::seeds::Seeds;
use super::judge::Judge;
use super::options::{self, Env};
use super::values;
use crate::config::{
    LogFormat, NodeCommand, NodeConfig, OnDamage, PORT_DEFAULT, PROBE_TIMEOUT_DEFAULT, Parsed,
    Probe, Question, RETIREMENT_DEFAULT, Recover, SEAT_LIMIT_DEFAULT, SnapshotPolicy, TICK_DEFAULT,
    UsageReport,
};
use crate::raft;

/// The commands, as they are typed, and how to read one of these words alone.
const COMMANDS: [(&str, &str); 3] = [
    ("discard", "`srvraft discard NAME` sets a directory aside"),
    ("recover", "`srvraft recover NAME` makes a cluster of one of a directory"),
    ("probe", "`srvraft probe live` and `srvraft probe ready` ask the node on this machine"),
];

/// The least of `--snapshot-bytes`: below it a node would do little else than write snapshots.
const SNAPSHOT_BYTES_MIN: u64 = 64 << 10;

/// The port that the complaint about a wrong `--metrics` shows; by default none is served.
const METRICS_PORT_SHOWN: u16 = 6001;

/// Reads the arguments of `srvraft` (without the executable's name) over `env`.
///
/// # Errors
/// Everything that is wrong, in one report; the executable ends with status 64.
pub fn parse_node(
    arguments: Vec<OsString>,
    env: Env<'_>,
) -> Result<Parsed<NodeCommand>, UsageReport> {
    let mut judge = Judge::new(options::node(arguments), env);
    if judge.flag("help") {
        return Ok(Parsed::Print(options::node_help()));
    }
    if judge.flag("version") {
        return Ok(Parsed::Print(format!("srvraft {}", env!("CARGO_PKG_VERSION"))));
    }
    let mut words = judge.take_words();
    if let [command, _, ..] = words.as_slice()
        && (command == "discard" || command == "recover")
    {
        let command = words.remove(0);
        let name = seat(&mut judge, words, env);
        return if command == "discard" { discard(judge, name) } else { recover(judge, name) };
    }
    if words.len() > 1 && words[0] == "probe" {
        words.remove(0);
        let question = question(&mut judge, &words.remove(0));
        let name = seat(&mut judge, words, env);
        return probe(judge, question, name);
    }
    serve(judge, words, env)
}

/// `srvraft discard NAME`.
fn discard(mut judge: Judge<'_>, name: Option<String>) -> Result<Parsed<NodeCommand>, UsageReport> {
    let data_dir = required(&mut judge, "data_dir", "--data-dir (what is set aside)");
    let problems = judge.finish("srvraft discard");
    match (name, data_dir) {
        (Some(name), Some(data_dir)) if problems.is_empty() => {
            Ok(Parsed::Run(NodeCommand::Discard { name, data_dir }))
        }
        _ => Err(UsageReport { program: "srvraft", problems }),
    }
}

/// `srvraft recover NAME`.
fn recover(mut judge: Judge<'_>, name: Option<String>) -> Result<Parsed<NodeCommand>, UsageReport> {
    let data_dir = required(&mut judge, "data_dir", "--data-dir (what is recovered from)");
    let certs = required(&mut judge, "certs", "--certs (the certificates' directory)");
    let yes = judge.flag("yes");
    let problems = judge.finish("srvraft recover");
    match (name, data_dir, certs) {
        (Some(name), Some(data_dir), Some(certs)) if problems.is_empty() => {
            Ok(Parsed::Run(NodeCommand::Recover(Recover { name, data_dir, certs, yes })))
        }
        _ => Err(UsageReport { program: "srvraft", problems }),
    }
}

/// `srvraft probe live|ready [NAME]`. Other settings of the node may stand in the environment.
fn probe(
    mut judge: Judge<'_>,
    question: Option<Question>,
    name: Option<String>,
) -> Result<Parsed<NodeCommand>, UsageReport> {
    let certs = required(&mut judge, "certs", "--certs (the certificates' directory)");
    let port = judge.setting("port", |text| values::number(text, 1, 65535));
    let listen = listen(&mut judge, port);
    let read = |text: &str| values::duration(text, Duration::from_millis(1));
    let timeout = judge.setting("timeout", read).unwrap_or(PROBE_TIMEOUT_DEFAULT);
    let problems = judge.finish("srvraft probe");
    match (question, name, certs) {
        (Some(question), Some(name), Some(certs)) if problems.is_empty() => {
            let address = from_here(listen);
            Ok(Parsed::Run(NodeCommand::Probe(Probe { question, name, address, certs, timeout })))
        }
        _ => Err(UsageReport { program: "srvraft", problems }),
    }
}

fn question(judge: &mut Judge<'_>, word: &OsStr) -> Option<Question> {
    match word.to_str() {
        Some("live") => Some(Question::Live),
        Some("ready") => Some(Question::Ready),
        _ => {
            let word = word.to_string_lossy();
            judge.problem(format!("srvraft probe asks live or ready, not '{word}'"));
            None
        }
    }
}

/// Where a node that listens there is reached on its own machine: by loopback, for which the node keeps
/// some connections, unless it listens on one address alone.
fn from_here(listen: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    SocketAddr::new(loopback, listen.port())
}

/// `--listen`, by default all addresses and the port of `--port`.
fn listen(judge: &mut Judge<'_>, port: Option<u64>) -> SocketAddr {
    let listen = judge.setting("listen", |text| values::listen_address(text, PORT_DEFAULT));
    let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT_DEFAULT);
    listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
}

/// `srvraft NAME`.
fn serve(
    mut judge: Judge<'_>,
    words: Vec<OsString>,
    env: Env<'_>,
) -> Result<Parsed<NodeCommand>, UsageReport> {
    let first = words.first().map(|word| word.to_string_lossy().into_owned());
    let name = seat(&mut judge, words, env);
    let port = judge.setting("port", |text| values::number(text, 1, 65535));
    let seeds = Seeds::read(&mut judge, name.as_deref(), port);
    let address = judge.setting("advertise", values::host_port);
    let data_dir = required(&mut judge, "data_dir", "--data-dir (where the log is kept)");
    let certs = required(&mut judge, "certs", "--certs (the certificates' directory)");
    let listen = listen(&mut judge, port);
    let metrics = judge.setting("metrics", |text| values::listen_address(text, METRICS_PORT_SHOWN));
    if metrics == Some(listen) && listen.port() != 0 {
        judge.problem(format!("--metrics and --listen are both {listen}; they need a port each"));
    }
    let cluster = judge.setting("cluster", values::seat);
    let tick = judge.setting("tick", |text| values::duration(text, Duration::from_millis(1)));
    let raft = timing(&mut judge);
    let snapshots = snapshots(&mut judge);
    let mut span = |name, default| {
        let read = |text: &str| values::duration(text, Duration::from_secs(1));
        judge.setting(name, read).unwrap_or(default)
    };
    let seat_limit = span("seat_limit", SEAT_LIMIT_DEFAULT);
    let retirement = span("retirement", RETIREMENT_DEFAULT);
    let on_damage = judge.setting("on_damage", |text| match text {
        "stop" => Ok(OnDamage::Stop),
        "replace" => Ok(OnDamage::Replace),
        _ => Err(format!("'{text}' is neither stop nor replace")),
    });
    let log_format = judge.setting("log_format", |text| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("'{text}' is neither text nor json")),
    });
    if let Some(filter) = env("BALSA_LOG").filter(|filter| !filter.is_empty())
        && let Err(why) = values::log_filter(&filter.to_string_lossy())
    {
        judge.problem(format!("BALSA_LOG: {why}"));
    }
    let advertise = match (address, &name, &seeds) {
        (Some(address), ..) => address,
        (None, Some(name), Some(seeds)) => seeds.address_of(name).unwrap_or_else(|| {
            judge.problem(format!(
                "{name} is not among the seeds, so --advertise (its HOST:PORT) must be given"
            ));
            String::new()
        }),
        // What is missing has been named already.
        _ => String::new(),
    };
    let mut problems = judge.finish("srvraft");
    if !problems.is_empty()
        && let Some(word) = first
        && let Some((_, what)) = COMMANDS.iter().find(|(command, _)| *command == word)
    {
        problems.push(format!("{what}; here {word} was read as a seat"));
    }
    match (name, seeds, data_dir, certs) {
        (Some(name), Some(seeds), Some(data_dir), Some(certs)) if problems.is_empty() => {
            Ok(Parsed::Run(NodeCommand::Serve(Box::new(NodeConfig {
                name,
                data_dir,
                listen,
                metrics,
                advertise,
                seeds: seeds.list,
                service: seeds.service,
                certs,
                cluster,
                tick: tick.unwrap_or(TICK_DEFAULT),
                raft,
                snapshots,
                seat_limit,
                retirement,
                on_damage: on_damage.unwrap_or_default(),
                log_format: log_format.unwrap_or_default(),
            }))))
        }
        _ => Err(UsageReport { program: "srvraft", problems }),
    }
}

fn seat(judge: &mut Judge<'_>, words: Vec<OsString>, env: Env<'_>) -> Option<String> {
    let mut words = words.into_iter();
    let typed = words.next();
    for extra in words {
        judge.problem(format!("'{}' is one word too many", extra.to_string_lossy()));
    }
    match typed.or_else(|| env("BALSA_NAME").filter(|name| !name.is_empty())) {
        None => {
            judge.problem("the seat's name is missing: srvraft NAME, or BALSA_NAME");
            None
        }
        Some(name) => {
            let text = name.to_string_lossy();
            if text.starts_with('-') {
                judge.problem(format!("there is no option {text}"));
                return None;
            }
            values::seat(&text).map_err(|why| judge.problem(why)).ok()
        }
    }
}

fn required(judge: &mut Judge<'_>, name: &'static str, what: &str) -> Option<PathBuf> {
    let path = judge.setting(name, |text| match text {
        "" => Err("is empty".to_owned()),
        _ => Ok(PathBuf::from(text)),
    });
    if path.is_none() && !judge.typed(name) {
        judge.problem(format!("{what} is missing"));
    }
    path
}

fn timing(judge: &mut Judge<'_>) -> raft::Options {
    let mut raft = raft::Options::default();
    let ticks = |text: &str| values::number(text, 1, u64::from(u32::MAX));
    let heartbeat = judge.setting("heartbeat", ticks).and_then(|ticks| u32::try_from(ticks).ok());
    raft.heartbeat_ticks = heartbeat.unwrap_or(raft.heartbeat_ticks);
    let election = judge.setting("election", values::tick_range);
    raft.election_ticks = election.unwrap_or(raft.election_ticks);
    let trailing = judge.setting("trailing_entries", |text| values::number(text, 0, u64::MAX));
    raft.trailing_entries = trailing.unwrap_or(raft.trailing_entries);
    // What is wrong with one value alone has been said; what is left is how the two relate.
    for problem in raft.problems() {
        judge.problem(format!("--election, --heartbeat: {problem}"));
    }
    raft
}

fn snapshots(judge: &mut Judge<'_>) -> SnapshotPolicy {
    let default = SnapshotPolicy::default();
    let bytes = judge.setting("snapshot_bytes", |text| values::size(text, SNAPSHOT_BYTES_MIN));
    let entries = judge.setting("snapshot_entries", |text| values::number(text, 1, u64::MAX));
    SnapshotPolicy {
        bytes: bytes.unwrap_or(default.bytes),
        entries: entries.unwrap_or(default.entries),
    }
}

#[cfg(test)]
mod tests;
