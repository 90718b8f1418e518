//! What must hold of the rendered objects. Each rule is a function from the objects to what is wrong with
//! them, one sentence a finding.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use balsa::cli::client_options::parse_client;
use balsa::cli::command::Command;
use balsa::cli::node_options::parse_node;
use balsa::config::{NodeCommand, NodeConfig, Parsed};
use balsa::rpc::Limits;
use serde_json::{Value, json};

use crate::objects::Object;

pub(crate) type Findings = Vec<String>;

const SRVRAFT: &str = "/usr/local/bin/srvraft";
const CLTRAFT: &str = "/usr/local/bin/cltraft";
pub(crate) const CERTS: &str = "/etc/balsa/certs";

/// A node that stops stays at most this long for the sake of the quorum, and waits as long for a disk
/// that hangs (docs/operations.md).
const STAY: Duration = Duration::from_secs(10);
const DISK: Duration = Duration::from_secs(10);

/// Collects findings about one object.
pub(crate) struct About<'a> {
    pub(crate) object: &'a Object,
    findings: Findings,
}

impl About<'_> {
    pub(crate) fn must(&mut self, holds: bool, what: &str) {
        if !holds {
            self.findings.push(format!("{}: {what}", self.object.label()));
        }
    }

    pub(crate) fn is(&mut self, pointer: &str, expected: &Value) {
        let found = self.object.at(pointer);
        let what = format!("{pointer} is {found} and not {expected}");
        self.must(found == expected, &what);
    }
}

