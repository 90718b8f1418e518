//! Asking for a sign of life.

use std::time::Duration;

use tokio::time::sleep;

use super::super::methods::Method;
use super::super::wire;
use super::{Connection, Shared};

impl Connection {
    /// Resolves when nothing at all has arrived for [`Limits::silence`](crate::rpc::Limits::silence), although
    /// the peer was asked for a sign of life meanwhile; for whoever waits for a call that may rightly take
    /// longer. How long nothing came.
    pub async fn fell_silent(&self) -> Duration {
        let shared = &*self.0.0;
        let quiet = shared.limits.silence / 3;
        loop {
            let heard = shared.silence.now();
            sleep(quiet).await;
            if shared.silence.now() != heard {
                continue;
            }
            let asked = shared.silence.is_asked_for(heard, || ask(shared));
            sleep(shared.limits.silence - quiet).await;
            if asked && shared.silence.fell(heard) {
                shared.stale.send_replace(true);
                return shared.limits.silence;
            }
        }
    }
}

/// Asks what every node answers at once, whatever else it cannot do. Nobody waits for the answer: that something
/// arrives is all that counts. False if there is no room for it, and then nothing is proved.
fn ask(shared: &Shared) -> bool {
    let Ok(slot) = shared.slots.try_acquire() else { return false };
    if shared.outbox.queued() >= shared.limits.queued_bytes {
        return false;
    }
    let deadline = tokio::time::Instant::now() + shared.limits.silence;
    let question =
        wire::encode(&(), |args| shared.submit(slot, Method::NodeStatus, args, deadline).is_ok());
    question.unwrap_or(false)
}
