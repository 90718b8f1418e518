//! The first exchange on every connection.
//!
//! In TLS 1.3 a client's connect succeeds before the server has judged its certificate, and neither
//! side knows yet whether it reached the cluster and the node it meant. So the dialer speaks first
//! and says who it is and whom it believes it talks to; only the acknowledgement makes the
//! connection count as up. Later fields get defaults: an older reader skips what it does not know.

use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::raft::{Boot, ClusterId, Index, NodeId, Term};

/// The protocol versions this code speaks, oldest and newest.
pub const VERSIONS: Versions = Versions { min: 1, max: 1 };

/// Bytes a hello or its acknowledgement may have.
pub const HELLO_BYTES_MAX: usize = 4 << 10;

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest spoken.
    pub min: u16,
    /// The newest spoken.
    pub max: u16,
}

/// What a connection is for; the server may treat them apart, and a peer dials one of each so that
/// heartbeats and votes never wait behind appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Small and urgent: heartbeats, votes, founding.
    Control,
    /// Appends and whatever else is large.
    Bulk,
    /// Calls of clients, admins and probes.
    #[default]
    #[serde(other)]
    Client,
}

/// What the dialer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol versions it speaks.
    pub versions: Versions,
    /// Its own name; must be the one in its certificate.
    pub name: String,
    /// Its cluster, if it has one.
    #[serde(default)]
    pub cluster_id: Option<ClusterId>,
    /// Its node id, if it is a node.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// Its boot counter (design section 5: a directory that went back in time).
    #[serde(default)]
    pub boot: Boot,
    /// Its term.
    #[serde(default)]
    pub term: Term,
    /// The highest index it ever acknowledged.
    #[serde(default)]
    pub acknowledged: Index,
    /// The node it believes it talks to; needed for `Raft.*`.
    #[serde(default)]
    pub receiver: Option<NodeId>,
    /// What the connection is for.
    #[serde(default)]
    pub purpose: Purpose,
}

/// What the server says if it takes the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAck {
    /// The protocol version both will speak. Filled in by the server's transport.
    pub version: u16,
    /// The server's own name.
    pub name: String,
    /// Its cluster, if it has one.
    #[serde(default)]
    pub cluster_id: Option<ClusterId>,
    /// Its node id.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// Its boot counter.
    #[serde(default)]
    pub boot: Boot,
    /// Its term, as in a hello.
    #[serde(default)]
    pub term: Term,
    /// The highest index it ever acknowledged, as in a hello.
    #[serde(default)]
    pub acknowledged: Index,
    /// Calls it reads ahead on this connection before it waits for replies. Filled in by the server's
    /// transport.
    #[serde(default)]
    pub max_inflight: u32,
}

impl Versions {
    /// The newest version both ranges hold.
    #[must_use]
    pub fn common(self, other: Versions) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min).then_some(newest)
    }
}

impl Hello {
    /// The hello of a client, an admin or a probe.
    #[must_use]
    pub fn client(identity: &Identity) -> Hello {
        Hello {
            versions: VERSIONS,
            name: identity.name().to_owned(),
            cluster_id: None,
            node_id: None,
            boot: Boot::default(),
            term: Term::default(),
            acknowledged: Index::ZERO,
            receiver: None,
            purpose: Purpose::Client,
        }
    }
}

