//! Peers with a good certificate that break the protocol, or are slow, or ask for too much.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pki::Spec;
use super::support::{Ask, Log, SOON, Server, Tester, ask, eventually};
use crate::codec::api::{Code, Refusal};
use crate::codec::{decode, encode};
use crate::rpc::frame::{FRAME_BYTES_MAX, Head, Kind};
use crate::rpc::stream::{Buffered, Source, buffered, write_frame};
use crate::rpc::{CloseCode, CloseNotice, Dialer, Expect, Hello, Limits, Method, Reason};

/// A client that writes whatever bytes a test wants.
struct Raw {
    source: Source<ReadHalf<TlsStream<Buffered>>>,
    writer: WriteHalf<TlsStream<Buffered>>,
}

impl Raw {
    /// TLS, without a hello.
    async fn connect(server: &Server) -> Raw {
        let tls = server.ca.tls(&Spec::of("balsa://balsa/client/app"));
        let (config, ..) = tls.client_config(&Expect::Node("raft-1".to_owned())).unwrap();
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(config).connect(name, buffered(tcp)).await.unwrap();
        let (reader, writer) = tokio::io::split(stream);
        Raw { source: Source::new(reader), writer }
    }

    /// TLS and hello.
    async fn greeted(server: &Server) -> Raw {
        let mut raw = Raw::connect(server).await;
        let identity = "balsa://balsa/client/app".parse().unwrap();
        raw.say(&Head::plain(Kind::Hello, 0), &Hello::client(&identity)).await;
        let (head, _) = raw.source.frame().await.unwrap();
        assert_eq!(head.kind, Kind::HelloAck);
        raw
    }

    async fn say<T: Serialize>(&mut self, head: &Head, body: &T) {
        write_frame(&mut self.writer, head, body).await.unwrap();
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
        self.writer.flush().await.unwrap();
    }

    async fn refusal(&mut self) -> (u64, Refusal) {
        let (head, body) = self.source.frame().await.unwrap();
        assert_eq!(head.kind, Kind::Refusal, "{body:?}");
        (head.seq, decode(&body).unwrap())
    }

    /// The close frame that must come, and the end behind it.
    async fn closed(&mut self) -> CloseNotice {
        let (head, body) = self.source.frame().await.unwrap();
        assert_eq!(head.kind, Kind::Close);
        let end = self.source.frame().await;
        assert!(end.is_err(), "nothing comes behind a close: {end:?}");
        decode(&body).unwrap()
    }
}

/// A frame with any kind, name and length.
fn frame(kind: u8, name: &str, seq: u64, timeout_ms: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((16 + name.len() + body.len()) as u32).to_be_bytes());
    bytes.extend([1, kind, name.len() as u8, 0]);
    bytes.extend(seq.to_be_bytes());
    bytes.extend(timeout_ms.to_be_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(body);
    bytes
}

fn request(name: &str, seq: u64, timeout_ms: u32, ask: &Ask) -> Vec<u8> {
    frame(Kind::Request as u8, name, seq, timeout_ms, &encode(ask))
}

fn short_limits() -> Limits {
    Limits {
        handshake: Duration::from_millis(200),
        hello: Duration::from_millis(200),
        frame: Duration::from_millis(200),
        idle: Duration::from_millis(400),
        write_stall: Duration::from_millis(200),
        ..Limits::default()
    }
}

#[tokio::test]
async fn unknown_methods_are_refused_and_the_connection_goes_on() {
    let server = Server::plain().await;
    let mut raw = Raw::greeted(&server).await;
    raw.write(&request("Kv.Burn", 5, 1000, &Ask::GiveUp)).await;
    let (seq, refusal) = raw.refusal().await;
    assert_eq!((seq, refusal.code), (5, Code::UnknownMethod));
    assert!(refusal.message.contains("Kv.Burn"));
    raw.write(&request("Kv.Get", 6, 1000, &Ask::Echo(Bytes::new()))).await;
    assert_eq!(raw.source.frame().await.unwrap().0, Head::plain(Kind::Reply, 6));
}

