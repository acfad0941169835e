//! Addresses and links as rtnetlink speaks of them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rtnetlink::packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::{
    InfoData, InfoVrf, LinkAttribute, LinkEvent, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    Prop,
};
use rtnetlink::{AddressAddRequest, Handle};
use turnip_core::Link;

use super::virtual_link;

/// The mark of turnip's addresses: their IFA_PROTO, which `ip address` shows as `proto 0x74`
/// (a `t`). The kernel itself uses 1 to 3. Kernels before 5.18 do not keep it.
pub const MARK: u8 = 0x74;

/// An address that the kernel has, or is to have, on the interface with this index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Slot {
    /// The interface's index.
    pub index: u32,
    /// Address and prefix length.
    pub address: IpNet,
}

/// An address, as the kernel describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// Which, and where.
    pub slot: Slot,
    /// Whether it carries the mark.
    pub marked: bool,
    /// Whether it may be a source for any destination, and not within the link only.
    pub universal: bool,
    /// Whether the kernel avoids it as a source.
    pub deprecated: bool,
}

/// An interface, as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LinkState {
    /// The interface's index, which stays when it is renamed.
    pub index: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Its other names (`altname`), which stay when it is renamed, and may be longer.
    pub other_names: Vec<Arc<str>>,
    /// Administratively up.
    pub up: bool,
    /// With a carrier, and not dormant.
    pub carrier: bool,
    /// Whether it is the host's own loopback.
    pub loopback: bool,
    /// Its hardware address; empty where it has none.
    pub hardware: Vec<u8>,
    /// Whether neighbours on it resolve addresses, as they do on Ethernet.
    pub resolves: bool,
    /// The index of the one that it belongs to, as a port to its bridge.
    pub master: Option<u32>,
    /// Of a VRF, the table of its routes.
    pub table: Option<u32>,
    /// Whether turnip has made it, for a virtual hardware address.
    pub is_turnips: bool,
}

impl LinkState {
    /// All its names, its own first.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.name).chain(&self.other_names)
    }

    /// One of Ethernet that is up, for tests.
    #[cfg(test)]
    pub fn example(index: u32, name: &str) -> Self {
        LinkState {
            index,
            name: name.into(),
            other_names: Vec::new(),
            up: true,
            carrier: true,
            loopback: false,
            hardware: vec![2, 0, 0, 0, 0, 1],
            resolves: true,
            master: None,
            table: None,
            is_turnips: false,
        }
    }

    /// The interface as core knows it by one of its names.
    pub fn by(&self, name: &Arc<str>) -> Link {
        Link { name: Arc::clone(name), up: self.up, carrier: self.carrier }
    }
}

/// The address as it is named to take it away.
pub(super) fn message(slot: Slot) -> AddressMessage {
    let address = slot.address.addr();
    let mut message = AddressMessage::default();
    message.header.family =
        if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = slot.address.prefix_len();
    message.header.index = slot.index;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

/// How an address is put there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Put {
    /// Which, and where.
    pub slot: Slot,
    /// Whether the kernel must avoid it as a source of the host's own connections.
    pub deprecated: bool,
}

/// The request that puts the address there for so many seconds, or renews the one that is there.
pub(super) fn put(handle: &Handle, put: Put, lifetime_secs: u32) -> AddressAddRequest {
    let Put { slot, deprecated } = put;
    let address = slot.address.addr();
    let mut request =
        handle.address().add(slot.index, address, slot.address.prefix_len()).replace();
    let message = request.message_mut();
    // Without the broadcast address that rtnetlink thinks of: a VIP is no reason for one.
    *message = self::message(slot);
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = lifetime_secs;
    lifetime.ifa_preferred = if deprecated { 0 } else { lifetime_secs };
    message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(MARK)));
    if address.is_ipv6() {
        // That it is nobody else's is the whole protocol's work, and the wait for duplicate
        // address detection would be an outage.
        let mut flags = AddressFlags::Nodad;
        if slot.address.prefix_len() < slot.address.max_prefix_len() {
            // The kernel would make the route to the subnet one with the host's own.
            flags |= AddressFlags::Noprefixroute;
        }
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    request
}

