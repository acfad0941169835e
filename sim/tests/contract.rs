//! The contract of the store's seam, kept by the interpreter of transactions alone: what the
//! exhaustive search and core's tests are played on, with nothing of a cluster around it.

#![allow(missing_docs, reason = "the tests' names say it")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use turnip::seams::{Clock, Store};
use turnip::store_contract::{CLAUSES, Subject, check};
use turnip_core::model::{self, Mvcc};
use turnip_core::{
    Event, Events, ForeignKey, Header, Instant, KeyValue, MemberStatus, Revision, Snapshot,
    StoreError, Txn, TxnResponse, Update,
};

/// What keeps keys, and what has happened to them.
trait Kept {
    fn apply(&mut self, txn: &Txn) -> TxnResponse;
    fn snapshot(&self, prefix: &str) -> Snapshot;
    fn events(&self, revision: i64) -> Option<Vec<Event>>;
}

impl Kept for Mvcc {
    fn apply(&mut self, txn: &Txn) -> TxnResponse {
        Mvcc::apply(self, txn)
    }

    fn snapshot(&self, prefix: &str) -> Snapshot {
        Mvcc::snapshot(self, prefix, self.revision())
    }

    fn events(&self, revision: i64) -> Option<Vec<Event>> {
        Some(Mvcc::events(self, revision)?.to_vec())
    }
}

/// The newest values only, as the exhaustive search has them, and beside them a history.
struct Newest {
    kvs: BTreeMap<String, KeyValue>,
    now: Header,
    history: Vec<Vec<Event>>,
}

impl Kept for Newest {
    fn apply(&mut self, txn: &Txn) -> TxnResponse {
        let next = Revision(self.now.revision.0 + 1);
        let (response, events) = model::apply(&mut self.kvs, txn, self.now, next);
        self.now = response.header;
        self.history.extend(Some(events).filter(|events| !events.is_empty()));
        response
    }

    fn snapshot(&self, prefix: &str) -> Snapshot {
        let inside = self.kvs.values().filter(|kv| kv.key.starts_with(prefix));
        Snapshot { header: self.now, kvs: inside.cloned().collect() }
    }

    fn events(&self, revision: i64) -> Option<Vec<Event>> {
        self.history.get(usize::try_from(revision - 2).ok()?).cloned()
    }
}

/// A store without a network: everything is answered at once.
struct Bare<K>(Rc<RefCell<K>>);

impl<K: Kept> Store for Bare<K> {
    fn follow(&self, prefix: String, _: bool) -> impl Stream<Item = Result<Update, StoreError>> {
        stream::unfold(None, move |told: Option<Revision>| {
            let (kept, prefix) = (Rc::clone(&self.0), prefix.clone());
            async move {
                let Some(told) = told else {
                    let snapshot = kept.borrow().snapshot(&prefix);
                    let at = snapshot.header.revision;
                    return Some((Ok(Update::Snapshot(snapshot)), Some(at)));
                };
                loop {
                    let next = Revision(told.0 + 1);
                    let Some(events) = kept.borrow().events(next.0) else {
                        next_round().await;
                        continue;
                    };
                    let header = Header { revision: next, ..kept.borrow().snapshot("").header };
                    let inside = |event: &Event| event.key().starts_with(&prefix);
                    let events = events.into_iter().filter(inside).collect();
                    return Some((Ok(Update::Events(Events { header, events })), Some(next)));
                }
            }
        })
    }

    fn follow_keys(&self, keys: BTreeSet<String>) -> impl Stream<Item = ForeignKey> {
        let one = |key: String| {
            let prefix = key.clone();
            Box::pin(self.follow(prefix, false).filter_map(move |update| {
                let state = match update.expect("a store without troubles") {
                    Update::Snapshot(snapshot) => {
                        let kv = snapshot.kvs.into_iter().find(|kv| kv.key == key);
                        Some((kv, snapshot.header.revision))
                    }
                    Update::Events(batch) => {
                        batch.events.into_iter().find(|event| event.key() == key).map(|event| {
                            match event {
                                Event::Put(kv) => {
                                    let at = kv.mod_revision;
                                    (Some(kv), at)
                                }
                                Event::Delete { revision, .. } => (None, revision),
                            }
                        })
                    }
                };
                std::future::ready(state.map(|it| ForeignKey { key: key.clone(), state: Ok(it) }))
            }))
        };
        stream::select_all(keys.into_iter().map(one))
    }

    async fn commit(&self, txn: Txn, _: Duration) -> Result<TxnResponse, StoreError> {
        model::check(&txn)?;
        // So that those who write at once take turns.
        next_round().await;
        Ok(self.0.borrow_mut().apply(&txn))
    }

    async fn member_status(&self, _: Duration) -> Result<MemberStatus, StoreError> {
        Ok(MemberStatus { member_id: 1, is_leader: true, term: 1 })
    }
}

/// Lets all others go on first.
async fn next_round() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

/// Time that goes on whenever somebody looks.
struct Looks(Cell<u64>);

impl Clock for Looks {
    fn now(&self) -> Instant {
        self.0.set(self.0.get() + 1);
        Instant::from_nanos(self.0.get())
    }

    async fn sleep_until(&self, _: Instant) {
        std::future::pending().await
    }

    fn unix_ms(&self) -> u64 {
        0
    }
}

fn keeps_the_contract(kept: impl Kept) {
    let kept = Rc::new(RefCell::new(kept));
    let stores = [Bare(Rc::clone(&kept)), Bare(kept)];
    let clock = Looks(Cell::new(0));
    for clause in CLAUSES {
        println!("{clause}");
        let (prefix, patience) = ("/contract/".to_owned(), Duration::from_secs(1));
        let subject = Subject { stores: &stores, clock: &clock, prefix, patience };
        // Nobody waits for anything but for others: whoever is asked again goes on.
        let mut clause = pin!(check(clause, &subject));
        let mut cx = Context::from_waker(Waker::noop());
        while clause.as_mut().poll(&mut cx).is_pending() {}
    }
}

#[test]
fn every_version_of_every_key_keeps_the_contract_of_the_store() {
    keeps_the_contract(Mvcc::new(7));
}

#[test]
fn the_newest_values_alone_keep_the_contract_of_the_store() {
    let now = Header { cluster_id: 7, member_id: 1, raft_term: 1, revision: Revision(1) };
    keeps_the_contract(Newest { kvs: BTreeMap::new(), now, history: Vec::new() });
}
