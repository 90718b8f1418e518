//! What nodes say to each other. These are the core's own types; their wire form is in
//! `codec::raft`, and no local stimulus (a tick, a completion) is ever one of them.

use serde::{Deserialize, Serialize};

use super::snapshot::SnapshotMeta;
use super::types::{Boot, Entry, Index, LogId, NodeId, Seen, Term};

/// Identifies one request of one sender within one process life, so that a reply is matched with its
/// own request and a late reply of a former leadership or connection changes nothing (S11, E3).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// Identifies one confirmation round for linearizable reads. Made by the leader alone, never repeated
/// within a term (R1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ReadRound(pub u64);

/// A message and its travel data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who sends. The receiver's connection has proved it before the core sees it.
    pub from: NodeId,
    /// For whom. A node drops what is not for its own node id.
    pub to: NodeId,
    /// The sender's current term.
    pub term: Term,
    /// Which request this is, or which one it answers.
    pub request: RequestId,
    /// The content.
    pub message: Message,
}

impl Message {
    /// Whether it claims that entries are durable; all others claim no more than term and vote.
    #[must_use]
    pub fn claims_entries(&self) -> bool {
        matches!(
            self,
            Message::AppendReply(AppendReply::Accepted { .. })
                | Message::InstallReply(InstallReply::Installed { .. })
        )
    }
}

/// What is said. Every request is answered by exactly one reply of the kind below it, unless the
/// node stops first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// "Would you vote for me?" (pre) or "Vote for me" (Raft §5.2, dissertation 9.6).
    Vote(Vote),
    /// Answer to `Vote`.
    VoteReply(VoteReply),
    /// Entries behind a base both sides may share (Raft §5.3).
    Append(Append),
    /// Answer to `Append`.
    AppendReply(AppendReply),
    /// "I lead", without entries and without the receiver's disk (Raft §5.2).
    Heartbeat(Heartbeat),
    /// Answer to `Heartbeat`.
    HeartbeatReply(HeartbeatReply),
    /// "Take this snapshot, which you hold complete and checked" (Raft §7).
    Install(Install),
    /// Answer to `Install`.
    InstallReply(InstallReply),
    /// "Campaign at once, I hand over to you" (dissertation 3.10).
    TimeoutNow(TimeoutNow),
    /// Answer to `TimeoutNow`.
    TimeoutNowReply(TimeoutNowReply),
}

/// A request for a vote or a pre-vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// True: only a question; nothing changes at the receiver (E1).
    pub pre: bool,
    /// The term the candidate would lead or wants to lead: the envelope's term for a vote, one more
    /// for a pre-vote.
    pub campaign: Term,
    /// The candidate's last entry, compared as a pair (S12).
    pub last: LogId,
    /// The leader asked for this campaign: nobody refuses it for that leader's sake (E4, E12).
    #[serde(default, skip_serializing_if = "is_false")]
    pub transfer: bool,
    /// What is remembered of the receiver: by the candidate, and, in the request for the vote itself, by
    /// each voter that has answered the question before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remembered: Vec<Seen>,
    /// The receiver's process that has answered that question, if it has: whatever `remembered` brings
    /// was said after that process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Boot>,
}

fn is_none(boot: &Boot) -> bool {
    *boot == Boot::default()
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Vote {
    /// The question whether a vote would be given.
    #[must_use]
    pub fn pre(campaign: Term, last: LogId) -> Vote {
        Vote { pre: true, ..Vote::real(campaign, last) }
    }

    /// The request for a vote.
    #[must_use]
    pub fn real(campaign: Term, last: LogId) -> Vote {
        let (remembered, answered) = (Vec::new(), None);
        Vote { pre: false, campaign, last, transfer: false, remembered, answered }
    }
}

/// The answer to a vote request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteReply {
    /// Copied from the request.
    pub pre: bool,
    /// Copied from the request.
    pub campaign: Term,
    /// Whether the vote is given. A refusal with a higher envelope term moves the asker there (E2).
    pub granted: bool,
    /// The process that answers.
    #[serde(default, skip_serializing_if = "is_none")]
    pub boot: Boot,
    /// What it remembers of each member. Only in answers to the question (pre).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<(NodeId, Seen)>,
}

/// Entries for the follower's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Log id just before the first entry.
    pub base: LogId,
    /// What the leader knows to be committed.
    pub commit: Index,
    /// The entries, contiguous from `base.index + 1`. Empty: a probe.
    pub entries: Vec<Entry>,
}

/// The answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppendReply {
    /// All entries up to and including this index are durable and equal to the leader's.
    Accepted {
        /// Highest index verified by this request (L4), not the follower's last index.
        matched: Index,
    },
    /// The base is unknown here.
    Conflict {
        /// The base that was refused, so that a stale refusal is told apart.
        base: LogId,
        /// A log id at or below which the logs may agree: the follower's last entry whose term is at
        /// most the base's term and whose index is below the base's. Strictly below the base, so that
        /// back-tracking ends (L5).
        hint: LogId,
    },
}

/// Proof that the leader lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Committed, capped at what the leader knows this follower to hold (L4).
    pub commit: Index,
    /// The newest confirmation round for reads (R1).
    pub round: ReadRound,
    /// What the leader remembers of each member. Only in its regular heartbeats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<(NodeId, Seen)>,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// Copied from the heartbeat.
    pub round: ReadRound,
}

/// A snapshot whose content the receiver's runtime has received and checked. The leader's runtime
/// makes this message, from the head of the file it has sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// Which snapshot.
    pub snapshot: SnapshotMeta,
}

/// The answer to an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstallReply {
    /// The receiver's disk holds everything up to the snapshot's last entry, by this snapshot or
    /// because it had it already (L8).
    Installed {
        /// The snapshot's last index.
        matched: Index,
    },
    /// Not this one: it contradicts what is committed here (S10), or itself.
    Refused,
}

/// A leader's wish to be succeeded by the receiver, whose log it knows to reach as far as its own (E12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutNow {}

/// The answer to a leader that hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutNowReply {
    /// Whether the receiver campaigns. If not, the leader goes on at once.
    pub campaigns: bool,
}
