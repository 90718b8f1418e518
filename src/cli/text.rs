//! Answers for people, in English and in Spanish, in the forms of the assignment (mission section 2).

use std::fmt::Write as _;

use super::answer::{Answer, Exit, Failure, NodeAnswer, Write};
use super::lang::Lang;
use super::values;
use crate::codec::api::{
    Answerer, ChangeReply, KeyValue, LogContent, MemberStatus, MembersReply, ReplicationReply,
    SnapshotReply, StatusReply,
};
use crate::raft::RoleKind;

/// Bytes for a terminal: UTF-8 as it is, everything that could move the cursor or is no text as an
/// escape, and the backslash that begins one, so that each text stands for one value only.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c.is_control() || c == '\\' {
                true => shown.extend(c.escape_default()),
                false => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// A seat for people: its ordinal, else its whole name; `-` if there is none.
#[must_use]
pub fn seat(name: Option<&str>) -> String {
    match name {
        None => "-".to_owned(),
        Some(name) => match values::ordinal(name) {
            Some((_, ordinal)) => ordinal.to_string(),
            None => name.to_owned(),
        },
    }
}

/// An answer as lines, each with its end. Empty for what is said on standard error instead
/// ([`failure`]).
#[must_use]
pub fn lines(answer: &Answer, lang: Lang) -> String {
    match answer {
        Answer::Written { write, written, .. } => {
            let (name, value) = match write {
                Write::Put(value) => (lang.pick("Value", "ValorADevolver"), shown(value)),
                Write::Delete => (lang.pick("Deleted", "Borrado"), written.succeeded.to_string()),
                Write::Cas(_) => (lang.pick("Applied", "Aplicado"), written.succeeded.to_string()),
            };
            block(lang, name, &value, written.index, written.term, &written.from)
        }
        Answer::Read { reply, .. } => match &reply.found {
            Some(entry) => {
                let name = lang.pick("Value", "ValorADevolver");
                let value = shown(&entry.value);
                block(lang, name, &value, reply.index, reply.from.term, &reply.from)
            }
            None => String::new(),
        },
        Answer::Entries { entries, .. } => entries.iter().map(key_value).collect(),
        Answer::Nodes(nodes) => nodes.iter().map(|answer| node(answer, lang)).collect(),
        Answer::Metrics(reply) => reply.text.clone(),
        Answer::Replication(reply) => replication(reply, lang),
        Answer::Stopped { name } => {
            let name = seat(Some(name));
            match lang {
                Lang::En => format!("Node {name} stopped.\n"),
                Lang::Es => format!("Nodo {name} detenido correctamente.\n"),
            }
        }
        Answer::Members(reply) => members(reply, lang),
        Answer::Changed(reply) => changed(reply, lang),
        Answer::Transferred(reply) => {
            let (leader, term) = (seat(Some(&reply.leader)), reply.term);
            match lang {
                Lang::En => format!("Node {leader} leads, in term {term}.\n"),
                Lang::Es => format!("Nodo {leader} es el líder, en el mandato {term}.\n"),
            }
        }
        Answer::Snapshot(reply) => snapshot(reply, lang),
        Answer::Step(step) => step.line(lang),
        Answer::Measured(report) => report.text(lang),
        Answer::Failed(_) => String::new(),
    }
}

/// A failure in one line, with its end.
#[must_use]
pub fn failure(failure: &Failure, lang: Lang) -> String {
    let Failure { message, exit, .. } = failure;
    let mut line = match lang {
        Lang::En if *exit == Exit::Unknown => format!("outcome unknown: {message}"),
        Lang::En => format!("error: {message}"),
        Lang::Es => match spanish(failure) {
            Some(sentence) => format!("error: {sentence} ({message})"),
            None => format!("error: {message}"),
        },
    };
    if let (Some(leader), Exit::NoLeader) = (&failure.leader, exit) {
        let leads = lang.pick("leader", "líder");
        let _ = write!(line, " [{leads}: {leader}]");
    }
    line.push('\n');
    line
}

