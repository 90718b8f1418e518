//! What an operator wants, by the names of seats, and the change it stands for.

use super::*;

/// A wish of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Take this node in as a learner, retired or not.
    Add {
        /// The seat.
        name: String,
        /// The node that answers at the address, with an empty directory.
        id: NodeId,
        /// Where it was reached, `HOST:PORT`.
        address: String,
    },
    /// Let the seat's learner vote now.
    Promote {
        /// The seat.
        name: String,
    },
    /// Remove the seat's members and retire it.
    Remove {
        /// The seat.
        name: String,
    },
}

impl Wish {
    /// The seat that it is about.
    #[must_use]
    pub fn seat(&self) -> &str {
        match self {
            Wish::Add { name, .. } | Wish::Promote { name } | Wish::Remove { name } => name,
        }
    }
}

/// Why a wish stands for no change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishRefusal {
    /// No member sits there.
    #[error("no member sits in {name}; the seats are {known}")]
    UnknownSeat {
        /// What was asked for.
        name: String,
        /// The seats that there are.
        known: String,
    },
    /// Another node holds the seat and is heard.
    #[error("{name} is held by node {holder}, which answers; remove it first if it is to go")]
    Held {
        /// The seat.
        name: String,
        /// Who holds it.
        holder: NodeId,
    },
    /// The seat's node votes already.
    #[error("{name} votes already")]
    VotesAlready {
        /// The seat.
        name: String,
    },
    /// There is no room for another seat.
    #[error("the cluster has {MEMBERS_MAX} seats, and takes no more; remove one first")]
    Full,
}

impl Seats {
    /// The change that a wish stands for among these members; whether it may begin is for the core to
    /// say. None: what is wanted is so already. `heard` tells which members were heard lately.
    ///
    /// # Errors
    /// [`WishRefusal`].
    pub fn change_for(
        wish: &Wish,
        membership: &Membership,
        heard: impl Fn(NodeId) -> bool,
    ) -> Result<Option<MembershipChange>, WishRefusal> {
        let at = |seat: &str| -> Vec<NodeId> {
            let members = membership.members.iter();
            members.filter(|(_, member)| member.name == seat).map(|(id, _)| *id).collect()
        };
        let known = |seat: &str| match at(seat) {
            holders if holders.is_empty() => {
                let names: BTreeSet<&str> =
                    membership.members.values().map(|member| member.name.as_str()).collect();
                let known = names.into_iter().collect::<Vec<_>>().join(", ");
                Err(WishRefusal::UnknownSeat { name: seat.to_owned(), known })
            }
            holders => Ok(holders),
        };
        let is_voter = |id: &NodeId| membership.is_voter(*id);
        match wish {
            Wish::Add { id, .. } if membership.contains(*id) => Ok(None),
            Wish::Add { name, id, address } => {
                let holders = at(name);
                if let Some(holder) = holders.iter().find(|id| heard(**id)) {
                    return Err(WishRefusal::Held { name: name.clone(), holder: *holder });
                }
                let held: BTreeSet<&str> =
                    membership.members.values().map(|member| member.name.as_str()).collect();
                if holders.is_empty() && held.len() >= MEMBERS_MAX {
                    return Err(WishRefusal::Full);
                }
                // A learner that nobody hears goes first; the caller comes back with the same wish.
                if let Some(learner) = holders.iter().find(|id| !is_voter(id))
                    && holders.len() > 1
                {
                    return Ok(Some(MembershipChange::Remove { id: *learner }));
                }
                let member = Member { name: name.clone(), address: address.clone() };
                let instead_of = holders.first().copied();
                Ok(Some(MembershipChange::AddLearner { id: *id, member, instead_of }))
            }
            Wish::Promote { name } => {
                let holders = known(name)?;
                let voter = holders.iter().find(|id| is_voter(id)).copied();
                let Some(learner) = holders.iter().find(|id| !is_voter(id)).copied() else {
                    return Err(WishRefusal::VotesAlready { name: name.clone() });
                };
                Ok(Some(match voter {
                    Some(old) => MembershipChange::Replace { old, new: learner },
                    None => MembershipChange::Promote { id: learner },
                }))
            }
            Wish::Remove { name } => {
                let holders = known(name)?;
                let first = holders.iter().find(|id| is_voter(id)).or(holders.first());
                Ok(first.map(|id| MembershipChange::Retire { id: *id }))
            }
        }
    }
}
