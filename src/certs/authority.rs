//! The CA and what it signs.
//!
//! Every certificate goes through [`RawParams`], which says field by field what stands in it.
//! [`Profile`] is the safe way to fill that in; the tests use `RawParams` itself to make the
//! certificates that must be refused.

use std::fmt;
use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use super::CertsError;
use super::facts::{self, Facts, rfc3339};
use crate::identity::{Identity, Role, check_dns, check_label};

/// With this the common name of a CA of our own making begins; its organization is then the cluster.
/// A drawn id follows: two CAs of one name cannot be told apart by a verifier that trusts both.
const CA_COMMON_NAME: &str = "Balsa CA";

/// A century: longer is a mistake, and the dates must stay within what their encoding can hold
/// (RFC 5280 §4.1.2.5).
const MAX_DAYS: u32 = 36_500;

/// From when to when a certificate is valid, both inclusive, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: OffsetDateTime,
    /// Last moment.
    pub not_after: OffsetDateTime,
}

/// What a certificate of Balsa says. Usages and URI follow from the identity.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Whom it speaks for.
    pub identity: Identity,
    /// Host names a node is reached by. Only nodes have any: the others serve nobody.
    pub dns: Vec<String>,
    /// Addresses a node is reached by; as above.
    pub ips: Vec<IpAddr>,
    /// From when to when. Shortened to the CA's own validity.
    pub validity: Validity,
}

/// A certificate field by field, without any check: the place where bad ones are made for tests.
#[derive(Clone, Debug)]
pub struct RawParams {
    /// Subject's organization; by convention the cluster.
    pub organization: String,
    /// Subject's common name; for people only, nothing is decided by it.
    pub common_name: String,
    /// URI names, in order. A good certificate has exactly one.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// Extended usage `serverAuth`.
    pub server_auth: bool,
    /// Extended usage `clientAuth`.
    pub client_auth: bool,
    /// A CA (path length zero, may sign certificates and revocation lists) or a leaf.
    pub ca: bool,
    /// From when to when.
    pub validity: Validity,
}

/// A certificate with its key and the CA to trust beside it; what one directory of the layout holds.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM, PKCS#8.
    pub key: String,
    /// The CA's certificate, PEM.
    /// The CA to trust with it, PEM.
    pub ca: String,
    /// The revocation lists of that CA, PEM; empty if there are none.
    pub lists: String,
}

/// A CA with its key.
pub struct Authority {
    certificate: String,
    facts: Facts,
    cluster: Option<String>,
    issuer: Issuer<'static, KeyPair>,
}

impl Validity {
    /// Ten years, the CA's default.
    pub const CA_DAYS: u32 = 3650;
    /// One year, a leaf's default.
    pub const LEAF_DAYS: u32 = 365;

    /// From an hour ago for `days` days from now. The hour forgives clocks that go wrong a little,
    /// so that a pod on a slow machine can use a certificate that was made this minute.
    ///
    /// # Errors
    /// [`CertsError::BadValue`] unless `days` is 1 to 36500.
    pub fn days(days: u32) -> Result<Validity, CertsError> {
        if days == 0 || days > MAX_DAYS {
            return Err(CertsError::BadValue {
                what: "the validity in days",
                value: days.to_string(),
                rule: "it must be 1 to 36500",
            });
        }
        let now = OffsetDateTime::now_utc();
        Ok(Validity {
            not_before: now - Duration::hours(1),
            not_after: now + Duration::days(i64::from(days)),
        })
    }
}

