//! Names that answer late, with old addresses, with several, or not at all.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::TcpListener;

use super::pki::{Ca, Spec, ca};
use super::support::{SOON, Server, Tester, eventually};
use crate::rpc::{Connection, DialError, Dialer, Expect, Hello, Limits, Resolver};

/// A name server of the test's own.
#[derive(Default)]
struct Names {
    answer: Mutex<Vec<SocketAddr>>,
    /// Whether lookups hang.
    hangs: Mutex<bool>,
    changed: Condvar,
    asked: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Names {
    fn answer(&self, addresses: &[SocketAddr]) {
        *self.answer.lock().unwrap() = addresses.to_vec();
    }

    fn hang(&self, hangs: bool) {
        *self.hangs.lock().unwrap() = hangs;
        self.changed.notify_all();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let free = self.changed.wait_while(self.hangs.lock().unwrap(), |hangs| *hangs);
        drop(free.unwrap());
        self.running.fetch_sub(1, Ordering::SeqCst);
        match self.answer.lock().unwrap().clone() {
            found if found.is_empty() => Err(io::Error::other("no such name")),
            found => Ok(found),
        }
    }

    fn resolver(self: &Arc<Names>) -> Resolver {
        let names = Arc::clone(self);
        Resolver::new(Arc::new(move |_| names.look_up()))
    }
}

/// Nodes of one CA, and somebody who looks for them by name.
struct Town {
    ca: Ca,
    names: Arc<Names>,
    dialer: Dialer,
}

impl Town {
    fn new() -> Town {
        let (ca, names) = (ca(), Arc::new(Names::default()));
        let tls = ca.tls(&Spec::node("raft-9"));
        let dialer = Dialer::resolving(tls, Limits::default(), names.resolver());
        Town { ca, names, dialer }
    }

    async fn node(&self, uri: &str) -> Server {
        let tls = self.ca.tls(&Spec::of(uri));
        Server::with(ca(), tls, Limits::default(), Tester::default()).await
    }

    async fn dial(&self, expect: Expect, limit: Duration) -> Result<Connection, DialError> {
        let hello = Hello::client(self.dialer.identity());
        self.dialer.dial("raft-1.test:6000", expect, hello, limit).await
    }

