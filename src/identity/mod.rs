//! Who a process is: the one URI name of its certificate, `balsa://<cluster>/<role>/<name>`, and the
//! files that prove it ([`files`]).
//!
//! Identity comes from a verified certificate and never from a payload, a common name or a source
//! address (correctness section 9: etcd's CVE-2018-16886, 8262). Whoever makes certificates and
//! whoever checks them uses this one grammar, so that nothing can be issued that is then refused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

pub mod files;
pub(crate) mod signed;

/// Longest cluster or seat name in bytes: a DNS label's limit (RFC 1035 §2.3.4), because a seat's
/// name is the first label of its address.
pub const NAME_BYTES_MAX: usize = 63;

/// What a certificate's holder may be; the table of methods decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A seat of the cluster; serves and dials.
    Node,
    /// Reads and writes keys.
    Client,
    /// May do everything a person may do, `stop` and the whole log among it.
    Admin,
    /// Reads a node's state and its metrics, and nothing that anybody stored.
    Monitor,
}

/// Whom a certificate speaks for. Every value has passed the grammar, wherever it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Identity {
    cluster: String,
    role: Role,
    name: String,
}

/// An identity as read by serde, before its names are checked.
#[derive(Deserialize)]
struct Parts {
    cluster: String,
    role: Role,
    name: String,
}

/// A name that cannot stand in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not possible: {rule}")]
pub struct NameError {
    /// What the value was meant to be.
    pub what: &'static str,
    /// The value.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
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
        fault: String,
    },
    /// Not a certificate.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::Node, Role::Client, Role::Admin, Role::Monitor];

    /// The word that stands in the URI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Client => "client",
            Role::Admin => "admin",
            Role::Monitor => "monitor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Role, NameError> {
        Role::ALL.into_iter().find(|role| role.word() == text).ok_or_else(|| NameError {
            what: "the role",
            value: text.to_owned(),
            rule: "a role is node, client, admin or monitor",
        })
    }
}

impl Identity {
    /// An identity of checked names.
    ///
    /// # Errors
    /// [`NameError`] if the cluster or the name is not a DNS label in lower case (RFC 1123 §2.1).
    /// One rule for all names, so that each can stand in a URI, in a host name, in a path and in a
    /// log without being escaped.
    pub fn new(cluster: &str, role: Role, name: &str) -> Result<Identity, NameError> {
        check_label("the cluster's name", cluster)?;
        check_label("the name", name)?;
        Ok(Identity { cluster: cluster.to_owned(), role, name: name.to_owned() })
    }

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

    /// The cluster's name, such as `balsa`. Not its id: a name is chosen, an id is drawn.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// For nodes the seat, such as `raft-1`; else any name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl TryFrom<Parts> for Identity {
    type Error = NameError;

