//! One call, carried through hints, failures and back-off to its deadline.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::Error;
use super::network::{Distrust, Network, Trouble};
use super::route::{Plan, Route, Suspects};
use crate::codec;
use crate::codec::api::{Code, LeaderHint, Refusal};
use crate::rpc::{Backoff, Method};

/// First delay between two rounds; doubles up to [`DELAY_MAX`].
const DELAY_MIN: Duration = Duration::from_millis(20);
/// Longest delay between two rounds.
const DELAY_MAX: Duration = Duration::from_millis(500);

/// The next attempt at an address that gave no sign of life a moment ago, as long as others may know better: long
/// enough for a connection and an answer, if it is there again. Doubles each time, for it may only be far away.
const SUSPECT: Duration = Duration::from_millis(500);

/// What a client knows of its cluster, and how it gets there.
#[derive(Debug)]
pub(super) struct Reach<N> {
    pub(super) network: N,
    route: Mutex<Route>,
    trouble: Mutex<Option<String>>,
    /// One attempt may take this long; an answer that takes longer is sought elsewhere.
    attempt: Duration,
}

/// What is to be called.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) method: Method,
    pub(super) args: Bytes,
    pub(super) deadline: Instant,
    /// True if only the leader can answer.
    pub(super) leader: bool,
    /// True if a lost reply leaves something unknown that matters: a write. Registering a session
    /// twice only wastes an id (C2).
    pub(super) writes: bool,
    /// True if the leader may take long to answer (a change of the members waits until it is
    /// committed), so that an attempt at whoever is believed to lead may use all the time there is.
    pub(super) slow: bool,
}

/// A reply, and whether an earlier attempt of the same job is unresolved.
#[derive(Debug)]
pub(super) struct Reply<R> {
    pub(super) value: R,
    pub(super) unresolved: bool,
}

/// What went wrong so far.
#[derive(Debug, Default)]
struct History {
    /// Whether an unresolved attempt matters.
    writes: bool,
    /// The last trouble at each address.
    by_address: BTreeMap<String, String>,
    /// Addresses that gave no sign of life when they were last tried, and how long the next attempt may take.
    suspects: Suspects,
    /// True if an attempt may have been, or may still be, carried out.
    unresolved: bool,
    /// True if any node answered anything.
    reached: bool,
    /// Addresses of this round that were tried, and those that will never trust us.
    round: (usize, usize),
    untrusted: Option<Distrust>,
    /// A full disk or a full queue, if that is what the leader said last.
    full: Option<Refusal>,
    leader: Option<LeaderHint>,
    /// Where the last hint led.
    hinted: Option<String>,
}

impl<N: Network> Reach<N> {
    pub(super) fn new(network: N, route: Route, attempt: Duration) -> Reach<N> {
        Reach { network, route: Mutex::new(route), trouble: Mutex::new(None), attempt }
    }

