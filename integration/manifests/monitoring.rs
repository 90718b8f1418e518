//! Rules of the component `monitoring`: the scraper reaches the nodes, and alerts speak of what there is.

use std::collections::BTreeSet;
use std::path::PathBuf;

use balsa::rpc::Reason;
use serde_json::{Value, json};

use crate::objects::Object;
use crate::rules::{Findings, each};

/// One name that is scraped, and its labels.
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
}

/// The scraper asks every pod of the replicas on the port where they answer, knows them by a name that
/// all of them have in every namespace, and shows the monitor's certificate.
pub(crate) fn scraping(objects: &[Object]) -> Findings {
    let set = objects.iter().find(|object| object.kind() == "StatefulSet");
    let names: Vec<BTreeSet<&str>> = objects
        .iter()
        .filter(|o| o.kind() == "Certificate" && o.name().starts_with("raft-"))
        .map(|o| o.list("/spec/dnsNames").iter().filter_map(Value::as_str).collect())
        .collect();
    let mut findings = each(objects, "PodMonitor", "raft", |about| {
        let labels = set.map(Object::pod_labels).cloned().unwrap_or_default();
        about.is("/spec/selector", &json!({ "matchLabels": labels }));
        about.must(
            labels[about.object.text("/spec/jobLabel")] == "raft",
            "the label job is not raft, which alerts rely upon",
        );
        about.must(about.object.list("/spec/podMetricsEndpoints").len() == 1, "not one endpoint");
        let at = "/spec/podMetricsEndpoints/0";
        about.is(&format!("{at}/scheme"), &json!("https"));
        about.is(&format!("{at}/path"), &json!("/metrics"));
        let port = about.object.text(&format!("{at}/port"));
        let ports = set.map_or(&[][..], |set| set.list("/spec/template/spec/containers/0/ports"));
        let port = ports.iter().find(|known| known["name"] == port);
        let listens = set
            .map(|set| set.environment("raft-0", "default"))
            .and_then(|variables| variables.get("BALSA_METRICS").cloned())
            .unwrap_or_default();
        about.must(
            port.is_some_and(|port| listens == format!("0.0.0.0:{}", port["containerPort"])),
            &format!("asks another port than {listens}"),
        );
        let server = about.object.text(&format!("{at}/tlsConfig/serverName"));
        about.must(
            !names.is_empty() && names.iter().all(|names| names.contains(server)),
            &format!("not every node is called {server}"),
        );
        about.must(!server.contains('.'), "the name of the server holds a namespace");
        let secret = |name: &str, key: &str| json!({ "name": name, "key": key });
        // In production the CA beside the certificate; with cert-manager what everybody trusts.
        about.is(
            &format!("{at}/tlsConfig"),
            &json!({
                "serverName": server,
                "ca": { "secret": secret("raft-trust", "ca.crt") },
                "cert": { "secret": secret("monitor-certs", "tls.crt") },
                "keySecret": secret("monitor-certs", "tls.key"),
            }),
        );
    });
    if !objects.iter().any(|object| object.kind() == "PodMonitor") {
        findings.push("nobody scrapes".into());
    }
    findings
}

/// All alerts: the number in its group's path, and the rule.
pub(crate) fn alerts(objects: &[Object]) -> Vec<(&Object, &Value)> {
    let rules = objects.iter().filter(|object| object.kind() == "PrometheusRule");
    rules
        .flat_map(|object| {
            let groups = object.list("/spec/groups").iter();
            groups
                .filter_map(|group| group["rules"].as_array())
                .flatten()
                .map(move |rule| (object, rule))
        })
        .collect()
}

/// Every alert says what it is, whom it wakes, and where it is told what to do, in a section that exists.
pub(crate) fn telling(objects: &[Object]) -> Findings {
    let mut findings = Findings::new();
    for (object, rule) in alerts(objects) {
        let name = rule["alert"].as_str().unwrap_or_default();
        let mut say = |what: &str| findings.push(format!("{}: {name}: {what}", object.label()));
        if !name.starts_with("Balsa") {
            say("is not called Balsa…");
        }
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        if !["critical", "warning"].contains(&severity) {
            say("wakes nobody and waits for nobody");
        }
        let sentence = |what: &str| {
            let text = rule["annotations"][what].as_str().unwrap_or_default();
            text.ends_with('.') && !text.contains('\n')
        };
        if !sentence("summary") || !sentence("description") {
            say("has no summary or no description that ends");
        }
        let url = rule["annotations"]["runbook_url"].as_str().unwrap_or_default();
        match runbook(url) {
            None => say("has no runbook of ours"),
            Some((file, anchor)) => {
                let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(&file);
                let text = std::fs::read_to_string(path).unwrap_or_default();
                if anchor != name.to_lowercase() || !anchors(&text).contains(&anchor) {
                    say(&format!("{file} has no section {anchor} about it"));
                }
            }
        }
        // What a description fills in must be there after an aggregation.
        let expression = rule["expr"].as_str().unwrap_or_default();
        if let Some(kept) = grouped(expression) {
            let text = rule["annotations"]["description"].as_str().unwrap_or_default();
            for label in text.split("$labels.").skip(1) {
                let label = word(label);
                if !kept.contains(&label) {
                    say(&format!("the description wants the label {label}, which is summed away"));
                }
            }
        }
    }
    findings
}

