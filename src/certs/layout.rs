//! The directories every part reads (design section 6).
//!
//! ```text
//! OUT/ca/{ca.crt, ca.crl, ca.key}                  mode 0700; the key signs, and is mounted nowhere
//! OUT/<name>/{ca.crt, ca.crl, tls.crt, tls.key}    what one process needs, and no more
//! OUT/k8s/*.yaml                                   Secret manifests, if they were asked for
//! ```
//!
//! Below `ca/`, while the CA is changed and afterwards ([`rotate`](super::rotate)):
//!
//! ```text
//! next/          the new CA: trusted, does not sign yet
//! former/        the former CA: still trusted, signs no more
//! former-<id>/   one that nobody trusts any more, set aside
//! replaced/      certificates (not keys) in whose place others were put, for who must revoke one
//! lock           held by the one run that changes anything
//! ```
//!
//! A new directory is written beside its place, synced, and renamed into it: it is there whole or
//! not at all, and of two who make it at once, one wins and the other is told. Certificates issued
//! anew over old ones are replaced file by file inside the same directory, because a running node
//! watches that directory; it keeps what it had until key and certificate fit again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::authority::{Authority, Issued};
use super::disk::{PRIVATE, PUBLIC, Wanted, create_directory, replace_file, sync_directory};
use super::error::CertsError;
use crate::identity::files::{CA_CRL, CA_CRT, TLS_CRT, TLS_KEY, exposed_mode};

/// The CA's directory inside `OUT`; therefore no seat's or client's name.
pub const CA_DIR: &str = "ca";
/// The directory of the Secret manifests inside `OUT`; no name of anybody either.
pub const SECRETS_DIR: &str = "k8s";
/// The CA's private key, in the CA's directory only.
pub const CA_KEY: &str = "ca.key";

/// What to do about a certificate that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it, and report [`Written::Kept`].
    Keep,
    /// Fail with [`CertsError::Exists`].
    Refuse,
    /// Put the new certificate and key in its place.
    Replace,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was not there, and now is.
    Created,
    /// It was there and is as it was.
    Kept,
    /// It was there; the former key and certificate are gone.
    Replaced,
}

impl Written {
    /// The word for reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Written::Created => "created",
            Written::Kept => "kept",
            Written::Replaced => "replaced",
        }
    }
}

/// The CA's directory.
#[must_use]
pub fn ca_dir(out: &Path) -> PathBuf {
    out.join(CA_DIR)
}

/// The directory of a seat, client, admin or monitor.
///
/// # Errors
/// [`CertsError::BadValue`] for `ca` and `k8s`, whose directories hold something else.
pub fn leaf_dir(out: &Path, name: &str) -> Result<PathBuf, CertsError> {
    if name == CA_DIR {
        return Err(CertsError::BadValue {
            what: "the name",
            value: name.into(),
            rule: "the CA's own directory has that name",
        });
    }
    if name == SECRETS_DIR {
        return Err(CertsError::BadValue {
            what: "the name",
            value: name.into(),
            rule: "the directory of the Secret manifests has that name",
        });
    }
    Ok(out.join(name))
}

