//! Certificates and keys on disk, and everything that can be wrong with our own.
//!
//! The only user of `rustls-pemfile`. The files' names are in [`crate::identity::files`].

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::crl::{Ca, Crl, Judged};
use super::fault::utc;
use super::lists::Remark;
use crate::identity::files::{CA_CRL, CA_CRL_BYTES_MAX, CA_CRT, exposed_mode, pair};
use crate::identity::{Identity, IdentityError, Role};

/// What is wrong with our own certificates: which file, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there.
    #[error(
        "{path} is missing; make certificates with scripts/gen-certs.sh, or name their directory \
         with --certs"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}; its owner or group must be the one that runs this")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path} {fault}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what belongs there.
        fault: String,
    },
    /// Everybody on the machine can read the key.
    #[error(
        "{path} is open to everybody (mode {mode:04o}); take it away from others with \
         chmod o-rwx {path}"
    )]
    OpenKey {
        /// The key's file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Certificate and key are not a pair.
    #[error(
        "{certificate} and {key} do not belong together: the key is not that of the certificate; \
         issue both anew, or restore the pair"
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Our own certificate's time is over.
    #[error("the certificate in {path} expired on {when}; issue a new one, or set the clock right")]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// Its end.
        when: String,
    },
    /// Our own certificate's time has not come.
    #[error("the certificate in {path} is valid only from {when} on; set the clock right")]
    NotYetValid {
        /// The certificate's file.
        path: PathBuf,
        /// Its beginning.
        when: String,
    },
    /// Our own certificate has no usable URI name.
    #[error("{path}: {source}; issue one with cltraft certs issue")]
    Identity {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with its names.
        source: IdentityError,
    },
    /// Our own certificate is for somebody else.
    #[error("the certificate in {path} is for {found}, not for node {seat}; mount that seat's")]
    WrongSeat {
        /// The certificate's file.
        path: PathBuf,
        /// Whom it is for.
        found: Box<Identity>,
        /// The seat that was asked for.
        seat: String,
    },
    /// New files are for another identity than the one this process runs under.
    #[error("the certificate in {path} is for {found}, but this process runs as {own}")]
    IdentityChanged {
        /// The certificate's file.
        path: PathBuf,
        /// Whom it is for.
        found: Box<Identity>,
        /// Who runs.
        own: Box<Identity>,
    },
    /// New files would leave our own certificate outside of what they say is trusted.
    #[error(
        "the certificate in {path} is not acceptable by {ca}: {fault}; a CA leaves the bundle only \
         when every certificate that it signed has been replaced"
    )]
    Untrusted {
        /// The certificate's file.
        path: PathBuf,
        /// The file of the CAs.
        ca: PathBuf,
        /// What the verification says.
        fault: String,
    },
    /// The TLS library does not take them.
    #[error("the certificate in {path} cannot be used: {fault}")]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What the library says.
        fault: String,
    },
}

/// What was read from a directory of certificates.
#[derive(Debug)]
pub struct TlsFiles {
    pub(super) ca: Vec<CertificateDer<'static>>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) identity: Identity,
    /// Seconds since 1970 after which the certificate counts as expired.
    pub(super) not_after: i64,
    pub(super) not_before: i64,
    /// For servers, for clients; both must be stated, as peers ask for it.
    usages: (bool, bool),
    /// The newest list of each CA of the bundle that has one there.
    pub(in crate::rpc) lists: Vec<Arc<Crl>>,
    /// Whether there is a file of lists.
    pub(super) has_lists: bool,
    /// What is to be said of the files though they are good.
    pub(super) remarks: Vec<Remark>,
    pub(super) ca_path: PathBuf,
    pub(super) crl_path: PathBuf,
    pub(super) certificate_path: PathBuf,
    pub(super) key_path: PathBuf,
}

/// The bytes of a directory's files: comparable, and not understood yet.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RawFiles {
    ca: (PathBuf, Vec<u8>),
    certificate: (PathBuf, Vec<u8>),
    key: (PathBuf, Vec<u8>),
    /// No bytes: there is no such file.
    lists: (PathBuf, Option<Vec<u8>>),
}

