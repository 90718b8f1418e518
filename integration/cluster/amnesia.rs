//! Five nodes, of which one forgets a write that it had acknowledged: without the rules of design
//! section 5 it would help to elect a leader that never had it (E3, M7, S5).

use std::time::Duration;

use crate::harness::proxy::Proxy;
use crate::harness::{Cluster, PATIENCE, until};

/// Several election time-outs, of one second at most.
const SEVERAL: Duration = Duration::from_secs(5);

#[test]
fn a_node_that_forgot_elects_nobody() {
    let mut cluster = Cluster::prepare(5);
    cluster.give_all(&["--seat-limit", "1s"]);
    let lines = [cluster.put_proxy(3), cluster.put_proxy(4)];
    cluster.start_all();
    cluster.wait_for_leader();
    let client = cluster.client(Duration::from_secs(20));
    cluster.wait(client.put("before".into(), "v".into())).expect("acknowledged");
    lead_among_the_first(&cluster);
    cluster.assert_agree();
    // Nothing more reaches 3 and 4, not even what the system would keep for them.
    lines.iter().for_each(Proxy::cut_off);
    cluster.nodes[3].freeze();
    cluster.nodes[4].freeze();
    let written = cluster.wait(client.put("remembered".into(), "by 0, 1, 2".into()));
    let written = written.expect("three of five are a quorum");
    for node in 0..3 {
        let what = format!("raft-{node} has the write");
        until(&what, PATIENCE, || {
            cluster.status(node).filter(|status| status.commit_index.0 >= written.index)
        });
    }
    let old = cluster.node_id(2);
    for node in 0..3 {
        cluster.nodes[node].kill9();
    }
    cluster.nodes[2].wipe();
    lines.iter().for_each(Proxy::heal);
    cluster.nodes[3].thaw();
    cluster.nodes[4].thaw();
    cluster.nodes[2].start();
    let why = until("raft-2 says what it waits for", PATIENCE, || {
        let forgetful = cluster.status(2)?;
        assert_ne!(forgetful.node_id, old, "M7");
        forgetful.waiting
    });
    for node in [3, 4] {
        let status = until("raft-3 and raft-4 answer", PATIENCE, || cluster.status(node));
        assert!(status.last_index.0 < written.index, "the scene is set: {status:?}");
    }
    cluster.watch(SEVERAL, |cluster| {
        let statuses = cluster.statuses().unwrap_or_default();
        assert!(statuses.iter().all(|s| s.leader.is_none()), "S5: {statuses:#?}");
    });
    // One that remembers comes back.
    cluster.nodes[1].start();
    let read = cluster.wait(cluster.client(PATIENCE).get("remembered".into(), false));
    let read = read.expect("1, 3 and 4 are a quorum").found.expect("S5: it was acknowledged");
    assert_eq!(read.value, "by 0, 1, 2");
    cluster.nodes[0].start();
    cluster.wait_for_new_voter(2, Some(old));
    cluster.wait_for_voters(&[0, 1, 2, 3, 4]);
    let contents = cluster.assert_agree();
    assert_eq!(contents[0].store.len(), 2);
    println!(
        "proved: with 0 and 1 dead and 2 without its disk nobody is elected ({why}); with 1 back the \
         write is there, and 2 is taken in again"
    );
}

/// 3 and 4 must not lead when they are frozen, or the write would wait for their successor.
fn lead_among_the_first(cluster: &Cluster) {
    let leader = cluster.wait_for_leader();
    if leader > 2 {
        cluster.wait(cluster.admin().transfer("raft-0")).expect("handed over");
        cluster.wait_for_leader();
    }
}
