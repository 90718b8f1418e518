//! The checks of the other side's certificate: chain, dates and usage by webpki, then the revocation
//! lists, then the URI name.
//!
//! A verifier is made for one connection, so that it can say what that connection expects and leave
//! its sentence in that connection's [`Witness`].

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::fault::{Fault, Witness};
use super::lists::Lists;
use crate::identity::{Identity, Role};
use crate::rpc::dialer::Expect;

/// The extended key usages, as RFC 5280 4.2.1.12 calls them.
const CLIENT_USAGE: &str = "clientAuth";
const SERVER_USAGE: &str = "serverAuth";

/// What a server checks of who connects.
pub(super) struct PeerCheck {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) lists: Arc<Lists>,
    pub(super) cluster: String,
    pub(super) witness: Witness,
}

/// What a dialer checks of whom it reached.
pub(super) struct ServerCheck {
    pub(super) chain: Arc<dyn ServerCertVerifier>,
    pub(super) lists: Arc<Lists>,
    pub(super) cluster: String,
    pub(super) expect: Expect,
    pub(super) witness: Witness,
}

impl fmt::Debug for PeerCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCheck").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCheck").field("expect", &self.expect).finish_non_exhaustive()
    }
}

/// The URI name of a certificate, if it is of this cluster.
fn identity_in(cluster: &str, end_entity: &CertificateDer<'_>) -> Result<Identity, Fault> {
    let found = Identity::of_certificate(end_entity).map_err(Fault::Identity)?;
    if found.cluster() == cluster {
        Ok(found)
    } else {
        Err(Fault::WrongCluster { own: cluster.to_owned(), found })
    }
}

/// Whether the certificate says that it is for this use. webpki refuses one that is for another use
/// only, but takes one without the extension for every use (RFC 5280 4.2.1.12 lets it); then any
/// certificate of the same CA that somebody forgot to restrict could be a node's.
fn states_usage(
    end_entity: &CertificateDer<'_>,
    needed: &'static str,
    stated: fn(&ExtendedKeyUsage<'_>) -> bool,
) -> Result<(), Fault> {
    let says_so = X509Certificate::from_der(end_entity)
        .ok()
        .and_then(|(_, leaf)| {
            leaf.extended_key_usage().ok().flatten().map(|use_| stated(use_.value))
        })
        .unwrap_or(false);
    if says_so { Ok(()) } else { Err(Fault::WrongUsage { needed }) }
}

/// Notes whom the certificate claims to speak for, for the log's sentence alone: nothing is decided
/// by a name before the chain has been verified.
fn note_claim(witness: &Witness, end_entity: &CertificateDer<'_>) {
    if let Ok(claimed) = Identity::of_certificate(end_entity) {
        witness.saw_claim(&claimed);
    }
}

/// Whether a verified chain holds anything that its CA has revoked.
fn is_not_revoked(
    lists: &Lists,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), Fault> {
    let chain = std::iter::once(end_entity).chain(intermediates);
    lists.revocation(chain).map_or(Ok(()), |revocation| Err(Fault::Revoked(revocation)))
}

/// Leaves a fault for the log's sentence, with whom it concerns where the fault itself does not say.
fn testify(witness: &Witness, end_entity: &CertificateDer<'_>, fault: Fault) -> Error {
    if matches!(fault, Fault::WrongUsage { .. } | Fault::Revoked(_)) {
        note_claim(witness, end_entity);
    }
    witness.saw_fault(fault)
}

impl ClientCertVerifier for PeerCheck {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = match self.chain.verify_client_cert(end_entity, intermediates, now) {
            Ok(verified) => verified,
            Err(Error::InvalidCertificate(error)) => {
                note_claim(&self.witness, end_entity);
                return Err(self.witness.saw_fault(Fault::of_chain(&error, CLIENT_USAGE)));
            }
            Err(error) => return Err(error),
        };
        is_not_revoked(&self.lists, end_entity, intermediates)
            .and_then(|()| states_usage(end_entity, CLIENT_USAGE, |usage| usage.client_auth))
            .and_then(|()| identity_in(&self.cluster, end_entity))
            .map(|_| verified)
            .map_err(|fault| testify(&self.witness, end_entity, fault))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl ServerCheck {
    fn judge(&self, end_entity: &CertificateDer<'_>) -> Result<(), Fault> {
        states_usage(end_entity, SERVER_USAGE, |usage| usage.server_auth)?;
        let found = identity_in(&self.cluster, end_entity)?;
        if found.role() != Role::Node {
            return Err(Fault::NotANode { found });
        }
        match &self.expect {
            Expect::Node(name) if name != found.name() => {
                Err(Fault::WrongNode { expected: name.clone(), found })
            }
            Expect::Node(_) | Expect::AnyNode | Expect::AnySeat => Ok(()),
        }
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let names_the_host = match chain {
            Ok(_) => true,
            // webpki compares the host's name after everything else, so this error means that chain,
            // dates and usage are good (pinned by the tests of faulty certificates, which all dial by
            // a name that the certificate does not hold).
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => false,
            Err(Error::InvalidCertificate(error)) => {
                note_claim(&self.witness, end_entity);
                return Err(self.witness.saw_fault(Fault::of_chain(&error, SERVER_USAGE)));
            }
            Err(error) => return Err(error),
        };
        is_not_revoked(&self.lists, end_entity, intermediates)
            .map_err(|fault| testify(&self.witness, end_entity, fault))?;
        if !names_the_host && self.expect == Expect::AnyNode {
            let host = server_name.to_str().into_owned();
            return Err(self.witness.saw_fault(Fault::WrongHost { host }));
        }
        self.judge(end_entity).map_err(|fault| testify(&self.witness, end_entity, fault))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
