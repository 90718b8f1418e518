//! How nodes' messages look on the wire: arguments and replies of `Raft.Vote`, `Raft.Append`,
//! `Raft.Heartbeat`, `Raft.Install` and `Raft.TimeoutNow`.
//!
//! Each is one map: `f` from, `t` to, `e` term, `r` request, and `m` with the message's own fields.
//! Which message `m` holds follows from the method and from whether it is the call or its reply. An
//! append's entries leave out their index, which follows from the base, so that a gap cannot even
//! be expressed (S13):
//!
//! ```text
//! {"f": 1, "t": 2, "e": 3, "r": 4, "m": {"base": {"term": 2, "index": 8}, "commit": 7,
//! "entries": [{"t": 3, "k": 0}, {"t": 3, "k": 1, "d": command}, {"t": 3, "k": 2, "m":
//! membership}]}}
//! ```
//!
//! An entry's kind is explicit: a reader that does not know it fails, instead of taking the entry
//! for something else.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::msgpack::{DecodeError, decode_shared, encode_sized};
use super::shared;
use crate::raft::message::{
    Append, AppendReply, Heartbeat, HeartbeatReply, Install, InstallReply, TimeoutNow,
    TimeoutNowReply, Vote, VoteReply,
};
use crate::raft::seats::MEMBERS_MAX;
use crate::raft::{
    Entry, Envelope, Index, LogId, Membership, Message, NodeId, Payload, RequestId, Term,
};

/// The method that carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RaftCall {
    /// `Raft.Vote`.
    Vote,
    /// `Raft.Append`.
    Append,
    /// `Raft.Heartbeat`.
    Heartbeat,
    /// `Raft.Install`.
    Install,
    /// `Raft.TimeoutNow`.
    TimeoutNow,
}

impl RaftCall {
    /// Every one of them.
    pub const ALL: [RaftCall; 5] = [
        RaftCall::Vote,
        RaftCall::Append,
        RaftCall::Heartbeat,
        RaftCall::Install,
        RaftCall::TimeoutNow,
    ];
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The call's arguments.
    Request,
    /// The call's reply.
    Reply,
}

/// The method and the direction that carry this message.
#[must_use]
pub fn route(message: &Message) -> (RaftCall, Direction) {
    match message {
        Message::Vote(_) => (RaftCall::Vote, Direction::Request),
        Message::VoteReply(_) => (RaftCall::Vote, Direction::Reply),
        Message::Append(_) => (RaftCall::Append, Direction::Request),
        Message::AppendReply(_) => (RaftCall::Append, Direction::Reply),
        Message::Heartbeat(_) => (RaftCall::Heartbeat, Direction::Request),
        Message::HeartbeatReply(_) => (RaftCall::Heartbeat, Direction::Reply),
        Message::Install(_) => (RaftCall::Install, Direction::Request),
        Message::InstallReply(_) => (RaftCall::Install, Direction::Reply),
        Message::TimeoutNow(_) => (RaftCall::TimeoutNow, Direction::Request),
        Message::TimeoutNowReply(_) => (RaftCall::TimeoutNow, Direction::Reply),
    }
}

/// The bytes of an envelope. Payloads are copied once, into the result.
#[must_use]
pub fn encode_envelope(envelope: &Envelope) -> Bytes {
    match &envelope.message {
        Message::Vote(message) => wrap(envelope, message, 0),
        Message::VoteReply(message) => wrap(envelope, message, 0),
        Message::Append(append) => {
            let entries = append.entries.iter().map(WireEntry::of).collect();
            let message = WireAppend { base: append.base, commit: append.commit, entries };
            // `Payload::size` leaves enough for an entry's own fields.
            let size = append.entries.iter().map(|entry| entry.payload.size() as usize).sum();
            wrap(envelope, &message, size)
        }
        Message::AppendReply(message) => wrap(envelope, message, 0),
        Message::Heartbeat(message) => wrap(envelope, message, 0),
        Message::HeartbeatReply(message) => wrap(envelope, message, 0),
        Message::Install(message) => wrap(envelope, message, message.snapshot.membership.size()),
        Message::InstallReply(message) => wrap(envelope, message, 0),
        Message::TimeoutNow(message) => wrap(envelope, message, 0),
        Message::TimeoutNowReply(message) => wrap(envelope, message, 0),
    }
}

