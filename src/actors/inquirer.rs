//! Asks an address who is there (`Boot.Ask`), accepting only a certificate of the seat that is looked
//! for.

use std::sync::Arc;
use std::time::Duration;

use crate::raft::founding::{Answer, Ask, Sender};
use crate::rpc::{Dialer, Expect, Method, Purpose};

use super::replicator::hello;
use super::standing::Standing;

/// For the connection, and for the call.
pub const PATIENCE: Duration = Duration::from_secs(2);

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
    ) -> impl Future<Output = Result<Answer, String>> + use<> {
        let (dialer, standing) = (Arc::clone(&self.dialer), Arc::clone(&self.standing));
        let (name, address) = (name.to_owned(), address.to_owned());
        async move {
            let hello = hello(&standing, Purpose::Control, None);
            let from = Sender { name: standing.own.name.clone(), node_id: standing.own.node_id };
            let connection = dialer
                .dial(&address, Expect::Node(name), hello, PATIENCE)
                .await
                .map_err(|error| error.to_string())?;
            let answer = connection
                .call_timeout(Method::BootAsk, &Ask { from }, PATIENCE)
                .await
                .map_err(|error| error.to_string());
            connection.close();
            answer
        }
    }
}