/// What is wrong, in Spanish, where a stable word says it; the message has the details.
fn spanish(failure: &Failure) -> Option<&'static str> {
    Some(match failure.word {
        "not_found" => "no existe la clave",
        "condition_not_met" => "la clave no tiene el valor esperado",
        "unknown" => "resultado desconocido: la escritura puede haberse hecho o no",
        "not_leader" => "ese nodo no es el líder",
        "no_leader" => "nadie lidera ahora mismo",
        "no_quorum" => "no hay mayoría",
        "unreachable" => "ningún nodo responde",
        "denied" => "sin permiso, o certificado rechazado",
        "revoked" => "certificado revocado",
        "too_large" => "demasiado grande",
        "no_space" => "el disco del líder está lleno",
        "busy" => "el clúster está saturado",
        "under_way" => "ya hay otro cambio de los miembros en marcha",
        "conflict" => "los miembros son otros",
        "session_expired" => "la sesión ha caducado; la escritura no se ha hecho",
        "no_such_node" => "no hay tal nodo",
        "usage" => "orden incorrecta",
        _ => return None,
    })
}

fn block(lang: Lang, name: &str, value: &str, index: u64, term: u64, from: &Answerer) -> String {
    let leader = seat(from.leader.as_deref());
    let leads = from.is_leader;
    match lang {
        Lang::En => format!(
            "---- REMOTE ANSWER ----\n- {name}: {value}\n- LogIndex: {index}\n- Term: {term}\n\
             - IsLeader: {leads}\n- LeaderId: {leader}\n---- END OF REMOTE ANSWER ----\n"
        ),
        Lang::Es => format!(
            "---- RESPUESTA REMOTA ----\n- {name}: {value}\n- IndiceRegistro: {index}\n\
             - Mandato: {term}\n- EsLider: {leads}\n- IdLider: {leader}\n\
             ---- FIN RESPUESTA REMOTA ----\n"
        ),
    }
}

fn key_value(entry: &KeyValue) -> String {
    format!("{}: {}\n", shown(&entry.key), shown(&entry.value))
}

fn node(answer: &NodeAnswer, lang: Lang) -> String {
    match &answer.status {
        Ok(reply) => status(reply, lang),
        Err(failure) => {
            let name = answer.name.as_deref().map_or_else(
                || answer.endpoint.clone(),
                |name| format!("{} ({})", seat(Some(name)), answer.endpoint),
            );
            let (title, node) = titles(lang);
            let silent = match failure.exit {
                Exit::Untrusted => lang.pick("not trusted", "sin confianza"),
                _ => lang.pick("no answer", "sin respuesta"),
            };
            // The endpoint stands there already.
            let why = failure.message.strip_prefix(&answer.endpoint);
            let why = why.and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&failure.message);
            format!("{title}\n{node}: {name} | {silent}: {why}\n")
        }
    }
}

fn titles(lang: Lang) -> (&'static str, &'static str) {
    match lang {
        Lang::En => ("[Node Information]", "Node"),
        Lang::Es => ("[Información del Nodo]", "Nodo"),
    }
}

fn status(reply: &StatusReply, lang: Lang) -> String {
    let (title, node) = titles(lang);
    let (name, leader) = (seat(Some(&reply.name)), seat(reply.leader.as_deref()));
    let (term, leads) = (reply.term, reply.role == RoleKind::Leader);
    let mut text = match lang {
        Lang::En => {
            format!(
                "{title}\n{node}: {name} | Term: {term} | IsLeader: {leads} | Leader: {leader}\n"
            )
        }
        Lang::Es => format!(
            "{title}\n{node}: {name} | Mandato: {term} | EsLíder: {leads} | Líder: {leader}\n"
        ),
    };
    if let Some(why) = &reply.waiting {
        let _ = writeln!(text, "{}: {why}", lang.pick("Waiting", "En espera"));
    }
    if reply.stopping {
        let _ = writeln!(text, "{}", lang.pick("Stopping", "Deteniéndose"));
    }
    if reply.snapshot_index.0 > 0 {
        let upto = lang.pick("Snapshot: up to index", "Instantánea: hasta el índice");
        let _ = writeln!(text, "{upto} {}", reply.snapshot_index);
    }
    text
}

fn members(reply: &MembersReply, lang: Lang) -> String {
    let title = lang.pick("[Members]", "[Miembros]");
    let lines = reply.members.iter().map(|member| self::member(member, lang));
    std::iter::once(format!("{title}\n")).chain(lines).collect()
}