impl Profile {
    /// What the CA will sign for this profile.
    fn raw(&self) -> Result<RawParams, CertsError> {
        let node = self.identity.role() == Role::Node;
        let nameless = self.dns.is_empty() && self.ips.is_empty();
        if !node && !nameless {
            return Err(CertsError::BadValue {
                what: "a DNS name or IP address for",
                value: self.identity.to_string(),
                rule: "only nodes have any, the others serve nobody",
            });
        }
        if node && nameless {
            return Err(CertsError::BadValue {
                what: "a certificate without DNS name and IP address for",
                value: self.identity.to_string(),
                rule: "clients compare the one they dialled",
            });
        }
        self.dns.iter().try_for_each(|name| check_dns(name))?;
        Ok(RawParams {
            organization: self.identity.cluster().to_string(),
            common_name: self.identity.name().to_string(),
            uris: vec![self.identity.to_string()],
            dns: self.dns.clone(),
            ips: self.ips.clone(),
            // A node dials its peers, so it is a client too.
            server_auth: node,
            client_auth: true,
            ca: false,
            validity: self.validity,
        })
    }
}

impl RawParams {
    /// The same for rcgen. Serials are random (RFC 5280 §4.1.2.2 wants them unique for a CA, and
    /// there is no register of those given out), positive, and always of sixteen bytes.
    fn params(&self) -> Result<CertificateParams, CertsError> {
        let mut serial = [0_u8; 16];
        getrandom::fill(&mut serial)
            .map_err(|e| CertsError::Generate(format!("no randomness: {e}")))?;
        serial[0] = (serial[0] & 0x7f) | 0x40;

        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = self.validity.not_before;
        params.not_after = self.validity.not_after;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, self.organization.as_str());
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        for uri in &self.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        for name in &self.dns {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(self.ips.iter().copied().map(SanType::IpAddress));
        if self.ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        } else {
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }
        if self.server_auth {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if self.client_auth {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        Ok(params)
    }
}

impl Issued {
    /// A certificate that vouches for itself, as no peer accepts one. For tests.
    ///
    /// # Errors
    /// [`CertsError::Generate`] if a name cannot be encoded or the cryptography refuses.
    pub fn self_signed(raw: &RawParams) -> Result<Issued, CertsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = raw.params()?.self_signed(&key)?.pem();
        let (ca, key) = (certificate.clone(), key.serialize_pem());
        Ok(Issued { ca, certificate, key, lists: String::new() })
    }
}

impl fmt::Debug for Issued {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a CA for one cluster, in memory.
    ///
    /// # Errors
    /// [`CertsError::BadValue`] for an impossible cluster name, [`CertsError::Generate`] if the
    /// cryptography refuses.
    pub fn create(cluster: &str, validity: Validity) -> Result<Authority, CertsError> {
        check_label("the cluster's name", cluster)?;
        let id =
            getrandom::u32().map_err(|e| CertsError::Generate(format!("no randomness: {e}")))?;
        let raw = RawParams {
            organization: cluster.to_string(),
            common_name: format!("{CA_COMMON_NAME} {id:08x}"),
            uris: Vec::new(),
            dns: Vec::new(),
            ips: Vec::new(),
            server_auth: false,
            client_auth: false,
            ca: true,
            validity,
        };
        let made = Issued::self_signed(&raw)?;
        Authority::from_pem(&made.certificate, &made.key).map_err(CertsError::Generate)
    }

