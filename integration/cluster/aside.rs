//! Damage that is replaced, what `srvraft discard` and `srvraft recover` do with directories of nodes
//! that ran, and stops that wait.

mod harness;
mod offline;
mod stopping;

use std::fs;
use std::time::Duration;

use balsa::client::Client;
use harness::{Cluster, PATIENCE, bytes, until};

/// Long enough for an election and more, on a busy machine.
pub(crate) const OPERATION: Duration = Duration::from_secs(20);

/// Puts keys one after the other.
pub(crate) fn put_all(cluster: &Cluster, client: &Client, prefix: &str, count: usize) {
    for number in 0..count {
        let key = bytes(format!("{prefix}-{number}"));
        cluster.wait(client.put(key, bytes("v"))).expect("acknowledged");
    }
}

/// Waits until a node that started over is up again under another node id.
fn wait_for_another(cluster: &Cluster, node: usize, old: balsa::raft::NodeId) {
    until("the node is another one", PATIENCE, || {
        cluster.assert_alive();
        cluster.status(node).filter(|status| status.node_id != old)
    });
}

#[test]
fn damage_is_replaced_if_that_was_asked_for() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(OPERATION);
    put_all(&cluster, &client, "k", 20);
    let victim = cluster.other_than(cluster.wait_for_leader());
    cluster.nodes[victim].more.extend(["--on-damage".into(), "replace".into()]);
    for name in ["founding", "identity"] {
        let old = cluster.status(victim).expect("it answers").node_id;
        let before = cluster.nodes[victim].set_aside().len();
        cluster.nodes[victim].kill9();
        let path = cluster.nodes[victim].data.join(name);
        // A node that was taken in has no founding record.
        let Ok(mut bad) = fs::read(&path) else { continue };
        *bad.last_mut().expect("not empty") ^= 1;
        fs::write(&path, bad).expect("one bit is flipped");
        cluster.nodes[victim].start();
        wait_for_another(&cluster, victim, old);
        let kept = cluster.nodes[victim].set_aside();
        assert_eq!(kept.len(), before + 1, "{name}: {kept:?}");
        assert!(kept.iter().all(|path| path.to_string_lossy().contains("Z-damaged")), "{kept:?}");
    }
    put_all(&cluster, &client, "after", 5);
    println!(
        "proved: a damaged directory is set aside by --on-damage replace, and the seat starts empty"
    );
}
