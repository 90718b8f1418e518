//! Everything below `OUT` as one thing, under its lock: the CAs of the moment, their lists, and who has a
//! directory.
//!
//! What is there says how far a change of the CA has come ([`Stage`]); there is no other record of it. A
//! run that was cut off in the middle leaves a state that reads as one of them, and the same command
//! run again finishes what is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::KeyPair;
use time::OffsetDateTime;

use super::authority::{self, Authority, Issued, Profile, Validity};
use super::disk::{self, PRIVATE, PUBLIC, replace_file, sync_directory};
use super::error::CertsError;
use super::facts::{self, Facts};
use super::layout::{CA_DIR, CA_KEY, Existing, SECRETS_DIR, Written, ca_dir, leaf_dir, read};
use super::list::{self, List, Revoked};
use super::lock::Lock;
use super::record::REPLACED;
use crate::identity::files::{CA_CRL, CA_CRT, pair};

/// The new CA, in the CA's directory, before it signs.
pub(super) const NEXT: &str = "next";
/// The former CA, in the CA's directory, while it is still trusted.
pub(super) const FORMER: &str = "former";
/// What the names of former CAs that nobody trusts any more begin with.
pub(super) const ASIDE: &str = "former-";

/// How far a change of the CA has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// One CA; no change is under way.
    One,
    /// A new CA is trusted besides and does not sign yet.
    Trusting,
    /// The new CA signs; the former one is trusted besides.
    Reissuing,
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whom it concerns: a directory's name, or `ca`.
    pub name: String,
    /// The directory or file.
    pub path: PathBuf,
    /// What.
    pub written: Written,
    /// The end of the certificate or list.
    pub not_after: Option<OffsetDateTime>,
    /// What is not as it should be, a sentence's tail each.
    pub warnings: Vec<String>,
}

/// A CA as it lies in its directory, with its list; the key may be kept somewhere else.
pub(super) struct Ca {
    pub(super) dir: PathBuf,
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
    pub(super) facts: Facts,
    /// The newest list that it signed, wherever below `OUT` that lies.
    pub(super) list: Option<List>,
    /// Entries of other lists that it signed, which are missing in the newest.
    pub(super) astray: Vec<Revoked>,
}

/// A directory of one process.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) dir: PathBuf,
}

/// A leaf's certificate.
pub(super) struct Present {
    pub(super) path: PathBuf,
    pub(super) der: Vec<u8>,
    pub(super) facts: Facts,
}

/// `OUT`, locked.
pub struct Site {
    pub(super) out: PathBuf,
    pub(super) stage: Stage,
    pub(super) signing: Ca,
    /// The one trusted besides, while the CA is changed.
    pub(super) other: Option<Ca>,
    /// Former CAs that were dropped.
    pub(super) aside: Vec<Ca>,
    pub(super) leaves: Vec<Leaf>,
    lock: Option<Lock>,
}

impl Change {
    pub(super) fn new(name: &str, path: &Path, written: Written) -> Change {
        let (name, path) = (name.to_owned(), path.to_path_buf());
        Change { name, path, written, not_after: None, warnings: Vec::new() }
    }

    pub(super) fn until(mut self, not_after: OffsetDateTime) -> Change {
        self.not_after = Some(not_after);
        self
    }
}

impl Ca {
    fn load(dir: &Path) -> Result<Ca, CertsError> {
        let path = dir.join(CA_CRT);
        let pem = read(&path)?;
        let (der, facts) =
            authority::read_ca(&pem).map_err(|why| CertsError::unreadable(&path, why))?;
        let dir = dir.to_path_buf();
        Ok(Ca { dir, pem, der, facts, list: None, astray: Vec::new() })
    }

    /// Looks for its list among all there are; the newest counts, and nobody revoked by any is lost.
    fn find_list(&mut self, all: &[List]) -> Result<(), CertsError> {
        let ca = facts::parse(&self.der).map_err(CertsError::Generate)?;
        let own: Vec<&List> = all.iter().filter(|list| list.is_of(&ca)).collect();
        self.list = own.iter().copied().max_by(|a, b| a.age().cmp(&b.age())).cloned();
        for one in own.iter().flat_map(|list| &list.revoked) {
            let known = |among: &[Revoked]| among.iter().any(|other| other.serial == one.serial);
            if !known(&self.astray) && !self.list.as_ref().is_some_and(|l| known(&l.revoked)) {
                self.astray.push(one.clone());
            }
        }
        Ok(())
    }

