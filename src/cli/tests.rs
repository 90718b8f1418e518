//! What people and programs read, to the letter. The Spanish forms are those of the assignment
//! (mission section 2); the JSON field names are those of design section 7.

mod admin;

use bytes::Bytes;

use super::answer::{Answer, Exit, Failure, NodeAnswer, Write};
use super::lang::Lang;
use super::selftest::Step;
use super::{json, text};
use crate::client::{Error, Written};
use crate::codec::api::{
    Answerer, GetReply, KeyValue, LogContent, LogLine, ReplicationReply, StatusReply,
};
use crate::raft::{ClusterId, Index, NodeId, RoleKind, Term};

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn from() -> Answerer {
    let name = "raft-1".to_owned();
    Answerer { leader: Some(name.clone()), name, is_leader: true, term: 3 }
}

fn entry(key: &'static str, value: &'static [u8]) -> KeyValue {
    KeyValue {
        key: bytes(key),
        value: Bytes::from_static(value),
        create_revision: 1,
        mod_revision: 2,
        version: 2,
    }
}

fn read(found: Option<KeyValue>) -> Answer {
    let reply = GetReply { found, revision: 2, index: 4, local: false, from: from() };
    Answer::Read { key: bytes("0x0000"), reply }
}

fn write(write: Write, succeeded: bool) -> Answer {
    let written = Written { revision: 2, succeeded, index: 4, term: 3, from: from() };
    Answer::Written { key: bytes("0x0000"), write, written }
}

fn status() -> StatusReply {
    StatusReply {
        name: "raft-1".into(),
        node_id: NodeId(0xab),
        cluster_id: Some(ClusterId(0xcd)),
        role: RoleKind::Leader,
        leader: Some("raft-1".into()),
        term: Term(78),
        last_index: Index(9),
        commit_index: Index(8),
        applied_index: Index(7),
        snapshot_index: Index(0),
        state_hash: 0xef,
        waiting: None,
        stopping: false,
        snapshots: Default::default(),
        ready: true,
    }
}

fn nodes() -> Answer {
    let lost = Error::no_leader("unreachable", "h:2: connection refused");
    Answer::Nodes(vec![
        NodeAnswer { endpoint: "h:1".into(), name: Some("raft-1".into()), status: Ok(status()) },
        NodeAnswer { endpoint: "h:2".into(), name: None, status: Err(lost.into()) },
    ])
}

fn replication() -> Answer {
    let line = |index, content| LogLine { index: Index(index), term: Term(3), content };
    let names = vec!["raft-0".to_owned(), "raft-1".to_owned()];
    let cas = LogContent::Cas { key: bytes("k"), expected: None, value: bytes("v") };
    Answer::Replication(ReplicationReply {
        name: "raft-1".into(),
        first_index: Index(1),
        last_index: Index(7),
        log: vec![
            line(1, LogContent::Membership { names }),
            line(2, LogContent::Noop),
            line(3, LogContent::Session),
            line(4, LogContent::Put { key: bytes("0x0000"), value: bytes("chocolate") }),
            line(5, LogContent::Delete { key: bytes("x") }),
            line(6, cas),
        ],
        next_index: Some(Index(7)),
        store: vec![entry("0x0000", b"chocolate")],
        next_key: None,
        applied_index: Index(7),
    })
}

fn said(answer: &Answer, lang: Lang) -> String {
    text::lines(answer, lang)
}

fn object(answer: &Answer) -> String {
    json::lines(answer).iter().map(|object| object.line() + "\n").collect()
}

