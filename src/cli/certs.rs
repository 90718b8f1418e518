//! `cltraft certs init | issue | show`, apart from how the words on the command line are parsed.
//!
//! Options arrive as text where text can be wrong, and one report names everything wrong with them
//! at once (style B4.13).

pub(crate) mod problems;
mod report;

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use self::problems::Problems;
use self::report::{Report, print_json, print_text};
use crate::certs::facts::rfc3339;
use crate::certs::layout::{CA_KEY, SECRETS_DIR, ca_dir, is_issued, leaf_dir};
use crate::certs::secrets::{self, Secret};
use crate::certs::{Authority, CertsError, Existing, Presented, Profile, Validity, Written, show};
use crate::identity::files::TLS_CRT;
use crate::identity::{Identity, Role};

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
    /// Makes a CA, the seats, `client` and `admin`; leaves what is there.
    Init(InitOptions),
    /// Makes one certificate with an existing CA.
    Issue(IssueOptions),
    /// Prints what stands in certificates, and what is wrong with them.
    Show(ShowOptions),
}

/// Where nodes are found in Kubernetes; from this follow the DNS names in their certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNames {
    /// `--namespace`.
    pub namespace: String,
    /// `--service`: the headless Service of the replicas.
    pub service: String,
    /// `--client-service`: the Service that clients use.
    pub client_service: String,
}

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
    /// `--days`: validity of nodes, client and admin.
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

/// Options of `issue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueOptions {
    /// `--out`: the directory that `init` filled.
    pub out: PathBuf,
    /// `--cluster`; by default the CA's.
    pub cluster: Option<String>,
    /// `node`, `client` or `admin`.
    pub role: String,
    /// The seat's, client's or admin's name.
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

/// Options of `show`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShowOptions {
    /// PEM files, directories of one process, or a whole `--out`.
    pub paths: Vec<PathBuf>,
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

impl Default for ServiceNames {
    /// The names of the manifests in `k8s/` (design section 8).
    fn default() -> ServiceNames {
        ServiceNames {
            namespace: "default".into(),
            service: "raft-service".into(),
            client_service: "raft-client".into(),
        }
    }
}

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

impl CertsCommand {
    /// Everything wrong with the options, a sentence each, before anything is done.
    pub(crate) fn problems(&self) -> Vec<String> {
        let judged = match self {
            CertsCommand::Init(options) => judge_init(options).map(drop),
            CertsCommand::Issue(options) => judge_issue(options).map(drop),
            CertsCommand::Show(_) => Ok(()),
        };
        judged.err().unwrap_or_default()
    }
}

/// Carries out one verb and prints its report. False if what was shown has problems.
///
/// # Errors
/// [`Failure`], whose text is the whole message for a person.
pub fn run(command: &CertsCommand, output: Output, to: &mut dyn Write) -> Result<bool, Failure> {
    match command {
        CertsCommand::Init(options) => init(options, output, to).map(|()| true),
        CertsCommand::Issue(options) => issue(options, output, to).map(|()| true),
        CertsCommand::Show(options) => show_all(options, output, to),
    }
}

