//! What `srvraft`'s options mean: from text to a [`NodeCommand`], or one report of everything wrong.
//!
//! A seat may be called like a command. One word is always the seat of a node to run; a command is two
//! words, itself and its seat or its question, by which no node was ever started.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::judge::Judge;
use super::options::{self, Env};
use super::values;
use crate::config::{
    LogFormat, NodeCommand, NodeConfig, OnDamage, PORT_DEFAULT, PROBE_TIMEOUT_DEFAULT, Parsed,
    Probe, Question, RETIREMENT_DEFAULT, Recover, SEAT_LIMIT_DEFAULT, Seed, SnapshotPolicy,
    TICK_DEFAULT, UsageReport,
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
    let listen = judge.setting("listen", |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("'{text}' is not ADDR:PORT such as 0.0.0.0:6000 or [::]:6000"))
    });
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
    let seeds = seeds(&mut judge, name.as_deref(), port);
    let address = judge.setting("advertise", values::host_port);
    let data_dir = required(&mut judge, "data_dir", "--data-dir (where the log is kept)");
    let certs = required(&mut judge, "certs", "--certs (the certificates' directory)");
    let listen = listen(&mut judge, port);
    let metrics = judge.setting("metrics", |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("'{text}' is not ADDR:PORT such as 0.0.0.0:6001 or [::]:6001"))
    });
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
        && let Err(why) = log_filter(&filter.to_string_lossy())
    {
        judge.problem(format!("BALSA_LOG: {why}"));
    }
    let advertise = match (address, &name, &seeds) {
        (Some(address), ..) => address,
        (None, Some(name), Some(seeds)) => {
            match advertised(&seeds.list, seeds.service.is_some(), name) {
                Some(address) => address,
                None => {
                    judge.problem(format!(
                    "{name} is not among the seeds, so --advertise (its HOST:PORT) must be given"
                ));
                    String::new()
                }
            }
        }
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

/// Levels, or targets with their levels, separated by commas. The library takes any word for the name
/// of a target, and so would say nothing about a misspelt level.
fn log_filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let fits = |part: &str| {
        let (target, level) = part.split_once('=').unwrap_or(("balsa", part));
        let plain = |c: char| c.is_ascii_alphanumeric() || "_:-".contains(c);
        let known = LEVELS.contains(&level.to_ascii_lowercase().as_str());
        known && !target.is_empty() && target.chars().all(plain)
    };
    match text.split(',').map(str::trim).find(|part| !fits(part)) {
        None => Ok(()),
        Some(part) => Err(format!(
            "'{part}' is neither a level ({}) nor a target with its level such as \
             balsa::rpc=debug",
            LEVELS.join(", ")
        )),
    }
}

/// The seats of the founding, and the service that names them, with its port, if one does.
struct Seeds {
    list: Vec<Seed>,
    service: Option<String>,
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

fn seeds(judge: &mut Judge<'_>, name: Option<&str>, port: Option<u64>) -> Option<Seeds> {
    let service = judge.setting("service", |text| {
        let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let name = text.trim_end_matches('.');
        if fits && !name.is_empty() {
            Ok(name.to_owned())
        } else {
            Err(format!("'{text}' is not a DNS name"))
        }
    });
    let replicas = judge.setting("replicas", |text| values::number(text, 1, 99));
    let list = judge.setting("seeds", seed_list);
    let typed = |judge: &Judge<'_>| judge.typed("seeds") || judge.typed("service");
    match (list, service) {
        (Some(_), Some(_)) => {
            judge.problem("--seeds and --service say the same thing twice: give one of them");
            None
        }
        (Some(list), None) => {
            if replicas.is_some() {
                judge.problem("--replicas goes with --service, not with --seeds");
            }
            Some(Seeds { list, service: None })
        }
        (None, Some(service)) => {
            let Some(replicas) = replicas else {
                if !judge.typed("replicas") {
                    judge.problem("--service needs --replicas (how many seats found the cluster)");
                }
                return None;
            };
            let port = port.unwrap_or(u64::from(PORT_DEFAULT));
            // The name itself has been judged already; here only its form matters.
            let Some((prefix, _)) = values::ordinal(name?) else {
                judge.problem(format!(
                    "--service counts seats by ordinal, and '{}' has none (such as raft-1)",
                    name.unwrap_or_default()
                ));
                return None;
            };
            let seed = |ordinal| Seed {
                name: format!("{prefix}-{ordinal}"),
                address: format!("{prefix}-{ordinal}.{service}:{port}"),
            };
            let list = (0..replicas).map(seed).collect();
            Some(Seeds { list, service: Some(format!("{service}:{port}")) })
        }
        (None, None) => {
            if !typed(judge) {
                judge.problem("the seats are missing: --seeds, or --service with --replicas");
            }
            None
        }
    }
}

fn seed_list(text: &str) -> Result<Vec<Seed>, String> {
    let mut list: Vec<Seed> = Vec::new();
    let mut problems = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match seed(part, &list) {
            Ok(seed) => list.push(seed),
            Err(why) => problems.push(why),
        }
    }
    match problems.is_empty() {
        true if list.is_empty() => Err("the list is empty".to_owned()),
        true => Ok(list),
        false => Err(problems.join("; ")),
    }
}

