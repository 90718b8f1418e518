//! A store as bytes: what stands in a snapshot between its head and its end.
//!
//! Records follow each other, in this order and no other: one `begin`, the keys in byte order, the
//! sessions by id. Nothing follows the last one; how many there are is in `begin`. The members are not
//! among them but in the snapshot's head; the content's hash covers them all the same.
//!
//! ```text
//! kind: 1 byte, length: 4 bytes (little-endian), body: MessagePack with named fields
//! 1 begin    {"version": 1, "revision": 7, "keys": 2, "sessions": 1}
//! 2 key      {"k": key, "v": value, "c": created, "m": modified, "n": version}
//! 3 session  {"id": 3, "touched": 9, "below": 2, "replies": [[serial, index, term, outcome, revision], …]}
//! ```
//!
//! Outcomes: 0 rejected (revision 0), 1 written without the condition holding, 2 written. Equal stores
//! give equal bytes. Damage of any kind is found: by the shape, by the rules of the store, or by the
//! hash. An unknown kind is an error, because a record that is skipped is content that is lost.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::msgpack::{DecodeError, decode};
use crate::kv::Store;
use crate::kv::command::{Applied, Outcome, Versioned};
use crate::kv::frozen::{Frozen, SavedSession};
use crate::kv::limits::{KEY_BYTES_MAX, SERIAL_WINDOW, VALUE_BYTES_MAX};
use crate::kv::restore::{Restore, Unsound};
use crate::raft::SnapshotMeta;

/// The version of the content's format.
const VERSION: u32 = 1;

/// A piece is cut when it has this many bytes; its last record makes it longer, by at most
/// `RECORD_BYTES_MAX`.
const PIECE_BYTES: usize = 128 << 10;

/// Kind and length.
const HEAD_BYTES: usize = 5;

/// The longest body of a record: a key with its value, or a session whose window is full.
const RECORD_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX + 256;

const _: () = assert!(SERIAL_WINDOW as usize * 48 < RECORD_BYTES_MAX);

const BEGIN: u8 = 1;
const KEY: u8 = 2;
const SESSION: u8 = 3;

#[derive(Serialize, Deserialize)]
struct Begin {
    version: u32,
    revision: u64,
    keys: u64,
    sessions: u64,
}

#[derive(Serialize, Deserialize)]
struct Key<'a> {
    #[serde(borrow, with = "serde_bytes")]
    k: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    v: &'a [u8],
    c: u64,
    m: u64,
    n: u64,
}

#[derive(Serialize, Deserialize)]
struct Session {
    id: u64,
    touched: u64,
    below: u64,
    replies: Vec<SessionReply>,
}

/// Serial, index, term, outcome, revision.
type SessionReply = (u64, u64, u64, u8, u64);

/// What the head of a snapshot of this store says; none if the log has said nothing of members yet.
#[must_use]
pub fn meta(frozen: &Frozen) -> Option<SnapshotMeta> {
    let (membership_index, membership) = frozen.membership()?;
    let membership = Arc::clone(membership);
    Some(SnapshotMeta { last: frozen.applied(), membership, membership_index })
}

/// Writes a frozen store, piece by piece.
#[derive(Debug)]
pub struct Encoder {
    frozen: Frozen,
    next: Next,
}

#[derive(Debug)]
enum Next {
    Begin,
    /// The keys behind this one.
    Keys(Option<Bytes>),
    /// The sessions behind this one.
    Sessions(u64),
    End,
}

impl Encoder {
    /// An encoder that has written nothing yet.
    #[must_use]
    pub fn new(frozen: Frozen) -> Encoder {
        Encoder { frozen, next: Next::Begin }
    }

    fn keys(&self, after: Option<&[u8]>, piece: &mut Vec<u8>) -> Next {
        for (key, versioned) in self.frozen.entries_after(after) {
            let Versioned { value, create_revision, mod_revision, version } = versioned;
            let (c, m, n) = (*create_revision, *mod_revision, *version);
            put(piece, KEY, &Key { k: key, v: value, c, m, n });
            if piece.len() >= PIECE_BYTES {
                return Next::Keys(Some(key.clone()));
            }
        }
        Next::Sessions(0)
    }

    fn sessions(&self, after: u64, piece: &mut Vec<u8>) -> Next {
        for session in self.frozen.sessions_after(after) {
            let SavedSession { id, touched, answered_below: below, replies } = session;
            let replies = replies.iter().map(wire_reply).collect();
            put(piece, SESSION, &Session { id, touched, below, replies });
            if piece.len() >= PIECE_BYTES {
                return Next::Sessions(id);
            }
        }
        Next::End
    }
}

impl Iterator for Encoder {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES {
            self.next = match mem::replace(&mut self.next, Next::End) {
                Next::Begin => {
                    let begin = Begin {
                        version: VERSION,
                        revision: self.frozen.revision(),
                        keys: self.frozen.view().len() as u64,
                        sessions: self.frozen.session_count() as u64,
                    };
                    put(&mut piece, BEGIN, &begin);
                    Next::Keys(None)
                }
                Next::Keys(after) => self.keys(after.as_deref(), &mut piece),
                Next::Sessions(after) => self.sessions(after, &mut piece),
                Next::End => break,
            };
        }
        (!piece.is_empty()).then(|| Bytes::from(piece))
    }
}

