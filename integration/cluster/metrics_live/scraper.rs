//! A scraper of nobody's making but rustls': HTTP/1.1 over TLS, by hand.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Who scrapes, and whom it trusts.
#[derive(Clone)]
pub(crate) struct Scraper(Arc<ClientConfig>);

/// An answer.
#[derive(Debug)]
pub(crate) struct Page {
    /// Status and headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

fn builder(ca: &Path) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("the CAs") {
        roots.add(certificate.expect("a certificate")).expect("a CA");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    versions.expect("TLS").with_root_certificates(roots)
}

impl Scraper {
    /// With the certificate and the CAs of a directory.
    pub(crate) fn of(directory: &Path) -> Scraper {
        let chain = CertificateDer::pem_file_iter(directory.join("tls.crt")).expect("a file");
        let chain = chain.map(|certificate| certificate.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(directory.join("tls.key")).expect("a key");
        let builder = builder(&directory.join("ca.crt"));
        Scraper(Arc::new(builder.with_client_auth_cert(chain, key).expect("a pair")))
    }

    /// Without a certificate, trusting the CAs of a directory.
    pub(crate) fn anonymous(directory: &Path) -> Scraper {
        Scraper(Arc::new(builder(&directory.join("ca.crt")).with_no_client_auth()))
    }

    /// A connection whose handshake is over, as this side sees it.
    pub(crate) fn connect(&self, address: &str) -> io::Result<Stream> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection =
            ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(connection, socket))
    }

    /// The page, over a connection of its own.
    pub(crate) fn get(&self, address: &str) -> io::Result<Page> {
        let mut stream = self.connect(address)?;
        ask(&mut stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    }
}

/// Sends a request and reads its answer; the connection may go on.
pub(crate) fn ask(stream: &mut Stream, request: &str) -> io::Result<Page> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(io::Error::other);
    let head = text(head)?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|text| text.parse().ok()).expect("a length");
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Page { head, body: text(body)? })
}
