//! What the actor framework really does, pinned.
//!
//! Balsa's actors are built on measured behaviour of actix 0.13.5, not on what its documentation
//! suggests. Each test here is one fact, and says what Balsa concludes from it. An upgrade that
//! changes a fact fails here, by name, before it can change how a cluster behaves.
//!
//! No fact is judged by a short sleep: a test either counts messages, or waits for a condition with
//! a deadline far beyond any machine's hiccups.

#![expect(clippy::disallowed_methods, reason = "what the banned methods do is pinned here")]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[path = "actix_facts/sync_arbiter.rs"]
mod sync_arbiter;

use actix::dev::SendError;
use actix::prelude::*;
use futures_util::FutureExt as _;

/// How long a condition may take before the test gives up. Never reached by a passing test.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a condition holds, leaving the arbiter to the actors meanwhile.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "gave up waiting until {what}");
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lets every task that is ready run once, several times over.
async fn settle() {
    for _ in 0..100 {
        actix_rt::task::yield_now().await;
    }
}

/// What an actor handled, in order; shared with the test.
type Trace = Rc<RefCell<Vec<String>>>;

// --------------------------------------------------------------------------------------------
// An actor that counts, with a mailbox of a chosen capacity.

struct Counter {
    capacity: Option<usize>,
    handled: Rc<RefCell<Vec<u32>>>,
}

impl Counter {
    fn start_with(capacity: Option<usize>) -> (Addr<Counter>, Rc<RefCell<Vec<u32>>>) {
        let handled = Rc::default();
        (Counter { capacity, handled: Rc::clone(&handled) }.start(), handled)
    }
}

impl Actor for Counter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(capacity) = self.capacity {
            ctx.set_mailbox_capacity(capacity);
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Count(u32);

impl Handler<Count> for Counter {
    type Result = ();

