//! Mutual TLS: our own certificate, whom we trust, and one configuration for each new connection.
//!
//! TLS 1.3 only, aws-lc-rs, the hybrid key exchange X25519MLKEM768 first. Resumption, tickets and
//! early data are off on both sides: a resumed session would skip the certificate check, and early
//! data can be replayed. What the files said stands in one immutable snapshot behind an atomic
//! pointer, and every listener and dialer takes its configuration from there, through the two
//! functions of this module; putting in another snapshot is all that a reload has to do.
//!
//! Not implemented: watching the files; revocation lists.

mod fault;
mod files;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

pub(super) use fault::{Witness, alert_meaning, tls_error};
pub use files::{TlsError, TlsFiles};

use super::dialer::Expect;
use crate::identity::Identity;
use verify::{PeerCheck, ServerCheck};

/// Our own identity and whom we trust.
#[derive(Debug)]
pub struct Tls {
    identity: Identity,
    provider: Arc<CryptoProvider>,
    snapshot: ArcSwap<Snapshot>,
}

/// What one reading of the files gave.
#[derive(Debug)]
struct Snapshot {
    own: Arc<SingleCertAndKey>,
    not_after: i64,
    peers: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
}

impl Tls {
    /// Reads and checks a directory of certificates; `seat` is a node's name, none for clients and
    /// admins.
    ///
    /// # Errors
    /// [`TlsError`] names the file and the way out.
    pub fn load(directory: &Path, seat: Option<&str>) -> Result<Arc<Tls>, TlsError> {
        let files = TlsFiles::read(directory, seat)?;
        files.check(unix_now())?;
        Tls::new(files)
    }

    /// Uses what was read, whatever [`TlsFiles::check`] would say of it.
    ///
    /// # Errors
    /// [`TlsError`] if certificate and key are no pair, or the library takes one of them not.
    pub fn new(files: TlsFiles) -> Result<Arc<Tls>, TlsError> {
        let provider = Arc::new(provider());
        let identity = files.identity.clone();
        let snapshot = Snapshot::new(files, &provider)?;
        Ok(Arc::new(Tls { identity, provider, snapshot: ArcSwap::from_pointee(snapshot) }))
    }

    /// Uses other files for every new connection. Those that stand keep what they were made with.
    ///
    /// # Errors
    /// [`TlsError`], and everything stays as it was; also if the files are for another identity.
    pub fn replace(&self, files: TlsFiles) -> Result<(), TlsError> {
        if files.identity != self.identity {
            return Err(TlsError::IdentityChanged {
                path: files.certificate_path,
                found: Box::new(files.identity),
                own: Box::new(self.identity.clone()),
            });
        }
        self.snapshot.store(Arc::new(Snapshot::new(files, &self.provider)?));
        Ok(())
    }

    /// Who we are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When our certificate expires, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.snapshot.load().not_after
    }

    /// The configuration for one accepted connection, and what its verifier will have seen.
    pub(super) fn server_config(&self) -> Result<(Arc<ServerConfig>, Witness), Error> {
        let snapshot = self.snapshot.load_full();
        let witness = Witness::default();
        let check = PeerCheck {
            chain: snapshot.peers.clone(),
            cluster: self.identity.cluster().to_owned(),
            witness: witness.clone(),
        };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(check))
            .with_cert_resolver(snapshot.own.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok((Arc::new(config), witness))
    }

    /// The configuration for one dialed connection, and what its verifier will have seen.
    pub(super) fn client_config(
        &self,
        expect: &Expect,
    ) -> Result<(Arc<ClientConfig>, Witness), Error> {
        let snapshot = self.snapshot.load_full();
        let witness = Witness::default();
        let check = ServerCheck {
            chain: snapshot.servers.clone() as Arc<dyn ServerCertVerifier>,
            cluster: self.identity.cluster().to_owned(),
            expect: expect.clone(),
            witness: witness.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(check))
            .with_client_cert_resolver(snapshot.own.clone());
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        Ok((Arc::new(config), witness))
    }
}

impl Snapshot {
    fn new(files: TlsFiles, provider: &Arc<CryptoProvider>) -> Result<Snapshot, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in files.ca {
            roots.add(certificate).map_err(|e| TlsError::Content {
                path: files.ca_path.clone(),
                fault: format!("holds a certificate that cannot be a CA's: {e}"),
            })?;
        }
        let roots = Arc::new(roots);
        let no_roots = |e: rustls::server::VerifierBuilderError| TlsError::Content {
            path: files.ca_path.clone(),
            fault: format!("gives nobody to trust: {e}"),
        };
        let peers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(no_roots)?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(no_roots)?;
        let own =
            CertifiedKey::from_der(files.chain, files.key, provider).map_err(|e| match e {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                    certificate: files.certificate_path.clone(),
                    key: files.key_path.clone(),
                },
                other => TlsError::Unusable {
                    path: files.certificate_path.clone(),
                    fault: other.to_string(),
                },
            })?;
        let own = Arc::new(SingleCertAndKey::from(own));
        Ok(Snapshot { own, not_after: files.not_after, peers, servers })
    }
}

/// aws-lc-rs with the hybrid key exchange first.
fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "certificates are judged by the calendar")]
pub(super) fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}

/// When the first certificate of a chain to do so expires, in seconds since 1970.
pub(super) fn certificate_end(chain: &[CertificateDer<'_>]) -> Option<i64> {
    chain
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok())
        .map(|(_, certificate)| certificate.validity().not_after.timestamp())
        .min()
}
