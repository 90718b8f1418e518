//! Mutual TLS as a live node speaks it (mission C5, C7; design section 6).
//!
//! Real `srvraft` processes on loopback. `openssl` looks at them from outside; forged certificates
//! call them and stand in their peers' seats; rude peers hold their connections. In TLS 1.3 the one
//! who connects reports success before the server has judged its certificate, so every test here
//! holds the connection open and reads what comes: an alert, or a refusal of the hello.

#[path = "tls_live/callers.rs"]
mod callers;
#[path = "tls_live/forge.rs"]
mod forge;
#[path = "cluster/harness.rs"]
mod harness;
#[path = "tls_live/openssl.rs"]
mod openssl;
#[path = "tls_live/raw.rs"]
mod raw;
#[path = "tls_live/register.rs"]
mod register;
#[path = "tls_live/reload.rs"]
mod reload;
#[path = "tls_live/revocation.rs"]
mod revocation;
#[path = "tls_live/rude.rs"]
mod rude;
#[path = "tls_live/servers.rs"]
mod servers;
#[path = "tls_live/startup.rs"]
mod startup;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use balsa::client::Client;
use harness::{Cluster, PATIENCE, Process, bytes, until};

/// Writes and reads through a client of its own: the node still serves good ones.
fn assert_serves(cluster: &Cluster, when: &str) {
    let client = cluster.client(Duration::from_secs(15));
    assert_serves_client(cluster, &client, when);
}

fn assert_serves_client(cluster: &Cluster, client: &Client, when: &str) {
    cluster.wait(async {
        let (key, value) = (bytes(format!("key {when}")), bytes(format!("value {when}")));
        let put = client.put(key.clone(), value.clone()).await;
        put.unwrap_or_else(|error| panic!("a good client cannot write {when}: {error}"));
        let got = client.get(key, false).await;
        let got = got.unwrap_or_else(|error| panic!("a good client cannot read {when}: {error}"));
        assert_eq!(got.found.map(|found| found.value), Some(value), "{when}");
    });
}

/// The line in a node's log about the connection from this very address.
fn refusal_of(log: &Path, from: SocketAddr) -> String {
    let mark = format!("refused {from}:");
    until(&format!("a line that says {mark}"), Duration::from_secs(10), || {
        let said = fs::read_to_string(log).expect("the node's log");
        said.lines().find(|line| line.contains(&mark)).map(str::to_owned)
    })
}

/// Waits for a line of the log that holds all of these.
fn line_with(node: &Process, parts: &[&str]) -> String {
    until(&format!("a line in {}'s log with {parts:?}", node.name), PATIENCE, || {
        let said = node.said();
        said.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
    })
}

/// Nothing of any key below this directory stands in the log.
fn assert_no_keys_in(log: &str, certificates: &Path) {
    assert!(!log.contains("PRIVATE") && !log.contains("BEGIN "), "PEM in the log:\n{log}");
    for entry in fs::read_dir(certificates).expect("the certificates") {
        let directory = entry.expect("an entry").path();
        for key in ["tls.key", "ca.key"] {
            let Ok(pem) = fs::read_to_string(directory.join(key)) else { continue };
            for line in pem.lines().filter(|line| !line.starts_with('-') && line.len() > 16) {
                assert!(!log.contains(line), "a key's line is in the log");
            }
        }
    }
}
