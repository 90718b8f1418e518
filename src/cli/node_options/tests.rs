//! What `srvraft` takes, and what it says of everything wrong.

use super::*;
use crate::config::Seed;

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
    for option in ["--data-dir <DIR>", "--seeds <LIST>", "--election <TICKS-TICKS>", "--log-format"]
    {
        assert!(help.contains(option), "{option} is not in:\n{help}");
    }
    let Ok(Parsed::Print(version)) = parse("-V", &[]) else { panic!() };
    assert!(version.starts_with("srvraft 0"), "{version}");
}
