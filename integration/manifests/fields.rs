//! What the interfaces that the components use know: cert-manager.io/v1 and monitoring.coreos.com/v1.
//! Kubernetes' own schemas do not tell, and a misspelt field would be dropped by the cluster without a
//! word.
//!
//! Not whole: what is not used here and not listed is a finding, and gets its line when it is wanted.

use serde_json::Value;

use crate::objects::Object;
use crate::rules::Findings;

/// What may stand in a field.
#[derive(Clone, Copy)]
enum Is {
    Text,
    Number,
    OneOf(&'static [&'static str]),
    /// Hours, minutes and seconds, as Go reads them.
    Hours,
    /// One number with a unit, as Prometheus reads it.
    Span,
}

/// A path (`[]`: each element; `*`: any key), whether the object must have it, and what it is.
type Field = (&'static str, bool, Is);

const META: &[Field] = &[
    ("metadata.name", true, Is::Text),
    ("metadata.namespace", false, Is::Text),
    ("metadata.labels.*", false, Is::Text),
    ("metadata.annotations.*", false, Is::Text),
];

const USAGES: &[&str] = &[
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
];

const CERTIFICATE: &[Field] = &[
    ("spec.secretName", true, Is::Text),
    ("spec.issuerRef.name", true, Is::Text),
    ("spec.issuerRef.kind", false, Is::OneOf(&["Issuer", "ClusterIssuer"])),
    ("spec.issuerRef.group", false, Is::Text),
    ("spec.commonName", false, Is::Text),
    ("spec.subject.organizations[]", false, Is::Text),
    ("spec.dnsNames[]", false, Is::Text),
    ("spec.ipAddresses[]", false, Is::Text),
    ("spec.uris[]", false, Is::Text),
    ("spec.duration", false, Is::Hours),
    ("spec.renewBefore", false, Is::Hours),
    ("spec.usages[]", false, Is::OneOf(USAGES)),
    ("spec.privateKey.algorithm", false, Is::OneOf(&["RSA", "ECDSA", "Ed25519"])),
    ("spec.privateKey.encoding", false, Is::OneOf(&["PKCS1", "PKCS8"])),
    ("spec.privateKey.rotationPolicy", false, Is::OneOf(&["Never", "Always"])),
    ("spec.privateKey.size", false, Is::Number),
];

const ISSUER: &[Field] = &[("spec.ca.secretName", true, Is::Text)];

const POD_MONITOR: &[Field] = &[
    ("spec.jobLabel", false, Is::Text),
    ("spec.selector.matchLabels.*", true, Is::Text),
    ("spec.podMetricsEndpoints[].port", false, Is::Text),
    ("spec.podMetricsEndpoints[].path", false, Is::Text),
    ("spec.podMetricsEndpoints[].scheme", false, Is::OneOf(&["http", "https", "HTTP", "HTTPS"])),
    ("spec.podMetricsEndpoints[].interval", false, Is::Span),
    ("spec.podMetricsEndpoints[].scrapeTimeout", false, Is::Span),
    ("spec.podMetricsEndpoints[].tlsConfig.serverName", false, Is::Text),
    ("spec.podMetricsEndpoints[].tlsConfig.ca.secret.name", false, Is::Text),
    ("spec.podMetricsEndpoints[].tlsConfig.ca.secret.key", false, Is::Text),
    ("spec.podMetricsEndpoints[].tlsConfig.cert.secret.name", false, Is::Text),
    ("spec.podMetricsEndpoints[].tlsConfig.cert.secret.key", false, Is::Text),
    ("spec.podMetricsEndpoints[].tlsConfig.keySecret.name", false, Is::Text),
    ("spec.podMetricsEndpoints[].tlsConfig.keySecret.key", false, Is::Text),
];

const PROMETHEUS_RULE: &[Field] = &[
    ("spec.groups[].name", true, Is::Text),
    ("spec.groups[].interval", false, Is::Span),
    ("spec.groups[].rules[].alert", false, Is::Text),
    ("spec.groups[].rules[].expr", true, Is::Text),
    ("spec.groups[].rules[].for", false, Is::Span),
    ("spec.groups[].rules[].keep_firing_for", false, Is::Span),
    ("spec.groups[].rules[].labels.*", false, Is::Text),
    ("spec.groups[].rules[].annotations.*", false, Is::Text),
];

const CERT_MANAGER: &str = "cert-manager.io/v1";
const MONITORING: &str = "monitoring.coreos.com/v1";

/// The objects of other interfaces than Kubernetes' own hold what these know, and nothing else.
pub(crate) fn known(objects: &[Object]) -> Findings {
    let mut findings = Findings::new();
    for object in objects {
        let (version, fields) = match object.kind() {
            "Certificate" => (CERT_MANAGER, CERTIFICATE),
            "Issuer" => (CERT_MANAGER, ISSUER),
            "PodMonitor" => (MONITORING, POD_MONITOR),
            "PrometheusRule" => (MONITORING, PROMETHEUS_RULE),
            _ => continue,
        };
        let mut say = |what: String| findings.push(format!("{}: {what}", object.label()));
        if object.text("/apiVersion") != version {
            say(format!("is not of {version}"));
        }
        let mut leaves = Vec::new();
        flatten("", &object.value, &mut leaves);
        leaves.retain(|(path, _)| path != "apiVersion" && path != "kind");
        let all = || META.iter().chain(fields);
        for (path, value) in &leaves {
            match all().find(|(pattern, _, _)| matches(pattern, path)) {
                None => say(format!("nobody knows the field {path}")),
                Some((_, _, is)) if !fits(*is, value) => say(format!("{path} cannot be {value}")),
                Some(_) => {}
            }
        }
        for (pattern, _, _) in all().filter(|(_, required, _)| *required) {
            let steps: Vec<&str> = pattern.split('.').collect();
            if lacks(&object.value, &steps) {
                say(format!("{pattern} is missing"));
            }
        }
    }
    findings
}

/// The values that are neither lists nor objects, and empty ones of these, with their paths.
fn flatten<'a>(path: &str, value: &'a Value, leaves: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(&format!("{path}{dot}{key}"), value, leaves);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                flatten(&format!("{path}[]"), value, leaves);
            }
        }
        Value::Null => {}
        _ => leaves.push((path.to_owned(), value)),
    }
}

/// Whether what the steps lead to is missing: from one element of a list, if they lead through one.
fn lacks(value: &Value, steps: &[&str]) -> bool {
    let Some((step, rest)) = steps.split_first() else { return value.is_null() };
    match step.strip_suffix("[]") {
        _ if *step == "*" => value.as_object().is_none_or(serde_json::Map::is_empty),
        None => lacks(&value[*step], rest),
        Some(list) => {
            let elements = value[list].as_array().map_or(&[][..], Vec::as_slice);
            elements.is_empty() || elements.iter().any(|element| lacks(element, rest))
        }
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(front) => path.strip_prefix(front).is_some_and(|key| !key.is_empty()),
        None => pattern == path,
    }
}

fn fits(is: Is, value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    match is {
        Is::Text => !text.is_empty(),
        Is::Number => value.is_u64(),
        Is::OneOf(words) => words.contains(&text),
        Is::Hours => hours(value).is_some(),
        Is::Span => ["ms", "s", "m", "h", "d"]
            .iter()
            .any(|unit| text.strip_suffix(unit).is_some_and(|n| n.parse::<u32>().is_ok())),
    }
}

/// Whole hours, written as cert-manager reads them: Go knows no days.
pub(crate) fn hours(value: &Value) -> Option<u64> {
    value.as_str()?.strip_suffix('h')?.parse().ok()
}
