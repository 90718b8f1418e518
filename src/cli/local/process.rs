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
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Variables a started node may take from whoever starts it; the others are about another cluster.
const INHERITED: [&str; 4] =
    ["BALSA_TICK", "BALSA_HEARTBEAT", "BALSA_ELECTION", "BALSA_LOG_FORMAT"];

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
            #[expect(clippy::disallowed_methods, reason = "nothing else runs in this process yet")]
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// The process, if it runs and is this node's.
    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(&self.pid_file).ok()?;
        let pid: i32 = text.trim().parse().ok().filter(|pid| *pid > 1)?;
        // Of a process that has ended and was not waited for, this is empty.
        let called = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = called.split(|byte| *byte == 0);
        let ours = words.any(|word| word == self.data_dir.as_os_str().as_bytes());
        ours.then(|| Pid::from_raw(pid))
    }

    pub(super) fn is_running(&self) -> bool {
        self.pid().is_some()
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
