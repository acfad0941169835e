//! What comes and goes with a VIP besides its addresses: routes and rules of policy routing.
//!
//! Both carry turnip's number as their protocol, by which routing daemons can pick the routes up, and
//! by which a turnip that was killed is known to have made them. Neither is a matter of safety: the
//! fence silences addresses, whatever routes there are.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::address::MARK;
use super::prefix_route::{MAIN, PrefixRoute};

/// What the kernel takes for the metric of an IPv6 route that is given none.
const METRIC_OF_IPV6: u32 = 1024;
/// A mark of packets that is compared whole.
const WHOLE_MARK: u32 = u32::MAX;

/// A route that is there while a VIP is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VipRoute {
    /// To where.
    pub to: IpNet,
    /// By which gateway.
    pub via: Option<IpAddr>,
    /// By which interface; absent where the gateway says it.
    pub dev: Option<Arc<str>>,
    /// In which table.
    pub table: u32,
    /// The lower, the sooner it is taken; 0 for the kernel's default.
    pub metric: u32,
    /// The source of the host's own packets: an address of the VIP.
    pub src: Option<IpAddr>,
    /// Packets are dropped instead.
    pub blackhole: bool,
}

/// A rule that is there while a VIP is: which packets are routed by which table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VipRule {
    /// Of IPv6, or of IPv4.
    pub v6: bool,
    /// From where; from anywhere when absent.
    pub from: Option<IpNet>,
    /// To where; to anywhere when absent.
    pub to: Option<IpNet>,
    /// The mark that packets carry, and the bits of it that are compared.
    pub fwmark: Option<(u32, u32)>,
    /// The table.
    pub table: u32,
    /// The lower, the sooner it is looked at. No two of turnip's are alike in all of this.
    pub priority: u32,
}

/// One of both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Companion {
    /// A route.
    Route(VipRoute),
    /// A rule.
    Rule(VipRule),
}

impl fmt::Display for VipRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.blackhole {
            f.write_str("blackhole ")?;
        }
        match (self.to.prefix_len(), self.to) {
            (0, IpNet::V4(_)) => f.write_str("default")?,
            (0, IpNet::V6(_)) => f.write_str("default (IPv6)")?,
            _ => write!(f, "{}", self.to)?,
        }
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(dev) = &self.dev {
            write!(f, " dev {dev}")?;
        }
        if self.table != MAIN {
            write!(f, " table {}", self.table)?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        self.src.map_or(Ok(()), |src| write!(f, " src {src}"))
    }
}

impl fmt::Display for VipRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.priority)?;
        match (self.from, self.v6) {
            (Some(from), _) => write!(f, "from {from}")?,
            (None, false) => f.write_str("from all")?,
            (None, true) => f.write_str("from all (IPv6)")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        match self.fwmark {
            Some((mark, WHOLE_MARK)) => write!(f, " fwmark {mark:#x}")?,
            Some((mark, mask)) => write!(f, " fwmark {mark:#x}/{mask:#x}")?,
            None => {}
        }
        write!(f, " lookup {}", self.table)
    }
}

impl fmt::Display for Companion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Companion::Route(route) => write!(f, "the route {route}"),
            Companion::Rule(rule) => write!(f, "the rule \"{rule}\""),
        }
    }
}

impl Companion {
    /// The interface by which it leads, where it names one.
    pub fn dev(&self) -> Option<&Arc<str>> {
        match self {
            Companion::Route(route) => route.dev.as_ref(),
            Companion::Rule(_) => None,
        }
    }

    /// Has it lead by another interface where it names one of these.
    pub fn lead_by(&mut self, others: &BTreeMap<Arc<str>, Arc<str>>) {
        if let Companion::Route(route) = self
            && let Some(other) = route.dev.as_ref().and_then(|dev| others.get(dev))
        {
            route.dev = Some(Arc::clone(other));
        }
    }

