//! Who calls a node and must be refused: what the caller is told, and what the node's log says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use balsa::codec::api::Code;
use balsa::rpc::{CallError, Connection, DialError, Dialer, Expect, Hello, Limits, Method, Tls};
use bytes::Bytes;
use rustls::AlertDescription;

use super::forge::{self, Papers, Side};
use super::harness::{Cluster, pause, until};
use super::raw::{Caller, Ending};
use super::{assert_no_keys_in, assert_serves, refusal_of};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn every_bad_certificate_that_calls_gets_its_alert_and_its_sentence() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    for (role, name) in [("node", "raft-1"), ("client", "client")] {
        let good = forge::good(role, name);
        for forged in forge::forgeries(&cluster.certificates, &good, Side::Calls) {
            let what = format!("{role}: {}", forged.what);
            let mut caller = Caller::connect(&node.address, Some(&forged.papers));
            let ending = caller.next(PATIENCE);
            assert_eq!(ending, Ending::Alert(forged.alert), "{what}");
            let line = refusal_of(&node.log, caller.from());
            assert!(line.contains(forged.sentence), "{what}: {line}");
            assert!(line.contains(&format!("reason=\"{}\"", forged.reason)), "{what}: {line}");
            println!("{what}: {:?}; {line}", forged.alert);
        }
        // The same way with a good one: it was the fault that was refused, and nothing else.
        let issued = forge::authority(&cluster.certificates).issue_raw(&good).expect("a good one");
        let mut caller = Caller::connect(&node.address, Some(&Papers::of(&issued)));
        assert_eq!(caller.next(Duration::from_millis(500)), Ending::Silent, "a good {role}");
        assert_eq!(caller.group(), "X25519MLKEM768", "the hybrid key exchange is the default");
    }
    let mut caller = Caller::connect(&node.address, None);
    let ending = caller.next(PATIENCE);
    assert_eq!(ending, Ending::Alert(AlertDescription::CertificateRequired), "no certificate");
    let line = refusal_of(&node.log, caller.from());
    assert!(line.contains("it presented no certificate"), "{line}");
    assert!(line.contains("reason=\"no_certificate\""), "{line}");

    assert_serves(&cluster, "after all bad certificates");
    assert_no_keys_in(&node.said(), &cluster.certificates);
    println!("each bad certificate got its own alert, each reason stands in the log");
}

#[test]
fn plaintext_gets_an_alert_whatever_it_speaks() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    for (what, words, first) in [
        ("HTTP", &b"GET /metrics HTTP/1.1\r\nHost: raft-0\r\n\r\n"[..], "0x47 ('G')"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "0x53 ('S')"),
        ("zeros", &[0; 64], "0x00 ('\\u{0}')"),
        ("a hello without TLS", b"\x00\x00\x00\x10\x01\x01\x00\x00", "0x00"),
        ("TLS' alert record", &[21, 3, 3, 0, 2, 2, 10], "0x15"),
    ] {
        let mut socket = TcpStream::connect(&node.address).expect("the node listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket.write_all(words).expect("the node reads");
        let mut told = Vec::new();
        socket.read_to_end(&mut told).expect("the node closes in good order");
        assert_eq!(told, [21, 3, 3, 0, 2, 2, 10], "{what}: fatal alert unexpected_message");
        let line = refusal_of(&node.log, socket.local_addr().expect("an address"));
        assert!(line.contains("plaintext: its first byte is"), "{what}: {line}");
        assert!(line.contains(first) && line.contains("reason=\"plaintext\""), "{what}: {line}");
        println!("{what}: {line}");
    }
    // Bytes that begin as TLS does and are none.
    let mut socket = TcpStream::connect(&node.address).expect("the node listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket.write_all(&[22, 3, 1, 0, 8, 1, 0, 0, 4, 0xde, 0xad, 0xbe, 0xef]).expect("it reads");
    let mut told = Vec::new();
    socket.read_to_end(&mut told).expect("the node closes in good order");
    assert_eq!((told[0], told[5]), (21, 2), "a fatal alert: {told:?}");
    let line = refusal_of(&node.log, socket.local_addr().expect("an address"));
    assert!(line.contains("is not a TLS handshake"), "{line}");
    assert_serves(&cluster, "after plaintext");
    println!("plaintext of every kind is refused with an alert");
}

#[test]
fn a_flood_of_bad_callers_fills_no_log_and_starves_nobody() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    let good = forge::good("node", "raft-1");
    let forged = forge::forgeries(&cluster.certificates, &good, Side::Calls);
    let expired = forged.iter().find(|one| one.reason == "expired").expect("an expired one");
    let (before, began) = (node.said().len(), Instant::now());
    for _ in 0..100 {
        let mut socket = TcpStream::connect(&node.address).expect("the node listens");
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
        let mut caller = Caller::connect(&node.address, Some(&expired.papers));
        assert_eq!(caller.next(PATIENCE), Ending::Alert(expired.alert));
    }
    assert_serves(&cluster, "during the flood");
    let said = node.said().split_off(before);
    let windows = began.elapsed().as_secs() / 10 + 1;
    for reason in ["plaintext", "expired"] {
        let lines = said.matches(&format!("reason=\"{reason}\"")).count() as u64;
        assert!(lines >= 1 && lines <= 10 * windows, "{lines} lines in {windows} windows of 10 s");
        println!("100 callers refused as {reason}: {lines} lines");
    }
    // The next line after the window says how many were left out.
    let left_out = until("a line that counts the others", Duration::from_secs(30), || {
        let mut socket = TcpStream::connect(&node.address).expect("the node listens");
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
        pause(Duration::from_millis(500));
        let said = node.said();
        let last = said.lines().rfind(|line| line.contains("reason=\"plaintext\""))?.to_owned();
        let count = last.rsplit_once("suppressed=")?.1.trim().parse::<u32>().ok()?;
        (count > 0).then_some(count)
    });
    assert!(left_out >= 80, "only {left_out} of 100 were left out");
    assert_serves(&cluster, "after the flood");
}

