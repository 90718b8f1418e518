//! Balsa: a key/value store replicated with Raft, secured by mutual TLS.
//!
//! Layers, each importing only from those below it (kept by `integration/tidy.rs`):
//!
//! ```text
//! bin/srvraft, bin/cltraft
//!   cli                     what people type and read
//!   actors, client          time, threads, queues      |  a client's retries
//!   rpc, storage, certs     bytes over TLS             |  bytes on disk
//!   codec, identity         bytes                   |  who a certificate speaks for
//!   kv, raft                pure: inputs in, effects out
//! ```

pub mod actors;
pub mod certs;
pub mod cli;
pub mod client;
pub mod codec;
pub mod config;
pub mod exit;
pub mod identity;
pub mod kv;
pub mod metrics;
mod platform;
pub mod raft;
pub mod rpc;
pub mod storage;
pub mod telemetry;
