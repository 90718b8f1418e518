//! Our own certificates: everything wrong with them is one sentence that names the file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::ExtendedKeyUsagePurpose;

use super::pki::{Spec, ca};
use crate::rpc::{Tls, TlsFiles};

fn error(directory: &Path, seat: Option<&str>) -> String {
    match Tls::load(directory, seat) {
        Ok(tls) => panic!("taken as {}", tls.identity()),
        Err(error) => error.to_string(),
    }
}

fn assert_says(directory: &Path, seat: Option<&str>, words: &[&str]) {
    let error = error(directory, seat);
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
}

#[test]
fn the_seats_own_pair_comes_before_the_common_one() {
    let ca = ca();
    let directory = ca.directory(&Spec::of("balsa://balsa/admin/ops"));
    assert_says(directory.path(), Some("raft-1"), &["tls.crt", "admin/ops", "raft-1"]);
    ca.issue(&Spec::node("raft-1")).write(directory.path(), "raft-1", &ca.pem);
    let tls = Tls::load(directory.path(), Some("raft-1")).unwrap();
    assert_eq!(tls.identity().to_string(), "balsa://balsa/node/raft-1");
    let admin = Tls::load(directory.path(), None).unwrap();
    assert_eq!(admin.identity().to_string(), "balsa://balsa/admin/ops");
    // Half a pair is a mistake, not a reason to use another.
    fs::remove_file(directory.path().join("raft-1.key")).unwrap();
    assert_says(directory.path(), Some("raft-1"), &["raft-1.key is missing", "gen-certs"]);
}

#[test]
fn keys_open_to_everybody_are_refused_and_to_the_group_accepted() {
    let directory = ca().directory(&Spec::node("raft-1"));
    let key = directory.path().join("tls.key");
    for (mode, good) in [(0o600, true), (0o400, true), (0o440, true), (0o640, true), (0o660, true)]
        .into_iter()
        .chain([(0o644, false), (0o604, false), (0o601, false), (0o602, false), (0o666, false)])
    {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = Tls::load(directory.path(), None);
        assert_eq!(loaded.is_ok(), good, "mode {mode:o}");
        if let Err(error) = loaded {
            let error = error.to_string();
            assert!(error.contains("tls.key") && error.contains("chmod o-rwx"), "{error}");
        }
    }
}

#[test]
fn what_is_missing_empty_or_something_else_is_named() {
    let ca = ca();
    let good = || ca.directory(&Spec::node("raft-1"));
    for (file, words) in [
        ("ca.crt", ["ca.crt is missing", "--certs"]),
        ("tls.crt", ["tls.crt is missing", "--certs"]),
        ("tls.key", ["tls.key is missing", "--certs"]),
    ] {
        let directory = good();
        fs::remove_file(directory.path().join(file)).unwrap();
        assert_says(directory.path(), None, &words);
    }
    for (file, content, words) in [
        ("ca.crt", "", ["ca.crt is empty", "BEGIN CERTIFICATE"]),
        ("ca.crt", "hello", ["ca.crt holds no certificate", "BEGIN CERTIFICATE"]),
        ("tls.crt", "", ["tls.crt is empty", "BEGIN CERTIFICATE"]),
        ("tls.key", "", ["tls.key holds no private key", "BEGIN PRIVATE KEY"]),
        (
            "ca.crt",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ["ca.crt", "cannot be a CA's"],
        ),
        (
            "tls.crt",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ["tls.crt", "not an X.509"],
        ),
    ] {
        let directory = good();
        fs::write(directory.path().join(file), content).unwrap();
        assert_says(directory.path(), None, &words);
    }
    let directory = good();
    fs::remove_file(directory.path().join("ca.crt")).unwrap();
    fs::create_dir(directory.path().join("ca.crt")).unwrap();
    assert_says(directory.path(), None, &["ca.crt cannot be read"]);
}

#[test]
fn a_key_of_another_certificate_is_a_mismatch() {
    let ca = ca();
    let directory = ca.directory(&Spec::node("raft-1"));
    let other = ca.issue(&Spec::node("raft-1"));
    fs::write(directory.path().join("tls.key"), &other.key_pem).unwrap();
    assert_says(directory.path(), None, &["tls.crt", "tls.key", "do not belong together"]);
}

#[test]
fn dates_usage_and_names_of_our_own_are_checked() {
    let ca = ca();
    let says = |spec: Spec, words: &[&str]| {
        let directory = ca.directory(&spec);
        assert_says(directory.path(), None, words);
    };
    let node = || Spec::node("raft-1");
    says(
        node().with(|s| s.valid = (-30, -1)),
        &["tls.crt expired on 20", "UTC", "issue a new one"],
    );
    says(node().with(|s| s.valid = (1, 30)), &["tls.crt is valid only from 20", "clock"]);
    says(
        node().with(|s| s.usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        &["tls.crt", "serverAuth"],
    );
    says(
        Spec::of("balsa://balsa/client/app")
            .with(|s| s.usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        &["tls.crt", "clientAuth"],
    );
    says(node().with(|s| s.uris.clear()), &["tls.crt", "no URI name", "cltraft certs"]);
    says(node().with(|s| s.uris.push("https://x".into())), &["tls.crt", "2 URI names"]);
    says(Spec::of("spiffe://x/y"), &["tls.crt", "spiffe://x/y", "scheme"]);
    // RFC 5280 4.2.1.12 lets a certificate without the extension be used for anything; we do not.
    says(node().with(|s| s.usages.clear()), &["tls.crt", "serverAuth"]);
    let directory = ca.directory(&node());
    assert_says(directory.path(), Some("raft-2"), &["node/raft-1", "raft-2"]);
}

#[test]
fn other_files_take_over_only_for_the_same_identity() {
    let ca = ca();
    let tls = ca.tls(&Spec::node("raft-1"));
    let before = tls.not_after();
    let files = |spec: &Spec| TlsFiles::read(ca.directory(spec).path(), None).unwrap();
    let refused = tls.replace(files(&Spec::node("raft-2"))).unwrap_err().to_string();
    assert!(refused.contains("raft-2") && refused.contains("raft-1"), "{refused}");
    assert_eq!(tls.not_after(), before, "the last good ones are kept");
    tls.replace(files(&Spec::node("raft-1").with(|s| s.valid = (-1, 90)))).unwrap();
    assert!(tls.not_after() > before);
}
