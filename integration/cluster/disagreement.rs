//! Nodes whose logs say different things at one index, which no fault that Balsa knows brings about: an
//! entry is forged in a node's directory, sound in every checksum. Nobody can tell which of two is right.

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use balsa::raft::{Index, Payload, PersistToken};
use balsa::storage::{Batch, DataDir, LogOptions, LogStore, RealFs};
use harness::{Cluster, PATIENCE, bytes, until};

/// Changes a value in the log of a node that does not run.
fn forge(data: &Path, seat: &str, value: &[u8; 6], other: &[u8; 6]) {
    let directory = DataDir::open(Arc::new(RealFs), data, seat).expect("a directory");
    let (mut log, restored) = directory.open_log(LogOptions::default()).expect("a log");
    let last = restored.shape.last().index;
    let mut entries = log.reader().read(Index::ZERO, last, u64::MAX).expect("entries");
    let found = entries.iter_mut().find_map(|entry| {
        let Payload::Command(command) = &mut entry.payload else { return None };
        let at = command.windows(value.len()).position(|window| window == value)?;
        let mut forged = command.to_vec();
        forged[at..at + other.len()].copy_from_slice(other);
        *command = forged.into();
        Some(entry.id.index)
    });
    let at = found.expect("the value is in the log");
    let entries = entries.split_off(usize::try_from(at.0 - 1).expect("small"));
    let batch = Batch {
        token: PersistToken::default(),
        hard_state: None,
        install: None,
        truncate_after: Some(at.prev()),
        entries,
    };
    log.append(&batch).expect("appended");
    log.sync().expect("durable");
}

#[test]
fn without_a_majority_of_equal_content_nobody_serves_until_there_is_one_s5() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(Duration::from_secs(20));
    cluster.wait(client.put(bytes("fruit"), bytes("apples"))).expect("acknowledged");
    cluster.assert_equal();
    let good = cluster.wait_for_leader();
    let forged = cluster.other_than(good);
    let away = 3 - good - forged;
    cluster.nodes[forged].kill9();
    cluster.nodes[away].kill9();
    forge(&cluster.nodes[forged].data, &cluster.nodes[forged].name, b"apples", b"grapes");
    cluster.nodes[forged].start();
    let withheld = |node: usize| {
        let why = cluster.status(node)?.waiting?;
        why.contains("no majority of them agrees").then_some(why)
    };
    until("both say that they differ", PATIENCE, || withheld(good).and(withheld(forged)));
    for node in [good, forged] {
        let only =
            cluster.client_of(vec![cluster.nodes[node].address.clone()], Duration::from_secs(1));
        let read = cluster.wait(only.get(bytes("fruit"), true));
        let refused = read.expect_err("a local read as well");
        assert!(refused.to_string().contains("no majority"), "{refused}");
        let written = cluster.wait(only.put(bytes("fruit"), bytes("pears")));
        written.expect_err("nothing is served");
    }

    let (before, seat) = (cluster.nodes[forged].said().len(), forged);
    cluster.nodes[away].start();
    let says = cluster.nodes[seat].wait_until_it_says(before, "starts over");
    println!("{says}");
    let found = cluster.wait(client.get(bytes("fruit"), false)).expect("served again");
    assert_eq!(found.found.expect("the key").value, "apples", "the majority's");
    until("the other one serves as well", PATIENCE, || {
        cluster.status(good)?.waiting.is_none().then_some(())
    });
}
