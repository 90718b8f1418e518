//! A frozen look at the map.
//!
//! The applier publishes a view after each batch it has applied; readers on any thread use it
//! without a lock, and a page or a snapshot written from it stays one moment of the store, however
//! long it takes.

use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;

use super::command::Versioned;
use crate::raft::types::Index;

/// A value with its numbers, and the hash of the two and its key.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) versioned: Versioned,
    /// Kept, so that replacing a value does not hash the old one once more.
    pub(super) hash: u64,
}

/// The map at one applied index. Cloning takes constant time: the map is persistent, and what a
/// later write changes is copied then.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub(super) map: OrdMap<Bytes, Slot>,
    pub(super) revision: u64,
    pub(super) applied: Index,
    /// The sum over the map's keys and values.
    pub(super) bytes: u64,
}

impl View {
    /// A key's value and numbers.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Versioned> {
        self.map.get(key).map(|slot| &slot.versioned)
    }

    /// One page of the keys from `from` (inclusive) to `to` (exclusive; `None`: to the last key),
    /// in byte order, and the key at which the next page begins if there is more.
    ///
    /// The page holds at most `limit` entries and `max_bytes` of keys and values, except that it
    /// always holds one entry if there is any, so that paging makes progress.
    #[must_use]
    pub fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
        max_bytes: usize,
    ) -> (Vec<(Bytes, Versioned)>, Option<Bytes>) {
        let mut page = Vec::new();
        if to.is_some_and(|to| to <= from) {
            return (page, None);
        }
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut bytes = 0;
        for (key, slot) in self.map.range::<_, [u8]>((Bound::Included(from), end)) {
            bytes += key.len() + slot.versioned.value.len();
            if !page.is_empty() && (page.len() >= limit || bytes > max_bytes) {
                return (page, Some(key.clone()));
            }
            page.push((key.clone(), slot.versioned.clone()));
        }
        (page, None)
    }

    /// The store's revision: how many writes have changed it.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The log index up to which the view reflects the log.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}