fn dialer(cluster: &Cluster, name: &str) -> (Dialer, Hello) {
    let seat = name.starts_with("raft-").then_some(name);
    let tls = Tls::load(&cluster.certificates.join(name), seat).expect("good certificates");
    let hello = Hello::client(tls.identity());
    (Dialer::new(tls, Limits::default()), hello)
}

fn dial(cluster: &Cluster, dialer: &Dialer, hello: Hello) -> Result<Connection, DialError> {
    let address = cluster.nodes[0].address.clone();
    let expect = Expect::Node("raft-0".into());
    cluster.wait(async { dialer.dial(&address, expect, hello, PATIENCE).await })
}

fn refusal(cluster: &Cluster, connection: &Connection, method: Method) -> (Code, String) {
    let nothing = Bytes::from_static(&[0x80]);
    match cluster.wait(connection.call_raw(method, nothing, PATIENCE)) {
        Err(CallError::Refused(refusal)) => (refusal.code, refusal.message),
        other => panic!("{method}: {other:?}"),
    }
}

#[test]
fn a_hello_speaks_only_for_its_certificates_own_seat() {
    let cluster = Cluster::start(3);
    let node = &cluster.nodes[0];
    for (name, claims) in [("raft-2", "raft-1"), ("raft-1", "raft-0"), ("client", "admin")] {
        let (dialer, hello) = dialer(&cluster, name);
        let hello = Hello { name: claims.into(), ..hello };
        let refused = dial(&cluster, &dialer, hello).expect_err("taken for somebody else");
        let DialError::HelloRefused { refusal, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(refusal.code, Code::WrongPeer, "{refused}");
        let sentence =
            format!("the hello is of {claims}, but the certificate is for balsa://balsa/");
        assert!(refusal.message.contains(&sentence), "{refused}");
        let line = super::line_with(node, &[&sentence, name, "reason=\"wrong_name\""]);
        println!("{name} as {claims}: {line}");
    }
    // The right name, but a message for a node that does not sit here any more.
    let (dialer, hello) = dialer(&cluster, "raft-1");
    let stray = Hello { receiver: Some(balsa::raft::NodeId(7)), ..hello.clone() };
    let refused = dial(&cluster, &dialer, stray).expect_err("taken for another node");
    let DialError::HelloRefused { refusal, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(refusal.code, Code::WrongPeer, "K1, M7: {refused}");
    let stray = Hello { cluster_id: Some(balsa::raft::ClusterId(7)), ..hello };
    let refused = dial(&cluster, &dialer, stray).expect_err("taken into another cluster");
    assert!(refused.to_string().contains("is in cluster"), "M6: {refused}");
    assert_serves(&cluster, "after false hellos");
}

#[test]
fn a_role_calls_its_own_methods_only() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    // The log holds ten lines of one reason in ten seconds: the longest list comes last.
    let nodes = [Method::KvWrite, Method::KvGet, Method::ClusterMembers, Method::NodeStop];
    let admins = [Method::RaftVote, Method::RaftAppend, Method::RaftHeartbeat, Method::BootAsk];
    let clients = [
        Method::RaftVote,
        Method::RaftAppend,
        Method::RaftHeartbeat,
        Method::BootAsk,
        Method::BootDeliver,
        Method::NodeProbe,
        Method::NodeReplication,
        Method::NodeStop,
    ];
    for (name, denied) in [("raft-0", &nodes[..]), ("admin", &admins), ("client", &clients)] {
        let (dialer, hello) = dialer(&cluster, name);
        let connection = dial(&cluster, &dialer, hello).expect("the certificate itself is good");
        for method in denied {
            let (code, message) = refusal(&cluster, &connection, *method);
            assert_eq!(code, Code::Denied, "{name} calls {method}: {message}");
            println!("{name} calls {method}: {message}");
        }
        let line = super::line_with(node, &["reason=\"denied\"", &format!("/{name}: ")]);
        println!("{line}");
        // A refusal is an answer; the connection goes on.
        let status = connection.call_raw(Method::NodeStatus, Bytes::from_static(&[0x80]), PATIENCE);
        cluster.wait(status).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    // A node's certificate whose hello named no receiver is a node, and yet speaks no Raft.
    let (dialer, hello) = dialer(&cluster, "raft-0");
    let connection = dial(&cluster, &dialer, hello).expect("a good certificate");
    let (code, message) = refusal(&cluster, &connection, Method::RaftVote);
    assert_eq!(code, Code::WrongPeer, "K1, M7: {message}");
    assert_serves(&cluster, "after calls beyond authority");
}
