//! What people type and read: options, commands, text and JSON in both languages.
//!
//! | module | holds |
//! |---|---|
//! | `options` | the options of both executables as text; the only user of `structopt` |
//! | `node_options`, `client_options` | what they mean to `srvraft` and to `cltraft` |
//! | `command` | the commands of `cltraft` and how their words are read |
//! | `judge` | reads each option over its variable and collects what is wrong |
//! | `source` | values that come from a file or from standard input |
//! | `values` | how durations, addresses and names are written |
//! | `run` | carries commands out against a cluster |
//! | `answer`, `text`, `json` | what was found out, for people and for programs |
//! | `selftest`, `shell`, `bench`, `local`, `certs` | the commands that are more than one call |
//! | `lang` | English or Spanish |

pub mod answer;
pub mod bench;
pub mod certs;
pub mod client_options;
pub mod command;
pub mod json;
mod judge;
pub mod lang;
mod local;
pub mod node_options;
pub mod options;
mod run;
mod samples;
pub mod selftest;
mod shell;
mod source;
pub mod text;
pub mod values;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use answer::{Answer, Exit, Failure};
use client_options::{Call, Output, parse_client};
use command::Command;
use run::{Asker, Teller};

use crate::config::Parsed;

/// The whole of `cltraft`, from its arguments (without the executable's name) to its exit status.
#[must_use]
pub fn cltraft(arguments: Vec<OsString>) -> u8 {
    let env = |name: &str| std::env::var_os(name);
    let output = client_options::output(arguments.clone(), &env);
    let exit = match parse_client(arguments, &env, io::stdin().is_terminal()) {
        Ok(Parsed::Run(call)) => carry_out(call),
        Ok(Parsed::Print(text)) => {
            let mut teller = Teller::new(Output::Text, lang::Lang::En);
            teller.say(&(text + "\n"));
            teller.exit()
        }
        Err(report) if output == Output::Json => {
            let mut teller = Teller::new(output, lang::Lang::En);
            teller.tell(&Answer::Failed(Failure::usage(&report)));
            teller.exit()
        }
        Err(report) => {
            eprintln!("{report}");
            Exit::Usage
        }
    };
    exit as u8
}

fn carry_out(Call { settings, command }: Call) -> Exit {
    let mut teller = Teller::new(settings.output, settings.lang);
    let mut fail = |failure| {
        teller.tell(&Answer::Failed(failure));
        teller.exit()
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(Failure::new("runtime", error.to_string())),
    };
    match &command {
        Command::Idle => {
            let idle = async {
                local::Interruption::listen()?.wait().await;
                Ok(())
            };
            match runtime.block_on(idle) {
                Ok(()) => Exit::Done,
                Err(failure) => fail(failure),
            }
        }
        Command::Local(wanted) => runtime.block_on(local::run(wanted, &settings)),
        Command::Certs(wanted) => {
            let output = match settings.output {
                Output::Text => certs::Output::Text,
                Output::Json => certs::Output::Json,
            };
            match certs::run(wanted, output, settings.lang, &mut io::stdout().lock()) {
                Ok(true) => Exit::Done,
                Ok(false) => Exit::Failed,
                Err(error) => {
                    let (exit, word) = match error.exit() {
                        2 => (Exit::Usage, "usage"),
                        _ => (Exit::Failed, "certificates"),
                    };
                    fail(Failure { exit, ..Failure::new(word, error.to_string()) })
                }
            }
        }
        _ => {
            let asker = match Asker::new(settings) {
                Ok(asker) => asker,
                Err(failure) => return fail(failure),
            };
            if command == Command::Shell {
                return shell::run(&runtime, &asker, io::stdin().is_terminal());
            }
            runtime.block_on(asker.carry_out(&command, |answer| teller.tell(&answer)));
            teller.exit()
        }
    }
}
