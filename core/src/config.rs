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
use crate::records::LinkLocal;

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
    /// Its addresses with the interfaces that carry them; they move as one.
    pub addresses: BTreeSet<VipAddress>,
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

/// One address of a VIP, as one node has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VipAddress {
    /// Address and prefix length.
    pub net: IpNet,
    /// The interface that carries it on this node.
    pub interface: Arc<str>,
    /// Where that is one of turnip's own, for a virtual hardware address: the host's interface that it
    /// is on.
    pub parent: Option<Arc<str>>,
}

impl VipAddress {
    /// Addresses that the host's interface of this name carries itself.
    pub fn all_on(interface: &str, nets: impl IntoIterator<Item = IpNet>) -> BTreeSet<Self> {
        let interface: Arc<str> = interface.into();
        let one = |net| VipAddress { net, interface: Arc::clone(&interface), parent: None };
        nets.into_iter().map(one).collect()
    }

    /// The address without its prefix length.
    pub fn ip(&self) -> IpAddr {
        self.net.addr()
    }

    /// The host's interface that must be there, up and with a carrier.
    pub fn link(&self) -> &Arc<str> {
        self.parent.as_ref().unwrap_or(&self.interface)
    }
}

/// Who should own a VIP.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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
    /// The host that a key names which is another program's, in the same etcd (rule 13).
    Follow(Follow),
}

/// Which key says where a VIP is (rule 13).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Follow {
    /// The whole key.
    pub key: String,
    /// What it says when it names this host.
    pub value: String,
    /// Where that stands in a value that is JSON, as a JSON pointer (RFC 6901); none where the whole value
    /// is the name.
    pub pointer: Option<String>,
    /// What becomes of the VIP while the key names nobody.
    pub absent: Absent,
    /// The key names nobody when it has not been written for so long.
    pub unchanged: Option<Duration>,
}

impl Follow {
    /// What of the store is read, and how.
    pub(crate) fn reads(&self) -> (&str, Option<&str>) {
        (&self.key, self.pointer.as_deref())
    }
}

/// What becomes of a VIP whose key names nobody: it is absent, cannot be read, or has not been written for
/// too long.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Absent {
    /// Nobody has it.
    #[default]
    Nobody,
    /// Whoever has it keeps it, and nobody else takes it.
    Last,
}

impl Absent {
    /// Its word in configuration files.
    pub fn as_str(self) -> &'static str {
        match self {
            Absent::Nobody => "nobody",
            Absent::Last => "last",
        }
    }
}

impl Policy {
    /// Its name in configuration files.
    pub fn as_str(&self) -> &'static str {
        match self {
            Policy::Leader => "leader",
            Policy::Spread => "spread",
            Policy::Priority { .. } => "priority",
            Policy::Follow(_) => "follow",
        }
    }

    /// Which key it follows.
    pub fn follow(&self) -> Option<&Follow> {
        match self {
            Policy::Follow(follow) => Some(follow),
            _ => None,
        }
    }
}

impl VipConfig {
    /// Whether it puts the same addresses on the same interfaces as the other does.
    pub fn is_where(&self, other: &VipConfig) -> bool {
        self.addresses == other.addresses
    }

    /// Whether the address on that interface is one that turnip puts there for it.
    pub fn belongs_on(&self, interface: &str, address: IpNet) -> bool {
        self.addresses.iter().any(|own| own.net == address && *own.interface == *interface)
    }

    /// Whether an address on that interface has the IP of one of the VIP's, and is none that turnip
    /// puts there: it is on another interface, or has another prefix length.
    pub fn has_double(&self, interface: &str, address: IpNet) -> bool {
        let is_here =
            |own: &VipAddress| [&own.interface, own.link()].iter().any(|one| ***one == *interface);
        // A link-local address on another link is another address.
        let is_same = |own: &VipAddress| {
            own.ip() == address.addr() && (is_here(own) || !is_link_local(own.ip()))
        };
        !self.belongs_on(interface, address) && self.addresses.iter().any(is_same)
    }

