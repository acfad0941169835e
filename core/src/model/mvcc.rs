//! A store with its past: every version of every key since the last compaction.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Keyspace, Lookup};
use crate::name::Revision;
use crate::store::{Event, Header, KeyValue, Snapshot, Txn, TxnResponse};

/// Every version of every key since the last compaction, and what happened at each revision.
#[derive(Clone, Debug)]
pub struct Mvcc {
    cluster_id: u64,
    revision: i64,
    keys: BTreeMap<String, Vec<Version>>,
    /// One entry a revision, the first being that after `history_from`.
    history: VecDeque<Arc<[Event]>>,
    history_from: i64,
}

/// What a key was from `revision` on; no value: it was absent.
#[derive(Clone, Debug)]
struct Version {
    revision: i64,
    value: Option<KeyValue>,
}

impl Mvcc {
    /// An empty store at revision 1, as etcd begins.
    #[must_use]
    pub fn new(cluster_id: u64) -> Self {
        Mvcc {
            cluster_id,
            revision: 1,
            keys: BTreeMap::new(),
            history: VecDeque::new(),
            history_from: 1,
        }
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The header of an answer given at `revision`, by a member that does not say who it is.
    #[must_use]
    pub fn header(&self, revision: i64) -> Header {
        Header {
            cluster_id: self.cluster_id,
            member_id: 0,
            raft_term: 0,
            revision: Revision(revision),
        }
    }

    /// Restored from a backup, into a cluster with this id: the past is gone, and the revision is
    /// raised by `raise`, which keys do not notice.
    pub fn restored(&mut self, cluster_id: u64, raise: i64) {
        self.forget(self.revision);
        self.cluster_id = cluster_id;
        self.revision += raise;
        self.history.clear();
        self.history_from = self.revision;
    }

    /// Carries out a transaction at the newest revision.
    pub fn apply(&mut self, txn: &Txn) -> TxnResponse {
        let (now, next) = (self.header(self.revision), Revision(self.revision + 1));
        let (response, events) = super::apply(&mut Newest(&mut self.keys), txn, now, next);
        if !events.is_empty() {
            self.revision = next.0;
            self.history.push_back(events.into());
        }
        response
    }

    /// Carries out a transaction that only reads, as of a revision.
    #[must_use]
    pub fn read(&self, txn: &Txn, revision: i64) -> TxnResponse {
        super::read(&AsOf { keys: &self.keys, revision }, txn, self.header(revision))
    }

    /// All keys under `prefix` as of a revision.
    #[must_use]
    pub fn snapshot(&self, prefix: &str, revision: i64) -> Snapshot {
        let kvs = self
            .keys
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(_, versions)| as_of(versions, revision));
        Snapshot { header: self.header(revision), kvs: kvs.cloned().collect() }
    }

    /// The newest value of `key`.
    #[must_use]
    pub fn newest(&self, key: &str) -> Option<&KeyValue> {
        as_of(self.keys.get(key)?, self.revision)
    }

    /// What happened at one revision; nothing when that is compacted, or has not been yet.
    #[must_use]
    pub fn events(&self, revision: i64) -> Option<&Arc<[Event]>> {
        let index = revision - self.history_from - 1;
        self.history.get(usize::try_from(index).ok()?)
    }

    /// Forgets what happened up to `revision`: a watch that has yet to tell of it cannot.
    pub fn compact(&mut self, revision: i64) {
        while self.history_from < revision && self.history.pop_front().is_some() {
            self.history_from += 1;
        }
    }

    /// Forgets versions that nobody reads any more: those before the one at `revision`.
    pub fn forget(&mut self, revision: i64) {
        self.keys.retain(|_, versions| {
            let newer = versions.partition_point(|version| version.revision <= revision);
            versions.drain(..newer.saturating_sub(1));
            versions.len() > 1 || versions[0].value.is_some() || versions[0].revision > revision
        });
    }
}

fn as_of(versions: &[Version], revision: i64) -> Option<&KeyValue> {
    versions.iter().rev().find(|version| version.revision <= revision)?.value.as_ref()
}

/// The keys as they were at a revision.
struct AsOf<'a> {
    keys: &'a BTreeMap<String, Vec<Version>>,
    revision: i64,
}

impl Lookup for AsOf<'_> {
    fn get(&self, key: &str) -> Option<&KeyValue> {
        as_of(self.keys.get(key)?, self.revision)
    }
}

/// The keys as they are, to be written.
struct Newest<'a>(&'a mut BTreeMap<String, Vec<Version>>);

impl Lookup for Newest<'_> {
    fn get(&self, key: &str) -> Option<&KeyValue> {
        self.0.get(key)?.last()?.value.as_ref()
    }
}

impl Newest<'_> {
    fn push(&mut self, key: &str, version: Version) {
        match self.0.get_mut(key) {
            Some(versions) => versions.push(version),
            None => drop(self.0.insert(key.to_owned(), vec![version])),
        }
    }
}

impl Keyspace for Newest<'_> {
    fn put(&mut self, kv: KeyValue) {
        let (key, revision) = (kv.key.clone(), kv.mod_revision.0);
        self.push(&key, Version { revision, value: Some(kv) });
    }

    fn delete(&mut self, key: &str, revision: Revision) {
        self.push(key, Version { revision: revision.0, value: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Op;

    fn put(store: &mut Mvcc, key: &str, value: &str) -> i64 {
        let (key, value) = (key.to_owned(), value.as_bytes().to_vec());
        let txn = Txn { success: vec![Op::Put { key, value }], ..Txn::default() };
        store.apply(&txn).header.revision.0
    }

    fn delete(store: &mut Mvcc, key: &str) -> i64 {
        let txn = Txn { success: vec![Op::Delete { key: key.to_owned() }], ..Txn::default() };
        store.apply(&txn).header.revision.0
    }

    #[test]
    fn the_past_can_be_read_until_it_is_forgotten() {
        let mut store = Mvcc::new(7);
        let first = put(&mut store, "a", "1");
        let second = put(&mut store, "a", "2");
        let gone = delete(&mut store, "a");
        let at = |store: &Mvcc, revision| {
            let kvs = store.snapshot("", revision).kvs;
            kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
        };
        assert_eq!(at(&store, first).as_deref(), Some("1"));
        assert_eq!(at(&store, second).as_deref(), Some("2"));
        assert_eq!(at(&store, gone), None);
        store.forget(second);
        assert_eq!(at(&store, first), None);
        assert_eq!(at(&store, second).as_deref(), Some("2"));
        store.forget(gone);
        assert!(store.keys.is_empty(), "of a key that is gone nothing is kept");
    }

    #[test]
    fn what_happened_is_told_until_it_is_compacted() {
        let mut store = Mvcc::new(7);
        let first = put(&mut store, "a", "1");
        let second = put(&mut store, "a", "2");
        assert!(store.events(first).is_some());
        assert!(store.events(second + 1).is_none());
        store.compact(first);
        assert!(store.events(first).is_none());
        assert!(store.events(second).is_some());
    }
}
