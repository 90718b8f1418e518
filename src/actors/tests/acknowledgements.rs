//! What leaves, and when, over a disk that completes when the test says so.

use std::sync::atomic::Ordering;

use crate::codec::raft::{Direction, RaftCall, decode_envelope};
use crate::raft::message::{AppendReply, Vote};
use crate::raft::{Index, LogId, Message, Term};

use super::{World, answered, still_waits};

/// S17: the tokens that messages wait for come in any order, for each names the first batch that
/// suffices. An acknowledgement must not slip out with a message of an earlier batch behind it.
#[actix_rt::test]
async fn an_acknowledgement_waits_for_its_own_batch() {
    let mut world = World::new();
    let first = world.heartbeat(2);
    world.sync_begins().await;
    let mut acknowledgement = world.append(2);
    let (second, third) = (world.heartbeat(2), world.heartbeat(2));

    world.allow.send(()).unwrap();
    for heartbeat in [first, second, third] {
        answered(heartbeat).await;
    }
    world.sync_begins().await;
    assert!(still_waits(&mut acknowledgement).await, "its batch is not durable (S17)");

    world.allow.send(()).unwrap();
    let body = answered(acknowledgement).await;
    let reply = decode_envelope(RaftCall::Append, Direction::Reply, &body).unwrap();
    let accepted = AppendReply::Accepted { matched: Index(2) };
    assert_eq!(reply.message, Message::AppendReply(accepted));
}

/// D11: term and vote have room when entries have none, so that a node with a full disk goes on
/// answering in later terms, votes, and acknowledges nothing that is not durable.
#[actix_rt::test]
async fn a_full_disk_leaves_terms_and_votes_alone() {
    let mut world = World::new();
    // Syncs complete at once from here on.
    world.allow_syncs(60);
    answered(world.heartbeat(2)).await;
    world.full.store(true, Ordering::SeqCst);
    // A new term that comes with entries: its term goes ahead, its entries wait.
    let mut acknowledgement = world.append(3);
    assert!(still_waits(&mut acknowledgement).await, "there is no room for it");

    for term in 3..6 {
        for _ in 0..3 {
            answered(world.heartbeat(term)).await;
        }
    }
    // The leader is silent for the follower's whole patience only in ticks; its own successor asks.
    let vote = Vote::real(Term(6), LogId::new(5, 9));
    let body = answered(world.ask(2, 6, Message::Vote(vote))).await;
    let reply = decode_envelope(RaftCall::Vote, Direction::Reply, &body).unwrap();
    assert!(matches!(&reply.message, Message::VoteReply(reply) if reply.granted), "{reply:?}");
    assert!(still_waits(&mut acknowledgement).await, "S17");

    world.full.store(false, Ordering::SeqCst);
    answered(acknowledgement).await;
}
