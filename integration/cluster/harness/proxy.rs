//! A line that can be cut: a TCP proxy before a node, below TLS. It sees bytes and no frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{free_ports, runtime};

/// What is read at once.
const PIECE: usize = 16 << 10;

/// What the line does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Carries everything.
    Whole,
    /// Carries so many bytes of each connection towards the node, and then breaks it.
    CutAfter(u64),
    /// Carries nothing: connections break, and new ones end at once.
    Off,
}

/// The connections so far, in the order in which they came.
#[derive(Default)]
struct Numbers {
    begun: AtomicU64,
    /// Those before this one carry nothing any more.
    mute: AtomicU64,
}

/// The proxy. It ends when it is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: String,
    line: watch::Sender<Option<Line>>,
    cuts: Arc<AtomicU64>,
    numbers: Arc<Numbers>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Carries connections to `target`.
    pub fn start(target: &str) -> Proxy {
        let address = format!("127.0.0.1:{}", free_ports(1)[0]);
        let (line, told) = watch::channel(Some(Line::Whole));
        let cuts = Arc::<AtomicU64>::default();
        let numbers = Arc::<Numbers>::default();
        let counted = (cuts.clone(), numbers.clone());
        let (target, own) = (target.to_owned(), address.clone());
        let listener = std::net::TcpListener::bind(&own).expect("a port that was free just now");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let thread = std::thread::spawn(move || {
            runtime().block_on(serve(listener, target, told, counted));
        });
        Proxy { address, line, cuts, numbers, thread: Some(thread) }
    }

    /// From now on each connection breaks after so many bytes towards the node, those it has carried
    /// already among them.
    pub fn cut_after(&self, bytes: u64) {
        self.set(Line::CutAfter(bytes));
    }

    /// Breaks all connections and takes no more.
    pub fn cut_off(&self) {
        self.set(Line::Off);
    }

    /// The connections that stand fall silent in both directions and are not broken, as when a machine
    /// loses its power or is paused; new ones are carried.
    pub fn mute_standing(&self) {
        self.numbers.mute.store(self.numbers.begun.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Carries everything again.
    pub fn heal(&self) {
        self.set(Line::Whole);
    }

    /// Connections broken by [`cut_after`](Proxy::cut_after).
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    fn set(&self, line: Line) {
        self.line.send_replace(Some(line));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.send_replace(None);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the proxy panicked");
    }
}

async fn serve(
    listener: std::net::TcpListener,
    target: String,
    mut told: watch::Receiver<Option<Line>>,
    counted: (Arc<AtomicU64>, Arc<Numbers>),
) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A caller that is gone already is none.
                let Ok((caller, _)) = accepted else { continue };
                tokio::spawn(carry(caller, target.clone(), told.clone(), counted.clone()));
            }
            changed = told.changed() => {
                if changed.is_err() || told.borrow().is_none() {
                    return;
                }
            }
        }
    }
}

/// One connection. Dropping its ends breaks it.
async fn carry(
    caller: TcpStream,
    target: String,
    mut told: watch::Receiver<Option<Line>>,
    (cuts, numbers): (Arc<AtomicU64>, Arc<Numbers>),
) {
    let number = numbers.begun.fetch_add(1, Ordering::SeqCst);
    let mute = || number < numbers.mute.load(Ordering::SeqCst);
    if matches!(*told.borrow_and_update(), None | Some(Line::Off)) {
        return;
    }
    let Ok(node) = TcpStream::connect(&target).await else { return };
    let (from_caller, to_caller) = caller.into_split();
    let (from_node, to_node) = node.into_split();
    let line = told.clone();
    let limit = move || match *line.borrow() {
        Some(Line::CutAfter(bytes)) => bytes,
        _ => u64::MAX,
    };
    let off = async {
        while !matches!(*told.borrow_and_update(), None | Some(Line::Off)) {
            if told.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = off => {}
        cut = pump(from_caller, to_node, limit, mute) => {
            if cut {
                cuts.fetch_add(1, Ordering::Relaxed);
            }
        }
        _ = pump(from_node, to_caller, || u64::MAX, mute) => {}
    }
}

/// Carries bytes until one end closes or the limit is reached. True: the limit. A mute line swallows
/// them, and the end of one side is not seen by the other.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    limit: impl Fn() -> u64,
    mute: impl Fn() -> bool,
) -> bool {
    let (mut carried, mut piece) = (0u64, vec![0; PIECE]);
    loop {
        let read = from.read(&mut piece).await;
        if mute() {
            match read {
                Ok(1..) => continue,
                _ => std::future::pending().await,
            }
        }
        let Ok(read @ 1..) = read else { return false };
        let left = limit().saturating_sub(carried);
        let fits = usize::try_from(left).unwrap_or(usize::MAX).min(read);
        if to.write_all(&piece[..fits]).await.is_err() {
            return false;
        }
        carried += fits as u64;
        if fits < read {
            return true;
        }
    }
}
