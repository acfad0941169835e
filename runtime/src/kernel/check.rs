//! What an operator should know before turnip runs here.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use turnip_core::{Assignment, Link, PresentAddress};

use super::address::{Found, LinkState};
use super::configured::Configured;
use super::record::Record;
use super::route;
use super::setting::Which;
use crate::host;

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

/// Every interface of this network namespace, once by each of its names.
///
/// # Errors
/// When the kernel does not list them.
pub fn links() -> io::Result<Vec<Link>> {
    let links = route::briefly(|route| route.links())?;
    let by_name = |state: &LinkState| state.names().map(|name| state.by(name)).collect::<Vec<_>>();
    Ok(links.values().flat_map(by_name).collect())
}

/// What an interface itself is called that has this name, be it another one than its own; none where
/// no interface has it.
///
/// # Errors
/// When the kernel does not list them.
pub fn own_name(name: &str) -> io::Result<Option<Arc<str>>> {
    let links = route::briefly(|route| route.links())?;
    let has_it = |state: &LinkState| state.names().any(|other| **other == *name);
    Ok(links.into_values().find(has_it).map(|state| state.name))
}

/// Every address of this network namespace that turnip put there, or that has the IP of one of those
/// that are `configured`.
///
/// # Errors
/// When the kernel does not list them.
pub fn addresses(
    configured: &[Assignment],
    runtime_directory: &Path,
) -> io::Result<Vec<PresentAddress>> {
    let configured = Configured::new(configured);
    let record = Record::open(runtime_directory, host::network_namespace()?);
    route::briefly(|route| {
        let links = route.links()?;
        let mut found = Vec::new();
        for Found { slot, marked, .. } in route.addresses()? {
            let Some(state) = links.get(&slot.index) else { continue };
            let (interface, address) = configured.entry(state, slot.address);
            let marked = marked || record.knows(state, address, &links);
            if marked || configured.has(address.addr()) {
                found.push(PresentAddress { interface, address, marked, misplaced: false });
            }
        }
        Ok(found)
    })
}

/// Whether the interface keeps the other addresses of a subnet when the first of them goes. turnip
/// sets it when it first puts an address with a prefix shorter than /32 there, and puts it back.
///
/// # Errors
/// When there is no such interface, or /proc/sys is not there.
pub fn promotes_secondaries(interface: &str) -> io::Result<bool> {
    let own_name = own_name(interface)?;
    Which::PromoteSecondaries.is_set(own_name.as_deref().unwrap_or(interface))
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
            Some((Arc::clone(&state.name), found.slot.address))
        };
        Ok(route.addresses()?.into_iter().filter_map(own).collect())
    })
}
