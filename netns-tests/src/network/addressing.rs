//! The addresses of hosts in networks of their own behind one router.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The third number of the addresses in a host's network.
pub(super) fn network_of(host: usize) -> u8 {
    u8::try_from(host + 1).expect("few hosts")
}

/// An address in each family.
pub(super) type End = (Ipv4Net, Ipv6Net);

/// The router's end of a network and the other one's, each in both families.
pub(super) fn ends(network: u8) -> (End, End) {
    let end = |last: u8| {
        let v4 = Ipv4Net::new(Ipv4Addr::new(10, 80, network, last), 24).expect("24 is one");
        let v6 = Ipv6Addr::new(0xfd80, u16::from(network), 0, 0, 0, 0, 0, u16::from(last));
        (v4, Ipv6Net::new(v6, 64).expect("64 is one"))
    };
    (end(1), end(2))
}
