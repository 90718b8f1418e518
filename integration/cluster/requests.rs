//! Requests that break a limit or the format, on a connection made by hand.

use std::sync::Arc;
use std::time::Duration;

use balsa::client::ErrorKind;
use balsa::codec::api::{Code, GetArgs, GetReply, Refusal};
use balsa::codec::command::encode_command;
use balsa::kv::command::{Command, Operation, Write};
use balsa::rpc::frame::{FRAME_BYTES_MAX, FRAME_VERSION, Kind};
use balsa::rpc::{CloseCode, CloseNotice, Hello, HelloAck};
use bytes::Bytes;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Cluster, PATIENCE, bytes, tls};

/// A connection on which anything can be said.
struct Raw {
    stream: TlsStream<TcpStream>,
    next: u64,
}

impl Raw {
    /// Connects with the client's certificate and says hello properly.
    async fn connect(cluster: &Cluster, address: &str) -> Raw {
        let directory = cluster.certificates.join("client");
        let certificates = |name: &str| -> Vec<CertificateDer<'static>> {
            let read = CertificateDer::pem_file_iter(directory.join(name)).expect("a PEM file");
            read.collect::<Result<_, _>>().expect("certificates")
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(certificates("ca.crt"));
        let key = PrivateKeyDer::from_pem_file(directory.join("tls.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates("tls.crt"), key)
            .expect("a pair");
        let socket = TcpStream::connect(address).await.expect("the node listens");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, socket).await.expect("TLS");
        let mut raw = Raw { stream, next: 1 };
        let hello = Hello::client(tls(&cluster.certificates, "client").identity());
        raw.send(Kind::Hello as u8, 0, "", &encode(&hello)).await;
        let (kind, _, body) = raw.receive().await.expect("an answer to the hello");
        assert_eq!(kind, Kind::HelloAck as u8);
        let ack: HelloAck = decode(&body);
        assert!(ack.name.starts_with("raft-"));
        raw
    }

    async fn send(&mut self, kind: u8, seq: u64, method: &str, body: &[u8]) {
        let length = u32::try_from(16 + method.len() + body.len()).expect("short enough");
        let name = u8::try_from(method.len()).expect("a short name");
        let mut frame = Vec::new();
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&[FRAME_VERSION, kind, name, 0]);
        frame.extend_from_slice(&seq.to_be_bytes());
        frame.extend_from_slice(&10_000u32.to_be_bytes());
        frame.extend_from_slice(method.as_bytes());
        frame.extend_from_slice(body);
        self.stream.write_all(&frame).await.expect("sent");
        self.stream.flush().await.expect("sent");
    }

