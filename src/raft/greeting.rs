//! Who has judged this node since it started.
//!
//! A directory can be an older copy of itself: a volume put back from a backup. It has forgotten votes it
//! gave and entries it acknowledged, and cannot know that; but others remember (`seen.rs`). So after a start
//! no vote is given before a quorum has said what it remembers of this node, and it is no more than the
//! directory holds. There are two ways to that.
//!
//! * **By the question.** Everybody who answers a pre-vote says what it remembers of each member. Having
//!   won it, the candidate has the words of a quorum of *its own* membership, and each of its requests
//!   for votes brings the receiver those about the receiver ([`Vote::remembered`]). The receiver compares
//!   them with what it claims at that moment. So does the candidate with what is said of itself. A voter
//!   that has not been judged yet gives its vote only if it is the very process that has answered this
//!   candidate's question ([`Vote::answered`]), and that the candidate knew to run before it asked, by a
//!   hello or an answer of before: what others said at that time they said after it had started, hence
//!   after all that it may have forgotten. A question that is repeated or late, across a start, proves
//!   nothing.
//! * **By hellos.** A hello says how far its sender's directory goes, and a peer that remembers more
//!   refuses it. Peers that make a quorum with this node, of the membership it knows, have accepted its
//!   hello. This is for campaigns without a question: a leader hands over to this node, or to another
//!   that asks it.
//!
//! The question itself is asked and answered by anybody: it changes nothing. A refusal here changes
//! nothing either: the term of a vote request is not taken over. Following, acknowledging and learning
//! are not held back. Once open, the gate stays open as long as the process lives: the directory does not
//! grow older under a running process (a machine that is resumed from an image of its memory is found out
//! by what requests bring). What a request brings is compared all the same. A node that knows no
//! membership gives no vote: it was never a voter, since a learner is promoted only when it holds the log
//! (M5), or it has forgotten that it was one.
//!
//! # Why the candidate's membership
//!
//! Voters 1, 2, 3 are exchanged for 1, 4, 5 while 1 sleeps, then 5 dies, and 1 starts. 4 needs its vote.
//! The members that 1 knows are gone; nobody whom it could dial will ever accept a hello. Nor would 2's
//! word be worth anything: what 1 may have forgotten was said among 1, 4 and 5. A vote counts in the
//! membership of the candidate that asks for it, and in no other; whom it must not betray are the quorums
//! of that membership and, in a change, of the one beside it, which is what a joint candidate counts. So
//! its judges are a quorum there, whatever the voter itself knows, and however old its own log is: a
//! learner that was promoted without knowing it is judged like any other (M5, etcd 10998). The candidate
//! is the one who knows its membership, and reaches whom it needs to win anyway, so that the gate never
//! waits for anybody else.
//!
//! # How much that is
//!
//! Of `n` voters, `m = n / 2 + 1` make a quorum. A deed of this node (a vote, an acknowledgement) mattered
//! together with `m - 1` others, and the election for which its vote is wanted needs `m - 1` others, too. Two
//! quorums always meet, but perhaps in this node alone: of the `n - 1` others there is room for both, if `n`
//! is odd, since `2 (m - 1) = n - 1`. (If it is even they meet in another one as well.) So a quorum's words
//! cannot always contain the decisive ones, and more than a quorum's must not be asked for, or one voter that
//! is away would block the restart of another. What holds is:
//!
//! * An old directory is found out in every election in which anybody who was asked before and remembers
//!   takes part. If fewer than `m - 1` of the other voters do not remember, that is every election: of
//!   three, if both others remember; of five, if three of four do.
//! * A leader hears everything first, and its regular heartbeats spread it, so that after one
//!   heartbeat everybody who follows it remembers. What is left is a directory that goes back *and* a
//!   leader's company that is away: two losses where three voters bear one. 1 acknowledges to 5, which
//!   dies before 4 has heard a heartbeat; 1's directory is put back; 4 asks 1. To both this looks
//!   exactly as if 1 had slept, and then it must vote. What nobody there remembers cannot be recognised.
//! * A vote given in the very term in which the copy was made leaves no trace in the three numbers that
//!   are remembered. Therefore a process gives no vote in the term that it found on its disk, unless the
//!   vote was found there too: it counts as spent. The next campaign has a term of its own.
//!
//! [`Vote::remembered`]: super::message::Vote::remembered
//! [`Vote::answered`]: super::message::Vote::answered

