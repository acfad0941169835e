//! Following keys of other programs, each by itself: read once, then watched.
//!
//! They are asked for where the prefix is followed. While etcd does not answer nothing is told of them: how long
//! what is known counts then is decided by who follows them.

use std::collections::BTreeSet;
use std::time::Duration;

use etcd_client::{GetOptions, WatchOptions, WatchStream};
use futures::Stream;
use futures::stream::{self, SelectAll};
use tokio::time::Instant;
use turnip_core::{Event, ForeignKey, KeyValue, Revision};

use super::endpoint::{Answers, Endpoint};
use super::failure::Failure;
use super::follow::check;
use super::{Etcd, translate};

/// How long a read, or the watch's first response, may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// When what failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(300);

/// See [`crate::seams::Store::follow_keys`].
pub(super) fn follow(etcd: &Etcd, keys: BTreeSet<String>) -> impl Stream<Item = ForeignKey> {
    let one = |key| Box::pin(follow_one(etcd, key));
    keys.into_iter().map(one).collect::<SelectAll<_>>()
}

enum Stage {
    Begin,
    Watching(Box<WatchStream>),
}

fn follow_one(etcd: &Etcd, key: String) -> impl Stream<Item = ForeignKey> {
    stream::unfold((Stage::Begin, key), move |(mut stage, key)| async move {
        loop {
            let endpoint = etcd.followed_endpoint();
            let step = match stage {
                Stage::Begin => begin(endpoint, &key).await,
                Stage::Watching(watch) => next(endpoint, watch).await,
            };
            let (state, next) = match step {
                Ok((state, watch)) => (Ok(state), Stage::Watching(watch)),
                // Its name is no use without the permission to read it.
                Err(Failure::Refused(why)) => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                    (Err(why), Stage::Begin)
                }
                Err(_) => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                    stage = Stage::Begin;
                    continue;
                }
            };
            return Some((ForeignKey { key: key.clone(), state }, (next, key)));
        }
    })
}

type State = (Option<KeyValue>, Revision);

/// The key as it is, and the watch that goes on from there.
async fn begin(endpoint: &Endpoint, key: &str) -> Result<(State, Box<WatchStream>), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let read = endpoint
        .ask(Answers::WithLeader, deadline, async |client| {
            client.kv_client().get(key, Some(GetOptions::new())).await
        })
        .await?;
    let header =
        translate::header(read.header()).map_err(|error| Failure::Unknown(error.to_string()))?;
    let options = WatchOptions::new().with_start_revision(header.revision.0 + 1);
    let (watch, created) = endpoint
        .ask(Answers::WithLeader, deadline, async |client| {
            let mut watch = client.watch_client().watch(key, Some(options.clone())).await?;
            let created = watch.message().await?;
            Ok((watch, created))
        })
        .await?;
    check(endpoint, created)?;
    let state = (read.kvs().first().map(translate::key_value), header.revision);
    Ok((state, Box::new(watch)))
}

/// The key after its next change.
async fn next(
    endpoint: &Endpoint,
    mut watch: Box<WatchStream>,
) -> Result<(State, Box<WatchStream>), Failure> {
    loop {
        let message = watch.message().await;
        let message = message.map_err(|error| Failure::of(endpoint.url(), &error))?;
        let response = check(endpoint, message)?;
        // What it was in between is of no use to anybody.
        let state = match response.events().iter().filter_map(translate::event).next_back() {
            None => continue,
            Some((Event::Put(kv), at)) => (Some(kv), at),
            Some((Event::Delete { .. }, at)) => (None, at),
        };
        return Ok((state, watch));
    }
}