    /// Kind, number and body of the next frame; none when the connection has ended.
    async fn receive(&mut self) -> Option<(u8, u64, Vec<u8>)> {
        let read = async {
            let length = self.stream.read_u32().await.ok()?;
            let mut frame = vec![0; length as usize];
            self.stream.read_exact(&mut frame).await.ok()?;
            let seq = u64::from_be_bytes(frame[4..12].try_into().expect("eight bytes"));
            let body = frame.split_off(16 + usize::from(frame[2]));
            Some((frame[1], seq, body))
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an answer or an end, in time")
    }

    async fn call(&mut self, method: &str, body: &[u8]) -> (u8, Vec<u8>) {
        let seq = self.next;
        self.next += 1;
        self.send(Kind::Request as u8, seq, method, body).await;
        let (kind, answered, body) = self.receive().await.expect("an answer");
        assert_eq!(answered, seq, "the answer to this call");
        (kind, body)
    }

    /// A call that must be refused so, with these words.
    async fn refused(&mut self, method: &str, body: &[u8], code: Code, words: &[&str]) {
        let (kind, body) = self.call(method, body).await;
        assert_eq!(kind, Kind::Refusal as u8, "{method} is refused");
        let refusal: Refusal = decode(&body);
        assert_eq!(refusal.code, code, "{refusal}");
        for word in words {
            assert!(refusal.message.contains(word), "\"{word}\" is not in: {refusal}");
        }
        println!("{}: {refusal}", code.word());
    }

    /// The connection is as good as before.
    async fn works(&mut self, key: &Bytes, value: &Bytes) {
        let args = encode(&GetArgs { key: key.clone(), local: true });
        let (kind, body) = self.call("Kv.Get", &args).await;
        assert_eq!(kind, Kind::Reply as u8, "the connection goes on");
        let reply: GetReply = decode(&body);
        assert_eq!(reply.found.map(|found| found.value).as_ref(), Some(value));
    }

    /// The node says what it does not like, and ends the connection.
    async fn is_closed(&mut self, words: &[&str]) {
        let (kind, _, body) = self.receive().await.expect("a word before the end");
        assert_eq!(kind, Kind::Close as u8);
        let notice: CloseNotice = decode(&body);
        assert_eq!(notice.code, CloseCode::Violation);
        for word in words {
            assert!(notice.message.contains(word), "\"{word}\" is not in: {}", notice.message);
        }
        println!("closed: {}", notice.message);
        assert_eq!(self.receive().await, None, "and then the end");
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("it encodes")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> T {
    rmp_serde::from_slice(bytes).expect("it decodes")
}

fn put(key: usize, value: usize) -> Bytes {
    let operation = Operation::Put { key: vec![b'k'; key].into(), value: vec![b'v'; value].into() };
    encode_command(&Command::Write(Write { session: 1, serial: 1, answered_below: 1, operation }))
}

#[test]
fn oversize_and_broken_requests_are_refused_and_harm_nobody() {
    let cluster = Cluster::start(1);
    let address = cluster.nodes[0].address.clone();
    let client = cluster.client(Duration::from_secs(20));
    let (key, value) = (bytes("k"), bytes("v"));
    cluster.wait(async {
        client.put(key.clone(), value.clone()).await.expect("acknowledged");
        let mut raw = Raw::connect(&cluster, &address).await;
        raw.refused("Kv.Write", &put(4097, 1), Code::TooLarge, &["key", "4097", "4096"]).await;
        let (mib, over) = (1 << 20, (1 << 20) + 1);
        raw.refused("Kv.Write", &put(1, over), Code::TooLarge, &["value", "1048577", "1048576"])
            .await;
        raw.works(&key, &value).await;
        raw.refused(
            "Kv.Write",
            &put(1, 2 * mib),
            Code::TooLarge,
            &["Kv.Write", "limit", "1572864"],
        )
        .await;
        raw.works(&key, &value).await;
        raw.refused("Kv.Write", b"\xc1", Code::BadRequest, &["Kv.Write", "MessagePack"]).await;
        let cut = &put(10, 10)[..12];
        raw.refused("Kv.Write", cut, Code::BadRequest, &["Kv.Write", "MessagePack"]).await;
        raw.refused("Kv.Write", &encode(&(1, 2, 3)), Code::BadRequest, &[]).await;
        let deep = vec![0x91; 4000];
        raw.refused("Kv.Get", &deep, Code::BadRequest, &["Kv.Get"]).await;
        raw.refused("Kv.Frobnicate", b"\x80", Code::UnknownMethod, &["Kv.Frobnicate"]).await;
        raw.refused("Node.Stop", b"\x80", Code::Denied, &["Node.Stop"]).await;
        raw.works(&key, &value).await;
        // What breaks the frame ends its own connection, and only that.
        let mut long = Raw::connect(&cluster, &address).await;
        let length = u32::try_from(FRAME_BYTES_MAX + 1).expect("it fits");
        long.stream.write_all(&length.to_be_bytes()).await.expect("sent");
        long.stream.flush().await.expect("sent");
        long.is_closed(&["8388609", "8388608"]).await;
        let mut strange = Raw::connect(&cluster, &address).await;
        strange.send(99, 1, "", b"").await;
        strange.is_closed(&["kind 99"]).await;
        let mut text = Raw::connect(&cluster, &address).await;
        text.stream.write_all(b"\0\0\0\x20GET / HTTP/1.1\r\n\r\n").await.expect("sent");
        text.stream.flush().await.expect("sent");
        text.is_closed(&["version"]).await;
        raw.works(&key, &value).await;
        // The client library refuses before it sends.
        for (key, value, word) in [
            (Bytes::from(vec![b'k'; 4097]), value.clone(), "4096"),
            (Bytes::new(), value.clone(), "empty"),
            (key.clone(), Bytes::from(vec![b'v'; over]), "1048576"),
        ] {
            let error = client.put(key, value).await.expect_err("over a limit");
            assert_eq!(error.kind, ErrorKind::Refused, "{error}");
            assert!(error.message.contains(word), "\"{word}\" is not in: {error}");
        }
        let largest = Bytes::from(vec![b'v'; mib]);
        client.put(Bytes::from(vec![b'k'; 4096]), largest).await.expect("at the limits it works");
    });
    assert_eq!(cluster.assert_equal().store.len(), 2);
    cluster.assert_no_errors();
    println!("proved: what breaks a limit or the format is refused by name and harms nobody else");
}
