//! What is on the interfaces of VIPs besides these, as it was when it was last looked at.
//!
//! Looking is a list of all addresses of the host, and renewals are many. So there is one only when
//! somebody else's address has come or gone since, as the kernel tells unasked.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::address::{Found, Slot};
use super::beside::{Beside, Neighbour};

/// How often somebody else's address came or went beside one of turnip's. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct AddressNews(Arc<AtomicU64>);

impl AddressNews {
    /// One did, or may have.
    pub fn tell(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often one did.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What was seen.
#[derive(Default)]
pub(super) struct Surroundings {
    news: AddressNews,
    /// What had been told before the look.
    seen: Option<u64>,
    interfaces: HashMap<u32, Beside>,
}

impl Surroundings {
    /// Nothing was seen yet.
    pub fn new(news: AddressNews) -> Self {
        Surroundings { news, ..Surroundings::default() }
    }

    /// What has been told by now: to be read before a look.
    pub fn told(&self) -> u64 {
        self.news.count()
    }

    /// Whether it must be looked at before these addresses are put there.
    pub fn is_outdated(&self, slots: &[Slot]) -> bool {
        self.seen != Some(self.told())
            || slots.iter().any(|slot| !self.interfaces.contains_key(&slot.index))
    }

    /// What became of something is not known: it is to be looked at again.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    /// Takes note of what there is on `interfaces`, which was listed after so much was told.
    pub fn look(
        &mut self,
        told: u64,
        interfaces: impl IntoIterator<Item = u32>,
        all: &[Found],
        is_vip: impl Fn(&Found) -> bool,
    ) {
        let interfaces: BTreeSet<u32> = interfaces.into_iter().collect();
        let mut neighbours: HashMap<u32, Vec<Neighbour>> =
            interfaces.into_iter().map(|index| (index, Vec::new())).collect();
        for found in all {
            if let Some(neighbours) = neighbours.get_mut(&found.slot.index) {
                neighbours.push(Neighbour {
                    address: found.slot.address,
                    is_vip: is_vip(found),
                    is_universal: found.universal,
                    is_deprecated: found.deprecated,
                });
            }
        }
        let beside = |(index, neighbours): (u32, Vec<_>)| (index, Beside::of(&neighbours));
        self.interfaces = neighbours.into_iter().map(beside).collect();
        self.seen = Some(told);
    }

    /// The interfaces that were looked at.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.interfaces.keys().copied()
    }

    /// Whether the kernel must avoid the address as a source.
    pub fn is_deprecated(&self, slot: Slot) -> bool {
        match self.interfaces.get(&slot.index) {
            Some(beside) => beside.is_deprecated(slot.address),
            None => Beside::default().is_deprecated(slot.address),
        }
    }

    /// Whether the address, which is there, must be put there anew.
    pub fn is_misplaced(&self, slot: Slot) -> bool {
        let beside = self.interfaces.get(&slot.index);
        beside.is_some_and(|beside| beside.is_misplaced(slot.address))
    }

    /// Those of these addresses that must go before they are put there, in the order in which they
    /// are to go. The last goes first: none comes to be the first of its subnet meanwhile.
    pub fn ahead(&self, slots: &[Slot]) -> Vec<Slot> {
        let place = |slot: &Slot| self.interfaces.get(&slot.index)?.place_ahead(slot.address);
        let mut ahead: Vec<(usize, Slot)> =
            slots.iter().filter_map(|slot| Some((place(slot)?, *slot))).collect();
        ahead.sort_unstable();
        ahead.into_iter().rev().map(|(_, slot)| slot).collect()
    }

    /// The address was put there as it should be.
    pub fn set_right(&mut self, slot: Slot) {
        if let Some(beside) = self.interfaces.get_mut(&slot.index) {
            beside.set_right(slot.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(address: &str) -> Slot {
        Slot { index: 2, address: address.parse().unwrap() }
    }

    fn found(address: &str, marked: bool) -> Found {
        Found { slot: slot(address), marked, universal: true, deprecated: false }
    }

    #[test]
    fn it_is_looked_at_once_and_again_when_something_was_told_or_an_interface_is_new() {
        let news = AddressNews::default();
        let mut surroundings = Surroundings::new(news.clone());
        let vip = [slot("10.0.0.50/24")];
        assert!(surroundings.is_outdated(&vip));
        surroundings.look(surroundings.told(), [2], &[], |found| found.marked);
        assert!(!surroundings.is_outdated(&vip));
        assert!(surroundings.is_outdated(&[Slot { index: 3, ..vip[0] }]));
        let told = surroundings.told();
        news.tell();
        assert!(surroundings.is_outdated(&vip));
        surroundings.look(told, [2], &[], |found| found.marked);
        assert!(surroundings.is_outdated(&vip), "it was told while that was listed");
        surroundings.look(surroundings.told(), [2], &[], |found| found.marked);
        assert!(!surroundings.is_outdated(&vip));
        surroundings.forget();
        assert!(surroundings.is_outdated(&vip));
    }

    #[test]
    fn the_last_of_those_that_stand_before_the_hosts_own_goes_first() {
        let mut surroundings = Surroundings::default();
        let all = [
            found("10.0.0.50/24", true),
            found("10.0.0.51/24", true),
            found("10.0.0.11/24", false),
            found("10.0.0.52/24", true),
        ];
        surroundings.look(0, [2], &all, |found| found.marked);
        let vips = ["10.0.0.50/24", "10.0.0.51/24", "10.0.0.52/24"].map(slot);
        assert_eq!(surroundings.ahead(&vips), [vips[1], vips[0]]);
        assert_eq!(vips.map(|vip| surroundings.is_misplaced(vip)), [true, true, false]);
        surroundings.set_right(vips[0]);
        assert_eq!(surroundings.ahead(&vips), [vips[1]]);
    }
}
