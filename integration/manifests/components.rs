//! The components, in the overlay `managed`: certificates by cert-manager, and monitoring.

use serde_json::{Value, json};

use crate::fields;
use crate::issued::{self, Made};
use crate::monitoring::{self, CERTIFICATE_REASONS, Metric};
use crate::objects::{Object, folder, managed, read, rendered};
use crate::put;
use crate::rules::Findings;

fn holds(rule: impl Fn(&[Object]) -> Findings) {
    let findings = rule(&managed());
    assert!(findings.is_empty(), "\n  {}\n", findings.join("\n  "));
}

/// The object with this value at that place breaks the rule.
fn breaks(rule: impl Fn(&[Object]) -> Findings, object: &str, pointer: &str, value: Value) {
    let (kind, name) = object.split_once(' ').expect("KIND NAME");
    let mut objects = managed();
    assert_eq!(put(&mut objects, kind, name, pointer, &value), 1, "there is one {object}");
    let findings = rule(&objects);
    assert!(
        findings.iter().any(|found| found.contains(&format!("{kind} {name}"))),
        "the rule does not see that {object} has {value} at {pointer}: {findings:?}"
    );
}

const SET: &str = "StatefulSet raft";
const SEAT: &str = "Certificate raft-4";
const MONITOR: &str = "PodMonitor raft";

#[test]
fn components_add_to_production_and_change_nothing_but_where_keys_come_from() {
    let ours = ["Certificate", "Issuer", "PodMonitor", "PrometheusRule"];
    let plain = |objects: Vec<Object>| -> Vec<Value> {
        let mut values: Vec<Value> = objects
            .into_iter()
            .filter(|object| !ours.contains(&object.kind()))
            .map(|mut object| {
                if let Some(pod) = object.pod() {
                    let volumes = object.value.pointer_mut(&format!("{pod}/volumes")).unwrap();
                    for volume in volumes.as_array_mut().unwrap() {
                        if volume["name"] == "certs" {
                            *volume = json!({ "name": "certs" });
                        }
                    }
                }
                object.value
            })
            .collect();
        values.sort_by_key(|value| format!("{} {}", value["kind"], value["metadata"]["name"]));
        values
    };
    let mut production = rendered();
    production.retain(|object| object.file.starts_with("production-"));
    assert_eq!(plain(managed()), plain(production));
}

#[test]
fn fields_are_those_that_the_interfaces_know() {
    holds(fields::known);
    let rule = fields::known;
    breaks(rule, SEAT, "/apiVersion", json!("cert-manager.io/v1alpha2"));
    breaks(rule, SEAT, "/spec/dnsnames", json!(["raft-4"]));
    breaks(rule, SEAT, "/spec/secretName", Value::Null);
    breaks(rule, SEAT, "/spec/duration", json!("90d"));
    breaks(rule, SEAT, "/spec/usages/0", json!("digitalSignature"));
    breaks(rule, SEAT, "/spec/privateKey/algorithm", json!("EC"));
    breaks(rule, SEAT, "/spec/privateKey/size", json!("256"));
    breaks(rule, "Issuer balsa", "/spec/ca", json!({ "secret": "balsa-ca" }));
    breaks(rule, MONITOR, "/spec/podMetricsEndpoints/0/scheme", json!("tls"));
    breaks(rule, MONITOR, "/spec/podMetricsEndpoints/0/interval", json!("30"));
    breaks(rule, MONITOR, "/spec/podMetricsEndpoints/0/tlsConfig/servername", json!("x"));
    breaks(rule, "PrometheusRule raft", "/spec/groups/0/rules/0/expr", Value::Null);
    breaks(rule, "PrometheusRule raft", "/spec/groups/0/rules/0/annotation", json!({ "x": "y" }));
}

#[test]
fn cert_manager_is_asked_for_what_balsa_itself_would_issue() {
    let made = Made::new();
    let rule = |objects: &[Object]| issued::names(objects, &made);
    holds(rule);
    breaks(rule, SEAT, "/metadata/name", json!("raft-7"));
    breaks(rule, SEAT, "/spec/secretName", json!("raft-certs"));
    breaks(rule, SEAT, "/spec/uris/0", json!("balsa://balsa/node/raft-3"));
    breaks(rule, SEAT, "/spec/uris", json!([]));
    breaks(rule, SEAT, "/spec/dnsNames/4", json!("raft-4.raft-service.other.svc.cluster.local"));
    breaks(rule, SEAT, "/spec/ipAddresses", Value::Null);
    breaks(rule, SEAT, "/spec/usages", json!(["digital signature", "server auth"]));
    breaks(rule, SEAT, "/spec/commonName", json!("raft"));
    breaks(rule, "Certificate client", "/spec/uris/0", json!("balsa://balsa/admin/client"));
    breaks(rule, "Certificate client", "/spec/usages/1", json!("server auth"));
    let mut fewer = managed();
    fewer.retain(|object| object.name() != "raft-6");
    assert_eq!(rule(&fewer), ["there is no Certificate raft-6"]);
}

