//! A node that was asked to stop stays, for a while, where leaving would take the cluster its quorum
//! ([`raft::leave`](crate::raft::leave)): while another node restarts, or a rolling restart goes too fast.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::codec::api::StatusReply;
use crate::raft::leave::{Leaving, leaving};
use crate::raft::{Member, Membership, NodeId};
use crate::rpc::{Connection, Dialer, Expect, Method, Purpose};

use super::replicator::hello;
use super::standing::Standing;

/// How long a node stays at most; whoever asked it to stop waits no longer than some thirty seconds
/// before it is killed.
const STAY_MAX: Duration = Duration::from_secs(10);

/// Between two looks at the others.
const LOOK: Duration = Duration::from_millis(100);

/// For the connection and the answer of one other node.
const PATIENCE: Duration = Duration::from_secs(1);

/// Returns when this node may leave: the others are a quorum without it, or waiting would not help, or
/// the time is over.
pub async fn stay_while_needed(dialer: &Dialer, standing: &Standing) {
    let mut lines = BTreeMap::new();
    let mut has_said = false;
    let staying = async {
        loop {
            let membership = Arc::clone(&standing.present().membership);
            let serving = look(dialer, standing, &membership, &mut lines).await;
            match leaving(&membership, standing.own.node_id, &serving) {
                Leaving::Free | Leaving::InVain => return,
                Leaving::Needed => {
                    if !std::mem::replace(&mut has_said, true) {
                        tracing::info!(
                            "stays until others are back, {STAY_MAX:?} at most: without this node the \
                             cluster has no quorum"
                        );
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    };
    if tokio::time::timeout(STAY_MAX, staying).await.is_err() {
        tracing::warn!("nobody came back in time; the cluster is left without a quorum");
    }
}

/// Which other voters answer, have not been asked to stop, and know a leader. All are asked at once.
async fn look(
    dialer: &Dialer,
    standing: &Standing,
    membership: &Membership,
    lines: &mut BTreeMap<NodeId, Connection>,
) -> BTreeSet<NodeId> {
    let own = standing.own.node_id;
    let others = membership.members.iter().filter(|(id, _)| **id != own);
    let asked = others.filter(|(id, _)| membership.is_voter(**id)).map(|(id, member)| {
        let line = lines.remove(id).filter(|line| line.is_open() && !line.is_stale());
        async move { (*id, ask(dialer, standing, member, line).await) }
    });
    let mut serving = BTreeSet::new();
    for (id, answered) in futures_util::future::join_all(asked).await {
        let Some((connection, status)) = answered else { continue };
        lines.insert(id, connection);
        if status.node_id == id && !status.stopping && status.leader.is_some() {
            serving.insert(id);
        }
    }
    serving
}

async fn ask(
    dialer: &Dialer,
    standing: &Standing,
    member: &Member,
    line: Option<Connection>,
) -> Option<(Connection, StatusReply)> {
    let connection = match line {
        Some(connection) => connection,
        None => {
            let expect = Expect::Node(member.name.clone());
            let hello = hello(standing, Purpose::Control, None);
            dialer.dial(&member.address, expect, hello, PATIENCE).await.ok()?
        }
    };
    let status = connection.call_timeout(Method::NodeStatus, &(), PATIENCE).await.ok()?;
    Some((connection, status))
}
