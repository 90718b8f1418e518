//! A service that does what it is asked to, a server around it, and a log to read.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing_subscriber::fmt::MakeWriter;

use super::pki::{Ca, Spec, ca};
use crate::codec::api::{Code, Refusal};
use crate::identity::Identity;
use crate::raft::{ClusterId, NodeId};
use crate::rpc::tls::{Look, Watch, unix_now};
use crate::rpc::{
    Call, Connection, DialError, Dialer, Expect, Hello, HelloAck, Limits, Meter, Method, Peer,
    Reason, Responder, Service, Stopper, Tls, serve, stop,
};

pub(super) const CLUSTER: ClusterId = ClusterId(7);
pub(super) const NODE: NodeId = NodeId(11);
pub(super) const SOON: Duration = Duration::from_secs(10);

/// What the test service is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    Echo(Bytes),
    /// Keep the call; answer it, last first, when released.
    Hold(u64),
    Release,
    GiveUp,
    Refuse,
    Zeros(usize),
}

#[derive(Default)]
pub(super) struct Tester {
    pub(super) held: Mutex<Vec<(u64, Responder)>>,
    pub(super) meter: Arc<Meter>,
    pub(super) batches: Mutex<Vec<usize>>,
    pub(super) closed: Mutex<Vec<String>>,
    pub(super) peers: Mutex<Vec<Arc<Peer>>>,
    /// Refuses every hello.
    pub(super) unfriendly: bool,
}

impl Service for Tester {
    fn greet(&self, peer: &Identity, hello: &Hello) -> Result<HelloAck, Refusal> {
        assert_eq!(peer.name(), hello.name, "the transport has compared them");
        if self.unfriendly {
            return Err(Refusal::new(Code::Unavailable, "not today"));
        }
        Ok(HelloAck { cluster_id: Some(CLUSTER), node_id: Some(NODE), ..HelloAck::new("raft-1") })
    }

    fn opened(&self, peer: &Arc<Peer>) {
        self.peers.lock().unwrap().push(peer.clone());
    }

    fn dispatch(&self, _: &Arc<Peer>, calls: Vec<Call>) {
        self.batches.lock().unwrap().push(calls.len());
        for call in calls {
            match call.args::<Ask>() {
                Err(refusal) => call.reply.refuse(refusal),
                Ok(Ask::Echo(bytes)) => call.reply.send(&bytes),
                Ok(Ask::Hold(number)) => self.held.lock().unwrap().push((number, call.reply)),
                Ok(Ask::Release) => {
                    while let Some((number, reply)) = self.held.lock().unwrap().pop() {
                        reply.send(&number);
                    }
                    call.reply.send(&());
                }
                Ok(Ask::GiveUp) => drop(call.reply),
                Ok(Ask::Refuse) => {
                    call.reply.refuse(Refusal::new(Code::NotLeader, "x".repeat(100_000)));
                }
                Ok(Ask::Zeros(count)) => call.reply.send(&Bytes::from(vec![0; count])),
            }
        }
    }

    fn closed(&self, peer: &Arc<Peer>) {
        self.closed.lock().unwrap().push(peer.identity.to_string());
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

impl Tester {
    /// How often each reason was counted, if it was.
    pub(super) fn reasons(&self) -> Vec<(Reason, u64)> {
        self.meter.refusals().filter(|(_, count)| *count > 0).collect()
    }

    pub(super) fn refused(&self, reason: Reason) -> u64 {
        self.meter.refusals().filter(|(other, _)| *other == reason).map(|(_, count)| count).sum()
    }
}

/// A running server.
pub(super) struct Server {
    pub(super) ca: Ca,
    pub(super) address: SocketAddr,
    pub(super) service: Arc<Tester>,
    pub(super) stopper: Stopper,
    pub(super) task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(limits: Limits, service: Tester) -> Server {
        let ca = ca();
        let tls = ca.tls(&Spec::node("raft-1"));
        Server::with(ca, tls, limits, service).await
    }

    pub(super) async fn with(ca: Ca, tls: Arc<Tls>, limits: Limits, service: Tester) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(service);
        let (stopper, stop) = stop();
        let task = tokio::spawn(serve(listener, tls, limits, service.clone(), stop));
        Server { ca, address, service, stopper, task }
    }

    pub(super) async fn plain() -> Server {
        Server::start(Limits::default(), Tester::default()).await
    }

    pub(super) fn to(&self) -> String {
        self.address.to_string()
    }

    /// Dials with such a certificate and a client's hello.
    pub(super) async fn dial(&self, spec: &Spec) -> Result<Connection, DialError> {
        let dialer = Dialer::new(self.ca.tls(spec), Limits::default());
        let hello = Hello::client(dialer.identity());
        dialer.dial(&self.to(), Expect::Node("raft-1".to_owned()), hello, SOON).await
    }

    pub(super) async fn client(&self) -> Connection {
        self.dial(&Spec::of("balsa://balsa/client/app")).await.unwrap()
    }

    /// Waits until the service has counted a refusal for this reason.
    pub(super) async fn until_refused(&self, reason: Reason) {
        eventually(&format!("{reason:?}"), || self.service.refused(reason) > 0).await;
    }
}

/// Waits for a condition that other tasks of this process bring about.
pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = tokio::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(super) async fn ask<R: serde::de::DeserializeOwned>(
    connection: &Connection,
    ask: &Ask,
) -> Result<R, crate::rpc::CallError> {
    connection.call_timeout(Method::KvGet, ask, SOON).await
}

/// The log of this thread's tasks, while the guard lives.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

impl Log {
    pub(super) fn start() -> (Log, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Looks until what is seen has settled.
pub(super) fn looked(watch: &mut Watch, tls: &Tls) -> Look {
    assert_eq!(watch.look(tls, unix_now()), Look::Same, "nothing is believed at once");
    watch.look(tls, unix_now())
}
