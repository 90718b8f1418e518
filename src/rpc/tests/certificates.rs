//! Every certificate that must be refused, in both directions: the sentence in the log, the word for
//! counters, and the alert or refusal that the other side reads. In TLS 1.3 a client's handshake
//! succeeds before the server has judged it, so these tests hold the connection open and read.

use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, Error, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::pki::{Ca, Leaf, Spec, ca};
use super::support::{Log, SOON, Server, eventually};
use crate::rpc::tls::tls_error;
use crate::rpc::{DialError, Dialer, Expect, Hello, Limits, Reason};

/// One faulty certificate and what must be said of it.
struct Case {
    leaf: Leaf,
    reason: Reason,
    sentence: &'static str,
    alert: AlertDescription,
}

fn cases(ca: &Ca, good: &Spec, usage: ExtendedKeyUsagePurpose, lacking: &'static str) -> Vec<Case> {
    use AlertDescription as A;
    let case = |ca: &Ca, change: fn(&mut Spec), reason, sentence, alert| Case {
        leaf: ca.issue(&good.clone().with(change)),
        reason,
        sentence,
        alert,
    };
    let other_ca = super::pki::ca();
    vec![
        case(&other_ca, |_| (), Reason::UnknownCa, "none of the CAs in ca.crt", A::UnknownCA),
        case(
            ca,
            |s| s.valid = (-30, -1),
            Reason::Expired,
            "has expired (valid until 20",
            A::CertificateExpired,
        ),
        case(
            ca,
            |s| s.valid = (1, 30),
            Reason::NotYetValid,
            "is not yet valid (valid from 20",
            A::CertificateExpired,
        ),
        Case {
            leaf: ca.issue(&good.clone().with(|s| s.usages = vec![usage])),
            reason: Reason::WrongUsage,
            sentence: lacking,
            alert: A::UnsupportedCertificate,
        },
        case(ca, |s| s.uris.clear(), Reason::UriName, "has no URI name", A::BadCertificate),
        case(
            ca,
            |s| s.uris.push("balsa://balsa/admin/me".to_owned()),
            Reason::UriName,
            "has 2 URI names",
            A::BadCertificate,
        ),
        case(
            ca,
            |s| s.uris = vec!["https://example.org/".to_owned()],
            Reason::UriName,
            "the scheme is not balsa",
            A::BadCertificate,
        ),
        case(
            ca,
            |s| s.uris = vec!["balsa://other/node/raft-1".to_owned()],
            Reason::WrongCluster,
            "not of cluster balsa",
            A::AccessDenied,
        ),
    ]
}

