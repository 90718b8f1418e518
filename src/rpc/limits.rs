//! Every limit and deadline of the transport. The defaults stand here and nowhere else.
//!
//! Memory is bounded by their sum: each connection holds at most one partly received frame (which
//! grows with the bytes received, never with the length announced), the calls in flight, and replies
//! not yet written, of which all connections together hold at most `queued_total` and a few
//! kilobytes for each call in flight.

use std::time::Duration;

/// Limits and deadlines of servers and dialers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections held at once, those in the handshake included.
    pub connections: usize,
    /// Of these, kept for nodes: clients and admins are refused beyond the rest.
    pub reserved_for_nodes: usize,
    /// Connections from one address; loopback is exempt.
    pub connections_per_source: usize,
    /// Connections beyond all limits that are taken from loopback, so that a probe finds a way in.
    pub reserved_for_loopback: usize,
    /// Connections that have not completed TLS and hello.
    pub handshakes: usize,
    /// The same, from one address; loopback is exempt.
    pub handshakes_per_source: usize,
    /// For the TLS handshake, from the accept or connect on.
    pub handshake: Duration,
    /// For the hello after it.
    pub hello: Duration,
    /// From a frame's first byte to its last.
    pub frame: Duration,
    /// For the peer to take at least one byte of what is to be written.
    pub write_stall: Duration,
    /// A dialed connection on which calls time out and nothing at all has arrived for this long is to be replaced
    /// by another: its peer may be gone without a word. A client's, whose calls may rightly wait for longer, ends
    /// when the peer gives no sign of life, which it is asked for after a third of this.
    pub silence: Duration,
    /// For the peer's machine to acknowledge what it was sent, or an idle connection's keepalive. Without it a
    /// worker that vanished would be written to for a quarter of an hour, wherever its pod is meanwhile.
    /// More than `write_stall`: the kernel counts a peer that does not read as one that is gone.
    pub unacknowledged: Duration,
    /// A connection with nothing in flight is closed after this long without a frame.
    pub idle: Duration,
    /// Calls read ahead on one connection before its reader waits for replies.
    pub inflight: u32,
    /// Bytes of replies waiting to be written, beyond which the reader waits too.
    pub queued_pause: usize,
    /// Bytes waiting to be written on one connection, beyond which a server refuses large replies
    /// and a client's calls wait.
    pub queued_bytes: usize,
    /// The same for all connections of a server together.
    pub queued_total: usize,
    /// How long a stopping server waits for calls in flight and for peers to take their replies.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            reserved_for_nodes: 64,
            connections_per_source: 768,
            reserved_for_loopback: 8,
            handshakes: 256,
            handshakes_per_source: 192,
            handshake: Duration::from_secs(5),
            hello: Duration::from_secs(5),
            frame: Duration::from_secs(30),
            write_stall: Duration::from_secs(10),
            silence: Duration::from_millis(1500),
            unacknowledged: Duration::from_secs(12),
            idle: Duration::from_secs(600),
            inflight: 1024,
            queued_pause: 1 << 20,
            queued_bytes: 16 << 20,
            queued_total: 64 << 20,
            drain: Duration::from_secs(3),
        }
    }
}
