//! One revocation list: what it must be like to be taken, and what it says.
//!
//! A list is judged when it is read, and taken whole or not at all, because a list that is half understood
//! lets somebody in whom its CA has revoked. What is taken: whole lists (RFC 5280 section 5), with or
//! without extensions, signed by the very CA whose certificates they are about. What is not: delta
//! lists, lists for a part of a CA's certificates or for those of other issuers, critical extensions
//! that mean nothing here. Dates are noted and never a reason to take a list not.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::num_bigint::BigUint;
use x509_parser::oid_registry::{
    OID_X509_EXT_CRL_NUMBER, OID_X509_EXT_DELTA_CRL_INDICATOR,
    OID_X509_EXT_ISSUER_DISTRIBUTION_POINT,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};
use x509_parser::x509::{ReasonCode, X509Name, X509Version};

use super::files::moment;
use crate::identity::printable;
use crate::identity::signed::is_signed_by;

/// The longest number of a list, in bits (RFC 5280 section 5.2.3: 20 octets).
const NUMBER_BITS_MAX: u64 = 160;

/// `id-ce-certificateIssuer` (RFC 5280 section 5.3.3).
const CERTIFICATE_ISSUER: Oid<'static> = oid!(2.5.29.29);

/// A CA as its lists know it: a name and a key. One that was renewed with both is the same one still,
/// and one of the same name with another key is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CaId {
    pub(super) name: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// A CA certificate of the bundle.
#[derive(Clone, Debug)]
pub(super) struct Ca {
    pub(super) id: CaId,
    /// Its name, for people.
    pub(super) shown: String,
    may_sign_lists: bool,
    pub(super) der: CertificateDer<'static>,
}

/// A list that may be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rpc) struct Crl {
    pub(super) ca: CaId,
    /// The CA's name, for people.
    pub(super) issuer: String,
    number: Option<BigUint>,
    /// `thisUpdate`, in seconds since 1970.
    pub(super) from: i64,
    /// `nextUpdate`, likewise.
    pub(super) until: Option<i64>,
    /// The serial numbers, without leading zeros, and since when.
    revoked: BTreeMap<Vec<u8>, i64>,
}

/// What a block of `ca.crl` is to us.
#[derive(Debug)]
pub(super) enum Judged {
    Taken(Crl),
    /// Of an issuer that is not in the bundle: its name.
    Foreign(String),
}

impl Ca {
    /// The CAs of a bundle. What is no certificate is left out; others find it.
    pub(super) fn all(bundle: &[CertificateDer<'static>]) -> Vec<Ca> {
        bundle.iter().filter_map(Ca::of).collect()
    }

    fn of(der: &CertificateDer<'static>) -> Option<Ca> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        // Without the extension a key may be used for everything (RFC 5280 section 6.3.3, f).
        let usage = certificate.key_usage().ok()?;
        Some(Ca {
            id: CaId::of(&certificate),
            shown: name(certificate.subject()),
            may_sign_lists: usage.is_none_or(|usage| usage.value.crl_sign()),
            der: der.clone(),
        })
    }
}

impl CaId {
    pub(super) fn of(certificate: &X509Certificate<'_>) -> CaId {
        let (name, key) = (certificate.subject().as_raw(), certificate.public_key().raw);
        CaId { name: name.to_vec(), key: key.to_vec() }
    }
}

impl Crl {
    /// Judges a list in DER by the CAs that may have signed it.
    ///
    /// # Errors
    /// The end of a sentence that begins with the file's name.
    pub(super) fn judge(der: &[u8], cas: &[Ca]) -> Result<Judged, String> {
        let unreadable = |what: &str| {
            format!(
                "holds a revocation list that cannot be read ({what}); fetch it again from its CA"
            )
        };
        let (rest, list) = CertificateRevocationList::from_der(der)
            .map_err(|error| unreadable(&error.to_string()))?;
        let issuer = name(list.issuer());
        if !cas.iter().any(|ca| ca.id.name == list.issuer().as_raw()) {
            return Ok(Judged::Foreign(issuer));
        }
        if !rest.is_empty() || list.tbs_cert_list.signature != list.signature_algorithm {
            return Err(unreadable("it contradicts itself"));
        }
        let signers = cas
            .iter()
            .filter(|ca| ca.id.name == list.issuer().as_raw() && is_signed_by(der, &ca.id.key));
        let signers: Vec<&Ca> = signers.collect();
        let Some(signer) = signers.first() else {
            return Err(format!(
                "holds a revocation list in the name of {issuer} that none of the CAs of that name in \
                 ca.crt signed; fetch it again from its CA, or take it out if that CA was dropped"
            ));
        };
        let refused = |what: &str| Err(format!("holds a revocation list of {issuer} {what}"));
        if !signers.iter().any(|ca| ca.may_sign_lists) {
            return refused(
                "whose certificate lacks the key usage cRLSign; issue the CA's certificate with it",
            );
        }
        if let Err(what) = check_form(&list) {
            return refused(&what);
        }
        let number = match list.crl_number() {
            Some(number) if number.bits() > NUMBER_BITS_MAX => {
                return refused("with a number of more than 20 octets; the CA must count anew");
            }
            number => number.cloned(),
        };
        let entry = |entry: &RevokedCertificate<'_>| {
            (serial(entry.raw_serial()).to_vec(), entry.revocation_date.timestamp())
        };
        Ok(Judged::Taken(Crl {
            ca: signer.id.clone(),
            issuer: issuer.clone(),
            number,
            from: list.last_update().timestamp(),
            until: list.next_update().map(|end| end.timestamp()),
            revoked: list.iter_revoked_certificates().map(entry).collect(),
        }))
    }