    /// The CA with its key.
    ///
    /// # Errors
    /// [`CertsError::KeyAway`], and those of [`Authority::load`].
    pub(super) fn authority(&self) -> Result<Authority, CertsError> {
        let key = self.dir.join(CA_KEY);
        if !key.exists() {
            return Err(CertsError::KeyAway { path: key });
        }
        Authority::load(&self.dir)
    }

    /// Whether it signed a certificate, DER.
    pub(super) fn signed(&self, der: &[u8]) -> bool {
        facts::is_signed_by(der, &self.der)
    }

    /// Makes the next list, with `more` on it, and puts it beside the CA.
    pub(super) fn write_list(
        &mut self,
        more: &[Revoked],
        now: OffsetDateTime,
    ) -> Result<Change, CertsError> {
        let more = [self.astray.as_slice(), more].concat();
        let made = self.authority()?.list(self.list.as_ref(), &more, now)?;
        let path = self.dir.join(CA_CRL);
        let written = if path.exists() { Written::Replaced } else { Written::Created };
        replace_file(&self.dir, CA_CRL, PUBLIC, made.pem())?;
        sync_directory(&self.dir)?;
        let mut change = Change::new("ca", &path, written);
        change.not_after = made.next_update;
        self.list = Some(made);
        self.astray.clear();
        Ok(change)
    }
}

impl Leaf {
    /// The files of certificate and key.
    pub(super) fn pair(&self) -> (PathBuf, PathBuf) {
        pair(&self.dir, Some(&self.name))
    }

    /// Its certificate.
    pub(super) fn read(&self) -> Result<Present, CertsError> {
        present(&self.pair().0)
    }

    /// Whether the key is the one of the certificate; a run that was cut off may have replaced only one.
    pub(super) fn is_whole(&self, der: &[u8]) -> bool {
        let key = fs::read_to_string(self.pair().1).ok();
        let key = key.and_then(|pem| KeyPair::from_pem(&pem).ok());
        key.is_some_and(|key| facts::is_key_of(&key, der).unwrap_or(false))
    }

    /// The CAs it trusts, DER.
    pub(super) fn bundle(&self) -> Result<Vec<Vec<u8>>, CertsError> {
        let path = self.dir.join(CA_CRT);
        facts::certificates(read(&path)?.as_bytes())
            .map_err(|why| CertsError::unreadable(&path, why))
    }

    /// Its lists; one that cannot be read is none.
    pub(super) fn lists(&self) -> Vec<List> {
        fs::read(self.dir.join(CA_CRL))
            .map_or_else(|_| Vec::new(), |text| list::lists(&text).unwrap_or_default())
    }
}

/// The first certificate of a file.
pub(super) fn present(path: &Path) -> Result<Present, CertsError> {
    let unreadable = |why| CertsError::unreadable(path, why);
    let mut ders = facts::certificates(read(path)?.as_bytes()).map_err(unreadable)?;
    let der = ders.swap_remove(0);
    let facts = Facts::of(&der, OffsetDateTime::now_utc()).map_err(unreadable)?;
    Ok(Present { path: path.to_path_buf(), der, facts })
}

impl Site {
    /// Takes the lock, waiting at most `patience` for it, and reads what is there.
    ///
    /// # Errors
    /// [`CertsError::NoAuthority`], [`CertsError::Busy`], and what is wrong with the CAs' files.
    pub fn open(out: &Path, patience: Duration) -> Result<Site, CertsError> {
        let dir = ca_dir(out);
        if !dir.join(CA_CRT).exists() && !dir.join(CA_KEY).exists() {
            return Err(CertsError::NoAuthority { path: dir });
        }
        let lock = Lock::take(&dir, patience)?;
        finish_promotion(&dir)?;
        let mut site = Site::read(out)?;
        let leaves = site.leaves.iter().map(|leaf| leaf.dir.clone());
        for dir in leaves.chain([out.join(SECRETS_DIR), dir.join(REPLACED), dir, out.to_path_buf()])
        {
            disk::sweep(&dir)?;
        }
        site.lock = Some(lock);
        Ok(site)
    }

    /// Reads again what was changed, under the same lock.
    ///
    /// # Errors
    /// Those of [`Site::open`].
    pub fn reread(&mut self) -> Result<(), CertsError> {
        let fresh = Site::read(&self.out)?;
        *self = Site { lock: self.lock.take(), ..fresh };
        Ok(())
    }

