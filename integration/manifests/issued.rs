//! Rules of the component `cert-manager`: what it orders is what Balsa itself would issue, and what the
//! pods mount is what a node and a client read.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use balsa::certs::{Facts, show};
use balsa::rpc::Tls;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::fields::hours;
use crate::objects::Object;
use crate::rules::{Findings, each, each_pod};

/// As many seats as `gen-certs.sh --k8s` issues.
pub(crate) const SEATS: usize = 7;
/// What is made by hand: whom everybody trusts.
const TRUST: &str = "raft-trust";
/// From this many days before an end on, there are alerts and warnings.
const SOON_DAYS: u64 = 30;

/// A CA and its certificates, as `gen-certs.sh --k8s` makes them.
pub(crate) struct Made {
    out: TempDir,
    facts: BTreeMap<String, Facts>,
}

impl Made {
    pub(crate) fn new() -> Made {
        let out = tempfile::tempdir().expect("a directory");
        let certs = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cltraft"));
            let made = command.arg("certs").args(arguments).arg("--out").arg(out.path()).output();
            let made = made.expect("cltraft runs");
            assert!(made.status.success(), "{made:?}");
        };
        certs(&["init", "--nodes", &SEATS.to_string()]);
        // Where `init` does not make it by itself.
        if !out.path().join("monitor").exists() {
            certs(&["issue", "monitor", "monitor"]);
        }
        let mut facts = BTreeMap::new();
        for presented in show(out.path(), OffsetDateTime::now_utc()).expect("certificates") {
            if let Some(identity) = presented.facts.identity.clone() {
                facts.insert(identity.name().to_owned(), presented.facts);
            }
        }
        Made { out, facts }
    }
}

/// Each Certificate says what the certificate of the same name says that Balsa makes itself, and there is
/// one for each of these.
pub(crate) fn names(objects: &[Object], made: &Made) -> Findings {
    let mut findings = each(objects, "Certificate", "", |about| {
        let name = about.object.name().to_owned();
        let Some(facts) = made.facts.get(&name) else {
            about.must(false, "Balsa makes no certificate of this name");
            return;
        };
        about.is("/spec/secretName", &json!(format!("{name}-certs")));
        about.is("/spec/uris", &json!(facts.uris));
        let list = |names: Vec<String>| if names.is_empty() { Value::Null } else { json!(names) };
        about.is("/spec/dnsNames", &list(facts.dns.clone()));
        about.is("/spec/ipAddresses", &list(facts.ips.iter().map(ToString::to_string).collect()));
        let organization = about.object.text("/spec/subject/organizations/0");
        let subject = format!("O={organization}, CN={}", about.object.text("/spec/commonName"));
        about.must(subject == facts.subject, &format!("the subject {subject}"));
        let ordered: BTreeSet<_> =
            about.object.list("/spec/usages").iter().filter_map(Value::as_str).collect();
        let given: BTreeSet<_> = facts
            .key_usage
            .iter()
            .chain(&facts.extended_key_usage)
            .map(|usage| match *usage {
                "digitalSignature" => "digital signature",
                "serverAuth" => "server auth",
                "clientAuth" => "client auth",
                other => other,
            })
            .collect();
        about.must(ordered == given, &format!("the usages {ordered:?} and not {given:?}"));
    });
    for name in made.facts.keys() {
        if !objects.iter().any(|o| o.kind() == "Certificate" && o.name() == name) {
            findings.push(format!("there is no Certificate {name}"));
        }
    }
    findings
}

/// All are signed by the one CA that is made by hand, live long enough, and are renewed with new keys
/// before anybody is warned.
pub(crate) fn issuing(objects: &[Object]) -> Findings {
    let mut findings = each(objects, "Issuer", "", |about| {
        about.is("/spec", &json!({ "ca": { "secretName": "balsa-ca" } }));
    });
    let issuers: Vec<_> = objects.iter().filter(|o| o.kind() == "Issuer").collect();
    if issuers.len() != 1 {
        findings.push(format!("there are {} issuers", issuers.len()));
    }
    findings.extend(each(objects, "Certificate", "", |about| {
        let issuer = json!({ "group": "cert-manager.io", "kind": "Issuer", "name": "balsa" });
        about.is("/spec/issuerRef", &issuer);
        about.must(
            issuers.iter().all(|issuer| issuer.name() == about.object.text("/spec/issuerRef/name")),
            "its issuer is not there",
        );
        about.is(
            "/spec/privateKey",
            &json!({
                "algorithm": "ECDSA",
                "encoding": "PKCS8",
                "rotationPolicy": "Always",
                "size": 256,
            }),
        );
        let days = |pointer| hours(about.object.at(pointer)).unwrap_or_default() / 24;
        let (lives, before) = (days("/spec/duration"), days("/spec/renewBefore"));
        about.must(before > SOON_DAYS, "would be warned of before it is renewed");
        about.must(2 * before <= lives, "would be renewed more often than every half of its life");
        about.must(lives <= 366, "lives longer than a year");
    }));
    findings
}

