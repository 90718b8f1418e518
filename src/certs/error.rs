//! What can go wrong with certificates, each in one sentence that names the thing and the way out.

use std::io;
use std::path::{Path, PathBuf};

use crate::identity::NameError;

/// A failure to make, write or read certificates. Nothing that existed before was changed, unless
/// the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A name, number or date that cannot stand in a certificate.
    #[error("{what} {value:?} is not possible: {rule}")]
    BadValue {
        /// What the value was meant to be.
        what: &'static str,
        /// The value.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A CA that signs for one cluster was asked to sign for another.
    #[error(
        "the CA signs for cluster {ours:?}, not for {asked:?}; give that cluster its own directory"
    )]
    WrongCluster {
        /// The CA's cluster.
        ours: String,
        /// The one asked for.
        asked: String,
    },
    /// The CA's own certificate has ended.
    #[error(
        "the CA's certificate ended on {not_after}; `cltraft certs rotate-ca trust` makes a new one, \
         then come the steps reissue and drop"
    )]
    AuthorityExpired {
        /// When, RFC 3339.
        not_after: String,
    },
    /// Something is there already and must not be overwritten.
    #[error("{} is there already, and was left as it is", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// A directory holds a part of what belongs together.
    #[error("{} exists but lacks {missing}; put the file back, or move the directory away", path.display())]
    Incomplete {
        /// The directory.
        path: PathBuf,
        /// The file that is not there.
        missing: &'static str,
    },
    /// No CA where one was looked for.
    #[error("there is no CA in {}; `cltraft certs init` makes one", path.display())]
    NoAuthority {
        /// The directory.
        path: PathBuf,
    },
    /// Others than owner and group may read a private key.
    #[error("{} can be read by everybody (mode {mode:04o}); chmod o-rwx {}", path.display(), path.display())]
    KeyExposed {
        /// The key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key and a certificate that do not belong together.
    #[error("{} is not the key of {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
    /// A file that does not hold what its name says.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another run is at work.
    #[error("another cltraft certs works in {} right now; wait for its end and try again", path.display())]
    Busy {
        /// The CA's directory.
        path: PathBuf,
    },
    /// The CA's key is needed and somewhere else.
    #[error(
        "{} is not there, and without the CA's key nothing can be signed; put it back for as long as \
         this takes",
        path.display()
    )]
    KeyAway {
        /// Where the key belongs.
        path: PathBuf,
    },
    /// The CA's certificate does not let it sign revocation lists.
    #[error(
        "the CA {ca} may not sign revocation lists (it lacks the key usage cRLSign), so nobody of its \
         can be revoked; change to a CA that may, with `cltraft certs rotate-ca trust`"
    )]
    CannotRevoke {
        /// The CA's subject.
        ca: String,
    },
    /// A revocation list has as many entries as it may have.
    #[error(
        "the revocation list of {ca} is full; a new CA, with `cltraft certs rotate-ca trust`, begins \
         with an empty one"
    )]
    ListFull {
        /// The CA's subject.
        ca: String,
    },
    /// What was asked for does not fit what was found.
    #[error("{0}")]
    Refused(String),
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cryptography refused, or there was no randomness.
    #[error("cannot make the certificate: {0}")]
    Generate(String),
}

impl CertsError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CertsError {
        let path = path.to_path_buf();
        move |source| CertsError::Io { doing, path, source }
    }

    pub(super) fn unreadable(path: &Path, why: impl ToString) -> CertsError {
        CertsError::Unreadable { path: path.to_path_buf(), why: why.to_string() }
    }

    /// Whether the fault lies in what was asked for (exit status 2) and not in what was found.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, CertsError::BadValue { .. })
    }
}

impl From<NameError> for CertsError {
    fn from(error: NameError) -> CertsError {
        let NameError { what, value, rule } = error;
        CertsError::BadValue { what, value, rule }
    }
}

impl From<rcgen::Error> for CertsError {
    fn from(error: rcgen::Error) -> CertsError {
        CertsError::Generate(error.to_string())
    }
}
