//! From options to a running node and its exit status.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use actix::prelude::*;
use actix_rt::Arbiter;

use crate::config::{NodeConfig, OnDamage};
use crate::exit::{Exit, Failure};
use crate::identity::Role;
use crate::kv;
use crate::rpc::{Dialer, Limits, Meter, PageLimits, Resolver, Tls, serve_page};
use crate::storage::{DataDir, RealFs, StorageError};

use super::founder::{self, Founder, Listeners};
use super::gate::Gate;
use super::joiner::{self, Joiner};
use super::metrics::{Collector, MetricsPage};
use super::rpc_listener::RpcListener;
use super::service::NodeService;
use super::standing::{Own, Standing};
use super::start_over;
use super::supervisor::{Plan, Supervisor};

/// Clients' requests taken on at once.
const REQUESTS_MAX: usize = 64 << 10;

/// Bytes of clients' requests taken on at once.
const REQUEST_BYTES_MAX: usize = 256 << 20;

/// Runs a node until it is stopped, and returns its exit status. What prevents a start is said in one
/// line of the log.
#[must_use]
pub fn run(config: NodeConfig) -> Exit {
    run_resolving(config, Resolver::default())
}

/// The same with another resolver of names than the system's.
#[must_use]
pub fn run_resolving(config: NodeConfig, resolver: Resolver) -> Exit {
    match prepare(config) {
        Ok(prepared) => serve(prepared, resolver),
        Err(Failure { exit, message }) => {
            tracing::error!(status = exit.code(), "{message}");
            exit
        }
    }
}

struct Prepared {
    config: NodeConfig,
    tls: Arc<Tls>,
    directory: DataDir,
    listener: TcpListener,
    metrics: Option<TcpListener>,
}

fn prepare(config: NodeConfig) -> Result<Prepared, Failure> {
    let tls = seat_certificate(&config.certs, &config.name)?;
    let identity = tls.identity();
    if let Some(cluster) = &config.cluster
        && cluster != identity.cluster()
    {
        return Err(certificate(format!(
            "--cluster says {cluster}, the certificate in {} says {}",
            config.certs.display(),
            identity.cluster()
        )));
    }
    let open = || {
        let directory = DataDir::open(Arc::new(RealFs), &config.data_dir, &config.name)?;
        directory.bind_cluster_name(identity.cluster()).map(|()| directory)
    };
    let directory = match open() {
        Err(damage @ StorageError::Damaged { .. }) if config.on_damage == OnDamage::Replace => {
            start_over::replace(&config.data_dir, &damage).and_then(|()| open())
        }
        opened => opened,
    };
    let directory = directory.map_err(|error| opening(&config.data_dir, &error))?;
    let listener = bind("--listen", config.listen)?;
    let metrics = config.metrics.map(|address| bind("--metrics", address)).transpose()?;
    Ok(Prepared { config, tls, directory, listener, metrics })
}

/// A listening socket; `option` says how it was asked for.
fn bind(option: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| Failure {
            exit: Exit::AddressInUse,
            message: format!("cannot listen on {address}: {error}; {}", way_out(option, &error)),
        })
}

/// The certificate of a seat.
///
/// # Errors
/// What is wrong with it, or whose it is.
pub fn seat_certificate(certs: &Path, name: &str) -> Result<Arc<Tls>, Failure> {
    let tls = Tls::load(certs, Some(name)).map_err(certificate)?;
    let identity = tls.identity();
    if identity.role() != Role::Node || identity.name() != name {
        return Err(certificate(format!(
            "the certificate in {} is for {identity}, not for node {name}; issue one with `cltraft certs \
             issue node {name}`",
            certs.display(),
        )));
    }
    Ok(tls)
}

/// What helps against an address that cannot be listened on.
fn way_out(option: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("choose a port from 1024 on with {option}, or permit this process ports below")
        }
        io::ErrorKind::AddrNotAvailable => {
            let seen = match option {
                "--listen" => ", and --advertise says where the others find it",
                _ => "",
            };
            format!(
                "the address is none of this machine; {option} takes one of its own, such as 0.0.0.0 \
                 with the port{seen}"
            )
        }
        _ => format!("choose another {option} or stop what holds it"),
    }
}

/// What is wrong with the directory that was named.
fn opening(data_dir: &Path, error: &StorageError) -> Failure {
    let hint = match error {
        StorageError::Io { .. } if data_dir.exists() && !data_dir.is_dir() => {
            "it is a file; name a directory"
        }
        StorageError::Io { source, .. } => match source.kind() {
            io::ErrorKind::NotADirectory => "there is a file on the way to it; name a directory",
            io::ErrorKind::PermissionDenied => {
                "this process's user must be able to write there; change the owner, or name another"
            }
            io::ErrorKind::ReadOnlyFilesystem => "name one on a volume that can be written",
            _ => return disk(error),
        },
        _ => return disk(error),
    };
    let message = format!("--data-dir {}: {error}; {hint}", data_dir.display());
    Failure { message, ..disk(error) }
}

