//! Certificates as `openssl` sees them (mission C6, C7).
//!
//! Whatever Balsa makes must satisfy openssl, and whatever openssl alone makes by the recipe of
//! `certs/README.md` must satisfy Balsa. So both go through the same judge here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output as Finished};

use balsa::certs::layout::ca_dir;
use balsa::certs::{
    Authority, CertsError, Facts, Identity, Issued, Presented, Profile, Purpose, RawParams, Role,
    Validity, show, verify,
};
use balsa::cli::certs::{
    CertsCommand, Failure, InitOptions, IssueOptions, Output, ShowOptions, run,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

// ---- what both makers must satisfy -----------------------------------------------------------

/// Makes a set in a directory; the two makers that are compared.
type Maker = fn(&Path);

fn by_rcgen(out: &Path) {
    init(&options(out)).expect("init");
}

fn by_openssl(out: &Path) {
    let finished = script(out, &["--nodes", "3"]);
    assert!(finished.status.success(), "{}", said(&finished));
}

const MAKERS: [(&str, Maker); 2] = [("rcgen", by_rcgen), ("openssl", by_openssl)];

#[test]
fn openssl_verifies_every_certificate_for_its_purpose_and_no_other() {
    for (maker, make) in MAKERS {
        let out = temp();
        make(out.path());
        for (name, serves) in [
            ("raft-0", true),
            ("raft-1", true),
            ("raft-2", true),
            ("client", false),
            ("admin", false),
        ] {
            let dir = out.path().join(name);
            assert!(accepts(&dir, &["-purpose", "sslclient"]), "{maker}: {name} as a client");
            assert_eq!(
                accepts(&dir, &["-purpose", "sslserver"]),
                serves,
                "{maker}: {name} serving"
            );
            assert!(!accepts(&dir, &["-purpose", "smimesign"]), "{maker}: {name} for mail");
        }
    }
}

#[test]
fn openssl_finds_a_node_under_all_its_names_and_no_others() {
    for (maker, make) in MAKERS {
        let out = temp();
        make(out.path());
        let dir = out.path().join("raft-1");
        for host in [
            "raft-1",
            "raft-1.raft-service",
            "raft-1.raft-service.default.svc",
            "raft-1.raft-service.default.svc.cluster.local",
            "raft-service.default.svc.cluster.local",
            "raft-client",
            "raft-client.default.svc",
            "localhost",
        ] {
            assert!(accepts(&dir, &["-verify_hostname", host]), "{maker}: {host}");
        }
        for address in ["127.0.0.1", "::1"] {
            assert!(accepts(&dir, &["-verify_ip", address]), "{maker}: {address}");
        }
        for host in ["raft-0", "raft-0.raft-service", "evil.raft-service", "example.org"] {
            assert!(!accepts(&dir, &["-verify_hostname", host]), "{maker}: {host}");
        }
        assert!(!accepts(&dir, &["-verify_ip", "127.0.0.2"]), "{maker}");
    }
}

#[test]
fn openssl_reads_in_the_text_what_design_section_6_asks_for() {
    for (maker, make) in MAKERS {
        let out = temp();
        make(out.path());
        let ca = text(&out.path().join("ca/ca.crt"));
        for line in [
            "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0\n",
            "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n",
            "X509v3 Subject Key Identifier",
            "Subject: O = balsa, CN = Balsa CA\n",
            "NIST CURVE: P-256\n",
            "Signature Algorithm: ecdsa-with-SHA256\n",
        ] {
            assert!(ca.contains(line), "{maker}: the CA lacks {line:?} in\n{ca}");
        }
        assert!(!ca.contains("Extended Key Usage") && !ca.contains("URI:"), "{maker}:\n{ca}");

        for (name, role, usage) in [
            ("raft-2", "node", "TLS Web Server Authentication, TLS Web Client Authentication\n"),
            ("client", "client", "TLS Web Client Authentication\n"),
            ("admin", "admin", "TLS Web Client Authentication\n"),
        ] {
            let leaf = text(&out.path().join(name).join("tls.crt"));
            for line in [
                format!("X509v3 Extended Key Usage: \n                {usage}"),
                format!("URI:balsa://balsa/{role}/{name}"),
                format!("Subject: O = balsa, CN = {name}\n"),
                "X509v3 Basic Constraints: critical\n                CA:FALSE\n".into(),
                "X509v3 Key Usage: critical\n                Digital Signature\n".into(),
                "X509v3 Authority Key Identifier".into(),
                "NIST CURVE: P-256\n".into(),
            ] {
                assert!(leaf.contains(&line), "{maker}: {name} lacks {line:?} in\n{leaf}");
            }
            assert_eq!(leaf.matches("URI:").count(), 1, "{maker}: {name}:\n{leaf}");
            assert_eq!(leaf.contains("DNS:"), role == "node", "{maker}: {name}:\n{leaf}");
        }
    }
}

#[test]
fn our_reader_finds_the_same_in_both_and_nothing_to_object_to() {
    let (ours, theirs) = (temp(), temp());
    by_rcgen(ours.path());
    by_openssl(theirs.path());
    let (ours, theirs) = (shown(ours.path()), shown(theirs.path()));
    assert_eq!(ours.len(), 11, "the CA's own, and two in each of five directories");
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        for one in [a, b] {
            assert_eq!(one.problems, Vec::<String>::new(), "{}", one.path.display());
            assert_eq!(one.facts.serial.len(), 32, "{}", one.path.display());
        }
        assert_eq!(comparable(&a.facts), comparable(&b.facts));
    }
}

