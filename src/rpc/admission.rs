//! Who may have a connection: counts, and nothing that waits, so that the accept loop never stands
//! still for one peer.
//!
//! Connections and handshakes in progress are counted apart, in all and by source address. Loopback
//! is outside the limits by source and has a few slots of its own, so that a probe finds a way in
//! when the table is full. Clients and admins are counted once more when they are known, so that
//! they cannot take the slots that the nodes need.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits::Limits;
use crate::identity::Role;

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    connections: usize,
    handshakes: usize,
}

#[derive(Debug, Default)]
struct Counts {
    all: Count,
    users: usize,
    by_source: HashMap<IpAddr, Count>,
}

/// The counts and their limits.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    counts: Mutex<Counts>,
}

/// One connection's slot, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    admission: Arc<Admission>,
    source: IpAddr,
    in_handshake: bool,
    is_user: bool,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Arc<Admission> {
        Arc::new(Admission { limits, counts: Mutex::default() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a connection from `source`, or which limit stands against it.
    pub(super) fn admit(self: &Arc<Self>, source: IpAddr) -> Result<Slot, &'static str> {
        let source = source.to_canonical();
        let limits = &self.limits;
        let mut counts = self.counts();
        let all = counts.all;
        let own = counts.by_source.get(&source).copied().unwrap_or_default();
        if source.is_loopback() {
            let reserve = limits.reserved_for_loopback;
            if all.connections >= limits.connections + reserve {
                return Err("the connection table is full");
            }
            if all.handshakes >= limits.handshakes + reserve {
                return Err("too many handshakes are in progress");
            }
        } else {
            if all.connections >= limits.connections {
                return Err("the connection table is full");
            }
            if all.handshakes >= limits.handshakes {
                return Err("too many handshakes are in progress");
            }
            if own.connections >= limits.connections_per_source {
                return Err("its address has too many connections");
            }
            if own.handshakes >= limits.handshakes_per_source {
                return Err("its address has too many handshakes in progress");
            }
        }
        for count in counts.both(source) {
            count.connections += 1;
            count.handshakes += 1;
        }
        Ok(Slot { admission: self.clone(), source, in_handshake: true, is_user: false })
    }
}

impl Counts {
    fn both(&mut self, source: IpAddr) -> [&mut Count; 2] {
        [&mut self.all, self.by_source.entry(source).or_default()]
    }
}

impl Slot {
    /// The handshake is over and the peer known: from now on only the connection counts.
    pub(super) fn established(&mut self, role: Role) -> Result<(), &'static str> {
        let limits = &self.admission.limits;
        let mut counts = self.admission.counts();
        if role != Role::Node {
            let mut max = limits.connections.saturating_sub(limits.reserved_for_nodes);
            if self.source.is_loopback() {
                max += limits.reserved_for_loopback;
            }
            if counts.users >= max {
                return Err("the connections for clients are all taken");
            }
            counts.users += 1;
            self.is_user = true;
        }
        if std::mem::take(&mut self.in_handshake) {
            for count in counts.both(self.source) {
                count.handshakes -= 1;
            }
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.users -= usize::from(self.is_user);
        for count in counts.both(self.source) {
            count.connections -= 1;
            count.handshakes -= usize::from(self.in_handshake);
        }
        if counts.by_source.get(&self.source).is_some_and(|own| own.connections == 0) {
            counts.by_source.remove(&self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn limits() -> Limits {
        Limits {
            connections: 6,
            reserved_for_nodes: 2,
            connections_per_source: 3,
            reserved_for_loopback: 1,
            handshakes: 4,
            handshakes_per_source: 2,
            ..Limits::default()
        }
    }

    #[test]
    fn every_limit_refuses_at_its_number_and_gives_back() {
        let admission = Admission::new(limits());
        let mut first = admission.admit(address(1)).unwrap();
        let mut second = admission.admit(address(1)).unwrap();
        assert!(
            admission.admit(address(1)).unwrap_err().contains("address has too many handshakes")
        );
        first.established(Role::Node).unwrap();
        second.established(Role::Node).unwrap();
        let third = admission.admit(address(1)).unwrap();
        assert!(admission.admit(address(1)).unwrap_err().contains("address has too many conn"));
        let others = [admission.admit(address(2)), admission.admit(address(3))].map(Result::unwrap);
        let last = admission.admit(address(4)).unwrap();
        assert!(admission.admit(address(5)).unwrap_err().contains("table is full"));
        drop((first, second, third, others, last));
        let counts = admission.counts();
        assert_eq!((counts.all.connections, counts.all.handshakes, counts.users), (0, 0, 0));
        assert!(counts.by_source.is_empty(), "no memory is kept of addresses that left");
    }

    #[test]
    fn handshakes_in_progress_are_limited_apart() {
        let admission = Admission::new(limits());
        let _pending: Vec<_> = (1..=4).map(|n| admission.admit(address(n)).unwrap()).collect();
        assert!(admission.admit(address(9)).unwrap_err().contains("handshakes are in progress"));
        assert!(admission.admit(LOOPBACK).is_ok(), "a probe still finds a way in");
    }

    #[test]
    fn clients_leave_room_for_nodes_and_loopback_has_its_own() {
        let admission = Admission::new(limits());
        let mut held = Vec::new();
        for n in 1..=4 {
            let mut slot = admission.admit(address(n)).unwrap();
            slot.established(Role::Client).unwrap();
            held.push(slot);
        }
        assert!(admission.admit(address(5)).unwrap().established(Role::Admin).is_err());
        for n in 6..=7 {
            let mut slot = admission.admit(address(n)).unwrap();
            slot.established(Role::Node).unwrap();
            held.push(slot);
        }
        assert!(admission.admit(address(8)).is_err());
        let mut probe = admission.admit(LOOPBACK).unwrap();
        probe.established(Role::Node).unwrap();
        assert!(admission.admit(LOOPBACK).is_err());
    }
}
