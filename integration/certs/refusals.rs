//! Changes that must not happen, each with one sentence that says what to do.

use super::*;

/// A change that is refused with these words, and leaves every byte as it was.
fn refused(out: &Path, step: Change, words: &[&str]) {
    let before = content(out);
    let failure = change(out, step.clone()).expect_err("it was not refused");
    assert_eq!(failure.exit(), 1, "{step:?}: {failure}");
    let failure = failure.to_string();
    for word in words {
        assert!(failure.contains(word), "{step:?}: {word:?} is not in: {failure}");
    }
    assert!(!failure.contains('\n'), "{step:?}: more than a sentence: {failure}");
    assert_eq!(before, content(out), "{step:?}: something has changed");
}

/// The whole program, for what its options say.
fn cltraft(arguments: &[&str]) -> (i32, String) {
    let finished =
        Command::new(env!("CARGO_BIN_EXE_cltraft")).arg("certs").args(arguments).output();
    let finished = finished.expect("cltraft");
    (finished.status.code().expect("a status"), said(&finished))
}

#[test]
fn names_and_files_that_cannot_be_meant() {
    let out = temp();
    by_rcgen(out.path());
    // The lock's file is made by the first change.
    change(out.path(), renew(&["client"])).expect("renewed");
    let out = out.path();
    let there = "there are: admin, client, monitor, raft-0, raft-1, raft-2";
    refused(out, renew(&["raft-0", "raft-7", "bob"]), &["nobody called raft-7, bob", there]);
    refused(out, revoke("bob"), &["nobody called bob", there]);
    refused(out, revoke("ca"), &["nobody called ca", there]);
    refused(out, revoke_file(&out.join("none.crt")), &["none.crt", "No such file"]);
    let note = out.join("note.txt");
    fs::write(&note, "hello").expect("written");
    refused(out, revoke_file(&note), &["note.txt: holds no certificate"]);
    refused(
        out,
        revoke_file(&out.join("ca/ca.crt")),
        &["a CA is not revoked but changed", "rotate-ca"],
    );

    let other = temp();
    by_rcgen(other.path());
    let theirs = other.path().join("raft-0/tls.crt");
    refused(out, revoke_file(&theirs), &["was not signed by the CA in", "O=balsa, CN=Balsa CA "]);

    let ca = Authority::load(&ca_dir(out)).expect("the CA");
    let now = OffsetDateTime::now_utc();
    let past = Validity { not_before: now - Duration::days(9), not_after: now - Duration::days(1) };
    let ended = ca.issue_raw(&RawParams { validity: past, ..raw() }).expect("an old one");
    let path = out.join("ended.crt");
    fs::write(&path, &ended.certificate).expect("written");
    refused(out, revoke_file(&path), &["ended on", "everybody refuses it already"]);

    let nothing = temp();
    let failure = change(nothing.path(), renew_all()).expect_err("there is no CA");
    assert!(failure.to_string().contains("there is no CA in"), "{failure}");
    assert_eq!(names(nothing.path()), Vec::<String>::new());
}

#[test]
fn a_directory_that_cannot_be_read_stops_a_renewal_before_it_begins() {
    let out = temp();
    by_rcgen(out.path());
    change(out.path(), renew(&["client"])).expect("renewed");
    let out = out.path();
    let certificate = out.join("raft-1/tls.crt");
    let good = fs::read(&certificate).expect("a certificate");
    fs::write(&certificate, "hello").expect("written");
    refused(out, renew_all(), &["raft-1/tls.crt: holds no certificate"]);
    let ca = Authority::load(&ca_dir(out)).expect("the CA");
    let nameless = ca.issue_raw(&RawParams { uris: Vec::new(), ..raw() }).expect("without a URI");
    fs::write(&certificate, &nameless.certificate).expect("written");
    refused(out, renew_all(), &["raft-1/tls.crt", "the one URI name", "certs issue"]);
    fs::remove_file(&certificate).expect("removed");
    refused(out, renew_all(), &["raft-1/tls.crt", "No such file"]);
    let list = out.join("ca/ca.crl");
    let kept = fs::read(&list).expect("the list");
    fs::write(&list, "hello").expect("written");
    refused(out, revoke("client"), &["ca/ca.crl: holds no revocation list", "remove it"]);
    fs::remove_file(&list).expect("removed");
    change(out, renew(&["raft-0"])).expect("renewed");
    assert_ne!(kept, fs::read(&list).expect("a newer list"));
    // The others can be renewed by their names, and somebody can always be revoked.
    change(out, renew(&["raft-0"])).expect("renewed");
    change(out, revoke("raft-2")).expect("revoked");
    fs::write(&certificate, good).expect("restored");
    change(out, TRUST).expect("trust");
    let bundle = out.join("raft-1/ca.crt");
    fs::copy(out.join("ca/ca.crt"), &bundle).expect("one CA alone");
    refused(out, REISSUE, &["not in the ca.crt of raft-1", "rotate-ca trust"]);
    fs::remove_file(&bundle).expect("removed");
    refused(out, REISSUE, &["not in the ca.crt of raft-1"]);
    fs::copy(out.join("ca/ca.crt"), &bundle).expect("one CA alone");
    change(out, TRUST).expect("trust again");
    change(out, REISSUE).expect("reissue");
    // One of the former CA came back from somewhere.
    let former = Authority::load(&out.join("ca/former")).expect("the former CA");
    let issued = former.issue_raw(&raw()).expect("one of the former CA");
    fs::write(out.join("raft-0/tls.crt"), issued.certificate).expect("written");
    fs::write(out.join("raft-0/tls.key"), issued.key).expect("written");
    refused(out, DROP, &["certificate of raft-0 is not of the new CA", "rotate-ca reissue"]);
    change(out, REISSUE).expect("reissue again");
    change(out, DROP).expect("drop");
}