/// The manual names every option and every command, and no option that does not exist.
#[test]
fn the_manual_is_complete() {
    let manual = include_str!("../../docs/cli.md");
    let help = super::options::client_help();
    let options = |text: &str| -> std::collections::BTreeSet<String> {
        let end = |rest: &str| rest.find(|c: char| c != '-' && !c.is_ascii_lowercase());
        let named = text.match_indices("--").map(|(at, _)| &text[at..]);
        let named = named.map(|rest| rest[..end(rest).unwrap_or(rest.len())].to_owned());
        named.filter(|name| name.len() > 3 && !name.starts_with("---")).collect()
    };
    assert_eq!(options(manual), options(&help));
    for (english, spanish) in super::command::NAMES {
        assert!(manual.contains(&format!("| `{english}")), "{english}");
        assert!(manual.contains(&format!("`{spanish}")), "{spanish}");
    }
    for exit in 0..=7 {
        assert!(manual.contains(&format!("\n| {exit} | ")), "status {exit}");
    }
    let some = [read(None), write(Write::Put(bytes("v")), true), nodes(), replication()];
    for answer in some.into_iter().chain(admin::answers()) {
        for line in object(&answer).lines() {
            let fields: serde_json::Value = serde_json::from_str(line).unwrap();
            for field in fields.as_object().unwrap().keys() {
                assert!(manual.contains(&format!("`{field}`")), "{field} is not in the manual");
            }
        }
    }
}

#[test]
fn a_read_in_both_languages() {
    let answer = read(Some(entry("0x0000", b"chocolate")));
    assert_eq!(
        said(&answer, Lang::Es),
        "---- RESPUESTA REMOTA ----\n\
         - ValorADevolver: chocolate\n\
         - IndiceRegistro: 4\n\
         - Mandato: 3\n\
         - EsLider: true\n\
         - IdLider: 1\n\
         ---- FIN RESPUESTA REMOTA ----\n"
    );
    assert_eq!(
        said(&answer, Lang::En),
        "---- REMOTE ANSWER ----\n\
         - Value: chocolate\n\
         - LogIndex: 4\n\
         - Term: 3\n\
         - IsLeader: true\n\
         - LeaderId: 1\n\
         ---- END OF REMOTE ANSWER ----\n"
    );
    assert_eq!(
        object(&answer),
        "{\"key\":\"0x0000\",\"value\":\"chocolate\",\"create_revision\":1,\"mod_revision\":2,\
         \"version\":2,\"index\":4,\"term\":3,\"leader\":\"raft-1\"}\n"
    );
}

#[test]
fn a_write_is_the_same_block() {
    let answer = write(Write::Put(bytes("chocolate")), true);
    assert_eq!(said(&answer, Lang::Es), said(&read(Some(entry("0x0000", b"chocolate"))), Lang::Es));
    assert_eq!(
        object(&answer),
        "{\"key\":\"0x0000\",\"revision\":2,\"index\":4,\"term\":3,\"leader\":\"raft-1\",\
         \"applied\":true}\n"
    );
    assert_eq!(answer.exit(), Exit::Done);
}

#[test]
fn bytes_that_are_no_text_are_told_apart() {
    let answer = read(Some(entry("k", b"\xff\x00a\x1b[2J\\n")));
    assert!(object(&answer).contains("\"value_base64\":\"/wBhG1sySlxu\""), "{}", object(&answer));
    assert!(!object(&answer).contains("\"value\""));
    let shown = said(&answer, Lang::En);
    assert!(shown.contains("- Value: \\xff\\u{0}a\\u{1b}[2J\\\\n\n"), "{shown}");
}

#[test]
fn a_key_that_is_not_there() {
    let answer = read(None);
    assert_eq!(answer.exit(), Exit::NotFound);
    assert_eq!(said(&answer, Lang::En), "");
    assert_eq!(
        object(&answer),
        "{\"key\":\"0x0000\",\"index\":4,\"term\":3,\"leader\":\"raft-1\",\"error\":\"not_found\",\
         \"message\":\"there is no key 0x0000\",\"exit\":3}\n"
    );
    let failure = answer.failure().unwrap();
    assert_eq!(text::failure(&failure, Lang::En), "error: there is no key 0x0000\n");
    let spanish = "error: no existe la clave (there is no key 0x0000)\n";
    assert_eq!(text::failure(&failure, Lang::Es), spanish);
}

#[test]
fn a_condition_that_does_not_hold_is_an_answer_with_its_own_status() {
    let answer = write(Write::Cas(bytes("v")), false);
    assert_eq!(answer.exit(), Exit::ConditionNotMet);
    assert!(said(&answer, Lang::Es).contains("- Aplicado: false\n"));
    assert!(object(&answer).contains("\"applied\":false,\"error\":\"condition_not_met\""));
    let answer = write(Write::Delete, false);
    assert_eq!(answer.exit(), Exit::NotFound);
    assert!(said(&answer, Lang::En).contains("- Deleted: false\n"));
    assert!(object(&answer).contains("\"deleted\":false,\"error\":\"not_found\""));
}

