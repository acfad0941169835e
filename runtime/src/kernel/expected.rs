//! The addresses that are there by turnip's doing: what happens to them otherwise is news.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::address::Slot;

/// The addresses that should be there. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Expected(Arc<Mutex<HashSet<Slot>>>);

impl Expected {
    /// Takes note that the address is there; whether that is new.
    pub fn insert(&self, slot: Slot) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(slot)
    }

    /// Takes note that the address is gone; whether that is new.
    pub fn remove(&self, slot: Slot) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&slot)
    }

    /// Whether it should be there.
    pub fn contains(&self, slot: Slot) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&slot)
    }
}
