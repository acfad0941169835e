//! Clearing a host by hand: addresses first, with what is there for their sake, then the fence.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rtnetlink::packet_route::AddressFamily;
use turnip_core::PresentAddress;
use turnip_core::adapter::Fenced;

use super::address::{Found, Slot};
use super::companions;
use super::fence;
use super::prefix_route::PrefixRoute;
use super::record::Record;
use super::route::{self, Route};
use super::setting::{Setting, Which};
use super::virtual_link;
use crate::host;

/// What was removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released {
    /// The addresses that carried turnip's mark.
    pub addresses: Vec<PresentAddress>,
    /// Whether there was a fence, and it was removed.
    pub fence: bool,
    /// The interfaces whose `promote_secondaries` is as it was before turnip.
    pub promotions: Vec<String>,
    /// Other settings of interfaces that are so, as in `arp_ignore of eth0`.
    pub settings: Vec<String>,
    /// The routes and rules that VIPs had.
    pub companions: Vec<String>,
    /// What the fence stays for: addresses that are not turnip's, and that it silences.
    pub silenced: Vec<PresentAddress>,
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

/// Removes every address with turnip's mark, and when the kernel has acknowledged that, the fence;
/// that stays where an address that is not turnip's would answer without it (rule 7.9). Works without
/// a daemon; beside one it takes from under it what it holds.
///
/// # Errors
/// When an address could not be removed; the fence then stays, so that it is silent.
pub fn release(runtime_directory: &Path) -> io::Result<Released> {
    let released = release_addresses(runtime_directory)?;
    let silenced = silenced()?;
    let fence = silenced.is_empty() && fence::remove()?;
    Ok(Released { fence, silenced, ..released })
}

/// The same, and removes the fence whatever answers without it.
///
/// # Errors
/// The same.
pub fn release_all(runtime_directory: &Path) -> io::Result<Released> {
    let released = release_addresses(runtime_directory)?;
    Ok(Released { fence: fence::remove()?, ..released })
}

/// Puts back what was set of interfaces that have no address of turnip's any more, where a daemon leaves
/// its fence (rule 7.9), and says so in the log.
///
/// # Errors
/// When the kernel does not list its addresses.
pub fn put_back(runtime_directory: &Path) -> io::Result<()> {
    let namespace = host::network_namespace()?;
    let record = Record::open(runtime_directory, namespace);
    let mut promotion = Setting::open(Which::PromoteSecondaries, runtime_directory, namespace);
    let of_parents =
        Which::OF_PARENTS.map(|which| Setting::open(which, runtime_directory, namespace));
    route::briefly(|route| {
        let used: BTreeSet<u32> =
            find(route, &record)?.into_iter().map(|(slot, _)| slot.index).collect();
        promotion.put_back_and_tell(route, |index| used.contains(&index));
        if !route.links()?.values().any(|state| state.is_turnips) {
            of_parents.into_iter().for_each(|mut one| one.put_back_and_tell(route, |_| false));
        }
        Ok(())
    })
}

/// All but the fence.
fn release_addresses(runtime_directory: &Path) -> io::Result<Released> {
    let namespace = host::network_namespace()?;
    let mut record = Record::open(runtime_directory, namespace);
    let mut promotion = Setting::open(Which::PromoteSecondaries, runtime_directory, namespace);
    let of_parents =
        Which::OF_PARENTS.map(|which| (which, Setting::open(which, runtime_directory, namespace)));
    let (found, (promotions, settings), companions) = route::briefly(|route| {
        let found = find(route, &record)?;
        let companions = companions::release(route)?;
        take_away(route, &found, &mut promotion)?;
        take_away_routes(route)?;
        let links = route.links()?;
        let own: Vec<u32> =
            links.values().filter(|state| state.is_turnips).map(|state| state.index).collect();
        if !own.is_empty() {
            virtual_link::remove(route, &own)?;
        }
        let mut settings = Vec::new();
        for (which, mut one) in of_parents {
            let back = one.put_back(route, |_| false).into_iter();
            settings.extend(back.map(|name| format!("{} of {name}", which.name())));
        }
        Ok((found, (promotion.put_back(route, |_| false), settings), companions))
    })?;
    let addresses: Vec<_> = found.into_iter().map(|(_, present)| present).collect();
    let gone: BTreeSet<_> = addresses.iter().map(|one| one.address).collect();
    record.strike_everywhere(&gone);
    let (fence, silenced) = (false, Vec::new());
    Ok(Released { addresses, fence, promotions, settings, companions, silenced })
}

/// The addresses on this host that a fence knows as VIPs.
fn silenced() -> io::Result<Vec<PresentAddress>> {
    let fenced: BTreeSet<Fenced> = fence::vips()?;
    if fenced.is_empty() {
        return Ok(Vec::new());
    }
    route::briefly(|route| {
        let links = route.links()?;
        let mut found = Vec::new();
        for Found { slot, marked, .. } in route.addresses()? {
            // The fence goes by the interfaces' own names.
            if let Some(state) = links.get(&slot.index)
                && fenced.contains(&Fenced::new(&state.name, slot.address.addr()))
            {
                let (interface, address) = (Arc::clone(&state.name), slot.address);
                found.push(PresentAddress { interface, address, marked, misplaced: false });
            }
        }
        Ok(found)
    })
}

fn take_away(
    route: &mut Route,
    found: &[(Slot, PresentAddress)],
    promotion: &mut Setting,
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
        if marked || record.knows(state, slot.address, &links) {
            let (interface, address) = (Arc::clone(&state.name), slot.address);
            let present = PresentAddress { interface, address, marked: true, misplaced: false };
            found.push((slot, present));
        }
    }
    Ok(found)
}
