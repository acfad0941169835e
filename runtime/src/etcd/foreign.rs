//! Following keys of other programs, each by itself: read once, then watched.
//!
//! They are asked for where the prefix is followed. While etcd does not answer nothing is told of them: how long
//! what is known counts then is decided by who follows them.

use std::collections::BTreeSet;
use std::time::Duration;

use etcd_client::{EventType, GetOptions, WatchOptions, WatchStream};
use futures::Stream;
use futures::stream::{self, SelectAll};
use tokio::time::{Instant, timeout};
use turnip_core::{ForeignKey, KeyValue, Revision};

use super::endpoint::{Answers, Endpoint};
use super::failure::Failure;
use super::follow::{MESSAGE_BYTES_MAX, check};
use super::{Etcd, translate};

/// How long a read, or the watch's first response, may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// When what failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// A watch can be dead without saying so: a key of which it has told nothing for so long is read anew.
const READ_ANEW_AFTER: Duration = Duration::from_secs(30);
/// That a key cannot be read is said when that has lasted for so long while etcd answers otherwise: longer than it
/// takes to notice that it does not.
const UNREADABLE_AFTER: Duration = Duration::from_secs(20);

/// See [`crate::seams::Store::follow_keys`].
pub(super) fn follow(etcd: &Etcd, keys: BTreeSet<String>) -> impl Stream<Item = ForeignKey> {
    let one = |key| {
        let followed = Followed { etcd, key, watch: None, failing_since: None };
        Box::pin(stream::unfold(followed, async |mut followed| {
            let state = followed.next().await;
            Some((ForeignKey { key: followed.key.clone(), state }, followed))
        }))
    };
    keys.into_iter().map(one).collect::<SelectAll<_>>()
}

struct Followed<'a> {
    etcd: &'a Etcd,
    key: String,
    /// It has been read, and this tells what becomes of it.
    watch: Option<Box<WatchStream>>,
    failing_since: Option<Instant>,
}

type State = (Option<KeyValue>, Revision);

impl Followed<'_> {
    /// The key as it is, or after its next change; or why it cannot be read.
    async fn next(&mut self) -> Result<State, String> {
        loop {
            let endpoint = self.etcd.followed_endpoint();
            let told = match &mut self.watch {
                None => self.begin(endpoint).await.map(Some),
                Some(watch) => changed(endpoint, &self.key, watch).await,
            };
            match told {
                Ok(Some(state)) => {
                    self.failing_since = None;
                    return Ok(state);
                }
                Ok(None) => self.watch = None,
                Err(failure) => {
                    self.watch = None;
                    tokio::time::sleep(AGAIN_AFTER).await;
                    if let Some(why) = self.unreadable(failure) {
                        return Err(why);
                    }
                }
            }
        }
    }

    /// The key as it is; the watch goes on from there.
    async fn begin(&mut self, endpoint: &Endpoint) -> Result<State, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let key = self.key.as_str();
        let read = endpoint
            .ask(Answers::WithLeader, deadline, async |client| {
                let mut kv = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
                kv.get(key, Some(GetOptions::new())).await
            })
            .await?;
        let header = translate::header(read.header())
            .map_err(|error| Failure::Unknown(error.to_string()))?;
        let options = WatchOptions::new().with_start_revision(header.revision.0 + 1);
        let (watch, created) = endpoint
            .ask(Answers::WithLeader, deadline, async |client| {
                let mut watches =
                    client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
                let mut watch = watches.watch(key, Some(options.clone())).await?;
                let created = watch.message().await?;
                Ok((watch, created))
            })
            .await?;
        check(endpoint, created)?;
        self.watch = Some(Box::new(watch));
        Ok((read.kvs().first().map(|kv| key_value(key, kv)), header.revision))
    }

    /// Why the key cannot be read, where that is no matter of an etcd that does not answer.
    fn unreadable(&mut self, failure: Failure) -> Option<String> {
        let why = match failure {
            // Its name is no use without the permission to read it.
            Failure::Refused(why) => return Some(why),
            Failure::NotSent(why) | Failure::Unknown(why) => why,
        };
        if !self.etcd.is_followed() {
            self.failing_since = None;
            return None;
        }
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        (since.elapsed() >= UNREADABLE_AFTER).then_some(why)
    }
}

/// The key after its next change; none where there has been none for long.
async fn changed(
    endpoint: &Endpoint,
    key: &str,
    watch: &mut WatchStream,
) -> Result<Option<State>, Failure> {
    loop {
        let Ok(message) = timeout(READ_ANEW_AFTER, watch.message()).await else { return Ok(None) };
        let message = message.map_err(|error| Failure::of(endpoint.url(), &error))?;
        let response = check(endpoint, message)?;
        // What it was in between is of no use to anybody.
        let newest = response.events().iter().rev().find_map(|event| Some((event, event.kv()?)));
        let Some((event, kv)) = newest else { continue };
        let is_there = event.event_type() == EventType::Put;
        let state = is_there.then(|| key_value(key, kv));
        return Ok(Some((state, Revision(kv.mod_revision()))));
    }
}

/// The key with its whole value, however long its name is.
fn key_value(key: &str, kv: &etcd_client::KeyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: kv.value().to_vec(), ..translate::key_value(kv) }
}