/// What is wrong with each object of a kind and a name (an empty name: any).
pub(crate) fn each(
    objects: &[Object],
    kind: &str,
    name: &str,
    look: impl Fn(&mut About<'_>),
) -> Findings {
    let meant = |o: &&Object| o.kind() == kind && (name.is_empty() || o.name() == name);
    let mut found = Findings::new();
    for object in objects.iter().filter(meant) {
        let mut about = About { object, findings: Findings::new() };
        look(&mut about);
        found.append(&mut about.findings);
    }
    found
}

/// What is wrong with each object that runs pods; `look` gets the place of their specification.
pub(crate) fn each_pod(objects: &[Object], look: impl Fn(&mut About<'_>, &str)) -> Findings {
    let mut found = Findings::new();
    for object in objects {
        if let Some(pod) = object.pod() {
            let mut about = About { object, findings: Findings::new() };
            look(&mut about, pod);
            found.append(&mut about.findings);
        }
    }
    found
}

/// Each file holds exactly what it is for (mission S8, S9).
pub(crate) fn names(objects: &[Object]) -> Findings {
    let servers = "NetworkPolicy raft, PodDisruptionBudget raft, Service raft-client, \
                   Service raft-service, StatefulSet raft";
    let client = "Pod cliente, Pod clientraft";
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for object in objects {
        files.entry(&object.file).or_default().push(format!("{} {}", object.kind(), object.name()));
    }
    let mut findings = Findings::new();
    for (file, mut held) in files {
        held.sort();
        let expected = if file.ends_with("-servers.yaml") { servers } else { client };
        if held.join(", ") != expected {
            findings.push(format!("{file} holds {}, and should hold {expected}", held.join(", ")));
        }
    }
    findings.extend(each(objects, "Pod", "clientraft", |about| {
        about.is("/spec/restartPolicy", &json!("Never"));
    }));
    findings.extend(each(objects, "Pod", "cliente", |about| {
        about.is("/spec/restartPolicy", &json!("Always"));
    }));
    findings
}

/// Three replicas, each on another worker, none waiting for another one.
pub(crate) fn placement(objects: &[Object]) -> Findings {
    each(objects, "StatefulSet", "raft", |about| {
        about.is("/spec/replicas", &json!(3));
        about.is("/spec/podManagementPolicy", &json!("Parallel"));
        about.is("/spec/serviceName", &json!("raft-service"));
        let labels = about.object.pod_labels().clone();
        about.is("/spec/selector/matchLabels", &labels);
        let required = "/spec/template/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";
        about.is(
            required,
            &json!([{
                "labelSelector": { "matchLabels": labels },
                "topologyKey": "kubernetes.io/hostname",
            }]),
        );
        // Kubernetes adds both with an end of five minutes if they are missing.
        let silent = |taint: &str| {
            json!({
                "key": format!("node.kubernetes.io/{taint}"),
                "operator": "Exists",
                "effect": "NoExecute",
            })
        };
        let expected = json!([silent("not-ready"), silent("unreachable")]);
        about.is("/spec/template/spec/tolerations", &expected);
    })
}

/// The names of the seats are known before anybody is ready; clients find those that are.
pub(crate) fn services(objects: &[Object]) -> Findings {
    let mut findings = each(objects, "Service", "raft-service", |about| {
        about.is("/spec/clusterIP", &json!("None"));
        about.is("/spec/publishNotReadyAddresses", &json!(true));
        about.is(
            "/spec/ports",
            &json!([
                { "name": "raft", "port": 6000, "targetPort": "raft" },
                { "name": "metrics", "port": 6001, "targetPort": "metrics" },
            ]),
        );
    });
    findings.extend(each(objects, "Service", "raft-client", |about| {
        about.must(about.object.at("/spec/clusterIP").is_null(), "is headless");
        about.must(
            about.object.at("/spec/publishNotReadyAddresses") != &json!(true),
            "sends clients to nodes that are not ready",
        );
        about.is("/spec/ports", &json!([{ "name": "raft", "port": 6000, "targetPort": "raft" }]));
    }));
    findings.extend(each(objects, "Service", "", |about| {
        about.is("/spec/selector", &json!({ "app": "raft" }));
    }));
    findings.extend(each_pod(objects, |about, pod| {
        let ports = match about.object.kind() {
            "StatefulSet" => {
                about.must(
                    about.object.pod_labels() == &json!({ "app": "raft" }),
                    "the Services do not select its pods",
                );
                json!([
                    { "name": "raft", "containerPort": 6000, "protocol": "TCP" },
                    { "name": "metrics", "containerPort": 6001, "protocol": "TCP" },
                ])
            }
            _ => json!([{ "name": "client", "containerPort": 7000, "protocol": "TCP" }]),
        };
        about.is(&format!("{pod}/containers/0/ports"), &ports);
    }));
    findings
}

/// What `srvraft` makes of the variables of one of its pods.
fn node(object: &Object, pod: &str, namespace: &str) -> Result<NodeConfig, String> {
    let variables = object.environment(pod, namespace);
    let env = |name: &str| variables.get(name).map(OsString::from);
    match parse_node(Vec::new(), &env) {
        Ok(Parsed::Run(NodeCommand::Serve(config))) => Ok(*config),
        Ok(other) => Err(format!("srvraft would not run a node but {other:?}")),
        Err(report) => Err(report.to_string()),
    }
}

/// The executables themselves read the settings, and find the names of mission S8.
pub(crate) fn settings(objects: &[Object]) -> Findings {
    let mut findings = each(objects, "StatefulSet", "raft", |about| {
        about.is("/spec/template/spec/containers/0/command", &json!([SRVRAFT]));
        // A seat of the founding, and one that came by scaling, in another namespace.
        for (pod, namespace) in [("raft-1", "default"), ("raft-4", "storage")] {
            let address =
                |seat: &str| format!("{seat}.raft-service.{namespace}.svc.cluster.local:6000");
            match node(about.object, pod, namespace) {
                Err(why) => about.must(false, &why),
                Ok(config) => {
                    about.must(config.name == pod, "the node is not called like its pod");
                    about.must(
                        config.advertise == address(pod),
                        &format!("{pod} is reached at {}", config.advertise),
                    );
                    let seeds: Vec<_> =
                        config.seeds.iter().map(|seed| seed.address.clone()).collect();
                    let expected = ["raft-0", "raft-1", "raft-2"].map(address);
                    about.must(seeds == expected, &format!("founded by {seeds:?}"));
                    about.must(config.listen.port() == 6000, "listens on another port");
                    let everywhere = "0.0.0.0:6001".parse().ok();
                    about.must(
                        config.metrics == everywhere,
                        &format!("shows its metrics at {:?}", config.metrics),
                    );
                    about.must(config.certs.to_str() == Some(CERTS), "reads other certificates");
                }
            }
        }
    });
    findings.extend(each(objects, "Pod", "", |about| {
        let (arguments, command) = match about.object.name() {
            "clientraft" => (
                vec!["test", "--wait", "120s"],
                Command::Test { wait: Some(Duration::from_secs(120)) },
            ),
            _ => (vec!["idle"], Command::Idle),
        };
        let mut words = vec![CLTRAFT];
        words.extend(&arguments);
        about.is("/spec/containers/0/command", &json!(words));
        let variables = about.object.environment(about.object.name(), "default");
        let env = |name: &str| variables.get(name).map(OsString::from);
        match parse_client(arguments.into_iter().map(OsString::from).collect(), &env, false) {
            Ok(Parsed::Run(call)) => {
                let expected = [0, 1, 2].map(|ordinal| {
                    format!("raft-{ordinal}.raft-service.default.svc.cluster.local:6000")
                });
                let endpoints = &call.settings.endpoints;
                about.must(*endpoints == expected, &format!("asks {endpoints:?}"));
                about.must(call.settings.certs.to_str() == Some(CERTS), "reads other certificates");
                about.must(call.command == command, "runs another command");
            }
            Ok(Parsed::Print(_)) => about.must(false, "only prints"),
            Err(report) => about.must(false, &report.to_string()),
        }
    }));
    findings
}

/// Probes run `srvraft probe` inside of the pod: there is no port to be asked without a certificate.
pub(crate) fn probes(objects: &[Object]) -> Findings {
    each(objects, "StatefulSet", "raft", |about| {
        let container = "/spec/template/spec/containers/0";
        for (probe, what) in
            [("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")]
        {
            let at = format!("{container}/{probe}");
            about.is(&format!("{at}/exec/command"), &json!([SRVRAFT, "probe", what]));
            for other in ["httpGet", "tcpSocket", "grpc"] {
                let found = about.object.at(&format!("{at}/{other}"));
                about.must(found.is_null(), &format!("{probe} has {other}"));
            }
            let timeout = about.object.at(&format!("{at}/timeoutSeconds")).as_u64().unwrap_or(1);
            about.must(timeout >= 5, &format!("{probe} waits {timeout} s only"));
        }
        let number = |field: &str| {
            about.object.at(&format!("{container}/startupProbe/{field}")).as_u64().unwrap_or(0)
        };
        let patience = number("periodSeconds") * number("failureThreshold");
        about.must(patience >= 300, &format!("a long log is given {patience} s"));
    })
}

/// Time to hand over, to wait for a quorum and for the disk, and to answer what is in flight.
pub(crate) fn stopping(objects: &[Object]) -> Findings {
    each(objects, "StatefulSet", "raft", |about| {
        let pod = "/spec/template/spec";
        let grace = about.object.at(&format!("{pod}/terminationGracePeriodSeconds"));
        let grace = Duration::from_secs(grace.as_u64().unwrap_or(30));
        let needed = STAY + DISK + Limits::default().drain;
        about.must(grace > needed, &format!("killed after {grace:?}, may need {needed:?}"));
        let hook = about.object.at(&format!("{pod}/containers/0/lifecycle"));
        about
            .must(hook.is_null(), "has hooks: on SIGTERM a node does by itself what is to be done");
    })
}

/// Keys: one directory, readable through the group alone, replaced as a whole.
pub(crate) fn secrets(objects: &[Object]) -> Findings {
    each_pod(objects, |about, pod| {
        let secret = match about.object.name() {
            "raft" => "raft-certs",
            "cliente" => "admin-certs",
            _ => "client-certs",
        };
        let volumes = about.object.list(&format!("{pod}/volumes"));
        let certs = volumes.iter().find(|volume| volume["name"] == "certs");
        // Without `items`, with nothing else.
        let expected = json!({ "secretName": secret, "defaultMode": 0o440 });
        about.must(
            certs.is_some_and(|volume| volume["secret"] == expected),
            &format!("its volume certs is not the Secret {expected}"),
        );
        let others = volumes.iter().filter(|volume| volume["name"] != "certs");
        let other_keys =
            others.filter(|volume| !volume["secret"].is_null() || !volume["projected"].is_null());
        about.must(other_keys.count() == 0, "mounts further Secrets");
        let group = about.object.at(&format!("{pod}/securityContext/fsGroup"));
        about.must(group.as_u64().is_some_and(|group| group > 0), "the keys belong to no group");
        let mounts = about.object.list(&format!("{pod}/containers/0/volumeMounts"));
        let mount = mounts.iter().find(|mount| mount["name"] == "certs");
        let expected = json!({ "name": "certs", "mountPath": CERTS, "readOnly": true });
        about.must(mount == Some(&expected), &format!("certs is not mounted as {expected}"));
        let parts = mounts
            .iter()
            .filter(|mount| !mount["subPath"].is_null() || !mount["subPathExpr"].is_null());
        about.must(parts.count() == 0, "mounts with subPath, which never changes");
        about.is(&format!("{pod}/automountServiceAccountToken"), &json!(false));
        about.is(&format!("{pod}/enableServiceLinks"), &json!(false));
    })
}

/// Evictions leave a quorum, said as a number.
pub(crate) fn budget(objects: &[Object]) -> Findings {
    each(objects, "PodDisruptionBudget", "raft", |about| {
        let beside = |o: &&Object| o.file == about.object.file && o.kind() == "StatefulSet";
        let replicas = objects.iter().find(beside).and_then(|o| o.at("/spec/replicas").as_u64());
        let quorum = replicas.map(|replicas| replicas / 2 + 1);
        about.must(quorum.is_some(), "there are no replicas beside it");
        about.is("/spec/minAvailable", &json!(quorum));
        about.must(about.object.at("/spec/maxUnavailable").is_null(), "says maxUnavailable, too");
        about.is("/spec/unhealthyPodEvictionPolicy", &json!("IfHealthyBudget"));
        about.is("/spec/selector", &json!({ "matchLabels": { "app": "raft" } }));
    })
}

/// Nodes hear nodes and clients on 6000, and monitoring on 6001.
pub(crate) fn network(objects: &[Object]) -> Findings {
    let mut findings = each(objects, "NetworkPolicy", "raft", |about| {
        about.is(
            "/spec",
            &json!({
                "podSelector": { "matchLabels": { "app": "raft" } },
                "policyTypes": ["Ingress"],
                "ingress": [
                    {
                        "from": [
                            { "podSelector": { "matchLabels": { "app": "raft" } } },
                            { "podSelector": { "matchLabels": { "raft-client": "true" } } },
                        ],
                        "ports": [{ "port": 6000, "protocol": "TCP" }],
                    },
                    {
                        "from": [{
                            "namespaceSelector": {
                                "matchLabels": { "kubernetes.io/metadata.name": "monitoring" },
                            },
                        }],
                        "ports": [{ "port": 6001, "protocol": "TCP" }],
                    },
                ],
            }),
        );
    });
    findings.extend(each(objects, "Pod", "", |about| {
        about.is("/metadata/labels/raft-client", &json!("true"));
    }));
    findings
}

/// The restricted profile of the Pod Security Standards, and a root that is read-only.
pub(crate) fn security(objects: &[Object]) -> Findings {
    each_pod(objects, |about, pod| {
        about.is(&format!("{pod}/securityContext/runAsNonRoot"), &json!(true));
        let user = about.object.at(&format!("{pod}/securityContext/runAsUser"));
        about.must(user.as_u64().is_some_and(|user| user > 0), "runs as no user, or as the first");
        about.is(
            &format!("{pod}/securityContext/seccompProfile"),
            &json!({ "type": "RuntimeDefault" }),
        );
        for shared in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
            let found = about.object.at(&format!("{pod}/{shared}"));
            about.must(found.is_null(), &format!("has {shared}"));
        }
        let containers = about.object.list(&format!("{pod}/containers"));
        about.must(containers.len() == 1, "has not exactly one container");
        for (n, container) in containers.iter().enumerate() {
            // The whole of it: a user, a capability or a privilege besides would be one too many.
            about.is(
                &format!("{pod}/containers/{n}/securityContext"),
                &json!({
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                    "readOnlyRootFilesystem": true,
                }),
            );
            let ports = container["ports"].as_array().map_or(&[][..], Vec::as_slice);
            let host = ports.iter().any(|port| !port["hostPort"].is_null());
            about.must(!host, "takes a port of its worker");
        }
        let of_worker =
            about.object.list(&format!("{pod}/volumes")).iter().any(|v| !v["hostPath"].is_null());
        about.must(!of_worker, "mounts a directory of its worker");
    })
}

/// A quantity of memory in MiB, or of the processor in thousandths.
fn quantity(value: &Value) -> Option<u64> {
    let text = value.as_str()?;
    let number = |text: &str| text.parse::<u64>().ok();
    match (text.strip_suffix("Mi"), text.strip_suffix("Gi"), text.strip_suffix('m')) {
        (Some(mib), _, _) => number(mib),
        (_, Some(gib), _) => number(gib).map(|gib| gib * 1024),
        (_, _, Some(thousandths)) => number(thousandths),
        _ => None,
    }
}

/// A laptop with five nodes of kind has room; memory has a limit everywhere; the processor has none,
/// because a node that is held back misses heartbeats.
pub(crate) fn resources(objects: &[Object]) -> Findings {
    each_pod(objects, |about, pod| {
        let of =
            |what: &str| quantity(about.object.at(&format!("{pod}/containers/0/resources/{what}")));
        let (cpu, memory, limit) = (of("requests/cpu"), of("requests/memory"), of("limits/memory"));
        about.must(cpu.is_some_and(|cpu| cpu <= 50), "asks for more processor than 50m");
        about.must(limit.is_some(), "has no limit of memory");
        about.must(memory.is_some() && memory <= limit, "asks for more memory than it may have");
        let processor = about.object.at(&format!("{pod}/containers/0/resources/limits/cpu"));
        about.must(processor.is_null(), "has a limit of the processor");
        if about.object.file.starts_with("kind-") {
            about.must(memory <= Some(64), "asks for more memory than 64Mi");
        } else if about.object.kind() == "StatefulSet" {
            about.must(memory == limit, "would be ended before others when a worker lacks memory");
        }
    })
}

/// On kind the disk goes with the pod; in production it stays. What is set aside is renamed, so the
/// data directory is below the volume and not the volume itself.
pub(crate) fn data(objects: &[Object]) -> Findings {
    each(objects, "StatefulSet", "raft", |about| {
        let volumes = about.object.list("/spec/template/spec/volumes");
        let volume = volumes.iter().find(|volume| volume["name"] == "data");
        let claims = about.object.list("/spec/volumeClaimTemplates");
        if about.object.file.starts_with("kind-") {
            about.must(
                volume.is_some_and(|volume| volume["emptyDir"] == json!({})),
                "its data is not in an emptyDir without a limit",
            );
            about.must(claims.is_empty(), "claims volumes");
        } else {
            about.must(volume.is_none(), "its data goes with the pod");
            let names: Vec<_> = claims.iter().map(|claim| &claim["metadata"]["name"]).collect();
            about.must(names == ["data"], "does not claim a volume for its data");
            about.is(
                "/spec/persistentVolumeClaimRetentionPolicy",
                &json!({ "whenDeleted": "Retain", "whenScaled": "Retain" }),
            );
        }
        let mounts = about.object.list("/spec/template/spec/containers/0/volumeMounts");
        let mount = mounts.iter().find(|mount| mount["name"] == "data");
        let place = mount.and_then(|mount| mount["mountPath"].as_str()).unwrap_or_default();
        match node(about.object, "raft-0", "default") {
            Err(why) => about.must(false, &why),
            Ok(config) => about.must(
                !place.is_empty()
                    && config.data_dir.starts_with(place)
                    && config.data_dir != std::path::Path::new(place),
                &format!("keeps its data at {}", config.data_dir.display()),
            ),
        }
    })
}

/// On kind images come from the registry beside it and are looked up anew; elsewhere never from there.
pub(crate) fn images(objects: &[Object]) -> Findings {
    each_pod(objects, |about, pod| {
        let program = if about.object.kind() == "Pod" { "cltraft" } else { "srvraft" };
        let image = about.object.text(&format!("{pod}/containers/0/image")).to_owned();
        if about.object.file.starts_with("kind-") {
            about.must(
                image == format!("localhost:5001/{program}:latest"),
                &format!("runs {image}"),
            );
            about.is(&format!("{pod}/containers/0/imagePullPolicy"), &json!("Always"));
        } else {
            let named = image.contains(&format!("/{program}:"));
            let fixed = named && !image.ends_with(":latest") && !image.contains("localhost");
            about.must(fixed, &format!("runs {image}"));
        }
    })
}
