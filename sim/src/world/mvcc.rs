//! The key-value store that etcd's members replicate: revisions, compares, history.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use turnip_core::{
    Compare, Event, Header, KeyValue, OPS_PER_TXN_MAX, Op, Revision, Snapshot, StoreError, Txn,
    TxnResponse,
};

struct Version {
    revision: i64,
    value: Option<Rc<KeyValue>>,
}

/// Every version of every key since the last compaction.
pub struct Mvcc {
    cluster_id: u64,
    revision: i64,
    keys: BTreeMap<String, Vec<Version>>,
    /// One entry a revision, the first being that after `history_from`.
    history: VecDeque<Rc<[Event]>>,
    history_from: i64,
}

impl Mvcc {
    /// An empty store at revision 1, as etcd begins.
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
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether the store would take the transaction at all.
    ///
    /// # Errors
    /// What it answers if not.
    pub fn check(txn: &Txn) -> Result<(), StoreError> {
        if txn.is_idle() {
            return Err(StoreError::Refused("a transaction without operations".into()));
        }
        let most = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
        if most > OPS_PER_TXN_MAX {
            return Err(StoreError::Refused("too many operations in txn request".into()));
        }
        for branch in [&txn.success, &txn.failure] {
            let mut written: Vec<&str> = branch
                .iter()
                .filter_map(|op| match op {
                    Op::Put { key, .. } | Op::Delete { key } => Some(key.as_str()),
                    Op::Get { .. } => None,
                })
                .collect();
            written.sort_unstable();
            if written.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(StoreError::Refused("duplicate key given in txn request".into()));
            }
        }
        Ok(())
    }

    /// Whether a transaction only reads, so that it needs no entry in the log.
    pub fn reads_only(txn: &Txn) -> bool {
        txn.success.iter().chain(&txn.failure).all(|op| matches!(op, Op::Get { .. }))
    }

    /// Carries out a transaction at the newest revision.
    pub fn apply(&mut self, txn: &Txn) -> TxnResponse {
        let succeeded = self.holds(txn, self.revision);
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let next = self.revision + 1;
        let mut events = Vec::new();
        let mut gets = Vec::new();
        for op in branch {
            match op {
                Op::Put { key, value } => events.push(self.put(key, value, next)),
                Op::Delete { key } => events.extend(self.delete(key, next)),
                Op::Get { key } => gets.push(self.get(key, next).map(|kv| (**kv).clone())),
            }
        }
        if !events.is_empty() {
            self.revision = next;
            self.history.push_back(events.into());
        }
        TxnResponse { header: self.header(self.revision), succeeded, gets }
    }

    /// Carries out a transaction that only reads, as of a revision.
    pub fn read(&self, txn: &Txn, revision: i64) -> TxnResponse {
        let succeeded = self.holds(txn, revision);
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let gets = branch.iter().map(|op| match op {
            Op::Get { key } => self.get(key, revision).map(|kv| (**kv).clone()),
            Op::Put { .. } | Op::Delete { .. } => unreachable!("only reads come here"),
        });
        TxnResponse { header: self.header(revision), succeeded, gets: gets.collect() }
    }

    /// All keys under `prefix` as of a revision.
    pub fn snapshot(&self, prefix: &str, revision: i64) -> Snapshot {
        let kvs = self
            .keys
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(_, versions)| Self::as_of(versions, revision))
            .map(|kv| KeyValue::clone(kv));
        Snapshot { header: self.header(revision), kvs: kvs.collect() }
    }

    /// What happened at one revision; nothing when that is compacted.
    pub fn events(&self, revision: i64) -> Option<&Rc<[Event]>> {
        let index = revision - self.history_from - 1;
        self.history.get(usize::try_from(index).ok()?)
    }

    /// Forgets all history up to `revision`.
    pub fn compact(&mut self, revision: i64) {
        while self.history_from < revision && self.history.pop_front().is_some() {
            self.history_from += 1;
        }
    }

    /// Forgets versions that nobody can read any more: those before the one at `revision`.
    pub fn forget(&mut self, revision: i64) {
        for versions in self.keys.values_mut() {
            let newer = versions.partition_point(|version| version.revision <= revision);
            versions.drain(..newer.saturating_sub(1));
        }
    }

    /// The header of an answer given at `revision`.
    pub fn header(&self, revision: i64) -> Header {
        Header { cluster_id: self.cluster_id, revision: Revision(revision) }
    }

    /// The newest value of `key`.
    pub fn newest(&self, key: &str) -> Option<&KeyValue> {
        self.get(key, self.revision).map(|kv| &**kv)
    }

    fn holds(&self, txn: &Txn, revision: i64) -> bool {
        txn.compares.iter().all(|compare| match compare {
            Compare::ModRevision { key, is } => {
                self.get(key, revision).map_or(Revision(0), |kv| kv.mod_revision) == *is
            }
            Compare::CreateRevision { key, is } => self.created(key, revision) == *is,
            Compare::CreateRevisionNot { key, is_not } => self.created(key, revision) != *is_not,
        })
    }

    fn created(&self, key: &str, revision: i64) -> Revision {
        self.get(key, revision).map_or(Revision(0), |kv| kv.create_revision)
    }

    fn get(&self, key: &str, revision: i64) -> Option<&Rc<KeyValue>> {
        Self::as_of(self.keys.get(key)?, revision)
    }

    fn as_of(versions: &[Version], revision: i64) -> Option<&Rc<KeyValue>> {
        versions.iter().rev().find(|version| version.revision <= revision)?.value.as_ref()
    }

    fn put(&mut self, key: &str, value: &[u8], revision: i64) -> Event {
        if !self.keys.contains_key(key) {
            self.keys.insert(key.to_owned(), Vec::new());
        }
        let versions = self.keys.get_mut(key).expect("just inserted");
        let before = versions.last().and_then(|version| version.value.as_ref());
        let kv = KeyValue {
            key: key.to_owned(),
            value: value.to_vec(),
            create_revision: before.map_or(Revision(revision), |kv| kv.create_revision),
            mod_revision: Revision(revision),
        };
        versions.push(Version { revision, value: Some(Rc::new(kv.clone())) });
        Event::Put(kv)
    }

    fn delete(&mut self, key: &str, revision: i64) -> Option<Event> {
        let versions = self.keys.get_mut(key)?;
        versions.last()?.value.as_ref()?;
        versions.push(Version { revision, value: None });
        Some(Event::Delete { key: key.to_owned(), revision: Revision(revision) })
    }
}
