//! What the tests of certificates share: makers, openssl, files.

use super::*;

pub(crate) fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

pub(crate) fn options(out: &Path) -> InitOptions {
    InitOptions { out: out.into(), ..InitOptions::default() }
}

pub(crate) fn init(options: &InitOptions) -> Result<Vec<serde_json::Value>, Failure> {
    report(&CertsCommand::Init(options.clone()))
}

pub(crate) fn issue(options: &IssueOptions) -> Result<Vec<serde_json::Value>, Failure> {
    report(&CertsCommand::Issue(options.clone()))
}

/// Renews, revokes, or takes a step; the last object says what to do next.
pub(crate) fn change(out: &Path, change: Change) -> Result<Vec<serde_json::Value>, Failure> {
    report(&CertsCommand::Change(ChangeOptions { out: out.into(), change }))
}

pub(crate) fn renew_all() -> Change {
    Change::Renew { whose: Whose::All, within: None, days: 365 }
}

pub(crate) fn renew(names: &[&str]) -> Change {
    let whose = Whose::Names(names.iter().map(|name| (*name).to_owned()).collect());
    Change::Renew { whose, within: None, days: 365 }
}

pub(crate) fn revoke(name: &str) -> Change {
    Change::Revoke(Which::Of(name.into()))
}

pub(crate) fn revoke_file(path: &Path) -> Change {
    Change::Revoke(Which::File(path.into()))
}

pub(crate) const TRUST: Change =
    Change::RotateCa(Step::Trust { cluster: None, ca_days: Validity::CA_DAYS });
pub(crate) const REISSUE: Change = Change::RotateCa(Step::Reissue { days: Validity::LEAF_DAYS });
pub(crate) const DROP: Change = Change::RotateCa(Step::Drop);

/// What openssl says of `DIR/tls.crt`, with the lists of `DIR/ca.crl`: `OK` at the end, or why not.
pub(crate) fn judged(dir: &Path) -> String {
    judged_by(&dir.join("tls.crt"), dir)
}

/// The same of any certificate, by somebody who has another directory.
pub(crate) fn judged_by(certificate: &Path, dir: &Path) -> String {
    let (ca, lists) = (dir.join("ca.crt"), dir.join("ca.crl"));
    let (ca, lists) = (arg(&ca), arg(&lists));
    let options = ["-x509_strict", "-no-CApath", "-crl_check", "-CAfile", ca, "-CRLfile", lists];
    said(&openssl(&[&["verify"], options.as_slice(), &[arg(certificate)]].concat()))
}

pub(crate) fn report(command: &CertsCommand) -> Result<Vec<serde_json::Value>, Failure> {
    let mut printed = Vec::new();
    run(command, Output::Json, Lang::En, &mut printed)?;
    let printed = String::from_utf8(printed).expect("UTF-8");
    Ok(printed.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect())
}

pub(crate) fn actions<'a>(report: &'a [serde_json::Value], action: &str) -> Vec<&'a str> {
    report
        .iter()
        .filter(|one| one["action"] == action)
        .filter_map(|one| one["name"].as_str())
        .collect()
}

pub(crate) fn shown(path: &Path) -> Vec<Presented> {
    show(path, OffsetDateTime::now_utc()).expect("readable certificates")
}

/// What must not differ from one maker to the other: all but keys, numbers and moments.
pub(crate) fn comparable(facts: &Facts) -> Facts {
    let mut facts = facts.clone();
    facts.serial.clear();
    facts.sha256.clear();
    let drawn = |name: &mut String| {
        let id = name.rsplit(' ').next().unwrap_or_default().to_owned();
        if name.contains("CN=Balsa CA ") {
            assert!(id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
            *name = name.replace(&id, "id");
        }
    };
    drawn(&mut facts.subject);
    drawn(&mut facts.issuer);
    facts.subject_key_id = facts.subject_key_id.map(|id| id.len().to_string());
    facts.authority_key_id = facts.authority_key_id.map(|id| id.len().to_string());
    facts.not_before = OffsetDateTime::UNIX_EPOCH;
    facts.not_after = OffsetDateTime::UNIX_EPOCH;
    facts
}

pub(crate) fn authority(cluster: &str) -> Authority {
    Authority::create(cluster, Validity::days(100).expect("a good length")).expect("a CA")
}

/// A good node's certificate, to be spoiled.
pub(crate) fn raw() -> RawParams {
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

pub(crate) fn der(issued: &Issued) -> Vec<u8> {
    der_of(&issued.certificate)
}

pub(crate) fn der_of(pem: &str) -> Vec<u8> {
    let mut pem = pem.as_bytes();
    let first = rustls_pemfile::certs(&mut pem).next().expect("a certificate").expect("PEM");
    first.to_vec()
}

/// Whether openssl accepts `DIR/tls.crt` for who trusts `DIR/ca.crt`, by the letter of RFC 5280.
pub(crate) fn accepts(dir: &Path, more: &[&str]) -> bool {
    let (ca, crt) = (dir.join("ca.crt"), dir.join("tls.crt"));
    let mut arguments = vec!["verify", "-x509_strict", "-no-CApath", "-CAfile", arg(&ca)];
    arguments.extend(more);
    arguments.push(arg(&crt));
    openssl(&arguments).status.success()
}

/// What openssl says of a leaf through a certificate between it and the CA.
pub(crate) fn openssl_on_chain(dir: &Path, ca: &Authority, between: &str, leaf: &str) -> String {
    let paths = ["root.pem", "between.pem", "leaf.pem"].map(|name| dir.join(name));
    for (path, pem) in paths.iter().zip([ca.certificate(), between, leaf]) {
        fs::write(path, pem).expect("write");
    }
    let [root, between, leaf] = &paths;
    said(&openssl(&["verify", "-CAfile", arg(root), "-untrusted", arg(between), arg(leaf)]))
}

pub(crate) fn text(certificate: &Path) -> String {
    let printed = openssl(&["x509", "-in", arg(certificate), "-noout", "-text"]);
    assert!(printed.status.success(), "{}", said(&printed));
    String::from_utf8_lossy(&printed.stdout).into_owned()
}

pub(crate) fn openssl(arguments: &[&str]) -> Finished {
    Command::new("openssl").args(arguments).output().expect("openssl must be installed")
}

/// Lets openssl alone make the CA of OUT, with these options more.
pub(crate) fn ca_by_openssl(out: &Path, more: &[&str]) {
    let ca = out.join("ca");
    fs::create_dir(&ca).expect("make");
    let (key, crt) = (ca.join("ca.key"), ca.join("ca.crt"));
    let made = ["req", "-x509", "-nodes", "-keyout", arg(&key), "-out", arg(&crt)];
    let made = openssl(&[&made, more].concat());
    assert!(made.status.success(), "{more:?}: {}", said(&made));
}

pub(crate) fn script(out: &Path, arguments: &[&str]) -> Finished {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gen-certs-openssl.sh");
    Command::new(script).arg("--out").arg(out).args(arguments).output().expect("the script")
}

pub(crate) fn said(finished: &Finished) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&finished.stdout),
        String::from_utf8_lossy(&finished.stderr)
    )
}

pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o7777
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Every file below with its bytes, but for the lock, which means nothing by lying there.
pub(crate) fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for name in names(dir) {
        let path = dir.join(name);
        if path.is_dir() {
            files.extend(content(&path));
        } else if !path.ends_with("ca/lock") {
            files.push((path.clone(), fs::read(&path).expect("readable")));
        }
    }
    files
}
