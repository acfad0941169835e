//! The sets of the fence: what is in them, and the messages that change it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use turnip_core::adapter::{FenceContents, Fenced, GateFound, Structure};

use super::channel::Channel;
use super::fence::TABLE;
use super::nft::{self, Family, Message, SetKind};
use super::rules::{self, GATE, GATE_OF_ARP, HELD, VIPS};

/// No protocol family has this number.
const TICKET: [u8; 1] = [255];
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// The kernel's limit of an interface's name, with the 0 at its end.
const INTERFACE_NAME: usize = 16;

/// The VIPs of one kind in one table, and those of them that are held.
#[derive(Clone, Copy)]
struct Pair {
    family: Family,
    vips: &'static str,
    held: &'static str,
    kind: SetKind,
}

const PAIRS: [Pair; 4] = [
    pair(Family::Inet, 0, SetKind::Ipv4),
    pair(Family::Inet, 1, SetKind::Ipv6),
    pair(Family::Inet, 2, SetKind::Ipv6OnInterface),
    pair(Family::Arp, 0, SetKind::Ipv4),
];

const fn pair(family: Family, index: usize, kind: SetKind) -> Pair {
    Pair { family, vips: VIPS[index], held: HELD[index], kind }
}

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
        let (gate, kind) = gate(family);
        add_set(gate, kind);
        for pair in PAIRS.into_iter().filter(|pair| pair.family == family) {
            add_set(pair.vips, pair.kind);
            add_set(pair.held, pair.kind);
        }
        messages.extend(rules::chains(family, table));
    }
    messages
}

/// The keys of those that are of the kind.
fn keys(fenced: &[Fenced], kind: SetKind) -> Vec<Vec<u8>> {
    fenced.iter().filter_map(|one| key(one, kind)).collect()
}

fn key(fenced: &Fenced, kind: SetKind) -> Option<Vec<u8>> {
    match (fenced, kind) {
        (Fenced::Anywhere(IpAddr::V4(address)), SetKind::Ipv4) => Some(address.octets().into()),
        (Fenced::Anywhere(IpAddr::V6(address)), SetKind::Ipv6) => Some(address.octets().into()),
        (Fenced::On(interface, address), SetKind::Ipv6OnInterface) => {
            let mut key: Vec<u8> = interface.bytes().take(INTERFACE_NAME - 1).collect();
            key.resize(INTERFACE_NAME, 0);
            key.extend(address.octets());
            Some(key)
        }
        _ => None,
    }
}

fn parse(key: &[u8], kind: SetKind) -> Option<Fenced> {
    match kind {
        SetKind::Ipv4 => Some(Fenced::Anywhere(<[u8; 4]>::try_from(key).ok()?.into())),
        SetKind::Ipv6 => Some(Fenced::Anywhere(<[u8; 16]>::try_from(key).ok()?.into())),
        SetKind::Ipv6OnInterface => {
            let (name, address) = key.split_at_checked(INTERFACE_NAME)?;
            let end = name.iter().position(|byte| *byte == 0)?;
            let name = std::str::from_utf8(&name[..end]).ok()?;
            Some(Fenced::On(name.into(), Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)))
        }
        SetKind::Families | SetKind::EtherTypes => None,
    }
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

/// Adds to what is held in the table of ARP.
pub(super) fn held_of_arp(fenced: &[Fenced]) -> Vec<Message> {
    add_elements(Family::Arp, TABLE, HELD[0], &keys(fenced, SetKind::Ipv4))
}

/// Makes a `change` to the addresses in the sets of what is held.
pub(super) fn held_elements(
    fenced: &[Fenced],
    change: impl Fn(Family, &str, &str, &[Vec<u8>]) -> Vec<Message>,
) -> Vec<Message> {
    let change = |pair: Pair| change(pair.family, TABLE, pair.held, &keys(fenced, pair.kind));
    PAIRS.into_iter().flat_map(change).collect()
}

/// Takes the addresses out of the VIPs.
pub(super) fn unfenced(fenced: &[Fenced]) -> Vec<Message> {
    let delete =
        |pair: Pair| nft::delete_elements(pair.family, TABLE, pair.vips, &keys(fenced, pair.kind));
    PAIRS.into_iter().flat_map(delete).collect()
}

/// Everything out of the sets of what is held.
pub(super) fn held_flushed() -> Vec<Message> {
    PAIRS.map(|pair| nft::flush_set(pair.family, TABLE, pair.held)).into()
}

