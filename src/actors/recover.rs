//! `srvraft recover`: the fenced way out when a majority of the voters lost their disks (design
//! section 5). What one survivor's directory holds becomes the beginning of a new cluster, of which it
//! is the only member.
//!
//! * *Fenced.* The new cluster has a new id and its member a new node id, so that no node of the old
//!   cluster, should one come back after all, talks with it or counts for it: their hellos are refused.
//! * *What survives* is what this directory holds: its snapshot and its whole log, committed or not. Nobody
//!   is left who could tell the two apart, and an entry that was acknowledged must not be dropped. What
//!   only the lost nodes held is lost.
//! * *Sessions are kept*, so that a client which repeats a write whose outcome it does not know is still
//!   answered once for it.
//! * *Nothing is deleted.* The old directory is set aside; the new one is built in its place. If that is
//!   cut short, the old one is moved back by hand and the command repeated.
//!
//! Without `--yes` it only says what it would do. Of the old directory no more changes then than at any
//! start: its count of starts.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::codec::{self, snapshot};
use crate::config::Recover;
use crate::exit::{Exit, Failure};
use crate::kv;
use crate::raft::{
    ClusterId, Entry, HardState, Index, LogId, Member, Membership, NodeId, Payload, PersistToken,
    Term,
};
use crate::storage::{Batch, DataDir, LogOptions, LogStore, RealFs, SnapshotHead, StorageError};

use super::offline::check_seat;
use super::run::seat_certificate;
use super::snapshot_load::load;
use super::supervisor::random;

/// Bytes of entries read at once.
const READ_BYTES: u64 = 4 << 20;

/// Carries the command out, or says what it would do; returns what is to be printed.
///
/// # Errors
/// If the certificates are not the seat's, or the directory is in use, damaged, empty, or never was in a
/// cluster.
pub fn recover(wanted: &Recover) -> Result<String, Failure> {
    let tls = seat_certificate(&wanted.certs, &wanted.name)?;
    check_seat(&wanted.name, &wanted.data_dir)?;
    let old = open(&wanted.data_dir, &wanted.name)?;
    old.bind_cluster_name(tls.identity().cluster())?;
    let survivor = Survivor::read(&old, &wanted.name)?;
    let mut said = survivor.describe(wanted);
    if wanted.yes {
        let aside = old.set_aside("recovered")?;
        drop(old);
        let made =
            build(wanted, tls.identity().cluster(), survivor).map_err(|failure| Failure {
                message: format!(
                    "{}; the old directory lies in {}: move it back to {} and try again",
                    failure.message,
                    aside.display(),
                    wanted.data_dir.display()
                ),
                ..failure
            })?;
        let _ = write!(
            said,
            "Done: {} is now node {} of cluster {}. The old directory lies in {}. Start {}, then the other \
             seats with empty directories (`srvraft discard` sets old ones aside): they are taken in.",
            wanted.name,
            made.node,
            made.cluster,
            aside.display(),
            wanted.name
        );
    } else {
        said.push_str("Nothing was changed but the count of starts. With --yes it is carried out.");
    }
    Ok(said)
}

fn open(path: &Path, name: &str) -> Result<DataDir, StorageError> {
    DataDir::open(Arc::new(RealFs), path, name)
}

/// What a directory holds.
struct Survivor {
    store: kv::Store,
    cluster: ClusterId,
    last: LogId,
    hard_state: HardState,
    /// The members as its log knows them.
    membership: Arc<Membership>,
    /// Its own seat.
    seat: Member,
}

/// What was made of it.
struct Made {
    node: NodeId,
    cluster: ClusterId,
}