    /// A CA from its certificate and key, whoever made them. The error is a sentence's tail.
    pub(super) fn from_pem(certificate: &str, key: &str) -> Result<Authority, String> {
        let (der, facts) = read_ca(certificate)?;
        let key = KeyPair::from_pem(key).map_err(|e| format!("its key cannot be used: {e}"))?;
        if !facts::is_key_of(&key, &der)? {
            return Err("does not belong to the key beside it".into());
        }
        let cluster = cluster_of(&facts);
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(der.as_slice()), key)
            .map_err(|e| e.to_string())?;
        Ok(Authority { certificate: certificate.to_string(), facts, cluster, issuer })
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The CA's private key, PEM. For [`layout`](super::layout) only: it goes nowhere else.
    pub(super) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// What signs.
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// What stands in the CA's certificate.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The cluster it signs for; none if the CA is of other making, and signs for any.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Makes a key and signs a certificate for it.
    ///
    /// # Errors
    /// [`CertsError::BadValue`] for names that cannot stand in the certificate,
    /// [`CertsError::WrongCluster`], [`CertsError::AuthorityExpired`], [`CertsError::Generate`].
    pub fn issue(&self, profile: &Profile) -> Result<Issued, CertsError> {
        let asked = profile.identity.cluster();
        if let Some(ours) = self.cluster.as_deref()
            && ours != asked
        {
            return Err(CertsError::WrongCluster { ours: ours.into(), asked: asked.into() });
        }
        let mut raw = profile.raw()?;
        // A leaf that outlives its CA is refused from the CA's last day on, with nothing in the leaf
        // that says so; within the CA's dates, the leaf's own dates tell the truth.
        raw.validity.not_before = raw.validity.not_before.max(self.facts.not_before);
        raw.validity.not_after = raw.validity.not_after.min(self.facts.not_after);
        if self.facts.not_after <= OffsetDateTime::now_utc() {
            return Err(CertsError::AuthorityExpired { not_after: rfc3339(self.facts.not_after) });
        }
        if raw.validity.not_after <= raw.validity.not_before {
            return Err(CertsError::BadValue {
                what: "the end of validity",
                value: rfc3339(raw.validity.not_after),
                rule: "it must lie after the beginning, and within the CA's own validity",
            });
        }
        self.issue_raw(&raw)
    }

    /// Signs anything, good or bad, with a new key: the building block of tests that need an
    /// expired certificate, a wrong usage, no URI, or two.
    ///
    /// # Errors
    /// [`CertsError::Generate`] if a name cannot be encoded or the cryptography refuses.
    pub fn issue_raw(&self, raw: &RawParams) -> Result<Issued, CertsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = raw.params()?;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let (ca, key) = (self.certificate.clone(), key.serialize_pem());
        Ok(Issued { certificate, key, ca, lists: String::new() })
    }
}

/// A CA's own certificate, which stands alone in its file.
pub(super) fn read_ca(pem: &str) -> Result<(Vec<u8>, Facts), String> {
    let mut ders = facts::certificates(pem.as_bytes())?;
    let (Some(der), 0) = (ders.pop(), ders.len()) else {
        return Err(format!("holds {} certificates instead of one", ders.len() + 1));
    };
    let facts = Facts::of(&der, OffsetDateTime::now_utc())?;
    if !facts.ca || !facts.key_usage.contains(&"keyCertSign") {
        return Err("is not the certificate of a CA that may sign others".into());
    }
    Ok((der, facts))
}

/// The cluster that a CA signs for; none if it is of other making, and signs for any.
pub(super) fn cluster_of(ca: &Facts) -> Option<String> {
    ca.cluster_of_ca(CA_COMMON_NAME)
}

