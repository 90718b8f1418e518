//! Whether a key signed something: a certificate or a revocation list, which have the same frame.
//!
//! The algorithms are those that rustls verifies chains with, so that whoever may sign certificates
//! may sign lists, and nothing weaker is taken.

use rustls::crypto::aws_lc_rs::default_provider;
use x509_parser::asn1_rs::{Any, BitString, Class, FromDer, Tag};

/// What is signed, how, and by what; the algorithm as the content of its SEQUENCE.
struct Signed<'a> {
    body: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// Whether `signed`, in DER, carries a signature by `key`, a `SubjectPublicKeyInfo` in DER.
pub(crate) fn is_signed_by(signed: &[u8], key: &[u8]) -> bool {
    let (Some(signed), Some((key_algorithm, key))) = (parts(signed), key_parts(key)) else {
        return false;
    };
    let verifies = default_provider().signature_verification_algorithms.all;
    verifies.iter().any(|algorithm| {
        *algorithm.signature_alg_id() == *signed.algorithm
            && *algorithm.public_key_alg_id() == *key_algorithm
            && algorithm.verify_signature(key, signed.body, signed.signature).is_ok()
    })
}

/// `SIGNED{}` of X.509: a SEQUENCE of exactly a body, an algorithm and a bit string.
fn parts(der: &[u8]) -> Option<Signed<'_>> {
    let content = sequence(der)?;
    let (rest, _) = Any::from_der(content).ok()?;
    let body = &content[..content.len() - rest.len()];
    let (rest, algorithm) = Any::from_der(rest).ok()?;
    is_a(&algorithm, Tag::Sequence)?;
    Some(Signed { body, algorithm: algorithm.data, signature: whole_bits(rest)? })
}

/// The algorithm and the bits of a `SubjectPublicKeyInfo`.
fn key_parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, algorithm) = Any::from_der(sequence(der)?).ok()?;
    is_a(&algorithm, Tag::Sequence)?;
    Some((algorithm.data, whole_bits(rest)?))
}

/// Whether this is one of X.680's own types, in the only form that DER has for it: the parser compares the number of
/// a tag alone.
fn is_a(any: &Any<'_>, tag: Tag) -> Option<()> {
    let form =
        any.class() == Class::Universal && any.header.is_constructed() == (tag == Tag::Sequence);
    (form && any.tag() == tag).then_some(())
}

/// The content of a SEQUENCE that is all there is.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let (rest, any) = Any::from_der(der).ok()?;
    is_a(&any, Tag::Sequence)?;
    rest.is_empty().then_some(any.data)
}

/// The bytes of a BIT STRING that is all there is, and has whole bytes.
fn whole_bits(der: &[u8]) -> Option<&[u8]> {
    let (rest, any) = Any::from_der(der).ok()?;
    is_a(&any, Tag::BitString)?;
    let bytes = any.data;
    let (rest_is_empty, bits) = (rest.is_empty(), BitString::try_from(any).ok()?);
    (rest_is_empty && bits.unused_bits == 0).then(|| &bytes[1..])
}