    fn handle(&mut self, message: Count, _: &mut Self::Context) {
        self.handled.borrow_mut().push(message.0);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct StopNow;

impl Handler<StopNow> for Counter {
    type Result = ();

    fn handle(&mut self, _: StopNow, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// A mailbox is no bound for `do_send`. Hence: it is banned, but for completions whose number is
/// bounded by what was asked for.
#[actix_rt::test]
async fn do_send_ignores_the_mailbox_capacity() {
    let (counter, handled) = Counter::start_with(Some(4));
    settle().await;
    for n in 0..100 {
        counter.do_send(Count(n));
    }
    assert!(handled.borrow().is_empty(), "nothing runs before the sender yields");
    until("all are handled", || handled.borrow().len() == 100).await;
}

/// Hence: where a message must not get lost unnoticed, it is sent by `try_send`, whose `Closed` ends
/// the process or the connection.
#[actix_rt::test]
async fn do_send_to_a_dead_actor_says_nothing_where_try_send_says_closed() {
    let (counter, handled) = Counter::start_with(None);
    counter.send(StopNow).await.expect("alive until it stops");
    until("the actor is gone", || !counter.connected()).await;

    counter.do_send(Count(1));
    settle().await;
    assert!(handled.borrow().is_empty(), "the message vanished");
    assert!(matches!(counter.try_send(Count(2)), Err(SendError::Closed(Count(2)))));
}

/// Hence: a sender keeps its one address, and then the capacity is a tripwire.
#[actix_rt::test]
async fn try_send_on_one_kept_address_is_refused_when_the_mailbox_is_full() {
    let (counter, handled) = Counter::start_with(Some(4));
    settle().await;
    let refused = (0..100).filter(|n| counter.try_send(Count(*n)).is_err()).count();
    assert_eq!(refused, 96, "four fit");
    settle().await;
    assert_eq!(*handled.borrow(), [0, 1, 2, 3]);
    assert!(counter.try_send(Count(4)).is_ok(), "there is room again after the mailbox is drained");
}

/// Each clone brings a slot of its own, so a clone per message undoes the bound.
#[actix_rt::test]
async fn try_send_on_a_fresh_clone_per_message_is_never_refused() {
    let (counter, handled) = Counter::start_with(Some(4));
    settle().await;
    let refused = (0..100).filter(|n| counter.clone().try_send(Count(*n)).is_err()).count();
    assert_eq!(refused, 0);
    until("all are handled", || handled.borrow().len() == 100).await;
}

/// The numbers in the actors' mailbox table start from this default.
#[actix_rt::test]
async fn a_mailbox_holds_sixteen_messages_by_default() {
    let (counter, _) = Counter::start_with(None);
    settle().await;
    let accepted = (0..100).filter(|n| counter.try_send(Count(*n)).is_ok()).count();
    assert_eq!(accepted, 16);
}

/// Hence: flow control is a permit carried inside the message, never the mailbox.
#[actix_rt::test]
async fn send_does_not_wait_for_room() {
    let (counter, handled) = Counter::start_with(Some(1));
    settle().await;
    let mut sends: Vec<_> = (0..100).map(|n| Box::pin(counter.send(Count(n)))).collect();
    for send in &mut sends {
        // One poll enqueues; that it is pending means only that the answer is.
        assert!(send.as_mut().now_or_never().is_none());
    }
    until("all hundred are handled though one fits", || handled.borrow().len() == 100).await;
    for send in sends {
        send.await.expect("answered");
    }
}

/// Hence: what changes durable or protocol state is never a `send().await` under a time-out; it is
/// sent without an answer, and its completion is an event.
#[actix_rt::test]
async fn a_message_whose_send_future_was_dropped_is_silently_skipped() {
    let (counter, handled) = Counter::start_with(None);
    settle().await;
    let mut first = Box::pin(counter.send(Count(1)));
    let mut second = Box::pin(counter.send(Count(2)));
    let mut third = Box::pin(counter.send(Count(3)));
    for send in [&mut first, &mut second, &mut third] {
        assert!(send.as_mut().now_or_never().is_none(), "queued");
    }
    drop(second); // what a time-out does
    first.await.expect("answered");
    third.await.expect("answered");
    assert_eq!(*handled.borrow(), [1, 3], "the second was in the mailbox and never ran");
}

// --------------------------------------------------------------------------------------------
// Handlers that wait.

struct Waiter(Trace);

impl Actor for Waiter {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Interleaved(u32);

#[derive(Message)]
#[rtype(result = "()")]
struct Atomic(u32);

impl Waiter {
    fn begin_then_end(&mut self, n: u32) -> ResponseActFuture<Self, ()> {
        self.0.borrow_mut().push(format!("b{n}"));
        Box::pin(
            actix_rt::time::sleep(Duration::from_millis(5))
                .into_actor(self)
                .map(move |(), waiter, _| waiter.0.borrow_mut().push(format!("e{n}"))),
        )
    }
}

impl Handler<Interleaved> for Waiter {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: Interleaved, _: &mut Self::Context) -> Self::Result {
        self.begin_then_end(message.0)
    }
}

impl Handler<Atomic> for Waiter {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, message: Atomic, _: &mut Self::Context) -> Self::Result {
        AtomicResponse::new(self.begin_then_end(message.0))
    }
}

/// Hence: the actor that owns the core has only synchronous handlers (A2), and the question never
/// arises there.
#[actix_rt::test]
async fn handlers_that_wait_interleave() {
    let trace = Trace::default();
    let waiter = Waiter(Rc::clone(&trace)).start();
    let (first, second) = tokio::join!(waiter.send(Interleaved(1)), waiter.send(Interleaved(2)));
    first.and(second).expect("answered");
    let trace = trace.borrow();
    assert_eq!(trace[..2], ["b1", "b2"], "the second began while the first waited: {trace:?}");
}

#[actix_rt::test]
async fn atomic_responses_do_not_interleave() {
    let trace = Trace::default();
    let waiter = Waiter(Rc::clone(&trace)).start();
    let (first, second) = tokio::join!(waiter.send(Atomic(1)), waiter.send(Atomic(2)));
    first.and(second).expect("answered");
    assert_eq!(*trace.borrow(), ["b1", "e1", "b2", "e2"]);
}

// --------------------------------------------------------------------------------------------
// Timers.

/// How often the timers below fire.
const BEAT: Duration = Duration::from_millis(10);

/// Ticks, and can be kept busy.
struct Ticker {
    ticks: Arc<AtomicUsize>,
}

impl Actor for Ticker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(BEAT, |ticker, _| {
            ticker.ticks.fetch_add(1, Ordering::SeqCst);
        });
    }
}

/// Sends itself on until `enough` says so: a mailbox that is never empty.
#[derive(Message)]
#[rtype(result = "()")]
struct Flood {
    enough: Arc<dyn Fn() -> bool + Send + Sync>,
    over: Arc<AtomicBool>,
}

impl Handler<Flood> for Ticker {
    type Result = ();

