//! How a node answers audits (`Raft.Audit`): with the hash of its content, or by heeding a verdict (S5).
//!
//! What when full? [`AUDITS_MAX`] questions wait for their index; further ones are refused as busy, and
//! the asking leader counts this node as silent for that round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::Semaphore;

use crate::codec;
use crate::codec::api::{Code, Refusal};
use crate::codec::peer::{Audit, AuditAsk, AuditReply};
use crate::rpc::{Call, Peer};

use super::auditor::DIVERGED;
use super::deliver::Deliver;
use super::messages::StartOver;
use super::standing::Standing;

/// Questions answered at once: only a leader asks, once a second.
const AUDITS_MAX: usize = 8;

/// How long one waits for its index at most, whatever its caller would bear.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// See the module.
pub struct Audits {
    standing: Arc<Standing>,
    start_over: Recipient<StartOver>,
    waiting: Arc<Semaphore>,
}

impl Audits {
    /// Answers for this node.
    #[must_use]
    pub fn new(standing: Arc<Standing>, start_over: Recipient<StartOver>) -> Audits {
        Audits { standing, start_over, waiting: Arc::new(Semaphore::new(AUDITS_MAX)) }
    }

    /// Answers one call. A verdict is believed only from the leader of the present term: an older one may
    /// have missed what was mended since.
    pub fn answer(&self, peer: &Peer, call: Call) {
        let audit = match codec::decode::<Audit>(&call.args) {
            Ok(audit) => audit,
            Err(error) => return call.reply.refuse(error.into()),
        };
        let own = self.standing.own.node_id;
        if audit.to != own || Some(audit.from) != peer.hello.node_id {
            let message = format!("an audit by {} of {}, here is {own}", audit.from, audit.to);
            return call.reply.refuse(Refusal::new(Code::WrongPeer, message));
        }
        let standing = Arc::clone(&self.standing);
        match audit.ask {
            AuditAsk::Hash { index } => {
                let Ok(permit) = Arc::clone(&self.waiting).try_acquire_owned() else {
                    let message = "too many audits wait for their index; try again";
                    return call.reply.refuse(Refusal::new(Code::Busy, message));
                };
                // The rest is for the way back.
                let left = call.deadline.saturating_duration_since(Instant::now());
                let patience = WAIT_MAX.min(left / 2);
                tokio::spawn(async move {
                    let _permit = permit;
                    let hash = standing.agreement.hash_at(index, patience).await;
                    call.reply.send(&AuditReply { hash });
                });
            }
            AuditAsk::Verdict { index, hash } => {
                let soft_state = standing.present().soft_state;
                if (soft_state.term, soft_state.leader) != (audit.term, Some(audit.from)) {
                    let message = format!("{} does not lead term {}", audit.from, soft_state.term);
                    return call.reply.refuse(Refusal::new(Code::Unavailable, message));
                }
                if standing.agreement.heed(index, hash) {
                    // One for each verdict, and the supervisor ignores repeats; it must hear it.
                    self.start_over.deliver(StartOver { reason: DIVERGED.into() });
                }
                call.reply.send(&AuditReply { hash: None });
            }
        }
    }
}
