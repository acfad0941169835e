//! Following a prefix: a snapshot, then a watch from the revision after it.

use std::time::Duration;

use etcd_client::{GetOptions, WatchOptions, WatchResponse, WatchStream};
use futures::{Stream, stream};
use tokio::time::Instant;
use turnip_core::{Events, Header, KeyValue, Revision, Snapshot, StoreError, Update};

use super::endpoint::{Answers, Endpoint};
use super::failure::{self, Failure};
use super::{Etcd, translate};

/// How many keys are read at once, so that no answer is too large.
const PAGE_KEYS: i64 = 1000;
/// The largest answer or batch of events that is taken. etcd has no limit of its own for these.
pub(super) const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// How long a page of the snapshot, or the watch's first response, may take.
const PATIENCE: Duration = Duration::from_secs(3);

enum Stage<'a> {
    Begin { prefix: String, elsewhere: bool },
    Watching { endpoint: &'a Endpoint, watch: Box<WatchStream> },
    Over,
}

/// See [`crate::seams::Store::follow`].
pub(super) fn follow(
    etcd: &Etcd,
    prefix: String,
    elsewhere: bool,
) -> impl Stream<Item = Result<Update, StoreError>> {
    stream::unfold(Stage::Begin { prefix, elsewhere }, move |stage| async move {
        let step = match stage {
            Stage::Begin { prefix, elsewhere } => {
                let endpoint = etcd.endpoint_to_follow(elsewhere);
                begin(endpoint, &prefix).await
            }
            Stage::Watching { endpoint, mut watch } => match next(endpoint, &mut watch).await {
                Ok(events) => Ok((Update::Events(events), Stage::Watching { endpoint, watch })),
                Err(failure) => Err(failure),
            },
            Stage::Over => return None,
        };
        Some(match step {
            Ok((update, stage)) => (Ok(update), stage),
            Err(failure) => {
                etcd.stop_following_there();
                (Err(failure.into()), Stage::Over)
            }
        })
    })
}

/// The snapshot, and the watch that goes on from it. The watch is established before the snapshot is
/// returned: who has the snapshot will receive everything after it.
async fn begin<'a>(endpoint: &'a Endpoint, prefix: &str) -> Result<(Update, Stage<'a>), Failure> {
    let snapshot = read(endpoint, prefix).await?;
    let options =
        WatchOptions::new().with_prefix().with_start_revision(snapshot.header.revision.0 + 1);
    let deadline = Instant::now() + PATIENCE;
    let (watch, created) = endpoint
        .ask(Answers::WithLeader, deadline, async |client| {
            let mut watches = client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
            let mut watch = watches.watch(prefix, Some(options.clone())).await?;
            let created = watch.message().await?;
            Ok((watch, created))
        })
        .await?;
    check(endpoint, created)?;
    let watch = Box::new(watch);
    Ok((Update::Snapshot(snapshot), Stage::Watching { endpoint, watch }))
}

/// All keys under the prefix at one revision: that of the first page, a linearizable read.
pub(super) async fn read(endpoint: &Endpoint, prefix: &str) -> Result<Snapshot, Failure> {
    let end = end_of(prefix);
    let mut start = prefix.as_bytes().to_vec();
    let mut header: Option<Header> = None;
    let mut kvs: Vec<KeyValue> = Vec::new();
    loop {
        let revision = header.map_or(0, |header| header.revision.0);
        let mut options =
            GetOptions::new().with_range(end.clone()).with_limit(PAGE_KEYS).with_revision(revision);
        if header.is_some() {
            // The member has that revision: no need to ask the others again.
            options = options.with_serializable();
        }
        let deadline = Instant::now() + PATIENCE;
        let page = endpoint
            .ask(Answers::WithLeader, deadline, async |client| {
                let mut kv = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
                kv.get(start.clone(), Some(options.clone())).await
            })
            .await?;
        let of_page = translate::header(page.header())
            .map_err(|error| Failure::Unknown(error.to_string()))?;
        header.get_or_insert(of_page);
        kvs.extend(page.kvs().iter().map(translate::key_value));
        match (page.more(), page.kvs().last(), header) {
            (true, Some(last), _) => start = [last.key(), &[0]].concat(),
            (_, _, Some(header)) => return Ok(Snapshot { header, kvs }),
            (_, _, None) => unreachable!("the first page had a header"),
        }
    }
}

/// The first key beyond all that begin with `prefix`.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // An empty prefix: all keys.
    vec![0]
}

/// Waits for the next changes.
async fn next(endpoint: &Endpoint, watch: &mut WatchStream) -> Result<Events, Failure> {
    loop {
        let message = watch.message().await;
        let message = message.map_err(|error| Failure::of(endpoint.url(), &error))?;
        let response = check(endpoint, message)?;
        if let Some(events) = events(&response)? {
            return Ok(events);
        }
    }
}

/// The response of a watch, or a failure when the watch has ended.
pub(super) fn check(
    endpoint: &Endpoint,
    message: Option<WatchResponse>,
) -> Result<WatchResponse, Failure> {
    let url = endpoint.url();
    let Some(response) = message else {
        return Err(Failure::Unknown(format!("{url}: the member ended the watch")));
    };
    if response.compact_revision() > 0 {
        let oldest = response.compact_revision();
        let why =
            format!("{url}: the revisions that the watch needs were compacted, up to {oldest}");
        return Err(Failure::Unknown(why));
    }
    if response.canceled() {
        return Err(failure::of_cancelled_watch(url, response.cancel_reason()));
    }
    Ok(response)
}

/// The changes in a response, if there are any.
///
/// The batch claims to be complete up to the newest of them, and no further. The revision in a
/// response's header is the store's when it was made, and etcd sends such responses to a watcher
/// that is thousands of revisions behind. A batch never ends within a revision, for we do
/// not ask for fragments.
fn events(response: &WatchResponse) -> Result<Option<Events>, Failure> {
    let header = translate::header(response.header())
        .map_err(|error| Failure::Unknown(error.to_string()))?;
    let (events, revisions): (Vec<_>, Vec<Revision>) =
        response.events().iter().filter_map(translate::event).unzip();
    Ok(revisions
        .into_iter()
        .max()
        .map(|revision| Events { header: Header { revision, ..header }, events }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_sibling() {
        assert_eq!(end_of("/turnip/main/"), b"/turnip/main0");
        assert_eq!(end_of("a\u{7f}"), b"a\x80");
        assert_eq!(end_of(""), [0]);
    }
}
