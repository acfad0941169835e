//! Clearing a host by hand: addresses first, with what is there for their sake, then the fence.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rtnetlink::packet_route::AddressFamily;
use turnip_core::PresentAddress;

use super::address::{Found, Slot};
use super::fence;
use super::prefix_route::PrefixRoute;
use super::promotion::Promotion;
use super::record::{Entry, Record};
use super::route::{self, Route};
use crate::host;

/// What was removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released {
    /// The addresses that carried turnip's mark.
    pub addresses: Vec<PresentAddress>,
    /// Whether there was a fence.
    pub fence: bool,
    /// The interfaces whose `promote_secondaries` is as it was before turnip.
    pub promotions: Vec<String>,
}

/// Every address with turnip's mark in this network namespace, configured or not.
///
/// # Errors
/// When the kernel does not list its addresses.
pub fn marked(runtime_directory: &Path) -> io::Result<Vec<PresentAddress>> {
    let record = Record::open(runtime_directory, host::network_namespace()?);
    let found = route::briefly(|route| find(route, &record))?;
    Ok(found.into_iter().map(|(_, present)| present).collect())
}

/// Removes every address with turnip's mark, and when the kernel has acknowledged that, the fence.
/// Works without a daemon; beside one it takes from under it what it holds.
///
/// # Errors
/// When an address could not be removed; the fence then stays, so that it is silent.
pub fn release(runtime_directory: &Path) -> io::Result<Released> {
    let namespace = host::network_namespace()?;
    let mut record = Record::open(runtime_directory, namespace);
    let mut promotion = Promotion::open(runtime_directory, namespace);
    let (found, promotions) = route::briefly(|route| {
        let found = find(route, &record)?;
        take_away(route, &found, &mut promotion)?;
        take_away_routes(route)?;
        Ok((found, promotion.put_back(route, |_| false)))
    })?;
    let addresses: Vec<_> = found.into_iter().map(|(_, present)| present).collect();
    let entries: BTreeSet<Entry> =
        addresses.iter().map(|one| (Arc::clone(&one.interface), one.address)).collect();
    record.strike(&entries);
    Ok(Released { addresses, fence: fence::remove()?, promotions })
}

fn take_away(
    route: &mut Route,
    found: &[(Slot, PresentAddress)],
    promotion: &mut Promotion,
) -> io::Result<()> {
    let v4 = found.iter().filter(|(slot, _)| slot.address.addr().is_ipv4());
    for index in v4.map(|(slot, _)| slot.index) {
        // Else the others of a subnet would go too, though not turnip's.
        promotion.keep(route, index);
    }
    for chunk in found.chunks(64) {
        let answers = route.delete(chunk.iter().map(|(slot, _)| *slot))?;
        for ((_, present), answer) in chunk.iter().zip(answers) {
            match answer {
                Err(refusal) if !refusal.is_gone() => {
                    let PresentAddress { interface, address, .. } = present;
                    let why = format!("cannot remove {address} from {interface}: {refusal}");
                    return Err(io::Error::other(why));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The routes to subnets of VIPs would end soon, and are not needed any more.
fn take_away_routes(route: &mut Route) -> io::Result<()> {
    let routes = route.routes(AddressFamily::Inet6, PrefixRoute::parse)?;
    if !routes.is_empty() {
        // One that is gone already is none that stays.
        route.delete_routes(&routes)?;
    }
    Ok(())
}

fn find(route: &mut Route, record: &Record) -> io::Result<Vec<(Slot, PresentAddress)>> {
    let links = route.links()?;
    let mut found = Vec::new();
    for Found { slot, marked, .. } in route.addresses()? {
        let Some(state) = links.get(&slot.index) else { continue };
        let interface = Arc::clone(&state.link.name);
        if marked || record.contains(&(Arc::clone(&interface), slot.address)) {
            let (address, marked, misplaced) = (slot.address, true, false);
            found.push((slot, PresentAddress { interface, address, marked, misplaced }));
        }
    }
    Ok(found)
}
