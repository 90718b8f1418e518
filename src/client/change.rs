//! What an admin changes: the members, who leads, and when a snapshot is taken.
//!
//! A change carries no session: the cluster cannot tell its repetition. So an attempt whose answer was
//! lost makes the outcome unknown (C3), whatever later attempts are told; `members` shows what became
//! of it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::Error;
use super::network::Network;
use super::nodes::NoArgs;
use super::retry::{Job, Reply};
use super::{Client, Inner, codec};
use crate::codec::api::{
    AddArgs, ChangeReply, LeaderHint, MemberStatus, MembersReply, SeatArgs, SnapshotReply,
    TransferReply,
};
use crate::rpc::Method;

impl Client {
    /// The members as the leader sees them, who alone knows how far each is; without a leader as the
    /// node sees them that answers first.
    ///
    /// # Errors
    /// See [`Error`]; never unknown.
    pub async fn members_of_leader(&self) -> Result<MembersReply, Error> {
        let members = self.members().await?;
        let leader = members.from.leader.as_deref().filter(|_| !members.from.is_leader);
        let Some(leader) = leader else { return Ok(members) };
        let Ok(node) = self.node(leader).await else { return Ok(members) };
        Ok(self.members_at(&node.address).await.unwrap_or(members))
    }

    /// Takes the node that is reached at `address` in as a learner. It becomes a voter by itself once it
    /// has caught up.
    ///
    /// # Errors
    /// See [`Error`]: `under_way` if the members are being changed already, `conflict` if the seat is
    /// taken.
    pub async fn add_member(&self, name: &str, address: &str) -> Result<ChangeReply, Error> {
        let args = AddArgs { name: name.to_owned(), address: address.to_owned() };
        self.inner.change(Method::ClusterAdd, &args).await
    }

    /// Makes a learner a voter now.
    ///
    /// # Errors
    /// As [`add_member`](Client::add_member); `conflict` if it is no learner, or too far behind.
    pub async fn promote_member(&self, name: &str) -> Result<ChangeReply, Error> {
        self.inner.change(Method::ClusterPromote, &SeatArgs { name: name.to_owned() }).await
    }

    /// Removes a member, and retires its seat.
    ///
    /// # Errors
    /// As [`add_member`](Client::add_member); `conflict` if there is no such member, or if no quorum
    /// would be left.
    pub async fn remove_member(&self, name: &str) -> Result<ChangeReply, Error> {
        self.inner.change(Method::ClusterRemove, &SeatArgs { name: name.to_owned() }).await
    }

    /// Hands the leadership to a voter.
    ///
    /// # Errors
    /// See [`Error`]: `under_way` if it is being handed over already, `conflict` if that seat holds no
    /// voter.
    pub async fn transfer(&self, name: &str) -> Result<TransferReply, Error> {
        self.inner.change(Method::ClusterTransfer, &SeatArgs { name: name.to_owned() }).await
    }

    /// Lets the node at `address` take a snapshot, and waits until it is on its disk.
    ///
    /// # Errors
    /// See [`Error`]; never unknown, because a second snapshot does no harm.
    pub async fn take_snapshot(&self, address: &str) -> Result<SnapshotReply, Error> {
        self.inner.at(address, Method::NodeSnapshot, &NoArgs {}).await
    }
}

impl<N: Network> Inner<N> {
    pub(super) async fn change<A: Serialize, R: DeserializeOwned>(
        &self,
        method: Method,
        args: &A,
    ) -> Result<R, Error> {
        let deadline = Instant::now() + self.timeout;
        self.find_leader(deadline).await?;
        let args = codec::encode(args);
        let job = Job { method, args, deadline, leader: true, writes: true, slow: true };
        self.reach.run(job).await.map(|reply: Reply<R>| reply.value)
    }

    /// Asks whoever answers who leads: a change sent to a node that hangs would have an unknown outcome,
    /// and a question has none.
    async fn find_leader(&self, deadline: Instant) -> Result<(), Error> {
        let args = codec::encode(&NoArgs {});
        let method = Method::ClusterMembers;
        let job = Job { method, args, deadline, leader: false, writes: false, slow: false };
        let reply: Reply<MembersReply> = self.reach.run(job).await?;
        let MembersReply { members, from } = reply.value;
        let leader = members.into_iter().find(|member| Some(&member.name) == from.leader.as_ref());
        if let Some(MemberStatus { name, address, .. }) = leader {
            let there = self.reach.address_of(&LeaderHint { name, address });
            self.reach.route().led_at(&there);
        }
        Ok(())
    }
}
