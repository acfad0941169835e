//! `turnip run`: the daemon.
//!
//! Everything that can be found wrong is found before anything is touched: configuration,
//! privileges, interfaces, the lock, the fence, then etcd. Only that etcd does not answer is
//! waited for, because at a power failure turnip starts before a quorum does; what does not get
//! better by waiting (credentials, certificates, the wrong member) ends it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::signal::unix::{SignalKind, signal};
use turnip::clock::HostClock;
use turnip::config::{Config, Sources};
use turnip::driver::{self, Observation};
use turnip::etcd::Etcd;
use turnip::host;
use turnip::kernel::{Netlink, Settings, check, fence, release};
use turnip::lock::InstanceLock;
use turnip::peers::{Identity, Socket, UdpPeers};
use turnip::seams::{Clock, Command};
use turnip_core::{Backstop, Exit, Keys, Node, StoreError};

use super::local::LocalStatus;
use super::manager::Manager;
use super::needs::{self, Silencing};
use super::service::{self, Service};
use super::{FAILED, OK, fail, heartbeats, membership, own_addresses};
use crate::logging;

/// How long etcd may take for each question before the start.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long until etcd is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// Runs the daemon until it is asked to stop.
pub fn run(sources: &Sources) -> ExitCode {
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(problems) => return super::refuse(&problems),
    };
    let _flush = match logging::start(config.reach.log) {
        Ok(flush) => flush,
        Err(error) => return fail(FAILED, format!("cannot start: {error}")),
    };
    for notice in &config.reach.notices {
        tracing::warn!("{notice}");
    }
    let manager = Manager::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .map_err(|error| format!("cannot start: {error}"))
        .and_then(|runtime| runtime.block_on(serve(&config, &manager)));
    match outcome {
        Ok(Exit::Stopped) => {
            tracing::info!("stopped");
            ExitCode::from(OK)
        }
        Ok(Exit::Refused(why)) | Err(why) => {
            tracing::error!("{why}");
            manager.status(&why);
            ExitCode::from(FAILED)
        }
    }
}

/// Where the record of addresses is, for kernels that keep no marks.
pub fn runtime_directory() -> PathBuf {
    // As systemd names it for the unit; the first, should there be several.
    let given = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
    match given.split(':').next() {
        Some(first) if !first.is_empty() => first.into(),
        _ => "/run/turnip".into(),
    }
}

async fn serve(config: &Config, manager: &Manager) -> Result<Exit, String> {
    needs::privileges().map_err(|why| why.to_string())?;
    let existing: Vec<String> = check::links()
        .map_err(|error| format!("cannot list the interfaces: {error}"))?
        .into_iter()
        .map(|link| link.name.to_string())
        .collect();
    config.check_interfaces(&existing).map_err(|problems| problems.to_string())?;
    let _lock = InstanceLock::take(config.node.as_str()).map_err(|error| error.to_string())?;
    let socket = heartbeats::bind(config.peers.listen)?;
    let backstop = backstop(config)?;
    let etcd = Etcd::new(&config.reach.etcd).map_err(|error| error.to_string())?;
    let mut commands = Box::pin(commands(manager.clone())?);
    tokio::select! {
        waited = wait_for_etcd(&etcd, config, manager) => waited?,
        _ = commands.next() => return Ok(Exit::Stopped),
        () = service::watchdog(manager, None, config.lease.renew()) => {}
    }
    let heard_at = match &socket {
        Some(socket) => heard_at(config, socket, &etcd).await,
        None => None,
    };
    // Before the fence: it would silence them.
    own_addresses::refuse(config, &etcd, ANSWER_WITHIN).await?;
    log_start(config, backstop, heard_at);

    let clock = HostClock::new();
    let settings = Settings {
        configured: config.vips.iter().flat_map(|vip| vip.config.assignments()).collect(),
        announce_on: config.announce_on(),
        backstop,
        runtime_directory: runtime_directory(),
    };
    let kernel = Netlink::open(settings, clock.clone()).map_err(|error| error.to_string())?;
    let host = host::host_id().map_err(|error| format!("cannot identify this host: {error}"))?;
    let process = getrandom::u64().map_err(|error| format!("no randomness: {error}"))?;
    let heartbeats = heard_at.map(heartbeats::node_config).transpose()?;
    let peers = match socket.filter(|_| heartbeats.is_some()) {
        Some(socket) => {
            let (cluster, node) = (config.reach.cluster.clone(), config.node.clone());
            let hearing = config.lease.duration();
            let started = UdpPeers::start(socket, Identity { cluster, node }, process, hearing);
            Some(started.map_err(|error| format!("cannot read heartbeats: {error}"))?)
        }
        None => None,
    };
    let watcher = peers.as_ref().map(UdpPeers::watcher);
    let local = LocalStatus::new(&runtime_directory(), config, watcher, kernel.conflicts());
    let notes = local.notes();
    let node = config.node_config(host, process, backstop, heartbeats);
    let node = Node::new(node, clock.now());

    let mut service = Service::new(config.vips.len(), manager.clone());
    let heartbeat = service.heartbeat();
    let observe = |observation: Observation<'_>| match observation {
        Observation::Turn => service.turn(),
        Observation::Report(report) => {
            logging::report(report);
            service.report(report);
            notes.report(report);
        }
    };
    let driver = driver::run(node, &etcd, &kernel, &peers, &clock, commands, observe);
    tokio::select! {
        exit = driver => {
            if exit == Exit::Stopped {
                put_back();
            }
            Ok(exit)
        }
        // As if killed: the fence and the lifetimes silence what is held, others take over.
        why = kernel.failure(config.lease.duration()) => Err(format!("giving up: {why}")),
        () = local.serve() => Err("the status ended".into()),
        () = service::watchdog(manager, Some(heartbeat), config.lease.renew()) => Err("the watchdog ended".into()),
    }
}

