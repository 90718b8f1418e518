//! A follower that needs a snapshot behind a line that breaks again and again: what has arrived is not
//! sent twice.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::harness::{Cluster, PATIENCE, bytes, until};

/// What is written while the follower is down.
const WRITES: usize = 10_000;

/// At a time.
const AT_ONCE: usize = 100;

/// Each connection carries this much to the follower, TLS and all.
const CUT: u64 = 256 << 10;

#[test]
fn a_snapshot_arrives_over_a_line_that_is_cut_every_256_kib() {
    let mut cluster = Cluster::prepare(3);
    cluster.give_all(&["--snapshot-entries", "2000", "--trailing-entries", "500"]);
    let line = cluster.put_proxy(2);
    cluster.start_all();
    if cluster.wait_for_leader() == 2 {
        cluster.wait(cluster.admin().transfer("raft-0")).expect("handed over");
        cluster.wait_for_leader();
    }
    let client = cluster.client(Duration::from_secs(30));
    cluster.wait(client.put("first".into(), "v".into())).expect("acknowledged");
    let behind = cluster.assert_agree()[0].last_index;
    cluster.nodes[2].kill9();
    for batch in 0..WRITES / AT_ONCE {
        let put = async |number: usize| {
            let value = Bytes::from(vec![b'a' + u8::try_from(number % 26).expect("small"); 256]);
            client.put(bytes(format!("key-{:05}", batch * AT_ONCE + number)), value).await
        };
        let puts = cluster.wait(join_all((0..AT_ONCE).map(put)));
        puts.into_iter().for_each(|put| drop(put.expect("two of three are a quorum")));
    }
    // The entries that the follower would need are gone from both others.
    for node in [0, 1] {
        until("the log is purged", PATIENCE, || {
            cluster.wait(cluster.admin().take_snapshot(&cluster.nodes[node].address)).ok()?;
            let page = cluster.replication(node);
            (page.first_index > behind.next()).then_some(())
        });
    }
    line.cut_after(CUT);
    cluster.nodes[2].start();
    let (sender, taken) = until("the follower has the snapshot", PATIENCE, || {
        let follower = cluster.status(2)?;
        let (leader, _) = cluster.leader_now()?;
        let sender = cluster.status(leader)?;
        let caught_up = follower.snapshots.installed > 0
            && follower.applied_index == sender.applied_index
            && follower.applied_index.0 > WRITES as u64;
        caught_up.then_some((sender, follower))
    });
    let cuts = line.cuts();
    line.heal();
    let contents = cluster.assert_agree();
    assert_eq!(contents[0].store.len(), WRITES + 1);
    let (sent, size) = (sender.snapshots.sent_bytes, taken.snapshots.last_bytes);
    assert!(size > 10 * CUT, "the snapshot needs more than one connection: {size} bytes");
    assert!(cuts >= size / CUT, "the line was cut: {cuts} times");
    assert!(sent >= size && sent < size * 3 / 2, "sent {sent} bytes of a snapshot of {size}");
    cluster.assert_no_errors();
    println!(
        "proved: a snapshot of {size} bytes arrived over a line that was cut {cuts} times; {sent} \
         bytes were sent ({:.2} of its size)",
        sent as f64 / size as f64
    );
}
