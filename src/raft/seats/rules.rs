//! The rules by which seats are given, over one look at the leader.

use super::super::leader::Leader;
use super::super::quorum;
use super::super::status::PeerStatus;
use super::*;

/// What the policy goes by.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    /// The leader.
    pub(super) id: NodeId,
    pub(super) term: Term,
    pub(super) membership: &'a Membership,
    /// The membership is committed and not joint, and so is an entry of this leadership: what it says
    /// is a fact, and a change may begin (S14, M2).
    pub(super) settled: bool,
    /// The leadership is being handed over.
    pub(super) transfers: bool,
    /// The log's end, and how many entries a learner may lack (M5).
    pub(super) last: Index,
    pub(super) lag: u64,
    pub(super) peers: BTreeMap<NodeId, PeerStatus>,
    /// Who has answered this leader within an election timeout. A new leader counts everybody as heard
    /// before that, and a change of the voters must not rest on it (M8).
    pub(super) answering: BTreeSet<NodeId>,
}

impl<'a> View<'a> {
    pub(super) fn of(node: &'a Node, leader: &Leader) -> View<'a> {
        let common = node.common();
        let membership = common.membership();
        let first = leader.first().max(common.membership_index());
        let peer = |(id, progress): (NodeId, &super::super::progress::Progress)| {
            let active = progress.heard_within(common.election_min());
            (id, PeerStatus { id, matched: progress.matched(), active })
        };
        let limit = common.election_min();
        let answering = leader.peers().filter(|(_, progress)| progress.answers_within(limit));
        View {
            id: common.id,
            term: common.term(),
            membership,
            settled: common.commit() >= first && !membership.is_joint(),
            transfers: leader.transfers_to().is_some(),
            last: common.log.last().index,
            lag: common.options.promote_lag,
            peers: leader.peers().map(peer).collect(),
            answering: answering.map(|(id, _)| id).collect(),
        }
    }

    /// Whether this member was heard within an election timeout; the leader hears itself.
    pub(super) fn heard(&self, id: NodeId) -> bool {
        id == self.id || self.peers.get(&id).is_some_and(|peer| peer.active)
    }

    /// Whether this member has answered this leader within an election timeout; the leader itself does.
    fn answers(&self, id: NodeId) -> bool {
        id == self.id || self.answering.contains(&id)
    }

    /// Whether a learner may vote: heard, and its log nearly complete.
    fn caught_up(&self, id: NodeId) -> bool {
        let reached = |peer: &&PeerStatus| peer.active && peer.matched.0 + self.lag >= self.last.0;
        self.peers.get(&id).filter(reached).is_some()
    }

    /// Who holds a seat: the voter first.
    pub(super) fn holders(&self, name: &str) -> Vec<NodeId> {
        let members = self.membership.members.iter();
        let mut holders: Vec<NodeId> =
            members.filter(|(_, member)| member.name == name).map(|(id, _)| *id).collect();
        holders.sort_by_key(|id| !self.membership.is_voter(*id));
        holders
    }

    pub(super) fn voter_of(&self, name: &str) -> Option<NodeId> {
        self.holders(name).into_iter().find(|id| self.membership.is_voter(*id))
    }

    /// Where a known seat is reached.
    pub(super) fn address_of(&self, name: &str) -> Option<&'a str> {
        let holder = *self.holders(name).first()?;
        self.membership.members.get(&holder).map(|member| member.address.as_str())
    }

    fn seats_held(&self) -> BTreeSet<&'a str> {
        self.membership.members.values().map(|member| member.name.as_str()).collect()
    }

    /// Whether one more seat may hold a member, or this one does.
    pub(super) fn has_room_for(&self, name: &str) -> bool {
        let held = self.seats_held();
        held.contains(name) || held.len() < MEMBERS_MAX
    }

    /// Whether a quorum of the present voters answers, and one of those that there would be.
    fn quorum_with(&self, voters: BTreeSet<NodeId>) -> bool {
        let next = Membership { voters, ..self.membership.clone() };
        quorum::is_quorum(self.membership, |id| self.answers(id))
            && quorum::is_quorum(&next, |id| self.answers(id))
    }
}

impl Seats {
    /// The first change that is wanted and may be proposed now.
    pub(super) fn wanted_change(&self, view: &View<'_>) -> Option<(String, MembershipChange)> {
        if !view.settled {
            return None;
        }
        let mut names = view.seats_held();
        names.extend(self.seats.keys().map(String::as_str));
        names.into_iter().find_map(|name| {
            if self.seats.get(name).is_some_and(|seat| seat.again > self.now) {
                return None;
            }
            let change =
                self.change_of_learner(name, view).or_else(|| self.taking_in(name, view))?;
            Some((name.to_owned(), change))
        })
    }

    /// What becomes of the learner of a seat, if there is one.
    fn change_of_learner(&self, name: &str, view: &View<'_>) -> Option<MembershipChange> {
        let learner = view.holders(name).into_iter().find(|id| !view.membership.is_voter(*id))?;
        match view.voter_of(name) {
            Some(voter) if view.heard(voter) => {
                (!view.heard(learner)).then_some(MembershipChange::Remove { id: learner })
            }
            Some(voter) => {
                let mut voters = view.membership.voters.clone();
                voters.remove(&voter);
                voters.insert(learner);
                (view.caught_up(learner) && view.quorum_with(voters))
                    .then_some(MembershipChange::Replace { old: voter, new: learner })
            }
            None => {
                let mut voters = view.membership.voters.iter();
                (view.caught_up(learner) && voters.all(|id| view.answers(*id)))
                    .then_some(MembershipChange::Promote { id: learner })
            }
        }
    }

