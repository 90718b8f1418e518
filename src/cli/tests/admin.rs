//! The same for what an admin does: members, hand-over, snapshots.

use super::{from, object, said, status};
use crate::cli::answer::{Answer, Exit, Failure, NodeAnswer};
use crate::cli::lang::Lang;
use crate::cli::{json, text};
use crate::client::Error;
use crate::codec::api::{
    ChangeReply, Code, MemberStatus, MembersReply, MetricsReply, Refusal, SnapshotCounters,
    SnapshotReply, StatusReply, TransferReply,
};
use crate::raft::{Index, NodeId, Term};

fn members() -> Answer {
    let member = |n: u64, role: &str, match_index| MemberStatus {
        name: format!("raft-{n}"),
        node_id: NodeId(0xa0 + n),
        role: role.into(),
        address: format!("h:{n}"),
        match_index,
    };
    let members = vec![member(0, "voter", Some(Index(12))), member(3, "learner", None)];
    Answer::Members(MembersReply { members, from: from() })
}

fn changed(role: &str) -> Answer {
    let (name, node_id, role) = ("raft-3".into(), NodeId(0xa3), role.into());
    Answer::Changed(ChangeReply { name, node_id, role, index: Index(17), from: from() })
}

fn transferred() -> Answer {
    Answer::Transferred(TransferReply { leader: "raft-2".into(), term: Term(5), from: from() })
}

fn taken() -> Answer {
    Answer::Snapshot(SnapshotReply {
        name: "raft-1".into(),
        index: Index(900),
        term: Term(3),
        bytes: 12_345,
        milliseconds: 15,
    })
}

fn metrics() -> Answer {
    let text = "# TYPE balsa_term gauge\nbalsa_term 7\n# TYPE balsa_refused counter\n\
                balsa_refused_total{reason=\"plaintext\"} 2\n# TYPE x gauge\nx 0.25\nx +Inf\n# EOF\n";
    Answer::Metrics(MetricsReply { name: "raft-1".into(), text: text.into() })
}

fn busy_node() -> Answer {
    let snapshots =
        SnapshotCounters { taken: 2, last_ms: 15, last_bytes: 99, ..Default::default() };
    let status = StatusReply {
        snapshot_index: Index(5),
        stopping: true,
        waiting: Some("waits".into()),
        snapshots,
        ..status()
    };
    Answer::Nodes(vec![NodeAnswer { endpoint: "h:1".into(), name: None, status: Ok(status) }])
}

/// One of each, for the test of the manual.
pub(super) fn answers() -> [Answer; 6] {
    [members(), changed("voter"), transferred(), taken(), metrics(), busy_node()]
}

#[test]
fn the_members() {
    assert_eq!(
        said(&members(), Lang::En),
        "[Members]\n\
         Node: 0 | Role: voter | Match: 12 | Address: h:0 | NodeId: 00000000000000a0\n\
         Node: 3 | Role: learner | Match: - | Address: h:3 | NodeId: 00000000000000a3\n"
    );
    assert_eq!(
        said(&members(), Lang::Es),
        "[Miembros]\n\
         Nodo: 0 | Papel: votante | Coincide: 12 | Dirección: h:0 | IdNodo: 00000000000000a0\n\
         Nodo: 3 | Papel: aprendiz | Coincide: - | Dirección: h:3 | IdNodo: 00000000000000a3\n"
    );
    let lines = "{\"name\":\"raft-0\",\"node_id\":\"00000000000000a0\",\"role\":\"voter\",\
                 \"address\":\"h:0\",\"match_index\":12}\n\
                 {\"name\":\"raft-3\",\"node_id\":\"00000000000000a3\",\"role\":\"learner\",\
                 \"address\":\"h:3\",\"match_index\":null}\n";
    assert_eq!(object(&members()), lines);
    let listed: Vec<_> = lines.lines().collect();
    let listed = listed.join(",");
    assert_eq!(json::one(&[members()]).line(), format!("{{\"members\":[{listed}],\"exit\":0}}"));
}

#[test]
fn a_change_of_the_members() {
    let cases = [
        (
            "learner",
            "Node 3 is a learner, at index 17.\n",
            "Nodo 3 es aprendiz, en el índice 17.\n",
        ),
        ("voter", "Node 3 is a voter, at index 17.\n", "Nodo 3 es votante, en el índice 17.\n"),
        ("removed", "Node 3 removed, at index 17.\n", "Nodo 3 retirado, en el índice 17.\n"),
    ];
    for (role, english, spanish) in cases {
        assert_eq!(said(&changed(role), Lang::En), english);
        assert_eq!(said(&changed(role), Lang::Es), spanish);
        assert_eq!(
            object(&changed(role)),
            format!(
                "{{\"name\":\"raft-3\",\"node_id\":\"00000000000000a3\",\"role\":\"{role}\",\
                 \"index\":17,\"leader\":\"raft-1\"}}\n"
            )
        );
        assert_eq!(changed(role).exit(), Exit::Done);
    }
}

