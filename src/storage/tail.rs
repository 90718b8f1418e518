//! The segment that a start begins: behind the verified part of the log, with the unverified rest of
//! it written anew.

use std::sync::Arc;

use super::fs::File;
use super::record::{self, Frame, Kind, Seal};
use super::recovery::Source;
use super::replay::Replay;
use super::scan::Item;
use super::segment::{self, SegmentHeader, Span};
use super::wal::Active;
use super::{Position, SegmentNumber, StorageError};
use crate::raft::{LogId, Term};

/// The segment to begin, with the records of the unverified last group commit.
pub(crate) struct Tail {
    pub(crate) number: SegmentNumber,
    pub(crate) base: Position,
    /// Checksum of the record before `base`.
    pub(crate) previous: u32,
    pub(crate) items: Vec<Item>,
    /// The segment before, if this one cuts it, and the length that counts in it.
    pub(crate) sealed: Option<(SegmentNumber, u64)>,
    /// Whether the log begins with this segment, whatever older ones there are.
    pub(crate) begins_log: bool,
}

impl Tail {
    pub(crate) fn of_new_log() -> Tail {
        Tail {
            number: SegmentNumber(1),
            base: Position(0),
            previous: 0,
            items: Vec::new(),
            sealed: None,
            begins_log: false,
        }
    }

    /// The term of the log's entry at `id.index`, once the records in here are counted.
    pub(crate) fn term_at(&self, id: LogId, replay: &Replay) -> Option<Term> {
        let mut term = replay.term_at(id.index);
        for item in &self.items {
            match item.kind {
                Kind::Entry if item.id.index == id.index => term = Some(item.id.term),
                Kind::Entry | Kind::Truncate if item.id.index < id.index => term = None,
                _ => {}
            }
        }
        term
    }

    /// The term of the hard state, once the records in here are counted.
    pub(crate) fn term(&self, replay: &Replay) -> Term {
        let hard_states = self.items.iter().filter(|item| item.kind == Kind::HardState);
        hard_states.map(|item| item.id.term).fold(replay.hard_state.term, Term::max)
    }

    /// Drops the log: of what was not verified only term and vote still count.
    pub(crate) fn begin_anew(&mut self, behind: LogId, replay: &mut Replay) -> Result<(), String> {
        for item in self.items.drain(..) {
            match item.kind {
                Kind::HardState => replay.apply(&item, self.number)?,
                // It may have been acknowledged all the same.
                Kind::Entry => replay.reach(item.id.index),
                Kind::Segment | Kind::Truncate => {}
            }
        }
        replay.reset(behind);
        self.begins_log = true;
        Ok(())
    }

    /// Writes the fresh segment, durably, and replays what it holds.
    pub(crate) fn begin_segment(
        &self,
        source: &Source,
        replay: &mut Replay,
    ) -> Result<Active, StorageError> {
        let options = source.options;
        let preferred = options.segment_bytes.min(options.first_segment_bytes);
        let written = match self.write_segment(source, replay, preferred) {
            // A short segment lets a node start that has next to no room: it can at least vote.
            Err(StorageError::NoSpace { .. }) => self.write_segment(source, replay, 0)?,
            other => other?,
        };
        let path = segment::path(&source.dir, self.number);
        replay.spans.insert(self.number, Span::new(replay.last()));
        for item in &written.items {
            replay
                .apply(item, self.number)
                .map_err(|what| StorageError::damaged(&path, item.offset, what))?;
        }
        Ok(Active {
            number: self.number,
            file: written.file,
            capacity: written.capacity,
            base: self.base,
            offset: written.offset,
            previous: written.previous,
            seal: Seal::new(source.salt, self.number),
        })
    }

    fn write_segment(
        &self,
        source: &Source,
        replay: &Replay,
        preferred: u64,
    ) -> Result<Written, StorageError> {
        let items: u64 = self.items.iter().map(|item| item.bytes).sum();
        let needed = items + segment::header_room(&replay.seen) + source.options.reserve_bytes;
        let capacity = preferred.max(needed.next_multiple_of(super::BLOCK_BYTES));
        let seal = Seal::new(source.salt, self.number);
        let header = SegmentHeader {
            capacity,
            hard_state: replay.hard_state,
            seen: replay.seen.clone(),
            reached: replay.reached,
            begins_log: self.begins_log,
        };
        let mut content = Vec::new();
        let mut previous = segment::encode_header(
            &mut content,
            seal,
            self.previous,
            self.base,
            replay.last(),
            &header,
        );
        let mut items = Vec::new();
        for item in &self.items {
            items.push(Item { offset: content.len() as u64, ..item.clone() });
            let frame = Frame { kind: item.kind, previous, durable: self.base, id: item.id };
            previous = record::encode(&mut content, seal, frame, |out| {
                out.extend_from_slice(&item.payload);
            });
        }
        let file = segment::create(&*source.fs, &source.dir, self.number, capacity, &content)?;
        Ok(Written { file, capacity, items, previous, offset: content.len() as u64 })
    }
}

/// A fresh segment on disk.
struct Written {
    file: Arc<dyn File>,
    capacity: u64,
    /// The records in it, at their new offsets.
    items: Vec<Item>,
    previous: u32,
    offset: u64,
}
