//! Goldens with placeholders, for what differs between two runs of the same commands.
//!
//! | placeholder | stands for |
//! |---|---|
//! | `<n>` | a number |
//! | `<x>` | a measured number, which may have a fraction |
//! | `<id>` | an id or a hash: 16 hexadecimal digits |
//! | `<seat>` | `raft-0` to `raft-9` |
//! | `<o>` | a seat's ordinal |
//! | `<text>` | anything, up to what follows in the pattern, within the line |
//!
//! With a name, as in `<n:term>`, it stands for the same text wherever the name appears.

use std::collections::BTreeMap;

/// What the named placeholders stood for.
pub(crate) type Found = BTreeMap<String, String>;

/// The whole of `said` is as in `golden`.
#[track_caller]
pub(crate) fn assert_like(said: &str, golden: &str) -> Found {
    match matched(said, golden) {
        Ok(found) => found,
        Err(why) => panic!("{why}\n--- said\n{said}\n--- golden\n{golden}"),
    }
}

/// What the placeholders stand for, or where the first difference is.
fn matched(said: &str, golden: &str) -> Result<Found, String> {
    let mut found = Found::new();
    let (mut said, mut golden) = (said, golden);
    while let Some(open) = golden.find('<') {
        let (literal, rest) = golden.split_at(open);
        said = after(said, literal)?;
        let (placeholder, rest) = rest[1..].split_once('>').expect("a placeholder ends with >");
        let (kind, name) = placeholder.split_once(':').unwrap_or((placeholder, ""));
        let next = &rest[..rest.find(['<', '\n']).unwrap_or(rest.len())];
        let length = length(kind, said, next);
        let Some(length) = length.filter(|length| *length > 0) else {
            return Err(format!("no <{placeholder}> at: {}", line(said)));
        };
        let (text, left) = said.split_at(length);
        if !name.is_empty() {
            let first = found.entry(name.to_owned()).or_insert_with(|| text.to_owned());
            if first != text {
                return Err(format!("<{placeholder}> is first {first} and then {text}"));
            }
        }
        (said, golden) = (left, rest);
    }
    match after(said, golden)? {
        "" => Ok(found),
        more => Err(format!("there is more: {}", line(more))),
    }
}

fn after<'s>(said: &'s str, literal: &str) -> Result<&'s str, String> {
    said.strip_prefix(literal).ok_or_else(|| {
        let same = said.bytes().zip(literal.bytes()).take_while(|(a, b)| a == b).count();
        let same = (0..=same).rev().find(|at| said.is_char_boundary(*at)).unwrap_or(0);
        let wanted = String::from_utf8_lossy(&literal.as_bytes()[same..]).into_owned();
        format!("{:?} is wanted at: {}", line(&wanted), line(&said[same..]))
    })
}

/// How much of `said` a placeholder of this kind takes, if `next` follows it in the pattern.
fn length(kind: &str, said: &str, next: &str) -> Option<usize> {
    let run = |of: fn(char) -> bool| said.find(|c| !of(c)).unwrap_or(said.len());
    match kind {
        "n" => Some(run(|c| c.is_ascii_digit())),
        "x" => Some(run(|c| c.is_ascii_digit() || c == '.')),
        "id" => Some(run(|c| c.is_ascii_hexdigit())).filter(|length| *length == 16),
        "seat" => Some(run(|c| "raft-0123456789".contains(c))).filter(|length| *length == 6),
        "o" => Some(run(|c| c.is_ascii_digit())).filter(|length| *length == 1),
        "text" => {
            let line = &said[..said.find('\n').unwrap_or(said.len())];
            if next.is_empty() { Some(line.len()) } else { line.find(next) }
        }
        _ => panic!("there is no placeholder <{kind}>"),
    }
}

fn line(text: &str) -> &str {
    text.lines().next().unwrap_or("the end")
}

#[test]
fn a_golden_matches_what_it_says_and_nothing_else() {
    let golden = "{\"term\":<n:term>,\"by\":\"<seat>\",\"id\":\"<id>\"} <n:term>: <text>.\n";
    let good = "{\"term\":7,\"by\":\"raft-1\",\"id\":\"00ab00ab00ab00ab\"} 7: so it is.\n";
    let found = matched(good, golden).expect("it is like that");
    assert_eq!(found, Found::from([("term".to_owned(), "7".to_owned())]));
    for (what, spoiled) in [
        ("another term", good.replace(" 7:", " 8:")),
        ("no number", good.replace(":7,", ":,")),
        ("another field", good.replace("\"by\"", "\"of\"")),
        ("no seat", good.replace("raft-1", "raft-x")),
        ("a short id", good.replace("00ab\"", "\"")),
        ("something before", format!(" {good}")),
        ("something behind", format!("{good}\n")),
        ("an end too early", good.trim_end().to_owned()),
    ] {
        assert!(matched(&spoiled, golden).is_err(), "{what}: {spoiled}");
    }
    assert!(matched("1.5 s", "<x> s").is_ok() && matched("1.5 s", "<n> s").is_err());
    assert!(matched("12", "<o>").is_err() && matched("2", "<o>").is_ok());
}