    /// Whether the CA issued this one before the other: by their numbers, if both have one, then by their
    /// dates.
    pub(super) fn is_older_than(&self, other: &Crl) -> bool {
        let by_number = match (&self.number, &other.number) {
            (Some(one), Some(other)) => one.cmp(other),
            _ => Ordering::Equal,
        };
        by_number.then(self.from.cmp(&other.from)) == Ordering::Less
    }

    /// How many it names whom the other does not.
    pub(super) fn beyond(&self, other: &Crl) -> usize {
        self.revoked.keys().filter(|serial| !other.revoked.contains_key(*serial)).count()
    }

    /// Since when this CA has revoked a certificate of its own, in seconds since 1970.
    pub(super) fn revokes(&self, certificate: &X509Certificate<'_>, der: &[u8]) -> Option<i64> {
        if certificate.issuer().as_raw() != self.ca.name {
            return None;
        }
        let since = *self.revoked.get(serial(certificate.raw_serial()))?;
        // What a root says of itself ends no trust: the bundle does. And another CA of the same name
        // may have given out the same number.
        let is_its_own = CaId::of(certificate) == self.ca;
        (!is_its_own && is_signed_by(der, &self.ca.key)).then_some(since)
    }

    /// Which one it is: "number 7 of 2026-11-21 10:00:00 UTC".
    pub(super) fn edition(&self) -> String {
        let date = moment(self.from);
        match &self.number {
            Some(number) => format!("number {number} of {date}"),
            None => format!("of {date}"),
        }
    }
}

/// What a list's form must be; the end of a sentence.
fn check_form(list: &CertificateRevocationList<'_>) -> Result<(), String> {
    if !matches!(list.version(), None | Some(X509Version::V2)) {
        return Err("of an unknown version".to_owned());
    }
    if list.tbs_cert_list.extensions_map().is_err() {
        return Err("that has an extension twice".to_owned());
    }
    list.extensions().iter().try_for_each(check_extension)?;
    list.iter_revoked_certificates().try_for_each(check_entry)
}

fn check_extension(extension: &X509Extension<'_>) -> Result<(), String> {
    let oid = &extension.oid;
    let what = if *oid == OID_X509_EXT_DELTA_CRL_INDICATOR {
        "that only says what has changed (a delta list); whole lists are taken alone"
    } else if *oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT {
        "for a part of its certificates, or for those of others (it has an issuing distribution point); \
         only lists for all certificates of a CA are taken"
    } else {
        match extension.parsed_extension() {
            // Which key signed is found out by trying.
            ParsedExtension::CRLNumber(_) | ParsedExtension::AuthorityKeyIdentifier(_) => {
                return Ok(());
            }
            _ if *oid == OID_X509_EXT_CRL_NUMBER => "with a number that is none",
            _ if extension.critical => {
                return Err(format!(
                    "with the critical extension {oid}, which is not understood here"
                ));
            }
            _ => return Ok(()),
        }
    };
    Err(what.to_owned())
}

fn check_entry(entry: &RevokedCertificate<'_>) -> Result<(), String> {
    for extension in entry.extensions() {
        let oid = &extension.oid;
        if *oid == CERTIFICATE_ISSUER {
            return Err(
                "with certificates of other issuers (an indirect list); only lists of a CA's own \
                        certificates are taken"
                    .to_owned(),
            );
        }
        match extension.parsed_extension() {
            ParsedExtension::ReasonCode(ReasonCode::RemoveFromCRL) => {
                return Err(
                    "that takes certificates off another list (removeFromCRL), as only delta \
                            lists may; whole lists are taken alone"
                        .to_owned(),
                );
            }
            ParsedExtension::ReasonCode(_) | ParsedExtension::InvalidityDate(_) => {}
            _ if extension.critical => {
                return Err(format!(
                    "with the critical extension {oid} of an entry, which is not understood here"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A serial number as it is compared: an encoder may have put a zero in front.
fn serial(raw: &[u8]) -> &[u8] {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    &raw[zeros..]
}

/// A name, for people.
pub(super) fn name(name: &X509Name<'_>) -> String {
    printable(&name.to_string())
}