fn member(member: &MemberStatus, lang: Lang) -> String {
    let (name, address, id) = (seat(Some(&member.name)), &member.address, member.node_id);
    let role = role(&member.role, lang);
    let known = member.match_index.map_or("-".to_owned(), |index| index.to_string());
    match lang {
        Lang::En => format!(
            "Node: {name} | Role: {role} | Match: {known} | Address: {address} | NodeId: {id}\n"
        ),
        Lang::Es => format!(
            "Nodo: {name} | Papel: {role} | Coincide: {known} | Dirección: {address} | IdNodo: {id}\n"
        ),
    }
}

/// What a member is, or has become.
fn role(word: &str, lang: Lang) -> &str {
    match (lang, word) {
        (Lang::Es, "voter") => "votante",
        (Lang::Es, "learner") => "aprendiz",
        (Lang::Es, "joining") => "entrante",
        (Lang::Es, "leaving") => "saliente",
        (Lang::Es, "removed") => "retirado",
        _ => word,
    }
}

fn changed(reply: &ChangeReply, lang: Lang) -> String {
    let (name, role, index) = (seat(Some(&reply.name)), role(&reply.role, lang), reply.index);
    match (lang, reply.role.as_str()) {
        (Lang::En, "removed") => format!("Node {name} removed, at index {index}.\n"),
        (Lang::En, _) => format!("Node {name} is a {role}, at index {index}.\n"),
        (Lang::Es, "removed") => format!("Nodo {name} retirado, en el índice {index}.\n"),
        (Lang::Es, _) => format!("Nodo {name} es {role}, en el índice {index}.\n"),
    }
}

fn snapshot(reply: &SnapshotReply, lang: Lang) -> String {
    let SnapshotReply { name, index, term, bytes, milliseconds } = reply;
    let name = seat(Some(name));
    match lang {
        Lang::En => format!(
            "Node {name}: snapshot up to index {index}, term {term}: {bytes} bytes, {milliseconds} ms.\n"
        ),
        Lang::Es => format!(
            "Nodo {name}: instantánea hasta el índice {index}, mandato {term}: {bytes} bytes, \
             {milliseconds} ms.\n"
        ),
    }
}

fn replication(reply: &ReplicationReply, lang: Lang) -> String {
    let held = (reply.last_index.0 + 1).saturating_sub(reply.first_index.0);
    let mut text = format!("Log (len={held}):\n");
    for line in &reply.log {
        let (index, term) = (line.index, line.term);
        let _ = writeln!(
            text,
            "[{index}] {{{index} {term} {}}}",
            content(&line.content, index.0, lang)
        );
    }
    let more = lang.pick("more from", "sigue en");
    if let Some(next) = reply.next_index {
        let _ = writeln!(text, "... {more} {next}");
    }
    let _ = writeln!(
        text,
        "----- {} -----",
        lang.pick("Store (limited keys)", "Almacén (claves limitadas)")
    );
    text.extend(reply.store.iter().map(key_value));
    if let Some(next) = &reply.next_key {
        let _ = writeln!(text, "... {more} {}", shown(next));
    }
    text.push_str("-----\n");
    text
}

fn content(content: &LogContent, index: u64, lang: Lang) -> String {
    match content {
        LogContent::Noop => "{noop}".to_owned(),
        // A session's id is the index of its entry.
        LogContent::Session => format!("{{session {index}}}"),
        LogContent::Membership { names } => format!("{{membership {}}}", names.join(" ")),
        LogContent::Put { key, value } => {
            format!("{{{} {} {}}}", lang.pick("put", "escribir"), shown(key), shown(value))
        }
        LogContent::Delete { key } => {
            format!("{{{} {}}}", lang.pick("delete", "borrar"), shown(key))
        }
        LogContent::Cas { key, expected, value } => {
            let verb = lang.pick("cas", "comparar");
            let expected = expected.as_ref().map_or("-".to_owned(), |bytes| shown(bytes));
            format!("{{{verb} {} {expected} {}}}", shown(key), shown(value))
        }
        LogContent::Other => "{other}".to_owned(),
    }
}
