//! Revocation lists: which are taken, which stay in force, and whom they refuse.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rcgen::{DnType, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

use super::crls::{Entry, Listing, extension, pem, reason, serial, tlv};
use super::pki::{Ca, Leaf, Spec, ca, ca_called, ca_with};
use super::support::{Ask, Log, SOON, Server, Tester, ask, eventually};
use crate::rpc::tls::{Look, Watch, unix_now};
use crate::rpc::{
    CloseCode, CloseReason, Connection, DatedKind, DialError, Dialer, Expect, Hello, Limits,
    Reason, Replaced, Tls, TlsFiles,
};

const LISTS: Look = Look::Loaded(Replaced { own: false, trust: false, lists: true });

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

/// What is said of a file of lists that is not taken.
fn fault(lists: &str, ca: &Ca) -> String {
    load(&ca.pem, lists, ca).expect_err("it is taken")
}

fn remarks(tls: &Tls) -> Vec<String> {
    tls.remarks().into_iter().map(|remark| remark.sentence).collect()
}

/// Whether a node with this identity takes a caller with this chain.
fn revokes(tls: &Tls, leaf: &Leaf) -> bool {
    tls.lists().revocation(&leaf.chain).is_some()
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
        let mut changed = der.clone();
        changed[at] ^= 1 << (at % 8);
        // Of a changed issuer it is nobody's list.
        let taken = read(&changed).map_or(0, |files| files.lists.len());
        assert_eq!(taken, 0, "with another byte {at}");
        assert!(read(&der[..at]).is_err(), "cut off at {at}");
    }
    assert!(read(&[&der[..], &[0]].concat()).is_err(), "and nothing added");
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

fn watched(ca: &Ca, lists: Option<&str>) -> (TempDir, Arc<Tls>, Watch) {
    let directory = directory(&ca.issue(&node()), &ca.pem, lists);
    let tls = Tls::load(directory.path(), Some("raft-1")).unwrap();
    let watch = Watch::new(directory.path(), Some("raft-1"));
    (directory, tls, watch)
}

