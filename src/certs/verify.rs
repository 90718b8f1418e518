//! Whether a peer would accept a certificate, asked of the very verifier that peers use.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use time::OffsetDateTime;

use super::facts::Facts;

/// What a certificate is presented for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To a server, by one who dials.
    Client,
    /// To a client, by one who listens; checked for one of the certificate's own names.
    Server,
}

/// Checks signatures, chain, dates and usage; not the URI name, which is `rpc`'s to judge.
///
/// `chain` is the certificate, then its intermediates, each in DER; `roots` the CAs trusted.
///
/// # Errors
/// A sentence's tail that says why it would be refused.
pub fn verify(
    chain: &[Vec<u8>],
    roots: &[Vec<u8>],
    purpose: Purpose,
    now: OffsetDateTime,
) -> Result<(), String> {
    let [leaf, intermediates @ ..] = chain else {
        return Err("there is no certificate".into());
    };
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(CertificateDer::from(root.as_slice()))
            .map_err(|e| format!("a CA of ca.crt cannot be used: {e}"))?;
    }
    let seconds = u64::try_from(now.unix_timestamp()).map_err(|_| "the clock is before 1970")?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let end_entity = CertificateDer::from(leaf.as_slice());
    let intermediates: Vec<_> =
        intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let (store, provider) = (Arc::new(store), Arc::new(aws_lc_rs::default_provider()));
    let outcome = match purpose {
        Purpose::Client => WebPkiClientVerifier::builder_with_provider(store, provider)
            .build()
            .map_err(|e| e.to_string())?
            .verify_client_cert(&end_entity, &intermediates, now)
            .map(|_| ()),
        Purpose::Server => WebPkiServerVerifier::builder_with_provider(store, provider)
            .build()
            .map_err(|e| e.to_string())?
            .verify_server_cert(&end_entity, &intermediates, &own_name(leaf)?, &[], now)
            .map(|_| ()),
    };
    outcome.map_err(|e| e.to_string())
}

fn own_name(leaf: &[u8]) -> Result<ServerName<'static>, String> {
    let facts = Facts::of(leaf, OffsetDateTime::UNIX_EPOCH)?;
    let ip = |ip: &IpAddr| ServerName::IpAddress((*ip).into());
    match (facts.dns.first(), facts.ips.first()) {
        (Some(name), _) => ServerName::try_from(name.clone()).map_err(|e| e.to_string()),
        (None, Some(address)) => Ok(ip(address)),
        (None, None) => Err("it has no DNS name and no IP address".into()),
    }
}
