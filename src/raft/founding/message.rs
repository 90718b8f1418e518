//! What nodes say to each other while a cluster is founded, and afterwards to a node that missed it.
//!
//! `Boot.Ask` carries [`Ask`] and is answered with [`Answer`]; `Boot.Deliver` carries a [`Letter`] and
//! is answered with [`Delivered`]. Any of them may be lost, repeated or late; none is believed for more
//! than it says.

use serde::{Deserialize, Serialize};

use super::super::types::{Boot, ClusterId, NodeId};
use super::record::{Draft, Seed};

/// Who speaks. The receiver's connection has proved the name (its certificate's seat); the node id is
/// the speaker's word, which nobody else under that name can misuse, as nobody else draws it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sender {
    /// The seat.
    pub name: String,
    /// The node that sits there.
    pub node_id: NodeId,
}

/// Arguments of `Boot.Ask`: who are you, and do you have a cluster?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Who asks.
    pub from: Sender,
}

/// Reply of `Boot.Ask`. It tells only what is on the answerer's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The answerer's seat.
    pub name: String,
    /// The answerer.
    pub node_id: NodeId,
    /// Its boot counter.
    #[serde(default)]
    pub boot: Boot,
    /// Where it wants to be reached once it is a member, `HOST:PORT`.
    pub address: String,
    /// Its seed list.
    pub seeds: Vec<Seed>,
    /// Its cluster, if it has learned the decision that founded it or was taken in.
    #[serde(default)]
    pub cluster_id: Option<ClusterId>,
    /// The draft it holds undecided, for people to read.
    #[serde(default)]
    pub holds: Option<ClusterId>,
}

/// Arguments of `Boot.Deliver`: a message from one node to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Who says it.
    pub from: Sender,
    /// For which node id; another node in the same seat drops it.
    pub to: NodeId,
    /// What is said.
    pub message: Message,
}

/// Reply of `Boot.Deliver`: a letter back, if there is anything to say. The caller feeds it to
/// [`Founding::received`](super::Founding::received) like any other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The letter back.
    #[serde(default)]
    pub letter: Option<Letter>,
}

/// What is said. Each statement is on the speaker's disk before it leaves (S17).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The drafter to a listed node: accept this record. Answered by `Accept`, `Refuse` or `Decided`.
    Draft(Draft),
    /// I hold this draft and shall not accept another before I have let it go.
    Accept {
        /// Which draft.
        draft: ClusterId,
    },
    /// I do not hold this draft.
    Refuse {
        /// Which draft.
        draft: ClusterId,
        /// True: and I shall never accept it. False: not now; ask again.
        for_good: bool,
        /// Why, for people.
        why: String,
    },
    /// The drafter: I do not hold this draft (any more) and shall never decide it.
    Withdraw {
        /// Which draft.
        draft: ClusterId,
    },
    /// All listed nodes accepted this record and its drafter decided it.
    Decided(Draft),
    /// A holder to another listed node: what do you know of this draft? Answered by `Decided`,
    /// `Withdraw` (the drafter only), `Refuse` for good, or nothing.
    Inquire {
        /// Which draft.
        draft: ClusterId,
        /// Who drafted it.
        drafter: NodeId,
        /// The drafter's seat has answered with another node id: if you do not hold the draft, refuse
        /// it for good, so that it can be let go.
        gone: bool,
    },
}

/// What a node that has a cluster answers to a founding message: the decision, if the message is about
/// the record its cluster was founded from (a listed node may have missed it), else that it will never
/// accept. `founded_from` is none for a node that was taken in. True for as long as the cluster id is
/// on disk, so nothing has to be written for it.
#[must_use]
pub fn member_reply(
    me: NodeId,
    cluster_id: ClusterId,
    founded_from: Option<&Draft>,
    message: &Message,
) -> Option<Message> {
    let (draft, drafter) = match message {
        Message::Draft(draft) => (draft.cluster_id, draft.drafter),
        Message::Inquire { draft, drafter, .. } => (*draft, *drafter),
        Message::Accept { .. }
        | Message::Refuse { .. }
        | Message::Withdraw { .. }
        | Message::Decided(_) => return None,
    };
    Some(match founded_from {
        Some(record) if record.cluster_id == draft => Message::Decided(record.clone()),
        _ if drafter == me => Message::Withdraw { draft },
        _ => Message::Refuse {
            draft,
            for_good: true,
            why: format!("this node belongs to cluster {cluster_id}"),
        },
    })
}
