//! The store: etcd.
//!
//! The adapter decides nothing: it takes the core's transactions to a member that answers, passes
//! on what a watch brings, and says why when it cannot. What makes it more than a translation:
//!
//! - Each endpoint has a connection of its own, made when it is first needed. A request that cannot
//!   be sent to one endpoint, or gets no answer there, makes later requests begin at another: of
//!   those that failed too, at the one whose failure is the longest ago.
//! - Connecting takes a part of a request's time only, for then another endpoint can still be
//!   asked; it goes on meanwhile. Endpoints to which there is no connection although one was tried
//!   for come last: a host that is dead must not delay what the others wait to answer.
//! - A request is never sent twice when the first one may have been carried out; only the core
//!   knows how to find that out. It is sent again when it certainly was not: no
//!   connection, a member that has no leader, a token that has expired.
//! - A watch claims to be complete no further than is certain.
//! - What lets it in is kept good beside the requests, by [`Etcd::upkeep`]: logins, certificates, the
//!   addresses of names. None of that is waited for longer than a request may take.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error};
use futures::Stream;
use tokio::time::Instant;
use turnip_core::{ForeignKey, MemberStatus, StoreError, Txn, TxnResponse, Update};

use crate::seams::Store;

mod answerer;
pub mod certificates;
mod dial;
mod endpoint;
mod failure;
mod follow;
mod foreign;
pub mod growth;
pub mod inspect;
mod login;
mod metrics;
mod names;
mod own_member;
mod settings;
mod token;
mod translate;
mod trust;
mod upkeep;

pub use answerer::Answerer;
use endpoint::{Answers, Endpoint};
use failure::Failure;
use login::Login;
use names::Names;
use own_member::OwnMember;
pub use settings::{EtcdSettings, Secret, SettingsError, TlsSettings};
use trust::Trust;

/// Waiting for a connection to one endpoint takes this part of a request's time at most.
const CONNECTING_SHARE: u32 = 3;

/// An etcd cluster. Its futures belong in a tokio runtime, of whatever kind.
pub struct Etcd {
    /// Those that take turns, in the order of the configuration.
    endpoints: Vec<Endpoint>,
    /// The member on this host, when it is none of those that take turns.
    apart: Option<Endpoint>,
    /// The URL of the member on this host.
    local: Option<String>,
    /// Whether that is a member.
    own_member: OwnMember,
    names: Names,
    /// Where TLS is spoken.
    trust: Option<Arc<Trust>>,
    /// Where requests begin.
    current: Cell<usize>,
    /// Where the last follower began, and whether it is to be left.
    followed: Cell<Option<usize>>,
    leave_followed: Cell<bool>,
}

impl Etcd {
    /// Checks the settings and reads the certificates. Nothing is connected yet.
    ///
    /// # Errors
    /// When there is no endpoint, when one is no URL, or when a certificate cannot be used.
    pub fn new(settings: &EtcdSettings) -> Result<Self, SettingsError> {
        if settings.endpoints.is_empty() {
            return Err(SettingsError("no etcd endpoint is configured".to_owned()));
        }
        let names = Names::of_system();
        let urls = || settings.endpoints.iter().chain(&settings.local);
        let trust = match urls().any(|url| url.starts_with("https:")) {
            true => Some(Arc::new(Trust::load(&settings.tls)?)),
            false => None,
        };
        let user = settings.user.as_ref();
        let login = user.map(|(name, password)| Login::new("", name, password));
        let endpoint =
            |url: &String| Endpoint::new(url, settings, &names, trust.as_ref(), login.as_ref());
        let endpoints = settings.endpoints.iter().map(endpoint).collect::<Result<Vec<_>, _>>()?;
        let apart = match &settings.local {
            Some(local) if !settings.endpoints.contains(local) => Some(endpoint(local)?),
            _ => None,
        };
        Ok(Etcd {
            endpoints,
            apart,
            local: settings.local.clone(),
            own_member: OwnMember::default(),
            names,
            trust,
            current: Cell::new(0),
            followed: Cell::new(None),
            leave_followed: Cell::new(false),
        })
    }

    /// Takes the last good addresses of the endpoints' names from this file, and keeps them there.
    ///
    /// # Errors
    /// When there is a file and it cannot be read; all else goes on without.
    pub fn keep_names_in(&self, file: PathBuf) -> Result<(), String> {
        self.names.keep_in(file)
    }

    fn endpoint(&self, url: &str) -> Option<&Endpoint> {
        self.endpoints.iter().chain(&self.apart).find(|endpoint| endpoint.url() == url)
    }

