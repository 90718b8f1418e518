//! Named cases, and a comparison with a naive twin over random histories.

mod content;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::command::{Applied, Command, Operation, Outcome, Write};
use super::hash::{Part, PartHasher};
use super::limits::{KEY_BYTES_MAX, SERIAL_WINDOW, VALUE_BYTES_MAX};
use super::sessions::Bounds;
use super::{Store, View};
use crate::raft::types::{Index, LogId};

/// A store with its own log position.
struct Log {
    store: Store,
    index: u64,
}

impl Log {
    fn new(bounds: Bounds) -> Log {
        Log { store: Store::with_bounds(bounds), index: 0 }
    }

    fn at(&mut self) -> LogId {
        self.index += 1;
        LogId::new(1 + self.index / 100, self.index)
    }

    fn apply(&mut self, command: &Command) -> Applied {
        let at = self.at();
        let applied = self.store.apply(at, Some(command));
        self.store.sessions().check();
        let (recounted, kept) = self.store.recount();
        assert_eq!(recounted, kept);
        assert_eq!(self.store.weigh(), self.store.view().bytes());
        applied
    }

    fn open(&mut self) -> u64 {
        match self.apply(&Command::OpenSession).outcome {
            Outcome::Session { session } => session,
            other => panic!("a registration answered {other:?}"),
        }
    }

    fn write(&mut self, session: u64, serial: u64, below: u64, operation: Operation) -> Applied {
        self.apply(&Command::Write(Write { session, serial, answered_below: below, operation }))
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put { key: bytes(key), value: bytes(value) }
}

fn delete(key: &str) -> Operation {
    Operation::Delete { key: bytes(key) }
}

fn cas(key: &str, expected: Option<&str>, value: &str) -> Operation {
    Operation::Cas { key: bytes(key), expected: expected.map(bytes), value: bytes(value) }
}

fn written(revision: u64, succeeded: bool) -> Outcome {
    Outcome::Written { revision, succeeded }
}

/// Value, create revision, mod revision, version.
fn entry(view: &View, key: &str) -> Option<(String, u64, u64, u64)> {
    view.get(key.as_bytes()).map(|v| {
        let value = String::from_utf8(v.value.to_vec()).expect("text");
        (value, v.create_revision, v.mod_revision, v.version)
    })
}

#[test]
fn revisions_count_changes_and_versions_begin_anew_after_a_delete() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    assert_eq!(log.write(s, 1, 1, put("a", "1")).outcome, written(1, true));
    assert_eq!(log.write(s, 2, 2, put("b", "1")).outcome, written(2, true));
    assert_eq!(log.write(s, 3, 3, put("a", "2")).outcome, written(3, true));
    assert_eq!(entry(&log.store.view(), "a"), Some(("2".into(), 1, 3, 2)));
    assert_eq!(log.write(s, 4, 4, delete("a")).outcome, written(4, true));
    assert_eq!(log.write(s, 5, 5, delete("a")).outcome, written(4, false), "nothing changed");
    assert_eq!(log.write(s, 6, 6, put("a", "3")).outcome, written(5, true));
    assert_eq!(entry(&log.store.view(), "a"), Some(("3".into(), 5, 5, 1)));
    assert_eq!(log.store.view().len(), 2);
    assert_eq!(log.store.view().revision(), 5);
}

#[test]
fn a_cas_that_does_not_hold_succeeds_without_a_change_c7() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    assert_eq!(log.write(s, 1, 1, cas("k", Some("x"), "y")).outcome, written(0, false));
    assert_eq!(log.write(s, 2, 1, cas("k", None, "y")).outcome, written(1, true));
    assert_eq!(log.write(s, 3, 1, cas("k", None, "z")).outcome, written(1, false));
    assert_eq!(log.write(s, 4, 1, cas("k", Some(""), "z")).outcome, written(1, false));
    assert_eq!(log.write(s, 5, 1, cas("k", Some("y"), "z")).outcome, written(2, true));
    assert_eq!(entry(&log.store.view(), "k"), Some(("z".into(), 1, 2, 2)));
    assert_eq!(log.write(s, 6, 1, put("k", "")).outcome, written(3, true));
    assert_eq!(log.write(s, 7, 1, cas("k", None, "z")).outcome, written(3, false), "empty exists");
    assert_eq!(log.write(s, 8, 1, cas("k", Some(""), "z")).outcome, written(4, true));
}

