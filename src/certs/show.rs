//! Certificates as they lie on disk: each with what it says and what is wrong with it there.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use serde::Serialize;
use time::OffsetDateTime;

use super::error::CertsError;
use super::facts::{self, Facts};
use super::layout::{CA_KEY, check_key_mode, read};
use super::verify::{Purpose, verify};
use crate::identity::files::CA_CRT;
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
    for directory in entries(path)?.into_iter().filter(|entry| entry.is_dir()) {
        found.extend(show_directory(&directory, now)?);
    }
    if found.is_empty() {
        return Err(CertsError::unreadable(path, "there is no certificate (*.crt) here"));
    }
    Ok(found)
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
