//! The directories every part reads (design section 6).
//!
//! ```text
//! OUT/ca/{ca.crt, ca.key}                  mode 0700; the key signs, and is mounted nowhere
//! OUT/<name>/{ca.crt, tls.crt, tls.key}    what one process needs, and no more
//! OUT/k8s/*.yaml                           Secret manifests, if they were asked for
//! ```
//!
//! A new directory is written beside its place, synced, and renamed into it: it is there whole or
//! not at all, and of two who make it at once, one wins and the other is told. Certificates issued
//! anew over old ones are replaced file by file inside the same directory, because a running node
//! watches that directory; it keeps what it had until key and certificate fit again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::authority::{Authority, Issued};
use super::error::CertsError;
use crate::identity::files::{CA_CRT, TLS_CRT, TLS_KEY, exposed_mode};

/// The CA's directory inside `OUT`; therefore no seat's or client's name.
pub const CA_DIR: &str = "ca";
/// The directory of the Secret manifests inside `OUT`; no name of anybody either.
pub const SECRETS_DIR: &str = "k8s";
/// The CA's private key, in the CA's directory only.
pub const CA_KEY: &str = "ca.key";

pub(super) const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

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

/// The directory of a seat, client or admin.
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

    /// Writes the CA to a new directory. There is no way to overwrite one: with the key, every
    /// certificate it ever signed would be lost.
    ///
    /// # Errors
    /// [`CertsError::Exists`] if the directory is there and not empty, [`CertsError::Io`].
    pub fn save(&self, dir: &Path) -> Result<(), CertsError> {
        let key = self.key();
        let files = [(CA_CRT, PUBLIC, self.certificate()), (CA_KEY, PRIVATE, key.as_str())];
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
        let files = [
            (CA_CRT, PUBLIC, self.ca.as_str()),
            (TLS_KEY, PRIVATE, self.key.as_str()),
            (TLS_CRT, PUBLIC, self.certificate.as_str()),
        ];
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

/// Makes `dir` with all its files, or finds that there is something in its place (false).
fn create_directory(
    dir: &Path,
    mode: u32,
    files: &[(&str, u32, &str)],
) -> Result<bool, CertsError> {
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(CertsError::io("make", parent))?;
    let staging = Staging(beside(dir)?);
    DirBuilder::new().mode(mode).create(&staging.0).map_err(CertsError::io("make", &staging.0))?;
    for (name, mode, content) in files {
        write_new(&staging.0.join(name), *mode, content)?;
    }
    sync_directory(&staging.0)?;
    // Renaming a directory succeeds over nothing and over an empty directory, never over content.
    match fs::rename(&staging.0, dir) {
        Ok(()) => {
            sync_directory(parent)?;
            Ok(true)
        }
        Err(e) => match e.kind() {
            ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => Ok(false),
            _ => Err(CertsError::io("make", dir)(e)),
        },
    }
}

pub(super) fn replace_file(
    dir: &Path,
    name: &str,
    mode: u32,
    content: &str,
) -> Result<(), CertsError> {
    let path = dir.join(name);
    let staging = Staging(beside(&path)?);
    write_new(&staging.0, mode, content)?;
    fs::rename(&staging.0, &path).map_err(CertsError::io("replace", &path))
}

fn write_new(path: &Path, mode: u32, content: &str) -> Result<(), CertsError> {
    // The mode is given at creation: there is no moment at which a key could be read by others.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(CertsError::io("make", path))?;
    file.write_all(content.as_bytes()).map_err(CertsError::io("write", path))?;
    file.sync_all().map_err(CertsError::io("sync", path))
}

fn sync_directory(dir: &Path) -> Result<(), CertsError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(CertsError::io("sync", dir))
}

/// A hidden name in the same directory that nobody else uses.
fn beside(path: &Path) -> Result<PathBuf, CertsError> {
    let random =
        getrandom::u64().map_err(|e| CertsError::Generate(format!("no randomness: {e}")))?;
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    Ok(path.with_file_name(format!(".{name}.{random:016x}")))
}

/// Something half-made, removed unless it was renamed away.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        // Neither failure matters: after the rename there is nothing to remove, and after an error
        // that error is what is reported.
        let _ = fs::remove_dir_all(&self.0).or_else(|_| fs::remove_file(&self.0));
    }
}