#[test]
fn certificates_are_renewed_with_new_keys_before_anybody_is_warned() {
    holds(issued::issuing);
    let rule = issued::issuing;
    breaks(rule, "Issuer balsa", "/spec/ca/secretName", json!("raft-certs"));
    breaks(rule, "Issuer balsa", "/spec", json!({ "selfSigned": {} }));
    breaks(rule, SEAT, "/spec/issuerRef/name", json!("other"));
    breaks(rule, SEAT, "/spec/privateKey/rotationPolicy", json!("Never"));
    breaks(rule, SEAT, "/spec/privateKey/algorithm", json!("RSA"));
    breaks(rule, SEAT, "/spec/renewBefore", json!("720h"));
    breaks(rule, SEAT, "/spec/duration", json!("1200h"));
    breaks(rule, SEAT, "/spec/duration", json!("87600h"));
}

#[test]
fn pods_mount_what_is_issued_and_trust_what_they_are_told() {
    holds(issued::volumes);
    let rule = issued::volumes;
    let projected = "/spec/template/spec/volumes/0/projected";
    let at = |rest: &str| format!("{projected}{rest}");
    breaks(rule, SET, &at("/defaultMode"), json!(0o444));
    breaks(rule, SET, &at("/sources/0/secret/name"), json!("raft-certs"));
    breaks(rule, SET, &at("/sources/1/secret/optional"), json!(true));
    breaks(rule, SET, &at("/sources/4/secret/optional"), Value::Null);
    breaks(rule, SET, &at("/sources/5/secret/items/0/path"), json!("tls.crt"));
    breaks(rule, SET, &at("/sources/5/secret/items/1/path"), json!("raft-3.key"));
    breaks(rule, SET, &at("/sources/7/secret/name"), json!("raft-7-certs"));
    let secret = json!({ "secretName": "raft-certs", "defaultMode": 0o440 });
    breaks(rule, SET, "/spec/template/spec/volumes/0/secret", secret.clone());
    breaks(
        rule,
        SET,
        "/spec/template/spec/volumes/0",
        json!({ "name": "certs", "secret": secret }),
    );
    let client = "Pod clientraft";
    breaks(rule, client, "/spec/volumes/0/projected/sources/1/secret/name", json!("admin-certs"));
    breaks(rule, client, "/spec/volumes/0/projected/sources/1/secret/items", Value::Null);
    let mut fewer = managed();
    fewer.retain(|object| object.name() != "raft-2");
    assert!(
        rule(&fewer).iter().any(|found| found.contains("nobody makes the Secret raft-2-certs"))
    );
}

#[test]
fn nodes_and_clients_read_what_is_mounted() {
    let made = Made::new();
    let rule = |objects: &[Object]| issued::readable(objects, &made);
    holds(rule);
    let at = |rest: &str| format!("/spec/template/spec/volumes/0/projected{rest}");
    breaks(rule, SET, &at("/defaultMode"), json!(0o444));
    breaks(rule, SET, &at("/sources/5/secret/name"), json!("raft-3-certs"));
    breaks(rule, SET, &at("/sources/5/secret/items/1/path"), json!("raft-4.pem"));
    breaks(rule, "Pod cliente", "/spec/volumes/0/projected/sources", json!([]));
}

#[test]
fn the_scraper_reaches_every_replica_and_knows_it() {
    holds(monitoring::scraping);
    let rule = monitoring::scraping;
    let at = |rest: &str| format!("/spec/podMetricsEndpoints/0/{rest}");
    breaks(rule, MONITOR, "/spec/selector/matchLabels/app", json!("other"));
    breaks(rule, MONITOR, "/spec/jobLabel", Value::Null);
    breaks(rule, MONITOR, &at("scheme"), json!("http"));
    breaks(rule, MONITOR, &at("path"), json!("/"));
    breaks(rule, MONITOR, &at("port"), json!("raft"));
    breaks(rule, MONITOR, &at("tlsConfig/serverName"), json!("raft-0"));
    breaks(rule, MONITOR, &at("tlsConfig/serverName"), json!("raft-service.default"));
    breaks(rule, MONITOR, &at("tlsConfig/insecureSkipVerify"), json!(true));
    breaks(rule, MONITOR, &at("tlsConfig/ca/secret/name"), json!("monitor-certs"));
    breaks(rule, MONITOR, &at("tlsConfig/cert/secret/name"), json!("admin-certs"));
    breaks(rule, MONITOR, &at("tlsConfig/keySecret/key"), json!("tls.crt"));
    let mut without = managed();
    without.retain(|object| object.kind() != "PodMonitor");
    assert_eq!(rule(&without), ["nobody scrapes"]);
    // The component alone trusts what lies beside its certificate.
    let path = folder().with_file_name("components/monitoring/podmonitor-raft.yaml");
    let alone = read("podmonitor-raft.yaml", &std::fs::read_to_string(path).unwrap());
    assert_eq!(alone[0].text(&at("tlsConfig/ca/secret/name")), "monitor-certs");
}

const RULES: &str = "PrometheusRule raft";
const FIRST: &str = "/spec/groups/0/rules/1";