#[test]
fn a_repeated_serial_changes_nothing_and_gets_the_identical_reply_s18() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    let first = log.write(s, 1, 1, cas("k", None, "a"));
    log.write(s, 2, 1, put("k", "b"));
    let hash_before = log.store.view().get(b"k").cloned();
    assert_eq!(log.write(s, 1, 1, cas("k", None, "a")), first);
    // The serial names the write; what a faulty client sends under it the second time is not looked
    // at.
    assert_eq!(log.write(s, 1, 1, put("k", "c")), first);
    assert_eq!(log.store.view().get(b"k").cloned(), hash_before);
}

#[test]
fn serials_may_come_in_any_order_within_the_window_c2() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    let last = SERIAL_WINDOW;
    assert_eq!(log.write(s, last + 1, 1, put("x", "")).outcome, Outcome::SerialOutOfWindow);
    let far = log.write(s, last, 1, put("x", ""));
    assert_eq!(far.outcome, written(1, true));
    assert_eq!(log.write(s, 1, 1, put("x", "")).outcome, written(2, true));
    assert_eq!(log.write(s, 2, 2, put("x", "")).outcome, written(3, true));
    assert_eq!(log.write(s, 1, 1, put("x", "")).outcome, Outcome::SerialOutOfWindow);
    assert_eq!(log.write(s, last + 1, 1, put("x", "")).outcome, written(4, true), "the mark is 2");
    assert_eq!(log.write(s, last, 1, put("x", "")), far);
    assert_eq!(log.write(s, 0, 0, put("x", "")).outcome, Outcome::SerialOutOfWindow);
}

#[test]
fn a_mark_beyond_its_own_serial_goes_no_further_than_the_serial() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    let first = log.write(s, 5, u64::MAX, put("x", ""));
    assert_eq!(first.outcome, written(1, true));
    assert_eq!(log.write(s, 5, u64::MAX, put("x", "")), first);
    assert_eq!(log.write(s, 4, 1, put("x", "")).outcome, Outcome::SerialOutOfWindow);
    let top = log.write(s, u64::MAX, u64::MAX, put("x", ""));
    assert_eq!(top.outcome, written(2, true), "no arithmetic overflows at the end of the numbers");
    assert_eq!(log.write(s, u64::MAX, 1, put("x", "")), top);
}

#[test]
fn an_unknown_or_expired_session_never_executes_c1() {
    let mut log = Log::new(Bounds { sessions: 2, bytes: usize::MAX });
    assert_eq!(log.write(77, 1, 1, put("x", "")).outcome, Outcome::SessionExpired);
    let (a, b) = (log.open(), log.open());
    let kept = log.write(a, 1, 1, put("x", "a"));
    let c = log.open();
    assert_eq!(log.store.sessions().ids(), [a, c], "b was used least recently by log order");
    assert_eq!(log.write(b, 1, 1, put("x", "b")).outcome, Outcome::SessionExpired);
    assert_eq!(log.write(a, 1, 1, put("x", "a")), kept);
    assert_eq!(log.store.view().revision(), 1);
}

#[test]
fn bytes_of_kept_replies_expire_sessions_too() {
    let mut log = Log::new(Bounds { sessions: 100, bytes: 2_000 });
    let (a, b) = (log.open(), log.open());
    for serial in 1..=15 {
        log.write(a, serial, 1, put("x", ""));
    }
    assert_eq!(log.store.sessions().ids(), [a, b]);
    for serial in 1..=15 {
        log.write(b, serial, 1, put("x", ""));
    }
    assert_eq!(log.store.sessions().ids(), [b], "15 replies of two sessions are over 2000 bytes");
    for serial in 16..=100 {
        assert_eq!(log.write(b, serial, 1, put("x", "")).outcome, written(15 + serial, true));
    }
    assert_eq!(log.store.sessions().ids(), [b], "the session in use stays");
    log.write(b, 101, 101, put("x", ""));
    assert!(log.store.sessions().bytes() < 2_000, "answered serials take nothing");
}