/// The CA's validity, and what each certificate is to say.
fn judge_init(options: &InitOptions) -> Result<(Validity, Vec<Profile>), Vec<String>> {
    let mut problems = Problems::default();
    let cluster = options.cluster.as_str();
    let nodes = problems.count(options.nodes);
    let leaf = problems.of("--days", Validity::days(options.days));
    let ca_validity = problems.of("--ca-days", Validity::days(options.ca_days));
    let ips = problems.ips(&options.ips);
    problems.dns(&options.dns);
    let mut wanted: Vec<_> =
        (0..nodes).map(|ordinal| (Role::Node, format!("raft-{ordinal}"))).collect();
    wanted.push((Role::Client, "client".into()));
    wanted.push((Role::Admin, "admin".into()));
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

fn init(options: &InitOptions, output: Output, to: &mut dyn Write) -> Result<(), Failure> {
    let (ca_validity, profiles) = judge_init(options).map_err(Failure::Usage)?;
    let cluster = options.cluster.as_str();
    let (authority, written) = open_authority(&options.out, cluster, ca_validity)?;
    let mut ca_report = Report::new("ca", &ca_dir(&options.out), written);
    ca_report.not_after = rfc3339(authority.facts().not_after);
    ca_report.warnings = authority.facts().problems(OffsetDateTime::now_utc());
    ca_report.print(output, to)?;
    let existing = if options.force { Existing::Replace } else { Existing::Keep };
    for profile in &profiles {
        make(&authority, profile, &options.out, existing)?.print(output, to)?;
    }
    if options.k8s {
        save_secrets(options, &profiles, output, to)?;
    }
    if output == Output::Text {
        let key = ca_dir(&options.out).join(CA_KEY);
        writeln!(to, "{} signs new certificates: keep it off the cluster.", key.display())?;
    }
    Ok(())
}

/// The Secrets of what was made or kept just now.
fn save_secrets(
    options: &InitOptions,
    profiles: &[Profile],
    output: Output,
    to: &mut dyn Write,
) -> Result<(), Failure> {
    let (out, namespace) = (options.out.as_path(), options.names.namespace.as_str());
    let nodes = profiles.iter().filter(|profile| profile.identity.role() == Role::Node);
    let seats: Vec<&str> = nodes.map(|profile| profile.identity.name()).collect();
    for secret in [
        Secret::of_replicas(out, namespace, &seats)?,
        Secret::of_one(out, namespace, secrets::CLIENT, "client")?,
        Secret::of_one(out, namespace, secrets::ADMIN, "admin")?,
    ] {
        let written = secret.save(out)?;
        Report::new(secret.name(), &secret.path(out), written).print(output, to)?;
    }
    if output == Output::Text {
        let directory = out.join(SECRETS_DIR);
        writeln!(
            to,
            "kubectl apply -f {}   # they hold keys: never commit them",
            directory.display()
        )?;
    }
    Ok(())
}

/// What the certificate is to say, apart from the cluster, which the CA may have to tell.
struct Wanted {
    role: Role,
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    validity: Validity,
}

fn judge_issue(options: &IssueOptions) -> Result<Wanted, Vec<String>> {
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

fn issue(options: &IssueOptions, output: Output, to: &mut dyn Write) -> Result<(), Failure> {
    let Wanted { role, dns, ips, validity } = judge_issue(options).map_err(Failure::Usage)?;
    let cluster = options.cluster.as_deref();
    let authority = Authority::load(&ca_dir(&options.out))?;
    let Some(cluster) = cluster.or(authority.cluster()) else {
        return Err(Failure::Usage(vec![
            "the CA does not say which cluster it signs for; name it with --cluster".into(),
        ]));
    };
    let identity = Identity::new(cluster, role, &options.name).map_err(CertsError::from)?;
    let profile = Profile { identity, dns, ips, validity };
    let existing = if options.force { Existing::Replace } else { Existing::Refuse };
    match make(&authority, &profile, &options.out, existing) {
        Ok(report) => Ok(report.print(output, to)?),
        Err(e @ CertsError::Exists { .. }) => Err(Failure::NeedsForce(e)),
        Err(e) => Err(e.into()),
    }
}

/// True if nothing is wrong with what was shown.
fn show_all(options: &ShowOptions, output: Output, to: &mut dyn Write) -> Result<bool, Failure> {
    let now = OffsetDateTime::now_utc();
    let mut fine = true;
    for path in &options.paths {
        // Each directory has its copy of the CA's certificate: one of them is shown whole.
        let mut authorities: Vec<Presented> = Vec::new();
        for presented in show(path, now)? {
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
    }
    Ok(fine)
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

/// Issues one certificate into its directory, or keeps the one there and says what it lacks.
fn make(
    authority: &Authority,
    profile: &Profile,
    out: &Path,
    existing: Existing,
) -> Result<Report, CertsError> {
    let name = profile.identity.name();
    let dir = leaf_dir(out, name)?;
    let written = if existing == Existing::Keep && is_issued(&dir)? {
        Written::Kept
    } else {
        authority.issue(profile)?.save(&dir, existing)?
    };
    let mut report = Report::new(name, &dir, written);
    let certificate = dir.join(TLS_CRT);
    for presented in show(&dir, OffsetDateTime::now_utc())? {
        if presented.path == certificate && !presented.facts.ca {
            report.not_after = rfc3339(presented.facts.not_after);
            report.warnings.extend(presented.problems.iter().cloned());
            report.warnings.extend(differences(&presented, profile));
        } else if presented.facts.ca
            && presented.facts.subject_key_id != authority.facts().subject_key_id
        {
            report.warnings.push("its ca.crt is not the CA of this directory".into());
        }
    }
    Ok(report)
}

/// What a kept certificate does not say, though it was asked for.
fn differences(presented: &Presented, profile: &Profile) -> Vec<String> {
    let facts = &presented.facts;
    let mut differences = Vec::new();
    if facts.identity.as_ref().is_some_and(|identity| *identity != profile.identity) {
        differences.push(format!("it is not for {}", profile.identity));
    }
    let missing_dns = profile.dns.iter().filter(|name| !facts.dns.contains(name));
    let missing_ips = profile.ips.iter().filter(|ip| !facts.ips.contains(ip));
    let missing: Vec<_> =
        missing_dns.cloned().chain(missing_ips.map(ToString::to_string)).collect();
    if !missing.is_empty() {
        let list = missing.join(", ");
        differences.push(format!("it lacks {list}; --force issues it anew"));
    }
    differences
}

impl ServiceNames {
    /// All a node is reached by: its pod's name in every form that resolves, both Services, and
    /// loopback for the probe and for a cluster on one machine; then what was given besides.
    fn with_defaults(
        &self,
        name: &str,
        dns: &[String],
        ips: &[IpAddr],
    ) -> (Vec<String>, Vec<IpAddr>) {
        let namespace = &self.namespace;
        let in_cluster = |host: &str| {
            [
                host.to_string(),
                format!("{host}.{namespace}"),
                format!("{host}.{namespace}.svc"),
                format!("{host}.{namespace}.svc.cluster.local"),
            ]
        };
        let mut all_dns = vec![name.to_string()];
        all_dns.extend(in_cluster(&format!("{name}.{}", self.service)));
        all_dns.extend(in_cluster(&self.service));
        all_dns.extend(in_cluster(&self.client_service));
        all_dns.push("localhost".into());
        let mut all_ips =
            vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        for name in dns {
            if !all_dns.contains(name) {
                all_dns.push(name.clone());
            }
        }
        for ip in ips {
            if !all_ips.contains(ip) {
                all_ips.push(*ip);
            }
        }
        (all_dns, all_ips)
    }
}
