//! The options of both executables, as text. The only module that uses `structopt`.
//!
//! `structopt` knows which options there are and prints the help; it judges nothing. Its parser stops
//! at the first thing it does not like, with its own words and its own exit status, and it cannot tell
//! `put k -5` from an option. So each argument is shown to it by itself: what it knows is kept, what it
//! does not know is noted, everything else is a word. The values are judged by
//! [`node_options`](super::node_options) and [`client_options`](super::client_options), which add
//! their findings to the same list.
//!
//! Rules: `--name value` and `--name=value` are the same; a value may start with `-`; the last of
//! several wins, unless the option is a list; behind `--` everything is a word.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use structopt::StructOpt;
use structopt::clap::{AppSettings, ErrorKind};

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What was typed, sorted but not judged.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(super) values: BTreeMap<&'static str, Vec<OsString>>,
    pub(super) flags: BTreeSet<&'static str>,
    /// Everything that is no option, in order.
    pub(crate) words: Vec<OsString>,
    /// What is wrong so far, a sentence each.
    pub(crate) problems: Vec<String>,
}

/// Declares the options of an executable: the struct that `structopt` reads them into, and its
/// translation into [`Given`].
macro_rules! options {
    (
        $(#[$doc:meta])* $program:literal $usage:literal $after:literal $name:ident
        values { $($(#[$help:meta])* $value:ident $shown:literal,)* }
        flags { $($(#[$flag_help:meta])* $flag:ident,)* }
    ) => {
        $(#[$doc])*
        #[derive(StructOpt, Debug)]
        #[structopt(
            name = $program,
            usage = $usage,
            after_help = $after,
            settings = &[
                AppSettings::DisableHelpFlags,
                AppSettings::DisableVersion,
                AppSettings::DeriveDisplayOrder,
                AppSettings::UnifiedHelpMessage,
                AppSettings::ColorNever,
            ],
        )]
        struct $name {
            $($(#[$help])*
            #[structopt(long, value_name = $shown, number_of_values = 1, parse(from_os_str))]
            $value: Vec<OsString>,)*
            $($(#[$flag_help])*
            #[structopt(long, multiple = true, parse(from_occurrences))]
            $flag: u64,)*
            #[structopt(hidden = true, parse(from_os_str))]
            words: Vec<OsString>,
        }

        impl $name {
            fn given(self) -> Given {
                let mut given = Given { words: self.words, ..Given::default() };
                $(if !self.$value.is_empty() {
                    given.values.insert(stringify!($value), self.$value);
                })*
                $(if self.$flag > 0 {
                    given.flags.insert(stringify!($flag));
                })*
                given
            }
        }
    };
}

options! {
    /// A node of a Balsa cluster
    "srvraft"
    "srvraft NAME [OPTIONS]
    srvraft discard NAME --data-dir DIR
    srvraft recover NAME --data-dir DIR --certs DIR [--yes]
    srvraft probe live|ready [NAME] --certs DIR"
    "discard sets the data directory of a stopped node aside: the seat then starts empty, and is taken in
again. recover makes a cluster of one of what the directory holds, when a majority lost its disks;
without --yes it only says what it would do. Nothing is ever deleted.

probe asks the node on this machine, with its own certificate and its own settings (BALSA_NAME, BALSA_CERTS,
BALSA_LISTEN, BALSA_PORT): live, whether it answers at all, even with a refusal; ready, whether it is a voter
that has caught up and serves. It prints one line and ends with 0 (yes), 1 (no) or 64 (options).

Each option can be given as an environment variable: BALSA_ and its name in capitals
(BALSA_DATA_DIR; the seat's name is BALSA_NAME). An option wins over its variable.

BALSA_LOG chooses what is logged, on standard error: a level (off, error, warn, info, debug, trace), or
targets with theirs, separated by commas (info,balsa::rpc=debug). [default: info]

Exit status: 0 stopped, 64 options, 65 damaged data, 69 removed from the cluster, 71 address in use,
73 directory locked or another node's, 74 disk failed, 76 newer format, 78 certificate or key."
    NodeArgs
    values {
        /// Where the log is kept; created if missing
        data_dir "DIR",
        /// Address to listen on [default: 0.0.0.0 and the port of --port]
        listen "ADDR:PORT",
        /// Address for metrics over HTTPS, such as 0.0.0.0:6001 [default: none are served]
        metrics "ADDR:PORT",
        /// Address for the others [default: this seat's seed, or its name in --service]
        advertise "HOST:PORT",
        /// The seats that found the cluster: raft-0=HOST:PORT,raft-1=HOST:PORT,...
        seeds "LIST",
        /// Instead of --seeds: the headless service in which the seats are found by ordinal
        service "DNS-NAME",
        /// How many seats found the cluster; with --service
        replicas "N",
        /// Port of every seat; with --service [default: 6000]
        port "PORT",
        /// Directory with ca.crt and NAME.crt, NAME.key or tls.crt, tls.key
        certs "DIR",
        /// Name of the cluster [default: the one in the certificate]
        cluster "NAME",
        /// Real time of one tick [default: 10ms]
        tick "DURATION",
        /// Ticks between two heartbeats of a leader [default: 10]
        heartbeat "TICKS",
        /// Ticks without a leader before a campaign, drawn from this range [default: 50-100]
        election "TICKS-TICKS",
        /// Take a snapshot when the log behind the last one has this many bytes [default: 256MiB]
        snapshot_bytes "BYTES",
        /// The same by entries [default: 1000000]
        snapshot_entries "N",
        /// Entries kept behind a snapshot for followers that are a little slow [default: 10000]
        trailing_entries "N",
        /// A seat's lost node is replaced at most once in this time [default: 60s]
        seat_limit "DURATION",
        /// A removed seat is not taken again by itself for this time [default: 10m]
        retirement "DURATION",
        /// probe: how long it may take [default: 3s]
        timeout "DURATION",
        /// What to do about damaged data: stop, or replace: set it aside and start empty [default: stop]
        on_damage "ACTION",
        /// text or json [default: text]
        log_format "FORMAT",
    }
    flags {
        /// recover: carry it out
        yes,
        /// Prints this
        help,
        /// Prints the version
        version,
    }
}

options! {
    /// Talks to a Balsa cluster
    "cltraft"
    "cltraft [OPTIONS] COMMAND"
    "COMMANDS:
    put KEY VALUE                       put KEY --file PATH, put KEY --stdin
    get KEY [--local]
    delete KEY
    cas KEY EXPECTED NEW                cas KEY --absent NEW
    range FROM [TO] [--limit N]         range --prefix P [--limit N]
    status [NODE]
    metrics NODE                        for monitors and admins
    replication NODE [--from INDEX] [--from-key KEY] [--limit N]
    stop NODE
    member list                         member add NAME HOST:PORT
    member remove NAME                  member promote NAME
    transfer NODE                       hands the leadership over
    snapshot take NODE
    test [--wait DURATION]              three writes and reads, for scripts
    shell                               the default
    idle                                waits for SIGTERM
    bench [--op OP] ...
    local --dir DIR [--nodes N] [--detach]      a cluster on this machine
    local --dir DIR --kill|--stop|--start|--add NODE, or --down
    certs init|issue|show               makes certificates, shows them
    certs renew [NAME...|--all] [--within DAYS]
    certs revoke NAME                   certs revoke --certificate FILE
    certs rotate-ca trust|reissue|drop  a new CA, in three steps

A NODE is an ordinal (1), a seat's name (raft-1) or an endpoint (HOST:PORT). A value may start with -;
behind -- nothing is an option.

Settings can be given as environment variables: BALSA_ENDPOINTS, BALSA_CERTS, BALSA_TIMEOUT,
BALSA_OUTPUT, BALSA_LANG, BALSA_NO_REDIRECT and so on. An option wins over its variable.

Exit status: 0 done, 1 failed, 2 usage, 3 key not found, 4 condition not met, 5 outcome unknown,
6 no leader or no quorum, 7 refused by TLS or authority."
    ClientArgs
    values {
        /// Nodes to try first: HOST:PORT,HOST:PORT,...
        endpoints "LIST",
        /// Directory with ca.crt, tls.crt, tls.key
        certs "DIR",
        /// How long one command may take [default: 5s]
        timeout "DURATION",
        /// text or json (also -o) [default: text]
        output "FORMAT",
        /// en or es [default: the locale's]
        lang "LANG",
        /// put: the file that holds the value
        file "PATH",
        /// range: keys that begin with this
        prefix "PREFIX",
        /// range, replication: entries at most
        limit "N",
        /// replication: first log index
        from "INDEX",
        /// replication: first key of the store
        from_key "KEY",
        /// test: how long to wait for the cluster first; local --add: until the node is a voter
        wait "DURATION",
        /// bench: put, get, local-get or mixed [default: put]
        op "OP",
        /// bench: clients, each with one operation in flight [default: 64]
        clients "N",
        /// bench: connections they share [default: 8, at most the clients]
        conns "N",
        /// bench: seconds measured [default: 10]
        seconds "S",
        /// bench: bytes of a value [default: 128]
        value_size "BYTES",
        /// bench: different keys [default: 10000]
        keys "N",
        /// bench: threads of the load generator [default: 1]
        threads "N",
        /// local: where the cluster lives
        dir "DIR",
        /// local, certs: nodes [default: 3]
        nodes "N",
        /// local: first of consecutive ports [default: free ones]
        base_port "PORT",
        /// local: the server's executable [default: beside this one]
        srvraft "PATH",
        /// local: kill -9 this node
        kill "NODE",
        /// local: stop this node
        stop "NODE",
        /// local: start this node again
        start "NODE",
        /// local: start one more node, the next one
        add "NODE",
        /// certs: where to write [default: certs/generated]
        out "DIR",
        /// certs: name of the cluster [default: balsa]
        cluster "NAME",
        /// certs: DNS names to add; may be repeated
        dns "NAMES",
        /// certs: IP addresses to add; may be repeated
        ip "ADDRESSES",
        /// certs: namespace of the pods [default: default]
        namespace "NAME",
        /// certs: headless service of the nodes [default: raft-service]
        service "NAME",
        /// certs: service for clients [default: raft-client]
        client_service "NAME",
        /// certs: days until certificates expire
        days "N",
        /// certs: days until the CA expires
        ca_days "N",
        /// certs renew: only what ends within so many days
        within "DAYS",
        /// certs revoke: the certificate, where it is no longer the one in its directory
        certificate "FILE",
    }
    flags {
        /// get: whatever the asked node has applied, possibly stale
        local,
        /// put: the value is what standard input holds
        stdin,
        /// cas: the key must not exist
        absent,
        /// Stays with the node asked, also when it does not lead
        no_redirect,
        /// certs: issues anew what is there already
        force,
        /// certs renew: everybody's
        all,
        /// certs init: writes Secret manifests besides, for seven seats unless --nodes is given
        k8s,
        /// local: leaves the cluster running
        detach,
        /// local: ends the cluster's processes
        down,
        /// Prints this (also -h)
        help,
        /// Prints the version (also -V)
        version,
    }
}

/// Sorts the arguments of `srvraft` (without the executable's name).
pub(crate) fn node(arguments: Vec<OsString>) -> Given {
    sort(arguments, NodeArgs::from_iter_safe, NodeArgs::given)
}

/// Sorts the arguments of `cltraft` (without the executable's name).
pub(crate) fn client(arguments: Vec<OsString>) -> Given {
    sort(arguments, ClientArgs::from_iter_safe, ClientArgs::given)
}

/// The help of `srvraft`.
pub(crate) fn node_help() -> String {
    help::<NodeArgs>()
}

/// The help of `cltraft`.
pub(crate) fn client_help() -> String {
    help::<ClientArgs>()
}

fn help<T: StructOpt>() -> String {
    let mut text = Vec::new();
    // Writing to memory fails only if the library does; an empty help is no reason to die.
    let _ = T::clap().write_help(&mut text);
    // The library marks every option that may be repeated; here the last one simply wins. Spaces in
    // the marks' place keep the columns.
    String::from_utf8_lossy(&text).replace(">...", ">   ")
}

fn sort<T: StructOpt>(
    arguments: Vec<OsString>,
    parse: fn(Vec<OsString>) -> Result<T, structopt::clap::Error>,
    given: fn(T) -> Given,
) -> Given {
    let alone = |argument: &OsStr| parse(vec![OsString::new(), argument.to_owned()]);
    let (mut options, mut words, mut problems) = (vec![OsString::new()], Vec::new(), Vec::new());
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            words.extend(rest);
            break;
        }
        let option = spelled_out(&argument);
        if !option.as_encoded_bytes().starts_with(b"--") {
            words.push(argument);
            continue;
        }
        match alone(&option) {
            Ok(_)
                if option.as_encoded_bytes().contains(&b'=')
                    && alone(OsStr::new(&name_of(&option))).is_ok() =>
            {
                problems.push(format!("{} takes no value", name_of(&option)));
            }
            Ok(_) => options.push(option),
            Err(error) if error.kind == ErrorKind::EmptyValue => match rest.next() {
                Some(next) if is_option(&alone, &next) => {
                    problems.push(format!("{} needs a value", option.to_string_lossy()));
                    rest = std::iter::once(next).chain(rest).collect::<Vec<_>>().into_iter();
                }
                Some(value) => {
                    let mut joined = option;
                    joined.push("=");
                    joined.push(value);
                    match alone(&joined) {
                        Ok(_) => options.push(joined),
                        Err(error) => problems.push(first_line(&error)),
                    }
                }
                None => problems.push(format!("{} needs a value", option.to_string_lossy())),
            },
            Err(error) if error.kind == ErrorKind::UnknownArgument => {
                problems.push(format!("there is no option {}", name_of(&option)));
            }
            Err(error) => problems.push(first_line(&error)),
        }
    }
    match parse(options) {
        Ok(parsed) => Given { words, problems, ..given(parsed) },
        Err(error) => {
            problems.push(first_line(&error));
            Given { words, problems, ..Given::default() }
        }
    }
}

/// Whether this is one of our options, so that it is not taken for the value of the one before it
/// (`--name=--option` makes it one).
fn is_option<T>(
    alone: &impl Fn(&OsStr) -> Result<T, structopt::clap::Error>,
    argument: &OsStr,
) -> bool {
    argument.as_encoded_bytes().starts_with(b"--")
        && argument.len() > 2
        && alone(argument).map_or_else(|error| error.kind == ErrorKind::EmptyValue, |_| true)
}

/// The few short options, in long.
fn spelled_out(argument: &OsStr) -> OsString {
    match argument.to_str() {
        Some("-h") => "--help".into(),
        Some("-V") => "--version".into(),
        Some("-o") => "--output".into(),
        Some("-ojson" | "-o=json") => "--output=json".into(),
        Some("-otext" | "-o=text") => "--output=text".into(),
        _ => argument.to_owned(),
    }
}

fn name_of(option: &OsStr) -> String {
    let text = option.to_string_lossy();
    text.split('=').next().unwrap_or_default().to_owned()
}

fn first_line(error: &structopt::clap::Error) -> String {
    let message = error.message.trim_start_matches("error: ");
    message.lines().next().unwrap_or_default().to_owned()
}
