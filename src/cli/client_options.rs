//! What `cltraft`'s options mean: from text to settings and a [`Command`], or one report of everything
//! wrong.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::command::{self, Command};
use super::judge::Judge;
use super::lang::Lang;
use super::options::{self, Env};
use super::values;
use crate::config::{Parsed, UsageReport};

/// How long one command may take, unless told otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// One call of `cltraft`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What holds for every command.
    pub settings: Settings,
    /// What to do.
    pub command: Command,
}

/// What holds for every command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Nodes to try first, `HOST:PORT`.
    pub endpoints: Vec<String>,
    /// Directory of certificates.
    pub certs: PathBuf,
    /// How long one command may take.
    pub timeout: Duration,
    /// For people or for programs.
    pub output: Output,
    /// The language for people.
    pub lang: Lang,
    /// Whether to go to the leader.
    pub redirect: bool,
}

/// Who reads the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// People.
    #[default]
    Text,
    /// Programs.
    Json,
}

impl Output {
    fn read(text: &str) -> Result<Output, String> {
        match text {
            "text" => Ok(Output::Text),
            "json" => Ok(Output::Json),
            _ => Err(format!("'{text}' is neither text nor json")),
        }
    }
}

/// Who reads the answers, whatever else is wrong with the arguments: a program that asked for JSON
/// gets its usage errors so, too.
pub(crate) fn output(arguments: Vec<OsString>, env: Env<'_>) -> Output {
    let mut judge = Judge::new(options::client(arguments), env);
    judge.setting("output", Output::read).unwrap_or_default()
}

/// Reads the arguments of `cltraft` (without the executable's name) over `env`. Without a command the
/// shell opens if a person sits there (`terminal`).
///
/// # Errors
/// Everything that is wrong, in one report; the executable ends with status 2.
pub fn parse_client(
    arguments: Vec<OsString>,
    env: Env<'_>,
    terminal: bool,
) -> Result<Parsed<Call>, UsageReport> {
    let mut judge = Judge::new(options::client(arguments), env);
    if judge.flag("help") {
        return Ok(Parsed::Print(options::client_help()));
    }
    if judge.flag("version") {
        return Ok(Parsed::Print(format!("cltraft {}", env!("CARGO_PKG_VERSION"))));
    }
    let endpoints = judge.setting("endpoints", values::host_ports);
    let certs = judge.setting("certs", |text| match text {
        "" => Err("is empty".to_owned()),
        _ => Ok(PathBuf::from(text)),
    });
    let timeout = judge.setting("timeout", |text| values::duration(text, Duration::from_secs(1)));
    let output = judge.setting("output", Output::read);
    let lang = judge.setting("lang", Lang::read);
    let redirect = !judge.flag_setting("no_redirect");
    let words = judge.take_words();
    let whose = words.first().map_or("shell".into(), |word| word.to_string_lossy().into_owned());
    let command = match words.is_empty() {
        true if terminal => Some(Command::Shell),
        true => {
            judge.problem("the command is missing (the shell opens by itself only on a terminal)");
            None
        }
        false => command::read(&mut judge, words),
    };
    // Also of a command whose words are wrong, so that one report names everything.
    let needs_cluster =
        command.as_ref().map_or(command::is_for_cluster(&whose), Command::needs_cluster);
    if needs_cluster {
        if endpoints.is_none() && !judge.typed("endpoints") {
            judge.problem("no node is named: --endpoints HOST:PORT,... or BALSA_ENDPOINTS");
        }
        if certs.is_none() && !judge.typed("certs") {
            judge.problem("no certificates are named: --certs DIR or BALSA_CERTS");
        }
    }
    let problems = judge.finish(&whose);
    match command {
        Some(command) if problems.is_empty() => Ok(Parsed::Run(Call {
            settings: Settings {
                endpoints: endpoints.unwrap_or_default(),
                certs: certs.unwrap_or_default(),
                timeout: timeout.unwrap_or(TIMEOUT_DEFAULT),
                output: output.unwrap_or_default(),
                lang: lang.unwrap_or_else(|| Lang::of_locale(env)),
                redirect,
            },
            command,
        })),
        _ => Err(UsageReport { program: "cltraft", problems }),
    }
}