#[test]
fn openssl_and_our_reader_agree_on_serial_fingerprint_and_dates() {
    for (maker, make) in MAKERS {
        let out = temp();
        make(out.path());
        let path = out.path().join("raft-0/tls.crt");
        let facts = &shown(&path)[0].facts;
        let said = openssl(&[
            "x509",
            "-in",
            arg(&path),
            "-noout",
            "-serial",
            "-fingerprint",
            "-sha256",
            "-enddate",
            "-dateopt",
            "iso_8601",
        ]);
        let said = String::from_utf8_lossy(&said.stdout).replace(':', "").to_lowercase();
        assert!(said.contains(&format!("serial={}", facts.serial)), "{maker}: {said}");
        assert!(said.contains(&format!("fingerprint={}", facts.sha256)), "{maker}: {said}");
        let end = facts.not_after;
        let end =
            format!("{} {:02}{:02}{:02}z", end.date(), end.hour(), end.minute(), end.second());
        assert!(said.contains(&format!("notafter={end}")), "{maker}: {said} {end}");
    }
}

#[test]
fn keys_are_for_the_owner_alone_and_openssl_can_use_them() {
    for (maker, make) in MAKERS {
        let out = temp();
        make(out.path());
        assert_eq!(mode(&ca_dir(out.path())), 0o700, "{maker}");
        assert_eq!(mode(&out.path().join("ca/ca.key")), 0o600, "{maker}");
        for name in ["raft-0", "raft-1", "raft-2", "client", "admin"] {
            let key = out.path().join(name).join("tls.key");
            assert_eq!(mode(&key), 0o600, "{maker}: {name}");
            let pem = fs::read_to_string(&key).expect("the key");
            assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{maker}: not PKCS#8");
            let checked = openssl(&["pkey", "-in", arg(&key), "-noout", "-check"]);
            assert!(checked.status.success(), "{maker}: {}", said(&checked));
            // The CA's key is in the CA's directory and nowhere else.
            assert_eq!(names(&out.path().join(name)), ["ca.crt", "tls.crt", "tls.key"], "{maker}");
        }
        let all = ["admin", "ca", "client", "raft-0", "raft-1", "raft-2"];
        assert_eq!(names(out.path()), all, "{maker}: something half-made was left");
    }
}

// ---- running again ---------------------------------------------------------------------------

#[test]
fn running_again_keeps_every_byte_and_makes_only_what_is_missing() {
    let out = temp();
    for (maker, make) in MAKERS {
        let out = out.path().join(maker);
        make(&out);
        let before = content(&out);
        make(&out);
        assert_eq!(before, content(&out), "{maker}");
    }
    let out = out.path().join("rcgen");
    let before = content(&out);
    let report = init(&InitOptions { nodes: 5, ..options(&out) }).expect("init");
    assert_eq!(actions(&report, "created"), ["raft-3", "raft-4"]);
    assert_eq!(actions(&report, "kept"), ["ca", "raft-0", "raft-1", "raft-2", "client", "admin"]);
    let after = content(&out);
    assert!(before.iter().all(|file| after.contains(file)), "a file that was there has changed");
    assert!(accepts(&out.join("raft-4"), &["-purpose", "sslserver"]));
}

