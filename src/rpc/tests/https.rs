//! The page for scrapers: who gets it, who does not, and what becomes of those who dawdle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::client_config;
use super::crls::Listing;
use super::pki::{Ca, Leaf, Spec, ca};
use super::support::{SOON, eventually};
use crate::identity::Role;
use crate::rpc::{Making, Meter, Page, PageLimits, Reason, Tls, TlsFiles, serve_page};

const TEXT: &str = "balsa_term 7\n# EOF\n";

#[derive(Default)]
struct Counting(AtomicU64);

impl Page for Counting {
    fn media_type(&self) -> &'static str {
        "text/x-test"
    }

    fn make(&self) -> Making {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Bytes::from_static(TEXT.as_bytes()) })
    }
}

struct Port {
    ca: Ca,
    tls: Arc<Tls>,
    address: std::net::SocketAddr,
    meter: Arc<Meter>,
    page: Arc<Counting>,
}

impl Port {
    async fn open(limits: PageLimits) -> Port {
        let ca = ca();
        let tls = ca.tls(&Spec::node("raft-1"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (meter, page) = (Arc::<Meter>::default(), Arc::<Counting>::default());
        let (own_tls, own_meter, own_page) = (tls.clone(), meter.clone(), page.clone());
        tokio::spawn(async move {
            serve_page(listener, own_tls, limits, own_meter, own_page).await;
        });
        Port { ca, tls, address, meter, page }
    }

    fn leaf(&self, role: &str) -> Leaf {
        self.ca.issue(&Spec::of(&format!("balsa://balsa/{role}/prometheus")))
    }

    async fn connect(&self, leaf: Option<&Leaf>) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(client_config(&self.ca, leaf));
        connector.connect(name, tcp).await.expect("TLS 1.3: the client succeeds first")
    }

    async fn scraper(&self) -> TlsStream<TcpStream> {
        self.connect(Some(&self.leaf("monitor"))).await
    }

    fn refused(&self, reason: Reason) -> u64 {
        self.meter.refusals().filter(|(other, _)| *other == reason).map(|(_, count)| count).sum()
    }

    fn monitors(&self) -> u64 {
        let mut roles = self.meter.connections().filter(|(role, _)| *role == Role::Monitor);
        roles.next().unwrap().1
    }
}

/// Sends a request and reads head and body of its answer; the connection stays.
async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let answered = tokio::time::timeout(SOON, answer(stream, request.starts_with("HEAD"))).await;
    answered.expect("an answer in time")
}

async fn answer(stream: &mut TlsStream<TcpStream>, head_only: bool) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = if head_only { 0 } else { length.map_or(0, |text| text.parse().unwrap()) };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("a body");
    (head, String::from_utf8(body).unwrap())
}

/// Waits for the end of a connection on which nothing more is said; an alert counts as one.
async fn ended(stream: &mut TlsStream<TcpStream>) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok() && rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: raft-1\r\n\r\n")
}

#[tokio::test]
async fn monitors_nodes_and_admins_get_the_page_and_clients_a_sentence() {
    let port = Port::open(PageLimits::default()).await;
    for role in ["monitor", "node", "admin"] {
        let mut stream = port.connect(Some(&port.leaf(role))).await;
        for _ in 0..2 {
            let (head, body) = ask(&mut stream, &get("/metrics")).await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{role}: {head}");
            assert!(head.contains("content-type: text/x-test\r\n"), "{head}");
            assert_eq!(body, TEXT, "{role}");
        }
    }
    assert_eq!(port.page.0.load(Ordering::SeqCst), 6);
    let mut stream = port.connect(Some(&port.leaf("client"))).await;
    let (head, body) = ask(&mut stream, &get("/metrics")).await;
    assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
    let sentence = "metrics may not be read with a client certificate, only with one of these \
                    roles: node, admin, monitor\n";
    assert_eq!(body, sentence);
    ended(&mut stream).await;
    assert_eq!(port.refused(Reason::Denied), 1);
    assert_eq!(port.page.0.load(Ordering::SeqCst), 6, "nothing was made for it");
}

