//! Revocation lists: who was issued a certificate by a CA and is not to be believed any more.
//!
//! The list is its own and only record: its number and its entries are read back from it, so nothing
//! else can disagree with it. Numbers rise as RFC 5280 §5.2.3 asks; each is at least the second of
//! 1970 in which it was given, so that a list made anew, after the former was lost or an older copy was
//! restored, still counts as newer than any before it.
//!
//! Entries stay as long as their CA: a list does not say when the certificates on it would have ended,
//! and a new CA begins with an empty one. A list is good for [`LIST_DAYS`]; nodes enforce one past its
//! date all the same and report it.

use std::fmt;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use serde::{Serialize, Serializer};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer, Pem, X509Certificate};

use super::authority::Authority;
use super::error::CertsError;
use super::facts::{self, rfc3339, serialize_time};
use crate::identity::signed;

/// Twice a leaf's default: whoever renews certificates in time renews the list in time.
pub const LIST_DAYS: i64 = 730;
/// Entries of one list. Every Secret holds a copy, and `kubectl apply` notes the whole of a manifest in an
/// annotation, of which Kubernetes takes 256 KiB; and every node reads it all.
pub const LIST_ENTRIES_MAX: usize = 3000;
/// Days before its end from which on a list is reported.
const SOON_DAYS: i64 = 30;

/// A list's number: up to twenty bytes (RFC 5280 §5.2.3), big-endian, without zeros in front.
#[derive(Clone, PartialEq, Eq)]
pub struct Number(Vec<u8>);

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The certificate's serial number, hexadecimal.
    pub serial: String,
    /// Since when.
    pub since: OffsetDateTime,
    raw: Vec<u8>,
}

/// A list with what stands in it. The field names are those of the JSON output.
#[derive(Clone, Serialize)]
pub struct List {
    /// Whose list it is: the CA's subject.
    pub issuer: String,
    /// Its number, decimal; lists of other making may have none.
    pub number: Option<Number>,
    /// When it was made.
    #[serde(serialize_with = "serialize_time")]
    pub this_update: OffsetDateTime,
    /// By when a newer one was promised.
    #[serde(serialize_with = "serialize_some_time")]
    pub next_update: Option<OffsetDateTime>,
    /// Who is on it, in its order.
    #[serde(skip)]
    pub revoked: Vec<Revoked>,
    #[serde(skip)]
    issuer_raw: Vec<u8>,
    #[serde(skip)]
    der: Vec<u8>,
    #[serde(skip)]
    pem: String,
}

