//! The bytes of a snapshot file.
//!
//! ```text
//! offset  size
//!      0     8  magic BALSA-SN
//!      8     4  version
//!     12        pieces, side by side: one head, any number of content, one end; nothing behind it
//!
//! a piece
//!      0     4  crc32c of (the crc of the piece before, bytes 4.. of this one); the first piece
//!               follows the crc of the file's first twelve bytes
//!      4     1  kind: 1 head, 2 content, 3 end
//!      5     3  zero
//!      8     4  length of the body
//!     12        the body
//! ```
//!
//! All numbers are little-endian. The head is a [`SnapshotHead`] as MessagePack with field names;
//! the end says how many pieces of content there are and how many bytes they hold. Each checksum
//! covers the one before it, so that no piece can be left out, swapped, or taken from another file.
//! The first twelve bytes and the rule of the checksum are fixed for ever: so a newer version is
//! told from damage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::super::fs::File;
use super::super::record::write_named;
use super::SnapshotHead;
use crate::storage::StorageError;

/// The newest version known here.
pub(super) const VERSION: u32 = 1;
/// No body is longer.
pub(super) const PIECE_MAX: usize = 1 << 20;
/// Magic and version.
pub(super) const PREFIX_BYTES: usize = 12;
/// In front of each body.
pub(super) const PIECE_HEADER_BYTES: usize = 12;

const MAGIC: [u8; 8] = *b"BALSA-SN";

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// What the snapshot is of.
    Head = 1,
    /// A part of the content.
    Content = 2,
    /// How much there was of it.
    End = 3,
}

/// The first bytes of a file.
pub(super) fn prefix(version: u32) -> [u8; PREFIX_BYTES] {
    let mut bytes = [0; PREFIX_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// Makes one piece; returns its checksum.
pub(super) fn encode_piece(buffer: &mut Vec<u8>, previous: u32, kind: Kind, body: &[u8]) -> u32 {
    assert!(body.len() <= PIECE_MAX, "a piece of {} bytes could not be read back", body.len());
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&[kind as u8, 0, 0, 0]);
    buffer.extend_from_slice(&(body.len() as u32).to_le_bytes());
    buffer.extend_from_slice(body);
    let crc = chained(previous, &buffer[start + 4..]);
    buffer[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// The prefix and the head, and the head's checksum.
pub(super) fn encode_head(head: &SnapshotHead) -> (Vec<u8>, u32) {
    let mut body = Vec::new();
    write_named(&mut body, head);
    let mut buffer = prefix(VERSION).to_vec();
    let seed = crc32c::crc32c(&buffer);
    let crc = encode_piece(&mut buffer, seed, Kind::Head, &body);
    (buffer, crc)
}

/// How much content a file holds: the body of its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) pieces: u64,
    pub(super) bytes: u64,
}

impl Counts {
    pub(super) fn add(&mut self, body: usize) {
        self.pieces += 1;
        self.bytes += body as u64;
    }

    pub(super) fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.pieces.to_le_bytes());
        bytes[8..].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }
}

fn chained(previous: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&previous.to_le_bytes()), bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Why a file is not what it should be.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes are wrong: where, and what is.
    Broken(u64, String),
    /// The disk failed, or the file is of a newer format.
    Disk(StorageError),
}

impl Fault {
    /// As an error about a file on which nothing depends.
    pub(super) fn unsound(self, path: &Path) -> StorageError {
        match self {
            Fault::Broken(offset, what) => {
                StorageError::UnsoundSnapshot { path: path.display().to_string(), offset, what }
            }
            Fault::Disk(error) => error,
        }
    }
}

/// Reads a file piece by piece, checking each; never more than one piece in memory.
#[derive(Debug)]
pub(super) struct Pieces {
    file: Arc<dyn File>,
    path: PathBuf,
    length: u64,
    offset: u64,
    previous: u32,
    /// Checksum of all bytes so far.
    whole: u32,
    counts: Counts,
    ended: bool,
}