fn seed(part: &str, before: &[Seed]) -> Result<Seed, String> {
    let (name, address) = part
        .split_once('=')
        .ok_or_else(|| format!("'{part}' is not NAME=HOST:PORT such as raft-0=10.0.0.1:6000"))?;
    let seed = Seed { name: values::seat(name)?, address: values::host_port(address)? };
    if before.iter().any(|other| other.name == seed.name) {
        return Err(format!("{} is there twice", seed.name));
    }
    match before.iter().find(|other| other.address == seed.address) {
        Some(other) => Err(format!("{} and {} have the same address", other.name, seed.name)),
        None => Ok(seed),
    }
}

/// Where a seat is reached: its own seed, or its name in the service the seeds are named by.
fn advertised(seeds: &[Seed], by_service: bool, name: &str) -> Option<String> {
    if let Some(own) = seeds.iter().find(|seed| seed.name == name) {
        return Some(own.address.clone());
    }
    let first = seeds.first().filter(|_| by_service)?;
    let rest = first.address.strip_prefix(&first.name)?;
    Some(format!("{name}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str, env: &[(&str, &str)]) -> Result<Parsed<NodeCommand>, UsageReport> {
        let arguments = arguments.split_whitespace().map(OsString::from).collect();
        let env = |name: &str| {
            env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        parse_node(arguments, &env)
    }

    fn config(arguments: &str, env: &[(&str, &str)]) -> NodeConfig {
        match parse(arguments, env) {
            Ok(Parsed::Run(NodeCommand::Serve(config))) => *config,
            other => panic!("{other:?}"),
        }
    }

    const MINIMUM: &str = "--data-dir /d --certs /c --seeds raft-0=h:1,raft-1=h:2";

    #[test]
    fn defaults_come_from_one_place() {
        let config = config(&format!("raft-1 {MINIMUM}"), &[]);
        assert_eq!(config.name, "raft-1");
        assert_eq!(config.listen, "0.0.0.0:6000".parse().unwrap());
        assert_eq!(config.advertise, "h:2");
        assert_eq!(config.tick, TICK_DEFAULT);
        assert_eq!(config.raft, raft::Options::default());
        assert_eq!(config.cluster, None);
        assert_eq!(config.metrics, None, "nothing listens that nobody asked for");
        assert_eq!((config.seeds.len(), config.service), (2, None));
        assert_eq!(config.snapshots, SnapshotPolicy::default());
        assert_eq!(config.seat_limit, SEAT_LIMIT_DEFAULT);
        assert_eq!(config.retirement, RETIREMENT_DEFAULT);
        assert_eq!(config.on_damage, OnDamage::Stop);
    }

    #[test]
    fn an_option_wins_over_its_variable() {
        let env = [
            ("BALSA_DATA_DIR", "/e"),
            ("BALSA_TICK", "20ms"),
            ("BALSA_NAME", "raft-0"),
            ("BALSA_METRICS", "[::]:6001"),
        ];
        let config = config("--data-dir /d --certs=/c --seeds raft-0=h:1 --tick=30", &env);
        assert_eq!(config.data_dir, PathBuf::from("/d"));
        assert_eq!(config.tick, Duration::from_millis(30));
        assert_eq!(config.metrics, Some("[::]:6001".parse().unwrap()));
        assert_eq!(config.name, "raft-0");
    }

    #[test]
    fn a_service_names_the_seats_by_ordinal() {
        let env = [
            ("BALSA_NAME", "raft-5"),
            ("BALSA_SERVICE", "raft-service.default.svc.cluster.local"),
            ("BALSA_REPLICAS", "3"),
            ("BALSA_PORT", "tcp://10.0.0.1:6000"),
            ("BALSA_DATA_DIR", "/d"),
            ("BALSA_CERTS", "/c"),
        ];
        let config = config("--port 7001", &env);
        let zero = "raft-0.raft-service.default.svc.cluster.local:7001";
        assert_eq!(config.seeds[0], Seed { name: "raft-0".into(), address: zero.into() });
        assert_eq!(config.seeds.len(), 3);
        let service = "raft-service.default.svc.cluster.local:7001";
        assert_eq!(config.service.as_deref(), Some(service));
        assert_eq!(config.advertise, "raft-5.raft-service.default.svc.cluster.local:7001");
        assert_eq!(config.listen.port(), 7001);
    }

    #[test]
    fn everything_wrong_is_in_one_report() {
        let report = parse(
            "Raft_1 extra --seeds raft-0 --frobnicate --tick soon --election 9-5 --listen here \
             --log-format xml --on-damage panic --heartbeat 0 --snapshot-bytes 10 \
             --snapshot-entries 0 --trailing-entries few --seat-limit now --retirement 0 --metrics 6001",
            &[],
        )
        .unwrap_err();
        let text = report.to_string();
        for part in [
            "no option --frobnicate",
            "'extra' is one word too many",
            "'Raft_1' is not a seat's name",
            "--seeds: 'raft-0' is not NAME=HOST:PORT",
            "--tick: 'soon'",
            "--election: the range '9-5' is upside down",
            "--listen: 'here'",
            "--metrics: '6001' is not ADDR:PORT such as 0.0.0.0:6001",
            "--log-format: 'xml'",
            "--on-damage: 'panic' is neither stop nor replace",
            "--snapshot-bytes: '10' is too little; the least is 65536 bytes",
            "--snapshot-entries: '0'",
            "--trailing-entries: 'few'",
            "--seat-limit: 'now'",
            "--retirement: '0'",
            "--heartbeat: '0'",
            "--data-dir (where the log is kept) is missing",
            "--certs (the certificates' directory) is missing",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn each_problem_is_found() {
        let cases = [
            ("", "the seat's name is missing"),
            ("-x", "there is no option -x"),
            (
                "raft-0 --listen 0.0.0.0:6000 --metrics 0.0.0.0:6000",
                "--metrics and --listen are both 0.0.0.0:6000",
            ),
            ("raft-0 --data-dir", "--data-dir needs a value"),
            ("raft-0 --data-dir --certs /c", "--data-dir needs a value"),
            ("raft-0 --seeds raft-0=h:1,raft-0=h:2", "raft-0 is there twice"),
            ("raft-0 --seeds raft-0=h:1,raft-1=h:1", "have the same address"),
            ("raft-0 --seeds raft-0=h:1 --service s", "give one of them"),
            ("raft-0 --seeds raft-0=h:1 --replicas 3", "--replicas goes with --service"),
            ("raft-0 --service s", "--service needs --replicas"),
            ("raft --service s --replicas 3", "'raft' has none"),
            ("raft-7 --seeds raft-0=h:1", "--advertise (its HOST:PORT) must be given"),
            ("raft-0 --seeds raft-0=h:0", "the port must be a number"),
            (
                "raft-0 --election 10-20",
                "--election, --heartbeat: the election timeout (10 ticks) must be at",
            ),
            (
                "raft-0 --seeds a,b",
                "'a' is not NAME=HOST:PORT such as raft-0=10.0.0.1:6000; 'b' is not",
            ),
            ("probe", "here probe was read as a seat"),
            ("probe live", "the seat's name is missing"),
            ("probe live raft-0", "--certs (the certificates' directory) is missing"),
            ("probe well raft-0", "srvraft probe asks live or ready, not 'well'"),
            ("probe ready raft-0 now", "'now' is one word too many"),
            ("probe live raft-0 --timeout 0", "--timeout: '0'"),
            ("probe live raft-0 --listen here", "--listen: 'here' is not ADDR:PORT"),
            ("probe live raft-0 --data-dir /d", "--data-dir means nothing to srvraft probe"),
            ("raft-0 --timeout 1s", "--timeout means nothing to srvraft"),
            ("discard", "`srvraft discard NAME` sets a directory aside; here discard was read"),
            ("recover", "here recover was read as a seat"),
            ("discard raft-0", "--data-dir (what is set aside) is missing"),
            ("discard raft-0 raft-1 --data-dir /d", "'raft-1' is one word too many"),
            ("discard Raft_0 --data-dir /d", "'Raft_0' is not a seat's name"),
            ("discard raft-0 --data-dir /d --yes", "--yes means nothing to srvraft discard"),
            ("recover raft-0 --data-dir /d", "--certs (the certificates' directory) is missing"),
            ("raft-0 --yes", "--yes means nothing to srvraft"),
            ("raft-0 --help=yes", "--help takes no value"),
        ];
        for (arguments, part) in cases {
            let text = parse(arguments, &[]).unwrap_err().to_string();
            assert!(text.contains(part), "{arguments}: {part} is not in:\n{text}");
        }
    }

    #[test]
    fn what_is_logged_is_judged_too() {
        for right in ["", "debug", "INFO,balsa::rpc=trace", "warn, balsa::actors::node=off"] {
            config(&format!("raft-1 {MINIMUM}"), &[("BALSA_LOG", right)]);
        }
        for wrong in ["verbose", "balsa::rpc", "info,,debug", "=debug", "balsa::rpc=loud"] {
            let report = parse(&format!("raft-1 {MINIMUM}"), &[("BALSA_LOG", wrong)]);
            let text = report.unwrap_err().to_string();
            assert!(text.contains("BALSA_LOG: '"), "{wrong}: {text}");
        }
    }

    #[test]
    fn commands_are_two_words() {
        let read = |arguments: &str, env: &[(&str, &str)]| match parse(arguments, env) {
            Ok(Parsed::Run(command)) => command,
            other => panic!("{other:?}"),
        };
        let (name, data_dir) = ("discard".to_owned(), PathBuf::from("/d"));
        let discard = NodeCommand::Discard { name, data_dir: data_dir.clone() };
        assert_eq!(read("discard discard", &[("BALSA_DATA_DIR", "/d")]), discard);
        let (name, certs) = ("raft-0".to_owned(), PathBuf::from("/c"));
        let recover = Recover { name, data_dir, certs, yes: false };
        let typed = "recover raft-0 --data-dir /d --certs /c";
        assert_eq!(read(typed, &[]), NodeCommand::Recover(recover.clone()));
        let recover = Recover { yes: true, ..recover };
        assert_eq!(read(&format!("{typed} --yes"), &[]), NodeCommand::Recover(recover));
    }

    #[test]
    fn a_probe_goes_by_the_settings_of_its_node() {
        let probe = |arguments: &str, env: &[(&str, &str)]| match parse(arguments, env) {
            Ok(Parsed::Run(NodeCommand::Probe(probe))) => probe,
            other => panic!("{other:?}"),
        };
        let pod = [
            ("BALSA_NAME", "raft-2"),
            ("BALSA_CERTS", "/c"),
            // Settings of the node that a probe does not need are not even looked at.
            ("BALSA_SERVICE", "not a name"),
            ("BALSA_LOG", "loud"),
        ];
        let asked = probe("probe live", &pod);
        let expected = Probe {
            question: Question::Live,
            name: "raft-2".into(),
            address: "127.0.0.1:6000".parse().unwrap(),
            certs: "/c".into(),
            timeout: PROBE_TIMEOUT_DEFAULT,
        };
        assert_eq!(asked, expected);
        for (more, address) in [
            ("--port 7001", "127.0.0.1:7001"),
            ("--listen 0.0.0.0:7002 --port 7001", "127.0.0.1:7002"),
            ("--listen [::]:7003", "[::1]:7003"),
            ("--listen 10.0.0.5:7004", "10.0.0.5:7004"),
        ] {
            let asked = probe(&format!("probe ready {more} --timeout 500ms"), &pod);
            assert_eq!(asked.address, address.parse().unwrap(), "{more}");
            assert_eq!(asked.question, Question::Ready);
            assert_eq!(asked.timeout, Duration::from_millis(500));
        }
        let listen = ("BALSA_LISTEN", "127.0.0.1:7005");
        assert_eq!(probe("probe live", &[pod[0], pod[1], listen]).address.port(), 7005);
        assert_eq!(probe("probe live probe --certs /c", &[]).name, "probe");
    }

    #[test]
    fn snapshots_seats_and_damage_are_settings() {
        let env = [("BALSA_SNAPSHOT_BYTES", "1MiB"), ("BALSA_TRAILING_ENTRIES", "0")];
        let more = "--snapshot-entries 9 --seat-limit 2s --retirement 1m --on-damage replace";
        let config = config(&format!("raft-1 {MINIMUM} {more}"), &env);
        assert_eq!(config.snapshots, SnapshotPolicy { bytes: 1 << 20, entries: 9 });
        assert_eq!(config.raft.trailing_entries, 0);
        assert_eq!(config.seat_limit, Duration::from_secs(2));
        assert_eq!(config.retirement, Duration::from_secs(60));
        assert_eq!(config.on_damage, OnDamage::Replace);
    }

    #[test]
    fn a_seat_may_be_called_like_a_command() {
        for name in ["help", "probe", "discard", "recover"] {
            assert_eq!(config(&format!("{name} {MINIMUM} --advertise h:3"), &[]).name, name);
        }
    }

    #[test]
    fn help_names_every_option() {
        let Ok(Parsed::Print(help)) = parse("raft-0 --help", &[]) else { panic!() };
        for option in
            ["--data-dir <DIR>", "--seeds <LIST>", "--election <TICKS-TICKS>", "--log-format"]
        {
            assert!(help.contains(option), "{option} is not in:\n{help}");
        }
        let Ok(Parsed::Print(version)) = parse("-V", &[]) else { panic!() };
        assert!(version.starts_with("srvraft 0"), "{version}");
    }
}
