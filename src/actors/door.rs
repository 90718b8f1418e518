//! Who is let in: judges hellos against what this node is and what it has seen of the caller. Of two
//! processes under one node id only the newer one is let in (correctness K3, K4); a directory that went
//! back in time is told so, and a leader tells a node that it is no member any more (design section 5).
//!
//! What when full? Of node ids that are no members [`STRANGERS_MAX`] are remembered, the oldest
//! forgotten; members are always remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::codec::api::{Code, Refusal};
use crate::identity::{Identity, Role};
use crate::raft::{Boot, NodeId, Seen};
use crate::rpc::{CloseCode, Hello, Peer};

use super::standing::{Present, Standing};

/// Node ids that are no members and whose boot counters are remembered.
const STRANGERS_MAX: usize = 256;

/// See the module.
pub struct Door {
    standing: Arc<Standing>,
    guests: Mutex<Guests>,
}

#[derive(Default)]
struct Guests {
    known: HashMap<NodeId, Guest>,
    strangers: VecDeque<NodeId>,
}

/// One node id that has been here.
#[derive(Default)]
struct Guest {
    /// The newest boot counter it came with.
    boot: Boot,
    /// Its connections that are up.
    connections: Vec<Arc<Peer>>,
}

impl Door {
    /// A door that has let nobody in yet.
    #[must_use]
    pub fn new(standing: Arc<Standing>) -> Door {
        Door { standing, guests: Mutex::default() }
    }

    /// Whether a connection with this certificate and this hello is taken.
    ///
    /// # Errors
    /// A refusal that says why it is not.
    pub fn judge(&self, peer: &Identity, hello: &Hello) -> Result<(), Refusal> {
        let present = self.standing.present();
        self.judge_receiver(hello, &present)?;
        if peer.role() == Role::Node
            && let Some(id) = hello.node_id
        {
            judge_seat(peer, id, &present)?;
            self.judge_past(hello, id, &present)?;
            self.judge_member(hello, id, &present)?;
        }
        Ok(())
    }

    /// Whether the caller looks for this cluster and this node.
    fn judge_receiver(&self, hello: &Hello, present: &Present) -> Result<(), Refusal> {
        let own = &self.standing.own;
        if let (Some(theirs), Some(ours)) = (hello.cluster_id, present.cluster_id)
            && theirs != ours
        {
            return wrong(format!(
                "{} is in cluster {theirs}, {} in cluster {ours}; one of the data directories \
                 belongs elsewhere",
                hello.name, own.name
            ));
        }
        let Some(receiver) = hello.receiver else { return Ok(()) };
        if receiver != own.node_id {
            return wrong(format!("{} is node {}, not node {receiver}", own.name, own.node_id));
        }
        if present.cluster_id.is_none() {
            // Taken now, the connection could never carry Raft.*: its hello is judged once.
            let message = format!("{} has not joined a cluster yet", own.name);
            return Err(Refusal::new(Code::Unavailable, message));
        }
        Ok(())
    }

    /// Whether the caller's directory is what it was when it was last seen, and no newer process of this
    /// node has been here (K4). An older one is shown out.
    fn judge_past(&self, hello: &Hello, id: NodeId, present: &Present) -> Result<(), Refusal> {
        let claims = claims(hello);
        let mut guests = self.guests();
        guests.make_room(id, present);
        let guest = guests.known.entry(id).or_default();
        let here = Seen { boot: guest.boot, ..Seen::default() };
        let seen = self.standing.seen().get(&id).copied().unwrap_or_default();
        if let Some(back) = here.contradicts(claims).or_else(|| seen.contradicts(claims)) {
            let message = back.sentence(&hello.name, id);
            let seen = Some(Box::new(seen.max(here)));
            return Err(Refusal { seen, ..Refusal::new(Code::WentBack, message) });
        }
        if hello.boot > guest.boot {
            guest.boot = hello.boot;
            for older in guest.connections.drain(..) {
                let message = format!("a newer process of node {id} is here");
                older.close(CloseCode::Violation, message);
            }
        }
        Ok(())
    }

    /// Whether the caller, if it wants to speak as a member, is one: whoever leads knows. A leader that
    /// was deposed may be wrong, so that the caller takes it for a hint.
    fn judge_member(&self, hello: &Hello, id: NodeId, present: &Present) -> Result<(), Refusal> {
        if present.leads() && hello.receiver.is_some() && !present.membership.contains(id) {
            let message = format!(
                "{} leads the cluster, and node {id} ({}) is not in it any more",
                self.standing.own.name, hello.name
            );
            return Err(Refusal::new(Code::Removed, message));
        }
        Ok(())
    }

