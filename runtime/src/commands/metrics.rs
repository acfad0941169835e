//! The daemon's metrics, where they are wanted.

use futures::stream::{self, BoxStream, StreamExt};
use turnip::config::{Config, Listen};
use turnip::kernel::Netlink;
use turnip::metrics::{Metrics, Seen, Settings};
use turnip::peers::UdpPeers;
use turnip::seams::Command;
use turnip_core::lease::WITHOUT_STORE;
use turnip_core::{Backstop, Instant, Node};

/// Begins to serve them, if they are configured.
pub fn start(config: &Config, backstop: Backstop) -> Result<Option<Metrics>, String> {
    let Some(address) = config.metrics else { return Ok(None) };
    let hears = config.peers.listen != Listen::Off;
    let settings = Settings {
        address,
        cluster: config.reach.cluster.clone(),
        node: config.node.clone(),
        lease: config.lease,
        backstop,
        without_etcd: hears.then_some(WITHOUT_STORE),
    };
    let started = Metrics::start(settings);
    started.map(Some).map_err(|error| format!("cannot serve metrics: {error}"))
}

/// Tells whoever asks that the daemon waits for etcd; never ends.
pub async fn wait(metrics: Option<&Metrics>) {
    match metrics {
        Some(metrics) => metrics.looks.wait().await,
        None => std::future::pending().await,
    }
}

/// For the driver: somebody asks how the node stands.
pub fn looks(metrics: Option<&Metrics>) -> BoxStream<'static, Command> {
    match metrics {
        Some(metrics) => metrics.looks.clone().commands().boxed(),
        None => stream::pending().boxed(),
    }
}

/// Shows the node to whoever asked.
pub fn show(
    metrics: Option<&Metrics>,
    (node, now): (&Node, Instant),
    kernel: &Netlink,
    peers: Option<&UdpPeers>,
) {
    let Some(metrics) = metrics else { return };
    let seen = Seen::of(node, now)
        .with_kernel(&kernel.conflicts(), kernel.fence_repairs())
        .with_datagrams(peers.map(|peers| peers.watcher().counts()));
    metrics.looks.answer(seen);
}
