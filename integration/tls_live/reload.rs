//! Certificates that are replaced under load: no restart, no failed write, no other leader.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use balsa::certs::layout::ca_dir;
use balsa::certs::{Authority, Existing, Issued, Profile, Validity};
use balsa::identity::{Identity, Role};
use rustls::AlertDescription;

use super::forge::Papers;
use super::harness::load::Load;
use super::harness::reload::{Before, LOADED, wait_for_reloads};
use super::harness::{CLUSTER, Cluster, PATIENCE, tls};
use super::raw::{Caller, Ending};
use super::register::Register;

/// Writes between two steps.
pub(crate) const BETWEEN: u64 = 100;

/// Everybody who has a directory of certificates.
pub(crate) const EVERYBODY: [(Role, &str); 5] = [
    (Role::Node, "raft-0"),
    (Role::Node, "raft-1"),
    (Role::Node, "raft-2"),
    (Role::Client, "client"),
    (Role::Admin, "admin"),
];

pub(crate) fn issue(authority: &Authority, role: Role, name: &str) -> Issued {
    let node = role == Role::Node;
    let issued = authority.issue(&Profile {
        identity: Identity::new(CLUSTER, role, name).expect("good names"),
        dns: if node { vec!["localhost".into()] } else { Vec::new() },
        ips: if node { vec![[127, 0, 0, 1].into()] } else { Vec::new() },
        validity: Validity::days(25).expect("a length"),
    });
    issued.expect("a certificate")
}

#[test]
fn leaves_are_replaced_under_load_and_a_bad_one_is_not_used() {
    let cluster = Cluster::start(3);
    let authority = Authority::load(&ca_dir(&cluster.certificates)).expect("the CA");
    let load = Load::start(&cluster);
    let before = Before::of(&cluster);
    let since = &before.said;

    // A half of a pair, and then nothing that is a certificate at all.
    let (one, own) = (&cluster.nodes[1], cluster.certificates.join("raft-1"));
    let next = issue(&authority, Role::Node, "raft-1");
    fs::write(own.join("tls.crt"), &next.certificate).expect("written");
    let line = one.wait_until_it_says(since[1], "do not belong together");
    assert!(line.contains("those of before are"), "{line}");
    fs::write(own.join("tls.crt"), "no certificate").expect("written");
    one.wait_until_it_says(since[1], "holds no certificate");
    load.wait_for(BETWEEN);
    assert!(!one.said().contains(LOADED), "nothing bad is used");

    for (role, name) in EVERYBODY {
        let saved =
            issue(&authority, role, name).save(&cluster.certificates.join(name), Existing::Replace);
        saved.expect("the certificate is saved");
    }
    cluster.wait_until_all_say(since, LOADED);
    // Each node asks the others to connect anew, on both lines.
    cluster.wait_until_all_say(since, "connected");
    load.wait_for(BETWEEN);

    before.assert_undisturbed(&cluster);
    for node in &cluster.nodes {
        let bad = node.said().matches("not used").count();
        assert_eq!(bad, if node.name == "raft-1" { 2 } else { 0 }, "{}: once each", node.name);
    }
    let account = load.finish(&cluster);
    println!("proved: all leaves replaced while running: {account}");
}

/// A directory as Kubernetes mounts a Secret: each file a link through `..data`, which is swapped.
pub(crate) struct Mounted {
    root: PathBuf,
    version: usize,
    /// The revocation lists, if there are any.
    pub(crate) lists: Option<String>,
}

impl Mounted {
    /// Turns a plain directory into one.
    pub(crate) fn convert(root: PathBuf) -> Mounted {
        let names = ["ca.crt", "tls.crt", "tls.key"];
        let inside = root.join("..0");
        fs::create_dir(&inside).expect("a directory");
        for name in names {
            fs::rename(root.join(name), inside.join(name)).expect("moved");
        }
        symlink("..0", root.join("..data")).expect("a link");
        for name in names.into_iter().chain(["ca.crl"]) {
            symlink(Path::new("..data").join(name), root.join(name)).expect("a link");
        }
        Mounted { root, version: 0, lists: None }
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root.join(name)).expect("a file of the Secret")
    }

    /// Puts other files there, all at once.
    pub(crate) fn publish(&mut self, ca: &str, issued: Option<&Issued>) {
        let (certificate, key) = match issued {
            Some(issued) => (issued.certificate.clone(), issued.key.clone()),
            None => (self.read("tls.crt"), self.read("tls.key")),
        };
        let former = self.root.join(format!("..{}", self.version));
        self.version += 1;
        let name = format!("..{}", self.version);
        let inside = self.root.join(&name);
        let issued = Issued { certificate, key, ca: ca.to_owned(), lists: String::new() };
        issued.save(&inside, Existing::Refuse).expect("the certificate is saved");
        if let Some(lists) = &self.lists {
            fs::write(inside.join("ca.crl"), lists).expect("the lists are written");
        }
        symlink(&name, self.root.join("..data_tmp")).expect("a link");
        fs::rename(self.root.join("..data_tmp"), self.root.join("..data")).expect("swapped");
        fs::remove_dir_all(former).expect("the former version is removed");
    }
}

