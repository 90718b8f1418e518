//! One page over HTTPS, for scrapers that speak nothing else: HTTP/1.1 (hyper) on the same TLS as calls.
//!
//! Certificates are verified as on the port for calls, by the same code and the same [`Tls`]: what is
//! replaced or revoked while the node runs holds here at the same moment, for connections that stand, too.
//! Refusals go into the same log and the same counters. Who may fetch the page is decided by the table of
//! methods.
//!
//! What when full? Connections over the limit are closed at once and counted; each one that is open costs
//! at most a head and a page. A page is made for one caller after the other, and not anew for those who ask
//! in the same moment, so that scrapers cost no more than a few pages a second, however many ask.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::accept::{accept_failed, handshake};
use super::admission::{Admission, Slot};
use super::limits::Limits;
use super::meter::Meter;
use super::methods::Method;
use super::refusals::Reason;
use super::tls::{Tls, Verdict, Vigil, unix_now};
use crate::identity::{Identity, Role, printable};

/// Where the page is.
const PATH: &str = "/metrics";

/// A page as it is made.
pub type Making = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// What is served at `/metrics`.
pub trait Page: Send + Sync + 'static {
    /// Its media type.
    fn media_type(&self) -> &'static str;

    /// The page as it is now.
    fn make(&self) -> Making;
}

/// Limits and deadlines of the page's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageLimits {
    /// Connections held at once, those in the handshake included.
    pub connections: usize,
    /// Of these, from one address; loopback is exempt.
    pub connections_per_source: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request, from its first byte on; of the first one, from the handshake on.
    pub head: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Lines of a request's head.
    pub head_lines: usize,
    /// For the page to be made and taken.
    pub answer: Duration,
    /// Between two requests.
    pub idle: Duration,
}

impl Default for PageLimits {
    fn default() -> PageLimits {
        PageLimits {
            connections: 8,
            connections_per_source: 4,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(5),
            head_bytes: 8 << 10,
            head_lines: 64,
            answer: Duration::from_secs(10),
            idle: Duration::from_secs(120),
        }
    }
}

struct Shared {
    tls: Arc<Tls>,
    limits: PageLimits,
    meter: Arc<Meter>,
    page: Arc<dyn Page>,
}

/// Serves the page until the future is dropped.
pub async fn serve_page(
    listener: TcpListener,
    tls: Arc<Tls>,
    limits: PageLimits,
    meter: Arc<Meter>,
    page: Arc<dyn Page>,
) {
    let admission = Admission::new(Limits {
        connections: limits.connections,
        connections_per_source: limits.connections_per_source,
        handshakes: limits.connections,
        handshakes_per_source: limits.connections_per_source,
        reserved_for_nodes: 0,
        reserved_for_loopback: 0,
        ..Limits::default()
    });
    let shared = Arc::new(Shared { tls, limits, meter, page });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, from)) => match admission.admit(from.ip()) {
                Ok(slot) => drop(connections.spawn(admitted(shared.clone(), stream, from, slot))),
                Err(limit) => shared.meter.refuse(from, Reason::Full, &format!("scraper: {limit}")),
            },
            Err(error) => accept_failed(&error).await,
        }
    }
}

/// From the accept to the end.
async fn admitted(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, mut slot: Slot) {
    let refuse = |reason: Reason, sentence: &str| shared.meter.refuse(from, reason, sentence);
    let met = handshake(&shared.tls, shared.limits.handshake, stream, &refuse).await;
    let Some((stream, identity, vigil)) = met else { return };
    if let Err(limit) = slot.established(identity.role()) {
        return refuse(Reason::Full, limit);
    }
    let _counted = shared.meter.connected(identity.role());
    let state = Arc::new(Mutex::new(State { stage: Stage::Head, since: Instant::now() }));
    let watched = Watched { stream, state: Arc::clone(&state) };
    converse(&shared, watched, &state, &identity, vigil, &refuse).await;
}

/// What a connection is waiting for, and since when.
#[derive(Clone, Copy, Debug)]
struct State {
    stage: Stage,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For the rest of a request's head.
    Head,
    /// For the page.
    Page,
    /// For the peer to take it.
    Taking,
    /// For another request.
    Idle,
}

/// Whether a connection is to be made anew, for our own certificate is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewing {
    No,
    /// As soon as no request is on its way, since then.
    Due(Instant),
    Begun,
}

fn now(state: &Mutex<State>) -> State {
    *state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter(state: &Mutex<State>, stage: Stage) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    *state = State { stage, since: Instant::now() };
}

