//! Mutual TLS: our own certificate, whom we trust, and one configuration for each new connection.
//!
//! TLS 1.3 only, aws-lc-rs, the hybrid key exchange X25519MLKEM768 first. Resumption, tickets and
//! early data are off on both sides: a resumed session would skip the certificate check, and early
//! data can be replayed. What the files said stands in one immutable snapshot, and every listener and
//! dialer takes its configuration from there, through the two functions of this module. A reload puts
//! in another snapshot: new connections use it from then on, and each one that stands is judged by it
//! (`vigil`). `watch` looks for other files.
//! Every listener and every dialer obeys the revocation lists of the same snapshot: `crl` judges each
//! list as it is read, `lists` keeps those in force and finds what they name in a chain.
//!
//! Not implemented: delta, indirect and partitioned lists, OCSP. They are refused, or not asked for.

mod age;
mod crl;
mod fault;
mod files;
mod lists;
mod verify;
mod vigil;
mod watch;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig,
};
use tokio::sync::watch::Sender;

pub use age::{Dated, DatedKind};
#[cfg(test)]
pub(super) use fault::Fault;
pub(super) use fault::{Witness, alert_meaning, alert_reason, tls_error};
pub use files::{TlsError, TlsFiles};
use lists::{Lists, Remark};
pub(super) use vigil::{Verdict, Vigil};
#[cfg(test)]
pub(super) use watch::{Look, Watch};

use super::dialer::Expect;
use crate::identity::Identity;
use verify::{PeerCheck, ServerCheck};

/// Our own identity and whom we trust.
#[derive(Debug)]
pub struct Tls {
    identity: Identity,
    provider: Arc<CryptoProvider>,
    snapshot: Sender<Arc<Snapshot>>,
    /// Held while replacing: each reading has a number of its own.
    replacing: Mutex<()>,
    /// How often other files were found and not taken into use.
    refused: AtomicU64,
}

/// What one reading of the files gave.
#[derive(Debug)]
struct Snapshot {
    edition: Edition,
    own: Arc<SingleCertAndKey>,
    chain: Vec<CertificateDer<'static>>,
    ca: Vec<CertificateDer<'static>>,
    not_after: i64,
    dated: Vec<Dated>,
    lists: Arc<Lists>,
    /// What is to be said of the files though they are in use.
    remarks: Vec<Remark>,
    peers: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
}

/// Tells readings of the files apart, so that a connection knows whether it was made with the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edition {
    /// Counts the readings that differed.
    reading: u64,
    /// The reading that brought our own certificate.
    own: u64,
}

/// What a reload changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Our own certificate.
    pub own: bool,
    /// The CAs that we trust.
    pub trust: bool,
    /// What they have revoked.
    pub lists: bool,
}

