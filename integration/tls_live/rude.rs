//! Peers that are slow, silent, or many: each is ended at its deadline, and good clients get in
//! meanwhile (correctness section 9).

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use balsa::codec;
use balsa::rpc::frame::{Head, Kind};
use balsa::rpc::{Hello, Limits, Method, Tls};
use bytes::BytesMut;

use super::forge::Papers;
use super::harness::{Cluster, PATIENCE, pause, until};
use super::raw::{Caller, Ending};
use super::{assert_serves, line_with, refusal_of};

/// Sends one byte at a time until the node has closed; how long that took.
fn drip(socket: &mut TcpStream, bytes: &[u8]) -> Duration {
    let began = Instant::now();
    socket.set_read_timeout(Some(Duration::from_millis(250))).expect("a time-out");
    for byte in bytes.iter().cycle() {
        let sent = socket.write_all(&[*byte]);
        let mut told = [0; 64];
        match socket.read(&mut told) {
            Ok(0) => break,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && sent.is_ok() => {}
            Ok(_) => {}
            Err(_) => break,
        }
        assert!(began.elapsed() < PATIENCE, "a slow peer is kept for ever");
    }
    began.elapsed()
}

/// One record of TLS that announces 512 bytes of a ClientHello.
const BEGINNING: [u8; 9] = [22, 3, 1, 2, 0, 1, 0, 1, 252];

fn whole_hello(cluster: &Cluster) -> BytesMut {
    let tls = Tls::load(&cluster.certificates.join("client"), None).expect("good certificates");
    let body = codec::encode(&Hello::client(tls.identity()));
    let mut frame = BytesMut::new();
    Head::plain(Kind::Hello, 0).write(body.len(), &mut frame);
    frame.extend_from_slice(&body);
    frame
}

#[test]
fn slow_and_silent_peers_end_at_their_deadlines() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    let (address, log) = (node.address.as_str(), node.log.as_path());
    let papers = Papers::read(&cluster.certificates.join("client"));
    let hello = whole_hello(&cluster);
    let limits = Limits::default();
    // A connection looks at its clocks a few times within each limit; the rest is a busy machine's.
    let margin = Duration::from_secs(5);
    let on_time = |took: Duration, limit: Duration, who: &str| {
        let (least, most) = (limit.mul_f32(0.9), limit.mul_f32(1.25) + margin);
        assert!(took >= least && took < most, "{who}: {took:?} with a limit of {limit:?}");
        println!("{who} was ended after {took:.1?}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = TcpStream::connect(address).expect("the node listens");
            let from = socket.local_addr().expect("an address");
            let took = drip(&mut socket, &BEGINNING);
            on_time(took, limits.handshake, "a byte of the TLS handshake at a time");
            let line = refusal_of(log, from);
            let sentence = "it did not complete the TLS handshake within 5 s";
            assert!(line.contains(sentence) && line.contains("handshake_timeout"), "{line}");
        });
        scope.spawn(|| {
            let began = Instant::now();
            let mut socket = TcpStream::connect(address).expect("the node listens");
            socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            let closed = socket.read(&mut [0; 16]).expect("the node closes");
            assert_eq!(closed, 0, "nothing is said to who says nothing");
            on_time(began.elapsed(), limits.handshake, "a half-open connection");
        });
        scope.spawn(|| {
            let began = Instant::now();
            let mut caller = Caller::connect(address, Some(&papers));
            assert_eq!(caller.next(PATIENCE), Ending::Closed, "no hello");
            on_time(began.elapsed(), limits.hello, "TLS without a hello");
            let line = refusal_of(log, caller.from());
            let sentence = "it said no hello within 5 s";
            assert!(line.contains(sentence) && line.contains("bad_hello"), "{line}");
        });
        scope.spawn(|| {
            let began = Instant::now();
            let mut caller = Caller::connect(address, Some(&papers));
            let from = caller.from();
            for byte in &hello[..hello.len() - 1] {
                // The node may have closed already; that is what is waited for.
                let _ = caller.say(&[*byte]);
                if caller.next(Duration::from_millis(250)) != Ending::Silent {
                    break;
                }
            }
            on_time(began.elapsed(), limits.hello, "a byte of the hello at a time");
            assert!(refusal_of(log, from).contains("it said no hello within 5 s"));
        });
        scope.spawn(|| {
            let mut caller = Caller::connect(address, Some(&papers));
            caller.say(&hello).expect("the node reads");
            let Ending::Data(_) = caller.next(PATIENCE) else { panic!("no acknowledgement") };
            let began = Instant::now();
            let mut ending = Ending::Silent;
            // The head of a request that announces a kilobyte, and then a byte at a time.
            let mut head = BytesMut::new();
            Head::request(Method::KvGet, 1, 60_000).write(1024, &mut head);
            caller.say(&head).expect("the node reads");
            while ending == Ending::Silent && began.elapsed() < PATIENCE {
                let _ = caller.say(&[0]);
                ending = caller.next(Duration::from_secs(1));
            }
            on_time(began.elapsed(), limits.frame, "a byte of a frame at a time");
            assert!(matches!(ending, Ending::Data(_)), "the close says why: {ending:?}");
            let line = refusal_of(log, caller.from());
            assert!(line.contains("reason=\"slow\""), "{line}");
        });
        scope.spawn(|| {
            let mut caller = Caller::connect(address, Some(&papers));
            caller.say(&hello).expect("the node reads");
            let Ending::Data(_) = caller.next(PATIENCE) else { panic!("no acknowledgement") };
            let quiet = caller.next(Duration::from_secs(12));
            assert_eq!(quiet, Ending::Silent, "who has said hello may be quiet");
        });
        for second in 0..6 {
            assert_serves(&cluster, &format!("in second {second} of slow peers"));
            pause(Duration::from_secs(1));
        }
    });
    assert_serves(&cluster, "after slow peers");
}

