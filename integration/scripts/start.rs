//! `start.sh`: what it begins anew, which Secrets it keeps, and with which it does not even begin.

use std::fs;

use base64::Engine as _;

use crate::fake_cluster::{Fake, certificate};

fn base64_of(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn started_again_it_begins_anew_and_replaces_no_secret() {
    let fake = Fake::started();
    let former = fake.read("pods/raft-0/uid");
    let secret = fake.read("secret-data/raft-certs");
    fake.write("secrets/admin-certs", "somebody\n");
    fs::remove_file(fake.path("secrets/client-certs")).expect("the Secret");
    let said = fake.start();
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.err.contains("it is deleted, and begun anew"), "{said:#?}");
    for name in ["raft-certs", "admin-certs"] {
        let kept = format!("Secret {name} is there already; it is used as it is");
        assert!(said.err.contains(&kept), "{said:#?}");
    }
    assert!(said.err.contains("ok Secret client-certs"), "{said:#?}");
    assert_ne!(fake.read("pods/raft-0/uid"), former);
    assert_eq!(fake.read("secrets/admin-certs"), "somebody\n");
    assert_eq!(fake.read("secrets/client-certs"), "scripts\n");
    assert_eq!(fake.read("secret-data/raft-certs"), secret);
}

#[test]
fn a_secret_with_which_nothing_could_start_is_told_before_anything_is_touched() {
    let expired = base64_of(&certificate(2001));
    for (name, file, with) in [
        ("raft-certs", "raft-1.crt", Some(expired.as_str())),
        ("client-certs", "tls.crt", Some(&expired)),
        ("admin-certs", "tls.crt", Some("bm8gY2VydGlmaWNhdGUK")),
        ("raft-certs", "raft-2.key", None),
        ("client-certs", "ca.crt", None),
    ] {
        let fake = Fake::started();
        let data = fake.read(&format!("secret-data/{name}"));
        let lines = data.lines().filter_map(|line| {
            let (what, _) = line.split_once(' ').expect("a file and its content");
            if what != file { Some(line.to_owned()) } else { with.map(|it| format!("{file} {it}")) }
        });
        let changed: Vec<_> = lines.collect();
        fake.write(&format!("secret-data/{name}"), &format!("{}\n", changed.join("\n")));
        let said = fake.start();
        let why = if with.is_some() {
            format!("and {file} in it has expired")
        } else {
            format!("lacks {file};")
        };
        said.fails(1, &why);
        assert!(
            said.err.contains(&format!("error: Secret {name} in namespace default")),
            "{said:#?}"
        );
        assert!(!fake.called("delete") && !fake.called("apply"), "{}", fake.read("calls"));
    }
}

#[test]
fn secrets_of_another_ca_are_not_mixed_with_ours() {
    let fake = Fake::started();
    fs::remove_file(fake.path("secrets/client-certs")).expect("the Secret");
    fs::remove_dir_all(fake.path("keys")).expect("the certificates");
    fake.write("ca.crt", &certificate(2998));
    fake.start().fails(1, "is of another CA than that in");
    assert!(!fake.called("delete") && !fake.called("create"), "{}", fake.read("calls"));
}

#[test]
fn replicas_that_do_not_become_ready_are_heard() {
    let fake = Fake::new();
    fake.write("faults", "never-ready\n");
    let said = fake.start();
    said.fails(1, "the replicas are not ready");
    assert!(said.err.contains("the last words of raft-1"), "{said:#?}");
    assert!(said.err.contains("an event of raft-1"), "{said:#?}");
    assert!(!said.err.contains("the last words of raft-0"), "{said:#?}");
    fake.run("validate", &[]).fails(1, "the last words of raft-1");
}
