//! LAYER 3: thin shells around the core. Actors have time, threads and queues; they decide nothing of
//! the protocol.
//!
//! ```text
//!   clients, peers
//!        │ TLS
//!   ┌────▼─────────┐ Propose, ReadIndex,   ┌────────────┐ TickElapsed ┌───────────────┐
//!   │ RpcListener, │ RequestReceived       │            │◄────────────┤ ElectionTimer │
//!   │ connections  ├──────────────────────►│    Node    │             └───────────────┘
//!   └────▲─────────┘                       │ (the core) │ PersistBatch ┌─────────┐  ┌─────────────┐
//!        │ answers                         │            ├─────────────►│ Storage ├─►│ disk thread │
//!   ┌────┴─────────┐ Apply, ServeReads     │            │◄── DiskReported ────────────┤             │
//!   │   Applier    │◄──────────────────────┤            │              └─────────┘  └─────────────┘
//!   │ (the store)  ├──── Applied ─────────►│            │ Replicate, SendRequest ┌────────────┐
//!   └──────────────┘                       │            ├───────────────────────►│ Replicator │─► peer
//!                                          │            │◄── ReplyReceived, PeerGone ─────────┤ (one each)
//!                                          └────────────┘                        └────────────┘
//!   Founder, Joiner: before there is a Node.   Supervisor: starts, watches, stops all of it.
//!   Auditor: compares the stores while this node leads.
//!   Collector: reads what all of them count, and asks the node, when somebody wants metrics.
//! ```
//!
//! Snapshots (all of it in `snapshot_*`, but for the applier's and the replicator's part):
//!
//! ```text
//!   taken      Applied ─► Node: its desk finds one due ── Freeze ─► Applier ── Froze ─► Node
//!              ─► snapshot thread writes the file ── SnapshotReported ─► Node ── PurgeLog ─► Storage
//!   sent       Node ── StreamSnapshot ─► Replicator ── Raft.Snapshot, piece by piece ─► peer
//!              ── Raft.Install ─► peer ── ReplyReceived ─► Node
//!   received   Raft.Snapshot ─► receiving thread writes and checks the file
//!   installed  Raft.Install ─► Node ── PersistBatch ─► Storage ── DiskReported ─► Node
//!              ── Restore ─► Applier: a thread reads the file, then it is the state
//! ```
//!
//! What bounds each queue, and what happens when it is full:
//!
//! | receiver | bound | when full |
//! |---|---|---|
//! | connections | permits of the RPC layer, calls in flight on each | stop accepting; stop reading the socket |
//! | node, from clients | [`gate`]: requests and bytes | refused as busy before any work |
//! | node, from peers | the peers' windows; mailbox as a tripwire | refused as busy, the peer tries again |
//! | node, completions and ticks | what the node issued; a backlog of ticks counts as one | cannot happen |
//! | replicator | the core's window of unanswered appends | the core stops sending |
//! | replicator, snapshots | one for each peer, pieces in flight | the sender waits |
//! | receiving thread | its queue of pieces; the senders' windows | refused as busy, the piece comes again |
//! | snapshot thread | one snapshot at a time | the next one waits; admins beyond a few are refused |
//! | disk thread | [`node::OUTSTANDING_BATCHES_MAX`] and the peers' windows | proposals are refused as busy |
//! | applier | [`node::APPLIED_LAG_MAX`] | proposals are refused as busy; nothing is dropped |
//! | collector of metrics | one text at a time, few questions | refused as busy; scrapers wait for the same text |
//! | volume thread | one look under way, one waiting | what it would say is missing in the text |

pub mod agreement;
pub mod applier;
pub mod auditor;
pub mod audits;
pub mod deliver;
pub mod disk_thread;
pub mod door;
pub mod election_timer;
pub mod fatal;
pub mod founder;
pub mod founding_round;
pub mod gate;
pub mod inquirer;
pub mod joiner;
pub mod leave;
pub mod log_source;
pub mod member_calls;
pub mod membership;
pub mod messages;
pub mod meters;
pub mod metrics;
pub mod node;
pub mod offline;
pub mod peers;
pub mod probe;
pub mod recover;
pub mod refusals;
pub mod replication;
pub mod replicator;
pub mod replies;
pub mod rpc_listener;
pub mod run;
pub mod service;
pub mod snapshot_desk;
pub mod snapshot_load;
pub mod snapshot_meter;
pub mod snapshot_receiver;
pub mod snapshot_sender;
pub mod snapshot_taker;
pub mod standing;
pub mod start_over;
pub mod storage;
pub mod supervisor;

#[cfg(test)]
mod tests;