#[test]
fn a_hand_over_and_a_snapshot() {
    assert_eq!(said(&transferred(), Lang::En), "Node 2 leads, in term 5.\n");
    assert_eq!(said(&transferred(), Lang::Es), "Nodo 2 es el líder, en el mandato 5.\n");
    assert_eq!(object(&transferred()), "{\"leader\":\"raft-2\",\"term\":5}\n");
    assert_eq!(
        said(&taken(), Lang::En),
        "Node 1: snapshot up to index 900, term 3: 12345 bytes, 15 ms.\n"
    );
    assert_eq!(
        said(&taken(), Lang::Es),
        "Nodo 1: instantánea hasta el índice 900, mandato 3: 12345 bytes, 15 ms.\n"
    );
    assert_eq!(
        object(&taken()),
        "{\"name\":\"raft-1\",\"index\":900,\"term\":3,\"bytes\":12345,\"milliseconds\":15}\n"
    );
}

#[test]
fn metrics_are_text_as_they_are_and_an_object_a_sample() {
    let Answer::Metrics(reply) = metrics() else { unreachable!("made above") };
    assert_eq!(said(&metrics(), Lang::En), reply.text);
    assert_eq!(said(&metrics(), Lang::Es), reply.text);
    let seat = "\"name\":\"raft-1\",";
    let samples = [
        "\"metric\":\"balsa_term\",\"type\":\"gauge\",\"labels\":{},\"value\":7",
        "\"metric\":\"balsa_refused_total\",\"type\":\"counter\",\
         \"labels\":{\"reason\":\"plaintext\"},\"value\":2",
        "\"metric\":\"x\",\"type\":\"gauge\",\"labels\":{},\"value\":0.25",
        "\"metric\":\"x\",\"type\":\"gauge\",\"labels\":{},\"value\":\"inf\"",
    ];
    let lines: String = samples.iter().map(|one| format!("{{{seat}{one}}}\n")).collect();
    assert_eq!(object(&metrics()), lines);
    let listed: Vec<String> = samples.iter().map(|one| format!("{{{one}}}")).collect();
    let listed = listed.join(",");
    let one = json::one(&[metrics()]).line();
    assert_eq!(one, format!("{{{seat}\"samples\":[{listed}],\"exit\":0}}"));
}

#[test]
fn a_node_that_waits_and_stops_and_has_a_snapshot() {
    assert_eq!(
        said(&busy_node(), Lang::En),
        "[Node Information]\nNode: 1 | Term: 78 | IsLeader: true | Leader: 1\n\
         Waiting: waits\nStopping\nSnapshot: up to index 5\n"
    );
    assert_eq!(
        said(&busy_node(), Lang::Es),
        "[Información del Nodo]\nNodo: 1 | Mandato: 78 | EsLíder: true | Líder: 1\n\
         En espera: waits\nDeteniéndose\nInstantánea: hasta el índice 5\n"
    );
    let json = object(&busy_node());
    let tail = "\"snapshot_index\":5,\"state_hash\":\"00000000000000ef\",\"waiting\":\"waits\",\
                \"stopping\":true,\"snapshots\":{\"taken\":2,\"last_ms\":15,\"last_bytes\":99,\
                \"sent_bytes\":0,\"received_bytes\":0,\"installed\":0}}\n";
    assert!(json.ends_with(tail), "{json}");
}

#[test]
fn refusals_of_changes_end_with_their_status() {
    let cases = [
        (Code::UnderWay, "under_way", Exit::Failed, "ya hay otro cambio de los miembros en marcha"),
        (Code::Conflict, "conflict", Exit::Failed, "los miembros son otros"),
        (Code::NotLeader, "not_leader", Exit::NoLeader, "ese nodo no es el líder"),
        (Code::NoSpace, "no_space", Exit::Failed, "el disco del líder está lleno"),
    ];
    for (code, word, exit, spanish) in cases {
        let failure = Failure::from(Error::from(Refusal::new(code, "because")));
        assert_eq!((failure.word, failure.exit), (word, exit));
        assert_eq!(text::failure(&failure, Lang::En), "error: because\n");
        assert_eq!(text::failure(&failure, Lang::Es), format!("error: {spanish} (because)\n"));
    }
}