/// A TLS client of nobody's making but rustls'.
pub(super) fn client_config(ca: &Ca, leaf: Option<&Leaf>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match leaf {
        Some(leaf) => builder.with_client_auth_cert(leaf.chain.clone(), leaf.key()).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// Connects with such a certificate and reads the alert that comes after the handshake.
async fn alert_for(server: &Server, leaf: Option<&Leaf>) -> AlertDescription {
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(client_config(&server.ca, leaf));
    let mut stream =
        connector.connect(name, tcp).await.expect("TLS 1.3: the client succeeds first");
    // A client would send its hello now; the alert must reach it all the same.
    let _ = stream.write_all(&[0; 100]).await;
    let error = stream.read_u8().await.expect_err("refused");
    match tls_error(&error) {
        Some(Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert but {error:?}"),
    }
}

#[tokio::test]
async fn a_server_refuses_every_faulty_client() {
    let server = Server::plain().await;
    let good = Spec::node("raft-2");
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    for case in cases(&server.ca, &good, usage, "extended key usage lacks clientAuth") {
        let (log, _guard) = Log::start();
        let before = server.service.reasons();
        let counted = server.service.refused(case.reason);
        assert_eq!(alert_for(&server, Some(&case.leaf)).await, case.alert, "{}", case.sentence);
        eventually("it is counted", || server.service.reasons() != before).await;
        assert_eq!(server.service.refused(case.reason), counted + 1, "{:?}", case.reason);
        let text = log.text();
        assert!(text.contains(case.sentence), "{}: {text}", case.sentence);
        assert!(text.contains(case.reason.word()) && text.contains("127.0.0.1"), "{text}");
    }
    assert!(server.service.peers.lock().unwrap().is_empty(), "nobody came in");
}

#[tokio::test]
async fn a_refused_client_is_told_in_words_what_the_server_thinks() {
    let server = Server::plain().await;
    let app = || Spec::of("balsa://balsa/client/app");
    let stranger = {
        // Trusts the server's CA, but is signed by another.
        let directory = tempfile::tempdir().unwrap();
        ca().issue(&app()).write(directory.path(), "tls", &server.ca.pem);
        crate::rpc::Tls::load(directory.path(), None).unwrap()
    };
    let tls = |change: fn(&mut Spec)| server.ca.tls(&app().with(change));
    for (tls, words) in [
        (stranger, "signed by none of its CAs"),
        (tls(|s| s.valid = (-30, -1)), "expired or is not yet valid, by its clock"),
        (tls(|s| s.usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), "extended key usage"),
    ] {
        let dialer = Dialer::new(tls, Limits::default());
        let hello = Hello::client(dialer.identity());
        let expect = Expect::Node("raft-1".to_owned());
        let error = dialer.dial(&server.to(), expect, hello, SOON).await.unwrap_err();
        assert!(matches!(error, DialError::RefusedByServer { .. }), "{error:?}");
        assert!(error.is_authority());
        let text = error.to_string();
        assert!(text.contains(words) && text.contains("the server refused us"), "{text}");
    }
}

#[tokio::test]
async fn no_certificate_and_plaintext_are_refused() {
    let (log, _guard) = Log::start();
    let server = Server::plain().await;
    assert_eq!(alert_for(&server, None).await, AlertDescription::CertificateRequired);
    server.until_refused(Reason::NoCertificate).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n", b"x", &[0; 40]] {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 10], "a fatal alert and nothing else");
    }
    server.until_refused(Reason::Plaintext).await;
    let text = log.text();
    assert!(text.contains("it presented no certificate"), "{text}");
    assert!(text.contains("plaintext: its first byte is 0x47 ('G')"), "{text}");
    assert!(text.contains("0x53 ('S')") && text.contains("0x00 ('\\u{0}')"), "{text}");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "openssl blocks, and only its end matters here")]
async fn tls_1_2_and_older_are_refused() {
    let (log, _guard) = Log::start();
    let server = Server::plain().await;
    let directory = server.ca.directory(&Spec::of("balsa://balsa/client/app"));
    let to = server.to();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let arguments = [path("tls.crt"), path("tls.key"), path("ca.crt")];
    let output = tokio::task::spawn_blocking(move || {
        let [certificate, key, ca] = &arguments;
        Command::new("openssl")
            .args(["s_client", "-tls1_2", "-connect", &to, "-cert", certificate])
            .args(["-key", key, "-CAfile", ca])
            .stdin(Stdio::null())
            .output()
            .expect("openssl is installed")
    })
    .await
    .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("protocol version"), "the alert is read: {said}");
    server.until_refused(Reason::OldTls).await;
    assert!(log.text().contains("offers no TLS 1.3"), "{}", log.text());
}

/// A TLS server of nobody's making but rustls', with any certificate.
async fn serve_with(leaf: &Leaf) -> (String, tokio::task::JoinHandle<Option<AlertDescription>>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain.clone(), leaf.key())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let error = TlsAcceptor::from(Arc::new(config)).accept(tcp).await.err()?;
        match tls_error(&error) {
            Some(Error::AlertReceived(alert)) => Some(*alert),
            _ => None,
        }
    });
    (to, task)
}