#[tokio::test]
async fn a_deadline_that_passed_while_the_call_waited_refuses_it() {
    let limits = Limits { inflight: 1, ..Limits::default() };
    let server = Server::start(limits, Tester::default()).await;
    let mut raw = Raw::greeted(&server).await;
    raw.write(&request("Kv.Get", 1, 0, &Ask::Echo(Bytes::new()))).await;
    let (seq, refusal) = raw.refusal().await;
    assert_eq!((seq, refusal.code), (1, Code::DeadlineExceeded), "no time at all");
    // Both come in one read; the second waits for the first one's place.
    let mut both = request("Kv.Get", 2, 60_000, &Ask::Hold(2));
    both.extend(request("Kv.Get", 3, 20, &Ask::Echo(Bytes::new())));
    raw.write(&both).await;
    eventually("the first is held", || server.service.held.lock().unwrap().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(40)).await;
    let (number, reply) = server.service.held.lock().unwrap().pop().unwrap();
    reply.send(&number);
    assert_eq!(raw.source.frame().await.unwrap().0, Head::plain(Kind::Reply, 2));
    let (seq, refusal) = raw.refusal().await;
    assert_eq!((seq, refusal.code), (3, Code::DeadlineExceeded));
}

#[tokio::test]
async fn arguments_over_the_methods_limit_are_refused_without_being_kept() {
    let server = Server::plain().await;
    let mut raw = Raw::greeted(&server).await;
    let max = Method::KvGet.args_max();
    let mut bytes = frame(Kind::Request as u8, "Kv.Get", 8, 1000, &vec![0xc0; max + 100_000]);
    bytes.extend(request("Kv.Get", 9, 1000, &Ask::Echo(Bytes::new())));
    raw.write(&bytes).await;
    let (seq, refusal) = raw.refusal().await;
    assert_eq!((seq, refusal.code), (8, Code::TooLarge));
    assert!(refusal.message.contains("16384"), "the limit is named: {refusal}");
    assert_eq!(raw.source.frame().await.unwrap().0, Head::plain(Kind::Reply, 9));
}

#[tokio::test]
async fn what_breaks_the_protocol_is_told_why_and_closed() {
    let server = Server::plain().await;
    let hello = frame(Kind::Hello as u8, "", 0, 0, b"\xc0");
    let reply = frame(Kind::Reply as u8, "", 1, 0, b"\xc0");
    let mut version = hello.clone();
    version[4] = 9;
    for (bytes, words) in [
        (vec![0, 0, 0, 0], "shorter than its head"),
        (u32::MAX.to_be_bytes().to_vec(), "over the limit"),
        ((FRAME_BYTES_MAX as u32 + 1).to_be_bytes().to_vec(), "over the limit"),
        (frame(77, "", 0, 0, b""), "frame kind 77"),
        (version, "version 9"),
        (hello, "a hello frame does not belong"),
        (reply, "a reply frame does not belong"),
    ] {
        let mut raw = Raw::greeted(&server).await;
        raw.write(&bytes).await;
        let notice = raw.closed().await;
        assert_eq!(notice.code, CloseCode::Violation);
        assert!(notice.message.contains(words), "{words}: {}", notice.message);
    }
    server.until_refused(Reason::Violation).await;
}

#[tokio::test]
async fn a_hello_that_is_none_is_refused() {
    let server = Server::plain().await;
    for (bytes, words) in [
        (request("Kv.Get", 1, 1000, &Ask::GiveUp), "not a hello"),
        (frame(Kind::Hello as u8, "", 0, 0, b"\xc1"), "malformed"),
        (frame(Kind::Hello as u8, "", 0, 0, &encode(&7)), "malformed"),
    ] {
        let mut raw = Raw::connect(&server).await;
        raw.write(&bytes).await;
        let (_, refusal) = raw.refusal().await;
        assert_eq!(refusal.code, Code::BadRequest);
        assert!(refusal.message.contains(words), "{refusal}");
        assert!(raw.source.frame().await.is_err());
    }
    let mut raw = Raw::connect(&server).await;
    raw.write(&frame(Kind::Hello as u8, "", 0, 0, &[0; 5000])).await;
    assert!(raw.source.frame().await.is_err(), "a hello over its limit ends it");
}

