//! Metrics of real nodes: what is scraped over HTTPS, who may scrape, and whether the values move as the
//! cluster does.

mod harness;
#[path = "metrics_live/scraper.rs"]
mod scraper;
#[path = "metrics_live/strict.rs"]
mod strict;
#[path = "metrics_live/trust.rs"]
mod trust;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use balsa::certs::Authority;
use balsa::certs::layout::ca_dir;
use balsa::identity::Role;
use balsa::metrics::Metric;
use harness::{Cluster, PATIENCE, bytes, free_ports, issue, until};
use scraper::Scraper;
use strict::Samples;

const OPERATION: Duration = Duration::from_secs(20);
const DAY: f64 = 24.0 * 3600.0;

/// A cluster whose nodes serve metrics, not started yet, and whoever scrapes it.
struct Scraped {
    cluster: Cluster,
    ports: Vec<String>,
    scraper: Scraper,
}

impl Scraped {
    fn prepare(count: usize) -> Scraped {
        let mut cluster = Cluster::prepare(count);
        let authority = Authority::load(&ca_dir(&cluster.certificates)).expect("the CA");
        let own = cluster.certificates.join("prometheus");
        issue(&authority, Role::Monitor, "prometheus", &own);
        let at = |port: u16| format!("127.0.0.1:{port}");
        let ports: Vec<String> = free_ports(count).into_iter().map(at).collect();
        for (node, port) in cluster.nodes.iter_mut().zip(&ports) {
            node.more = vec!["--metrics".into(), port.into()];
        }
        Scraped { scraper: Scraper::of(&own), ports, cluster }
    }

    fn start(count: usize) -> Scraped {
        let mut scraped = Scraped::prepare(count);
        scraped.cluster.start_all();
        scraped.cluster.wait_for_leader();
        scraped
    }

