//! What happened how often, so that a set of runs can be asked whether it tested anything.

use balsa::raft::founding::{Record, Stage};
use balsa::raft::{MembershipChange, NodeId, RoleKind, SoftState};

/// The one count that may be zero over all runs.
pub const RARE: &str = "copies that caught up before their hello";

/// Over one run, or added up over many.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub crashes: u64,
    pub leader_crashes: u64,
    pub isolations: u64,
    pub cuts: u64,
    pub twins: u64,
    pub wipes: u64,
    pub stops: u64,
    pub transfers: u64,
    pub elections: u64,
    pub drafts: u64,
    pub decisions: u64,
    pub lost: u64,
    pub answered: u64,
    pub retried: u64,
    pub installed: u64,
    pub discards: u64,
    pub caught_up: u64,
    pub written: u64,
    pub removals: u64,
    pub replacements: u64,
    pub promotions: u64,
    pub learners: u64,
    pub scaled_down: u64,
    pub scaled_up: u64,
    pub returned: u64,
    pub joined: u64,
    pub second_changes: u64,
    pub joint_interrupted: u64,
    pub beyond_knowledge: u64,
    pub restored: u64,
    pub recognised: u64,
    pub found_by_votes: u64,
    pub overtaken: u64,
    pub purges: u64,
    pub snapshots: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Counts) {
        for ((_, sum), (_, more)) in self.named_mut().into_iter().zip(other.named()) {
            *sum += more;
        }
    }

    /// Every count with its name.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        self.clone().named_mut().into_iter().map(|(name, count)| (name, *count)).collect()
    }

    fn named_mut(&mut self) -> Vec<(&'static str, &mut u64)> {
        vec![
            ("crashes", &mut self.crashes),
            ("crashes of leaders", &mut self.leader_crashes),
            ("isolations", &mut self.isolations),
            ("one-way cuts", &mut self.cuts),
            ("two processes under one name", &mut self.twins),
            ("stops with hand-over", &mut self.stops),
            ("transfers", &mut self.transfers),
            ("elections", &mut self.elections),
            ("drafts", &mut self.drafts),
            ("decisions", &mut self.decisions),
            ("messages lost", &mut self.lost),
            ("operations answered", &mut self.answered),
            ("operations tried again", &mut self.retried),
            ("lost directories", &mut self.wipes),
            ("removals", &mut self.removals),
            ("replacements", &mut self.replacements),
            ("promotions", &mut self.promotions),
            ("learners added", &mut self.learners),
            ("seats scaled down", &mut self.scaled_down),
            ("seats added", &mut self.scaled_up),
            ("removed nodes that came back", &mut self.returned),
            ("nodes taken in", &mut self.joined),
            ("changes refused as the second", &mut self.second_changes),
            ("leaders dead in a joint membership", &mut self.joint_interrupted),
            ("copies not put back: nobody would know", &mut self.beyond_knowledge),
            ("directories put back from a copy", &mut self.restored),
            ("restored directories recognised", &mut self.recognised),
            ("of these, told in an election", &mut self.found_by_votes),
            (RARE, &mut self.caught_up),
            ("writes answered", &mut self.written),
            ("directories discarded by hand", &mut self.discards),
            ("snapshots overtaken", &mut self.overtaken),
            ("snapshots installed", &mut self.installed),
            ("purges", &mut self.purges),
            ("snapshots taken", &mut self.snapshots),
        ]
    }

    /// A node's role has changed.
    pub fn role(&mut self, soft: SoftState, id: NodeId) {
        if soft.role == RoleKind::Leader && soft.leader == Some(id) {
            self.elections += 1;
        }
    }

    /// A change of the members has begun.
    pub fn change(&mut self, change: &MembershipChange) {
        let count = match change {
            MembershipChange::AddLearner { .. } => &mut self.learners,
            MembershipChange::Promote { .. } => &mut self.promotions,
            MembershipChange::Replace { .. } => &mut self.replacements,
            MembershipChange::Remove { .. } | MembershipChange::Retire { .. } => &mut self.removals,
        };
        *count += 1;
    }

    /// A founding record is on disk.
    pub fn record(&mut self, record: &Record, id: NodeId) {
        match &record.stage {
            Stage::Held(draft) if draft.drafter == id => self.drafts += 1,
            Stage::Decided(_) => self.decisions += 1,
            _ => {}
        }
    }
}
