//! Certificates as Kubernetes takes them: Secret manifests, for `kubectl apply`.
//!
//! ```text
//! OUT/k8s/raft-certs.yaml      ca.crt, and NAME.crt and NAME.key of every seat, flat
//! OUT/k8s/client-certs.yaml    ca.crt, tls.crt, tls.key of the client
//! OUT/k8s/admin-certs.yaml     the same of the admin
//! ```
//!
//! The replicas share one Secret, because a StatefulSet has one template for all its pods; mounted as a
//! directory, it is what a node looks for under its own seat's name ([`pair`]). The manifests hold
//! keys: mode 0600 in a directory of mode 0700, and never to be committed.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::CertsError;
use super::layout::{PRIVATE, SECRETS_DIR, Written, check_key_mode, leaf_dir, read, replace_file};
use crate::identity::files::{CA_CRT, TLS_CRT, TLS_KEY, pair};

/// The Secret of all replicas.
pub const REPLICAS: &str = "raft-certs";
/// The Secret of what reads and writes keys.
pub const CLIENT: &str = "client-certs";
/// The Secret of who administers the cluster.
pub const ADMIN: &str = "admin-certs";

/// One Secret, as it is to be.
pub struct Secret {
    name: &'static str,
    namespace: String,
    /// File names and contents.
    data: Vec<(String, String)>,
}

impl Secret {
    /// The replicas' Secret, of what lies in the seats' directories.
    ///
    /// # Errors
    /// [`CertsError`] if one of them cannot be read, or its key is open to everybody.
    pub fn of_replicas(out: &Path, namespace: &str, seats: &[&str]) -> Result<Secret, CertsError> {
        let mut data = Vec::new();
        for seat in seats {
            let directory = leaf_dir(out, seat)?;
            if data.is_empty() {
                data.push((CA_CRT.to_owned(), read(&directory.join(CA_CRT))?));
            }
            let (certificate, key) = pair(&directory, Some(seat));
            data.push((format!("{seat}.crt"), read(&certificate)?));
            check_key_mode(&key)?;
            data.push((format!("{seat}.key"), read(&key)?));
        }
        Ok(Secret { name: REPLICAS, namespace: namespace.to_owned(), data })
    }

    /// The Secret `name` of one client or admin.
    ///
    /// # Errors
    /// As [`of_replicas`](Secret::of_replicas).
    pub fn of_one(
        out: &Path,
        namespace: &str,
        name: &'static str,
        owner: &str,
    ) -> Result<Secret, CertsError> {
        let directory = leaf_dir(out, owner)?;
        check_key_mode(&directory.join(TLS_KEY))?;
        let file = |file: &str| Ok((file.to_owned(), read(&directory.join(file))?));
        let data: Result<Vec<_>, CertsError> =
            [CA_CRT, TLS_CRT, TLS_KEY].into_iter().map(file).collect();
        Ok(Secret { name, namespace: namespace.to_owned(), data: data? })
    }

    /// Its name in Kubernetes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where its manifest lies.
    #[must_use]
    pub fn path(&self, out: &Path) -> PathBuf {
        out.join(SECRETS_DIR).join(format!("{}.yaml", self.name))
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
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(CertsError::io("make", &directory)(e));
            }
            _ => {}
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