#[test]
fn without_the_cas_key_nothing_is_signed_and_the_rest_works() {
    let out = temp();
    by_rcgen(out.path());
    change(out.path(), renew(&["client"])).expect("renewed");
    let (out, key) = (out.path(), out.path().join("ca/ca.key"));
    let safe = out.join("safe.key");
    fs::rename(&key, &safe).expect("to the safe");
    refused(out, renew_all(), &["ca/ca.key is not there", "put it back"]);
    refused(out, revoke("client"), &["ca/ca.key is not there", "put it back"]);
    let one_more = IssueOptions { out: out.into(), ..IssueOptions::new("client", "app") };
    let failure = issue(&one_more).expect_err("nothing can be signed").to_string();
    assert!(failure.contains("ca/ca.key is not there"), "{failure}");
    // A new CA has a key of its own.
    change(out, TRUST).expect("trust");
    change(out, REISSUE).expect("reissue");
    refused(
        out,
        revoke_file(&out.join("ca/replaced").join(&names(&out.join("ca/replaced"))[0])),
        &["ca/former/ca.key is not there"],
    );
    change(out, DROP).expect("drop");
    for name in ["raft-0", "client"] {
        assert!(judged(&out.join(name)).ends_with(": OK\n"), "{name}");
    }
}

#[test]
fn a_ca_that_ended_is_changed_and_one_that_cannot_revoke_says_so() {
    let out = temp();
    let now = OffsetDateTime::now_utc();
    let past = Validity { not_before: now - Duration::days(9), not_after: now - Duration::days(1) };
    let ca = Authority::create("balsa", past).expect("an old CA");
    ca.save(&ca_dir(out.path())).expect("saved");
    let leaf = ca.issue_raw(&RawParams { validity: past, ..raw() }).expect("a leaf");
    leaf.save(&out.path().join("raft-0"), balsa::certs::Existing::Refuse).expect("saved");
    let failure = change(out.path(), renew_all()).expect_err("the CA has ended").to_string();
    assert!(
        failure.contains("CA's certificate ended on") && failure.contains("rotate-ca"),
        "{failure}"
    );
    for step in [TRUST, REISSUE, DROP] {
        change(out.path(), step).expect("a step");
    }
    assert!(judged(&out.path().join("raft-0")).ends_with(": OK\n"));

    let out = temp();
    let usage = ["-addext", "keyUsage=critical,keyCertSign"];
    let options = ["-newkey", "rsa:2048", "-days", "300", "-subj", "/C=ES/CN=No lists"];
    ca_by_openssl(out.path(), &[&options[..], &usage].concat());
    let node = IssueOptions {
        out: out.path().into(),
        cluster: Some("balsa".into()),
        ..IssueOptions::new("node", "raft-0")
    };
    let report = issue(&node).expect("issued");
    assert!(report[1]["warnings"].to_string().contains("cRLSign"), "{report:#?}");
    let failure = change(out.path(), revoke("raft-0")).expect_err("it has no lists").to_string();
    assert!(failure.contains("cRLSign") && failure.contains("rotate-ca trust"), "{failure}");
    change(out.path(), renew_all()).expect("renewed");
    for step in [TRUST, REISSUE, DROP, revoke("raft-0"), renew(&["raft-0"])] {
        change(out.path(), step).expect("a step");
    }
    assert!(judged(&out.path().join("raft-0")).ends_with(": OK\n"), "the cluster is the leaf's");
}

