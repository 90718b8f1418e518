//! What must hold of the objects that Kubernetes gets (design section 8), read from `k8s/rendered/`.
//! Needs no cluster; that these files are what the overlays render to, and fit the schemas, is for
//! `scripts/check-manifests.sh`.
//!
//! Each rule stands here twice: once against the objects, and against objects that break it.

#[path = "manifests/components.rs"]
mod components;
#[path = "manifests/fields.rs"]
mod fields;
#[path = "manifests/issued.rs"]
mod issued;
#[path = "manifests/monitoring.rs"]
mod monitoring;
#[path = "manifests/objects.rs"]
mod objects;
#[path = "manifests/rules.rs"]
mod rules;

use objects::{FILES, MANAGED, Object, folder, read, rendered};
use rules::Findings;
use serde_json::{Value, json};

type Rule = fn(&[Object]) -> Findings;

/// The objects keep the rule.
fn holds(rule: Rule) {
    let findings = rule(&rendered());
    assert!(findings.is_empty(), "\n  {}\n", findings.join("\n  "));
}

/// Puts a value at a place of one object in both overlays. Null is as good as nothing there.
fn with(part: &str, name: &str, pointer: &str, value: &Value) -> Vec<Object> {
    let mut objects = rendered();
    let found = put(&mut objects, part, name, pointer, value);
    assert_eq!(found, 2, "{part} {name} is in both overlays");
    objects
}

/// Puts a value at a place of each object of that kind and name, and counts them.
fn put(objects: &mut [Object], part: &str, name: &str, pointer: &str, value: &Value) -> usize {
    let mut found = 0;
    for object in objects.iter_mut().filter(|o| o.kind() == part && o.name() == name) {
        found += 1;
        let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
        match object.value.pointer_mut(parent) {
            Some(Value::Object(fields)) => {
                fields.insert(last.to_owned(), value.clone());
            }
            Some(Value::Array(list)) => list[last.parse::<usize>().unwrap()] = value.clone(),
            _ => panic!("{}: there is no {parent}", object.label()),
        }
    }
    found
}

/// Objects with this value at that place break the rule, in at least one of the overlays.
fn breaks(rule: Rule, object: &str, pointer: &str, value: Value) {
    let (kind, name) = object.split_once(' ').expect("KIND NAME");
    let findings = rule(&with(kind, name, pointer, &value));
    assert!(
        findings.iter().any(|found| found.contains(&format!("{kind} "))),
        "the rule does not see that {object} has {value} at {pointer}: {findings:?}"
    );
}

const SET: &str = "StatefulSet raft";
const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

fn pod(rest: &str) -> String {
    format!("{POD}{rest}")
}

fn container(rest: &str) -> String {
    format!("{CONTAINER}{rest}")
}

#[test]
fn the_names_are_those_of_the_mission() {
    holds(rules::names);
    let rule = rules::names;
    breaks(rule, SET, "/metadata/name", json!("balsa"));
    breaks(rule, "Pod clientraft", "/spec/restartPolicy", json!("OnFailure"));
    breaks(rule, "Pod cliente", "/spec/restartPolicy", json!("Never"));
    let fewer = &rendered()[1..];
    assert_eq!(rule(fewer).len(), 1, "an object is missing");
}

#[test]
fn replicas_are_apart_and_start_together() {
    holds(rules::placement);
    let rule = rules::placement;
    breaks(rule, SET, "/spec/podManagementPolicy", json!("OrderedReady"));
    breaks(rule, SET, "/spec/replicas", json!(2));
    breaks(rule, SET, "/spec/serviceName", json!("raft"));
    breaks(rule, SET, "/spec/selector/matchLabels", json!({ "app": "other" }));
    breaks(rule, SET, &pod("/affinity/podAntiAffinity"), json!({}));
    let first = "/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0";
    breaks(rule, SET, &pod(&format!("{first}/topologyKey")), json!("topology.kubernetes.io/zone"));
    breaks(rule, SET, &pod(&format!("{first}/labelSelector/matchLabels/app")), json!("other"));
    breaks(rule, SET, &pod("/tolerations"), Value::Null);
    breaks(rule, SET, &pod("/tolerations/1/tolerationSeconds"), json!(300));
    breaks(rule, SET, &pod("/tolerations/0/effect"), Value::Null);
}

#[test]
fn services_name_the_seats_and_lead_clients_to_them() {
    holds(rules::services);
    let rule = rules::services;
    let (seats, clients) = ("Service raft-service", "Service raft-client");
    breaks(rule, seats, "/spec/clusterIP", Value::Null);
    breaks(rule, seats, "/spec/publishNotReadyAddresses", json!(false));
    breaks(rule, seats, "/spec/selector/app", json!("other"));
    breaks(rule, seats, "/spec/ports/0/port", json!(7000));
    breaks(rule, clients, "/spec/clusterIP", json!("None"));
    breaks(rule, clients, "/spec/publishNotReadyAddresses", json!(true));
    breaks(rule, clients, "/spec/ports/0/targetPort", json!("metrics"));
    breaks(rule, SET, "/spec/template/metadata/labels/app", json!("other"));
    breaks(rule, SET, &container("/ports/0/containerPort"), json!(6002));
    breaks(rule, SET, &container("/ports/1/name"), json!("m"));
    breaks(rule, "Pod clientraft", "/spec/containers/0/ports/0/containerPort", json!(6000));
}