    /// What must be the same on two hosts for one to hand the VIP to the other: its addresses and
    /// its policy, not the interfaces, not the priority, not by which name a key names it, and not how it
    /// is announced.
    pub fn digest(&self) -> String {
        let mut text = format!("{} {}", self.name, self.policy.as_str());
        match &self.policy {
            Policy::Leader | Policy::Spread => {}
            Policy::Priority { preempt, .. } => text += &format!(" preempt={preempt}"),
            Policy::Follow(Follow { key, value: _, pointer, absent, unchanged }) => {
                let at = pointer.as_deref().unwrap_or_default();
                let unchanged_ms = unchanged.map_or(0, |after| after.as_millis());
                let absent = absent.as_str();
                text += &format!(" {key}\0{at}\0absent={absent} unchanged_ms={unchanged_ms}");
            }
        }
        for address in &self.addresses {
            text += &format!(" {}", address.net);
        }
        format!("{:016x}", xxh3_64(text.as_bytes()))
    }

    /// Its addresses without their prefix lengths. A link-local one that is on several interfaces comes
    /// several times.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(VipAddress::ip)
    }

    /// The host's interfaces that it needs, all of them.
    pub fn links(&self) -> BTreeSet<&Arc<str>> {
        self.addresses.iter().map(VipAddress::link).collect()
    }

    /// Whether the interface is one of turnip's own, which comes with the VIP.
    pub fn makes(&self, interface: &str) -> bool {
        self.addresses.iter().any(|one| one.parent.is_some() && *one.interface == *interface)
    }

    /// The interfaces of its link-local addresses, with these. There the interface says which address
    /// is meant: every link may have the same (rule 4.7).
    pub fn link_local(&self) -> LinkLocal {
        let mut on = LinkLocal::new();
        for one in self.addresses.iter().filter(|one| is_link_local(one.ip())) {
            on.entry(Arc::clone(one.link())).or_default().insert(one.ip());
        }
        on
    }

    /// Its addresses with the interfaces that they belong on.
    pub fn assignments(&self) -> impl Iterator<Item = Assignment> + '_ {
        self.addresses.iter().map(|one| Assignment {
            vip: self.name.clone(),
            interface: Arc::clone(&one.interface),
            address: one.net,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(addresses: BTreeSet<VipAddress>) -> VipConfig {
        VipConfig {
            name: "v".parse().unwrap(),
            addresses,
            policy: Policy::Spread,
            defend: false,
            require_carrier: true,
            keep_connections: false,
            checks: BTreeSet::new(),
            last_resort: LastResort::Keep,
            hooks: Hooks::new(),
        }
    }

    fn on(interface: &str, net: &str) -> VipAddress {
        VipAddress { net: net.parse().unwrap(), interface: interface.into(), parent: None }
    }

    #[test]
    fn of_a_vip_on_several_interfaces_each_address_belongs_on_its_own_and_all_are_needed() {
        let vip = vip([on("wan0", "203.0.113.2/29"), on("br100", "10.0.100.1/24")].into());
        let belongs = |interface, net: &str| vip.belongs_on(interface, net.parse().unwrap());
        assert!(belongs("wan0", "203.0.113.2/29") && belongs("br100", "10.0.100.1/24"));
        assert!(!belongs("br100", "203.0.113.2/29") && !belongs("wan0", "10.0.100.1/24"));
        assert!(vip.has_double("br100", "203.0.113.2/29".parse().unwrap()), "on the wrong one");
        let links: Vec<&str> = vip.links().into_iter().map(|link| &**link).collect();
        assert_eq!(links, ["br100", "wan0"]);
    }

    #[test]
    fn hosts_whose_interfaces_differ_have_the_same_definition() {
        let one = vip([on("wan0", "203.0.113.2/29"), on("br100", "10.0.100.1/24")].into());
        let other = vip([on("eth7", "203.0.113.2/29"), on("eth7", "10.0.100.1/24")].into());
        assert_eq!(one.digest(), other.digest());
    }

    #[test]
    fn an_address_with_a_virtual_mac_needs_the_interface_that_its_own_is_on() {
        let address = VipAddress { parent: Some("eth0".into()), ..on("tn1", "fe80::1/64") };
        let vip = vip([address].into());
        assert_eq!(vip.links(), [&Arc::from("eth0")].into());
        assert_eq!(vip.link_local().into_keys().collect::<Vec<_>>(), ["eth0".into()]);
        assert!(vip.belongs_on("tn1", "fe80::1/64".parse().unwrap()));
        assert!(vip.has_double("eth0", "fe80::1/64".parse().unwrap()), "it is the same link");
    }

    #[test]
    fn the_same_ip_on_another_interface_or_of_another_length_is_a_double() {
        let nets = ["10.0.0.50/24", "fe80::1/64"].map(|net| net.parse().unwrap());
        let vip = vip(VipAddress::all_on("eth0", nets));
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
