//! The election timer: an actor on an arbiter of its own, so that no flood of messages can starve it
//! (an actor's mailbox is drained before its timers run, `integration/actix_facts.rs`).
//!
//! It sends numbered ticks and decides nothing. After a stall the missed ticks are skipped, not sent
//! in a burst: a burst would be an instant election, while slow ticks are safe because nothing relies
//! on a lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::time::MissedTickBehavior;

use super::messages::TickElapsed;

/// The number of the newest tick, shared with the node, which skips all older ones.
pub type NewestTick = Arc<AtomicU64>;

/// Sends [`TickElapsed`] every `tick`.
pub struct ElectionTimer {
    /// How long a tick is.
    pub tick: Duration,
    /// Raised before each tick is sent.
    pub newest: NewestTick,
    /// The node. One kept address: a clone for each message would each own a mailbox slot.
    pub node: Recipient<TickElapsed>,
}

impl Actor for ElectionTimer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let mut interval = tokio::time::interval(self.tick);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (newest, node) = (Arc::clone(&self.newest), self.node.clone());
        let ticking = async move {
            loop {
                interval.tick().await;
                let number = newest.fetch_add(1, Ordering::Relaxed) + 1;
                match node.try_send(TickElapsed { number }) {
                    // A full mailbox loses this tick; the next one stands for it.
                    Ok(()) | Err(SendError::Full(_)) => {}
                    // The node is gone; the supervisor ends the process.
                    Err(SendError::Closed(_)) => return,
                }
            }
        };
        ctx.spawn(ticking.into_actor(self));
    }
}
