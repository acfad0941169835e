//! Addresses and links as rtnetlink speaks of them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rtnetlink::packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, Prop};
use rtnetlink::{AddressAddRequest, Handle};
use turnip_core::Link;

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
}

impl LinkState {
    /// All its names, its own first.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.name).chain(&self.other_names)
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

/// The request that puts the address there for so many seconds, or renews the one that is there.
pub(super) fn put(handle: &Handle, slot: Slot, lifetime_secs: u32) -> AddressAddRequest {
    let address = slot.address.addr();
    let mut request =
        handle.address().add(slot.index, address, slot.address.prefix_len()).replace();
    let message = request.message_mut();
    // Without the broadcast address that rtnetlink thinks of: a VIP is no reason for one.
    *message = self::message(slot);
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = lifetime_secs;
    lifetime.ifa_preferred = if is_ipv6_host(slot.address) { 0 } else { lifetime_secs };
    message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(MARK)));
    if address.is_ipv6() {
        // That it is nobody else's is the whole protocol's work, and the wait for duplicate
        // address detection would be an outage.
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    request
}

/// Whether the address is there for its clients alone. The kernel never picks a deprecated address as
/// the source of the host's own connections while it has another, and else might: they would break
/// when the VIP moves. An address with a subnet may be the host's only one there, and so stays
/// preferred. IPv4 knows no such thing and needs it less: of the addresses of an interface it picks
/// the one of the next hop's subnet, and else the first, which is the host's own if that was there
/// before the VIP.
fn is_ipv6_host(address: IpNet) -> bool {
    address.addr().is_ipv6() && address.prefix_len() == 128
}

/// The address in a message, and whether it carries the mark.
pub(super) fn parse(message: &AddressMessage) -> Option<(Slot, bool)> {
    let (mut local, mut peer, mut marked) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Protocol(protocol) => marked = u8::from(*protocol) == MARK,
            _ => {}
        }
    }
    // The host's own end of a point-to-point address is the local one.
    let address: IpAddr = local.or(peer)?;
    let address = IpNet::new(address, message.header.prefix_len).ok()?;
    Some((Slot { index: message.header.index, address }, marked))
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
    Some(LinkState {
        index: message.header.index,
        name: name?,
        other_names,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
    })
}

/// The message that makes the interface keep the other IPv4 addresses of a subnet when the first
/// of them goes.
///
/// By netlink and not by /proc/sys, which a service manager mounts read-only. The library can
/// only set all of an interface's settings at once, so this one is made here.
pub(super) fn promoting_secondaries(index: u32) -> LinkMessage {
    const IFLA_AF_SPEC: u16 = 26;
    const AF_INET: u16 = 2;
    const IFLA_INET_CONF: u16 = 1;
    const PROMOTE_SECONDARIES: u16 = 20;
    let nest = |kind: u16, inner: DefaultNla| {
        let mut value = vec![0; inner.buffer_len()];
        inner.emit(&mut value);
        DefaultNla::new(kind | NLA_F_NESTED, value)
    };
    let value = DefaultNla::new(PROMOTE_SECONDARIES, 1_u32.to_ne_bytes().to_vec());
    let specification = nest(IFLA_AF_SPEC, nest(AF_INET, nest(IFLA_INET_CONF, value)));
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Other(specification));
    message
}