#[test]
fn limits_hold_in_the_store_as_well_and_the_refusal_is_kept() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    let long_key = Bytes::from(vec![b'k'; KEY_BYTES_MAX + 1]);
    let long_value = Bytes::from(vec![b'v'; VALUE_BYTES_MAX + 1]);
    let refused = [
        Operation::Put { key: Bytes::new(), value: Bytes::new() },
        Operation::Put { key: long_key.clone(), value: Bytes::new() },
        Operation::Delete { key: long_key.clone() },
        Operation::Put { key: bytes("k"), value: long_value.clone() },
        Operation::Cas { key: bytes("k"), expected: None, value: long_value.clone() },
        Operation::Cas { key: bytes("k"), expected: Some(long_value), value: Bytes::new() },
    ];
    for (serial, operation) in (1..).zip(refused) {
        let first = log.write(s, serial, 1, operation.clone());
        assert_eq!(first.outcome, Outcome::Rejected);
        assert_eq!(log.write(s, serial, 1, operation), first);
    }
    let key = Bytes::from(vec![b'k'; KEY_BYTES_MAX]);
    let value = Bytes::from(vec![b'v'; VALUE_BYTES_MAX]);
    assert_eq!(log.write(s, 7, 1, Operation::Put { key, value }).outcome, written(1, true));
}

#[test]
fn entries_without_a_command_move_the_applied_index_only() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    log.write(s, 1, 1, put("x", "1"));
    let hash = log.store.state_hash();
    let at = log.at();
    log.store.skip(at);
    let at = log.at();
    let rejected = log.store.apply(at, None);
    assert_eq!(rejected, Applied { index: 4, term: 1, outcome: Outcome::Rejected });
    assert_eq!(log.store.applied(), Index(4));
    assert_eq!(log.store.view().applied(), Index(4));
    assert_eq!(log.store.state_hash(), hash);
}

#[test]
#[should_panic(expected = "S16")]
fn a_gap_in_the_log_is_fatal() {
    Store::new().skip(LogId::new(1, 2));
}

#[test]
#[should_panic(expected = "S16")]
fn an_entry_applied_twice_is_fatal() {
    let mut store = Store::new();
    store.skip(LogId::new(1, 1));
    store.apply(LogId::new(1, 1), Some(&Command::OpenSession));
}

#[test]
#[should_panic(expected = "S13")]
fn a_term_that_goes_back_is_fatal() {
    let mut store = Store::new();
    store.skip(LogId::new(2, 1));
    store.skip(LogId::new(1, 2));
}

#[test]
fn a_view_stays_as_it_was_and_goes_to_any_thread() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    log.write(s, 1, 1, put("x", "old"));
    let view = log.store.view();
    log.write(s, 2, 2, put("x", "new"));
    log.write(s, 3, 3, delete("x"));
    let seen = std::thread::spawn(move || (entry(&view, "x"), view.applied(), view.revision()));
    assert_eq!(seen.join().expect("joins"), (Some(("old".into(), 1, 1, 1)), Index(2), 1));
    assert!(log.store.view().is_empty());
}

#[test]
fn a_stored_value_does_not_keep_the_buffer_it_arrived_in_alive() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    let frame = Bytes::from(vec![b'x'; 1 << 20]);
    let operation = Operation::Put { key: frame.slice(0..3), value: frame.slice(10..13) };
    log.write(s, 1, 1, operation);
    assert!(frame.is_unique(), "nobody else holds the frame");
    assert_eq!(entry(&log.store.view(), "xxx").map(|e| e.0), Some("xxx".into()));
}

