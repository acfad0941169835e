//! A cluster as a command sees it: read once, observed for a moment, perhaps written to.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::sync::mpsc::UnboundedSender;
use turnip::config::Reach;
use turnip::etcd::Etcd;
use turnip::etcd::certificates::CertificateEnd;
use turnip::seams::Store;
use turnip_core::records::{SessionRecord, decode};
use turnip_core::{
    Event, Events, KeyKind, KeyValue, Keys, NodeName, Op, Revision, Snapshot, StoreError, Txn,
    TxnResponse, Update,
};

use super::overview::{Overview, WhatIf};

/// How long etcd may take to answer a command, all endpoints together.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// When another endpoint is followed after one that failed.
const FOLLOW_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Runs a command's asynchronous part.
///
/// # Errors
/// When there is no runtime to be had.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    Ok(runtime.block_on(future))
}

/// A cluster.
pub struct Cluster {
    /// Its keys.
    pub keys: Keys,
    store: Etcd,
}

/// What was read and seen.
pub struct ClusterState {
    revision: Revision,
    kvs: BTreeMap<String, KeyValue>,
    /// When each node's session was last seen written, while observing.
    renewals: BTreeMap<NodeName, Instant>,
    observed_for: Duration,
}

impl Cluster {
    /// The cluster that the configuration names.
    ///
    /// # Errors
    /// When etcd's settings are of no use.
    pub fn new(reach: &Reach) -> Result<Self, String> {
        let store = Etcd::new(&reach.etcd).map_err(|error| error.to_string())?;
        Ok(Cluster { keys: Keys::new(&reach.cluster), store })
    }

    /// When the certificates end by which etcd is reached.
    pub fn certificate_ends(&self) -> Vec<CertificateEnd> {
        self.store.certificate_ends()
    }

    /// Reads every key, then observes until each session was seen renewed, or should have been.
    ///
    /// # Errors
    /// When etcd does not answer in time, with the last reason.
    pub async fn observe(
        &self,
        patience: impl Fn(Duration) -> Duration,
    ) -> Result<ClusterState, StoreError> {
        let mut last = StoreError::Unavailable(format!("no answer within {ANSWER_WITHIN:?}"));
        let reading = async {
            let mut elsewhere = false;
            loop {
                match self.read(elsewhere, &patience).await {
                    Ok(state) => return state,
                    Err(error) => last = error,
                }
                elsewhere = true;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let read = tokio::time::timeout(ANSWER_WITHIN + patience(Duration::ZERO), reading).await;
        read.map_err(|_| last)
    }

    async fn read(
        &self,
        elsewhere: bool,
        patience: impl Fn(Duration) -> Duration,
    ) -> Result<ClusterState, StoreError> {
        // So that all begins at an endpoint that answers, also what is written later.
        self.store.snapshot(self.keys.prefix()).await?;
        let mut updates = Box::pin(self.store.follow(self.keys.prefix().to_owned(), elsewhere));
        let ended = || StoreError::Unavailable("the answer ended before it began".into());
        let mut state = match updates.next().await.ok_or_else(ended)?? {
            Update::Snapshot(snapshot) => ClusterState::new(snapshot),
            Update::Events(_) => return Err(ended()),
        };
        let began = Instant::now();
        let until = began + patience(state.lease_longest(&self.keys));
        while began.elapsed() < until - began && !state.all_renewed(&self.keys) {
            let left = until.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, updates.next()).await {
                Ok(Some(Ok(Update::Events(batch)))) => {
                    state.take(&self.keys, batch);
                }
                Ok(Some(Ok(Update::Snapshot(snapshot)))) => state = ClusterState::new(snapshot),
                // What was read is valid; a session of which no renewal was seen shows as silent.
                Ok(Some(Err(_)) | None) | Err(_) => break,
            }
        }
        state.observed_for = began.elapsed();
        Ok(state)
    }

    /// Follows the cluster for as long as somebody listens: everything that becomes known, and why
    /// nothing does.
    pub async fn follow(&self, told: UnboundedSender<Result<Update, StoreError>>) {
        for elsewhere in std::iter::once(false).chain(std::iter::repeat(true)) {
            let mut updates = Box::pin(self.store.follow(self.keys.prefix().to_owned(), elsewhere));
            while let Some(update) = updates.next().await {
                if told.send(update).is_err() {
                    return;
                }
            }
            tokio::time::sleep(FOLLOW_AGAIN_AFTER).await;
        }
    }

    /// Writes or deletes one key.
    ///
    /// # Errors
    /// When etcd does not answer, or refuses.
    pub async fn change(&self, op: Op) -> Result<(), StoreError> {
        self.commit(Txn { success: vec![op], ..Txn::default() }).await.map(|_| ())
    }

    /// Carries out a transaction.
    ///
    /// # Errors
    /// When etcd does not answer, or refuses.
    pub async fn commit(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.store.commit(txn, ANSWER_WITHIN).await
    }
}

impl ClusterState {
    /// What a snapshot has.
    pub fn new(snapshot: Snapshot) -> Self {
        ClusterState {
            revision: snapshot.header.revision,
            kvs: snapshot.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect(),
            renewals: BTreeMap::new(),
            observed_for: Duration::ZERO,
        }
    }

    /// What came after that.
    pub fn take(&mut self, keys: &Keys, batch: Events) {
        self.revision = batch.header.revision;
        batch.events.into_iter().for_each(|event| self.apply(keys, event));
    }

    /// It has been observed for so long by now.
    pub fn observed_for(&mut self, time: Duration) {
        self.observed_for = time;
    }

    fn apply(&mut self, keys: &Keys, event: Event) {
        match event {
            Event::Put(kv) => {
                if let KeyKind::Session(node) = keys.kind(&kv.key) {
                    self.renewals.insert(node, Instant::now());
                }
                self.kvs.insert(kv.key.clone(), kv);
            }
            Event::Delete { key, .. } => {
                self.kvs.remove(&key);
            }
        }
    }

    fn sessions<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = (NodeName, &'a KeyValue)> {
        self.kvs.values().filter_map(|kv| match keys.kind(&kv.key) {
            KeyKind::Session(node) => Some((node, kv)),
            _ => None,
        })
    }

    /// The longest lease that a session declares.
    pub fn lease_longest(&self, keys: &Keys) -> Duration {
        let records =
            self.sessions(keys).filter_map(|(_, kv)| decode::<SessionRecord>(&kv.value).ok());
        records.map(|record| record.lease()).max().unwrap_or_default()
    }

    fn all_renewed(&self, keys: &Keys) -> bool {
        self.sessions(keys).all(|(node, _)| self.renewals.contains_key(&node))
    }

    /// Puts together what was read and seen.
    pub fn overview(&self, keys: &Keys, what_if: &WhatIf) -> Overview {
        let mut overview = Overview::new(keys, self.revision, self.kvs.values(), what_if);
        let ago = |at: &Instant| at.elapsed();
        let renewals = self.renewals.iter().map(|(node, at)| (node.clone(), ago(at))).collect();
        overview.set_renewals(&renewals, self.observed_for);
        overview
    }

    /// Everything that was read.
    pub fn kvs(&self) -> impl Iterator<Item = &KeyValue> {
        self.kvs.values()
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.kvs.contains_key(key)
    }

    /// When a key was written last.
    pub fn modified(&self, key: &str) -> Option<Revision> {
        self.kvs.get(key).map(|kv| kv.mod_revision)
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.kvs.get(key).map(|kv| kv.value.as_slice())
    }
}
