//! The limits of the key/value model. They stand here and nowhere else.
//!
//! Those of operations and of the session table decide what applying an entry does. Every node of a
//! cluster must therefore have the same ones (S16): a version that changes one of them needs a
//! cluster-wide switch, not a new constant.

use super::command::Operation;

/// Longest key, bytes.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// Longest value, bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Longest request, bytes of its encoded arguments.
pub const REQUEST_BYTES_MAX: usize = (1 << 20) + (1 << 19);
/// Entries in one page of a range, at most.
pub const PAGE_ENTRIES_MAX: u32 = 10_000;
/// Bytes of keys and values in one page of a range; the page ends before the entry that would pass
/// it, except that it always holds one.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// Sessions kept; the least recently used by log order goes first.
pub const SESSIONS_MAX: usize = 100_000;
/// Bytes of kept replies and bookkeeping over all sessions.
pub const SESSION_BYTES_MAX: usize = 256 << 20;
/// Serials of one session that may be outstanding: a serial at or beyond `answered_below` plus this
/// is refused.
pub const SERIAL_WINDOW: u64 = 1024;

/// A limit that an operation breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A key without a byte in it: hardly ever meant (an unset variable in a script), and the empty
    /// string already stands for "before the first key" in ranges.
    #[error("the key is empty; a key has 1 to {KEY_BYTES_MAX} bytes")]
    KeyEmpty,
    /// A key longer than [`KEY_BYTES_MAX`].
    #[error("the key has {length} bytes, the limit is {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length, bytes.
        length: usize,
    },
    /// A value, new or expected, longer than [`VALUE_BYTES_MAX`].
    #[error("the value has {length} bytes, the limit is {VALUE_BYTES_MAX}")]
    ValueTooLong {
        /// Its length, bytes.
        length: usize,
    },
}

/// Checks one key.
///
/// # Errors
/// The limit that it breaks.
pub fn check_key(key: &[u8]) -> Result<(), Violation> {
    match key.len() {
        0 => Err(Violation::KeyEmpty),
        length if length > KEY_BYTES_MAX => Err(Violation::KeyTooLong { length }),
        _ => Ok(()),
    }
}

/// Checks one operation. Servers do so before they propose; the store does so again, because what
/// is in the log decides and every node must decide alike.
///
/// # Errors
/// The first limit that it breaks.
pub fn check_operation(operation: &Operation) -> Result<(), Violation> {
    let (key, values) = match operation {
        Operation::Put { key, value } => (key, [Some(value), None]),
        Operation::Delete { key } => (key, [None, None]),
        Operation::Cas { key, expected, value } => (key, [expected.as_ref(), Some(value)]),
    };
    check_key(key)?;
    match values.into_iter().flatten().map(|value| value.len()).max() {
        Some(length) if length > VALUE_BYTES_MAX => Err(Violation::ValueTooLong { length }),
        _ => Ok(()),
    }
}
