//! The sets of the fence: what is in them, and the messages that change it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use turnip_core::adapter::{FenceContents, GateFound, Structure};

use super::channel::Channel;
use super::fence::TABLE;
use super::nft::{self, Family, Message, SetKind};
use super::rules;

/// The sets of addresses, by family of the addresses.
const VIPS: [&str; 2] = ["vips4", "vips6"];
const HELD: [&str; 2] = ["held4", "held6"];
const GATE: &str = "alive";
/// No protocol family has this number.
const TICKET: [u8; 1] = [255];
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
fn held_sets() -> impl Iterator<Item = (Family, &'static str, usize)> {
    [(Family::Inet, HELD[0], 0), (Family::Inet, HELD[1], 1), (Family::Arp, HELD[0], 0)].into_iter()
}

/// The keys of those addresses that are of the family: 0 for IPv4, 1 for IPv6.
fn keys(addresses: &[IpAddr], index: usize) -> Vec<Vec<u8>> {
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

/// Everything out of the sets of what is held.
pub(super) fn held_flushed() -> Vec<Message> {
    held_sets().map(|(family, set, _)| nft::flush_set(family, TABLE, set)).collect()
}

/// All but what is held and the gate, as it should be; what is there already is kept.
pub(super) fn layout(vips: &[IpAddr]) -> Vec<Message> {
    let mut messages = structure(TABLE);
    for (family, _, index) in held_sets() {
        messages.push(nft::flush_set(family, TABLE, VIPS[index]));
        messages.extend(add_elements(family, TABLE, VIPS[index], &keys(vips, index)));
    }
    messages
}

/// What is in the sets, and whether the ticket is. They are as this process made them if the rules
/// are `intact` and what should be alike in both tables is.
pub(super) fn read(channel: &mut Channel, intact: bool) -> io::Result<(FenceContents, bool)> {
    let mut contents = FenceContents::default();
    let (mut found, mut whole) = (false, intact);
    // IPv4's addresses are in both tables.
    let mut of_ipv4 = Vec::new();
    for (family, held, index) in held_sets() {
        let mut pair = Vec::new();
        for (set, into) in [(held, &mut contents.held), (VIPS[index], &mut contents.vips)] {
            let elements = elements(channel, family, set)?;
            (found, whole) = (found | elements.is_some(), whole & elements.is_some());
            let keys: BTreeSet<_> = elements.unwrap_or_default().into_iter().collect();
            into.extend(keys.iter().cloned().filter_map(parse_address));
            pair.push(keys);
        }
        if index == 0 {
            of_ipv4.push(pair);
        }
    }
    whole &= of_ipv4.windows(2).all(|pair| pair[0] == pair[1]);
    let (mut open, mut all, mut ticket) = (0, 0, false);
    for family in Family::BOTH {
        let elements = elements(channel, family, GATE)?;
        whole &= elements.is_some();
        let wanted = gate_keys(family);
        all += wanted.len();
        let elements = elements.unwrap_or_default();
        open += elements.iter().filter(|key| wanted.contains(key)).count();
        ticket |= elements.iter().any(|key| key[..] == TICKET);
    }
    contents.gate = match open {
        0 => GateFound::Closed,
        _ if open == all => GateFound::Open,
        _ => GateFound::Torn,
    };
    contents.structure = match (found, whole) {
        (false, _) => Structure::Absent,
        (true, false) => Structure::Other,
        (true, true) => Structure::AsMade,
    };
    Ok((contents, ticket))
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

/// Adds the ticket for `timeout`. It is an element of the gate's set that no packet matches.
pub(super) fn ticket_element(timeout: Duration) -> Vec<Message> {
    nft::add_elements(Family::Inet, TABLE, GATE, &[TICKET.into()], Some(timeout))
}

/// Deletes the ticket; fails when its time is over.
pub(super) fn delete_ticket() -> Vec<Message> {
    nft::delete_elements(Family::Inet, TABLE, GATE, &[TICKET.into()])
}

/// The keys in the set; none where there is no such set.
fn elements(channel: &mut Channel, family: Family, set: &str) -> io::Result<Option<Vec<Vec<u8>>>> {
    match channel.dump(&nft::get_elements(family, TABLE, set)) {
        Ok(messages) => {
            let messages = messages.iter();
            Ok(Some(messages.flat_map(|(_, payload)| nft::parse_keys(payload)).collect()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_address(key: Vec<u8>) -> Option<IpAddr> {
    match key.len() {
        4 => Some(<[u8; 4]>::try_from(key).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(key).ok()?.into()),
        _ => None,
    }
}