    fn read(out: &Path) -> Result<Site, CertsError> {
        let dir = ca_dir(out);
        let mut signing = Ca::load(&dir)?;
        let (next, former) = (dir.join(NEXT), dir.join(FORMER));
        let (stage, mut other) = if next.exists() {
            (Stage::Trusting, Some(Ca::load(&next)?))
        } else if former.exists() {
            (Stage::Reissuing, Some(Ca::load(&former)?))
        } else {
            (Stage::One, None)
        };
        let leaves = leaves(out)?;
        let mut lists = Vec::new();
        for ca in [Some(&signing), other.as_ref()].into_iter().flatten() {
            let path = ca.dir.join(CA_CRL);
            if path.exists() {
                let found = list::lists(read(&path)?.as_bytes());
                lists.extend(found.map_err(|why| {
                    let way = "remove it, and what stood in it comes from the copies";
                    CertsError::unreadable(&path, format!("{why}; {way}"))
                })?);
            }
        }
        for list in leaves.iter().flat_map(Leaf::lists) {
            if !lists.iter().any(|known| known.der() == list.der()) {
                lists.push(list);
            }
        }
        signing.find_list(&lists)?;
        if let Some(other) = &mut other {
            other.find_list(&lists)?;
        }
        let aside = aside(&dir)?;
        Ok(Site { out: out.to_path_buf(), stage, signing, other, aside, leaves, lock: None })
    }

    /// `OUT`.
    #[must_use]
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Whether this is a CA to trust at the moment.
    #[must_use]
    pub fn trusts(&self, ca: &Facts) -> bool {
        self.trusted().iter().any(|one| one.facts.sha256 == ca.sha256)
    }

    /// How far a change of the CA has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The CAs to trust, the oldest first: a bundle only ever grows at its end and shrinks at its
    /// beginning.
    pub(super) fn trusted(&self) -> Vec<&Ca> {
        match (self.stage, &self.other) {
            (Stage::Reissuing, Some(former)) => vec![former, &self.signing],
            (_, other) => std::iter::once(&self.signing).chain(other).collect(),
        }
    }

    pub(super) fn trusted_mut(&mut self) -> impl Iterator<Item = &mut Ca> {
        std::iter::once(&mut self.signing).chain(&mut self.other)
    }

    /// Since when a certificate is revoked; also one of a CA that was dropped meanwhile.
    pub(super) fn revoked_since(&self, present: &Present) -> Option<OffsetDateTime> {
        let mut cas = self.trusted().into_iter().chain(&self.aside);
        let ca = cas.find(|ca| ca.signed(&present.der))?;
        ca.list.as_ref()?.find(&present.facts.serial).map(|one| one.since)
    }

    /// The directory of this name.
    pub(super) fn leaf(&self, name: &str) -> Result<&Leaf, CertsError> {
        self.leaves.iter().find(|leaf| leaf.name == name).ok_or_else(|| self.unknown(&[name]))
    }

    /// Says who there is instead.
    pub(super) fn unknown(&self, names: &[&str]) -> CertsError {
        let known: Vec<&str> = self.leaves.iter().map(|leaf| leaf.name.as_str()).collect();
        CertsError::Refused(format!(
            "there is nobody called {} in {}; there are: {}",
            names.join(", "),
            self.out.display(),
            if known.is_empty() { "none".to_owned() } else { known.join(", ") },
        ))
    }

    /// The cluster: the CA's, or the one that all certificates are of.
    pub(super) fn cluster(&self) -> Option<String> {
        let of = |leaf: &Leaf| {
            let identity = leaf.read().ok()?.facts.identity?;
            Some(identity.cluster().to_owned())
        };
        authority::cluster_of(&self.signing.facts).or_else(|| {
            let mut clusters: Vec<String> = self.leaves.iter().filter_map(of).collect();
            clusters.sort();
            clusters.dedup();
            if clusters.len() == 1 { clusters.pop() } else { None }
        })
    }

    /// A certificate by the CA that signs, with what is to be trusted beside it.
    pub(super) fn issue(
        &self,
        authority: &Authority,
        profile: &Profile,
    ) -> Result<Issued, CertsError> {
        let mut issued = authority.issue(profile)?;
        issued.ca = self.trusted().iter().map(|ca| ca.pem.as_str()).collect();
        let lists = self.trusted().into_iter().filter_map(|ca| ca.list.as_ref());
        issued.lists = lists.map(List::pem).collect();
        Ok(issued)
    }

