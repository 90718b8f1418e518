//! Every change of certificates, stopped before each single change of the disk as if the power had gone:
//! whoever reads the files then still gets on with everybody else, and the same command finishes the
//! job.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use time::OffsetDateTime;

use super::disk::fuse;
use super::list::List;
use super::site::Leaf;
use super::*;
use crate::identity::{Identity, Role};

const DAYS: u32 = 100;

/// Syncing thousands of small files is slow on disks, and means nothing in memory.
fn temp() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("a temporary directory")
}

fn open(out: &Path) -> Result<Site, CertsError> {
    Site::open(out, Duration::ZERO)
}

/// A CA, two nodes, a client, and the manifests.
fn make(out: &Path) {
    let days = Validity::days(DAYS).expect("a good length");
    let ca = Authority::create("balsa", days).expect("a CA");
    ca.save(&layout::ca_dir(out)).expect("saved");
    let mut site = open(out).expect("the CA");
    for (role, name) in [(Role::Node, "raft-0"), (Role::Node, "raft-1"), (Role::Client, "client")] {
        let node = role == Role::Node;
        let profile = Profile {
            identity: Identity::new("balsa", role, name).expect("good names"),
            dns: if node { vec![name.into()] } else { Vec::new() },
            ips: Vec::new(),
            validity: Validity::days(DAYS / 2).expect("a good length"),
        };
        site.place(&ca, &profile, Existing::Refuse).expect("issued");
    }
    site.reread().expect("readable");
    for secret in secrets::all(&site, "default").expect("Secrets") {
        secret.save(out).expect("saved");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            // With its mode.
            fs::copy(&path, &target).expect("copied");
        }
    }
}

/// What a running process uses: what lies in its directory if that fits, else what it had.
struct Running {
    name: String,
    certificate: Vec<u8>,
    serial: String,
    roots: Vec<Vec<u8>>,
    lists: Vec<List>,
}

fn running(out: &Path, before: &Path) -> Vec<Running> {
    let names = ["client", "raft-0", "raft-1"];
    let of = |out: &Path, name: &str| Leaf { name: name.into(), dir: out.join(name) };
    let with = |name: &str| {
        let there = of(out, name);
        let whole = there.read().is_ok_and(|present| there.is_whole(&present.der));
        let leaf = if whole { there } else { of(before, name) };
        let present = leaf.read().expect("a certificate");
        Running {
            name: name.into(),
            serial: present.facts.serial,
            certificate: present.der,
            roots: leaf.bundle().expect("CAs"),
            lists: leaf.lists(),
        }
    };
    names.iter().map(|name| with(name)).collect()
}

/// Everybody accepts everybody, apart from who is revoked.
fn assert_all_get_on(out: &Path, before: &Path, revoked: Option<&str>, when: &str) {
    let now = OffsetDateTime::now_utc();
    let all = running(out, before);
    for shows in all.iter().filter(|one| Some(one.serial.as_str()) != revoked) {
        for judges in &all {
            let chain = std::slice::from_ref(&shows.certificate);
            let judged = verify(chain, &judges.roots, Purpose::Client, now);
            assert_eq!(judged, Ok(()), "{when}: {} of {}", judges.name, shows.name);
            let listed = judges.lists.iter().any(|list| list.find(&shows.serial).is_some());
            assert!(!listed, "{when}: {} takes {} for revoked", judges.name, shows.name);
        }
    }
}

fn hidden(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            found.push(path.clone());
        }
        if path.is_dir() {
            found.extend(hidden(&path));
        }
    }
    found
}

