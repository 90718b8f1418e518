//! Certificates that were replaced and have not ended: whoever holds their keys is still believed.
//!
//! Each is kept as `OUT/ca/replaced/NAME-SERIAL.crt`, without its key, so that it can be revoked and so
//! that lists can be read with names. What has ended goes, and of one name the latest
//! [`KEPT_MAX`] stay.

use std::fs;
use std::path::PathBuf;

use time::OffsetDateTime;

use super::disk::{PUBLIC, ensure_directory, remove_file, replace_file, sync_directory};
use super::error::CertsError;
use super::facts;
use super::layout::ca_dir;
use super::site::{Leaf, Present, Site, present};

/// The directory inside the CA's.
pub(super) const REPLACED: &str = "replaced";
/// Replaced certificates that are kept of one name.
pub(super) const KEPT_MAX: usize = 20;

impl Site {
    /// Keeps the certificate that a directory holds now, if it can be read.
    pub(super) fn record(&self, leaf: &Leaf) -> Result<(), CertsError> {
        let Ok(present) = leaf.read() else { return Ok(()) };
        let dir = ca_dir(&self.out).join(REPLACED);
        if !dir.exists() {
            ensure_directory(&dir, 0o700)?;
        }
        let file = format!("{}-{}.crt", leaf.name, present.facts.serial);
        if !dir.join(&file).exists() {
            replace_file(&dir, &file, PUBLIC, &facts::pem("CERTIFICATE", &present.der))?;
        }
        self.forget(&leaf.name)?;
        sync_directory(&dir)
    }

    fn forget(&self, name: &str) -> Result<(), CertsError> {
        let now = OffsetDateTime::now_utc();
        let mut kept = self.recorded(name);
        kept.sort_by_key(|one| std::cmp::Reverse(one.facts.not_before));
        for (position, one) in kept.iter().enumerate() {
            if position >= KEPT_MAX || one.facts.not_after < now {
                remove_file(&one.path)?;
            }
        }
        Ok(())
    }

    /// The recorded certificates of a name, in the order of their files' names.
    pub(super) fn recorded(&self, name: &str) -> Vec<Present> {
        let dir = ca_dir(&self.out).join(REPLACED);
        let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
        let is_of = |path: &PathBuf| {
            let file = path.file_name().and_then(|file| file.to_str());
            let stem = file.and_then(|file| file.strip_suffix(".crt"));
            stem.and_then(|stem| stem.rsplit_once('-')).is_some_and(|(of, _)| of == name)
        };
        let mut paths: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_of).collect();
        paths.sort();
        paths.iter().filter_map(|path| present(path).ok()).collect()
    }

    /// Those of them that are still believed by somebody.
    pub(super) fn believed(&self, name: &str) -> Vec<Present> {
        let now = OffsetDateTime::now_utc();
        let believed = |one: &Present| {
            one.facts.not_after >= now
                && self.trusted().iter().any(|ca| ca.signed(&one.der))
                && self.revoked_since(one).is_none()
        };
        self.recorded(name).into_iter().filter(believed).collect()
    }
}
