//! Who is called in a node's place and must be refused: by our nodes and by our clients.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use balsa::client::{Client, ErrorKind, Options};
use balsa::rpc::{DialError, Dialer, Expect, Hello, Limits, Tls};
use rustls::AlertDescription;

use super::forge::{self, Forged, Papers, Side};
use super::harness::{Cluster, PATIENCE, free_ports, pause, tls, until};
use super::raw::{Ending, Guise, Impostor};
use super::{assert_serves, line_with};

/// A server that speaks nothing newer than TLS 1.2; ended when dropped.
struct OldServer(Child);

impl OldServer {
    fn on(port: u16, papers: &std::path::Path) -> OldServer {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_server", "-quiet", "-tls1_2", "-accept", &port.to_string()]);
        openssl.arg("-cert").arg(papers.join("tls.crt")).arg("-key").arg(papers.join("tls.key"));
        openssl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        OldServer(openssl.spawn().expect("openssl must be installed"))
    }
}

impl Drop for OldServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything that may stand in a seat's place, `seat` being that of the good certificate.
fn certificates_for(cluster: &Cluster, seat: &str) -> Vec<Forged> {
    let good = forge::good("node", seat);
    let mut forged = forge::forgeries(&cluster.certificates, &good, Side::Serves);
    let ca = forge::authority(&cluster.certificates);
    let mut client = forge::good("client", seat);
    client.server_auth = true;
    forged.push(Forged {
        what: "a client's name that may serve",
        papers: Papers::of(&ca.issue_raw(&client).expect("a certificate")),
        alert: AlertDescription::AccessDenied,
        sentence: "not for a node",
        reason: "wrong_name",
    });
    forged.push(Forged {
        what: "a real client's certificate",
        papers: Papers::read(&cluster.certificates.join("client")),
        alert: AlertDescription::UnsupportedCertificate,
        sentence: "extended key usage lacks serverAuth",
        reason: "wrong_usage",
    });
    forged
}

/// What an impostor heard first that was not the end of an idle connection.
fn first_heard(impostor: &Impostor, what: &str) -> Ending {
    until(&format!("{what}: the impostor hears something"), PATIENCE, || {
        impostor.heard().into_iter().next()
    })
}

#[test]
fn a_node_refuses_every_bad_server_in_its_peers_seats() {
    // A founding needs all seats, so one round of asking tells what raft-0 thinks of all of them.
    let mut cluster = Cluster::prepare(1);
    let wrong_node = Forged {
        what: "another seat's certificate",
        papers: Papers::of(
            &forge::authority(&cluster.certificates)
                .issue_raw(&forge::good("node", "raft-99"))
                .expect("a certificate"),
        ),
        alert: AlertDescription::AccessDenied,
        sentence: "is for balsa://balsa/node/raft-99, but this is the address of raft-",
        reason: "wrong_name",
    };
    let mut expected = Vec::new();
    let mut seeds = vec![format!("raft-0={}", cluster.nodes[0].address)];
    let count = certificates_for(&cluster, "raft-1").len() + 1;
    let ports = free_ports(count + 4);
    let address = |seat: usize| format!("127.0.0.1:{}", ports[seat - 1]);
    for seat in 1..=count {
        let name = format!("raft-{seat}");
        let forged = certificates_for(&cluster, &name).into_iter().nth(seat - 1);
        let forged = forged.unwrap_or_else(|| Forged {
            what: wrong_node.what,
            papers: wrong_node.papers.clone(),
            ..wrong_node
        });
        let impostor = Impostor::on(&address(seat), Guise::Tls(forged.papers.clone()));
        seeds.push(format!("{name}={}", address(seat)));
        expected.push((name, address(seat), forged, impostor));
    }
    let (ssh, http, silent, old) = (count + 1, count + 2, count + 3, count + 4);
    let plain = [
        Impostor::on(&address(ssh), Guise::Says(b"SSH-2.0-OpenSSH_9.2p1\r\n")),
        Impostor::on(&address(http), Guise::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        Impostor::on(&address(silent), Guise::Silent),
    ];
    let _old = OldServer::on(ports[old - 1], &cluster.certificates.join("raft-0"));
    seeds.extend((ssh..=old).map(|seat| format!("raft-{seat}={}", address(seat))));
    cluster.nodes[0].seeds = seeds.join(",");
    cluster.start_all();

    let node = &cluster.nodes[0];
    for (name, address, forged, impostor) in &expected {
        let ending = first_heard(impostor, forged.what);
        assert_eq!(ending, Ending::Alert(forged.alert), "{}: no word but an alert", forged.what);
        let said = line_with(node, &[&format!("{name} at {address} ("), forged.sentence]);
        let here = said.split_once(&format!("{name} at {address} (")).expect("its place").1;
        let here = here.split_once(", raft-").map_or(here, |(here, _)| here);
        assert!(here.contains(forged.sentence), "{}: {here}", forged.what);
        println!("{}: {:?}; {here}", forged.what, forged.alert);
    }
    for (seat, sentence) in [
        (ssh, "what it sent is not a TLS handshake"),
        (http, "what it sent is not a TLS handshake"),
        (silent, "no answer within the time limit, in the TLS handshake"),
        (old, "it does not speak TLS 1.3"),
    ] {
        let place = format!("raft-{seat} at {} ({}: {sentence}", address(seat), address(seat));
        println!("{}", line_with(node, &[&place]));
    }
    for impostor in &plain {
        for ending in impostor.heard() {
            if let Ending::Data(bytes) = ending {
                assert!(
                    bytes.is_empty() || bytes[0] == 22 || bytes[0] == 21,
                    "only TLS: {bytes:?}"
                );
            }
        }
    }
    println!("a node tells nobody who is not its peer more than an alert");
}

#[test]
fn a_leader_names_what_stands_in_a_dead_peers_seat_and_takes_the_peer_back() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let victim = cluster.other_than(leader);
    let third = 3 - leader - victim;
    cluster.nodes[victim].kill9();
    let (name, address) =
        (cluster.nodes[victim].name.clone(), cluster.nodes[victim].address.clone());
    let stand_ins: [(Papers, AlertDescription, String); 2] = [
        (
            Papers::read(&cluster.certificates.join(&cluster.nodes[third].name)),
            AlertDescription::AccessDenied,
            format!("but this is the address of {name}"),
        ),
        (
            certificates_for(&cluster, &name).swap_remove(0).papers,
            AlertDescription::UnknownCA,
            "is signed by none of the CAs".to_owned(),
        ),
    ];
    for (papers, alert, sentence) in stand_ins {
        let impostor = Impostor::on(&address, Guise::Tls(papers));
        assert_eq!(first_heard(&impostor, &sentence), Ending::Alert(alert));
        let line = line_with(&cluster.nodes[leader], &["WARN", &name, sentence.as_str()]);
        println!("{line}");
        assert_serves(&cluster, &format!("while {sentence}"));
        pause(Duration::from_secs(2));
        let said = cluster.nodes[leader].said();
        let times = said.lines().filter(|line| line.contains(&sentence)).count();
        assert!(times <= 3, "said {times} times; dialing goes on, saying it does not");
    }
    cluster.nodes[victim].start();
    cluster.wait_for_leader();
    cluster.assert_equal();
    println!("the right certificate is taken back at once");
}

