//! What is wrong with the options of `cltraft certs`, all of it at once.

use std::fmt::Display;
use std::net::IpAddr;

use super::ServiceNames;
use crate::identity::check_dns;

/// More seats than any Raft cluster should have; a typing error beyond it.
pub(crate) const MAX_NODES: u32 = 99;

/// Everything wrong with the options, each once.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: String) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    pub(super) fn take<T>(&mut self, result: Result<T, impl Display>) -> Option<T> {
        result.map_err(|e| self.add(e.to_string())).ok()
    }

    /// The same, said of an option.
    pub(super) fn of<T>(&mut self, option: &str, result: Result<T, impl Display>) -> Option<T> {
        result.map_err(|e| self.add(format!("{option}: {e}"))).ok()
    }

    pub(super) fn count(&mut self, nodes: u32) -> u32 {
        if (1..=MAX_NODES).contains(&nodes) {
            return nodes;
        }
        self.add(format!("--nodes: '{nodes}' is not a number from 1 to {MAX_NODES}"));
        0
    }

    pub(super) fn ips(&mut self, texts: &[String]) -> Vec<IpAddr> {
        let mut ips = Vec::new();
        for text in texts {
            match text.parse() {
                Ok(ip) => ips.push(ip),
                Err(_) => self.add(format!("--ip: '{text}' is not an IP address")),
            }
        }
        ips
    }

    pub(super) fn dns(&mut self, names: &[String]) {
        for name in names {
            self.of("--dns", check_dns(name));
        }
    }

    pub(super) fn names(&mut self, names: &ServiceNames) {
        let ServiceNames { namespace, service, client_service } = names;
        self.of("--namespace", check_dns(namespace));
        self.of("--service", check_dns(service));
        self.of("--client-service", check_dns(client_service));
    }

    /// The value, if nothing at all was wrong.
    pub(super) fn settle<T>(self, value: Option<T>) -> Result<T, Vec<String>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}
