//! What a quorum is, said once more and in the plainest way.

use std::collections::BTreeSet;

use balsa::raft::{Membership, NodeId};

/// Whether those of whom `there` is true are a majority of each half of the membership.
pub fn is_quorum(membership: &Membership, there: impl Fn(NodeId) -> bool) -> bool {
    let majority = |voters: &BTreeSet<NodeId>| {
        2 * voters.iter().filter(|voter| there(**voter)).count() > voters.len()
    };
    majority(&membership.voters)
        && (membership.outgoing.is_empty() || majority(&membership.outgoing))
}

/// Whether every quorum of the one meets every quorum of the other, by trying all sets of voters (S15):
/// no set may be a quorum of the one while the rest is one of the other.
pub fn meet(one: &Membership, other: &Membership) -> bool {
    let voters: Vec<NodeId> = [&one.voters, &one.outgoing, &other.voters, &other.outgoing]
        .into_iter()
        .flatten()
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    (0u32..1 << voters.len()).all(|set| {
        let inside = |id: NodeId| {
            voters.iter().position(|voter| *voter == id).is_some_and(|at| set >> at & 1 == 1)
        };
        !(is_quorum(one, inside) && is_quorum(other, |id| !inside(id)))
    })
}
