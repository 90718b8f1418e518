//! Calls about the members, as messages for the node: what cannot be read, or does not fit the caller, is
//! refused here.

use std::sync::Arc;

use actix::prelude::*;

use crate::codec;
use crate::codec::api::{AddArgs, Code, Refusal, SeatArgs};
use crate::identity::check_label;
use crate::raft::seats::Join;
use crate::rpc::{Call, Method, Peer};

use super::messages::{JoinAsked, Order, Ordered};
use super::node::Node;
use super::refusals;

/// Bytes of an address that somebody wants to stand in the membership.
const ADDRESS_BYTES_MAX: usize = 512;

/// A node asks to be taken in.
pub fn join(node: &Addr<Node>, peer: &Arc<Peer>, call: Call) {
    let join = match call.args::<Join>() {
        Ok(join) => join,
        Err(refusal) => return call.reply.refuse(refusal),
    };
    if join.name != peer.identity.name() || Some(join.id) != peer.hello.node_id {
        let why = format!("{} asks for {} and node {}", peer.identity, join.name, join.id);
        return call.reply.refuse(Refusal::new(Code::BadRequest, why));
    }
    if join.address.len() > ADDRESS_BYTES_MAX {
        let why = format!("an address has at most {ADDRESS_BYTES_MAX} bytes");
        return call.reply.refuse(Refusal::new(Code::BadRequest, why));
    }
    let message = JoinAsked { join, reply: call.reply };
    if let Err(SendError::Full(message) | SendError::Closed(message)) = node.try_send(message) {
        message.reply.refuse(refusals::busy());
    }
}

/// An admin's order.
pub fn order(node: &Addr<Node>, call: Call) {
    let order = match read(&call) {
        Ok(order) => order,
        Err(refusal) => return call.reply.refuse(refusal),
    };
    let message = Ordered { order, reply: call.reply };
    if let Err(SendError::Full(message) | SendError::Closed(message)) = node.try_send(message) {
        message.reply.refuse(refusals::busy());
    }
}

fn read(call: &Call) -> Result<Order, Refusal> {
    let bad = |why: String| Refusal::new(Code::BadRequest, why);
    let malformed = |error: codec::DecodeError| bad(format!("unreadable arguments: {error}"));
    let seat = || -> Result<String, Refusal> {
        let name = codec::decode::<SeatArgs>(&call.args).map_err(malformed)?.name;
        check_label("seat", &name).map_err(|error| bad(error.to_string()))?;
        Ok(name)
    };
    Ok(match call.method {
        Method::ClusterPromote => Order::Promote { name: seat()? },
        Method::ClusterRemove => Order::Remove { name: seat()? },
        Method::ClusterTransfer => Order::Transfer { name: seat()? },
        _ => {
            let AddArgs { name, address } = codec::decode(&call.args).map_err(malformed)?;
            let fits = address.len() <= ADDRESS_BYTES_MAX
                && address.rsplit_once(':').is_some_and(|(host, port)| {
                    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
                });
            check_label("seat", &name).map_err(|error| bad(error.to_string()))?;
            if !fits {
                return Err(bad(format!(
                    "{address:?} is no address of the form HOST:PORT, in at most \
                     {ADDRESS_BYTES_MAX} bytes"
                )));
            }
            Order::Add { name, address }
        }
    })
}
