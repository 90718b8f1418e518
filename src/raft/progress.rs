//! What a leader knows of one peer's log, and what it may send next.
//!
//! *Probe*: it is not known where the logs agree, or whether the peer can be reached at all. One
//! append at a time; after one that was lost, the next goes out with the next heartbeat, so that a
//! peer that is down costs almost nothing.
//! *Replicate*: the logs agree up to `matched`. Appends are sent one behind the other without waiting,
//! inside a window of appends and bytes (L10).
//! *Snapshot*: the peer has said that its log ends before this one begins. It gets a snapshot and no
//! appends until that has arrived or failed. Only the peer's own refusal at the purge point leads here,
//! so that one whose answers were lost, but not its log, is not sent what it has (L6, L7).

use std::collections::VecDeque;

use super::log_shape::LogShape;
use super::message::{ReadRound, RequestId};
use super::options::Options;
use super::types::{Index, LogId};

/// An append that has not been answered.
#[derive(Clone, Copy, Debug)]
struct Sent {
    request: RequestId,
    upto: Index,
    bytes: u64,
}

#[derive(Clone, Debug)]
enum State {
    Probe {
        sent: Option<Sent>,
        paused: bool,
    },
    Replicate {
        window: VecDeque<Sent>,
        bytes: u64,
    },
    /// `sent`: the snapshot that is on its way, and with which request. None: it is to be sent.
    Snapshot {
        sent: Option<(RequestId, LogId)>,
    },
}

/// Invariant: `matched < next` (S11).
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// The highest index known to be on the peer's disk. Never goes back within a leadership (S11).
    matched: Index,
    /// The next index to send.
    next: Index,
    state: State,
    /// Ticks since the peer last answered.
    silent: u32,
    /// Whether it has answered in this leadership at all. A new leader counts everybody as heard, so that
    /// it does not step down before they can answer (E5).
    answered: bool,
    /// The newest read round the peer has answered.
    confirmed: ReadRound,
    /// Ticks since the peer's departure was committed, if it is no member any more.
    leaving: Option<u32>,
}

/// What to send to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) base: LogId,
    pub(super) upto: Index,
    bytes: u64,
}

impl Progress {
    /// A peer of which nothing is known; it will be probed at `next`.
    pub(super) fn new(next: Index) -> Progress {
        Progress {
            matched: Index::ZERO,
            next,
            state: State::Probe { sent: None, paused: false },
            silent: 0,
            answered: false,
            confirmed: ReadRound(0),
            leaving: None,
        }
    }

    pub(super) fn matched(&self) -> Index {
        self.matched
    }

    pub(super) fn confirmed(&self) -> ReadRound {
        self.confirmed
    }

    pub(super) fn tick(&mut self) {
        self.silent = self.silent.saturating_add(1);
    }

    pub(super) fn heard(&mut self) {
        self.silent = 0;
        self.answered = true;
    }

    /// Whether entries flow without asking, so that the peer follows the log's end.
    pub(super) fn replicates(&self) -> bool {
        matches!(self.state, State::Replicate { .. })
    }

    /// The peer is no member any more, or is one (again).
    pub(super) fn set_leaving(&mut self, leaving: bool) {
        self.leaving = leaving.then(|| self.leaving.unwrap_or(0));
    }

    /// Counts one tick of the time a peer has to hear that it left. True: it is over.
    pub(super) fn has_left(&mut self, ticks: u32) -> bool {
        self.leaving.as_mut().is_some_and(|waited| {
            *waited += 1;
            *waited >= ticks
        })
    }

    /// Whether the peer was heard within this many ticks.
    pub(super) fn heard_within(&self, ticks: u32) -> bool {
        self.silent < ticks
    }

    /// Whether the peer has answered this leader within this many ticks: what a change of the voters may
    /// rest on (M8).
    pub(super) fn answers_within(&self, ticks: u32) -> bool {
        self.answered && self.heard_within(ticks)
    }

    /// The peer has answered a heartbeat of this round.
    pub(super) fn confirm(&mut self, round: ReadRound) {
        self.confirmed = self.confirmed.max(round);
    }

    /// A paused probe may be tried again.
    pub(super) fn resume(&mut self) {
        if let State::Probe { paused, .. } = &mut self.state {
            *paused = false;
        }
    }

    /// Whether the peer is to get a snapshot now.
    pub(super) fn wants_snapshot(&self) -> bool {
        matches!(self.state, State::Snapshot { sent: None })
    }

    /// A snapshot has been handed over for sending.
    pub(super) fn snapshot_sent(&mut self, request: RequestId, snapshot: LogId) {
        self.state = State::Snapshot { sent: Some((request, snapshot)) };
    }

    /// The index behind which the log should be kept for this peer: what it will need once its snapshot
    /// has arrived, or what it needs now, provided it was heard lately.
    pub(super) fn pin(&self, ticks: u32) -> Option<Index> {
        match self.state {
            State::Snapshot { sent: Some((_, snapshot)) } => Some(snapshot.index),
            _ => self.heard_within(ticks).then_some(self.matched),
        }
    }

