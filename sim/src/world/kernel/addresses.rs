//! The kernel's table of addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use turnip_core::PresentAddress;

use crate::rng::Rng;
use crate::time::{MS, S};

/// An address on one interface.
#[derive(Clone, Debug)]
struct Address {
    interface: Arc<str>,
    marked: bool,
    /// When the kernel removes it.
    ends: Option<u64>,
    /// It stands before the host's own.
    misplaced: bool,
}

/// All of them.
#[derive(Default)]
pub struct Addresses(BTreeMap<IpNet, Vec<Address>>);

/// When the kernel removes an address that it is given for so many seconds at `now`: it counts
/// whole seconds, and looks about once a second.
pub fn ends(lifetime_secs: u32, now: u64, rng: &mut Rng) -> u64 {
    now + u64::from(lifetime_secs) * S + rng.below(990 * MS)
}

impl Addresses {
    /// The interfaces that an address is on.
    pub fn interfaces(&self, net: IpNet) -> impl Iterator<Item = &Arc<str>> {
        self.0.get(&net).into_iter().flatten().map(|address| &address.interface)
    }

    /// All addresses.
    pub fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.0.keys().copied()
    }

    /// Those that carry turnip's mark.
    pub fn marked(&self) -> impl Iterator<Item = IpNet> {
        let is_marked = |address: &Address| address.marked;
        self.0
            .iter()
            .flat_map(move |(net, on)| on.iter().filter(move |a| is_marked(a)).map(|_| *net))
    }

    /// Puts an address there, or takes note of its mark and end.
    pub fn put(&mut self, net: IpNet, interface: &Arc<str>, marked: bool, ends: Option<u64>) {
        let on = self.0.entry(net).or_default();
        match on.iter_mut().find(|address| address.interface == *interface) {
            Some(address) => {
                (address.marked, address.ends, address.misplaced) = (marked, ends, false);
            }
            None => {
                let (interface, misplaced) = (Arc::clone(interface), false);
                on.push(Address { interface, marked, ends, misplaced });
            }
        }
    }

    /// The host's own address on an interface goes and comes back: what is there by turnip stands
    /// before it from now on. Gives what that is.
    pub fn misplace(&mut self, interface: &str) -> Vec<IpNet> {
        let mut misplaced = Vec::new();
        for (net, on) in &mut self.0 {
            for address in on.iter_mut().filter(|one| one.marked && &*one.interface == interface) {
                address.misplaced = true;
                misplaced.push(*net);
            }
        }
        misplaced
    }

    /// Whether an address stands before the host's own somewhere.
    pub fn is_misplaced(&self, net: IpNet) -> bool {
        self.0.get(&net).into_iter().flatten().any(|address| address.misplaced)
    }

    /// Takes an address away from an interface.
    pub fn remove(&mut self, net: IpNet, interface: &str) {
        if let Some(on) = self.0.get_mut(&net) {
            on.retain(|address| &*address.interface != interface);
            if on.is_empty() {
                self.0.remove(&net);
            }
        }
    }

    /// Takes an address away from wherever it is. Tells whether it was there.
    pub fn remove_all(&mut self, net: IpNet) -> bool {
        self.0.remove(&net).is_some()
    }

    /// An interface is gone.
    pub fn remove_interface(&mut self, interface: &str) {
        self.retain(|_, address| &*address.interface != interface);
    }

    /// When the first address ends.
    pub fn next_end(&self) -> Option<u64> {
        self.0.values().flatten().filter_map(|address| address.ends).min()
    }

    /// Removes those that have ended.
    pub fn expire(&mut self, now: u64) -> Vec<IpNet> {
        let mut gone = Vec::new();
        self.retain(|net, address| {
            let stays = address.ends.is_none_or(|ends| ends > now);
            if !stays {
                gone.push(net);
            }
            stays
        });
        gone
    }

    /// Those that carry turnip's mark, and those that are `configured`.
    pub fn listed(&self, configured: &BTreeSet<IpNet>) -> Vec<PresentAddress> {
        let mut listed = Vec::new();
        for (net, on) in &self.0 {
            for address in on.iter().filter(|address| address.marked || configured.contains(net)) {
                listed.push(PresentAddress {
                    interface: Arc::clone(&address.interface),
                    address: *net,
                    marked: address.marked,
                    misplaced: address.misplaced,
                });
            }
        }
        listed
    }

    fn retain(&mut self, mut stays: impl FnMut(IpNet, &Address) -> bool) {
        self.0.retain(|net, on| {
            on.retain(|address| stays(*net, address));
            !on.is_empty()
        });
    }
}
