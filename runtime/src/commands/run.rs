//! `turnip run`: the daemon.
//!
//! Everything that can be found wrong is found before anything is touched: configuration,
//! privileges, interfaces, the lock, the fence, then etcd. Only that etcd does not answer is
//! waited for, because at a power failure turnip starts before a quorum does; what does not get
//! better by waiting (credentials, certificates, the wrong member) ends it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::Notify;
use turnip::checks::Checks;
use turnip::clock::HostClock;
use turnip::config::{Config, Sources};
use turnip::driver::{self, Observation};
use turnip::etcd::{Etcd, EtcdSettings};
use turnip::hooks::HostHooks;
use turnip::host;
use turnip::kernel::{Netlink, Settings, check, fence, release};
use turnip::lock::InstanceLock;
use turnip::metrics::{MeteredKernel, MeteredStore, Metrics, Recorder};
use turnip::peers::{Identity, Socket, UdpPeers};
use turnip::seams::{Clock, Command};
use turnip_core::{Backstop, Causes, Exit, HostId, Keys, Node, Owed, StoreError};

use super::asked::{self, Asked};
use super::growth::{self, Concerns};
use super::local::LocalStatus;
use super::manager::Manager;
use super::needs::{self, Silencing};
use super::reload::{Progress, Reloader, Waiting};
use super::service::{self, Service};
use super::{FAILED, OK, behind, certificates, fail, heartbeats, membership, own_addresses};
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
    let flush = match logging::start(config.reach.log) {
        Ok(flush) => flush,
        Err(error) => return fail(FAILED, format!("cannot start: {error}")),
    };
    for notice in &config.reach.notices {
        tracing::warn!("{notice}");
    }
    let (manager, again) = (Manager::new(), Rc::new(Cell::new(false)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .map_err(|error| format!("cannot start: {error}"))
        .and_then(|runtime| runtime.block_on(serve(&config, sources, &manager, &again)));
    match outcome {
        Ok(Exit::Stopped) if again.get() => {
            drop(flush);
            start_anew()
        }
        Ok(Exit::Left) => {
            tracing::info!("left addresses, fence and session to the next start");
            ExitCode::from(OK)
        }
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

/// The same process, from its beginning: what it was started with reads the configuration anew.
fn start_anew() -> ExitCode {
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    fail(FAILED, format!("cannot start anew: {}", command.args(arguments).exec()))
}

/// Where what outlives a boot is kept.
fn state_directory() -> PathBuf {
    directory("STATE_DIRECTORY", "/var/lib/turnip")
}

/// Where the record of addresses is, for kernels that keep no marks.
pub fn runtime_directory() -> PathBuf {
    directory("RUNTIME_DIRECTORY", "/run/turnip")
}

/// As systemd names it for the unit by this variable; the first, should there be several.
fn directory(variable: &str, default: &str) -> PathBuf {
    let given = std::env::var(variable).unwrap_or_default();
    match given.split(':').next() {
        Some(first) if !first.is_empty() => first.into(),
        _ => default.into(),
    }
}

/// The names of all interfaces.
pub fn interfaces() -> Result<Vec<String>, String> {
    let links = check::links().map_err(|error| format!("cannot list the interfaces: {error}"))?;
    Ok(links.into_iter().map(|link| link.name.to_string()).collect())
}

/// Says what leads to etcd by way of a VIP.
pub fn log_dangers(config: &Config, etcd: &Etcd) {
    for danger in behind::look_at_known(config, etcd) {
        match danger.is_certain {
            true => tracing::error!("{}", danger.what),
            false => tracing::warn!("{}", danger.what),
        }
    }
}

async fn serve(
    config: &Config,
    sources: &Sources,
    manager: &Manager,
    again: &Rc<Cell<bool>>,
) -> Result<Exit, String> {
    needs::privileges().map_err(|why| why.to_string())?;
    serve_what_there_is(config, &interfaces()?, manager)?;
    let _lock = InstanceLock::take(config.node.as_str()).map_err(|error| error.to_string())?;
    let socket = heartbeats::bind(config.peers.listen)?;
    let backstop = backstop(config)?;
    let etcd = Etcd::new(&config.reach.etcd).map_err(|error| error.to_string())?;
    manager.status("asking etcd");
    keep_names(&etcd, config);
    let metrics = super::metrics::start(config, backstop)?;
    let mut asked = Asked::new(config, manager, again)?;
    let waiting = Waiting { sources, config, again, ends: Notify::new() };
    if !is_waited_for_etcd(&etcd, &mut asked, &waiting, metrics.as_ref(), manager).await? {
        return Ok(Exit::Stopped);
    }
    let heard_at = look_around(config, socket.as_ref(), &etcd, backstop).await?;
    let clock = HostClock::new();
    let kernel = open_kernel(config, backstop, &clock)?;
    let (host, process) = identity()?;
    let heartbeats = heard_at.map(heartbeats::node_config).transpose()?;
    let socket = socket.filter(|_| heartbeats.is_some());
    let peers = socket.map(|socket| peers(config, socket, process)).transpose()?;
    let watcher = peers.as_ref().map(UdpPeers::watcher);
    let concerns = Concerns::default();
    let (at, conflicts) = (runtime_directory(), kernel.conflicts());
    let local = LocalStatus::new(&at, config, watcher, conflicts, concerns.clone());
    let (notes, certificate_notes) = (local.notes(), local.notes());
    let keys = Keys::new(&config.reach.cluster);
    let started_with = config.node_config(host, process, backstop, heartbeats);
    let (hooks, owed) = hooks(config, process).await?;
    let mut node = Node::new(started_with.clone(), clock.now());
    node.handle_owed(owed);
    let mut recorder = metrics.as_ref().map(|metrics| Recorder::new(metrics.counters.clone()));
    let mut service = Service::new(config.vips.len(), manager.clone());
    let heartbeat = service.heartbeat();
    let progress = Progress::new(service.configured());
    // Dropped when the daemon ends, and with it what checks have begun.
    let (checks, attempts) = Checks::start(config.checks.clone())
        .map_err(|error| format!("cannot begin to check: {error}"))?;
    let reloader = Reloader {
        sources,
        running: RefCell::new(config.clone()),
        started_with,
        to_node: asked.to_node.clone(),
        manager: manager.clone(),
        kernel: &kernel,
        hooks: &hooks,
        checks: &checks,
        etcd: &etcd,
        progress: &progress,
        again,
    };
    let reports = logging::Reports::default();
    let observe = |observation: Observation<'_>| match observation {
        Observation::Turn => service.turn(),
        Observation::Look(node, now) => {
            super::metrics::show(metrics.as_ref(), (node, now), &kernel, peers.as_ref());
        }
        Observation::Report(report) => {
            reports.report(report);
            service.report(report);
            notes.report(report);
            progress.report(report);
            recorder.iter_mut().for_each(|recorder| recorder.report(report));
        }
    };
    let outside = metrics.as_ref().map(|metrics| metrics.outside.clone()).unwrap_or_default();
    let growth = growth::watch(&etcd, &keys, config.growth, &clock, (&concerns, &outside));
    let counters = || metrics.as_ref().map(|metrics| metrics.counters.clone());
    let store = MeteredStore::new(&etcd, counters(), keys.clone(), config.node.clone());
    let metered = MeteredKernel::new(&kernel, counters());
    let Asked { commands, control, mut hangup, .. } = asked;
    let commands = stream::select(commands, super::metrics::looks(metrics.as_ref()));
    let commands = stream::select(commands, attempts.map(Command::Attempt));
    let driver = driver::run(node, &store, &metered, &hooks, &peers, &clock, commands, observe);
    tokio::select! {
        exit = driver => Ok(ended(exit)),
        // As if killed: the fence and the lifetimes silence what is held, others take over.
        why = kernel.failure(config.lease.duration()) => Err(format!("giving up: {why}")),
        () = checks.ended() => Err("trying the checks ended".into()),
        () = growth => Err("looking at etcd's growth ended".into()),
        () = service::ready_in_any_case(manager) => Err("waiting ended".into()),
        () = service::prolong(manager, heartbeat.clone(), config.lease.renew()) => Err("stopping ended".into()),
        never = etcd.upkeep(keys.prefix()) => match never {},
        never = certificates::warn(&etcd, &certificate_notes, &outside) => match never {},
        () = local.serve() => Err("the status ended".into()),
        () = control.serve(async |request| reloader.act(request).await) => Err("the control ended".into()),
        () = asked::on_each(&mut hangup, async || { let _ = reloader.reload(false, false).await; }) => Err("reloading ended".into()),
        () = reports.serve() => Err("the log ended".into()),
        () = service::watchdog(manager, Some(heartbeat), config.lease.renew()) => Err("the watchdog ended".into()),
    }
}

/// Waits until etcd answers, and does meanwhile what the daemon is asked; false when it shall end.
async fn is_waited_for_etcd(
    etcd: &Etcd,
    asked: &mut Asked,
    waiting: &Waiting<'_>,
    metrics: Option<&Metrics>,
    manager: &Manager,
) -> Result<bool, String> {
    let config = waiting.config;
    let waits = async {
        tokio::select! {
            waited = wait_for_etcd(etcd, config, manager) => waited,
            () = super::metrics::wait(metrics) => Ok(()),
            () = service::watchdog(manager, None, config.lease.renew()) => Ok(()),
        }
    };
    asked.wait(waits, waiting).await
}

/// The last good addresses of etcd's endpoints are for a start without a resolver.
fn keep_names(etcd: &Etcd, config: &Config) {
    let names = state_directory().join(config.node.as_str()).with_added_extension("names");
    if let Err(error) = etcd.keep_names_in(names) {
        tracing::warn!("the last good addresses of etcd's endpoints are not known: {error}");
    }
}

/// Finds out where the others send heartbeats, and what stands against running here.
async fn look_around(
    config: &Config,
    socket: Option<&Socket>,
    etcd: &Etcd,
    backstop: Backstop,
) -> Result<Option<SocketAddr>, String> {
    let heard_at = match socket {
        Some(socket) => heard_at(config, socket, etcd).await,
        None => None,
    };
    // Before the fence: it would silence them.
    own_addresses::refuse(config, etcd, ANSWER_WITHIN).await?;
    log_start(config, backstop, heard_at);
    log_dangers(config, etcd);
    Ok(heard_at)
}

fn open_kernel(config: &Config, backstop: Backstop, clock: &HostClock) -> Result<Netlink, String> {
    let settings = Settings {
        configured: config.vips.iter().flat_map(|vip| vip.config.assignments()).collect(),
        announce_on: config.announce_on(),
        virtual_links: config.virtual_links(),
        companions: config.companions(),
        backstop,
        runtime_directory: runtime_directory(),
    };
    Netlink::open(settings, clock.clone()).map_err(|error| error.to_string())
}

/// Which host this is, and a number for this process.
fn identity() -> Result<(HostId, u64), String> {
    let host = host::host_id().map_err(|error| format!("cannot identify this host: {error}"))?;
    let process = getrandom::u64().map_err(|error| format!("no randomness: {error}"))?;
    Ok((host, process))
}

/// The hooks, and what an earlier process owed.
async fn hooks(config: &Config, process: u64) -> Result<(HostHooks, Vec<Owed>), String> {
    let (node, commands) = (config.node.clone(), config.hook_commands());
    HostHooks::open(&runtime_directory(), node, process, commands).await
}

/// Begins to send heartbeats, and to hear those of others.
fn peers(config: &Config, socket: Socket, process: u64) -> Result<UdpPeers, String> {
    let (cluster, node) = (config.reach.cluster.clone(), config.node.clone());
    let hearing = config.lease.duration();
    let started = UdpPeers::start(socket, Identity { cluster, node }, process, hearing);
    started.map_err(|error| format!("cannot read heartbeats: {error}"))
}

/// VIPs whose interface is missing wait for it, and the others are served. With none to serve it is an error
/// that a person sees at once; a service manager would only start this again and again.
fn serve_what_there_is(
    config: &Config,
    existing: &[String],
    manager: &Manager,
) -> Result<(), String> {
    let Err(problems) = config.check_interfaces(existing) else { return Ok(()) };
    if !config.serves_something(existing) && !manager.is_there() {
        return Err(problems.to_string());
    }
    for problem in problems.iter() {
        tracing::error!("{problem}; what does not need it is served");
    }
    Ok(())
}

/// What was set of interfaces is put back with the fence; where that stays, it is here.
fn ended(exit: Exit) -> Exit {
    if exit != Exit::Stopped {
        return exit;
    }
    if let Err(error) = release::put_back(&runtime_directory()) {
        tracing::warn!(%error, "what was set of interfaces may stay as it is");
    }
    exit
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
    let mut causes = Causes::default();
    loop {
        let why = match may_start(etcd, config).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Refused(why)) => return Err(why),
            Err(StoreError::Unavailable(why)) if is_tls_failure(&why, &config.reach.etcd) => {
                return Err(format!("etcd cannot be trusted, or does not trust us: {why}"));
            }
            Err(StoreError::Unavailable(why)) => why,
        };
        if causes.is_news(&why) {
            tracing::error!("waiting for etcd, holding nothing: {why}");
            manager.status(&format!("waiting for etcd, holding nothing: {why}"));
            manager.ready();
        } else {
            tracing::debug!("still waiting for etcd: {why}");
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Whether TLS failed, on our side or on etcd's: waiting does not mend that.
///
/// Known by the text, because the types are out of reach: rustls's own error is given out by
/// neither tonic nor etcd-client, and an alert that comes after the handshake, as TLS 1.3 refuses a
/// client's certificate, is inside an error of h2, which names no source. The text names endpoints, too, and
/// these are called what somebody wanted.
fn is_tls_failure(why: &str, etcd: &EtcdSettings) -> bool {
    let urls = || etcd.endpoints.iter().chain(&etcd.local);
    let said = urls().fold(why.to_owned(), |said, url| said.replace(url, "…"));
    urls().any(|url| url.starts_with("https:"))
        && (said.contains("certificate") || said.contains("fatal alert"))
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

#[cfg(test)]
mod tests {
    use turnip::etcd::TlsSettings;

    use super::*;

    #[test]
    fn an_endpoint_that_is_called_after_a_certificate_is_no_failure_of_tls() {
        let settings = |url: &str| EtcdSettings {
            endpoints: vec![url.to_owned()],
            local: None,
            tls: TlsSettings::default(),
            user: None,
        };
        let fails = |url: &str, cause: &str| {
            is_tls_failure(&format!("cannot connect to {url}: {cause}"), &settings(url))
        };
        let (store, refused) = ("https://certificate-store:2379", "Connection refused");
        assert!(!fails(store, refused));
        assert!(!fails("http://certificate-store:2379", refused));
        assert!(fails(store, "invalid peer certificate: UnknownIssuer"));
        assert!(fails("https://etcd:2379", "received fatal alert: CertificateRequired"));
        assert!(!fails("http://etcd:2379", "it says certificate"), "there is no TLS");
    }
}
