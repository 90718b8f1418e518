//! Lists of a process that runs: the last good one stays in force, whatever becomes of the file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::crls::Listing;
use super::super::pki::{self, Ca, ca, ca_called};
use super::super::support::looked;
use super::{app, directory, files, node, remarks, revokes};
use crate::rpc::tls::{Look, Watch, unix_now};
use crate::rpc::{DatedKind, Replaced, Tls, TlsFiles};

const LISTS: Look = Look::Loaded(Replaced { own: false, trust: false, lists: true });

fn watched(ca: &Ca, lists: Option<&str>) -> (TempDir, Arc<Tls>, Watch) {
    let directory = directory(&ca.issue(&node()), &ca.pem, lists);
    let tls = Tls::load(directory.path(), Some("raft-1")).unwrap();
    let watch = Watch::new(directory.path(), Some("raft-1"));
    (directory, tls, watch)
}

#[test]
fn a_running_process_keeps_the_last_good_list_whatever_becomes_of_the_file() {
    let ca = ca();
    let (leaf, other) = (ca.issue(&app()), ca.issue(&app()));
    let (directory, tls, mut watch) = watched(&ca, None);
    let path = directory.path().join("ca.crl");
    looked(&mut watch, &tls);
    assert!(!revokes(&tls, &leaf) && remarks(&tls).is_empty(), "no file: nobody is revoked");
    let first = Listing::number(1).revoking(&leaf).by(&ca);
    fs::write(&path, &first).unwrap();
    assert_eq!(looked(&mut watch, &tls), LISTS);
    assert!(revokes(&tls, &leaf));
    // Bad in every way: said, and nothing changes.
    let refused = |watch: &mut Watch, text: &str| {
        fs::write(&path, text).unwrap();
        let Look::Refused(fault) = looked(watch, &tls) else { panic!("{text:?} is taken") };
        assert!(fault.contains("ca.crl"), "{fault}");
        assert!(revokes(&tls, &leaf), "{fault}: the last good one is kept");
    };
    refused(&mut watch, "");
    refused(&mut watch, "no list");
    refused(&mut watch, &Listing::number(2).by(&pki::ca()));
    // It disappears; a fresh process knows nothing of it.
    fs::remove_file(&path).unwrap();
    assert_eq!(looked(&mut watch, &tls), Look::Same);
    assert!(revokes(&tls, &leaf));
    let said = remarks(&tls);
    assert!(said.len() == 1 && said[0].contains("no longer holds a revocation list"), "{said:?}");
    assert!(said[0].contains("(number 1 of 20"), "{said:?}");
    assert!(!revokes(&Tls::load(directory.path(), None).unwrap(), &leaf));
    // An older one instead, an equal one again, and a newer one.
    fs::write(&path, Listing::number(0).by(&ca)).unwrap();
    assert_eq!(looked(&mut watch, &tls), Look::Same);
    assert!(revokes(&tls, &leaf) && remarks(&tls)[0].contains("(number 0 of 20"));
    fs::write(&path, &first).unwrap();
    assert_eq!(looked(&mut watch, &tls), Look::Same);
    assert!(revokes(&tls, &leaf) && remarks(&tls).is_empty());
    fs::write(&path, Listing::number(2).revoking(&other).by(&ca)).unwrap();
    assert_eq!(looked(&mut watch, &tls), LISTS);
    assert!(revokes(&tls, &other) && !revokes(&tls, &leaf), "a hold that was lifted");
}

