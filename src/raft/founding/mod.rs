//! Founding: how nodes with empty directories become one cluster, or none.
//!
//! # The agreement
//!
//! A seat is a name in the seed list; a node id is one directory's own random number. A cluster is
//! founded by a unanimous commit over *node ids*, so that a second process under one name, or a node
//! that lost its disk and came back, is somebody else and can confuse nobody:
//!
//! 1. Every node with an empty directory asks its seeds, and every address that the service's name
//!    resolves to, again and again. Anyone who has a cluster id stops it: it waits to be taken in.
//! 2. When all seeds have answered one round, all empty, all with the same seed list, and the service has
//!    been heard (see below), the node in the lowest seat (least name, byte by byte) **drafts** a record:
//!    a new cluster id, and every seat with the node id it answered with. The cluster id also names the
//!    draft: every draft has a new one.
//! 3. Each listed node **holds** at most one draft at a time. Holding one is accepting it; the drafter
//!    holds its own.
//! 4. When all listed nodes have accepted, the drafter **decides**, and tells. Whoever learns the
//!    decision is in the cluster and tells whoever still inquires.
//!
//! Each step is on disk before it is said. A draft is let go only when its drafter **withdrew** it, or
//! when every other listed node but the drafter has **refused it for good**: a node refuses for good
//! only what it does not hold, and never accepts it afterwards.
//!
//! # Why there is at most one decision for a node id
//!
//! Let `A` and `B` be decided and both list node `x`. Both drafters counted `x`'s acceptance, so `x`
//! held both, one after the other, say `A` first, and let `A` go undecided. Either `A`'s drafter had
//! withdrawn it; a drafter that does not hold its draft never decides it. Or another listed node had
//! refused `A` for good; then that node never accepts `A`, and `A` lacks an acceptance for ever. Either
//! way `A` was not decided. With two seats there is no "other listed node", and the empty set proves
//! nothing: there only the drafter frees the acceptor.
//!
//! # A cluster under other seats
//!
//! Members beyond the configured seats are found by the service's name. When that name does not resolve,
//! or an address behind it is silent, a cluster may be there unheard, so the lowest seat waits, and asks
//! on, until it has found nothing else in the way for a minute. Then the seeds' word is enough: silence
//! that lasts proves nothing, and must not keep a new cluster from being founded for ever. That wait is
//! caution on top of the agreement, which rests on no clock; nor is it the only way: a member that lives
//! dials the seats it knows, and its hello stops them ([`greeted`]).
//!
//! # Who asks whom, so that a lost message or a crash is made up for
//!
//! The drafter repeats its draft to those who have not accepted. A holder **inquires** of every listed
//! node: the drafter answers with the decision or the withdrawal, any other node with the decision if
//! it knows it. When the drafter's seat answers with another node id the inquiry says that the drafter
//! is **gone**, and a node that does not hold the draft then refuses it for good. Nobody waits for an
//! acknowledgement, and no counter or clock decides anything.
//!
//! Like every unanimous commit this one can block: if the drafter's directory is lost after two
//! others accepted and before any of them learned a decision, they hold the draft for ever, because
//! the lost directory may have said "decided" to somebody. They say so and name the way out
//! (`srvraft discard` on each), which makes them new nodes.
//!
//! # What the runtime does
//!
//! One [`Founding`] lives as long as the node, in whatever thread owns it; it is fed [`tick`],
//! [`asked`], [`greeted`], [`received`] and [`persisted`], and its [`Effects`] are run in the order
//! that [`effects`] gives. `Boot.Ask` is answered with [`Founding::answer`]; `Boot.Deliver` carries one
//! [`Letter`] and its reply is [`Effects::reply`]. A node that was taken in, and has no founding
//! record, answers with [`member_reply`].
//!
//! On disk, in this order, and each step repeatable after a crash:
//!
//! 1. the [`Record`] with [`Stage::Decided`] (the truth; written when [`Effects::persist`] says so);
//! 2. when [`Effects::founded`] comes back, or at a start whose record is decided
//!    ([`Founding::founded`]): if the log holds no entry at all, one batch of
//!    [`Founded::hard_state`] and [`Founded::entry`];
//! 3. when that batch is durable: [`raft::Node`](super::node::Node) is started. Nothing votes,
//!    campaigns or acknowledges before.
//!
//! A crash after 1 is repaired by doing 2 at the next start, with the same bytes, because both come from
//! the record. A node that was taken in has its cluster on disk and no decided record. A node whose
//! record holds a draft must not be taken into another cluster before it has let the draft go.
//!
//! [`tick`]: Founding::tick
//! [`asked`]: Founding::asked
//! [`greeted`]: Founding::greeted
//! [`received`]: Founding::received
//! [`persisted`]: Founding::persisted
//!
//! A node that waits is taken into a cluster that exists by the leader of that cluster
//! ([`raft::seats`](super::seats)); here is only what goes with it: which cluster it may be
//! ([`Founding::cluster_heard`]), and that it founds nothing afterwards ([`Founding::taken_in`]).

pub mod effects;
mod letters;
mod machine;
pub mod message;
pub mod record;
mod sentence;
mod survey;
#[cfg(test)]
mod tests;

pub use effects::{AskRound, Effects, Outgoing, Persist, RecordToken, Reply};
pub use machine::Founding;
pub use message::{Answer, Ask, Delivered, Letter, Message, Sender, member_reply};
pub use record::{Draft, Founded, Me, Record, Seed, Stage};
pub use survey::Asked;
