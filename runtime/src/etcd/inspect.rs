//! What the commands for operators ask of etcd, beyond the [`Store`](crate::seams::Store) seam.

use std::time::Duration;

use etcd_client::{Client, GetOptions, MemberListResponse, WatchOptions};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};
use turnip_core::{ClusterName, Revision, Snapshot, StoreError};

use super::endpoint::{Answers, Endpoint};
use super::failure::{is_compacted, needs_no_login};
use super::{Etcd, follow, translate};

/// How long an endpoint has for itself before the next one is asked as well.
const ASK_ANOTHER_AFTER: Duration = Duration::from_millis(500);

/// A member of the etcd cluster, as the cluster knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty when it has never started.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it does not vote yet.
    pub is_learner: bool,
}

/// What a member says of itself, without asking the others.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct EndpointStatus {
    /// etcd's version, as in `3.4.23`.
    pub version: String,
    /// The cluster that it belongs to.
    pub cluster_id: u64,
    /// Its id.
    pub member_id: u64,
    /// The id of the member that it believes to be the raft leader; 0 for none.
    pub leader_id: u64,
    /// The raft term in which it believes so.
    pub term: u64,
    /// The size of its database file.
    pub db_bytes: u64,
    /// How much of it is in use; 0 where it does not say.
    pub db_used_bytes: u64,
    /// To which its database may grow, where it says so: from 3.6 on.
    pub quota_bytes: Option<u64>,
    /// Whether it does not vote yet.
    pub is_learner: bool,
    /// Alarms, in etcd's words.
    pub alarms: Vec<String>,
}

impl EndpointStatus {
    /// Whether the member believes to be the raft leader.
    pub fn is_leader(&self) -> bool {
        self.leader_id != 0 && self.leader_id == self.member_id
    }
}

/// How much history the store keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// The revision now.
    pub current: Revision,
    /// The oldest revision that can still be read: 1 when nobody has ever compacted.
    pub oldest: Revision,
}

impl Etcd {
    /// The members of the cluster, by a linearizable read where etcd's version can (from 3.5).
    ///
    /// # Errors
    /// When no endpoint answers within `timeout`, or etcd refuses.
    pub async fn members(&self, timeout: Duration) -> Result<Vec<Member>, StoreError> {
        let list = async |client: &Client| client.cluster_client().member_list().await;
        Ok(members(&self.ask(timeout, list).await?))
    }

    /// The members of the cluster as who answers at `url`, one of the configured endpoints, names them by
    /// itself.
    ///
    /// # Errors
    /// When it does not answer within `timeout`, or when `url` is none of the endpoints.
    pub async fn members_at(
        &self,
        url: &str,
        timeout: Duration,
    ) -> Result<Vec<Member>, StoreError> {
        let list = async |client: &Client| client.cluster_client().member_list().await;
        let deadline = Instant::now() + timeout;
        Ok(members(&self.configured(url)?.ask(Answers::Alone, deadline, list).await?))
    }

    /// What the member at `url`, one of the configured endpoints, says of itself.
    ///
    /// # Errors
    /// When it does not answer within `timeout`, or when `url` is none of the endpoints.
    pub async fn endpoint_status(
        &self,
        url: &str,
        timeout: Duration,
    ) -> Result<EndpointStatus, StoreError> {
        let deadline = Instant::now() + timeout;
        let status = async |client: &Client| client.maintenance_client().status().await;
        let status = self.configured(url)?.ask(Answers::Alone, deadline, status).await?;
        let header = translate::header(status.header())?;
        Ok(EndpointStatus {
            version: status.version().to_owned(),
            cluster_id: header.cluster_id,
            member_id: status.header().map_or(0, etcd_client::ResponseHeader::member_id),
            leader_id: status.leader(),
            term: status.raft_term(),
            db_bytes: u64::try_from(status.db_size()).unwrap_or(0),
            db_used_bytes: u64::try_from(status.raft_used_db_size()).unwrap_or(0),
            quota_bytes: u64::try_from(status.db_size_quota()).ok().filter(|quota| *quota > 0),
            is_learner: status.is_learner(),
            // What else is amiss, as that it has no leader, is told in other ways.
            alarms: status
                .errors()
                .iter()
                .filter(|error| error.contains("alarm:"))
                .cloned()
                .collect(),
        })
    }

    pub(super) fn configured(&self, url: &str) -> Result<&Endpoint, StoreError> {
        let none = || StoreError::Refused(format!("{url} is no configured endpoint"));
        self.endpoint(url).ok_or_else(none)
    }

