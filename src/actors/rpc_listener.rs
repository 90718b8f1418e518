//! The RPC listener: an actor on the arbiter of the connections. It owns the listening socket; each
//! accepted connection is a pair of tasks beside it.

use std::sync::Arc;

use actix::prelude::*;

use crate::rpc::{self, Limits, Service, Stopper, Tls};

/// See the module.
pub struct RpcListener {
    listener: Option<std::net::TcpListener>,
    tls: Arc<Tls>,
    limits: Limits,
    service: Arc<dyn Service>,
    stopper: Stopper,
}

/// Close the listening socket and end the connections once their calls are answered. Supervisor →
/// listener, once; resolves when all is closed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopAccepting;

impl RpcListener {
    /// A listener over a bound socket.
    #[must_use]
    pub fn new(
        listener: std::net::TcpListener,
        tls: Arc<Tls>,
        limits: Limits,
        service: Arc<dyn Service>,
    ) -> RpcListener {
        RpcListener { listener: Some(listener), tls, limits, service, stopper: Stopper::new() }
    }
}

impl Actor for RpcListener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(listener) = self.listener.take() else { return };
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the listening socket cannot be used");
                ctx.stop();
                return;
            }
        };
        let (tls, limits) = (Arc::clone(&self.tls), self.limits.clone());
        let (service, stopped) = (Arc::clone(&self.service), self.stopper.token());
        actix_rt::spawn(rpc::serve(listener, tls, limits, service, stopped));
    }
}

impl Handler<StopAccepting> for RpcListener {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopAccepting, _: &mut Self::Context) -> Self::Result {
        let stopper = self.stopper.clone();
        Box::pin(async move { stopper.stop().await })
    }
}
