//! Lists of CAs with keys of every kind, made by `openssl` alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::rpc::{DatedKind, Tls, TlsFiles};

/// Runs openssl with words that hold no spaces.
fn openssl(directory: &Path, line: &str) {
    let said = Command::new("openssl")
        .args(line.split_whitespace())
        .current_dir(directory)
        .output()
        .expect("openssl must be installed");
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn lists_of_cas_with_keys_of_every_kind_are_taken() {
    let profiles = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/openssl.cnf");
    for key in [
        "RSA -pkeyopt rsa_keygen_bits:2048",
        "EC -pkeyopt ec_paramgen_curve:P-256",
        "EC -pkeyopt ec_paramgen_curve:P-384",
        "EC -pkeyopt ec_paramgen_curve:P-521",
        "ED25519",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let digest = if key.contains("P-521") { "sha512" } else { "sha256" };
        let run = |line: &str| openssl(root, line);
        let config = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = index\ndefault_md = {digest}\n\
             default_crl_days = 30\n"
        );
        fs::write(root.join("config"), config).unwrap();
        fs::write(root.join("index"), "").unwrap();
        run(&format!("genpkey -algorithm {key} -out ca.key"));
        run(&format!(
            "req -x509 -new -config {profiles} -extensions ca -{digest} -days 30 -key ca.key \
             -subj /O=balsa/CN=CA -out ca.crt"
        ));
        run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out tls.key");
        run(&format!(
            "req -new -config {profiles} -key tls.key -subj /CN=app -out request \
             -addext subjectAltName=URI:balsa://balsa/client/app"
        ));
        run(&format!(
            "x509 -req -in request -copy_extensions copy -extfile {profiles} -extensions client \
             -{digest} -days 9 -CA ca.crt -CAkey ca.key -out tls.crt"
        ));
        let ca = "ca -config config -cert ca.crt -keyfile ca.key";
        run(&format!("{ca} -gencrl -out ca.crl"));
        let tls = Tls::new(TlsFiles::read(root, None).unwrap()).unwrap();
        assert!(tls.dates().iter().any(|dated| dated.kind == DatedKind::Crl), "{key}");
        assert!(tls.remarks().is_empty(), "{key}: an empty list");
        run(&format!("{ca} -revoke tls.crt"));
        run(&format!("{ca} -gencrl -out ca.crl"));
        let replaced = tls.replace(TlsFiles::read(root, None).unwrap()).unwrap();
        assert!(replaced.lists, "{key}");
        let said = tls.remarks();
        assert!(said.len() == 1 && said[0].grave, "{key}: it is revoked itself: {said:?}");
    }
}
