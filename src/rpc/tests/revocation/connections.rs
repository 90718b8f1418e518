//! Connections of the revoked: refused from either side, and closed where they stand.

use std::sync::Arc;

use bytes::Bytes;

use super::super::crls::Listing;
use super::super::pki::{self, Ca, Leaf, ca};
use super::super::support::{Ask, Log, SOON, Server, Tester, ask, eventually};
use super::{app, files, node};
use crate::rpc::{
    CloseCode, CloseReason, Connection, DialError, Dialer, Expect, Hello, Limits, Reason, Tls,
};

/// A server and a client of one CA.
struct Pair {
    ca: Ca,
    server: Server,
    server_leaf: Leaf,
    server_tls: Arc<Tls>,
    client_leaf: Leaf,
    client_tls: Arc<Tls>,
}

impl Pair {
    async fn new() -> Pair {
        let ca = ca();
        let (server_leaf, client_leaf) = (ca.issue(&node()), ca.issue(&app()));
        let list = Listing::number(1).by(&ca);
        let server_tls = Tls::new(files(&server_leaf, &ca.pem, &list)).unwrap();
        let client_tls = Tls::new(files(&client_leaf, &ca.pem, &list)).unwrap();
        let service = Tester::default();
        let limits = Limits::default();
        let server = Server::with(pki::ca(), server_tls.clone(), limits, service).await;
        Pair { ca, server, server_leaf, server_tls, client_leaf, client_tls }
    }

    async fn dial(&self, expect: Expect) -> Result<Connection, DialError> {
        let dialer = Dialer::new(self.client_tls.clone(), Limits::default());
        let hello = Hello::client(dialer.identity());
        let address = format!("localhost:{}", self.server.address.port());
        dialer.dial(&address, expect, hello, SOON).await
    }

    fn list(&self, revoked: &Leaf) -> String {
        Listing::number(2).revoking(revoked).by(&self.ca)
    }

    fn server_revokes_the_client(&self) {
        let lists = self.list(&self.client_leaf);
        self.server_tls.replace(files(&self.server_leaf, &self.ca.pem, &lists)).unwrap();
    }

    fn client_revokes_the_server(&self) {
        let lists = self.list(&self.server_leaf);
        self.client_tls.replace(files(&self.client_leaf, &self.ca.pem, &lists)).unwrap();
    }
}

fn seat() -> Expect {
    Expect::Node("raft-1".to_owned())
}

#[tokio::test]
async fn a_server_refuses_a_revoked_client_and_says_so_to_both() {
    let pair = Pair::new().await;
    let (log, _guard) = Log::start();
    pair.server_revokes_the_client();
    let error = pair.dial(seat()).await.expect_err("revoked");
    assert!(matches!(error, DialError::RefusedByServer { .. }), "{error:?}");
    assert!(error.is_authority() && error.is_revocation(), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("our certificate is revoked; issue a new one"), "{told}");
    assert!(told.contains("CertificateRevoked"), "{told}");
    pair.server.until_refused(Reason::Revoked).await;
    let text = log.text();
    for words in
        ["its certificate is revoked since 20", "(it claims to be balsa://balsa/client/app)"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(text.contains("reason=\"revoked\""), "{text}");
}

#[tokio::test]
async fn a_client_refuses_a_revoked_server_whatever_it_expects() {
    let pair = Pair::new().await;
    pair.client_revokes_the_server();
    for expect in [seat(), Expect::AnyNode, Expect::Node("raft-2".to_owned())] {
        let error = pair.dial(expect).await.expect_err("revoked");
        assert!(matches!(error, DialError::Tls { reason: Reason::Revoked, .. }), "{error:?}");
        assert!(error.is_authority() && error.is_revocation(), "{error:?}");
        assert!(error.to_string().contains("its certificate is revoked since 20"), "{error}");
    }
    pair.server.until_refused(Reason::RefusedByPeer).await;
}

#[tokio::test]
async fn standing_connections_of_the_revoked_are_closed_and_no_others() {
    let pair = Pair::new().await;
    let standing = pair.dial(seat()).await.unwrap();
    let nobody = Listing::number(2).revoking(&pair.ca.issue(&app())).by(&pair.ca);
    pair.server_tls.replace(files(&pair.server_leaf, &pair.ca.pem, &nobody)).unwrap();
    let word = Bytes::from_static(b"word");
    assert_eq!(ask::<Bytes>(&standing, &Ask::Echo(word.clone())).await.unwrap(), word);
    let lists = Listing::number(3).revoking(&pair.client_leaf).by(&pair.ca);
    pair.server_tls.replace(files(&pair.server_leaf, &pair.ca.pem, &lists)).unwrap();
    let CloseReason::Announced(notice) = standing.closed().await else { panic!("it says why") };
    assert_eq!(notice.code, CloseCode::Distrusted);
    pair.server.until_refused(Reason::Revoked).await;

    let pair = Pair::new().await;
    let standing = pair.dial(Expect::AnyNode).await.unwrap();
    pair.client_revokes_the_server();
    let reason = standing.closed().await;
    assert!(matches!(reason, CloseReason::Distrusted(Reason::Revoked, _)), "{reason}");
    let service = pair.server.service.clone();
    eventually("the server sees it go", || service.closed.lock().unwrap().len() == 1).await;
}

/// Who is revoked may be an attacker, who would rather not let the other side think.
#[tokio::test]
async fn a_connection_that_is_never_silent_is_closed_all_the_same() {
    let pair = Pair::new().await;
    let service = pair.server.service.clone();
    let (tls, address) = (pair.client_tls.clone(), pair.server.to());
    // On a thread of its own, so that the server always finds more to read.
    let flooding = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let dialer = Dialer::new(tls, Limits::default());
            let hello = Hello::client(dialer.identity());
            let connection = dialer.dial(&address, seat(), hello, SOON).await.unwrap();
            let flood = || async {
                let zeros = Bytes::from(vec![0; 1000]);
                while ask::<Bytes>(&connection, &Ask::Echo(zeros.clone())).await.is_ok() {}
            };
            futures_util::future::join_all((0..200).map(|_| flood())).await;
        });
    });
    eventually("it floods", || service.batches.lock().unwrap().len() > 50).await;
    pair.server_revokes_the_client();
    eventually("it is closed", || {
        service.reasons().iter().any(|(reason, _)| *reason == Reason::Revoked)
    })
    .await;
    flooding.join().unwrap();
}