fn put<T: Serialize>(piece: &mut Vec<u8>, kind: u8, body: &T) {
    piece.push(kind);
    let at = piece.len();
    piece.extend_from_slice(&[0; 4]);
    let mut serializer = rmp_serde::Serializer::new(&mut *piece).with_struct_map();
    body.serialize(&mut serializer).expect("our own types can be encoded");
    let length = piece.len() - at - 4;
    assert!(length <= RECORD_BYTES_MAX, "what the store's limits allow fits into a record");
    let length = u32::try_from(length).expect("less than the limit");
    piece[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads a store, in pieces of any size. It holds what it has read, and one unfinished record.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a record whose rest has not come.
    rest: Vec<u8>,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    restore: Restore,
    /// Still to come.
    keys: u64,
    sessions: u64,
}

impl Decoder {
    /// A decoder that has read nothing yet.
    #[must_use]
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Reads on. After an error the decoder is of no more use.
    ///
    /// # Errors
    /// If the content is damaged, or of a later version.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), DecodeError> {
        let mut bytes = mem::take(&mut self.rest);
        bytes.extend_from_slice(piece);
        let mut at = 0;
        while let Some((kind, body)) = record(&bytes[at..])? {
            self.take(kind, body)?;
            at += HEAD_BYTES + body.len();
        }
        bytes.drain(..at);
        self.rest = bytes;
        Ok(())
    }

    /// The store, if all of it has come, its members are those of the snapshot's head, and its hash is
    /// `state_hash`.
    ///
    /// # Errors
    /// If not.
    pub fn finish(self, meta: &SnapshotMeta, state_hash: u64) -> Result<Store, DecodeError> {
        if !meta.is_sound() {
            return Err(content("the head names members, or their index, as no node would"));
        }
        let Some(Begun { restore, keys: 0, sessions: 0 }) = self.begun else {
            return Err(content("the content is cut short"));
        };
        if !self.rest.is_empty() {
            return Err(content("something follows the content"));
        }
        let membership = meta.membership.clone();
        Ok(restore.finish(meta.last, meta.membership_index, membership, state_hash)?)
    }

    fn take(&mut self, kind: u8, body: &[u8]) -> Result<(), DecodeError> {
        match (kind, &mut self.begun) {
            (BEGIN, None) => {
                let Begin { version, revision, keys, sessions } = decode(body)?;
                if version != VERSION {
                    let message = format!("version {version} of the content is not known here");
                    return Err(content(&message));
                }
                self.begun = Some(Begun { restore: Restore::new(revision), keys, sessions });
            }
            (KEY, Some(Begun { restore, keys, .. })) if *keys > 0 => {
                let Key { k, v, c, m, n } = decode(body)?;
                // Copied, so that what is kept does not keep the piece.
                let value = Bytes::copy_from_slice(v);
                let versioned =
                    Versioned { value, create_revision: c, mod_revision: m, version: n };
                restore.entry(Bytes::copy_from_slice(k), versioned)?;
                *keys -= 1;
            }
            (SESSION, Some(Begun { restore, keys: 0, sessions })) if *sessions > 0 => {
                let Session { id, touched, below, replies } = decode(body)?;
                let replies = replies.into_iter().map(kept_reply).collect::<Result<_, _>>()?;
                restore.session(SavedSession { id, touched, answered_below: below, replies })?;
                *sessions -= 1;
            }
            _ => {
                return Err(content(&format!(
                    "a record of kind {kind} is out of place or unknown"
                )));
            }
        }
        Ok(())
    }
}

/// The first record of these bytes, if all of it is there.
fn record(bytes: &[u8]) -> Result<Option<(u8, &[u8])>, DecodeError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [kind, length @ ..] = *head;
    let length = u32::from_le_bytes(length) as usize;
    if length > RECORD_BYTES_MAX {
        return Err(content(&format!("a record of {length} bytes is over the limit")));
    }
    Ok(rest.get(..length).map(|body| (kind, body)))
}

fn wire_reply((serial, reply): &(u64, Applied)) -> SessionReply {
    let (outcome, revision) = match reply.outcome {
        Outcome::Written { revision, succeeded } => (1 + u8::from(succeeded), revision),
        // Nothing else is kept.
        Outcome::Rejected
        | Outcome::Session { .. }
        | Outcome::SessionExpired
        | Outcome::SerialOutOfWindow => (0, 0),
    };
    (*serial, reply.index, reply.term, outcome, revision)
}

fn kept_reply(reply: SessionReply) -> Result<(u64, Applied), DecodeError> {
    let (serial, index, term, outcome, revision) = reply;
    let outcome = match (outcome, revision) {
        (0, 0) => Outcome::Rejected,
        (1 | 2, revision) => Outcome::Written { revision, succeeded: outcome == 2 },
        _ => return Err(content(&format!("a kept reply of kind {outcome}"))),
    };
    Ok((serial, Applied { index, term, outcome }))
}

fn content(what: &str) -> DecodeError {
    DecodeError::Content(what.to_owned())
}

impl From<Unsound> for DecodeError {
    fn from(unsound: Unsound) -> DecodeError {
        DecodeError::Content(unsound.to_string())
    }
}
