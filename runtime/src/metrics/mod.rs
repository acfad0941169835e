//! What the daemon tells programs of itself: Prometheus' text format at `/metrics`, whether it lives at
//! `/healthz`, whether it holds all that it should at `/readyz`.
//!
//! ```text
//!   driver -- reports, answers, failures --> Counters --+
//!          <-- Command::Look --- Looks <----------------+-- Page <-- HTTP (a thread) <-- Prometheus
//!          --- Seen -----------> Looks ---------------->|
//!   who watches etcd and certificates ----> Outside ----+
//! ```
//!
//! What happens is counted when it happens. How things stand is looked at when somebody asks, by the
//! driver's loop, between two inputs: so an answer also shows that the loop goes round. The pages are made
//! and served by a thread of its own, which holds up nothing.

mod counters;
mod look;
mod metered;
mod outside;
mod page;
mod recorder;
mod sample;
mod server;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use turnip_core::{Backstop, ClusterName, Lease, NodeName};

pub use counters::Counters;
pub use look::{Looks, Seen, VipSeen};
pub use metered::{MeteredKernel, MeteredStore};
pub use outside::{EtcdHealth, Outside, Watched};
pub use recorder::Recorder;

use page::Page;

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the pages are served.
    pub address: SocketAddr,
    /// The cluster.
    pub cluster: ClusterName,
    /// This node.
    pub node: NodeName,
    /// The durations of its session.
    pub lease: Lease,
    /// What silences addresses when the daemon cannot.
    pub backstop: Backstop,
    /// How long addresses may stay while etcd is away and all hosts hear each other; absent when this one
    /// hears nobody.
    pub without_etcd: Option<Duration>,
}

/// The metrics of a daemon. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What has happened.
    pub counters: Counters,
    /// How things stand.
    pub looks: Looks,
    /// What others find out.
    pub outside: Outside,
}

impl Metrics {
    /// Begins to serve them. An address that is not to be had yet is tried again, and costs nothing else:
    /// the log says so.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let (counters, looks, outside) = <(Counters, Looks, Outside)>::default();
        let metrics = Metrics { counters, looks, outside };
        let address = settings.address;
        server::start(address, Page::new(settings, metrics.clone()))?;
        Ok(metrics)
    }
}