    fn try_from(parts: Parts) -> Result<Identity, NameError> {
        Identity::new(&parts.cluster, parts.role, &parts.name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "balsa://{}/{}/{}", self.cluster, self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    /// Parses exactly what `Display` writes: no query, no trailing slash, no escapes.
    fn from_str(text: &str) -> Result<Identity, IdentityError> {
        let fault = |fault: String| IdentityError::Form { uri: printable(text), fault };
        let rest = text
            .strip_prefix("balsa://")
            .ok_or_else(|| fault("the scheme is not balsa".to_owned()))?;
        let mut parts = rest.split('/');
        let (Some(cluster), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(fault("it does not have three parts".to_owned()));
        };
        // The value stands in the URI already; it is not said twice.
        role.parse()
            .and_then(|role| Identity::new(cluster, role, name))
            .map_err(|NameError { what, rule, .. }| fault(format!("{what}: {rule}")))
    }
}

/// A DNS label in lower case: letters, digits and inner hyphens, 1 to 63 bytes. `what` names the
/// value in the error's sentence.
///
/// # Errors
/// [`NameError`].
pub fn check_label(what: &'static str, text: &str) -> Result<(), NameError> {
    let bad = |rule| Err(NameError { what, value: text.to_owned(), rule });
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return bad("it must have 1 to 63 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return bad("only a-z, 0-9 and - may stand in it");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return bad("it must begin and end with a letter or a digit");
    }
    Ok(())
}

/// A host name for a certificate: labels with dots between them, at most 253 bytes. No wildcards:
/// whoever holds one could stand in for every seat.
///
/// # Errors
/// [`NameError`].
pub fn check_dns(text: &str) -> Result<(), NameError> {
    let what = "the DNS name";
    let bad = |rule| Err(NameError { what, value: text.to_owned(), rule });
    if text.len() > 253 {
        return bad("it must have at most 253 characters");
    }
    if text.split('.').any(|label| check_label(what, label).is_err()) {
        return bad("it must be labels of a-z, 0-9 and inner -, with single dots between them");
    }
    Ok(())
}

/// Foreign text made fit for a log: no control characters, not endless.
pub(crate) fn printable(text: &str) -> String {
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
    fn an_identity_reads_back_what_it_writes() {
        for role in Role::ALL {
            let identity = Identity::new("balsa", role, "raft-1").expect("good names");
            assert_eq!(identity, identity.to_string().parse().expect("what Display wrote"));
        }
    }

    #[test]
    fn only_the_exact_form_is_an_identity() {
        for text in [
            "",
            "balsa://",
            "balsa://c/node",
            "balsa://c/node/",
            "balsa://c/node/a/",
            "balsa://c/node/a/b",
            "balsa:///node/a",
            "balsa://c/root/a",
            "balsa://c/node/a?x",
            "balsa://c/node/a%20",
            "balsa://C/node/a",
            "BALSA://c/node/a",
            "spiffe://c/node/a",
            "balsa://c/node/-a",
            "balsa://c/node/../a",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text:?} was taken for an identity");
        }
    }

    #[test]
    fn a_bad_name_says_what_is_wrong() {
        let long = format!("balsa://c/node/{}", "x".repeat(64));
        for (uri, fault) in [
            ("spiffe://balsa/node/raft-1", "scheme"),
            ("BALSA://balsa/node/raft-1", "scheme"),
            ("balsa:/balsa/node/raft-1", "scheme"),
            ("balsa://balsa/node", "three parts"),
            ("balsa://balsa/node/raft-1/x", "three parts"),
            ("balsa://balsa/node/raft-1/", "three parts"),
            ("balsa://balsa/root/raft-1", "the role"),
            ("balsa://balsa/Node/raft-1", "the role"),
            ("balsa:///node/raft-1", "the cluster's name"),
            ("balsa://ba lsa/node/raft-1", "the cluster's name"),
            ("balsa://balsa/node/", "the name"),
            ("balsa://balsa/node/raft-1?x", "the name"),
            ("balsa://balsa/node/raft%2d1", "the name"),
            ("balsa://balsa/node/-raft", "the name"),
            ("balsa://balsa/node/raft\n1", "the name"),
            (&long, "the name"),
        ] {
            let error = uri.parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains(fault), "{uri}: {error}");
            assert!(!error.contains('\n'), "log injection: {error}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        assert!(check_label("x", &"a".repeat(63)).is_ok());
        assert!(check_label("x", &"a".repeat(64)).is_err());
        for name in ["", "a.b", "a_b", "A", "-a", "a-", "a/b", "á", "a b", "a\0"] {
            assert!(check_label("x", name).is_err(), "{name:?} was accepted");
        }
        assert!(check_dns("raft-0.raft-service.default.svc.cluster.local").is_ok());
        for name in ["", ".", "a.", ".a", "a..b", "*.a", "a b", "a:1"] {
            assert!(check_dns(name).is_err(), "{name:?} was accepted as a DNS name");
        }
    }

    #[test]
    fn what_serde_reads_is_checked_too() {
        let identity = Identity::new("balsa", Role::Admin, "ops").expect("good names");
        let text = serde_json::to_string(&identity).expect("plain fields");
        assert_eq!(text, r#"{"cluster":"balsa","role":"admin","name":"ops"}"#);
        assert_eq!(serde_json::from_str::<Identity>(&text).expect("what serde wrote"), identity);
        let bad = text.replace("ops", "../ops");
        assert!(serde_json::from_str::<Identity>(&bad).is_err(), "{bad} was accepted");
    }
}
