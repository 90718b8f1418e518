//! `cltraft certs`, apart from how the words on the command line are parsed.
//!
//! Options arrive as text where text can be wrong, and one report names everything wrong with them
//! at once (style B4.13). `init` and `issue` make, `show` reads; `renew`, `revoke` and `rotate-ca`
//! change what others use, so they end with what must happen next.

mod advice;
mod change;
mod init;
mod issue;
mod make;
mod names;
pub(crate) mod problems;
mod report;
mod show;

use std::io::{self, Write};

pub use change::{Change, ChangeOptions, Step};
pub use init::InitOptions;
pub(crate) use init::K8S_NODES;
pub use issue::IssueOptions;
pub use names::ServiceNames;
pub use show::ShowOptions;

use super::lang::Lang;
use crate::certs::CertsError;

/// Text for people, or one JSON object a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// One of the verbs with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertsCommand {
    /// Makes a CA, the seats, `client`, `admin` and `monitor`; leaves what is there.
    Init(InitOptions),
    /// Makes one certificate with an existing CA.
    Issue(IssueOptions),
    /// Prints what stands in certificates and lists, and what is wrong with them.
    Show(ShowOptions),
    /// Renews or revokes certificates, or takes a step of a change of the CA.
    Change(ChangeOptions),
}

/// Why a verb was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The options are wrong, in these ways. Nothing was done.
    #[error("{}", .0.join("\n"))]
    Usage(Vec<String>),
    /// `issue` found a certificate in its place. Nothing was done.
    #[error("{0}; --force puts a new certificate and key in its place")]
    NeedsForce(CertsError),
    /// Making, writing or reading failed.
    #[error(transparent)]
    Certs(#[from] CertsError),
    /// The report could not be printed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl Failure {
    /// The process's exit status (design section 7).
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Certs(e) if e.is_usage() => 2,
            _ => 1,
        }
    }
}

impl CertsCommand {
    /// Everything wrong with the options, a sentence each, before anything is done.
    pub(crate) fn problems(&self) -> Vec<String> {
        let judged = match self {
            CertsCommand::Init(options) => init::judge_init(options).map(drop),
            CertsCommand::Issue(options) => issue::judge_issue(options).map(drop),
            CertsCommand::Change(options) => change::judge(options),
            CertsCommand::Show(_) => Ok(()),
        };
        judged.err().unwrap_or_default()
    }
}

/// Carries out one verb and prints its report. False if what was shown has problems.
///
/// # Errors
/// [`Failure`], whose text is the whole message for a person.
pub fn run(
    command: &CertsCommand,
    output: Output,
    lang: Lang,
    to: &mut dyn Write,
) -> Result<bool, Failure> {
    match command {
        CertsCommand::Init(options) => init::init(options, output, to).map(|()| true),
        CertsCommand::Issue(options) => issue::issue(options, output, to).map(|()| true),
        CertsCommand::Show(options) => show::show_all(options, output, to),
        CertsCommand::Change(options) => change::change(options, output, lang, to).map(|()| true),
    }
}