    /// The next append for this peer, if one may be sent now.
    pub(super) fn next_range(&mut self, log: &LogShape, options: &Options) -> Option<Range> {
        self.stay_within(log);
        let (max_bytes, max_entries) = match &self.state {
            State::Probe { sent: Some(_), .. } | State::Probe { paused: true, .. } => return None,
            // A probe may well be refused: it carries one entry at most. For a new leader that is
            // its no-op, so that an agreeing peer needs one round trip and no more.
            State::Probe { .. } => (options.append_bytes, 1),
            State::Snapshot { .. } => return None,
            State::Replicate { .. } if self.next > log.last().index => return None,
            State::Replicate { window, .. } if window.len() >= options.inflight_appends => {
                return None;
            }
            State::Replicate { bytes, .. } => {
                let room = options.inflight_bytes.saturating_sub(*bytes);
                (options.append_bytes.min(room), options.append_entries)
            }
        };
        let base = self.next.prev();
        let term = log.term_at(base).expect("a peer's base is within the log (L6)");
        let (upto, bytes) = log.fit(base, max_bytes, max_entries);
        // One entry always fits an empty window, and only that, however large it is.
        if let State::Replicate { window, bytes: unanswered } = &self.state
            && !window.is_empty()
            && unanswered + bytes > options.inflight_bytes
        {
            return None;
        }
        Some(Range { base: LogId { term, index: base }, upto, bytes })
    }

    /// What this peer would be sent next may be purged: then the purge point is the lowest base to ask
    /// about (L6).
    fn stay_within(&mut self, log: &LogShape) {
        let idle =
            !matches!(&self.state, State::Probe { sent: Some(_), .. } | State::Snapshot { .. });
        if idle && self.next <= log.base().index {
            let paused = matches!(self.state, State::Probe { paused: true, .. });
            self.probe_at(log.first_index(), paused);
        }
    }

    /// The range has been handed over for sending.
    pub(super) fn sent(&mut self, request: RequestId, range: Range) {
        let append = Sent { request, upto: range.upto, bytes: range.bytes };
        match &mut self.state {
            State::Probe { sent, .. } => *sent = Some(append),
            State::Replicate { window, bytes } => {
                window.push_back(append);
                *bytes += range.bytes;
                self.next = range.upto.next();
            }
            State::Snapshot { .. } => {}
        }
    }

    /// Takes the append with this request id out of the window. None: it is of a former state, and
    /// its answer changes nothing (S11).
    fn take(&mut self, request: RequestId) -> Option<Sent> {
        match &mut self.state {
            State::Probe { sent, .. } => sent.take_if(|append| append.request == request),
            State::Replicate { window, bytes } => {
                let at = window.iter().position(|append| append.request == request)?;
                let append = window.remove(at)?;
                *bytes -= append.bytes;
                Some(append)
            }
            State::Snapshot { .. } => None,
        }
    }

    /// The peer has everything up to `matched`. False: the answer was to no request in flight (S11),
    /// or claims more than was sent.
    pub(super) fn accepted(&mut self, request: RequestId, matched: Index) -> bool {
        let Some(append) = self.take(request) else { return false };
        if matched > append.upto {
            // Nonsense, and no reason to take down one leader after another: it proves nothing.
            self.probe_at(self.matched.next(), true);
            return false;
        }
        self.matched = self.matched.max(matched);
        if matched < append.upto {
            // Fewer entries were sent than asked for; go on where they ended.
            self.probe_at(self.matched.next(), false);
        } else if let State::Probe { .. } = self.state {
            self.next = self.matched.next();
            self.state = State::Replicate { window: VecDeque::new(), bytes: 0 };
        }
        true
    }

    /// The peer does not have `base`; the logs may agree at or below `hint`.
    pub(super) fn refused(&mut self, request: RequestId, base: LogId, hint: LogId, log: &LogShape) {
        if self.take(request).is_none() {
            return;
        }
        if base.index <= self.matched || hint.index >= base.index {
            // It has lost what it acknowledged, or its answer makes no sense: no reason to hurry.
            self.probe_at(self.matched.next(), true);
            return;
        }
        if hint.index < log.base().index {
            // The logs agree at or below the hint, if anywhere, and there is no such entry here any
            // more (L7).
            self.state = State::Snapshot { sent: None };
            return;
        }
        let agreed = log.last_at_most(hint.index, hint.term).index;
        assert!(agreed < base.index, "back-tracking goes down (L5)");
        self.probe_at(agreed.max(self.matched).next(), false);
    }

    /// The peer holds everything up to `matched`, by a snapshot. False: the answer was to none that is
    /// on its way (S11), or claims more than any snapshot can hold, which is what is committed here.
    pub(super) fn installed(&mut self, request: RequestId, matched: Index, commit: Index) -> bool {
        if !self.takes_snapshot(request) {
            return false;
        }
        if matched > commit {
            self.probe_at(self.matched.next(), true);
            return false;
        }
        self.matched = self.matched.max(matched);
        self.next = self.matched.next();
        self.state = State::Replicate { window: VecDeque::new(), bytes: 0 };
        true
    }

    /// Whether this request is the snapshot on its way.
    fn takes_snapshot(&self, request: RequestId) -> bool {
        matches!(self.state, State::Snapshot { sent: Some((sent, _)) } if sent == request)
    }

    /// A request got no answer, or a snapshot did not arrive. If it was an append whose entries the peer
    /// is not known to have, where the peer stands is open again.
    pub(super) fn unanswered(&mut self, request: RequestId) {
        if self.takes_snapshot(request) {
            // It may have arrived all the same: ask where the peer stands before sending it again.
            self.probe_at(self.matched.next(), true);
        }
        let Some(append) = self.take(request) else { return };
        match self.state {
            State::Snapshot { .. } => {}
            State::Replicate { .. } if append.upto <= self.matched => {}
            State::Replicate { .. } => self.probe_at(self.matched.next(), true),
            State::Probe { .. } => self.probe_at(self.next, true),
        }
    }

    fn probe_at(&mut self, next: Index, paused: bool) {
        self.next = next;
        self.state = State::Probe { sent: None, paused };
    }

    /// The cheap part of what must always hold.
    pub(super) fn check(&self, last: Index) {
        assert!(self.matched < self.next, "matched is below next (S11)");
        assert!(self.matched <= last && self.next <= last.next(), "a peer is not ahead (S11)");
    }
}
