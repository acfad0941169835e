//! The routes by which turnip makes the subnets of IPv6 VIPs on-link.
//!
//! The kernel would do so itself, by a route that ends with the address. But where the subnet is
//! on-link already it makes that one with the host's own route, which then ends with the VIP. So
//! VIPs come without (`IFA_F_NOPREFIXROUTE`); and where nothing else makes their subnet on-link,
//! turnip has a route of its own, which ends with their lifetimes.

use ipnet::{IpNet, Ipv6Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

use super::address::{MARK, Slot};
use super::route_seen;

/// Right behind the routes that the kernel makes for addresses and for what routers advertise,
/// which have 256. With the same metric, one that comes later would be made one with turnip's.
const METRIC: u32 = 257;
/// The main table.
pub(super) const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// The subnet of an IPv6 VIP on an interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Subnet {
    /// The interface's index.
    pub index: u32,
    /// The subnet.
    pub net: Ipv6Net,
}

impl Subnet {
    /// That of an address, if it has one.
    pub fn of(slot: Slot) -> Option<Self> {
        match slot.address {
            IpNet::V6(net) if net.prefix_len() < net.max_prefix_len() => {
                Some(Subnet { index: slot.index, net: net.trunc() })
            }
            _ => None,
        }
    }
}

/// A route of turnip's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PrefixRoute {
    /// To where.
    pub subnet: Subnet,
    /// In which table.
    pub table: u32,
}

impl PrefixRoute {
    /// The route as it is named to take it away.
    pub fn message(&self) -> RouteMessage {
        let Subnet { index, net } = self.subnet;
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet6;
        message.header.destination_prefix_length = net.prefix_len();
        message.header.protocol = RouteProtocol::Other(MARK);
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet6(net.network())),
            RouteAttribute::Oif(index),
            RouteAttribute::Priority(METRIC),
            RouteAttribute::Table(self.table),
        ];
        message
    }

    /// That in a message, if it is turnip's.
    pub fn parse(message: &RouteMessage) -> Option<Self> {
        let seen = route_seen::parse(message)?;
        let (IpNet::V6(net), Some(index)) = (seen.to, seen.index) else { return None };
        let subnet = Subnet { index, net };
        (seen.protocol == MARK && seen.metric == METRIC && seen.gateway.is_none())
            .then_some(PrefixRoute { subnet, table: seen.table })
    }

    /// The route as it is put there for so many seconds.
    pub fn put(&self, lifetime_secs: u32) -> RouteMessage {
        let mut message = self.message();
        message.attributes.push(RouteAttribute::Expires(lifetime_secs));
        message
    }
}
