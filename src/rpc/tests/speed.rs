//! Calls a second over loopback, for comparing one change with another; run by name:
//!
//! `cargo test --release --lib rpc::tests::speed -- --ignored --nocapture`

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;

use super::pki::Spec;
use super::support::{Ask, SOON, Server};
use crate::codec::encode;
use crate::rpc::{Dialer, Expect, Hello, Limits, Method};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
#[ignore = "measures, asserts nothing of use to a gate"]
fn calls_a_second() {
    const TIME: Duration = Duration::from_secs(2);
    let server_runtime = runtime();
    let server = server_runtime.block_on(Server::plain());
    let dialer = Dialer::new(
        server.ca.tls(&Spec::of("balsa://balsa/client/app")),
        Limits { handshake: SOON, ..Limits::default() },
    );
    let to = server.to();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        server_runtime.block_on(async move {
            let _ = ended.await;
            drop(server);
        });
    });
    for (connections, each, bytes) in [
        (1, 1, 100),
        (1, 64, 100),
        (12, 1, 100),
        (12, 16, 100),
        (64, 1, 100),
        (64, 16, 100),
        (1, 4, 1 << 20),
    ] {
        let args = encode(&Ask::Echo(Bytes::from(vec![7; bytes])));
        let calls = runtime().block_on(async {
            let hello = Hello::client(dialer.identity());
            let expect = || Expect::Node("raft-1".to_owned());
            let dials = (0..connections).map(|_| dialer.dial(&to, expect(), hello.clone(), SOON));
            let dialed = join_all(dials).await;
            let until = Instant::now() + TIME;
            let callers = dialed.into_iter().map(|dialed| {
                let connection = dialed.unwrap();
                let args = args.clone();
                let callers = (0..each).map(move |_| {
                    let (connection, args) = (connection.clone(), args.clone());
                    tokio::spawn(async move {
                        let mut calls = 0u64;
                        while Instant::now() < until {
                            let back =
                                connection.call_raw(Method::KvWrite, args.clone(), SOON).await;
                            assert!(back.unwrap().len() >= bytes);
                            calls += 1;
                        }
                        calls
                    })
                });
                join_all(callers.collect::<Vec<_>>())
            });
            let counts: Vec<_> = join_all(callers).await;
            counts.into_iter().flatten().map(Result::unwrap).sum::<u64>()
        });
        let rate = calls as f64 / TIME.as_secs_f64();
        println!(
            "{connections:3} connections x {each:2} calls of {bytes} bytes: {rate:9.0} a second"
        );
    }
    drop(end);
    thread.join().unwrap();
}
