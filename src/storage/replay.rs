//! Adding up records to what they say: term and vote, which entries there are and where.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::contract;
use super::reader::{Place, Places, SharedPlaces};
use super::record::{self, Kind};
use super::recovery::Source;
use super::scan::{Head, Item};
use super::segment::HardStateRecord;
use super::wal::{Active, Parts};
use super::{RestoredLog, Seen, SegmentNumber};
use crate::raft::{HardState, Index, LogId, LogShape, Membership, NodeId, Payload};

/// The state that the records seen so far add up to.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) begun: bool,
    pub(crate) hard_state: HardState,
    pub(crate) seen: BTreeMap<NodeId, Seen>,
    pub(crate) base: LogId,
    pub(crate) entries: VecDeque<(Place, u32)>,
    pub(crate) memberships: Vec<(Index, Membership)>,
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

    /// Checks a segment's header against what came before it.
    pub(crate) fn begin(&mut self, head: &Head) -> Result<(), String> {
        if !self.begun {
            self.begun = true;
            self.hard_state = head.header.hard_state;
        }
        if head.header.hard_state != self.hard_state || head.last != self.last() {
            return Err(format!(
                "the segment begins with {:?} behind {}, the one before ended with {:?} and {}",
                head.header.hard_state,
                head.last,
                self.hard_state,
                self.last()
            ));
        }
        self.merge_seen(&head.header.seen);
        Ok(())
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
                self.merge_seen(&record.seen);
                Ok(())
            }
            Kind::Truncate => self.truncate(item.id.index),
            Kind::Entry => {
                let entry = record::decode_entry(item.id, &item.payload)?;
                self.truncate(item.id.index.prev())?;
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
                if let Payload::Membership(membership) = entry.payload {
                    self.memberships.push((item.id.index, Membership::clone(&membership)));
                }
                Ok(())
            }
        }
    }

    pub(crate) fn truncate(&mut self, after: Index) -> Result<(), String> {
        let last = self.last();
        if after > last.index || after < self.base.index {
            return Err(format!("nothing is known about index {after} behind {last} (S10)"));
        }
        self.entries.truncate(usize::try_from(after.0 - self.base.index.0).unwrap_or(usize::MAX));
        self.memberships.retain(|(index, _)| *index <= after);
        Ok(())
    }

    pub(crate) fn merge_seen(&mut self, seen: &BTreeMap<NodeId, Seen>) {
        for (node, new) in seen {
            let known = self.seen.entry(*node).or_default();
            *known = known.max(*new);
        }
    }

    pub(crate) fn finish(self, source: &Source, active: Active) -> (Parts, RestoredLog) {
        let mut shape = LogShape::new(self.base);
        let mut places = Places::default();
        for (number, (place, size)) in self.entries.into_iter().enumerate() {
            let index = Index(self.base.index.0 + 1 + number as u64);
            shape.push(LogId { term: place.term, index }, size);
            places.push(place);
        }
        places.add_file(active.number, Arc::clone(&active.file));
        let restored = RestoredLog {
            hard_state: self.hard_state,
            shape,
            memberships: self.memberships,
            seen: self.seen.clone(),
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
        };
        (parts, restored)
    }
}