/// Also pins that webpki compares the host's name last: the address dialed, 127.0.0.1, is in none of
/// these certificates, and still the chain's, the dates' and the usage's faults are found.
#[tokio::test]
async fn a_dialer_refuses_every_faulty_server() {
    let ca = ca();
    let dialer = Dialer::new(ca.tls(&Spec::node("raft-2")), Limits::default());
    let good = Spec::node("raft-1");
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    for case in cases(&ca, &good, usage, "extended key usage lacks serverAuth") {
        let (to, task) = serve_with(&case.leaf).await;
        let hello = Hello::client(dialer.identity());
        let expect = Expect::Node("raft-1".to_owned());
        let error = dialer.dial(&to, expect, hello, SOON).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(case.sentence), "{}: {text}", case.sentence);
        assert!(error.is_authority(), "{error:?}");
        match error {
            DialError::Tls { reason, .. } => assert_eq!(reason, case.reason),
            DialError::WrongPeer { .. } => assert_eq!(case.reason, Reason::WrongCluster),
            other => panic!("{other:?}"),
        }
        assert_eq!(task.await.unwrap(), Some(case.alert), "{}", case.sentence);
    }
}

#[tokio::test]
async fn a_dialer_takes_only_whom_it_expects() {
    let ca = ca();
    let dialer = Dialer::new(ca.tls(&Spec::node("raft-2")), Limits::default());
    let node = |name: &str| Expect::Node(name.to_owned());
    for (spec, expect, host, words) in [
        (Spec::node("raft-1"), node("raft-3"), "127.0.0.1", "but this is the address of raft-3"),
        (Spec::of("balsa://balsa/client/raft-1"), node("raft-1"), "127.0.0.1", "not for a node"),
        (Spec::of("balsa://balsa/admin/x"), Expect::AnyNode, "localhost", "not for a node"),
        (Spec::node("raft-1"), Expect::AnyNode, "127.0.0.1", "does not name the host 127.0.0.1"),
        (
            Spec::node("raft-1").with(|s| s.dns = vec!["elsewhere"]),
            Expect::AnyNode,
            "localhost",
            "does not name the host localhost",
        ),
    ] {
        let (to, task) = serve_with(&ca.issue(&spec)).await;
        let to = to.replace("127.0.0.1", host);
        let hello = Hello::client(dialer.identity());
        let error = dialer.dial(&to, expect, hello, SOON).await.unwrap_err();
        assert!(matches!(error, DialError::WrongPeer { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(task.await.unwrap().is_some(), "an alert was sent");
    }
}

#[tokio::test]
async fn a_client_takes_any_node_whose_certificate_names_the_host() {
    let server = Server::plain().await;
    let dialer = Dialer::new(server.ca.tls(&Spec::of("balsa://balsa/client/a")), Limits::default());
    let to = format!("localhost:{}", server.address.port());
    let hello = Hello::client(dialer.identity());
    let connection = dialer.dial(&to, Expect::AnyNode, hello, SOON).await.unwrap();
    assert_eq!(connection.ack().name, "raft-1");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_said_to() {
    let ca = ca();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"220 mail.example.org ESMTP\r\n").await.unwrap();
        let _ = tcp.read_u8().await;
    });
    let dialer = Dialer::new(ca.tls(&Spec::node("raft-2")), Limits::default());
    let hello = Hello::client(dialer.identity());
    let error = dialer.dial(&to, Expect::AnyNode, hello, SOON).await.unwrap_err();
    assert!(error.to_string().contains("not a TLS handshake"), "{error}");
}

/// A session that is resumed skips the certificate check; so no ticket is ever given, and none used.
#[tokio::test]
async fn no_session_is_resumed_and_the_key_exchange_is_hybrid() {
    let server = Server::plain().await;
    let leaf = server.ca.issue(&Spec::of("balsa://balsa/client/app"));
    // rustls' own client would resume if it could.
    let config = client_config(&server.ca, Some(&leaf));
    for _ in 0..3 {
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(config.clone()).connect(name, tcp).await.unwrap();
        let hello = Hello::client(&"balsa://balsa/client/app".parse().unwrap());
        let head = crate::rpc::frame::Head::plain(crate::rpc::frame::Kind::Hello, 0);
        crate::rpc::stream::write_frame(&mut stream, &head, &hello).await.unwrap();
        // Tickets would come with the first data.
        stream.read_u8().await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        let group = session.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    }
}
