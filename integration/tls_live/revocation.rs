//! Revoked certificates: refused in both directions, their connections closed, and the cluster serves on.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use balsa::certs::layout::ca_dir;
use balsa::certs::{Authority, Existing, Issued};
use balsa::client::{Client, ErrorKind, Options};
use balsa::identity::Role;
use balsa::rpc::{CloseCode, CloseReason, Connection, Dialer, Expect, Hello, Limits, Tls};
use rustls::AlertDescription;

use super::forge::Papers;
use super::harness::load::Load;
use super::harness::reload::LOADED;
use super::harness::{Cluster, PATIENCE, Process, free_ports, until};
use super::raw::{Caller, Ending, Guise, Impostor};
use super::register::Register;
use super::reload::{BETWEEN, EVERYBODY, Mounted, issue};
use super::{assert_serves, line_with, refusal_of};

/// The three that are revoked, one of each role.
const GONE: [(Role, &str); 3] =
    [(Role::Node, "raft-1"), (Role::Client, "gone-client"), (Role::Admin, "gone-admin")];

/// Makes their certificates, good ones.
fn issue_the_gone(cluster: &Cluster) -> [Issued; 3] {
    let authority = Authority::load(&ca_dir(&cluster.certificates)).expect("the CA");
    GONE.map(|(role, name)| {
        let issued = issue(&authority, role, name);
        let saved = issued.save(&cluster.certificates.join(name), Existing::Refuse);
        saved.expect("the certificate is saved");
        issued
    })
}

fn revoke(register: &mut Register, gone: &[Issued]) -> String {
    gone.iter().for_each(|issued| register.revoke(&issued.certificate));
    register.list()
}

fn publish(cluster: &Cluster, whose: &str, lists: &str) {
    fs::write(cluster.certificates.join(whose).join("ca.crl"), lists).expect("written");
}

fn standing(cluster: &Cluster, name: &str) -> Connection {
    let seat = name.starts_with("raft-").then_some(name);
    let tls = Tls::load(&cluster.certificates.join(name), seat).expect("good certificates");
    let hello = Hello::client(tls.identity());
    let dialer = Dialer::new(tls, Limits::default());
    let (address, expect) = (&cluster.nodes[0].address, Expect::Node("raft-0".into()));
    let dialed = cluster.wait(async { dialer.dial(address, expect, hello, PATIENCE).await });
    dialed.unwrap_or_else(|error| panic!("{name} is good so far: {error}"))
}

fn cltraft(cluster: &Cluster, certs: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cltraft"));
    command.env_clear().env("BALSA_ENDPOINTS", cluster.addresses().join(","));
    command.env("BALSA_CERTS", cluster.certificates.join(certs));
    command.args(more).output().expect("cltraft starts")
}

fn probe(question: &str, node: &Process) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_srvraft"));
    command.env_clear().args(["probe", question]).env("BALSA_NAME", &node.name);
    command.env("BALSA_LISTEN", &node.address).env("BALSA_CERTS", &node.certs);
    command.output().expect("srvraft starts")
}

#[test]
fn a_node_refuses_the_revoked_of_every_role_by_lists_of_openssl() {
    let mut cluster = Cluster::prepare(1);
    let metrics = format!("127.0.0.1:{}", free_ports(1)[0]);
    cluster.nodes[0].more = ["--metrics", metrics.as_str()].map(OsString::from).to_vec();
    cluster.start_all();
    cluster.wait_for_leader();
    let node = &cluster.nodes[0];
    let gone = issue_the_gone(&cluster);
    // Every listener that there is (a list that one of them does not know is none).
    let everywhere = || {
        let roles = |at| GONE.iter().zip(&gone).map(move |role| (at, role));
        [&node.address, &metrics].into_iter().flat_map(roles)
    };
    for (address, ((role, _), issued)) in everywhere() {
        let mut caller = Caller::connect(address, Some(&Papers::of(issued)));
        assert_eq!(caller.next(Duration::from_millis(500)), Ending::Silent, "a good {role}");
    }
    let connections = GONE.map(|(_, name)| standing(&cluster, name));
    let bystander = standing(&cluster, "client");
    let since = cluster.marks();
    let mut register = Register::of(&ca_dir(&cluster.certificates));
    let list = revoke(&mut register, &gone);
    publish(&cluster, "raft-0", &list);
    let line = node.wait_until_it_says(since[0], LOADED);
    assert!(line.contains("own=false trust=false lists=true"), "{line}");
    for (connection, (_, name)) in connections.iter().zip(GONE) {
        let CloseReason::Announced(notice) = cluster.wait(connection.closed()) else {
            panic!("{name} is told")
        };
        assert_eq!(notice.code, CloseCode::Distrusted, "{name}");
        assert_eq!(notice.message, "your certificate is revoked", "{name}");
        let parts =
            ["the connection of balsa://balsa/", name, "its certificate is revoked since 2"];
        let line = line_with(node, &parts);
        assert!(line.contains("reason=\"revoked\""), "{line}");
    }
    assert!(bystander.is_open(), "nobody else is disturbed");
    for (address, ((role, name), issued)) in everywhere() {
        let mut caller = Caller::connect(address, Some(&Papers::of(issued)));
        let ending = caller.next(PATIENCE);
        assert_eq!(ending, Ending::Alert(AlertDescription::CertificateRevoked), "{role}");
        let line = refusal_of(&node.log, caller.from());
        let claim = format!("(it claims to be balsa://balsa/{role}/{name})");
        for part in ["its certificate is revoked since 2", &claim, "reason=\"revoked\""] {
            assert!(line.contains(part), "{role}: {line}");
        }
        println!("{line}");
    }
    for (lang, words) in [
        ("en", "our certificate is revoked; issue a new one"),
        ("es", "error: certificado revocado ("),
    ] {
        let said = cltraft(&cluster, "gone-client", &["--lang", lang, "put", "k", "v"]);
        let err = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(7), "{err}");
        assert!(err.contains(words), "{err}");
        println!("{}", err.trim());
    }
    let said = cltraft(&cluster, "gone-client", &["-o", "json", "put", "k", "v"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("\"error\":\"revoked\"") && said.contains("\"exit\":7"), "{said}");
    assert_serves(&cluster, "after the revoked");
    cluster.assert_no_errors();
}

