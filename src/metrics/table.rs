//! Every name that is scraped: its type, its labels, what it tells and when to worry. A test compares
//! `docs/metrics.md` with it.
//!
//! The names follow Prometheus' rules (one prefix, base units, `_total` of what only grows), and where
//! etcd has a measure of the same meaning, its words.

/// How a value behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, and begins at zero with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by how long something took.
    Histogram,
    /// Always 1; what it tells is in its labels.
    Info,
}

impl Kind {
    /// The word of the format.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }

    /// What a name of this type ends in.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }
}

struct Row {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    worry: &'static str,
}

/// Declares the metrics: an enum in the order of the table, and the table.
macro_rules! metrics {
    ($($metric:ident $kind:ident $name:literal [$($label:literal),*] $help:literal, $worry:literal;)*) => {
        /// One metric. Its name, type and meaning stand in the table.
        #[expect(missing_docs, reason = "each has its sentence in the table below it")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric { $($metric,)* }

        const TABLE: &[Row] = &[$(Row {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
            worry: $worry,
        },)*];

        impl Metric {
            /// All of them, in the table's order.
            pub const ALL: &[Metric] = &[$(Metric::$metric,)*];
        }
    };
}

metrics! {
    BuildInfo Info "balsa_build_info" ["version"]
        "The version that runs",
        "versions differ for longer than a roll-out takes";
    Ready Gauge "balsa_ready" []
        "Whether the node is ready, as the readiness probe says: a voter that knows its leader, has caught up and serves",
        "0 for longer than a restart takes";
    HasLeader Gauge "balsa_has_leader" []
        "Whether the node knows a leader",
        "0 on a member: it is cut off, or there is no quorum";
    IsLeader Gauge "balsa_is_leader" []
        "Whether the node leads",
        "the sum over a cluster is 0 for more than a few seconds";
    Term Gauge "balsa_term" []
        "The node's term",
        "it grows while no node was stopped: somebody campaigns again and again";
    LeaderChanges Counter "balsa_leader_changes_total" []
        "Leaderships this process has learnt of: another node leads, or the same one in another term",
        "more than a few in an hour without a restart: slow disks, a slow network or throttled processors";
    Members Gauge "balsa_members" ["role"]
        "Members of the cluster as the node knows them: voter or learner",
        "the number of voters is not the one that was meant";
    LastLogIndex Gauge "balsa_last_log_index" []
        "Index of the last entry of the node's log, durable or not",
        "it stays while a leader accepts writes";
    CommitIndex Gauge "balsa_commit_index" []
        "Index up to which the node knows the log to be committed",
        "it falls behind the leader's and stays so";
    AppliedIndex Gauge "balsa_applied_index" []
        "Index up to which the node's state machine has applied the log",
        "it falls behind balsa_commit_index and stays so";
    SnapshotIndex Gauge "balsa_snapshot_index" []
        "Last index that the node's newest snapshot covers; 0 without one",
        "it stays while the log grows past --snapshot-entries";
    ProposalsCommitted Counter "balsa_proposals_committed_total" []
        "Entries that this process learnt to be committed, on leaders and followers alike, those inside a received snapshot excepted",
        "its rate is 0 while clients write";
    ProposalsApplied Counter "balsa_proposals_applied_total" []
        "Entries that this process has applied",
        "its rate stays below that of balsa_proposals_committed_total";
    ProposalsPending Gauge "balsa_proposals_pending" []
        "Writes that this node has taken on and not answered",
        "it grows without end: no quorum, or a slow disk";
    ProposalsFailed Counter "balsa_proposals_failed_total" []
        "Writes that this node took on and did not carry out, or whose outcome it could not tell; being sent on to the leader is none",
        "its rate is not 0 outside of failovers";
    WalFsync Histogram "balsa_wal_fsync_duration_seconds" []
        "Time one sync of the log took, a group of writes each",
        "99 % of them are over 50 ms: the disk is too slow or shared";
    Apply Histogram "balsa_apply_duration_seconds" []
        "Time the state machine took for one batch of committed entries",
        "99 % of them are over 50 ms: too little processor";
    Commit Histogram "balsa_commit_duration_seconds" []
        "Time from a write's arrival at the leader to its commitment by a majority",
        "99 % of them are over 250 ms: disks or network of a majority are slow";
    PeerRtt Gauge "balsa_peer_rtt_seconds" ["peer"]
        "Smoothed time a peer takes to answer a heartbeat; the leader measures it",
        "over a few heartbeats' distance, or very different between peers";
    PeerLag Gauge "balsa_peer_lag_entries" ["peer"]
        "Entries of the leader's log that are not known to be on a peer's disk; only on the leader",
        "it grows without end on one peer";
    PeerConnected Gauge "balsa_peer_connected" ["peer"]
        "Whether both of this node's connections to a peer are up",
        "0 for longer than a restart takes";
    Snapshots Counter "balsa_snapshots_total" ["outcome"]
        "Snapshots of this process: taken of its own state, failed, installed from a leader",
        "failed grows: no room, or a disk that does not give back what was written";
    SnapshotDuration Gauge "balsa_snapshot_duration_seconds" []
        "Time the newest snapshot of the node's own took; not there before the first",
        "it comes close to the time between two snapshots";
    SnapshotBytes Gauge "balsa_snapshot_bytes" []
        "Size of the newest snapshot that this process took or received; not there before the first",
        "twice of it does not fit the volume";
    DbBytes Gauge "balsa_db_bytes" []
        "Bytes of all keys and values; the map in memory takes some more",
        "it comes close to the memory limit";
    DbKeys Gauge "balsa_db_keys" []
        "Keys in the store",
        "it grows without end: nobody deletes";
    Sessions Gauge "balsa_sessions" []
        "Sessions of clients that the store keeps",
        "it stays at its limit: clients open sessions instead of keeping one";
    WalBytes Gauge "balsa_wal_bytes" []
        "Bytes of the log's files, the preallocated ones included",
        "it grows although snapshots are taken";
    DiskFree Gauge "balsa_disk_free_bytes" []
        "Bytes this process may still write to the volume of the data directory",
        "less than balsa_snapshot_bytes and 1 GiB together";
    Connections Gauge "balsa_connections" ["role"]
        "Connections that are up, by the role of who connected; those that fetch metrics included",
        "those of clients and admins together come close to 960";
    Refused Counter "balsa_refused_total" ["reason"]
        "Connections and calls that were refused, by the word in the log",
        "unknown_ca, expired, revoked, wrong_name or denied grow: a certificate is wrong, or somebody tries";
    Requests Counter "balsa_requests_total" ["method", "code"]
        "Calls answered, by method and by refusal code (ok: carried out)",
        "codes other than ok and not_leader grow";
    RequestDuration Histogram "balsa_request_duration_seconds" ["method"]
        "Time from the arrival of a call to its answer, refusals before any work excepted",
        "99 % of Kv.Get or Kv.Write are over what clients can bear";
    CertNotAfter Gauge "balsa_cert_not_after_timestamp_seconds" ["kind"]
        "When the first one ends, seconds since 1970: own is the node's certificate, ca a CA of its bundle, crl a revocation list's next update",
        "less than 30 days ahead, and nobody renews by itself";
    CertReloads Counter "balsa_certificate_reloads_total" ["outcome"]
        "Changes of the certificate files: loaded or refused",
        "refused grows: what lies in the directory now is bad, and the next restart would fail";
    MailboxDepth Gauge "balsa_mailbox_depth" ["actor"]
        "Messages that wait. storage: batches and other work handed to the disk thread and not done. Of the other actors see balsa_mailbox_delay_seconds",
        "it stays in the hundreds: the disk does not follow";
    MailboxDelay Gauge "balsa_mailbox_delay_seconds" ["actor"]
        "Time a question took to be answered by an actor, asked for this scrape",
        "over 0.1 s: the actor has more to do than it can";
    LoopSaturation Gauge "balsa_loop_saturation_ratio" []
        "Share of the time in which the thread of the node and its replicators ran or waited for a processor, over at least the last 10 s",
        "over 0.7: too little processor for this load";
    ResidentMemory Gauge "process_resident_memory_bytes" []
        "Memory of the process in RAM",
        "it comes close to the limit";
    OpenFds Gauge "process_open_fds" []
        "Open file descriptors",
        "it comes close to process_max_fds";
    MaxFds Gauge "process_max_fds" []
        "The limit of open file descriptors",
        "below 2048: a full connection table would not fit";
    StartTime Gauge "process_start_time_seconds" []
        "When the process started, seconds since 1970",
        "it changes again and again: the node restarts";
    CpuSeconds Counter "process_cpu_seconds_total" []
        "Processor time that the process used",
        "its rate stays at the processor limit";
}

