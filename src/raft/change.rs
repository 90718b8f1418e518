//! Changing the members (Raft §6, dissertation 4).
//!
//! A membership is active from being appended (M1). Who votes changes only through a *joint* membership,
//! in which both the old and the new voters must agree (M3): the leader appends it, and once it is
//! committed, appends the new membership alone. Whoever leads then completes it, so that no change stays
//! half done (M9). Learners come and go in one step, since no quorum depends on them. This way every
//! quorum of a membership meets every quorum of the next (S15).
//!
//! There is one change at a time, and none before the leader has committed an entry of its own term
//! (S14, M2). A change that would leave the cluster without a quorum of members that answer is refused:
//! a joint membership that cannot be committed could not be taken back (M8).

use super::membership::{Member, Membership};
use super::types::{Index, NodeId};

/// A wish of an operator, or of the part that looks after lost disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A new node receives the log and does not vote.
    AddLearner {
        /// The node; never a member before (M7).
        id: NodeId,
        /// Its seat.
        member: Member,
        /// The node that held the seat and has lost its disk, if this one is to take its place: a voter
        /// stays until [`MembershipChange::Replace`], a learner goes at once.
        instead_of: Option<NodeId>,
    },
    /// A learner becomes a voter, once it has caught up (M5).
    Promote {
        /// The learner.
        id: NodeId,
    },
    /// A learner of the same seat becomes a voter in the place of the one that votes there now, which
    /// leaves (D18). The number of voters stays the same.
    Replace {
        /// The voter.
        old: NodeId,
        /// The learner, caught up.
        new: NodeId,
    },
    /// A member leaves.
    Remove {
        /// Voter or learner, the leader included (M4).
        id: NodeId,
    },
    /// A member leaves, and its seat is retired: whoever comes there is not taken in by itself
    /// ([`Membership::retired`]) until [`MembershipChange::AddLearner`] ends that. A learner of the same
    /// seat leaves with it.
    Retire {
        /// Voter or learner, the leader included (M4).
        id: NodeId,
    },
}

/// Why the members stay as they are. In each case nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRefusal {
    /// Another node leads, or nobody does.
    NotLeader {
        /// Who leads, as far as known.
        leader: Option<NodeId>,
    },
    /// The leader is new and has committed nothing yet; soon (S14, M2).
    NotReady,
    /// Another change is under way (S14, M9).
    UnderWay {
        /// Where its newest entry stands.
        index: Index,
    },
    /// The leadership is being handed over (E12).
    Transferring {
        /// To whom.
        to: NodeId,
    },
    /// No member has this id.
    Unknown {
        /// The id.
        id: NodeId,
    },
    /// The node is a member already.
    AlreadyMember,
    /// Only a learner can become a voter, and this one votes.
    AlreadyVoter,
    /// The one to be replaced does not vote: remove it.
    NotVoter {
        /// The member.
        id: NodeId,
    },
    /// Another node holds the seat.
    SeatTaken {
        /// Who.
        holder: NodeId,
    },
    /// The two are not of the same seat.
    OtherSeat,
    /// It is the last voter.
    LastVoter,
    /// The learner lacks too much of the log (M5).
    Behind {
        /// What it is known to hold.
        matched: Index,
        /// What there is.
        last: Index,
    },
    /// The learner has not been heard lately (M5).
    Silent,
    /// Of the voters that would remain no quorum answers (M8).
    NoQuorum,
}

/// The membership that a change leads to, joint if the voters change. Whether its nodes are fit for it is
/// for the leader to know.
pub(super) fn after(
    membership: &Membership,
    change: &MembershipChange,
) -> Result<Membership, ChangeRefusal> {
    let known = |id: NodeId| match membership.members.get(&id) {
        Some(member) => Ok(member),
        None => Err(ChangeRefusal::Unknown { id }),
    };
    let mut next = membership.clone();
    match change {
        MembershipChange::AddLearner { id, member, instead_of } => {
            if membership.contains(*id) {
                return Err(ChangeRefusal::AlreadyMember);
            }
            if let Some(old) = instead_of {
                if known(*old)?.name != member.name {
                    return Err(ChangeRefusal::OtherSeat);
                }
                if !membership.is_voter(*old) {
                    next.members.remove(old);
                }
            }
            let mut others = next.members.iter().filter(|(other, _)| Some(**other) != *instead_of);
            if let Some((holder, _)) = others.find(|(_, other)| other.name == member.name) {
                return Err(ChangeRefusal::SeatTaken { holder: *holder });
            }
            next.members.insert(*id, member.clone());
            next.retired.remove(&member.name);
            return Ok(next);
        }
        MembershipChange::Promote { id } => {
            let seat = &known(*id)?.name;
            if membership.is_voter(*id) {
                return Err(ChangeRefusal::AlreadyVoter);
            }
            let holds = |other: &&NodeId| membership.members[other].name == *seat;
            if let Some(holder) = membership.voters.iter().find(holds) {
                return Err(ChangeRefusal::SeatTaken { holder: *holder });
            }
            next.voters.insert(*id);
        }
        MembershipChange::Replace { old, new } => {
            if known(*old)?.name != known(*new)?.name {
                return Err(ChangeRefusal::OtherSeat);
            }
            if !membership.is_voter(*old) {
                return Err(ChangeRefusal::NotVoter { id: *old });
            }
            if membership.is_voter(*new) {
                return Err(ChangeRefusal::AlreadyVoter);
            }
            next.voters.remove(old);
            next.voters.insert(*new);
        }
        MembershipChange::Remove { id } | MembershipChange::Retire { id } => {
            let seat = known(*id)?.name.clone();
            if let MembershipChange::Retire { .. } = change {
                let votes =
                    |other: &&NodeId| *other != id && membership.members[other].name == seat;
                if let Some(holder) = membership.voters.iter().find(votes) {
                    return Err(ChangeRefusal::SeatTaken { holder: *holder });
                }
                next.members.retain(|it, member| membership.is_voter(*it) || member.name != seat);
                next.retired.insert(seat);
            }
            if !membership.is_voter(*id) {
                next.members.remove(id);
                return Ok(next);
            }
            next.voters.remove(id);
            if next.voters.is_empty() {
                return Err(ChangeRefusal::LastVoter);
            }
        }
    }
    next.outgoing.clone_from(&membership.voters);
    Ok(next)
}

/// The membership that ends a joint one: who only voted in the old one leaves.
pub(super) fn completed(joint: &Membership) -> Membership {
    let mut next = joint.clone();
    for id in std::mem::take(&mut next.outgoing) {
        if !next.voters.contains(&id) {
            next.members.remove(&id);
        }
    }
    next
}

/// Whether every quorum of the one surely meets every quorum of the other (S15): the voters are the
/// same, or the step leads into or out of a joint membership.
pub(super) fn overlap(before: &Membership, after: &Membership) -> bool {
    let same = before.voters == after.voters && before.outgoing == after.outgoing;
    let enters = before.outgoing.is_empty() && after.outgoing == before.voters;
    let leaves = after.outgoing.is_empty() && after.voters == before.voters;
    same || enters || leaves
}
