//! How a directory that went back in time is told (a volume restored from an older copy), by what others
//! have seen of its node.
//!
//! An honest node's boot, durable term and acknowledged index never fall, so that less than was seen
//! before means another, older directory. The difficulty is the other direction: a sound node must
//! never be accused, since it then gives its data up. Its hello may be on the way while its newer
//! words arrive elsewhere and come here by a third node, so that within one life nothing can be
//! compared. Lives are therefore told apart: two lives that begin from the same copy count to the same
//! number, and draw different lots. And whoever is refused judges for itself once more.

use std::fmt;

use super::types::{Boot, NodeId, Seen};

/// Bits of a boot counter that are drawn.
const LOT_BITS: u32 = 32;

impl Boot {
    /// The boot of a directory's next life: the count goes up by one, and the lot is drawn anew. Boots
    /// of one directory always grow.
    #[must_use]
    pub fn next(self, lot: u32) -> Boot {
        Boot(((self.0 >> LOT_BITS) + 1) << LOT_BITS | u64::from(lot))
    }

    /// How often the directory was opened.
    #[must_use]
    pub fn count(self) -> u64 {
        self.0 >> LOT_BITS
    }
}

/// What does not go together with what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WentBack {
    /// Which number.
    pub of: Claim,
    /// What it was when it was seen.
    pub seen: u64,
    /// What it is said to be now.
    pub claimed: u64,
}

/// One of the three numbers of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The count of starts.
    Boot,
    /// The durable term.
    Term,
    /// The highest index acknowledged.
    Acknowledged,
}

impl Seen {
    /// Whether a hello with these `claims` comes from a directory that is older than what was seen of
    /// its node. `self` must never mix what was seen in one life with the boot of an earlier one.
    #[must_use]
    pub fn contradicts(self, claims: Seen) -> Option<WentBack> {
        let back = |of, seen, claimed| Some(WentBack { of, seen, claimed });
        let another_life = claims.boot != self.boot;
        let same_count = claims.boot.count() == self.boot.count() && claims.boot.count() > 0;
        if claims.boot < self.boot || (another_life && same_count) {
            back(Claim::Boot, self.boot.0, claims.boot.0)
        } else if !another_life {
            None
        } else if claims.term < self.term {
            back(Claim::Term, self.term.0, claims.term.0)
        } else if claims.acknowledged < self.acknowledged {
            back(Claim::Acknowledged, self.acknowledged.0, claims.acknowledged.0)
        } else {
            None
        }
    }

    /// The refused node's own judgement, by what it claims when the refusal has arrived: nothing that it
    /// ever said exceeds that, so that a sound node's hello, refused because it was overtaken, is just
    /// repeated.
    #[must_use]
    pub fn is_ahead_of(self, claims: Seen) -> bool {
        let same_count = claims.boot.count() == self.boot.count() && claims.boot.count() > 0;
        self.exceeds(claims) || (same_count && claims.boot != self.boot)
    }
}

impl WentBack {
    /// The refusal's sentence.
    #[must_use]
    pub fn sentence(&self, name: &str, id: NodeId) -> String {
        format!(
            "the data directory of {name} (node {id}) went back in time: its {} was {} and is {} now; a \
             volume was restored from an older copy, or the directory runs a second time elsewhere",
            self.of, self.seen, self.claimed
        )
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Claim::Boot => "boot",
            Claim::Term => "term",
            Claim::Acknowledged => "highest acknowledged index",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{Index, Term};
    use super::*;

    fn seen(boot: Boot, term: u64, acknowledged: u64) -> Seen {
        Seen { boot, term: Term(term), acknowledged: Index(acknowledged) }
    }

    #[test]
    fn boots_grow_whatever_is_drawn_and_old_counters_go_on() {
        let first = Boot::default().next(u32::MAX);
        let second = first.next(0);
        assert!(first > Boot::default() && second > first);
        assert_eq!((first.count(), second.count()), (1, 2));
        assert!(Boot(17).next(0) > Boot(17), "a counter without a lot");
    }

    #[test]
    fn a_restart_that_lost_nothing_durable_is_never_accused() {
        let life = Boot(0).next(7);
        for (term, acknowledged) in [(3, 9), (4, 9), (3, 10)] {
            let claims = seen(life.next(1), term, acknowledged);
            assert_eq!(seen(life, 3, 9).contradicts(claims), None);
        }
        assert_eq!(Seen::default().contradicts(seen(life, 0, 0)), None, "never seen before");
    }

    #[test]
    fn within_one_life_an_older_hello_is_no_accusation() {
        // It was on the way while newer words of the same process arrived by another node.
        let life = Boot(0).next(7);
        assert_eq!(seen(life, 5, 900).contradicts(seen(life, 4, 800)), None);
    }

    #[test]
    fn the_refused_node_judges_for_itself() {
        let (life, other) = (Boot(0).next(7), Boot(0).next(6));
        let claims = seen(life, 5, 900);
        assert!(!seen(life, 5, 900).is_ahead_of(claims), "overtaken by its own words");
        assert!(!seen(Boot(0), 9, 9).is_ahead_of(seen(life, 9, 9)));
        for ahead in
            [seen(life.next(0), 1, 1), seen(life, 6, 1), seen(life, 1, 901), seen(other, 5, 900)]
        {
            assert!(ahead.is_ahead_of(claims), "{ahead:?}");
        }
    }

    #[test]
    fn an_older_life_a_lower_term_and_a_lower_index_are_told() {
        let (old, life) = (Boot(0).next(9), Boot(0).next(9).next(7));
        let known = seen(life, 5, 900);
        let of = |claims| known.contradicts(claims).map(|back| back.of);
        assert_eq!(of(seen(old, 9, 9000)), Some(Claim::Boot));
        assert_eq!(of(seen(life.next(0), 4, 900)), Some(Claim::Term));
        assert_eq!(of(seen(life.next(0), 5, 899)), Some(Claim::Acknowledged));
        let back = known.contradicts(seen(life.next(0), 5, 899)).unwrap();
        let sentence = back.sentence("raft-1", NodeId(0xa));
        assert!(sentence.contains("index was 900 and is 899 now"), "{sentence}");
    }

    #[test]
    fn two_lives_that_begin_from_one_copy_are_told_apart() {
        // Stopped, copied, started, stopped, the copy put back, started: the same count.
        let copied = Boot(0).next(3);
        for (first, again) in [(1, 2), (2, 1)] {
            let known = seen(copied.next(first), 5, 900);
            let claims = seen(copied.next(again), 5, 900);
            assert_eq!(known.contradicts(claims).map(|back| back.of), Some(Claim::Boot));
        }
    }
}
