//! One more node for a cluster that is there: its certificate, its port, its place in the list of
//! endpoints, its process. The cluster takes it in by itself.

use std::fs;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cluster, LOOK, io_failure};
use crate::cli::answer::Failure;
use crate::cli::certs::{self, CertsCommand, IssueOptions};
use crate::cli::client_options::Settings;
use crate::cli::lang::Lang;
use crate::config::Seed;

/// Nodes that a cluster on one machine may have; the seats of `cltraft local` have two digits.
const NODES_MAX: usize = 100;

impl Cluster {
    /// Gives the next seat to a new node, whose data directory is still to be made. Nothing is lost if
    /// this ends half-way: what is there already is used the next time.
    pub(super) fn enlarge(&mut self, called: &str) -> Result<Seed, Failure> {
        if let Ok(seed) = self.seat(called) {
            let name = &seed.name;
            let message = format!("{name} is there already; --start {name} starts it");
            return Err(Failure::new("conflict", message));
        }
        let name = format!("raft-{}", self.seeds.len());
        if called != name && format!("raft-{called}") != name {
            let message = format!("the next node of this cluster is {name}, not {called}");
            return Err(Failure::new("no_such_node", message));
        }
        if self.seeds.len() == NODES_MAX {
            let message = format!("a cluster on one machine has at most {NODES_MAX} nodes");
            return Err(Failure::new("too_large", message));
        }
        let certificates = self.dir.join("certs");
        if !certificates.join(&name).join("tls.crt").exists() {
            let options =
                IssueOptions { out: certificates, force: true, ..IssueOptions::new("node", &name) };
            certs::run(
                &CertsCommand::Issue(options),
                certs::Output::Text,
                Lang::En,
                &mut io::sink(),
            )
            .map_err(|error| Failure::new("certificates", error.to_string()))?;
        }
        let seed = Seed { name, address: self.free_address()? };
        self.seeds.push(seed.clone());
        self.write_endpoints()?;
        Ok(seed)
    }

    /// An address of nobody, not even of a node of this cluster that does not run at the moment.
    fn free_address(&self) -> Result<String, Failure> {
        let taken = |address: &String| self.seeds.iter().any(|seed| seed.address == *address);
        // One more than there are nodes: one of them at least is nobody's.
        let count = u16::try_from(self.seeds.len() + 1).unwrap_or(u16::MAX);
        let ports = super::free_ports(count).map_err(|e| io_failure("bind in", &self.dir, &e))?;
        let mut addresses = ports.iter().map(|port| format!("127.0.0.1:{port}"));
        let free = addresses.find(|address| !taken(address));
        free.ok_or_else(|| Failure::new("io", "no free port was found"))
    }

    /// Makes the list of endpoints the directory's.
    pub(super) fn write_endpoints(&self) -> Result<(), Failure> {
        let addresses: Vec<_> = self.seeds.iter().map(|seed| seed.address.as_str()).collect();
        let (draft, file) = (self.dir.join("endpoints.new"), self.dir.join("endpoints"));
        fs::write(&draft, addresses.join(",") + "\n")
            .and_then(|()| fs::rename(&draft, &file))
            .map_err(|error| io_failure("write", &file, &error))
    }

    /// Waits until the node that holds the seat is a voter.
    pub(super) async fn votes(
        &self,
        seed: &Seed,
        within: Duration,
        settings: &Settings,
    ) -> Result<(), Failure> {
        let asker = self.asker(settings)?;
        let deadline = Instant::now() + within;
        loop {
            let status = asker.client.status(&seed.address).await;
            let members = asker.client.members().await;
            if let (Ok(status), Ok(members)) = (&status, &members)
                && members.members.iter().any(|m| m.node_id == status.node_id && m.role == "voter")
            {
                return Ok(());
            }
            self.still_runs(seed)?;
            if Instant::now() >= deadline {
                let why = status.ok().and_then(|status| status.waiting);
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                let message = format!("{} is no voter after {within:?}{why}", seed.name);
                return Err(Failure::new("not_in_time", message));
            }
            tokio::time::sleep(LOOK * 2).await;
        }
    }
}
