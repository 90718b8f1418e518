//! What stands in a certificate, whoever made it.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, Pem, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::identity::{Identity, Role, check_label, signed};

/// Days before its end from which on a certificate is reported.
const SOON_DAYS: i64 = 30;

/// A certificate's content, as far as Balsa cares. The field names are those of the JSON output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Subject, as `O=balsa, CN=raft-0`.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Whom it speaks for, if it has exactly one URI name and that is one of Balsa's.
    pub identity: Option<Identity>,
    /// All URI names, in order.
    pub uris: Vec<String>,
    /// DNS names, in order.
    pub dns: Vec<String>,
    /// IP addresses, in order.
    pub ips: Vec<IpAddr>,
    /// First moment of validity.
    #[serde(serialize_with = "serialize_time")]
    pub not_before: OffsetDateTime,
    /// Last moment of validity.
    #[serde(serialize_with = "serialize_time")]
    pub not_after: OffsetDateTime,
    /// Whole days until the end, negative after it, at the moment of reading.
    pub days_left: i64,
    /// Whether it may sign others, by its basic constraints.
    pub ca: bool,
    /// How many CAs may stand between it and a leaf; none: any number.
    pub path_len: Option<u32>,
    /// Whether the basic constraints are there and marked critical.
    pub basic_constraints_critical: bool,
    /// Key usages by their names in RFC 5280 §4.2.1.3.
    pub key_usage: Vec<&'static str>,
    /// Extended key usages by their names in RFC 5280 §4.2.1.12; `other` for any not named here.
    pub extended_key_usage: Vec<&'static str>,
    /// Subject key identifier, hexadecimal.
    pub subject_key_id: Option<String>,
    /// Authority key identifier, hexadecimal.
    pub authority_key_id: Option<String>,
    /// Kind and size of the public key, as `EC 256`.
    pub public_key: String,
    /// SHA-256 over the whole certificate, hexadecimal.
    pub sha256: String,
}

impl Facts {
    /// Reads one certificate in DER. `now` is what `days_left` counts from.
    ///
    /// # Errors
    /// A sentence's tail, if the bytes are not one certificate.
    pub fn of(der: &[u8], now: OffsetDateTime) -> Result<Facts, String> {
        let certificate = parse(der)?;
        let not_after = certificate.validity().not_after.to_datetime();
        let mut facts = Facts {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: serial(certificate.raw_serial()),
            identity: None,
            uris: Vec::new(),
            dns: Vec::new(),
            ips: Vec::new(),
            not_before: certificate.validity().not_before.to_datetime(),
            not_after,
            days_left: (not_after - now).whole_days(),
            ca: false,
            path_len: None,
            basic_constraints_critical: false,
            key_usage: Vec::new(),
            extended_key_usage: Vec::new(),
            subject_key_id: None,
            authority_key_id: None,
            public_key: public_key(&certificate),
            sha256: sha256(der),
        };
        for extension in certificate.extensions() {
            facts.read_extension(extension.parsed_extension(), extension.critical);
        }
        if let [uri] = facts.uris.as_slice() {
            facts.identity = uri.parse().ok();
        }
        Ok(facts)
    }