#[test]
fn a_kept_certificate_that_lacks_what_is_asked_for_is_named() {
    let out = temp();
    by_rcgen(out.path());
    let more = InitOptions { dns: vec!["db.example.org".into()], ..options(out.path()) };
    let report = init(&more).expect("init");
    let lacking: Vec<_> =
        report.iter().filter(|one| one["warnings"] != serde_json::json!([])).collect();
    assert_eq!(lacking.len(), 3, "{report:#?}");
    assert!(lacking[0]["warnings"][0].as_str().expect("a sentence").contains("db.example.org"));

    let ca = fs::read(out.path().join("ca/ca.crt")).expect("the CA");
    let old_key = fs::read(out.path().join("raft-0/tls.key")).expect("the key");
    let report = init(&InitOptions { force: true, ..more }).expect("init");
    assert_eq!(actions(&report, "kept"), ["ca"], "a CA is never replaced");
    assert_eq!(actions(&report, "replaced").len(), 5);
    assert!(report.iter().all(|one| one["warnings"] == serde_json::json!([])), "{report:#?}");
    assert_eq!(ca, fs::read(out.path().join("ca/ca.crt")).expect("the CA"));
    assert_ne!(old_key, fs::read(out.path().join("raft-0/tls.key")).expect("the key"));
    assert!(accepts(&out.path().join("raft-0"), &["-verify_hostname", "db.example.org"]));
    assert_eq!(mode(&out.path().join("raft-0/tls.key")), 0o600);
}

#[test]
fn two_at_once_make_one_ca() {
    let out = temp();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| init(&options(out.path())).expect("init"));
        }
    });
    for presented in shown(out.path()) {
        assert_eq!(presented.problems, Vec::<String>::new(), "{}", presented.path.display());
    }
    assert_eq!(names(out.path()), ["admin", "ca", "client", "raft-0", "raft-1", "raft-2"]);
}

#[test]
fn each_maker_goes_on_where_the_other_stopped() {
    let out = temp();
    init(&InitOptions { nodes: 1, ..options(out.path()) }).expect("init");
    by_openssl(out.path());
    assert!(accepts(&out.path().join("raft-2"), &["-purpose", "sslserver"]), "openssl on our CA");

    let out = temp();
    by_openssl(out.path());
    let report =
        issue(&IssueOptions { out: out.path().into(), ..IssueOptions::new("node", "raft-9") });
    assert_eq!(report.expect("issue")[0]["action"], "created");
    assert!(accepts(&out.path().join("raft-9"), &["-purpose", "sslserver"]), "we on openssl's CA");
    assert_eq!(shown(&out.path().join("raft-9"))[1].problems, Vec::<String>::new());
}

#[test]
fn issue_refuses_to_overwrite_unless_told() {
    let out = temp();
    by_rcgen(out.path());
    let before = content(out.path());
    let again = IssueOptions { out: out.path().into(), ..IssueOptions::new("node", "raft-0") };
    let refused = issue(&again).expect_err("raft-0 was overwritten");
    assert!(matches!(refused, Failure::NeedsForce(_)) && refused.exit() == 1, "{refused}");
    assert!(refused.to_string().contains("raft-0") && refused.to_string().contains("--force"));
    assert_eq!(before, content(out.path()));

    let report = issue(&IssueOptions { force: true, ..again }).expect("issue --force");
    assert_eq!(report[0]["action"], "replaced");
    assert_ne!(before, content(out.path()));
    assert!(accepts(&out.path().join("raft-0"), &["-purpose", "sslserver"]));

    // The library has no way at all to put one CA over another.
    let other = authority("balsa");
    assert!(matches!(other.save(&ca_dir(out.path())), Err(CertsError::Exists { .. })));
}

// ---- wrong input -----------------------------------------------------------------------------

