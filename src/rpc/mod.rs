//! LAYER 2: remote procedure calls over mutual TLS. No actix, no decisions of the protocol.
//!
//! A call is named `Service.Method`, has a sequence number, and many are in flight on a connection;
//! replies come in any order. From the bottom up:
//!
//! * `frame` what the bytes mean, as a pure parser; `wire` the bodies, MessagePack;
//! * `tls` certificates, trust, and what is wrong with them in a sentence; `methods` who may call what;
//! * `hello` the first exchange, without which a connection does not count as up;
//! * `stream` and `outbox` reading and writing in batches;
//! * `server`, `accept`, `admission`, `connection`, `call` the accepting side; `https` the one page there
//!   is for scrapers;
//! * `resolver`, `dialer`, `client`, `call_error` the dialing side; `backoff` when to dial again;
//! * `silence` when a peer is taken for gone that says nothing;
//! * `limits` every limit and deadline; `refusals` the log of what was refused; `meter` what is counted;
//!   `close` why a connection ended; `stop` how a server is asked to.
//!
//! Bytes, deadlines and certificates are judged here; what a call means is not.

mod accept;
mod admission;
pub mod backoff;
mod call;
mod call_error;
mod client;
mod close;
mod connection;
mod dialer;
pub mod frame;
pub mod hello;
mod https;
pub mod limits;
mod meter;
pub mod methods;
mod outbox;
mod refusals;
mod resolver;
mod server;
mod silence;
mod stop;
mod stream;
mod tls;
mod wire;

pub use backoff::Backoff;
pub use call::{Call, ConnectionId, Peer, Responder};
pub use call_error::{CallError, NotSent};
pub use client::Connection;
pub use close::{CloseCode, CloseNotice, CloseReason};
pub use dialer::{DialError, Dialer, Expect};
pub use hello::{Hello, HelloAck, Purpose};
pub use https::{Making, Page, PageLimits, serve_page};
pub use limits::Limits;
pub use meter::Meter;
pub use methods::Method;
pub use refusals::Reason;
pub use resolver::{Lookup, Resolver};
pub use server::{Service, serve};
pub use stop::{Stop, Stopper, stop};
pub use tls::{Dated, DatedKind, Replaced, Tls, TlsError, TlsFiles};

#[cfg(test)]
mod tests;