    fn read_extension(&mut self, extension: &ParsedExtension<'_>, critical: bool) {
        match extension {
            ParsedExtension::BasicConstraints(constraints) => {
                self.ca = constraints.ca;
                self.path_len = constraints.path_len_constraint;
                self.basic_constraints_critical = critical;
            }
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = present(&[
                    (usage.digital_signature(), "digitalSignature"),
                    (usage.non_repudiation(), "nonRepudiation"),
                    (usage.key_encipherment(), "keyEncipherment"),
                    (usage.data_encipherment(), "dataEncipherment"),
                    (usage.key_agreement(), "keyAgreement"),
                    (usage.key_cert_sign(), "keyCertSign"),
                    (usage.crl_sign(), "cRLSign"),
                    (usage.encipher_only(), "encipherOnly"),
                    (usage.decipher_only(), "decipherOnly"),
                ]);
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.extended_key_usage = present(&[
                    (usage.any, "anyExtendedKeyUsage"),
                    (usage.server_auth, "serverAuth"),
                    (usage.client_auth, "clientAuth"),
                    (usage.code_signing, "codeSigning"),
                    (usage.email_protection, "emailProtection"),
                    (usage.time_stamping, "timeStamping"),
                    (usage.ocsp_signing, "OCSPSigning"),
                    (!usage.other.is_empty(), "other"),
                ]);
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::URI(uri) => self.uris.push((*uri).to_string()),
                        GeneralName::DNSName(name) => self.dns.push((*name).to_string()),
                        GeneralName::IPAddress(bytes) => self.ips.extend(ip(bytes)),
                        _ => {}
                    }
                }
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(hex(id.0)),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| hex(id.0));
            }
            _ => {}
        }
    }

    /// The cluster that a CA of our own making signs for.
    /// Before CAs were told apart by an id behind the common name, they had none.
    pub(super) fn cluster_of_ca(&self, common_name: &str) -> Option<String> {
        let organization = self.subject.strip_prefix("O=")?;
        let (cluster, rest) = organization.split_once(", CN=")?;
        let id = rest.strip_prefix(common_name)?;
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
        let ours = id.is_empty() || id.strip_prefix(' ').is_some_and(is_id);
        (ours && check_label("the cluster's name", cluster).is_ok()).then(|| cluster.to_string())
    }

    /// Whether it may sign revocation lists.
    pub(super) fn signs_lists(&self) -> bool {
        self.key_usage.contains(&"cRLSign")
    }

    /// What in the certificate itself keeps it from working in a cluster, or soon will, one sentence
    /// each; empty if nothing does.
    #[must_use]
    pub fn problems(&self, now: OffsetDateTime) -> Vec<String> {
        let mut problems = Vec::new();
        if now < self.not_before {
            problems.push(format!("is not valid before {}", rfc3339(self.not_before)));
        } else if now > self.not_after {
            problems.push(format!("ended on {}", rfc3339(self.not_after)));
        } else if self.days_left < SOON_DAYS {
            problems.push(format!("ends in {} days", self.days_left));
        }
        if self.ca {
            self.problems_of_ca(&mut problems);
        } else {
            self.problems_of_leaf(&mut problems);
        }
        problems
    }

    fn problems_of_ca(&self, problems: &mut Vec<String>) {
        if !self.basic_constraints_critical {
            problems.push("its basic constraints are not critical".into());
        }
        for usage in ["keyCertSign", "cRLSign"] {
            if !self.key_usage.contains(&usage) {
                problems.push(format!("is a CA without the key usage {usage}"));
            }
        }
        if self.subject_key_id.is_none() {
            problems.push("is a CA without a subject key identifier".into());
        }
    }

    fn problems_of_leaf(&self, problems: &mut Vec<String>) {
        match (self.uris.as_slice(), &self.identity) {
            ([], _) => problems.push(
                "has no URI name; balsa://<cluster>/<role>/<name> says whom it speaks for".into(),
            ),
            ([uri], None) => problems.push(format!(
                "its URI name {uri:?} is not of the form balsa://<cluster>/<role>/<name>"
            )),
            ([_], Some(_)) => {}
            (many, _) => problems.push(format!("has {} URI names instead of one", many.len())),
        }
        let has = |usage| self.extended_key_usage.contains(&usage);
        if !has("clientAuth") {
            problems.push("lacks the usage clientAuth".into());
        }
        match self.identity.as_ref().map(Identity::role) {
            Some(Role::Node) => {
                if !has("serverAuth") {
                    problems.push("is a node's but lacks the usage serverAuth".into());
                }
                if self.dns.is_empty() && self.ips.is_empty() {
                    problems.push("is a node's but has no DNS name and no IP address".into());
                }
            }
            Some(role) if has("serverAuth") => {
                problems.push(format!("has the usage serverAuth, which no {role} needs"));
            }
            _ => {}
        }
        if !self.key_usage.contains(&"digitalSignature") {
            problems.push("lacks the key usage digitalSignature".into());
        }
    }
}

/// The certificates of a PEM file in DER, in order; other blocks are passed over.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|e| format!("is not a PEM file: {e}"))?;
        if block.label == "CERTIFICATE" {
            found.push(block.contents);
        }
    }
    if found.is_empty() { Err("holds no certificate".into()) } else { Ok(found) }
}

/// Whether a private key is the one of a certificate.
pub(super) fn is_key_of(key: &KeyPair, der: &[u8]) -> Result<bool, String> {
    Ok(parse(der)?.public_key().raw == key.subject_public_key_info())
}

/// Whether a CA signed a certificate, both in DER.
pub(super) fn is_signed_by(der: &[u8], ca: &[u8]) -> bool {
    let (Ok(certificate), Ok(ca)) = (parse(der), parse(ca)) else { return false };
    certificate.issuer().as_raw() == ca.subject().as_raw()
        && signed::is_signed_by(der, ca.public_key().raw)
}

/// A moment as in JSON output and messages.
pub fn rfc3339(moment: OffsetDateTime) -> String {
    // Only years beyond 9999 cannot be written; no certificate can hold one either.
    moment.format(&Rfc3339).unwrap_or_else(|_| moment.to_string())
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("holds bytes after the certificate".into()),
        Err(e) => Err(format!("is not an X.509 certificate: {e}")),
    }
}

pub(super) fn serialize_time<S: Serializer>(
    moment: &OffsetDateTime,
    s: S,
) -> Result<S::Ok, S::Error> {
    s.serialize_str(&rfc3339(*moment))
}

fn present(usages: &[(bool, &'static str)]) -> Vec<&'static str> {
    usages.iter().filter(|(there, _)| *there).map(|(_, name)| *name).collect()
}

/// Without the zero byte that DER puts before a number whose first bit is set; as openssl prints it.
pub(super) fn serial(raw: &[u8]) -> String {
    match raw {
        [0, rest @ ..] if !rest.is_empty() => hex(rest),
        all => hex(all),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn public_key(certificate: &X509Certificate<'_>) -> String {
    let key = certificate.public_key();
    match key.parsed() {
        Ok(PublicKey::EC(point)) => format!("EC {}", point.key_size()),
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        _ => key.algorithm.algorithm.to_id_string(),
    }
}

/// The hash of the TLS library: one provider of cryptography is enough.
fn sha256(bytes: &[u8]) -> String {
    TLS13_AES_128_GCM_SHA256
        .tls13()
        .map(|suite| hex(suite.common.hash_provider.hash(bytes).as_ref()))
        .unwrap_or_default()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The reverse of [`hex`].
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    (0..text.len()).step_by(2).map(digits).collect()
}

/// One PEM block, in the lines of 64 characters that RFC 7468 asks of writers.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