    /// The next step towards taking in the node that asks for a seat, if nothing is in its way.
    fn taking_in(&self, name: &str, view: &View<'_>) -> Option<MembershipChange> {
        let asker = self.seats.get(name)?.asker.as_ref().filter(|asker| !asker.removed)?;
        if view.membership.contains(asker.id) || self.obstacle(name, asker.id, view).is_some() {
            return None;
        }
        let holders = view.holders(name);
        if let Some(learner) = holders.iter().find(|id| !view.membership.is_voter(**id)) {
            return Some(MembershipChange::Remove { id: *learner });
        }
        let address = view.address_of(name).unwrap_or(&asker.address).to_owned();
        Some(MembershipChange::AddLearner {
            id: asker.id,
            member: Member { name: name.to_owned(), address },
            instead_of: holders.first().copied(),
        })
    }

    /// Why a seat is not given to anybody at the moment; in one sentence.
    pub(super) fn closed(&self, name: &str, view: &View<'_>) -> Option<String> {
        let nothing = Seat::default();
        let seat = self.seats.get(name).unwrap_or(&nothing);
        let counted = self.now - seat.retired.unwrap_or(self.now);
        if view.membership.retired.contains(name)
            && !seat.wanted
            && counted < self.options.retirement_ticks
        {
            return Some(format!(
                "{name} was removed by an admin and is retired: it is taken in again by `cltraft member \
                 add {name} HOST:PORT`, or by itself when its retirement is over"
            ));
        }
        let holders = view.holders(name);
        if holders.contains(&view.id) {
            return Some(format!(
                "{name} leads: its node {} is alive, and a second process runs under its name",
                view.id
            ));
        }
        if let Some(alive) = holders.iter().find(|holder| view.heard(**holder)) {
            return Some(format!(
                "{name} is held by node {alive}, which still answers; if this lasts, two processes run \
                 under one name: stop one of them"
            ));
        }
        if !view.has_room_for(name) {
            return Some(format!("the cluster has {MEMBERS_MAX} seats, and takes no more"));
        }
        if seat.taken.is_some() && !seat.wanted {
            return Some(format!(
                "{name} changed hands only a moment ago; a seat is given at most once in a while \
                 (--seat-limit of the leader)"
            ));
        }
        None
    }

    /// Why a node that is no member cannot have a seat yet; in one sentence.
    pub(super) fn obstacle(&self, name: &str, id: NodeId, view: &View<'_>) -> Option<String> {
        let nothing = Seat::default();
        let seat = self.seats.get(name).unwrap_or(&nothing);
        if let Some(why) = self.closed(name, view) {
            return Some(why);
        }
        let address = view.address_of(name).or(seat.asker.as_ref().map(|it| it.address.as_str()));
        let address = address.unwrap_or("its address");
        match seat.answer.filter(|(_, at)| self.now - at < ANSWER_TICKS) {
            None => Some(format!("asking at {address} who is there as {name}")),
            Some((None, _)) => Some(format!(
                "nobody answers at {address} as {name}, where the cluster looks for it"
            )),
            Some((Some(there), _)) if there != id => Some(format!(
                "node {there} answers at {address} as {name}, not node {id}: two processes run under \
                 one name; stop one of them"
            )),
            Some(_) => None,
        }
    }

    /// Remembers who asks for a seat. Of two, the one that is at the seat's address is heard.
    pub(super) fn listen(&mut self, name: &str, asker: Asker) {
        let now = self.now;
        let seat = self.seats.entry(name.to_owned()).or_default();
        let there = seat.answer.filter(|(_, at)| now - at < ANSWER_TICKS).and_then(|(id, _)| id);
        let other = seat.asker.as_ref().filter(|it| it.id != asker.id && Some(it.id) == there);
        if other.is_none() {
            seat.asker = Some(asker);
        }
    }

    /// Keeps track of learners that are not heard, of those that wait for a voter which is not, and of seats with two
    /// living nodes.
    pub(super) fn notice_silence(&mut self, view: &View<'_>) {
        let now = self.now;
        let learners =
            view.membership.members.iter().filter(|(id, _)| !view.membership.is_voter(**id));
        let mut silent = BTreeMap::new();
        for (id, member) in learners {
            let voter = view.voter_of(&member.name);
            let doubled = voter.is_some_and(|voter| view.heard(voter)) && view.heard(*id);
            let lost = view.membership.voters.iter().find(|voter| !view.answers(**voter));
            let waits_for = lost.filter(|_| voter.is_none() && view.caught_up(*id));
            if view.heard(*id) && !doubled && waits_for.is_none() {
                continue;
            }
            let begun = Silence { since: now, said: None };
            let mut silence = self.silent.get(id).copied().unwrap_or(begun);
            if now - silence.said.unwrap_or(silence.since) >= REPORT_TICKS {
                silence.said = Some(now);
                self.reports.push(if doubled {
                    format!(
                        "two nodes of {} are running, a voter and the learner {id}: stop one",
                        member.name
                    )
                } else if let Some(lost) = waits_for.and_then(|id| view.membership.members.get(id)) {
                    format!(
                        "the learner {} gets its vote when every voter answers, and {} does not: bring that back, \
                         or remove it with `cltraft member remove {}`",
                        member.name, lost.name, lost.name
                    )
                } else {
                    format!(
                        "the learner {} (node {id}) at {} has not been heard for long; remove it with \
                         `cltraft member remove {}` if it will not come back",
                        member.name, member.address, member.name
                    )
                });
            }
            silent.insert(*id, silence);
        }
        self.silent = silent;
    }
}
