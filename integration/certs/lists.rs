//! Revocation lists as `openssl` sees them.

use super::*;

/// `openssl crl` on a list, which must be one of the CA beside it.
fn list_text(list: &Path) -> String {
    let ca = list.with_file_name("ca.crt");
    let printed =
        openssl(&["crl", "-in", arg(list), "-noout", "-text", "-verify", "-CAfile", arg(&ca)]);
    let text = said(&printed);
    assert!(printed.status.success() && text.contains("verify OK"), "{text}");
    text
}

#[test]
fn every_ca_has_a_list_from_the_beginning_and_every_directory_has_it() {
    for (maker, make) in MAKERS {
        let out = temp();
        make(out.path());
        let ca = fs::read(out.path().join("ca/ca.crl")).expect("the CA's list");
        let text = list_text(&out.path().join("ca/ca.crl"));
        for line in ["No Revoked Certificates", "X509v3 CRL Number", "Authority Key Identifier"] {
            assert!(text.contains(line), "{maker}: {line:?} is not in\n{text}");
        }
        assert!(text.contains("Version 2"), "{maker}:\n{text}");
        for name in ["raft-0", "raft-1", "raft-2", "client", "admin", "monitor"] {
            let dir = out.path().join(name);
            assert_eq!(ca, fs::read(dir.join("ca.crl")).expect("its list"), "{maker}: {name}");
            assert!(judged(&dir).ends_with(": OK\n"), "{maker}: {}", judged(&dir));
        }
        for list in show_lists(out.path(), OffsetDateTime::now_utc()).expect("lists") {
            assert_eq!(list.problems, Vec::<String>::new(), "{maker}");
            // Both makers number alike, so each can take over from the other.
            let number = list.list.number.expect("a number").to_string();
            let age =
                OffsetDateTime::now_utc().unix_timestamp() - number.parse::<i64>().expect("it");
            assert!((0..600).contains(&age), "{maker}: {number}");
        }
    }
}

#[test]
fn openssl_refuses_who_is_revoked_and_nobody_else() {
    for (maker, make) in MAKERS {
        let out = temp();
        make(out.path());
        let before = list_text(&out.path().join("ca/ca.crl"));
        let report = change(out.path(), revoke("raft-1")).expect("revoked");
        let next = report.last().expect("what is next").to_string();
        assert!(next.contains("balsa://balsa/node/raft-1"), "{maker}: {next}");
        assert!(next.contains("renew --out"), "{maker}: {next}");
        let revoked = out.path().join("raft-1/tls.crt");
        for name in ["raft-0", "raft-1", "raft-2", "client", "admin", "monitor"] {
            let dir = out.path().join(name);
            let said = judged_by(&revoked, &dir);
            assert!(said.contains("certificate revoked"), "{maker}: {name} says {said}");
            if name != "raft-1" {
                assert!(judged(&dir).ends_with(": OK\n"), "{maker}: {}", judged(&dir));
            }
        }
        let after = list_text(&out.path().join("ca/ca.crl"));
        let serial = shown(&revoked)[0].facts.serial.to_uppercase();
        assert!(after.contains(&format!("Serial Number: {serial}")), "{maker}:\n{after}");
        assert_ne!(before, after);

        // A new one of the same name is another certificate.
        change(out.path(), renew(&["raft-1"])).expect("renewed");
        assert!(judged(&out.path().join("raft-1")).ends_with(": OK\n"), "{maker}");
        let old = names(&out.path().join("ca/replaced"));
        assert_eq!(old, [format!("raft-1-{}.crt", serial.to_lowercase())], "{maker}");
        let old = out.path().join("ca/replaced").join(&old[0]);
        let said = judged_by(&old, &out.path().join("raft-0"));
        assert!(said.contains("certificate revoked"), "{maker}: {said}");
    }
}

