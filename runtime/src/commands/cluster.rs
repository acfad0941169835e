//! A cluster as a command sees it: read once, observed for a moment, perhaps written to.

mod state;

use std::future::Future;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::LocalBoxStream;
use tokio::sync::mpsc::UnboundedSender;
use turnip::config::Reach;
use turnip::etcd::Etcd;
use turnip::etcd::certificates::CertificateEnd;
use turnip::seams::Store;
use turnip_core::{
    ClusterName, Keys, Lease, NodeName, Op, Snapshot, StoreError, Txn, TxnResponse, Update,
};

use super::local;
use super::run::runtime_directory;
use super::vouching;

pub use state::ClusterState;

/// How long etcd may take to answer a command, all endpoints together.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often somebody who follows the cluster asks whether etcd is still there.
pub const ASK_EVERY: Duration = Duration::from_secs(1);
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

/// What etcd says of the sessions.
pub struct Asked {
    /// When it was asked.
    pub at: Instant,
    /// Its answer.
    pub sessions: Result<Snapshot, StoreError>,
    /// Nodes that the daemon of this host knows to hold on, though etcd hears nothing of them.
    pub holding_on: Vec<NodeName>,
}

type Updates<'a> = LocalBoxStream<'a, Result<Update, StoreError>>;

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
        self.listen(&mut state, updates, patience).await?;
        Ok(state)
    }

    async fn read(&self, elsewhere: bool) -> Result<(ClusterState, Updates<'_>), StoreError> {
        // So that all begins at an endpoint that answers, also what is written later.
        self.store.snapshot(self.keys.prefix()).await?;
        let updates = self.store.follow(self.keys.prefix().to_owned(), elsewhere);
        let mut updates = updates.boxed_local();
        let ended = || StoreError::Unavailable("the answer ended before it began".into());
        match updates.next().await.ok_or_else(ended)?? {
            Update::Snapshot(snapshot) => {
                Ok((ClusterState::new(snapshot, Instant::now()), updates))
            }
            Update::Events(_) => Err(ended()),
        }
    }

    /// Listens until every session was heard, or for so long that it must have been, if etcd was there all
    /// the time.
    async fn listen(
        &self,
        state: &mut ClusterState,
        mut updates: Updates<'_>,
        patience: impl Fn(Duration) -> Duration,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        if state.left(&self.keys, &patience).is_none() {
            return Ok(());
        }
        let asked = vouching::Asked::of(&self.keys, state.kvs());
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
                        state.vouch_for_only(vouched);
                    }
                }
                update = updates.next() => match update {
                    Some(Ok(Update::Events(batch))) => {
                        state.take(&self.keys, batch, Instant::now());
                    }
                    Some(Ok(Update::Snapshot(snapshot))) => {
                        state.take_snapshot(&self.keys, snapshot, Instant::now());
                    }
                    // What was read is valid. That a session is silent does not show any more.
                    Some(Err(_)) | None => break,
                }
            }
        }
        if state.unheard(&self.keys).next().is_none() {
            state.is_known_until(&self.keys, Instant::now());
            return Ok(());
        }
        // A node is silent only if etcd would have told of it.
        let (asked, sessions) = self.sessions().await;
        state.take_sessions(&self.keys, sessions?, asked);
        Ok(())
    }

    /// The sessions as they are now, and when they were asked for.
    async fn sessions(&self) -> (Instant, Result<Snapshot, StoreError>) {
        (Instant::now(), self.store.snapshot(&self.keys.sessions()).await)
    }

    /// Asks for the sessions again and again, for as long as somebody listens; that etcd is silent shows
    /// only so.
    pub async fn ask_again(&self, told: UnboundedSender<Asked>) {
        loop {
            let (at, sessions) = self.sessions().await;
            let name = self.name.clone();
            let here = move || local::ask(&runtime_directory(), &name);
            let local = tokio::task::spawn_blocking(here).await.ok().flatten();
            let holding_on = local.map(|local| local.holding_by_consent()).unwrap_or_default();
            if told.send(Asked { at, sessions, holding_on }).is_err() {
                return;
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
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