    /// All keys under `prefix` at one revision, from the first endpoint that answers. Each is
    /// asked a little after the one before it, so that those that do not answer cost little.
    /// Later requests, and followers, begin at the one that answered.
    ///
    /// # Errors
    /// When no endpoint does, or etcd refuses.
    pub async fn snapshot(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let count = self.endpoints.len();
        let first = self.current.get();
        let mut to_ask = (0..count).map(|step| (first + step) % count);
        let ask = async |index: usize| {
            let read = follow::read(&self.endpoints[index], prefix).await;
            (index, read.map_err(StoreError::from))
        };
        let mut asked = FuturesUnordered::new();
        let mut whys = Vec::new();
        loop {
            if let Some(index) = to_ask.next() {
                asked.push(ask(index));
            }
            let answer = match to_ask.len() {
                0 => asked.next().await,
                // Nobody waits long for an answer that may not come, nor at all for the next
                // endpoint when one has failed.
                _ => match timeout(ASK_ANOTHER_AFTER, asked.next()).await {
                    Ok(answer) => answer,
                    Err(_) => continue,
                },
            };
            match answer {
                Some((_, Err(StoreError::Unavailable(why)))) => whys.push(why),
                Some((index, outcome)) => {
                    self.current.set(index);
                    return outcome;
                }
                None => return Err(StoreError::Unavailable(whys.join("; "))),
            }
        }
    }

    /// How long each of `count` writes took, one after the other, to a scratch key beside the
    /// cluster's own keys, which is deleted in the end.
    ///
    /// # Errors
    /// When a write is not answered within `timeout`, or etcd refuses it.
    pub async fn commit_latencies(
        &self,
        cluster: &ClusterName,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Duration>, StoreError> {
        // One a process, so that two that measure at once do not disturb each other.
        let key = format!("/turnip-check/{cluster}/{}", std::process::id());
        let mut latencies = Vec::with_capacity(count);
        let mut outcome = Ok(());
        for number in 0..count {
            let began = Instant::now();
            outcome = self.put(&key, number.to_string().as_bytes(), timeout).await.map(drop);
            if outcome.is_err() {
                break;
            }
            latencies.push(began.elapsed());
        }
        let deleted = self.delete(&key, timeout).await;
        outcome?;
        deleted?;
        Ok(latencies)
    }

    /// Whether etcd asks for users and passwords at all.
    ///
    /// # Errors
    /// When no endpoint answers within `timeout`, or etcd refuses these.
    pub async fn asks_for_login(
        &self,
        user: &str,
        password: &str,
        timeout: Duration,
    ) -> Result<bool, StoreError> {
        let ask = async |client: &Client| {
            let mut client = client.auth_client();
            match client.authenticate(user.to_owned(), password.to_owned()).await {
                Ok(_) => Ok(true),
                Err(error) if needs_no_login(&error) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.ask(timeout, ask).await
    }

    /// How much history the store keeps. `prefix` is one that the user may read.
    ///
    /// # Errors
    /// When no endpoint answers within `timeout`, or etcd refuses.
    pub async fn history(&self, prefix: &str, timeout: Duration) -> Result<History, StoreError> {
        let first = GetOptions::new().with_revision(1);
        let ask = async |client: &Client| {
            let mut kv = client.kv_client();
            let now = kv.get(prefix, None).await?;
            let oldest = match kv.get(prefix, Some(first.clone())).await {
                Ok(_) => 1,
                Err(error) if is_compacted(&error) => oldest_revision(client, prefix).await?,
                Err(error) => return Err(error),
            };
            Ok((now, oldest))
        };
        let (now, oldest) = self.ask(timeout, ask).await?;
        let current = translate::header(now.header())?.revision;
        Ok(History { current, oldest: Revision(oldest) })
    }

    /// Writes a key, an operator's intent for one, whatever it held.
    ///
    /// # Errors
    /// When it is not answered within `timeout` (it may have been done nevertheless), or refused.
    pub async fn put(
        &self,
        key: &str,
        value: &[u8],
        timeout: Duration,
    ) -> Result<Revision, StoreError> {
        let put = async |client: &Client| client.kv_client().put(key, value, None).await;
        Ok(translate::header(self.ask(timeout, put).await?.header())?.revision)
    }

    /// Deletes a key; says whether there was one.
    ///
    /// # Errors
    /// When it is not answered within `timeout` (it may have been done nevertheless), or refused.
    pub async fn delete(&self, key: &str, timeout: Duration) -> Result<bool, StoreError> {
        let delete = async |client: &Client| client.kv_client().delete(key, None).await;
        Ok(self.ask(timeout, delete).await?.deleted() > 0)
    }
}

fn members(response: &MemberListResponse) -> Vec<Member> {
    let member = |member: &etcd_client::Member| Member {
        id: member.id(),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        client_urls: member.client_urls().to_vec(),
        is_learner: member.is_learner(),
    };
    response.members().iter().map(member).collect()
}

/// A watch from a revision that was compacted is cancelled, with the oldest that there is.
async fn oldest_revision(client: &Client, prefix: &str) -> Result<i64, etcd_client::Error> {
    let options = WatchOptions::new().with_start_revision(1);
    let mut watch = client.watch_client().watch(prefix, Some(options)).await?;
    while let Some(response) = watch.message().await? {
        if response.compact_revision() > 0 {
            return Ok(response.compact_revision());
        }
    }
    Err(etcd_client::Error::WatchError("ended without saying what was compacted".to_owned()))
}
