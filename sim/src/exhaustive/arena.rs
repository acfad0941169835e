//! Equal things once: a thing is a small number from then on.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

/// Keeps one of each, by number.
pub(super) struct Arena<T> {
    items: Vec<Rc<T>>,
    ids: NumberMap<Rc<T>, u32>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Arena { items: Vec::new(), ids: NumberMap::default() }
    }
}

impl<T: Hash + Eq> Arena<T> {
    /// The number of `item`.
    pub(super) fn intern(&mut self, item: T) -> u32 {
        if let Some(&id) = self.ids.get(&item) {
            return id;
        }
        let id = u32::try_from(self.items.len()).expect("fewer than 2^32 different things");
        let item = Rc::new(item);
        self.items.push(Rc::clone(&item));
        self.ids.insert(item, id);
        id
    }

    /// What has the number.
    pub(super) fn get(&self, id: u32) -> &T {
        &self.items[id as usize]
    }
}

/// A map whose keys are small numbers.
pub(super) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// A fast hash for numbers that nobody chooses in order to collide.
#[derive(Clone, Copy, Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|&word| self.write_u64(u64::from_le_bytes(word)));
        let rest = rest.iter().fold(1, |sum, &byte| (sum << 8) | u64::from(byte));
        self.write_u64(rest);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// 64 bits that stand for a state.
pub(super) fn fingerprint(state: &[u8]) -> u64 {
    let mut mixer = Mixer(state.len() as u64);
    mixer.write(state);
    mixer.finish()
}
