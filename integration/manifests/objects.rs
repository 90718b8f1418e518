//! The rendered objects, read as a cluster would read them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// What is rendered, and committed beside the overlays (`scripts/check-manifests.sh` compares them).
pub(crate) const FILES: [&str; 4] =
    ["kind-client.yaml", "kind-servers.yaml", "production-client.yaml", "production-servers.yaml"];

/// The production overlay with both components.
pub(crate) const MANAGED: [&str; 2] = ["managed-client.yaml", "managed-servers.yaml"];

/// One object, and the file it is in.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) file: String,
    pub(crate) value: Value,
}

impl Object {
    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// `kind-servers.yaml: StatefulSet raft`, for findings.
    pub(crate) fn label(&self) -> String {
        format!("{}: {} {}", self.file, self.kind(), self.name())
    }

    /// What stands there; null if nothing does.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.value.pointer(pointer).unwrap_or(&Value::Null)
    }

    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    /// The elements of a list; none if it is not there.
    pub(crate) fn list(&self, pointer: &str) -> &[Value] {
        self.at(pointer).as_array().map_or(&[], Vec::as_slice)
    }

    /// Where the pod's specification is, if the object runs pods.
    pub(crate) fn pod(&self) -> Option<&'static str> {
        match self.kind() {
            "Pod" => Some("/spec"),
            "StatefulSet" => Some("/spec/template/spec"),
            _ => None,
        }
    }

    /// The labels of its pods.
    pub(crate) fn pod_labels(&self) -> &Value {
        match self.kind() {
            "StatefulSet" => self.at("/spec/template/metadata/labels"),
            _ => self.at("/metadata/labels"),
        }
    }

    /// The variables of its only container, as the kubelet makes them for this pod.
    pub(crate) fn environment(&self, pod: &str, namespace: &str) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        let at = format!("{}/containers/0/env", self.pod().unwrap_or_default());
        for variable in self.list(&at) {
            let text = |pointer: &str| variable.pointer(pointer).and_then(Value::as_str);
            let mut value = match text("/valueFrom/fieldRef/fieldPath") {
                Some("metadata.name") => pod.to_owned(),
                Some("metadata.namespace") => namespace.to_owned(),
                Some(other) => panic!("{}: the field {other} of a variable", self.label()),
                None => text("/value").unwrap_or_default().to_owned(),
            };
            // A variable may name those that stand before it.
            for (name, known) in &variables {
                value = value.replace(&format!("$({name})"), known);
            }
            variables.insert(text("/name").unwrap_or_default().to_owned(), value);
        }
        variables
    }
}

/// What needs nothing in the cluster besides Kubernetes.
pub(crate) fn rendered() -> Vec<Object> {
    FILES.iter().flat_map(|file| read(file, &text_of(file))).collect()
}

/// What needs cert-manager and the Prometheus operator.
pub(crate) fn managed() -> Vec<Object> {
    MANAGED.iter().flat_map(|file| read(file, &text_of(file))).collect()
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("k8s/rendered")
}

fn text_of(file: &str) -> String {
    let path = folder().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The objects of one file.
pub(crate) fn read(file: &str, text: &str) -> Vec<Object> {
    let documents = YamlLoader::load_from_str(text).unwrap_or_else(|why| panic!("{file}: {why}"));
    let object = |yaml: &Yaml| Object { file: file.to_owned(), value: json(file, yaml) };
    documents.iter().map(object).collect()
}

/// YAML as JSON: the objects hold nothing that JSON has not.
fn json(file: &str, yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Integer(number) => Value::from(*number),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Boolean(truth) => Value::from(*truth),
        Yaml::Null => Value::Null,
        Yaml::Array(list) => list.iter().map(|element| json(file, element)).collect(),
        Yaml::Hash(fields) => {
            let field = |(key, value): (&Yaml, &Yaml)| {
                let key = key.as_str().unwrap_or_else(|| panic!("{file}: the key {key:?}"));
                (key.to_owned(), json(file, value))
            };
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        other => panic!("{file}: {other:?} has no place in a manifest"),
    }
}