#[test]
fn a_certificate_that_was_replaced_is_revoked_by_its_file() {
    let out = temp();
    by_rcgen(out.path());
    let stolen = out.path().join("stolen.crt");
    fs::copy(out.path().join("raft-2/tls.crt"), &stolen).expect("copied");
    change(out.path(), renew(&["raft-2"])).expect("renewed");
    // The one who revokes by name is told that another is still good.
    let report = change(out.path(), revoke("raft-2")).expect("revoked");
    let next = report.last().expect("what is next").to_string();
    assert!(next.contains("still good") && next.contains("ca/replaced/raft-2-"), "{next}");
    change(out.path(), renew(&["raft-2"])).expect("renewed again");
    let report = change(out.path(), revoke_file(&stolen)).expect("revoked");
    let next = report.last().expect("what is next").to_string();
    assert!(!next.contains("still good") && !next.contains("still holds it"), "{next}");
    assert!(judged_by(&stolen, &out.path().join("raft-0")).contains("certificate revoked"));
    assert!(judged(&out.path().join("raft-2")).ends_with(": OK\n"));

    // Again: nothing new, and nobody twice.
    let before = content(out.path());
    let report = change(out.path(), revoke_file(&stolen)).expect("it was before");
    assert_eq!(report.len(), 1, "{report:#?}");
    assert!(report[0]["next"][0].as_str().is_some_and(|s| s.contains("before")), "{report:#?}");
    assert_eq!(before, content(out.path()));
}

#[test]
fn show_tells_of_lists_and_of_who_is_revoked() {
    let out = temp();
    by_rcgen(out.path());
    change(out.path(), revoke("client")).expect("revoked");
    change(out.path(), renew(&["client"])).expect("renewed");
    change(out.path(), revoke("raft-0")).expect("revoked");
    let command = |path: &Path| CertsCommand::Show(ShowOptions { paths: vec![path.into()] });
    let mut text = Vec::new();
    let fine = run(&command(out.path()), Output::Text, Lang::En, &mut text).expect("show");
    assert!(!fine, "somebody is revoked");
    let text = String::from_utf8(text).expect("UTF-8");
    assert_eq!(text.matches("problem   is revoked since").count(), 1, "{text}");
    assert_eq!(text.matches("  revoked   ").count(), 2, "the list is printed once: {text}");
    for whom in ["balsa://balsa/node/raft-0", "balsa://balsa/client/client"] {
        assert!(text.contains(&format!("Z, {whom}\n")), "{whom} in\n{text}");
    }
    let objects = report(&command(&out.path().join("raft-1/ca.crl"))).expect("show");
    let [list] = objects.as_slice() else { panic!("{objects:#?}") };
    assert!(
        list["issuer"].as_str().is_some_and(|issuer| issuer.starts_with("O=balsa, CN=Balsa CA "))
    );
    assert!(list["number"].as_str().is_some_and(|number| number.parse::<u64>().is_ok()), "{list}");
    assert!(list["next_update"].as_str() > list["this_update"].as_str(), "{list}");
    assert_eq!(list["revoked"].as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!(list["revoked"][0]["whom"], "balsa://balsa/client/client");
    let old = fs::read_dir(out.path().join("ca/replaced")).expect("a directory");
    for entry in old {
        let shown = shown(&entry.expect("an entry").path());
        assert!(shown[0].problems[0].contains("is revoked since"), "{:?}", shown[0].problems);
    }
    // A list of another CA, and one of this name by another key.
    let stranger = authority("balsa").list(None, &[], OffsetDateTime::now_utc()).expect("a list");
    fs::write(out.path().join("raft-1/ca.crl"), stranger.pem()).expect("written");
    let lists = show_lists(&out.path().join("raft-1"), OffsetDateTime::now_utc()).expect("lists");
    assert!(lists[0].problems[0].contains("nobody heeds it"), "{:?}", lists[0].problems);
    fs::write(
        out.path().join("raft-1/ca.crl"),
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    )
    .expect("written");
    let failure = show_lists(out.path(), OffsetDateTime::now_utc()).expect_err("it is broken");
    assert!(failure.to_string().contains("raft-1/ca.crl"), "{failure}");
    // The next one who changes anything puts it right.
    change(out.path(), renew(&["raft-1"])).expect("renewed");
    assert!(judged(&out.path().join("raft-1")).ends_with(": OK\n"));
}
