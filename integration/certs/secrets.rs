//! Secret manifests (`--k8s`), read back as the kubelet would mount them.

use balsa::rpc::Tls;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn with_secrets(out: &Path) -> InitOptions {
    let mut options = InitOptions { k8s: true, nodes: 7, ..options(out) };
    options.names.namespace = "shop".into();
    options
}

/// Mounts a manifest: writes each of its files into a directory, readable by the group as `fsGroup`
/// makes it. Returns the manifest's head.
fn mount(manifest: &Path, to: &Path) -> String {
    let text = fs::read_to_string(manifest).expect("a manifest");
    let (head, data) = text.split_once("\ndata:\n").expect("a Secret with data");
    fs::create_dir_all(to).expect("a directory");
    for line in data.lines() {
        let (name, value) = line.trim().split_once(": ").expect("a file a line");
        let path = to.join(name.trim_matches('"'));
        fs::write(&path, STANDARD.decode(value).expect("base64")).expect("written");
        chmod(&path, 0o440);
    }
    head.to_owned()
}

#[test]
fn the_replicas_share_one_secret_from_which_every_seat_takes_its_own() {
    let out = temp();
    init(&with_secrets(out.path())).expect("init");
    let volume = out.path().join("volume");
    let head = mount(&out.path().join("k8s/raft-certs.yaml"), &volume);
    for line in ["kind: Secret", "name: \"raft-certs\"", "namespace: \"shop\"", "type: Opaque"] {
        assert!(head.contains(line), "{line} is not in:\n{head}");
    }
    assert_eq!(names(&volume).len(), 2 + 2 * 7, "{:?}", names(&volume));
    for ordinal in 0..7 {
        let seat = format!("raft-{ordinal}");
        let tls = Tls::load(&volume, Some(&seat)).expect("what a node reads");
        assert_eq!(tls.identity().to_string(), format!("balsa://balsa/node/{seat}"));
        // openssl looks for the names of one process.
        let alone = out.path().join("alone").join(&seat);
        fs::create_dir_all(&alone).expect("a directory");
        for (from, to) in [("ca.crt", "ca.crt"), (&format!("{seat}.crt"), "tls.crt")] {
            fs::copy(volume.join(from), alone.join(to)).expect("copied");
        }
        let headless = format!("{seat}.raft-service");
        for host in [headless.as_str(), "raft-service", "raft-client"] {
            for form in ["", ".shop", ".shop.svc", ".shop.svc.cluster.local"] {
                let host = format!("{host}{form}");
                assert!(accepts(&alone, &["-verify_hostname", &host]), "{seat}: {host}");
            }
        }
        assert!(accepts(&alone, &["-verify_ip", "127.0.0.1"]), "{seat}: the probe");
        assert!(!accepts(&alone, &["-verify_hostname", "raft-service.default.svc"]), "{seat}");
    }
}

#[test]
fn client_admin_and_monitor_have_secrets_of_their_own() {
    let out = temp();
    init(&with_secrets(out.path())).expect("init");
    for (secret, role) in [
        ("client-certs", Role::Client),
        ("admin-certs", Role::Admin),
        ("monitor-certs", Role::Monitor),
    ] {
        let volume = out.path().join(secret);
        mount(&out.path().join(format!("k8s/{secret}.yaml")), &volume);
        assert_eq!(names(&volume), ["ca.crl", "ca.crt", "tls.crt", "tls.key"]);
        let tls = Tls::load(&volume, None).expect("what a client reads");
        assert_eq!(tls.identity().role(), role);
    }
    let secrets = content(&out.path().join("k8s"));
    let key = fs::read_to_string(out.path().join("ca/ca.key")).expect("the CA's key");
    for (path, text) in &secrets {
        let text = String::from_utf8_lossy(text);
        assert!(!text.contains(&STANDARD.encode(&key)), "{path:?} holds the CA's key");
    }
}

#[test]
fn manifests_are_private_and_change_only_with_what_they_hold() {
    let out = temp();
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let with = with_secrets(out.path());
    let manifests = ["admin-certs", "client-certs", "monitor-certs", "raft-certs"];
    let of_manifests = |action: &str| {
        let report = init(&with).expect("init");
        let mut found = actions(&report, action);
        found.retain(|name| name.ends_with("-certs"));
        found.sort_unstable();
        found.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of_manifests("created"), manifests);
    let directory = out.path().join("k8s");
    assert_eq!(mode(&directory), 0o700);
    for name in manifests {
        assert_eq!(mode(&directory.join(format!("{name}.yaml"))), 0o600);
    }
    let before = content(&directory);
    assert_eq!(of_manifests("kept"), manifests);
    assert_eq!(before, content(&directory));
    // Whoever changes certificates brings the manifests that are there up to date.
    let forced = init(&InitOptions { force: true, ..options(out.path()) }).expect("new ones");
    let mut replaced = actions(&forced, "replaced");
    replaced.retain(|name| name.ends_with("-certs"));
    replaced.sort_unstable();
    assert_eq!(replaced, manifests);
    assert_eq!(of_manifests("kept"), manifests, "and in the namespace they were made for");
    assert_eq!(mode(&directory.join("raft-certs.yaml")), 0o600);

    let taken = IssueOptions { out: out.path().into(), ..IssueOptions::new("client", "k8s") };
    let refused = issue(&taken).expect_err("the manifests are there");
    assert_eq!(refused.exit(), 2, "{refused}");
    let exposed = out.path().join("raft-3/tls.key");
    chmod(&exposed, 0o644);
    let failure = init(&with).expect_err("everybody may read a key").to_string();
    assert!(failure.contains("raft-3/tls.key"), "{failure}");
}
