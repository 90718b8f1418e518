//! `docs/protocol.md` says what the code does: its tables are made from the code and compared.
//!
//! `UPDATE_GOLDENFILES=1 cargo test --test protocol_doc` writes them anew.

use std::fmt::Write;
use std::path::PathBuf;

use balsa::codec::api::Code;
use balsa::codec::msgpack::DEPTH_MAX;
use balsa::rpc::frame::{
    FRAME_BYTES_MAX, FRAME_VERSION, HEAD_BYTES, Head, Kind, REFUSAL_BYTES_MAX,
};
use balsa::rpc::hello::{HELLO_BYTES_MAX, VERSIONS};
use balsa::rpc::methods::{Binding, COMMON_CODES, METHOD_NAME_MAX, REPLY_BYTES_MAX};
use balsa::rpc::{Limits, Method};

fn words(codes: &[Code]) -> String {
    codes.iter().map(|code| format!("`{}`", code.word())).collect::<Vec<_>>().join(" ")
}

fn methods() -> String {
    let mut table = String::from(
        "| method | what it does | who may call it | its hello must name | arguments, bytes | refusals besides the common ones |\n\
         |---|---|---|---|---|---|\n",
    );
    for method in Method::ALL {
        let roles: Vec<_> = method.roles().iter().map(|role| role.word()).collect();
        let names = match method.binding() {
            Binding::OwnName => "the caller",
            Binding::Receiver => "the caller, the receiver's cluster id and node id",
        };
        let (about, roles, max) = (method.about(), roles.join(", "), method.args_max());
        let codes = words(method.codes());
        writeln!(table, "| `{method}` | {about} | {roles} | {names} | {max} | {codes} |").unwrap();
    }
    table
}

fn kinds() -> String {
    let mut table = String::from(
        "| number | kind | sent by | sequence number | body, bytes |\n|---|---|---|---|---|\n",
    );
    for kind in Kind::ALL {
        let (by, seq) = match kind {
            Kind::Hello => ("dialer", "0"),
            Kind::HelloAck => ("server", "0"),
            Kind::Request => ("dialer", "new in every request"),
            Kind::Reply => ("server", "the request's"),
            Kind::Refusal => ("server", "the request's; 0 answers the hello"),
            Kind::Close => ("both", "0"),
        };
        let max = match kind {
            Kind::Request => "by method".to_owned(),
            kind => Head::plain(kind, 0).body_max().to_string(),
        };
        writeln!(table, "| {} | {} | {by} | {seq} | {max} |", kind as u8, kind.word()).unwrap();
    }
    table
}

fn limits() -> String {
    let limits = Limits::default();
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs_f32());
    let rows = [
        ("frame format version", FRAME_VERSION.to_string()),
        ("protocol versions", format!("{} to {}", VERSIONS.min, VERSIONS.max)),
        ("bytes before the method's name", HEAD_BYTES.to_string()),
        ("longest frame, bytes behind the length", FRAME_BYTES_MAX.to_string()),
        ("longest method name, bytes", METHOD_NAME_MAX.to_string()),
        ("longest hello or acknowledgement, bytes", HELLO_BYTES_MAX.to_string()),
        ("longest reply, bytes", REPLY_BYTES_MAX.to_string()),
        ("longest refusal or close, bytes", REFUSAL_BYTES_MAX.to_string()),
        ("deepest nesting of a body", DEPTH_MAX.to_string()),
        ("connections", limits.connections.to_string()),
        ("of these kept for nodes", limits.reserved_for_nodes.to_string()),
        ("connections from one address", limits.connections_per_source.to_string()),
        ("further connections for loopback", limits.reserved_for_loopback.to_string()),
        ("handshakes in progress", limits.handshakes.to_string()),
        ("handshakes in progress from one address", limits.handshakes_per_source.to_string()),
        ("TLS handshake", seconds(limits.handshake)),
        ("hello", seconds(limits.hello)),
        ("a frame, from its first byte to its last", seconds(limits.frame)),
        ("a peer takes no byte", seconds(limits.write_stall)),
        (
            "calls wait and nothing arrives: the dialer dials anew, a client goes elsewhere",
            seconds(limits.silence),
        ),
        ("a peer's machine acknowledges nothing", seconds(limits.unacknowledged)),
        ("nothing asked, nothing in flight", seconds(limits.idle)),
        ("calls in flight on a connection", limits.inflight.to_string()),
        ("unwritten replies at which reading pauses, bytes", limits.queued_pause.to_string()),
        ("unwritten replies of a connection, bytes", limits.queued_bytes.to_string()),
        ("unwritten replies of all connections, bytes", limits.queued_total.to_string()),
        ("a stopping server answers for", seconds(limits.drain)),
    ];
    let mut table = String::from("| limit | value |\n|---|---|\n");
    for (what, value) in rows {
        writeln!(table, "| {what} | {value} |").unwrap();
    }
    table
}

/// The text between a section's two marks.
fn section<'a>(document: &'a str, name: &str) -> &'a str {
    let begin = format!("<!-- {name}: made from the code -->\n");
    let from = document.find(&begin).unwrap_or_else(|| panic!("{begin} is missing")) + begin.len();
    let end = document[from..].find(&format!("<!-- end {name} -->")).expect("its end mark");
    &document[from..from + end]
}

#[test]
fn the_tables_are_those_of_the_code() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let mut document = std::fs::read_to_string(&path).unwrap();
    let update = std::env::var_os("UPDATE_GOLDENFILES").is_some();
    let common = format!("{}\n", words(&COMMON_CODES));
    for (name, expected) in
        [("methods", methods()), ("common", common), ("kinds", kinds()), ("limits", limits())]
    {
        let found = section(&document, name).to_owned();
        if update {
            document = document.replace(
                &format!("made from the code -->\n{found}<!-- end {name} -->"),
                &format!("made from the code -->\n{expected}<!-- end {name} -->"),
            );
        } else {
            assert_eq!(found, expected, "{name}; UPDATE_GOLDENFILES=1 writes it anew");
        }
    }
    if update {
        std::fs::write(&path, document).unwrap();
    }
}

#[test]
fn the_example_is_what_the_code_writes() {
    let document = include_str!("../docs/protocol.md");
    let mut bytes = bytes::BytesMut::new();
    Head::request(Method::KvGet, 1, 1000).write(1, &mut bytes);
    bytes.extend_from_slice(&[0xc0]);
    let dump = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    assert!(document.contains(&dump), "{dump}");
}
