//! `certs issue`: one certificate more.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use super::init::InitOptions;
use super::make::{PATIENCE, make};
use super::names::ServiceNames;
use super::problems::Problems;
use super::report::Report;
use super::{Failure, Output};
use crate::certs::layout::leaf_dir;
use crate::certs::{CertsError, Existing, Profile, Site, Validity, secrets};
use crate::identity::{Identity, Role};

/// Options of `issue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueOptions {
    /// `--out`: the directory that `init` filled.
    pub out: PathBuf,
    /// `--cluster`; by default the CA's.
    pub cluster: Option<String>,
    /// `node`, `client`, `admin` or `monitor`.
    pub role: String,
    /// The seat's, client's, admin's or monitor's name.
    pub name: String,
    /// `--dns`: further DNS names; nodes only.
    pub dns: Vec<String>,
    /// `--ip`: further IP addresses; nodes only.
    pub ips: Vec<String>,
    /// As in [`InitOptions`].
    pub names: ServiceNames,
    /// `--days`.
    pub days: u32,
    /// `--force`: put it in the place of one that is there.
    pub force: bool,
}

impl IssueOptions {
    /// The defaults, for one role and name.
    #[must_use]
    pub fn new(role: &str, name: &str) -> IssueOptions {
        let init = InitOptions::default();
        IssueOptions {
            out: init.out,
            cluster: None,
            role: role.into(),
            name: name.into(),
            dns: Vec::new(),
            ips: Vec::new(),
            names: init.names,
            days: init.days,
            force: false,
        }
    }
}

/// What the certificate is to say, apart from the cluster, which the CA may have to tell.
pub(super) struct Wanted {
    role: Role,
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    validity: Validity,
}

pub(super) fn judge_issue(options: &IssueOptions) -> Result<Wanted, Vec<String>> {
    let mut problems = Problems::default();
    let role: Option<Role> = problems.take(options.role.parse());
    let validity = problems.of("--days", Validity::days(options.days));
    let given = problems.ips(&options.ips);
    problems.dns(&options.dns);
    problems.names(&options.names);
    problems.take(leaf_dir(&options.out, &options.name));
    // Judged here with stand-ins, so that a bad name is reported together with the rest, and before
    // the CA is looked for.
    problems.take(Identity::new("x", Role::Client, &options.name));
    if let Some(cluster) = &options.cluster {
        problems.of("--cluster", Identity::new(cluster, Role::Client, "client"));
    }
    let (dns, ips) = match role {
        Some(Role::Node) => options.names.with_defaults(&options.name, &options.dns, &given),
        _ => (options.dns.clone(), given),
    };
    let wanted = role.zip(validity).map(|(role, validity)| Wanted { role, dns, ips, validity });
    problems.settle(wanted)
}

pub(super) fn issue(
    options: &IssueOptions,
    output: Output,
    to: &mut dyn Write,
) -> Result<(), Failure> {
    let Wanted { role, dns, ips, validity } = judge_issue(options).map_err(Failure::Usage)?;
    let mut site = Site::open(&options.out, PATIENCE)?;
    let authority = site.authority()?;
    let Some(cluster) = options.cluster.as_deref().or(authority.cluster()) else {
        return Err(Failure::Usage(vec![
            "the CA does not say which cluster it signs for; name it with --cluster".into(),
        ]));
    };
    let identity = Identity::new(cluster, role, &options.name).map_err(CertsError::from)?;
    let profile = Profile { identity, dns, ips, validity };
    let existing = if options.force { Existing::Replace } else { Existing::Refuse };
    let lists = site.spread_lists()?;
    match make(&site, &authority, &profile, existing) {
        Ok(report) => report.print(output, to)?,
        Err(e @ CertsError::Exists { .. }) => return Err(Failure::NeedsForce(e)),
        Err(e) => return Err(e.into()),
    }
    site.reread()?;
    for change in lists.into_iter().chain(secrets::refresh(&site)?) {
        Report::of(&change).print(output, to)?;
    }
    Ok(())
}