    /// What a node tells now; fails if it does not.
    fn of(&self, node: usize) -> Samples {
        let page = self.scraper.get(&self.ports[node]).expect("the node serves its metrics");
        assert!(page.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", page.head);
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        assert!(page.head.contains(kind), "{}", page.head);
        Samples::parse(&page.body)
    }

    /// Waits until a node tells what is expected.
    fn until(&self, node: usize, what: &str, mut holds: impl FnMut(&Samples) -> bool) -> Samples {
        until(&format!("raft-{node}: {what}"), PATIENCE, || Some(self.of(node)).filter(&mut holds))
    }

    fn cltraft(&self, who: &str, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cltraft"));
        command.env_clear().env("BALSA_ENDPOINTS", self.cluster.addresses().join(","));
        command.env("BALSA_CERTS", self.cluster.certificates.join(who)).args(arguments);
        let run = command.output().expect("cltraft starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (run.status.code().expect("an exit status"), text(run.stdout), text(run.stderr))
    }
}

fn put_all(cluster: &Cluster, count: usize) {
    let client = cluster.client(OPERATION);
    cluster.wait(async {
        for number in 0..count {
            let (key, value) = (bytes(format!("key-{number:03}")), bytes("12345"));
            client.put(key, value).await.expect("acknowledged");
        }
    });
}

#[test]
fn a_node_that_waits_for_its_founding_tells_so() {
    let mut scraped = Scraped::prepare(3);
    scraped.cluster.nodes[0].start();
    let first =
        until("the page is there", PATIENCE, || scraped.scraper.get(&scraped.ports[0]).ok());
    let first = Samples::parse(&first.body);
    for name in ["balsa_ready", "balsa_has_leader", "balsa_is_leader", "balsa_term"] {
        assert_eq!(first.one(name), 0.0, "{name}");
    }
    assert!(first.find("balsa_commit_index", &[]).is_none(), "there is no log to speak of");
    scraped.cluster.start_all();
    scraped.cluster.wait_for_leader();
    for node in 0..3 {
        scraped.until(node, "ready", |now| now.one("balsa_ready") == 1.0);
    }
    scraped.cluster.assert_no_errors();
}

#[test]
fn the_values_move_as_the_cluster_does() {
    let mut scraped = Scraped::start(3);
    let leader = scraped.cluster.wait_for_leader();
    let before: Vec<Samples> = (0..3).map(|node| scraped.of(node)).collect();
    put_all(&scraped.cluster, 50);

    for (node, before) in before.iter().enumerate() {
        let now = scraped.until(node, "50 keys, and nobody waits", |now| {
            now.one("balsa_db_keys") == 50.0 && now.one("balsa_proposals_pending") == 0.0
        });
        let more = |name: &str| now.one(name) - before.one(name);
        assert!(more("balsa_proposals_committed_total") >= 50.0, "raft-{node}");
        assert!(more("balsa_proposals_applied_total") >= 50.0, "raft-{node}");
        assert!(more("balsa_applied_index") >= 50.0, "raft-{node}");
        assert!(more("balsa_wal_fsync_duration_seconds_count") >= 1.0, "raft-{node}");
        assert!(more("balsa_apply_duration_seconds_count") >= 1.0, "raft-{node}");
        assert_eq!(now.one("balsa_db_bytes"), 50.0 * (7.0 + 5.0), "raft-{node}");
        assert!(now.one("balsa_sessions") >= 1.0, "raft-{node}");
        assert_eq!(now.one("balsa_is_leader"), f64::from(u8::from(node == leader)));
        assert_eq!(now.one("balsa_has_leader"), 1.0);
        assert_eq!(now.of("balsa_members", &[("role", "voter")]), 3.0);
        assert_eq!(now.of("balsa_members", &[("role", "learner")]), 0.0);
        assert!(now.one("balsa_term") >= 1.0 && now.one("balsa_leader_changes_total") >= 1.0);
        // Its own bookkeeping agrees with what it says elsewhere.
        assert!(now.one("balsa_last_log_index") >= now.one("balsa_commit_index"));
        assert!(now.one("balsa_commit_index") >= now.one("balsa_applied_index"));
        assert_eq!(now.one("balsa_proposals_failed_total"), 0.0);
        // Heartbeats bring work for the disk at any moment.
        assert!(now.of("balsa_mailbox_depth", &[("actor", "storage")]) < 100.0);
        assert!(now.of("balsa_mailbox_delay_seconds", &[("actor", "node")]) < 1.0);
    }

    let now = scraped.until(leader, "nobody lags", |now| {
        let lags = now.all("balsa_peer_lag_entries");
        lags.len() == 2 && lags.iter().all(|lag| *lag == 0.0)
    });
    assert_eq!(now.all("balsa_peer_connected"), [1.0, 1.0]);
    let rtts = now.all("balsa_peer_rtt_seconds");
    assert!(rtts.len() == 2 && rtts.iter().all(|rtt| *rtt > 0.0 && *rtt < 5.0), "{rtts:?}");
    let writes = [("method", "Kv.Write"), ("code", "ok")];
    assert_eq!(now.of("balsa_requests_total", &writes), 50.0);
    let took = [("method", "Kv.Write")];
    assert_eq!(now.of("balsa_request_duration_seconds_count", &took), 50.0);
    let committed = now.one("balsa_commit_duration_seconds_count");
    assert!((50.0..=60.0).contains(&committed), "the writes and their sessions: {committed}");
    let (took, committed) = (
        now.of("balsa_request_duration_seconds_sum", &took),
        now.one("balsa_commit_duration_seconds_sum"),
    );
    assert!(took > 0.0 && committed > 0.0 && committed < 60.0, "{took} {committed}");
    let follower = (leader + 1) % 3;
    let other = scraped.of(follower);
    assert!(other.all("balsa_peer_lag_entries").is_empty(), "only a leader knows");
    assert!(other.all("balsa_peer_rtt_seconds").is_empty(), "only a leader measures");

    // A snapshot.
    assert_eq!(now.of("balsa_snapshots_total", &[("outcome", "taken")]), 0.0);
    assert!(now.find("balsa_snapshot_bytes", &[]).is_none());
    let address = scraped.cluster.nodes[leader].address.clone();
    let admin = scraped.cluster.admin();
    let taken = scraped.cluster.wait(admin.take_snapshot(&address)).expect("a snapshot");
    let now = scraped.until(leader, "a snapshot", |now| {
        now.of("balsa_snapshots_total", &[("outcome", "taken")]) == 1.0
    });
    assert_eq!(now.one("balsa_snapshot_bytes"), taken.bytes as f64);
    assert_eq!(now.one("balsa_snapshot_index"), taken.index.0 as f64);
    assert!(now.one("balsa_snapshot_duration_seconds") < 60.0);

    // Another leader, then a peer that is gone.
    let changes: Vec<f64> =
        (0..3).map(|node| scraped.of(node).one("balsa_leader_changes_total")).collect();
    let name = scraped.cluster.nodes[follower].name.clone();
    scraped.cluster.wait(admin.transfer(&name)).expect("handed over");
    for (node, changes) in changes.iter().enumerate() {
        let what = "another leader";
        scraped.until(node, what, |now| now.one("balsa_leader_changes_total") == changes + 1.0);
    }
    scraped.until(follower, "it leads", |now| now.one("balsa_is_leader") == 1.0);
    let name = scraped.cluster.nodes[leader].name.clone();
    scraped.cluster.nodes[leader].kill9();
    let peer = [("peer", name.as_str())];
    scraped.until(follower, "it is gone", |now| now.of("balsa_peer_connected", &peer) == 0.0);
    put_all(&scraped.cluster, 50);
    let lag = |now: &Samples| now.of("balsa_peer_lag_entries", &peer);
    scraped.until(follower, "it lags", |now| lag(now) >= 50.0);
    scraped.cluster.start_all();
    let back = |now: &Samples| now.of("balsa_peer_connected", &peer) == 1.0 && lag(now) == 0.0;
    scraped.until(follower, "it is back", back);
}

#[test]
fn every_name_of_the_manual_is_told_and_makes_sense() {
    let scraped = Scraped::start(3);
    put_all(&scraped.cluster, 3);
    let leader = scraped.cluster.wait_for_leader();
    let address = scraped.cluster.nodes[leader].address.clone();
    let admin = scraped.cluster.admin();
    scraped.cluster.wait(admin.take_snapshot(&address)).expect("a snapshot");
    // The saturation needs some time to be measured over, the round trips a heartbeat.
    let now = scraped.until(leader, "everything", |now| {
        Metric::ALL.iter().all(|metric| now.has_family(*metric))
    });
    let seconds = time::OffsetDateTime::now_utc().unix_timestamp() as f64;
    let own = now.of("balsa_cert_not_after_timestamp_seconds", &[("kind", "own")]) - seconds;
    assert!((own - 20.0 * DAY).abs() < DAY, "issued for 20 days: {}", own / DAY);
    let ca = now.of("balsa_cert_not_after_timestamp_seconds", &[("kind", "ca")]) - seconds;
    assert!((ca - 30.0 * DAY).abs() < DAY, "made for 30 days: {}", ca / DAY);
    let started = seconds - now.one("process_start_time_seconds");
    assert!((-1.0..600.0).contains(&started), "{started}");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(now.of("balsa_build_info", &version), 1.0);
    assert!(now.one("process_resident_memory_bytes") > 1e6);
    assert!(now.one("process_open_fds") > 10.0);
    assert!(now.one("process_max_fds") >= now.one("process_open_fds"));
    assert!(now.one("process_cpu_seconds_total") > 0.0);
    assert!(now.one("balsa_disk_free_bytes") > 1e6);
    // Its files are preallocated.
    assert!(now.one("balsa_wal_bytes") >= 1e6, "{}", now.one("balsa_wal_bytes"));
    let saturation = now.one("balsa_loop_saturation_ratio");
    assert!((0.0..=1.0).contains(&saturation), "{saturation}");
    assert_eq!(now.of("balsa_connections", &[("role", "monitor")]), 1.0, "this one");
    // Each peer dials this node twice.
    assert!(now.of("balsa_connections", &[("role", "node")]) >= 4.0);
    assert!(now.of("balsa_connections", &[("role", "admin")]) >= 1.0, "the test itself");
    scraped.cluster.assert_no_errors();
}

#[test]
fn cltraft_tells_the_same() {
    let scraped = Scraped::start(1);
    put_all(&scraped.cluster, 3);
    let (status, text, problems) = scraped.cltraft("prometheus", &["metrics", "raft-0"]);
    assert_eq!((status, problems.as_str()), (0, ""), "{text}");
    let told = Samples::parse(&text);
    assert_eq!(told.one("balsa_db_keys"), 3.0);
    let page = scraped.of(0);
    assert_eq!(told.families(), page.families(), "the port for calls and the page tell the same");
    let (status, lines, _) = scraped.cltraft("admin", &["-o", "json", "metrics", "0"]);
    assert_eq!(status, 0);
    let find = |name: &str| -> serde_json::Value {
        let objects = lines.lines().map(|line| serde_json::from_str(line).expect("an object"));
        let mut found = objects.filter(|it: &serde_json::Value| it["metric"] == name);
        found.next().unwrap_or_else(|| panic!("{name} is not in {lines}"))
    };
    let keys = find("balsa_db_keys");
    assert_eq!(keys["value"], 3, "{keys}");
    assert_eq!((&keys["name"], &keys["type"]), (&"raft-0".into(), &"gauge".into()), "{keys}");
    assert_eq!(find("balsa_connections")["labels"]["role"], "node");
    // A monitor reads the state as well, and nothing that anybody stored.
    let (status, state, _) = scraped.cltraft("prometheus", &["-o", "json", "status", "0"]);
    assert_eq!(status, 0, "{state}");
    for forbidden in [
        &["get", "key-000"][..],
        &["put", "key-000", "x"],
        &["range", "--prefix", "k"],
        &["replication", "0"],
        &["stop", "0"],
        &["snapshot", "take", "0"],
    ] {
        let (status, said, why) = scraped.cltraft("prometheus", forbidden);
        assert_eq!(status, 7, "{forbidden:?}: {said}{why}");
        assert!(why.contains("may not be called with a monitor certificate"), "{why}");
    }
    let (status, _, why) = scraped.cltraft("client", &["metrics", "0"]);
    assert_eq!(status, 7, "{why}");
    assert!(why.contains("Node.Metrics may not be called with a client certificate"), "{why}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let mut scraped = Scraped::prepare(1);
    let _taken = std::net::TcpListener::bind(&scraped.ports[0]).expect("the port is free");
    let (status, said) = scraped.cluster.nodes[0].refuse();
    assert_eq!(status, 71, "{said}");
    let port = &scraped.ports[0];
    assert!(said.contains(&format!("cannot listen on {port}")), "{said}");
    assert!(said.contains("choose another --metrics"), "{said}");
}

#[test]
fn nothing_listens_that_nobody_asked_for() {
    let mut scraped = Scraped::prepare(1);
    scraped.cluster.nodes[0].more.clear();
    scraped.cluster.start_all();
    scraped.cluster.wait_for_leader();
    assert!(TcpStream::connect(&scraped.ports[0]).is_err());
    let (status, text, _) = scraped.cltraft("admin", &["metrics", "0"]);
    assert_eq!(status, 0);
    assert_eq!(Samples::parse(&text).one("balsa_is_leader"), 1.0, "calls tell them all the same");
}

/// Sends bytes as they are and returns what comes back until the end.
fn raw(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    stream.write_all(bytes).expect("sent");
    let mut said = Vec::new();
    // A reset ends it as well.
    let _ = stream.read_to_end(&mut said);
    said
}