#[tokio::test]
async fn there_is_one_page_and_it_is_only_read() {
    let port = Port::open(PageLimits::default()).await;
    let mut stream = port.scraper().await;
    for (request, status, words) in [
        (get("/"), "404 Not Found", "only /metrics is here"),
        (get("/metrics/"), "404 Not Found", "only /metrics is here"),
        (
            "POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "405 Method Not Allowed",
            "GET or HEAD",
        ),
        (get("/metrics?name=x"), "200 OK", "balsa_term"),
    ] {
        let (head, body) = ask(&mut stream, &request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {head}");
        assert!(body.contains(words), "{request}: {body}");
    }
    let (head, body) = ask(&mut stream, "HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.is_empty(), "{head}{body}");
    assert!(head.contains(&format!("content-length: {}\r\n", TEXT.len())), "{head}");
    let (head, _) = ask(&mut stream, &get("/metrics")).await;
    assert!(head.starts_with("HTTP/1.1 200"), "nothing of a body was sent: {head}");
}

#[tokio::test]
async fn whoever_proves_nothing_gets_nothing() {
    let port = Port::open(PageLimits::default()).await;
    let mut anonymous = port.connect(None).await;
    let _ = anonymous.write_all(get("/metrics").as_bytes()).await;
    assert!(anonymous.read_u8().await.is_err());
    let foreign = ca().issue(&Spec::of("balsa://balsa/monitor/prometheus"));
    let mut stranger = port.connect(Some(&foreign)).await;
    let _ = stranger.write_all(get("/metrics").as_bytes()).await;
    assert!(stranger.read_u8().await.is_err());
    let mut plain = TcpStream::connect(port.address).await.unwrap();
    plain.write_all(get("/metrics").as_bytes()).await.unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, [21, 3, 3, 0, 2, 2, 10], "an alert, and no word of HTTP");
    for reason in [Reason::NoCertificate, Reason::UnknownCa, Reason::Plaintext] {
        eventually(reason.word(), || port.refused(reason) == 1).await;
    }
    let mut babbler = port.scraper().await;
    babbler.write_all(b"\x16\x03\x01 what is this\r\n\r\n").await.unwrap();
    eventually("no HTTP", || port.refused(Reason::Violation) == 1).await;
    assert_eq!(port.page.0.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn every_deadline_ends_a_connection() {
    let soon = Duration::from_millis(600);
    let limits = PageLimits { handshake: soon, head: soon, idle: soon, ..PageLimits::default() };
    let port = Port::open(limits).await;
    // A byte now and then of a head that never ends, from the first request on and from a later one.
    for requests_before in [0, 1] {
        let mut slow = port.scraper().await;
        for _ in 0..requests_before {
            ask(&mut slow, &get("/metrics")).await;
        }
        let counted = port.refused(Reason::Slow);
        let (mut reader, mut writer) = tokio::io::split(slow);
        let dripping = tokio::spawn(async move {
            let head = get("/metrics");
            for byte in head.as_bytes().iter().cycle().take(10_000) {
                let byte = if *byte == b'\r' || *byte == b'\n' { b'x' } else { *byte };
                if writer.write_all(&[byte]).await.is_err() || writer.flush().await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut rest = Vec::new();
        let end = tokio::time::timeout(SOON, reader.read_to_end(&mut rest)).await;
        assert!(end.is_ok() && rest.is_empty(), "closed without an answer");
        assert_eq!(port.refused(Reason::Slow), counted + 1);
        dripping.abort();
    }
    let mut idle = port.scraper().await;
    ask(&mut idle, &get("/metrics")).await;
    ended(&mut idle).await;
    assert_eq!(port.refused(Reason::Slow), 2, "silence between two scrapes is no offence");
    let mut mute = TcpStream::connect(port.address).await.unwrap();
    let end = tokio::time::timeout(SOON, mute.read_u8()).await;
    assert!(end.expect("closed").is_err());
    eventually("its handshake", || port.refused(Reason::HandshakeTimeout) == 1).await;
    eventually("all are gone", || port.monitors() == 0).await;
}

#[tokio::test]
async fn heads_and_connections_have_limits() {
    let port = Port::open(PageLimits { connections: 2, ..PageLimits::default() }).await;
    let mut first = port.scraper().await;
    ask(&mut first, &get("/metrics")).await;
    let mut second = port.scraper().await;
    ask(&mut second, &get("/metrics")).await;
    assert_eq!(port.monitors(), 2);
    let mut third = TcpStream::connect(port.address).await.unwrap();
    let end = tokio::time::timeout(SOON, third.read(&mut [0])).await.expect("closed at once");
    assert!(matches!(end, Ok(0) | Err(_)));
    eventually("it is counted", || port.refused(Reason::Full) == 1).await;
    let long = format!("GET /metrics HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let (head, _) = ask(&mut second, &long).await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    eventually("its place is free again", || port.monitors() == 1).await;
    let mut fourth = port.scraper().await;
    ask(&mut fourth, &get("/metrics")).await;
    ask(&mut first, &get("/metrics")).await;
}

fn files(leaf: &Leaf, bundle: &str, lists: Option<&str>) -> TlsFiles {
    let directory = tempfile::tempdir().unwrap();
    leaf.write(directory.path(), "tls", bundle);
    if let Some(lists) = lists {
        std::fs::write(directory.path().join("ca.crl"), lists).unwrap();
    }
    TlsFiles::read(directory.path(), None).unwrap()
}

#[tokio::test]
async fn a_scraper_that_is_revoked_is_cut_off_and_does_not_come_back() {
    let port = Port::open(PageLimits::default()).await;
    let (own, revoked) = (port.ca.issue(&Spec::node("raft-1")), port.leaf("monitor"));
    port.tls.replace(files(&own, &port.ca.pem, None)).unwrap();
    let mut stream = port.connect(Some(&revoked)).await;
    ask(&mut stream, &get("/metrics")).await;
    let list = Listing::number(1).revoking(&revoked).by(&port.ca);
    port.tls.replace(files(&own, &port.ca.pem, Some(&list))).unwrap();
    let end = tokio::time::timeout(SOON, stream.read_u8()).await;
    assert!(end.expect("closed").is_err());
    eventually("it is counted", || port.refused(Reason::Revoked) == 1).await;
    let mut again = port.connect(Some(&revoked)).await;
    let _ = again.write_all(get("/metrics").as_bytes()).await;
    assert!(again.read_u8().await.is_err());
    eventually("and once more", || port.refused(Reason::Revoked) == 2).await;
    let (head, _) = ask(&mut port.scraper().await, &get("/metrics")).await;
    assert!(head.starts_with("HTTP/1.1 200"), "another monitor is heard: {head}");
}

#[tokio::test]
async fn replaced_certificates_hold_for_connections_that_stand() {
    let port = Port::open(PageLimits::default()).await;
    let mut stream = port.scraper().await;
    ask(&mut stream, &get("/metrics")).await;
    // A new certificate of the node: the connection is to be made anew, without a complaint.
    let newer = port.ca.issue(&Spec::node("raft-1").with(|s| s.valid = (-1, 90)));
    port.tls.replace(files(&newer, &port.ca.pem, None)).unwrap();
    ended(&mut stream).await;
    assert!(port.meter.refusals().all(|(_, count)| count == 0));
    let mut stream = port.scraper().await;
    ask(&mut stream, &get("/metrics")).await;
    // Its CA leaves the bundle.
    let other = ca();
    let moved = other.issue(&Spec::node("raft-1"));
    port.tls.replace(files(&moved, &other.pem, None)).unwrap();
    let end = tokio::time::timeout(SOON, stream.read_u8()).await;
    assert!(end.expect("closed").is_err());
    eventually("it is counted", || port.refused(Reason::UnknownCa) == 1).await;
}

#[tokio::test]
async fn a_request_that_is_on_its_way_when_the_certificate_is_replaced_is_answered() {
    let port = Port::open(PageLimits::default()).await;
    let (mut empty, mut half, mut idle) =
        (port.scraper().await, port.scraper().await, port.scraper().await);
    for stream in [&mut half, &mut idle] {
        ask(stream, &get("/metrics")).await;
    }
    let request = get("/metrics");
    let (head, rest) = request.split_at(9);
    half.write_all(head.as_bytes()).await.unwrap();
    eventually("all three are up", || port.monitors() == 3).await;
    let newer = port.ca.issue(&Spec::node("raft-1").with(|s| s.valid = (-1, 90)));
    port.tls.replace(files(&newer, &port.ca.pem, None)).unwrap();
    ended(&mut idle).await;
    // Every connection's turn has come by now.
    tokio::time::sleep(Duration::from_millis(2300)).await;
    for (stream, rest) in [(&mut empty, request.as_str()), (&mut half, rest)] {
        let (head, body) = ask(stream, rest).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body == TEXT, "{head}");
        ended(stream).await;
    }
    assert!(port.meter.refusals().all(|(_, count)| count == 0));
}
