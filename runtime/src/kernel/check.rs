//! What an operator should know before turnip runs here.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use turnip_core::Link;

use super::address::Found;
use super::{promotion, route};

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

/// The capabilities that turnip needs and this process lacks, by name.
///
/// # Errors
/// When /proc does not tell.
pub fn missing_capabilities() -> io::Result<Vec<&'static str>> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| io::Error::other("/proc/thread-self/status names no capabilities"))?;
    let needed = [(CAP_NET_ADMIN, "CAP_NET_ADMIN"), (CAP_NET_RAW, "CAP_NET_RAW")];
    let lacks = |(bit, name): (u32, &'static str)| (effective >> bit & 1 == 0).then_some(name);
    Ok(needed.into_iter().filter_map(lacks).collect())
}

/// Every interface of this network namespace.
///
/// # Errors
/// When the kernel does not list them.
pub fn links() -> io::Result<Vec<Link>> {
    let links = route::briefly(|route| route.links())?;
    Ok(links.into_values().map(|state| state.link).collect())
}

/// Whether the interface keeps the other addresses of a subnet when the first of them goes. turnip
/// sets it when it first puts an address with a prefix shorter than /32 there, and puts it back.
///
/// # Errors
/// When there is no such interface, or /proc/sys is not there.
pub fn promotes_secondaries(interface: &str) -> io::Result<bool> {
    promotion::is_set(interface)
}

/// The gateway to which packets to this address go at first; none when it is on a subnet of this host's.
///
/// # Errors
/// When the kernel does not say.
pub fn gateway_towards(address: IpAddr) -> io::Result<Option<IpAddr>> {
    route::briefly(|route| Ok(route.route_to(address)?.and_then(|seen| seen.gateway)))
}

/// The host's own addresses, and the interfaces that they are on: what carries no mark of turnip's.
///
/// # Errors
/// When the kernel does not list them.
pub fn own_addresses() -> io::Result<Vec<(Arc<str>, IpNet)>> {
    route::briefly(|route| {
        let links = route.links()?;
        let own = |found: Found| {
            let state = links.get(&found.slot.index).filter(|_| !found.marked)?;
            Some((Arc::clone(&state.link.name), found.slot.address))
        };
        Ok(route.addresses()?.into_iter().filter_map(own).collect())
    })
}
