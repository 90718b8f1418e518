//! What the bytes on a connection mean: a fixed head, a method's name in requests, a body.
//!
//! ```text
//!  0        4  5    6     7     8         16         20
//!  | length | v | kind | name | flags | seq | timeout | name … | body …
//! ```
//!
//! All numbers are big-endian. `length` counts what follows it, so it is at least 16. The parser is
//! pure: bytes in, frames out, in whatever pieces the bytes arrive. A length over the limit is
//! refused as soon as its four bytes are there, and the buffer grows with the bytes received, never
//! with the length announced (correctness section 9). A body over its own kind's or method's limit
//! is skipped without being kept, so that the call can be refused and the connection goes on.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::hello::HELLO_BYTES_MAX;
use super::methods::{METHOD_NAME_MAX, Method, REPLY_BYTES_MAX};
use crate::identity::printable;

/// The frame format's version, the first byte after the length.
pub const FRAME_VERSION: u8 = 1;

/// Bytes before the method's name, the length's own four included.
pub const HEAD_BYTES: usize = 20;

/// Bytes of the longest frame, the length's own four not included. Longer ones are refused before
/// anything is allocated, and the connection is closed.
pub const FRAME_BYTES_MAX: usize = 8 << 20;

/// Bytes a refusal or a close may have.
pub const REFUSAL_BYTES_MAX: usize = 16 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The dialer's first frame.
    Hello = 1,
    /// The server's answer to it.
    HelloAck = 2,
    /// A call.
    Request = 3,
    /// A call's result.
    Reply = 4,
    /// A call's, or the hello's, refusal.
    Refusal = 5,
    /// The sender will answer what it has begun, takes nothing more, and closes.
    Close = 6,
}

/// The method a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// The frame names none.
    Nothing,
    /// One of the table.
    Known(Method),
    /// One that this version does not know, made printable.
    Unknown(String),
}

/// The part of a frame before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// Which call it makes or answers; chosen by the dialer, zero for what belongs to no call.
    pub seq: u64,
    /// Milliseconds the caller will wait from now on; requests only.
    pub timeout_ms: u32,
    /// The method; requests only.
    pub method: Named,
}

/// What the parser found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole frame; the body is a slice of the received buffer.
    Frame(Head, Bytes),
    /// The head of a frame whose body is over its limit; the body is being skipped.
    Oversize {
        /// The head.
        head: Head,
        /// Bytes of the body.
        bytes: usize,
        /// Bytes it may have.
        max: usize,
    },
}

/// A frame that breaks the format: nothing after it can be trusted, so the connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length does not even cover the head.
    #[error("a frame of {0} bytes is shorter than its head of {min}", min = HEAD_BYTES - 4)]
    TooShort(u32),
    /// The length is over the limit.
    #[error("a frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong(u32),
    /// Another format.
    #[error("frame format version {0} is not {FRAME_VERSION}")]
    Version(u8),
    /// A kind that this version does not know.
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    /// Flags that this version does not know.
    #[error("frame flags {0:#04x} are unknown")]
    Flags(u8),
    /// A method's name where none belongs, none where one does, or one that is too long.
    #[error("a method name of {0} bytes does not fit a frame of this kind and length")]
    Name(u8),
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] =
        [Kind::Hello, Kind::HelloAck, Kind::Request, Kind::Reply, Kind::Refusal, Kind::Close];

    fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Its name in the protocol's document.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Hello => "hello",
            Kind::HelloAck => "hello_ack",
            Kind::Request => "request",
            Kind::Reply => "reply",
            Kind::Refusal => "refusal",
            Kind::Close => "close",
        }
    }
}

impl Head {
    /// The head of a frame that names no method.
    #[must_use]
    pub fn plain(kind: Kind, seq: u64) -> Head {
        Head { kind, seq, timeout_ms: 0, method: Named::Nothing }
    }

    /// The head of a call.
    #[must_use]
    pub fn request(method: Method, seq: u64, timeout_ms: u32) -> Head {
        Head { kind: Kind::Request, seq, timeout_ms, method: Named::Known(method) }
    }

    /// Bytes the body may have.
    #[must_use]
    pub fn body_max(&self) -> usize {
        match (self.kind, &self.method) {
            (Kind::Request, Named::Known(method)) => method.args_max(),
            (Kind::Request, _) => 0,
            (Kind::Hello | Kind::HelloAck, _) => HELLO_BYTES_MAX,
            (Kind::Reply, _) => REPLY_BYTES_MAX,
            (Kind::Refusal | Kind::Close, _) => REFUSAL_BYTES_MAX,
        }
    }