#[test]
fn wrong_arguments_are_all_named_in_one_report_and_nothing_is_made() {
    let out = temp();
    let target = out.path().join("new");
    let wrong = InitOptions {
        cluster: "Bad Name".into(),
        nodes: 0,
        dns: vec!["*.raft".into()],
        ips: vec!["1.2.3".into()],
        days: 0,
        ..options(&target)
    };
    let failure = init(&wrong).expect_err("all of it is wrong");
    assert_eq!(failure.exit(), 2, "usage");
    let Failure::Usage(problems) = failure else { panic!("{failure}") };
    assert_eq!(problems.len(), 4, "{problems:#?}");
    let wrong_names = InitOptions { dns: wrong.dns.clone(), ..options(&target) };
    assert_eq!(init(&wrong_names).expect_err("a wildcard").exit(), 2);
    assert!(!target.exists(), "something was made");

    let finished =
        script(&target, &["--cluster", "Bad Name", "--nodes", "0", "--ip", "1.2.3", "--what"]);
    assert_eq!(finished.status.code(), Some(2), "{}", said(&finished));
    for word in ["Bad Name", "--nodes", "1.2.3", "--what"] {
        assert!(said(&finished).contains(word), "{word} is not named in {}", said(&finished));
    }
    assert!(!target.exists(), "something was made");

    for (role, name, dns) in [
        ("nodes", "raft-0", None),
        ("client", "ca", None),
        ("client", "a/../b", None),
        ("client", "", None),
        ("client", "app", Some("app.example.org")),
    ] {
        by_rcgen(&target);
        let options = IssueOptions {
            out: target.clone(),
            dns: dns.map(String::from).into_iter().collect(),
            ..IssueOptions::new(role, name)
        };
        let failure = issue(&options).expect_err(name);
        assert_eq!(failure.exit(), 2, "{role} {name:?}: {failure}");
    }
}

#[test]
fn another_cluster_a_missing_ca_and_an_exposed_key_are_refused_by_name() {
    let out = temp();
    let nothing = IssueOptions { out: out.path().join("no"), ..IssueOptions::new("client", "app") };
    let failure = issue(&nothing).expect_err("there is no CA");
    assert!(failure.to_string().contains("no CA") && failure.exit() == 1, "{failure}");

    by_rcgen(out.path());
    let before = content(out.path());
    let other = InitOptions { cluster: "other".into(), nodes: 9, ..options(out.path()) };
    let failure = init(&other).expect_err("the CA is balsa's").to_string();
    assert!(failure.contains("\"balsa\"") && failure.contains("\"other\""), "{failure}");
    let finished = script(out.path(), &["--cluster", "other"]);
    assert!(!finished.status.success() && said(&finished).contains("other"), "{}", said(&finished));
    assert_eq!(before, content(out.path()));

    let key = out.path().join("ca/ca.key");
    chmod(&key, 0o644);
    let failure = init(&options(out.path())).expect_err("everybody may read the CA's key");
    assert!(failure.to_string().contains("ca.key") && failure.to_string().contains("chmod 600"));
    chmod(&key, 0o640);
    init(&options(out.path())).expect("readable by the group is accepted");

    fs::rename(&key, out.path().join("away")).expect("rename");
    let failure = init(&options(out.path())).expect_err("the CA's key is gone").to_string();
    assert!(failure.contains("lacks ca.key"), "{failure}");
    let finished = script(out.path(), &[]);
    assert!(said(&finished).contains("lacks ca.key"), "{}", said(&finished));
    fs::copy(out.path().join("raft-0/tls.key"), &key).expect("copy");
    let failure = init(&options(out.path())).expect_err("a key of another").to_string();
    assert!(failure.contains("does not belong to the key"), "{failure}");
}

#[test]
fn show_names_what_is_wrong_on_disk() {
    let out = temp();
    by_rcgen(out.path());
    let problems = |name: &str| shown(&out.path().join(name))[1].problems.join("; ");

    chmod(&out.path().join("raft-0/tls.key"), 0o604);
    assert!(problems("raft-0").contains("can be read by everybody"), "{}", problems("raft-0"));
    fs::copy(out.path().join("raft-2/tls.key"), out.path().join("raft-1/tls.key")).expect("copy");
    assert!(problems("raft-1").contains("is not the key of"), "{}", problems("raft-1"));
    fs::write(out.path().join("client/ca.crt"), authority("balsa").certificate()).expect("write");
    assert!(problems("client").contains("would be refused"), "{}", problems("client"));
    let report = init(&options(out.path())).expect("init keeps it");
    let warned = report.iter().find(|one| one["name"] == "client").expect("client");
    assert!(warned["warnings"].to_string().contains("not the CA of this directory"), "{warned}");

    for (file, broken) in [("no.crt", None), ("a.crt", Some("hello")), ("b.crt", Some(BROKEN_PEM))]
    {
        let path = out.path().join(file);
        if let Some(broken) = broken {
            fs::write(&path, broken).expect("write");
        }
        let failure = show(&path, OffsetDateTime::now_utc()).expect_err("it is broken").to_string();
        assert!(failure.contains(file), "the file is not named: {failure}");
    }
    let empty = temp();
    assert!(show(empty.path(), OffsetDateTime::now_utc()).is_err());
}

