//! Certificates that are replaced under a cluster that runs: what to wait for, and the proof that it
//! disturbed nobody.

use balsa::rpc::Tls;

use super::{Cluster, PATIENCE, Process, until};

/// What a node says when it uses what it has read anew.
pub const LOADED: &str = "certificates loaded anew";

/// How a cluster stood before a change that must not disturb it.
pub struct Before {
    leader: Option<(usize, u64)>,
    processes: Vec<u32>,
    /// What each node had said, in bytes.
    pub said: Vec<usize>,
}

impl Before {
    pub fn of(cluster: &Cluster) -> Before {
        let (leader, processes) = (cluster.leader_now(), cluster.pids());
        Before { leader, processes, said: cluster.marks() }
    }

    /// No restart, no other leader or term, and no node that refused another one or broke off with it.
    #[track_caller]
    pub fn assert_undisturbed(&self, cluster: &Cluster) {
        assert_eq!(cluster.leader_now(), self.leader, "the same leader in the same term");
        assert_eq!(cluster.pids(), self.processes, "no restart");
        cluster.assert_alive();
        for (node, since) in cluster.nodes.iter().zip(&self.said) {
            let refused = refusals_of_nodes(node, *since);
            assert!(refused.is_empty(), "{}: {refused:#?}", node.name);
        }
    }
}

/// The lines about connections of nodes that were refused or broken off, since then.
fn refusals_of_nodes(node: &Process, since: usize) -> Vec<String> {
    let said = node.said().split_off(since);
    let bad = |line: &&str| {
        (line.contains("refused ") && line.contains("/node/")) || line.contains("no longer trusted")
    };
    said.lines().filter(bad).map(str::to_owned).collect()
}

impl Cluster {
    /// The process of each node.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Process::pid).collect()
    }

    /// What each node has said so far, in bytes.
    pub fn marks(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.said().len()).collect()
    }

    /// Waits until every node has said these words behind its mark.
    pub fn wait_until_all_say(&self, since: &[usize], words: &str) {
        for (node, since) in self.nodes.iter().zip(since) {
            node.wait_until_it_says(*since, words);
        }
    }

    /// Waits until each node's two lines to each peer were made after it last said `mark`: after that
    /// the others had loaded theirs before, or asked for a renewal since.
    pub fn wait_for_lines(&self, mark: &str) {
        for (node, peer, lane) in self.lines() {
            let what = format!("{}'s {lane} line to {peer} is newer than \"{mark}\"", node.name);
            until(&what, PATIENCE, || {
                let said = node.said();
                let since = said.rfind(mark)?;
                let connected =
                    |line: &str| [" connected", peer, lane].iter().all(|part| line.contains(part));
                said[since..].lines().any(connected).then_some(())
            });
        }
    }

    /// Every lasting line from one node to another.
    fn lines(&self) -> Vec<(&Process, &str, &'static str)> {
        let mut all = Vec::new();
        for node in &self.nodes {
            for peer in self.nodes.iter().filter(|peer| peer.name != node.name) {
                all.extend(["Control", "Bulk"].map(|lane| (node, peer.name.as_str(), lane)));
            }
        }
        all
    }
}

/// Clients follow their files as nodes do.
pub fn wait_for_reloads(client: &Tls, count: u64) {
    let what = format!("the client has loaded its certificates anew {count} times");
    until(&what, PATIENCE, || (client.reloads() == count).then_some(()));
}