/// Looks until what is seen has settled.
fn looked(watch: &mut Watch, tls: &Tls) -> Look {
    assert_eq!(watch.look(tls, unix_now()), Look::Same, "nothing is believed at once");
    watch.look(tls, unix_now())
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
    refused(&mut watch, &Listing::number(2).by(&super::pki::ca()));
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

/// A server and a client of one CA.
struct Pair {
    ca: Ca,
    server: Server,
    server_leaf: Leaf,
    server_tls: Arc<Tls>,
    client_leaf: Leaf,
    client_tls: Arc<Tls>,
}

impl Pair {
    async fn new() -> Pair {
        let ca = ca();
        let (server_leaf, client_leaf) = (ca.issue(&node()), ca.issue(&app()));
        let list = Listing::number(1).by(&ca);
        let server_tls = Tls::new(files(&server_leaf, &ca.pem, &list)).unwrap();
        let client_tls = Tls::new(files(&client_leaf, &ca.pem, &list)).unwrap();
        let service = Tester::default();
        let limits = Limits::default();
        let server = Server::with(super::pki::ca(), server_tls.clone(), limits, service).await;
        Pair { ca, server, server_leaf, server_tls, client_leaf, client_tls }
    }

    async fn dial(&self, expect: Expect) -> Result<Connection, DialError> {
        let dialer = Dialer::new(self.client_tls.clone(), Limits::default());
        let hello = Hello::client(dialer.identity());
        let address = format!("localhost:{}", self.server.address.port());
        dialer.dial(&address, expect, hello, SOON).await
    }

    fn list(&self, revoked: &Leaf) -> String {
        Listing::number(2).revoking(revoked).by(&self.ca)
    }

    fn server_revokes_the_client(&self) {
        let lists = self.list(&self.client_leaf);
        self.server_tls.replace(files(&self.server_leaf, &self.ca.pem, &lists)).unwrap();
    }

    fn client_revokes_the_server(&self) {
        let lists = self.list(&self.server_leaf);
        self.client_tls.replace(files(&self.client_leaf, &self.ca.pem, &lists)).unwrap();
    }
}

fn seat() -> Expect {
    Expect::Node("raft-1".to_owned())
}

#[tokio::test]
async fn a_server_refuses_a_revoked_client_and_says_so_to_both() {
    let pair = Pair::new().await;
    let (log, _guard) = Log::start();
    pair.server_revokes_the_client();
    let error = pair.dial(seat()).await.expect_err("revoked");
    assert!(matches!(error, DialError::RefusedByServer { .. }), "{error:?}");
    assert!(error.is_authority() && error.is_revocation(), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("our certificate is revoked; issue a new one"), "{told}");
    assert!(told.contains("CertificateRevoked"), "{told}");
    pair.server.until_refused(Reason::Revoked).await;
    let text = log.text();
    for words in
        ["its certificate is revoked since 20", "(it claims to be balsa://balsa/client/app)"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(text.contains("reason=\"revoked\""), "{text}");
}

#[tokio::test]
async fn a_client_refuses_a_revoked_server_whatever_it_expects() {
    let pair = Pair::new().await;
    pair.client_revokes_the_server();
    for expect in [seat(), Expect::AnyNode, Expect::Node("raft-2".to_owned())] {
        let error = pair.dial(expect).await.expect_err("revoked");
        assert!(matches!(error, DialError::Tls { reason: Reason::Revoked, .. }), "{error:?}");
        assert!(error.is_authority() && error.is_revocation(), "{error:?}");
        assert!(error.to_string().contains("its certificate is revoked since 20"), "{error}");
    }
    pair.server.until_refused(Reason::RefusedByPeer).await;
}

#[tokio::test]
async fn standing_connections_of_the_revoked_are_closed_and_no_others() {
    let pair = Pair::new().await;
    let standing = pair.dial(seat()).await.unwrap();
    let nobody = Listing::number(2).revoking(&pair.ca.issue(&app())).by(&pair.ca);
    pair.server_tls.replace(files(&pair.server_leaf, &pair.ca.pem, &nobody)).unwrap();
    let word = Bytes::from_static(b"word");
    assert_eq!(ask::<Bytes>(&standing, &Ask::Echo(word.clone())).await.unwrap(), word);
    let lists = Listing::number(3).revoking(&pair.client_leaf).by(&pair.ca);
    pair.server_tls.replace(files(&pair.server_leaf, &pair.ca.pem, &lists)).unwrap();
    let CloseReason::Announced(notice) = standing.closed().await else { panic!("it says why") };
    assert_eq!(notice.code, CloseCode::Distrusted);
    pair.server.until_refused(Reason::Revoked).await;

    let pair = Pair::new().await;
    let standing = pair.dial(Expect::AnyNode).await.unwrap();
    pair.client_revokes_the_server();
    let reason = standing.closed().await;
    assert!(matches!(reason, CloseReason::Distrusted(Reason::Revoked, _)), "{reason}");
    let service = pair.server.service.clone();
    eventually("the server sees it go", || service.closed.lock().unwrap().len() == 1).await;
}

/// Who is revoked may be an attacker, who would rather not let the other side think.
#[tokio::test]
async fn a_connection_that_is_never_silent_is_closed_all_the_same() {
    let pair = Pair::new().await;
    let service = pair.server.service.clone();
    let (tls, address) = (pair.client_tls.clone(), pair.server.to());
    // On a thread of its own, so that the server always finds more to read.
    let flooding = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let dialer = Dialer::new(tls, Limits::default());
            let hello = Hello::client(dialer.identity());
            let connection = dialer.dial(&address, seat(), hello, SOON).await.unwrap();
            let flood = || async {
                let zeros = Bytes::from(vec![0; 1000]);
                while ask::<Bytes>(&connection, &Ask::Echo(zeros.clone())).await.is_ok() {}
            };
            futures_util::future::join_all((0..200).map(|_| flood())).await;
        });
    });
    eventually("it floods", || service.batches.lock().unwrap().len() > 50).await;
    pair.server_revokes_the_client();
    eventually("it is closed", || {
        service.reasons().iter().any(|(reason, _)| *reason == Reason::Revoked)
    })
    .await;
    flooding.join().unwrap();
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
