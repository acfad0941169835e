//! A route of the host's, as far as it has to do with VIPs.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
};

use super::address::MARK;
use super::prefix_route::MAIN;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const AF_INET: u8 = 2;
const RTN_UNICAST: u8 = 1;
const RTPROT_KERNEL: u8 = 2;
/// What the kernel, a person, a network manager or a DHCP client makes; others are routing daemons.
const PROTOCOLS: [u8; 7] = [0, 1, RTPROT_KERNEL, 3, 4, 9, 16];
/// The kernel tells of times in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// A route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// To where.
    pub to: IpNet,
    /// By which interface; none where there are several ways.
    pub index: Option<u32>,
    /// By which gateway.
    pub gateway: Option<IpAddr>,
    /// With which source.
    pub source: Option<IpAddr>,
    /// In which table.
    pub table: u32,
    /// When it ends by itself.
    pub expires: Option<Duration>,
    /// The lower, the sooner it is taken.
    pub metric: u32,
    /// Who made it.
    pub protocol: u8,
}

/// Why a route goes with VIPs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dependence {
    /// Its source is one.
    Source(IpAddr),
    /// They are the only IPv4 addresses of its interface.
    Interface(u32),
}

/// A unicast route in a message.
pub(super) fn parse(message: &RouteMessage) -> Option<Seen> {
    let header = &message.header;
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    if header.kind != RouteType::Unicast {
        return None;
    }
    let mut to = unspecified;
    let mut seen = Seen {
        to: IpNet::new(unspecified, 0).ok()?,
        index: None,
        gateway: None,
        source: None,
        table: header.table.into(),
        expires: None,
        metric: 0,
        protocol: header.protocol.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address)?,
            RouteAttribute::Oif(index) => seen.index = Some(*index),
            RouteAttribute::Gateway(address) => seen.gateway = ip(address),
            // A gateway of the other family.
            RouteAttribute::Via(_) => seen.gateway = Some(unspecified),
            RouteAttribute::PrefSource(address) => seen.source = ip(address),
            RouteAttribute::Priority(metric) => seen.metric = *metric,
            RouteAttribute::Table(table) => seen.table = *table,
            RouteAttribute::CacheInfo(cache) if cache.expires != 0 => {
                // Negative when it is over.
                let ticks = u32::try_from(cache.expires.cast_signed()).unwrap_or(0);
                seen.expires = Some(TICK * ticks);
            }
            _ => {}
        }
    }
    seen.to = IpNet::new(to, header.destination_prefix_length).ok()?;
    Some(seen)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

impl Seen {
    /// Whether it makes its destination on-link, without turnip.
    pub fn is_on_link(&self) -> bool {
        self.protocol != MARK && self.gateway.is_none()
    }

    /// Whether a person made it, or a network manager as it was told to.
    pub fn is_of_somebody(&self) -> bool {
        [RouteProtocol::Boot, RouteProtocol::Static].map(u8::from).contains(&self.protocol)
    }

    /// Whether it goes with one of `vips`, or with the last one of an interface: those in `alone` have
    /// no other IPv4 address.
    pub fn depends(&self, vips: &BTreeSet<IpAddr>, alone: &HashSet<u32>) -> Option<Dependence> {
        if let Some(source) = self.source.filter(|source| vips.contains(source)) {
            return Some(Dependence::Source(source));
        }
        let of_interface =
            self.index.filter(|index| self.to.addr().is_ipv4() && alone.contains(index));
        of_interface.map(Dependence::Interface)
    }

    /// As `ip route` writes it.
    pub fn text(&self, name: impl Fn(u32) -> Option<String>) -> String {
        let mut text = match self.to.prefix_len() {
            0 => "default".to_owned(),
            _ => self.to.to_string(),
        };
        if let Some(gateway) = self.gateway {
            let _ = write!(text, " via {gateway}");
        }
        if let Some(name) = self.index.and_then(name) {
            let _ = write!(text, " dev {name}");
        }
        if self.table != MAIN {
            let _ = write!(text, " table {}", self.table);
        }
        if let Some(source) = self.source {
            let _ = write!(text, " src {source}");
        }
        if self.metric != 0 {
            let _ = write!(text, " metric {}", self.metric);
        }
        text
    }
}

/// Whether one of these messages tells of something that is worth a look: an interface, or a route
/// that no routing daemon made.
pub(super) fn matters(mut messages: &[u8]) -> bool {
    const HEADER: usize = 16;
    while let Some((length, kind)) = header(messages) {
        let body = messages.get(HEADER..length).unwrap_or_default();
        let matters = match kind {
            RTM_NEWLINK | RTM_DELLINK => true,
            RTM_NEWROUTE | RTM_DELROUTE => route_matters(body),
            _ => false,
        };
        if matters {
            return true;
        }
        messages = messages.get(length.next_multiple_of(4).max(HEADER)..).unwrap_or_default();
    }
    false
}