/// What was set of interfaces is put back with the fence; where that stays, it is here.
fn put_back() {
    if let Err(error) = release::put_back(&runtime_directory()) {
        tracing::warn!(%error, "promote_secondaries may stay as it is");
    }
}

/// Chooses what silences addresses when this process cannot.
fn backstop(config: &Config) -> Result<Backstop, String> {
    let chosen = Silencing::choose(config.fence, &config.lease, fence::probe())
        .map_err(|none| none.to_string())?;
    if let Silencing::LifetimesInstead(_) = chosen {
        tracing::warn!("{chosen}");
    }
    Ok(chosen.backstop())
}

/// Returns when etcd answers and this host may be a node. Each reason to wait is said once, not
/// at every try: at a power failure it may take an hour.
async fn wait_for_etcd(etcd: &Etcd, config: &Config, manager: &Manager) -> Result<(), String> {
    let mut said = String::new();
    loop {
        let why = match may_start(etcd, config).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Refused(why)) => return Err(why),
            Err(StoreError::Unavailable(why)) if is_tls_failure(&why) => {
                return Err(format!("etcd cannot be trusted, or does not trust us: {why}"));
            }
            Err(StoreError::Unavailable(why)) => why,
        };
        if said == why {
            tracing::debug!("still waiting for etcd: {why}");
        } else {
            tracing::error!("waiting for etcd, holding nothing: {why}");
            manager.status(&format!("waiting for etcd: {why}"));
            said = why;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Whether TLS failed, on our side or on etcd's: waiting does not mend that.
///
/// Known by the text, because the types are out of reach: rustls's own error is given out by
/// neither tonic nor etcd-client, and an alert that comes after the handshake, as TLS 1.3 refuses a
/// client's certificate, is inside an error of h2, which names no source.
fn is_tls_failure(why: &str) -> bool {
    why.contains("certificate") || why.contains("fatal alert")
}

async fn may_start(etcd: &Etcd, config: &Config) -> Result<(), StoreError> {
    let keys = Keys::new(&config.reach.cluster);
    within(etcd.snapshot(keys.prefix())).await?;
    let Some(ip) = config.member_ip else { return Ok(()) };
    membership::check(etcd, &config.reach, ip, ANSWER_WITHIN).await.map(|_| ())
}

async fn within<T>(ask: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::Unavailable(format!("no answer within {ANSWER_WITHIN:?}"));
    tokio::time::timeout(ANSWER_WITHIN, ask).await.map_err(late)?
}

/// Where the others send heartbeats to this host. None is said once, and means that addresses do not
/// outlive etcd.
async fn heard_at(config: &Config, socket: &Socket, etcd: &Etcd) -> Option<SocketAddr> {
    match heartbeats::address(config, socket, etcd, ANSWER_WITHIN).await {
        Ok((address, why)) => {
            tracing::debug!("heartbeats are received at {address}, from {why}");
            Some(address)
        }
        Err(why) => {
            tracing::error!(
                "no heartbeats, so addresses do not outlive etcd: {why}; write it as peers.address"
            );
            None
        }
    }
}

fn log_start(config: &Config, backstop: Backstop, heard_at: Option<SocketAddr>) {
    let fence = match backstop {
        Backstop::Fence => "nftables",
        Backstop::Lifetime => "lifetime",
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.node.as_str(),
        cluster = config.reach.cluster.as_str(),
        vips = config.vips.len(),
        lease = ?config.lease.duration(),
        fence,
        heartbeats = heard_at.map_or_else(|| "off".to_owned(), |address| address.to_string()),
        endpoints = config.reach.etcd.endpoints.join(","),
        "starting"
    );
}

/// The first signal asks for an orderly stop, the second one does not wait.
fn commands(manager: Manager) -> Result<impl Stream<Item = Command>, String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    // A terminal that goes away is no reason to leave addresses behind.
    let mut hangup = listen(SignalKind::hangup())?;
    let next = async move |first: bool| {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
        if first {
            tracing::info!("stopping: handing over what is held");
            manager.stopping();
            Command::Stop
        } else {
            tracing::warn!("stopping at once");
            Command::StopNow
        }
    };
    Ok(stream::unfold((next, true), async |(mut next, first)| {
        let command = next(first).await;
        Some((command, (next, false)))
    }))
}