    /// A connection is up.
    pub fn opened(&self, peer: &Arc<Peer>) {
        let Some(id) = node_of(peer) else { return };
        let mut guests = self.guests();
        let guest = guests.known.entry(id).or_default();
        if peer.hello.boot < guest.boot {
            // A newer process came between this one's hello and now.
            peer.close(CloseCode::Violation, "a newer process of this node is here");
        } else {
            guest.connections.push(Arc::clone(peer));
        }
    }

    /// A connection has ended.
    pub fn closed(&self, peer: &Arc<Peer>) {
        let Some(id) = node_of(peer) else { return };
        if let Some(guest) = self.guests().known.get_mut(&id) {
            guest.connections.retain(|other| other.connection != peer.connection);
        }
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    /// Remembers one more stranger, and forgets the oldest if there are too many.
    fn make_room(&mut self, id: NodeId, present: &Present) {
        if self.known.contains_key(&id) || present.membership.contains(id) {
            return;
        }
        self.strangers.push_back(id);
        if self.strangers.len() > STRANGERS_MAX
            && let Some(oldest) = self.strangers.pop_front()
            && !present.membership.contains(oldest)
        {
            self.known.remove(&oldest);
        }
    }
}

/// A node id that is a member's speaks only from that member's seat: the certificate says which seat
/// it is, the hello only claims an id (design: identity and authority).
fn judge_seat(peer: &Identity, id: NodeId, present: &Present) -> Result<(), Refusal> {
    match present.membership.members.get(&id) {
        Some(member) if member.name != peer.name() => {
            wrong(format!("node {id} sits in {}, not in {}", member.name, peer.name()))
        }
        _ => Ok(()),
    }
}

/// What a hello says of its node's past.
#[must_use]
pub fn claims(hello: &Hello) -> Seen {
    Seen { boot: hello.boot, term: hello.term, acknowledged: hello.acknowledged }
}

fn node_of(peer: &Peer) -> Option<NodeId> {
    (peer.identity.role() == Role::Node).then_some(peer.hello.node_id).flatten()
}

fn wrong(message: String) -> Result<(), Refusal> {
    Err(Refusal::new(Code::WrongPeer, message))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::standing::Own;
    use super::*;
    use crate::kv;
    use crate::raft::{ClusterId, Index, Member, Membership, RoleKind, SoftState, Term};
    use crate::rpc::ConnectionId;

    fn seat(name: &str) -> Identity {
        format!("balsa://test/node/{name}").parse().unwrap()
    }

    /// A door of raft-0, a member beside raft-1 whose node id is 1.
    fn door() -> Door {
        let own = Own { name: "raft-0".to_owned(), node_id: NodeId(9), boot: Boot(1) };
        let standing = Standing::new(own, kv::Store::new().view(), 0);
        let member = Member { name: "raft-1".to_owned(), address: "h:1".to_owned() };
        let membership = Membership::of_voters(BTreeMap::from([(NodeId(1), member)]));
        let present = Present::clone(&standing.present());
        standing.publish(Present {
            cluster_id: Some(ClusterId(7)),
            membership: Arc::new(membership),
            waiting: None,
            ..present
        });
        Door::new(standing)
    }

    fn hello(name: &str, id: u64, boot: u64) -> Hello {
        let node_id = Some(NodeId(id));
        Hello { node_id, boot: Boot(boot), ..Hello::client(&seat(name)) }
    }

    #[test]
    fn a_members_node_id_speaks_only_from_its_own_seat() {
        let door = door();
        assert!(door.judge(&seat("raft-1"), &hello("raft-1", 1, 1)).is_ok());
        let refusal = door.judge(&seat("raft-2"), &hello("raft-2", 1, u64::MAX)).unwrap_err();
        assert_eq!(refusal.code, Code::WrongPeer);
        assert!(refusal.message.contains("sits in raft-1"), "{}", refusal.message);
        // And it has not spoilt the boot counter of the one it claimed to be.
        assert!(door.judge(&seat("raft-1"), &hello("raft-1", 1, 2)).is_ok());
    }

    #[test]
    fn of_two_processes_under_one_node_id_the_newer_one_stays() {
        let door = door();
        let old = hello("raft-1", 1, 1);
        assert!(door.judge(&seat("raft-1"), &old).is_ok());
        let peer = Arc::new(Peer::detached(seat("raft-1"), old.clone(), ConnectionId(1)));
        door.opened(&peer);
        assert_eq!(Arc::strong_count(&peer), 2);
        assert!(door.judge(&seat("raft-1"), &hello("raft-1", 1, 2)).is_ok());
        assert_eq!(Arc::strong_count(&peer), 1, "the older process was shown out");
        let refusal = door.judge(&seat("raft-1"), &old).unwrap_err();
        assert_eq!(refusal.code, Code::WentBack);
        assert!(refusal.message.contains("its boot was 2 and is 1 now"), "{}", refusal.message);
    }

    fn seen(door: &Door, id: u64, boot: Boot, term: u64, acknowledged: u64) {
        let seen = Seen { boot, term: Term(term), acknowledged: Index(acknowledged) };
        door.standing.publish_seen(Arc::new(BTreeMap::from([(NodeId(id), seen)])));
    }

    fn claiming(boot: Boot, term: u64, acknowledged: u64) -> Hello {
        let (term, acknowledged) = (Term(term), Index(acknowledged));
        Hello { term, acknowledged, ..hello("raft-1", 1, boot.0) }
    }

    #[test]
    fn a_directory_that_went_back_is_told_by_each_of_its_numbers() {
        let life = Boot(0).next(5).next(5);
        for (claims, part) in [
            (claiming(Boot(0).next(9), 3, 90), "its boot was"),
            (claiming(Boot(0).next(5).next(6), 3, 90), "its boot was"),
            (claiming(life.next(1), 2, 90), "its term was 3 and is 2 now"),
            (claiming(life.next(1), 3, 89), "acknowledged index was 90 and is 89 now"),
        ] {
            let door = door();
            seen(&door, 1, life, 3, 90);
            let refusal = door.judge(&seat("raft-1"), &claims).unwrap_err();
            assert_eq!(refusal.code, Code::WentBack);
            assert!(refusal.message.contains(part), "{}", refusal.message);
            // The refused one is not remembered: the directory as it should be is let in.
            assert!(door.judge(&seat("raft-1"), &claiming(life.next(1), 3, 90)).is_ok());
        }
    }

    #[test]
    fn a_sound_node_is_never_accused() {
        let life = Boot(0).next(5);
        let door = door();
        seen(&door, 1, life, 3, 90);
        // Its hello was on the way while newer words of the same life came here through others.
        assert!(door.judge(&seat("raft-1"), &claiming(life, 2, 50)).is_ok());
        // Two restarts in quick succession, of which this node saw only the second one.
        assert!(door.judge(&seat("raft-1"), &claiming(life.next(1).next(1), 3, 90)).is_ok());
        // Nothing was ever seen of it.
        assert!(door.judge(&seat("raft-2"), &hello("raft-2", 5, 1)).is_ok());
    }

    #[test]
    fn a_leader_tells_who_is_no_member_and_nobody_else_does() {
        let door = door();
        let stranger = Hello {
            receiver: Some(NodeId(9)),
            cluster_id: Some(ClusterId(7)),
            ..hello("raft-2", 2, 1)
        };
        assert!(door.judge(&seat("raft-2"), &stranger).is_ok(), "a follower may not know it yet");
        let present = Present::clone(&door.standing.present());
        let role = RoleKind::Leader;
        let soft_state = SoftState { role, term: Term(2), leader: Some(NodeId(9)) };
        door.standing.publish(Present { soft_state, ..present });
        let refusal = door.judge(&seat("raft-2"), &stranger).unwrap_err();
        assert_eq!(refusal.code, Code::Removed);
        let asking = Hello { receiver: None, ..stranger };
        assert!(door.judge(&seat("raft-2"), &asking).is_ok(), "it may ask to be taken in");
        let member = Hello { receiver: Some(NodeId(9)), ..hello("raft-1", 1, 1) };
        assert!(door.judge(&seat("raft-1"), &member).is_ok());
    }

    #[test]
    fn strangers_are_forgotten_and_members_are_not() {
        let door = door();
        assert!(door.judge(&seat("raft-1"), &hello("raft-1", 1, 5)).is_ok());
        for id in 100..100 + 2 * STRANGERS_MAX as u64 {
            assert!(door.judge(&seat("raft-2"), &hello("raft-2", id, 1)).is_ok());
        }
        assert!(door.guests().known.len() <= STRANGERS_MAX + 1);
        assert!(door.judge(&seat("raft-1"), &hello("raft-1", 1, 4)).is_err());
    }
}
