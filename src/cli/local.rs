//! `cltraft local`: a cluster on this machine, over loopback and mutual TLS, of real `srvraft`
//! processes.
//!
//! Everything is in one directory: `certs/` as `cltraft certs init` makes them, `endpoints` (the
//! addresses in the order of the ordinals; made once and kept, so that a node comes back where it was;
//! `--add` appends one), and for each node `raft-N/pid`, `raft-N/log`, `raft-N/data`. Processes are found
//! by what is in the directory, never by name: see [`process`].

mod add;
mod process;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::answer::{Exit, Failure};
use super::certs::{self, CertsCommand, InitOptions};
use super::client_options::{Output, Settings};
use super::command::{Local, LocalAction};
use super::json::{Json, Object};
use super::lang::Lang;
use super::run::{Asker, Teller, patiently};
use crate::config::Seed;
use process::Process;

/// Nodes of a new cluster, unless told otherwise.
const NODES: u16 = 3;
/// A cluster that does not lead itself within this time is not going to.
const LEADER: Duration = Duration::from_secs(30);
/// A stopping node hands the leadership over and drains; more than that is a fault.
const STOP: Duration = Duration::from_secs(30);
/// How often a process is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// Where free ports are looked for: registered for few, below what Linux takes for itself (32768).
const PORTS: std::ops::Range<u16> = 11_000..31_000;
/// How many of them are tried.
const PORT_TRIES: usize = 10_000;

/// A cluster's directory.
struct Cluster {
    dir: PathBuf,
    seeds: Vec<Seed>,
    srvraft: PathBuf,
}

/// Carries out one action.
pub(crate) async fn run(local: &Local, settings: &Settings) -> Exit {
    match act(local, settings).await {
        Ok(exit) => exit,
        Err(failure) => {
            let mut teller = Teller::new(settings.output, settings.lang);
            teller.tell(&super::answer::Answer::Failed(failure));
            teller.exit()
        }
    }
}

async fn act(local: &Local, settings: &Settings) -> Result<Exit, Failure> {
    let lang = settings.lang;
    let srvraft = || match &local.srvraft {
        Some(path) => Ok(path.clone()),
        None => beside(),
    };
    match &local.action {
        LocalAction::Up { nodes, base_port, detach: true } => {
            let cluster = Cluster::make(&local.dir, srvraft()?, *nodes, *base_port)?;
            let leader = patiently(cluster.up(settings), lang).await?;
            cluster.announce(settings, &leader);
        }
        LocalAction::Up { nodes, base_port, detach: false } => {
            // From before the first process on: whoever ends us meanwhile ends them, too.
            let mut interruption = Interruption::listen()?;
            let cluster = Cluster::make(&local.dir, srvraft()?, *nodes, *base_port)?;
            let up = tokio::select! {
                up = patiently(cluster.up(settings), lang) => up.map(Some),
                () = interruption.wait() => Ok(None),
            };
            if let Ok(Some(leader)) = &up {
                cluster.announce(settings, leader);
                eprintln!("{}", lang.pick("Ctrl-C ends it.", "Ctrl-C lo termina."));
                interruption.wait().await;
            }
            patiently(cluster.down(), lang).await?;
            up?;
        }
        LocalAction::Kill(node) => {
            let cluster = Cluster::open(&local.dir, srvraft().unwrap_or_default())?;
            let seed = cluster.seat(node)?;
            let process = cluster.process(seed);
            let ran =
                process.kill().map_err(|error| io_failure("kill", &process.pid_file, &error))?;
            gone(&process, LOOK * 500).await?;
            say(settings, "killed", &seed.name, ran);
        }
        LocalAction::Stop(node) => {
            let cluster = Cluster::open(&local.dir, srvraft().unwrap_or_default())?;
            let seed = cluster.seat(node)?;
            let process = cluster.process(seed);
            let ran = process
                .terminate()
                .map_err(|error| io_failure("stop", &process.pid_file, &error))?;
            patiently(gone(&process, STOP), lang).await?;
            say(settings, "stopped", &seed.name, ran);
        }
        LocalAction::Start(node) => {
            let cluster = Cluster::open(&local.dir, srvraft()?)?;
            let seed = cluster.seat(node)?;
            let started = cluster.start(seed)?;
            patiently(cluster.answers(seed, settings), lang).await?;
            say(settings, "started", &seed.name, started);
        }
        LocalAction::Add { node, wait } => {
            let mut cluster = Cluster::open(&local.dir, srvraft()?)?;
            let seed = cluster.enlarge(node)?;
            cluster.start(&seed)?;
            patiently(cluster.answers(&seed, settings), lang).await?;
            if let Some(wait) = wait {
                patiently(cluster.votes(&seed, *wait, settings), lang).await?;
            }
            say(settings, "added", &seed.name, true);
        }
        LocalAction::Down => {
            let cluster = Cluster::open(&local.dir, srvraft().unwrap_or_default())?;
            let ran = patiently(cluster.down(), lang).await?;
            let said = match (settings.output, ran.is_empty()) {
                (Output::Json, _) => {
                    let ran = ran.into_iter().map(Json::from).collect();
                    Object::default().with("stopped", Json::List(ran)).line()
                }
                (Output::Text, true) => {
                    lang.pick("no node was running", "ningún nodo estaba en marcha").to_owned()
                }
                (Output::Text, false) => {
                    format!("{}: {}", ran.join(", "), lang.pick("stopped", "detenidos"))
                }
            };
            Teller::new(settings.output, lang).say(&(said + "\n"));
        }
    }
    Ok(Exit::Done)
}