const BROKEN_PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

#[test]
fn show_prints_one_object_a_line_or_text_with_the_same_facts() {
    let out = temp();
    by_rcgen(out.path());
    let command = CertsCommand::Show(ShowOptions { paths: vec![out.path().join("raft-0")] });
    let lines = report(&command).expect("show");
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["ca"], true);
    let node = &lines[1];
    assert_eq!(node["identity"]["role"], "node");
    assert_eq!(node["identity"]["name"], "raft-0");
    assert_eq!(node["uris"][0], "balsa://balsa/node/raft-0");
    assert_eq!(node["days_left"], 364);
    assert_eq!(node["problems"], serde_json::json!([]));
    assert!(node["not_after"].as_str().is_some_and(|t| t.ends_with('Z')), "{node}");

    let mut text = Vec::new();
    run(&command, Output::Text, &mut text).expect("show");
    let text = String::from_utf8(text).expect("UTF-8");
    for word in ["balsa://balsa/node/raft-0", "serverAuth", "path length 0", "localhost", "::1"] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    assert!(text.contains(node["serial"].as_str().expect("a serial")));
}

// ---- bad certificates ------------------------------------------------------------------------

#[test]
fn bad_certificates_are_bad_to_openssl_to_our_verifier_and_to_show() {
    let now = OffsetDateTime::now_utc();
    let (ca, stranger) = (authority("balsa"), authority("balsa"));
    let good = raw();
    let past = Validity { not_before: now - Duration::days(9), not_after: now - Duration::days(1) };
    let future =
        Validity { not_before: now + Duration::days(1), not_after: now + Duration::days(9) };
    let issue = |raw: &RawParams| ca.issue_raw(raw).expect("a bad certificate");
    let client_only = RawParams { server_auth: false, ..good.clone() };
    let no_usage = RawParams { server_auth: false, client_auth: false, ..good.clone() };
    let a_ca = RawParams { ca: true, ..good.clone() };
    for (what, issued, chain_is_bad, problem) in [
        ("expired", issue(&RawParams { validity: past, ..good.clone() }), true, "ended on"),
        (
            "too early",
            issue(&RawParams { validity: future, ..good.clone() }),
            true,
            "not valid before",
        ),
        ("client's usage", issue(&client_only), true, "lacks the usage serverAuth"),
        ("self-signed", Issued::self_signed(&good).expect("one"), true, ""),
        ("wrong CA", stranger.issue_raw(&good).expect("one"), true, ""),
        ("no URI", issue(&RawParams { uris: Vec::new(), ..good.clone() }), false, "no URI name"),
        (
            "two URIs",
            issue(&RawParams { uris: vec![good.uris[0].clone(); 2], ..good.clone() }),
            false,
            "2 URI names",
        ),
        (
            "another's URI",
            issue(&RawParams { uris: vec!["spiffe://x/y".into()], ..good.clone() }),
            false,
            "is not of the form",
        ),
        ("no usage", issue(&no_usage), false, "lacks the usage clientAuth"),
        ("a CA's", issue(&a_ca), true, ""),
    ] {
        let dir = temp();
        fs::write(dir.path().join("ca.crt"), ca.certificate()).expect("write");
        fs::write(dir.path().join("tls.crt"), &issued.certificate).expect("write");
        let accepted = accepts(dir.path(), &["-purpose", "sslserver"]);
        assert_eq!(!accepted, chain_is_bad, "{what}: openssl");
        let outcome = verify(&[der(&issued)], &[der_of(ca.certificate())], Purpose::Server, now);
        assert_eq!(outcome.is_err(), chain_is_bad, "{what}: {outcome:?}");
        let facts = Facts::of(&der(&issued), now).expect("readable");
        assert!(facts.problems(now).join("; ").contains(problem), "{what}: {facts:?}");
    }
    let dir = temp();
    let issued = issue(&good);
    fs::write(dir.path().join("ca.crt"), ca.certificate()).expect("write");
    fs::write(dir.path().join("tls.crt"), &issued.certificate).expect("write");
    assert!(accepts(dir.path(), &["-purpose", "sslserver"]), "the good one, by the same way");
}