#[test]
fn nodes_and_clients_leave_a_revoked_node_alone() {
    let mut cluster = Cluster::prepare(1);
    let gone = issue_the_gone(&cluster);
    let mut register = Register::numbered(&ca_dir(&cluster.certificates));
    let list = revoke(&mut register, &gone);
    publish(&cluster, "raft-0", &list);
    publish(&cluster, "client", &list);
    let impostor = Impostor::on("127.0.0.1:0", Guise::Tls(Papers::of(&gone[0])));
    let address = impostor.address();
    cluster.nodes[0].seeds = format!("raft-0={},raft-1={address}", cluster.nodes[0].address);
    cluster.start_all();
    let parts = [&format!("raft-1 at {address} ("), "its certificate is revoked since 2"];
    println!("{}", line_with(&cluster.nodes[0], &parts));
    let first = |heard: Vec<Ending>| heard.into_iter().next();
    let ending = until("the impostor hears something", PATIENCE, || first(impostor.heard()));
    assert_eq!(ending, Ending::Alert(AlertDescription::CertificateRevoked), "a node dials it");

    let impostor = Impostor::on("127.0.0.1:0", Guise::Tls(Papers::of(&gone[0])));
    let address = impostor.address();
    let tls = Tls::load(&cluster.certificates.join("client"), None).expect("good certificates");
    let options = Options {
        endpoints: vec![address.clone()],
        timeout: Duration::from_secs(5),
        redirect: true,
    };
    let client = Client::new(tls, options);
    let error = cluster.wait(client.put("k".into(), "v".into())).expect_err("revoked");
    assert_eq!((error.kind, error.word), (ErrorKind::Untrusted, "revoked"), "{error}");
    assert!(error.message.contains("its certificate is revoked since 2"), "{error}");
    let ending = until("the impostor hears something", PATIENCE, || first(impostor.heard()));
    assert_eq!(ending, Ending::Alert(AlertDescription::CertificateRevoked), "a client dials it");
    for (lang, words) in
        [("en", "its certificate is revoked since 2"), ("es", "certificado revocado")]
    {
        let words_of = ["--endpoints", &address, "--lang", lang, "get", "k"];
        let said = cltraft(&cluster, "client", &words_of);
        let err = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(7), "{err}");
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn a_cluster_serves_without_the_node_that_is_revoked_and_takes_it_back_with_a_new_certificate() {
    let mut cluster = Cluster::prepare(3);
    let mut mounts = EVERYBODY
        .map(|(role, name)| (role, name, Mounted::convert(cluster.certificates.join(name))));
    let mut register = Register::numbered(&ca_dir(&cluster.certificates));
    let authority = Authority::load(&ca_dir(&cluster.certificates)).expect("the CA");
    let ca = authority.certificate().to_owned();
    let first = register.list();
    for (_, _, mount) in &mut mounts {
        mount.lists = Some(first.clone());
        mount.publish(&ca, None);
    }
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    let name = cluster.nodes[leader].name.clone();
    let (client, processes) =
        (super::harness::tls(&cluster.certificates, "client"), cluster.pids());
    cluster.log_in();
    let load = Load::start_as(&cluster, &client);
    let since = cluster.marks();

    register.revoke(&mounts[leader].2.read("tls.crt"));
    let list = register.list();
    for (_, _, mount) in &mut mounts {
        mount.lists = Some(list.clone());
        mount.publish(&ca, None);
    }
    cluster.wait_until_all_say(&since, LOADED);
    let own = cluster.nodes[leader].wait_until_it_says(since[leader], "tls.crt is revoked since 2");
    assert!(own.contains("ERROR") && own.contains("whoever has this list refuses us"), "{own}");
    println!("{own}");
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let who = format!("balsa://balsa/node/{name}");
    for other in &others {
        let node = &cluster.nodes[*other];
        println!("{}", line_with(node, &["its certificate is revoked since 2", &who]));
    }
    until("one of the others leads", PATIENCE, || {
        let leads = |node: &usize| {
            cluster.status(*node).and_then(|status| status.leader).is_some_and(|led| led != name)
        };
        others.iter().all(leads).then_some(())
    });
    load.wait_for(BETWEEN);

    // It lives, is not ready, and says so; nobody hears it.
    let node = &cluster.nodes[leader];
    let live = probe("live", node);
    let said = String::from_utf8_lossy(&live.stdout).into_owned();
    assert!(live.status.success() && said.contains("our certificate is revoked"), "{said}");
    println!("{}", said.trim());
    let ready = probe("ready", node);
    assert_eq!(ready.status.code(), Some(1), "{}", String::from_utf8_lossy(&ready.stderr));
    until("clients obey the list, too", PATIENCE, || {
        cluster.status(leader).is_none().then_some(())
    });

    // A bad list, an older one, and none at all: each is said, and the one in force stays.
    let (other, mut ended) = (others[0], cluster.nodes[others[0]].said().len());
    for (lists, words) in [
        (Some("no list".to_owned()), "ca.crl holds no revocation list"),
        (Some(first), "holds an older revocation list of O=balsa, CN=Balsa CA"),
        (None, "no longer holds a revocation list of O=balsa, CN=Balsa CA"),
    ] {
        let mount = &mut mounts[other].2;
        mount.lists = lists;
        mount.publish(&ca, None);
        println!("{}", cluster.nodes[other].wait_until_it_says(ended, words));
        assert!(probe("ready", &cluster.nodes[other]).status.success(), "{words}: it goes on");
        ended = cluster.nodes[other].said().len();
        let papers = Papers::read(&cluster.certificates.join(&name));
        let mut caller = Caller::connect(&cluster.nodes[other].address, Some(&papers));
        let ending = caller.next(PATIENCE);
        assert_eq!(ending, Ending::Alert(AlertDescription::CertificateRevoked), "{words}");
    }
    load.wait_for(BETWEEN);

    let issued = issue(&authority, Role::Node, &name);
    mounts[leader].2.publish(&ca, Some(&issued));
    cluster.nodes[leader].wait_until_it_says(since[leader], "own=true");
    cluster.wait_for_leader();
    until("it is ready again", PATIENCE, || {
        probe("ready", &cluster.nodes[leader]).status.success().then_some(())
    });
    load.wait_for(BETWEEN);
    assert_eq!(cluster.pids(), processes, "no restart");
    cluster.assert_alive();
    let account = load.finish(&cluster);
    println!("proved: the leader's certificate revoked and replaced while running: {account}");
}

#[test]
fn a_node_restarted_without_its_list_revokes_nobody_and_with_it_still_does() {
    let mut cluster = Cluster::start(1);
    let gone = issue_the_gone(&cluster);
    let mut register = Register::of(&ca_dir(&cluster.certificates));
    let list = revoke(&mut register, &gone[1..2]);
    let file = cluster.certificates.join("raft-0/ca.crl");
    let papers = Papers::of(&gone[1]);
    let ending = |cluster: &Cluster| {
        let node = &cluster.nodes[0];
        Caller::connect(&node.address, Some(&papers)).next(Duration::from_secs(2))
    };
    let restart = |cluster: &mut Cluster| {
        cluster.nodes[0].terminate();
        cluster.start_all();
        cluster.wait_for_leader();
    };
    let revoked = Ending::Alert(AlertDescription::CertificateRevoked);
    fs::write(&file, list).expect("written");
    restart(&mut cluster);
    assert_eq!(ending(&cluster), revoked, "from the first connection on");
    let since = cluster.nodes[0].said().len();
    fs::remove_file(&file).expect("removed");
    cluster.nodes[0].wait_until_it_says(since, "no longer holds a revocation list");
    assert_eq!(ending(&cluster), revoked, "as long as the process lives");
    restart(&mut cluster);
    assert_eq!(ending(&cluster), Ending::Silent, "and no longer");
}
