//! The words of `member`, `transfer` and `snapshot`: what an admin changes.
//!
//! Who is changed is named by the seat's whole name, not by an ordinal: `member remove 1` could mean a
//! seat of another prefix, and a removal is not taken back by a second command.

use super::{Command, Judge, Words, values};

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes a node in.
    Add {
        /// The seat.
        name: String,
        /// Where its node is reached, `HOST:PORT`.
        address: String,
    },
    /// Removes a member and retires its seat.
    Remove {
        /// The seat.
        name: String,
    },
    /// Makes a learner a voter now.
    Promote {
        /// The seat.
        name: String,
    },
}

/// The verbs of `member`, in English and in Spanish.
const VERBS: [(&str, &str); 4] =
    [("list", "listar"), ("add", "agregar"), ("remove", "quitar"), ("promote", "promover")];

pub(super) fn member(judge: &mut Judge<'_>, words: &mut Words) -> Option<Command> {
    const THERE: &str = "list, add NAME HOST:PORT, remove NAME and promote NAME";
    let Some(said) = words.text() else {
        judge.problem(format!("{} needs a verb; it has {THERE}", words.said));
        return None;
    };
    let verb = VERBS.iter().find(|(english, spanish)| said == *english || said == *spanish);
    let Some((verb, _)) = verb else {
        judge.problem(format!("{} has no verb '{said}'; it has {THERE}", words.said));
        words.skip();
        return None;
    };
    let change = match *verb {
        "list" => return Some(Command::Members),
        "add" => {
            let name = seat(judge, words, verb);
            let address = match words.text() {
                None => {
                    judge.problem("member add needs HOST:PORT, where the node is reached");
                    None
                }
                Some(text) => values::host_port(&text).map_err(|why| judge.problem(why)).ok(),
            };
            name.zip(address).map(|(name, address)| Change::Add { name, address })
        }
        "remove" => seat(judge, words, verb).map(|name| Change::Remove { name }),
        _ => seat(judge, words, verb).map(|name| Change::Promote { name }),
    };
    change.map(Command::Change)
}

pub(super) fn snapshot(judge: &mut Judge<'_>, words: &mut Words) -> Option<Command> {
    match words.text().as_deref() {
        Some("take" | "tomar") => words.node(judge).map(|node| Command::Snapshot { node }),
        Some(other) => {
            judge.problem(format!("{} has no verb '{other}'; it has take NODE", words.said));
            words.skip();
            None
        }
        None => {
            judge.problem(format!("{} needs a verb; it has take NODE", words.said));
            None
        }
    }
}

fn seat(judge: &mut Judge<'_>, words: &mut Words, verb: &str) -> Option<String> {
    let Some(name) = words.text() else {
        judge.problem(format!("member {verb} needs a NAME, such as raft-1"));
        return None;
    };
    if name.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() {
        judge.problem(format!("member {verb} takes the seat's whole name, such as raft-{name}"));
        return None;
    }
    values::seat(&name).map_err(|why| judge.problem(why)).ok()
}
