//! The addresses that are there by turnip's doing: what happens to them otherwise is news.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::address::Slot;

/// The addresses that should be there, and since when. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Expected(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    there: HashMap<Slot, Instant>,
    /// What is taken away to be put back at once, and how often the kernel has yet to say so.
    leaving: HashMap<Slot, u32>,
}

impl Expected {
    /// Takes note that the address is there; whether that is new.
    pub fn insert(&self, slot: Slot) -> bool {
        let there = &mut self.lock().there;
        let is_new = !there.contains_key(&slot);
        there.entry(slot).or_insert_with(Instant::now);
        is_new
    }

    /// Takes note that the address is gone; whether that is new.
    pub fn remove(&self, slot: Slot) -> bool {
        self.lock().there.remove(&slot).is_some()
    }

    /// Whether it should be there.
    pub fn contains(&self, slot: Slot) -> bool {
        self.lock().there.contains_key(&slot)
    }

    /// Since when it should be there, if it should.
    pub fn since(&self, slot: Slot) -> Option<Instant> {
        self.lock().there.get(&slot).copied()
    }

    /// Takes note that the address has been there since then.
    #[cfg(test)]
    pub fn insert_as_of(&self, slot: Slot, since: Instant) {
        self.lock().there.insert(slot, since);
    }

    /// It is about to be taken away and put back.
    pub fn leaves(&self, slot: Slot) {
        *self.lock().leaving.entry(slot).or_default() += 1;
    }

    /// It was not there, or was not taken away after all: nothing will be heard of it.
    pub fn stays(&self, slot: Slot) {
        self.lock().heard(slot);
    }

    /// The kernel says that it is gone; whether that is news.
    pub fn gone(&self, slot: Slot) -> bool {
        let mut state = self.lock();
        !state.heard(slot) && state.there.remove(&slot).is_some()
    }

    /// What the kernel had to say is lost.
    pub fn lose(&self) {
        self.lock().leaving.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether that was to be heard.
    fn heard(&mut self, slot: Slot) -> bool {
        let Some(count) = self.leaving.get_mut(&slot) else { return false };
        *count -= 1;
        if *count == 0 {
            self.leaving.remove(&slot);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_away_to_be_put_back_is_no_news_once() {
        let (expected, slot) =
            (Expected::default(), Slot { index: 1, address: "10.0.0.1/24".parse().unwrap() });
        expected.insert(slot);
        expected.leaves(slot);
        assert!(!expected.gone(slot));
        assert!(expected.contains(slot));
        assert!(expected.gone(slot), "this time it was somebody else");
        assert!(!expected.contains(slot) && !expected.gone(slot));
    }

    #[test]
    fn what_stays_after_all_or_was_not_heard_of_for_long_is_news_when_it_goes() {
        let (expected, slot) =
            (Expected::default(), Slot { index: 1, address: "10.0.0.1/24".parse().unwrap() });
        let ways: [fn(&Expected, Slot); 2] = [Expected::stays, |expected, _| expected.lose()];
        for forget in ways {
            expected.insert(slot);
            expected.leaves(slot);
            forget(&expected, slot);
            assert!(expected.gone(slot));
        }
    }
}
