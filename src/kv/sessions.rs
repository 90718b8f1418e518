//! The session table: which writes of which client were carried out, and with what reply (S18, C1,
//! C2).
//!
//! A session keeps the reply to every serial from its mark on ("all below are answered and never
//! repeated"), within a window. Everything here is replicated state: it changes only by log
//! entries, and what expires is decided by log order and by counting, never by a clock.

use std::collections::{BTreeMap, VecDeque};
use std::mem::size_of;

use imbl::OrdMap;

use super::command::{Applied, Outcome, Write};
use super::hash::{Part, PartHasher};
use super::limits::{SERIAL_WINDOW, SESSION_BYTES_MAX, SESSIONS_MAX};

/// What a session without replies counts for, bytes: its record, its two places in the ordered
/// maps. A fixed number, because every node must count alike whatever it was compiled for.
const SESSION_BYTES: usize = 160;
/// What a kept reply counts for, bytes.
const REPLY_BYTES: usize = 64;

const _: () = assert!(size_of::<Session>() + 2 * size_of::<(u64, u64)>() <= SESSION_BYTES);
const _: () = assert!(size_of::<(u64, Applied)>() <= REPLY_BYTES);

/// How large the table may get. The same on every node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) sessions: usize,
    pub(super) bytes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { sessions: SESSIONS_MAX, bytes: SESSION_BYTES_MAX }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Log index of the last entry that named this session. No two sessions share one, because an
    /// entry names at most one session.
    pub(super) touched: u64,
    /// The client has the answers to all serials below; at least 1. Never goes back.
    pub(super) answered_below: u64,
    /// Replies by serial, in order. Invariant: every serial is in
    /// `answered_below .. answered_below + SERIAL_WINDOW`.
    pub(super) replies: VecDeque<(u64, Applied)>,
}

/// Where a write stands in its session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not carried out yet: do it, then [`Sessions::record`] the reply.
    New,
    /// Carried out before, with this reply.
    Repeated(Applied),
    /// Unknown or expired session.
    Expired,
    /// Below the mark, or beyond the window.
    OutOfWindow,
}

/// Invariants: `by_use` holds exactly one `touched -> id` for each session; `bytes` and `hash` are
/// the sums over `by_id`.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    by_id: OrdMap<u64, Session>,
    by_use: BTreeMap<u64, u64>,
    bytes: usize,
    hash: u64,
    bounds: Bounds,
}

impl Sessions {
    pub(super) fn new(bounds: Bounds) -> Sessions {
        let (by_id, by_use) = (OrdMap::new(), BTreeMap::new());
        Sessions { by_id, by_use, bytes: 0, hash: 0, bounds }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All of them, in constant time. What a later write changes is copied then: at most one node of
    /// the map, with the replies of its few sessions.
    pub(super) fn by_id(&self) -> OrdMap<u64, Session> {
        self.by_id.clone()
    }

    /// Takes a session from a snapshot; the rest follows from it.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(super) fn restore(&mut self, id: u64, session: Session) -> Result<(), &'static str> {
        let (touched, mark) = (session.touched, session.answered_below);
        if id == 0 || self.by_id.get_max().is_some_and(|(last, _)| *last >= id) {
            return Err("it is not behind the session before it");
        }
        if touched < id || self.by_use.contains_key(&touched) {
            return Err("its last use is before its beginning, or another session's");
        }
        if mark == 0 {
            return Err("serials begin at 1");
        }
        let mut before = None;
        for (serial, reply) in &session.replies {
            if *serial < mark || *serial - mark >= SERIAL_WINDOW {
                return Err("a kept serial is outside the window");
            }
            if before.is_some_and(|before| before >= *serial) {
                return Err("its serials are not in order");
            }
            if reply.index <= id || reply.index > touched {
                return Err(
                    "a kept reply is not of an entry between its beginning and its last use",
                );
            }
            before = Some(*serial);
            self.hash = self.hash.wrapping_add(reply_hash(id, *serial, reply));
        }
        self.hash = self.hash.wrapping_add(session.hash(id));
        self.bytes += SESSION_BYTES + session.replies.len() * REPLY_BYTES;
        self.by_use.insert(touched, id);
        self.by_id.insert(id, session);
        if self.by_id.len() > self.bounds.sessions
            || (self.bytes > self.bounds.bytes && self.by_id.len() > 1)
        {
            return Err("the table is over its limits");
        }
        Ok(())
    }

    /// Log index of the newest entry that named a session; zero if there is none.
    pub(super) fn last_use(&self) -> u64 {
        self.by_use.last_key_value().map_or(0, |(touched, _)| *touched)
    }

    /// Registers the session whose id is the index of its entry.
    pub(super) fn open(&mut self, index: u64) {
        let session = Session { touched: index, answered_below: 1, replies: VecDeque::new() };
        self.hash = self.hash.wrapping_add(session.hash(index));
        self.bytes += SESSION_BYTES;
        assert!(self.by_id.insert(index, session).is_none(), "an index registers once (S16)");
        self.by_use.insert(index, index);
        self.expire();
    }

