//! Warnings before a certificate or a revocation list ends: 30, 7 and 1 days ahead, and when its time is over.

use std::collections::HashMap;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::crl::Crl;
use super::files::{TlsFiles, moment};

const DAY: i64 = 24 * 60 * 60;

/// The days ahead at which a warning is due. What was issued for a shorter time than that would be
/// warned of all its life, and is not.
const AHEAD: [i64; 4] = [0, 1, 7, 30];

/// Something of ours that has an end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dated {
    /// Which one, and its file.
    pub what: String,
    /// Of which kind.
    pub kind: DatedKind,
    /// Its beginning, in seconds since 1970.
    from: i64,
    /// Its end, in seconds since 1970.
    pub until: i64,
}

/// The kinds of what has an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DatedKind {
    /// Our own certificate.
    Own,
    /// A CA of the bundle.
    Ca,
    /// A revocation list that is in force; its end is its `nextUpdate`.
    Crl,
}

impl DatedKind {
    /// The stable word, for labels and fields.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            DatedKind::Own => "own",
            DatedKind::Ca => "ca",
            DatedKind::Crl => "crl",
        }
    }
}

impl Dated {
    /// Our own certificate and every CA of the bundle.
    pub(super) fn of(files: &TlsFiles) -> Vec<Dated> {
        let own = Dated {
            what: format!("the certificate in {}", files.certificate_path.display()),
            kind: DatedKind::Own,
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
            kind: DatedKind::Ca,
            from: time.not_before.timestamp(),
            until: time.not_after.timestamp(),
        })
    }

    /// A list, if it says when the next one is due.
    pub(super) fn list(list: &Crl, path: &Path) -> Option<Dated> {
        Some(Dated {
            what: format!("the revocation list of {} in {}", list.issuer, path.display()),
            kind: DatedKind::Crl,
            from: list.from,
            until: list.until?,
        })
    }

    /// Which warning is due at `now`: the days ahead.
    fn due(&self, now: i64) -> Option<i64> {
        let is_due =
            |days: &i64| now >= self.until - days * DAY && days * DAY < self.until - self.from;
        AHEAD.into_iter().find(is_due)
    }
}

impl Dated {
    fn warning(&self, is_over: bool, now: i64) -> String {
        let (what, end) = (&self.what, moment(self.until));
        let left = (self.until - now).max(0);
        let left = format!("in {} d {} h", left / DAY, left % DAY / 3600);
        match (self.kind, is_over) {
            (DatedKind::Crl, true) => format!(
                "{what} should have been followed by a newer one by {end}; it is still enforced, put the \
                 CA's newest one there"
            ),
            (DatedKind::Crl, false) => {
                format!("{what} is to be followed by a newer one by {end}, {left}; put it there")
            }
            (_, true) => format!("{what} expired on {end}; issue a new one"),
            (_, false) => format!("{what} expires on {end}, {left}; issue a new one"),
        }
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
            warnings.push((days == 0, dated.warning(days == 0, now)));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_said_once_and_in_its_time() {
        let dated =
            |days| Dated { what: "it".into(), kind: DatedKind::Own, from: 0, until: days * DAY };
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
        let list = Dated { kind: DatedKind::Crl, ..dated(100) };
        let due = |day: i64| list.warning(day >= 100, day * DAY);
        assert!(due(94).contains("to be followed by a newer one by 1970-04-11"), "{}", due(94));
        assert!(due(101).contains("it is still enforced"), "{}", due(101));
        let two = [long, short];
        assert!(said(&two[1..], 1).is_empty(), "issued for less than 30 days");
        assert_eq!(said(&two[1..], 13).len(), 1);
        assert_eq!(said(&two, 13).len(), 0, "the clock was set back: the other one is young again");
        assert_eq!(said(&two, 70).len(), 2);
    }
}
