//! Where to try next. Pure: no clock, no network.
//!
//! A [`Route`] is what a client knows about a cluster over all its operations; a [`Plan`] is one
//! operation's way through it. A plan goes in rounds. In each round it follows at most
//! [`HINTS_MAX`] hints (hints of two nodes that each believe in the other form a loop, C4) and tries
//! the last known leader and every other address once; between rounds the caller backs off. Addresses
//! that gave no sign of life are suspects: they come last, and no hint leads back to them, for those who
//! live will elect another leader and name it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Hints followed in one round.
pub(super) const HINTS_MAX: u32 = 3;

/// Addresses remembered beyond the endpoints.
const LEARNED_MAX: usize = 16;

/// What is known about the cluster.
#[derive(Clone, Debug)]
pub(super) struct Route {
    endpoints: Vec<String>,
    /// Addresses that nodes named in hints: a way on when every endpoint given is gone.
    learned: Vec<String>,
    /// Where the leader answered last, or where a caller wants to begin.
    leader: Option<String>,
    redirect: bool,
}

/// Addresses that gave no sign of life when one operation tried them last, and how long it may take to try them
/// again.
pub(super) type Suspects = BTreeMap<String, Duration>;

/// One operation's way.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    hint: Option<String>,
    hints: u32,
    tried: BTreeSet<String>,
}

impl Route {
    pub(super) fn new(endpoints: Vec<String>, redirect: bool) -> Route {
        Route { endpoints, learned: Vec::new(), leader: None, redirect }
    }

    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    pub(super) fn redirect(&self) -> bool {
        self.redirect
    }

    /// The leader answered here, or a person says that it will.
    pub(super) fn led_at(&mut self, address: &str) {
        if self.leader.as_deref() != Some(address) {
            self.leader = Some(address.to_owned());
        }
    }

    /// Whether the leader is believed to be here.
    pub(super) fn leads(&self, address: &str) -> bool {
        self.leader.as_deref() == Some(address)
    }

    /// The leader is not here, or does not answer.
    pub(super) fn not_led_at(&mut self, address: &str) {
        if self.leader.as_deref() == Some(address) {
            self.leader = None;
        }
    }

    /// A node named this address.
    pub(super) fn learn(&mut self, address: &str) {
        let known = |list: &[String]| list.iter().any(|other| other == address);
        if !known(&self.endpoints) && !known(&self.learned) {
            if self.learned.len() == LEARNED_MAX {
                self.learned.remove(0);
            }
            self.learned.push(address.to_owned());
        }
    }

    /// Whether an address that is no suspect is known.
    pub(super) fn has_better_than(&self, suspects: &Suspects) -> bool {
        let learned = self.learned.iter().filter(|_| self.redirect);
        self.endpoints.iter().chain(learned).any(|address| !suspects.contains_key(address))
    }

    /// Nothing answers at this address as seen from here (the names inside a Kubernetes cluster do not
    /// resolve outside of it); endpoints stay, they were given by a person.
    pub(super) fn unlearn(&mut self, address: &str) {
        self.learned.retain(|other| other != address);
    }
}

impl Plan {
    /// The next address of this round; none if it is over.
    pub(super) fn next(
        &mut self,
        route: &Route,
        want_leader: bool,
        suspects: &Suspects,
    ) -> Option<String> {
        let follows = self.hints < HINTS_MAX && route.redirect;
        let hint = self.hint.take().filter(|hint| follows && !suspects.contains_key(hint));
        if let Some(hint) = hint {
            self.hints += 1;
            self.tried.insert(hint.clone());
            return Some(hint);
        }
        let leader = route.leader.iter().filter(|_| want_leader && route.redirect);
        let learned = route.learned.iter().filter(|_| route.redirect);
        let mut untried = leader
            .chain(&route.endpoints)
            .chain(learned)
            .filter(|address| !self.tried.contains(*address));
        let mut last = untried.clone();
        let next =
            untried.find(|address| !suspects.contains_key(*address)).or_else(|| last.next())?;
        self.tried.insert(next.clone());
        Some(next.clone())
    }

    /// A node says that the leader is here.
    pub(super) fn hinted(&mut self, address: String) {
        self.hint = Some(address);
    }

    /// This address is worth another attempt in this round.
    pub(super) fn again(&mut self, address: &str) {
        self.tried.remove(address);
    }

    /// A new round.
    pub(super) fn begin_round(&mut self) {
        *self = Plan { hint: self.hint.take(), ..Plan::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        Route::new(vec!["a".into(), "b".into(), "c".into()], true)
    }

    fn walk(plan: &mut Plan, route: &Route) -> Vec<String> {
        walk_past(plan, route, &[])
    }

    fn all(suspects: &[&str]) -> Suspects {
        suspects.iter().map(|address| ((*address).to_owned(), Duration::ZERO)).collect()
    }

    fn walk_past(plan: &mut Plan, route: &Route, suspects: &[&str]) -> Vec<String> {
        let suspects = all(suspects);
        std::iter::from_fn(|| plan.next(route, true, &suspects)).collect()
    }

    #[test]
    fn a_round_tries_the_leader_and_then_every_other_endpoint_once() {
        let mut route = route();
        route.led_at("b");
        let mut plan = Plan::default();
        assert_eq!(walk(&mut plan, &route), ["b", "a", "c"]);
        plan.begin_round();
        route.not_led_at("b");
        assert_eq!(walk(&mut plan, &route), ["a", "b", "c"]);
    }

    #[test]
    fn a_loop_of_hints_is_left_after_a_few() {
        let (route, mut plan) = (route(), Plan::default());
        let mut steps = Vec::new();
        // a and b each say that the other leads.
        while let Some(address) = plan.next(&route, true, &Suspects::new()) {
            plan.hinted(if address == "a" { "b".into() } else { "a".into() });
            steps.push(address);
            assert!(steps.len() < 20, "{steps:?}");
        }
        assert_eq!(steps, ["a", "b", "a", "b", "c"]);
    }

    #[test]
    fn learned_addresses_come_last_and_can_be_forgotten() {
        let (mut route, mut plan) = (route(), Plan::default());
        route.learn("d");
        route.learn("a");
        assert_eq!(walk(&mut plan, &route), ["a", "b", "c", "d"]);
        route.unlearn("d");
        plan.begin_round();
        assert_eq!(walk(&mut plan, &route), ["a", "b", "c"]);
    }

    #[test]
    fn without_redirect_only_the_endpoints_count() {
        let mut route = Route::new(vec!["a".into(), "b".into()], false);
        route.led_at("b");
        route.learn("d");
        let mut plan = Plan::default();
        plan.hinted("z".into());
        assert_eq!(walk(&mut plan, &route), ["a", "b"]);
    }

    #[test]
    fn suspects_come_last_and_no_hint_leads_to_them() {
        let (mut route, mut plan) = (route(), Plan::default());
        route.led_at("a");
        plan.hinted("a".into());
        assert_eq!(walk_past(&mut plan, &route, &["a"]), ["b", "c", "a"]);
        plan.begin_round();
        assert_eq!(walk_past(&mut plan, &route, &["a", "b", "c"]), ["a", "b", "c"]);
        assert!(route.has_better_than(&all(&["a", "b"])));
        assert!(!route.has_better_than(&all(&["a", "b", "c"])));
        route.learn("d");
        assert!(route.has_better_than(&all(&["a", "b", "c"])));
    }
}
