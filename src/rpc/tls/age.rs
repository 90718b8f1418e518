//! Warnings before a certificate expires: 30, 7 and 1 days ahead, and when its time is over.

use std::collections::HashMap;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{TlsFiles, moment};

const DAY: i64 = 24 * 60 * 60;

/// The days ahead at which a warning is due. A certificate issued for a shorter time than that would
/// be warned of all its life, and is not.
const AHEAD: [i64; 4] = [0, 1, 7, 30];

/// A certificate of ours, or one that we trust, and its time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Dated {
    /// The file, and which certificate of it.
    what: String,
    /// Seconds since 1970.
    from: i64,
    /// Seconds since 1970.
    until: i64,
}

impl Dated {
    /// Our own certificate and every CA of the bundle.
    pub(super) fn of(files: &TlsFiles) -> Vec<Dated> {
        let own = Dated {
            what: format!("the certificate in {}", files.certificate_path.display()),
            from: files.not_before,
            until: files.not_after,
        };
        let authorities = files.ca.iter().filter_map(|der| Dated::authority(&files.ca_path, der));
        std::iter::once(own).chain(authorities).collect()
    }

    fn authority(path: &Path, der: &CertificateDer<'_>) -> Option<Dated> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let (name, time) = (certificate.subject(), certificate.validity());
        Some(Dated {
            what: format!("the CA {name} in {}", path.display()),
            from: time.not_before.timestamp(),
            until: time.not_after.timestamp(),
        })
    }

    /// Which warning is due at `now`: the days ahead.
    fn due(&self, now: i64) -> Option<i64> {
        let is_due =
            |days: &i64| now >= self.until - days * DAY && days * DAY < self.until - self.from;
        AHEAD.into_iter().find(is_due)
    }
}

/// What was said already.
#[derive(Debug, Default)]
pub(super) struct Ageing {
    said: HashMap<Dated, i64>,
}

impl Ageing {
    /// The sentences that are due now, each once; and whether the time is over.
    pub(super) fn warnings(&mut self, all: &[Dated], now: i64) -> Vec<(bool, String)> {
        self.said.retain(|dated, _| all.contains(dated));
        let mut warnings = Vec::new();
        for dated in all {
            let Some(days) = dated.due(now) else { continue };
            if self.said.insert(dated.clone(), days) == Some(days) {
                continue;
            }
            let (what, end) = (&dated.what, moment(dated.until));
            warnings.push(match days {
                0 => (true, format!("{what} expired on {end}; issue a new one")),
                _ => {
                    let left = (dated.until - now).max(0);
                    let (days, hours) = (left / DAY, left % DAY / 3600);
                    (
                        false,
                        format!("{what} expires on {end}, in {days} d {hours} h; issue a new one"),
                    )
                }
            });
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_said_once_and_in_its_time() {
        let dated = |days| Dated { what: "it".into(), from: 0, until: days * DAY };
        let (long, short) = (dated(100), dated(20));
        let mut ageing = Ageing::default();
        let mut said = |all: &[Dated], day: i64| ageing.warnings(all, day * DAY);
        let one = std::slice::from_ref(&long);
        assert!(said(one, 69).is_empty(), "31 days ahead");
        assert!(said(one, 70)[0].1.contains("in 30 d 0 h"));
        assert!(said(one, 71).is_empty(), "it has been said");
        assert_eq!(said(one, 94).len(), 1, "7 days ahead");
        assert_eq!(
            said(one, 99),
            [(
                false,
                "it expires on 1970-04-11 00:00:00 UTC, in 1 d 0 h; issue a new one".to_owned()
            )]
        );
        assert!(said(one, 100)[0].0, "over");
        assert!(said(one, 200).is_empty(), "said once");
        let two = [long, short];
        assert!(said(&two[1..], 1).is_empty(), "issued for less than 30 days");
        assert_eq!(said(&two[1..], 13).len(), 1);
        assert_eq!(said(&two, 13).len(), 0, "the clock was set back: the other one is young again");
        assert_eq!(said(&two, 70).len(), 2);
    }
}