/// What a pod mounts at the certificates' directory: the sources of the projected volume, in order.
fn sources<'a>(object: &'a Object, pod: &str) -> Vec<&'a Value> {
    let volumes = object.list(&format!("{pod}/volumes"));
    let certs = volumes.iter().find(|volume| volume["name"] == "certs");
    let sources = certs.and_then(|volume| volume["projected"]["sources"].as_array());
    sources.into_iter().flatten().map(|source| &source["secret"]).collect()
}

/// The certificates' directory is made of the Secret of trust as a whole, and of Secrets that
/// Certificates make, of which only the pair is taken: the `ca.crt` in these says who signed and not whom
/// to trust.
pub(crate) fn volumes(objects: &[Object]) -> Findings {
    let made: BTreeSet<_> = objects
        .iter()
        .filter(|object| object.kind() == "Certificate")
        .map(|object| object.text("/spec/secretName"))
        .collect();
    each_pod(objects, |about, pod| {
        let (name, kind) = (about.object.name(), about.object.kind());
        let volumes = about.object.list(&format!("{pod}/volumes"));
        let keys: Vec<_> = volumes
            .iter()
            .filter(|volume| !volume["secret"].is_null() || !volume["projected"].is_null())
            .collect();
        about.must(keys.len() == 1, "does not take its keys from exactly one volume");
        let certs = keys.first().copied().unwrap_or(&Value::Null);
        about.must(certs["secret"].is_null(), "mounts one Secret as it is");
        about.must(certs["projected"]["defaultMode"] == 0o440, "keys are not 0440");
        let sources = sources(about.object, pod);
        let trust = json!({ "name": TRUST });
        about.must(sources.first() == Some(&&trust), "does not trust raft-trust, or not first");
        let mut expected = vec![trust];
        let pair = |secret: &str, stem: &str| {
            let item =
                |end: &str| json!({ "key": format!("tls.{end}"), "path": format!("{stem}.{end}") });
            json!({ "name": secret, "items": [item("crt"), item("key")] })
        };
        if kind == "StatefulSet" {
            let founders: usize = about
                .object
                .environment("raft-0", "default")
                .get("BALSA_REPLICAS")
                .and_then(|count| count.parse().ok())
                .unwrap_or_default();
            for n in 0..SEATS {
                let mut source = pair(&format!("raft-{n}-certs"), &format!("raft-{n}"));
                // A pod waits for the seats that found the cluster, and for no other.
                if n >= founders {
                    source["optional"] = json!(true);
                }
                expected.push(source);
            }
        } else {
            let secret = if name == "cliente" { "admin-certs" } else { "client-certs" };
            expected.push(pair(secret, "tls"));
        }
        about.must(
            sources.iter().copied().eq(&expected),
            &format!("its directory is made of {} and not of {}", json!(sources), json!(expected)),
        );
        for source in &sources {
            let secret = source["name"].as_str().unwrap_or_default();
            about.must(
                secret == TRUST || made.contains(secret),
                &format!("nobody makes the Secret {secret}"),
            );
        }
    })
}

/// Does as the kubelet does: writes what the sources name, from Secrets that hold what cert-manager would put
/// there, and from a Secret of trust.
fn project(sources: &[&Value], made: &Path, to: &Path, mode: u64) {
    for source in sources {
        let secret = source["name"].as_str().unwrap();
        let from = made.join(secret.strip_suffix("-certs").unwrap_or("admin"));
        let write = |key: &str, path: &str| {
            let file = to.join(path);
            std::fs::copy(from.join(key), &file).unwrap_or_else(|e| panic!("{secret} {key}: {e}"));
            let mode = std::fs::Permissions::from_mode(u32::try_from(mode).unwrap());
            std::fs::set_permissions(&file, mode).unwrap();
        };
        match source["items"].as_array() {
            None => {
                for file in ["ca.crt", "ca.crl"].into_iter().filter(|file| from.join(file).exists())
                {
                    write(file, file);
                }
            }
            Some(items) => {
                for item in items {
                    write(item["key"].as_str().unwrap(), item["path"].as_str().unwrap());
                }
            }
        }
    }
}

/// From the directory that a pod sees, each of its names reads its own identity, and a client its own.
pub(crate) fn readable(objects: &[Object], made: &Made) -> Findings {
    each_pod(objects, |about, pod| {
        let directory = tempfile::tempdir().expect("a directory");
        let sources = sources(about.object, pod);
        let volumes = about.object.list(&format!("{pod}/volumes"));
        let certs = volumes.iter().find(|volume| volume["name"] == "certs");
        let mode = certs.and_then(|volume| volume["projected"]["defaultMode"].as_u64());
        project(&sources, made.out.path(), directory.path(), mode.unwrap_or(0o644));
        let seats: Vec<_> = match about.object.kind() {
            "StatefulSet" => (0..SEATS).map(|n| Some(format!("raft-{n}"))).collect(),
            _ => vec![None],
        };
        let role = match about.object.name() {
            "cliente" => "admin/admin",
            "clientraft" => "client/client",
            _ => "node/",
        };
        for seat in seats {
            let uri = format!("balsa://balsa/{role}{}", seat.as_deref().unwrap_or_default());
            match Tls::load(directory.path(), seat.as_deref()) {
                Err(why) => about.must(false, &format!("cannot read {uri}: {why}")),
                Ok(tls) => {
                    about.must(tls.identity().to_string() == uri, &format!("is {}", tls.identity()))
                }
            }
        }
    })
}
