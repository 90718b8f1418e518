//! Asks an address who is there (`Boot.Ask`), accepting only a certificate of the seat that is looked
//! for, or that of any node.

use std::net::SocketAddr;
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

    /// Asks the seat at its address; the reason for no answer is for a person.
    pub fn ask(
        &self,
        name: &str,
        address: &str,
    ) -> impl Future<Output = Result<Answer, NoAnswer>> + use<> {
        self.clone().dial(address.to_owned(), Expect::Node(name.to_owned()))
    }

    /// Asks whichever node of the cluster is at this address.
    pub fn ask_address(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = Result<Answer, NoAnswer>> + use<> {
        self.clone().dial(address.to_string(), Expect::AnySeat)
    }

    async fn dial(self, address: String, expect: Expect) -> Result<Answer, NoAnswer> {
        let Inquirer { dialer, standing } = self;
        let hello = hello(&standing, Purpose::Control, None);
        let from = Sender { name: standing.own.name.clone(), node_id: standing.own.node_id };
        let connection = dialer.dial(&address, expect, hello, PATIENCE).await?;
        let answer = connection.call_timeout(Method::BootAsk, &Ask { from }, PATIENCE).await;
        connection.close();
        let answer: Answer =
            answer.map_err(|error| NoAnswer::Silence(format!("{address}: {error}")))?;
        let proved = connection.identity().name();
        if answer.name == proved {
            Ok(answer)
        } else {
            let why = format!("{address}: {proved} answers as if it were {}", answer.name);
            Err(NoAnswer::Silence(why))
        }
    }
}
