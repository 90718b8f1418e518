//! Sends one snapshot to one peer: pieces of the file on a connection of its own, then the install.
//!
//! It goes on behind what the peer holds whenever the connection breaks, until the peer has answered
//! the install, the leadership ends, or nothing has moved for [`GIVE_UP`]; the core then hears that
//! the snapshot is unanswered, and asks for one again when it has heard from the peer.
//!
//! At first one piece is in flight; each [`STREAK`] pieces that arrive in a row make it one more. A
//! connection that keeps breaking thereby never carries much that is lost with it, and a long one
//! gets to its rate. What when full? One file and [`WINDOW_MAX`] pieces in flight for each peer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::codec::peer::{Chunk, ChunkReply};
use crate::codec::raft::{self as wire, Direction, RaftCall};
use crate::raft::message::Install;
use crate::raft::{Envelope, Message, SendSnapshot};
use crate::rpc::{Backoff, CallError, Connection, Expect, Method, Purpose};
use crate::storage::{SnapshotFile, StorageError};

use super::messages::ReplyReceived;
use super::peers::Peer;
use super::replicator::{Common, hello};

/// Bytes of one piece: small beside what a connection that keeps breaking carries, large beside the
/// cost of a call.
const PIECE_BYTES: usize = 32 << 10;

/// Bytes a second that one transfer takes at most, so that it leaves room for appends.
const RATE: u64 = 64 << 20;

/// Pieces in flight at most: a megabyte.
const WINDOW_MAX: usize = 32;

/// Pieces that arrive in a row before one more may be in flight.
const STREAK: usize = 8;

/// For a piece, or the check of the whole file behind the last one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Without progress for this long the transfer is given up.
const GIVE_UP: Duration = Duration::from_secs(10);

/// The delay after the first connection that broke, and the longest one.
const REDIAL_BASE: Duration = Duration::from_millis(20);
const REDIAL_MAX: Duration = Duration::from_secs(1);

/// A transfer.
pub struct Sending {
    peer: Peer,
    common: Common,
    send: SendSnapshot,
    file: SnapshotFile,
    pieces: Pieces,
    backoff: Backoff,
    /// How far the peer is known to have come, and since when it has been there.
    reached: u64,
    since: Instant,
    /// Payload bytes handed to connections, repeated ones included.
    sent: u64,
    connections: u64,
    /// When the rate allows the next piece.
    next_piece: Instant,
}

/// Why a connection carried the transfer no further.
type Broken = String;

impl Sending {
    /// Sends what the core asked for and waits for the outcome. `seed` spreads the back-offs.
    pub async fn run(peer: Peer, common: Common, send: SendSnapshot, seed: u64) -> ReplyReceived {
        let unanswered = ReplyReceived::Unanswered { peer: peer.id, request: send.request };
        let name = peer.member.name.clone();
        let newest = common.snapshots.current().filter(|file| file.id().last >= send.snapshot);
        let Some(file) = newest else {
            tracing::error!(peer = name, wanted = %send.snapshot, "there is no such snapshot to send");
            return unanswered;
        };
        let pieces = match Pieces::start(file.clone()) {
            Ok(pieces) => pieces,
            Err(error) => {
                tracing::error!(peer = name, %error, "no thread to read the snapshot with");
                return unanswered;
            }
        };
        let (begun, id) = (Instant::now(), file.id());
        tracing::info!(peer = name, last = %id.last, bytes = id.bytes, "sending a snapshot");
        let mut sending = Sending {
            peer,
            common,
            send,
            file,
            pieces,
            backoff: Backoff::new(seed, REDIAL_BASE, REDIAL_MAX),
            reached: 0,
            since: begun,
            sent: 0,
            connections: 0,
            next_piece: begun,
        };
        let outcome = sending.until_answered().await;
        let Sending { sent, connections, reached, .. } = sending;
        let milliseconds = begun.elapsed().as_millis();
        match outcome {
            Ok(envelope) => {
                tracing::info!(
                    peer = name, last = %id.last, bytes = id.bytes, sent, connections, milliseconds,
                    "snapshot sent"
                );
                ReplyReceived::Answered(envelope)
            }
            Err(why) => {
                tracing::warn!(
                    peer = name, last = %id.last, bytes = id.bytes, sent, reached, connections,
                    milliseconds, "snapshot given up: {why}"
                );
                unanswered
            }
        }
    }

    /// One connection after the other.
    async fn until_answered(&mut self) -> Result<Envelope, String> {
        loop {
            let broken = match self.over_one_connection().await {
                Ok(envelope) => return Ok(envelope),
                Err(broken) => broken,
            };
            if !self.leads() {
                return Err("this node no longer leads".to_owned());
            }
            if self.since.elapsed() >= GIVE_UP {
                return Err(broken);
            }
            tracing::debug!(peer = self.peer.member.name, broken, "snapshot interrupted");
            sleep(self.backoff.next_delay()).await;
        }
    }

    fn leads(&self) -> bool {
        self.common.standing.leads(self.send.term)
    }

    async fn over_one_connection(&mut self) -> Result<Envelope, Broken> {
        let hello = hello(&self.common.standing, Purpose::Bulk, Some(self.peer.id));
        let expect = Expect::Node(self.peer.member.name.clone());
        let (dialer, address) = (Arc::clone(&self.common.dialer), &self.peer.member.address);
        let dialled = dialer.dial(address, expect, hello, self.common.patience.dial).await;
        let connection = dialled.map_err(|error| error.to_string())?;
        self.connections += 1;
        let outcome = async {
            self.send_pieces(&connection).await?;
            self.install(&connection).await
        };
        let outcome = outcome.await;
        connection.close();
        outcome
    }

