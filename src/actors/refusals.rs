//! Why the members or the leader do not change: the core's reasons, in words for a person.

use std::collections::BTreeSet;

use crate::codec::api::{Code, Refusal};
use crate::raft::{ChangeRefusal, Membership, NodeId, TransferRefusal};

/// The refusal of a node that has as much work as it may take on.
#[must_use]
pub fn busy() -> Refusal {
    Refusal::new(Code::Busy, "the node has as much work as it may take on; try again")
}

/// No member sits in a seat that was named.
#[must_use]
pub fn unknown_seat(name: &str, membership: &Membership) -> Refusal {
    let names: BTreeSet<&str> =
        membership.members.values().map(|member| member.name.as_str()).collect();
    let known = names.into_iter().collect::<Vec<_>>().join(", ");
    Refusal::new(Code::Conflict, format!("no member sits in {name}; the seats are {known}"))
}

/// Why a change of the members was refused; none: another node leads. `name` is the seat that it is about.
#[must_use]
pub fn of_change(why: ChangeRefusal, name: &str, membership: &Membership) -> Option<Refusal> {
    let code = match why {
        ChangeRefusal::NotLeader { .. } => return None,
        ChangeRefusal::NotReady | ChangeRefusal::Transferring { .. } => Code::Busy,
        ChangeRefusal::UnderWay { .. } => Code::UnderWay,
        _ => Code::Conflict,
    };
    let message = match why {
        ChangeRefusal::NotLeader { .. } | ChangeRefusal::NotReady => {
            "the leader is new and not ready yet; try again".to_owned()
        }
        ChangeRefusal::UnderWay { .. } => {
            "another change of the members is under way; try again when it is finished".to_owned()
        }
        ChangeRefusal::Transferring { to } => {
            format!("the leadership is being handed over to {}; try again", seat_of(to, membership))
        }
        ChangeRefusal::Unknown { id } => format!("node {id} is no member"),
        ChangeRefusal::AlreadyMember => format!("the node at {name} is a member already"),
        ChangeRefusal::AlreadyVoter => format!("{name} votes already"),
        ChangeRefusal::NotVoter { .. } => format!("{name} does not vote; remove it instead"),
        ChangeRefusal::SeatTaken { holder } => {
            format!("node {holder} holds the seat {name}; remove it first")
        }
        ChangeRefusal::OtherSeat => format!("the two nodes are not both of {name}"),
        ChangeRefusal::LastVoter => {
            format!("{name} is the last voter; without it there would be no cluster")
        }
        ChangeRefusal::Behind { matched, last } => format!(
            "{name} holds the log up to {matched} of {last}, which is too little to vote; it is promoted by \
             itself when it has caught up"
        ),
        ChangeRefusal::Silent => format!(
            "{name} has not been heard lately, so it cannot vote; see to it that it runs and is reached"
        ),
        ChangeRefusal::NoQuorum => {
            "of the voters that there would be no quorum answers; bring back those \
                                    that are down first"
                .to_owned()
        }
    };
    Some(Refusal::new(code, message))
}

fn seat_of(id: NodeId, membership: &Membership) -> String {
    match membership.members.get(&id) {
        Some(member) => member.name.clone(),
        None => format!("node {id}"),
    }
}

/// Why the leadership is not handed over; none: another node leads.
#[must_use]
pub fn of_transfer(why: TransferRefusal, name: &str, membership: &Membership) -> Option<Refusal> {
    Some(match why {
        TransferRefusal::NotLeader { .. } => return None,
        TransferRefusal::ToItself => Refusal::new(Code::Conflict, format!("{name} leads already")),
        TransferRefusal::Unknown => unknown_seat(name, membership),
        TransferRefusal::NotVoter => {
            Refusal::new(Code::Conflict, format!("{name} does not vote, so it cannot lead"))
        }
        TransferRefusal::UnderWay { to } => Refusal::new(
            Code::UnderWay,
            format!("the leadership is being handed over to {} already", seat_of(to, membership)),
        ),
    })
}
