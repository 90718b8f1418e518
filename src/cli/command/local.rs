//! The words of `local`: a cluster on this machine.

use std::path::PathBuf;
use std::time::Duration;

use super::{Command, Judge, values};

/// What to do with a cluster on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Where it lives.
    pub dir: PathBuf,
    /// The server's executable; none: beside this one.
    pub srvraft: Option<PathBuf>,
    /// What to do.
    pub action: LocalAction,
}

/// One action on a local cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAction {
    /// Make it if need be, and start every node.
    Up {
        /// How many; none: as many as there are, or three.
        nodes: Option<u16>,
        /// First of consecutive ports; none: free ones.
        base_port: Option<u16>,
        /// Leave it running.
        detach: bool,
    },
    /// kill -9.
    Kill(String),
    /// SIGTERM, and wait.
    Stop(String),
    /// Start again, with the same directory.
    Start(String),
    /// Start one more node.
    Add {
        /// The seat: the next ordinal.
        node: String,
        /// How long to wait until it is a voter; none: only until it answers.
        wait: Option<Duration>,
    },
    /// End all its processes.
    Down,
}

pub(super) fn read(judge: &mut Judge<'_>) -> Option<Command> {
    let dir = judge.setting("dir", |text| match text {
        "" => Err("is empty".to_owned()),
        _ => Ok(PathBuf::from(text)),
    });
    if dir.is_none() && !judge.typed("dir") {
        judge.problem("local needs --dir (where the cluster lives)");
    }
    let srvraft = judge.setting("srvraft", |text| Ok(PathBuf::from(text)));
    let node = |text: &str| Ok(text.to_owned());
    let actions: Vec<LocalAction> = [
        judge.option("kill", node).map(LocalAction::Kill),
        judge.option("stop", node).map(LocalAction::Stop),
        judge.option("start", node).map(LocalAction::Start),
        judge.option("add", node).map(|node| LocalAction::Add { node, wait: None }),
        judge.flag("down").then_some(LocalAction::Down),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut port = |name, low, high| {
        let number = judge.setting(name, |text| values::number(text, low, high))?;
        u16::try_from(number).ok()
    };
    let (nodes, base_port) = (port("nodes", 1, 99), port("base_port", 1, 65_000));
    let detach = judge.flag("detach");
    let action = match <[LocalAction; 1]>::try_from(actions) {
        Ok([mut action]) => {
            if let LocalAction::Add { wait, .. } = &mut action {
                *wait = judge.setting("wait", |t| values::duration(t, Duration::from_secs(1)));
            }
            for name in ["nodes", "base_port", "detach"] {
                if judge.typed(name) {
                    let option = name.replace('_', "-");
                    judge.problem(format!(
                        "--{option} is for starting the whole cluster, not for one of its actions"
                    ));
                }
            }
            action
        }
        Err(none) if none.is_empty() => LocalAction::Up { nodes, base_port, detach },
        Err(_) => {
            judge.problem("give one of --kill, --stop, --start, --add, --down");
            return None;
        }
    };
    Some(Command::Local(Local { dir: dir?, srvraft, action }))
}
