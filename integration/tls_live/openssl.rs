//! What `openssl` finds at a live node, and clusters that run with certificates it made alone (C7).

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use balsa::client::{Client, Options};

use super::forge::Papers;
use super::harness::{Cluster, PATIENCE, free_ports, pause, tls, until};
use super::{assert_serves_client, line_with, refusal_of};

fn openssl(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl must be installed");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("openssl ends")
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// A process of openssl that is ended when dropped, and the file it writes into.
struct Talking {
    child: Child,
    output: tempfile::NamedTempFile,
}

impl Talking {
    fn start(command: &mut Command) -> Talking {
        let output = tempfile::NamedTempFile::new().expect("a file");
        let writer = || output.reopen().expect("the file again");
        let appending = || {
            let path = output.path();
            fs::OpenOptions::new().append(true).open(path).expect("the file again")
        };
        drop(writer());
        command.stdin(Stdio::piped()).stdout(appending()).stderr(appending());
        let child = command.spawn().expect("openssl must be installed");
        Talking { child, output }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.output.path()).expect("its file")).into_owned()
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("one's own child").is_some()
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `openssl s_client` with this directory's certificate, if any, until it ends by itself, or has
/// verified the server and been held for a second without an alert. Also whether it was held.
fn s_client(address: &str, papers: Option<&Path>, ca: &Path, more: &[&str]) -> (String, bool) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", address, "-showcerts"]);
    command.args(["-no-CApath", "-no-CAstore", "-verify_return_error", "-verify_ip", "127.0.0.1"]);
    command.arg("-CAfile").arg(ca);
    if let Some(papers) = papers {
        command.arg("-cert").arg(papers.join("tls.crt")).arg("-key").arg(papers.join("tls.key"));
    }
    let mut talking = Talking::start(command.args(more));
    let mut verified: Option<Instant> = None;
    let held = until("openssl has talked to the node", PATIENCE, || {
        if talking.has_ended() {
            return Some(false);
        }
        if verified.is_none() && talking.said().contains("Verify return code") {
            verified = Some(Instant::now());
        }
        verified.filter(|since| since.elapsed() > Duration::from_secs(1)).map(|_| true)
    });
    (talking.said(), held)
}

/// Everything openssl can say of this node's TLS, with the certificate of `papers`.
fn examine(cluster: &Cluster, seat: usize, caller: &str) {
    let node = &cluster.nodes[seat];
    let own = cluster.certificates.join(&node.name);
    let ca = own.join("ca.crt");
    let papers = cluster.certificates.join(caller);
    let (said, held) = s_client(&node.address, Some(&papers), &ca, &["-tls1_3"]);
    assert!(held, "{caller} was not kept:\n{said}");
    for part in [
        "Verification: OK",
        "Verify return code: 0 (ok)",
        "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384",
        "Server Temp Key: X25519, 253 bits",
        "Acceptable client certificate CA names",
        "Early data was not sent",
    ] {
        assert!(said.contains(part), "{caller}: {part:?} is missing in\n{said}");
    }
    assert!(!said.contains("New Session Ticket"), "tickets are off:\n{said}");

    let begin = said.find("-----BEGIN CERTIFICATE").expect("the node's certificate");
    let end = said.find("-----END CERTIFICATE-----").expect("its end") + 25;
    let presented = format!("{}\n", &said[begin..end]);
    let on_disk = fs::read_to_string(own.join("tls.crt")).expect("its certificate");
    let der = |pem: &str| openssl(&["x509", "-outform", "DER"], pem).stdout;
    assert!(!der(&presented).is_empty() && der(&presented) == der(&on_disk), "another certificate");
    let ca = ca.to_str().expect("a plain path");
    for purpose in ["sslserver", "sslclient"] {
        let strict = ["verify", "-x509_strict", "-no-CApath", "-CAfile", ca, "-purpose", purpose];
        let judged = openssl(&strict, &presented);
        assert!(judged.status.success(), "{purpose}: {}", text(&judged));
    }
    let shown = text(&openssl(&["x509", "-noout", "-text"], &presented));
    for part in [
        format!("URI:balsa://balsa/node/{}", node.name),
        "DNS:localhost".to_owned(),
        "IP Address:127.0.0.1".to_owned(),
        "TLS Web Server Authentication, TLS Web Client Authentication".to_owned(),
        "CA:FALSE".to_owned(),
    ] {
        assert!(shown.contains(&part), "{part} is missing in\n{shown}");
    }
    println!("openssl finds {} at {} as {caller}, over TLS 1.3", node.name, node.address);
}

/// Founds, elects, and answers a client, with whatever certificates lie there.
fn found_and_serve(cluster: &mut Cluster, maker: &str) {
    cluster.start_all();
    let options = |timeout| Options { endpoints: cluster.addresses(), timeout, redirect: true };
    for name in ["client", "admin"] {
        let client = Client::new(tls(&cluster.certificates, name), options(PATIENCE));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let ready = cluster.wait(client.ready(deadline));
        ready.unwrap_or_else(|error| panic!("{maker}: no cluster for {name}: {error}"));
        assert_serves_client(cluster, &client, &format!("{maker} {name}"));
    }
    let admin = Client::new(tls(&cluster.certificates, "admin"), options(PATIENCE));
    let statuses = cluster.wait(admin.statuses());
    let up: Vec<_> = statuses.iter().filter_map(|(_, status)| status.as_ref().ok()).collect();
    assert_eq!(up.len(), 3, "{maker}: {statuses:?}");
    assert!(up.iter().all(|status| status.cluster_id == up[0].cluster_id), "M6: {up:?}");
    assert!(up[0].cluster_id.is_some(), "{up:?}");
    let led = until("three that know one leader", PATIENCE, || {
        let statuses = cluster.wait(admin.statuses());
        let up: Vec<_> = statuses.iter().filter_map(|(_, status)| status.as_ref().ok()).collect();
        let leader = up.first()?.leader.clone()?;
        let all = up.len() == 3 && up.iter().all(|one| one.leader.as_ref() == Some(&leader));
        all.then_some(leader)
    });
    println!("{maker}: founded, led by {led}, answers a client and an admin");
}