#[test]
fn alerts_say_what_is_wrong_and_where_it_is_told_what_to_do() {
    holds(monitoring::telling);
    let rule = monitoring::telling;
    let at = |rest: &str| format!("{FIRST}{rest}");
    breaks(rule, RULES, &at("/alert"), json!("NoLeader"));
    breaks(rule, RULES, &at("/labels/severity"), json!("page"));
    breaks(rule, RULES, &at("/annotations/summary"), Value::Null);
    breaks(rule, RULES, &at("/annotations/description"), json!("{{ $labels.pod }} is alone."));
    let link = |to: &str| json!(format!("https://github.com/balsa-kv/balsa/blob/main/{to}"));
    breaks(rule, RULES, &at("/annotations/runbook_url"), link("docs/kubernetes.md#nowhere"));
    breaks(rule, RULES, &at("/annotations/runbook_url"), link("docs/kubernetes.md#alerts"));
    breaks(rule, RULES, &at("/annotations/runbook_url"), link("docs/nothing.md#balsanoleader"));
    let elsewhere = json!("https://example.com/docs/kubernetes.md#balsanoleader");
    breaks(rule, RULES, &at("/annotations/runbook_url"), elsewhere);
}

#[test]
fn alerts_speak_of_metrics_that_there_are() {
    let known = known_metrics();
    let rule = |objects: &[Object]| monitoring::expressions(objects, &known);
    holds(rule);
    let at = |expression: &str| breaks(rule, RULES, &format!("{FIRST}/expr"), json!(expression));
    at("max by (namespace) (balsa_has_leaders) == 0");
    at("absent(balsa_has_leader{app=\"raft\"})");
    at("balsa_members{role=\"voters\"} > 0");
    at("up{job=\"balsa\"} == 0");
    at("increase(balsa_refused_total{reason=~\"expired|lost\"}[5m]) > 0");
    at("rate(balsa_certificate_reloads_total{outcome=\"bad\"}[5m]) > 0");
    at("vector(1)");
    // All that a certificate can be refused for, and nothing else.
    let objects = managed();
    let refused = monitoring::alerts(&objects)
        .into_iter()
        .find(|(_, rule)| rule["alert"] == "BalsaCertificateRefused")
        .and_then(|(_, rule)| rule["expr"].as_str())
        .expect("the alert");
    let words: Vec<_> = CERTIFICATE_REASONS.iter().map(|reason| reason.word()).collect();
    assert!(refused.contains(&format!("reason=~\"{}\"", words.join("|"))), "{refused}");
}

#[test]
fn the_docs_scrape_as_the_component_does_and_take_its_rules() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let docs = text("docs/kubernetes.md");
    let block = docs.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = read("docs/kubernetes.md", block.expect("an example"));
    let job = &example[0].value["scrape_configs"][0];
    let monitor = managed().into_iter().find(|object| object.kind() == "PodMonitor").unwrap();
    let endpoint = monitor.at("/spec/podMetricsEndpoints/0");
    assert_eq!(job["job_name"], "raft");
    assert_eq!(job["scheme"], endpoint["scheme"]);
    let tls = &job["tls_config"];
    assert_eq!(tls["server_name"], endpoint["tlsConfig"]["serverName"]);
    let file = |place: &str| tls[place].as_str().and_then(|path| path.strip_prefix("/etc/balsa/"));
    assert_eq!(
        ["ca_file", "cert_file", "key_file"].map(file),
        [Some("ca.crt"), Some("tls.crt"), Some("tls.key")]
    );
    let rules = job["relabel_configs"].as_array().unwrap();
    assert_eq!(rules[0]["action"], "keep");
    let label = monitor.at("/spec/selector/matchLabels/app").as_str().unwrap();
    assert_eq!(rules[0]["regex"], format!("{label};{}", endpoint["port"].as_str().unwrap()));
    let made: Vec<_> = rules.iter().filter_map(|rule| rule["target_label"].as_str()).collect();
    assert_eq!(made, ["pod", "namespace"], "the labels that alerts rely upon");

    let command = docs.lines().find_map(|line| line.trim().strip_suffix(" > balsa-rules.yaml"));
    let command = command.expect("how to get the rules");
    assert!(text("scripts/check-manifests.sh").contains(&format!("{command}; }}")), "{command}");
}

#[test]
fn every_alert_has_a_story_in_which_it_fires() {
    let stories = std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/manifests/alerts.yaml"),
    )
    .unwrap();
    for (_, rule) in monitoring::alerts(&managed()) {
        let name = rule["alert"].as_str().unwrap();
        assert!(stories.contains(&format!("alertname=\"{name}\"")), "{name} never fires");
    }
}

/// The names that are scraped, as their page tells them (which a test compares with the code).
fn known_metrics() -> Vec<Metric> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("the page of metrics");
    let quoted = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
    };
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let metrics: Vec<_> = rows
        .map(|line| {
            let cells: Vec<_> = line.split('|').collect();
            let name = quoted(cells[1]).remove(0);
            Metric { name, labels: quoted(cells[3]) }
        })
        .collect();
    assert!(
        metrics.iter().any(|metric| metric.name == "balsa_members" && metric.labels == ["role"])
    );
    metrics
}