/// Says what was done to a node, or that there was nothing to do: `done` is the field's name in JSON.
fn say(settings: &Settings, done: &'static str, name: &str, did: bool) {
    let lang = settings.lang;
    let said = match settings.output {
        Output::Json => Object::default().with("name", name).with(done, did).line(),
        Output::Text => {
            let verb = match (done, did) {
                ("killed", true) => lang.pick("is killed", "muerto con kill -9"),
                ("stopped", true) => lang.pick("has stopped", "detenido"),
                ("added" | "started", true) => lang.pick("runs", "en marcha"),
                ("started", false) => lang.pick("was running already", "ya estaba en marcha"),
                _ => lang.pick("was not running", "no estaba en marcha"),
            };
            format!("{name}: {verb}")
        }
    };
    Teller::new(settings.output, lang).say(&(said + "\n"));
}

impl Cluster {
    /// The cluster of a directory that has one.
    fn open(dir: &Path, srvraft: PathBuf) -> Result<Cluster, Failure> {
        let file = dir.join("endpoints");
        let text = fs::read_to_string(&file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let dir = dir.display();
                let message =
                    format!("there is no cluster in {dir}; name the directory of one with --dir");
                Failure::new("no_cluster", message)
            }
            _ => io_failure("read", &file, &error),
        })?;
        // Processes are recognised by this path among their arguments, so it must be the same from
        // wherever this is called.
        let dir = fs::canonicalize(dir).map_err(|error| io_failure("find", dir, &error))?;
        let addresses = super::values::host_ports(text.trim());
        let addresses = addresses
            .map_err(|why| Failure::new("damaged", format!("{}: {why}", file.display())))?;
        Ok(Cluster { dir, seeds: numbered(addresses), srvraft })
    }

    /// The cluster of a directory, made if there is none.
    fn make(
        dir: &Path,
        srvraft: PathBuf,
        wanted: Option<u16>,
        base_port: Option<u16>,
    ) -> Result<Cluster, Failure> {
        let file = dir.join("endpoints");
        if !file.exists() {
            let nodes = wanted.unwrap_or(NODES);
            let ports = match base_port {
                Some(base) => (0..nodes).map(|n| base.saturating_add(n)).collect(),
                None => free_ports(nodes).map_err(|error| io_failure("bind in", dir, &error))?,
            };
            let addresses: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            fs::create_dir_all(dir).map_err(|error| io_failure("create", dir, &error))?;
            // Certificates first: the list of endpoints is what makes the directory a cluster's.
            let command = CertsCommand::Init(InitOptions {
                out: dir.join("certs"),
                cluster: "local".to_owned(),
                nodes: nodes.into(),
                ..InitOptions::default()
            });
            certs::run(&command, certs::Output::Text, Lang::En, &mut io::sink())
                .map_err(|error| Failure::new("certificates", error.to_string()))?;
            let (dir, seeds) = (dir.to_owned(), numbered(addresses));
            Cluster { dir, seeds, srvraft: PathBuf::new() }.write_endpoints()?;
        }
        let cluster = Cluster::open(dir, srvraft)?;
        if let (Some(base), Some(first)) = (base_port, cluster.seeds.first())
            && !first.address.ends_with(&format!(":{base}"))
        {
            let (dir, first) = (dir.display(), &first.address);
            let message = format!(
                "the cluster in {dir} begins at {first}, not at port {base}; leave --base-port out, \
                 or name another --dir"
            );
            return Err(Failure::new("other_ports", message));
        }
        match wanted {
            Some(wanted) if usize::from(wanted) != cluster.seeds.len() => {
                let (dir, there) = (dir.display(), cluster.seeds.len());
                let message = format!(
                    "the cluster in {dir} has {there} nodes, not {wanted}; leave --nodes out, or \
                     name another --dir"
                );
                Err(Failure::new("other_size", message))
            }
            _ => Ok(cluster),
        }
    }

    fn seat(&self, called: &str) -> Result<&Seed, Failure> {
        let is_it = |seed: &&Seed| {
            seed.name == called || seed.address == called || seed.name == format!("raft-{called}")
        };
        self.seeds.iter().find(is_it).ok_or_else(|| {
            let names: Vec<_> = self.seeds.iter().map(|seed| seed.name.as_str()).collect();
            let there = names.join(", ");
            Failure::new("no_such_node", format!("there is no node {called}; there are: {there}"))
        })
    }

    fn process(&self, seed: &Seed) -> Process {
        let home = self.dir.join(&seed.name);
        Process { pid_file: home.join("pid"), data_dir: home.join("data") }
    }

    /// Starts a node. False if it runs already.
    fn start(&self, seed: &Seed) -> Result<bool, Failure> {
        let process = self.process(seed);
        if process.is_running() {
            return Ok(false);
        }
        let home = self.dir.join(&seed.name);
        fs::create_dir_all(&home).map_err(|error| io_failure("create", &home, &error))?;
        let list: Vec<_> =
            self.seeds.iter().map(|seed| format!("{}={}", seed.name, seed.address)).collect();
        let mut command = std::process::Command::new(&self.srvraft);
        command
            .arg(&seed.name)
            .arg("--data-dir")
            .arg(&process.data_dir)
            .args(["--listen", &seed.address, "--advertise", &seed.address])
            .args(["--seeds", &list.join(",")])
            .arg("--certs")
            .arg(self.dir.join("certs").join(&seed.name));
        process
            .start(command, &home.join("log"))
            .map(|()| true)
            .map_err(|error| io_failure("start", &self.srvraft, &error))
    }

    /// Starts every node and waits until one leads and all answer. The leader's name.
    async fn up(&self, settings: &Settings) -> Result<String, Failure> {
        for seed in &self.seeds {
            self.start(seed)?;
        }
        let asker = self.asker(settings)?;
        let deadline = Instant::now() + LEADER;
        loop {
            let asked = asker.client.statuses().await;
            let up: Vec<_> = asked.into_iter().filter_map(|(_, status)| status.ok()).collect();
            let leader = up.iter().find(|status| status.role == crate::raft::RoleKind::Leader);
            let silent = |seed: &&Seed| !up.iter().any(|status| status.name == seed.name);
            let silent = self.seeds.iter().find(silent);
            if let (Some(leader), None) = (leader, silent) {
                return Ok(leader.name.clone());
            }
            // A quorum leads without a node whose log is damaged, say; that is no cluster that runs.
            for seed in &self.seeds {
                self.still_runs(seed)?;
            }
            if Instant::now() >= deadline {
                let logs = self.dir.join("raft-N").join("log");
                let what = match (leader, silent) {
                    (Some(_), Some(seed)) => format!("{} does not answer", seed.name),
                    _ => "no node leads".to_owned(),
                };
                let message = format!("{what} after {LEADER:?}; see {}", logs.display());
                return Err(Failure { exit: Exit::NoLeader, ..Failure::new("no_leader", message) });
            }
            tokio::time::sleep(LOOK * 2).await;
        }
    }

    /// Waits until a node that was started answers.
    async fn answers(&self, seed: &Seed, settings: &Settings) -> Result<(), Failure> {
        let asker = self.asker(settings)?;
        let deadline = Instant::now() + LEADER;
        loop {
            match asker.client.status(&seed.address).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => self.still_runs(seed)?,
            }
            tokio::time::sleep(LOOK * 2).await;
        }
    }

    /// A node that ended right after its start said why in its log.
    fn still_runs(&self, seed: &Seed) -> Result<(), Failure> {
        if self.process(seed).is_running() {
            return Ok(());
        }
        let log = self.dir.join(&seed.name).join("log");
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last: Vec<_> = text.lines().rev().take(5).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        let message =
            format!("{} has ended; {} says:\n{}", seed.name, log.display(), last.join("\n"));
        Err(Failure::new("node_ended", message))
    }

    fn asker(&self, settings: &Settings) -> Result<Asker, Failure> {
        Asker::new(Settings {
            endpoints: self.seeds.iter().map(|seed| seed.address.clone()).collect(),
            certs: self.admin(),
            redirect: true,
            ..settings.clone()
        })
    }

    fn admin(&self) -> PathBuf {
        self.dir.join("certs").join("admin")
    }

    /// Ends all of the cluster's processes: politely, then not. The names of those that ran.
    async fn down(&self) -> Result<Vec<&str>, Failure> {
        let mut ran = Vec::new();
        for seed in &self.seeds {
            let process = self.process(seed);
            let did = process.terminate();
            if did.map_err(|error| io_failure("stop", &process.pid_file, &error))? {
                ran.push(seed.name.as_str());
            }
        }
        let polite = Instant::now() + STOP;
        for process in self.seeds.iter().map(|seed| self.process(seed)) {
            let left = polite.saturating_duration_since(Instant::now());
            if gone(&process, left).await.is_err() {
                process.kill().map_err(|error| io_failure("kill", &process.pid_file, &error))?;
                gone(&process, STOP / 3).await?;
            }
        }
        Ok(ran)
    }

    /// Says how to reach the cluster, in lines for `eval`, or as one object.
    fn announce(&self, settings: &Settings, leader: &str) {
        let endpoints: Vec<_> = self.seeds.iter().map(|seed| seed.address.as_str()).collect();
        let admin = self.admin();
        let said = match settings.output {
            Output::Text => format!(
                "export BALSA_ENDPOINTS={}\nexport BALSA_CERTS={}\n",
                endpoints.join(","),
                quoted(&admin.to_string_lossy())
            ),
            Output::Json => {
                let list = endpoints.iter().map(|address| Json::from(*address)).collect();
                Object::default()
                    .with("endpoints", Json::List(list))
                    .with("certs", admin.to_string_lossy().into_owned())
                    .with("leader", leader)
                    .line()
                    + "\n"
            }
        };
        Teller::new(settings.output, settings.lang).say(&said);
        let nodes = self.seeds.len();
        let dir = self.dir.display();
        match (settings.lang, nodes) {
            (Lang::En, 1) => eprintln!("1 node runs in {dir}; {leader} leads."),
            (Lang::En, _) => eprintln!("{nodes} nodes run in {dir}; {leader} leads."),
            (Lang::Es, 1) => eprintln!("1 nodo en marcha en {dir}; lidera {leader}."),
            (Lang::Es, _) => eprintln!("{nodes} nodos en marcha en {dir}; lidera {leader}."),
        }
    }
}

