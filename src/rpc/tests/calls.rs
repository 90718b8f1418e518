//! Calls between a good client and a good server.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::pki::Spec;
use super::support::{Ask, CLUSTER, NODE, SOON, Server, Tester, ask, eventually};
use crate::codec::api::Code;
use crate::raft::NodeId;
use crate::rpc::{
    CallError, CloseCode, CloseReason, DialError, Dialer, Expect, Hello, Limits, Method, NotSent,
    Reason,
};

fn code(error: &CallError) -> Option<Code> {
    if let CallError::Refused(refusal) = error { Some(refusal.code) } else { None }
}

#[tokio::test]
async fn a_call_goes_there_and_back() {
    let server = Server::plain().await;
    let client = server.client().await;
    assert_eq!(client.ack().node_id, Some(NODE));
    assert_eq!(client.ack().version, 1);
    assert_eq!(client.identity().to_string(), "balsa://balsa/node/raft-1");
    let bytes = Bytes::from_static(b"chocolate");
    let back: Bytes = ask(&client, &Ask::Echo(bytes.clone())).await.unwrap();
    assert_eq!(back, bytes);
    assert!(client.is_open());
    client.close();
    assert_eq!(client.closed().await, CloseReason::Local);
    eventually("the server notices", || server.service.closed.lock().unwrap().len() == 1).await;
    let late = ask::<Bytes>(&client, &Ask::Echo(bytes)).await.unwrap_err();
    assert!(matches!(late, CallError::NotSent(NotSent::Closed(CloseReason::Local))), "{late:?}");
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let server = Server::plain().await;
    let client = server.client().await;
    let other = client.clone();
    drop(client);
    let _: Bytes = ask(&other, &Ask::Echo(Bytes::new())).await.unwrap();
    drop(other);
    eventually("the server notices", || server.service.closed.lock().unwrap().len() == 1).await;
}

#[tokio::test]
async fn answers_come_in_any_order_and_reach_their_own_calls() {
    let server = Server::plain().await;
    let client = server.client().await;
    let held = (0..200).map(|n| {
        let client = client.clone();
        async move { (n, ask::<u64>(&client, &Ask::Hold(n)).await.unwrap()) }
    });
    let release = async {
        eventually("all are held", || server.service.held.lock().unwrap().len() == 200).await;
        ask::<()>(&client, &Ask::Release).await.unwrap();
    };
    let (answers, ()) = tokio::join!(join_all(held), release);
    for (sent, received) in answers {
        assert_eq!(sent, received);
    }
    let largest = server.service.batches.lock().unwrap().iter().copied().max();
    assert!(largest > Some(50), "what one read brings is one batch: {largest:?}");
}

#[tokio::test]
async fn a_timeout_or_a_dropped_future_leaves_the_connection_sound() {
    let server = Server::plain().await;
    let client = server.client().await;
    let short = Duration::from_millis(30);
    let error =
        client.call_timeout::<_, u64>(Method::KvGet, &Ask::Hold(1), short).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut(t) if t == short), "{error:?}");
    {
        let call = client.call_timeout::<_, u64>(Method::KvGet, &Ask::Hold(2), SOON);
        let dropped = tokio::time::timeout(short, call).await;
        assert!(dropped.is_err(), "the future was dropped while it waited");
    }
    eventually("both are held", || server.service.held.lock().unwrap().len() == 2).await;
    // Their answers come now, and find nobody.
    ask::<()>(&client, &Ask::Release).await.unwrap();
    for n in 0..50u8 {
        let bytes = Bytes::from(vec![n]);
        assert_eq!(ask::<Bytes>(&client, &Ask::Echo(bytes.clone())).await.unwrap(), bytes);
    }
    assert!(client.is_open());
}

