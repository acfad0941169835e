//! What a node is configured with.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use xxhash_rust::xxh3::xxh3_64;

use crate::check::{CheckConfig, LastResort};
use crate::hook::Hooks;
use crate::kernel::Assignment;
use crate::lease::{Backstop, Lease};
use crate::name::{CheckName, ClusterName, HostId, NodeName, VipName};

/// Whether every link may have the address.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Everything a [`Node`](crate::Node) is given at its start.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeConfig {
    /// The cluster, and so the prefix of all keys.
    pub cluster: ClusterName,
    /// This node.
    pub name: NodeName,
    /// The host that it runs on.
    pub host: HostId,
    /// Drawn at random by whoever starts the process: no two processes may have the same one.
    pub process: u64,
    /// The durations of its session.
    pub lease: Lease,
    /// What silences its addresses when it cannot.
    pub backstop: Backstop,
    /// Its share under `spread`.
    pub weight: u32,
    /// The VIPs that it can take; no name and no address twice, but a link-local address once on
    /// each interface.
    pub vips: Vec<VipConfig>,
    /// The checks of what stands behind them; no name twice.
    pub checks: Vec<CheckConfig>,
    /// How often what it holds is announced again (rule 8.16); none for never.
    pub announce_every: Option<Duration>,
    /// How it hears the others past the store; none where it does not (rule 10).
    pub heartbeats: Option<HeartbeatConfig>,
    /// turnip's version, for others to see.
    pub version: String,
}

/// How a node hears the others (rule 10).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HeartbeatConfig {
    /// Where the others reach it.
    pub address: SocketAddr,
    /// Becomes the cluster's key where there is none yet: 256 random bits in hexadecimal.
    pub fresh_key: String,
    /// For how long a session may go on without a write in the store, and how long a host that is
    /// not listed waits. The same on all hosts: see [`lease::WITHOUT_STORE`](crate::lease::WITHOUT_STORE).
    pub without_store: Duration,
}

/// A VIP as one node is configured with it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct VipConfig {
    /// Its name, the same on all nodes.
    pub name: VipName,
    /// Its addresses; they move as one.
    pub addresses: BTreeSet<IpNet>,
    /// The interface that carries them on this node.
    pub interface: Arc<str>,
    /// Who should own it.
    pub policy: Policy,
    /// Whether it is announced against another machine that claims one of its addresses (rule 8.18).
    pub defend: bool,
    /// Whether it is held on an interface only while that has a carrier.
    pub require_carrier: bool,
    /// Whether connections through its addresses are left alone when it has left this node.
    pub keep_connections: bool,
    /// The checks on which it depends, beside those of the whole node.
    pub checks: BTreeSet<CheckName>,
    /// What becomes of it when they fail wherever it could be.
    pub last_resort: LastResort,
    /// What is run beside what becomes of it (rule 12).
    pub hooks: Hooks,
}

/// Who should own a VIP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Policy {
    /// The host whose etcd member is the raft leader.
    Leader,
    /// The winner of weighted rendezvous hashing.
    Spread,
    /// The host with the highest priority.
    Priority {
        /// This node's.
        priority: u32,
        /// Whether a host with a higher one takes the VIP from one that holds it.
        preempt: bool,
    },
}

impl Policy {
    /// Its name in configuration files.
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Leader => "leader",
            Policy::Spread => "spread",
            Policy::Priority { .. } => "priority",
        }
    }
}

impl VipConfig {
    /// Whether the address on that interface is one that turnip puts there for it.
    pub fn belongs_on(&self, interface: &str, address: IpNet) -> bool {
        *self.interface == *interface && self.addresses.contains(&address)
    }

    /// Whether an address on that interface has the IP of one of the VIP's, and is none that turnip
    /// puts there: it is on another interface, or has another prefix length.
    pub fn has_double(&self, interface: &str, address: IpNet) -> bool {
        let is_here = *self.interface == *interface;
        // A link-local address on another link is another address.
        let is_same =
            |own: &IpNet| own.addr() == address.addr() && (is_here || !is_link_local(own.addr()));
        !self.belongs_on(interface, address) && self.addresses.iter().any(is_same)
    }

    /// What must be the same on two hosts for one to hand the VIP to the other: its addresses and
    /// its policy, not the interface, not the priority, and not how it is announced.
    pub fn digest(&self) -> String {
        let mut text = format!("{} {}", self.name, self.policy.as_str());
        if let Policy::Priority { preempt, .. } = self.policy {
            text += &format!(" preempt={preempt}");
        }
        for address in &self.addresses {
            text += &format!(" {address}");
        }
        format!("{:016x}", xxh3_64(text.as_bytes()))
    }

    /// The interface, where it says which address is meant: of link-local ones every link may have
    /// the same (rule 4.7).
    pub fn link(&self) -> Option<&Arc<str>> {
        self.addresses.iter().any(|one| is_link_local(one.addr())).then_some(&self.interface)
    }

    /// Its addresses with the interface that they belong on.
    pub fn assignments(&self) -> impl Iterator<Item = Assignment> + '_ {
        self.addresses.iter().map(|&address| Assignment {
            vip: self.name.clone(),
            interface: Arc::clone(&self.interface),
            address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_ip_on_another_interface_or_of_another_length_is_a_double() {
        let vip = VipConfig {
            name: "v".parse().unwrap(),
            addresses: ["10.0.0.50/24", "fe80::1/64"].map(|net| net.parse().unwrap()).into(),
            interface: "eth0".into(),
            policy: Policy::Spread,
            defend: false,
            require_carrier: true,
            keep_connections: false,
            checks: BTreeSet::new(),
            last_resort: LastResort::Keep,
            hooks: Hooks::new(),
        };
        let on = |interface: &str, net: &str| {
            let net = net.parse().unwrap();
            (vip.belongs_on(interface, net), vip.has_double(interface, net))
        };
        let (own, double, other) = ((true, false), (false, true), (false, false));
        assert_eq!(on("eth0", "10.0.0.50/24"), own);
        assert_eq!(on("eth0", "10.0.0.50/32"), double);
        assert_eq!(on("eth1", "10.0.0.50/24"), double);
        assert_eq!(on("eth0", "10.0.0.51/24"), other);
        assert_eq!(on("eth0", "fe80::1/128"), double);
        assert_eq!(on("eth1", "fe80::1/64"), other, "another link has addresses of its own");
    }
}
