//! What holds after every input. Cheap enough to stay on in release builds: the cost is a few
//! comparisons a peer. A violation ends the process; going on could only spread it.

use super::node::{Node, Role};

pub(super) fn check(node: &Node) {
    let (common, role) = (node.common(), node.role());
    let last = common.log.last();
    let durable = common.disk.durable();

    let snapshot = common.snapshot().index;
    assert!(common.log.base().index <= snapshot, "what is purged is in a snapshot (S6)");
    assert!(snapshot <= common.commit(), "what a snapshot holds is committed (S6)");
    assert!(common.applied() <= common.commit(), "what is applied is committed (S6)");
    assert!(common.commit() <= last.index, "commit is within the log (S6)");
    assert!(last.term <= common.term(), "no entry is newer than the term (S13)");
    assert!(durable.term <= common.term(), "the disk follows the term (S7)");
    assert!(common.disk.persisted() <= last.index, "the disk holds this log (S17)");
    assert_eq!(common.disk.asked_upto(), last.index, "the disk was asked for all of it (S17)");
    assert!(common.membership_index() <= last.index, "the active membership is in the log (M1)");

    match role {
        Role::Follower(follower) => {
            assert!(follower.verified() <= last.index, "what is verified is in the log (L4)");
            assert_ne!(follower.leader(), Some(common.id), "no node follows itself (S1)");
        }
        Role::PreCandidate(_) => {}
        Role::Candidate(_) => {
            assert_eq!(common.hard_state().vote, Some(common.id), "a candidate votes for itself");
        }
        Role::Leader(leader) => {
            assert_eq!(common.hard_state().vote, Some(common.id), "a leader voted for itself (S1)");
            assert_eq!(durable, common.hard_state(), "a leader's own vote is durable (E11)");
            assert!(leader.first() <= last.index, "a leader keeps its own entries (S2)");
            for (_, progress) in leader.peers() {
                progress.check(last.index);
            }
            if common.commit() == last.index {
                assert_eq!(leader.uncommitted(), 0, "uncommitted bytes are accounted for (L10)");
            }
        }
    }
}