#[test]
fn pages_follow_each_other_and_always_make_progress() {
    let mut log = Log::new(Bounds::default());
    let s = log.open();
    for (serial, key) in (1..).zip(["a", "b", "ba", "c"]) {
        log.write(s, serial, serial, put(key, "0123456789"));
    }
    let view = log.store.view();
    let page = |from: &str, to: Option<&str>, limit, max| {
        let (page, next) = view.range(from.as_bytes(), to.map(str::as_bytes), limit, max);
        let keys: Vec<String> =
            page.iter().map(|(k, _)| String::from_utf8_lossy(k).into()).collect();
        (keys.join(" "), next.map(|k| String::from_utf8_lossy(&k).into_owned()))
    };
    fn next(key: &str) -> Option<String> {
        Some(key.to_owned())
    }
    assert_eq!(page("", None, 10, 1000), ("a b ba c".into(), None));
    assert_eq!(page("", None, 4, 1000), ("a b ba c".into(), None), "exactly full is the end");
    assert_eq!(page("", None, 2, 1000), ("a b".into(), next("ba")));
    assert_eq!(page("ba", None, 2, 1000), ("ba c".into(), None));
    assert_eq!(page("aa", Some("c"), 10, 1000), ("b ba".into(), None), "the end is exclusive");
    assert_eq!(page("", Some("c"), 1, 1000), ("a".into(), next("b")));
    assert_eq!(page("", None, 10, 22), ("a b".into(), next("ba")), "22 bytes hold two entries");
    assert_eq!(page("", None, 10, 21), ("a".into(), next("b")));
    assert_eq!(page("", None, 0, 0), ("a".into(), next("b")), "a page holds at least one");
    assert_eq!(page("c", Some("b"), 10, 1000), (String::new(), None), "an upside-down range");
    assert_eq!(page("b", Some("b"), 10, 1000), (String::new(), None));
    assert_eq!(page("d", None, 10, 1000), (String::new(), None));
}

/// The algorithm is part of the formats: if this fails, nodes of two versions would seem to differ.
/// The numbers come from an implementation in another language, written from the description.
#[test]
fn the_hash_is_pinned() {
    let empty = PartHasher::new(Part::Entry).finish();
    let text = PartHasher::new(Part::Entry).bytes(b"0123456789abcdef!").numbers(1, 2).finish();
    assert_eq!((empty, text), (0xae49886b8c4a02c3, 0x0733d02b6310d44a));
    let mut log = Log::new(Bounds::default());
    assert_eq!(log.store.state_hash(), 0x8f2ec2dc17372aed);
    let s = log.open();
    log.write(s, 1, 1, put("k", "v"));
    log.write(s, 2, 1, delete("none"));
    assert_eq!(log.store.state_hash(), 0x267c125ba0dfa807);
}

#[test]
fn the_hash_tells_neighbours_apart() {
    let mut hashes = std::collections::BTreeSet::new();
    let mut count = 0;
    for (key, value) in [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("ab", "c\0")] {
        for number in 0..20 {
            let hash = PartHasher::new(Part::Entry).bytes(key.as_bytes()).bytes(value.as_bytes());
            assert!(hashes.insert(hash.numbers(number, 0).finish()));
            let hash = PartHasher::new(Part::Reply).bytes(key.as_bytes()).bytes(value.as_bytes());
            assert!(hashes.insert(hash.numbers(0, number).finish()));
            count += 2;
        }
    }
    assert_eq!(hashes.len(), count);
    // Every single flipped bit of a longer text.
    let text = [0x5a; 40];
    for bit in 0..text.len() * 8 {
        let mut text = text;
        text[bit / 8] ^= 1 << (bit % 8);
        assert!(hashes.insert(PartHasher::new(Part::Entry).bytes(&text).finish()));
    }
}

// --- the naive twin
// ---------------------------------------------------------------------------------

/// The same rules, written without a thought for speed: a log of everything that ever happened is
/// searched anew for each question.
#[derive(Default)]
struct Naive {
    map: BTreeMap<String, (String, u64, u64, u64)>,
    revision: u64,
    /// Session, the index of its last use, its mark, and all replies it was ever given.
    sessions: Vec<(u64, u64, u64, BTreeMap<u64, Applied>)>,
}

impl Naive {
    fn apply(&mut self, at: LogId, command: &Command, bounds: Bounds) -> Applied {
        let reply = |outcome| Applied { index: at.index.0, term: at.term.0, outcome };
        let write = match command {
            Command::OpenSession => {
                self.sessions.push((at.index.0, at.index.0, 1, BTreeMap::new()));
                self.expire(bounds);
                return reply(Outcome::Session { session: at.index.0 });
            }
            Command::Write(write) => write,
        };
        let Some(session) = self.sessions.iter_mut().find(|s| s.0 == write.session) else {
            return reply(Outcome::SessionExpired);
        };
        session.1 = at.index.0;
        session.2 = session.2.max(write.answered_below.min(write.serial));
        let mark = session.2;
        if write.serial < mark || write.serial >= mark + SERIAL_WINDOW {
            return reply(Outcome::SerialOutOfWindow);
        }
        if let Some(reply) = session.3.get(&write.serial) {
            return reply.clone();
        }
        let reply = reply(self.carry_out(&write.operation));
        let session = self.sessions.iter_mut().find(|s| s.0 == write.session).expect("still there");
        session.3.insert(write.serial, reply.clone());
        self.expire(bounds);
        reply
    }

