//! On which interfaces addresses were put, by index: an interface that is renamed keeps its index and
//! its addresses, and its old name may be another's by then (rule 8.19).

use std::collections::BTreeMap;

use super::record::Entry;

/// Where each address is by turnip's doing, or was found.
#[derive(Default)]
pub(super) struct Places(BTreeMap<Entry, Vec<u32>>);

impl Places {
    /// Takes note that the address is, or is about to be, on the interface with this index.
    pub fn note(&mut self, entry: &Entry, index: u32) {
        match self.0.get_mut(entry) {
            Some(indices) if indices.contains(&index) => {}
            Some(indices) => indices.push(index),
            None => {
                self.0.insert(entry.clone(), vec![index]);
            }
        }
    }

    /// The interfaces that have the address.
    pub fn of(&self, entry: &Entry) -> &[u32] {
        self.0.get(entry).map_or(&[], Vec::as_slice)
    }

    /// The interfaces that have any address.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.0.values().flatten().copied()
    }

    /// Takes note that the address is not there any more.
    pub fn strike(&mut self, entry: &Entry, index: u32) {
        if let Some(indices) = self.0.get_mut(entry) {
            indices.retain(|other| *other != index);
            if indices.is_empty() {
                self.0.remove(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_remembered_on_each_interface_until_it_is_gone_from_there() {
        let entry: Entry = ("eth0".into(), "10.0.0.1/32".parse().unwrap());
        let mut places = Places::default();
        for index in [5, 7, 5] {
            places.note(&entry, index);
        }
        assert_eq!(places.of(&entry), [5, 7]);
        places.strike(&entry, 5);
        assert_eq!(places.of(&entry), [7]);
        places.strike(&entry, 7);
        assert!(places.of(&entry).is_empty() && places.0.is_empty());
    }
}
