//! Certificates that change while connections stand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::pki::{Ca, Leaf, Spec, ca};
use super::support::{Ask, Server, Tester, ask, eventually, looked};
use crate::rpc::tls::{Look, Watch, unix_now};
use crate::rpc::{
    CloseCode, CloseReason, Connection, Dialer, Expect, Hello, Limits, Reason, Replaced, Tls,
    TlsFiles,
};

const OWN: Look = Look::Loaded(Replaced { own: true, trust: false, lists: false });

fn node() -> Spec {
    Spec::node("raft-1")
}

fn app() -> Spec {
    Spec::of("balsa://balsa/client/app")
}

fn files(leaf: &Leaf, bundle: &str) -> TlsFiles {
    let directory = tempfile::tempdir().unwrap();
    leaf.write(directory.path(), "tls", bundle);
    TlsFiles::read(directory.path(), None).unwrap()
}

fn watched(ca: &Ca) -> (TempDir, Arc<Tls>, Watch) {
    let directory = ca.directory(&node());
    let tls = Tls::load(directory.path(), Some("raft-1")).unwrap();
    let watch = Watch::new(directory.path(), Some("raft-1"));
    (directory, tls, watch)
}

/// The sentence about a set that is refused; it is said once, and nothing changes.
fn refused(watch: &mut Watch, tls: &Tls) -> String {
    let before = tls.not_after();
    let Look::Refused(fault) = looked(watch, tls) else { panic!("it is refused") };
    assert_eq!(watch.look(tls, unix_now()), Look::Same, "{fault}: said once");
    assert_eq!(tls.not_after(), before, "{fault}: the last good ones are kept");
    fault
}

#[test]
fn a_changed_directory_is_loaded_when_it_has_settled() {
    let ca = ca();
    let (directory, tls, mut watch) = watched(&ca);
    assert_eq!(looked(&mut watch, &tls), Look::Same, "as it was loaded");
    let before = tls.not_after();
    let newer = ca.issue(&node().with(|s| s.valid = (-1, 90)));
    newer.write(directory.path(), "tls", &ca.pem);
    assert_eq!(looked(&mut watch, &tls), OWN);
    assert!(tls.not_after() > before);
    assert_eq!(watch.look(&tls, unix_now()), Look::Same);
    let both = format!("{}{}", ca.pem, super::pki::ca().pem);
    newer.write(directory.path(), "tls", &both);
    let trust = Look::Loaded(Replaced { own: false, trust: true, lists: false });
    assert_eq!(looked(&mut watch, &tls), trust, "another bundle alone");
}

