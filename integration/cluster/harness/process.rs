//! One node's process: its own directory, its own log file, and nobody else's pid.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PATIENCE, names, until};

/// A seat with what it is started with. The process is killed and waited for when this is dropped.
pub struct Process {
    /// The seat.
    pub name: String,
    /// Where it listens, `127.0.0.1:PORT`.
    pub address: String,
    /// `--data-dir`.
    pub data: PathBuf,
    /// `--certs`.
    pub certs: PathBuf,
    /// Its standard error, over all starts.
    pub log: PathBuf,
    /// `--seeds`; empty: they come from the other options.
    pub seeds: String,
    /// `--advertise`, where it is not its own seed.
    pub advertise: Option<String>,
    /// More options.
    pub more: Vec<OsString>,
    /// More of the environment.
    pub env: Vec<(String, String)>,
    /// Files of names ([`names`](super::names)) that it goes by instead of the system's resolver.
    pub names: Vec<PathBuf>,
    /// Blocks of 1024 bytes that a file of it may have (a disk that fails, without a disk that fails).
    pub file_blocks: Option<u32>,
    child: RefCell<Option<Child>>,
}

impl Process {
    /// A process that is not started yet, with its own directory below which everything of it lies.
    pub fn new(
        name: &str,
        address: &str,
        directory: PathBuf,
        certs: PathBuf,
        seeds: &str,
    ) -> Process {
        fs::create_dir_all(&directory).expect("a directory for the node");
        Process {
            name: name.to_owned(),
            address: address.to_owned(),
            data: directory.join("data"),
            certs,
            log: directory.join("log"),
            seeds: seeds.to_owned(),
            advertise: None,
            more: Vec::new(),
            env: Vec::new(),
            names: Vec::new(),
            file_blocks: None,
            child: RefCell::new(None),
        }
    }

    /// Starts it; does not wait for anything.
    pub fn start(&mut self) {
        assert!(!self.runs(), "{} runs already", self.name);
        let log = || -> File {
            let file = OpenOptions::new().create(true).append(true).open(&self.log);
            file.expect("the node's log file")
        };
        let mut arguments: Vec<OsString> = vec![self.name.as_str().into()];
        let mut give = |option: &str, value: &OsStr| {
            arguments.extend([option.into(), value.to_owned()]);
        };
        give("--listen", self.address.as_ref());
        if !self.seeds.is_empty() {
            give("--seeds", self.seeds.as_ref());
        }
        give("--data-dir", self.data.as_ref());
        give("--certs", self.certs.as_ref());
        if let Some(address) = &self.advertise {
            give("--advertise", address.as_ref());
        }
        arguments.extend(self.more.iter().cloned());
        let mut command = match self.file_blocks {
            _ if !self.names.is_empty() => names::command(&self.names, &arguments),
            None => Command::new(env!("CARGO_BIN_EXE_srvraft")),
            Some(blocks) => {
                // With the signal ignored, writing beyond the limit fails with EFBIG.
                let mut shell = Command::new("bash");
                let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
                shell.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_srvraft")]);
                shell
            }
        };
        let foreign = std::env::vars_os().map(|(name, _)| name);
        for name in foreign.filter(|name| name.to_string_lossy().starts_with("BALSA_")) {
            command.env_remove(name);
        }
        if self.names.is_empty() {
            command.args(&arguments);
        }
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log());
        *self.child.borrow_mut() = Some(command.spawn().expect("srvraft starts"));
    }

    /// Whether it was started and neither killed nor seen to end.
    pub fn runs(&self) -> bool {
        self.child.borrow().is_some()
    }

    pub fn pid(&self) -> u32 {
        self.child.borrow().as_ref().expect("a running process").id()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.get_mut().take() {
            // Fails only if it ended by itself, which the caller finds in its log.
            let _ = child.kill();
            child.wait().expect("one's own child can be waited for");
        }
    }

    /// Its exit status, if it has ended by itself.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut child = self.child.borrow_mut();
        let status = child.as_mut()?.try_wait().expect("one's own child can be asked");
        if status.is_some() {
            *child = None;
        }
        status
    }

    /// Waits until it has ended by itself. `None` as code: a signal ended it.
    pub fn wait_for_end(&self, limit: Duration) -> Option<i32> {
        let what = format!("{} ends", self.name);
        until(&what, limit, || self.ended()).code()
    }

    /// Sends SIGTERM and returns the exit code.
    pub fn terminate(&self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.wait_for_end(PATIENCE)
    }

    /// Stops it in the middle of whatever it does; the system goes on to take its connections.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        kill(pid, signal).expect("a signal to one's own child");
    }

    /// The disk is lost: nothing of the data directory is left.
    pub fn wipe(&self) {
        assert!(!self.runs(), "{} runs: its disk cannot be taken away", self.name);
        fs::remove_dir_all(&self.data).expect("the data directory is removed");
    }

    /// Copies the data directory, as one keeps a volume.
    pub fn keep_copy(&self, to: &Path) {
        assert!(!self.runs(), "{} runs: a copy would be of no moment", self.name);
        copy_all(&self.data, to);
    }

    /// Puts a copy back in the place of the data directory.
    pub fn put_back(&self, from: &Path) {
        self.wipe();
        copy_all(from, &self.data);
    }

    /// What it has set aside of itself instead of deleting it.
    pub fn set_aside(&self) -> Vec<PathBuf> {
        let home = self.data.parent().expect("the node's own directory");
        let below = |directory: &Path, prefix: &str| -> Vec<PathBuf> {
            let entries = fs::read_dir(directory).into_iter().flatten();
            let paths = entries.map(|entry| entry.expect("an entry").path());
            let named = |path: &PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
            };
            paths.filter(named).collect()
        };
        let mut found = below(home, "data.");
        found.extend(below(&self.data, "aside-"));
        found.sort();
        found
    }

    /// Waits until it has written this since byte `from` of its log.
    pub fn wait_until_it_says(&self, from: usize, words: &str) -> String {
        let what = format!("{} says \"{words}\"", self.name);
        until(&what, PATIENCE, || {
            let said = self.said().split_off(from);
            said.lines().find(|line| line.contains(words)).map(str::to_owned)
        })
    }

    /// Starts it where it must refuse to: its exit code, and what it said from this start on.
    pub fn refuse(&mut self) -> (i32, String) {
        let before = self.said().len();
        self.start();
        let code = self.wait_for_end(PATIENCE);
        let said = self.said().split_off(before);
        (code.unwrap_or_else(|| panic!("{} was killed by a signal: {said}", self.name)), said)
    }

    /// Everything it has written.
    pub fn said(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines it has written, without backtraces.
    pub fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("  ")).collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Lines that no healthy node writes.
    pub fn errors(&self) -> Vec<String> {
        let bad = |line: &&str| line.contains(" ERROR ") || line.contains("panicked");
        self.said().lines().filter(bad).map(str::to_owned).collect()
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory for the copy");
    for entry in fs::read_dir(from).expect("the directory is there") {
        let entry = entry.expect("an entry");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().expect("its type").is_dir() {
            true => copy_all(&source, &target),
            false => {
                fs::copy(&source, &target).expect("a file is copied");
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}
