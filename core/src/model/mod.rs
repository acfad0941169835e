//! What etcd does with a transaction, in memory: the one interpreter of [`Txn`] for everything that
//! is tested without etcd. Only with the feature `model`.
//!
//! This crate's tests, the simulator and its exhaustive search all carry transactions out here, and
//! the store's contract is checked on it as it is on real etcd. They differ in what they keep:
//! [`Mvcc`] has every version of every key and the history that watches are fed from; a
//! [`BTreeMap`] has the newest values only, so that it can be compared, hashed and copied.

use std::collections::BTreeMap;

use crate::name::Revision;
use crate::store::{
    Compare, Event, Header, KeyValue, OPS_PER_TXN_MAX, Op, StoreError, Txn, TxnResponse,
};

mod mvcc;

pub use mvcc::Mvcc;

/// What the keys are as of some revision.
pub trait Lookup {
    /// The key, unless it is absent.
    fn get(&self, key: &str) -> Option<&KeyValue>;
}

/// Keys that can be written: their newest values.
pub trait Keyspace: Lookup {
    /// Keeps `kv` instead of what its key was before.
    fn put(&mut self, kv: KeyValue);

    /// Removes a key, which is there, at `revision`.
    fn delete(&mut self, key: &str, revision: Revision);
}

impl Lookup for BTreeMap<String, KeyValue> {
    fn get(&self, key: &str) -> Option<&KeyValue> {
        BTreeMap::get(self, key)
    }
}

impl Keyspace for BTreeMap<String, KeyValue> {
    fn put(&mut self, kv: KeyValue) {
        self.insert(kv.key.clone(), kv);
    }

    fn delete(&mut self, key: &str, _: Revision) {
        self.remove(key);
    }
}

/// Whether etcd would take the transaction at all.
///
/// # Errors
/// What it answers if not.
pub fn check(txn: &Txn) -> Result<(), StoreError> {
    let refuse = |why: &str| Err(StoreError::Refused(why.to_owned()));
    if txn.is_idle() {
        return refuse("a transaction without operations");
    }
    let most = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
    if most > OPS_PER_TXN_MAX {
        return refuse("too many operations in txn request");
    }
    for branch in [&txn.success, &txn.failure] {
        let mut written: Vec<&str> = branch.iter().filter_map(written_key).collect();
        written.sort_unstable();
        if written.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse("duplicate key given in txn request");
        }
    }
    Ok(())
}

fn written_key(op: &Op) -> Option<&str> {
    match op {
        Op::Put { key, .. } | Op::Delete { key } => Some(key),
        Op::Get { .. } => None,
    }
}

/// Whether a transaction only reads, so that etcd makes no entry of its log for it.
#[must_use]
pub fn reads_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| matches!(op, Op::Get { .. }))
}

/// Whether a compare holds.
#[must_use]
pub fn holds(keys: &impl Lookup, compare: &Compare) -> bool {
    let revision = |key: &str, of: fn(&KeyValue) -> Revision| keys.get(key).map_or(Revision(0), of);
    match compare {
        Compare::ModRevision { key, is } => revision(key, |kv| kv.mod_revision) == *is,
        Compare::CreateRevision { key, is } => revision(key, |kv| kv.create_revision) == *is,
        Compare::CreateRevisionNot { key, is_not } => {
            revision(key, |kv| kv.create_revision) != *is_not
        }
    }
}

/// Whether all compares of a transaction hold.
#[must_use]
pub fn would_succeed(keys: &impl Lookup, txn: &Txn) -> bool {
    txn.compares.iter().all(|compare| holds(keys, compare))
}

/// Answers a transaction that only reads; `now` has the revision that `keys` are of.
///
/// # Panics
/// When it writes.
#[must_use]
pub fn read(keys: &impl Lookup, txn: &Txn, now: Header) -> TxnResponse {
    let succeeded = would_succeed(keys, txn);
    let branch = if succeeded { &txn.success } else { &txn.failure };
    let gets = branch.iter().map(|op| match op {
        Op::Get { key } => keys.get(key).cloned(),
        Op::Put { .. } | Op::Delete { .. } => panic!("{op:?} does not only read"),
    });
    TxnResponse { header: now, succeeded, gets: gets.collect() }
}

/// Carries a transaction out on `keys`, which are as of the revision of `now`. Its writes, if there
/// are any, all take place at revision `next`. Returns the answer, and what watches have to tell.
pub fn apply(
    keys: &mut impl Keyspace,
    txn: &Txn,
    now: Header,
    next: Revision,
) -> (TxnResponse, Vec<Event>) {
    let succeeded = would_succeed(keys, txn);
    let mut gets = Vec::new();
    let mut events = Vec::new();
    for op in if succeeded { &txn.success } else { &txn.failure } {
        match op {
            Op::Put { key, value } => {
                let created = keys.get(key).map_or(next, |kv| kv.create_revision);
                let kv = KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision: created,
                    mod_revision: next,
                };
                keys.put(kv.clone());
                events.push(Event::Put(kv));
            }
            Op::Delete { key } => {
                if keys.get(key).is_some() {
                    keys.delete(key, next);
                    events.push(Event::Delete { key: key.clone(), revision: next });
                }
            }
            Op::Get { key } => gets.push(keys.get(key).cloned()),
        }
    }
    let revision = if events.is_empty() { now.revision } else { next };
    (TxnResponse { header: Header { revision, ..now }, succeeded, gets }, events)
}
