//! Certificates and lists as they lie on disk: each with what it says and what is wrong with it there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use serde::Serialize;
use time::OffsetDateTime;

use super::error::CertsError;
use super::facts::{self, Facts, rfc3339, serialize_time};
use super::layout::{CA_DIR, CA_KEY, check_key_mode, read};
use super::list::{self, List, Revoked};
use super::record::REPLACED;
use super::site::{FORMER, NEXT, Present, present};
use super::verify::{Purpose, verify};
use crate::identity::files::{CA_CRL, CA_CRT};
use crate::identity::{Identity, Role};

/// One certificate of a file.
#[derive(Clone, Debug, Serialize)]
pub struct Presented {
    /// The file.
    pub path: PathBuf,
    /// What stands in the certificate.
    #[serde(flatten)]
    pub facts: Facts,
    /// Why it would be refused, or soon will be, or is not safe; one sentence's tail each.
    pub problems: Vec<String>,
}

/// One list of a file.
#[derive(Clone, Debug, Serialize)]
pub struct PresentedList {
    /// The file.
    pub path: PathBuf,
    /// What stands in it, apart from its entries.
    #[serde(flatten)]
    pub list: List,
    /// Its entries, with names where they are known.
    pub revoked: Vec<RevokedPerson>,
    /// Why it would not be heeded, or soon needs care; one sentence's tail each.
    pub problems: Vec<String>,
}

/// One entry of a list with what is known besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevokedPerson {
    /// The certificate's serial number, hexadecimal.
    pub serial: String,
    /// Since when.
    #[serde(serialize_with = "serialize_time")]
    pub since: OffsetDateTime,
    /// The URI name of the certificate, if it lies somewhere around.
    pub whom: Option<String>,
}

/// Reads a PEM file, a directory of one process, or a whole `OUT` with one directory for each.
///
/// In a directory each certificate is also held against the `ca.crt` and the key beside it.
///
/// # Errors
/// [`CertsError::Io`] and [`CertsError::Unreadable`]; the latter also for a directory in which there
/// is no certificate.
pub fn show(path: &Path, now: OffsetDateTime) -> Result<Vec<Presented>, CertsError> {
    if !path.is_dir() {
        return show_file(path, None, now);
    }
    let mut found = show_directory(path, now)?;
    for directory in below(path)? {
        found.extend(show_directory(&directory, now)?);
    }
    if found.is_empty() {
        return Err(CertsError::unreadable(path, "there is no certificate (*.crt) here"));
    }
    Ok(found)
}

/// Reads the lists of a file, of a directory of one process, or of a whole `OUT`.
///
/// # Errors
/// [`CertsError::Io`] and [`CertsError::Unreadable`].
pub fn show_lists(path: &Path, now: OffsetDateTime) -> Result<Vec<PresentedList>, CertsError> {
    let files = if path.is_dir() {
        let directories = std::iter::once(path.to_path_buf()).chain(below(path)?);
        directories.map(|dir| dir.join(CA_CRL)).filter(|file| file.exists()).collect()
    } else if path.extension().is_some_and(|e| e == "crl") {
        vec![path.to_path_buf()]
    } else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let whose = if files.is_empty() { BTreeMap::new() } else { known_around(path) };
    for file in files {
        let bundle = file.with_file_name(CA_CRT);
        let cas = if bundle.exists() { Some(load(&bundle)?) } else { None };
        for list in load_lists(&file)? {
            let mut problems = list.problems(now);
            problems.extend(cas.as_deref().and_then(|cas| signature_problem(&list, cas)));
            let whom = |one: &Revoked| RevokedPerson {
                serial: one.serial.clone(),
                since: one.since,
                whom: whose.get(&(list.issuer.clone(), one.serial.clone())).cloned(),
            };
            let revoked = list.revoked.iter().map(whom).collect();
            found.push(PresentedList { path: file.clone(), revoked, problems, list });
        }
    }
    Ok(found)
}

/// Why those who trust these CAs would not follow a list.
fn signature_problem(list: &List, cas: &[Vec<u8>]) -> Option<String> {
    let parsed: Vec<_> = cas.iter().filter_map(|der| facts::parse(der).ok()).collect();
    if parsed.iter().any(|ca| list.is_of(ca)) {
        return None;
    }
    Some(if parsed.iter().any(|ca| list.claims(ca)) {
        format!("was not signed by the CA of that name in the {CA_CRT} beside it")
    } else {
        format!("is of a CA that is not in the {CA_CRT} beside it, so nobody heeds it")
    })
}

/// Whose serial numbers they are, as far as certificates in the same `OUT` tell.
fn known_around(path: &Path) -> BTreeMap<(String, String), String> {
    let start = if path.is_dir() { Some(path) } else { path.parent() };
    let outs = start.into_iter().chain(start.and_then(Path::parent));
    let mut known = BTreeMap::new();
    for out in outs {
        let mut directories = vec![out.to_path_buf(), out.join(CA_DIR).join(REPLACED)];
        directories.extend(below(out).unwrap_or_default());
        for file in directories.iter().flat_map(|dir| entries(dir).unwrap_or_default()) {
            if file.extension().is_some_and(|e| e == "crt")
                && let Ok(Present { facts, .. }) = present(&file)
                && !facts.ca
            {
                let whom = facts.identity.map_or(facts.subject, |identity| identity.to_string());
                known.insert((facts.issuer, facts.serial), whom);
            }
        }
    }
    known
}

