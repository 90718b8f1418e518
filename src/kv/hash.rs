//! One number for the content of a store.
//!
//! The hash of a store is the wrapping sum of the hashes of its parts: every key with its value and
//! numbers, every session, every kept reply, the membership. A sum does not depend on order, so it is
//! kept up to date in constant time per write, and a snapshot can be checked by adding up what was read.
//!
//! The algorithm is part of the formats: nodes of different versions compare their hashes, and a
//! snapshot carries one. It is therefore our own, fixed here and pinned by a golden test. What it
//! must find is accidents (a fault of ours, a flipped bit), not an adversary, whose clients may put
//! any value they like anyway. Why nothing ready-made: the standard library's hasher is seeded at
//! random and unspecified; CRC-32C has 32 bits and is linear, so that related changes cancel in a
//! sum; FNV goes byte by byte, which a value of a mebibyte would feel; a cryptographic hash costs
//! ten times as much.
//!
//! Each step takes sixteen bytes, as two little-endian words `a` and `b`:
//! `state = fold(a ^ K0, b ^ state)`, where `fold` is the 128-bit product with its halves xored. A
//! final step mixes in the length. Byte strings are hashed with their length, so that moving a byte
//! from the key to the value makes a difference.

/// Odd numbers from the fraction of the golden ratio and of the square roots of 2, 3 and 5: nothing
/// up the sleeve.
const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0x6a09_e667_f3bc_c909;
const K2: u64 = 0xbb67_ae85_84ca_a73b;
const K3: u64 = 0x3c6e_f372_fe94_f82b;

/// What kind of part is hashed, so that equal numbers in different places do not cancel.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// A key with its value and numbers.
    Entry = 1,
    /// A session without its replies.
    Session = 2,
    /// One kept reply.
    Reply = 3,
    /// The store's revision.
    Revision = 4,
    /// The members, and where the log says so.
    Membership = 5,
}

/// Hashes one part.
pub(super) struct PartHasher {
    state: u64,
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

impl PartHasher {
    pub(super) fn new(part: Part) -> PartHasher {
        PartHasher { state: fold(part as u64 ^ K1, K2) }
    }

    /// Adds two numbers.
    pub(super) fn numbers(mut self, a: u64, b: u64) -> PartHasher {
        self.state = fold(a ^ K0, b ^ self.state);
        self
    }

    /// Adds a byte string and its length.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> PartHasher {
        let (pairs, rest) = bytes.as_chunks::<16>();
        for pair in pairs {
            self.state = fold(word(&pair[..8]) ^ K0, word(&pair[8..]) ^ self.state);
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        self.numbers(word(&last[..8]), word(&last[8..])).numbers(bytes.len() as u64, K3)
    }

    pub(super) fn finish(self) -> u64 {
        fold(self.state ^ K2, K3)
    }
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}
