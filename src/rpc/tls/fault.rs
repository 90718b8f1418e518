//! What is wrong with a certificate or a handshake, in a sentence that a person can act on.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};

use crate::identity::{Identity, IdentityError};
use crate::rpc::refusals::Reason;

/// What is wrong with the other side's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    UnknownCa,
    Expired { at: Option<UnixTime> },
    NotYetValid { from: Option<UnixTime> },
    WrongUsage { needed: &'static str },
    Revoked(Revocation),
    Identity(IdentityError),
    WrongCluster { own: String, found: Identity },
    NotANode { found: Identity },
    WrongNode { expected: String, found: Identity },
    WrongHost { host: String },
    Other(String),
}

/// A certificate that its CA has revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// Seconds since 1970.
    pub(super) since: i64,
    /// The name of a CA below the bundle's, if it is that one's certificate and not the leaf.
    pub(super) authority: Option<String>,
}

impl Fault {
    /// The fault that the chain's verification found; `needed` is the usage it looked for.
    pub(super) fn of_chain(error: &CertificateError, needed: &'static str) -> Fault {
        use CertificateError as E;
        match error {
            // A CA of the same name with another key is another CA.
            E::UnknownIssuer | E::BadSignature => Fault::UnknownCa,
            E::Expired => Fault::Expired { at: None },
            E::ExpiredContext { not_after, .. } => Fault::Expired { at: Some(*not_after) },
            E::NotValidYet => Fault::NotYetValid { from: None },
            E::NotValidYetContext { not_before, .. } => {
                Fault::NotYetValid { from: Some(*not_before) }
            }
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Fault::WrongUsage { needed },
            other => Fault::Other(other.to_string()),
        }
    }

    /// The word for counters.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Fault::UnknownCa => Reason::UnknownCa,
            Fault::Expired { .. } => Reason::Expired,
            Fault::NotYetValid { .. } => Reason::NotYetValid,
            Fault::WrongUsage { .. } => Reason::WrongUsage,
            Fault::Revoked(_) => Reason::Revoked,
            Fault::Identity(_) => Reason::UriName,
            Fault::WrongCluster { .. } => Reason::WrongCluster,
            Fault::NotANode { .. } | Fault::WrongNode { .. } | Fault::WrongHost { .. } => {
                Reason::WrongName
            }
            Fault::Other(_) => Reason::BadCertificate,
        }
    }

    /// The same for rustls, which chooses the alert by it. What the name is and whom we expected is
    /// not told: an alert says no more than the standard's word.
    pub(super) fn to_rustls(&self) -> Error {
        Error::InvalidCertificate(match self {
            Fault::UnknownCa => CertificateError::UnknownIssuer,
            Fault::Expired { .. } => CertificateError::Expired,
            Fault::NotYetValid { .. } => CertificateError::NotValidYet,
            Fault::WrongUsage { .. } => CertificateError::InvalidPurpose,
            Fault::Revoked(_) => CertificateError::Revoked,
            Fault::Identity(_) | Fault::WrongHost { .. } => CertificateError::NotValidForName,
            Fault::WrongCluster { .. } | Fault::NotANode { .. } | Fault::WrongNode { .. } => {
                CertificateError::ApplicationVerificationFailure
            }
            // Its alert says no more than that the certificate is not acceptable.
            Fault::Other(_) => CertificateError::Other(OtherError(Arc::new(fmt::Error))),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::UnknownCa => {
                f.write_str("its certificate is signed by none of the CAs in ca.crt; use the certificates of that cluster")
            }
            Fault::Expired { at } => {
                f.write_str("its certificate has expired")?;
                at.map_or(Ok(()), |at| write!(f, " (valid until {})", date(at)))?;
                f.write_str("; renew it, or compare the clocks")
            }
            Fault::NotYetValid { from } => {
                f.write_str("its certificate is not yet valid")?;
                from.map_or(Ok(()), |from| write!(f, " (valid from {})", date(from)))?;
                f.write_str("; compare the clocks")
            }
            Fault::WrongUsage { needed } => {
                write!(f, "its certificate's extended key usage lacks {needed}")
            }
            Fault::Revoked(revocation) => {
                write!(f, "its certificate {revocation}; issue a new one")
            }
            Fault::Identity(error) => error.fmt(f),
            Fault::WrongCluster { own, found } => {
                write!(f, "its certificate is for {found}, which is not of cluster {own}")
            }
            Fault::NotANode { found } => {
                write!(f, "its certificate is for {found}, not for a node")
            }
            Fault::WrongNode { expected, found } => {
                write!(f, "its certificate is for {found}, but this is the address of {expected}")
            }
            Fault::WrongHost { host } => {
                write!(f, "its certificate does not name the host {host} it was reached by")
            }
            Fault::Other(what) => write!(f, "its certificate is not acceptable: {what}"),
        }
    }
}