impl RawFiles {
    /// Reads the files; their content is not looked at.
    pub(super) fn read(directory: &Path, seat: Option<&str>) -> Result<RawFiles, TlsError> {
        let path = directory.join(CA_CRL);
        let lists = read_lists(&path)?;
        RawFiles::read_with(directory, seat, (path, lists))
    }

    fn read_with(
        directory: &Path,
        seat: Option<&str>,
        lists: (PathBuf, Option<Vec<u8>>),
    ) -> Result<RawFiles, TlsError> {
        let with_bytes = |path: PathBuf| read(&path).map(|bytes| (path, bytes));
        let (certificate, key) = pair(directory, seat);
        let ca = with_bytes(directory.join(CA_CRT))?;
        let (certificate, key) = (with_bytes(certificate)?, with_bytes(key)?);
        let unreadable = |source| TlsError::Unreadable { path: key.0.clone(), source };
        if let Some(mode) = exposed_mode(&key.0).map_err(unreadable)? {
            return Err(TlsError::OpenKey { path: key.0, mode });
        }
        Ok(RawFiles { ca, certificate, key, lists })
    }

    /// What they say.
    pub(super) fn parse(&self, seat: Option<&str>) -> Result<TlsFiles, TlsError> {
        let ca = certificates(&self.ca)?;
        let chain = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        let (lists, remarks) = revocation_lists(&self.lists, &Ca::all(&ca))?;
        let (crl_path, has_lists) = (self.lists.0.clone(), self.lists.1.is_some());
        let (ca_path, certificate_path, key_path) =
            (self.ca.0.clone(), self.certificate.0.clone(), self.key.0.clone());
        let content = |fault: String| TlsError::Content { path: certificate_path.clone(), fault };
        let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(|e| {
            content(format!("holds something that is not an X.509 certificate ({e})"))
        })?;
        let identity = Identity::of_parsed(&leaf)
            .map_err(|source| TlsError::Identity { path: certificate_path.clone(), source })?;
        let usages = leaf
            .extended_key_usage()
            .map_err(|e| content(format!("has a malformed extended key usage ({e})")))?
            .map_or((false, false), |usage| (usage.value.server_auth, usage.value.client_auth));
        let not_after = leaf.validity().not_after.timestamp();
        let not_before = leaf.validity().not_before.timestamp();
        let files = TlsFiles {
            ca,
            identity,
            not_after,
            not_before,
            usages,
            key,
            lists,
            has_lists,
            remarks,
            ca_path,
            crl_path,
            key_path,
            chain,
            certificate_path,
        };
        if let Some(seat) = seat {
            files.check_seat(seat)?;
        }
        Ok(files)
    }
}

impl TlsFiles {
    /// Reads a directory; `seat` is a node's name, none for clients and admins.
    ///
    /// # Errors
    /// [`TlsError`] names the file and the way out.
    pub fn read(directory: &Path, seat: Option<&str>) -> Result<TlsFiles, TlsError> {
        RawFiles::read(directory, seat)?.parse(seat)
    }

    /// The same without the revocation lists: for who asks only the node of its own seat, on the same
    /// machine, and should not fail where that node goes on with the lists it has.
    ///
    /// # Errors
    /// [`TlsError`] names the file and the way out.
    pub fn read_without_lists(directory: &Path, seat: Option<&str>) -> Result<TlsFiles, TlsError> {
        let none = (directory.join(CA_CRL), None);
        RawFiles::read_with(directory, seat, none)?.parse(seat)
    }

    fn check_seat(&self, seat: &str) -> Result<(), TlsError> {
        if self.identity.role() != Role::Node || self.identity.name() != seat {
            return Err(TlsError::WrongSeat {
                path: self.certificate_path.clone(),
                found: Box::new(self.identity.clone()),
                seat: seat.to_owned(),
            });
        }
        Ok(())
    }

