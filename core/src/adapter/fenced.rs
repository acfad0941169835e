//! What the fence knows an address by.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::kernel::Assignment;

/// An address as the fence silences it.
///
/// A link-local address of IPv6 is another one on every interface: hosts have `fe80::1` on several
/// bridges at once. Any other address is the host's, whichever interface it is on: the kernel
/// answers for it on all of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fenced {
    /// Silent on the whole host.
    Anywhere(IpAddr),
    /// Link-local, and silent on the interface of that name. A name and not an index, because the
    /// VIP is configured by it, and is to be silent when the interface is made anew.
    On(Arc<str>, Ipv6Addr),
}

impl Fenced {
    /// The address on the interface.
    pub fn new(interface: &Arc<str>, address: IpAddr) -> Self {
        match address {
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                Fenced::On(Arc::clone(interface), address)
            }
            address => Fenced::Anywhere(address),
        }
    }
}

impl From<&Assignment> for Fenced {
    fn from(assignment: &Assignment) -> Self {
        Fenced::new(&assignment.interface, assignment.address.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_link_local_addresses_of_ipv6_are_the_interfaces() {
        let fenced = |address: &str| Fenced::new(&"br100".into(), address.parse().unwrap());
        let link_local = "fe80::1".parse().unwrap();
        assert_eq!(fenced("fe80::1"), Fenced::On("br100".into(), link_local));
        for address in ["10.0.0.1", "169.254.1.1", "fd00::1", "fec0::1", "ff02::1"] {
            assert_eq!(fenced(address), Fenced::Anywhere(address.parse().unwrap()));
        }
    }
}
