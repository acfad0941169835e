//! The host's interfaces, as announcements need to know them, at one moment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, ipv4_mask_to_prefix, ipv6_mask_to_prefix};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{LinkAddr, SockaddrStorage};
use turnip_core::{Assignment, Mac};

const ARPHRD_ETHER: u16 = 1;

/// An interface on which neighbours resolve addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Device {
    pub index: u32,
    pub name: Arc<str>,
    pub mac: Mac,
    /// The subnets that it is in, with the host's address in each.
    pub subnets: Vec<IpNet>,
    /// From which its neighbours can be asked.
    pub link_local: Option<Ipv6Addr>,
}

/// All interfaces.
#[derive(Default, Debug)]
pub(super) struct Devices {
    indices: HashMap<Arc<str>, u32>,
    devices: BTreeMap<Arc<str>, Device>,
    /// Where frames for each are to be sent.
    link_addresses: HashMap<u32, LinkAddr>,
    /// The host's own hardware addresses.
    macs: HashSet<Mac>,
}

impl Devices {
    /// Looks at them. What is a `vip` is no address to ask from.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub fn read(is_vip: impl Fn(IpAddr) -> bool) -> nix::Result<Self> {
        let silent = InterfaceFlags::IFF_LOOPBACK
            | InterfaceFlags::IFF_NOARP
            | InterfaceFlags::IFF_POINTOPOINT;
        let mut all = Devices::default();
        for found in getifaddrs()? {
            let Some(address) = &found.address else { continue };
            // An IPv4 address may have a label of its own.
            let name = found.interface_name.split(':').next().unwrap_or_default();
            let Some(link) = address.as_link_addr() else {
                if let Some(device) = all.devices.get_mut(name)
                    && let Some(net) = network(address, found.netmask.as_ref())
                {
                    device.has(net, is_vip(net.addr()));
                }
                continue;
            };
            let Ok(index) = u32::try_from(link.ifindex()) else { continue };
            let name: Arc<str> = name.into();
            all.indices.insert(Arc::clone(&name), index);
            let Some(mac) = link.addr().filter(|_| link.hatype() == ARPHRD_ETHER) else { continue };
            all.macs.insert(Mac(mac));
            if !found.flags.intersects(silent) {
                all.link_addresses.insert(index, *link);
                all.add(Device::new(index, name, Mac(mac)));
            }
        }
        Ok(all)
    }

    fn add(&mut self, device: Device) {
        self.indices.insert(Arc::clone(&device.name), device.index);
        self.macs.insert(device.mac);
        self.devices.insert(Arc::clone(&device.name), device);
    }

    /// The index of an interface of any kind.
    pub fn index_of(&self, name: &str) -> Option<u32> {
        self.indices.get(name).copied()
    }

    /// The device of that name, if neighbours on it resolve addresses.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.get(name)
    }

    /// The same, of that index.
    pub fn device_of(&self, index: u32) -> Option<&Device> {
        self.devices.values().find(|device| device.index == index)
    }

    /// Where frames for the device are to be sent.
    pub fn link_address(&self, device: &Device) -> Option<&LinkAddr> {
        self.link_addresses.get(&device.index)
    }

    /// The host's own hardware addresses.
    pub fn macs(&self) -> &HashSet<Mac> {
        &self.macs
    }

    /// The devices on which an address is announced: those that are `chosen`; else its own interface; else,
    /// where nobody resolves addresses on that, all whose subnet it lies in, for their neighbours look for it
    /// there, and Linux answers for the addresses of all its interfaces on each.
    pub fn places(&self, assignment: &Assignment, chosen: Option<&[Arc<str>]>) -> Vec<&Device> {
        if let Some(chosen) = chosen {
            return chosen.iter().filter_map(|name| self.devices.get(name)).collect();
        }
        if let Some(own) = self.devices.get(&assignment.interface) {
            return vec![own];
        }
        let lies_in = |device: &&Device| {
            device.subnets.iter().any(|subnet| is_neighbour(assignment.address.addr(), *subnet))
        };
        self.devices.values().filter(lies_in).collect()
    }
}

impl Device {
    fn new(index: u32, name: Arc<str>, mac: Mac) -> Self {
        Device { index, name, mac, subnets: Vec::new(), link_local: None }
    }

    fn has(&mut self, net: IpNet, is_vip: bool) {
        if net.prefix_len() < net.max_prefix_len() {
            self.subnets.push(net);
        }
        if let IpAddr::V6(address) = net.addr()
            && address.is_unicast_link_local()
            && !is_vip
        {
            self.link_local.get_or_insert(address);
        }
    }
}