    /// What peers would refuse about our own certificate, at `now` (seconds since 1970).
    ///
    /// # Errors
    /// [`TlsError`] names the file and the way out.
    pub fn check(&self, now: i64) -> Result<(), TlsError> {
        let path = self.certificate_path.clone();
        if now > self.not_after {
            return Err(TlsError::Expired { path, when: moment(self.not_after) });
        }
        if now < self.not_before {
            return Err(TlsError::NotYetValid { path, when: moment(self.not_before) });
        }
        let (server, client) = self.usages;
        let lacks = match self.identity.role() {
            Role::Node if !server => Some("serverAuth"),
            _ if !client => Some("clientAuth"),
            _ => None,
        };
        match lacks {
            None => Ok(()),
            Some(usage) => Err(TlsError::Content {
                path,
                fault: format!("lacks the extended key usage {usage}; issue it anew with it"),
            }),
        }
    }
}

pub(super) fn moment(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| "an impossible date".to_owned(), utc)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => TlsError::Missing { path: path.to_owned() },
        _ => TlsError::Unreadable { path: path.to_owned(), source },
    })
}

/// The revocation lists' bytes, if there is such a file.
fn read_lists(path: &Path) -> Result<Option<Vec<u8>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    let most = CA_CRL_BYTES_MAX as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > CA_CRL_BYTES_MAX {
        return Err(TlsError::Content {
            path: path.to_owned(),
            fault: format!(
                "has more than {CA_CRL_BYTES_MAX} bytes; take out the lists of dropped CAs and what is no \
                 list, and let the CAs drop revoked certificates that have expired"
            ),
        });
    }
    Ok(Some(bytes))
}

/// The newest list of each of these CAs that has one in the file. There must be lists in it, because a
/// file that was cut off is otherwise taken for one that revokes nobody.
fn revocation_lists(
    file: &(PathBuf, Option<Vec<u8>>),
    cas: &[Ca],
) -> Result<(Vec<Arc<Crl>>, Vec<Remark>), TlsError> {
    let (path, Some(text)) = file else { return Ok(Default::default()) };
    let content = |fault: String| TlsError::Content { path: path.clone(), fault };
    let found = rustls_pemfile::crls(&mut text.as_slice())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| content(format!("is not PEM: {e}")))?;
    if found.is_empty() {
        let what = if text.is_empty() { "is empty" } else { "holds no revocation list" };
        return Err(content(format!(
            "{what}; one in PEM (BEGIN X509 CRL) for each CA belongs there, or no such file"
        )));
    }
    let (mut lists, mut remarks): (Vec<Arc<Crl>>, _) = (Vec::new(), Vec::new());
    for der in found {
        match Crl::judge(&der, cas).map_err(content)? {
            Judged::Foreign(issuer) => remarks.push(Remark::mild(format!(
                "{} holds a revocation list of {issuer}, which is not in ca.crt; it is ignored",
                path.display()
            ))),
            Judged::Taken(list) => match lists.iter_mut().find(|other| other.ca == list.ca) {
                None => lists.push(Arc::new(list)),
                Some(other) if list.is_older_than(other) => {}
                Some(other) => *other = Arc::new(list),
            },
        }
    }
    Ok((lists, remarks))
}

/// Every certificate of a file; at least one.
fn certificates(file: &(PathBuf, Vec<u8>)) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (path, text) = file;
    let content = |fault: String| TlsError::Content { path: path.clone(), fault };
    let found = rustls_pemfile::certs(&mut text.as_slice())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| content(format!("is not PEM: {e}")))?;
    if found.is_empty() {
        let what = if text.is_empty() { "is empty" } else { "holds no certificate" };
        return Err(content(format!(
            "{what}; one or more in PEM (BEGIN CERTIFICATE) belong there"
        )));
    }
    Ok(found)
}

/// The key of a file.
fn private_key(file: &(PathBuf, Vec<u8>)) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (path, text) = file;
    let content = |fault: String| TlsError::Content { path: path.clone(), fault };
    match rustls_pemfile::private_key(&mut text.as_slice()) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(content(
            "holds no private key; one in PEM (BEGIN PRIVATE KEY), without a passphrase, belongs there"
                .to_owned(),
        )),
        Err(e) => Err(content(format!("is not PEM: {e}"))),
    }
}
