//! The executables themselves, driven as a person or a script drives them: `cltraft` as a process of its
//! own against a real cluster of `srvraft` processes that `cltraft local` started.
//!
//! What is read is compared to the letter with what `mission` and `design` promise; what differs between
//! two runs (ids, indexes, terms, who leads) stands as a placeholder: see [`pattern`].

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/gen_certs.rs"]
mod gen_certs;
#[path = "cluster/harness.rs"]
mod harness;
#[path = "cli/local.rs"]
mod local;
#[path = "cli/members.rs"]
mod members;
#[path = "cli/pattern.rs"]
mod pattern;
#[path = "cli/selftest.rs"]
mod selftest;
#[path = "cli/shell.rs"]
mod shell;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/tools.rs"]
mod tools;