/// Nothing to object to, nothing half-made, a list for each CA of each bundle, and manifests that agree.
fn assert_settled(out: &Path, revoked: Option<&str>, when: &str) {
    let now = OffsetDateTime::now_utc();
    for one in show(out, now).expect("readable") {
        let taken_away = Some(one.facts.serial.as_str()) == revoked;
        let problems = one.problems.iter().filter(|p| !(taken_away && p.starts_with("is revoked")));
        let problems: Vec<_> = problems.collect();
        assert!(problems.is_empty(), "{when}: {}: {problems:?}", one.path.display());
    }
    for list in show_lists(out, now).expect("readable") {
        assert_eq!(list.problems, Vec::<String>::new(), "{when}: {}", list.path.display());
    }
    assert_eq!(hidden(out), Vec::<PathBuf>::new(), "{when}: something half-made");
    let site = open(out).expect("readable");
    for leaf in &site.leaves {
        let (bundle, lists) = (leaf.bundle().expect("CAs"), leaf.lists());
        let trusted: Vec<_> = site.trusted().iter().map(|ca| ca.der.clone()).collect();
        assert_eq!(bundle, trusted, "{when}: {}", leaf.name);
        let wanted: Vec<_> = site.trusted().iter().filter_map(|ca| ca.list.clone()).collect();
        assert_eq!((lists.len(), &lists), (bundle.len(), &wanted), "{when}: {}", leaf.name);
        assert!(leaf.is_whole(&leaf.read().expect("a certificate").der), "{when}: {}", leaf.name);
    }
    for secret in secrets::all(&site, "default").expect("Secrets") {
        let lies = fs::read_to_string(secret.path(out)).expect("a manifest");
        assert_eq!(lies, secret.manifest(), "{when}: {}", secret.name());
    }
}

/// Stops a step before each change of the disk, looks around, and lets it run again. Returns how it ends.
fn stopped_everywhere(
    template: &Path,
    revoked: Option<&str>,
    step: impl Fn(&mut Site) -> Result<(), CertsError>,
) -> TempDir {
    let run = |out: &Path| open(out).and_then(|mut site| step(&mut site));
    for changes in 0.. {
        let out = temp();
        copy(template, out.path());
        fuse::set(Some(changes));
        let first = run(out.path());
        fuse::set(None);
        let when = format!("stopped after {changes} changes");
        assert_all_get_on(out.path(), template, revoked, &when);
        if first.is_ok() {
            assert!(changes > 5, "only {changes} changes of the disk");
            assert_settled(out.path(), revoked, "not stopped");
            run(out.path()).expect("a second time");
            assert_settled(out.path(), revoked, "a second time");
            return out;
        }
        run(out.path()).unwrap_or_else(|e| panic!("{when}, and again: {e}"));
        assert_all_get_on(out.path(), template, revoked, &when);
        assert_settled(out.path(), revoked, &when);
    }
    unreachable!("it ends some time")
}

#[test]
fn a_renewal_may_stop_anywhere() {
    let out = temp();
    make(out.path());
    let renew = |site: &mut Site| site.renew(&Whose::All, None, DAYS / 2).map(drop);
    stopped_everywhere(out.path(), None, renew);
}

#[test]
fn a_revocation_may_stop_anywhere() {
    let out = temp();
    make(out.path());
    let client = Leaf { name: "client".into(), dir: out.path().join("client") };
    let serial = client.read().expect("a certificate").facts.serial;
    let revoke = |site: &mut Site| site.revoke(&Which::Of("client".into())).map(drop);
    let out = stopped_everywhere(out.path(), Some(&serial), revoke);
    for name in ["client", "raft-0", "raft-1"] {
        let leaf = Leaf { name: name.into(), dir: out.path().join(name) };
        let lists = leaf.lists();
        assert!(lists.len() == 1 && lists[0].find(&serial).is_some(), "{name}: {lists:?}");
    }
}

#[test]
fn a_change_of_the_ca_may_stop_anywhere() {
    let first = temp();
    make(first.path());
    let trust = |site: &mut Site| site.trust(None, DAYS).map(drop);
    let both = stopped_everywhere(first.path(), None, trust);
    assert_eq!(open(both.path()).expect("readable").stage(), Stage::Trusting);
    let reissue = |site: &mut Site| site.reissue(DAYS / 2).map(drop);
    let new = stopped_everywhere(both.path(), None, reissue);
    assert_eq!(open(new.path()).expect("readable").stage(), Stage::Reissuing);
    let drop_former = |site: &mut Site| site.drop_former().map(drop);
    let last = stopped_everywhere(new.path(), None, drop_former);
    let site = open(last.path()).expect("readable");
    assert_eq!((site.stage(), site.aside.len()), (Stage::One, 1));
    // The former CA is whole, and its key was nowhere lost on the way.
    let former = site.aside[0].authority().expect("the former CA with its key");
    let key_before = fs::read(first.path().join("ca/ca.key")).expect("a key");
    assert_eq!(former.key().into_bytes(), key_before);
}

