//! The retries against scripted nodes around a real state machine: what was executed is asked of the
//! store, not of the client.

mod live;
mod scripted;
mod suspects;

use std::future::Future;

use self::scripted::{Fake, Fault, removed};
use super::*;
use crate::codec::api::{ChangeReply, Code, SeatArgs};

fn cluster(leader: Option<&'static str>) -> (Fake, Inner<Fake>) {
    with(leader, Duration::from_secs(20), true)
}

fn with(leader: Option<&'static str>, timeout: Duration, redirect: bool) -> (Fake, Inner<Fake>) {
    let fake = Fake::default();
    fake.world().leader = leader;
    let route = Route::new(vec!["a".into(), "b".into(), "c".into()], redirect);
    let reach = Reach::new(fake.clone(), route, attempt(timeout));
    (fake, Inner::new(reach, timeout))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn put(key: &'static str) -> Operation {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    Operation::Put { key: bytes(key), value: bytes("v") }
}

fn kind(result: &Result<Written, Error>) -> (ErrorKind, &'static str) {
    let error = result.as_ref().expect_err("not applied");
    (error.kind, error.word)
}

const SHORT: Duration = Duration::from_millis(60);

#[test]
fn a_hint_leads_to_the_leader_and_is_remembered() {
    let (fake, client) = cluster(Some("b"));
    run(async {
        assert!(client.write(put("x")).await.unwrap().succeeded);
        client.write(put("y")).await.unwrap();
    });
    assert_eq!(fake.called(Method::KvOpenSession), ["a", "b"]);
    assert_eq!(fake.called(Method::KvWrite), ["b", "b"]);
}

#[test]
fn a_hint_outside_the_endpoints_is_followed() {
    let (fake, client) = cluster(Some("far:1"));
    run(client.write(put("x"))).unwrap();
    assert_eq!(fake.called(Method::KvOpenSession), ["a", "far:1"]);
}

#[test]
fn a_hinted_name_that_an_endpoint_answers_to_is_reached_there() {
    let (fake, client) = cluster(Some("c"));
    // The hint names an address that only exists inside the cluster; `c` answers as that seat.
    fake.always("a", Fault::Elsewhere("far:9"));
    run(client.write(put("x"))).unwrap();
    assert_eq!(fake.called(Method::KvOpenSession), ["a", "c"]);
}

/// C4: hints can form a loop.
#[test]
fn a_loop_of_hints_ends_at_another_endpoint() {
    let (fake, client) = cluster(Some("c"));
    fake.always("a", Fault::Elsewhere("b"));
    fake.always("b", Fault::Elsewhere("a"));
    run(client.write(put("x"))).unwrap();
    assert_eq!(fake.called(Method::KvOpenSession), ["a", "b", "a", "b", "c"]);
}

/// C2: the attempt whose answer was lost had been executed; the repetition is not, and gets the same
/// answer.
#[test]
fn a_write_whose_answer_was_lost_is_applied_once() {
    let (fake, client) = cluster(Some("b"));
    fake.script("b", [Fault::LoseReply, Fault::LoseReply]);
    let written = run(client.write(put("x"))).unwrap();
    assert_eq!((written.revision, written.succeeded), (1, true));
    assert_eq!(fake.revision(), 1);
    let world = fake.world();
    let sent: Vec<_> = world.calls.iter().filter(|call| call.1 == Method::KvWrite).collect();
    assert!(sent.len() >= 3);
    assert!(sent.iter().all(|call| call.2 == sent[0].2), "C2: every attempt is the same bytes");
    // Session 1, first write 2, repetitions 3 and 4: the reply is the first one's.
    assert_eq!(written.index, 2);
}

#[test]
fn a_write_that_never_arrived_is_applied_by_its_repetition() {
    let (fake, client) = cluster(Some("b"));
    fake.script("b", [Fault::LoseRequest]);
    run(client.write(put("x"))).unwrap();
    assert_eq!(fake.revision(), 1);
}

#[test]
fn a_new_leader_is_found_when_the_old_one_is_gone() {
    let (fake, client) = cluster(Some("b"));
    run(async {
        client.write(put("x")).await.unwrap();
        fake.world().leader = Some("c");
        fake.always("b", Fault::Dead);
        client.write(put("y")).await.unwrap();
    });
    assert_eq!(fake.revision(), 2);
}

/// C3: lost once, and no way to find out until the deadline.
#[test]
fn an_attempt_that_stays_unresolved_is_unknown() {
    let (fake, client) = with(Some("b"), SHORT, true);
    fake.script("b", [Fault::LoseReply]);
    fake.always("b", Fault::Dead);
    let result = run(async {
        client.session.store(Some(Arc::new(Session::new(1))));
        client.write(put("x")).await
    });
    assert_eq!(kind(&result), (ErrorKind::Unknown, "unknown"));
}

/// C3: whatever refuses the repetition proves nothing about the first attempt.
#[test]
fn a_refusal_after_an_unresolved_attempt_is_unknown() {
    for code in [Code::Denied, Code::BadRequest, Code::SessionExpired] {
        let (fake, client) = cluster(Some("b"));
        fake.script("b", [Fault::LoseReply, Fault::Refuse(code)]);
        let result = run(client.write(put("x")));
        assert_eq!(kind(&result).0, ErrorKind::Unknown, "{code:?}");
        assert_eq!(fake.revision(), 1);
    }
}

/// C3: nothing was sent to a leader, so nothing happened, and that is said.
#[test]
fn without_a_leader_nothing_happened() {
    let (fake, client) = with(None, SHORT, true);
    assert_eq!(kind(&run(client.write(put("x")))), (ErrorKind::NoLeader, "no_leader"));
    assert!(fake.called(Method::KvWrite).is_empty());

    let (fake, client) = with(None, SHORT, true);
    for address in ["a", "b", "c"] {
        fake.always(address, Fault::Dead);
    }
    assert_eq!(kind(&run(client.write(put("x")))), (ErrorKind::NoLeader, "unreachable"));

    let (fake, client) = with(None, SHORT, true);
    for address in ["a", "b", "c"] {
        fake.always(address, Fault::Hang);
    }
    assert_eq!(kind(&run(client.write(put("x")))), (ErrorKind::NoLeader, "no_quorum"));
}

#[test]
fn nobody_who_trusts_us_is_told_at_once() {
    let (fake, client) = cluster(Some("b"));
    for address in ["a", "b", "c"] {
        fake.always(address, Fault::Untrusted);
    }
    assert_eq!(kind(&run(client.write(put("x")))).0, ErrorKind::Untrusted);
    assert_eq!(fake.called(Method::KvOpenSession), ["a", "b", "c"]);
    // One that is merely dead may come back and trust us.
    let (fake, client) = with(Some("b"), SHORT, true);
    for address in ["a", "b"] {
        fake.always(address, Fault::Untrusted);
    }
    fake.always("c", Fault::Dead);
    assert_eq!(kind(&run(client.write(put("x")))).0, ErrorKind::Untrusted);
    assert!(fake.called(Method::KvOpenSession).len() > 3);
}

#[test]
fn a_revoked_certificate_is_named_unless_something_else_is_wrong_too() {
    for (other, word) in [(Fault::Revoked, "revoked"), (Fault::Untrusted, "denied")] {
        let (fake, client) = cluster(Some("b"));
        for address in ["a", "c"] {
            fake.always(address, Fault::Revoked);
        }
        fake.always("b", other);
        assert_eq!(kind(&run(client.write(put("x")))), (ErrorKind::Untrusted, word));
    }
    // A node alone: the others serve.
    let (fake, client) = cluster(Some("b"));
    fake.always("a", Fault::Revoked);
    run(client.write(put("x"))).expect("the others are trusted");
}

#[test]
fn addresses_that_are_somebody_elses_for_the_moment_are_tried_again() {
    // All pods were restarted, and each old address is another one's now: soon DNS knows it too.
    let (fake, client) = cluster(Some("b"));
    for address in ["a", "b", "c"] {
        fake.always(address, Fault::SomebodyElse);
    }
    let healed = fake.clone();
    let later = async {
        while healed.called(Method::KvOpenSession).len() < 7 {
            tokio::task::yield_now().await;
        }
        healed.world().always.clear();
    };
    let (written, ()) = run(async { tokio::join!(client.write(put("x")), later) });
    written.expect("acknowledged");
    // If it lasts, that is what is told.
    let (fake, client) = with(Some("b"), SHORT, true);
    for address in ["a", "b", "c"] {
        fake.always(address, Fault::SomebodyElse);
    }
    assert_eq!(kind(&run(client.write(put("x")))).0, ErrorKind::Untrusted);
}

#[test]
fn a_refusal_that_nothing_changes_ends_the_call() {
    for (code, expected) in [
        (Code::Denied, ErrorKind::Untrusted),
        (Code::BadRequest, ErrorKind::Refused),
        (Code::TooLarge, ErrorKind::Refused),
    ] {
        let (fake, client) = cluster(Some("a"));
        fake.script("a", [Fault::Refuse(code)]);
        assert_eq!(kind(&run(client.write(put("x")))), (expected, code.word()));
        assert_eq!(fake.revision(), 0);
    }
}

#[test]
fn a_refusal_that_passes_is_waited_out() {
    for code in [Code::Busy, Code::NoSpace, Code::Unavailable, Code::DeadlineExceeded] {
        let (fake, client) = cluster(Some("b"));
        fake.script("b", [Fault::Refuse(code), Fault::Refuse(code)]);
        run(client.write(put("x"))).unwrap();
        assert_eq!(fake.revision(), 1);
    }
    let (fake, client) = with(Some("b"), SHORT, true);
    fake.always("b", Fault::Refuse(Code::NoSpace));
    client.session.store(Some(Arc::new(Session::new(1))));
    let result = run(client.write(put("x")));
    assert_eq!(kind(&result), (ErrorKind::Refused, "no_space"));
}

/// C3: no session tells the repetition of a change from the change, so what the repetition is told
/// proves nothing.
#[test]
fn a_change_of_the_members_whose_answer_was_lost_is_unknown() {
    let args = SeatArgs { name: "raft-2".into() };
    let remove = |client: &Inner<Fake>| -> Result<ChangeReply, Error> {
        run(client.change(Method::ClusterRemove, &args))
    };
    let (fake, client) = cluster(Some("b"));
    assert_eq!(remove(&client).unwrap(), removed());
    assert_eq!(fake.called(Method::ClusterRemove), ["b"], "nobody else need refuse it");
    let (fake, client) = with(None, SHORT, true);
    fake.script("c", [Fault::LoseRequest]);
    fake.always("b", Fault::Elsewhere("c"));
    assert_eq!(remove(&client).unwrap_err().kind, ErrorKind::Unknown);
    assert_eq!(fake.called(Method::ClusterRemove)[..3], ["a", "b", "c"], "the hint is followed");
    for (code, kind) in [
        (Code::UnderWay, ErrorKind::Refused),
        (Code::Conflict, ErrorKind::Refused),
        (Code::Denied, ErrorKind::Untrusted),
    ] {
        let (fake, client) = cluster(Some("a"));
        fake.script("a", [Fault::Refuse(code)]);
        let error = remove(&client).unwrap_err();
        assert_eq!((error.kind, error.word), (kind, code.word()));
        fake.script("a", [Fault::LoseRequest, Fault::Refuse(code)]);
        assert_eq!(remove(&client).unwrap_err().kind, ErrorKind::Unknown, "{code:?}");
    }
    // Who hangs and does not lead is not waited for, and nothing is asked of it.
    let (fake, client) = with(Some("b"), Duration::from_secs(3), true);
    fake.always("a", Fault::Hang);
    assert_eq!(remove(&client).unwrap(), removed());
    assert_eq!(fake.called(Method::ClusterRemove), ["b"]);
    // The leader answers when the change is committed: that may take all the time there is.
    let (fake, client) = with(Some("b"), Duration::from_millis(600), true);
    fake.script("b", [Fault::Hang]);
    assert_eq!(remove(&client).unwrap_err().kind, ErrorKind::Unknown);
    assert_eq!(fake.called(Method::ClusterRemove), ["b"], "nobody else was asked to do it, too");
}

#[test]
fn without_redirect_the_node_asked_says_who_leads() {
    let (fake, client) = with(Some("b"), Duration::from_secs(20), false);
    let error = run(client.write(put("x"))).unwrap_err();
    assert_eq!((error.kind, error.word), (ErrorKind::NoLeader, "not_leader"));
    assert_eq!(error.leader.map(|hint| hint.address).as_deref(), Some("b"));
    assert_eq!(fake.world().calls.len(), 1);
}

/// C1: an expired session is an error, never a re-execution; the next write has a new session.
#[test]
fn an_expired_session_is_an_error_and_the_next_write_has_a_new_one() {
    let (fake, client) = cluster(Some("a"));
    run(async {
        client.session.store(Some(Arc::new(Session::new(999))));
        let result = client.write(put("x")).await;
        assert_eq!(kind(&result), (ErrorKind::Refused, "session_expired"));
        assert_eq!(fake.revision(), 0);
        client.write(put("x")).await.unwrap();
    });
    assert_eq!(fake.revision(), 1);
}

#[test]
fn limits_are_checked_before_anything_is_sent() {
    let (fake, client) = cluster(Some("a"));
    let value = Bytes::from(vec![0; crate::kv::limits::VALUE_BYTES_MAX + 1]);
    let large = Operation::Put { key: Bytes::from_static(b"k"), value };
    assert_eq!(kind(&run(client.write(large))), (ErrorKind::Refused, "too_large"));
    // Each value is within its limit, both together are over the request's.
    let value = Bytes::from(vec![0; crate::kv::limits::VALUE_BYTES_MAX]);
    let expected = Some(value.clone());
    let swap = Operation::Cas { key: Bytes::from_static(b"k"), expected, value };
    let result = run(client.write(swap));
    assert_eq!(kind(&result), (ErrorKind::Refused, "too_large"));
    let most = crate::kv::limits::REQUEST_BYTES_MAX.to_string();
    assert!(result.unwrap_err().message.contains(&most), "the limit is named");
    assert!(fake.called(Method::KvWrite).is_empty());
}

/// C2: many writes at once share one session and each is applied once, whatever is lost.
#[test]
fn many_writes_at_once_are_each_applied_once() {
    const WRITES: u64 = 200;
    let (fake, client) = cluster(Some("b"));
    let fault = |n| if n % 2 == 0 { Fault::LoseReply } else { Fault::LoseRequest };
    fake.script("b", (0..60).map(fault));
    let outcomes = run(async {
        client.session(Instant::now() + Duration::from_secs(1)).await.unwrap();
        futures_util::future::join_all((0..WRITES).map(|_| client.write(put("x")))).await
    });
    let mut revisions: Vec<u64> = outcomes.into_iter().map(|o| o.unwrap().revision).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=WRITES).collect::<Vec<_>>());
    assert_eq!(fake.called(Method::KvOpenSession).len(), 2);
    assert_eq!(fake.revision(), WRITES);
}

#[test]
fn a_prefix_ends_where_the_next_one_begins() {
    assert_eq!(prefix_end(b"ab").as_deref(), Some(&b"ac"[..]));
    assert_eq!(prefix_end(b"a\xff\xff").as_deref(), Some(&b"b"[..]));
    assert_eq!(prefix_end(b"\xff"), None);
    assert_eq!(prefix_end(b""), None);
}
