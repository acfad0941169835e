//! What is configured, in the ways in which it is looked for, and the names of interfaces.
//!
//! An interface has its own name and may have others (`altname`), by any of which a VIP may name it.
//! Core knows one name of an interface: the configured one. The kernel's side knows indices. What is told
//! to core is translated here, and names that come from core are looked up by [`super::route`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ipnet::IpNet;
use turnip_core::{Assignment, Link};

use super::address::LinkState;
use super::record::Entry;

/// The addresses and interfaces of the configuration. It may change while it is looked at (rule 14.3):
/// what is asked of it is as of that moment.
pub(super) struct Configured(RwLock<Arc<Sets>>);

#[derive(Clone)]
struct Sets {
    entries: BTreeSet<Entry>,
    addresses: BTreeSet<IpAddr>,
    by_interface: HashMap<Arc<str>, Vec<IpNet>>,
    /// Interfaces that carry no address themselves, but one of turnip's own that does.
    parents: BTreeSet<Arc<str>>,
}

impl Sets {
    fn new<'a>(assignments: impl IntoIterator<Item = &'a Assignment>) -> Self {
        let entry = |one: &Assignment| (Arc::clone(&one.interface), one.address);
        let entries: BTreeSet<Entry> = assignments.into_iter().map(entry).collect();
        let addresses = entries.iter().map(|(_, address)| address.addr()).collect();
        let mut by_interface: HashMap<Arc<str>, Vec<IpNet>> = HashMap::new();
        for (interface, address) in &entries {
            by_interface.entry(Arc::clone(interface)).or_default().push(*address);
        }
        Sets { entries, addresses, by_interface, parents: BTreeSet::new() }
    }
}

impl Configured {
    /// Of all that may be put there.
    pub fn new<'a>(assignments: impl IntoIterator<Item = &'a Assignment>) -> Self {
        Configured(RwLock::new(Arc::new(Sets::new(assignments))))
    }

    /// Of these interfaces core wants to know besides, from now on.
    pub fn also_links(&self, parents: impl IntoIterator<Item = Arc<str>>) {
        let mut sets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut sets).parents.extend(parents);
    }

    /// These may be put there from now on, and no others.
    pub fn replace<'a>(&self, assignments: impl IntoIterator<Item = &'a Assignment>) {
        let mut sets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *sets = Arc::new(Sets { parents: sets.parents.clone(), ..Sets::new(assignments) });
    }

    fn sets(&self) -> Arc<Sets> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All addresses, with their prefix lengths.
    pub fn addresses(&self) -> Vec<IpNet> {
        self.sets().entries.iter().map(|(_, address)| *address).collect()
    }

    /// Whether a VIP has this IP, wherever and with whatever prefix length.
    pub fn has(&self, address: IpAddr) -> bool {
        self.sets().addresses.contains(&address)
    }

    /// Whether the address is one that turnip puts on the interface of this name.
    pub fn contains(&self, entry: &Entry) -> bool {
        self.sets().entries.contains(entry)
    }

    /// The address on the interface, by the name by which it is configured there, else by the
    /// interface's own.
    pub fn entry(&self, state: &LinkState, address: IpNet) -> Entry {
        let sets = self.sets();
        let by = |name: &Arc<str>| (Arc::clone(name), address);
        let configured = state.names().map(by).find(|entry| sets.entries.contains(entry));
        // Else by the name by which a VIP with that IP is there, so that it is known to be beside it.
        let has_its_ip = |name: &&Arc<str>| {
            let vips = sets.by_interface.get(*name).into_iter().flatten();
            vips.into_iter().any(|vip| vip.addr() == address.addr())
        };
        configured.unwrap_or_else(|| by(state.names().find(has_its_ip).unwrap_or(&state.name)))
    }

    /// The addresses of VIPs that turnip puts on the interface.
    pub fn vips_on(&self, state: &LinkState) -> impl Iterator<Item = IpNet> + use<> {
        let sets = self.sets();
        let vips = state.names().filter_map(|name| sets.by_interface.get(name)).flatten();
        vips.copied().collect::<Vec<_>>().into_iter()
    }

    /// The interface as core knows it: by its own name, and by each other one that is configured.
    pub fn links(&self, state: &LinkState) -> Vec<Link> {
        let sets = self.sets();
        let is_wanted = |name: &&Arc<str>| {
            sets.by_interface.contains_key(*name) || sets.parents.contains(*name)
        };
        let others = state.other_names.iter().filter(is_wanted);
        std::iter::once(&state.name).chain(others).map(|name| state.by(name)).collect()
    }
}

/// What interfaces are called themselves that have other names. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct OwnNames(Arc<Mutex<Names>>);

#[derive(Default)]
struct Names {
    /// By the other name, the interface's index and its own name.
    own: BTreeMap<Arc<str>, (u32, Arc<str>)>,
    /// How often one of them became another.
    changes: u64,
}

impl OwnNames {
    /// Takes note of what the interface is called. A name that it no longer has, or that is its own now, is
    /// no other name any more.
    pub fn learn(&self, state: &LinkState) {
        let mut names = self.lock();
        let before = names.own.len();
        names.own.retain(|other, (index, _)| {
            *other != state.name && (*index != state.index || state.other_names.contains(other))
        });
        names.changes += u64::from(names.own.len() != before);
        for other in &state.other_names {
            let now = (state.index, Arc::clone(&state.name));
            let before = names.own.insert(Arc::clone(other), now.clone());
            names.changes += u64::from(before != Some(now));
        }
    }

    /// The interface's own name.
    pub fn of(&self, name: &Arc<str>) -> Arc<str> {
        Arc::clone(self.lock().own.get(name).map_or(name, |(_, own)| own))
    }

    /// How often an interface got another name, or one that was not known.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// The assignment, with the interface by its own name.
    pub fn translate(&self, assignment: &Assignment) -> Assignment {
        Assignment { interface: self.of(&assignment.interface), ..assignment.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
            other_names: other_names.iter().map(|name| Arc::from(*name)).collect(),
            ..LinkState::example(7, name)
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
        assert_eq!(&*entry("10.0.0.50/32"), "the-uplink-of-this-host", "beside the VIP");
        assert_eq!(&*entry("10.0.0.51/24"), "eth0", "no VIP has that");
    }

    #[test]
    fn packets_leave_by_the_interface_that_has_the_other_name_now() {
        let names = OwnNames::default();
        for own in ["eth0", "eth9"] {
            names.learn(&link(own, &["uplink"]));
        }
        names.learn(&LinkState { index: 8, ..link("eth3", &["spare"]) });
        let assignments = [on("uplink", "10.0.0.50/24"), on("eth5", "10.0.0.51/24")];
        let own = assignments.map(|one| names.translate(&one).interface);
        assert_eq!(own, ["eth9".into(), "eth5".into()]);
        // It is its own name now, and then that of another interface.
        let changes = names.changes();
        names.learn(&link("uplink", &[]));
        assert_eq!(&*names.of(&"uplink".into()), "uplink");
        names.learn(&link("eth9", &["uplink"]));
        names.learn(&LinkState { index: 8, ..link("uplink", &[]) });
        assert_eq!(&*names.of(&"uplink".into()), "uplink");
        assert_eq!(&*names.of(&"spare".into()), "spare", "it has that no more");
        assert!(names.changes() > changes);
    }
}
