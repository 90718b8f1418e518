//! When the node takes a snapshot of its own, and who waits for one: the part of the node actor that
//! has nothing to do with the protocol.
//!
//! One snapshot at a time. What when there is no room for it, or the disk does not give back what was
//! written? That is said once; the next one is tried a minute later at the earliest, and admins who
//! wait are refused.

use std::time::{Duration, Instant};

use crate::codec::api::{Code, Refusal, SnapshotReply};
use crate::config::SnapshotPolicy;
use crate::kv;
use crate::raft::{Index, LogId, SnapshotId, SnapshotMeta};
use crate::rpc::Responder;
use crate::storage::{SnapshotStore, StorageError};

use super::fatal;
use super::snapshot_taker::{Taker, Taking};
use super::standing::Standing;

/// After a snapshot without room.
const RETRY: Duration = Duration::from_secs(60);

/// Admins who may wait for snapshots; further ones are refused as busy.
const WAITING_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// The applier has been asked for its content, or the content is being written; `bytes` were
    /// counted for it.
    UnderWay {
        bytes: u64,
    },
}

/// See the module.
pub struct Desk {
    policy: SnapshotPolicy,
    taker: Taker,
    snapshots: SnapshotStore,
    /// Where the newest snapshot ends, taken or being installed.
    newest: Index,
    /// Up to here the state machine has applied.
    applied: Index,
    /// Bytes of entries applied behind the newest snapshot.
    bytes: u64,
    stage: Stage,
    /// No earlier than this, after one that found no room.
    not_before: Option<Instant>,
    /// Who waits for the snapshot under way, and who for the next one, which will hold all that was
    /// applied when they asked.
    served: Vec<Responder>,
    asking: Vec<Responder>,
}

impl Desk {
    /// The desk of a node that starts with this snapshot, and has applied that much.
    #[must_use]
    pub fn new(
        policy: SnapshotPolicy,
        taker: Taker,
        snapshots: SnapshotStore,
        newest: Index,
        applied: Index,
    ) -> Desk {
        Desk {
            policy,
            taker,
            snapshots,
            newest,
            applied,
            bytes: 0,
            stage: Stage::Idle,
            not_before: None,
            served: Vec::new(),
            asking: Vec::new(),
        }
    }

    /// Entries were applied.
    pub fn applied(&mut self, upto: Index, bytes: u64) {
        self.applied = upto;
        self.bytes += bytes;
    }

    /// A snapshot from a leader takes the log's place, and soon the content's.
    pub fn installs(&mut self, last: Index) {
        self.newest = self.newest.max(last);
        self.bytes = 0;
    }

    /// An admin wants a snapshot.
    pub fn asked(&mut self, reply: Responder) {
        if self.asking.len() >= WAITING_MAX {
            let why = "as many requests as may wait for a snapshot are waiting; try again";
            reply.refuse(Refusal::new(Code::Busy, why));
        } else {
            self.asking.push(reply);
        }
    }

    /// Whether to ask the applier for its content now. Answers whoever can be answered without.
    #[must_use]
    pub fn begins(&mut self, standing: &Standing) -> bool {
        if self.applied == self.newest && !self.asking.is_empty() {
            let current = self.snapshots.current().map(|file| file.id());
            for reply in self.asking.drain(..) {
                match current {
                    Some(id) => reply.send(&answer(standing, id, Duration::ZERO)),
                    None => reply.refuse(Refusal::new(
                        Code::Unavailable,
                        "the node has applied nothing that a snapshot could hold",
                    )),
                }
            }
        }
        if self.stage != Stage::Idle || self.applied <= self.newest {
            return false;
        }
        let entries = self.applied.0 - self.newest.0;
        let due = entries >= self.policy.entries || self.bytes >= self.policy.bytes;
        let due = due && self.not_before.is_none_or(|time| Instant::now() >= time);
        if due || !self.asking.is_empty() {
            self.stage = Stage::UnderWay { bytes: std::mem::take(&mut self.bytes) };
            self.served.append(&mut self.asking);
            return true;
        }
        false
    }

    /// The applier has frozen its content. `meta`: what a snapshot of it carries, or none if an installed
    /// one is newer.
    pub fn froze(&mut self, frozen: kv::Frozen, meta: Option<SnapshotMeta>) {
        match meta {
            Some(meta) => self.taker.take(frozen, meta),
            None => {
                self.stage = Stage::Idle;
                self.asking.append(&mut self.served);
            }
        }
    }

    /// What became of the snapshot under way; the last entry of one that is durable.
    #[must_use]
    pub fn reported(&mut self, taking: Taking, standing: &Standing) -> Option<LogId> {
        let counted = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::UnderWay { bytes } => bytes,
            Stage::Idle => 0,
        };
        match taking {
            Taking::Taken { id, took } => {
                self.not_before = None;
                if id.last.index > self.newest {
                    self.newest = id.last.index;
                    standing.snapshots.taken(id.bytes, took);
                    tracing::info!(
                        last = %id.last,
                        bytes = id.bytes,
                        milliseconds = took.as_millis(),
                        "snapshot taken"
                    );
                } else {
                    tracing::info!(last = %id.last, "an installed snapshot has overtaken one's own");
                }
                for reply in self.served.drain(..) {
                    reply.send(&answer(standing, id, took));
                }
                Some(id.last)
            }
            Taking::Failed(
                error @ (StorageError::NoSpace { .. } | StorageError::UnsoundSnapshot { .. }),
            ) => {
                standing.snapshots.failed();
                if self.not_before.is_none() {
                    tracing::error!("no snapshot: {error}; the log goes on growing meanwhile");
                }
                self.not_before = Some(Instant::now() + RETRY);
                self.bytes += counted;
                let code = match &error {
                    StorageError::NoSpace { .. } => Code::NoSpace,
                    _ => Code::Unavailable,
                };
                for reply in self.served.drain(..) {
                    reply.refuse(Refusal::new(code, error.to_string()));
                }
                None
            }
            Taking::Failed(error) => fatal::storage(&error),
        }
    }
}

fn answer(standing: &Standing, id: SnapshotId, took: Duration) -> SnapshotReply {
    SnapshotReply {
        name: standing.own.name.clone(),
        index: id.last.index,
        term: id.last.term,
        bytes: id.bytes,
        milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}
