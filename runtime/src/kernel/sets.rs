//! The sets of the fence: what is in them, and the messages that change it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::ParseableParametrized;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};

use super::channel::Channel;
use super::fence::TABLE;
use super::nft::{self, Family, Message, SetKind};
use super::rules;

/// The sets of addresses, by family of the addresses.
pub(super) const VIPS: [&str; 2] = ["vips4", "vips6"];
const HELD: [&str; 2] = ["held4", "held6"];
const GATE: &str = "alive";
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_ARP: u8 = 3;
const NFPROTO_IPV6: u8 = 10;

/// Tables, chains with rules, and sets, empty where they are new.
pub(super) fn structure(table: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut id = 0;
    for family in Family::BOTH {
        messages.push(nft::add_table(family, table));
        let mut add_set = |name, kind| {
            id += 1;
            messages.push(nft::add_set(family, table, name, kind, id));
        };
        add_set(GATE, SetKind::Gate);
        add_set(VIPS[0], SetKind::Ipv4);
        add_set(HELD[0], SetKind::Ipv4);
        if family == Family::Inet {
            add_set(VIPS[1], SetKind::Ipv6);
            add_set(HELD[1], SetKind::Ipv6);
        }
        messages.extend(rules::chains(family, table));
    }
    messages
}

/// The sets of what is held: table, name, and 0 for IPv4 or 1 for IPv6.
pub(super) fn held_sets() -> impl Iterator<Item = (Family, &'static str, usize)> {
    [(Family::Inet, HELD[0], 0), (Family::Inet, HELD[1], 1), (Family::Arp, HELD[0], 0)].into_iter()
}

/// The keys of those addresses that are of the family: 0 for IPv4, 1 for IPv6.
pub(super) fn keys(addresses: &[IpAddr], index: usize) -> Vec<Vec<u8>> {
    let of_family = |address: &&IpAddr| usize::from(address.is_ipv6()) == index;
    addresses.iter().filter(of_family).copied().map(nft::key).collect()
}

/// Adds elements that stay.
pub(super) fn add_elements(
    family: Family,
    table: &str,
    set: &str,
    keys: &[Vec<u8>],
) -> Vec<Message> {
    nft::add_elements(family, table, set, keys, None)
}

/// Makes a `change` to the addresses in the sets of what is held.
pub(super) fn held_elements(
    addresses: &[IpAddr],
    change: impl Fn(Family, &str, &str, &[Vec<u8>]) -> Vec<Message>,
) -> Vec<Message> {
    held_sets()
        .flat_map(|(family, set, index)| change(family, TABLE, set, &keys(addresses, index)))
        .collect()
}

/// Takes the addresses out of the VIPs.
pub(super) fn unfenced(addresses: &[IpAddr]) -> Vec<Message> {
    let delete = |(family, _, index)| {
        nft::delete_elements(family, TABLE, VIPS[index], &keys(addresses, index))
    };
    held_sets().flat_map(delete).collect()
}

/// Exactly `addresses` as held.
pub(super) fn held_anew(addresses: &[IpAddr]) -> Vec<Message> {
    let mut messages: Vec<_> =
        held_sets().map(|(family, set, _)| nft::flush_set(family, TABLE, set)).collect();
    messages.extend(held_elements(addresses, add_elements));
    messages
}

/// What is in the sets.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Contents {
    /// By the order of [`held_sets`].
    pub vips: Vec<BTreeSet<Vec<u8>>>,
    pub held: Vec<BTreeSet<Vec<u8>>>,
    pub gate: Elements,
}

/// How many of its elements the gate has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Elements {
    /// All: it is open.
    All,
    /// None: it is closed.
    None,
    /// Some only.
    Some,
}

impl Contents {
    /// As it should be.
    pub fn of(vips: &[IpAddr], held: &[IpAddr], gate: Elements) -> Self {
        let sets = |addresses: &[IpAddr]| {
            held_sets().map(|(_, _, index)| keys(addresses, index).into_iter().collect()).collect()
        };
        Contents { vips: sets(vips), held: sets(held), gate }
    }

    /// As it is; none where a set is missing.
    pub fn read(channel: &mut Channel) -> io::Result<Option<Self>> {
        let (mut vips, mut held, mut gate) = (Vec::new(), Vec::new(), Vec::new());
        for (family, set, index) in held_sets() {
            let (Some(of_vips), Some(of_held)) =
                (elements(channel, family, VIPS[index])?, elements(channel, family, set)?)
            else {
                return Ok(None);
            };
            vips.push(of_vips.into_iter().collect());
            held.push(of_held.into_iter().collect());
        }
        for family in Family::BOTH {
            let Some(keys) = elements(channel, family, GATE)? else { return Ok(None) };
            gate.push(match keys.len() {
                0 => Elements::None,
                all if all == gate_keys(family).len() => Elements::All,
                _ => Elements::Some,
            });
        }
        let gate = if gate.iter().all(|one| *one == gate[0]) { gate[0] } else { Elements::Some };
        Ok(Some(Contents { vips, held, gate }))
    }
}

