//! A cluster as a command sees it: read once, observed for a moment, perhaps written to.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::LocalBoxStream;
use tokio::sync::mpsc::UnboundedSender;
use turnip::config::Reach;
use turnip::etcd::Etcd;
use turnip::etcd::certificates::CertificateEnd;
use turnip::seams::Store;
use turnip_core::records::{NodeRecord, SessionRecord, decode};
use turnip_core::{
    ClusterName, Event, Events, KeyKind, KeyValue, Keys, Lease, NodeName, Op, Revision, Snapshot,
    StoreError, Txn, TxnResponse, Update,
};

use super::overview::{Overview, WhatIf};
use super::vouching::Asked;

/// How long etcd may take to answer a command, all endpoints together.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// When another endpoint is followed after one that failed.
const FOLLOW_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Somebody who waits for longer is told what for.
const TELL_AFTER: Duration = Duration::from_millis(1_500);

/// For how long a session of that lease has to be listened for until it is certain that it is silent beyond
/// it: hosts that hear each other write once in a lease, and a write takes a while.
pub fn beyond(lease: Duration) -> Duration {
    // A lease that nobody can configure is no reason to listen for ever.
    let lease = lease.min(Lease::DURATION_MAX);
    lease + lease / 8 + Duration::from_millis(250)
}

/// Why etcd did not answer, with the endpoints if the reason names none.
pub fn unanswered(error: &StoreError, reach: &Reach) -> String {
    let (why, endpoints) = (error.to_string(), &reach.etcd.endpoints);
    match endpoints.iter().any(|endpoint| why.contains(endpoint.as_str())) {
        true => why,
        false => format!("{why} ({})", endpoints.join(", ")),
    }
}

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
    name: ClusterName,
    endpoints: Vec<String>,
    store: Etcd,
}

type Updates<'a> = LocalBoxStream<'a, Result<Update, StoreError>>;

/// What was read and seen.
pub struct ClusterState {
    revision: Revision,
    kvs: BTreeMap<String, KeyValue>,
    /// When each node's session was last seen written, while observing.
    renewals: BTreeMap<NodeName, Instant>,
    /// Nodes that are known to be alive otherwise.
    vouched: BTreeSet<NodeName>,
    observed_for: Duration,
}

impl Cluster {
    /// The cluster that the configuration names.
    ///
    /// # Errors
    /// When etcd's settings are of no use.
    pub fn new(reach: &Reach) -> Result<Self, String> {
        let store = Etcd::new(&reach.etcd).map_err(|error| error.to_string())?;
        let (name, endpoints) = (reach.cluster.clone(), reach.etcd.endpoints.clone());
        Ok(Cluster { keys: Keys::new(&reach.cluster), name, endpoints, store })
    }

    /// When the certificates end by which etcd is reached.
    pub fn certificate_ends(&self) -> Vec<CertificateEnd> {
        self.store.certificate_ends()
    }

