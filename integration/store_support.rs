//! Short ways to say batches and entries, for the tests of storage.

use balsa::raft::{Entry, HardState, Index, LogId, NodeId, Payload, PersistToken, Term};
use balsa::storage::Batch;
use bytes::Bytes;

/// An entry whose value depends on its name, so that mixed-up values show.
pub(crate) fn command(term: u64, index: u64, bytes: usize) -> Entry {
    let value = vec![b'a' + ((term * 7 + index) % 26) as u8; bytes];
    Entry { id: LogId::new(term, index), payload: Payload::Command(Bytes::from(value)) }
}

/// A hard state.
pub(crate) fn term(term: u64, vote: Option<u64>) -> Option<HardState> {
    Some(HardState { term: Term(term), vote: vote.map(NodeId) })
}

/// A batch.
pub(crate) fn batch(
    hard_state: Option<HardState>,
    after: Option<u64>,
    entries: Vec<Entry>,
) -> Batch {
    Batch {
        token: PersistToken(0),
        hard_state,
        truncate_after: after.map(Index),
        entries,
        install: None,
    }
}