#[test]
fn certificates_of_openssl_alone_run_a_cluster() {
    let mut cluster = Cluster::prepare(3);
    fs::remove_dir_all(&cluster.certificates).expect("the certificates made by rcgen go");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gen-certs-openssl.sh");
    let made = Command::new(script).arg("--out").arg(&cluster.certificates).output();
    let made = made.expect("the script runs");
    assert!(made.status.success(), "{}", text(&made));
    found_and_serve(&mut cluster, "openssl");
    (0..3).for_each(|seat| examine(&cluster, seat, "client"));
    cluster.assert_no_errors();
}

#[test]
fn certificates_of_rcgen_run_a_cluster_that_openssl_approves_of() {
    let mut cluster = Cluster::prepare(3);
    found_and_serve(&mut cluster, "rcgen");
    (0..3).for_each(|seat| examine(&cluster, seat, "admin"));
    examine(&cluster, 0, "raft-1");

    let node = &cluster.nodes[0];
    let ca = cluster.certificates.join("raft-0/ca.crt");
    let client = cluster.certificates.join("client");
    let (said, held) = s_client(&node.address, None, &ca, &["-tls1_3"]);
    assert!(!held && said.contains("certificate required"), "no certificate:\n{said}");
    line_with(node, &["it presented no certificate", "reason=\"no_certificate\""]);
    // An old client library may forbid it to itself before it says a word, unless told otherwise.
    let old = ["-tls1_2", "-cipher", "ALL:@SECLEVEL=0"];
    let (said, held) = s_client(&node.address, Some(&client), &ca, &old);
    assert!(!held && said.contains("alert protocol version"), "TLS 1.2:\n{said}");
    line_with(node, &["it offers no TLS 1.3; older versions are not spoken here", "\"old_tls\""]);
    let other = tempfile::tempdir().expect("a directory");
    super::harness::issue_all(other.path(), "balsa", &[]);
    let stranger = other.path().join("client");
    let (said, held) = s_client(&node.address, Some(&stranger), &ca, &["-tls1_3"]);
    assert!(!held && said.contains("alert unknown ca"), "wrong CA:\n{said}");
    let own_ca = stranger.join("ca.crt");
    let (said, held) = s_client(&node.address, Some(&client), &own_ca, &["-tls1_3"]);
    assert!(!held && said.contains("verify error"), "openssl trusts another CA only:\n{said}");
    line_with(node, &["it refused us during the TLS handshake", "\"refused_by_peer\""]);
    let mut hybrid = super::raw::Caller::connect(&node.address, Some(&Papers::read(&client)));
    assert_eq!(hybrid.group(), "X25519MLKEM768", "who can, agrees on a key post-quantum");
    hybrid.say(b"no hello at all").expect("the connection stands");
    hybrid.next(PATIENCE);
    let line = refusal_of(&node.log, hybrid.from());
    assert!(line.contains("no hello") && line.contains("\"bad_hello\""), "{line}");
    println!("openssl is told: certificate required, protocol version, unknown ca");
}

#[test]
fn openssl_as_a_server_approves_of_the_certificate_that_a_node_calls_with() {
    let mut cluster = Cluster::prepare(2);
    let port = free_ports(1)[0];
    let own = cluster.certificates.join("raft-1");
    let mut command = Command::new("openssl");
    command.args(["s_server", "-tls1_3", "-accept", &port.to_string(), "-Verify", "1"]);
    command.args(["-verify_return_error", "-no-CApath", "-purpose", "sslclient"]);
    for (option, file) in [("-CAfile", "ca.crt"), ("-cert", "tls.crt"), ("-key", "tls.key")] {
        command.arg(option).arg(own.join(file));
    }
    let server = Talking::start(&mut command);
    until("openssl's server listens", PATIENCE, || server.said().contains("ACCEPT").then_some(()));
    let seeds = format!("raft-0={},raft-1=127.0.0.1:{port}", cluster.nodes[0].address);
    cluster.nodes[0].seeds = seeds;
    cluster.nodes[0].start();
    let said = until("the node's certificate is shown", PATIENCE, || {
        let said = server.said();
        said.contains("-----END CERTIFICATE-----").then_some(said)
    });
    pause(Duration::from_millis(300));
    assert!(said.contains("Client certificate"), "{said}");
    let begin = said.find("-----BEGIN CERTIFICATE").expect("it was presented");
    let end = said.find("-----END CERTIFICATE-----").expect("its end") + 25;
    let shown = text(&openssl(&["x509", "-noout", "-text"], &said[begin..end]));
    assert!(shown.contains("URI:balsa://balsa/node/raft-0"), "{shown}");
    let said = server.said();
    assert!(said.contains("verify return:1") && !said.contains("verify error"), "{said}");
    println!("openssl as the server of raft-1 approves of raft-0's certificate");
}
