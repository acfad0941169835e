//! Addresses and links as rtnetlink speaks of them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_REPLACE, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
    Parseable,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage,
    AddressProtocol, AddressScope, CacheInfo,
};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use turnip_core::Link;

use super::channel::Channel;

/// The mark of turnip's addresses: their IFA_PROTO, which `ip address` shows as `proto 0x74`
/// (a `t`). The kernel itself uses 1 to 3. Kernels before 5.18 do not keep it.
pub const MARK: u8 = 0x74;

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
const LINK_HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFF_UP: u32 = 0x1;
const IFF_RUNNING: u32 = 0x40;
const IFF_LOOPBACK: u32 = 0x8;

/// A message to rtnetlink.
pub(super) type Message = NetlinkMessage<RouteNetlinkMessage>;

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
    /// The interface's index.
    pub index: u32,
    /// Name and whether it can carry traffic.
    pub link: Link,
    /// Whether it is the host's own loopback.
    pub loopback: bool,
}

fn message(inner: RouteNetlinkMessage, flags: u16) -> Message {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    NetlinkMessage::new(header, NetlinkPayload::InnerMessage(inner))
}

fn address_message(slot: Slot) -> AddressMessage {
    let address = slot.address.addr();
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        prefix_len: slot.address.prefix_len(),
        flags: AddressHeaderFlags::empty(),
        scope: AddressScope::Universe,
        index: slot.index,
    };
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

/// Puts the address there for so many seconds, or renews the one that is there.
pub(super) fn put(slot: Slot, lifetime_secs: u32) -> Message {
    let mut inner = address_message(slot);
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = lifetime_secs;
    lifetime.ifa_preferred = lifetime_secs;
    inner.attributes.push(AddressAttribute::CacheInfo(lifetime));
    inner.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(MARK)));
    if slot.address.addr().is_ipv6() {
        // That it is nobody else's is the whole protocol's work, and the wait for duplicate
        // address detection would be an outage.
        inner.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message(RouteNetlinkMessage::NewAddress(inner), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Takes the address away.
pub(super) fn delete(slot: Slot) -> Message {
    message(RouteNetlinkMessage::DelAddress(address_message(slot)), 0)
}

/// Every address of the host, and whether it carries the mark.
pub(super) fn dump(channel: &mut Channel) -> io::Result<Vec<(Slot, bool)>> {
    let request = message(RouteNetlinkMessage::GetAddress(AddressMessage::default()), 0);
    let found = channel.dump(&request)?;
    Ok(found.iter().filter_map(|(_, payload)| parse(payload)).collect())
}

/// The address in the payload of a message, and whether it carries the mark.
pub(super) fn parse(payload: &[u8]) -> Option<(Slot, bool)> {
    let message = AddressMessage::parse(payload).ok()?;
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

/// Every interface by its index.
pub(super) fn links(channel: &mut Channel) -> io::Result<BTreeMap<u32, LinkState>> {
    let request = message(RouteNetlinkMessage::GetLink(LinkMessage::default()), 0);
    let found = channel.dump(&request)?;
    let links = found.iter().filter_map(|(_, payload)| parse_link(payload));
    Ok(links.map(|link| (link.index, link)).collect())
}

/// The interface in the payload of a message. Only what turnip needs is looked at: what newer
/// kernels add to a link's description cannot make it unreadable.
pub(super) fn parse_link(payload: &[u8]) -> Option<LinkState> {
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let flags = u32::from_ne_bytes(*payload.get(8..)?.first_chunk()?);
    let name = NlasIterator::new(payload.get(LINK_HEADER..)?)
        .flatten()
        .find(|attribute| attribute.kind() == IFLA_IFNAME)
        .map(|attribute| String::from_utf8_lossy(attribute.value()).into_owned())?;
    let name = Arc::from(name.trim_end_matches('\0'));
    let up = flags & IFF_UP != 0 && flags & IFF_RUNNING != 0;
    Some(LinkState { index, link: Link { name, up }, loopback: flags & IFF_LOOPBACK != 0 })
}

/// Makes the interface keep the other IPv4 addresses of a subnet when the first of them goes.
///
/// By netlink and not by /proc/sys, which a service manager mounts read-only.
pub(super) fn promote_secondaries(index: u32) -> Message {
    use netlink_packet_core::{DefaultNla, Emitable};
    use netlink_packet_route::link::LinkAttribute;
    const IFLA_AF_SPEC: u16 = 26;
    const AF_INET: u16 = 2;
    const IFLA_INET_CONF: u16 = 1;
    const PROMOTE_SECONDARIES: u16 = 20;
    const NESTED: u16 = netlink_packet_core::NLA_F_NESTED;
    let nest = |kind: u16, inner: DefaultNla| {
        let mut value = vec![0; inner.buffer_len()];
        inner.emit(&mut value);
        DefaultNla::new(kind | NESTED, value)
    };
    let value = DefaultNla::new(PROMOTE_SECONDARIES, 1_u32.to_ne_bytes().to_vec());
    let specification = nest(IFLA_AF_SPEC, nest(AF_INET, nest(IFLA_INET_CONF, value)));
    let mut inner = LinkMessage::default();
    inner.header.index = index;
    inner.attributes.push(LinkAttribute::Other(specification));
    message(RouteNetlinkMessage::SetLink(inner), 0)
}