impl fmt::Display for Revocation {
    /// Of which certificate stands before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is revoked")?;
        if let Some(authority) = &self.authority {
            write!(f, " with that of {authority},")?;
        }
        write!(f, " since {}", super::files::moment(self.since))
    }
}

/// A date in UTC, to the second.
pub(crate) fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .map_or_else(|| "an impossible date".to_owned(), utc)
}

/// The same of the `time` crate's type.
pub(crate) fn utc(at: time::OffsetDateTime) -> String {
    let (hour, minute, second) = at.time().as_hms();
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", at.date())
}

/// What one connection's verifier saw. The error that rustls hands on is reduced to what its alert
/// needs; the sentence for our own log travels here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness(Arc<Mutex<Testimony>>);

#[derive(Clone, Debug, Default)]
struct Testimony {
    claimed: Option<Identity>,
    fault: Option<Fault>,
}

impl Witness {
    fn with<R>(&self, f: impl FnOnce(&mut Testimony) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn saw_claim(&self, claimed: &Identity) {
        self.with(|testimony| testimony.claimed = Some(claimed.clone()));
    }

    pub(super) fn saw_fault(&self, fault: Fault) -> Error {
        let error = fault.to_rustls();
        self.with(|testimony| testimony.fault = Some(fault));
        error
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.with(|testimony| testimony.fault.clone())
    }

    /// Why the handshake failed with `error`: a word, and a sentence about the other side.
    pub(crate) fn explain(&self, error: &io::Error) -> (Reason, String) {
        if let Some(fault) = self.fault() {
            let claimed = self.with(|testimony| testimony.claimed.clone());
            return match claimed {
                Some(name) => (fault.reason(), format!("{fault} (it claims to be {name})")),
                None => (fault.reason(), fault.to_string()),
            };
        }
        let Some(tls) = tls_error(error) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => (
                    Reason::Handshake,
                    "it closed the connection during the TLS handshake".to_owned(),
                ),
                _ => (Reason::Handshake, format!("the TLS handshake broke off: {error}")),
            };
        };
        match tls {
            Error::NoCertificatesPresented => (
                Reason::NoCertificate,
                "it presented no certificate; every connection needs one".to_owned(),
            ),
            Error::PeerIncompatible(what) if is_old(what) => (
                Reason::OldTls,
                "it offers no TLS 1.3; older versions are not spoken here".to_owned(),
            ),
            Error::AlertReceived(AlertDescription::ProtocolVersion) => {
                (Reason::OldTls, "it does not speak TLS 1.3".to_owned())
            }
            Error::AlertReceived(alert) => (
                Reason::RefusedByPeer,
                format!("it refused us during the TLS handshake: {}", alert_meaning(*alert)),
            ),
            Error::InvalidMessage(_) => {
                (Reason::Plaintext, "what it sent is not a TLS handshake".to_owned())
            }
            other => (Reason::Handshake, format!("the TLS handshake failed: {other}")),
        }
    }
}

fn is_old(what: &PeerIncompatible) -> bool {
    use PeerIncompatible as P;
    matches!(
        what,
        P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled
            | P::SupportedVersionsExtensionRequired
            | P::ServerDoesNotSupportTls12Or13
            | P::ServerTlsVersionIsDisabledByOurConfig
    )
}

/// The TLS error inside an error of a TLS stream.
pub(crate) fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
}

/// The word for an alert that we received: that our certificate is revoked is told from all others.
pub(crate) fn alert_reason(alert: AlertDescription) -> Reason {
    match alert {
        AlertDescription::CertificateRevoked => Reason::Revoked,
        _ => Reason::RefusedByPeer,
    }
}

/// What an alert means for the one who receives it.
pub(crate) fn alert_meaning(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let meaning = match alert {
        A::CertificateRequired => "it requires a certificate and got none",
        A::UnknownCA => {
            "our certificate is signed by none of its CAs; use the certificates of that cluster"
        }
        A::CertificateExpired => "our certificate has expired or is not yet valid, by its clock",
        A::CertificateRevoked => "our certificate is revoked; issue a new one",
        A::UnsupportedCertificate => {
            "our certificate's extended key usage does not allow this side"
        }
        A::BadCertificate => {
            "our certificate needs exactly one URI name, balsa://CLUSTER/ROLE/NAME, and a right host"
        }
        A::AccessDenied => "our certificate is for another cluster or another name than it expects",
        A::CertificateUnknown => "our certificate is not acceptable to it",
        A::DecryptError => "a signature does not fit our certificate",
        A::ProtocolVersion => "it speaks no TLS version that we speak",
        A::HandshakeFailure => "there is no common TLS suite or group",
        A::UnexpectedMessage | A::DecodeError => "it did not understand our TLS handshake",
        A::InternalError => "it had an internal error",
        other => return format!("TLS alert {other:?}"),
    };
    format!("{meaning} (TLS alert {alert:?})")
}