/// Reads one line of the shell, already split into words. Options that belong to a command work; the
/// settings are those of the shell.
///
/// # Errors
/// Everything that is wrong with the line.
pub(crate) fn parse_line(words: Vec<OsString>) -> Result<Command, UsageReport> {
    let mut judge = Judge::new(options::client(words), &|_| None);
    for option in ["endpoints", "certs", "timeout", "output", "lang", "no_redirect"] {
        if judge.flag_or_value(option) {
            let option = option.replace('_', "-");
            judge.problem(format!(
                "--{option} is a setting of the whole shell: give it at its start"
            ));
        }
    }
    if judge.flag_or_value("stdin") {
        judge.problem("--stdin is for the command line: the shell itself reads from there");
    }
    let words = judge.take_words();
    let whose = words.first().map_or("a line".into(), |word| word.to_string_lossy().into_owned());
    let command = command::read(&mut judge, words);
    let command = match command {
        Some(Command::Shell | Command::Idle | Command::Local(_) | Command::Certs(_)) => {
            judge.problem(format!("{whose} is for the command line, not for the shell"));
            None
        }
        other => other,
    };
    let problems = judge.finish(&whose);
    match command {
        Some(command) if problems.is_empty() => Ok(command),
        _ => Err(UsageReport { program: "cltraft", problems }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::command::{Bench, BenchOp, Change, Local, LocalAction};
    use super::super::source::Source;
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Parsed<Call>, UsageReport> {
        let env = |name: &str| match name {
            "BALSA_ENDPOINTS" => Some("h:1,h:2".into()),
            "BALSA_CERTS" => Some("/c".into()),
            _ => None,
        };
        parse_client(arguments.iter().map(OsString::from).collect(), &env, false)
    }

    fn command(line: &str) -> Command {
        match parse(&line.split(' ').collect::<Vec<_>>()) {
            Ok(Parsed::Run(call)) => call.command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn typed(text: &'static str) -> Source {
        Source::Given(bytes(text))
    }

    #[test]
    fn values_that_cannot_be_typed_come_from_elsewhere() {
        let put = |value| Command::Put { key: bytes("k"), value, first: None };
        assert_eq!(command("put k --file /v"), put(Source::File("/v".into())));
        assert_eq!(command("put k --stdin"), put(Source::Stdin));
        let first = Some("1".to_owned());
        let put = Command::Put { key: bytes("k"), value: Source::Stdin, first };
        assert_eq!(command("escribir 1 k --stdin"), put);
        for (line, part) in [
            ("put k v --stdin", "'v' is one word too many"),
            ("put k --stdin --file f", "give one of --file and --stdin"),
            ("get k --stdin", "--stdin means nothing to get"),
        ] {
            let text = parse(&line.split(' ').collect::<Vec<_>>()).unwrap_err().to_string();
            assert!(text.contains(part), "{line}: {part} is not in:\n{text}");
        }
    }

    #[test]
    fn values_may_start_with_a_dash() {
        let five = Command::Put { key: bytes("k"), value: typed("-5"), first: None };
        assert_eq!(command("put k -5"), five);
        assert_eq!(command("put k -5 --timeout 3s"), five);
        assert_eq!(command("--timeout=3s put k -5"), five);
        let long = Command::Put { key: bytes("k"), value: typed("--local"), first: None };
        assert_eq!(command("put k -- --local"), long);
    }

    #[test]
    fn commands_are_read_in_both_languages() {
        let get = |first: Option<&str>| Command::Get {
            key: bytes("k"),
            local: false,
            first: first.map(str::to_owned),
        };
        assert_eq!(command("get k"), get(None));
        assert_eq!(command("leer k"), get(None));
        assert_eq!(command("leer 1 k"), get(Some("1")));
        let put = Command::Put { key: bytes("k"), value: typed("v"), first: Some("raft-1".into()) };
        assert_eq!(command("escribir raft-1 k v"), put);
        assert_eq!(command("detener 1"), Command::Stop { node: "1".into() });
        assert_eq!(command("estado raft-1"), Command::Status { node: Some("raft-1".into()) });
        let replication = Command::Replication {
            node: "2".into(),
            from: 7,
            from_key: bytes("-k"),
            limit: Some(5),
        };
        let line = "estadoReplicacion 2 --from 7 --from-key -k --limit 5";
        assert_eq!(command(line), replication);
    }

    #[test]
    fn the_other_commands_are_read() {
        let (key, value) = (bytes("k"), bytes("n"));
        let cas = |expected| Command::Cas { key: key.clone(), expected, value: value.clone() };
        assert_eq!(command("cas k o n"), cas(Some(bytes("o"))));
        assert_eq!(command("cas k --absent n"), cas(None));
        let range = Command::Range { from: bytes("a"), to: Some(bytes("b")), limit: Some(3) };
        assert_eq!(command("range a b --limit 3"), range);
        assert_eq!(
            command("range --prefix -a"),
            Command::Range { from: bytes("-a"), to: Some(bytes("-b")), limit: None }
        );
        assert_eq!(
            command("test --wait 120s"),
            Command::Test { wait: Some(Duration::from_secs(120)) }
        );
        let bench = Bench {
            op: BenchOp::Mixed,
            clients: 4,
            conns: 4,
            seconds: 10,
            value_size: 128,
            keys: 10_000,
            threads: 1,
        };
        assert_eq!(command("bench --op mixed --clients 4"), Command::Bench(bench));
        let local = |action| Command::Local(Local { dir: "D".into(), srvraft: None, action });
        assert_eq!(
            command("local --dir D --detach"),
            local(LocalAction::Up { nodes: None, base_port: None, detach: true })
        );
        assert_eq!(command("local --dir D --kill 1"), local(LocalAction::Kill("1".into())));
        assert_eq!(command("local --dir D --down"), local(LocalAction::Down));
        let add = |wait| local(LocalAction::Add { node: "raft-3".into(), wait });
        assert_eq!(command("local --dir D --add raft-3"), add(None));
        let wait = Some(Duration::from_secs(30));
        assert_eq!(command("local --dir D --add raft-3 --wait 30s"), add(wait));
    }

    #[test]
    fn what_an_admin_says_is_read_in_both_languages() {
        let name = || "raft-3".to_owned();
        let add = || Command::Change(Change::Add { name: name(), address: "h:6000".into() });
        assert_eq!(command("member add raft-3 h:6000"), add());
        assert_eq!(command("miembro agregar raft-3 h:6000"), add());
        let remove = || Command::Change(Change::Remove { name: name() });
        assert_eq!(command("member remove raft-3"), remove());
        assert_eq!(command("miembro quitar raft-3"), remove());
        let promote = || Command::Change(Change::Promote { name: name() });
        assert_eq!(command("member promote raft-3"), promote());
        assert_eq!(command("miembro promover raft-3"), promote());
        assert_eq!(command("member list"), Command::Members);
        assert_eq!(command("miembro listar"), Command::Members);
        // A seat may be called like a verb.
        let seat = Command::Change(Change::Remove { name: "list".into() });
        assert_eq!(command("member remove list"), seat);
        for line in ["transfer 2", "transferir 2"] {
            assert_eq!(command(line), Command::Transfer { node: "2".into() });
        }
        for line in ["metrics raft-1", "metricas raft-1"] {
            assert_eq!(command(line), Command::Metrics { node: "raft-1".into() });
        }
        for line in ["snapshot take raft-1", "instantanea tomar raft-1"] {
            assert_eq!(command(line), Command::Snapshot { node: "raft-1".into() });
        }
        for (line, problems) in [
            ("member", &["member needs a verb; it has list, add NAME"][..]),
            ("member frob raft-1", &["member has no verb 'frob'; it has list"]),
            ("member add", &["member add needs a NAME", "member add needs HOST:PORT"]),
            ("member add raft-3", &["member add needs HOST:PORT"]),
            ("member add Raft_3 h", &["'Raft_3' is not a seat's name", "'h' is not HOST:PORT"]),
            ("member remove 3", &["member remove takes the seat's whole name, such as raft-3"]),
            ("member remove", &["member remove needs a NAME"]),
            ("member promote raft-3 raft-4", &["'raft-4' is one word too many"]),
            ("member list raft-3", &["'raft-3' is one word too many"]),
            ("member list --limit 3", &["--limit means nothing to member"]),
            ("transfer", &["transfer needs a NODE"]),
            ("metrics", &["metrics needs a NODE"]),
            ("snapshot", &["snapshot needs a verb; it has take NODE"]),
            ("snapshot save f", &["snapshot has no verb 'save'"]),
            ("snapshot take", &["snapshot needs a NODE"]),
            ("local --dir D --start 1 --add 2", &["give one of --kill, --stop, --start, --add"]),
            ("local --dir D --start 1 --wait 3s", &["--wait means nothing to local"]),
            ("local --dir D --add 2 --nodes 3", &["--nodes is for starting the whole cluster"]),
        ] {
            let report = parse(&line.split(' ').collect::<Vec<_>>()).unwrap_err();
            assert_eq!(report.problems.len(), problems.len(), "{line}: {report}");
            for (found, part) in report.problems.iter().zip(problems) {
                assert!(found.contains(part), "{line}: {part} is not in:\n{report}");
            }
        }
    }

    #[test]
    fn everything_wrong_is_in_one_report() {
        let report = parse(&[
            "put",
            "k",
            "--prefix",
            "p",
            "--frob",
            "--endpoints",
            "h",
            "-o",
            "xml",
            "--lang",
            "fr",
            "--timeout",
            "x",
        ]);
        let text = report.unwrap_err().to_string();
        for part in [
            "put needs VALUE",
            "--prefix means nothing to put",
            "no option --frob",
            "--endpoints: 'h' is not HOST:PORT",
            "--output: 'xml'",
            "--lang: 'fr'",
            "--timeout: 'x'",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn each_problem_is_found() {
        let cases: [(&[&str], &str); 8] = [
            (&[], "the command is missing"),
            (&["frob"], "no command 'frob'"),
            (&["get", "a", "b"], "'b' is one word too many"),
            (&["get", "1", "a"], "'a' is one word too many"),
            (&["stop"], "stop needs a NODE"),
            (&["status", "-x"], "no option -x"),
            (&["local", "--dir", "d", "--kill", "1", "--down"], "give one of"),
            (&["range", "--limit", "0"], "--limit: '0'"),
        ];
        for (arguments, part) in cases {
            let text = parse(arguments).unwrap_err().to_string();
            assert!(text.contains(part), "{arguments:?}: {part} is not in:\n{text}");
        }
        let none = parse_client(vec!["get".into(), "k".into()], &|_| None, false).unwrap_err();
        assert_eq!(none.problems.len(), 2, "{none}");
        for (line, count) in [("get", 3), ("leer", 3), ("local", 1), ("frob", 1)] {
            let none = parse_client(vec![line.into()], &|_| None, false).unwrap_err();
            assert_eq!(none.problems.len(), count, "{none}");
        }
    }

    #[test]
    fn settings_come_from_options_then_variables() {
        let Ok(Parsed::Run(call)) = parse(&["status", "-ojson", "--no-redirect", "--lang", "es"])
        else {
            panic!()
        };
        assert_eq!(call.settings.endpoints, ["h:1", "h:2"]);
        assert_eq!(call.settings.output, Output::Json);
        assert_eq!(call.settings.lang, Lang::Es);
        assert!(!call.settings.redirect);
        assert_eq!(call.settings.timeout, TIMEOUT_DEFAULT);
    }
}
