//! When an entry is committed.

use super::log_shape::LogShape;
use super::membership::Membership;
use super::quorum;
use super::types::{Index, NodeId, Term};

/// How far a leader of `term` may commit, given how far each voter's disk is known to hold its log
/// (its own disk included, and no further than it has completed): what a quorum holds, but only if the
/// entry there is of the leader's own term. An older entry is never committed by counting, only
/// through one of this term behind it (Raft §5.4.2, Figure 8; S8, S9).
pub(super) fn of_leader(
    membership: &Membership,
    log: &LogShape,
    term: Term,
    matched: impl Fn(NodeId) -> Index,
) -> Option<Index> {
    let held = quorum::reached(membership, matched);
    (log.term_at(held) == Some(term)).then_some(held)
}

/// How far a follower may commit: what its leader says, but no further than it has verified that its
/// log is the leader's (L4).
pub(super) fn of_follower(leader_commit: Index, verified: Index) -> Index {
    leader_commit.min(verified)
}