#[test]
fn a_ca_of_any_algorithm_that_signs_certificates_signs_lists() {
    for algorithm in [
        ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"],
        ["-newkey", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-sha256"],
        ["-newkey", "ed25519", "-utf8", "-batch", "-sha256"],
    ] {
        let out = temp();
        let usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"];
        let options = ["-days", "300", "-subj", "/C=ES/CN=Other"];
        ca_by_openssl(out.path(), &[&options[..], &usage, &algorithm].concat());
        for name in ["raft-0", "raft-1"] {
            let node = IssueOptions {
                out: out.path().into(),
                cluster: Some("balsa".into()),
                ..IssueOptions::new("node", name)
            };
            issue(&node).expect("issued");
        }
        for name in ["raft-0", "raft-1"] {
            let report = change(out.path(), revoke(name)).expect("revoked");
            assert!(report[0]["warnings"] == serde_json::json!([]), "{algorithm:?}: {report:#?}");
        }
        for name in ["raft-0", "raft-1"] {
            let said = judged(&out.path().join(name));
            assert!(said.contains("certificate revoked"), "{algorithm:?}: {name}: {said}");
        }
    }
}

#[test]
fn what_cannot_be_written_is_named_and_the_next_run_goes_on() {
    let out = temp();
    by_rcgen(out.path());
    let out = out.path();
    // Whoever runs the tests may write everywhere; a directory in a file's place stops anybody.
    let lock = out.join("ca/lock");
    fs::remove_file(&lock).expect("the lock's file");
    fs::create_dir(&lock).expect("a directory");
    refused(out, renew_all(), &["cannot open", "ca/lock"]);
    fs::remove_dir(&lock).expect("removed");
    let certificate = out.join("raft-1/tls.key");
    let key = fs::read(&certificate).expect("a key");
    fs::remove_file(&certificate).expect("removed");
    fs::create_dir(&certificate).expect("a directory");
    fs::write(certificate.join("x"), "x").expect("written");
    let failure = change(out, renew_all()).expect_err("it cannot be written").to_string();
    assert!(failure.contains("cannot replace") && failure.contains("raft-1/tls.key"), "{failure}");
    fs::remove_dir_all(&certificate).expect("removed");
    fs::write(&certificate, key).expect("restored");
    chmod(&certificate, 0o600);
    change(out, renew_all()).expect("renewed");
    for presented in shown(out) {
        assert_eq!(presented.problems, Vec::<String>::new(), "{}", presented.path.display());
    }
}

#[test]
fn of_several_at_once_each_is_done_or_told() {
    let out = temp();
    by_rcgen(out.path());
    let outcomes = std::thread::scope(|scope| {
        let run = |name: &'static str| (name, change(out.path(), revoke(name)));
        let all = ["raft-0", "raft-1", "raft-2", "client", "admin", "monitor"];
        let threads: Vec<_> = all.map(|name| scope.spawn(move || run(name))).into();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    let mut done = 0;
    for (name, outcome) in outcomes {
        let said = judged(&out.path().join(name));
        match outcome {
            Ok(_) => {
                done += 1;
                assert!(said.contains("certificate revoked"), "{name}: {said}");
            }
            Err(failure) => {
                let failure = failure.to_string();
                assert!(failure.contains("another cltraft certs works in"), "{name}: {failure}");
                assert!(said.ends_with(": OK\n"), "{name}: {said}");
            }
        }
    }
    assert!(done >= 1, "nobody won");
}

#[test]
fn words_that_are_missing_or_too_many() {
    for (arguments, words) in [
        (vec!["renew"], "needs NAMEs, or --all"),
        (vec!["renew", "raft-0", "--all"], "not both"),
        (vec!["renew", "--all", "--days", "0"], "--days"),
        (vec!["renew", "--all", "--within", "soon"], "--within"),
        (vec!["revoke"], "needs a NAME, or --certificate FILE"),
        (vec!["revoke", "a", "--certificate", "b"], "needs a NAME, or --certificate FILE"),
        (vec!["revoke", "a", "b"], "'b' is one word too many"),
        (vec!["rotate-ca"], "trust, then reissue, then drop"),
        (vec!["rotate-ca", "now"], "trust, then reissue, then drop"),
        (vec!["rotate-ca", "trust", "--cluster", "Bad Name"], "--cluster"),
        (vec!["rotate-ca", "trust", "--ca-days", "99999"], "--ca-days"),
        (vec!["destroy"], "init, issue, show, renew, revoke and rotate-ca"),
    ] {
        let (exit, said) = cltraft(&arguments);
        assert_eq!(exit, 2, "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {words:?} is not in: {said}");
    }
    let out = temp();
    let (exit, said) =
        cltraft(&["renew", "--within", "30", "--out", arg(out.path()), "-o", "json"]);
    assert_eq!(exit, 1, "{said}");
    let object: serde_json::Value = serde_json::from_str(said.trim()).expect("an object");
    assert_eq!(object["error"], "certificates", "{object}");
}
