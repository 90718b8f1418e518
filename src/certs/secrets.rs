//! Certificates as Kubernetes takes them: Secret manifests, for `kubectl apply`.
//!
//! ```text
//! OUT/k8s/raft-certs.yaml      ca.crt, ca.crl, and NAME.crt and NAME.key of every seat, flat
//! OUT/k8s/client-certs.yaml    ca.crt, ca.crl, tls.crt, tls.key of the client
//! OUT/k8s/admin-certs.yaml     the same of the admin
//! OUT/k8s/monitor-certs.yaml   and of the scraper of metrics
//! ```
//!
//! Whatever changes a directory brings the manifests up to date that are there ([`refresh`]).
//!
//! The replicas share one Secret, because a StatefulSet has one template for all its pods; mounted as a
//! directory, it is what a node looks for under its own seat's name
//! ([`pair`](crate::identity::files::pair)). The manifests hold keys: mode 0600 in a directory of mode
//! 0700, and never to be committed.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::disk::{PRIVATE, ensure_directory, replace_file};
use super::error::CertsError;
use super::layout::{SECRETS_DIR, Written, check_key_mode, read};
use super::site::{Change, Leaf, Site};
use crate::identity::files::{CA_CRL, CA_CRT, TLS_CRT, TLS_KEY};
use crate::identity::{Identity, Role};

/// The Secret of all replicas.
pub const REPLICAS: &str = "raft-certs";
/// The Secret of what reads and writes keys.
pub const CLIENT: &str = "client-certs";
/// The Secret of who administers the cluster.
pub const ADMIN: &str = "admin-certs";
/// The Secret of what scrapes metrics.
pub const MONITOR: &str = "monitor-certs";

/// Each Secret of one process, and the directory that it is made of.
const OF_ONE: [(&str, &str); 3] = [(CLIENT, "client"), (ADMIN, "admin"), (MONITOR, "monitor")];

/// One Secret, as it is to be.
pub struct Secret {
    name: &'static str,
    namespace: String,
    /// File names and contents.
    data: Vec<(String, String)>,
}

/// All Secrets that can be made of what there is.
///
/// # Errors
/// [`CertsError`] if something cannot be read, or a key is open to everybody.
pub fn all(site: &Site, namespace: &str) -> Result<Vec<Secret>, CertsError> {
    let names = std::iter::once(REPLICAS).chain(OF_ONE.map(|(name, _)| name));
    names.filter_map(|name| Secret::find(site, name, namespace).transpose()).collect()
}

/// Brings the manifests that are there up to date, each for its own namespace.
///
/// # Errors
/// [`CertsError::Io`] if one cannot be written.
pub fn refresh(site: &Site) -> Result<Vec<Change>, CertsError> {
    let mut changes = Vec::new();
    for name in std::iter::once(REPLICAS).chain(OF_ONE.map(|(name, _)| name)) {
        let path = path(&site.out, name);
        if !path.exists() {
            continue;
        }
        let found = namespace(&path).and_then(|namespace| Secret::find(site, name, &namespace));
        let gone = || CertsError::Refused("what it was made of is gone".into());
        match found.and_then(|secret| secret.ok_or_else(gone)) {
            Ok(secret) => match secret.save(&site.out)? {
                Written::Kept => {}
                written => changes.push(Change::new(name, &path, written)),
            },
            // What was done is not undone by a manifest that cannot follow.
            Err(e) => {
                let mut change = Change::new(name, &path, Written::Kept);
                change.warnings.push(format!("it is not up to date: {e}"));
                changes.push(change);
            }
        }
    }
    Ok(changes)
}

/// The namespace that a manifest was made for.
fn namespace(path: &Path) -> Result<String, CertsError> {
    let text = read(path)?;
    let named = text.lines().find_map(|line| line.strip_prefix("  namespace: \""));
    named.and_then(|rest| rest.strip_suffix('"')).map(str::to_owned).ok_or_else(|| {
        let why = "names no namespace; `cltraft certs init --k8s` makes it anew";
        CertsError::unreadable(path, why)
    })
}