#[tokio::test]
async fn given_up_calls_free_their_places() {
    let limits = Limits { inflight: 4, ..Limits::default() };
    let server = Server::start(limits, Tester::default()).await;
    let client = server.client().await;
    assert_eq!(client.ack().max_inflight, 4);
    let short = Duration::from_millis(20);
    for n in 0..4 {
        let held = client.call_timeout::<_, u64>(Method::KvGet, &Ask::Hold(n), short).await;
        assert!(matches!(held, Err(CallError::TimedOut(_))));
    }
    // The server's places are taken: it reads no more, until they are answered.
    let waiting = client.call_timeout::<_, u64>(Method::KvGet, &Ask::Hold(9), short).await;
    assert!(matches!(waiting, Err(CallError::TimedOut(_))));
    assert_eq!(server.service.held.lock().unwrap().len(), 4);
    server.service.held.lock().unwrap().clear();
    let bytes = Bytes::from_static(b"on");
    assert_eq!(ask::<Bytes>(&client, &Ask::Echo(bytes.clone())).await.unwrap(), bytes);
}

#[tokio::test]
async fn every_call_is_answered_once_whatever_the_service_does() {
    let server = Server::plain().await;
    let client = server.client().await;
    let error = ask::<()>(&client, &Ask::GiveUp).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::Unknown), "C5: {error:?}");
    let error = ask::<()>(&client, &Ask::Refuse).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::NotLeader));
    assert!(error.to_string().len() < 5000, "a refusal fits its frame");
    let error = ask::<()>(&client, &Ask::Zeros(7 << 20)).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::TooLarge), "a reply over the limit: {error:?}");
    let write = client.call_timeout::<_, ()>(Method::KvWrite, &Ask::Zeros(7 << 20), SOON).await;
    assert_eq!(code(&write.unwrap_err()), Some(Code::Unknown), "what it changed, it changed");
    let _: Bytes = ask(&client, &Ask::Echo(Bytes::new())).await.unwrap();
}

#[tokio::test]
async fn large_bodies_both_ways_together_with_small_ones() {
    let server = Server::plain().await;
    let client = server.client().await;
    let large = Bytes::from((0..1_400_000u32).map(|n| n as u8).collect::<Vec<_>>());
    let calls = (0..24).map(|n| {
        let (client, large) = (client.clone(), large.clone());
        async move {
            let bytes = if n % 3 == 0 { large } else { Bytes::from(vec![n; 10]) };
            let ask = Ask::Echo(bytes.clone());
            let back: Bytes = client.call_timeout(Method::KvWrite, &ask, SOON).await.unwrap();
            assert_eq!(back, bytes);
        }
    });
    join_all(calls).await;
}

