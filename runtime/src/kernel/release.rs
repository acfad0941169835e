//! Clearing a host by hand: addresses first, then the fence.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use turnip_core::PresentAddress;

use super::address::Slot;
use super::fence;
use super::record::Record;
use super::route::{self, Route};
use crate::host;

/// What was removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released {
    /// The addresses that carried turnip's mark.
    pub addresses: Vec<PresentAddress>,
    /// Whether there was a fence, and it was removed.
    pub fence: bool,
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
/// that stays where an address that is not turnip's would answer without it (rule 7.8). Works without
/// a daemon; beside one it takes from under it what it holds.
///
/// # Errors
/// When an address could not be removed; the fence then stays, so that it is silent.
pub fn release(runtime_directory: &Path) -> io::Result<Released> {
    let addresses = release_addresses(runtime_directory)?;
    let silenced = silenced()?;
    let fence = silenced.is_empty() && fence::remove()?;
    Ok(Released { addresses, fence, silenced })
}

/// The same, and removes the fence whatever answers without it.
///
/// # Errors
/// The same.
pub fn release_all(runtime_directory: &Path) -> io::Result<Released> {
    let addresses = release_addresses(runtime_directory)?;
    Ok(Released { addresses, fence: fence::remove()?, silenced: Vec::new() })
}

fn release_addresses(runtime_directory: &Path) -> io::Result<Vec<PresentAddress>> {
    let mut record = Record::open(runtime_directory, host::network_namespace()?);
    let found = route::briefly(|route| {
        let found = find(route, &record)?;
        take_away(route, &found)?;
        Ok(found)
    })?;
    let addresses: Vec<_> = found.into_iter().map(|(_, present)| present).collect();
    let gone: BTreeSet<_> = addresses.iter().map(|one| one.address).collect();
    record.strike_everywhere(&gone);
    Ok(addresses)
}

/// The addresses on this host that a fence knows as VIPs.
fn silenced() -> io::Result<Vec<PresentAddress>> {
    let fenced: BTreeSet<IpAddr> = fence::vips()?;
    if fenced.is_empty() {
        return Ok(Vec::new());
    }
    route::briefly(|route| {
        let links = route.links()?;
        let mut found = Vec::new();
        for (slot, marked) in route.addresses()? {
            if let Some(state) = links.get(&slot.index)
                && fenced.contains(&slot.address.addr())
            {
                let interface = Arc::clone(&state.name);
                found.push(PresentAddress { interface, address: slot.address, marked });
            }
        }
        Ok(found)
    })
}

fn take_away(route: &mut Route, found: &[(Slot, PresentAddress)]) -> io::Result<()> {
    let indices: HashSet<_> = found.iter().map(|(slot, _)| slot.index).collect();
    for index in indices {
        // Else the others of a subnet would go too, though not turnip's.
        if let Err(refusal) = route.promote_secondaries(index)? {
            tracing::debug!(%refusal, "cannot set promote_secondaries");
        }
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

fn find(route: &mut Route, record: &Record) -> io::Result<Vec<(Slot, PresentAddress)>> {
    let links = route.links()?;
    let mut found = Vec::new();
    for (slot, marked) in route.addresses()? {
        let Some(state) = links.get(&slot.index) else { continue };
        let interface = Arc::clone(&state.name);
        if marked || record.knows(state, slot.address, &links) {
            found.push((slot, PresentAddress { interface, address: slot.address, marked: true }));
        }
    }
    Ok(found)
}