/// An address of this machine that is not loopback, if it has any: no packet is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn is_open(socket: &mut TcpStream) -> bool {
    socket.set_nonblocking(true).expect("a mode");
    let read = socket.read(&mut [0; 16]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

fn still_open(sockets: &mut [TcpStream]) -> usize {
    sockets.iter_mut().map(is_open).filter(|open| *open).count()
}

fn idle(host: &str, port: &str, count: usize) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(format!("{host}:{port}")).expect("the backlog holds");
    (0..count).map(connect).collect()
}

#[test]
fn three_hundred_idle_connections_of_another_machine_keep_nobody_out() {
    let Some(host) = own_address() else {
        println!("this machine has no address but loopback, which is outside the limits by source");
        return;
    };
    let mut cluster = Cluster::prepare(1);
    let port = cluster.nodes[0].address.rsplit_once(':').expect("a port").1.to_owned();
    let loopback = format!("127.0.0.1:{port}");
    cluster.nodes[0].address = format!("0.0.0.0:{port}");
    cluster.start_all();
    let good = cluster.client_of(vec![loopback], Duration::from_secs(10));
    super::assert_serves_client(&cluster, &good, "before");
    let mut sockets = idle(&host.to_string(), &port, 300);
    let limits = Limits::default();
    let refused = 300 - limits.handshakes_per_source;
    until("those over the limit are closed at once", Duration::from_secs(4), || {
        let open = still_open(&mut sockets);
        (open <= limits.handshakes_per_source).then_some(())
    });
    let node = &cluster.nodes[0];
    line_with(node, &["its address has too many handshakes in progress", "reason=\"full\""]);
    let lines = node.said().matches("reason=\"full\"").count();
    assert!(lines <= 10, "{lines} lines for {refused} refused connections");
    let began = Instant::now();
    for who in ["one", "two", "three"] {
        let fresh = cluster.client_of(vec![format!("127.0.0.1:{port}")], Duration::from_secs(3));
        super::assert_serves_client(&cluster, &fresh, &format!("beside the idle, {who}"));
    }
    assert!(began.elapsed() < limits.handshake, "while the idle were still there");
    until("the idle ones are ended", PATIENCE, || {
        let open = still_open(&mut sockets);
        (open == 0).then_some(())
    });
    println!("of 300 idle connections {refused} were closed at once, the rest at the deadline");
}

#[test]
fn three_hundred_idle_connections_of_loopback_keep_nobody_out_for_long() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    let (host, port) = node.address.rsplit_once(':').expect("a port");
    let mut sockets = idle(host, port, 300);
    let limits = Limits::default();
    let kept = limits.handshakes + limits.reserved_for_loopback;
    until("those over the limit are closed at once", Duration::from_secs(4), || {
        let open = still_open(&mut sockets);
        (open <= kept).then_some(())
    });
    line_with(node, &["too many handshakes are in progress", "reason=\"full\""]);
    // Who floods from loopback is inside the pod already; the deadline of handshakes is the remedy.
    let began = Instant::now();
    assert_serves(&cluster, "after a flood from loopback");
    let took = began.elapsed();
    assert!(took < limits.handshake + Duration::from_secs(5), "{took:?}");
    println!("{kept} of 300 were kept until the deadline; a good client was in after {took:.1?}");
}
