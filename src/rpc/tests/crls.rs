//! Makes revocation lists, good and bad in any way, byte by byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pki::{Ca, Leaf};

/// What a list says; the default is a good one that revokes nobody.
#[derive(Clone)]
pub(super) struct Listing {
    pub(super) version: Option<u8>,
    /// Content of the CRL number's INTEGER; none leaves the extension out.
    pub(super) number: Option<Vec<u8>>,
    /// Days from now.
    pub(super) from: i64,
    pub(super) until: Option<i64>,
    pub(super) entries: Vec<Entry>,
    /// Behind the entries, as they are.
    pub(super) more_entries: Vec<u8>,
    pub(super) extensions: Vec<Vec<u8>>,
    /// Behind the last field.
    pub(super) tail: Vec<u8>,
}

#[derive(Clone, Default)]
pub(super) struct Entry {
    pub(super) serial: Vec<u8>,
    pub(super) extensions: Vec<Vec<u8>>,
}

impl Listing {
    pub(super) fn number(number: u8) -> Listing {
        Listing {
            version: Some(1),
            number: Some(vec![number]),
            from: -1,
            until: Some(30),
            entries: Vec::new(),
            more_entries: Vec::new(),
            extensions: Vec::new(),
            tail: Vec::new(),
        }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Listing)) -> Listing {
        change(&mut self);
        self
    }

    pub(super) fn revoking(self, leaf: &Leaf) -> Listing {
        self.revoking_der(&leaf.chain[0])
    }

    pub(super) fn revoking_der(self, der: &[u8]) -> Listing {
        self.with(|s| s.entries.push(Entry { serial: serial(der), extensions: Vec::new() }))
    }

    /// PEM, signed by this CA in its own name.
    pub(super) fn by(&self, ca: &Ca) -> String {
        self.in_the_name_of(ca, ca)
    }

    pub(super) fn in_the_name_of(&self, issuer: &Ca, signer: &Ca) -> String {
        let body = self.body(issuer);
        let bits = [&[0], &signer.sign(&body)[..]].concat();
        pem(&tlv(0x30, &[body, ecdsa_sha256(), tlv(0x03, &bits)].concat()))
    }

    fn body(&self, issuer: &Ca) -> Vec<u8> {
        let (_, certificate) = X509Certificate::from_der(&issuer.der).unwrap();
        let mut fields = vec![
            self.version.map(|version| tlv(0x02, &[version])).unwrap_or_default(),
            ecdsa_sha256(),
            certificate.subject().as_raw().to_vec(),
            date(self.from),
            self.until.map(date).unwrap_or_default(),
        ];
        if !self.entries.is_empty() {
            let mut entries: Vec<u8> = self.entries.iter().flat_map(Entry::der).collect();
            entries.extend(&self.more_entries);
            fields.push(tlv(0x30, &entries));
        }
        let number = self.number.iter().map(|n| extension(20, false, &tlv(0x02, n)));
        let extensions: Vec<u8> = number.chain(self.extensions.clone()).flatten().collect();
        if !extensions.is_empty() {
            fields.push(tlv(0xA0, &tlv(0x30, &extensions)));
        }
        fields.push(self.tail.clone());
        tlv(0x30, &fields.concat())
    }
}

impl Entry {
    pub(super) fn of(leaf: &Leaf, extensions: Vec<Vec<u8>>) -> Entry {
        Entry { serial: serial(&leaf.chain[0]), extensions }
    }

    fn der(&self) -> Vec<u8> {
        let extensions = match self.extensions.concat() {
            none if none.is_empty() => none,
            some => tlv(0x30, &some),
        };
        tlv(0x30, &[tlv(0x02, &self.serial), date(-1), extensions].concat())
    }
}

/// `id-ce-N`.
pub(super) fn extension(number: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(0x01, &[0xFF]) } else { Vec::new() };
    tlv(0x30, &[tlv(0x06, &[0x55, 0x1D, number]), critical, tlv(0x04, value)].concat())
}

/// The reason of an entry.
pub(super) fn reason(code: u8) -> Vec<u8> {
    extension(21, false, &tlv(0x0A, &[code]))
}

pub(super) fn serial(der: &[u8]) -> Vec<u8> {
    X509Certificate::from_der(der).unwrap().1.raw_serial().to_vec()
}

pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut der = vec![tag];
    if content.len() < 0x80 {
        der.push(length[3]);
    } else {
        der.push(0x84);
        der.extend(length);
        // DER wants the shortest form.
        let zeros = length.iter().take_while(|byte| **byte == 0).count();
        der.drain(2..2 + zeros);
        der[1] -= u8::try_from(zeros).unwrap();
    }
    der.extend(content);
    der
}

fn ecdsa_sha256() -> Vec<u8> {
    tlv(0x30, &tlv(0x06, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2]))
}

fn date(days: i64) -> Vec<u8> {
    let at = OffsetDateTime::now_utc() + Duration::days(days);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    let month = u8::from(month);
    let text = format!("{year}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    tlv(0x18, text.as_bytes())
}

pub(super) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|c| str::from_utf8(c).unwrap()).collect();
    format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", lines.join("\n"))
}