    /// Until the peer holds all of the file, checked.
    async fn send_pieces(&mut self, connection: &Connection) -> Result<(), Broken> {
        let bytes = self.file.id().bytes;
        let mut state = self.ask(connection).await?;
        let (mut window, mut streak) = (1, 0);
        let mut in_flight = FuturesOrdered::new();
        let mut offset = state.next;
        while !state.complete {
            while in_flight.len() < window && offset < bytes {
                let piece = self.pieces.read(offset).await.map_err(|error| error.to_string())?;
                let length = piece.data.len() as u64;
                if length == 0 {
                    return Err("the snapshot's file has become shorter".to_owned());
                }
                self.pace(length).await;
                if !self.leads() {
                    return Err("the leadership ended".to_owned());
                }
                self.sent += length;
                self.common.standing.snapshots.sent(length);
                let chunk = self.chunk(offset, piece);
                offset += length;
                let (connection, upto) = (connection.clone(), offset);
                in_flight.push_back(async move { (upto, call(&connection, &chunk).await) });
            }
            let Some((upto, reply)) = in_flight.next().await else {
                return Err("the receiver wants no more and does not hold all".to_owned());
            };
            state = reply?;
            self.note(state.next);
            if state.complete || state.next == upto {
                streak += 1;
                if streak == STREAK {
                    (window, streak) = ((window + 1).min(WINDOW_MAX), 0);
                }
            } else {
                // What is still in flight is for naught; the receiver says where to go on.
                in_flight = FuturesOrdered::new();
                state = self.ask(connection).await?;
                offset = state.next;
            }
        }
        Ok(())
    }

    /// Asks the peer how much it holds.
    async fn ask(&mut self, connection: &Connection) -> Result<ChunkReply, Broken> {
        let question = self.chunk(0, Piece { data: Bytes::new(), crc: 0 });
        let state = call(connection, &question).await?;
        self.note(state.next);
        Ok(state)
    }

    fn note(&mut self, next: u64) {
        if next > self.reached {
            (self.reached, self.since) = (next, Instant::now());
            self.backoff.reset();
        }
    }

    fn chunk(&self, offset: u64, piece: Piece) -> Chunk {
        Chunk {
            from: self.common.standing.own.node_id,
            to: self.peer.id,
            term: self.send.term,
            snapshot: self.file.id(),
            offset,
            crc: piece.crc,
            data: piece.data,
        }
    }

    /// Keeps to the rate.
    async fn pace(&mut self, bytes: u64) {
        let now = Instant::now();
        sleep_until(self.next_piece).await;
        self.next_piece =
            self.next_piece.max(now) + Duration::from_nanos(bytes * 1_000_000_000 / RATE);
    }

    async fn install(&self, connection: &Connection) -> Result<Envelope, Broken> {
        let install = Install { snapshot: self.file.head().meta.clone() };
        let envelope = Envelope {
            from: self.common.standing.own.node_id,
            to: self.peer.id,
            term: self.send.term,
            request: self.send.request,
            message: Message::Install(install),
        };
        if !self.leads() {
            return Err("the leadership ended".to_owned());
        }
        let args = wire::encode_envelope(&envelope);
        let body = connection
            .call_raw(Method::RaftInstall, args, PATIENCE)
            .await
            .map_err(|error| error.to_string())?;
        let reply = wire::decode_envelope(RaftCall::Install, Direction::Reply, &body)
            .map_err(|error| error.to_string())?;
        if reply.from != self.peer.id || reply.request != self.send.request {
            return Err("the answer to the install is to another one".to_owned());
        }
        Ok(reply)
    }
}

async fn call(connection: &Connection, chunk: &Chunk) -> Result<ChunkReply, Broken> {
    let called = connection.call_timeout(Method::RaftSnapshot, chunk, PATIENCE).await;
    called.map_err(|error: CallError| error.to_string())
}

/// A piece with its checksum.
struct Piece {
    data: Bytes,
    crc: u32,
}

type Read = (u64, oneshot::Sender<Result<Piece, StorageError>>);

/// Reads the file on a thread of its own, which ends with this handle.
struct Pieces {
    requests: mpsc::Sender<Read>,
}

impl Pieces {
    fn start(file: SnapshotFile) -> std::io::Result<Pieces> {
        // One request at a time.
        let (requests, mut queue) = mpsc::channel::<Read>(1);
        std::thread::Builder::new().name("snapshot-out".to_owned()).spawn(move || {
            while let Some((offset, reply)) = queue.blocking_recv() {
                let piece = file.read_at(offset, PIECE_BYTES).map(|data| {
                    let crc = crc32c::crc32c(&data);
                    Piece { data, crc }
                });
                // A sender that has been given up needs no answer.
                let _ = reply.send(piece);
            }
        })?;
        Ok(Pieces { requests })
    }

    async fn read(&self, offset: u64) -> Result<Piece, StorageError> {
        let ended = || StorageError::Io {
            action: "reading",
            path: "the snapshot".to_owned(),
            source: std::io::Error::other("the reading thread has ended"),
        };
        let (reply, answer) = oneshot::channel();
        self.requests.send((offset, reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}
