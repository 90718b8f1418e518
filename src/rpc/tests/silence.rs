//! Peers of which nothing comes, and those of which only little does.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::pki::Spec;
use super::support::{Ask, SOON, Server, ask};
use crate::rpc::{CallError, CloseReason, Dialer, Expect, Hello, Limits, Method, Purpose};

#[tokio::test]
async fn a_server_that_falls_silent_is_to_be_dialed_anew() {
    let server = Server::plain().await;
    let silence = Duration::from_millis(200);
    let limits = Limits { silence, ..Limits::default() };
    let dialer = Dialer::new(server.ca.tls(&Spec::of("balsa://balsa/client/a")), limits);
    let hello = Hello { purpose: Purpose::Control, ..Hello::client(dialer.identity()) };
    let expect = Expect::Node("raft-1".to_owned());
    let client = dialer.dial(&server.to(), expect, hello, SOON).await.unwrap();
    let wait = |number: u64, limit: Duration| {
        let client = client.clone();
        async move {
            let question = Ask::Hold(number);
            let answer = client.call_timeout::<_, u64>(Method::KvGet, &question, limit).await;
            answer.unwrap_err()
        }
    };
    // One slow call, and signs of life beside it.
    let life = async {
        for _ in 0..10 {
            ask::<Bytes>(&client, &Ask::Echo(Bytes::from_static(b"x"))).await.unwrap();
            tokio::time::sleep(silence / 4).await;
        }
    };
    let (late, ()) = tokio::join!(wait(1, 2 * silence), life);
    assert!(matches!(late, CallError::TimedOut(_)), "{late}");
    assert!(!client.is_stale() && !client.is_silent(), "a slow call is no silence");
    // Short calls in vain, each of them too short to prove anything.
    wait(2, silence / 4).await;
    assert!(!client.is_silent(), "not long enough");
    for number in 3..10 {
        wait(number, silence / 4).await;
    }
    assert!(client.is_silent() && client.is_stale());
    client.stale().await;
    // It may come back: what is in flight is still answered.
    assert!(client.is_open());
    ask::<()>(&client, &Ask::Release).await.unwrap();
}

/// A line to a server that takes a moment for each 16 KiB of what is sent, and can be made to carry nothing
/// more, without an end of it. Where it is.
async fn line(to: String, pace: Duration) -> (String, watch::Sender<bool>) {
    let (muted, mut mute) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        let ((mut asks, mut is_answered), (mut answers, mut is_asked)) =
            (near.split(), far.split());
        let there = async {
            let mut bytes = vec![0; 16 << 10];
            while let Ok(count @ 1..) = asks.read(&mut bytes).await {
                tokio::time::sleep(pace).await;
                is_asked.write_all(&bytes[..count]).await.unwrap();
            }
        };
        let muted = async { mute.wait_for(|muted| *muted).await.is_ok() };
        let silent = tokio::select! {
            () = there => false,
            _ = tokio::io::copy(&mut answers, &mut is_answered) => false,
            muted = muted => muted,
        };
        if silent {
            std::future::pending::<()>().await;
        }
    });
    (address, muted)
}

#[tokio::test]
async fn a_call_of_a_client_waits_for_a_server_that_lives_and_leaves_one_that_does_not() {
    let server = Server::plain().await;
    let (address, muted) = line(server.to(), Duration::ZERO).await;
    let silence = Duration::from_millis(300);
    let limits = Limits { silence, ..Limits::default() };
    let dialer = Dialer::new(server.ca.tls(&Spec::of("balsa://balsa/client/a")), limits);
    let hello = Hello::client(dialer.identity());
    let expect = Expect::Node("raft-1".to_owned());
    let client = dialer.dial(&address, expect, hello, SOON).await.unwrap();
    let wait = async |number: u64, limit: Duration| {
        let held = client.call_timeout::<_, u64>(Method::KvGet, &Ask::Hold(number), limit).await;
        held.unwrap_err()
    };
    let late = wait(1, 4 * silence).await;
    assert!(matches!(late, CallError::TimedOut(_)), "it says that it lives: {late}");
    tokio::time::sleep(2 * silence).await;
    assert!(client.is_open(), "nobody waits, so nothing needs to come");
    muted.send_replace(true);
    tokio::time::sleep(2 * silence).await;
    assert!(client.is_open(), "nor now");
    let lost = wait(2, SOON).await;
    assert!(
        matches!(lost, CallError::Lost(CloseReason::Silent(time)) if time == silence),
        "{lost}"
    );
    assert!(!client.is_open());
}

#[tokio::test]
async fn a_large_call_over_a_slow_line_is_no_silence() {
    let server = Server::plain().await;
    // Some 300 KiB a second.
    let (address, _muted) = line(server.to(), Duration::from_millis(50)).await;
    let limits = Limits::default();
    let silence = limits.silence;
    let dialer = Dialer::new(server.ca.tls(&Spec::of("balsa://balsa/client/a")), limits);
    let hello = Hello::client(dialer.identity());
    let expect = Expect::Node("raft-1".to_owned());
    let client = dialer.dial(&address, expect, hello, SOON).await.unwrap();
    let (bytes, begun) = (Bytes::from(vec![7; 800 << 10]), Instant::now());
    let echo = Ask::Echo(bytes.clone());
    let back: Bytes = client.call_timeout(Method::KvWrite, &echo, SOON).await.unwrap();
    assert_eq!(back, bytes);
    assert!(begun.elapsed() > silence, "or nothing was tried");
}
