//! Who may scrape, who may not, and what certificates do to those who do while they change.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use balsa::certs::layout::ca_dir;
use balsa::certs::{Authority, Existing, Profile, Validity};
use balsa::identity::{Identity, Role};

use crate::harness::{CLUSTER, PATIENCE, issue, issue_all, pause, until};
use crate::scraper::{Scraper, Stream, ask};
use crate::{Scraped, raw};

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn refused(scraped: &Scraped, reason: &str) -> f64 {
    scraped.of(0).of("balsa_refused_total", &[("reason", reason)])
}

#[test]
fn only_those_who_may_and_prove_it_get_the_page() {
    let scraped = Scraped::start(1);
    let (port, certificates) = (&scraped.ports[0], &scraped.cluster.certificates);
    for role in ["admin", "raft-0"] {
        let page = Scraper::of(&certificates.join(role)).get(port).expect("a page");
        assert!(page.head.starts_with("HTTP/1.1 200 "), "{role}: {}", page.head);
    }
    let client = Scraper::of(&certificates.join("client")).get(port).expect("an answer");
    assert!(client.head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{}", client.head);
    assert!(client.body.contains("may not be read with a client certificate"), "{}", client.body);
    assert!(!client.body.contains("balsa_"), "no metric in it");

    let foreign = scraped.cluster.path().join("foreign");
    issue_all(&foreign, CLUSTER, &[]);
    let authority = Authority::load(&ca_dir(&foreign)).expect("another CA");
    issue(&authority, Role::Monitor, "prometheus", &foreign.join("prometheus"));
    // It trusts the nodes; they do not trust it.
    fs::copy(certificates.join("ca/ca.crt"), foreign.join("prometheus/ca.crt")).expect("copied");
    let strangers = [
        ("unknown_ca", Scraper::of(&foreign.join("prometheus"))),
        ("no_certificate", Scraper::anonymous(&certificates.join("client"))),
    ];
    for (reason, stranger) in strangers {
        let before = refused(&scraped, reason);
        assert!(stranger.get(port).is_err(), "{reason}: it must not get the page");
        until(reason, PATIENCE, || (refused(&scraped, reason) == before + 1.0).then_some(()));
    }
    // Both ports count into one place.
    let before = refused(&scraped, "plaintext");
    for address in [port, &scraped.cluster.nodes[0].address] {
        let said = raw(address, GET.as_bytes());
        assert_eq!(said, [21, 3, 3, 0, 2, 2, 10], "an alert, and no word of HTTP");
    }
    until("plaintext", PATIENCE, || (refused(&scraped, "plaintext") == before + 2.0).then_some(()));
    assert_eq!(refused(&scraped, "denied"), 1.0, "the client's");
    scraped.cluster.nodes[0].wait_until_it_says(0, "reason=\"denied\"");
}

#[test]
fn slow_scrapers_and_too_many_are_sent_away_and_the_node_does_not_mind() {
    let scraped = Scraped::start(1);
    let port = &scraped.ports[0];
    let mut held: Vec<_> = (0..8).map(|_| scraped.scraper.connect(port).expect("up")).collect();
    for stream in &mut held {
        // Each is up, not only connected.
        assert!(ask(stream, GET).expect("a page").head.starts_with("HTTP/1.1 200 "));
    }
    let ninth = scraped.scraper.get(port);
    assert!(ninth.is_err(), "the ninth connection: {ninth:?}");
    let page = until("it is counted", PATIENCE, || {
        let page = ask(&mut held[0], GET).expect("those who are in stay in").body;
        page.contains("balsa_refused_total{reason=\"full\"} 1\n").then_some(page)
    });
    let up = page.contains("balsa_connections{role=\"monitor\"} 8\n");
    assert!(up, "{page}");
    held.truncate(1);

    // One byte a second of a head that does not end.
    let mut slow = until("a free place", PATIENCE, || scraped.scraper.connect(port).ok());
    let begun = Instant::now();
    let ended = until("the slow one is closed", PATIENCE, || {
        pause(Duration::from_millis(500));
        let sent = slow.write_all(b"x").and_then(|()| slow.flush());
        if sent.is_err() {
            return Some(begun.elapsed());
        }
        slow.sock.set_nonblocking(true).expect("a socket");
        let read = slow.read(&mut [0; 64]);
        slow.sock.set_nonblocking(false).expect("a socket");
        match read {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            _ => Some(begun.elapsed()),
        }
    });
    assert!(ended > Duration::from_secs(4) && ended < Duration::from_secs(15), "{ended:?}");
    until("it is counted", PATIENCE, || (refused(&scraped, "slow") == 1.0).then_some(()));
    // One that does not even begin with TLS.
    let mut mute = TcpStream::connect(port).expect("a connection");
    mute.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let begun = Instant::now();
    let _ = mute.read(&mut [0]);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    until("it is counted", PATIENCE, || {
        (refused(&scraped, "handshake_timeout") == 1.0).then_some(())
    });
    let leader = scraped.of(0);
    assert_eq!(leader.one("balsa_leader_changes_total"), 1.0, "nothing of it disturbed the node");
}

/// Fails unless the other side ends the connection, without another word, before the socket's deadline.
fn assert_ended(stream: &mut Stream, why: &str) {
    match stream.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        other => panic!("{why}: {other:?}"),
    }
}

