//! Following more than fits into one answer, and more slowly than others write.

mod support;

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, TryStreamExt};
use support::cluster::Cluster;
use support::{PATIENCE, events_up_to, next, put, run, snapshot};
use turnip::etcd::Etcd;
use turnip::seams::Store;
use turnip_core::{Event, Op, Revision, StoreError, Txn, Update};

const PREFIX: &str = "/turnip/following/";

/// Puts large values one by one, many at a time; returns the revision of the last.
async fn write_much(etcd: &Etcd, count: usize) -> Revision {
    let value = "x".repeat(20_000);
    let written = stream::iter(0..count)
        .map(|n| etcd.commit(put(&format!("{PREFIX}{}", n % 10), &value), PATIENCE))
        .buffer_unordered(32)
        .try_collect::<Vec<_>>();
    written.await.unwrap().iter().map(|response| response.header.revision).max().unwrap()
}

#[test]
fn twenty_thousand_keys_come_in_one_snapshot_while_others_write() {
    run(async {
        let cluster = Cluster::start(1).await;
        let etcd = cluster.handle(0);
        for chunk in 0..200 {
            let key = |n: usize| format!("{PREFIX}{:05}", chunk * 100 + n);
            let value = vec![b'v'; 300];
            let put = |n| Op::Put { key: key(n), value: value.clone() };
            let txn = Txn { success: (0..100).map(put).collect(), ..Txn::default() };
            etcd.commit(txn, PATIENCE).await.unwrap();
        }
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        let writer = async {
            // The last key becomes a new one while the first pages are read.
            let last = format!("{PREFIX}zzzzz");
            let mut written = Revision(0);
            for _ in 0..50 {
                written = etcd.commit(put(&last, ""), PATIENCE).await.unwrap().header.revision;
            }
            written
        };
        let (snapshot, written) = futures::join!(snapshot(&mut updates), writer);
        let revision = snapshot.header.revision;
        let regular = snapshot.kvs.iter().filter(|kv| !kv.key.ends_with("zzzzz")).count();
        assert_eq!(regular, 20_000);
        assert!(snapshot.kvs.is_sorted_by(|a, b| a.key < b.key));
        assert!(snapshot.kvs.iter().all(|kv| kv.mod_revision <= revision));
        let events = events_up_to(&mut updates, written).await;
        assert_eq!(events.len(), usize::try_from(written.0 - revision.0).unwrap());
    });
}

/// etcd puts such a watcher aside and catches it up in batches of a thousand revisions, in
/// responses whose header names the store's newest revision.
#[test]
fn a_follower_that_lags_far_behind_is_told_all_and_nothing_is_claimed_too_early() {
    run(async {
        let cluster = Cluster::start(1).await;
        let etcd = cluster.handle(0);
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        let mut newest = snapshot(&mut updates).await.header.revision;
        let last = write_much(&cluster.handle(0), 5_000).await;
        let mut batches = 0;
        while newest < last {
            let Ok(Update::Events(batch)) = next(&mut updates).await else {
                panic!("events were to come")
            };
            batches += 1;
            for event in &batch.events {
                let Event::Put(kv) = event else { panic!("{event:?}") };
                assert_eq!(kv.mod_revision, Revision(newest.0 + 1), "each revision, in order");
                newest = kv.mod_revision;
            }
            assert_eq!(batch.header.revision, newest, "the batch claims what it brought");
        }
        assert!(batches > 1);
    });
}

#[test]
fn a_follower_whose_news_was_compacted_is_told_so_and_begins_afresh() {
    run(async {
        let cluster = Cluster::start(1).await;
        let etcd = cluster.handle(0);
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        snapshot(&mut updates).await;
        let last = write_much(&cluster.handle(0), 5_000).await;
        let mut client = etcd_client::Client::connect([cluster.url(0)], None).await.unwrap();
        client.compact(last.0, None).await.unwrap();
        let why = loop {
            match next(&mut updates).await {
                Ok(Update::Events(batch)) => assert!(batch.header.revision < last),
                Err(StoreError::Unavailable(why)) => break why,
                other => panic!("{other:?}"),
            }
        };
        assert!(why.contains("compacted"), "{why}");
        assert!(updates.next().await.is_none(), "the stream is over");

        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        let fresh = snapshot(&mut updates).await;
        assert_eq!((fresh.header.revision, fresh.kvs.len()), (last, 10));
    });
}

#[test]
fn a_foreign_key_that_is_no_text_harms_nobody() {
    run(async {
        let cluster = Cluster::start(1).await;
        let etcd = cluster.handle(0);
        let foreign = [PREFIX.as_bytes(), b"\xff\xfe"].concat();
        let mut client = etcd_client::Client::connect([cluster.url(0)], None).await.unwrap();
        client.put(foreign.clone(), "", None).await.unwrap();
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        assert_eq!(snapshot(&mut updates).await.kvs.len(), 1);
        client.delete(foreign, None).await.unwrap();
        let own = etcd.commit(put(&format!("{PREFIX}k"), ""), PATIENCE).await.unwrap();
        assert_eq!(events_up_to(&mut updates, own.header.revision).await.len(), 2);
    });
}

/// As large as etcd can be told to take it, and larger than what a client takes by itself.
#[test]
fn a_key_of_another_program_is_told_however_large_its_value_is() {
    run(async {
        let flags = ["--max-request-bytes=10000000"];
        let cluster = Cluster::start_with(1, None, &flags).await;
        let (etcd, key) = (cluster.handle(0), "/service/batman/config");
        let put_bytes = async |bytes: usize| {
            let value = "x".repeat(bytes);
            etcd.commit(put(key, &value), PATIENCE).await.unwrap().header.revision
        };
        let mut keys = pin!(etcd.follow_keys([key.to_owned()].into()));
        put_bytes(7_000_000).await;
        for bytes in [7_000_000, 7_000_001] {
            let told = tokio::time::timeout(PATIENCE, keys.next()).await.expect("it is told");
            let (kv, _) = told.expect("it does not end").state.unwrap();
            assert_eq!(kv.unwrap().value.len(), bytes);
            put_bytes(7_000_001).await;
        }
    });
}

/// It takes as long as it says: half a minute. A watch that is dead and does not say so would be believed for ever.
#[test]
fn a_key_of_another_program_of_which_nothing_comes_is_read_anew() {
    const EARLY: Duration = Duration::from_secs(20);
    run(async {
        let cluster = Cluster::start(1).await;
        let (etcd, key) = (cluster.handle(0), "/service/batman/leader");
        etcd.commit(put(key, "h1"), PATIENCE).await.unwrap();
        let mut keys = pin!(etcd.follow_keys([key.to_owned()].into()));
        let first = tokio::time::timeout(PATIENCE, keys.next()).await.expect("it is told").unwrap();
        let early = tokio::time::timeout(EARLY, keys.next()).await;
        assert!(early.is_err(), "nothing has changed: {early:?}");
        let again = tokio::time::timeout(2 * PATIENCE, keys.next()).await;
        let again = again.expect("it is read anew").unwrap();
        assert_eq!(again.state.unwrap().0, first.state.unwrap().0);
    });
}