impl Metric {
    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The name, as its sample has it; of a histogram without `_bucket`, `_sum` and `_count`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The type.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.row().kind
    }

    /// The labels' names.
    #[must_use]
    pub fn labels(self) -> &'static [&'static str] {
        self.row().labels
    }

    /// What it tells, in one sentence without a full stop.
    #[must_use]
    pub fn help(self) -> &'static str {
        self.row().help
    }

    /// When to worry.
    #[must_use]
    pub fn worry(self) -> &'static str {
        self.row().worry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_rules() {
        let mut names = BTreeSet::new();
        for metric in Metric::ALL {
            let name = metric.name();
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.starts_with("balsa_") || name.starts_with("process_"), "{name}");
            assert!(name.ends_with(metric.kind().suffix()), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind() == Kind::Counter, "{name}");
            assert_eq!(
                name.contains("_duration_seconds"),
                metric.kind() == Kind::Histogram || *metric == Metric::SnapshotDuration,
                "{name}"
            );
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(plain), "{name}");
            for label in metric.labels() {
                assert!(label.chars().all(plain) && *label != "le", "{name} {label}");
            }
            // They stand in the format and in a table of Markdown as they are.
            for text in [metric.help(), metric.worry()] {
                assert!(!text.contains(['\\', '\n', '"', '|']) && !text.ends_with('.'), "{text}");
            }
        }
    }
}
