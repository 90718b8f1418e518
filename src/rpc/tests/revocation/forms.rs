//! Which lists are taken: whole ones of any good form, of a CA that is trusted; all else is refused in words.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{DnType, KeyPair, KeyUsagePurpose};

use super::super::crls::{Entry, Listing, extension, pem, reason, serial, tlv};
use super::super::pki::{Ca, ca, ca_called, ca_with};
use super::{app, directory, load, node, remarks, revokes};
use crate::rpc::{Tls, TlsFiles};

/// What is said of a file of lists that is not taken.
fn fault(lists: &str, ca: &Ca) -> String {
    load(&ca.pem, lists, ca).expect_err("it is taken")
}

#[test]
fn a_list_that_is_not_whole_and_good_is_refused_in_words() {
    let ca = ca();
    let good = || Listing::number(1).revoking(&ca.issue(&app()));
    let bad = |change: &dyn Fn(&mut Listing), words: &[&str]| {
        let fault = fault(&good().with(|s| change(s)).by(&ca), &ca);
        for word in words {
            assert!(fault.contains(word), "{word:?} is missing in: {fault}");
        }
        assert!(fault.contains("ca.crl holds a revocation list"), "{fault}");
    };
    let idp = |content: &[u8]| extension(28, true, &tlv(0x30, content));
    let entry = |extensions: Vec<Vec<u8>>| Entry::of(&ca.issue(&app()), extensions);
    bad(&|s| s.extensions.push(extension(27, true, &tlv(0x02, &[1]))), &["delta list", "whole"]);
    bad(&|s| s.extensions.push(idp(&tlv(0x81, &[0xFF]))), &["issuing distribution point"]);
    bad(&|s| s.extensions.push(idp(&tlv(0x84, &[0xFF]))), &["issuing distribution point"]);
    bad(&|s| s.extensions.push(extension(99, true, &[5, 0])), &["critical extension 2.5.29.99"]);
    bad(&|s| s.extensions.push(extension(20, false, &tlv(0x02, &[2]))), &["an extension twice"]);
    bad(&|s| s.number = Some(vec![0x80]), &["a number that is none"]);
    bad(&|s| s.number = Some(vec![1; 21]), &["more than 20 octets"]);
    bad(&|s| s.version = Some(2), &["unknown version"]);
    bad(&|s| s.version = Some(0), &["unknown version"]);
    bad(&|s| s.tail = tlv(0x04, &[0]), &["cannot be read"]);
    bad(&|s| s.more_entries = tlv(0x30, &tlv(0x02, &[1])), &["cannot be read"]);
    bad(&|s| s.more_entries = tlv(0x04, &[1]), &["cannot be read"]);
    bad(&|s| s.entries.push(entry(vec![reason(8)])), &["removeFromCRL", "delta lists"]);
    let name = tlv(0x30, &[]);
    bad(&|s| s.entries.push(entry(vec![extension(29, true, &name)])), &["indirect list"]);
    bad(
        &|s| s.entries.push(entry(vec![extension(99, true, &name)])),
        &["critical extension 2.5.29.99 of an entry"],
    );
}

#[test]
fn a_list_of_any_good_form_is_taken() {
    let ca = ca();
    let leaf = ca.issue(&app());
    let good = Listing::number(1).revoking(&leaf);
    let forms: [fn(&mut Listing); 9] = [
        |_| (),
        // What `openssl ca -gencrl` makes without further configuration.
        |s| (s.version, s.number) = (None, None),
        |s| s.until = None,
        |s| s.until = Some(0),
        |s| s.from = 3,
        |s| s.number = Some(vec![0x7F; 20]),
        |s| s.extensions.push(extension(99, false, &[5, 0])),
        |s| s.entries[0].extensions.push(reason(6)),
        |s| s.entries[0].serial.insert(0, 0),
    ];
    for (at, form) in forms.into_iter().enumerate() {
        let tls = load(&ca.pem, &good.clone().with(form).by(&ca), &ca).unwrap();
        assert!(revokes(&tls, &leaf), "form {at}");
        assert!(!revokes(&tls, &ca.issue(&app())), "form {at}: and nobody else");
    }
    let nobody = load(&ca.pem, &Listing::number(1).by(&ca), &ca).unwrap();
    assert!(!revokes(&nobody, &leaf), "an empty list");
    assert!(remarks(&nobody).is_empty());
}