#[test]
fn a_bad_set_is_said_once_and_the_good_one_kept() {
    let ca = ca();
    let (directory, tls, mut watch) = watched(&ca);
    looked(&mut watch, &tls);
    let path = directory.path();
    let newer = ca.issue(&node().with(|s| s.valid = (-1, 90)));
    fs::write(path.join("tls.crt"), &newer.pem).unwrap();
    let half = refused(&mut watch, &tls);
    assert!(half.contains("do not belong together"), "{half}");
    fs::write(path.join("tls.crt"), "").unwrap();
    assert!(refused(&mut watch, &tls).contains("tls.crt is empty"));
    fs::remove_file(path.join("ca.crt")).unwrap();
    assert!(refused(&mut watch, &tls).contains("ca.crt is missing"));
    ca.issue(&Spec::node("raft-2")).write(path, "tls", &ca.pem);
    let other = refused(&mut watch, &tls);
    assert!(other.contains("node/raft-2") && other.contains("raft-1"), "{other}");
    ca.issue(&Spec::of("balsa://other/node/raft-1")).write(path, "tls", &ca.pem);
    let other = refused(&mut watch, &tls);
    assert!(other.contains("balsa://other/node/raft-1"), "{other}");
    ca.issue(&node().with(|s| s.valid = (-9, -1))).write(path, "tls", &ca.pem);
    assert!(refused(&mut watch, &tls).contains("expired on"));
    ca.issue(&node()).write(path, "tls", &super::pki::ca().pem);
    let foreign = refused(&mut watch, &tls);
    assert!(foreign.contains("none of the CAs there signed it"), "{foreign}");
    newer.write(path, "tls", &ca.pem);
    assert_eq!(looked(&mut watch, &tls), OWN, "a good set is taken after bad ones");
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_taken_in_its_time() {
    let ca = ca();
    let (directory, tls, mut watch) = watched(&ca);
    let early = ca.issue(&node().with(|s| s.valid = (1, 90)));
    early.write(directory.path(), "tls", &ca.pem);
    assert!(refused(&mut watch, &tls).contains("valid only from"));
    // The verification asks the clock itself and refuses it still, in its own words; what counts is that
    // the same files were judged again.
    let Look::Refused(fault) = watch.look(&tls, unix_now() + 2 * 24 * 3600) else {
        panic!("it is looked at again")
    };
    assert!(!fault.contains("valid only from"), "{fault}");
}

/// As Kubernetes writes a Secret: the files are links into a directory that is itself reached by a link,
/// and that one is replaced.
#[test]
fn a_swapped_symlink_is_seen() {
    let ca = ca();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let put = |name: &str, leaf: &Leaf| {
        let inside = root.join(name);
        fs::create_dir(&inside).unwrap();
        leaf.write(&inside, "raft-1", &ca.pem);
        symlink(name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    put("..1", &ca.issue(&node()));
    for file in ["ca.crt", "raft-1.crt", "raft-1.key"] {
        symlink(Path::new("..data").join(file), root.join(file)).unwrap();
    }
    let tls = Tls::load(root, Some("raft-1")).unwrap();
    let mut watch = Watch::new(root, Some("raft-1"));
    assert_eq!(looked(&mut watch, &tls), Look::Same);
    put("..2", &ca.issue(&node().with(|s| s.valid = (-1, 90))));
    fs::remove_dir_all(root.join("..1")).unwrap();
    assert_eq!(looked(&mut watch, &tls), OWN);
}

/// A server and a client whose certificates are signed by different CAs; both trust both.
struct Pair {
    server: Server,
    server_tls: Arc<Tls>,
    client_tls: Arc<Tls>,
    servers: Ca,
    clients: Ca,
    both: String,
}

impl Pair {
    async fn new(limits: Limits) -> Pair {
        let (servers, clients) = (ca(), ca());
        let both = format!("{}{}", servers.pem, clients.pem);
        let server_tls = Tls::new(files(&servers.issue(&node()), &both)).unwrap();
        let client_tls = Tls::new(files(&clients.issue(&app()), &both)).unwrap();
        let server = Server::with(ca(), server_tls.clone(), limits, Tester::default()).await;
        Pair { server, server_tls, client_tls, servers, clients, both }
    }

    async fn dial(&self) -> Connection {
        let dialer = Dialer::new(self.client_tls.clone(), Limits::default());
        let hello = Hello::client(dialer.identity());
        let expect = Expect::Node("raft-1".to_owned());
        dialer.dial(&self.server.to(), expect, hello, super::support::SOON).await.unwrap()
    }
}

async fn echo(connection: &Connection) {
    let word = Bytes::from_static(b"word");
    let said: Bytes = ask(connection, &Ask::Echo(word.clone())).await.unwrap();
    assert_eq!(said, word);
}

#[tokio::test]
async fn a_new_certificate_of_the_server_loses_no_call() {
    let pair = Pair::new(Limits::default()).await;
    let (former, newer) = (pair.dial().await, pair.servers.issue(&node()));
    let held = {
        let former = former.clone();
        tokio::spawn(async move { ask::<u64>(&former, &Ask::Hold(5)).await })
    };
    let service = pair.server.service.clone();
    eventually("it is held", || service.held.lock().unwrap().len() == 1).await;
    let replaced = pair.server_tls.replace(files(&newer, &pair.both)).unwrap();
    assert_eq!(replaced, Replaced { own: true, trust: false, lists: false });
    former.stale().await;
    assert!(!former.is_open(), "the server wants no more calls on it");
    let fresh = pair.dial().await;
    echo(&fresh).await;
    let (number, reply) = service.held.lock().unwrap().pop().unwrap();
    reply.send(&number);
    assert_eq!(held.await.unwrap().unwrap(), 5, "what was in flight is answered");
    let closed = former.closed();
    drop(former);
    assert_eq!(closed.await, {
        let message = "this node has a new certificate; connect anew".to_owned();
        CloseReason::Announced(crate::rpc::CloseNotice { code: CloseCode::Renew, message })
    });
    assert!(!fresh.is_stale(), "made with the new certificate");
}

#[tokio::test]
async fn whoever_keeps_a_renewed_connection_loses_it_in_the_end() {
    let limits = Limits { drain: Duration::from_millis(50), ..Limits::default() };
    let pair = Pair::new(limits).await;
    let kept = pair.dial().await;
    pair.server_tls.replace(files(&pair.servers.issue(&node()), &pair.both)).unwrap();
    let reason = kept.closed().await;
    assert!(reason.was_announced(), "{reason}");
}

#[tokio::test]
async fn a_new_certificate_of_the_dialer_makes_its_connections_stale_and_they_go_on_working() {
    let pair = Pair::new(Limits::default()).await;
    let former = pair.dial().await;
    pair.client_tls.replace(files(&pair.clients.issue(&app()), &pair.both)).unwrap();
    former.stale().await;
    assert!(former.is_open());
    echo(&former).await;
    let fresh = pair.dial().await;
    let (service, closed) = (pair.server.service.clone(), former.closed());
    drop(former);
    assert_eq!(closed.await, CloseReason::Local);
    eventually("the server sees it go", || service.closed.lock().unwrap().len() == 1).await;
    echo(&fresh).await;
    assert!(!fresh.is_stale());
}

#[tokio::test]
async fn a_larger_bundle_disturbs_nobody() {
    let pair = Pair::new(Limits::default()).await;
    let standing = pair.dial().await;
    let more = format!("{}{}", pair.both, ca().pem);
    // The same certificates once more: they are compared, not assumed to be new.
    let (before, own) = (pair.server_tls.not_after(), pair.servers.issue(&node()));
    pair.server_tls.replace(files(&own, &pair.both)).unwrap();
    standing.stale().await;
    let standing = pair.dial().await;
    let replaced = pair.server_tls.replace(files(&own, &more)).unwrap();
    assert_eq!(replaced, Replaced { own: false, trust: true, lists: false });
    let again = pair.server_tls.replace(files(&own, &more)).unwrap();
    assert_eq!(again, Replaced { own: false, trust: false, lists: false });
    echo(&standing).await;
    assert!(standing.is_open() && !standing.is_stale());
    assert!(pair.server_tls.not_after() >= before);
}

#[tokio::test]
async fn a_server_closes_connections_whose_ca_it_dropped() {
    let pair = Pair::new(Limits::default()).await;
    let standing = pair.dial().await;
    let own = pair.servers.issue(&node());
    pair.server_tls.replace(files(&own, &pair.servers.pem)).unwrap();
    let CloseReason::Announced(notice) = standing.closed().await else { panic!("it says why") };
    assert_eq!(notice.code, CloseCode::Distrusted);
    pair.server.until_refused(Reason::UnknownCa).await;
}

#[tokio::test]
async fn a_dialer_leaves_a_server_whose_ca_it_dropped() {
    let pair = Pair::new(Limits::default()).await;
    let standing = pair.dial().await;
    let own = pair.clients.issue(&app());
    pair.client_tls.replace(files(&own, &pair.clients.pem)).unwrap();
    let reason = standing.closed().await;
    assert!(matches!(reason, CloseReason::Distrusted(Reason::UnknownCa, _)), "{reason}");
}