    async fn dial_1(&self) -> Result<Connection, DialError> {
        self.dial(Expect::Node("raft-1".to_owned()), SOON).await
    }
}

#[tokio::test]
async fn every_connect_asks_anew() {
    let town = Town::new();
    let (one, other) = (
        town.node("balsa://balsa/node/raft-1").await,
        town.node("balsa://balsa/node/raft-1").await,
    );
    for (round, server) in [&one, &other, &one].into_iter().enumerate() {
        town.names.answer(&[server.address]);
        let before = server.service.peers.lock().unwrap().len();
        let _up = town.dial_1().await.unwrap();
        eventually("it is up there too", || server.service.peers.lock().unwrap().len() > before)
            .await;
        assert_eq!(town.names.asked(), round + 1, "K1: no answer is used twice");
    }
    let numeric = town.dialer.resolve("127.0.0.1:1", SOON).await.unwrap();
    assert_eq!((numeric, town.names.asked()), (vec!["127.0.0.1:1".parse().unwrap()], 3));
}

#[tokio::test]
async fn a_name_that_is_not_known_yet_is_told_and_found_later() {
    let town = Town::new();
    let error = town.dial_1().await.unwrap_err();
    let said = "raft-1.test:6000: the name cannot be resolved: no such name";
    assert_eq!(error.to_string(), said);
    let node = town.node("balsa://balsa/node/raft-1").await;
    town.names.answer(&[node.address]);
    town.dial_1().await.unwrap();
}

#[tokio::test]
async fn a_resolver_that_hangs_takes_few_threads_and_nobodys_time() {
    let town = Town::new();
    let node = town.node("balsa://balsa/node/raft-1").await;
    town.names.answer(&[node.address]);
    town.names.hang(true);
    let limit = Duration::from_millis(300);
    let begun = Instant::now();
    for _ in 0..3 {
        let many = (0..100).map(|name| {
            let dialer = town.dialer.clone();
            async move { dialer.resolve(&format!("name-{}:1", name % 50), limit).await }
        });
        for answer in join_all(many).await {
            let error = answer.unwrap_err();
            assert!(matches!(error, DialError::TimedOut { .. }), "{error}");
            assert!(error.to_string().ends_with("resolving the name"), "{error}");
        }
    }
    assert!(begun.elapsed() < 10 * limit, "K2: everybody left in time");
    assert_eq!(town.names.most.load(Ordering::SeqCst), 16, "one thread a name, and no more");
    town.names.hang(false);
    town.dial_1().await.unwrap();
}

#[tokio::test]
async fn callers_of_one_name_share_a_lookup() {
    let town = Town::new();
    let node = town.node("balsa://balsa/node/raft-1").await;
    town.names.answer(&[node.address]);
    town.names.hang(true);
    let release = async {
        eventually("the lookup has begun", || town.names.asked() == 1).await;
        town.names.hang(false);
    };
    let (answers, ()) = tokio::join!(join_all((0..20).map(|_| town.dial_1())), release);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(town.names.asked(), 1);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_serves_the_next_caller_once() {
    let town = Town::new();
    let node = town.node("balsa://balsa/node/raft-1").await;
    town.names.answer(&[node.address]);
    town.names.hang(true);
    let expect = || Expect::Node("raft-1".to_owned());
    let error = town.dial(expect(), Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut { .. }), "{error}");
    town.names.hang(false);
    eventually("the answer is there", || town.names.running.load(Ordering::SeqCst) == 0).await;
    town.dial_1().await.unwrap();
    assert_eq!(town.names.asked(), 1, "the late answer was of use");
    town.dial_1().await.unwrap();
    assert_eq!(town.names.asked(), 2, "and only once");
}

#[tokio::test]
async fn a_silent_address_costs_a_moment_and_not_the_deadline() {
    let town = Town::new();
    let node = town.node("balsa://balsa/node/raft-1").await;
    // The system takes connections for it; nothing ever answers, as with a process that hangs.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().map(|address| (silent, address)).unwrap();
    town.names.answer(&[silent.1, silent.1, node.address]);
    let begun = Instant::now();
    town.dial_1().await.unwrap();
    assert!(begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_old_address_that_is_another_nodes_is_passed_over() {
    let town = Town::new();
    let other = town.node("balsa://balsa/node/raft-2").await;
    let foreign = town.node("balsa://elsewhere/node/raft-1").await;
    let node = town.node("balsa://balsa/node/raft-1").await;
    town.names.answer(&[other.address, foreign.address, node.address]);
    let connection = town.dial_1().await.unwrap();
    assert_eq!(connection.identity().name(), "raft-1", "K3");
    town.names.answer(&[other.address]);
    let error = town.dial_1().await.unwrap_err();
    assert!(matches!(error, DialError::WrongPeer { .. }), "{error}");
    assert!(error.to_string().contains("raft-2"), "{error}");
    assert!(other.service.peers.lock().unwrap().is_empty(), "it was not even greeted");
}

#[tokio::test]
async fn whoever_is_at_an_address_is_known_by_the_certificate() {
    let town = Town::new();
    let node = town.node("balsa://balsa/node/raft-2").await;
    town.names.answer(&[node.address]);
    let connection = town.dial(Expect::AnySeat, SOON).await.unwrap();
    assert_eq!(connection.identity().name(), "raft-2");
    for uri in ["balsa://elsewhere/node/raft-2", "balsa://balsa/admin/root"] {
        let other = town.node(uri).await;
        town.names.answer(&[other.address]);
        let error = town.dial(Expect::AnySeat, SOON).await.unwrap_err();
        assert!(error.is_authority(), "{error}");
    }
}