#[tokio::test]
async fn limits_are_told_by_name() {
    let server = Server::plain().await;
    let client = server.client().await;
    let large = Bytes::from(vec![0; Method::KvGet.args_max()]);
    let error = ask::<Bytes>(&client, &Ask::Echo(large)).await.unwrap_err();
    let CallError::NotSent(NotSent::TooLarge { method, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(*method, Method::KvGet);
    assert!(error.to_string().contains("Kv.Get") && error.to_string().contains("16384"), "{error}");
}

#[tokio::test]
async fn arguments_that_are_not_messagepack_are_a_bad_request() {
    let server = Server::plain().await;
    let client = server.client().await;
    let deep = [vec![0x91; 40], vec![0xc0]].concat();
    for args in [&b""[..], b"\xc1", b"\x92\x01", b"\x01\x02", b"\xdf\xff\xff\xff\xff", &deep] {
        let error =
            client.call_raw(Method::KvGet, Bytes::copy_from_slice(args), SOON).await.unwrap_err();
        assert_eq!(code(&error), Some(Code::BadRequest), "{args:?}: {error:?}");
    }
    assert!(server.service.batches.lock().unwrap().is_empty(), "none reached the service");
}

#[tokio::test]
async fn raft_methods_need_a_node_that_named_this_receiver() {
    let server = Server::plain().await;
    let dialer = Dialer::new(server.ca.tls(&Spec::node("raft-2")), Limits::default());
    let hello = |cluster, receiver| Hello {
        cluster_id: cluster,
        receiver,
        ..Hello::client(dialer.identity())
    };
    let expect = || Expect::Node("raft-1".to_owned());
    let to = server.to();
    for (cluster, receiver, allowed) in [
        (Some(CLUSTER), Some(NODE), true),
        (None, Some(NODE), false),
        (Some(CLUSTER), None, false),
        (Some(CLUSTER), Some(NodeId(12)), false),
        (Some(crate::raft::ClusterId(8)), Some(NODE), false),
    ] {
        let hello = hello(cluster, receiver);
        let connection = dialer.dial(&to, expect(), hello, SOON).await.unwrap();
        let raft = [
            Method::RaftVote,
            Method::RaftAppend,
            Method::RaftHeartbeat,
            Method::RaftInstall,
            Method::RaftTimeoutNow,
        ];
        for method in raft {
            let ask = Ask::Echo(Bytes::new());
            let called = connection.call_timeout::<_, Bytes>(method, &ask, SOON).await;
            match called {
                Ok(_) => assert!(allowed, "{method} for {receiver:?} of {cluster:?}"),
                Err(error) => {
                    assert!(!allowed, "{error:?}");
                    assert_eq!(code(&error), Some(Code::WrongPeer));
                }
            }
        }
    }
}

#[tokio::test]
async fn the_table_of_roles_holds_on_the_wire() {
    let server = Server::plain().await;
    for uri in ["balsa://balsa/node/raft-2", "balsa://balsa/client/app", "balsa://balsa/admin/ops"]
    {
        let dialer = Dialer::new(server.ca.tls(&Spec::of(uri)), Limits::default());
        let hello = Hello {
            cluster_id: Some(CLUSTER),
            receiver: Some(NODE),
            ..Hello::client(dialer.identity())
        };
        let expect = Expect::Node("raft-1".to_owned());
        let connection = dialer.dial(&server.to(), expect, hello, SOON).await.unwrap();
        for method in Method::ALL {
            let ask = Ask::Echo(Bytes::new());
            let called = connection.call_timeout::<_, Bytes>(method, &ask, SOON).await;
            let denied = called.as_ref().is_err_and(|e| code(e) == Some(Code::Denied));
            assert_eq!(denied, !method.allows(dialer.identity().role()), "{method} by {uri}");
            assert_eq!(called.is_ok(), !denied, "{method} by {uri}: {called:?}");
        }
    }
    server.until_refused(Reason::Denied).await;
}

#[tokio::test]
async fn a_stopping_server_says_so_answers_and_ends() {
    let server = Server::plain().await;
    let client = server.client().await;
    let held = {
        let client = client.clone();
        tokio::spawn(async move { ask::<u64>(&client, &Ask::Hold(5)).await })
    };
    eventually("it is held", || server.service.held.lock().unwrap().len() == 1).await;
    server.stopper.stop();
    eventually("the client takes no more calls", || !client.is_open()).await;
    let late = ask::<u64>(&client, &Ask::Hold(6)).await.unwrap_err();
    let CallError::NotSent(NotSent::Closed(reason)) = late else { panic!("{late:?}") };
    assert!(reason.was_announced(), "{reason:?}");
    let (number, reply) = server.service.held.lock().unwrap().pop().unwrap();
    reply.send(&number);
    assert_eq!(held.await.unwrap().unwrap(), 5, "what was in flight is answered");
    tokio::time::timeout(SOON, server.task).await.expect("serve returns").unwrap();
    let CloseReason::Announced(notice) = client.closed().await else { panic!("announced") };
    assert_eq!(notice.code, CloseCode::Stopping);
}

#[tokio::test]
async fn the_service_can_close_a_connection_and_say_why() {
    let server = Server::plain().await;
    let client = server.client().await;
    let peer = server.service.peers.lock().unwrap()[0].clone();
    peer.close(CloseCode::Renew, "new certificates");
    let CloseReason::Announced(notice) = client.closed().await else { panic!("announced") };
    assert_eq!((notice.code, notice.message.as_str()), (CloseCode::Renew, "new certificates"));
}

#[tokio::test]
async fn a_call_in_flight_is_lost_with_its_connection() {
    let limits = Limits { drain: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(limits, Tester::default()).await;
    let client = server.client().await;
    let stop = async {
        eventually("it is held", || server.service.held.lock().unwrap().len() == 1).await;
        server.stopper.stop();
    };
    let (lost, ()) = tokio::join!(ask::<u64>(&client, &Ask::Hold(1)), stop);
    assert!(matches!(lost, Err(CallError::Lost(CloseReason::Announced(_)))), "{lost:?}");
}

#[tokio::test]
async fn a_refused_hello_says_why() {
    let unfriendly = Tester { unfriendly: true, ..Tester::default() };
    let server = Server::start(Limits::default(), unfriendly).await;
    let error = server.dial(&Spec::of("balsa://balsa/client/app")).await.unwrap_err();
    let DialError::HelloRefused { refusal, .. } = &error else { panic!("{error:?}") };
    assert_eq!(refusal.code, Code::Unavailable);
    assert!(error.to_string().contains("not today"), "{error}");
    assert!(server.service.closed.lock().unwrap().is_empty(), "it was never up");
}

#[tokio::test]
async fn a_hello_speaks_for_its_own_certificate_and_a_common_version() {
    let server = Server::plain().await;
    let dialer = Dialer::new(server.ca.tls(&Spec::node("raft-2")), Limits::default());
    let good = Hello::client(dialer.identity());
    let future = crate::rpc::hello::Versions { min: 2, max: 9 };
    for (hello, expected, reason, words) in [
        (
            Hello { name: "raft-3".to_owned(), ..good.clone() },
            Code::WrongPeer,
            Reason::WrongName,
            "raft-3",
        ),
        (
            Hello { versions: future, ..good.clone() },
            Code::BadRequest,
            Reason::BadHello,
            "versions 1 to 1, the caller 2 to 9",
        ),
    ] {
        let expect = Expect::Node("raft-1".to_owned());
        let error = dialer.dial(&server.to(), expect, hello, SOON).await.unwrap_err();
        let DialError::HelloRefused { refusal, .. } = &error else { panic!("{error:?}") };
        assert_eq!(refusal.code, expected);
        assert!(refusal.message.contains(words), "{refusal}");
        server.until_refused(reason).await;
    }
}

#[tokio::test]
async fn addresses_that_lead_nowhere_are_told_apart() {
    let server = Server::plain().await;
    let dialer = Dialer::new(server.ca.tls(&Spec::of("balsa://balsa/client/a")), Limits::default());
    let dial = |address: String| {
        let dialer = dialer.clone();
        async move {
            let hello = Hello::client(dialer.identity());
            dialer.dial(&address, Expect::AnyNode, hello, Duration::from_secs(2)).await.unwrap_err()
        }
    };
    for bad in ["raft-1", "raft-1:", "raft-1:x", ":1", "a b:1", "raft-1:70000"] {
        assert!(matches!(dial(bad.to_owned()).await, DialError::Address(_)), "{bad}");
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(dial(closed.to_string()).await, DialError::Refused { .. }));
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = dial(silent.local_addr().unwrap().to_string()).await;
    assert!(matches!(error, DialError::TimedOut { stage, .. } if stage.contains("TLS")), "{error}");
    let unknown = dial("no-such-host.invalid:1".to_owned()).await;
    assert!(
        matches!(unknown, DialError::Resolve { .. } | DialError::TimedOut { .. }),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn a_stop_does_not_wait_for_those_who_are_not_up() {
    let server = Server::plain().await;
    let silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let _up = server.client().await;
    server.stopper.stop();
    tokio::time::timeout(Duration::from_secs(2), server.task).await.expect("returns soon").unwrap();
    drop(silent);
}

#[test]
fn a_connection_whose_runtime_is_gone_is_closed_on_both_sides() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (servers, clients) = (runtime(), runtime());
    let server = servers.block_on(Server::plain());
    let service = server.service.clone();
    // The server's thread runs until it is told that the client is up.
    let (up, told) = tokio::sync::oneshot::channel::<()>();
    let address = server.to();
    let tls = server.ca.tls(&Spec::of("balsa://balsa/client/app"));
    let thread = std::thread::spawn(move || {
        servers.block_on(async { told.await.unwrap() });
        drop(servers);
    });
    let dialer = Dialer::new(tls, Limits::default());
    let hello = Hello::client(dialer.identity());
    let expect = Expect::Node("raft-1".to_owned());
    let client = clients.block_on(dialer.dial(&address, expect, hello, SOON)).unwrap();
    drop(clients);
    assert!(!client.is_open());
    assert_eq!(runtime().block_on(client.closed()), CloseReason::Local);
    up.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(service.closed.lock().unwrap().len(), 1, "the service learns it too");
}