/// The envelope in the arguments or the reply of a call. Commands are slices of `bytes`.
///
/// Nothing is believed yet: whether the sender is who it says is for the connection to know, and
/// what the message may do is for the core.
///
/// # Errors
/// If the bytes are no such message.
pub fn decode_envelope(
    call: RaftCall,
    direction: Direction,
    bytes: &Bytes,
) -> Result<Envelope, DecodeError> {
    match (call, direction) {
        (RaftCall::Vote, Direction::Request) => unwrap::<Vote>(bytes, |m, _| {
            bounded(m.remembered.len())?;
            Ok(Message::Vote(m))
        }),
        (RaftCall::Vote, Direction::Reply) => unwrap::<VoteReply>(bytes, |m, _| {
            bounded(m.seen.len())?;
            Ok(Message::VoteReply(m))
        }),
        (RaftCall::Append, Direction::Request) => {
            unwrap::<WireAppend>(bytes, |m, term| Ok(Message::Append(m.into_append(term)?)))
        }
        (RaftCall::Append, Direction::Reply) => {
            unwrap::<AppendReply>(bytes, |m, _| Ok(Message::AppendReply(m)))
        }
        (RaftCall::Heartbeat, Direction::Request) => unwrap::<Heartbeat>(bytes, |m, _| {
            bounded(m.seen.len())?;
            Ok(Message::Heartbeat(m))
        }),
        (RaftCall::Heartbeat, Direction::Reply) => {
            unwrap::<HeartbeatReply>(bytes, |m, _| Ok(Message::HeartbeatReply(m)))
        }
        (RaftCall::Install, Direction::Request) => {
            unwrap::<Install>(bytes, |m, _| Ok(Message::Install(m)))
        }
        (RaftCall::Install, Direction::Reply) => {
            unwrap::<InstallReply>(bytes, |m, _| Ok(Message::InstallReply(m)))
        }
        (RaftCall::TimeoutNow, Direction::Request) => {
            unwrap::<TimeoutNow>(bytes, |m, _| Ok(Message::TimeoutNow(m)))
        }
        (RaftCall::TimeoutNow, Direction::Reply) => {
            unwrap::<TimeoutNowReply>(bytes, |m, _| Ok(Message::TimeoutNowReply(m)))
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire<M> {
    f: NodeId,
    t: NodeId,
    e: Term,
    r: RequestId,
    m: M,
}

#[derive(Serialize, Deserialize)]
struct WireAppend {
    base: LogId,
    commit: Index,
    entries: Vec<WireEntry>,
}

#[derive(Serialize, Deserialize)]
struct WireEntry {
    t: Term,
    k: u8,
    #[serde(default, with = "shared::optional", skip_serializing_if = "Option::is_none")]
    d: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<Arc<Membership>>,
}

/// Most lines about members in one message: a seat may be held by two while its holder is replaced.
const LINES_MAX: usize = 2 * MEMBERS_MAX;

fn bounded(lines: usize) -> Result<(), DecodeError> {
    if lines > LINES_MAX {
        let message = format!("{lines} lines about members, more than {LINES_MAX}");
        return Err(DecodeError::Content(message));
    }
    Ok(())
}

/// No cluster counts that far; a term beyond it is refused, so that the next one can always be named.
const TERM_MAX: u64 = 1 << 62;

const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

fn wrap<M: Serialize>(envelope: &Envelope, m: &M, size: usize) -> Bytes {
    let Envelope { from, to, term, request, .. } = *envelope;
    encode_sized(&Wire { f: from, t: to, e: term, r: request, m }, 128 + size)
}

fn unwrap<M: DeserializeOwned>(
    bytes: &Bytes,
    message: impl FnOnce(M, Term) -> Result<Message, DecodeError>,
) -> Result<Envelope, DecodeError> {
    let wire: Wire<M> = decode_shared(bytes)?;
    if wire.e.0 > TERM_MAX {
        return Err(DecodeError::Content(format!("term {} is beyond {TERM_MAX}", wire.e)));
    }
    let message = message(wire.m, wire.e)?;
    Ok(Envelope { from: wire.f, to: wire.t, term: wire.e, request: wire.r, message })
}

impl WireEntry {
    fn of(entry: &Entry) -> WireEntry {
        let (k, d, m) = match &entry.payload {
            Payload::Noop => (NOOP, None, None),
            Payload::Command(bytes) => (COMMAND, Some(bytes.clone()), None),
            Payload::Membership(membership) => (MEMBERSHIP, None, Some(Arc::clone(membership))),
        };
        WireEntry { t: entry.id.term, k, d, m }
    }

    fn into_payload(self) -> Result<Payload, DecodeError> {
        match (self.k, self.d, self.m) {
            (NOOP, None, None) => Ok(Payload::Noop),
            (COMMAND, Some(bytes), None) => Ok(Payload::Command(bytes)),
            (MEMBERSHIP, None, Some(membership)) => Ok(Payload::Membership(membership)),
            (kind, ..) => Err(DecodeError::Content(format!(
                "an entry of kind {kind} is unknown or lacks its content"
            ))),
        }
    }
}

impl WireAppend {
    /// The entries' terms never go back and never pass the sender's (S13): checked here, so that no bytes
    /// from outside meet the core's assertions.
    fn into_append(self, term: Term) -> Result<Append, DecodeError> {
        let mut before = self.base;
        if before.index == Index::ZERO && before != LogId::ZERO {
            return Err(DecodeError::Content(
                "a base before the first entry has no term".to_owned(),
            ));
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        for wire in self.entries {
            let overflow = || DecodeError::Content("the base's index is too large".to_owned());
            let index = Index(before.index.0.checked_add(1).ok_or_else(overflow)?);
            let id = LogId { term: wire.t, index };
            if id.term < before.term || id.term > term {
                let message = format!("entry {id} behind {before} in an append of term {term}");
                return Err(DecodeError::Content(message));
            }
            before = id;
            entries.push(Entry { id, payload: wire.into_payload()? });
        }
        Ok(Append { base: self.base, commit: self.commit, entries })
    }
}
