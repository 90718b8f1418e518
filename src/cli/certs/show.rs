//! `certs show`: what stands in certificates and lists, and what is wrong with them.

use std::io::Write;
use std::path::PathBuf;

use time::OffsetDateTime;

use super::report::{print_json, print_list, print_text};
use super::{Failure, Output};
use crate::certs::{Presented, PresentedList, show, show_lists};

/// Options of `show`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShowOptions {
    /// PEM files, directories of one process, or a whole `--out`.
    pub paths: Vec<PathBuf>,
}

/// True if nothing is wrong with what was shown.
pub(super) fn show_all(
    options: &ShowOptions,
    output: Output,
    to: &mut dyn Write,
) -> Result<bool, Failure> {
    let now = OffsetDateTime::now_utc();
    let mut fine = true;
    for path in &options.paths {
        let lists = show_lists(path, now)?;
        // A file of lists holds no certificate.
        let found = if path.is_dir() || lists.is_empty() { show(path, now)? } else { Vec::new() };
        fine &= print_certificates(found, output, to)? & print_lists(lists, output, to)?;
    }
    Ok(fine)
}

/// Each directory has its copy of the CA's certificate: one of them is shown whole.
fn print_certificates(
    found: Vec<Presented>,
    output: Output,
    to: &mut dyn Write,
) -> Result<bool, Failure> {
    let mut fine = true;
    let mut authorities: Vec<Presented> = Vec::new();
    for presented in found {
        fine &= presented.problems.is_empty();
        let same = |other: &&Presented| {
            presented.facts.ca
                && presented.problems.is_empty()
                && other.facts.sha256 == presented.facts.sha256
        };
        match (output, authorities.iter().find(same)) {
            (Output::Json, _) => print_json(&presented, to)?,
            (Output::Text, Some(other)) => {
                let (path, other) = (presented.path.display(), other.path.display());
                writeln!(to, "{path}\n  the same as {other}")?;
            }
            (Output::Text, None) => print_text(&presented, to)?,
        }
        if presented.facts.ca {
            authorities.push(presented);
        }
    }
    Ok(fine)
}

/// And so it is with the lists.
fn print_lists(
    found: Vec<PresentedList>,
    output: Output,
    to: &mut dyn Write,
) -> Result<bool, Failure> {
    let mut fine = true;
    let mut printed: Vec<PresentedList> = Vec::new();
    for list in found {
        fine &= list.problems.is_empty();
        let same = |other: &&PresentedList| {
            (&list.list, &list.revoked, &list.problems)
                == (&other.list, &other.revoked, &other.problems)
        };
        match (output, printed.iter().find(same)) {
            (Output::Json, _) => print_json(&list, to)?,
            (Output::Text, Some(other)) => {
                let (path, other) = (list.path.display(), other.path.display());
                writeln!(to, "{path}\n  the same list as in {other}")?;
            }
            (Output::Text, None) => print_list(&list, to)?,
        }
        printed.push(list);
    }
    Ok(fine)
}
