//! Reading frames from a TLS stream, and ending one so that its last words arrive.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::close::CloseReason;
use super::frame::{FrameBuffer, Head, Item};
use super::limits::Limits;
use super::wire;

/// Under TLS: rustls asks for four kilobytes at a time, the system is asked for more.
pub(super) type Buffered = tokio::io::BufReader<TcpStream>;

const SYSTEM_READ_BYTES: usize = 16 << 10;

/// Bytes gathered before the frames in them are handed on.
const BATCH_BYTES: usize = 256 << 10;

/// Between two keepalives that were not answered.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// How long, and for how many bytes, an ended connection is still read, so that the other side reads
/// our last words before a reset overtakes them.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 256 << 10;

/// What is set on every socket of a call, dialed or accepted. Small frames are answers that somebody waits for, and we
/// coalesce ourselves. And the kernel says when the other machine is gone without a word (a worker that lost its power,
/// an address that moved), which no frame of ours would find out while nobody asks anything.
pub(super) fn prepare(stream: &TcpStream, limits: &Limits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(limits.unacknowledged).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    // Elsewhere it takes as long as the system's own setting says.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(limits.unacknowledged))?;
    Ok(())
}

pub(super) fn buffered(stream: TcpStream) -> Buffered {
    tokio::io::BufReader::with_capacity(SYSTEM_READ_BYTES, stream)
}

/// A stream's read side and the frames in it.
#[derive(Debug)]
pub(super) struct Source<R> {
    stream: R,
    pub(super) frames: FrameBuffer,
    /// An error that came behind bytes which had to be handed on first.
    failed: Option<io::Error>,
    /// When the last bytes came.
    pub(super) received: Instant,
    /// When the frame that has not ended yet began.
    frame_since: Option<Instant>,
}

impl<R: AsyncRead + Unpin> Source<R> {
    pub(super) fn new(stream: R) -> Source<R> {
        Source {
            stream,
            frames: FrameBuffer::default(),
            failed: None,
            received: Instant::now(),
            frame_since: None,
        }
    }

    /// Waits for bytes and takes all that are there, up to a batch. Zero: the stream has ended.
    /// Dropping the future loses nothing (A4): bytes go straight into the buffer.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Source { stream, frames, failed, .. } = self;
        let mut total = 0;
        let read = poll_fn(|cx| {
            loop {
                match pin!(stream.read_buf(frames.room())).poll(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(total)),
                    Poll::Ready(Ok(read)) => {
                        total += read;
                        if total >= BATCH_BYTES {
                            return Poll::Ready(Ok(total));
                        }
                    }
                    Poll::Ready(Err(error)) if total > 0 => {
                        *failed = Some(error);
                        return Poll::Ready(Ok(total));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if total > 0 => return Poll::Ready(Ok(total)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await?;
        self.received = Instant::now();
        Ok(read)
    }

    /// To be called when all whole frames have been taken: notes whether another has begun.
    pub(super) fn settle(&mut self) {
        self.frame_since =
            self.frames.in_frame().then(|| self.frame_since.unwrap_or(self.received));
    }

    /// To be called when a whole frame was taken: what follows is another frame.
    pub(super) fn frame_ended(&mut self) {
        self.frame_since = None;
    }

    /// Whether a frame has been unfinished for longer than `limit`.
    pub(super) fn is_slow(&self, limit: Duration) -> bool {
        self.frame_since.is_some_and(|since| since.elapsed() > limit)
    }

    /// The next frame, whatever it is.
    pub(super) async fn frame(&mut self) -> Result<(Head, Bytes), CloseReason> {
        loop {
            match self.frames.next_item() {
                Ok(Some(Item::Frame(head, body))) => return Ok((head, body)),
                Ok(Some(Item::Oversize { head, bytes, max })) => {
                    let kind = head.kind.word();
                    return Err(CloseReason::Violation(format!(
                        "a {kind} frame of {bytes} bytes is over its limit of {max}"
                    )));
                }
                Ok(None) => {}
                Err(error) => return Err(CloseReason::Violation(error.to_string())),
            }
            match self.fill().await {
                Ok(0) => return Err(CloseReason::Ended),
                Ok(_) => {}
                Err(error) => return Err(CloseReason::of_error(&error)),
            }
        }
    }

    /// Reads and forgets, for a little while, until the other side has closed.
    pub(super) async fn linger(&mut self) {
        linger(&mut self.stream).await;
    }
}

/// Writes one frame and flushes it.
pub(super) async fn write_frame<W, T>(stream: &mut W, head: &Head, body: &T) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
    T: serde::Serialize + ?Sized,
{
    let mut bytes = BytesMut::new();
    wire::encode(body, |encoded| {
        head.write(encoded.len(), &mut bytes);
        match encoded {
            wire::Encoded::Small(body) => bytes.extend_from_slice(body),
            wire::Encoded::Large(body) => bytes.extend_from_slice(&body),
        }
    })
    .map_err(io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Reads and forgets, for a little while, until the other side has closed.
pub(super) async fn linger<R: AsyncRead + Unpin>(stream: &mut R) {
    let mut waste = [0; 4096];
    let mut total = 0;
    let drain = async {
        while let Ok(read @ 1..) = stream.read(&mut waste).await {
            total += read;
            if total > LINGER_BYTES {
                break;
            }
        }
    };
    // Time over or not: the connection is closed next.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it is for needs two machines: scripts/test-containers.sh shows a node that comes back elsewhere.
    #[tokio::test]
    async fn a_machine_that_is_gone_is_noticed_by_the_kernel() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let limits = Limits { unacknowledged: Duration::from_secs(7), ..Limits::default() };
        prepare(&stream, &limits).unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        #[cfg(any(target_os = "linux", target_os = "android"))]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(limits.unacknowledged));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), limits.unacknowledged);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
    }
}