#[test]
fn a_file_that_is_no_file_of_lists_is_refused_in_words() {
    let ca = ca();
    let list = Listing::number(1).by(&ca);
    let cases: [(&str, String); 8] = [
        ("is empty", String::new()),
        ("holds no revocation list", "hello\n".to_owned()),
        ("holds no revocation list", ca.pem.clone()),
        ("is not PEM", list[..list.len() - 10].to_owned()),
        ("cannot be read", pem(&[0; 40])),
        ("cannot be read", pem(&[])),
        ("cannot be read", list.replacen("MI", "MA", 1)),
        ("has more than 1048576 bytes", format!("{list}{}", "#".repeat(1 << 20))),
    ];
    for (words, text) in cases {
        let fault = fault(&text, &ca);
        assert!(fault.contains("ca.crl") && fault.contains(words), "{words}: {fault}");
    }
    let large = format!("{list}{}", "#".repeat((1 << 20) - list.len()));
    assert!(load(&ca.pem, &large, &ca).is_ok(), "just as large as it may be");
    let unreadable = directory(&ca.issue(&node()), &ca.pem, None);
    fs::create_dir(unreadable.path().join("ca.crl")).unwrap();
    let fault = Tls::load(unreadable.path(), None).unwrap_err().to_string();
    assert!(fault.contains("ca.crl cannot be read"), "what cannot be read is not absent: {fault}");
}

#[test]
fn a_list_in_a_cas_name_that_it_did_not_sign_is_refused_and_a_strangers_is_ignored() {
    let (ca, same_name, stranger) = (ca(), ca(), ca_called("another"));
    let leaf = ca.issue(&app());
    let list = Listing::number(1).revoking(&leaf);
    let forged = fault(&list.by(&same_name), &ca);
    assert!(forged.contains("none of the CAs of that name in ca.crt signed"), "{forged}");
    assert_eq!(fault(&list.in_the_name_of(&ca, &stranger), &ca).len(), forged.len());
    let spoilt = {
        let pem = list.by(&ca);
        let at = pem.len() - 60;
        let other = if &pem[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &pem[..at], &pem[at + 1..])
    };
    fault(&spoilt, &ca);
    let tls = load(&ca.pem, &(list.by(&stranger) + &list.by(&ca)), &ca).unwrap();
    assert!(revokes(&tls, &leaf), "the good one beside it counts");
    let said = remarks(&tls);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("CN=another, which is not in ca.crt; it is ignored"), "{said:?}");
    // Only bad in a way that nobody will ever look at.
    let odd = Listing::number(1).with(|s| s.version = Some(7)).by(&stranger);
    assert!(load(&ca.pem, &odd, &ca).is_ok());
    let without = ca_with(&KeyPair::generate().unwrap(), |params| {
        params.distinguished_name.push(DnType::CommonName, "signs no lists");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    let fault = fault(&Listing::number(1).by(&without), &without);
    assert!(fault.contains("lacks the key usage cRLSign"), "{fault}");
}

#[test]
fn no_byte_of_a_list_can_be_changed_and_nothing_be_cut_off() {
    let ca = ca();
    let text = Listing::number(1).revoking(&ca.issue(&app())).by(&ca);
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(base64).unwrap();
    let own = ca.issue(&node());
    let directory = directory(&own, &ca.pem, None);
    let read = |der: &[u8]| {
        fs::write(directory.path().join("ca.crl"), pem(der)).unwrap();
        TlsFiles::read(directory.path(), None)
    };
    assert_eq!(read(&der).unwrap().lists.len(), 1);
    for at in 0..der.len() {
        for bit in 0..8 {
            let mut changed = der.clone();
            changed[at] ^= 1 << bit;
            // Of a changed issuer it is nobody's list.
            let taken = read(&changed).map_or(0, |files| files.lists.len());
            assert_eq!(taken, 0, "with another bit {bit} of byte {at}, {:#04x}", der[at]);
        }
        assert!(read(&der[..at]).is_err(), "cut off at {at}");
    }
    assert!(read(&[&der[..], &[0]].concat()).is_err(), "and nothing added");
}

#[test]
fn a_key_that_everybody_may_read_is_no_matter_of_lists() {
    // Lists are public: any mode that lets us read them will do.
    let ca = ca();
    let list = Listing::number(1).by(&ca);
    let directory = directory(&ca.issue(&node()), &ca.pem, Some(&list));
    let path = directory.path().join("ca.crl");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Tls::load(directory.path(), None).is_ok());
    // And whoever only asks its own node looks at none.
    fs::write(&path, "no list").unwrap();
    assert!(Tls::load(directory.path(), None).is_err());
    assert!(TlsFiles::read_without_lists(directory.path(), Some("raft-1")).is_ok());
    assert!(!serial(&ca.der).is_empty());
}
