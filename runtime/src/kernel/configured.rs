//! What is configured, in the ways in which it is looked for, and the names of interfaces.
//!
//! An interface has its own name and may have others (`altname`), by any of which a VIP may name it.
//! Core knows one name of an interface: the configured one. The kernel's side knows indices. What is told
//! to core is translated here, and names that come from core are looked up by [`super::route`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use turnip_core::{Assignment, Link};

use super::address::LinkState;
use super::record::Entry;

/// The addresses and interfaces of the configuration.
pub(super) struct Configured {
    entries: BTreeSet<Entry>,
    addresses: BTreeSet<IpAddr>,
    interfaces: BTreeSet<Arc<str>>,
}

impl Configured {
    /// Of all that may ever be put there.
    pub fn new<'a>(assignments: impl IntoIterator<Item = &'a Assignment>) -> Self {
        let entry = |one: &Assignment| (Arc::clone(&one.interface), one.address);
        let entries: BTreeSet<Entry> = assignments.into_iter().map(entry).collect();
        Configured {
            addresses: entries.iter().map(|(_, address)| address.addr()).collect(),
            interfaces: entries.iter().map(|(interface, _)| Arc::clone(interface)).collect(),
            entries,
        }
    }

    /// Whether a VIP has this IP, wherever and with whatever prefix length.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// Whether the address is one that turnip puts on the interface of this name.
    pub fn contains(&self, entry: &Entry) -> bool {
        self.entries.contains(entry)
    }

    /// The address on the interface, by the name by which it is configured there, else by the
    /// interface's own.
    pub fn entry(&self, state: &LinkState, address: IpNet) -> Entry {
        let by = |name: &Arc<str>| (Arc::clone(name), address);
        let configured = state.names().map(by).find(|entry| self.entries.contains(entry));
        configured.unwrap_or_else(|| by(&state.name))
    }

    /// The interface as core knows it: by its own name, and by each other one that is configured.
    pub fn links(&self, state: &LinkState) -> Vec<Link> {
        let others = state.other_names.iter().filter(|name| self.interfaces.contains(*name));
        std::iter::once(&state.name).chain(others).map(|name| state.by(name)).collect()
    }
}

/// What interfaces are called that are configured by another name of theirs. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct OwnNames(Arc<Mutex<BTreeMap<Arc<str>, Arc<str>>>>);

impl OwnNames {
    /// Takes note of what the interface is called.
    pub fn learn(&self, configured: &Configured, state: &LinkState) {
        for other in state.other_names.iter().filter(|name| configured.interfaces.contains(*name)) {
            let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            names.insert(Arc::clone(other), Arc::clone(&state.name));
        }
    }

    /// Calls the interfaces by their own names.
    pub fn translate(&self, assignments: &mut [Assignment]) {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.is_empty() {
            return;
        }
        for one in assignments {
            if let Some(own) = names.get(&one.interface) {
                one.interface = Arc::clone(own);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(interface: &str, address: &str) -> Assignment {
        let vip = "v".parse().unwrap();
        Assignment { vip, interface: interface.into(), address: address.parse().unwrap() }
    }

    fn link(name: &str, other_names: &[&str]) -> LinkState {
        LinkState {
            index: 7,
            name: name.into(),
            other_names: other_names.iter().map(|name| Arc::from(*name)).collect(),
            up: true,
            carrier: true,
            loopback: false,
        }
    }

    #[test]
    fn an_interface_is_known_by_its_own_name_and_by_those_that_are_configured() {
        let configured = Configured::new(&[on("the-uplink-of-this-host", "10.0.0.50/24")]);
        let state = link("eth0", &["enp1s0", "the-uplink-of-this-host"]);
        let names: Vec<Arc<str>> =
            configured.links(&state).into_iter().map(|link| link.name).collect();
        assert_eq!(names, ["eth0".into(), "the-uplink-of-this-host".into()]);
        let entry = |address: &str| configured.entry(&state, address.parse().unwrap()).0;
        assert_eq!(&*entry("10.0.0.50/24"), "the-uplink-of-this-host");
        assert_eq!(&*entry("10.0.0.50/32"), "eth0", "turnip does not put that there");
    }

    #[test]
    fn packets_leave_by_the_interface_that_has_the_other_name_now() {
        let configured = Configured::new(&[on("uplink", "10.0.0.50/24")]);
        let names = OwnNames::default();
        let mut assignments = [on("uplink", "10.0.0.50/24"), on("eth5", "10.0.0.51/24")];
        for own in ["eth0", "eth9"] {
            names.learn(&configured, &link(own, &["uplink"]));
        }
        names.translate(&mut assignments);
        assert_eq!(assignments.map(|one| one.interface), ["eth9".into(), "eth5".into()]);
    }
}
