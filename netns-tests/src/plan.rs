//! What a cluster is made of.

use ipnet::IpNet;

use crate::daemon::{Daemon, Policy, TurnipSettings, Vip};
use crate::etcd::EtcdSettings;

/// The link of every host that connects it with the others.
pub const LINK: &str = "eth0";

/// What a cluster is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// How many hosts run the daemon.
    pub hosts: usize,
    /// What connects them.
    pub network: NetworkPlan,
    /// Where etcd runs.
    pub etcd: EtcdPlan,
    /// What keeps the addresses.
    pub daemon: Daemon,
    /// The addresses.
    pub vips: Vec<Vip>,
    /// Which of them clients probe.
    pub probed: Probed,
    /// The names of the hosts; `h1`, `h2` and so on where it is shorter than there are hosts.
    pub names: Vec<String>,
}

/// What connects the hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkPlan {
    /// One switch.
    OneSwitch,
    /// A router that learns by BGP where the addresses are.
    Bgp {
        /// Whether BFD tells it that a host is gone.
        bfd: bool,
    },
    /// The same router, which is told nothing yet: what speaks with it is to be started.
    Routed,
    /// A routed underlay, and VXLAN over it.
    Overlay,
}

/// What clients probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probed {
    /// Nothing: with many hosts the probes take more processor time than what is measured.
    Nothing,
    /// All addresses of the first VIP.
    FirstVip,
    /// All addresses of all VIPs, with datagrams only.
    AllVips,
}

/// Where etcd runs.
#[derive(Clone, PartialEq, Debug)]
pub enum EtcdPlan {
    /// A member on each host.
    OnHosts(EtcdSettings),
    /// This many members on hosts of their own.
    Apart(usize, EtcdSettings),
    /// A member on each of these hosts, in this order, and one on each machine of its own of these names.
    Placed {
        /// The hosts.
        on: Vec<usize>,
        /// The machines.
        beside: Vec<String>,
        /// How they are set up.
        settings: EtcdSettings,
    },
    /// Not at all.
    None,
}

impl EtcdPlan {
    /// The number of the member that runs on a host, if one does.
    pub fn member_on(&self, host: usize) -> Option<usize> {
        match self {
            EtcdPlan::OnHosts(_) => Some(host),
            EtcdPlan::Placed { on, .. } => on.iter().position(|one| *one == host),
            EtcdPlan::Apart(..) | EtcdPlan::None => None,
        }
    }
}

impl Default for Plan {
    /// Three hosts with etcd and turnip on each, and one IPv4 address.
    fn default() -> Self {
        Plan {
            hosts: 3,
            network: NetworkPlan::OneSwitch,
            etcd: EtcdPlan::OnHosts(EtcdSettings::default()),
            daemon: Daemon::Turnip(TurnipSettings::default()),
            vips: vec![vip("api", &["10.77.0.100/24"])],
            probed: Probed::FirstVip,
            names: Vec::new(),
        }
    }
}

impl Plan {
    /// The first use-case: an API server's address on `lo` of hosts in separate networks, each of
    /// which announces it to a router by BGP.
    pub fn api_server(bfd: bool) -> Self {
        let vips = vec![Vip { interface: "lo".into(), ..vip("api", &["10.80.200.1/32"]) }];
        Plan { network: NetworkPlan::Bgp { bfd }, vips, ..Plan::default() }
    }

    /// The hosts in an order in which the preferred one of the default VIP is the first: the first to
    /// start takes the VIP, and another one would hand it over after a lease.
    pub fn in_order_of_start(&self) -> Vec<usize> {
        let by_priority = matches!(
            &self.daemon,
            Daemon::Turnip(TurnipSettings { policy: Policy::Priority { .. }, .. })
        );
        // Of three hosts hashing puts `api` on the last, and `gateway` on the first.
        let last_first = !by_priority && self.vips.first().is_some_and(|vip| vip.name == "api");
        if last_first { (0..self.hosts).rev().collect() } else { (0..self.hosts).collect() }
    }

    /// The name of a host.
    pub fn name(&self, host: usize) -> String {
        self.names.get(host).cloned().unwrap_or_else(|| format!("h{}", host + 1))
    }

    /// The addresses that clients probe.
    pub fn probed_addresses(&self) -> Vec<IpNet> {
        let vips = match self.probed {
            Probed::Nothing => 0,
            Probed::FirstVip => 1,
            Probed::AllVips => self.vips.len(),
        };
        self.vips.iter().take(vips).flat_map(|vip| vip.addresses.clone()).collect()
    }

    /// As this, with another policy.
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        self.with(|settings| TurnipSettings { policy, ..settings })
    }

    /// As this, with another lease.
    #[must_use]
    pub fn with_lease(self, lease: &str) -> Self {
        self.with(|settings| TurnipSettings { lease: Some(lease.into()), ..settings })
    }

    /// As this, with hosts that do not hear each other past etcd (rule 10 of the protocol is off).
    #[must_use]
    pub fn without_heartbeats(self) -> Self {
        self.with(|settings| TurnipSettings { listen: Some("off".into()), ..settings })
    }

    fn with(self, change: impl FnOnce(TurnipSettings) -> TurnipSettings) -> Self {
        let daemon = match self.daemon {
            Daemon::Turnip(settings) => Daemon::Turnip(change(settings)),
            other => other,
        };
        Plan { daemon, ..self }
    }

    /// The second use-case: the gateway of guests on an overlay of three hypervisors.
    pub fn gateway() -> Self {
        let gateway = vip("gateway", &["10.90.0.1/24", "fd90::1/64"]);
        let vips = vec![Vip { interface: "br100".into(), ..gateway }];
        Plan { network: NetworkPlan::Overlay, vips, ..Plan::default() }
    }
}

/// A VIP on [`LINK`].
///
/// # Panics
/// When an address is none.
pub fn vip(name: &str, addresses: &[&str]) -> Vip {
    let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    Vip {
        name: name.into(),
        addresses,
        interface: LINK.into(),
        elsewhere: Vec::new(),
        lines: Vec::new(),
    }
}
