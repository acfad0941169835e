//! ARP and neighbour discovery, as bytes.
//!
//! ARP announcements are requests (RFC 5227, section 3): a host has to look at every request,
//! and updates what it knows of the sender; many ignore a reply that they did not ask for, and
//! switches filter broadcast replies more often.

use std::net::{Ipv4Addr, Ipv6Addr};

use turnip_core::Mac;

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const BROADCAST: [u8; 6] = [0xff; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// A hop limit by which a receiver knows that the packet comes from the link.
pub(super) const HOP_LIMIT: u8 = 255;

/// An ARP request by `address` for itself.
pub(super) fn arp_announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp_request(mac, address, address)
}

/// An ARP request by nobody for `address`, a probe as RFC 5227 calls it: whoever has the address answers,
/// and no neighbour learns anything.
pub(super) fn arp_probe(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp_request(mac, Ipv4Addr::UNSPECIFIED, address)
}

fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    // Ethernet, IPv4, lengths of their addresses, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// An unsolicited neighbour advertisement of `address` to all nodes. One that denied that this host routes
/// would cost the neighbours their default route.
pub(super) fn advertisement(mac: Mac, is_router: bool, address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0];
    message.extend([OVERRIDE | if is_router { ROUTER } else { 0 }, 0, 0, 0]);
    message.extend(address.octets());
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend(mac.0);
    icmpv6(mac, address, ALL_NODES, message)
}

/// A neighbour solicitation that asks who has `address`: the answer comes to `source`. It must be another
/// address than that, for an answer to all nodes would lead them astray.
pub(super) fn solicitation(mac: Mac, source: Ipv6Addr, address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(address.octets());
    message.extend([SOURCE_LINK_LAYER_ADDRESS, 1]);
    message.extend(mac.0);
    // The group of all addresses with the same last three bytes.
    let [.., a, b, c] = address.octets();
    let (high, low) = (u16::from_be_bytes([0xff, a]), u16::from_be_bytes([b, c]));
    icmpv6(mac, source, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, high, low), message)
}

fn icmpv6(mac: Mac, source: Ipv6Addr, group: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut pseudo = Vec::from(source.octets());
    pseudo.extend(group.octets());
    pseudo.extend(u32::from(length).to_be_bytes());
    pseudo.extend([0, 0, 0, ICMPV6]);
    pseudo.extend(&message);
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());

    let [.., a, b, c, d] = group.octets();
    let mut frame = ethernet([0x33, 0x33, a, b, c, d], mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

fn ethernet(destination: [u8; 6], source: Mac, ethertype: [u8; 2]) -> Vec<u8> {
    let mut header = Vec::from(destination);
    header.extend(source.0);
    header.extend(ethertype);
    header
}

/// The Internet checksum of bytes of even number.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// Who an ARP packet, request or reply, says that it is from: not the frame before it is given, and a probe
/// says nothing.
pub(super) fn parse_arp(packet: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let packet: &[u8; 28] = packet.first_chunk()?;
    let is_of_ethernet = packet[2..6] == [ETHERTYPE_IPV4[0], ETHERTYPE_IPV4[1], 6, 4];
    let mac = Mac(*packet[8..].first_chunk()?);
    let sender = Ipv4Addr::from(*packet[14..].first_chunk::<4>()?);
    (is_of_ethernet && !sender.is_unspecified()).then_some((sender, mac))
}

/// Which address a neighbour advertisement, an ICMPv6 message, says to be where.
pub(super) fn parse_advertisement(message: &[u8]) -> Option<(Ipv6Addr, Mac)> {
    if *message.first()? != ADVERTISEMENT {
        return None;
    }
    let target = Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?);
    let mut options = message.get(24..)?;
    while let [kind, length, rest @ ..] = options {
        // In units of 8 bytes, with the two before `rest`; one without a length has no end.
        let end = usize::from(*length).checked_mul(8).filter(|end| *end > 0)?;
        if *kind == TARGET_LINK_LAYER_ADDRESS {
            return Some((target, Mac(*rest.first_chunk()?)));
        }
        options = options.get(end..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
    const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

    fn v6() -> Ipv6Addr {
        "fd00::1:2345:6789".parse().unwrap()
    }

    #[test]
    fn the_checksum_of_a_message_that_carries_its_own_is_zero() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        let sum = checksum(&bytes);
        assert_eq!(sum, 0x220d);
        let mut with = bytes.to_vec();
        with.extend(sum.to_be_bytes());
        assert_eq!(checksum(&with), 0);
    }

    #[test]
    fn who_is_announced_is_understood_and_a_probe_says_nothing() {
        let announced = arp_announcement(MAC, V4);
        assert_eq!(announced.len(), 42);
        assert_eq!(parse_arp(&announced[14..]), Some((V4, MAC)));
        assert_eq!(parse_arp(&arp_probe(MAC, V4)[14..]), None);
        assert_eq!(parse_arp(&announced[14..41]), None, "cut short");
        let mut other = announced;
        other[14 + 4] = 8;
        assert_eq!(parse_arp(&other[14..]), None, "hardware that is not Ethernet");
    }

    #[test]
    fn what_is_advertised_is_understood_whatever_stands_before_it_or_is_missing() {
        let frame = advertisement(MAC, true, v6());
        let message = &frame[14 + 40..];
        assert_eq!(parse_advertisement(message), Some((v6(), MAC)));
        let mut with_another_option = message[..24].to_vec();
        with_another_option.extend([14, 1, 0, 0, 0, 0, 0, 0]);
        with_another_option.extend(&message[24..]);
        assert_eq!(parse_advertisement(&with_another_option), Some((v6(), MAC)));
        for length in 0..message.len() {
            assert_eq!(parse_advertisement(&message[..length]), None, "{length} bytes");
        }
        let mut endless = message.to_vec();
        endless[24..26].copy_from_slice(&[14, 0]);
        assert_eq!(parse_advertisement(&endless), None);
        assert_eq!(parse_advertisement(&solicitation(MAC, v6(), v6())[54..]), None);
    }

    #[test]
    fn who_has_an_address_is_asked_of_its_group_alone() {
        let source = "fe80::7".parse().unwrap();
        let frame = solicitation(MAC, source, v6());
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x45, 0x67, 0x89]);
        let group: Ipv6Addr = "ff02::1:ff45:6789".parse().unwrap();
        assert_eq!(frame[14 + 24..14 + 40], group.octets());
        assert_eq!((frame[14 + 7], frame[54]), (HOP_LIMIT, SOLICITATION));
        assert_eq!(frame[54 + 8..54 + 24], v6().octets());
    }
}
