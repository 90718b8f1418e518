//! Answers for programs: one object a line, the same field names everywhere (design section 7).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::answer::{Answer, Exit, Failure, NodeAnswer, Write};
use super::samples::{Sample, samples};
use crate::codec::api::{
    KeyValue, LogContent, LogLine, MemberStatus, ReplicationReply, SnapshotCounters, StatusReply,
};

/// A JSON value whose fields keep their order.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Json {
    /// `null` or a text.
    Text(Option<String>),
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(u64),
    /// A measured number.
    Float(f64),
    /// Texts by names that are not known beforehand.
    Labels(BTreeMap<String, String>),
    /// A list.
    List(Vec<Json>),
    /// An object.
    Object(Object),
}

/// A JSON object whose fields keep their order.
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<(&'static str, Json)>);

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Object {
    /// The object with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Json>) -> Object {
        self.0.push((name, value.into()));
        self
    }

    /// Bytes under `name` if they are UTF-8, else under `name_base64`.
    fn bytes(self, name: &'static str, name_base64: &'static str, bytes: &[u8]) -> Object {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.with(name, text),
            Err(_) => self.with(name_base64, STANDARD.encode(bytes)),
        }
    }

    fn key(self, key: &[u8]) -> Object {
        self.bytes("key", "key_base64", key)
    }

    fn value(self, value: &[u8]) -> Object {
        self.bytes("value", "value_base64", value)
    }

    fn entry(self, entry: &KeyValue) -> Object {
        self.key(&entry.key)
            .value(&entry.value)
            .with("create_revision", entry.create_revision)
            .with("mod_revision", entry.mod_revision)
            .with("version", entry.version)
    }

    fn failure(self, failure: &Failure) -> Object {
        self.with("error", failure.word)
            .with("message", failure.message.as_str())
            .with("exit", failure.exit)
            .with("leader", failure.leader.clone())
    }

    /// The object on one line.
    #[must_use]
    pub fn line(&self) -> String {
        // Serializing texts, numbers and lists into a string cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

macro_rules! into_json {
    ($($type:ty => $value:ident $json:expr;)*) => {
        $(impl From<$type> for Json {
            fn from($value: $type) -> Json {
                $json
            }
        })*
    };
}
into_json! {
    &str => value Json::Text(Some(value.to_owned()));
    String => value Json::Text(Some(value));
    Option<String> => value Json::Text(value);
    bool => value Json::Bool(value);
    u64 => value Json::Number(value);
    f64 => value Json::Float(value);
    Exit => value Json::Number(value as u64);
    Object => value Json::Object(value);
    BTreeMap<String, String> => value Json::Labels(value);
    Vec<Object> => value Json::List(value.into_iter().map(Json::Object).collect());
}

/// An answer of the command line: one object for each thing found.
#[must_use]
pub fn lines(answer: &Answer) -> Vec<Object> {
    match answer {
        Answer::Entries { entries, index, term, leader } => {
            let line = |entry| {
                Object::default()
                    .entry(entry)
                    .with("index", *index)
                    .with("term", *term)
                    .with("leader", leader.clone())
            };
            entries.iter().map(line).collect()
        }
        Answer::Nodes(nodes) => nodes.iter().map(node).collect(),
        Answer::Members(reply) => reply.members.iter().map(member).collect(),
        Answer::Metrics(reply) => {
            let of_node = |sample| measured(Object::default().with("name", &*reply.name), sample);
            samples(&reply.text).into_iter().map(of_node).collect()
        }
        Answer::Step(step) => step.json().into_iter().collect(),
        other => vec![single(other)],
    }
}

/// One sample of the metrics. JSON has no infinite numbers; they are texts.
fn measured(object: Object, sample: Sample) -> Object {
    let value = sample.value;
    // Beyond 2^53 a floating-point number is not exact, and neither is a JSON reader's.
    let value: Json = if value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value) {
        (value as u64).into()
    } else if value.is_finite() {
        value.into()
    } else {
        value.to_string().into()
    };
    object
        .with("metric", sample.name)
        .with("type", sample.kind)
        .with("labels", sample.labels)
        .with("value", value)
}

/// An answer of the shell: one object with its exit status, whatever was asked. Several answers to one
/// line are the pages of one range.
#[must_use]
pub fn one(answers: &[Answer]) -> Object {
    let exit = answers.iter().map(Answer::exit).max().unwrap_or(Exit::Done);
    if let Some(failed) = answers.iter().find(|answer| matches!(answer, Answer::Failed(_))) {
        return single(failed);
    }
    let object = match answers {
        [Answer::Nodes(nodes)] => match nodes.as_slice() {
            [one] => node(one),
            many => Object::default().with("nodes", many.iter().map(node).collect::<Vec<_>>()),
        },
        [Answer::Members(reply)] => {
            let members: Vec<Object> = reply.members.iter().map(member).collect();
            Object::default().with("members", members)
        }
        [Answer::Metrics(reply)] => {
            let of_node = |sample| measured(Object::default(), sample);
            let all: Vec<Object> = samples(&reply.text).into_iter().map(of_node).collect();
            Object::default().with("name", &*reply.name).with("samples", all)
        }
        [Answer::Step(_), ..] => {
            let steps: Vec<Object> = answers.iter().flat_map(lines).collect();
            Object::default().with("steps", steps)
        }
        [Answer::Entries { .. }, ..] | [] => {
            let entries: Vec<Object> = answers.iter().flat_map(lines).collect();
            Object::default().with("entries", entries)
        }
        [first, ..] => single(first),
    };
    match object.0.iter().any(|(name, _)| *name == "exit") {
        true => object,
        false => object.with("exit", exit),
    }
}