#[test]
fn a_leaf_cannot_sign_and_is_no_ca_to_load() {
    let (ca, now) = (authority("balsa"), OffsetDateTime::now_utc());
    let leaf = ca.issue_raw(&raw()).expect("a leaf");
    let key = rcgen::KeyPair::from_pem(&leaf.key).expect("its key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&leaf.certificate, key).expect("an issuer");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("a name");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.not_after = now + Duration::days(1);
    let forged = params.signed_by(&key, &issuer).expect("a forged certificate");

    let chain = [forged.der().to_vec(), der(&leaf)];
    let roots = [der_of(ca.certificate())];
    assert!(verify(&chain[1..], &roots, Purpose::Server, now).is_ok(), "the leaf itself is good");
    assert!(verify(&chain, &roots, Purpose::Server, now).is_err(), "the leaf signed another");
    let dir = temp();
    assert!(!openssl_accepts_chain(dir.path(), &ca, &leaf.certificate, &forged.pem()));

    fs::write(dir.path().join("ca.crt"), &leaf.certificate).expect("write");
    fs::write(dir.path().join("ca.key"), &leaf.key).expect("write");
    chmod(&dir.path().join("ca.key"), 0o600);
    let refused = Authority::load(dir.path()).expect_err("a leaf was taken for a CA");
    assert!(refused.to_string().contains("not the certificate of a CA"), "{refused}");
}

#[test]
fn openssl_accepts_no_ca_below_the_ca() {
    // Only openssl can show it: rustls takes the CA's name and key from ca.crt, not its path length.
    let ca = authority("balsa");
    let below = ca.issue_raw(&RawParams { ca: true, ..raw() }).expect("a CA below");
    let dir = temp();
    fs::write(dir.path().join("ca.crt"), &below.certificate).expect("write");
    fs::write(dir.path().join("ca.key"), &below.key).expect("write");
    chmod(&dir.path().join("ca.key"), 0o600);
    let leaf = Authority::load(dir.path()).expect("a CA").issue_raw(&raw()).expect("a leaf");
    assert!(!openssl_accepts_chain(dir.path(), &ca, &below.certificate, &leaf.certificate));
}

#[test]
fn a_ca_of_other_making_signs_for_any_cluster_that_is_named() {
    let dir = temp();
    let ca = dir.path().join("ca");
    fs::create_dir(&ca).expect("make");
    let (key, crt) = (ca.join("ca.key"), ca.join("ca.crt"));
    let made = openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        arg(&key),
        "-out",
        arg(&crt),
        "-days",
        "30",
        "-subj",
        "/C=ES/O=Universidad, S.A./OU=PKI/CN=Raíz",
        "-utf8",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]);
    assert!(made.status.success(), "{}", said(&made));
    let unnamed = IssueOptions { out: dir.path().into(), ..IssueOptions::new("node", "raft-0") };
    let failure = issue(&unnamed).expect_err("which cluster?");
    assert!(failure.exit() == 2 && failure.to_string().contains("--cluster"), "{failure}");
    issue(&IssueOptions { cluster: Some("balsa".into()), ..unnamed }).expect("issue");
    assert!(accepts(&dir.path().join("raft-0"), &["-purpose", "sslserver"]));
    let leaf = &shown(&dir.path().join("raft-0"))[1];
    assert!(leaf.facts.days_left < 30, "it must end with its CA");
}

// ---- tools -----------------------------------------------------------------------------------

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn options(out: &Path) -> InitOptions {
    InitOptions { out: out.into(), ..InitOptions::default() }
}

fn init(options: &InitOptions) -> Result<Vec<serde_json::Value>, Failure> {
    report(&CertsCommand::Init(options.clone()))
}

fn issue(options: &IssueOptions) -> Result<Vec<serde_json::Value>, Failure> {
    report(&CertsCommand::Issue(options.clone()))
}

