//! TLS without manners: a caller that shows any certificate and reads what comes, and a server that
//! stands in a node's place with any certificate, or with no TLS at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig,
    ServerConnection, SignatureScheme,
};

use super::forge::Papers;

/// How a connection ended, as this side saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The other side said why, in TLS' own words.
    Alert(AlertDescription),
    /// It closed without a word, or with a close_notify.
    Closed,
    /// It sent something.
    Data(Vec<u8>),
    /// The connection stood, and nothing came.
    Silent,
    /// The handshake failed by what this side found.
    Failed(String),
}

/// Takes every server for good.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection whose handshake is over, as far as the caller can tell.
pub(crate) struct Caller {
    tls: ClientConnection,
    socket: TcpStream,
}

impl Caller {
    /// Connects and completes TLS 1.3. That must succeed whatever the papers are: the server judges
    /// them afterwards.
    pub(crate) fn connect(address: &str, papers: Option<&Papers>) -> Caller {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous(provider)));
        let config = match papers {
            None => config.with_no_client_auth(),
            Some(papers) => config
                .with_client_auth_cert(papers.chain.clone(), papers.key.clone_key())
                .expect("a key that fits"),
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("a connection");
        let mut socket = TcpStream::connect(address).expect("the node listens");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        socket.set_nodelay(true).expect("no delay");
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).expect("the caller's handshake succeeds first");
        }
        Caller { tls, socket }
    }

    /// Its own end.
    pub(crate) fn from(&self) -> SocketAddr {
        self.socket.local_addr().expect("an address")
    }

    /// The group that the keys were agreed in.
    pub(crate) fn group(&self) -> String {
        let group = self.tls.negotiated_key_exchange_group().expect("a group");
        format!("{:?}", group.name())
    }

    /// Sends bytes inside TLS.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.tls.writer().write_all(bytes)?;
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Holds the connection open and waits for what comes next, at most so long.
    pub(crate) fn next(&mut self, limit: Duration) -> Ending {
        self.socket.set_read_timeout(Some(limit)).expect("a time-out");
        loop {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Ending::Closed,
                Ok(_) => {}
                Err(error) if is_time_out(&error) => return Ending::Silent,
                Err(_) => return Ending::Closed,
            }
            match self.tls.process_new_packets() {
                Err(Error::AlertReceived(alert)) => return Ending::Alert(alert),
                Err(error) => return Ending::Failed(error.to_string()),
                Ok(state) if state.plaintext_bytes_to_read() > 0 => {
                    let mut data = vec![0; state.plaintext_bytes_to_read()];
                    self.tls.reader().read_exact(&mut data).expect("bytes that are there");
                    return Ending::Data(data);
                }
                Ok(state) if state.peer_has_closed() => return Ending::Closed,
                Ok(_) => {}
            }
        }
    }
}

fn is_time_out(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What stands in a node's place.
#[derive(Clone)]
pub(crate) enum Guise {
    /// TLS 1.3 with these papers; asks callers for none.
    Tls(Papers),
    /// No TLS: says this and listens on.
    Says(&'static [u8]),
    /// Takes connections and says nothing.
    Silent,
    /// Takes connections and cuts them off, as a node does that is full or dies.
    Cuts,
}

/// A server in a node's place; ends when dropped.
pub(crate) struct Impostor {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Ending>>>,
    over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Impostor {
    pub(crate) fn on(address: &str, guise: Guise) -> Impostor {
        let listener = TcpListener::bind(address).expect("the impostor listens");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let address = listener.local_addr().expect("an address");
        let (hears, ends) = (heard.clone(), over.clone());
        let accepting = std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (guise, hears) = (guise.clone(), hears.clone());
                std::thread::spawn(move || {
                    let ending = receive(&guise, socket);
                    hears.lock().unwrap_or_else(PoisonError::into_inner).push(ending);
                });
            }
        });
        Impostor { address, heard, over, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// How the connections ended that have ended.
    pub(crate) fn heard(&self) -> Vec<Ending> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(accepting)) = (woken, self.accepting.take()) {
            let _ = accepting.join();
        }
    }
}

fn receive(guise: &Guise, mut socket: TcpStream) -> Ending {
    let timed = socket.set_read_timeout(Some(Duration::from_secs(10)));
    timed.expect("a time-out");
    match guise {
        Guise::Tls(papers) => receive_tls(papers, &mut socket),
        Guise::Says(words) => match socket.write_all(words) {
            Ok(()) => read_until_end(&mut socket),
            Err(_) => Ending::Closed,
        },
        Guise::Silent => read_until_end(&mut socket),
        Guise::Cuts => Ending::Closed,
    }
}

fn read_until_end(socket: &mut TcpStream) -> Ending {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Ok(_) => Ending::Data(bytes),
        Err(error) if is_time_out(&error) => Ending::Silent,
        Err(_) => Ending::Closed,
    }
}

fn receive_tls(papers: &Papers, socket: &mut TcpStream) -> Ending {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(papers.chain.clone(), papers.key.clone_key())
        .expect("a key that fits");
    let mut tls = ServerConnection::new(Arc::new(config)).expect("a connection");
    loop {
        while tls.wants_write() {
            if tls.write_tls(socket).is_err() {
                return Ending::Closed;
            }
        }
        match tls.read_tls(socket) {
            Ok(0) => return Ending::Closed,
            Ok(_) => {}
            Err(error) if is_time_out(&error) => return Ending::Silent,
            Err(_) => return Ending::Closed,
        }
        match tls.process_new_packets() {
            Err(Error::AlertReceived(alert)) => return Ending::Alert(alert),
            Err(error) => return Ending::Failed(error.to_string()),
            Ok(state) if state.plaintext_bytes_to_read() > 0 => {
                let mut data = vec![0; state.plaintext_bytes_to_read()];
                tls.reader().read_exact(&mut data).expect("bytes that are there");
                return Ending::Data(data);
            }
            Ok(state) if state.peer_has_closed() => return Ending::Closed,
            Ok(_) => {}
        }
    }
}
