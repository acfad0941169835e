//! What a run's cluster is made of: names, addresses, interfaces.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::plan::config;
use crate::plan::{AddressId, Params};

use super::ids::HostId;
use super::names::Names;

/// The names of a run, and where its VIPs are.
pub struct Layout {
    /// The names.
    pub names: Names,
    /// The interfaces that carry VIPs on every host.
    pub interfaces: Vec<Arc<str>>,
    /// All addresses of VIPs.
    pub addresses: Vec<(AddressId, IpNet)>,
    /// Where each is among them.
    places: BTreeMap<IpAddr, usize>,
    hosts: usize,
}

impl Layout {
    /// What the parameters say.
    pub fn new(params: &Params) -> Self {
        let addresses: Vec<_> = params.addresses().map(|id| (id, config::net(id))).collect();
        let places = addresses.iter().enumerate().map(|(place, (_, net))| (net.addr(), place));
        Layout {
            places: places.collect(),
            hosts: params.hosts,
            names: Names::new(params),
            interfaces: (0..params.interfaces).map(|n| format!("eth{n}").into()).collect(),
            addresses,
        }
    }

    /// Where a host receives datagrams.
    pub fn socket_of(host: HostId) -> SocketAddr {
        (Ipv4Addr::new(192, 0, 2, host as u8 + 1), 7946).into()
    }

    /// The host that receives datagrams there.
    pub fn host_at(&self, address: SocketAddr) -> Option<HostId> {
        (0..self.hosts).find(|host| Self::socket_of(*host) == address)
    }

    /// An address of a VIP, with its number.
    pub fn address_of(&self, address: IpAddr) -> Option<&(AddressId, IpNet)> {
        self.places.get(&address).map(|&place| &self.addresses[place])
    }
}