fn report(command: &CertsCommand) -> Result<Vec<serde_json::Value>, Failure> {
    let mut printed = Vec::new();
    run(command, Output::Json, &mut printed)?;
    let printed = String::from_utf8(printed).expect("UTF-8");
    Ok(printed.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect())
}

fn actions<'a>(report: &'a [serde_json::Value], action: &str) -> Vec<&'a str> {
    report
        .iter()
        .filter(|one| one["action"] == action)
        .filter_map(|one| one["name"].as_str())
        .collect()
}

fn shown(path: &Path) -> Vec<Presented> {
    show(path, OffsetDateTime::now_utc()).expect("readable certificates")
}

/// What must not differ from one maker to the other: all but keys, numbers and moments.
fn comparable(facts: &Facts) -> Facts {
    let mut facts = facts.clone();
    facts.serial.clear();
    facts.sha256.clear();
    facts.subject_key_id = facts.subject_key_id.map(|id| id.len().to_string());
    facts.authority_key_id = facts.authority_key_id.map(|id| id.len().to_string());
    facts.not_before = OffsetDateTime::UNIX_EPOCH;
    facts.not_after = OffsetDateTime::UNIX_EPOCH;
    facts
}

fn authority(cluster: &str) -> Authority {
    Authority::create(cluster, Validity::days(100).expect("a good length")).expect("a CA")
}

/// A good node's certificate, to be spoiled.
fn raw() -> RawParams {
    let identity = Identity::new("balsa", Role::Node, "raft-0").expect("good names");
    let profile = Profile {
        identity: identity.clone(),
        dns: vec!["localhost".into()],
        ips: vec![[127, 0, 0, 1].into()],
        validity: Validity::days(50).expect("a good length"),
    };
    RawParams {
        organization: "balsa".into(),
        common_name: "raft-0".into(),
        uris: vec![identity.to_string()],
        dns: profile.dns,
        ips: profile.ips,
        server_auth: true,
        client_auth: true,
        ca: false,
        validity: profile.validity,
    }
}

fn der(issued: &Issued) -> Vec<u8> {
    der_of(&issued.certificate)
}

fn der_of(pem: &str) -> Vec<u8> {
    let mut pem = pem.as_bytes();
    let first = rustls_pemfile::certs(&mut pem).next().expect("a certificate").expect("PEM");
    first.to_vec()
}

/// Whether openssl accepts `DIR/tls.crt` for who trusts `DIR/ca.crt`, by the letter of RFC 5280.
fn accepts(dir: &Path, more: &[&str]) -> bool {
    let (ca, crt) = (dir.join("ca.crt"), dir.join("tls.crt"));
    let mut arguments = vec!["verify", "-x509_strict", "-no-CApath", "-CAfile", arg(&ca)];
    arguments.extend(more);
    arguments.push(arg(&crt));
    openssl(&arguments).status.success()
}

/// Whether openssl accepts a leaf through a certificate between it and the CA.
fn openssl_accepts_chain(dir: &Path, ca: &Authority, between: &str, leaf: &str) -> bool {
    let paths = ["root.pem", "between.pem", "leaf.pem"].map(|name| dir.join(name));
    for (path, pem) in paths.iter().zip([ca.certificate(), between, leaf]) {
        fs::write(path, pem).expect("write");
    }
    let [root, between, leaf] = &paths;
    openssl(&["verify", "-CAfile", arg(root), "-untrusted", arg(between), arg(leaf)])
        .status
        .success()
}

fn text(certificate: &Path) -> String {
    let printed = openssl(&["x509", "-in", arg(certificate), "-noout", "-text"]);
    assert!(printed.status.success(), "{}", said(&printed));
    String::from_utf8_lossy(&printed.stdout).into_owned()
}

fn openssl(arguments: &[&str]) -> Finished {
    Command::new("openssl").args(arguments).output().expect("openssl must be installed")
}

fn script(out: &Path, arguments: &[&str]) -> Finished {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gen-certs-openssl.sh");
    Command::new(script).arg("--out").arg(out).args(arguments).output().expect("the script")
}

fn said(finished: &Finished) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&finished.stdout),
        String::from_utf8_lossy(&finished.stderr)
    )
}

fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Every file below with its bytes.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for name in names(dir) {
        let path = dir.join(name);
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            files.push((path.clone(), fs::read(&path).expect("readable")));
        }
    }
    files
}
