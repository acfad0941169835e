//! How the addresses of VIPs stand beside the other addresses of their interface.
//!
//! For a connection of the host's own the kernel picks a source among the addresses of an
//! interface. A VIP must not be it where the host has an address of its own: the connection would
//! break when the VIP moves, and among these are etcd's and turnip's.
//!
//! Of IPv6 addresses it avoids those whose preferred lifetime is over. Of IPv4 addresses it takes
//! the first one in the subnet of the next hop, and else the first of the interface; and the first
//! is who came first. So what stands before the host's own, because that came later or came back,
//! is taken away and put there anew.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

/// An address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Neighbour {
    /// Address and prefix length.
    pub address: IpNet,
    /// Whether it is a VIP's; else it is the host's own.
    pub is_vip: bool,
    /// Whether it may be a source for any destination, and not within the link only.
    pub is_universal: bool,
    /// Whether the kernel avoids it as a source.
    pub is_deprecated: bool,
}

/// What the VIPs of one interface have beside them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Beside {
    /// The host's own addresses.
    own: Vec<IpNet>,
    /// The IPv4 addresses of VIPs that stand before the host's own, and their places.
    ahead: BTreeMap<IpNet, usize>,
    /// The IPv6 addresses of VIPs that the kernel avoids where it should not, or does not avoid
    /// where it should.
    mistaken: BTreeSet<IpNet>,
}

impl Beside {
    /// Of the addresses of one interface, in the kernel's order.
    pub fn of(neighbours: &[Neighbour]) -> Self {
        let own = neighbours.iter().filter(|one| !one.is_vip).map(|one| one.address);
        let mut beside = Beside { own: own.collect(), ..Beside::default() };
        let sources: Vec<(usize, IpNet)> = neighbours
            .iter()
            .enumerate()
            .filter(|(_, one)| !one.is_vip && one.is_universal && one.address.addr().is_ipv4())
            .map(|(place, one)| (place, one.address))
            .collect();
        for (place, vip) in neighbours.iter().enumerate().filter(|(_, one)| one.is_vip) {
            let address = vip.address;
            if address.addr().is_ipv4() {
                if is_ahead(place, address, &sources) {
                    beside.ahead.insert(address, place);
                }
            } else if vip.is_deprecated != beside.is_deprecated(address) {
                beside.mistaken.insert(address);
            }
        }
        beside
    }

    /// Whether the address of a VIP is for its clients alone, and no source of the host's own
    /// connections. An IPv6 address with a subnet may be the host's only one there, and is preferred
    /// then. IPv4 knows no such thing.
    pub fn is_deprecated(&self, vip: IpNet) -> bool {
        vip.addr().is_ipv6()
            && (vip.prefix_len() == vip.max_prefix_len()
                || self.own.iter().any(|own| overlap(*own, vip)))
    }

    /// Whether the address of a VIP that is there must be put there anew.
    pub fn is_misplaced(&self, vip: IpNet) -> bool {
        self.ahead.contains_key(&vip) || self.mistaken.contains(&vip)
    }

    /// The place of an address that must go before it is put there anew.
    pub fn place_ahead(&self, vip: IpNet) -> Option<usize> {
        self.ahead.get(&vip).copied()
    }

    /// The address was put there as it should be.
    pub fn set_right(&mut self, vip: IpNet) {
        self.ahead.remove(&vip);
        self.mistaken.remove(&vip);
    }
}