/// The address in a message.
pub(super) fn parse(message: &AddressMessage) -> Option<Found> {
    let (mut local, mut peer, mut marked, mut deprecated) = (None, None, false, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Protocol(protocol) => marked = u8::from(*protocol) == MARK,
            AddressAttribute::Flags(flags) => deprecated = flags.contains(AddressFlags::Deprecated),
            _ => {}
        }
    }
    // The host's own end of a point-to-point address is the local one.
    let address: IpAddr = local.or(peer)?;
    let address = IpNet::new(address, message.header.prefix_len).ok()?;
    let slot = Slot { index: message.header.index, address };
    let universal = message.header.scope == AddressScope::Universe;
    Some(Found { slot, marked, universal, deprecated })
}

/// The interface in a message.
pub(super) fn parse_link(message: &LinkMessage) -> Option<LinkState> {
    let (mut name, mut other_names) = (None, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(own) => name = Some(Arc::from(own.as_str())),
            LinkAttribute::PropList(properties) => {
                other_names.extend(properties.iter().filter_map(|property| match property {
                    Prop::AltIfName(other) => Some(Arc::from(other.as_str())),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    let flags = message.header.flags;
    let silent = LinkFlags::Loopback | LinkFlags::Noarp | LinkFlags::Pointopoint;
    let hardware = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(hardware) => Some(hardware.clone()),
        _ => None,
    });
    let master = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    });
    Some(LinkState {
        index: message.header.index,
        name: name?,
        other_names,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
        hardware: hardware.unwrap_or_default(),
        resolves: message.header.link_layer_type == LinkLayerType::Ether
            && !flags.intersects(silent),
        master,
        table: vrf_table(message),
        is_turnips: message.attributes.iter().any(is_own_alias),
    })
}

/// Whether the kernel says that a link wants its neighbours told where it is, as after a bond's failover,
/// be its hardware address the same.
pub(super) fn wants_to_be_announced(message: &LinkMessage) -> bool {
    message.attributes.iter().any(|attribute| {
        matches!(
            attribute,
            LinkAttribute::Event(LinkEvent::NotifyPeers | LinkEvent::BondingFailover)
        )
    })
}

/// Whether it says that turnip has made the interface.
fn is_own_alias(attribute: &LinkAttribute) -> bool {
    matches!(attribute, LinkAttribute::IfAlias(alias) if alias.starts_with(virtual_link::ALIAS))
}

/// The table of a VRF's routes.
fn vrf_table(message: &LinkMessage) -> Option<u32> {
    let information = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(information) => Some(information),
        _ => None,
    })?;
    let of_vrf = information.iter().find_map(|one| match one {
        LinkInfo::Data(InfoData::Vrf(of_vrf)) => Some(of_vrf),
        _ => None,
    })?;
    of_vrf.iter().find_map(|one| match one {
        InfoVrf::TableId(table) => Some(*table),
        _ => None,
    })
}

/// The message that changes IPv4 settings of an interface, which the kernel knows by these numbers
/// (`IPV4_DEVCONF_…`).
///
/// By netlink and not by /proc/sys, which a service manager mounts read-only. The library can
/// only set all of an interface's settings at once, so this one is made here.
pub(super) fn ipv4_settings(index: u32, settings: &[(u16, u32)]) -> LinkMessage {
    const AF_INET: u16 = 2;
    const IFLA_INET_CONF: u16 = 1;
    let values = settings.iter();
    let values = values.map(|(kind, value)| DefaultNla::new(*kind, value.to_ne_bytes().to_vec()));
    let all = nest(IFLA_INET_CONF, &values.collect::<Vec<_>>());
    of_family(index, nest(AF_INET, &[all]))
}

/// The message that has an interface generate no link-local address.
pub(super) fn without_link_local(index: u32) -> LinkMessage {
    const AF_INET6: u16 = 10;
    const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
    const NONE: u8 = 1;
    let mode = DefaultNla::new(IFLA_INET6_ADDR_GEN_MODE, vec![NONE]);
    of_family(index, nest(AF_INET6, &[mode]))
}

fn of_family(index: u32, settings: DefaultNla) -> LinkMessage {
    const IFLA_AF_SPEC: u16 = 26;
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Other(nest(IFLA_AF_SPEC, &[settings])));
    message
}

fn nest(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; inner.buffer_len()];
    inner.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}