fn reissue(authority: &Authority, directory: &Path, days: u32) {
    let issued = authority.issue(&Profile {
        identity: Identity::new(CLUSTER, Role::Node, "raft-0").expect("good names"),
        dns: vec!["localhost".into()],
        ips: vec![[127, 0, 0, 1].into()],
        validity: Validity::days(days).expect("a length"),
    });
    issued.expect("a certificate").save(directory, Existing::Replace).expect("saved");
}

#[test]
fn certificates_that_change_are_counted_and_hold_for_scrapers_that_stand() {
    let scraped = Scraped::start(1);
    let port = &scraped.ports[0];
    let own = scraped.cluster.certificates.join("raft-0");
    let reloads = |outcome: &str| {
        let labels = [("outcome", outcome)];
        scraped.of(0).of("balsa_certificate_reloads_total", &labels)
    };
    let until_reloads = |outcome: &str, count: f64| {
        until(outcome, PATIENCE, || (reloads(outcome) == count).then_some(()));
    };
    let ends = || {
        let labels = [("kind", "own")];
        scraped.of(0).of("balsa_cert_not_after_timestamp_seconds", &labels)
    };
    assert_eq!((reloads("loaded"), reloads("refused")), (0.0, 0.0));
    let (good, before) = (fs::read(own.join("tls.crt")).expect("a certificate"), ends());
    fs::write(own.join("tls.crt"), "no certificate").expect("written");
    until_reloads("refused", 1.0);
    assert_eq!(ends(), before, "the last good one is in use");
    fs::write(own.join("tls.crt"), good).expect("written");

    let mut standing = scraped.scraper.connect(port).expect("up");
    ask(&mut standing, GET).expect("a page");
    let authority = Authority::load(&ca_dir(&scraped.cluster.certificates)).expect("the CA");
    reissue(&authority, &own, 25);
    until_reloads("loaded", 1.0);
    assert!(ends() > before, "the new one's end");
    assert_ended(&mut standing, "it is to be made anew");

    // The scraper's CA leaves the bundle.
    let mut standing = scraped.scraper.connect(port).expect("up");
    ask(&mut standing, GET).expect("a page");
    let elsewhere = scraped.cluster.path().join("other");
    issue_all(&elsewhere, CLUSTER, &[]);
    let other = Authority::load(&ca_dir(&elsewhere)).expect("another CA");
    reissue(&other, &own, 25);
    assert_ended(&mut standing, "it is cut off");
    assert!(scraped.scraper.get(port).is_err(), "and does not come back");
    issue(&other, Role::Monitor, "newcomer", &elsewhere.join("newcomer"));
    let page = Scraper::of(&elsewhere.join("newcomer")).get(port).expect("the new CA's monitor");
    assert!(page.body.contains("balsa_certificate_reloads_total{outcome=\"loaded\"} 2\n"));
    let distrusted = "balsa_refused_total{reason=\"unknown_ca\"} ";
    let line = page.body.lines().find(|line| line.starts_with(distrusted)).expect("counted");
    let count: f64 = line[distrusted.len()..].parse().expect("a number");
    assert!(count >= 1.0, "{line}");
}