fn path(out: &Path, name: &str) -> PathBuf {
    out.join(SECRETS_DIR).join(format!("{name}.yaml"))
}

impl Secret {
    /// The Secret of this name, of what lies in the directories; none if there is nothing for it.
    fn find(
        site: &Site,
        name: &'static str,
        namespace: &str,
    ) -> Result<Option<Secret>, CertsError> {
        let mut data = Vec::new();
        if let Some((_, owner)) = OF_ONE.iter().find(|(of_one, _)| *of_one == name) {
            let Ok(leaf) = site.leaf(owner) else { return Ok(None) };
            add_trust(&mut data, leaf)?;
            add_pair(&mut data, (TLS_CRT, TLS_KEY), leaf)?;
        } else {
            for leaf in &site.leaves {
                if leaf.read()?.facts.identity.as_ref().map(Identity::role) != Some(Role::Node) {
                    continue;
                }
                if data.is_empty() {
                    add_trust(&mut data, leaf)?;
                }
                let seat = &leaf.name;
                add_pair(&mut data, (&format!("{seat}.crt"), &format!("{seat}.key")), leaf)?;
            }
        }
        let secret = Secret { name, namespace: namespace.to_owned(), data };
        Ok(Some(secret).filter(|secret| !secret.data.is_empty()))
    }

    /// Its name in Kubernetes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where its manifest lies.
    #[must_use]
    pub fn path(&self, out: &Path) -> PathBuf {
        path(out, self.name)
    }

    /// The manifest. Names and namespaces are quoted, because YAML takes a bare `123` or `on` for
    /// something else than text.
    #[must_use]
    pub fn manifest(&self) -> String {
        let mut text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"{}\"\n  namespace: \"{}\"\n  \
             labels:\n    app.kubernetes.io/part-of: balsa\ntype: Opaque\ndata:\n",
            self.name, self.namespace
        );
        for (file, content) in &self.data {
            text.push_str(&format!("  \"{file}\": {}\n", STANDARD.encode(content)));
        }
        text
    }

    /// Writes the manifest, unless the same one is there.
    ///
    /// # Errors
    /// [`CertsError::Io`], and [`CertsError::KeyExposed`] for one that everybody may read.
    pub fn save(&self, out: &Path) -> Result<Written, CertsError> {
        let directory = out.join(SECRETS_DIR);
        if !directory.exists() {
            ensure_directory(&directory, 0o700)?;
        }
        let (path, manifest) = (self.path(out), self.manifest());
        let written = match fs::read_to_string(&path) {
            Ok(same) if same == manifest => {
                check_key_mode(&path)?;
                return Ok(Written::Kept);
            }
            Ok(_) => Written::Replaced,
            Err(_) => Written::Created,
        };
        replace_file(&directory, &format!("{}.yaml", self.name), PRIVATE, &manifest)?;
        Ok(written)
    }
}

/// The CAs, and their lists where there are any.
fn add_trust(data: &mut Vec<(String, String)>, leaf: &Leaf) -> Result<(), CertsError> {
    for file in [CA_CRT, CA_CRL] {
        let path = leaf.dir.join(file);
        if file == CA_CRT || path.exists() {
            data.push((file.to_owned(), read(&path)?));
        }
    }
    Ok(())
}

/// Certificate and key under other names.
fn add_pair(
    data: &mut Vec<(String, String)>,
    (certificate, key): (&str, &str),
    leaf: &Leaf,
) -> Result<(), CertsError> {
    let (certificate_path, key_path) = leaf.pair();
    data.push((certificate.to_owned(), read(&certificate_path)?));
    check_key_mode(&key_path)?;
    data.push((key.to_owned(), read(&key_path)?));
    Ok(())
}