impl fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("facts", &self.facts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::{Purpose, verify};

    fn profile(role: Role, name: &str) -> Profile {
        let node = role == Role::Node;
        Profile {
            identity: Identity::new("balsa", role, name).expect("good names"),
            dns: if node { vec![name.into(), "localhost".into()] } else { Vec::new() },
            ips: if node { vec![[127, 0, 0, 1].into()] } else { Vec::new() },
            validity: Validity::days(Validity::LEAF_DAYS).expect("a good length"),
        }
    }

    fn authority() -> Authority {
        Authority::create("balsa", Validity::days(Validity::CA_DAYS).expect("a good length"))
            .expect("a CA")
    }

    fn ders(pem: &str) -> Vec<Vec<u8>> {
        facts::certificates(pem.as_bytes()).expect("what rcgen wrote")
    }

    fn facts_of(issued: &Issued) -> Facts {
        Facts::of(&ders(&issued.certificate)[0], OffsetDateTime::now_utc()).expect("a certificate")
    }

    #[test]
    fn each_role_gets_what_it_needs_and_no_more() {
        let (ca, now) = (authority(), OffsetDateTime::now_utc());
        assert_eq!(ca.facts().problems(now), Vec::<String>::new());
        assert_eq!((ca.facts().ca, ca.facts().path_len), (true, Some(0)));
        assert_eq!(ca.cluster(), Some("balsa"));
        for (role, name) in [(Role::Node, "raft-0"), (Role::Client, "app"), (Role::Admin, "root")] {
            let profile = profile(role, name);
            let issued = ca.issue(&profile).expect("a certificate");
            let facts = facts_of(&issued);
            assert_eq!(facts.problems(now), Vec::<String>::new());
            assert_eq!(facts.identity.as_ref(), Some(&profile.identity));
            assert_eq!(facts.uris, [profile.identity.to_string()]);
            assert_eq!((&facts.dns, &facts.ips), (&profile.dns, &profile.ips));
            assert_eq!(facts.key_usage, ["digitalSignature"]);
            assert_eq!(facts.authority_key_id, ca.facts().subject_key_id);
            assert!(!facts.ca && facts.basic_constraints_critical);
            let chain = ders(&issued.certificate);
            let roots = ders(ca.certificate());
            assert_eq!(verify(&chain, &roots, Purpose::Client, now), Ok(()));
            let serves = verify(&chain, &roots, Purpose::Server, now).is_ok();
            assert_eq!(serves, role == Role::Node, "{role} as a server");
        }
    }

    #[test]
    fn a_ca_signs_for_its_own_cluster_only_and_never_beyond_its_own_end() {
        let day = Validity::days(1).expect("a good length");
        let ca = Authority::create("balsa", day).expect("a CA");
        let year = Validity { not_after: day.not_after + time::Duration::days(365), ..day };
        let mut wanted = Profile { validity: year, ..profile(Role::Client, "app") };
        let facts = facts_of(&ca.issue(&wanted).expect("a certificate"));
        assert_eq!(facts.not_after, ca.facts().not_after);
        assert_eq!(facts.not_before, ca.facts().not_before);

        wanted.identity = Identity::new("other", Role::Client, "app").expect("good names");
        assert!(matches!(ca.issue(&wanted), Err(CertsError::WrongCluster { .. })));

        let ended = Validity { not_before: day.not_before, not_after: day.not_before };
        let ca = Authority::create("balsa", ended).expect("a CA");
        let refused = ca.issue(&profile(Role::Client, "app"));
        assert!(matches!(refused, Err(CertsError::AuthorityExpired { .. })));
    }

    #[test]
    fn names_belong_to_nodes_and_every_node_has_one() {
        let ca = authority();
        let mut node = profile(Role::Node, "raft-0");
        (node.dns, node.ips) = (Vec::new(), Vec::new());
        assert!(ca.issue(&node).is_err_and(|e| e.is_usage()));
        node.dns = vec!["*.raft-service".into()];
        assert!(ca.issue(&node).is_err_and(|e| e.is_usage()));
        let mut client = profile(Role::Client, "app");
        client.ips = vec![[127, 0, 0, 1].into()];
        assert!(ca.issue(&client).is_err_and(|e| e.is_usage()));
        for days in [0, 36_501, u32::MAX] {
            assert!(Validity::days(days).is_err_and(|e| e.is_usage()), "{days} days");
        }
    }

    #[test]
    fn serials_and_keys_never_repeat() {
        let (ca, wanted) = (authority(), profile(Role::Client, "app"));
        let (one, two) = (ca.issue(&wanted).expect("one"), ca.issue(&wanted).expect("two"));
        assert_ne!(facts_of(&one).serial, facts_of(&two).serial);
        assert_eq!(facts_of(&one).serial.len(), 32);
        assert_ne!(one.key, two.key);
        assert!(one.key.starts_with(concat!("-----BEGIN ", "PRIVATE KEY-----")), "not PKCS#8");
    }

    #[test]
    fn the_key_stays_out_of_debug_output() {
        let ca = authority();
        let issued = ca.issue(&profile(Role::Client, "app")).expect("a certificate");
        assert!(!format!("{ca:?}{issued:?}").contains("PRIVATE"));
    }
}