impl Number {
    /// The one after this, and not below `least`.
    fn next(former: Option<&Number>, least: u64) -> Number {
        let least = Number::from_bytes(&least.to_be_bytes());
        let Some(former) = former else { return least };
        let mut bytes = former.0.clone();
        for byte in bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return Number(bytes).max(least);
            }
        }
        bytes.insert(0, 1);
        Number(bytes).max(least)
    }

    fn from_bytes(bytes: &[u8]) -> Number {
        Number(bytes.iter().copied().skip_while(|byte| *byte == 0).collect())
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> std::cmp::Ordering {
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Number {
    /// Decimal; one of other making that is too large for that, hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 16 {
            return write!(f, "0x{}", facts::hex(&self.0));
        }
        let number = self.0.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        write!(f, "{number}")
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Revoked {
    #[cfg(test)]
    pub(super) fn with_serial(raw: &[u8], since: OffsetDateTime) -> Revoked {
        Revoked { serial: facts::serial(raw), since, raw: raw.to_vec() }
    }

    /// The entry for a certificate in DER.
    pub(super) fn certificate(der: &[u8], since: OffsetDateTime) -> Result<Revoked, String> {
        let raw = facts::parse(der)?.raw_serial().to_vec();
        Ok(Revoked { serial: facts::serial(&raw), since, raw })
    }
}

impl List {
    /// Reads one list in DER.
    ///
    /// # Errors
    /// A sentence's tail, if the bytes are not one revocation list.
    pub fn of(der: &[u8]) -> Result<List, String> {
        let list = match CertificateRevocationList::from_der(der) {
            Ok(([], list)) => list,
            Ok(_) => return Err("holds bytes after the revocation list".into()),
            Err(e) => return Err(format!("is not a revocation list: {e}")),
        };
        let revoked = list.iter_revoked_certificates().map(|one| Revoked {
            serial: facts::serial(one.raw_serial()),
            since: one.revocation_date.to_datetime(),
            raw: one.raw_serial().to_vec(),
        });
        Ok(List {
            issuer: list.issuer().to_string(),
            number: list.crl_number().map(|number| Number::from_bytes(&number.to_bytes_be())),
            this_update: list.last_update().to_datetime(),
            next_update: list.next_update().map(|end| end.to_datetime()),
            revoked: revoked.collect(),
            issuer_raw: list.issuer().as_raw().to_vec(),
            der: der.to_vec(),
            pem: pem(der),
        })
    }

    /// The list, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The list, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The entry of a serial number, hexadecimal.
    #[must_use]
    pub fn find(&self, serial: &str) -> Option<&Revoked> {
        self.revoked.iter().find(|one| one.serial == serial)
    }

    /// Whether it says that it is the list of this CA, by the CA's name alone.
    pub(super) fn claims(&self, ca: &X509Certificate<'_>) -> bool {
        self.issuer_raw == ca.subject().as_raw()
    }

    /// Whether this CA signed it, under its own name.
    pub(super) fn is_of(&self, ca: &X509Certificate<'_>) -> bool {
        self.claims(ca) && signed::is_signed_by(&self.der, ca.public_key().raw)
    }

    /// What counts between two lists of one CA: the greater is the newer.
    pub(super) fn age(&self) -> (Option<&Number>, OffsetDateTime) {
        (self.number.as_ref(), self.this_update)
    }

    /// What is wrong with the list itself, or soon will be, one sentence's tail each.
    #[must_use]
    pub fn problems(&self, now: OffsetDateTime) -> Vec<String> {
        let mut problems = Vec::new();
        match self.next_update {
            None => problems.push("does not say until when it is good".into()),
            Some(end) if end < now => problems.push(format!(
                "was good until {}; it is still enforced, and `cltraft certs renew` makes it anew",
                rfc3339(end)
            )),
            Some(end) if (end - now).whole_days() < SOON_DAYS => {
                problems.push(format!("is good for {} days more", (end - now).whole_days()));
            }
            Some(_) => {}
        }
        if self.number.is_none() {
            problems.push("has no number, so it cannot be told from an older one".into());
        }
        problems
    }
}

impl PartialEq for List {
    fn eq(&self, other: &List) -> bool {
        self.der == other.der
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let List { issuer, number, revoked, .. } = self;
        write!(f, "List({issuer}, {number:?}, {revoked:?})")
    }
}

impl Authority {
    /// Makes its next list: everybody of `former`, and `more`.
    ///
    /// # Errors
    /// [`CertsError::CannotRevoke`] if the CA's key usage does not allow it,
    /// [`CertsError::ListFull`], [`CertsError::Generate`].
    pub fn list(
        &self,
        former: Option<&List>,
        more: &[Revoked],
        now: OffsetDateTime,
    ) -> Result<List, CertsError> {
        if !self.facts().signs_lists() {
            return Err(CertsError::CannotRevoke { ca: self.facts().subject.clone() });
        }
        let mut entries: Vec<&Revoked> = former.iter().flat_map(|list| &list.revoked).collect();
        for one in more {
            if !entries.iter().any(|known| known.serial == one.serial) {
                entries.push(one);
            }
        }
        if entries.len() > LIST_ENTRIES_MAX {
            return Err(CertsError::ListFull { ca: self.facts().subject.clone() });
        }
        let second = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let number = Number::next(former.and_then(|list| list.number.as_ref()), second);
        let entry = |one: &&Revoked| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&one.raw),
            revocation_time: one.since,
            reason_code: None,
            invalidity_date: None,
        };
        let made = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::days(LIST_DAYS),
            crl_number: SerialNumber::from_slice(&number.0),
            issuing_distribution_point: None,
            revoked_certs: entries.iter().map(entry).collect(),
            key_identifier_method: self.key_identifier(),
        }
        .signed_by(self.issuer())?;
        List::of(made.der()).map_err(CertsError::Generate)
    }

    /// As in the CA's certificate, for it is what the list's own identifier is compared with.
    fn key_identifier(&self) -> KeyIdMethod {
        match self.facts().subject_key_id.as_deref().and_then(facts::unhex) {
            Some(id) => KeyIdMethod::PreSpecified(id),
            None => KeyIdMethod::Sha256,
        }
    }
}

/// The lists of a PEM file, in order; other blocks are passed over.
pub(super) fn lists(text: &[u8]) -> Result<Vec<List>, String> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(text) {
        let block = block.map_err(|e| format!("is not a PEM file: {e}"))?;
        if block.label == "X509 CRL" {
            found.push(List::of(&block.contents)?);
        }
    }
    let blank = text.iter().all(u8::is_ascii_whitespace);
    if found.is_empty() && !blank { Err("holds no revocation list".into()) } else { Ok(found) }
}

fn pem(der: &[u8]) -> String {
    facts::pem("X509 CRL", der)
}

fn serialize_some_time<S: Serializer>(
    moment: &Option<OffsetDateTime>,
    s: S,
) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => serialize_time(moment, s),
        None => s.serialize_none(),
    }
}