#[test]
fn a_ca_is_replaced_in_three_steps_under_load() {
    let mut cluster = Cluster::prepare(3);
    let mut mounts: Vec<(Role, &str, Mounted)> = EVERYBODY
        .into_iter()
        .map(|(role, name)| (role, name, Mounted::convert(cluster.certificates.join(name))))
        .collect();
    cluster.start_all();
    cluster.wait_for_leader();
    cluster.wait_for_lines("starting");
    let former = mounts[0].2.read("ca.crt");
    let authority = Authority::create(CLUSTER, Validity::days(30).expect("a length"));
    let authority = authority.expect("another CA");
    let both = format!("{former}{}", authority.certificate());
    let next = cluster.certificates.join("next-ca");
    authority.save(&next).expect("the CA is saved");
    // Each CA has the same name, a list, and somebody on it.
    let [mut of_former, mut of_next] =
        [&ca_dir(&cluster.certificates), &next].map(|ca| Register::of(ca));
    let former_ca = Authority::load(&ca_dir(&cluster.certificates)).expect("the CA");
    let [gone, lost] = [&former_ca, &authority].map(|ca| issue(ca, Role::Client, "gone"));
    of_former.revoke(&gone.certificate);
    of_next.revoke(&lost.certificate);
    let (former_list, next_list) = (of_former.list(), of_next.list());
    let address = cluster.nodes[0].address.clone();
    let ending = |issued: &Issued| {
        let mut caller = Caller::connect(&address, Some(&Papers::of(issued)));
        caller.next(PATIENCE)
    };
    assert_eq!(ending(&lost), Ending::Alert(AlertDescription::UnknownCA), "not trusted yet");
    let client = tls(&cluster.certificates, "client");
    let load = Load::start_as(&cluster, &client);
    let before = Before::of(&cluster);

    // Trust both.
    for (_, _, mount) in &mut mounts {
        mount.lists = Some(format!("{former_list}{next_list}"));
        mount.publish(&both, None);
    }
    cluster.wait_until_all_say(&before.said, LOADED);
    wait_for_reloads(&client, 1);
    cluster.log_in();
    load.wait_for(BETWEEN);
    for (node, since) in cluster.nodes.iter().zip(&before.said) {
        let said = node.said().split_off(*since);
        assert!(!said.contains("connected"), "nothing to renew: {said}");
    }

    for issued in [&gone, &lost] {
        assert_eq!(ending(issued), Ending::Alert(AlertDescription::CertificateRevoked));
    }

    // Reissue, one after the other, as a rolling change comes.
    for (role, name, mount) in &mut mounts {
        let since = cluster.marks();
        mount.publish(&both, Some(&issue(&authority, *role, name)));
        if *role == Role::Node {
            let node = &cluster.nodes[cluster.ordinal(name)];
            node.wait_until_it_says(since[cluster.ordinal(name)], LOADED);
            // Whom it called, and who called it.
            cluster.wait_until_all_say(&since, "connected");
        }
    }
    load.wait_for(BETWEEN);
    cluster.wait_for_lines(LOADED);
    wait_for_reloads(&client, 2);
    cluster.log_in();

    // Drop the former one: nobody uses it any more.
    let since = cluster.marks();
    let only = authority.certificate().to_owned();
    for (_, _, mount) in &mut mounts {
        mount.lists = Some(next_list.clone());
        mount.publish(&only, None);
    }
    cluster.wait_until_all_say(&since, LOADED);
    assert_eq!(ending(&gone), Ending::Alert(AlertDescription::UnknownCA));
    assert_eq!(ending(&lost), Ending::Alert(AlertDescription::CertificateRevoked));
    wait_for_reloads(&client, 3);
    cluster.log_in();
    load.wait_for(BETWEEN);

    before.assert_undisturbed(&cluster);
    let account = load.finish(&cluster);
    cluster.assert_no_errors();
    println!("proved: the CA replaced while running, in three steps: {account}");
}