/// Length and type of the first message.
fn header(messages: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(*messages.first_chunk()?);
    let kind = u16::from_ne_bytes(*messages.get(4..)?.first_chunk()?);
    Some((usize::try_from(length).ok()?, kind))
}

fn route_matters(body: &[u8]) -> bool {
    let Some([family, to_length, _, _, _, protocol, _, kind]) = body.first_chunk::<8>() else {
        return false;
    };
    // Those of addresses themselves come and go with every VIP.
    let of_address = *protocol == RTPROT_KERNEL && (*family == AF_INET || *to_length == 128);
    *kind == RTN_UNICAST && PROTOCOLS.contains(protocol) && !of_address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &str) -> Seen {
        Seen {
            to: to.parse().unwrap(),
            index: Some(2),
            gateway: None,
            source: None,
            table: MAIN,
            expires: None,
            metric: 0,
            protocol: 3,
        }
    }

    fn depends(route: &Seen, alone: &[u32]) -> Option<Dependence> {
        let vips = ["10.0.0.50", "fd00:1::50"].map(|vip| vip.parse().unwrap());
        route.depends(&vips.into(), &alone.iter().copied().collect())
    }

    #[test]
    fn a_route_depends_on_the_vip_that_is_its_source_and_on_those_that_an_interface_has_alone() {
        let vip: IpAddr = "10.0.0.50".parse().unwrap();
        let with_source = Seen { source: Some(vip), ..route("0.0.0.0/0") };
        assert_eq!(depends(&with_source, &[]), Some(Dependence::Source(vip)));
        assert_eq!(depends(&route("0.0.0.0/0"), &[]), None);
        assert_eq!(depends(&route("0.0.0.0/0"), &[2]), Some(Dependence::Interface(2)));
        assert_eq!(depends(&route("::/0"), &[2]), None, "the kernel keeps those of IPv6");
        let other = Seen { source: Some("10.0.0.11".parse().unwrap()), ..route("0.0.0.0/0") };
        assert_eq!(depends(&other, &[]), None);
    }

    #[test]
    fn a_route_is_written_as_it_is_known() {
        let name = |index| (index == 2).then(|| "eth0".to_owned());
        let seen = Seen {
            gateway: Some("10.0.0.1".parse().unwrap()),
            source: Some("10.0.0.50".parse().unwrap()),
            metric: 100,
            ..route("0.0.0.0/0")
        };
        assert_eq!(seen.text(name), "default via 10.0.0.1 dev eth0 src 10.0.0.50 metric 100");
        let seen = Seen { table: 7, index: None, ..route("10.9.0.0/16") };
        assert_eq!(seen.text(name), "10.9.0.0/16 table 7");
    }

    #[test]
    fn turnips_own_routes_and_those_by_a_gateway_make_nothing_on_link() {
        assert!(route("fd00:1::/64").is_on_link());
        assert!(!Seen { protocol: MARK, ..route("fd00:1::/64") }.is_on_link());
        let gateway = Some("fe80::1".parse().unwrap());
        assert!(!Seen { gateway, ..route("fd00:1::/64") }.is_on_link());
    }

    fn message(kind: u16, body: [u8; 8]) -> Vec<u8> {
        let mut bytes = Vec::from(24_u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn what_routing_daemons_and_turnip_make_is_not_worth_a_look() {
        let route = |family, to_length, protocol, kind| {
            matters(&message(RTM_NEWROUTE, [family, to_length, 0, 0, 254, protocol, 0, kind]))
        };
        const INET6: u8 = 10;
        assert!(route(INET6, 64, RTPROT_KERNEL, RTN_UNICAST));
        assert!(route(AF_INET, 0, 3, RTN_UNICAST) && route(INET6, 0, 4, RTN_UNICAST));
        for daemon in [11, 12, 186, MARK] {
            assert!(!route(INET6, 64, daemon, RTN_UNICAST));
        }
        assert!(!route(AF_INET, 24, RTPROT_KERNEL, RTN_UNICAST), "of an address");
        assert!(!route(INET6, 128, RTPROT_KERNEL, RTN_UNICAST), "of an address");
        assert!(!route(INET6, 128, RTPROT_KERNEL, 2), "a local one");
        let mut several = message(RTM_NEWROUTE, [INET6, 64, 0, 0, 254, 12, 0, RTN_UNICAST]);
        assert!(!matters(&several));
        several.extend(message(RTM_DELLINK, [0; 8]));
        assert!(matters(&several));
        assert!(!matters(&several[..7]));
    }
}