    fn handle(&mut self, flood: Flood, ctx: &mut Self::Context) {
        if (flood.enough)() {
            flood.over.store(true, Ordering::SeqCst);
        } else {
            ctx.address().do_send(flood);
        }
    }
}

/// Blocks the arbiter, as a slow handler would, and reports how many ticks it saw at its end.
#[derive(Message)]
#[rtype(result = "usize")]
struct Stall(Duration);

impl Handler<Stall> for Ticker {
    type Result = usize;

    fn handle(&mut self, stall: Stall, _: &mut Self::Context) -> usize {
        std::thread::sleep(stall.0);
        self.ticks.load(Ordering::SeqCst)
    }
}

/// Hence: the ticker is an actor of its own, which nobody floods.
#[actix_rt::test]
async fn a_flooded_mailbox_starves_the_actors_own_timers() {
    let ticks = Arc::new(AtomicUsize::new(0));
    let ticker = Ticker { ticks: Arc::clone(&ticks) }.start();
    until("the timer works while idle", || ticks.load(Ordering::SeqCst) >= 3).await;

    let over = Arc::new(AtomicBool::new(false));
    let before = Arc::new(AtomicUsize::new(usize::MAX));
    let after = Arc::new(AtomicUsize::new(usize::MAX));
    let enough = {
        let (ticks, before, after) = (Arc::clone(&ticks), Arc::clone(&before), Arc::clone(&after));
        let begun = Instant::now();
        move || {
            let seen = ticks.load(Ordering::SeqCst);
            // The first call is already inside the flood.
            let _ = before.compare_exchange(usize::MAX, seen, Ordering::SeqCst, Ordering::SeqCst);
            after.store(seen, Ordering::SeqCst);
            begun.elapsed() >= BEAT * 50
        }
    };
    ticker.do_send(Flood { enough: Arc::new(enough), over: Arc::clone(&over) });
    until("the flood is over", || over.load(Ordering::SeqCst)).await;
    assert_eq!(
        after.load(Ordering::SeqCst),
        before.load(Ordering::SeqCst),
        "not one tick in fifty beats of flood"
    );
    until("the timer goes on", || ticks.load(Ordering::SeqCst) > after.load(Ordering::SeqCst))
        .await;
}

/// Hence: ticks carry a number and the node skips stale ones, so that a backlog counts as one tick
/// (A5); a burst taken at face value would be an instant election.
#[actix_rt::test]
async fn after_a_stall_missed_ticks_come_in_one_burst() {
    let ticks = Arc::new(AtomicUsize::new(0));
    let ticker = Ticker { ticks: Arc::clone(&ticks) }.start();
    until("the timer works", || ticks.load(Ordering::SeqCst) >= 3).await;

    let stalled_at = ticker.send(Stall(BEAT * 100)).await.expect("answered");
    let stalled_until = Instant::now();
    until("eighty beats were made up for", || ticks.load(Ordering::SeqCst) >= stalled_at + 80)
        .await;
    let took = stalled_until.elapsed();
    assert!(took < BEAT * 40, "eighty beats came in {took:?}, not spread over {:?}", BEAT * 80);
}

/// Hence: the election timer runs on its own arbiter thread, where no flood of another actor can
/// reach it.
#[actix_rt::test]
async fn a_ticker_on_its_own_arbiter_ticks_while_another_actor_is_flooded() {
    let (own, others) = (Arbiter::new(), Arbiter::new());
    let ticks = Arc::new(AtomicUsize::new(0));
    let for_actor = Arc::clone(&ticks);
    let _ticker = Ticker::start_in_arbiter(&own.handle(), |_| Ticker { ticks: for_actor });
    let flooded = Ticker::start_in_arbiter(&others.handle(), |_| Ticker { ticks: Arc::default() });

    // The flood itself waits for the ticks: if they needed the flooded thread, none would come.
    let over = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let seen = Arc::clone(&ticks);
    let enough = move || seen.load(Ordering::SeqCst) >= 20 || begun.elapsed() > PATIENCE / 2;
    flooded.do_send(Flood { enough: Arc::new(enough), over: Arc::clone(&over) });
    until("the flood is over", || over.load(Ordering::SeqCst)).await;
    assert!(ticks.load(Ordering::SeqCst) >= 20);
    own.stop();
    others.stop();
}

// --------------------------------------------------------------------------------------------
// Death and restart.

/// An actor that can be made to panic or stop, and keeps a value in memory.
struct Mortal {
    value: u32,
    trace: Trace,
}

impl Actor for Mortal {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        self.trace.borrow_mut().push(format!("stopped with {}", self.value));
    }
}

impl Supervised for Mortal {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.trace.borrow_mut().push(format!("restarting with {}", self.value));
    }
}

