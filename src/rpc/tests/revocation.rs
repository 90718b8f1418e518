//! Revocation lists: whom they refuse, and which of several counts. Below: which are taken at all, which
//! stay in force while a process runs, and what becomes of connections.

mod connections;
mod forms;
mod running;

use std::fs;
use std::sync::Arc;

use rcgen::KeyPair;
use tempfile::TempDir;

use super::crls::Listing;
use super::pki::{Ca, Leaf, Spec, ca, ca_called, ca_with};
use crate::rpc::{Replaced, Tls, TlsFiles};

fn node() -> Spec {
    Spec::node("raft-1")
}

fn app() -> Spec {
    Spec::of("balsa://balsa/client/app")
}

/// A directory with this leaf, this bundle, and these lists if any.
fn directory(leaf: &Leaf, bundle: &str, lists: Option<&str>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    leaf.write(directory.path(), "tls", bundle);
    if let Some(lists) = lists {
        fs::write(directory.path().join("ca.crl"), lists).unwrap();
    }
    directory
}

fn files(leaf: &Leaf, bundle: &str, lists: &str) -> TlsFiles {
    TlsFiles::read(directory(leaf, bundle, Some(lists)).path(), None).unwrap()
}

fn load(bundle: &str, lists: &str, ca: &Ca) -> Result<Arc<Tls>, String> {
    let directory = directory(&ca.issue(&node()), bundle, Some(lists));
    Tls::load(directory.path(), None).map_err(|error| error.to_string())
}

fn remarks(tls: &Tls) -> Vec<String> {
    tls.remarks().into_iter().map(|remark| remark.sentence).collect()
}

/// Whether a node with this identity takes a caller with this chain.
fn revokes(tls: &Tls, leaf: &Leaf) -> bool {
    tls.lists().revocation(&leaf.chain).is_some()
}

#[test]
fn cas_of_one_name_each_have_a_list_of_their_own() {
    let (one, other) = (ca(), ca());
    let bundle = format!("{}{}", one.pem, other.pem);
    let (of_one, of_other) = (one.issue(&app()), other.issue(&app()));
    // The other CA's list names the serial number of the first one's certificate.
    let lists = Listing::number(1).by(&one) + &Listing::number(1).revoking(&of_one).by(&other);
    let tls = load(&bundle, &lists, &one).unwrap();
    assert!(!revokes(&tls, &of_one), "it is not that CA's to revoke");
    let lists = Listing::number(2).revoking(&of_other).by(&other);
    let tls = load(&bundle, &lists, &one).unwrap();
    assert!(revokes(&tls, &of_other) && !revokes(&tls, &of_one));
    let said = remarks(&tls);
    assert!(said[0].contains("holds no revocation list of CN=balsa test CA"), "{said:?}");
    // A CA that was renewed with its key: one CA, one list.
    let key = KeyPair::generate().unwrap();
    let again = || ca_with(&key, |_| ());
    let (former, renewed) = (again(), again());
    let leaf = former.issue(&app());
    let list = Listing::number(1).revoking(&leaf).by(&renewed);
    let tls = load(&format!("{}{}", former.pem, renewed.pem), &list, &former).unwrap();
    assert!(revokes(&tls, &leaf) && remarks(&tls).is_empty(), "{:?}", remarks(&tls));
}

#[test]
fn a_revoked_ca_below_takes_all_that_it_signed_with_it() {
    let root = ca_called("root");
    let (below, beside) = (root.below("below"), root.below("beside"));
    let list = Listing::number(1).revoking_der(&below.der).by(&root);
    let presented = |ca: &Ca| ca.issue(&app()).with_chain(&[ca]);
    let tls = load(&root.pem, &list, &root).unwrap();
    let revoked = tls.lists().revocation(&presented(&below).chain);
    let sentence = crate::rpc::tls::Fault::Revoked(revoked.expect("it is found")).to_string();
    assert!(sentence.contains("its certificate is revoked with that of CN=below"), "{sentence}");
    assert!(!revokes(&tls, &presented(&beside)));
    // With the CA below in the bundle nobody need present it, and its own list counts.
    let bundle = format!("{}{}{}", root.pem, below.pem, beside.pem);
    let leaf = beside.issue(&app());
    let lists = list + &Listing::number(1).revoking(&leaf).by(&beside);
    let tls = load(&bundle, &lists, &root).unwrap();
    assert!(revokes(&tls, &below.issue(&app())), "its CA is revoked, and in the bundle");
    assert!(revokes(&tls, &leaf) && !revokes(&tls, &beside.issue(&app())));
    // A root that names itself: the bundle decides about roots.
    let tls = load(&root.pem, &Listing::number(1).revoking_der(&root.der).by(&root), &root);
    assert!(!revokes(&tls.unwrap(), &root.issue(&app()).with_chain(&[&root])));
}

#[test]
fn the_newest_list_counts_by_number_and_then_by_date() {
    let ca = ca();
    let leaf = ca.issue(&app());
    let revoking = |listing: Listing| listing.revoking(&leaf).by(&ca);
    let empty = |listing: Listing| listing.by(&ca);
    let dated = |number, from| Listing::number(number).with(|s| s.from = from);
    let unnumbered = |from| dated(1, from).with(|s| s.number = None);
    for (newer, older) in [
        (dated(3, -9), dated(2, -1)),
        (dated(3, -1), dated(3, -9)),
        (unnumbered(-1), unnumbered(-9)),
        (unnumbered(-1), dated(9, -9)),
        (dated(1, -1), unnumbered(-9)),
    ] {
        for (lists, expected) in [
            (revoking(newer.clone()) + &empty(older.clone()), true),
            (empty(older.clone()) + &revoking(newer.clone()), true),
            (empty(newer.clone()) + &revoking(older.clone()), false),
        ] {
            let tls = load(&ca.pem, &lists, &ca).unwrap();
            assert_eq!(revokes(&tls, &leaf), expected);
        }
        // And while running.
        let own = ca.issue(&node());
        let tls = Tls::new(files(&own, &ca.pem, &revoking(newer.clone()))).unwrap();
        let replaced = tls.replace(files(&own, &ca.pem, &empty(older))).unwrap();
        assert_eq!(replaced, Replaced { own: false, trust: false, lists: false });
        assert!(revokes(&tls, &leaf), "rolled back");
        assert!(
            remarks(&tls)[0].contains("holds an older revocation list of"),
            "{:?}",
            remarks(&tls)
        );
        let replaced = tls.replace(files(&own, &ca.pem, &empty(newer))).unwrap();
        assert!(
            replaced.lists && !revokes(&tls, &leaf),
            "of two that are equal, the one that is there"
        );
        assert!(remarks(&tls).is_empty(), "{:?}", remarks(&tls));
    }
}
