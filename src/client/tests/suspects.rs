//! Nodes that give no sign of life: others are asked before they are tried again, and then not for long.

use super::*;

/// The order of the calls of one method from a certain one on.
fn since(fake: &Fake, method: Method, before: usize) -> Vec<String> {
    fake.called(method).split_off(before)
}

#[test]
fn a_leader_that_fell_silent_comes_last_until_another_is_named() {
    let (fake, client) = cluster(Some("b"));
    run(async {
        client.write(put("x")).await.unwrap();
        let before = fake.called(Method::KvWrite).len();
        // Its own followers name it still, until they have elected another.
        fake.always("b", Fault::Silent);
        fake.script("a", [Fault::Elsewhere("b"), Fault::Elsewhere("b")]);
        fake.script("c", [Fault::Elsewhere("b"), Fault::Elsewhere("b")]);
        fake.world().leader = Some("c");
        client.write(put("y")).await.unwrap();
        let order = since(&fake, Method::KvWrite, before);
        assert_eq!(order, ["b", "a", "c", "a", "c", "b", "a", "c"], "no hint leads back to it");
    });
    assert_eq!(fake.revision(), 2);
    let patience = [attempt(Duration::from_secs(20)), Duration::from_millis(500)];
    assert_eq!(fake.world().silences, patience);
}

#[test]
fn a_node_that_is_alone_is_waited_for_however_silent_it_was() {
    let fake = Fake::default();
    fake.world().leader = Some("a");
    let timeout = Duration::from_secs(20);
    let route = Route::new(vec!["a".into()], true);
    let client = Inner::new(Reach::new(fake.clone(), route, attempt(timeout)), timeout);
    fake.script("a", [Fault::Silent, Fault::Silent]);
    run(client.write(put("x"))).unwrap();
    assert_eq!(fake.world().silences, [attempt(timeout), attempt(timeout)]);
}

#[test]
fn whoever_answers_is_no_suspect_any_more() {
    let (fake, client) = cluster(Some("b"));
    run(async {
        client.write(put("x")).await.unwrap();
        let before = fake.called(Method::KvWrite).len();
        fake.script("b", [Fault::Silent, Fault::Refuse(Code::Unavailable)]);
        client.write(put("y")).await.unwrap();
        let order = since(&fake, Method::KvWrite, before);
        assert_eq!(order, ["b", "a", "c", "a", "c", "b", "a", "b"], "the last hint is followed");
    });
    assert_eq!(fake.revision(), 2);
}

/// A connection was reset, and the way is longer than the first attempt at a suspect takes.
#[test]
fn a_leader_that_is_only_far_away_is_reached() {
    let (fake, client) = cluster(Some("b"));
    run(async {
        client.write(put("x")).await.unwrap();
        fake.script("b", [Fault::LoseReply]);
        fake.always("b", Fault::Far(Duration::from_millis(1500)));
        client.write(put("y")).await.unwrap();
    });
    assert_eq!(fake.revision(), 2);
    assert_eq!(fake.world().silences, [500, 1000].map(Duration::from_millis));
}