/// Whether an address of another interface lies in a subnet of this one. Of link-local addresses each
/// interface has its own.
pub(super) fn is_neighbour(address: IpAddr, subnet: IpNet) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let is_subnet = subnet.prefix_len() < subnet.max_prefix_len();
    !is_link_local && is_subnet && subnet.addr() != address && subnet.contains(&address)
}

fn network(address: &SockaddrStorage, mask: Option<&SockaddrStorage>) -> Option<IpNet> {
    if let Some(address) = address.as_sockaddr_in() {
        let prefix = ipv4_mask_to_prefix(mask?.as_sockaddr_in()?.ip()).ok()?;
        return IpNet::new(address.ip().into(), prefix).ok();
    }
    let prefix = ipv6_mask_to_prefix(mask?.as_sockaddr_in6()?.ip()).ok()?;
    IpNet::new(address.as_sockaddr_in6()?.ip().into(), prefix).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Devices with these subnets, numbered from 2; and `lo` and `dummy0`, on which nobody resolves
    /// addresses.
    pub fn devices(all: &[(&str, &[&str])]) -> Devices {
        let mut devices = Devices::default();
        devices.indices.extend([("lo".into(), 1), ("dummy0".into(), 99)]);
        for (number, (name, subnets)) in all.iter().enumerate() {
            let index = number as u32 + 2;
            let mut device = Device::new(index, (*name).into(), Mac([2, 0, 0, 0, 0, index as u8]));
            subnets.iter().for_each(|subnet| device.has(subnet.parse().unwrap(), false));
            devices.add(device);
        }
        devices
    }

    pub fn on(interface: &str, address: &str) -> Assignment {
        let vip = "v".parse().unwrap();
        Assignment { vip, interface: interface.into(), address: address.parse().unwrap() }
    }

    fn places(devices: &Devices, assignment: &Assignment, chosen: Option<&[&str]>) -> Vec<String> {
        let chosen =
            chosen.map(|names| names.iter().map(|name| (*name).into()).collect::<Vec<_>>());
        let places = devices.places(assignment, chosen.as_deref()).into_iter();
        places.map(|device| device.name.to_string()).collect()
    }

    fn two() -> Devices {
        devices(&[
            ("eth0", &["10.0.0.11/24", "fd00::11/64", "fe80::2/64"]),
            ("eth1", &["192.0.2.1/24", "10.9.0.1/32", "fe80::3/64"]),
        ])
    }

    #[test]
    fn an_address_is_announced_on_its_own_interface_where_that_resolves_addresses() {
        let devices = two();
        assert_eq!(places(&devices, &on("eth1", "10.0.0.50/24"), None), ["eth1"]);
        assert_eq!(places(&devices, &on("eth1", "203.0.113.1/32"), None), ["eth1"]);
    }

    #[test]
    fn one_on_lo_is_announced_wherever_its_subnet_is_and_nowhere_else() {
        let devices = two();
        for interface in ["lo", "dummy0"] {
            assert_eq!(places(&devices, &on(interface, "10.0.0.50/32"), None), ["eth0"]);
            assert_eq!(places(&devices, &on(interface, "fd00::50/128"), None), ["eth0"]);
            assert!(places(&devices, &on(interface, "203.0.113.1/32"), None).is_empty());
            assert!(places(&devices, &on(interface, "10.9.0.1/32"), None).is_empty(), "no subnet");
            assert!(places(&devices, &on(interface, "fe80::1/64"), None).is_empty());
        }
    }

    #[test]
    fn what_is_chosen_is_all_that_counts() {
        let devices = two();
        let vip = on("lo", "10.0.0.50/32");
        assert_eq!(places(&devices, &vip, Some(&["eth1"])), ["eth1"]);
        assert!(places(&devices, &vip, Some(&["eth7", "lo"])).is_empty());
        let both = places(&devices, &on("eth0", "10.0.0.50/24"), Some(&["eth0", "eth1"]));
        assert_eq!(both, ["eth0", "eth1"]);
    }

    #[test]
    fn neighbours_are_asked_from_an_address_that_stays() {
        let mut device = Device::new(2, "br0".into(), Mac([2, 0, 0, 0, 0, 1]));
        device.has("fe80::1/64".parse().unwrap(), true);
        assert_eq!(device.link_local, None);
        device.has("fe80::2/64".parse().unwrap(), false);
        assert_eq!(device.link_local, Some("fe80::2".parse().unwrap()));
    }
}
