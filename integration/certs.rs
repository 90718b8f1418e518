//! Certificates as `openssl` sees them (mission C6, C7).
//!
//! Whatever Balsa makes must satisfy openssl, and whatever openssl alone makes by the recipe of
//! `certs/README.md` must satisfy Balsa. So both go through the same judge here.

#[path = "certs/bad.rs"]
mod bad;
#[path = "certs/changes.rs"]
mod changes;
#[path = "certs/lists.rs"]
mod lists;
#[path = "certs/refusals.rs"]
mod refusals;
#[path = "certs/secrets.rs"]
mod secrets;
#[path = "certs/tools.rs"]
mod tools;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output as Finished};

use balsa::certs::layout::ca_dir;
use balsa::certs::{
    Authority, CertsError, Facts, Issued, Presented, Profile, Purpose, RawParams, Validity, Which,
    Whose, show, show_lists, verify,
};
use balsa::cli::certs::{
    CertsCommand, Change, ChangeOptions, Failure, InitOptions, IssueOptions, Output, ShowOptions,
    Step, run,
};
use balsa::cli::lang::Lang;
use balsa::identity::{Identity, Role};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use tools::*;

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

/// The lines of `certs/README.md`, as somebody would copy them into a terminal.
fn by_the_recipe(out: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("certs/README.md")).expect("certs/README.md");
    let steps: Vec<_> = readme
        .split("```bash\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("the block's end"))
        .collect();
    assert_eq!(steps.len(), 4, "the recipe has four steps");
    let mut bash = Command::new("bash");
    bash.args(["-c", &steps.concat()]).current_dir(root).env("OUT", out);
    let finished = bash.output().expect("bash");
    assert!(finished.status.success(), "{}", said(&finished));
    assert_eq!(said(&finished).matches("tls.crt: OK").count(), 9, "{}", said(&finished));
}

const MAKERS: [(&str, Maker); 3] =
    [("rcgen", by_rcgen), ("openssl", by_openssl), ("the recipe", by_the_recipe)];

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
            ("monitor", false),
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
            "Subject: O = balsa, CN = Balsa CA ",
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
            ("monitor", "monitor", "TLS Web Client Authentication\n"),
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
    let ours = temp();
    by_rcgen(ours.path());
    let ours = shown(ours.path());
    assert_eq!(ours.len(), 13, "the CA's own, and two in each of six directories");
    for (maker, make) in MAKERS {
        let theirs = temp();
        make(theirs.path());
        let theirs = shown(theirs.path());
        assert_eq!(ours.len(), theirs.len(), "{maker}");
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!(b.problems, Vec::<String>::new(), "{maker}: {}", b.path.display());
            assert!(b.facts.serial.len() >= 30, "{maker}: {} is not random", b.facts.serial);
            assert_eq!(comparable(&a.facts), comparable(&b.facts), "{maker}");
        }
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
        for name in ["raft-0", "raft-1", "raft-2", "client", "admin", "monitor"] {
            let key = out.path().join(name).join("tls.key");
            assert_eq!(mode(&key), 0o600, "{maker}: {name}");
            let pem = fs::read_to_string(&key).expect("the key");
            assert!(
                pem.starts_with(concat!("-----BEGIN ", "PRIVATE KEY-----\n")),
                "{maker}: not PKCS#8"
            );
            let checked = openssl(&["pkey", "-in", arg(&key), "-noout", "-check"]);
            assert!(checked.status.success(), "{maker}: {}", said(&checked));
            // The CA's key is in the CA's directory and nowhere else.
            assert_eq!(
                names(&out.path().join(name)),
                ["ca.crl", "ca.crt", "tls.crt", "tls.key"],
                "{maker}"
            );
        }
        let all = ["admin", "ca", "client", "monitor", "raft-0", "raft-1", "raft-2"];
        assert_eq!(names(out.path()), all, "{maker}: something half-made was left");
    }
}

// ---- running again ---------------------------------------------------------------------------

#[test]
fn running_again_keeps_every_byte_and_makes_only_what_is_missing() {
    let out = temp();
    for (maker, make) in [("rcgen", by_rcgen as Maker), ("openssl", by_openssl)] {
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
    assert_eq!(
        actions(&report, "kept"),
        ["ca", "raft-0", "raft-1", "raft-2", "client", "admin", "monitor"]
    );
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
    assert_eq!(actions(&report, "replaced").len(), 6);
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
    assert_eq!(
        names(out.path()),
        ["admin", "ca", "client", "monitor", "raft-0", "raft-1", "raft-2"]
    );
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
    assert_eq!(problems.len(), 5, "{problems:#?}");
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
    assert!(failure.to_string().contains("ca.key") && failure.to_string().contains("chmod o-rwx"));
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
    fs::rename(out.path().join("raft-2/tls.key"), out.path().join("away")).expect("rename");
    assert!(problems("raft-2").contains("its key is missing"), "{}", problems("raft-2"));
    fs::rename(out.path().join("away"), out.path().join("raft-2/tls.key")).expect("rename");
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
    assert_eq!(lines.len(), 3, "the CA, the node, and the list");
    assert_eq!(lines[0]["ca"], true);
    assert_eq!(lines[2]["revoked"], serde_json::json!([]));
    let node = &lines[1];
    assert_eq!(node["identity"]["role"], "node");
    assert_eq!(node["identity"]["name"], "raft-0");
    assert_eq!(node["uris"][0], "balsa://balsa/node/raft-0");
    assert_eq!(node["days_left"], 364);
    assert_eq!(node["problems"], serde_json::json!([]));
    assert!(node["not_after"].as_str().is_some_and(|t| t.ends_with('Z')), "{node}");

    let mut text = Vec::new();
    run(&command, Output::Text, Lang::En, &mut text).expect("show");
    let text = String::from_utf8(text).expect("UTF-8");
    for word in ["balsa://balsa/node/raft-0", "serverAuth", "path length 0", "localhost", "::1"] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    assert!(text.contains(node["serial"].as_str().expect("a serial")));
}
