//! Who is a member: waiting for voters, more seats, and what holds for all nodes' options.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use balsa::certs::Authority;
use balsa::codec::api::MemberStatus;
use balsa::identity::Role;
use balsa::raft::{NodeId, RoleKind};

use super::proxy::Proxy;
use super::{Cluster, PATIENCE, Process, free_ports, issue, pause, until};

impl Cluster {
    /// A cluster of `count` nodes with these options and a leader.
    pub fn start_with(count: usize, options: &[&str]) -> Cluster {
        let mut cluster = Cluster::prepare(count);
        cluster.give_all(options);
        cluster.start_all();
        cluster.wait_for_leader();
        cluster
    }

    /// Every node gets these options at its next start.
    pub fn give_all(&mut self, options: &[&str]) {
        for node in &mut self.nodes {
            node.more.extend(options.iter().map(OsString::from));
        }
    }

    /// Puts a proxy before a node, before the founding: every other node reaches it through there.
    pub fn put_proxy(&mut self, node: usize) -> Proxy {
        let address = self.nodes[node].address.clone();
        let proxy = Proxy::start(&address);
        let (old, new) =
            (format!("raft-{node}={address}"), format!("raft-{node}={}", proxy.address));
        for process in &mut self.nodes {
            assert!(process.seeds.contains(&old), "{}", process.seeds);
            process.seeds = process.seeds.replace(&old, &new);
        }
        self.nodes[node].advertise = Some(proxy.address.clone());
        proxy
    }

    /// One more seat, with a certificate of the cluster's CA and the seeds of the others and its own.
    /// Its node is not started yet; it gets the options of the first node.
    pub fn one_more_seat(&mut self) -> usize {
        let ordinal = self.nodes.len();
        let name = format!("raft-{ordinal}");
        let certificates = self.certificates.join(&name);
        let authority = Authority::load(&self.certificates.join("ca")).expect("the cluster's CA");
        issue(&authority, Role::Node, &name, &certificates);
        let address = format!("127.0.0.1:{}", free_ports(1)[0]);
        let seeds = format!("{},{name}={address}", self.nodes[0].seeds);
        let own = self.directory.path().join(&name);
        let mut node = Process::new(&name, &address, own, certificates, &seeds);
        node.more.clone_from(&self.nodes[0].more);
        self.nodes.push(node);
        self.log_in();
        ordinal
    }

    /// The members as the leader sees them or, without one, whoever answers first; none if nobody does.
    pub fn members(&self) -> Option<Vec<MemberStatus>> {
        self.wait(self.admin.members_of_leader()).ok().map(|reply| reply.members)
    }

    /// The node id of a node that answers.
    pub fn node_id(&self, node: usize) -> NodeId {
        let what = format!("{} answers", self.nodes[node].name);
        until(&what, PATIENCE, || self.status(node)).node_id
    }

    /// Waits until the seat is held by a voter that is not `old`, and that serves. Its node id, and how
    /// long that took.
    pub fn wait_for_new_voter(&self, node: usize, old: Option<NodeId>) -> (NodeId, Duration) {
        let begun = Instant::now();
        let what = format!("{} is a voter, and not {old:?}", self.nodes[node].name);
        let id = until(&what, PATIENCE, || {
            let status = self.status(node).filter(|status| Some(status.node_id) != old)?;
            let members = self.members()?;
            let votes = members.iter().any(|m| m.node_id == status.node_id && m.role == "voter");
            (votes && status.waiting.is_none() && status.leader.is_some()).then_some(status.node_id)
        });
        (id, begun.elapsed())
    }

    /// Waits until exactly these seats are voters, and nobody is a learner.
    pub fn wait_for_voters(&self, ordinals: &[usize]) {
        let wanted: Vec<String> = ordinals.iter().map(|n| format!("raft-{n}")).collect();
        until(&format!("the voters are {wanted:?}"), PATIENCE, || {
            let members = self.members()?;
            let voters: Vec<&str> =
                members.iter().filter(|m| m.role == "voter").map(|m| m.name.as_str()).collect();
            (members.len() == wanted.len() && voters == wanted).then_some(())
        });
    }

    /// The node that leads according to itself, and its term, if one does.
    pub fn leader_now(&self) -> Option<(usize, u64)> {
        let leads = |node: &usize| {
            let status = self.status(*node)?;
            (status.role == RoleKind::Leader).then_some((*node, status.term.0))
        };
        self.running().iter().filter_map(leads).max_by_key(|(_, term)| *term)
    }

    /// Waits until one of these leads.
    pub fn wait_for_leader_of(&self, nodes: &[usize]) -> usize {
        until(&format!("one of {nodes:?} leads"), PATIENCE, || {
            self.leader_now().map(|(leader, _)| leader).filter(|leader| nodes.contains(leader))
        })
    }

    /// Looks again and again, for as long as `time`, that something holds.
    pub fn watch(&self, time: Duration, mut holds: impl FnMut(&Cluster)) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            holds(self);
            pause(Duration::from_millis(20));
        }
    }
}
