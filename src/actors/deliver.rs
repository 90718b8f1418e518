//! The one place that goes past a mailbox's bound.
//!
//! `do_send` ignores a mailbox's capacity and says nothing if the actor is dead
//! (`integration/actix_facts.rs`), so it is banned everywhere else. It is right for a message that must
//! not be lost and whose number is bounded by something other than the mailbox; each call says by what.
//! That an actor is dead is the supervisor's to notice.

use actix::dev::{MessageResponse, ToEnvelope};
use actix::prelude::*;

/// Hands over messages that must not be lost.
pub trait Deliver<M> {
    /// Puts the message into the mailbox, however full it is.
    fn deliver(&self, message: M);
}

impl<A, M> Deliver<M> for Addr<A>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: MessageResponse<A, M> + Send,
{
    #[expect(clippy::disallowed_methods, reason = "the one exception, see the module")]
    fn deliver(&self, message: M) {
        self.do_send(message);
    }
}

impl<M> Deliver<M> for Recipient<M>
where
    M: Message + Send,
    M::Result: Send,
{
    #[expect(clippy::disallowed_methods, reason = "the one exception, see the module")]
    fn deliver(&self, message: M) {
        self.do_send(message);
    }
}