use std::collections::BTreeSet;

use super::membership::Membership;
use super::quorum;
use super::types::{NodeId, Term};

/// Invariant: once `open`, always open, unless it `went_back`; once that, always that.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting {
    /// Peers that accepted this process's hello.
    greeted: BTreeSet<NodeId>,
    open: bool,
    went_back: bool,
    /// The term that this process found on its disk.
    began_in: Term,
}

impl Greeting {
    /// Nobody has judged a process that begins in this term.
    pub(super) fn new(began_in: Term) -> Greeting {
        Greeting { began_in, ..Greeting::default() }
    }

    /// A peer has accepted this process's hello.
    pub(super) fn greeted(&mut self, peer: NodeId) {
        if !self.open {
            self.greeted.insert(peer);
        }
    }

    /// A candidate's quorum has said what it remembers of this node, and it is no more than this process
    /// claims.
    pub(super) fn judged(&mut self) {
        self.open = true;
        self.greeted.clear();
    }

    /// Somebody remembers more than this directory holds.
    pub(super) fn went_back(&mut self) {
        self.went_back = true;
    }

    /// Whether somebody does.
    pub(super) fn has_gone_back(&self) -> bool {
        self.went_back
    }

    /// Whether a vote may be given, and asked for without a question before.
    pub(super) fn is_open(&self) -> bool {
        self.open && !self.went_back
    }

    /// The term in which a vote that is not on this disk may have been given all the same.
    pub(super) fn began_in(&self) -> Term {
        self.began_in
    }

    /// Looks again, the greeted peers or the membership being others than before.
    pub(super) fn judge(&mut self, own: NodeId, membership: &Membership) {
        let here = |id| id == own || self.greeted.contains(&id);
        if !self.open && quorum::is_quorum(membership, here) {
            self.judged();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// Node 1 among these voters, greeted by these peers.
    fn opens(voters: &[u64], outgoing: &[u64], greeted: &[u64]) -> bool {
        let (voters, outgoing) = (ids(voters), ids(outgoing));
        let membership = Membership { voters, outgoing, ..Membership::default() };
        let mut greeting = Greeting::default();
        greeted.iter().for_each(|id| greeting.greeted(NodeId(*id)));
        greeting.judge(NodeId(1), &membership);
        greeting.is_open()
    }

    #[test]
    fn a_majority_with_oneself() {
        assert!(opens(&[1], &[], &[]), "a single voter needs nobody");
        assert!(!opens(&[1, 2], &[], &[]));
        assert!(opens(&[1, 2], &[], &[2]));
        assert!(opens(&[1, 2, 3], &[], &[3]));
        assert!(!opens(&[1, 2, 3, 4], &[], &[3]));
        assert!(opens(&[1, 2, 3, 4], &[], &[3, 4]));
        assert!(!opens(&[1, 2, 3, 4, 5], &[], &[5]));
        assert!(!opens(&[1, 2, 3], &[], &[1]), "oneself counts once");
    }

    #[test]
    fn both_halves_of_a_joint_membership() {
        assert!(!opens(&[1, 4, 5], &[1, 2, 3], &[2]));
        assert!(!opens(&[1, 4, 5], &[1, 2, 3], &[4, 5]));
        assert!(opens(&[1, 4, 5], &[1, 2, 3], &[2, 4]));
        assert!(opens(&[1, 2, 4], &[1, 2, 3], &[2]), "one that is in both");
    }

    #[test]
    fn learners_and_strangers() {
        assert!(!opens(&[2, 3], &[], &[2]), "who takes itself for a learner counts for nothing");
        assert!(opens(&[2, 3], &[], &[2, 3]));
        assert!(!opens(&[1, 2, 3], &[], &[7]), "a stranger is no witness");
        assert!(!opens(&[], &[], &[2, 3]), "who knows no members knows no quorum");
    }

    #[test]
    fn once_open_it_stays_open_unless_it_went_back() {
        let mut greeting = Greeting::default();
        let single = Membership { voters: ids(&[1]), ..Membership::default() };
        greeting.judge(NodeId(1), &single);
        greeting.judge(NodeId(1), &Membership { voters: ids(&[1, 2, 3]), ..single });
        assert!(greeting.is_open());
        greeting.went_back();
        greeting.judged();
        assert!(!greeting.is_open());
    }
}