    /// Asks the endpoints in turn, until one may have carried out the request.
    async fn ask<T>(
        &self,
        timeout: Duration,
        request: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + timeout;
        let mut failures = Vec::new();
        let mut in_turn = self.in_turn().into_iter();
        while let Some(index) = in_turn.next() {
            let endpoint = &self.endpoints[index];
            let connected_by = deadline.min(Instant::now() + timeout / CONNECTING_SHARE);
            // Nobody is asked after the last one, which so has all that is left for the login.
            let let_in_by = if in_turn.len() == 0 { deadline } else { connected_by };
            let answer = match endpoint.ready(connected_by, let_in_by).await {
                Ok(()) => endpoint.ask(Answers::WithLeader, deadline, &request).await,
                Err(failure) => Err(failure),
            };
            match answer {
                Ok(answer) => {
                    self.current.set(index);
                    return Ok(answer);
                }
                Err(Failure::Refused(why)) => return Err(StoreError::Refused(why)),
                Err(Failure::Unknown(why)) => {
                    self.leave(index);
                    failures.push(why);
                    break;
                }
                Err(Failure::NotSent(why)) => {
                    // A member that answers that it has no leader is no worse than others.
                    if endpoint.is_unreachable() {
                        self.leave(index);
                    }
                    failures.push(why);
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(StoreError::Unavailable(failures.join("; ")))
    }

    /// The order in which a request asks the endpoints. It is the request's own: others under way
    /// at the same time do not change it.
    fn in_turn(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.endpoints.len()).collect();
        order.sort_by_key(|&index| {
            let endpoint = &self.endpoints[index];
            (endpoint.is_unreachable(), index != self.current.get(), endpoint.failed())
        });
        order
    }

    /// Makes later requests begin at another endpoint than `index`, unless they already do.
    fn leave(&self, index: usize) {
        if self.current.get() == index {
            self.current.set(self.other_than(index));
        }
    }

    /// The next after `index` that has not failed; if all have, the one that did so the longest ago.
    fn other_than(&self, index: usize) -> usize {
        let count = self.endpoints.len();
        let others = (1..count).map(|step| (index + step) % count);
        let rank = |&other: &usize| {
            let endpoint = &self.endpoints[other];
            (endpoint.is_unreachable(), endpoint.failed())
        };
        others.min_by_key(rank).unwrap_or(index)
    }

    /// Followers stay with an endpoint until it fails them or the core wants another.
    fn endpoint_to_follow(&self, elsewhere: bool) -> &Endpoint {
        let leave = self.leave_followed.take();
        let index = match self.followed.get() {
            None => self.current.get(),
            Some(last) if elsewhere || leave => {
                // Whatever the reason, that connection was not good.
                self.endpoints[last].discard_connection();
                self.other_than(last)
            }
            Some(last) => last,
        };
        self.followed.set(Some(index));
        &self.endpoints[index]
    }

    /// The endpoint that is being followed.
    fn followed_endpoint(&self) -> &Endpoint {
        &self.endpoints[self.followed.get().unwrap_or(self.current.get())]
    }

    /// Whether it is, as far as is known: it has not failed since.
    fn is_followed(&self) -> bool {
        self.followed.get().is_some() && !self.leave_followed.get()
    }

    /// The endpoint that was followed last has failed.
    fn stop_following_there(&self) {
        self.leave_followed.set(true);
    }
}

impl Store for Etcd {
    fn follow(
        &self,
        prefix: String,
        elsewhere: bool,
    ) -> impl Stream<Item = Result<Update, StoreError>> {
        follow::follow(self, prefix, elsewhere)
    }

    fn follow_keys(&self, keys: BTreeSet<String>) -> impl Stream<Item = ForeignKey> {
        foreign::follow(self, keys)
    }

    async fn commit(&self, txn: Txn, timeout: Duration) -> Result<TxnResponse, StoreError> {
        if txn.is_idle() {
            let why = "a transaction without operations, which is not linearizable".to_owned();
            return Err(StoreError::Refused(why));
        }
        let commit =
            async |client: &Client| client.kv_client().txn(translate::transaction(&txn)).await;
        translate::answer(&self.ask(timeout, commit).await?)
    }

    async fn member_status(&self, timeout: Duration) -> Result<MemberStatus, StoreError> {
        let Some(url) = &self.local else {
            let why = "no etcd endpoint on this host is configured".to_owned();
            return Err(StoreError::Refused(why));
        };
        let deadline = Instant::now() + timeout;
        let status = self.endpoint_status(url, timeout).await?;
        self.verify_own_member(url, &status, deadline).await?;
        Ok(MemberStatus {
            member_id: status.member_id,
            is_leader: status.is_leader(),
            term: status.term,
        })
    }
}
