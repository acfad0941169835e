//! Equal things once: a thing is a small number from then on.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

use xxhash_rust::xxh3::xxh3_128;

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

    /// How many different things there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
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

    fn write_u128(&mut self, number: u128) {
        self.write_u64((number >> 64) as u64);
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// 128 bits that stand for a state: two different ones that share them are not to be expected
/// among as many as fit into a computer (some 10^-22 for two hundred million).
pub(super) fn fingerprint(state: &[u8]) -> u128 {
    xxh3_128(state)
}

/// The same for whatever can be hashed: the bytes that it gives to a hasher are its state.
#[derive(Default)]
pub(super) struct Identity(Vec<u8>);

impl Identity {
    /// What stands for `item`.
    pub(super) fn of(&mut self, item: &impl Hash) -> u128 {
        self.0.clear();
        item.hash(self);
        fingerprint(&self.0)
    }
}

impl Hasher for Identity {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Nobody asks for these.
    fn finish(&self) -> u64 {
        unreachable!("identities have 128 bits")
    }
}
