//! Renewal and the change of the CA, judged by openssl, and word for word.

use super::*;

const EVERYBODY: [&str; 6] = ["admin", "client", "monitor", "raft-0", "raft-1", "raft-2"];

/// Everybody accepts everybody, says openssl.
fn assert_all_get_on(out: &Path, when: &str) {
    for shows in EVERYBODY {
        for judges in EVERYBODY {
            let said = judged_by(&out.join(shows).join("tls.crt"), &out.join(judges));
            assert!(said.ends_with(": OK\n"), "{when}: {judges} of {shows}: {said}");
        }
    }
}

fn bundle_size(out: &Path, name: &str) -> usize {
    let text = fs::read_to_string(out.join(name).join("ca.crt")).expect("a bundle");
    let lists = fs::read_to_string(out.join(name).join("ca.crl")).expect("lists");
    let cas = text.matches("BEGIN CERTIFICATE").count();
    assert_eq!(cas, lists.matches("BEGIN X509 CRL").count(), "{name}: a list for each CA");
    cas
}

/// What is printed, with what differs from run to run replaced by words.
fn text(out: &Path, change: Change, lang: Lang) -> String {
    let mut printed = Vec::new();
    let command = CertsCommand::Change(ChangeOptions { out: out.into(), change });
    run(&command, Output::Text, lang, &mut printed).expect("it works");
    let printed = String::from_utf8(printed).expect("UTF-8").replace(arg(out), "OUT");
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let word = |word: &str| {
        if word.len() == 20 && word.ends_with('Z') && word.contains('T') {
            return "DATE".to_owned();
        }
        // Serial numbers and the ids of CAs, alone or in a file's name.
        let id = word.split(['-', '.']).find(|id| matches!(id.len(), 8 | 32) && hex(id));
        id.map_or_else(|| word.to_owned(), |id| word.replace(id, "ID"))
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    printed.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_renewed_certificate_says_what_the_former_said() {
    for (maker, make) in MAKERS {
        let out = temp();
        make(out.path());
        issue(&IssueOptions {
            out: out.path().into(),
            dns: vec!["db.example.org".into()],
            ips: vec!["10.1.2.3".into()],
            ..IssueOptions::new("node", "raft-9")
        })
        .expect("issued");
        let before = shown(out.path());
        let keys = |out: &Path| fs::read(out.join("raft-9/tls.key")).expect("a key");
        let key = keys(out.path());
        change(out.path(), renew_all()).expect("renewed");
        let after = shown(out.path());
        assert_eq!(before.len(), after.len(), "{maker}");
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(after.problems, Vec::<String>::new(), "{maker}: {}", after.path.display());
            assert_eq!(comparable(&before.facts), comparable(&after.facts), "{maker}");
            assert_eq!(before.facts.serial == after.facts.serial, before.facts.ca, "{maker}");
        }
        assert_ne!(key, keys(out.path()), "{maker}: a new key");
        assert_eq!(mode(&out.path().join("raft-9/tls.key")), 0o600, "{maker}");
        assert!(accepts(&out.path().join("raft-9"), &["-verify_hostname", "db.example.org"]));
        assert!(accepts(&out.path().join("raft-9"), &["-verify_ip", "10.1.2.3"]));
        assert_all_get_on(out.path(), maker);
    }
}

#[test]
fn within_days_only_what_ends_so_soon_is_renewed_and_the_rest_is_named() {
    let out = temp();
    init(&InitOptions { days: 20, ..options(out.path()) }).expect("init");
    issue(&IssueOptions {
        out: out.path().into(),
        days: 300,
        ..IssueOptions::new("client", "billing")
    })
    .expect("issued");
    let within = |days| Change::Renew { whose: Whose::All, within: Some(days), days: 100 };
    let before = content(out.path());
    let report = change(out.path(), within(10)).expect("nothing to do");
    assert_eq!(actions(&report, "kept").len(), 7, "{report:#?}");
    assert!(
        report.last().expect("next")["next"][0].as_str().is_some_and(|s| s.contains("so soon"))
    );
    assert_eq!(before, content(out.path()), "not a byte has changed");

    let report = change(out.path(), within(30)).expect("renewed");
    assert_eq!(actions(&report, "kept"), ["billing"], "{report:#?}");
    let kept = report.iter().find(|one| one["name"] == "billing").expect("named");
    assert!(kept["not_after"].is_string(), "{kept}");
    assert_eq!(shown(&out.path().join("raft-0/tls.crt"))[0].facts.days_left, 99);
    // The list ends later than that.
    assert!(!report.iter().any(|one| one["name"] == "ca"), "{report:#?}");
    let report = change(out.path(), within(731)).expect("renewed");
    assert!(report.iter().any(|one| one["name"] == "ca"), "{report:#?}");
    assert_all_get_on(out.path(), "after");
}

#[test]
fn who_is_revoked_is_renewed_by_name_alone() {
    let out = temp();
    by_rcgen(out.path());
    change(out.path(), revoke("client")).expect("revoked");
    let left = |report: Vec<serde_json::Value>| {
        let client = report.iter().find(|one| {
            one["name"] == "client" && one["path"].as_str().is_some_and(|p| p.ends_with("client"))
        });
        let client = client.expect("client is named").clone();
        assert_eq!(client["action"], "kept");
        assert!(client["warnings"][0].as_str().is_some_and(|w| w.contains("revoked")), "{client}");
    };
    left(change(out.path(), renew_all()).expect("the others are renewed"));
    change(out.path(), TRUST).expect("trust");
    left(change(out.path(), REISSUE).expect("the others are reissued"));
    change(out.path(), DROP).expect("drop");
    assert!(judged(&out.path().join("raft-0")).ends_with(": OK\n"));
    assert!(
        !judged(&out.path().join("client")).ends_with(": OK\n"),
        "it has nothing of the new CA"
    );
    left(change(out.path(), renew_all()).expect("the CA was dropped, its list is remembered"));
    change(out.path(), renew(&["client"])).expect("by its name");
    assert_all_get_on(out.path(), "all are well again");
}

#[test]
fn the_ca_is_changed_in_three_steps_whoever_made_it() {
    for (maker, make) in MAKERS {
        let out = temp();
        make(out.path());
        let (out, ca) = (out.path(), out.path().join("ca"));
        let first = shown(&ca.join("ca.crt"))[0].facts.clone();
        let key = fs::read(ca.join("ca.key")).expect("the key");

        // In the wrong order nothing happens.
        for (step, words) in [(REISSUE, "first step"), (DROP, "no change of the CA is under way")] {
            let before = content(out);
            let refused = change(out, step).expect_err("too early").to_string();
            assert!(refused.contains(words), "{maker}: {refused}");
            assert_eq!(before, content(out), "{maker}");
        }

        for time in ["first", "second"] {
            change(out, TRUST).unwrap_or_else(|e| panic!("{maker}: {time}: {e}"));
            assert_all_get_on(out, &format!("{maker}: trust, the {time} time"));
            assert_eq!(bundle_size(out, "raft-0"), 2, "{maker}");
        }
        let refused = change(out, DROP).expect_err("too early").to_string();
        assert!(refused.contains("rotate-ca reissue") && refused.contains("first"), "{refused}");
        // Between the steps certificates are issued by who is trusted by all.
        let more = IssueOptions { out: out.into(), ..IssueOptions::new("client", "between") };
        issue(&more).expect("issued");
        assert_eq!(shown(&out.join("between/tls.crt"))[0].facts.issuer, first.subject, "{maker}");
        assert_eq!(bundle_size(out, "between"), 2, "{maker}");
        assert!(!script(out, &[]).status.success(), "{maker}: openssl's script knows of one CA");

        for time in ["first", "second"] {
            let report = change(out, REISSUE).unwrap_or_else(|e| panic!("{maker}: {time}: {e}"));
            let replaced = if time == "first" { 8 } else { 0 };
            assert_eq!(actions(&report, "replaced").len(), replaced, "{maker}: {report:#?}");
            assert_all_get_on(out, &format!("{maker}: reissue, the {time} time"));
            assert_eq!(bundle_size(out, "raft-0"), 2, "{maker}");
            assert_eq!(key, fs::read(ca.join("former/ca.key")).expect("the former key"));
        }
        let refused = change(out, TRUST).expect_err("too late").to_string();
        assert!(refused.contains("past this step"), "{maker}: {refused}");

        for time in ["first", "second"] {
            change(out, DROP).unwrap_or_else(|e| panic!("{maker}: {time}: {e}"));
            assert_all_get_on(out, &format!("{maker}: drop, the {time} time"));
            assert_eq!(bundle_size(out, "raft-0"), 1, "{maker}");
        }
        let second = shown(&ca.join("ca.crt"))[0].facts.clone();
        assert_ne!(first.subject, second.subject, "{maker}: two CAs of one name");
        let aside = ca.join(format!("former-{}", &first.sha256[..8]));
        assert_eq!(mode(&aside), 0o700, "{maker}");
        assert_eq!(key, fs::read(aside.join("ca.key")).expect("the former key"), "{maker}");
        assert_eq!(mode(&aside.join("ca.key")), 0o600, "{maker}");
        for presented in shown(out) {
            assert_eq!(presented.problems, Vec::<String>::new(), "{}", presented.path.display());
        }
        // A former certificate is nobody's any more, and the next change can begin.
        let old = ca.join("replaced");
        let old = old.join(&names(&old)[0]);
        assert!(!judged_by(&old, &out.join("raft-0")).ends_with(": OK\n"), "{maker}");
        let refused = change(out, revoke_file(&old)).expect_err("nothing to revoke").to_string();
        assert!(refused.contains("former CA that nobody trusts"), "{maker}: {refused}");
        change(out, TRUST).expect("another change");
    }
}

#[test]
fn manifests_follow_every_change() {
    let out = temp();
    let mut with = InitOptions { k8s: true, nodes: 2, ..options(out.path()) };
    with.names.namespace = "shop".into();
    init(&with).expect("init");
    let read = |file: &str| fs::read_to_string(out.path().join("k8s").join(file)).expect("there");
    let replicas = read("raft-certs.yaml");
    issue(&IssueOptions { out: out.path().into(), ..IssueOptions::new("node", "raft-2") })
        .expect("one more seat");
    assert!(read("raft-certs.yaml").contains("\"raft-2.key\""), "it is in the Secret of the seats");
    for step in [renew(&["client"]), revoke("admin"), TRUST, renew(&["admin"]), REISSUE, DROP] {
        let report = change(out.path(), step.clone()).expect("it works");
        let next = report.last().expect("next").to_string();
        assert!(next.contains("kubectl apply -f"), "{next}");
        for (secret, directory, names) in [
            ("raft-certs", "raft-0", ["ca.crt", "ca.crl", "raft-0.crt", "raft-0.key"]),
            ("client-certs", "client", ["ca.crt", "ca.crl", "tls.crt", "tls.key"]),
            ("admin-certs", "admin", ["ca.crt", "ca.crl", "tls.crt", "tls.key"]),
            ("monitor-certs", "monitor", ["ca.crt", "ca.crl", "tls.crt", "tls.key"]),
        ] {
            let manifest = read(&format!("{secret}.yaml"));
            assert!(manifest.contains("namespace: \"shop\""), "{manifest}");
            for name in names {
                let file = out.path().join(directory).join(name.replace("raft-0.", "tls."));
                let wanted = base64(&fs::read(file).expect("a file"));
                let line = format!("  \"{name}\": {wanted}\n");
                assert!(manifest.contains(&line), "{step:?}: {secret}: {name}");
            }
        }
    }
    assert_ne!(replicas, read("raft-certs.yaml"));
    // One whose origin is gone stays, and that is said.
    fs::remove_dir_all(out.path().join("client")).expect("removed");
    let report = change(out.path(), renew_all()).expect("renewed");
    let manifest = report.iter().find(|one| one["name"] == "client-certs").expect("named");
    assert!(manifest["warnings"][0].as_str().is_some_and(|w| w.contains("gone")), "{manifest}");
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn what_is_printed_says_what_was_done_and_what_comes_next() {
    let out = temp();
    init(&InitOptions { nodes: 1, k8s: true, ..options(out.path()) }).expect("init");
    let out = out.path();
    let golden = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/certs/golden.txt"),
    )
    .expect("the golden file");
    let mut said = String::new();
    for (command, step, lang) in [
        ("renew client", renew(&["client"]), Lang::En),
        ("revoke client", revoke("client"), Lang::En),
        ("rotate-ca trust", TRUST, Lang::En),
        ("rotate-ca reissue", REISSUE, Lang::En),
        ("rotate-ca drop", DROP, Lang::En),
        ("renew client --lang es", renew(&["client"]), Lang::Es),
        ("revoke admin --lang es", revoke("admin"), Lang::Es),
        ("renew admin", renew(&["admin"]), Lang::En),
        ("rotate-ca trust --lang es", TRUST, Lang::Es),
        ("rotate-ca reissue --lang es", REISSUE, Lang::Es),
        ("rotate-ca drop --lang es", DROP, Lang::Es),
    ] {
        said.push_str(&format!("$ cltraft certs {command}\n{}\n\n", text(out, step, lang)));
    }
    assert!(said == golden, "integration/certs/golden.txt should be:\n{said}");
}
