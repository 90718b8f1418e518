//! Asks an address who is there (`Boot.Ask`), accepting only a certificate of the seat that is looked
//! for.

use std::sync::Arc;
use std::time::Duration;

use crate::raft::founding::{Answer, Ask, Sender};
use crate::rpc::{DialError, Dialer, Expect, Method, Purpose};

use super::replicator::hello;
use super::standing::Standing;

/// For the connection, and for the call.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no answer of the seat, in a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody could be asked, at the moment or at all.
    #[error("{0}")]
    Silence(String),
    /// The address is that of somebody else, as its certificate proves.
    #[error("{0}")]
    SomebodyElse(String),
}

impl From<DialError> for NoAnswer {
    fn from(error: DialError) -> NoAnswer {
        match error {
            DialError::WrongPeer { .. } => NoAnswer::SomebodyElse(error.to_string()),
            _ => NoAnswer::Silence(error.to_string()),
        }
    }
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Inquirer {
    dialer: Arc<Dialer>,
    standing: Arc<Standing>,
}

impl Inquirer {
    /// One that speaks for this node.
    #[must_use]
    pub fn new(dialer: Arc<Dialer>, standing: Arc<Standing>) -> Inquirer {
        Inquirer { dialer, standing }
    }

    /// Asks; the reason for no answer is for a person.
    pub fn ask(
        &self,
        name: &str,
        address: &str,
    ) -> impl Future<Output = Result<Answer, NoAnswer>> + use<> {
        let (dialer, standing) = (Arc::clone(&self.dialer), Arc::clone(&self.standing));
        let (name, address) = (name.to_owned(), address.to_owned());
        async move {
            let hello = hello(&standing, Purpose::Control, None);
            let from = Sender { name: standing.own.name.clone(), node_id: standing.own.node_id };
            let connection = dialer.dial(&address, Expect::Node(name), hello, PATIENCE).await?;
            let answer = connection.call_timeout(Method::BootAsk, &Ask { from }, PATIENCE).await;
            connection.close();
            answer.map_err(|error| NoAnswer::Silence(error.to_string()))
        }
    }
}