fn disk(error: &StorageError) -> Failure {
    Failure { exit: Exit::of_storage(error), message: error.to_string() }
}

fn certificate(problem: impl ToString) -> Failure {
    Failure { exit: Exit::Certificate, message: problem.to_string() }
}

fn serve(prepared: Prepared, resolver: Resolver) -> Exit {
    let system = System::new();
    if let Err(Failure { exit, message }) = system.block_on(async { start(prepared, resolver) }) {
        tracing::error!(status = exit.code(), "{message}");
        return exit;
    }
    match system.run() {
        Ok(()) => Exit::Stopped,
        Err(error) => {
            tracing::error!(%error, "the actor system ended");
            Exit::Disk
        }
    }
}

/// Serves the page of metrics until the process ends.
async fn serve_metrics(
    listener: TcpListener,
    tls: Arc<Tls>,
    meter: Arc<Meter>,
    page: Arc<MetricsPage>,
) {
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => serve_page(listener, tls, PageLimits::default(), meter, page).await,
        // The node is of use without them, too.
        Err(error) => tracing::error!(%error, "metrics are not served: the socket cannot be used"),
    }
}

/// Starts everything, on the arbiter of the supervisor.
fn start(prepared: Prepared, resolver: Resolver) -> Result<(), Failure> {
    let Prepared { config, tls, directory, listener, metrics } = prepared;
    let own =
        Own { name: config.name.clone(), node_id: directory.node_id(), boot: directory.boot() };
    tracing::info!(
        name = own.name,
        node = %own.node_id,
        boot = own.boot.count(),
        listen = %config.listen,
        data = %config.data_dir.display(),
        certificate = %tls.identity(),
        "starting"
    );
    let store = kv::Store::new();
    let standing = Standing::new(own, store.view(), store.state_hash());
    let limits = Limits::default();
    let dialer = Arc::new(Dialer::resolving(Arc::clone(&tls), limits.clone(), resolver));
    tls.watch(&config.certs, Some(&config.name)).map_err(|error| {
        certificate(format!("certificates cannot be watched, no thread can be started: {error}"))
    })?;
    let directory = Arc::new(directory);
    let (serving, timing) = (Arbiter::new().handle(), Arbiter::new().handle());
    let watching = Arbiter::new().handle();
    let (meter, gate) = (Arc::<Meter>::default(), Gate::new(REQUESTS_MAX, REQUEST_BYTES_MAX));
    let collector = Collector::start(
        Arc::clone(&standing),
        Arc::clone(&tls),
        Arc::clone(&meter),
        Arc::clone(&gate),
        directory.path(),
        watching.clone(),
    )
    .map_err(|error| Failure {
        exit: Exit::Disk,
        message: format!("no thread can be started: {error}"),
    })?;
    if let Some(listener) = metrics {
        let page = Arc::new(MetricsPage(Arc::clone(&collector)));
        let (tls, meter) = (Arc::clone(&tls), Arc::clone(&meter));
        watching.spawn(async move { serve_metrics(listener, tls, meter, page).await });
    }

    let founder_context = Context::<Founder>::new();
    let founder = founder_context.address();
    let joiner_founder = founder.clone();
    let joiner_context = Context::<Joiner>::new();
    let supervisor_context = Context::<Supervisor>::new();
    let supervisor = supervisor_context.address();
    let service = Arc::new(NodeService::new(
        Arc::clone(&standing),
        gate,
        meter,
        collector,
        founder,
        supervisor.clone().recipient(),
        supervisor.clone().recipient(),
    ));
    let (listener_tls, listener_service) = (Arc::clone(&tls), Arc::clone(&service));
    let listener = RpcListener::start_in_arbiter(&serving, move |_| {
        RpcListener::new(listener, listener_tls, limits, listener_service)
    });
    let founder = Founder::new(
        &config,
        Arc::clone(&directory),
        Arc::clone(&dialer),
        Arc::clone(&standing),
        Listeners {
            founded: supervisor.clone().recipient(),
            taken_in: supervisor.clone().recipient(),
            heard: joiner_context.address().recipient(),
        },
    );
    match founder {
        Ok(founder) => founder_context.run(founder),
        Err(damage @ StorageError::Damaged { .. }) if config.on_damage == OnDamage::Replace => {
            tracing::error!("{damage}");
            start_over::start_over(&directory, "damaged");
        }
        Err(error) => return Err(disk(&error)),
    };
    joiner_context.run(Joiner::new(joiner::Plan {
        advertise: config.advertise.clone(),
        seeds: founder::seeds(&config),
        dialer: Arc::clone(&dialer),
        standing: Arc::clone(&standing),
        election: config.tick * config.raft.election_ticks.1,
        founder: joiner_founder.recipient(),
        supervisor: supervisor.clone().recipient(),
    }));
    supervisor_context.run(Supervisor::new(Plan {
        config,
        directory,
        dialer,
        standing,
        service,
        listener,
        serving,
        timing,
        own: supervisor,
    }));
    Ok(())
}
