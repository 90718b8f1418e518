//! `certs renew`, `revoke` and `rotate-ca`: what changes certificates that are in use.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::advice::{self, Place};
use super::report::{Report, print_json};
use super::{Failure, Output};
use crate::certs::{self, CertsError, Site, Validity, Which, Whose};
use crate::cli::lang::Lang;
use crate::identity::Identity;
use crate::identity::Role;

/// Where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeOptions {
    /// `--out`: the directory that `init` filled.
    pub out: PathBuf,
    /// What to do there.
    pub change: Change,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// New keys and certificates that say what the former ones said.
    Renew {
        /// Names, or `--all`.
        whose: Whose,
        /// `--within`: only those that end within so many days.
        within: Option<u32>,
        /// `--days`: how long the new ones are valid.
        days: u32,
    },
    /// A certificate that is not to be believed any more.
    Revoke(Which),
    /// A step of a change of the CA.
    RotateCa(Step),
}

/// The steps of a change of the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new CA, and everybody trusts both.
    Trust {
        /// `--cluster`, where neither CA nor certificates say it.
        cluster: Option<String>,
        /// `--ca-days`.
        ca_days: u32,
    },
    /// Certificates of the new CA.
    Reissue {
        /// `--days`.
        days: u32,
    },
    /// Nobody trusts the former CA any more.
    Drop,
}

pub(super) fn judge(options: &ChangeOptions) -> Result<(), Vec<String>> {
    let days = |option: &str, days: u32| {
        Validity::days(days).map(drop).map_err(|e| vec![format!("{option}: {e}")])
    };
    match &options.change {
        Change::Renew { days: wanted, .. } => days("--days", *wanted),
        Change::RotateCa(Step::Reissue { days: wanted }) => days("--days", *wanted),
        Change::RotateCa(Step::Trust { ca_days, cluster }) => {
            days("--ca-days", *ca_days)?;
            let Some(cluster) = cluster else { return Ok(()) };
            let judged = Identity::new(cluster, Role::Client, "client");
            judged.map(drop).map_err(|e| vec![format!("--cluster: {e}")])
        }
        Change::RotateCa(Step::Drop) | Change::Revoke(_) => Ok(()),
    }
}

pub(super) fn change(
    options: &ChangeOptions,
    output: Output,
    lang: Lang,
    to: &mut dyn Write,
) -> Result<(), Failure> {
    judge(options).map_err(Failure::Usage)?;
    // Two changes at once are a mistake that is better heard of than waited for.
    let mut site = Site::open(&options.out, Duration::ZERO)?;
    // JSON is the same in all languages.
    let lang = if output == Output::Json { Lang::En } else { lang };
    let place = Place::new(&options.out, lang);
    let (done, changes, next) = carry_out(&options.change, &mut site, &place)?;
    for change in &changes {
        Report::of(change).print(output, to)?;
    }
    match output {
        Output::Json => print_json(&serde_json::json!({ "done": done, "next": next }), to)?,
        Output::Text => {
            for sentence in next {
                writeln!(to, "{}", advice::indented(&sentence))?;
            }
        }
    }
    Ok(())
}

type Outcome = (&'static str, Vec<certs::Change>, Vec<String>);

fn carry_out(change: &Change, site: &mut Site, place: &Place<'_>) -> Result<Outcome, CertsError> {
    Ok(match change {
        Change::Renew { whose, within, days } => {
            let changes = site.renew(whose, *within, *days)?;
            let next = place.after_renewal(&changes);
            ("renew", changes, next)
        }
        Change::Revoke(which) => {
            let outcome = site.revoke(which)?;
            let next = place.after_revocation(&outcome);
            ("revoke", outcome.changes, next)
        }
        Change::RotateCa(Step::Trust { cluster, ca_days }) => {
            let changes = site.trust(cluster.as_deref(), *ca_days)?;
            ("trust", changes, place.after_trust())
        }
        Change::RotateCa(Step::Reissue { days }) => {
            ("reissue", site.reissue(*days)?, place.after_reissue())
        }
        Change::RotateCa(Step::Drop) => {
            let (changes, aside) = site.drop_former()?;
            ("drop", changes, place.after_drop(aside.as_deref()))
        }
    })
}