    /// The request that makes it, refused where there is one like it already. `index` is that of the
    /// interface that it names.
    pub(super) fn add(&self, index: Option<u32>) -> (RouteNetlinkMessage, u16) {
        let message = match self {
            Companion::Route(route) => RouteNetlinkMessage::NewRoute(route.on(index).message()),
            Companion::Rule(rule) => RouteNetlinkMessage::NewRule(rule.message()),
        };
        (message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// The request that takes it away. Of routes it meets turnip's own alone.
    pub(super) fn delete(&self, index: Option<u32>) -> (RouteNetlinkMessage, u16) {
        let message = match self {
            Companion::Route(route) => route.on(index).deletion(),
            Companion::Rule(rule) => RouteNetlinkMessage::DelRule(rule.message()),
        };
        (message, 0)
    }
}

impl VipRoute {
    /// The route as the kernel is to have it.
    pub(super) fn on(&self, index: Option<u32>) -> FoundRoute {
        let VipRoute { to, via, table, metric, src, blackhole, .. } = self.clone();
        FoundRoute { to, gateway: via, index, table, metric, source: src, blackhole }
    }
}

/// A route of turnip's, as the kernel has it or is to have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FoundRoute {
    to: IpNet,
    gateway: Option<IpAddr>,
    index: Option<u32>,
    table: u32,
    metric: u32,
    source: Option<IpAddr>,
    blackhole: bool,
}

impl fmt::Display for FoundRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FoundRoute { to, gateway: via, table, metric, source: src, blackhole, .. } = *self;
        VipRoute { to, via, dev: None, table, metric, src, blackhole }.fmt(f)
    }
}

impl FoundRoute {
    /// That in a message, if a VIP is the reason for it; what makes a VIP's own subnet on-link is none
    /// of these.
    pub fn parse(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let any: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let blackhole = header.kind == RouteType::BlackHole;
        if u8::from(header.protocol) != MARK
            || PrefixRoute::parse(message).is_some()
            || !(blackhole || header.kind == RouteType::Unicast)
        {
            return None;
        }
        let mut to = any;
        let mut found = FoundRoute {
            to: IpNet::new(any, 0).ok()?,
            gateway: None,
            index: None,
            table: header.table.into(),
            metric: 0,
            source: None,
            blackhole,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => to = ip(address)?,
                RouteAttribute::Gateway(address) => found.gateway = ip(address),
                RouteAttribute::Oif(index) => found.index = Some(*index),
                RouteAttribute::Table(table) => found.table = *table,
                RouteAttribute::Priority(metric) => found.metric = *metric,
                RouteAttribute::PrefSource(address) => found.source = ip(address),
                _ => {}
            }
        }
        found.to = IpNet::new(to, header.destination_prefix_length).ok()?;
        Some(found)
    }

    /// Whether it is the one that is wanted.
    pub fn is(&self, wanted: &FoundRoute) -> bool {
        let metric = |one: &FoundRoute| match one.metric {
            0 if one.to.addr().is_ipv6() => METRIC_OF_IPV6,
            metric => metric,
        };
        let key = |one: &FoundRoute| (one.to.trunc(), one.table, one.gateway, one.blackhole);
        // The kernel names `lo` for an IPv6 route that leads nowhere, and finds the gateway's interface.
        let by_it = self.blackhole || wanted.index.is_none() || wanted.index == self.index;
        key(self) == key(wanted)
            && metric(self) == metric(wanted)
            && self.source == wanted.source
            && by_it
    }

    fn message(&self) -> RouteMessage {
        let is_v4 = self.to.addr().is_ipv4();
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        header.destination_prefix_length = self.to.prefix_len();
        header.protocol = RouteProtocol::Other(MARK);
        header.kind = if self.blackhole { RouteType::BlackHole } else { RouteType::Unicast };
        let is_on_link = is_v4 && self.gateway.is_none() && !self.blackhole;
        header.scope = if is_on_link { RouteScope::Link } else { RouteScope::Universe };
        let attributes = &mut message.attributes;
        if self.to.prefix_len() > 0 {
            attributes.push(RouteAttribute::Destination(address(self.to.network())));
        }
        attributes.extend(self.gateway.map(|ip| RouteAttribute::Gateway(address(ip))));
        attributes.extend(self.index.map(RouteAttribute::Oif));
        attributes.extend(self.source.map(|ip| RouteAttribute::PrefSource(address(ip))));
        if self.metric != 0 {
            attributes.push(RouteAttribute::Priority(self.metric));
        }
        attributes.push(RouteAttribute::Table(self.table));
        message
    }

    /// The message that takes it away. It says whose it is: nobody else's is met by it.
    pub fn deletion(&self) -> RouteNetlinkMessage {
        let mut message = self.message();
        if message.header.address_family == AddressFamily::Inet {
            // Of whatever scope.
            message.header.scope = RouteScope::NoWhere;
        }
        RouteNetlinkMessage::DelRoute(message)
    }
}