/// The file and the section that a link into our documentation means.
fn runbook(url: &str) -> Option<(String, String)> {
    let path = url.strip_prefix(env!("CARGO_PKG_REPOSITORY"))?.strip_prefix("/blob/main/")?;
    let (file, anchor) = path.split_once('#')?;
    Some((file.to_owned(), anchor.to_owned()))
}

/// The sections of a page of Markdown, as GitHub names them.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The labels that are left of an expression that begins with an aggregation.
fn grouped(expression: &str) -> Option<BTreeSet<&str>> {
    let first = expression.split("by (").nth(1)?;
    let begins = expression.trim_start_matches(['(', ' ']);
    let aggregates = ["max ", "sum ", "count ", "min ", "histogram_quantile"];
    aggregates.iter().any(|name| begins.starts_with(name)).then(|| {
        let labels = first.split(')').next().unwrap_or_default();
        labels.split(", ").collect()
    })
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// What an expression names: metrics, then the labels beside them with the values that are asked for.
struct Named<'a> {
    metric: &'a str,
    labels: Vec<(&'a str, &'a str)>,
}

fn named(expression: &str) -> Vec<Named<'_>> {
    let starts = |n: usize| {
        let before = expression[..n].chars().next_back();
        !before.is_some_and(|c| c.is_ascii_alphanumeric() || "_\"$".contains(c))
    };
    let mut found = Vec::new();
    for (n, c) in expression.char_indices() {
        if !c.is_ascii_lowercase() || !starts(n) {
            continue;
        }
        let metric = word(&expression[n..]);
        let prefixes = ["balsa_", "process_"];
        if metric != "up" && !prefixes.iter().any(|prefix| metric.starts_with(prefix)) {
            continue;
        }
        let rest = &expression[n + metric.len()..];
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        let labels = selector
            .into_iter()
            .flat_map(|selector| selector.split(", "))
            .filter_map(|one| one.split_once('='))
            .map(|(label, value)| (label, value.trim_matches(['~', '"'])))
            .collect();
        found.push(Named { metric, labels });
    }
    found
}

/// Expressions name metrics that nodes have, with labels and values that these have.
pub(crate) fn expressions(objects: &[Object], known: &[Metric]) -> Findings {
    // What a scraper itself knows of a target.
    let target = ["job", "namespace", "pod", "instance", "le"];
    let words = |label: &str| -> Option<Vec<&str>> {
        match label {
            "role" => Some(vec!["voter", "learner"]),
            "kind" => Some(vec!["own", "ca", "crl"]),
            "outcome" => Some(vec!["loaded", "refused", "taken", "failed", "installed"]),
            "reason" => Some(CERTIFICATE_REASONS.iter().map(|reason| reason.word()).collect()),
            "job" => Some(vec!["raft"]),
            _ => None,
        }
    };
    let mut findings = Findings::new();
    let rules = alerts(objects);
    if rules.is_empty() {
        findings.push("there are no alerts".into());
    }
    for (object, rule) in rules {
        let name = rule["alert"].as_str().unwrap_or_default();
        let mut say = |what: String| findings.push(format!("{}: {name}: {what}", object.label()));
        let named = named(rule["expr"].as_str().unwrap_or_default());
        if named.is_empty() {
            say("names no metric".into());
        }
        for Named { metric, labels } in named {
            let stem = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| metric.strip_suffix(end))
                .unwrap_or(metric);
            let row = known.iter().find(|row| row.name == metric || row.name == stem);
            if metric != "up" && row.is_none() {
                say(format!("there is no {metric}"));
            }
            for (label, values) in labels {
                let has = target.contains(&label)
                    || row.is_some_and(|row| row.labels.iter().any(|known| known == label));
                if !has {
                    say(format!("{metric} has no label {label}"));
                }
                let allowed = words(label).unwrap_or_default();
                for value in values.split('|').filter(|value| !allowed.contains(value)) {
                    say(format!("{label} is never {value}"));
                }
            }
        }
    }
    findings
}

/// The refusals that are a certificate's fault, ours or the other's. Who merely knocks is none of them.
pub(crate) const CERTIFICATE_REASONS: [Reason; 10] = [
    Reason::UnknownCa,
    Reason::Expired,
    Reason::NotYetValid,
    Reason::WrongUsage,
    Reason::Revoked,
    Reason::UriName,
    Reason::WrongCluster,
    Reason::WrongName,
    Reason::BadCertificate,
    Reason::RefusedByPeer,
];