fn single(answer: &Answer) -> Object {
    let object = match answer {
        Answer::Written { key, write, written } => {
            let done = match write {
                Write::Delete => "deleted",
                Write::Put(_) | Write::Cas(_) => "applied",
            };
            Object::default()
                .key(key)
                .with("revision", written.revision)
                .with("index", written.index)
                .with("term", written.term)
                .with("leader", written.from.leader.clone())
                .with(done, written.succeeded)
        }
        Answer::Read { key, reply } => {
            let object = match &reply.found {
                Some(entry) => Object::default().entry(entry),
                None => Object::default().key(key),
            };
            object
                .with("index", reply.index)
                .with("term", reply.from.term)
                .with("leader", reply.from.leader.clone())
        }
        Answer::Replication(reply) => replication(reply),
        Answer::Stopped { name } => {
            Object::default().with("name", name.as_str()).with("stopped", true)
        }
        Answer::Changed(reply) => Object::default()
            .with("name", reply.name.as_str())
            .with("node_id", reply.node_id.to_string())
            .with("role", reply.role.as_str())
            .with("index", reply.index.0)
            .with("leader", reply.from.leader.clone()),
        Answer::Transferred(reply) => {
            Object::default().with("leader", reply.leader.as_str()).with("term", reply.term.0)
        }
        Answer::Snapshot(reply) => Object::default()
            .with("name", reply.name.as_str())
            .with("index", reply.index.0)
            .with("term", reply.term.0)
            .with("bytes", reply.bytes)
            .with("milliseconds", reply.milliseconds),
        Answer::Measured(report) => report.json(),
        Answer::Step(step) => step.json().unwrap_or_default(),
        Answer::Failed(_)
        | Answer::Entries { .. }
        | Answer::Nodes(_)
        | Answer::Members(_)
        | Answer::Metrics(_) => Object::default(),
    };
    match answer.failure() {
        None => object,
        // The leader is there already, unless the failure is all there is.
        Some(failure) if object.0.is_empty() => object.failure(&failure),
        Some(failure) => object
            .with("error", failure.word)
            .with("message", failure.message)
            .with("exit", failure.exit),
    }
}

fn node(answer: &NodeAnswer) -> Object {
    match &answer.status {
        Ok(reply) => status(reply),
        Err(failure) => Object::default()
            .with("name", answer.name.clone())
            .with("endpoint", answer.endpoint.as_str())
            .failure(failure),
    }
}

fn status(reply: &StatusReply) -> Object {
    let object = Object::default()
        .with("name", reply.name.as_str())
        .with("node_id", reply.node_id.to_string())
        .with("cluster_id", reply.cluster_id.map(|id| id.to_string()))
        .with("role", reply.role.to_string())
        .with("is_leader", reply.role == crate::raft::RoleKind::Leader)
        .with("leader", reply.leader.clone())
        .with("term", reply.term.0)
        .with("last_index", reply.last_index.0)
        .with("commit_index", reply.commit_index.0)
        .with("applied_index", reply.applied_index.0)
        .with("snapshot_index", reply.snapshot_index.0)
        .with("state_hash", format!("{:016x}", reply.state_hash));
    let object = match &reply.waiting {
        Some(why) => object.with("waiting", why.as_str()),
        None => object,
    };
    let object = if reply.stopping { object.with("stopping", true) } else { object };
    match reply.snapshots == SnapshotCounters::default() {
        true => object,
        false => object.with("snapshots", counters(&reply.snapshots)),
    }
}

fn counters(counters: &SnapshotCounters) -> Object {
    Object::default()
        .with("taken", counters.taken)
        .with("last_ms", counters.last_ms)
        .with("last_bytes", counters.last_bytes)
        .with("sent_bytes", counters.sent_bytes)
        .with("received_bytes", counters.received_bytes)
        .with("installed", counters.installed)
}

fn member(member: &MemberStatus) -> Object {
    let object = Object::default()
        .with("name", member.name.as_str())
        .with("node_id", member.node_id.to_string())
        .with("role", member.role.as_str())
        .with("address", member.address.as_str());
    match member.match_index {
        Some(index) => object.with("match_index", index.0),
        None => object.with("match_index", None),
    }
}

fn replication(reply: &ReplicationReply) -> Object {
    let store = |entry| Object::default().entry(entry);
    let object = Object::default()
        .with("name", reply.name.as_str())
        .with("first_index", reply.first_index.0)
        .with("last_index", reply.last_index.0)
        .with("applied_index", reply.applied_index.0)
        .with("log", reply.log.iter().map(log_line).collect::<Vec<_>>())
        .with("store", reply.store.iter().map(store).collect::<Vec<_>>());
    let object = match reply.next_index {
        Some(next) => object.with("next_index", next.0),
        None => object,
    };
    match &reply.next_key {
        Some(next) => object.bytes("next_key", "next_key_base64", next),
        None => object,
    }
}

fn log_line(line: &LogLine) -> Object {
    let object = Object::default().with("index", line.index.0).with("term", line.term.0);
    match &line.content {
        LogContent::Noop => object.with("kind", "noop"),
        // A session's id is the index of its entry.
        LogContent::Session => object.with("kind", "session").with("session", line.index.0),
        LogContent::Membership { names } => {
            let names = names.iter().map(|name| Json::from(name.as_str())).collect();
            object.with("kind", "membership").with("names", Json::List(names))
        }
        LogContent::Put { key, value } => object.with("kind", "put").key(key).value(value),
        LogContent::Delete { key } => object.with("kind", "delete").key(key),
        LogContent::Cas { key, expected, value } => {
            let object = object.with("kind", "cas").key(key);
            let object = match expected {
                Some(bytes) => object.bytes("expected", "expected_base64", bytes),
                None => object.with("expected", None),
            };
            object.value(value)
        }
        LogContent::Other => object.with("kind", "other"),
    }
}