impl HelloAck {
    /// The acknowledgement of a node that has not said more than its name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> HelloAck {
        HelloAck {
            version: VERSIONS.max,
            name: name.into(),
            cluster_id: None,
            node_id: None,
            boot: Boot::default(),
            term: Term::default(),
            acknowledged: Index::ZERO,
            max_inflight: 0,
        }
    }

    /// Whether `hello` named this very cluster and node: the binding that `Raft.*` needs.
    #[must_use]
    pub fn is_receiver_of(&self, hello: &Hello) -> bool {
        self.cluster_id.is_some()
            && self.node_id.is_some()
            && hello.cluster_id == self.cluster_id
            && hello.receiver == self.node_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};
    use crate::rpc::close::{CloseCode, CloseNotice};

    /// Fields as text, so that a change of the wire is seen as one.
    fn shown<T: Serialize>(value: &T) -> String {
        encode(value)
            .iter()
            .flat_map(|byte| std::ascii::escape_default(*byte))
            .map(char::from)
            .collect()
    }

    #[test]
    fn the_bytes_of_hello_and_acknowledgement_are_these() {
        let hello = Hello {
            versions: VERSIONS,
            name: "raft-1".to_owned(),
            cluster_id: Some(ClusterId(7)),
            node_id: Some(NodeId(1)),
            boot: Boot(2),
            term: Term(3),
            acknowledged: Index(4),
            receiver: None,
            purpose: Purpose::Control,
        };
        assert_eq!(
            shown(&hello),
            "\\x89\\xa8versions\\x82\\xa3min\\x01\\xa3max\\x01\\xa4name\\xa6raft-1\\xaacluster_id\\x07\
             \\xa7node_id\\x01\\xa4boot\\x02\\xa4term\\x03\\xacacknowledged\\x04\\xa8receiver\\xc0\
             \\xa7purpose\\xa7control"
        );
        let ack = HelloAck { max_inflight: 9, ..HelloAck::new("raft-2") };
        assert_eq!(
            shown(&ack),
            "\\x88\\xa7version\\x01\\xa4name\\xa6raft-2\\xaacluster_id\\xc0\\xa7node_id\\xc0\\xa4boot\\x00\
             \\xa4term\\x00\\xacacknowledged\\x00\\xacmax_inflight\\t"
        );
        assert_eq!(decode::<Hello>(&encode(&hello)), Ok(hello));
        assert_eq!(decode::<HelloAck>(&encode(&ack)), Ok(ack));
    }

    #[test]
    fn other_versions_hellos_are_read() {
        #[derive(Serialize)]
        struct Later<'a> {
            name: &'a str,
            versions: Versions,
            purpose: &'a str,
            colour: [u8; 3],
        }
        let versions = Versions { min: 1, max: 4 };
        let later = Later { name: "x", versions, purpose: "gossip", colour: [1, 2, 3] };
        let read: Hello = decode(&encode(&later)).unwrap();
        let identity = "balsa://c/client/x".parse().unwrap();
        assert_eq!(read, Hello { versions, ..Hello::client(&identity) });
        #[derive(Serialize)]
        struct Notice<'a> {
            code: &'a str,
            message: &'a str,
        }
        let notice: CloseNotice = decode(&encode(&Notice { code: "moon", message: "" })).unwrap();
        assert_eq!(notice.code, CloseCode::Other);
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        let range = |min, max| Versions { min, max };
        for (ours, theirs, common) in [
            (range(1, 1), range(1, 1), Some(1)),
            (range(1, 3), range(2, 9), Some(3)),
            (range(2, 9), range(1, 3), Some(3)),
            (range(1, 1), range(2, 3), None),
            (range(2, 3), range(1, 1), None),
            (range(1, 3), range(3, 1), None),
        ] {
            assert_eq!(ours.common(theirs), common, "{ours:?} and {theirs:?}");
        }
    }

    #[test]
    fn the_receiver_is_named_only_by_both_ids() {
        let identity = "balsa://c/node/a".parse().unwrap();
        let ack = HelloAck {
            cluster_id: Some(ClusterId(1)),
            node_id: Some(NodeId(2)),
            ..HelloAck::new("b")
        };
        let hello =
            |cluster_id, receiver| Hello { cluster_id, receiver, ..Hello::client(&identity) };
        assert!(ack.is_receiver_of(&hello(Some(ClusterId(1)), Some(NodeId(2)))));
        assert!(!ack.is_receiver_of(&hello(Some(ClusterId(1)), None)));
        assert!(!ack.is_receiver_of(&hello(None, Some(NodeId(2)))));
        // Nobody is the receiver who has no cluster yet, whatever the hello leaves out too.
        let waiting = HelloAck { cluster_id: None, node_id: None, ..ack };
        assert!(!waiting.is_receiver_of(&hello(None, None)));
    }
}