/// All but what is held and the gate, as it should be; what is there already is kept.
pub(super) fn layout(vips: &[Fenced]) -> Vec<Message> {
    let mut messages = structure(TABLE);
    for Pair { family, vips: set, kind, .. } in PAIRS {
        messages.push(nft::flush_set(family, TABLE, set));
        messages.extend(add_elements(family, TABLE, set, &keys(vips, kind)));
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
    for Pair { family, vips, held, kind } in PAIRS {
        let mut pair = Vec::new();
        for (set, into) in [(held, &mut contents.held), (vips, &mut contents.vips)] {
            let elements = elements(channel, family, set)?;
            (found, whole) = (found | elements.is_some(), whole & elements.is_some());
            let keys: BTreeSet<_> = elements.unwrap_or_default().into_iter().collect();
            into.extend(keys.iter().filter_map(|key| parse(key, kind)));
            pair.push(keys);
        }
        if kind == SetKind::Ipv4 {
            of_ipv4.push(pair);
        }
    }
    whole &= of_ipv4.windows(2).all(|pair| pair[0] == pair[1]);
    let (mut open, mut all, mut ticket) = (0, 0, false);
    for family in Family::BOTH {
        let elements = elements(channel, family, gate(family).0)?;
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

/// The gate's set. A table of ARP knows no protocol families in `nft`'s words.
fn gate(family: Family) -> (&'static str, SetKind) {
    match family {
        Family::Inet => (GATE, SetKind::Families),
        Family::Arp => (GATE_OF_ARP, SetKind::EtherTypes),
    }
}

fn gate_keys(family: Family) -> Vec<Vec<u8>> {
    match family {
        Family::Inet => vec![vec![NFPROTO_IPV4], vec![NFPROTO_IPV6]],
        Family::Arp => vec![ETHERTYPE_IPV4.into()],
    }
}

/// Opens the gate for `timeout`.
pub(super) fn gate_elements(table: &str, timeout: Duration) -> Vec<Message> {
    let open = |family| gate_opened(family, table, timeout);
    Family::BOTH.into_iter().flat_map(open).collect()
}

/// Opens that part of the gate.
pub(super) fn gate_opened(family: Family, table: &str, timeout: Duration) -> Vec<Message> {
    nft::add_elements(family, table, gate(family).0, &gate_keys(family), Some(timeout))
}

/// Closes a gate that is open; fails when its time is over.
pub(super) fn delete_gate() -> Vec<Message> {
    let delete = |family| nft::delete_elements(family, TABLE, gate(family).0, &gate_keys(family));
    Family::BOTH.into_iter().flat_map(delete).collect()
}

/// Closes the gate, open or not.
pub(super) fn flush_gate() -> Vec<Message> {
    Family::BOTH.map(|family| nft::flush_set(family, TABLE, gate(family).0)).into()
}

/// For how long yet the gate of inet and the ticket are there; none for what is not.
pub(super) fn times_left(
    channel: &mut Channel,
) -> io::Result<(Option<Duration>, Option<Duration>)> {
    let messages = channel.dump(&nft::get_elements(Family::Inet, TABLE, GATE))?;
    let elements = || messages.iter().flat_map(|(_, payload)| nft::parse_times_left(payload));
    let left = |key: &[u8]| elements().find(|(found, _)| found == key).map(|(_, left)| left);
    let of_gate = gate_keys(Family::Inet).iter().map(|key| left(key)).min().flatten();
    Ok((of_gate, left(&TICKET)))
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
pub(super) fn elements(
    channel: &mut Channel,
    family: Family,
    set: &str,
) -> io::Result<Option<Vec<Vec<u8>>>> {
    match channel.dump(&nft::get_elements(family, TABLE, set)) {
        Ok(messages) => {
            let messages = messages.iter();
            Ok(Some(messages.flat_map(|(_, payload)| nft::parse_keys(payload)).collect()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_a_key_in_the_sets_of_its_kind_alone_and_comes_back_from_it() {
        let all = [
            Fenced::Anywhere("10.0.0.50".parse().unwrap()),
            Fenced::Anywhere("fd00::50".parse().unwrap()),
            Fenced::On("br100".into(), "fe80::1".parse().unwrap()),
            Fenced::On("fifteen-letters".into(), "fe80::1".parse().unwrap()),
        ];
        let kinds = [SetKind::Ipv4, SetKind::Ipv6, SetKind::Ipv6OnInterface];
        for (fenced, own) in all.iter().zip([0, 1, 2, 2]) {
            for (number, kind) in kinds.into_iter().enumerate() {
                let back = key(fenced, kind).map(|key| parse(&key, kind));
                assert_eq!(back, (number == own).then(|| Some(fenced.clone())));
            }
        }
    }

    #[test]
    fn a_key_that_is_no_address_is_none() {
        assert_eq!(parse(&[1, 2, 3], SetKind::Ipv4), None);
        assert_eq!(parse(&[1; 31], SetKind::Ipv6OnInterface), None);
        assert_eq!(parse(&[b'x'; 32], SetKind::Ipv6OnInterface), None);
    }
}
