//! The limits of the key/value model. They stand here and nowhere else.

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