#[derive(Message)]
#[rtype(result = "u32")]
struct Add(u32);

impl Handler<Add> for Mortal {
    type Result = u32;

    fn handle(&mut self, add: Add, _: &mut Self::Context) -> u32 {
        self.value += add.0;
        self.value
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Die;

impl Handler<Die> for Mortal {
    type Result = ();

    fn handle(&mut self, _: Die, _: &mut Self::Context) {
        panic!("this panic belongs to the test");
    }
}

impl Handler<StopNow> for Mortal {
    type Result = ();

    fn handle(&mut self, _: StopNow, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Hence: `panic = "abort"` in release and a hook that aborts otherwise (A3), and nothing that safety
/// needs in `stopped()`, which runs even while the actor's state is half changed.
#[actix_rt::test]
async fn a_panic_in_a_handler_kills_only_that_actor_and_stopped_still_runs() {
    let trace = Trace::default();
    let victim = Mortal { value: 7, trace: Rc::clone(&trace) }.start();
    let bystander = Mortal { value: 1, trace: Trace::default() }.start();

    assert!(matches!(victim.send(Die).await, Err(MailboxError::Closed)));
    until("the victim is gone", || !victim.connected()).await;
    assert_eq!(*trace.borrow(), ["stopped with 7"]);
    assert_eq!(bystander.send(Add(1)).await, Ok(2), "the process and the arbiter go on");
}

/// Hence: a restartable actor clears its state in `restarting()`, and the node, whose memory may be
/// ahead of its disk, is never restarted in place.
#[actix_rt::test]
async fn a_supervisor_restarts_a_stopped_actor_with_the_same_value() {
    let trace = Trace::default();
    let for_actor = Rc::clone(&trace);
    let actor = Supervisor::start(|_| Mortal { value: 0, trace: for_actor });
    assert_eq!(actor.send(Add(5)).await, Ok(5));
    actor.send(StopNow).await.expect("answered");
    assert_eq!(actor.send(Add(2)).await, Ok(7), "the old value lives on");
    assert_eq!(*trace.borrow(), ["stopped with 5", "restarting with 5"]);
}

/// Hence: the framework's supervisor is no answer to a fault in our own code; the process ends, and
/// whoever started it starts it anew from its disk.
#[actix_rt::test]
async fn a_supervisor_does_not_survive_a_panic() {
    let trace = Trace::default();
    let for_actor = Rc::clone(&trace);
    let actor = Supervisor::start(|_| Mortal { value: 0, trace: for_actor });
    assert!(matches!(actor.send(Die).await, Err(MailboxError::Closed)));
    until("the actor is gone", || !actor.connected()).await;
    assert_eq!(*trace.borrow(), ["stopped with 0"], "never restarted");
}