#[test]
fn a_client_refuses_every_bad_server() {
    let cluster = Cluster::start(1);
    let mut forged = certificates_for(&cluster, "raft-0");
    let mut elsewhere = forge::good("node", "raft-0");
    (elsewhere.dns, elsewhere.ips) = (vec!["example.org".into()], vec![[10, 0, 0, 1].into()]);
    let ca = forge::authority(&cluster.certificates);
    let elsewhere = Papers::of(&ca.issue_raw(&elsewhere).expect("a certificate"));
    forged.push(Forged {
        what: "another host's certificate",
        papers: elsewhere.clone(),
        alert: AlertDescription::BadCertificate,
        sentence: "does not name the host 127.0.0.1 it was reached by",
        reason: "wrong_name",
    });
    for forged in forged {
        let impostor = Impostor::on("127.0.0.1:0", Guise::Tls(forged.papers));
        let client = client_of(&cluster, &impostor.address());
        let error = cluster.wait(client.status(&impostor.address())).expect_err(forged.what);
        assert_eq!(error.kind, ErrorKind::Untrusted, "{}: {error}", forged.what);
        assert!(error.message.contains(forged.sentence), "{}: {error}", forged.what);
        let ending = first_heard(&impostor, forged.what);
        assert_eq!(ending, Ending::Alert(forged.alert), "{}", forged.what);
        let put = cluster.wait(client.put("k".into(), "v".into())).expect_err(forged.what);
        assert_eq!(put.kind, ErrorKind::Untrusted, "C3, nothing was sent: {put}");
        println!("{}: {:?}; {error}", forged.what, forged.alert);
    }
    for (words, sentence) in [
        (&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], "is not a TLS handshake"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not a TLS handshake"),
    ] {
        let impostor = Impostor::on("127.0.0.1:0", Guise::Says(words));
        let client = client_of(&cluster, &impostor.address());
        let error = cluster.wait(client.status(&impostor.address())).expect_err("no TLS");
        assert_eq!(error.kind, ErrorKind::Untrusted, "{error}");
        assert!(error.message.contains(sentence), "{error}");
    }
    let impostor = Impostor::on("127.0.0.1:0", Guise::Cuts);
    let cut = cluster.wait(client_of(&cluster, &impostor.address()).status(&impostor.address()));
    let cut = cut.expect_err("there is no node");
    assert_eq!(cut.kind, ErrorKind::NoLeader, "cut off is not distrusted: {cut}");

    let port = free_ports(1)[0];
    let _old = OldServer::on(port, &cluster.certificates.join("raft-0"));
    let address = format!("127.0.0.1:{port}");
    let error = until("openssl's server listens", PATIENCE, || {
        let error = cluster.wait(client_of(&cluster, &address).status(&address)).err()?;
        (!error.message.contains("refused; nothing listens")).then_some(error)
    });
    assert!(error.message.contains("it does not speak TLS 1.3"), "{error}");
    assert_eq!(error.kind, ErrorKind::Untrusted, "{error}");

    // Between nodes the URI decides, so a node takes what a client does not.
    let impostor = Impostor::on("127.0.0.1:0", Guise::Tls(elsewhere));
    let own = Tls::load(&cluster.certificates.join("raft-0"), Some("raft-0")).expect("good ones");
    let hello = Hello::client(own.identity());
    let dialer = Dialer::new(own, Limits::default());
    let dialed = cluster.wait(async {
        let expect = Expect::Node("raft-0".into());
        dialer.dial(&impostor.address(), expect, hello, Duration::from_secs(2)).await
    });
    let late = dialed.expect_err("an impostor acknowledges nothing");
    assert!(matches!(late, DialError::TimedOut { .. } | DialError::Lost { .. }), "{late:?}");
    assert!(matches!(first_heard(&impostor, "hello"), Ending::Data(_)), "the hello was said");
    assert_serves(&cluster, "while impostors stand beside it");
}

fn client_of(cluster: &Cluster, address: &str) -> Client {
    let endpoints = vec![address.to_owned()];
    let options = Options { endpoints, timeout: Duration::from_secs(3), redirect: true };
    Client::new(tls(&cluster.certificates, "client"), options)
}