impl VipRule {
    /// That in a message, if it is turnip's.
    pub(super) fn parse(message: &RuleMessage) -> Option<Self> {
        let header = &message.header;
        let v6 = match header.family {
            AddressFamily::Inet => false,
            AddressFamily::Inet6 => true,
            _ => return None,
        };
        let mut is_ours = false;
        let (mut mark, mut mask) = (None, None);
        let mut rule = VipRule {
            v6,
            from: None,
            to: None,
            fwmark: None,
            table: header.table.into(),
            priority: 0,
        };
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Source(ip) => rule.from = IpNet::new(*ip, header.src_len).ok(),
                RuleAttribute::Destination(ip) => rule.to = IpNet::new(*ip, header.dst_len).ok(),
                RuleAttribute::FwMark(bits) => mark = Some(*bits),
                RuleAttribute::FwMask(bits) => mask = Some(*bits),
                RuleAttribute::Table(table) => rule.table = *table,
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Protocol(protocol) => is_ours = u8::from(*protocol) == MARK,
                _ => {}
            }
        }
        if mark.is_some() || mask.is_some() {
            rule.fwmark = Some((mark.unwrap_or(0), mask.unwrap_or(WHOLE_MARK)));
        }
        is_ours.then_some(rule)
    }

    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        let header = &mut message.header;
        header.family = if self.v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        header.src_len = self.from.map_or(0, |net| net.prefix_len());
        header.dst_len = self.to.map_or(0, |net| net.prefix_len());
        header.action = RuleAction::ToTable;
        let attributes = &mut message.attributes;
        attributes.extend(self.from.map(|net| RuleAttribute::Source(net.network())));
        attributes.extend(self.to.map(|net| RuleAttribute::Destination(net.network())));
        if let Some((mark, mask)) = self.fwmark {
            attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
        }
        attributes.extend([
            RuleAttribute::Table(self.table),
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Protocol(RouteProtocol::Other(MARK)),
        ]);
        message
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn route(to: &str, via: Option<&str>, dev: Option<&str>) -> VipRoute {
        VipRoute {
            to: to.parse().unwrap(),
            via: via.map(|via| via.parse().unwrap()),
            dev: dev.map(Into::into),
            table: MAIN,
            metric: 0,
            src: None,
            blackhole: false,
        }
    }

    #[test]
    fn a_route_is_known_again_as_the_kernel_shows_it() {
        let wanted = route("0.0.0.0/0", Some("203.0.113.1"), None);
        let message = wanted.on(None).message();
        let found = FoundRoute { index: Some(7), ..FoundRoute::parse(&message).unwrap() };
        assert!(found.is(&wanted.on(None)), "the kernel has found the interface");
        assert!(!found.is(&wanted.on(Some(8))));
        let other = VipRoute { metric: 50, ..wanted.clone() };
        assert!(!found.is(&other.on(None)));
        let v6 = route("::/0", Some("fd00::1"), Some("eth0"));
        let found = FoundRoute { metric: 1024, ..v6.on(Some(7)) };
        assert!(found.is(&v6.on(Some(7))), "the kernel's own metric");
        let hole = VipRoute { blackhole: true, ..route("fd00:9::/64", None, None) };
        assert!(FoundRoute { index: Some(1), ..hole.on(None) }.is(&hole.on(None)));
    }

    #[test]
    fn routes_of_others_and_those_of_subnets_are_none_of_these() {
        let mut message = route("10.9.0.0/16", None, Some("eth0")).on(Some(2)).message();
        assert!(FoundRoute::parse(&message).is_some());
        message.header.protocol = RouteProtocol::Static;
        assert!(FoundRoute::parse(&message).is_none());
        let subnet = VipRoute { metric: 257, ..route("fd00:1::/64", None, Some("eth0")) };
        assert!(FoundRoute::parse(&subnet.on(Some(2)).message()).is_none());
    }

    #[test]
    fn a_rule_comes_back_as_it_went_and_without_turnips_number_it_is_somebody_elses() {
        let rule = VipRule {
            v6: false,
            from: Some("10.0.100.0/24".parse().unwrap()),
            to: None,
            fwmark: Some((7, 0xff)),
            table: 100,
            priority: 1000,
        };
        let mut message = rule.message();
        assert_eq!(VipRule::parse(&message), Some(rule.clone()));
        message.attributes.pop();
        assert_eq!(VipRule::parse(&message), None);
        assert_eq!(rule.to_string(), "1000: from 10.0.100.0/24 fwmark 0x7/0xff lookup 100");
    }
}