#[test]
fn a_list_that_is_lost_comes_back_from_its_copies_and_is_newer_than_all_of_them() {
    let out = temp();
    make(out.path());
    let mut site = open(out.path()).expect("readable");
    let first = site.revoke(&Which::Of("client".into())).expect("revoked");
    drop(site);
    // The CA's own list goes, and one directory has an old copy.
    let old = fs::read(out.path().join("ca/ca.crl")).expect("the list");
    let mut site = open(out.path()).expect("readable");
    let second = site.revoke(&Which::Of("raft-1".into())).expect("revoked");
    drop(site);
    fs::write(out.path().join("raft-0/ca.crl"), old).expect("written");
    fs::remove_file(out.path().join("ca/ca.crl")).expect("removed");
    let newest = Leaf { name: "client".into(), dir: out.path().join("client") }.lists();
    let mut site = open(out.path()).expect("readable");
    site.renew(&Whose::Names(vec!["raft-0".into()]), None, 10).expect("renewed");
    let list = site.signing.list.clone().expect("a list");
    assert!(list.find(&first.serial).is_some() && list.find(&second.serial).is_some(), "{list:?}");
    assert!(list.age() > newest[0].age(), "{list:?} is not newer than {newest:?}");
    drop(site);
    assert_settled_lists(out.path(), &list);
}

fn assert_settled_lists(out: &Path, list: &List) {
    for name in ["ca", "client", "raft-0", "raft-1"] {
        let lies = list::lists(&fs::read(out.join(name).join("ca.crl")).expect("a file"));
        assert_eq!(lies.expect("lists"), std::slice::from_ref(list), "{name}");
    }
}

#[test]
fn entries_of_two_lists_that_parted_are_all_kept() {
    // OUT was copied, and somebody was revoked in each copy.
    let (one, two) = (temp(), temp());
    make(one.path());
    copy(one.path(), two.path());
    let revoke = |out: &Path, name: &str| {
        open(out).expect("readable").revoke(&Which::Of(name.into())).expect("revoked").serial
    };
    let (a, b) = (revoke(one.path(), "client"), revoke(two.path(), "raft-0"));
    fs::copy(two.path().join("raft-1/ca.crl"), one.path().join("raft-1/ca.crl")).expect("copied");
    open(one.path()).expect("readable").spread_lists().expect("spread");
    let list = open(one.path()).expect("readable").signing.list.clone().expect("a list");
    assert!(list.find(&a).is_some() && list.find(&b).is_some(), "{list:?}");
    assert_settled_lists(one.path(), &list);
}

#[test]
fn numbers_rise_whatever_the_clock_says() {
    let days = Validity::days(DAYS).expect("a good length");
    let ca = Authority::create("balsa", days).expect("a CA");
    let now = OffsetDateTime::now_utc();
    let first = ca.list(None, &[], now).expect("a list");
    let number = |list: &List| list.number.as_ref().expect("a number").to_string();
    assert_eq!(number(&first), now.unix_timestamp().to_string());
    let back = now - time::Duration::days(9);
    let second = ca.list(Some(&first), &[], back).expect("a list");
    assert_eq!(number(&second), (now.unix_timestamp() + 1).to_string());
    assert!(second.number > first.number);
}

#[test]
fn a_list_has_a_limit_and_a_sentence_at_it() {
    let days = Validity::days(DAYS).expect("a good length");
    let ca = Authority::create("balsa", days).expect("a CA");
    let now = OffsetDateTime::now_utc();
    // As long as our own.
    let serial = |n: u32| u128::from(n) | 0x4000_0000 << 96;
    let entry = |n: u32| list::Revoked::with_serial(&serial(n).to_be_bytes(), now);
    let many: Vec<_> = (0..=list::LIST_ENTRIES_MAX as u32).map(entry).collect();
    let full = ca.list(None, &many[1..], now).expect("as many as may be");
    assert_eq!(full.revoked.len(), list::LIST_ENTRIES_MAX);
    // As text in the manifest, with room for the certificates of many seats.
    let in_manifest = full.pem().len() * 4 / 3;
    assert!(in_manifest < 200_000, "{in_manifest} bytes in every manifest");
    let refused = ca.list(Some(&full), &many[..1], now);
    assert!(matches!(refused, Err(CertsError::ListFull { .. })), "{refused:?}");
    assert!(ca.list(Some(&full), &many[1..2], now).is_ok(), "somebody who is on it already");
}
