//! Whether nodes that may each have purged another part of their logs hold the same.

use std::collections::{BTreeMap, BTreeSet};

use balsa::codec::api::{LogLine, ReplicationReply, StatusReply};

use super::{Cluster, PATIENCE, until};

impl Cluster {
    /// Waits until all running nodes have persisted, committed and applied the same log, and compares
    /// state hashes, maps, and the entries wherever two nodes both still hold them (S9, S16). Returns
    /// what each node holds.
    pub fn assert_agree(&self) -> Vec<ReplicationReply> {
        let settled = until("all running nodes have applied one log", PATIENCE, || {
            let statuses = self.statuses()?;
            let first = statuses.first()?;
            let same = |status: &StatusReply| {
                let indexes = [status.last_index, status.commit_index, status.applied_index];
                indexes == [first.last_index; 3] && status.term == first.term
            };
            statuses.iter().all(same).then_some(statuses)
        });
        let hashes: BTreeSet<u64> = settled.iter().map(|status| status.state_hash).collect();
        assert_eq!(hashes.len(), 1, "S16: one log, several states: {settled:#?}");
        let clusters: BTreeSet<_> = settled.iter().map(|status| status.cluster_id).collect();
        assert_eq!(clusters.len(), 1, "M6: one cluster: {settled:#?}");
        let contents: Vec<ReplicationReply> =
            self.running().into_iter().map(|node| self.replication(node)).collect();
        assert_same_where_both_hold(&contents);
        for other in &contents[1..] {
            let one = &contents[0];
            assert_eq!(one.store, other.store, "S16: {} and {}", one.name, other.name);
        }
        contents
    }
}

/// Each log is without a gap, and no two hold different entries at one index (S9, L1).
fn assert_same_where_both_hold(contents: &[ReplicationReply]) {
    let mut known: BTreeMap<u64, (&str, &LogLine)> = BTreeMap::new();
    for content in contents {
        let (first, last) = (content.first_index.0, content.last_index.0);
        let indexes: Vec<u64> = content.log.iter().map(|line| line.index.0).collect();
        assert_eq!(indexes, (first..=last).collect::<Vec<_>>(), "L1: {}", content.name);
        for line in &content.log {
            let (name, other) = *known.entry(line.index.0).or_insert((&content.name, line));
            assert_eq!(other, line, "S9: {name} and {}", content.name);
        }
    }
}