impl Authority {
    /// Reads the CA from its directory.
    ///
    /// # Errors
    /// [`CertsError::NoAuthority`] if there is neither certificate nor key,
    /// [`CertsError::Incomplete`] if there is one of them, [`CertsError::KeyExposed`] if everybody
    /// may read the key, [`CertsError::Unreadable`] if they are not a CA's, or do not belong together.
    pub fn load(dir: &Path) -> Result<Authority, CertsError> {
        let (certificate, key) = (dir.join(CA_CRT), dir.join(CA_KEY));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (false, false) => return Err(CertsError::NoAuthority { path: dir.to_path_buf() }),
            (true, false) => {
                return Err(CertsError::Incomplete { path: dir.to_path_buf(), missing: CA_KEY });
            }
            (false, true) => {
                return Err(CertsError::Incomplete { path: dir.to_path_buf(), missing: CA_CRT });
            }
        }
        check_key_mode(&key)?;
        Authority::from_pem(&read(&certificate)?, &read(&key)?)
            .map_err(|why| CertsError::unreadable(&certificate, why))
    }

    /// Writes the CA with a first, empty list to a new directory. There is no way to overwrite one:
    /// with the key, every certificate it ever signed would be lost.
    ///
    /// # Errors
    /// [`CertsError::Exists`] if the directory is there and not empty, [`CertsError::Io`].
    pub fn save(&self, dir: &Path) -> Result<(), CertsError> {
        let key = self.key();
        let list = self.list(None, &[], OffsetDateTime::now_utc())?;
        let files = [
            (CA_CRT, PUBLIC, self.certificate()),
            (CA_CRL, PUBLIC, list.pem()),
            (CA_KEY, PRIVATE, key.as_str()),
        ];
        if create_directory(dir, 0o700, &files)? {
            Ok(())
        } else {
            Err(CertsError::Exists { path: dir.to_path_buf() })
        }
    }
}

impl Issued {
    /// Writes certificate, key and CA to their directory.
    ///
    /// # Errors
    /// [`CertsError::Exists`] as `existing` says, [`CertsError::Incomplete`] if the directory holds
    /// something else than a certificate and its key (and `existing` is not `Replace`),
    /// [`CertsError::Io`].
    pub fn save(&self, dir: &Path, existing: Existing) -> Result<Written, CertsError> {
        // The certificate comes last: a reader that sees it finds its key there.
        let mut files: Vec<Wanted<'_>> = vec![
            (CA_CRT, PUBLIC, self.ca.as_str()),
            (CA_CRL, PUBLIC, self.lists.as_str()),
            (TLS_KEY, PRIVATE, self.key.as_str()),
            (TLS_CRT, PUBLIC, self.certificate.as_str()),
        ];
        files.retain(|(name, _, content)| *name != CA_CRL || !content.is_empty());
        if create_directory(dir, 0o755, &files)? {
            return Ok(Written::Created);
        }
        match existing {
            Existing::Keep => {
                check_complete(dir)?;
                Ok(Written::Kept)
            }
            Existing::Refuse => Err(CertsError::Exists { path: dir.to_path_buf() }),
            Existing::Replace => {
                for (name, mode, content) in files {
                    replace_file(dir, name, mode, content)?;
                }
                sync_directory(dir)?;
                Ok(Written::Replaced)
            }
        }
    }
}

/// Whether a leaf's directory is there. The answer may be old by the time it is used;
/// [`Issued::save`] decides.
///
/// # Errors
/// [`CertsError::Incomplete`] if it lacks one of its files.
pub fn is_issued(dir: &Path) -> Result<bool, CertsError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(false);
            }
            check_complete(dir).map(|()| true)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(CertsError::io("read", dir)(e)),
    }
}

/// Refuses a private key that everybody may read, by the rule of [`exposed_mode`].
///
/// # Errors
/// [`CertsError::KeyExposed`], or [`CertsError::Io`] if its mode cannot be asked for.
pub fn check_key_mode(key: &Path) -> Result<(), CertsError> {
    match exposed_mode(key).map_err(CertsError::io("read", key))? {
        None => Ok(()),
        Some(mode) => Err(CertsError::KeyExposed { path: key.to_path_buf(), mode }),
    }
}

pub(super) fn read(path: &Path) -> Result<String, CertsError> {
    fs::read_to_string(path).map_err(|e| match e.kind() {
        ErrorKind::InvalidData => CertsError::unreadable(path, "is not a PEM file"),
        _ => CertsError::io("read", path)(e),
    })
}

fn check_complete(dir: &Path) -> Result<(), CertsError> {
    match [CA_CRT, TLS_CRT, TLS_KEY].into_iter().find(|name| !dir.join(name).exists()) {
        None => Ok(()),
        Some(missing) => Err(CertsError::Incomplete { path: dir.to_path_buf(), missing }),
    }
}