#[test]
fn the_executables_understand_their_settings() {
    holds(rules::settings);
    let rule = rules::settings;
    breaks(rule, SET, &container("/command"), json!(["/srvraft"]));
    breaks(rule, SET, &container("/env/0/name"), json!("NAMESPACE"));
    breaks(
        rule,
        SET,
        &container("/env/1/valueFrom/fieldRef/fieldPath"),
        json!("metadata.namespace"),
    );
    breaks(rule, SET, &container("/env/2/value"), json!("raft-service"));
    breaks(rule, SET, &container("/env/3/value"), json!("5"));
    breaks(rule, SET, &container("/env/4/name"), json!("DATA_DIR"));
    breaks(rule, SET, &container("/env/5/value"), json!("/certs"));
    breaks(rule, SET, &container("/env/6/value"), json!("0.0.0.0:6002"));
    let test = "Pod clientraft";
    breaks(rule, test, "/spec/containers/0/command", json!(["/usr/local/bin/cltraft", "test"]));
    breaks(rule, test, "/spec/containers/0/env/1/value", json!("raft-0:6000"));
    breaks(rule, test, "/spec/containers/0/env/2/value", json!("/certs"));
    breaks(rule, "Pod cliente", "/spec/containers/0/command/1", json!("shell"));
}

#[test]
fn probes_are_run_inside_of_the_pod() {
    holds(rules::probes);
    let rule = rules::probes;
    breaks(rule, SET, &container("/livenessProbe"), Value::Null);
    breaks(rule, SET, &container("/livenessProbe/exec/command/2"), json!("ready"));
    breaks(rule, SET, &container("/readinessProbe/exec/command/2"), json!("live"));
    breaks(rule, SET, &container("/readinessProbe/timeoutSeconds"), json!(1));
    breaks(rule, SET, &container("/startupProbe/failureThreshold"), json!(3));
    breaks(rule, SET, &container("/startupProbe/tcpSocket"), json!({ "port": 6000 }));
}

#[test]
fn a_node_has_the_time_to_stop() {
    holds(rules::stopping);
    let rule = rules::stopping;
    breaks(rule, SET, &pod("/terminationGracePeriodSeconds"), json!(20));
    breaks(rule, SET, &pod("/terminationGracePeriodSeconds"), json!(23));
    breaks(
        rule,
        SET,
        &container("/lifecycle"),
        json!({ "preStop": { "sleep": { "seconds": 5 } } }),
    );
}

#[test]
fn keys_are_readable_by_the_group_and_change_in_place() {
    holds(rules::secrets);
    let rule = rules::secrets;
    let secret = |secret: Value| json!([{ "name": "certs", "secret": secret }]);
    let good = json!({ "secretName": "raft-certs", "defaultMode": 0o440 });
    let beside = json!([{ "name": "certs", "secret": good }, { "name": "x", "secret": good }]);
    let items = json!([{ "key": "ca.crt", "path": "ca.crt" }]);
    for volumes in [
        json!([]),
        beside,
        secret(json!({ "secretName": "raft-certs" })),
        secret(json!({ "secretName": "raft-certs", "defaultMode": 0o444 })),
        secret(json!({ "secretName": "admin-certs", "defaultMode": 0o440 })),
        secret(json!({ "secretName": "raft-certs", "defaultMode": 0o440, "items": items })),
    ] {
        breaks(rule, SET, &pod("/volumes"), volumes);
    }
    assert_eq!(rule(&with("StatefulSet", "raft", &pod("/volumes"), &secret(good))).len(), 0);
    breaks(rule, SET, &pod("/securityContext/fsGroup"), Value::Null);
    breaks(rule, SET, &container("/volumeMounts/1/subPath"), json!("ca.crt"));
    breaks(rule, SET, &container("/volumeMounts/1/readOnly"), json!(false));
    breaks(rule, SET, &pod("/automountServiceAccountToken"), Value::Null);
    breaks(rule, SET, &pod("/enableServiceLinks"), Value::Null);
    let admin = json!({ "secretName": "admin-certs", "defaultMode": 0o440 });
    breaks(rule, "Pod clientraft", "/spec/volumes/0/secret", admin);
}

#[test]
fn evictions_leave_a_quorum() {
    holds(rules::budget);
    let rule = rules::budget;
    let budget = "PodDisruptionBudget raft";
    breaks(rule, budget, "/spec/minAvailable", json!(1));
    breaks(rule, budget, "/spec/minAvailable", json!("2"));
    breaks(rule, budget, "/spec/minAvailable", json!("60%"));
    breaks(rule, budget, "/spec/maxUnavailable", json!(1));
    breaks(rule, budget, "/spec/selector/matchLabels/app", json!("other"));
    breaks(rule, budget, "/spec/unhealthyPodEvictionPolicy", json!("AlwaysAllow"));
    let five = with("StatefulSet", "raft", "/spec/replicas", &json!(5));
    assert_eq!(rule(&five).len(), 2, "the budget follows the replicas");
}

