//! A local cluster as a script has it, and calls of `cltraft` against it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

/// The executable under test.
pub(crate) const CLTRAFT: &str = env!("CARGO_BIN_EXE_cltraft");

/// Its server.
pub(crate) const SRVRAFT: &str = env!("CARGO_BIN_EXE_srvraft");

/// One cluster at a time: they elect by the clock, and a machine may have two cores.
static TURN: Mutex<()> = Mutex::new(());

/// What one call did.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Its standard output, if it ended well and said nothing on standard error.
    #[track_caller]
    pub(crate) fn fine(&self) -> &str {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        &self.out
    }

    /// Its standard output, which is one object in one line.
    #[track_caller]
    pub(crate) fn object(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "one object: {self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a command to its end, without anything of our environment that `cltraft` listens to. It does
/// not read standard input unless a test gives it one.
pub(crate) fn run(command: &mut Command) -> Said {
    let output = clean(command).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).expect("what is printed is UTF-8");
    // On a busy machine some calls take so long that they say so.
    let patient =
        |line: &&str| !line.starts_with("still at it") && !line.starts_with("sigo en ello");
    Said {
        code: output.status.code().unwrap_or_else(|| panic!("{command:?} was killed")),
        out: text(output.stdout),
        err: text(output.stderr).split_inclusive('\n').filter(patient).collect(),
    }
}

/// Takes from a command what the environment of the tests says about clusters and languages. What
/// the test itself has set stays.
fn clean(command: &mut Command) -> &mut Command {
    let set: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        let ours = told.starts_with("BALSA_") || told.starts_with("LC_") || told == "LANG";
        if ours && !set.contains(&name) {
            command.env_remove(&name);
        }
    }
    command
}

/// A call without a cluster.
pub(crate) fn cltraft(words: &[&str]) -> Said {
    run(Command::new(CLTRAFT).args(words))
}

/// A cluster of three that `cltraft local` made and started. It is taken down when this is dropped.
pub(crate) struct Cluster {
    /// `--dir`.
    pub(crate) dir: PathBuf,
    /// As the exports say.
    pub(crate) endpoints: String,
    /// As the exports say: the admin's.
    pub(crate) certs: PathBuf,
    directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// `eval "$(cltraft local --nodes 3 --dir DIR --detach)"`, as one types it.
    pub(crate) fn start() -> Cluster {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // The exports are for `eval`: the blank must survive it.
        let directory = TempDir::with_prefix_in("local cluster-", env!("CARGO_TARGET_TMPDIR"))
            .expect("a temporary directory");
        let mut cluster = Cluster {
            dir: directory.path().join("it's"),
            endpoints: String::new(),
            certs: PathBuf::new(),
            directory,
            _turn: turn,
        };
        let script = "set -eu; exports=$(\"$1\" local --nodes 3 --dir \"$2\" --detach)
            eval \"$exports\"; printf '%s\\n' \"$BALSA_ENDPOINTS\" \"$BALSA_CERTS\"";
        let mut bash = Command::new("bash");
        let said = run(bash.args(["-c", script, "bash", CLTRAFT]).arg(&cluster.dir));
        assert_eq!(said.code, 0, "{said:?}");
        let [endpoints, certs] = said.out.lines().collect::<Vec<_>>()[..] else {
            panic!("two lines: {said:?}")
        };
        (cluster.endpoints, cluster.certs) = (endpoints.to_owned(), certs.into());
        cluster
    }

    /// A command with the two exports set, and time enough for a busy machine.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(CLTRAFT);
        command
            .args(words)
            .env("BALSA_ENDPOINTS", &self.endpoints)
            .env("BALSA_CERTS", &self.certs)
            .env("BALSA_TIMEOUT", "30s");
        clean(&mut command);
        command
    }

    /// One call with the two exports set.
    pub(crate) fn ask(&self, words: &[&str]) -> Said {
        run(&mut self.command(words))
    }

    /// `cltraft local --dir DIR` with these words.
    pub(crate) fn local(&self, words: &[&str]) -> Said {
        run(Command::new(CLTRAFT).arg("local").arg("--dir").arg(&self.dir).args(words))
    }

    /// Where a node listens.
    pub(crate) fn endpoint(&self, node: usize) -> &str {
        self.endpoints.split(',').nth(node).expect("three endpoints")
    }

    /// The file with a node's process id.
    pub(crate) fn pid_file(&self, node: usize) -> PathBuf {
        self.dir.join(format!("raft-{node}")).join("pid")
    }

    /// A node's process id.
    pub(crate) fn pid(&self, node: usize) -> u32 {
        let text = fs::read_to_string(self.pid_file(node)).expect("the node runs");
        text.trim().parse().expect("a process id")
    }

    /// Who leads, and a node that does not.
    pub(crate) fn leader_and_follower(&self) -> (usize, usize) {
        let said = self.ask(&["-o", "json", "put", "who", "leads"]).object();
        let name = said["leader"].as_str().unwrap_or_else(|| panic!("who leads? {said}"));
        let leader = name.strip_prefix("raft-").and_then(|ordinal| ordinal.parse().ok());
        let leader = leader.unwrap_or_else(|| panic!("no seat: {name}"));
        (leader, (leader + 1) % 3)
    }

    /// Where files of the test may lie.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let there = self.dir.join("endpoints").exists();
        let down = there.then(|| self.local(&["--down"]));
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
            eprintln!("the cluster's directory is left: {}", self.dir.display());
        }
        if let Some(down) = down.filter(|said| said.code != 0) {
            eprintln!("the cluster is not down: {down:?}");
        }
    }
}