/// Tables, chains and rules as the kernel tells them, byte by byte: with the handles that it gave
/// them, so that what was made anew is not taken for what was there before.
pub(super) fn fingerprint(channel: &mut Channel) -> io::Result<Vec<Vec<u8>>> {
    let mut told = Vec::new();
    for request in Family::BOTH.into_iter().flat_map(|family| nft::get_structure(family, TABLE)) {
        match channel.dump(&request) {
            Ok(messages) => told.extend(
                messages
                    .iter()
                    .filter_map(|(_, payload)| nft::of_table(payload, TABLE))
                    .map(<[u8]>::to_vec),
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(told)
}

/// The generation of the host's rules.
pub(super) fn generation(channel: &mut Channel) -> io::Result<u32> {
    let (kind, payload) = channel.ask(nft::get_generation())?;
    let none = || io::Error::new(io::ErrorKind::InvalidData, "an answer without a generation");
    nft::parse_generation(kind, &payload).ok_or_else(none)
}

fn gate_keys(family: Family) -> Vec<Vec<u8>> {
    match family {
        Family::Inet => vec![vec![NFPROTO_IPV4], vec![NFPROTO_IPV6]],
        Family::Arp => vec![vec![NFPROTO_ARP]],
    }
}

/// Opens the gate for `timeout`.
pub(super) fn gate_elements(table: &str, timeout: Duration) -> Vec<Message> {
    let add = |family| nft::add_elements(family, table, GATE, &gate_keys(family), Some(timeout));
    Family::BOTH.into_iter().flat_map(add).collect()
}

/// Closes a gate that is open; fails when its time is over.
pub(super) fn delete_gate() -> Vec<Message> {
    let delete = |family| nft::delete_elements(family, TABLE, GATE, &gate_keys(family));
    Family::BOTH.into_iter().flat_map(delete).collect()
}

/// Closes the gate, open or not.
pub(super) fn flush_gate() -> Vec<Message> {
    Family::BOTH.map(|family| nft::flush_set(family, TABLE, GATE)).into()
}

/// What an earlier process left.
#[derive(Default)]
pub(super) struct Inherited {
    pub vips: BTreeSet<IpAddr>,
    pub held: BTreeSet<IpAddr>,
}

/// What an earlier process left; none where there is no fence.
pub(super) fn inherited(channel: &mut Channel) -> io::Result<Option<Inherited>> {
    let mut inherited = Inherited::default();
    let mut found = false;
    for (family, held, index) in held_sets() {
        let sets = [(held, &mut inherited.held), (VIPS[index], &mut inherited.vips)];
        for (set, addresses) in sets {
            if let Some(elements) = elements(channel, family, set)? {
                found = true;
                addresses.extend(elements.into_iter().filter_map(parse_address));
            }
        }
    }
    Ok(found.then_some(inherited))
}

/// The keys in the set; none where there is no such set.
fn elements(channel: &mut Channel, family: Family, set: &str) -> io::Result<Option<Vec<Vec<u8>>>> {
    match channel.dump(&nft::get_elements(family, TABLE, set)) {
        Ok(messages) => {
            let parse = |(kind, payload): (u16, Vec<u8>)| parse_elements(&payload, kind);
            Ok(Some(messages.into_iter().flat_map(parse).collect()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_elements(payload: &[u8], kind: u16) -> Vec<Vec<u8>> {
    let Ok(message) = NetfilterMessage::parse_with_param(payload, kind) else { return Vec::new() };
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewSetElement(message)) = message.inner
    else {
        return Vec::new();
    };
    let lists = message.attributes.into_iter().filter_map(|attribute| match attribute {
        SetElementList::Elements(elements) => Some(elements),
        _ => None,
    });
    let attributes = lists.flatten().filter_map(|element| match element {
        ListAttribute::Element(attributes) => Some(attributes),
        _ => None,
    });
    attributes.flatten().filter_map(parse_key).collect()
}

fn parse_key(attribute: SetElementAttribute) -> Option<Vec<u8>> {
    match attribute {
        SetElementAttribute::Key(DataAttribute::Value(bytes)) => Some(bytes),
        _ => None,
    }
}

fn parse_address(key: Vec<u8>) -> Option<IpAddr> {
    match key.len() {
        4 => Some(<[u8; 4]>::try_from(key).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(key).ok()?.into()),
        _ => None,
    }
}