#[test]
fn the_state_of_nodes() {
    assert_eq!(
        said(&nodes(), Lang::Es),
        "[Información del Nodo]\n\
         Nodo: 1 | Mandato: 78 | EsLíder: true | Líder: 1\n\
         [Información del Nodo]\n\
         Nodo: h:2 | sin respuesta: connection refused\n"
    );
    assert_eq!(
        said(&nodes(), Lang::En),
        "[Node Information]\n\
         Node: 1 | Term: 78 | IsLeader: true | Leader: 1\n\
         [Node Information]\n\
         Node: h:2 | no answer: connection refused\n"
    );
    assert_eq!(
        object(&nodes()),
        "{\"name\":\"raft-1\",\"node_id\":\"00000000000000ab\",\"cluster_id\":\"00000000000000cd\",\
         \"role\":\"leader\",\"is_leader\":true,\"leader\":\"raft-1\",\"term\":78,\"last_index\":9,\
         \"commit_index\":8,\"applied_index\":7,\"snapshot_index\":0,\
         \"state_hash\":\"00000000000000ef\"}\n\
         {\"name\":null,\"endpoint\":\"h:2\",\"error\":\"unreachable\",\
         \"message\":\"h:2: connection refused\",\"exit\":6,\"leader\":null}\n"
    );
    assert_eq!(nodes().exit(), Exit::Done);
}

#[test]
fn a_node_that_knows_no_leader_says_so() {
    let waiting = Some("waits to be taken in".to_owned());
    let status = StatusReply { role: RoleKind::Follower, leader: None, waiting, ..status() };
    let answer =
        Answer::Nodes(vec![NodeAnswer { endpoint: "h:1".into(), name: None, status: Ok(status) }]);
    assert_eq!(
        said(&answer, Lang::En),
        "[Node Information]\nNode: 1 | Term: 78 | IsLeader: false | Leader: -\n\
         Waiting: waits to be taken in\n"
    );
}

#[test]
fn a_log_and_a_store() {
    assert_eq!(
        said(&replication(), Lang::Es),
        "Log (len=7):\n\
         [1] {1 3 {membership raft-0 raft-1}}\n\
         [2] {2 3 {noop}}\n\
         [3] {3 3 {session 3}}\n\
         [4] {4 3 {escribir 0x0000 chocolate}}\n\
         [5] {5 3 {borrar x}}\n\
         [6] {6 3 {comparar k - v}}\n\
         ... sigue en 7\n\
         ----- Almacén (claves limitadas) -----\n\
         0x0000: chocolate\n\
         -----\n"
    );
    let english = said(&replication(), Lang::En);
    assert!(english.contains("[4] {4 3 {put 0x0000 chocolate}}\n"), "{english}");
    assert_eq!(
        object(&replication()),
        "{\"name\":\"raft-1\",\"first_index\":1,\"last_index\":7,\"applied_index\":7,\"log\":[\
         {\"index\":1,\"term\":3,\"kind\":\"membership\",\"names\":[\"raft-0\",\"raft-1\"]},\
         {\"index\":2,\"term\":3,\"kind\":\"noop\"},\
         {\"index\":3,\"term\":3,\"kind\":\"session\",\"session\":3},\
         {\"index\":4,\"term\":3,\"kind\":\"put\",\"key\":\"0x0000\",\"value\":\"chocolate\"},\
         {\"index\":5,\"term\":3,\"kind\":\"delete\",\"key\":\"x\"},\
         {\"index\":6,\"term\":3,\"kind\":\"cas\",\"key\":\"k\",\"expected\":null,\"value\":\"v\"}],\
         \"store\":[{\"key\":\"0x0000\",\"value\":\"chocolate\",\"create_revision\":1,\
         \"mod_revision\":2,\"version\":2}],\"next_index\":7}\n"
    );
}

