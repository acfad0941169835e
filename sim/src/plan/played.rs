//! What a scenario file says that no drawn plan varies.

use std::time::Duration;

use turnip_core::{CheckConfig, NodeName, VipConfig};

use crate::script::Happening;

/// What a scenario file says of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Played {
    /// The names of the hosts.
    pub hosts: Vec<NodeName>,
    /// The names of the machines that run etcd only.
    pub beside: Vec<String>,
    /// The VIPs as the file has them; addresses and policies are as the parameters say.
    pub vips: Vec<VipConfig>,
    /// The checks.
    pub checks: Vec<NamedCheck>,
    /// Paths that are not usual.
    pub paths: Vec<Path>,
    /// What happens; times count from when all VIPs are held.
    pub happens: Vec<Happening>,
    /// For how long they are held before, in ns.
    pub settles: u64,
    /// How long it lasts from then on, in ns.
    pub lasts: u64,
}

/// A check of a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedCheck {
    /// What the node goes by.
    pub config: CheckConfig,
    /// From one attempt to the next.
    pub interval: Duration,
}

/// A path between two machines that is not usual, one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// From.
    pub from: usize,
    /// To.
    pub to: usize,
    /// How much longer than usual a packet takes, in ns.
    pub slow: u64,
    /// How much is lost, in parts per million.
    pub loss_ppm: u64,
}
