//! Adding up records to what they say: term and vote, which entries there are and where.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::contract;
use super::reader::{Place, Places, SharedPlaces};
use super::record::{self, Kind};
use super::recovery::Source;
use super::scan::{Head, Item};
use super::segment::{HardStateRecord, Span};
use super::wal::{Active, Parts};
use super::{RestoredLog, Seen, SegmentNumber};
use crate::raft::{HardState, Index, LogId, LogShape, Membership, NodeId, Payload, Term};

/// The state that the records seen so far add up to.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) begun: bool,
    pub(crate) hard_state: HardState,
    pub(crate) seen: BTreeMap<NodeId, Seen>,
    pub(crate) base: LogId,
    pub(crate) entries: VecDeque<(Place, u32)>,
    pub(crate) memberships: Vec<(Index, Membership)>,
    /// The highest index so far, truncated ones included.
    pub(crate) reached: Index,
    pub(crate) spans: BTreeMap<SegmentNumber, Span>,
}

impl Replay {
    pub(crate) fn last(&self) -> LogId {
        match self.entries.back() {
            Some((place, _)) => LogId {
                term: place.term,
                index: Index(self.base.index.0 + self.entries.len() as u64),
            },
            None => self.base,
        }
    }

    /// Checks a segment's header against what came before it; the first one is taken as it is.
    pub(crate) fn begin(&mut self, head: &Head, segment: SegmentNumber) -> Result<(), String> {
        if !self.begun {
            self.begun = true;
            self.hard_state = head.header.hard_state;
            self.base = head.last;
        }
        // A segment that held only terms and votes was replaced by one whose header says the last.
        let follows = contract::may_follow(self.hard_state, head.header.hard_state);
        if !follows || head.last != self.last() {
            return Err(format!(
                "the segment begins with {:?} behind {}, the one before ended with {:?} and {}",
                head.header.hard_state,
                head.last,
                self.hard_state,
                self.last()
            ));
        }
        self.hard_state = head.header.hard_state;
        self.seen.clone_from(&head.header.seen);
        self.reach(head.header.reached.max(head.last.index));
        self.spans.insert(segment, Span::new(head.last));
        Ok(())
    }

    /// The term of an entry that the log holds, or of its purge point.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let at = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?).map(|(place, _)| place.term)
    }

    /// Whether a record says something about what is purged: then a purge was cut short which would
    /// have removed more, and the log begins behind this record's segment.
    pub(crate) fn is_cut_off(&self, item: &Item) -> bool {
        let after = match item.kind {
            Kind::Truncate => item.id.index,
            Kind::Entry => item.id.index.prev(),
            Kind::Segment | Kind::HardState => return false,
        };
        self.base != LogId::ZERO && after < self.base.index
    }

    /// Forgets all entries: the log begins behind `base`.
    pub(crate) fn reset(&mut self, base: LogId) {
        self.base = base;
        self.entries = VecDeque::new();
        self.memberships.clear();
        self.spans.clear();
        self.reach(base.index);
        if self.hard_state.term < base.term {
            // A new directory that was given a snapshot: its entries are of no later term (S17).
            self.hard_state = HardState { term: base.term, vote: None };
        }
    }

    /// Notes that there was an entry of this index.
    pub(crate) fn reach(&mut self, index: Index) {
        self.reached = self.reached.max(index);
    }

    /// Takes one record. The error says in words why a sound record makes no sense where it stands.
    pub(crate) fn apply(&mut self, item: &Item, segment: SegmentNumber) -> Result<(), String> {
        match item.kind {
            Kind::Segment => Err("a segment's header inside a segment".to_owned()),
            Kind::HardState => {
                let record: HardStateRecord = rmp_serde::from_slice(&item.payload)
                    .map_err(|error| format!("a hard state that cannot be read: {error}"))?;
                if !contract::may_follow(self.hard_state, record.hard_state) {
                    return Err(format!(
                        "term and vote go back (S7): {:?} -> {:?}",
                        self.hard_state, record.hard_state
                    ));
                }
                self.hard_state = record.hard_state;
                if record.all_seen {
                    self.seen = record.seen;
                } else {
                    self.merge_seen(&record.seen);
                }
                Ok(())
            }
            Kind::Truncate => self.truncate(item.id.index, segment),
            Kind::Entry => {
                let entry = record::decode_entry(item.id, &item.payload)?;
                self.truncate(item.id.index.prev(), segment)?;
                if item.id.index == Index::ZERO || item.id.term < self.last().term {
                    return Err(format!("entry {} behind {} (S13)", item.id, self.last()));
                }
                let place = Place {
                    term: item.id.term,
                    segment,
                    offset: item.offset,
                    bytes: item.bytes as u32,
                };
                self.entries.push_back((place, entry.payload.size()));
                self.reach(item.id.index);
                if let Payload::Membership(membership) = entry.payload {
                    self.memberships.push((item.id.index, Membership::clone(&membership)));
                }
                Ok(())
            }
        }
    }

    fn truncate(&mut self, after: Index, segment: SegmentNumber) -> Result<(), String> {
        let last = self.last();
        if after > last.index || after < self.base.index {
            return Err(format!("nothing is known about index {after} behind {last} (S10)"));
        }
        if after < last.index
            && let Some(span) = self.spans.get_mut(&segment)
        {
            span.lowest = span.lowest.min(after);
        }
        self.entries.truncate(usize::try_from(after.0 - self.base.index.0).unwrap_or(usize::MAX));
        self.memberships.retain(|(index, _)| *index <= after);
        Ok(())
    }

    fn merge_seen(&mut self, seen: &BTreeMap<NodeId, Seen>) {
        for (node, new) in seen {
            let known = self.seen.entry(*node).or_default();
            *known = known.max(*new);
        }
    }

    pub(crate) fn finish(self, source: &Source, active: Active) -> (Parts, RestoredLog) {
        let mut shape = LogShape::new(self.base);
        let mut places = Places::new(self.base);
        for (number, (place, size)) in self.entries.into_iter().enumerate() {
            let index = Index(self.base.index.0 + 1 + number as u64);
            shape.push(LogId { term: place.term, index }, size);
            places.push(place);
        }
        places.add_file(active.number, Arc::clone(&active.file));
        let snapshot = source.snapshots.current().map(|file| file.head().meta.clone());
        let restored = RestoredLog {
            hard_state: self.hard_state,
            shape,
            memberships: self.memberships,
            seen: self.seen.clone(),
            snapshot,
            reached: self.reached,
        };
        let parts = Parts {
            fs: Arc::clone(&source.fs),
            dir: source.dir.clone(),
            salt: source.salt,
            options: source.options,
            active,
            places: SharedPlaces::new(places),
            hard_state: self.hard_state,
            seen: self.seen,
            reached: self.reached,
            spans: self.spans,
            snapshots: source.snapshots.clone(),
        };
        (parts, restored)
    }
}