#[tokio::test]
async fn the_slow_are_closed_at_every_stage() {
    let (log, _guard) = Log::start();
    let server = Server::start(short_limits(), Tester::default()).await;
    let start = Instant::now();
    // No byte; then one byte of TLS; then TLS without a hello; then a frame that does not end.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut one_byte = TcpStream::connect(server.address).await.unwrap();
    one_byte.write_all(&[22]).await.unwrap();
    let mut no_hello = Raw::connect(&server).await;
    let mut half = Raw::greeted(&server).await;
    half.write(&request("Kv.Get", 1, 1000, &Ask::GiveUp)[..30]).await;
    let mut end = [0; 16];
    assert_eq!(silent.read(&mut end).await.unwrap_or(0), 0);
    assert_eq!(one_byte.read(&mut end).await.unwrap_or(0), 0);
    assert!(no_hello.source.frame().await.is_err());
    // One byte now and then does not save it.
    let drip = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if half.writer.write_all(&[0]).await.is_err() || half.writer.flush().await.is_err() {
                break;
            }
        }
    };
    let notice = tokio::select! {
        frame = half.source.frame() => decode::<CloseNotice>(&frame.unwrap().1).unwrap(),
        () = drip => panic!("the close frame comes first"),
    };
    assert_eq!(notice.code, CloseCode::Slow);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    server.until_refused(Reason::Slow).await;
    let text = log.text();
    for sentence in ["did not complete the TLS handshake within", "said no hello within", "stalled"]
    {
        assert!(text.contains(sentence), "{sentence}: {text}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed_but_not_those_that_wait() {
    let server = Server::start(short_limits(), Tester::default()).await;
    let idle = server.client().await;
    let waiting = server.client().await;
    let held = {
        let waiting = waiting.clone();
        tokio::spawn(async move { ask::<u64>(&waiting, &Ask::Hold(1)).await })
    };
    let notice = idle.closed().await;
    assert!(matches!(&notice, crate::rpc::CloseReason::Announced(n) if n.code == CloseCode::Idle));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(waiting.is_open(), "a call is in flight");
    server.service.held.lock().unwrap().pop().unwrap().1.send(&1u64);
    assert_eq!(held.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_peer_that_never_reads_is_bounded_and_cut_off() {
    let limits = Limits { queued_bytes: 4 << 20, ..short_limits() };
    let server = Server::start(limits, Tester::default()).await;
    let mut raw = Raw::greeted(&server).await;
    eventually("it is up", || !server.service.peers.lock().unwrap().is_empty()).await;
    let peer = Arc::clone(&server.service.peers.lock().unwrap()[0]);
    let mut largest = 0;
    let start = Instant::now();
    // Asks on and on, until the system's own buffers are full as well.
    for seq in 1.. {
        if !server.service.closed.lock().unwrap().is_empty() {
            break;
        }
        assert!(start.elapsed() < SOON, "it is cut off");
        let asked = request("Kv.Get", seq, 60_000, &Ask::Zeros(1 << 20));
        let _ = raw.writer.write_all(&asked).await;
        let _ = raw.writer.flush().await;
        largest = largest.max(peer.link.outbox.queued());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(largest > 1 << 20, "it did queue: {largest}");
    assert!(largest <= (4 << 20) + (64 << 10), "{largest} bytes were queued");
    server.until_refused(Reason::Slow).await;
}

#[tokio::test]
async fn too_many_connections_are_refused_and_loopback_keeps_a_way_in() {
    let limits = Limits {
        connections: 3,
        reserved_for_nodes: 1,
        reserved_for_loopback: 1,
        ..Limits::default()
    };
    let server = Server::start(limits, Tester::default()).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(server.client().await);
    }
    let error = server.dial(&Spec::of("balsa://balsa/client/app")).await.unwrap_err();
    assert!(error.to_string().contains("connections for clients"), "{error}");
    let probe = server.dial(&Spec::node("raft-1")).await.unwrap();
    assert!(server.dial(&Spec::node("raft-1")).await.is_err(), "one slot is kept, not more");
    server.until_refused(Reason::Full).await;
    drop((held, probe));
    eventually("the slots come back", || server.service.closed.lock().unwrap().len() == 4).await;
    server.client().await;
}

#[tokio::test]
async fn a_server_that_answers_what_was_not_asked_is_left() {
    let ca = super::pki::ca();
    let tls = ca.tls(&Spec::node("raft-1"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let liar = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let (config, ..) = tls.server_config().unwrap();
        let accepting = tokio_rustls::TlsAcceptor::from(config).accept(buffered(tcp));
        let (reader, mut writer) = tokio::io::split(accepting.await.unwrap());
        let mut source = Source::new(reader);
        source.frame().await.unwrap();
        let ack = crate::rpc::HelloAck { max_inflight: 10, ..crate::rpc::HelloAck::new("raft-1") };
        write_frame(&mut writer, &Head::plain(Kind::HelloAck, 0), &ack).await.unwrap();
        write_frame(&mut writer, &Head::plain(Kind::Reply, 1), &()).await.unwrap();
        let _ = source.frame().await;
    });
    let dialer = Dialer::new(ca.tls(&Spec::node("raft-2")), Limits::default());
    let hello = Hello::client(dialer.identity());
    let expect = Expect::Node("raft-1".to_owned());
    let connection = dialer.dial(&to, expect, hello, SOON).await.unwrap();
    let reason = connection.closed().await;
    assert!(reason.to_string().contains("call 1, which was never made"), "{reason}");
    liar.await.unwrap();
}
