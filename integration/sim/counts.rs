//! What happened how often, so that a set of runs can be asked whether it tested anything.

use balsa::raft::founding::{Record, Stage};
use balsa::raft::{NodeId, RoleKind, SoftState};

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
    pub recognised: u64,
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

    /// A founding record is on disk.
    pub fn record(&mut self, record: &Record, id: NodeId) {
        match &record.stage {
            Stage::Held(draft) if draft.drafter == id => self.drafts += 1,
            Stage::Decided(_) => self.decisions += 1,
            _ => {}
        }
    }
}
