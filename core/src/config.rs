//! What a node is configured with.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use xxhash_rust::xxh3::xxh3_64;

use crate::kernel::Assignment;
use crate::lease::{Backstop, Lease};
use crate::name::{ClusterName, HostId, NodeName, VipName};

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
