//! Our own certificates and keys, wrong at the start: exit status 78, the file, and the way out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use balsa::certs::{Issued, RawParams, Validity};
use balsa::rpc::Tls;
use time::{Duration, OffsetDateTime};

use super::forge;
use super::harness::{Cluster, issue_all};
use super::register::Register;

/// Spoils a seat's directory; the CA's directory lies beside it.
type Spoil = fn(&Path, &Path);

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).expect("a copy");
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Puts a certificate there that is wrong in what `change` changes.
fn reissue(own: &Path, all: &Path, change: impl FnOnce(&mut RawParams)) {
    let name = own.file_name().expect("a seat").to_string_lossy().into_owned();
    let role = if name.starts_with("raft-") { "node" } else { "client" };
    let mut raw = forge::good(role, &name);
    change(&mut raw);
    let issued = forge::authority(all).issue_raw(&raw).expect("a certificate");
    fs::write(own.join("tls.crt"), issued.certificate).expect("written");
    fs::write(own.join("tls.key"), issued.key).expect("written");
}

/// The common name of the CA in a directory.
fn common_name_of_ca(own: &Path) -> String {
    let pem = fs::read(own.join("ca.crt")).expect("the CA");
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
    let ca = pem.parse_x509().expect("a certificate");
    let name = ca.subject().iter_common_name().next().expect("a common name");
    name.as_str().expect("UTF-8").to_owned()
}

fn days(from: i64, to: i64) -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity { not_before: now + Duration::days(from), not_after: now + Duration::days(to) }
}

