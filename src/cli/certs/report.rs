//! How the reports of `cltraft certs` look, as text and as JSON.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Output;
use crate::certs::facts::rfc3339;
use crate::certs::{Change, Presented, PresentedList, Written};

/// What was done about one directory.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) action: &'static str,
    /// Of a certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) not_after: String,
    pub(super) warnings: Vec<String>,
}

impl Report {
    pub(super) fn new(name: &str, path: &Path, written: Written) -> Report {
        Report {
            name: name.into(),
            path: path.into(),
            action: written.word(),
            not_after: String::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn of(change: &Change) -> Report {
        Report {
            not_after: change.not_after.map(rfc3339).unwrap_or_default(),
            warnings: change.warnings.clone(),
            ..Report::new(&change.name, &change.path, change.written)
        }
    }

    pub(super) fn print(&self, output: Output, to: &mut dyn Write) -> io::Result<()> {
        if output == Output::Json {
            return print_json(self, to);
        }
        write!(to, "{:<9}{}", self.action, self.path.display())?;
        match self.not_after.as_str() {
            "" => writeln!(to)?,
            end => writeln!(to, "  valid until {end}")?,
        }
        for warning in &self.warnings {
            writeln!(to, "         warning: {warning}")?;
        }
        Ok(())
    }
}

pub(super) fn print_json(value: &impl Serialize, to: &mut dyn Write) -> io::Result<()> {
    let line = serde_json::to_string(value).map_err(io::Error::other)?;
    writeln!(to, "{line}")
}

pub(super) fn print_text(presented: &Presented, to: &mut dyn Write) -> io::Result<()> {
    let facts = &presented.facts;
    let identity = facts.identity.as_ref().map(ToString::to_string);
    let (from, until) = (rfc3339(facts.not_before), rfc3339(facts.not_after));
    let ips: Vec<_> = facts.ips.iter().map(ToString::to_string).collect();
    let authority = match (facts.ca, facts.path_len) {
        (false, _) => String::new(),
        (true, None) => "yes".into(),
        (true, Some(length)) => format!("yes, path length {length}"),
    };
    let rows = [
        ("identity", identity.unwrap_or_default()),
        ("CA", authority),
        ("subject", facts.subject.clone()),
        ("issuer", facts.issuer.clone()),
        ("serial", facts.serial.clone()),
        ("valid", format!("{from} to {until}, {} days left", facts.days_left)),
        ("DNS", facts.dns.join(" ")),
        ("IP", ips.join(" ")),
        ("usage", [facts.key_usage.join(" "), facts.extended_key_usage.join(" ")].join(" ")),
        ("key", facts.public_key.clone()),
        ("SHA-256", facts.sha256.clone()),
    ];
    writeln!(to, "{}", presented.path.display())?;
    for (label, value) in rows.iter().filter(|(_, value)| !value.trim().is_empty()) {
        writeln!(to, "  {label:<9} {}", value.trim())?;
    }
    for problem in &presented.problems {
        writeln!(to, "  problem   {problem}")?;
    }
    Ok(())
}

pub(super) fn print_list(presented: &PresentedList, to: &mut dyn Write) -> io::Result<()> {
    let list = &presented.list;
    let number = list.number.as_ref().map(ToString::to_string).unwrap_or_default();
    let until = list.next_update.map(rfc3339).unwrap_or_default();
    writeln!(to, "{}", presented.path.display())?;
    writeln!(to, "  list of   {}", list.issuer)?;
    writeln!(to, "  number    {number}")?;
    writeln!(to, "  valid     {} to {until}", rfc3339(list.this_update))?;
    if presented.revoked.is_empty() {
        writeln!(to, "  revoked   nobody")?;
    }
    for one in &presented.revoked {
        let whom = one.whom.as_deref().unwrap_or("not known here");
        writeln!(to, "  revoked   {} since {}, {whom}", one.serial, rfc3339(one.since))?;
    }
    for problem in &presented.problems {
        writeln!(to, "  problem   {problem}")?;
    }
    Ok(())
}