    /// Writes the head of a frame whose body has `body` bytes.
    ///
    /// # Panics
    /// If the frame would be over [`FRAME_BYTES_MAX`]: every sender checks its own kind's limit first.
    pub fn write(&self, body: usize, out: &mut BytesMut) {
        let name = match &self.method {
            Named::Known(method) => method.name(),
            Named::Nothing => "",
            Named::Unknown(name) => name,
        };
        let length = HEAD_BYTES - 4 + name.len() + body;
        assert!(length <= FRAME_BYTES_MAX && name.len() <= METHOD_NAME_MAX, "senders check limits");
        out.reserve(HEAD_BYTES + name.len());
        out.put_u32(length as u32);
        out.put_u8(FRAME_VERSION);
        out.put_u8(self.kind as u8);
        out.put_u8(name.len() as u8);
        out.put_u8(0);
        out.put_u64(self.seq);
        out.put_u32(self.timeout_ms);
        out.put_slice(name.as_bytes());
    }
}

/// Received bytes, and the frames in them.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: BytesMut,
    /// Bytes of an oversize body still to come.
    skip: usize,
}

/// Room made for one read: a full TLS record's plaintext.
const READ_BYTES: usize = 16 << 10;
/// Less room than this is not worth a read.
const SPARE_MIN: usize = 2 << 10;

impl FrameBuffer {
    /// The buffer to read into, with room for at least one read, and for at most as many bytes again
    /// as were already received.
    pub fn room(&mut self) -> &mut BytesMut {
        if self.bytes.capacity() - self.bytes.len() < SPARE_MIN {
            let missing = self.length().map_or(0, |total| total.saturating_sub(self.bytes.len()));
            let received = self.bytes.len();
            self.bytes.reserve(missing.clamp(READ_BYTES, READ_BYTES.max(received)));
        }
        &mut self.bytes
    }

    /// Whether a frame has begun and not ended.
    #[must_use]
    pub fn in_frame(&self) -> bool {
        self.skip > 0 || !self.bytes.is_empty()
    }

    /// Bytes of the frame that begins the buffer, its length's own four included.
    fn length(&self) -> Option<usize> {
        let four: [u8; 4] = self.bytes.get(..4)?.try_into().ok()?;
        Some(4 + u32::from_be_bytes(four) as usize)
    }

    /// The next frame, or `None` until more bytes have come.
    ///
    /// # Errors
    /// [`FrameError`] if the bytes break the format; the buffer is then of no more use.
    pub fn next_item(&mut self) -> Result<Option<Item>, FrameError> {
        if self.skip > 0 {
            let now = self.skip.min(self.bytes.len());
            self.bytes.advance(now);
            self.skip -= now;
            if self.skip > 0 {
                return Ok(None);
            }
        }
        let Some(total) = self.length() else { return Ok(None) };
        let length = (total - 4) as u32;
        if total < HEAD_BYTES {
            return Err(FrameError::TooShort(length));
        }
        if total - 4 > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        let Some((head, name_bytes)) = self.head(total)? else { return Ok(None) };
        let body = total - HEAD_BYTES - name_bytes;
        let max = head.body_max();
        if body > max {
            self.bytes.advance(HEAD_BYTES + name_bytes);
            self.skip = body;
            return Ok(Some(Item::Oversize { head, bytes: body, max }));
        }
        if self.bytes.len() < total {
            return Ok(None);
        }
        self.bytes.advance(HEAD_BYTES + name_bytes);
        Ok(Some(Item::Frame(head, self.bytes.split_to(body).freeze())))
    }

    /// The head of the frame of `total` bytes that begins the buffer, once it is all there, and the
    /// bytes of its method's name.
    fn head(&self, total: usize) -> Result<Option<(Head, usize)>, FrameError> {
        let Some(mut fixed) = self.bytes.get(4..HEAD_BYTES) else { return Ok(None) };
        let version = fixed.get_u8();
        if version != FRAME_VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = fixed.get_u8();
        let kind = Kind::from_byte(kind).ok_or(FrameError::Kind(kind))?;
        let name_length = fixed.get_u8();
        let flags = fixed.get_u8();
        if flags != 0 {
            return Err(FrameError::Flags(flags));
        }
        let name_bytes = usize::from(name_length);
        if (name_bytes > 0) != (kind == Kind::Request)
            || name_bytes > METHOD_NAME_MAX
            || HEAD_BYTES + name_bytes > total
        {
            return Err(FrameError::Name(name_length));
        }
        let Some(name) = self.bytes.get(HEAD_BYTES..HEAD_BYTES + name_bytes) else {
            return Ok(None);
        };
        let method = match Method::from_bytes(name) {
            _ if name.is_empty() => Named::Nothing,
            Some(method) => Named::Known(method),
            None => Named::Unknown(printable(&String::from_utf8_lossy(name))),
        };
        let seq = fixed.get_u64();
        let timeout_ms = fixed.get_u32();
        Ok(Some((Head { kind, seq, timeout_ms, method }, name_bytes)))
    }
}