fn leave(state: &Mutex<State>, former: Stage, stage: Stage) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if state.stage == former {
        *state = State { stage, since: Instant::now() };
    }
}

/// How often the deadlines are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Answers requests until one side ends it.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    stream: Watched<S>,
    state: &Arc<Mutex<State>>,
    identity: &Identity,
    mut vigil: Vigil,
    refuse: &(dyn Fn(Reason, &str) + Send + Sync),
) {
    let of = |what: &str| format!("the scrape of {identity}: {what}");
    let service = service_fn(|request| async move {
        enter(state, Stage::Page);
        let response = answer(shared, identity, &request, refuse).await;
        enter(state, Stage::Taking);
        Ok::<_, Infallible>(response)
    });
    let limits = &shared.limits;
    let mut http = http1::Builder::new();
    // Its own deadline begins with the end of the request before: an idle connection would be a slow one.
    http.header_read_timeout(None)
        .max_headers(limits.head_lines)
        .max_header_size(limits.head_bytes);
    let mut conversation = pin!(http.serve_connection(TokioIo::new(stream), service));
    let expires = vigil.expires();
    let mut renewing = Renewing::No;
    let mut looks = tokio::time::interval(LOOK);
    loop {
        // What was asked is answered; then it ends, and the next scrape makes another. A request that has begun
        // to arrive, or is to arrive on a connection made for it, would be lost: hyper closes on it. It has its own
        // deadline, and whoever has begun the next one each time is not waited for any longer.
        if let Renewing::Due(since) = renewing
            && (now(state).stage != Stage::Head || since.elapsed() > limits.head)
        {
            conversation.as_mut().graceful_shutdown();
            renewing = Renewing::Begun;
        }
        tokio::select! {
            ended = conversation.as_mut() => {
                // Whatever else ends it is the scraper's own business.
                if let Err(error) = ended && error.is_parse() {
                    refuse(Reason::Violation, &of(&printable(&format!("no HTTP/1.1: {error}"))));
                }
                return;
            }
            verdict = vigil.verdict() => match verdict {
                Verdict::Distrusted(reason, why) => {
                    return refuse(reason, &of(&format!("it is no longer trusted: {why}")));
                }
                Verdict::Renew if renewing == Renewing::No => {
                    renewing = Renewing::Due(Instant::now());
                }
                Verdict::Renew => {}
            },
            _ = looks.tick() => {
                if expires.is_some_and(|end| unix_now() > end) {
                    return refuse(Reason::Expired, &of("its certificate has expired"));
                }
                let State { stage, since } = now(state);
                let waited = since.elapsed();
                match stage {
                    Stage::Head if waited > limits.head => {
                        return refuse(Reason::Slow, &of("a request did not end in time"));
                    }
                    Stage::Page | Stage::Taking if waited > limits.answer => {
                        return refuse(Reason::Slow, &of("it did not take its answer in time"));
                    }
                    Stage::Idle if waited > limits.idle => return,
                    _ => {}
                }
            }
        }
    }
}

/// Authority first, then what is asked for. A request's body is of no interest.
async fn answer<B>(
    shared: &Shared,
    identity: &Identity,
    request: &Request<B>,
    refuse: &(dyn Fn(Reason, &str) + Send + Sync),
) -> Response<Full<Bytes>> {
    let role = identity.role();
    if !Method::NodeMetrics.allows(role) {
        let may: Vec<_> = Method::NodeMetrics.roles().iter().copied().map(Role::word).collect();
        let sentence = format!(
            "metrics may not be read with a {role} certificate, only with one of these roles: {}\n",
            may.join(", ")
        );
        refuse(Reason::Denied, &format!("the scrape of {identity}: {}", sentence.trim_end()));
        let mut response = plain(StatusCode::FORBIDDEN, sentence);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, format!("only {PATH} is here\n"));
    }
    let head_only = request.method() == hyper::Method::HEAD;
    if !head_only && request.method() != hyper::Method::GET {
        let sentence = "metrics are read with GET or HEAD\n".to_owned();
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, sentence);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let page = shared.page.make().await;
    let length = HeaderValue::from(page.len());
    let mut response = Response::new(Full::new(if head_only { Bytes::new() } else { page }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(shared.page.media_type()));
    headers.insert(CONTENT_LENGTH, length);
    response
}

fn plain(status: StatusCode, sentence: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(sentence)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// A stream that notes what its connection waits for.
struct Watched<S> {
    stream: S,
    state: Arc<Mutex<State>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            leave(&self.state, Stage::Idle, Stage::Head);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// Everything was taken: head and body of an answer are written before the first flush that succeeds.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            leave(&self.state, Stage::Taking, Stage::Idle);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
