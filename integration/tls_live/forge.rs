//! Certificates that must be refused, each wrong in one way only.

use std::fs;
use std::path::Path;

use balsa::certs::layout::ca_dir;
use balsa::certs::{Authority, Issued, RawParams, Validity};
use rustls::AlertDescription;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

/// What somebody presents: a chain, leaf first, and the leaf's key.
pub(crate) struct Papers {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Papers {
    pub(crate) fn of(issued: &Issued) -> Papers {
        Papers::of_pem(&issued.certificate, &issued.key)
    }

    fn of_pem(certificates: &str, key: &str) -> Papers {
        let chain = CertificateDer::pem_slice_iter(certificates.as_bytes());
        Papers {
            chain: chain.collect::<Result<_, _>>().expect("certificates in PEM"),
            key: PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key in PEM"),
        }
    }

    pub(crate) fn read(directory: &Path) -> Papers {
        let read = |name| fs::read_to_string(directory.join(name)).expect("certificates");
        Papers::of_pem(&read("tls.crt"), &read("tls.key"))
    }
}

impl Clone for Papers {
    fn clone(&self) -> Papers {
        Papers { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// One certificate that is wrong, and how that must come out.
pub(crate) struct Forged {
    pub(crate) what: &'static str,
    pub(crate) papers: Papers,
    /// What its holder is told.
    pub(crate) alert: AlertDescription,
    /// A part of what the one who judges says in its own log.
    pub(crate) sentence: &'static str,
    /// The word for counters beside it.
    pub(crate) reason: &'static str,
}

/// Which usage is the needed one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// It calls a node.
    Calls,
    /// It is called in a node's place.
    Serves,
}

/// What a good certificate of this role says.
pub(crate) fn good(role: &str, name: &str) -> RawParams {
    RawParams {
        organization: "balsa".into(),
        common_name: name.into(),
        uris: vec![format!("balsa://balsa/{role}/{name}")],
        dns: vec!["localhost".into()],
        ips: vec![[127, 0, 0, 1].into()],
        server_auth: role == "node",
        client_auth: true,
        ca: false,
        validity: Validity::days(20).expect("a length"),
    }
}

/// The CA of a directory of certificates, with its key.
pub(crate) fn authority(certificates: &Path) -> Authority {
    Authority::load(&ca_dir(certificates)).expect("the cluster's CA")
}

/// Everything that is wrong with a certificate by itself; `good` is what it would otherwise say.
pub(crate) fn forgeries(certificates: &Path, good: &RawParams, side: Side) -> Vec<Forged> {
    use AlertDescription as A;
    let ca = authority(certificates);
    let now = OffsetDateTime::now_utc();
    let by = |ca: &Authority, spoil: &dyn Fn(&mut RawParams)| {
        let mut raw = good.clone();
        spoil(&mut raw);
        Papers::of(&ca.issue_raw(&raw).expect("a bad certificate"))
    };
    let forged =
        |what, papers, alert, sentence, reason| Forged { what, papers, alert, sentence, reason };
    let between = |from: i64, to: i64| Validity {
        not_before: now + Duration::days(from),
        not_after: now + Duration::days(to),
    };
    let stranger = Authority::create("balsa", between(-1, 9)).expect("a CA of the same name");
    let other = Authority::create("elsewhere", between(-1, 9)).expect("a CA of another name");
    let own_uri = good.uris[0].clone();
    let (lacks, keep) = match side {
        Side::Calls => ("extended key usage lacks clientAuth", (true, false)),
        Side::Serves => ("extended key usage lacks serverAuth", (false, true)),
    };
    let unknown = "is signed by none of the CAs in ca.crt";
    let unacceptable = "its certificate is not acceptable";
    vec![
        forged(
            "a CA of the same name",
            by(&stranger, &|_| {}),
            A::UnknownCA,
            unknown,
            "unknown_ca",
        ),
        forged(
            "expired",
            by(&ca, &|raw| raw.validity = between(-9, -1)),
            A::CertificateExpired,
            "has expired (valid until 2",
            "expired",
        ),
        forged("another CA", by(&other, &|_| {}), A::UnknownCA, unknown, "unknown_ca"),
        forged(
            "not yet valid",
            by(&ca, &|raw| raw.validity = between(1, 9)),
            A::CertificateExpired,
            "is not yet valid (valid from 2",
            "not_yet_valid",
        ),
        forged(
            "self-signed",
            Papers::of(&Issued::self_signed(good).expect("a certificate")),
            A::UnknownCA,
            unknown,
            "unknown_ca",
        ),
        forged(
            "the other side's usage only",
            by(&ca, &|raw| (raw.server_auth, raw.client_auth) = keep),
            A::UnsupportedCertificate,
            lacks,
            "wrong_usage",
        ),
        forged(
            "no URI name",
            by(&ca, &|raw| raw.uris.clear()),
            A::BadCertificate,
            "has no URI name",
            "uri_name",
        ),
        forged(
            "no usage stated at all",
            by(&ca, &|raw| (raw.server_auth, raw.client_auth) = (false, false)),
            A::UnsupportedCertificate,
            lacks,
            "wrong_usage",
        ),
        forged(
            "two URI names",
            by(&ca, &|raw| raw.uris.push(own_uri.clone())),
            A::BadCertificate,
            "has 2 URI names",
            "uri_name",
        ),
        forged(
            "a URI name of other making",
            by(&ca, &|raw| raw.uris = vec!["spiffe://balsa/node/raft-1".into()]),
            A::BadCertificate,
            "is not of the form balsa://CLUSTER/ROLE/NAME",
            "uri_name",
        ),
        forged(
            "another cluster under the same CA",
            by(&ca, &|raw| {
                raw.uris = vec![own_uri.replacen("balsa://balsa/", "balsa://other/", 1)]
            }),
            A::AccessDenied,
            "which is not of cluster balsa",
            "wrong_cluster",
        ),
        forged(
            "a CA's certificate as a leaf",
            by(&ca, &|raw| raw.ca = true),
            A::CertificateUnknown,
            unacceptable,
            "bad_certificate",
        ),
        forged(
            "the cluster's own CA",
            the_ca(certificates),
            A::CertificateUnknown,
            unacceptable,
            "bad_certificate",
        ),
        forged(
            "signed by a leaf",
            signed_by_a_leaf(&ca, good),
            A::CertificateUnknown,
            unacceptable,
            "bad_certificate",
        ),
    ]
}

fn the_ca(certificates: &Path) -> Papers {
    let read = |name| fs::read_to_string(ca_dir(certificates).join(name)).expect("the CA");
    Papers::of_pem(&read("ca.crt"), &read("ca.key"))
}

/// A good leaf's holder signs a certificate for somebody else, and presents both.
fn signed_by_a_leaf(ca: &Authority, good: &RawParams) -> Papers {
    let leaf = ca.issue_raw(good).expect("a leaf");
    let key = rcgen::KeyPair::from_pem(&leaf.key).expect("its key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&leaf.certificate, key).expect("an issuer");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(good.dns.clone()).expect("names");
    let uri = good.uris[0].as_str().try_into().expect("a URI");
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    params.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.not_after = OffsetDateTime::now_utc() + Duration::days(1);
    let forged = params.signed_by(&key, &issuer).expect("a forged certificate");
    Papers::of_pem(&format!("{}{}", forged.pem(), leaf.certificate), &key.serialize_pem())
}
