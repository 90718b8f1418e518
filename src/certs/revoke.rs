//! Revocation: a certificate that is not to be believed any more, before its end.

use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::error::CertsError;
use super::facts::rfc3339;
use super::list::Revoked;
use super::site::{Change, Present, Site, present};

/// Which certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one in the directory of this name.
    Of(String),
    /// The first of a file.
    File(PathBuf),
}

/// What came of it.
#[derive(Debug)]
pub struct Revocation {
    /// Whom the certificate was for: its URI name, or its subject if it has none.
    pub whom: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Since when it is revoked: from just now, or already before.
    pub since: OffsetDateTime,
    /// Whether it was revoked already.
    pub before: bool,
    /// Whether it is the one that the directory of that name holds now.
    pub present: bool,
    /// Replaced certificates for the same that are still believed.
    pub others: Vec<PathBuf>,
    /// What was written.
    pub changes: Vec<Change>,
}

impl Site {
    /// Puts a certificate on its CA's list, and the list into every directory.
    ///
    /// # Errors
    /// [`CertsError`] says why it cannot be, or need not be, revoked.
    pub fn revoke(&mut self, which: &Which) -> Result<Revocation, CertsError> {
        let now = OffsetDateTime::now_utc();
        let found = match which {
            Which::Of(name) => self.leaf(name)?.read()?,
            Which::File(path) => present(path)?,
        };
        self.judge(&found, now)?;
        let Present { der, facts, .. } = &found;
        // Judged just now: one of them did.
        let Some(owner) = self.trusted_mut().find(|ca| ca.signed(der)) else {
            return Err(self.stranger(&found));
        };
        let known = owner.list.as_ref().and_then(|list| list.find(&facts.serial));
        let (since, before) = (known.map_or(now, |one| one.since), known.is_some());
        let mut changes = Vec::new();
        if !before {
            let entry = Revoked::certificate(der, now);
            let entry = entry.map_err(|why| CertsError::unreadable(&found.path, why))?;
            changes.push(owner.write_list(&[entry], now)?);
        }
        changes.extend(self.spread()?);
        let identity = facts.identity.as_ref();
        let name = identity.map_or("", |identity| identity.name());
        let at = self.leaf(name).ok().and_then(|leaf| leaf.read().ok());
        Ok(Revocation {
            whom: identity.map_or_else(|| facts.subject.clone(), ToString::to_string),
            serial: facts.serial.clone(),
            since,
            before,
            present: at.is_some_and(|at| at.der == *der),
            others: self.believed(name).into_iter().map(|one| one.path).collect(),
            changes,
        })
    }

    fn judge(&self, found: &Present, now: OffsetDateTime) -> Result<(), CertsError> {
        let path = found.path.display();
        if found.facts.ca {
            return Err(CertsError::Refused(format!(
                "{path} is a CA's certificate; a CA is not revoked but changed, with `cltraft certs \
                 rotate-ca trust`"
            )));
        }
        if !self.trusted().iter().any(|ca| ca.signed(&found.der)) {
            return Err(self.stranger(found));
        }
        if found.facts.not_after < now {
            return Err(CertsError::Refused(format!(
                "{path} ended on {}: everybody refuses it already",
                rfc3339(found.facts.not_after)
            )));
        }
        Ok(())
    }

    fn stranger(&self, found: &Present) -> CertsError {
        let path: &Path = &found.path;
        let of_former = self.aside.iter().any(|ca| ca.signed(&found.der));
        CertsError::Refused(if of_former {
            format!(
                "{} was signed by a former CA that nobody trusts any more: everybody refuses it \
                 already",
                path.display()
            )
        } else {
            format!(
                "{} was not signed by the CA in {} but by {}; it can be revoked only there",
                path.display(),
                self.signing.dir.display(),
                found.facts.issuer
            )
        })
    }
}