    /// Reads every key, then observes until each session was seen renewed, or for as long as `patience` has
    /// with its lease.
    ///
    /// # Errors
    /// When etcd does not answer in time, with the last reason; or when it refuses.
    pub async fn observe(
        &self,
        patience: impl Fn(Duration) -> Duration,
    ) -> Result<ClusterState, StoreError> {
        let mut last = StoreError::Unavailable(format!("no answer within {ANSWER_WITHIN:?}"));
        let reading = async {
            let mut elsewhere = false;
            loop {
                match self.read(elsewhere).await {
                    Err(error @ StoreError::Unavailable(_)) => last = error,
                    answer => return answer,
                }
                elsewhere = true;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        // What follows takes as long as leases are.
        let read = tokio::time::timeout(ANSWER_WITHIN, reading).await;
        let (mut state, updates) = read.map_err(|_| last)??;
        self.listen(&mut state, updates, patience).await;
        Ok(state)
    }

    async fn read(&self, elsewhere: bool) -> Result<(ClusterState, Updates<'_>), StoreError> {
        // So that all begins at an endpoint that answers, also what is written later.
        self.store.snapshot(self.keys.prefix()).await?;
        let updates = self.store.follow(self.keys.prefix().to_owned(), elsewhere);
        let mut updates = updates.boxed_local();
        let ended = || StoreError::Unavailable("the answer ended before it began".into());
        match updates.next().await.ok_or_else(ended)?? {
            Update::Snapshot(snapshot) => Ok((ClusterState::new(snapshot), updates)),
            Update::Events(_) => Err(ended()),
        }
    }

    /// Listens until every session was heard, or for so long that it must have been.
    async fn listen(
        &self,
        state: &mut ClusterState,
        mut updates: Updates<'_>,
        patience: impl Fn(Duration) -> Duration,
    ) {
        let began = Instant::now();
        if state.left(&self.keys, &patience).is_none() {
            return;
        }
        let asked = Asked::of(&self.keys, state.kvs.values());
        let mut probing = Box::pin(asked.alive_now(self.name.clone()));
        let (mut probed, mut told) = (false, false);
        while let Some(left) = state.left(&self.keys, &patience) {
            let until = began + left;
            let Some(wait) = until.checked_duration_since(Instant::now()) else { break };
            if !told && began.elapsed() >= TELL_AFTER {
                told = true;
                state.tell(&self.keys, wait);
            }
            let wait = if told { wait } else { wait.min(TELL_AFTER) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                vouched = &mut probing, if !probed => {
                    probed = true;
                    // An etcd that takes no writes says nothing of who can renew.
                    if !vouched.is_empty() && self.takes_writes().await {
                        state.vouched = vouched;
                    }
                }
                update = updates.next() => match update {
                    Some(Ok(Update::Events(batch))) => {
                        state.take(&self.keys, batch);
                    }
                    Some(Ok(Update::Snapshot(snapshot))) => *state = ClusterState::new(snapshot),
                    // What was read is valid. That a session is silent does not show any more.
                    Some(Err(_)) | None => break,
                }
            }
        }
        state.observed_for = began.elapsed();
    }

    /// Whether no member has an alarm; who does not say has none.
    async fn takes_writes(&self) -> bool {
        for url in &self.endpoints {
            if let Ok(status) = self.store.endpoint_status(url, Duration::from_secs(1)).await {
                return status.alarms.is_empty();
            }
        }
        true
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
            vouched: BTreeSet::new(),
            observed_for: Duration::ZERO,
        }
    }

    /// The longest lease that a session declares.
    pub fn lease_longest(&self, keys: &Keys) -> Duration {
        let records =
            self.sessions(keys).filter_map(|(_, kv)| decode::<SessionRecord>(&kv.value).ok());
        records.map(|record| record.lease()).max().unwrap_or_default()
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

    /// The sessions, as they are in etcd.
    pub fn sessions<'a>(
        &'a self,
        keys: &'a Keys,
    ) -> impl Iterator<Item = (NodeName, &'a KeyValue)> {
        self.kvs.values().filter_map(|kv| match keys.kind(&kv.key) {
            KeyKind::Session(node) => Some((node, kv)),
            _ => None,
        })
    }

    /// The leases of those of which nothing was heard.
    fn unheard<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = (NodeName, Duration)> {
        let is_unheard = |(node, _): &(NodeName, &KeyValue)| {
            !self.renewals.contains_key(node) && !self.vouched.contains(node)
        };
        let lease = |(node, kv): (NodeName, &KeyValue)| {
            Some((node, decode::<SessionRecord>(&kv.value).ok()?.lease()))
        };
        self.sessions(keys).filter(is_unheard).filter_map(lease)
    }

    /// Those that have been silent beyond their lease, also since they were heard.
    fn silent<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = NodeName> + 'a {
        self.sessions(keys).filter_map(|(node, kv)| {
            let lease = decode::<SessionRecord>(&kv.value).ok()?.lease();
            let silence = self.renewals.get(&node).map_or(self.observed_for, Instant::elapsed);
            (silence >= beyond(lease) && !self.vouched.contains(&node)).then_some(node)
        })
    }

    /// For how long, since it began, there is something to listen for.
    fn left(&self, keys: &Keys, patience: impl Fn(Duration) -> Duration) -> Option<Duration> {
        let waits = self.unheard(keys).map(|(_, lease)| patience(lease));
        waits.max().filter(|longest| !longest.is_zero())
    }

    /// Tells somebody at a terminal what is waited for.
    fn tell(&self, keys: &Keys, wait: Duration) {
        if std::io::stderr().is_terminal() {
            let nodes: Vec<String> = self.unheard(keys).map(|(node, _)| node.to_string()).collect();
            let (nodes, secs) = (nodes.join(", "), wait.as_secs_f64());
            eprintln!("nothing was heard yet of {nodes}: listening for up to {secs:.0} s more");
        }
    }

    /// What the nodes have published, as far as it can be read.
    pub fn nodes<'a>(
        &'a self,
        keys: &'a Keys,
    ) -> impl Iterator<Item = (NodeName, NodeRecord)> + 'a {
        self.kvs.values().filter_map(|kv| match keys.kind(&kv.key) {
            KeyKind::Node(node) => Some((node, decode(&kv.value).ok()?)),
            _ => None,
        })
    }

    /// Whether the node's session was written while observing.
    pub fn heard(&self, node: &NodeName) -> bool {
        self.renewals.contains_key(node)
    }

    /// These nodes are known to be alive, and to hold what is theirs.
    pub fn vouch_for(&mut self, nodes: impl IntoIterator<Item = NodeName>) {
        self.vouched.extend(nodes);
    }

    /// Puts together what was read and seen.
    pub fn overview(&self, keys: &Keys, what_if: &WhatIf) -> Overview {
        let what_if = WhatIf {
            silent: self.silent(keys).collect(),
            drained: what_if.drained.clone(),
            down: what_if.down.clone(),
            pinned: what_if.pinned.clone(),
        };
        let mut overview = Overview::new(keys, self.revision, self.kvs.values(), &what_if);
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
