//! What a process is to trust: `ca.crt` and `ca.crl` of its directory.
//!
//! Both are edited and not written from scratch: a CA that an operator added by hand stays, and so does
//! its list. A file that already says the right thing is left alone, because running processes watch
//! it. The CAs come before the lists: a list is for a CA of the bundle or for nobody.

use time::OffsetDateTime;

use super::disk::{PUBLIC, replace_file, sync_directory};
use super::error::CertsError;
use super::facts;
use super::layout::Written;
use super::list::List;
use super::secrets;
use super::site::{Change, Leaf, Site};
use crate::identity::files::{CA_CRL, CA_CRT};

impl Site {
    /// Lets a directory trust the CAs of the moment, and not those in `unwanted` (DER).
    pub(super) fn put_bundle(
        &self,
        leaf: &Leaf,
        unwanted: &[Vec<u8>],
    ) -> Result<Option<Change>, CertsError> {
        let present = if leaf.dir.join(CA_CRT).exists() { leaf.bundle()? } else { Vec::new() };
        let mut wanted = present.clone();
        wanted.retain(|der| !unwanted.contains(der));
        for ca in self.trusted() {
            if !wanted.contains(&ca.der) && !unwanted.contains(&ca.der) {
                wanted.push(ca.der.clone());
            }
        }
        if wanted == present {
            return Ok(None);
        }
        let text: String = wanted.iter().map(|der| facts::pem("CERTIFICATE", der)).collect();
        put(leaf, CA_CRT, &text).map(Some)
    }

    /// Gives a directory the lists of the CAs in its bundle.
    pub(super) fn put_lists(&self, leaf: &Leaf) -> Result<Option<Change>, CertsError> {
        let present = leaf.lists();
        let mut wanted: Vec<List> = Vec::new();
        for der in leaf.bundle()? {
            let ours = self.trusted().into_iter().find(|ca| ca.der == der);
            if let Some(list) = ours.and_then(|ca| ca.list.as_ref()) {
                wanted.push(list.clone());
            } else if let Ok(ca) = facts::parse(&der) {
                wanted.extend(present.iter().filter(|list| list.claims(&ca)).cloned());
            }
        }
        let ders = |lists: &[List]| lists.iter().map(|l| l.der().to_vec()).collect::<Vec<_>>();
        let there = leaf.dir.join(CA_CRL).exists();
        if ders(&wanted) == ders(&present) && (there || wanted.is_empty()) {
            return Ok(None);
        }
        put(leaf, CA_CRL, &wanted.iter().map(List::pem).collect::<String>()).map(Some)
    }

    /// Sees to it that every CA has a list and everybody has the lists. What cannot be signed now is in
    /// the change's warnings.
    pub fn spread_lists(&mut self) -> Result<Vec<Change>, CertsError> {
        let now = OffsetDateTime::now_utc();
        let mut changes = Vec::new();
        for ca in self.trusted_mut() {
            let lies = std::fs::read_to_string(ca.dir.join(CA_CRL)).unwrap_or_default();
            match &ca.list {
                Some(list) if ca.astray.is_empty() => {
                    if lies != list.pem() && !says(&lies, list) {
                        replace_file(&ca.dir, CA_CRL, PUBLIC, list.pem())?;
                        let path = ca.dir.join(CA_CRL);
                        changes.push(Change::new("ca", &path, Written::Replaced));
                    }
                }
                _ => match ca.write_list(&[], now) {
                    Ok(change) => changes.push(change),
                    Err(e @ (CertsError::CannotRevoke { .. } | CertsError::KeyAway { .. })) => {
                        let mut change = Change::new("ca", &ca.dir, Written::Kept);
                        change.warnings.push(format!("there is no revocation list: {e}"));
                        changes.push(change);
                    }
                    Err(e) => return Err(e),
                },
            }
        }
        for leaf in &self.leaves {
            // One broken directory is no reason to leave the others without the list.
            match leaf.bundle() {
                Ok(_) => changes.extend(self.put_lists(leaf)?),
                Err(e) => {
                    let mut change = Change::new(&leaf.name, &leaf.dir, Written::Kept);
                    change.warnings.push(format!("it did not get the revocation lists: {e}"));
                    changes.push(change);
                }
            }
        }
        Ok(changes)
    }

    /// What every change ends with: everybody has the lists, and the manifests that are there hold what
    /// their directories hold.
    pub(super) fn spread(&mut self) -> Result<Vec<Change>, CertsError> {
        let mut changes = self.spread_lists()?;
        changes.extend(secrets::refresh(self)?);
        Ok(changes)
    }
}

/// Whether a file's text is this one list, however its lines are broken.
fn says(text: &str, list: &List) -> bool {
    super::list::lists(text.as_bytes())
        .is_ok_and(|lists| matches!(lists.as_slice(), [one] if one.der() == list.der()))
}

fn put(leaf: &Leaf, file: &str, text: &str) -> Result<Change, CertsError> {
    let path = leaf.dir.join(file);
    let written = if path.exists() { Written::Replaced } else { Written::Created };
    replace_file(&leaf.dir, file, PUBLIC, text)?;
    sync_directory(&leaf.dir)?;
    Ok(Change::new(&leaf.name, &path, written))
}
