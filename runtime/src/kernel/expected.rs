//! The addresses that are there by turnip's doing: what happens to them otherwise is news.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::address::Slot;

/// The addresses that should be there, and since when. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Expected(Arc<Mutex<HashMap<Slot, Instant>>>);

impl Expected {
    /// Takes note that the address is there; whether that is new.
    pub fn insert(&self, slot: Slot) -> bool {
        let mut there = self.there();
        let is_new = !there.contains_key(&slot);
        there.entry(slot).or_insert_with(Instant::now);
        is_new
    }

    /// Takes note that the address is gone; whether that is new.
    pub fn remove(&self, slot: Slot) -> bool {
        self.there().remove(&slot).is_some()
    }

    /// Whether it should be there.
    pub fn contains(&self, slot: Slot) -> bool {
        self.there().contains_key(&slot)
    }

    /// Since when it should be there, if it should.
    pub fn since(&self, slot: Slot) -> Option<Instant> {
        self.there().get(&slot).copied()
    }

    /// Takes note that the address has been there since then.
    #[cfg(test)]
    pub fn insert_as_of(&self, slot: Slot, since: Instant) {
        self.there().insert(slot, since);
    }

    fn there(&self) -> MutexGuard<'_, HashMap<Slot, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
