//! What the transport counts: connections by role, calls by method and outcome, refusals by reason. One
//! meter serves all listeners of a process, so that whoever is refused on one of them is found in the same
//! log and the same counters.
//!
//! Counting a call is three relaxed additions, and one look at the clock for all calls that are answered
//! together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::methods::Method;
use super::refusals::{Reason, RefusalLog};
use crate::codec::api::Code;
use crate::identity::Role;
use crate::metrics::{Counter, Distribution, Gauge, Histogram};

/// Carried out, and every code.
const OUTCOMES: usize = 1 + Code::ALL.len();
/// Every method, and those of other versions together: a caller's words make no series.
const METHODS: usize = Method::ALL.len() + 1;

/// See the module.
#[derive(Debug)]
pub struct Meter {
    log: RefusalLog,
    refused: [Counter; Reason::ALL.len()],
    connections: [Gauge; Role::ALL.len()],
    calls: [[Counter; OUTCOMES]; METHODS],
    took: [Histogram; METHODS],
}

/// One connection that is up, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    meter: Arc<Meter>,
    role: Role,
}

impl Default for Meter {
    fn default() -> Meter {
        use std::array::from_fn;
        Meter {
            log: RefusalLog::default(),
            refused: from_fn(|_| Counter::default()),
            connections: from_fn(|_| Gauge::default()),
            calls: from_fn(|_| from_fn(|_| Counter::default())),
            took: from_fn(|_| Histogram::default()),
        }
    }
}

impl Meter {
    /// Something from `from` was refused.
    pub(super) fn refuse(&self, from: SocketAddr, reason: Reason, sentence: &str) {
        self.log.report(from, reason, sentence);
        self.refused[reason as usize].one();
    }

    /// A connection is up.
    pub(super) fn connected(self: &Arc<Meter>, role: Role) -> Counted {
        self.connections[role as usize].up();
        Counted { meter: Arc::clone(self), role }
    }

    /// A call that was handed out has been answered, so long after it arrived.
    pub(super) fn answered(&self, method: Method, refused: Option<Code>, took: Duration) {
        self.calls[method as usize][outcome(refused)].one();
        self.took[method as usize].observe(took);
    }

    /// A call was refused before any work; `method` if it is one of ours.
    pub(super) fn turned_away(&self, method: Option<Method>, code: Code) {
        let method = method.map_or(METHODS - 1, |method| method as usize);
        self.calls[method][outcome(Some(code))].one();
    }

    /// Refusals by reason, all reasons.
    pub fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason, self.refused[reason as usize].read()))
    }

    /// Connections that are up, by role.
    pub fn connections(&self) -> impl Iterator<Item = (Role, u64)> {
        Role::ALL.into_iter().map(|role| (role, self.connections[role as usize].read()))
    }

    /// Calls by method and outcome (`ok`, or a code's word): those that occurred, and how often each
    /// method was carried out. Methods that this version does not know are `unknown`.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let codes = || std::iter::once("ok").chain(Code::ALL.map(Code::word));
        let methods = Method::ALL.into_iter().map(Method::name).chain(["unknown"]);
        methods.zip(&self.calls).flat_map(move |(method, calls)| {
            let counts = codes().zip(calls.iter().map(Counter::read));
            let shown = move |(code, count): &(&str, u64)| {
                *count > 0 || (*code == "ok" && method != "unknown")
            };
            counts.filter(shown).map(move |(code, count)| (method, code, count))
        })
    }

    /// How long calls took, of the methods that were called.
    pub fn durations(&self) -> impl Iterator<Item = (Method, Distribution)> {
        let read = Method::ALL.into_iter().zip(self.took.iter().map(Histogram::read));
        read.filter(|(_, took)| took.count() > 0)
    }
}

fn outcome(refused: Option<Code>) -> usize {
    refused.map_or(0, |code| 1 + code as usize)
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.meter.connections[self.role as usize].down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_places_agree() {
        for (place, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, place, "{}", code.word());
        }
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{}", reason.word());
        }
        for (place, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, place, "{role}");
        }
    }

    #[test]
    fn calls_are_found_under_their_words() {
        let meter = Meter::default();
        meter.answered(Method::KvGet, None, Duration::from_millis(3));
        meter.answered(Method::KvGet, Some(Code::NotLeader), Duration::from_millis(3));
        meter.turned_away(Some(Method::NodeStop), Code::Denied);
        meter.turned_away(None, Code::UnknownMethod);
        let calls: Vec<_> = meter.calls().filter(|(.., count)| *count > 0).collect();
        assert_eq!(
            calls,
            [
                ("Kv.Get", "ok", 1),
                ("Kv.Get", "not_leader", 1),
                ("Node.Stop", "denied", 1),
                ("unknown", "unknown_method", 1),
            ]
        );
        assert!(meter.calls().any(|call| call == ("Kv.Write", "ok", 0)), "known from the start");
        let took: Vec<_> = meter.durations().map(|(m, took)| (m, took.count())).collect();
        assert_eq!(took, [(Method::KvGet, 2)]);
    }

    #[test]
    fn a_connection_counts_as_long_as_it_lasts() {
        let meter = Arc::new(Meter::default());
        let up = |role| meter.connections().find(|(other, _)| *other == role).map(|(_, n)| n);
        let one = meter.connected(Role::Monitor);
        assert_eq!((up(Role::Monitor), up(Role::Node)), (Some(1), Some(0)));
        drop(one);
        assert_eq!(up(Role::Monitor), Some(0));
    }
}