/// What is done, how, and what the message must hold.
type Case = (&'static str, Spoil, &'static [&'static str]);

/// What can be wrong for clients as it can for nodes, of whose refusals the tests of bad input at the
/// start speak.
const PLAIN: [Case; 5] = [
    (
        "no CA",
        |own, _| fs::remove_file(own.join("ca.crt")).expect("removed"),
        &["ca.crt is missing", "gen-certs"],
    ),
    (
        "no certificate",
        |own, _| fs::remove_file(own.join("tls.crt")).expect("removed"),
        &["tls.crt is missing", "gen-certs"],
    ),
    (
        "no key",
        |own, _| fs::remove_file(own.join("tls.key")).expect("removed"),
        &["tls.key is missing", "gen-certs"],
    ),
    (
        "another's key",
        |own, all| copy(&all.join("raft-2/tls.key"), &own.join("tls.key")),
        &["tls.crt", "tls.key do not belong together", "restore the pair"],
    ),
    (
        "a key for everybody",
        |own, _| chmod(&own.join("tls.key"), 0o644),
        &["tls.key is open to everybody (mode 0644)", "chmod o-rwx"],
    ),
];

/// What can be wrong for nodes and clients alike.
const CASES: [Case; 12] = [
    (
        "no directory",
        |own, _| fs::remove_dir_all(own).expect("removed"),
        &["is missing", "--certs"],
    ),
    (
        "expired",
        |own, all| reissue(own, all, |raw| raw.validity = days(-9, -1)),
        &["tls.crt expired on 2", "issue a new one"],
    ),
    (
        "not yet valid",
        |own, all| reissue(own, all, |raw| raw.validity = days(1, 9)),
        &["tls.crt is valid only from 2", "set the clock right"],
    ),
    (
        "an empty CA",
        |own, _| fs::write(own.join("ca.crt"), "").expect("written"),
        &["ca.crt is empty", "BEGIN CERTIFICATE"],
    ),
    (
        "a CA that is none",
        |own, _| fs::write(own.join("ca.crt"), "hello\n").expect("written"),
        &["ca.crt holds no certificate", "BEGIN CERTIFICATE"],
    ),
    (
        "a key in the certificate's place",
        |own, _| copy(&own.join("tls.key"), &own.join("tls.crt")),
        &["tls.crt holds no certificate"],
    ),
    (
        "a certificate in the key's place",
        |own, _| {
            copy(&own.join("tls.crt"), &own.join("tls.key"));
            chmod(&own.join("tls.key"), 0o600);
        },
        &["tls.key holds no private key"],
    ),
    (
        "no usage",
        |own, all| {
            reissue(own, all, |raw| (raw.server_auth, raw.client_auth) = (false, false));
        },
        &["tls.crt lacks the extended key usage", "issue it anew"],
    ),
    (
        "two names",
        |own, all| reissue(own, all, |raw| raw.uris.push("balsa://balsa/node/raft-9".into())),
        &["tls.crt: the certificate has 2 URI names", "certs issue"],
    ),
    (
        "an empty file of revocation lists",
        |own, _| fs::write(own.join("ca.crl"), "").expect("written"),
        &["ca.crl is empty", "BEGIN X509 CRL", "or no such file"],
    ),
    (
        "a CA's certificate for its list",
        |own, _| copy(&own.join("ca.crt"), &own.join("ca.crl")),
        &["ca.crl holds no revocation list", "BEGIN X509 CRL"],
    ),
    (
        "a list of another CA of the same name",
        |own, _| {
            let other = tempfile::tempdir().expect("a directory");
            let mut raw = forge::good("node", &common_name_of_ca(own));
            (raw.ca, raw.server_auth, raw.client_auth) = (true, false, false);
            (raw.uris, raw.dns, raw.ips) = (Vec::new(), Vec::new(), Vec::new());
            let issued = Issued::self_signed(&raw).expect("a CA");
            fs::write(other.path().join("ca.crt"), issued.certificate).expect("written");
            fs::write(other.path().join("ca.key"), issued.key).expect("written");
            let list = Register::of(other.path()).list();
            fs::write(own.join("ca.crl"), list).expect("written");
        },
        &[
            "ca.crl holds a revocation list in the name of",
            "none of the CAs of that name in ca.crt signed",
        ],
    ),
];

#[test]
fn a_node_with_bad_certificates_of_its_own_says_which_file_and_exits_with_78() {
    let mut cluster = Cluster::prepare(3);
    let all = cluster.certificates.clone();
    let own = all.join("raft-0");
    let kept = cluster.path().join("kept");
    let keep = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to).expect("a directory");
        for file in ["ca.crt", "tls.crt", "tls.key"] {
            copy(&from.join(file), &to.join(file));
        }
    };
    keep(&own, &kept);
    let own_cases: [Case; 2] = [
        (
            "a client's",
            |own, all| {
                for file in ["tls.crt", "tls.key"] {
                    copy(&all.join("client").join(file), &own.join(file));
                }
            },
            &["is for balsa://balsa/client/client, not for node raft-0", "mount that seat's"],
        ),
        (
            "for calling only",
            |own, all| reissue(own, all, |raw| raw.server_auth = false),
            &["lacks the extended key usage serverAuth"],
        ),
    ];
    for (what, spoil, parts) in CASES.iter().chain(&own_cases) {
        spoil(&own, &all);
        let (code, said) = cluster.nodes[0].refuse();
        assert_eq!(code, 78, "{what}: {said}");
        for part in *parts {
            assert!(said.contains(part), "{what}: {part:?} is not in:\n{said}");
        }
        let errors = said.lines().filter(|line| line.contains("ERROR")).count();
        assert_eq!(errors, 1, "{what}: one clear error:\n{said}");
        assert!(!said.contains("panicked") && !said.contains("-----"), "{what}:\n{said}");
        println!("{what}: {}", said.trim());
        keep(&kept, &own);
        chmod(&own.join("tls.key"), 0o600);
    }
    assert!(!cluster.nodes[0].data.exists(), "a node that may not start makes no directory");
    // Group-readable keys are what Kubernetes mounts; with them, and put right, it starts.
    chmod(&own.join("tls.key"), 0o640);
    cluster.start_all();
    cluster.wait_for_leader();
    println!("with good certificates again the same node starts");
}

#[test]
fn a_client_with_bad_certificates_of_its_own_is_told_before_it_dials() {
    for (what, spoil, parts) in PLAIN.into_iter().chain(CASES) {
        let all = tempfile::tempdir().expect("a directory");
        issue_all(all.path(), "balsa", &["raft-2".to_owned()]);
        let own = all.path().join("client");
        spoil(&own, all.path());
        let error = Tls::load(&own, None).expect_err(what).to_string();
        for part in parts {
            assert!(error.contains(part), "{what}: {part:?} is not in: {error}");
        }
        assert!(!error.contains("-----") && !error.contains('\n'), "{what}: {error}");
        println!("{what}: {error}");
    }
}