/// The directories inside one; of a CA that is being changed, both.
fn below(path: &Path) -> Result<Vec<PathBuf>, CertsError> {
    let mut found = Vec::new();
    for directory in entries(path)?.into_iter().filter(|entry| entry.is_dir()) {
        let ca = directory.file_name().is_some_and(|name| name == CA_DIR);
        found.push(directory.clone());
        if ca {
            found.extend(
                [NEXT, FORMER].map(|name| directory.join(name)).into_iter().filter(|d| d.is_dir()),
            );
        }
    }
    Ok(found)
}

fn load_lists(path: &Path) -> Result<Vec<List>, CertsError> {
    list::lists(read(path)?.as_bytes()).map_err(|why| CertsError::unreadable(path, why))
}

fn show_directory(dir: &Path, now: OffsetDateTime) -> Result<Vec<Presented>, CertsError> {
    let files = entries(dir)?;
    let is_certificate = |path: &&PathBuf| path.extension().is_some_and(|e| e == "crt");
    let bundle = dir.join(CA_CRT);
    let roots = if bundle.exists() { Some(load(&bundle)?) } else { None };
    let mut found = Vec::new();
    for file in files.iter().filter(is_certificate).filter(|file| !file.is_dir()) {
        found.extend(show_file(file, roots.as_deref(), now)?);
    }
    Ok(found)
}

fn show_file(
    path: &Path,
    roots: Option<&[Vec<u8>]>,
    now: OffsetDateTime,
) -> Result<Vec<Presented>, CertsError> {
    let chain = load(path)?;
    let mut found = Vec::new();
    for (position, der) in chain.iter().enumerate() {
        let facts = Facts::of(der, now).map_err(|why| CertsError::unreadable(path, why))?;
        let mut problems = facts.problems(now);
        problems.extend(revoked_since(path, der, &facts));
        // The first certificate of a leaf's file is the process's own; the rest are intermediates.
        if position == 0 && !facts.ca {
            problems.extend(key_problems(path, der));
            if let Some(roots) = roots {
                problems.extend(chain_problems(&chain, roots, &facts, now));
                // In a process's directory; a file by itself may be without its key.
                let key = path.with_extension("key");
                if !key.exists() {
                    problems.push(format!("its key is missing: there is no {}", key.display()));
                }
            }
        }
        if facts.ca && path.with_file_name(CA_KEY).exists() {
            problems.extend(key_problems(path, der));
        }
        found.push(Presented { path: path.to_path_buf(), facts, problems });
    }
    Ok(found)
}

/// Whether the lists beside it, or those of the CA whose records it is among, name a certificate.
fn revoked_since(path: &Path, der: &[u8], facts: &Facts) -> Option<String> {
    let beside = path.parent()?;
    let around = beside.parent().filter(|_| beside.file_name().is_some_and(|n| n == REPLACED));
    let dir = around.unwrap_or(beside);
    let (cas, lists) = (load(&dir.join(CA_CRT)).ok()?, load_lists(&dir.join(CA_CRL)).ok()?);
    let ca = cas.iter().find(|ca| facts::is_signed_by(der, ca))?;
    let ca = facts::parse(ca).ok()?;
    let since = lists.iter().filter(|list| list.is_of(&ca)).find_map(|l| l.find(&facts.serial))?;
    Some(format!("is revoked since {}", rfc3339(since.since)))
}

fn chain_problems(
    chain: &[Vec<u8>],
    roots: &[Vec<u8>],
    facts: &Facts,
    now: OffsetDateTime,
) -> Option<String> {
    let node = facts.identity.as_ref().map(Identity::role) == Some(Role::Node);
    verify(chain, roots, Purpose::Client, now)
        .and_then(|()| if node { verify(chain, roots, Purpose::Server, now) } else { Ok(()) })
        .err()
        .map(|why| format!("would be refused by who trusts the {CA_CRT} beside it: {why}"))
}

/// What is wrong with the key of the same name, if there is one.
fn key_problems(certificate: &Path, der: &[u8]) -> Vec<String> {
    let path = certificate.with_extension("key");
    if !path.exists() {
        return Vec::new();
    }
    let mut problems: Vec<_> =
        check_key_mode(&path).err().map(|e| e.to_string()).into_iter().collect();
    let judged = read(&path).and_then(|pem| {
        let key = KeyPair::from_pem(&pem)
            .map_err(|e| CertsError::unreadable(&path, format!("cannot be used: {e}")))?;
        match facts::is_key_of(&key, der) {
            Ok(true) => Ok(()),
            Ok(false) => Err(CertsError::KeyMismatch {
                key: path.clone(),
                certificate: certificate.to_path_buf(),
            }),
            Err(why) => Err(CertsError::unreadable(certificate, why)),
        }
    });
    problems.extend(judged.err().map(|e| e.to_string()));
    problems
}

fn load(path: &Path) -> Result<Vec<Vec<u8>>, CertsError> {
    facts::certificates(read(path)?.as_bytes()).map_err(|why| CertsError::unreadable(path, why))
}

/// The names in a directory, sorted; without hidden ones, which are half-made, or the versions behind
/// the links of a Secret volume.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, CertsError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(CertsError::io("read", dir))? {
        let entry = entry.map_err(CertsError::io("read", dir))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