/// Whether a VIP stands before all of the host's own that it could be taken for: those of its
/// subnet, or those of the interface. Put there anew it is behind all of them.
fn is_ahead(place: usize, vip: IpNet, own: &[(usize, IpNet)]) -> bool {
    // Alone in its subnet it is the source for nobody there.
    let has_subnet = vip.prefix_len() < vip.max_prefix_len();
    let near = own.iter().find(|(_, other)| has_subnet && overlap(vip, *other));
    near.into_iter().chain(own.first()).any(|(first, _)| place < *first)
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.addr()) || other.contains(&one.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(address: &str) -> IpNet {
        address.parse().unwrap()
    }

    /// `v` and an address are a VIP's, `d` one that the kernel avoids; others are the host's own, `l`
    /// those of its link.
    fn beside(addresses: &[&str]) -> Beside {
        let neighbour = |said: &&str| {
            let (kind, address) = said.split_once(' ').unwrap_or(("", said));
            Neighbour {
                address: net(address),
                is_vip: matches!(kind, "v" | "d"),
                is_universal: kind != "l",
                is_deprecated: kind == "d",
            }
        };
        Beside::of(&addresses.iter().map(neighbour).collect::<Vec<_>>())
    }

    fn misplaced(addresses: &[&str]) -> Vec<String> {
        let beside = beside(addresses);
        let vips = addresses.iter().filter_map(|said| said.split_once(' '));
        let vips = vips.filter(|(kind, _)| *kind != "l").map(|(_, address)| address);
        vips.filter(|vip| beside.is_misplaced(net(vip))).map(str::to_owned).collect()
    }

    #[test]
    fn an_ipv4_vip_that_stands_before_all_own_addresses_of_its_subnet_is_put_behind_them() {
        assert!(misplaced(&["10.0.0.11/24", "v 10.0.0.50/24"]).is_empty());
        assert_eq!(misplaced(&["v 10.0.0.50/24", "10.0.0.11/24"]), ["10.0.0.50/24"]);
        let three = ["v 10.0.0.50/24", "10.0.0.11/24", "10.0.0.12/24", "10.0.0.13/24"];
        assert_eq!(misplaced(&three), ["10.0.0.50/24"]);
        // The first own one is the source already.
        assert!(misplaced(&["10.0.0.11/24", "v 10.0.0.50/24", "10.0.0.12/24"]).is_empty());
        // Another subnet's is not.
        let other = ["192.0.2.1/24", "v 10.0.0.50/24", "10.0.0.11/24"];
        assert_eq!(misplaced(&other), ["10.0.0.50/24"]);
        assert!(misplaced(&["192.0.2.1/24", "v 10.0.0.50/24"]).is_empty());
    }

    #[test]
    fn all_ipv4_vips_that_stand_before_the_own_ones_are_put_behind_them_and_the_last_goes_first() {
        let addresses = ["v 10.0.0.50/24", "v 10.0.0.51/24", "10.0.0.11/24", "v 10.0.0.52/24"];
        assert_eq!(misplaced(&addresses), ["10.0.0.50/24", "10.0.0.51/24"]);
        let beside = beside(&addresses);
        let place = |vip| beside.place_ahead(net(vip));
        assert!(place("10.0.0.51/24") > place("10.0.0.50/24"));
        assert_eq!(place("10.0.0.52/24"), None);
    }

    #[test]
    fn an_ipv4_vip_without_a_subnet_stands_behind_one_own_address_at_least() {
        assert_eq!(misplaced(&["v 10.0.0.50/32", "10.0.0.11/24"]), ["10.0.0.50/32"]);
        assert!(misplaced(&["192.0.2.1/24", "v 10.0.0.50/32", "10.0.0.11/24"]).is_empty());
        // What is for the link alone is no source for others.
        assert!(misplaced(&["v 10.0.0.50/32", "l 169.254.1.1/16"]).is_empty());
        assert!(misplaced(&["l 127.0.0.1/8", "v 10.0.0.50/32"]).is_empty());
        assert!(misplaced(&["v 10.0.0.50/32", "v 10.0.0.51/24"]).is_empty());
    }

    #[test]
    fn networks_of_different_length_are_one_subnet_where_they_overlap() {
        assert_eq!(misplaced(&["192.0.2.1/24", "v 10.0.0.50/16", "10.0.0.11/24"]).len(), 1);
        assert_eq!(misplaced(&["192.0.2.1/24", "v 10.0.0.50/24", "10.0.0.11/16"]).len(), 1);
    }

    #[test]
    fn an_ipv6_vip_is_deprecated_beside_another_address_of_its_subnet_and_without_a_subnet() {
        let vip = net("fd00:1::50/64");
        assert!(!beside(&["v fd00:1::50/64"]).is_deprecated(vip));
        assert!(!beside(&["v fd00:1::50/64", "v fd00:1::51/64"]).is_deprecated(vip));
        assert!(!beside(&["fe80::1/64", "fd00:2::11/64", "10.0.0.1/24"]).is_deprecated(vip));
        assert!(beside(&["fd00:1::11/64"]).is_deprecated(vip));
        assert!(beside(&["fd00:1::11/128"]).is_deprecated(vip));
        assert!(beside(&[]).is_deprecated(net("fd00:1::50/128")));
        assert!(beside(&["fe80::1/64"]).is_deprecated(net("fe80::50/64")));
        assert!(!beside(&["10.0.0.11/24"]).is_deprecated(net("10.0.0.50/24")));
    }

    #[test]
    fn an_ipv6_vip_is_judged_anew_when_an_own_address_comes_or_goes() {
        assert_eq!(misplaced(&["v fd00:1::50/64", "fd00:1::11/64"]), ["fd00:1::50/64"]);
        assert!(misplaced(&["d fd00:1::50/64", "fd00:1::11/64"]).is_empty());
        assert_eq!(misplaced(&["d fd00:1::50/64"]), ["fd00:1::50/64"]);
        assert!(misplaced(&["d fd00:1::50/128"]).is_empty());
    }

    #[test]
    fn what_was_put_there_anew_is_right() {
        let mut beside = beside(&["v 10.0.0.50/24", "10.0.0.11/24", "v fd00::50/64", "fd00::1/64"]);
        for vip in ["10.0.0.50/24", "fd00::50/64"].map(net) {
            assert!(beside.is_misplaced(vip));
            beside.set_right(vip);
            assert!(!beside.is_misplaced(vip));
        }
    }
}