impl Pieces {
    /// Begins to read: checks the prefix and the head.
    pub(super) fn open(file: Arc<dyn File>, path: &Path) -> Result<(Pieces, SnapshotHead), Fault> {
        let length =
            file.len().map_err(|error| Fault::Disk(StorageError::io("reading", path, error)))?;
        let mut pieces = Pieces {
            file,
            path: path.to_owned(),
            length,
            offset: 0,
            previous: 0,
            whole: 0,
            counts: Counts::default(),
            ended: false,
        };
        let start = pieces.read(PREFIX_BYTES)?;
        if start[..8] != MAGIC {
            return Err(Fault::Broken(0, "the file begins with a wrong magic number".to_owned()));
        }
        let version = u32_at(&start, 8);
        pieces.previous = crc32c::crc32c(&start);
        let (kind, body) = pieces.piece()?;
        // Only now it is sure that the version was written like this.
        if version > VERSION {
            let path = path.display().to_string();
            let error = StorageError::NewerFormat { path, found: version, known: VERSION };
            return Err(Fault::Disk(error));
        }
        let at = PREFIX_BYTES as u64;
        if kind != Kind::Head as u8 {
            return Err(Fault::Broken(at, "the file does not begin with a head".to_owned()));
        }
        let head: SnapshotHead = rmp_serde::from_slice(&body)
            .map_err(|error| Fault::Broken(at, format!("a head that cannot be read: {error}")))?;
        if !head.meta.is_sound() {
            let what = format!("a head that makes no sense: {:?}", head.meta);
            return Err(Fault::Broken(at, what));
        }
        Ok((pieces, head))
    }

    /// Where the next piece begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The checksum of everything before [`offset`](Pieces::offset).
    pub(super) fn whole(&self) -> u32 {
        self.whole
    }

    /// The next piece of content; none behind the last one, once the end was read and checked.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.ended {
            return Ok(None);
        }
        let at = self.offset;
        let broken = |what: &str| Err(Fault::Broken(at, what.to_owned()));
        let (kind, body) = self.piece()?;
        if kind == Kind::Content as u8 {
            self.counts.add(body.len());
            return Ok(Some(body));
        }
        if kind != Kind::End as u8 {
            return broken("a piece of unknown kind");
        }
        if *body != self.counts.encode() {
            return broken("the end counts other pieces than there are");
        }
        if self.offset != self.length {
            return broken("the file goes on behind its end");
        }
        self.ended = true;
        Ok(None)
    }

    /// Reads to the end, and checks all of it.
    pub(super) fn drain(&mut self) -> Result<(), Fault> {
        while self.next()?.is_some() {}
        Ok(())
    }

    fn piece(&mut self) -> Result<(u8, Bytes), Fault> {
        let at = self.offset;
        let broken = |what: &str| Fault::Broken(at, what.to_owned());
        let header = self.read(PIECE_HEADER_BYTES)?;
        let length = u32_at(&header, 8) as usize;
        if length > PIECE_MAX || header[5..8] != [0; 3] {
            return Err(broken("a piece with an impossible header"));
        }
        let body = self.read(length).map_err(|fault| match fault {
            Fault::Broken(_, what) => Fault::Broken(at, what),
            disk => disk,
        })?;
        let crc = crc32c::crc32c_append(chained(self.previous, &header[4..]), &body);
        if crc != u32_at(&header, 0) {
            return Err(broken("a piece with a wrong checksum"));
        }
        self.previous = crc;
        Ok((header[4], Bytes::from(body)))
    }

    fn read(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        let mut buffer = vec![0; count];
        let there = self
            .file
            .read_at(&mut buffer, self.offset)
            .map_err(|error| Fault::Disk(StorageError::io("reading", &self.path, error)))?;
        if there < count {
            return Err(Fault::Broken(self.offset, "the file ends inside a piece".to_owned()));
        }
        self.whole = crc32c::crc32c_append(self.whole, &buffer);
        self.offset += count as u64;
        Ok(buffer)
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
