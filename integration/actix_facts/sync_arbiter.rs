//! Facts about `SyncArbiter`, and why Balsa's disk does without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use actix::prelude::*;

use crate::{PATIENCE, settle, until};

struct Blocking {
    born: usize,
    gate: Arc<AtomicBool>,
    handled: Arc<AtomicUsize>,
}

impl Actor for Blocking {
    type Context = SyncContext<Self>;
}

#[derive(Message)]
#[rtype(result = "usize")]
enum Work {
    /// Waits at the gate, then counts.
    Wait,
    /// Answers which instance this is.
    Who,
    /// Calls `stop()`.
    Stop,
    /// Panics.
    Panic,
}

impl Handler<Work> for Blocking {
    type Result = usize;

    fn handle(&mut self, work: Work, ctx: &mut Self::Context) -> usize {
        match work {
            Work::Wait => {
                while !self.gate.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                self.handled.fetch_add(1, Ordering::SeqCst);
            }
            Work::Who => {}
            Work::Stop => ctx.stop(),
            Work::Panic => panic!("this panic belongs to the test"),
        }
        self.born
    }
}

/// One worker thread, whose actors are numbered in the order of their making.
fn blocking() -> (Addr<Blocking>, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (gate, handled, born) = (Arc::default(), Arc::default(), AtomicUsize::new(0));
    let (for_gate, for_handled) = (Arc::clone(&gate), Arc::clone(&handled));
    let actor = SyncArbiter::start(1, move || Blocking {
        born: born.fetch_add(1, Ordering::SeqCst) + 1,
        gate: Arc::clone(&for_gate),
        handled: Arc::clone(&for_handled),
    });
    (actor, gate, handled)
}

/// Hence, with the two facts below: the disk is a thread of our own behind a bounded channel.
#[actix_rt::test]
async fn the_queue_of_a_sync_arbiter_has_no_bound() {
    let (actor, gate, handled) = blocking();
    for n in 0..2000 {
        assert!(actor.try_send(Work::Wait).is_ok(), "message {n} was refused");
        actix_rt::task::yield_now().await;
    }
    assert_eq!(handled.load(Ordering::SeqCst), 0, "all of them wait behind the first");
    gate.store(true, Ordering::SeqCst);
    until("all are handled", || handled.load(Ordering::SeqCst) == 2000).await;
}

#[actix_rt::test]
async fn stop_in_a_sync_arbiter_means_restart_with_a_new_instance() {
    let (actor, _, _) = blocking();
    assert_eq!(actor.send(Work::Who).await, Ok(1));
    assert_eq!(actor.send(Work::Stop).await, Ok(1));
    assert_eq!(actor.send(Work::Who).await, Ok(2), "a new value, and nobody asked for it");
}

/// The thread's death is noticed by nobody until somebody sends: the forwarder then panics in turn,
/// and with it the address closes.
#[actix_rt::test]
async fn after_a_panic_of_its_thread_a_sync_arbiter_dies_at_the_next_send() {
    let (actor, _, _) = blocking();
    assert!(matches!(actor.send(Work::Panic).await, Err(MailboxError::Closed)));
    settle().await;
    assert!(actor.connected(), "the only worker is dead and the address still looks alive");

    let begun = Instant::now();
    while actor.connected() {
        assert!(begun.elapsed() < PATIENCE, "the address never closed");
        assert!(matches!(actor.send(Work::Who).await, Err(MailboxError::Closed)));
    }
}
