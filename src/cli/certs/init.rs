//! `certs init`: a CA and a first set.

use std::io::Write;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::make::{PATIENCE, make};
use super::names::ServiceNames;
use super::problems::Problems;
use super::report::Report;
use super::{Failure, Output};
use crate::certs::facts::rfc3339;
use crate::certs::layout::{CA_KEY, SECRETS_DIR, ca_dir};
use crate::certs::{Authority, CertsError, Existing, Profile, Site, Validity, Written, secrets};
use crate::identity::files::CA_CRT;
use crate::identity::{Identity, Role};

/// Options of `init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitOptions {
    /// `--out`: where the directories are made.
    pub out: PathBuf,
    /// `--cluster`.
    pub cluster: String,
    /// `--nodes`: seats `raft-0` to `raft-(N-1)`.
    pub nodes: u32,
    /// `--dns`: further DNS names of every node.
    pub dns: Vec<String>,
    /// `--ip`: further IP addresses of every node.
    pub ips: Vec<String>,
    /// `--namespace`, `--service`, `--client-service`.
    pub names: ServiceNames,
    /// `--days`: validity of nodes, client, admin and monitor.
    pub days: u32,
    /// `--ca-days`: validity of the CA.
    pub ca_days: u32,
    /// `--force`: issue all certificates anew. The CA is never replaced.
    pub force: bool,
    /// `--k8s`: write Secret manifests besides.
    pub k8s: bool,
}

/// Seats with `--k8s` unless `--nodes` says otherwise, so that scaling needs no new Secret.
pub(crate) const K8S_NODES: u32 = 7;

impl Default for InitOptions {
    fn default() -> InitOptions {
        InitOptions {
            out: "certs/generated".into(),
            cluster: "balsa".into(),
            nodes: 3,
            dns: Vec::new(),
            ips: Vec::new(),
            names: ServiceNames::default(),
            days: Validity::LEAF_DAYS,
            ca_days: Validity::CA_DAYS,
            force: false,
            k8s: false,
        }
    }
}

/// The CA's validity, and what each certificate is to say.
pub(super) fn judge_init(options: &InitOptions) -> Result<(Validity, Vec<Profile>), Vec<String>> {
    let mut problems = Problems::default();
    let cluster = options.cluster.as_str();
    let nodes = problems.count(options.nodes);
    let leaf = problems.of("--days", Validity::days(options.days));
    let ca_validity = problems.of("--ca-days", Validity::days(options.ca_days));
    let ips = problems.ips(&options.ips);
    problems.dns(&options.dns);
    let mut wanted: Vec<_> =
        (0..nodes).map(|ordinal| (Role::Node, format!("raft-{ordinal}"))).collect();
    for role in [Role::Client, Role::Admin, Role::Monitor] {
        wanted.push((role, role.word().to_owned()));
    }
    let mut profiles = Vec::new();
    // The names of all nodes are formed from these, so they are judged once for all.
    problems.names(&options.names);
    problems.of("--cluster", Identity::new(cluster, Role::Client, "client"));
    for (role, name) in wanted {
        let identity = Identity::new(cluster, role, &name).ok();
        let (dns, ips) = match role {
            Role::Node => options.names.with_defaults(&name, &options.dns, &ips),
            _ => (Vec::new(), Vec::new()),
        };
        if let (Some(identity), Some(validity)) = (identity, leaf) {
            profiles.push(Profile { identity, dns, ips, validity });
        }
    }
    problems.settle(ca_validity.map(|validity| (validity, profiles)))
}

pub(super) fn init(
    options: &InitOptions,
    output: Output,
    to: &mut dyn Write,
) -> Result<(), Failure> {
    let (ca_validity, profiles) = judge_init(options).map_err(Failure::Usage)?;
    let cluster = options.cluster.as_str();
    let dir = ca_dir(&options.out);
    // Under the lock, and after a change of the CA that was cut off has been finished: between the two
    // renames of one, certificate and key are of two CAs.
    let opened = match dir.join(CA_CRT).exists() && dir.join(CA_KEY).exists() {
        true => Some(Site::open(&options.out, PATIENCE)?),
        false => None,
    };
    let (authority, written) = open_authority(&options.out, cluster, ca_validity)?;
    let mut site = match opened {
        Some(site) => site,
        None => Site::open(&options.out, PATIENCE)?,
    };
    let mut ca_report = Report::new("ca", &dir, written);
    ca_report.not_after = rfc3339(authority.facts().not_after);
    ca_report.warnings = authority.facts().problems(OffsetDateTime::now_utc());
    ca_report.print(output, to)?;
    // Before CAs had lists there were none; directories that are kept get them, too.
    let lists = site.spread_lists()?;
    let authority = site.authority()?;
    let existing = if options.force { Existing::Replace } else { Existing::Keep };
    for profile in &profiles {
        make(&site, &authority, profile, existing)?.print(output, to)?;
    }
    for change in &lists {
        Report::of(change).print(output, to)?;
    }
    site.reread()?;
    save_secrets(options, &site, output, to)?;
    if output == Output::Text {
        let key = ca_dir(&options.out).join(CA_KEY);
        writeln!(to, "{} signs new certificates: keep it off the cluster.", key.display())?;
    }
    Ok(())
}

/// The Secrets of all there is: asked for, or those that are there already.
fn save_secrets(
    options: &InitOptions,
    site: &Site,
    output: Output,
    to: &mut dyn Write,
) -> Result<(), Failure> {
    if !options.k8s {
        for change in secrets::refresh(site)? {
            Report::of(&change).print(output, to)?;
        }
        return Ok(());
    }
    for secret in secrets::all(site, &options.names.namespace)? {
        let written = secret.save(&options.out)?;
        Report::new(secret.name(), &secret.path(&options.out), written).print(output, to)?;
    }
    if output == Output::Text {
        let directory = options.out.join(SECRETS_DIR);
        writeln!(
            to,
            "kubectl apply -f {}   # they hold keys: never commit them",
            directory.display()
        )?;
    }
    Ok(())
}

/// The CA of `out`, made if there is none.
fn open_authority(
    out: &Path,
    cluster: &str,
    validity: Validity,
) -> Result<(Authority, Written), CertsError> {
    let dir = ca_dir(out);
    let (authority, written) = match Authority::load(&dir) {
        Err(CertsError::NoAuthority { .. }) => {
            let authority = Authority::create(cluster, validity)?;
            match authority.save(&dir) {
                Ok(()) => (authority, Written::Created),
                // Somebody made one in this moment, or something else lies in its place.
                Err(exists @ CertsError::Exists { .. }) => match Authority::load(&dir) {
                    Err(CertsError::NoAuthority { .. }) => return Err(exists),
                    found => (found?, Written::Kept),
                },
                Err(e) => return Err(e),
            }
        }
        found => (found?, Written::Kept),
    };
    match authority.cluster() {
        Some(ours) if ours != cluster => {
            Err(CertsError::WrongCluster { ours: ours.into(), asked: cluster.into() })
        }
        _ => Ok((authority, written)),
    }
}
