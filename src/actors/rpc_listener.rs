//! The RPC listener: an actor on the arbiter of the connections. It owns the listening socket; each
//! accepted connection is a task beside it.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::rpc::{self, Limits, Service, Stop, Stopper, Tls};

/// See the module.
pub struct RpcListener {
    listener: Option<std::net::TcpListener>,
    tls: Arc<Tls>,
    limits: Limits,
    service: Arc<dyn Service>,
    stopper: Stopper,
    stop: Option<Stop>,
    /// Told when the last connection has ended.
    ended: Option<oneshot::Receiver<()>>,
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
        let (stopper, stop) = rpc::stop();
        let (listener, stop) = (Some(listener), Some(stop));
        RpcListener { listener, tls, limits, service, stopper, stop, ended: None }
    }
}

impl Actor for RpcListener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (Some(listener), Some(stop)) = (self.listener.take(), self.stop.take()) else { return };
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the listening socket cannot be used");
                ctx.stop();
                return;
            }
        };
        let (tls, limits) = (Arc::clone(&self.tls), self.limits.clone());
        let service = Arc::clone(&self.service);
        let (ending, ended) = oneshot::channel();
        self.ended = Some(ended);
        actix_rt::spawn(async move {
            rpc::serve(listener, tls, limits, service, stop).await;
            // Nobody waits if the process ends otherwise.
            let _ = ending.send(());
        });
    }
}

impl Handler<StopAccepting> for RpcListener {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopAccepting, _: &mut Self::Context) -> Self::Result {
        self.stopper.stop();
        let ended = self.ended.take();
        Box::pin(async move {
            if let Some(ended) = ended {
                // An error says that serving has ended, too.
                let _ = ended.await;
            }
        })
    }
}
