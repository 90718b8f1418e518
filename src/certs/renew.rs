//! Renewal: a new key and a new certificate that says what the former one said.

use time::{Duration, OffsetDateTime};

use super::authority::{Authority, Profile};
use super::disk::{PRIVATE, PUBLIC, replace_file, sync_directory};
use super::error::CertsError;
use super::layout::Written;
use super::site::{Change, Leaf, Site};

/// Whose certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    All,
    /// These directories'.
    Names(Vec<String>),
}

/// What is about to be issued to whom.
pub(super) struct Planned {
    pub(super) leaf: Leaf,
    pub(super) profile: Profile,
}

impl Site {
    /// Renews certificates for `days`, all that are asked for or, with `within`, those of them that end
    /// within so many days; the others are reported as kept. Who is revoked gets a new certificate only
    /// by name: a routine must not give back what somebody took away. The CAs' lists are made anew by the
    /// same rule of dates. Nothing is done unless all can be.
    ///
    /// # Errors
    /// [`CertsError`] says what stands in the way. After one of the file system's some certificates may
    /// have been renewed; run again, the rest follow.
    pub fn renew(
        &mut self,
        whose: &Whose,
        within: Option<u32>,
        days: u32,
    ) -> Result<Vec<Change>, CertsError> {
        let now = OffsetDateTime::now_utc();
        let until = within.map(|days| now + Duration::days(i64::from(days)));
        let (planned, kept) = self.plan(whose, days, |end| until.is_none_or(|u| end <= u))?;
        let authority = self.signing.authority()?;
        let mut changes = Vec::new();
        for ca in self.trusted_mut() {
            let end = ca.list.as_ref().and_then(|list| list.next_update);
            let due = until.is_none_or(|until| end.is_none_or(|end| end <= until));
            // Of a former CA the key may be away; its list is enforced all the same.
            if due && ca.facts.signs_lists() && ca.authority().is_ok() {
                changes.push(ca.write_list(&[], now)?);
            }
        }
        changes.extend(self.reissue_all(&authority, &planned, kept)?);
        Ok(changes)
    }

    /// What is to be issued, and what is left as it is.
    fn plan(
        &self,
        whose: &Whose,
        days: u32,
        due: impl Fn(OffsetDateTime) -> bool,
    ) -> Result<(Vec<Planned>, Vec<Change>), CertsError> {
        let leaves: Vec<&Leaf> = match whose {
            Whose::All => self.leaves.iter().collect(),
            Whose::Names(names) => {
                let unknown: Vec<&str> = names
                    .iter()
                    .map(String::as_str)
                    .filter(|name| self.leaf(name).is_err())
                    .collect();
                if !unknown.is_empty() {
                    return Err(self.unknown(&unknown));
                }
                let meant = |leaf: &&Leaf| names.contains(&leaf.name);
                self.leaves.iter().filter(meant).collect()
            }
        };
        let (mut planned, mut kept) = (Vec::new(), Vec::new());
        for leaf in leaves {
            let present = leaf.read()?;
            let not_after = present.facts.not_after;
            if *whose == Whose::All && self.revoked_since(&present).is_some() {
                kept.push(left_revoked(leaf, not_after));
            } else if due(not_after) || !leaf.is_whole(&present.der) {
                let profile = Site::again(&present, days)?;
                planned.push(Planned { leaf: leaf.clone(), profile });
            } else {
                kept.push(Change::new(&leaf.name, &leaf.dir, Written::Kept).until(not_after));
            }
        }
        Ok((planned, kept))
    }

    /// Issues what is planned, and lets everybody know.
    pub(super) fn reissue_all(
        &mut self,
        authority: &Authority,
        planned: &[Planned],
        kept: Vec<Change>,
    ) -> Result<Vec<Change>, CertsError> {
        let mut changes = Vec::new();
        for one in planned {
            changes.push(self.reissue_one(authority, one)?);
        }
        changes.extend(kept);
        changes.extend(self.spread()?);
        Ok(changes)
    }

    /// Puts a new certificate in the place of a directory's present one. Trust comes first and the
    /// certificate last: until it is there, a process that reads in the middle finds a key that is not
    /// the certificate's, and keeps what it has.
    fn reissue_one(
        &self,
        authority: &Authority,
        Planned { leaf, profile }: &Planned,
    ) -> Result<Change, CertsError> {
        let issued = self.issue(authority, profile)?;
        self.record(leaf)?;
        self.put_bundle(leaf, &[])?;
        self.put_lists(leaf)?;
        let (certificate, key) = leaf.pair();
        for (path, mode, text) in
            [(key, PRIVATE, &issued.key), (certificate, PUBLIC, &issued.certificate)]
        {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            replace_file(&leaf.dir, &file, mode, text)?;
        }
        sync_directory(&leaf.dir)?;
        let made = leaf.read()?.facts.not_after;
        let mut change = Change::new(&leaf.name, &leaf.dir, Written::Replaced).until(made);
        if made == self.signing.facts.not_after {
            let tail = "it ends with its CA; `cltraft certs rotate-ca` changes the CA";
            change.warnings.push(tail.to_owned());
        }
        Ok(change)
    }
}

/// Says of a revoked certificate that it was left as it is.
pub(super) fn left_revoked(leaf: &Leaf, not_after: OffsetDateTime) -> Change {
    let mut change = Change::new(&leaf.name, &leaf.dir, Written::Kept).until(not_after);
    change.warnings.push(format!(
        "it is revoked, and was left out; `cltraft certs renew {}` gives it a new certificate, or remove \
         its directory",
        leaf.name
    ));
    change
}
