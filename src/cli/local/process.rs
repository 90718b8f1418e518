//! One node's process: started, recognised, ended.
//!
//! A number in a file proves nothing: the process may be long gone and its number another's. A process
//! is this node's only if the system says that it was called with this node's data directory, which no
//! other process has any business with. Where that cannot be told, nothing is ended.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Variables a started node may take from whoever starts it; the others are about another cluster.
const INHERITED: [&str; 10] = [
    "BALSA_TICK",
    "BALSA_HEARTBEAT",
    "BALSA_ELECTION",
    "BALSA_LOG",
    "BALSA_LOG_FORMAT",
    "BALSA_SNAPSHOT_BYTES",
    "BALSA_SNAPSHOT_ENTRIES",
    "BALSA_TRAILING_ENTRIES",
    "BALSA_SEAT_LIMIT",
    "BALSA_ON_DAMAGE",
];

/// A process that exits is waited for as long as this.
const ENDING: Duration = Duration::from_secs(10);

/// The process that holds a data directory.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid_file: PathBuf,
    /// Absolute.
    pub(super) data_dir: PathBuf,
}

impl Process {
    /// Starts the command, which must name the data directory, in a process group of its own: it
    /// outlives this process, and a Ctrl-C at the terminal does not reach it.
    pub(super) fn start(&self, mut command: Command, log: &Path) -> io::Result<()> {
        let deadline = Instant::now() + ENDING;
        while self.is_ending() && Instant::now() < deadline {
            pause();
        }
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        for (name, _) in std::env::vars_os() {
            let ours = name.as_bytes().starts_with(b"BALSA_");
            if ours && !INHERITED.iter().any(|kept| name == *kept) {
                command.env_remove(name);
            }
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let draft = self.pid_file.with_extension("new");
        fs::write(&draft, format!("{}\n", child.id()))?;
        fs::rename(&draft, &self.pid_file)?;
        // The system lets go of us a moment before it shows the new process's arguments, by which we
        // recognise it. One that has ended by then is found out by whoever looks next.
        while !self.is_running() && child.try_wait()?.is_none() {
            pause();
        }
        Ok(())
    }

    /// What the file says.
    fn number(&self) -> Option<i32> {
        let text = fs::read_to_string(&self.pid_file).ok()?;
        text.trim().parse().ok().filter(|pid| *pid > 1)
    }

    /// The process, if it runs and is this node's.
    fn pid(&self) -> Option<Pid> {
        let pid = self.number()?;
        // Of a process that has ended and was not waited for, this is empty.
        let called = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = called.split(|byte| *byte == 0);
        let ours = words.any(|word| word == self.data_dir.as_os_str().as_bytes());
        ours.then(|| Pid::from_raw(pid))
    }

    pub(super) fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Whether it no longer shows its arguments and still has its files, the lock of the data directory
    /// among them: the system takes the memory first.
    pub(super) fn is_ending(&self) -> bool {
        let stat =
            self.number().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        !self.is_running() && stat.is_some_and(|stat| shows_an_end(&stat))
    }

    /// kill -9. False, and nothing happens, if it does not run.
    pub(super) fn kill(&self) -> io::Result<bool> {
        self.signal(Signal::SIGKILL)
    }

    /// SIGTERM. False, and nothing happens, if it does not run.
    pub(super) fn terminate(&self) -> io::Result<bool> {
        self.signal(Signal::SIGTERM)
    }

    /// Removes the number of a process that is gone.
    pub(super) fn forget(&self) {
        // If that fails, the number names nobody: `pid` finds out.
        let _ = fs::remove_file(&self.pid_file);
    }

    fn signal(&self, signal: Signal) -> io::Result<bool> {
        match self.pid().map(|pid| kill(pid, signal)) {
            Some(Ok(())) => Ok(true),
            // With ESRCH it ended in between.
            None | Some(Err(Errno::ESRCH)) => Ok(false),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

/// Whether `/proc/PID/stat` (proc_pid_stat(5)) is of a process that exits and is not yet done with it.
/// When it is, one thread is left, a zombie that waits to be asked for its status.
fn shows_an_end(stat: &str) -> bool {
    /// `PF_EXITING` of Linux.
    const EXITING: u64 = 0x4;
    // The name, in parentheses, may hold anything; the state, field 3, is the first behind it.
    let Some((_, fields)) = stat.rsplit_once(')') else { return false };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    let (Some(flags), Some(threads)) = (number(9), number(20)) else { return false };
    let done = matches!(fields.first(), Some(&("Z" | "X"))) && threads <= 1;
    flags & EXITING != 0 && !done
}

/// Between two looks.
#[expect(clippy::disallowed_methods, reason = "nothing else runs in this process meanwhile")]
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(dir: &Path) -> Process {
        Process { pid_file: dir.join("pid"), data_dir: dir.join("data") }
    }

    #[test]
    fn a_number_that_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let process = process(dir.path());
        assert!(!process.is_running());
        // This very process: it runs, but was not called with that directory.
        fs::write(&process.pid_file, format!("{}\n", std::process::id())).unwrap();
        assert!(!process.is_running());
        assert!(!process.kill().unwrap());
        for nonsense in ["", "x", "-1", "0", "1"] {
            fs::write(&process.pid_file, nonsense).unwrap();
            assert!(!process.is_running());
            assert!(!process.kill().unwrap());
        }
    }

    #[test]
    fn a_process_that_exits_is_told_from_one_that_has() {
        let stat = |state: &str, flags: u64, threads: u64| {
            format!("7 (a) b) {state} 1 7 7 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 {threads} 0 99")
        };
        assert!(shows_an_end(&stat("R", 0x40_0004, 1)));
        assert!(shows_an_end(&stat("Z", 0x40_0004, 3)), "the other threads still have the files");
        assert!(!shows_an_end(&stat("Z", 0x40_0004, 1)));
        assert!(!shows_an_end(&stat("S", 0x40_0000, 1)));
        assert!(!shows_an_end(""));
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(!shows_an_end(&own), "{own}");
    }

    #[test]
    fn our_own_is_found_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let process = process(dir.path());
        // Waits for input that never comes; its name is the data directory.
        let mut command = Command::new("sh");
        command.args(["-c", "kill -STOP $$"]).arg(&process.data_dir);
        process.start(command, &dir.path().join("log")).unwrap();
        let begun = std::time::Instant::now();
        while !process.is_running() {
            assert!(begun.elapsed().as_secs() < 10, "it has not begun");
            std::thread::yield_now();
        }
        assert!(process.kill().unwrap());
        while process.is_running() {
            assert!(begun.elapsed().as_secs() < 10, "it has not ended");
            std::thread::yield_now();
        }
        process.forget();
        assert!(!process.pid_file.exists());
    }
}