    /// Issues into a new directory, or over one as `existing` says.
    ///
    /// # Errors
    /// Those of [`Authority::issue`] and [`Issued::save`].
    pub fn place(
        &self,
        authority: &Authority,
        profile: &Profile,
        existing: Existing,
    ) -> Result<Written, CertsError> {
        let name = profile.identity.name();
        let dir = leaf_dir(&self.out, name)?;
        let issued = self.issue(authority, profile)?;
        if let (Existing::Replace, Ok(leaf)) = (existing, self.leaf(name)) {
            self.record(leaf)?;
        }
        issued.save(&dir, existing)
    }

    /// The CA that signs, with its key.
    ///
    /// # Errors
    /// [`CertsError::KeyAway`], and those of [`Authority::load`].
    pub fn authority(&self) -> Result<Authority, CertsError> {
        self.signing.authority()
    }

    /// What a certificate said, to be said again from now on.
    pub(super) fn again(present: &Present, days: u32) -> Result<Profile, CertsError> {
        let facts = &present.facts;
        let Some(identity) = facts.identity.clone() else {
            let why = "has not the one URI name balsa://<cluster>/<role>/<name> that says whom to \
                       issue it to; make it with `cltraft certs issue`";
            return Err(CertsError::unreadable(&present.path, why));
        };
        let (dns, ips) = (facts.dns.clone(), facts.ips.clone());
        Ok(Profile { identity, dns, ips, validity: Validity::days(days)? })
    }
}

/// Finishes what [`promote`] began.
fn finish_promotion(ca_dir: &Path) -> Result<(), CertsError> {
    let (next, former) = (ca_dir.join(NEXT), ca_dir.join(FORMER));
    if next.exists() && former.exists() { promote(ca_dir) } else { Ok(()) }
}

/// Lets the next CA sign, and keeps the former one. Until the next one's own directory goes, both lie
/// whole in theirs, whatever of the CA's own files has been replaced.
pub(super) fn promote(ca_dir: &Path) -> Result<(), CertsError> {
    const FILES: [(&str, u32); 3] = [(CA_KEY, PRIVATE), (CA_CRL, PUBLIC), (CA_CRT, PUBLIC)];
    let (next, former) = (ca_dir.join(NEXT), ca_dir.join(FORMER));
    if !former.exists() {
        // The key may be kept somewhere else.
        let mut files = Vec::new();
        for (name, mode) in FILES {
            let path = ca_dir.join(name);
            if path.exists() {
                files.push((name, mode, read(&path)?));
            }
        }
        let files: Vec<_> =
            files.iter().map(|(name, mode, text)| (*name, *mode, text.as_str())).collect();
        disk::create_directory(&former, 0o700, &files)?;
    }
    for (name, mode) in FILES {
        replace_file(ca_dir, name, mode, &read(&next.join(name))?)?;
    }
    sync_directory(ca_dir)?;
    disk::remove_directory(&next)?;
    sync_directory(ca_dir)
}

/// The directories of processes, raft-2 before raft-10.
fn leaves(out: &Path) -> Result<Vec<Leaf>, CertsError> {
    let mut leaves = Vec::new();
    for entry in fs::read_dir(out).map_err(CertsError::io("read", out))? {
        let dir = entry.map_err(CertsError::io("read", out))?.path();
        let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { continue };
        let leaf = Leaf { name: name.to_owned(), dir: dir.clone() };
        let reserved = name.starts_with('.') || name == CA_DIR || name == SECRETS_DIR;
        let (certificate, key) = leaf.pair();
        if !reserved && (certificate.exists() || key.exists()) {
            leaves.push(leaf);
        }
    }
    leaves.sort_by(|a, b| {
        (stem(&a.name), a.name.len(), &a.name).cmp(&(stem(&b.name), b.name.len(), &b.name))
    });
    Ok(leaves)
}

/// A name without the number at its end.
fn stem(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// The former CAs that were dropped, each with the list beside it. One that cannot be read is of no use to
/// anybody, and no reason to do nothing.
fn aside(ca_dir: &Path) -> Result<Vec<Ca>, CertsError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(ca_dir).map_err(CertsError::io("read", ca_dir))? {
        let path = entry.map_err(CertsError::io("read", ca_dir))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|name| name.starts_with(ASIDE))
            && let Ok(mut ca) = Ca::load(&path)
        {
            let text = fs::read(path.join(CA_CRL)).unwrap_or_default();
            ca.find_list(&list::lists(&text).unwrap_or_default())?;
            found.push(ca);
        }
    }
    Ok(found)
}
