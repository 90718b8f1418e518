//! Starting over: the one way in which a node goes the way of a lost disk without having lost it. The
//! data directory is set aside, nothing of it is deleted, and the process begins anew with an empty
//! one: under a new node id, so that nothing the old one promised is broken by what it forgot (M7,
//! D17), and the cluster takes it in again like any node whose disk is gone.
//!
//! What when full? After eight copies, or [`TIMES_MAX`] within a minute, the node stops with status 65:
//! something is wrong that starting over does not mend, and somebody must look.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;

use crate::exit::Exit;
use crate::raft::{NodeId, Seen};
use crate::storage::{self, DataDir, RealFs, StorageError};

use super::deliver::Deliver;
use super::fatal;
use super::messages::StartOver;
use super::standing::Standing;

/// What a node does that is told that its directory went back in time: who says so, and what that peer
/// has seen.
pub type WentBack = Box<dyn Fn(NodeId, Seen)>;

/// Has the supervisor start over.
#[must_use]
pub fn when_gone_back(standing: Arc<Standing>, supervisor: Recipient<StartOver>) -> WentBack {
    Box::new(move |peer, seen| {
        let present = standing.present();
        let member = present.membership.members.get(&peer);
        let name = member.map_or_else(|| format!("node {peer}"), |member| member.name.clone());
        let claims = standing.claims();
        tracing::error!(
            "{name}, asking for a vote, has heard more of this node than its directory holds: {seen:?}, \
             and it holds {claims:?}; a volume was restored from an older copy"
        );
        // Must not be lost; repeats are ignored.
        supervisor.deliver(StartOver { reason: "went back".into() });
    })
}

/// How often a node starts over within [`SPAN`].
const TIMES_MAX: usize = 3;
const SPAN: Duration = Duration::from_secs(60);

/// Sets a directory aside that nobody has open, because of damage.
///
/// # Errors
/// The storage's, one of them if the directory was set aside too often.
pub fn replace(path: &Path, damage: &StorageError) -> Result<(), StorageError> {
    tracing::error!("{damage}");
    check_loop(path)?;
    let aside = storage::set_aside(&RealFs, path, "damaged")?;
    say(path, &aside);
    Ok(())
}

/// Sets the open directory aside and replaces this process by a new one of the same executable, with the
/// same arguments. What can still write to the directory must have ended. If it cannot be done the
/// process ends.
pub fn start_over(directory: &DataDir, reason: &str) -> ! {
    let set_aside = check_loop(directory.path()).and_then(|()| directory.set_aside(reason));
    match set_aside {
        Ok(aside) => say(directory.path(), &aside),
        Err(error) => fatal::storage(&error),
    }
    let error = begin_anew();
    let status = Exit::Disk.code();
    tracing::error!(status, %error, "the process cannot begin anew by itself; start it again");
    std::process::exit(status)
}

fn check_loop(path: &Path) -> Result<(), StorageError> {
    let times = storage::set_aside_lately(&RealFs, path, SPAN)?;
    if times < TIMES_MAX {
        return Ok(());
    }
    Err(StorageError::Damaged {
        path: path.display().to_string(),
        offset: 0,
        what: format!(
            "it would be set aside, as it was {times} times within {} s; starting over does not mend \
             what is wrong. Look at the copies and at the log lines before each",
            SPAN.as_secs()
        ),
    })
}

fn say(path: &Path, aside: &Path) {
    tracing::error!(
        "{} was set aside and lies in {} now; nothing was deleted. The node begins anew with an empty \
         directory",
        path.display(),
        aside.display()
    );
}

/// Returns only if it cannot be done. What the process holds open ends with it, the lock of the old
/// directory included.
fn begin_anew() -> io::Error {
    let own = match std::env::current_exe() {
        Ok(own) => executable(own),
        Err(error) => return error,
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(own);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).exec()
}

/// The system's word for the executable of the asking process, whatever became of its file.
const SELF: &str = "/proc/self/exe";

/// What to execute: this executable's file, which gives the process its usual name; or, if an upgrade has
/// replaced or removed that meanwhile, what runs now once more.
fn executable(own: PathBuf) -> PathBuf {
    if own.exists() { own } else { PathBuf::from(SELF) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_that_was_removed_under_the_process_does_not_stop_it() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(executable(own.clone()), own);
        // As Linux names it then (proc_pid_exe(5)).
        let gone = own.with_file_name("srvraft (deleted)");
        assert_eq!(executable(gone), Path::new(SELF));
        assert_eq!(Path::new(SELF).canonicalize().unwrap(), own.canonicalize().unwrap());
    }

    #[test]
    fn a_directory_that_is_set_aside_again_and_again_is_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        let damage = StorageError::Damaged {
            path: "x".to_owned(),
            offset: 0,
            what: "a bit has flipped".to_owned(),
        };
        for times in 0..TIMES_MAX {
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("identity"), times.to_string()).unwrap();
            replace(&path, &damage).unwrap();
            assert!(!path.exists());
        }
        std::fs::create_dir(&path).unwrap();
        let error = replace(&path, &damage).unwrap_err();
        assert_eq!(Exit::of_storage(&error).code(), 65);
        assert!(error.to_string().contains("does not mend"), "{error}");
        assert!(path.exists(), "it stays where it is");
        let kept = std::fs::read_dir(temporary.path()).unwrap().count();
        assert_eq!(kept, TIMES_MAX + 1, "nothing is deleted");
    }
}