#[test]
fn a_swapped_symlink_brings_lists_and_may_take_them_away() {
    let ca = ca();
    let leaf = ca.issue(&app());
    let own = ca.issue(&node());
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let put = |name: &str, list: Option<String>| {
        let inside = root.join(name);
        fs::create_dir(&inside).unwrap();
        own.write(&inside, "tls", &ca.pem);
        list.into_iter().for_each(|list| fs::write(inside.join("ca.crl"), list).unwrap());
        symlink(name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    put("..1", None);
    for file in ["ca.crt", "tls.crt", "tls.key", "ca.crl"] {
        symlink(Path::new("..data").join(file), root.join(file)).unwrap();
    }
    let tls = Tls::load(root, Some("raft-1")).unwrap();
    let mut watch = Watch::new(root, Some("raft-1"));
    assert_eq!(looked(&mut watch, &tls), Look::Same, "a link into nothing is no file");
    put("..2", Some(Listing::number(1).revoking(&leaf).by(&ca)));
    assert_eq!(looked(&mut watch, &tls), LISTS);
    put("..3", None);
    assert_eq!(looked(&mut watch, &tls), Look::Same);
    assert!(revokes(&tls, &leaf));
}

#[test]
fn a_ca_that_leaves_the_bundle_and_comes_back_finds_its_list_in_force() {
    let (stays, leaves) = (ca(), ca());
    let both = format!("{}{}", stays.pem, leaves.pem);
    let (leaf, own) = (leaves.issue(&app()), stays.issue(&node()));
    let lists = Listing::number(1).by(&stays);
    let with = lists.clone() + &Listing::number(5).revoking(&leaf).by(&leaves);
    let tls = Tls::new(files(&own, &both, &with)).unwrap();
    // Its list is to be taken out with it: signed by nobody, it would be a forged one.
    assert!(TlsFiles::read(directory(&own, &stays.pem, Some(&with)).path(), None).is_err());
    let replaced = tls.replace(files(&own, &stays.pem, &lists)).unwrap();
    assert!(replaced.trust && replaced.lists);
    let crls = |tls: &Tls| tls.dates().iter().filter(|d| d.kind == DatedKind::Crl).count();
    assert_eq!(crls(&tls), 1, "what counts no more is not warned of");
    tls.replace(files(&own, &both, &lists)).unwrap();
    assert!(revokes(&tls, &leaf));
    assert!(remarks(&tls)[0].contains("no longer holds"), "{:?}", remarks(&tls));
    assert_eq!(crls(&tls), 2);
    // Endless changes of CAs are not remembered without end.
    for _ in 0..40 {
        let passing = ca_called("passing");
        let more = lists.clone() + &Listing::number(1).by(&passing);
        tls.replace(files(&own, &format!("{}{}", stays.pem, passing.pem), &more)).unwrap();
    }
    assert_eq!(tls.lists().departed(), 16);
}

#[test]
fn everything_that_has_an_end_is_told() {
    let ca = ca();
    let own = ca.issue(&node());
    let list = Listing::number(1).with(|s| s.until = Some(9)).by(&ca);
    let tls = Tls::new(files(&own, &ca.pem, &list)).unwrap();
    let dates = tls.dates();
    let of = |kind| dates.iter().filter(|dated| dated.kind == kind).collect::<Vec<_>>();
    assert_eq!(of(DatedKind::Own)[0].until, tls.not_after());
    assert_eq!(of(DatedKind::Ca).len(), 1);
    let crl = of(DatedKind::Crl)[0];
    assert!((crl.until - unix_now() - 9 * 24 * 3600).abs() < 60, "{crl:?}");
    assert!(crl.what.contains("the revocation list of CN=balsa test CA in "), "{crl:?}");
    let endless = Listing::number(1).with(|s| s.until = None).by(&ca);
    let tls = Tls::new(files(&own, &ca.pem, &endless)).unwrap();
    assert!(tls.dates().iter().all(|dated| dated.kind != DatedKind::Crl));
}

#[test]
fn who_is_revoked_itself_says_so_and_goes_on() {
    let ca = ca();
    let (own, next) = (ca.issue(&node()), ca.issue(&node()));
    let list = Listing::number(1).revoking(&own).by(&ca);
    let tls = Tls::new(files(&own, &ca.pem, &list)).unwrap();
    let grave = |tls: &Tls| tls.remarks().iter().filter(|r| r.grave).count();
    assert_eq!(grave(&tls), 1);
    assert!(remarks(&tls)[0].contains("tls.crt is revoked since 20"), "{:?}", remarks(&tls));
    let tls = Tls::new(files(&own, &ca.pem, &Listing::number(0).by(&ca))).unwrap();
    assert!(tls.replace(files(&own, &ca.pem, &list)).unwrap().lists, "also while it runs");
    assert_eq!(grave(&tls), 1);
    assert!(tls.replace(files(&next, &ca.pem, &list)).unwrap().own, "and a new one is taken");
    assert_eq!(grave(&tls), 0);
}
