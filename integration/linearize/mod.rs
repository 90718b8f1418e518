//! Judges recorded histories: could one store, doing one operation at a time, have given these
//! answers at moments within each operation's call and return?
//!
//! Two judges, which have nothing in common but the history:
//!
//! - [`search`] looks for an order, key by key (linearizability is local), from the values alone.
//!   It is exact, also with unknown outcomes, but may need exponential time: a limit makes it say
//!   "unknown", which never counts as a pass.
//! - [`revisions`] believes the revisions that every answer carries (C6), which fix the order of
//!   the whole store, and checks real time and values against it in O(n log n). It also sees what
//!   no single key shows: an order between keys that cannot be. With unknown outcomes it may miss a
//!   violation, but what it reports is one.
//!
//! Whoever records a history writes every value only once, and spreads the load over ten keys or
//! more: then both are quick, and miss next to nothing.
//!
//! Both are tested on good and on spoilt histories, and against an exhaustive twin, in
//! `integration/checker.rs`.

// Several test programs use this module, each a part of it.
#![allow(dead_code, unreachable_pub)]

mod action;
pub mod history;
pub mod revisions;
pub mod search;

use std::time::Duration;

pub use history::{Answer, History, Input, Operation, Reply, Seen, Time};

/// What a judge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order explains every answer.
    Linearizable,
    /// No order does; why.
    Violation(String),
    /// Not found out; why. Whoever asked must treat it as a failure (of the test, not of the
    /// store).
    Unknown(String),
}

/// Both judges' verdict: a violation if either finds one, a pass if both pass.
#[must_use]
pub fn judge(history: &History, limit: Duration) -> Verdict {
    match revisions::check(history) {
        Verdict::Linearizable => search::check(history, limit),
        Verdict::Unknown(why) => match search::check(history, limit) {
            violation @ Verdict::Violation(_) => violation,
            _ => Verdict::Unknown(why),
        },
        violation @ Verdict::Violation(_) => violation,
    }
}
