//! LAYER 0: the protocol, a pure and deterministic core. Inputs in, effects out; no I/O, no clock, no
//! threads, no async, no global randomness, no logging.
//!
//! # The tour
//!
//! A cluster is a few nodes that keep one *log*. One of them leads at a time; it appends what clients
//! propose, sends it to the others, and calls an entry *committed* once a majority has it on disk. What
//! is committed is never lost, as long as any majority's disks survive.
//!
//! Everything begins at [`Node`]: each of its methods is one input, and each returns the [`Effects`]
//! that the caller must carry out, in the order written there. The node never waits. What takes time
//! comes back as another input: a batch is durable ([`Node::persisted`]), a call had no answer
//! ([`Node::unanswered`]), time passed ([`Node::tick`]).
//!
//! * **Terms and elections** (Raft §5.2, dissertation 9.6). Time is divided into terms with at most one
//!   leader each. A *follower* that hears no leader for its election timeout, drawn anew each time, asks
//!   whether it could win (`PreCandidate`), and only if a majority says yes raises the term and asks for
//!   votes (`Candidate`). A vote goes to the first who asks and whose log is at least as up to date
//!   (`vote.rs`). Whoever hears a leader gives no vote. A leader that hears no majority gives up (check
//!   quorum). None of the three works without the others. See `follower.rs`, `candidate.rs`,
//!   `election.rs`. A leader can hand over: it accepts nothing new, and its successor skips the question
//!   (dissertation 3.10, `transfer.rs`); it does so of its own accord when its disk stands still or is
//!   full. After a start a node gives no vote and asks for none before a quorum has said what it
//!   remembers of it, in answer to a pre-vote or to a hello, and its directory is no older than that
//!   (`greeting.rs`, `seen.rs`).
//! * **Replication** (§5.3). The *leader* (`leader.rs`) begins with a no-op. For each peer it keeps a
//!   `Progress` (`progress.rs`): first it *probes* where the logs agree, going back a whole term for
//!   each refusal, then it *replicates* in a pipeline with a window. A follower overwrites what
//!   conflicts and answers when the entries are on its disk.
//! * **Commit** (§5.4, `commit.rs`, `quorum.rs`). The leader commits what a majority has on disk, its
//!   own disk counted only when it has completed; and only entries of its own term, which commit
//!   everything before them. A follower commits what its leader says, as far as it has verified that
//!   its log is the leader's.
//! * **Reads** (§8, dissertation 6.4, `read_index.rs`). A read is answered with the commit index after
//!   a majority has answered a heartbeat that was sent after the read arrived. No lease, no clock.
//! * **Durability** (`disk.rs`). The node works ahead of its disk. What a message claims (a term, a
//!   vote, entries) decides whether it may leave at once or waits for a batch; this is computed in one
//!   place, not remembered by each author.
//!
//! * **Membership** (§6, `change.rs`, `reconfigure.rs`). A membership is an entry, active from being
//!   appended, and goes with a truncation (M1). Voters change by joint consensus, one change at a time;
//!   whoever leads completes it. Learners receive and never count.
//! * **Snapshots** (§7, `snapshot.rs`). The runtime takes them, stores them and moves them; the core says
//!   what they carry, how far the log behind one may be purged, which peer needs one, and what a
//!   follower makes of one that has arrived. It replaces the log in a batch of the disk like any other.
//!
//! * **Audits** (`audit.rs`). Nodes compare hashes of their state machines; a quorum of equal ones is
//!   right. Not part of [`Node`]: it looks on, and never decides what the log holds.
//!
//! The core knows the log's *shape* ([`LogShape`]: terms and sizes), never its payloads: they go
//! through to the disk, and the runtime reads them back for sending. Only memberships are kept.
//!
//! # What always holds
//!
//! The numbers are those of the project's list of invariants, quoted by every assertion. Those of the
//! first kind are checked here, in release builds as well: `invariants.rs` after every input, the
//! others where the data crosses in. A violation ends the process. The second kind needs to see the
//! whole cluster; the tests' oracle checks it after every step of every story and storm.
//!
//! | id | invariant | kind |
//! |---|---|---|
//! | S1 | at most one leader a term | both: a node that meets a second one panics |
//! | S2 | a leader never rewrites its own log, and never contradicts what it verified | here |
//! | S3 | equal index and term mean equal prefixes | oracle; no gaps: here |
//! | S4 | a new leader holds everything committed | oracle; a follower that is told otherwise panics |
//! | S5 | no two nodes commit different entries | oracle |
//! | S6 | commit only grows; purged ≤ snapshot ≤ commit ≤ last, applied ≤ commit | both |
//! | S7 | term and vote never go back, one vote a term | both |
//! | S8 | a commit is on a majority of disks | oracle, from the disks |
//! | S9 | only entries of the own term are committed by counting | both |
//! | S10 | what is committed is never truncated, nor replaced by a snapshot | here |
//! | S11 | matches only grow; late answers change nothing | here |
//! | S12 | votes only for logs that are up to date | against a twin |
//! | S13 | one author a term | oracle; terms in a log never go back: here |
//! | S14 | one change of the members at a time | both |
//! | S15 | quorums of consecutive memberships meet | here, and every small case in a test |
//! | S17 | nothing is said before it is durable | both |
//!
//! # Not implemented
//!
//! * **Deciding who is to be a member** (lost disks, new seats): the core carries out one change after
//!   another, and others decide which.
//!
//! Founding a cluster is a protocol of its own; here its entry is the first of every log.

pub mod audit;
mod candidate;
pub mod change;
mod commit;
mod common;
mod disk;
pub mod effects;
mod election;
mod follower;
pub mod founding;
mod greeting;
mod invariants;
mod leader;
pub mod leave;
pub mod log_shape;
pub mod membership;
pub mod message;
pub mod node;
pub mod options;
mod progress;
mod quorum;
mod read_index;
mod reconfigure;
pub mod seats;
mod seen;
pub mod snapshot;
pub mod status;
#[cfg(test)]
mod tests;
mod transfer;
pub mod types;
mod vote;
pub mod went_back;

pub use change::{ChangeRefusal, MembershipChange};
pub use effects::{
    Effects, Persist, PersistToken, ReadOutcome, ReadToken, Refusal, SendRange, SendSnapshot,
};
pub use log_shape::LogShape;
pub use membership::{Member, Membership};
pub use message::{Envelope, Message, RequestId};
pub use node::Node;
pub use options::Options;
pub use seats::{Join, JoinAnswer, SeatOptions, Seats};
pub use snapshot::{SnapshotId, SnapshotMeta};
pub use status::{NodeStatus, PeerStatus, Restored};
pub use transfer::TransferRefusal;
pub use types::{
    Boot, ClusterId, Entry, HardState, Index, LogId, NodeId, Payload, RoleKind, Seen, SoftState,
    Term,
};
