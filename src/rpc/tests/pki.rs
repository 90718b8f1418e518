//! Makes CAs and leaves, good and bad in any way, in a temporary directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SigningKey,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::rpc::{Tls, TlsFiles};

pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
}

/// What a leaf says; the default is good for `raft-1` on both sides.
#[derive(Clone)]
pub(super) struct Spec {
    pub(super) uris: Vec<String>,
    pub(super) dns: Vec<&'static str>,
    pub(super) usages: Vec<ExtendedKeyUsagePurpose>,
    /// Days from now.
    pub(super) valid: (i64, i64),
}

pub(super) struct Leaf {
    pub(super) pem: String,
    pub(super) key_pem: String,
    pub(super) chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

/// Every CA of these tests has the same name, unless told otherwise: only the key tells them apart.
pub(super) fn ca() -> Ca {
    ca_called("balsa test CA")
}

pub(super) fn ca_called(name: &str) -> Ca {
    ca_with(&KeyPair::generate().unwrap(), |params| {
        params.distinguished_name.push(DnType::CommonName, name);
    })
}

/// A CA of this key, that signs itself.
pub(super) fn ca_with(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = ca_params();
    change(&mut params);
    let certificate = params.self_signed(key).unwrap();
    Ca::of(params, key, &certificate)
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Spec {
    pub(super) fn of(uri: &str) -> Spec {
        Spec {
            uris: vec![uri.to_owned()],
            dns: vec!["localhost"],
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            valid: (-1, 30),
        }
    }

    pub(super) fn node(name: &str) -> Spec {
        Spec::of(&format!("balsa://balsa/node/{name}"))
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Spec)) -> Spec {
        change(&mut self);
        self
    }
}

impl Ca {
    fn of(params: CertificateParams, key: &KeyPair, certificate: &rcgen::Certificate) -> Ca {
        let key = KeyPair::try_from(key.serialize_der()).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Ca { issuer: Issuer::new(params, key), pem, der }
    }

    /// A CA below this one.
    pub(super) fn below(&self, name: &str) -> Ca {
        let (key, mut params) = (KeyPair::generate().unwrap(), ca_params());
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Ca::of(params, &key, &certificate)
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.issuer.key().sign(message).unwrap()
    }

    pub(super) fn issue(&self, spec: &Spec) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "raft-1");
        for uri in &spec.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        }
        for dns in &spec.dns {
            params.subject_alt_names.push(SanType::DnsName((*dns).try_into().unwrap()));
        }
        params.extended_key_usages.clone_from(&spec.usages);
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::days(spec.valid.0);
        params.not_after = now + Duration::days(spec.valid.1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            key: key.serialize_der(),
        }
    }

    /// A directory of certificates: this CA and such a leaf.
    pub(super) fn directory(&self, spec: &Spec) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        self.issue(spec).write(directory.path(), "tls", &self.pem);
        directory
    }

    /// An identity, whatever is wrong with it as long as it has one.
    pub(super) fn tls(&self, spec: &Spec) -> Arc<Tls> {
        let directory = self.directory(spec);
        Tls::new(TlsFiles::read(directory.path(), None).unwrap()).unwrap()
    }
}

impl Leaf {
    /// Presented with the certificates of CAs behind it.
    pub(super) fn with_chain(mut self, cas: &[&Ca]) -> Leaf {
        for ca in cas {
            self.pem.push_str(&ca.pem);
            self.chain.push(ca.der.clone());
        }
        self
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    pub(super) fn write(&self, directory: &Path, name: &str, ca: &str) {
        fs::write(directory.join("ca.crt"), ca).unwrap();
        fs::write(directory.join(format!("{name}.crt")), &self.pem).unwrap();
        let key = directory.join(format!("{name}.key"));
        fs::write(&key, &self.key_pem).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }
}