    pub(super) fn route(&self) -> MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last thing that went wrong, for a person who waits.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, history: &mut History, address: &str, why: &str) {
        history.by_address.insert(address.to_owned(), why.to_owned());
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(format!("{address}: {why}"));
    }

    /// Carries a job through. The arguments of every attempt are the same bytes, so a repeated write
    /// has the same serial (C2, C4).
    pub(super) async fn run<R: DeserializeOwned>(&self, job: Job) -> Result<Reply<R>, Error> {
        let mut history = History { writes: job.writes, ..History::default() };
        let mut plan = Plan::default();
        let mut backoff: Option<Backoff> = None;
        loop {
            let left = job.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(history.verdict());
            }
            let next = plan.next(&self.route(), job.leader, &history.suspects);
            let Some(address) = next else {
                if let Some(error) = history.end_of_round() {
                    return Err(error);
                }
                plan.begin_round();
                pause(&mut backoff, job.deadline).await;
                continue;
            };
            history.round.0 += 1;
            let leads = history.hinted.as_ref() == Some(&address) || self.route().leads(&address);
            let hurry = history.suspects.get(&address).copied();
            let hurry = hurry.filter(|_| self.route().has_better_than(&history.suspects));
            let timeout = match job.slow && leads {
                true => left,
                false => left.min(self.attempt).min(hurry.unwrap_or(self.attempt)),
            };
            let called = self.network.call(&address, job.method, job.args.clone(), timeout).await;
            let trouble = match called.map(|bytes| codec::decode_shared::<R>(&bytes)) {
                Ok(Ok(value)) => {
                    if job.leader {
                        self.route().led_at(&address);
                    }
                    return Ok(Reply { value, unresolved: history.unresolved });
                }
                Ok(Err(error)) => Trouble::Unresolved(format!("the reply makes no sense: {error}")),
                Err(trouble) => trouble,
            };
            self.route().not_led_at(&address);
            if trouble.is_suspect() {
                let patience = history.suspects.entry(address.clone()).or_insert(SUSPECT / 2);
                *patience = patience.saturating_mul(2);
            } else {
                history.suspects.remove(&address);
            }
            match trouble {
                Trouble::NotReached { why, distrust } => {
                    self.note(&mut history, &address, &why);
                    self.route().unlearn(&address);
                    if let Some(distrust) = distrust {
                        history.distrusted(distrust);
                    }
                }
                Trouble::Unresolved(why) | Trouble::Lost(why) => {
                    self.note(&mut history, &address, &why);
                    history.reached = true;
                    history.unresolved = true;
                }
                Trouble::Refused(refusal) => {
                    self.note(&mut history, &address, &refusal.message);
                    history.reached = true;
                    let again = self.refused(&mut history, &mut plan, &address, refusal)?;
                    if again {
                        plan.again(&address);
                        self.route().led_at(&address);
                        pause(&mut backoff, job.deadline).await;
                    }
                }
            }
        }
    }

    /// Sorts a refusal by what to do next: an error ends the job; true means the same node once more,
    /// a little later.
    fn refused(
        &self,
        history: &mut History,
        plan: &mut Plan,
        address: &str,
        refusal: Refusal,
    ) -> Result<bool, Error> {
        history.full = None;
        if let Some(hint) = refusal.leader.clone() {
            let there = self.address_of(&hint);
            if there != address {
                self.route().learn(&there);
                history.hinted = Some(there.clone());
                plan.hinted(there);
            }
            history.leader = Some(hint);
        }
        match refusal.code {
            Code::NotLeader if !self.route().redirect() => Err(history.end(refusal)),
            Code::NotLeader | Code::Unavailable | Code::DeadlineExceeded | Code::UnknownMethod => {
                Ok(false)
            }
            Code::WrongPeer => {
                history.distrusted(Distrust::Denied);
                Ok(false)
            }
            Code::Busy | Code::NoSpace => {
                history.full = Some(refusal);
                Ok(true)
            }
            Code::Unknown => {
                history.unresolved = true;
                Ok(false)
            }
            Code::Denied
            | Code::BadRequest
            | Code::TooLarge
            | Code::Removed
            | Code::WentBack
            | Code::UnderWay
            | Code::Conflict
            | Code::SessionExpired
            | Code::SerialOutOfWindow => Err(history.end(refusal)),
        }
    }

    /// Where a hint leads, seen from here: the endpoint that answers under that seat's name, if there
    /// is one, because the address in a hint may be a name that only exists inside the cluster.
    pub(super) fn address_of(&self, hint: &LeaderHint) -> String {
        let route = self.route();
        let answers = |endpoint: &&String| {
            self.network.seat_at(endpoint).as_deref() == Some(hint.name.as_str())
        };
        route.endpoints().iter().find(answers).unwrap_or(&hint.address).clone()
    }
}

async fn pause(backoff: &mut Option<Backoff>, deadline: Instant) {
    let backoff = backoff.get_or_insert_with(|| {
        // Without randomness the delays are the same as another client's; nothing worse.
        Backoff::new(getrandom::u64().unwrap_or_default(), DELAY_MIN, DELAY_MAX)
    });
    let until = (Instant::now() + backoff.next_delay()).min(deadline);
    tokio::time::sleep_until(until).await;
}

impl History {
    /// Revocation is the reason only if there was never another.
    fn distrusted(&mut self, distrust: Distrust) {
        self.round.1 += usize::from(distrust.lasts());
        let former = self.untrusted.filter(|former| *former != Distrust::Revoked);
        self.untrusted = Some(former.unwrap_or(distrust));
    }

    /// A refusal that nothing will change. It proves something about this attempt only: an earlier one
    /// may have been carried out (C3).
    fn end(&self, refusal: Refusal) -> Error {
        let leader = refusal.leader.clone().or_else(|| self.leader.clone());
        if self.unresolved && self.writes {
            let message = format!(
                "an earlier attempt may have been carried out; the last one was refused: {}",
                refusal.message
            );
            return Error::unknown(message).led_by(leader);
        }
        Error::from(refusal).led_by(leader)
    }

    /// After a round in which no address trusted us or was trusted, further rounds are pointless.
    fn end_of_round(&mut self) -> Option<Error> {
        let (tried, untrusted) = std::mem::take(&mut self.round);
        let hopeless = tried > 0 && tried == untrusted && !self.unresolved;
        let distrust = self.untrusted.filter(|_| hopeless)?;
        Some(distrust.error(self.told()))
    }

    /// The deadline has passed.
    fn verdict(self) -> Error {
        let told = self.told();
        let error = if self.unresolved && self.writes {
            Error::unknown(format!(
                "it may or may not have been carried out: no answer in time ({told})"
            ))
        } else if let Some(full) = self.full {
            Error::from(full)
        } else if self.unresolved {
            Error::no_leader(
                "no_quorum",
                format!("no answer in time; perhaps the leader has no quorum ({told})"),
            )
        } else if self.reached {
            Error::no_leader("no_leader", format!("no leader was found in time ({told})"))
        } else if let Some(distrust) = self.untrusted {
            distrust.error(format!("no node could be trusted ({told})"))
        } else {
            Error::no_leader("unreachable", format!("no node could be reached in time ({told})"))
        };
        error.led_by(self.leader)
    }

    fn told(&self) -> String {
        let mut told = String::new();
        for (address, why) in &self.by_address {
            let _ = write!(told, "{}{address}: {why}", if told.is_empty() { "" } else { "; " });
        }
        told
    }
}