impl Replaced {
    fn anything(self) -> bool {
        self.own || self.trust || self.lists
    }
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
        let edition = Edition { reading: 0, own: 0 };
        let snapshot = Snapshot::new(files, &provider, edition, &Lists::default())?;
        let (snapshot, replacing) = (Sender::new(Arc::new(snapshot)), Mutex::default());
        let refused = AtomicU64::new(0);
        Ok(Arc::new(Tls { identity, provider, snapshot, replacing, refused }))
    }

    /// Uses other files from now on: for every new connection, and to judge those that stand. A
    /// connection whose other side they do not accept is closed; if our own certificate is another,
    /// every connection is made anew, one after the other, so that each call is still answered.
    ///
    /// # Errors
    /// [`TlsError`], and everything stays as it was: also if the files are for another identity, or our
    /// own certificate is signed by none of their CAs.
    pub fn replace(&self, files: TlsFiles) -> Result<Replaced, TlsError> {
        if files.identity != self.identity {
            return Err(TlsError::IdentityChanged {
                path: files.certificate_path,
                found: Box::new(files.identity),
                own: Box::new(self.identity.clone()),
            });
        }
        let _alone = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let former = self.current();
        let (path, ca) = (files.certificate_path.clone(), files.ca_path.clone());
        let mut snapshot = Snapshot::new(files, &self.provider, former.edition, &former.lists)?;
        snapshot.accepts_itself().map_err(|fault| TlsError::Untrusted { path, ca, fault })?;
        let replaced = Replaced {
            own: snapshot.chain != former.chain,
            trust: snapshot.ca != former.ca,
            lists: !snapshot.lists.same_as(&former.lists),
        };
        if replaced.anything() {
            snapshot.edition.reading += 1;
        }
        if replaced.own {
            snapshot.edition.own = snapshot.edition.reading;
        }
        // Also if nothing has changed but what is to be said.
        self.snapshot.send_replace(Arc::new(snapshot));
        Ok(replaced)
    }

    fn current(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Who we are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When our certificate expires, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.current().not_after
    }

    /// Everything of ours that has an end, as it is in use now.
    #[must_use]
    pub fn dates(&self) -> Vec<Dated> {
        self.current().dated.clone()
    }

    /// How often other files have been taken into use.
    #[must_use]
    pub fn reloads(&self) -> u64 {
        self.current().edition.reading
    }

    /// How often other files were found and are not used, because they are bad.
    #[must_use]
    pub fn refused_reloads(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The configuration for one accepted connection, and what its verifier will have seen.
    pub(super) fn server_config(&self) -> Result<(Arc<ServerConfig>, Witness, Edition), Error> {
        let snapshot = self.current();
        let witness = Witness::default();
        let check = self.peer_check(&snapshot, &witness);
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(check))
            .with_cert_resolver(snapshot.own.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok((Arc::new(config), witness, snapshot.edition))
    }

    /// The configuration for one dialed connection, and what its verifier will have seen.
    pub(super) fn client_config(
        &self,
        expect: &Expect,
    ) -> Result<(Arc<ClientConfig>, Witness, Edition), Error> {
        let snapshot = self.current();
        let witness = Witness::default();
        let check = self.server_check(&snapshot, expect, &witness);
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(check))
            .with_client_cert_resolver(snapshot.own.clone());
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        Ok((Arc::new(config), witness, snapshot.edition))
    }

    fn peer_check(&self, snapshot: &Snapshot, witness: &Witness) -> PeerCheck {
        PeerCheck {
            chain: snapshot.peers.clone(),
            lists: snapshot.lists.clone(),
            cluster: self.identity.cluster().to_owned(),
            witness: witness.clone(),
        }
    }

    fn server_check(&self, snapshot: &Snapshot, expect: &Expect, witness: &Witness) -> ServerCheck {
        ServerCheck {
            chain: snapshot.servers.clone() as Arc<dyn ServerCertVerifier>,
            lists: snapshot.lists.clone(),
            cluster: self.identity.cluster().to_owned(),
            expect: expect.clone(),
            witness: witness.clone(),
        }
    }
}

#[cfg(test)]
impl Tls {
    pub(super) fn remarks(&self) -> Vec<Remark> {
        self.current().remarks.clone()
    }

    pub(super) fn lists(&self) -> Arc<Lists> {
        self.current().lists.clone()
    }
}

impl Snapshot {
    fn new(
        files: TlsFiles,
        provider: &Arc<CryptoProvider>,
        edition: Edition,
        former: &Lists,
    ) -> Result<Snapshot, TlsError> {
        let (lists, mut remarks) = former.renewed(&files);
        if let Some(revocation) = lists.revocation(&files.chain) {
            let path = files.certificate_path.display();
            let sentence = format!(
                "the certificate in {path} {revocation}: whoever has this list refuses us; issue a new one"
            );
            remarks.push(Remark { grave: true, sentence });
        }
        let mut dated = Dated::of(&files);
        dated.extend(lists.dated(&files));
        let mut roots = RootCertStore::empty();
        for certificate in &files.ca {
            roots.add(certificate.clone()).map_err(|e| TlsError::Content {
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
        let own = CertifiedKey::from_der(files.chain.clone(), files.key, provider).map_err(
            |e| match e {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                    certificate: files.certificate_path.clone(),
                    key: files.key_path.clone(),
                },
                other => TlsError::Unusable {
                    path: files.certificate_path.clone(),
                    fault: other.to_string(),
                },
            },
        )?;
        let own = Arc::new(SingleCertAndKey::from(own));
        let TlsFiles { chain, ca, not_after, .. } = files;
        let lists = Arc::new(lists);
        Ok(Snapshot { edition, own, chain, ca, not_after, dated, lists, remarks, peers, servers })
    }

    /// Whether the CAs that we trust make our own certificate acceptable: peers have the same ones, or
    /// will have them soon.
    fn accepts_itself(&self) -> Result<(), String> {
        let verified =
            self.peers.verify_client_cert(&self.chain[0], &self.chain[1..], UnixTime::now());
        match verified {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => Err("none of the CAs there signed it".to_owned()),
            Err(error) => Err(error.to_string()),
        }
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
