//! One certificate into its directory, as `init` and `issue` make them.

use std::time::Duration;

use time::OffsetDateTime;

use super::report::Report;
use crate::certs::facts::rfc3339;
use crate::certs::layout::{is_issued, leaf_dir};
use crate::certs::{Authority, CertsError, Existing, Presented, Profile, Site, Written, show};
use crate::identity::files::TLS_CRT;

/// How long `init` and `issue` wait for another run, as scripts start them side by side.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Issues one certificate into its directory, or keeps the one there and says what it lacks.
pub(super) fn make(
    site: &Site,
    authority: &Authority,
    profile: &Profile,
    existing: Existing,
) -> Result<Report, CertsError> {
    let name = profile.identity.name();
    let dir = leaf_dir(site.out(), name)?;
    let written = if existing == Existing::Keep && is_issued(&dir)? {
        Written::Kept
    } else {
        site.place(authority, profile, existing)?
    };
    let mut report = Report::new(name, &dir, written);
    let certificate = dir.join(TLS_CRT);
    for presented in show(&dir, OffsetDateTime::now_utc())? {
        if presented.path == certificate && !presented.facts.ca {
            report.not_after = rfc3339(presented.facts.not_after);
            report.warnings.extend(presented.problems.iter().cloned());
            report.warnings.extend(differences(&presented, profile));
        } else if presented.facts.ca && !site.trusts(&presented.facts) {
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
