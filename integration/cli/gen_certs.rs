//! `scripts/gen-certs.sh` (mission C6): made once and kept, and openssl agrees.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{CLTRAFT, Said, run};

fn gen_certs(arguments: &[&str]) -> Said {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/gen-certs.sh");
    run(Command::new("bash").arg(script).args(arguments).env("CLTRAFT", CLTRAFT))
}

/// All files below a directory, by their paths from it.
fn files(top: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(top).expect("below the top").to_owned();
                found.insert(name, fs::read(path).expect("a file"));
            }
        }
    }
    found
}

#[test]
fn run_twice_it_keeps_what_is_there() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().join("two words");
    let out = out.to_str().expect("UTF-8");
    let call = ["--out", out, "--nodes", "2", "--cluster", "shop", "--dns", "balsa.example.org"];
    let first = gen_certs(&call);
    assert_eq!(first.code, 0, "{first:?}");
    let made = files(Path::new(out));
    let mut wanted: Vec<String> =
        ["ca.crt", "ca.crl", "ca.key"].map(|file| format!("ca/{file}")).into();
    for who in ["raft-0", "raft-1", "client", "admin", "monitor"] {
        wanted
            .extend(["ca.crt", "ca.crl", "tls.crt", "tls.key"].map(|file| format!("{who}/{file}")));
    }
    for path in &wanted {
        assert!(made.contains_key(Path::new(path)), "{path} is not in {:?}", made.keys());
    }
    let second = gen_certs(&call);
    assert_eq!(second.code, 0, "{second:?}");
    assert!(files(Path::new(out)) == made, "the second run changed a file");
    // Makes only what is missing.
    let third = gen_certs(&["--out", out, "--nodes", "3", "--cluster", "shop"]);
    assert_eq!(third.code, 0, "{third:?}");
    let more = files(Path::new(out));
    assert!(made.iter().all(|(path, bytes)| more.get(path) == Some(bytes)));
    assert!(more.contains_key(Path::new("raft-2/tls.key")));
    for path in more.keys().filter(|path| path.extension().is_some_and(|end| end == "key")) {
        let mode =
            fs::metadata(Path::new(out).join(path)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        assert!(path.starts_with("ca") || !path.ends_with("ca.key"), "the CA's key is with the CA");
    }
    openssl_agrees(Path::new(out));
}

fn openssl_agrees(out: &Path) {
    let openssl = |words: &[&str]| run(Command::new("openssl").args(words).current_dir(out));
    for (who, uri, purpose) in [
        ("raft-0", "balsa://shop/node/raft-0", "sslserver"),
        ("raft-1", "balsa://shop/node/raft-1", "sslclient"),
        ("client", "balsa://shop/client/client", "sslclient"),
        ("admin", "balsa://shop/admin/admin", "sslclient"),
        ("monitor", "balsa://shop/monitor/monitor", "sslclient"),
    ] {
        let certificate = format!("{who}/tls.crt");
        let verify = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca/ca.crt"];
        let said = openssl(&[&verify[..], &[&certificate]].concat());
        assert_eq!(said.fine(), format!("{certificate}: OK\n"));
        let said = openssl(&["x509", "-noout", "-ext", "subjectAltName", "-in", &certificate]);
        assert_eq!(said.fine().matches("URI:").count(), 1, "{said:?}");
        assert!(said.out.contains(&format!("URI:{uri}")), "{said:?}");
        assert_eq!(said.out.contains("DNS:balsa.example.org"), who.starts_with("raft"), "{said:?}");
    }
    let said =
        openssl(&["verify", "-purpose", "sslserver", "-CAfile", "ca/ca.crt", "client/tls.crt"]);
    assert_ne!(said.code, 0, "a client is no server: {said:?}");
}

#[test]
fn secrets_for_kubernetes_come_with_seven_seats() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().join("keys");
    let said = gen_certs(&["--out", out.to_str().expect("UTF-8"), "--k8s"]);
    assert!(said.fine().contains("kubectl apply -f"), "{said:?}");
    assert!(out.join("raft-6/tls.key").exists() && !out.join("raft-7").exists());
    for name in ["raft-certs", "client-certs", "admin-certs", "monitor-certs"] {
        let manifest = out.join(format!("k8s/{name}.yaml"));
        let mode = fs::metadata(&manifest).expect("the manifest").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn it_explains_itself_and_refuses_what_it_does_not_know() {
    let help = gen_certs(&["--help"]);
    for word in ["Usage: scripts/gen-certs.sh", "--out DIR", "--nodes N", "--k8s", "--force"] {
        assert!(help.fine().contains(word), "{word}: {help:?}");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().join("none");
    let said = gen_certs(&["--out", out.to_str().expect("UTF-8"), "--frob", "--nodes", "many"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.contains("--frob") && said.err.contains("--nodes: 'many'"), "{said:?}");
    assert!(!out.exists(), "nothing was made");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/gen-certs.sh");
    // Where there is no executable yet, a wrong option does not wait for one to be built.
    let mut unbuilt = Command::new("bash");
    unbuilt.arg(script).args(["--frob", "--nodes", "3", "--days=7", "extra"]);
    let said = run(unbuilt.env_remove("CLTRAFT").env("CARGO_TARGET_DIR", directory.path()));
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.contains("--frob") && said.err.contains("extra"), "{said:?}");
    assert!(!said.err.contains("building") && !said.err.contains("--days"), "{said:?}");
    let said = run(Command::new("bash").arg(script).env("CLTRAFT", "/nonexistent"));
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("CLTRAFT=/nonexistent is not an executable"), "{said:?}");
}
