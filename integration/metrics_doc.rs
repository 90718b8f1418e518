//! `docs/metrics.md` says what is measured: its table is made from the code and compared.
//!
//! `UPDATE_GOLDENFILES=1 cargo test --test metrics_doc` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use balsa::identity::Role;
use balsa::metrics::Metric;
use balsa::rpc::{DatedKind, Method, PageLimits, Reason};

const BEGIN: &str = "<!-- metrics: made from the code -->\n";
const END: &str = "<!-- end metrics -->";

fn document() -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(&path).expect("the manual");
    (path, text)
}

fn table() -> String {
    let mut table = String::from(
        "| name | type | labels | what it tells | when to worry |\n|---|---|---|---|---|\n",
    );
    for metric in Metric::ALL {
        let labels: Vec<String> = metric.labels().iter().map(|it| format!("`{it}`")).collect();
        let (name, kind, labels) = (metric.name(), metric.kind().word(), labels.join(", "));
        let (help, worry) = (metric.help(), metric.worry());
        writeln!(table, "| `{name}` | {kind} | {labels} | {help} | {worry} |").expect("a string");
    }
    table
}

#[test]
fn the_table_is_that_of_the_code() {
    let (path, document) = document();
    let from = document.find(BEGIN).expect("the table's begin") + BEGIN.len();
    let end = from + document[from..].find(END).expect("the table's end");
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        let whole = format!("{}{}{}", &document[..from], table(), &document[end..]);
        std::fs::write(path, whole).expect("the manual is written");
    } else {
        assert_eq!(&document[from..end], table(), "UPDATE_GOLDENFILES=1 writes it anew");
    }
}

#[test]
fn every_name_in_the_text_is_in_the_table() {
    let (_, document) = document();
    let known: BTreeSet<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    for name in document.split(|c| !word(c)) {
        if name.starts_with("balsa_") || name.starts_with("process_") {
            let stem = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(known.contains(name) || known.contains(stem), "{name} does not exist");
        }
    }
}

#[test]
fn the_words_of_the_labels_and_the_limits_are_those_of_the_code() {
    let (_, document) = document();
    let reasons = Reason::ALL.map(Reason::word);
    let kinds = [DatedKind::Own, DatedKind::Ca, DatedKind::Crl].map(DatedKind::word);
    for word in reasons.iter().chain(&kinds).chain(&Role::ALL.map(Role::word)) {
        assert!(document.contains(&format!("`{word}`")), "`{word}` is not explained");
    }
    let roles: Vec<_> = Method::NodeMetrics.roles().iter().map(|role| role.word()).collect();
    assert_eq!(roles, ["node", "admin", "monitor"], "the manual says who may");
    let limits = PageLimits::default();
    for sentence in [
        format!("at most {} connections", limits.connections),
        format!("at most {} from one address", limits.connections_per_source),
        format!("{} s for the handshake", limits.handshake.as_secs()),
        format!("{} s for the head of a request", limits.head.as_secs()),
        format!("{} KiB", limits.head_bytes >> 10),
        format!("{} lines", limits.head_lines),
        format!("{} s for the answer", limits.answer.as_secs()),
        format!("{} s between two requests", limits.idle.as_secs()),
    ] {
        assert!(document.contains(&sentence), "\"{sentence}\" is not in the manual");
    }
}