#[test]
fn a_node_that_stopped() {
    let answer = Answer::Stopped { name: "raft-1".into() };
    assert_eq!(said(&answer, Lang::Es), "Nodo 1 detenido correctamente.\n");
    assert_eq!(said(&answer, Lang::En), "Node 1 stopped.\n");
    assert_eq!(object(&answer), "{\"name\":\"raft-1\",\"stopped\":true}\n");
}

#[test]
fn the_automatic_client_in_both_languages() {
    let value = |text: &'static str| Bytes::from_static(text.as_bytes());
    let written = Written { revision: 1, succeeded: true, index: 17, term: 94, from: from() };
    let wrote = Step::Wrote { key: value("k"), value: value("v"), written };
    let read = |found, expected| Step::Read {
        key: value("k"),
        found: Some(value(found)),
        expected: value(expected),
        from: from(),
    };
    let cases = [
        (Step::Begun, "--- START OF CLIENT TESTS ---", "--- INICIO DE PRUEBAS DE CLIENTE ---"),
        (
            wrote,
            "  -> Write OK: idx=17, term=94, leader=1",
            "  -> Escritura OK: idx=17, mandato=94, lider=1",
        ),
        (
            read("v", "v"),
            "  -> Read OK: 'v' == 'v' (Expected)",
            "  -> Lectura OK: 'v' == 'v' (Esperado)",
        ),
        (read("w", "v"), "  -> Read WRONG: 'w' != 'v'", "  -> Lectura INCORRECTA: 'w' != 'v'"),
        (Step::Overwriting, "OVERWRITE TEST", "PRUEBA DE SOBRESCRITURA"),
        (
            Step::Passed,
            "--- ALL TESTS COMPLETED SUCCESSFULLY ---",
            "--- TODAS LAS PRUEBAS COMPLETADAS CON ÉXITO ---",
        ),
    ];
    for (step, english, spanish) in cases {
        assert_eq!(step.line(Lang::En).trim_end_matches('\n'), english);
        assert_eq!(step.line(Lang::Es).trim_end_matches('\n'), spanish);
    }
}

#[test]
fn failures_have_a_word_a_sentence_and_a_status() {
    let cases = [
        (Error::refused("busy", "full"), Exit::Failed, "error: full\n"),
        (Error::no_leader("no_leader", "none"), Exit::NoLeader, "error: none\n"),
        (Error::untrusted("no"), Exit::Untrusted, "error: no\n"),
        (Error::unknown("lost"), Exit::Unknown, "outcome unknown: lost\n"),
    ];
    for (error, exit, line) in cases {
        let word = error.word;
        let failure = Failure::from(error);
        assert_eq!(failure.exit, exit);
        assert_eq!(text::failure(&failure, Lang::En), line);
        let message = failure.message.clone();
        let answer = Answer::Failed(failure);
        assert_eq!(
            object(&answer),
            format!(
                "{{\"error\":\"{word}\",\"message\":\"{message}\",\"exit\":{},\"leader\":null}}\n",
                exit as u8
            )
        );
    }
}

#[test]
fn in_the_shell_every_answer_is_one_object_with_its_status() {
    let page = |entries| Answer::Entries { entries, index: 4, term: 3, leader: None };
    let step = Answer::Step(Step::Passed);
    let failed = Answer::Failed(Failure::new("busy", "full"));
    let cases: [(&[Answer], u64); 8] = [
        (&[write(Write::Put(bytes("v")), true)], 0),
        (&[read(None)], 3),
        (&[nodes()], 0),
        (&[replication()], 0),
        (&[page(vec![entry("a", b"1")]), page(vec![entry("b", b"2")])], 0),
        (&[page(Vec::new())], 0),
        (&[Answer::Step(Step::Begun), step], 0),
        (&[page(Vec::new()), failed], 1),
    ];
    for (answers, exit) in cases {
        let line = json::one(answers).line();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["exit"], exit, "{line}");
        assert_eq!(line.matches("\"exit\"").count() - line.matches("\"endpoint\"").count(), 1);
    }
    let entries = json::one(&[page(vec![entry("a", b"1")]), page(vec![entry("b", b"2")])]).line();
    assert!(entries.starts_with("{\"entries\":[{\"key\":\"a\""), "{entries}");
}
