//! What becomes of a connection that stands when the certificates are replaced.
//!
//! Each connection keeps the certificate that its other side presented. After a reload it is judged
//! once more, by what is trusted now; and if our own certificate is another, the connection is to be
//! made anew, so that nobody still holds the old one when it expires or its CA is dropped. Renewals are
//! spread over [`RENEWAL`]: a node never makes all its connections anew at the same moment.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustls::Error;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio::time::{Instant, sleep_until};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Edition, Snapshot, Tls, Witness};
use crate::rpc::dialer::Expect;
use crate::rpc::refusals::Reason;

/// The time over which the renewals of one process's connections are spread.
const RENEWAL: Duration = Duration::from_secs(2);

/// Watches over one connection.
pub(in crate::rpc) struct Vigil {
    tls: Arc<Tls>,
    /// What the connection was made with, or judged by last.
    edition: Edition,
    /// What the other side presented.
    chain: Vec<CertificateDer<'static>>,
    side: Side,
    /// When the connection is to be made anew.
    renewal: Option<Instant>,
}

/// Which side the other one was verified as.
enum Side {
    Accepted,
    Dialed { expect: Expect, host: ServerName<'static> },
}

/// What is to become of a connection.
#[derive(Debug)]
pub(in crate::rpc) enum Verdict {
    /// The other side's certificate is no longer acceptable: the word for counters, and a sentence.
    Distrusted(Reason, String),
    /// It stands on our own former certificate.
    Renew,
}

impl Vigil {
    /// Over a connection that we accepted.
    pub(in crate::rpc) fn accepted(
        tls: Arc<Tls>,
        edition: Edition,
        chain: &[CertificateDer<'_>],
    ) -> Vigil {
        Vigil { tls, edition, chain: owned(chain), side: Side::Accepted, renewal: None }
    }

    /// Over a connection that we dialed.
    pub(in crate::rpc) fn dialed(
        tls: Arc<Tls>,
        edition: Edition,
        chain: &[CertificateDer<'_>],
        expect: Expect,
        host: ServerName<'static>,
    ) -> Vigil {
        let side = Side::Dialed { expect, host };
        Vigil { tls, edition, chain: owned(chain), side, renewal: None }
    }

    /// When the first certificate of the other side's chain to do so expires, in seconds since 1970.
    pub(in crate::rpc) fn expires(&self) -> Option<i64> {
        let end = |(_, certificate): (_, X509Certificate<'_>)| {
            certificate.validity().not_after.timestamp()
        };
        let parsed = self.chain.iter().filter_map(|der| X509Certificate::from_der(der).ok());
        parsed.map(end).min()
    }

    /// Resolves when there is something to do; if never, never. It may be dropped and asked for again: nothing is
    /// missed, and nothing said twice.
    pub(in crate::rpc) async fn verdict(&mut self) -> Verdict {
        let tls = Arc::clone(&self.tls);
        let mut snapshots = tls.snapshot.subscribe();
        loop {
            let seen = self.edition.reading;
            let newer = async {
                let newer = snapshots.wait_for(|snapshot| snapshot.edition.reading != seen).await;
                newer.map(|snapshot| Arc::clone(&snapshot))
            };
            let due = async {
                match self.renewal {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            let snapshot = tokio::select! {
                biased;
                Ok(newer) = newer => newer,
                () = due => {
                    self.renewal = None;
                    return Verdict::Renew;
                }
            };
            self.edition.reading = snapshot.edition.reading;
            if let Err((reason, sentence)) = self.judge(&snapshot) {
                return Verdict::Distrusted(reason, sentence);
            }
            if snapshot.edition.own != self.edition.own {
                self.edition.own = snapshot.edition.own;
                self.renewal.get_or_insert_with(|| Instant::now() + turn());
            }
        }
    }

    /// The verification of the handshake once more, by another reading of the files.
    fn judge(&self, snapshot: &Snapshot) -> Result<(), (Reason, String)> {
        let witness = Witness::default();
        let now = UnixTime::now();
        let Some((leaf, intermediates)) = self.chain.split_first() else { return Ok(()) };
        let judged: Result<(), Error> = match &self.side {
            Side::Accepted => {
                let check = self.tls.peer_check(snapshot, &witness);
                check.verify_client_cert(leaf, intermediates, now).map(drop)
            }
            Side::Dialed { expect, host } => {
                let check = self.tls.server_check(snapshot, expect, &witness);
                check.verify_server_cert(leaf, intermediates, host, &[], now).map(drop)
            }
        };
        judged.map_err(|error| match witness.fault() {
            Some(fault) => (fault.reason(), fault.to_string()),
            None => (Reason::BadCertificate, error.to_string()),
        })
    }
}

fn owned(chain: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|der| der.clone().into_owned()).collect()
}

/// The next renewal's place in [`RENEWAL`]. Multiples of the golden ratio, taken modulo one, never
/// come close together, however many there are.
fn turn() -> Duration {
    const GOLDEN: u32 = 0x9E37_79B9;
    static TURNS: AtomicU32 = AtomicU32::new(0);
    let place = TURNS.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN);
    RENEWAL.mul_f64(f64::from(place) / f64::from(u32::MAX))
}
