//! What turnip put there, for kernels that keep no mark.
//!
//! Kernels before 5.18 ignore IFA_PROTO. Whether this one does is found by reading back the first
//! address; until then, and for good where it does, every address is written down *before* it is
//! put there, so that a daemon that was killed leaves none that the next one does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use super::address::LinkState;

/// An interface's name and an address with prefix length.
pub(super) type Entry = (Arc<str>, IpNet);

/// The record of one network namespace.
pub(super) struct Record {
    path: PathBuf,
    entries: BTreeSet<Entry>,
    /// Whether the kernel keeps marks: unknown until an address was read back.
    kernel_keeps_marks: Option<bool>,
    complained: bool,
}

impl Record {
    /// The record in `directory` for the network namespace with the inode `namespace`.
    pub fn open(directory: &Path, namespace: u64) -> Self {
        let path = directory.join(format!("addresses-{namespace}.json"));
        let entries = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the record of addresses is unreadable");
                BTreeSet::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error,
                    "the record of addresses cannot be read: what an earlier turnip left may stay");
                BTreeSet::new()
            }
        };
        Record { path, entries, kernel_keeps_marks: None, complained: false }
    }

    /// Whether turnip put the address there.
    pub fn contains(&self, entry: &Entry) -> bool {
        self.entries.contains(entry)
    }

    /// Whether turnip put the address on this interface, one of `links`. What it put on one whose name
    /// nobody has any more counts: that was renamed.
    pub fn knows(
        &self,
        state: &LinkState,
        address: IpNet,
        links: &BTreeMap<u32, LinkState>,
    ) -> bool {
        let has = |state: &LinkState, name: &str| state.names().any(|own| **own == *name);
        let is_named = || state.names().any(|name| self.contains(&(Arc::clone(name), address)));
        let is_renamed =
            |(name, put): &Entry| *put == address && !links.values().any(|other| has(other, name));
        !self.entries.is_empty() && (is_named() || self.entries.iter().any(is_renamed))
    }

    /// Whether an address must still be read back.
    pub fn is_undecided(&self) -> bool {
        self.kernel_keeps_marks.is_none()
    }

    /// Takes note of whether the kernel kept the mark of an address just put there.
    pub fn decide(&mut self, kernel_keeps_marks: bool) {
        self.kernel_keeps_marks = Some(kernel_keeps_marks);
        if kernel_keeps_marks {
            self.entries.clear();
            if let Err(error) = std::fs::remove_file(&self.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::debug!(path = %self.path.display(), %error, "cannot remove the record");
            }
        }
    }

    /// Writes down what is about to be put there.
    pub fn note(&mut self, entries: impl IntoIterator<Item = Entry>) {
        if self.kernel_keeps_marks == Some(true) {
            return;
        }
        let before = self.entries.len();
        self.entries.extend(entries);
        if self.entries.len() != before {
            self.write();
        }
    }

    /// Strikes what was taken away.
    pub fn strike<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) {
        let before = self.entries.len();
        for entry in entries {
            self.entries.remove(entry);
        }
        if self.entries.len() != before {
            self.write();
        }
    }

    /// Strikes what was taken away from wherever it was.
    pub fn strike_everywhere(&mut self, gone: &BTreeSet<IpNet>) {
        let before = self.entries.len();
        self.entries.retain(|(_, address)| !gone.contains(address));
        if self.entries.len() != before {
            self.write();
        }
    }

    fn write(&mut self) {
        if let Err(error) = self.try_write()
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(path = %self.path.display(), %error,
                "cannot write down which addresses are turnip's: after a kill, a kernel before 5.18 cannot tell");
        }
    }

    fn try_write(&self) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let bytes = serde_json::to_vec(&self.entries)?;
        let new = self.path.with_extension("new");
        std::fs::write(&new, bytes)?;
        std::fs::rename(&new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_is_known_after_a_restart_until_it_is_struck() {
        let directory = tempfile::tempdir().unwrap();
        let entry: Entry = ("lo".into(), "10.0.0.1/32".parse().unwrap());
        Record::open(directory.path(), 1).note([entry.clone()]);
        let mut next = Record::open(directory.path(), 1);
        assert!(next.contains(&entry));
        assert!(!Record::open(directory.path(), 2).contains(&entry));
        next.strike([&entry]);
        assert!(!Record::open(directory.path(), 1).contains(&entry));
    }

    #[test]
    fn what_was_put_on_an_interface_that_was_renamed_since_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::open(directory.path(), 1);
        let address: IpNet = "10.0.0.1/32".parse().unwrap();
        record.note([("eth0".into(), address)]);
        let link = |index, name: &str, other: &str| LinkState {
            other_names: vec![other.into()],
            ..LinkState::example(index, name)
        };
        let knows = |links: &[LinkState]| {
            let all = links.iter().map(|link| (link.index, link.clone())).collect();
            links.iter().map(|link| record.knows(link, address, &all)).collect::<Vec<_>>()
        };
        assert_eq!(knows(&[link(5, "eth0", "enp1s0"), link(6, "eth1", "enp2s0")]), [true, false]);
        assert_eq!(knows(&[link(5, "eth9", "eth0"), link(6, "eth1", "enp2s0")]), [true, false]);
        assert_eq!(knows(&[link(5, "eth9", "enp1s0")]), [true], "nobody has the name");
    }

    #[test]
    fn a_kernel_that_keeps_marks_needs_no_record() {
        let directory = tempfile::tempdir().unwrap();
        let entry: Entry = ("lo".into(), "10.0.0.1/32".parse().unwrap());
        let mut record = Record::open(directory.path(), 1);
        record.note([entry.clone()]);
        record.decide(true);
        record.note([entry.clone()]);
        assert!(!Record::open(directory.path(), 1).contains(&entry));
    }
}