    /// Notes that the entry at `index` names a session, moves the session's mark, and says what is
    /// to be done with the write.
    pub(super) fn stand(&mut self, index: u64, write: &Write) -> Standing {
        let Some(session) = self.by_id.get_mut(&write.session) else {
            return Standing::Expired;
        };
        self.hash = self.hash.wrapping_sub(session.hash(write.session));
        assert!(index > session.touched, "the log goes forward (S16)");
        self.by_use.remove(&session.touched);
        self.by_use.insert(index, write.session);
        session.touched = index;
        // A client cannot have the answer to the very write it asks for: the mark goes no further.
        let mark = write.answered_below.min(write.serial).max(session.answered_below);
        session.answered_below = mark;
        while session.replies.front().is_some_and(|(serial, _)| *serial < mark) {
            if let Some((serial, reply)) = session.replies.pop_front() {
                self.hash = self.hash.wrapping_sub(reply_hash(write.session, serial, &reply));
                self.bytes -= REPLY_BYTES;
            }
        }
        self.hash = self.hash.wrapping_add(session.hash(write.session));
        if write.serial < mark || write.serial - mark >= SERIAL_WINDOW {
            return Standing::OutOfWindow;
        }
        match session.place(write.serial) {
            Ok(place) => Standing::Repeated(session.replies[place].1.clone()),
            Err(_) => Standing::New,
        }
    }

    /// Keeps the reply of a write that stood as [`Standing::New`].
    pub(super) fn record(&mut self, write: &Write, reply: &Applied) {
        let session = self.by_id.get_mut(&write.session).expect("stood as new just now");
        let place = session.place(write.serial).expect_err("a serial is carried out once (S18)");
        session.replies.insert(place, (write.serial, reply.clone()));
        self.hash = self.hash.wrapping_add(reply_hash(write.session, write.serial, reply));
        self.bytes += REPLY_BYTES;
        self.expire();
    }

    /// Lets the least recently used sessions go until the bounds hold. The one in use is the last
    /// to be considered, and fits alone.
    fn expire(&mut self) {
        while self.by_id.len() > self.bounds.sessions.max(1)
            || (self.bytes > self.bounds.bytes && self.by_id.len() > 1)
        {
            let (_, id) = self.by_use.pop_first().expect("one for each session");
            let session = self.by_id.remove(&id).expect("one for each session");
            self.hash = self.hash.wrapping_sub(session.hash(id));
            for (serial, reply) in &session.replies {
                self.hash = self.hash.wrapping_sub(reply_hash(id, *serial, reply));
            }
            self.bytes -= SESSION_BYTES + session.replies.len() * REPLY_BYTES;
        }
    }

    /// The sum of the hashes of all sessions and replies.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    #[cfg(test)]
    pub(super) fn ids(&self) -> Vec<u64> {
        self.by_id.keys().copied().collect()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Recounts from scratch what is kept up to date step by step.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let (mut bytes, mut hash) = (0, 0u64);
        for (id, session) in &self.by_id {
            assert_eq!(self.by_use.get(&session.touched), Some(id));
            bytes += SESSION_BYTES + REPLY_BYTES * session.replies.len();
            hash = hash.wrapping_add(session.hash(*id));
            let mut before = 0;
            for (serial, reply) in &session.replies {
                assert!(*serial >= session.answered_below && *serial > before);
                assert!(*serial - session.answered_below < SERIAL_WINDOW);
                before = *serial;
                hash = hash.wrapping_add(reply_hash(*id, *serial, reply));
            }
        }
        assert_eq!(self.by_use.len(), self.by_id.len());
        assert_eq!((bytes, hash), (self.bytes, self.hash));
    }
}

impl Session {
    /// Where the reply of a serial is, or where it belongs. Serials mostly come in order, so the
    /// back is looked at first.
    fn place(&self, serial: u64) -> Result<usize, usize> {
        match self.replies.back() {
            Some((last, _)) if *last >= serial => {
                self.replies.binary_search_by_key(&serial, |(serial, _)| *serial)
            }
            _ => Err(self.replies.len()),
        }
    }

    fn hash(&self, id: u64) -> u64 {
        PartHasher::new(Part::Session)
            .numbers(id, self.touched)
            .numbers(self.answered_below, 0)
            .finish()
    }
}

fn reply_hash(id: u64, serial: u64, reply: &Applied) -> u64 {
    let (kind, number) = match reply.outcome {
        Outcome::Session { session } => (0, session),
        Outcome::Written { revision, succeeded: false } => (1, revision),
        Outcome::Written { revision, succeeded: true } => (2, revision),
        Outcome::SessionExpired => (3, 0),
        Outcome::SerialOutOfWindow => (4, 0),
        Outcome::Rejected => (5, 0),
    };
    PartHasher::new(Part::Reply)
        .numbers(id, serial)
        .numbers(reply.index, reply.term)
        .numbers(kind, number)
        .finish()
}