#[test]
fn nodes_hear_nodes_clients_and_monitoring() {
    holds(rules::network);
    let rule = rules::network;
    let policy = "NetworkPolicy raft";
    breaks(rule, policy, "/spec/policyTypes", json!([]));
    breaks(rule, policy, "/spec/podSelector", json!({}));
    breaks(rule, policy, "/spec/ingress/0/from", Value::Null);
    breaks(rule, policy, "/spec/ingress/0/ports/0/port", json!(6001));
    breaks(rule, policy, "/spec/ingress/1/from/0", json!({ "podSelector": {} }));
    breaks(rule, "Pod cliente", "/metadata/labels/raft-client", Value::Null);
}

#[test]
fn pods_are_restricted() {
    holds(rules::security);
    let rule = rules::security;
    for (object, pod) in [(SET, POD), ("Pod clientraft", "/spec"), ("Pod cliente", "/spec")] {
        let breaks = |rest: &str, value| breaks(rule, object, &format!("{pod}{rest}"), value);
        breaks("/securityContext/runAsNonRoot", Value::Null);
        breaks("/securityContext/runAsUser", json!(0));
        breaks("/securityContext/seccompProfile", Value::Null);
        breaks("/hostNetwork", json!(true));
        breaks("/containers/0/securityContext/readOnlyRootFilesystem", json!(false));
        breaks("/containers/0/securityContext/allowPrivilegeEscalation", Value::Null);
        breaks("/containers/0/securityContext/privileged", json!(true));
        breaks("/containers/0/securityContext/capabilities/add", json!(["NET_ADMIN"]));
        breaks("/containers/0/ports/0/hostPort", json!(6000));
        breaks("/volumes/0", json!({ "name": "x", "hostPath": { "path": "/" } }));
    }
}

#[test]
fn a_laptop_has_room() {
    holds(rules::resources);
    let rule = rules::resources;
    let at = |rest: &str| container(&format!("/resources/{rest}"));
    breaks(rule, SET, &at("requests/cpu"), json!("100m"));
    breaks(rule, SET, &at("requests/cpu"), json!("1"));
    breaks(rule, SET, &at("requests/memory"), json!("65Mi"));
    breaks(rule, SET, &at("limits/memory"), Value::Null);
    breaks(rule, SET, &at("limits/memory"), json!("32Mi"));
    breaks(rule, SET, &at("limits/cpu"), json!("1"));
    breaks(rule, "Pod cliente", "/spec/containers/0/resources", Value::Null);
}

#[test]
fn data_goes_with_the_pod_on_kind_and_stays_in_production() {
    holds(rules::data);
    let rule = rules::data;
    breaks(rule, SET, &pod("/volumes"), json!([]));
    breaks(
        rule,
        SET,
        &pod("/volumes/0"),
        json!({ "name": "data", "emptyDir": { "sizeLimit": "1Gi" } }),
    );
    breaks(rule, SET, "/spec/volumeClaimTemplates", json!([]));
    breaks(rule, SET, "/spec/persistentVolumeClaimRetentionPolicy", Value::Null);
    breaks(rule, SET, &container("/env/4/value"), json!("/var/lib/balsa"));
    breaks(rule, SET, &container("/env/4/value"), json!("/var/lib/other/data"));
}

#[test]
fn images_come_from_where_they_are() {
    holds(rules::images);
    let rule = rules::images;
    breaks(rule, SET, &container("/image"), json!("srvraft"));
    breaks(rule, SET, &container("/image"), json!("localhost:5001/srvraft:latest"));
    breaks(rule, SET, &container("/image"), json!("registry.example.com/balsa/srvraft:latest"));
    breaks(rule, SET, &container("/imagePullPolicy"), json!("IfNotPresent"));
    breaks(
        rule,
        "Pod clientraft",
        "/spec/containers/0/image",
        json!("localhost:5001/srvraft:latest"),
    );
}

#[test]
fn every_rendered_file_is_looked_at() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut looked_at = [&FILES[..], &MANAGED[..]].concat();
    looked_at.sort_unstable();
    assert_eq!(names, looked_at);
}

#[test]
fn every_source_holds_one_object_a_file() {
    let mut folders: Vec<_> =
        ["base", "components", "overlays"].map(|name| folder().with_file_name(name)).into();
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let objects = read(&path.display().to_string(), &text);
            assert_eq!(objects.len(), 1, "{}", path.display());
            let name = path.file_stem().unwrap().to_str().unwrap();
            let object = &objects[0];
            // The file is called as what it holds, or as what it changes.
            let full = format!("{}-{}", object.kind().to_lowercase(), object.name());
            let patch = name.starts_with(&format!("{}-", object.kind().to_lowercase()));
            assert!(
                name == "kustomization"
                    || name == full
                    || !path.components().any(|c| c.as_os_str() == "base") && patch,
                "{} holds {full}",
                path.display()
            );
            files += 1;
        }
    }
    assert!(files > 15, "only {files} files were found");
}
