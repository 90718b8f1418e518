//! Who a certificate speaks for: exactly one URI name, `balsa://<cluster>/<role>/<name>`.
//!
//! Identity comes from here and never from a payload, a common name or a source address
//! (correctness section 9: etcd's CVE-2018-16886, 8262). The alphabet is that of DNS labels and a
//! few more, so that a name can be logged and compared byte by byte.

use std::fmt;
use std::str::FromStr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What kind of party a certificate is for; the table of methods decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A node, in the seat that the certificate names.
    Node,
    /// A program that reads and writes keys.
    Client,
    /// A person or script that runs the cluster.
    Admin,
}

/// The content of a certificate's URI name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster's name, such as `balsa`. Not its id: a name is chosen, an id is drawn.
    pub cluster: String,
    /// What kind of party it is.
    pub role: Role,
    /// For nodes the seat, such as `raft-1`; else any name.
    pub name: String,
}

/// Why a certificate gives no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No URI name at all.
    #[error("the certificate has no URI name; one of the form balsa://CLUSTER/ROLE/NAME is needed")]
    NoUri,
    /// More than one: whom it speaks for would be a matter of order.
    #[error("the certificate has {0} URI names; exactly one is needed")]
    ManyUris(usize),
    /// A URI name that is not ours.
    #[error(
        "the certificate's URI name {uri} is not of the form balsa://CLUSTER/ROLE/NAME: {fault}"
    )]
    Form {
        /// The name, shortened and with control characters escaped.
        uri: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Not a certificate.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
}

/// Longest cluster name or party name, bytes: that of a DNS name.
const PART_BYTES_MAX: usize = 253;

impl Role {
    /// The word in the URI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Client => "client",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Identity {
    /// The identity of a certificate in DER.
    ///
    /// # Errors
    /// [`IdentityError`] says which rule the certificate breaks.
    pub fn of_certificate(der: &[u8]) -> Result<Identity, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|e| IdentityError::Unreadable(format!("it is not X.509 in DER ({e})")))?;
        Identity::of_parsed(&certificate)
    }

    /// The identity of a parsed certificate.
    ///
    /// # Errors
    /// [`IdentityError`] says which rule the certificate breaks.
    pub fn of_parsed(certificate: &X509Certificate<'_>) -> Result<Identity, IdentityError> {
        let names = certificate.subject_alternative_name().map_err(|e| {
            IdentityError::Unreadable(format!("its alternative names are malformed ({e})"))
        })?;
        let mut uris = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
        match (uris.next(), uris.count()) {
            (None, _) => Err(IdentityError::NoUri),
            (Some(uri), 0) => uri.parse(),
            (Some(_), more) => Err(IdentityError::ManyUris(more + 1)),
        }
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Identity, IdentityError> {
        let fault = |fault| IdentityError::Form { uri: printable(uri), fault };
        let rest = uri.strip_prefix("balsa://").ok_or_else(|| fault("the scheme is not balsa"))?;
        let mut parts = rest.split('/');
        let (Some(cluster), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(fault("it does not have three parts"));
        };
        let role = match role {
            "node" => Role::Node,
            "client" => Role::Client,
            "admin" => Role::Admin,
            _ => return Err(fault("the role is none of node, client, admin")),
        };
        if !is_name(cluster) {
            return Err(fault("the cluster is not a name"));
        }
        if !is_name(name) {
            return Err(fault("the last part is not a name"));
        }
        Ok(Identity { cluster: cluster.to_owned(), role, name: name.to_owned() })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "balsa://{}/{}/{}", self.cluster, self.role, self.name)
    }
}

/// Letters, digits, `-`, `_`, `.`, beginning with a letter or digit.
fn is_name(part: &str) -> bool {
    part.len() <= PART_BYTES_MAX
        && part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Foreign text made fit for a log: no control characters, not endless.
pub(super) fn printable(text: &str) -> String {
    let mut shown: String = text.chars().take(200).flat_map(char::escape_default).collect();
    if text.chars().count() > 200 {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_name_reads_and_prints_the_same() {
        for uri in [
            "balsa://balsa/node/raft-1",
            "balsa://a.b-c_d/client/app",
            "balsa://X/admin/ops.example.org",
        ] {
            let identity: Identity = uri.parse().unwrap();
            assert_eq!(identity.to_string(), uri);
        }
    }

    #[test]
    fn a_bad_name_says_what_is_wrong() {
        let long = format!("balsa://c/node/{}", "x".repeat(254));
        for (uri, fault) in [
            ("spiffe://balsa/node/raft-1", "scheme"),
            ("BALSA://balsa/node/raft-1", "scheme"),
            ("balsa:/balsa/node/raft-1", "scheme"),
            ("balsa://balsa/node", "three parts"),
            ("balsa://balsa/node/raft-1/x", "three parts"),
            ("balsa://balsa/node/raft-1/", "three parts"),
            ("balsa://balsa/root/raft-1", "role"),
            ("balsa://balsa/Node/raft-1", "role"),
            ("balsa:///node/raft-1", "cluster"),
            ("balsa://ba lsa/node/raft-1", "cluster"),
            ("balsa://balsa/node/", "last part"),
            ("balsa://balsa/node/raft-1?x", "last part"),
            ("balsa://balsa/node/raft%2d1", "last part"),
            ("balsa://balsa/node/-raft", "last part"),
            ("balsa://balsa/node/raft\n1", "last part"),
            (&long, "last part"),
        ] {
            let error = uri.parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains(fault), "{uri}: {error}");
            assert!(!error.contains('\n'), "log injection: {error}");
        }
    }
}
