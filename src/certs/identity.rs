//! The one URI name of a certificate: `balsa://<cluster>/<role>/<name>` (design section 6).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::CertsError;

/// Longest cluster or seat name in bytes: a DNS label's limit (RFC 1035 §2.3.4), because a seat's
/// name is the first label of its address.
pub const MAX_NAME: usize = 63;

/// What a certificate's holder may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A seat of the cluster; serves and dials.
    Node,
    /// Reads and writes keys.
    Client,
    /// May do everything a person may do, `stop` and the whole log among it.
    Admin,
}

/// Who a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    cluster: String,
    role: Role,
    name: String,
}

impl Role {
    /// The word that stands in the URI.
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

impl FromStr for Role {
    type Err = CertsError;

    fn from_str(text: &str) -> Result<Role, CertsError> {
        match text {
            "node" => Ok(Role::Node),
            "client" => Ok(Role::Client),
            "admin" => Ok(Role::Admin),
            _ => Err(CertsError::BadValue {
                what: "the role",
                value: text.into(),
                rule: "a role is node, client or admin",
            }),
        }
    }
}

impl Identity {
    /// An identity of checked names.
    ///
    /// # Errors
    /// [`CertsError::BadValue`] if the cluster or the name is not a DNS label in lower case
    /// (RFC 1123 §2.1). One rule for all names, so that each can stand in a URI, in a host name and
    /// in a path without being escaped.
    pub fn new(cluster: &str, role: Role, name: &str) -> Result<Identity, CertsError> {
        check_label("the cluster's name", cluster)?;
        check_label("the name", name)?;
        Ok(Identity { cluster: cluster.into(), role, name: name.into() })
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The seat's, client's or admin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "balsa://{}/{}/{}", self.cluster, self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = CertsError;

    /// Parses exactly what `Display` writes: no query, no trailing slash, no escapes.
    fn from_str(text: &str) -> Result<Identity, CertsError> {
        let malformed = || CertsError::BadValue {
            what: "the URI",
            value: text.into(),
            rule: "it must be balsa://<cluster>/<role>/<name>",
        };
        let rest = text.strip_prefix("balsa://").ok_or_else(malformed)?;
        let mut parts = rest.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(cluster), Some(role), Some(name), None) => {
                Identity::new(cluster, role.parse()?, name)
            }
            _ => Err(malformed()),
        }
    }
}

/// A DNS label in lower case: letters, digits and inner hyphens, 1 to 63 bytes.
pub(super) fn check_label(what: &'static str, text: &str) -> Result<(), CertsError> {
    let bad = |rule| Err(CertsError::BadValue { what, value: text.into(), rule });
    if text.is_empty() || text.len() > MAX_NAME {
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
/// [`CertsError::BadValue`].
pub fn check_dns(text: &str) -> Result<(), CertsError> {
    let what = "the DNS name";
    if text.len() > 253 {
        let rule = "it must have at most 253 characters";
        return Err(CertsError::BadValue { what, value: text.into(), rule });
    }
    for label in text.split('.') {
        if check_label(what, label).is_err() {
            return Err(CertsError::BadValue {
                what,
                value: text.into(),
                rule: "it must be labels of a-z, 0-9 and inner -, with single dots between them",
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_what_it_writes() {
        for role in [Role::Node, Role::Client, Role::Admin] {
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
}
