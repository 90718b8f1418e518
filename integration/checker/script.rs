//! Histories as a person writes them, one operation a line:
//!
//! ```text
//! CALL-RETURN KEY put VALUE          = yes|no REVISION
//! CALL-RETURN KEY del                = yes|no REVISION
//! CALL-RETURN KEY cas EXPECTED VALUE = yes|no REVISION        (EXPECTED may be none)
//! CALL-RETURN KEY get                = VALUE@MOD_REVISION of REVISION
//! CALL-RETURN KEY get                = none of REVISION
//! CALL-?      KEY …                                           (outcome unknown)
//! ```

use bytes::Bytes;

use crate::linearize::{Answer, History, Input, Operation, Reply, Seen, Time};

/// Reads a script.
pub(crate) fn history(script: &str) -> History {
    let lines = script.lines().filter(|line| !line.trim().is_empty());
    History { operations: (0..).zip(lines).map(|(n, line)| operation(n, line)).collect() }
}

fn operation(client: u32, line: &str) -> Operation {
    let (asked, told) = match line.split_once(" = ") {
        Some((asked, told)) => (asked, Some(told)),
        None => (line, None),
    };
    let words: Vec<&str> = asked.split_whitespace().collect();
    let (call, returned) = words[0].split_once('-').expect("CALL-RETURN");
    let input = match words[2..] {
        ["get"] => Input::Get,
        ["put", value] => Input::Put(bytes(value)),
        ["del"] => Input::Delete,
        ["cas", expected, value] => Input::Cas {
            expected: (expected != "none").then(|| bytes(expected)),
            value: bytes(value),
        },
        _ => panic!("no operation: {line}"),
    };
    let reply = told.map(|told| Reply { at: Time(number(returned)), answer: answer(told) });
    assert_eq!(reply.is_none(), returned == "?", "an answer has a time: {line}");
    Operation { client, key: bytes(words[1]), call: Time(number(call)), input, reply }
}

fn answer(told: &str) -> Answer {
    match told.split_whitespace().collect::<Vec<_>>()[..] {
        ["yes", revision] => Answer::Written { succeeded: true, revision: number(revision) },
        ["no", revision] => Answer::Written { succeeded: false, revision: number(revision) },
        ["none", "of", revision] => Answer::Read { seen: None, revision: number(revision) },
        [seen, "of", revision] => {
            let (value, changed) = seen.split_once('@').expect("VALUE@MOD_REVISION");
            let seen = Seen { value: bytes(value), mod_revision: number(changed) };
            Answer::Read { seen: Some(seen), revision: number(revision) }
        }
        _ => panic!("no answer: {told}"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