    fn carry_out(&mut self, operation: &Operation) -> Outcome {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
        let before = self.map.clone();
        let new = self.revision + 1;
        let succeeded = match operation {
            Operation::Put { key, value } => {
                let (created, version) = before.get(&text(key)).map_or((new, 0), |e| (e.1, e.3));
                self.map.insert(text(key), (text(value), created, new, version + 1));
                true
            }
            Operation::Delete { key } => self.map.remove(&text(key)).is_some(),
            Operation::Cas { key, expected, value } => {
                let found = before.get(&text(key));
                let holds = found.map(|e| e.0.clone()) == expected.as_ref().map(text);
                if holds {
                    let (created, version) = found.map_or((new, 0), |e| (e.1, e.3));
                    self.map.insert(text(key), (text(value), created, new, version + 1));
                }
                holds
            }
        };
        if self.map != before {
            self.revision = new;
        }
        written(self.revision, succeeded)
    }

    fn expire(&mut self, bounds: Bounds) {
        let bytes = |sessions: &[(u64, u64, u64, BTreeMap<u64, Applied>)]| -> usize {
            sessions.iter().map(|s| 160 + 64 * s.3.range(s.2..).count()).sum()
        };
        while self.sessions.len() > bounds.sessions
            || (bytes(&self.sessions) > bounds.bytes && self.sessions.len() > 1)
        {
            self.sessions.sort_by_key(|s| s.1);
            self.sessions.remove(0);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Write { session: usize, serial: u64, below: u64, operation: Operation },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::sample::select(vec!["a", "b", "c"]);
    let value = prop::sample::select(vec!["", "1", "2"]);
    let operation = prop_oneof![
        (key.clone(), value.clone()).prop_map(|(k, v)| put(k, v)),
        key.clone().prop_map(delete),
        (key, prop::option::of(value.clone()), value).prop_map(|(k, e, v)| cas(k, e, v)),
    ];
    let write = (0usize..8, 0u64..12, 0u64..8, operation).prop_map(
        |(session, serial, below, operation)| Step::Write { session, serial, below, operation },
    );
    prop::collection::vec(prop_oneof![1 => Just(Step::Open), 8 => write], 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_store_equals_its_naive_twin(steps in steps()) {
        let bounds = Bounds { sessions: 5, bytes: 1_600 };
        let mut log = Log::new(bounds);
        let mut naive = Naive::default();
        let mut twin = Store::with_bounds(bounds);
        let mut opened = vec![4_000];
        for step in steps {
            let command = match step {
                Step::Open => {
                    opened.push(log.index + 1);
                    Command::OpenSession
                }
                Step::Write { session, serial, below, operation } => Command::Write(Write {
                    session: opened[opened.len().saturating_sub(1 + session)],
                    serial,
                    answered_below: below,
                    operation,
                }),
            };
            let reply = log.apply(&command);
            let at = LogId::new(reply_term(log.index), log.index);
            prop_assert_eq!(&reply, &naive.apply(at, &command, bounds));
            twin.apply(at, Some(&command));
            prop_assert_eq!(log.store.state_hash(), twin.state_hash());
        }
        let view = log.store.view();
        prop_assert_eq!(view.revision(), naive.revision);
        let (page, next) = view.range(b"", None, usize::MAX, usize::MAX);
        prop_assert_eq!(next, None);
        prop_assert_eq!(page.len(), naive.map.len());
        for (key, _) in page {
            let key = String::from_utf8(key.to_vec()).expect("text");
            prop_assert_eq!(entry(&view, &key), naive.map.get(&key).cloned());
        }
        let mut ids: Vec<u64> = naive.sessions.iter().map(|s| s.0).collect();
        ids.sort_unstable();
        prop_assert_eq!(log.store.sessions().ids(), ids);
    }
}

fn reply_term(index: u64) -> u64 {
    1 + index / 100
}