impl Survivor {
    fn read(directory: &DataDir, name: &str) -> Result<Survivor, Failure> {
        let shown = directory.path().display().to_string();
        let unfit = |why: &str| Failure {
            exit: Exit::Directory,
            message: format!("{shown} {why}; nothing can be recovered from it"),
        };
        let cluster = directory.cluster().ok_or_else(|| unfit("never was in a cluster"))?;
        let (log, restored) = directory.open_log(LogOptions::default())?;
        let last = restored.shape.last();
        if last == LogId::ZERO {
            return Err(unfit("holds no entry"));
        }
        let mut store = match directory.snapshots().current() {
            Some(file) => load(&file)?,
            None => kv::Store::new(),
        };
        let reader = log.reader();
        while store.applied() < last.index {
            let entries = reader.read(store.applied(), last.index, READ_BYTES)?;
            entries.iter().for_each(|entry| apply(&mut store, entry));
        }
        let frozen = store.freeze();
        let Some((_, membership)) = frozen.membership() else {
            return Err(unfit("says nothing of members"));
        };
        let membership = Arc::clone(membership);
        let own = membership.members.get(&directory.node_id());
        let seat = own.or_else(|| membership.members.values().find(|member| member.name == name));
        let seat = seat.ok_or_else(|| unfit("belongs to a node that was removed"))?.clone();
        let hard_state = restored.hard_state;
        Ok(Survivor { store, cluster, last, hard_state, membership, seat })
    }

    fn describe(&self, wanted: &Recover) -> String {
        let mut names: Vec<&str> =
            self.membership.members.values().map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        let view = self.store.view();
        format!(
            "{dir} holds cluster {cluster} ({names}) up to entry {index} of term {term}: {keys} keys at \
             revision {revision}, {sessions} sessions.\n\
             Recovery makes a new cluster of this alone, with {name} ({address}) as its only member. All \
             entries of this log count, also those that were never committed.\n\
             Lost is every acknowledged write that only other nodes held. If directories of several seats \
             are left, recover the one whose last entry has the highest term, and of those the highest \
             index. Be sure that a majority of the others will never come back: what they hold cannot be \
             brought together with the new cluster.\n",
            dir = wanted.data_dir.display(),
            cluster = self.cluster,
            names = names.join(", "),
            index = self.last.index,
            term = self.last.term,
            keys = view.len(),
            revision = view.revision(),
            sessions = self.store.freeze().session_count(),
            name = wanted.name,
            address = self.seat.address,
        )
    }
}

fn apply(store: &mut kv::Store, entry: &Entry) {
    match &entry.payload {
        Payload::Command(bytes) => {
            // As the applier does it: what cannot be read is an entry all the same (S16).
            store.apply(entry.id, codec::decode_command(bytes).ok().as_ref());
        }
        Payload::Membership(membership) => {
            store.apply_membership(entry.id, membership);
        }
        Payload::Noop => store.skip(entry.id),
    }
}

/// Builds the new directory: the cluster first, so that a directory which is not finished founds nothing,
/// and the snapshot, which makes it whole, last.
fn build(wanted: &Recover, cluster_name: &str, survivor: Survivor) -> Result<Made, Failure> {
    let Survivor { mut store, last, hard_state, seat, membership, .. } = survivor;
    let directory = open(&wanted.data_dir, &wanted.name)?;
    directory.bind_cluster_name(cluster_name)?;
    let node = directory.node_id();
    let cluster = ClusterId(random());
    directory.write_cluster(cluster)?;
    let term = Term(hard_state.term.max(last.term).0 + 1);
    let (mut log, _) = directory.open_log(LogOptions::default())?;
    log.append(&Batch {
        token: PersistToken::default(),
        hard_state: Some(HardState { term, vote: None }),
        install: None,
        truncate_after: None,
        entries: Vec::new(),
    })?;
    log.sync()?;
    let alone = Membership {
        retired: membership.retired.clone(),
        ..Membership::of_voters([(node, seat)].into())
    };
    // As if an entry behind the last one had said so.
    let at = LogId { term, index: Index(last.index.0 + 1) };
    store.apply_membership(at, &Arc::new(alone));
    let frozen = store.freeze();
    let meta = snapshot::meta(&frozen).expect("the members have just been set");
    let head = SnapshotHead { meta, cluster, state_hash: frozen.state_hash() };
    let mut writer = directory.snapshots().begin(&head)?;
    for piece in snapshot::Encoder::new(frozen) {
        writer.write(&piece)?;
    }
    writer.finish()?;
    Ok(Made { node, cluster })
}