/// Seats with these addresses, in the order of the ordinals.
fn numbered(addresses: Vec<String>) -> Vec<Seed> {
    let seed = |(n, address)| Seed { name: format!("raft-{n}"), address };
    addresses.into_iter().enumerate().map(seed).collect()
}

async fn gone(process: &Process, within: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + within;
    while process.is_running() || process.is_ending() {
        if Instant::now() >= deadline {
            let file = process.pid_file.display();
            return Err(Failure::new("still_running", format!("the process of {file} still runs")));
        }
        tokio::time::sleep(LOOK).await;
    }
    process.forget();
    Ok(())
}

/// Ctrl-C, or what a supervisor sends. From [`listen`](Interruption::listen) on neither of them ends
/// the process by itself.
pub(crate) struct Interruption {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruption {
    pub(crate) fn listen() -> Result<Interruption, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::new("signals", error.to_string()));
        let (interrupt, terminate) =
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Interruption { interrupt, terminate })
    }

    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Ports that were free a moment ago. They are below the range from which the system takes ports for
/// outgoing connections: such a connection could hold a port just when its node starts again. All are
/// held until the last is known, so that they differ.
fn free_ports(count: u16) -> io::Result<Vec<u16>> {
    let mut held = Vec::new();
    let mut last = None;
    for _ in 0..PORT_TRIES {
        if held.len() == usize::from(count) {
            return held.iter().map(|port: &TcpListener| Ok(port.local_addr()?.port())).collect();
        }
        let drawn = getrandom::u32().map_err(io::Error::other)?;
        // Below 20000, so it fits.
        let port = PORTS.start + (drawn % u32::from(PORTS.end - PORTS.start)) as u16;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => held.push(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// `srvraft` beside this executable.
fn beside() -> Result<PathBuf, Failure> {
    let own =
        std::env::current_exe().map_err(|error| Failure::new("no_srvraft", error.to_string()))?;
    let path = own.with_file_name("srvraft");
    if path.exists() {
        return Ok(path);
    }
    let message =
        format!("there is no {}; name the server's executable: --srvraft PATH", path.display());
    Err(Failure::new("no_srvraft", message))
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:,=+@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn io_failure(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new("io", format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_export_lines_survive_a_shell() {
        assert_eq!(quoted("/tmp/a-b/c"), "/tmp/a-b/c");
        assert_eq!(quoted("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("$(x)"), "'$(x)'");
    }

    #[test]
    fn ports_are_chosen_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let make = || Cluster::make(dir.path(), PathBuf::new(), None, None).unwrap();
        let (first, second) = (make(), make());
        assert_eq!(first.seeds, second.seeds);
        assert_eq!(first.seeds.len(), 3);
        assert!(dir.path().join("certs/admin/tls.key").exists());
        assert_eq!(first.seat("1").unwrap(), first.seat("raft-1").unwrap());
        assert!(first.seat("3").is_err());
        assert!(Cluster::make(dir.path(), PathBuf::new(), Some(3), None).is_ok());
        assert!(Cluster::make(dir.path(), PathBuf::new(), Some(5), None).is_err());
        assert!(Cluster::make(dir.path(), PathBuf::new(), None, Some(1)).is_err());
        assert!(Cluster::open(&dir.path().join("other"), PathBuf::new()).is_err());
    }

    #[test]
    fn a_node_is_added_behind_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::make(dir.path(), PathBuf::new(), Some(1), None).unwrap();
        let word = |result: Result<Seed, Failure>| result.unwrap_err().word;
        assert_eq!(word(cluster.enlarge("0")), "conflict");
        assert_eq!(word(cluster.enlarge("2")), "no_such_node");
        assert_eq!(word(cluster.enlarge("raft-")), "no_such_node");
        let second = cluster.enlarge("1").unwrap();
        assert_eq!(second.name, "raft-1");
        let third = cluster.enlarge("raft-2").unwrap();
        assert_ne!(second.address, third.address);
        let again = Cluster::open(dir.path(), PathBuf::new()).unwrap();
        assert_eq!(again.seeds, cluster.seeds);
        assert_eq!(again.seeds.len(), 3);
        assert!(dir.path().join("certs/raft-2/tls.key").exists());
    }
}
