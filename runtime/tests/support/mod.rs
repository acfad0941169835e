//! Real etcd for tests: members on loopback, with free ports and temporary directories.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod certificates;
pub mod cluster;
pub mod host;
pub mod proxy;

use std::time::Duration;

use futures::{Stream, StreamExt};
use turnip::seams::Clock;
use turnip_core::{Event, Instant, Op, Revision, Snapshot, StoreError, Txn, Update};
use turnip_netns_tests::poll::Poll;

/// Generous: only there so that what is broken fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// tokio's clock, as the contract wants it.
pub struct TestClock(tokio::time::Instant);

impl TestClock {
    pub fn new() -> Self {
        TestClock(tokio::time::Instant::now())
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }

    async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep_until(self.0 + deadline.since(Instant::ZERO)).await;
    }

    fn unix_ms(&self) -> u64 {
        0
    }
}

/// Runs a test as the daemon runs: on one thread.
pub fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Tries until it works, but not for ever.
pub async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let poll = Poll::every(Duration::from_millis(50)).within(PATIENCE);
    let outcome = poll.succeed_async(attempt).await;
    outcome.unwrap_or_else(|error| panic!("{what} did not come within {PATIENCE:?}: {error:?}"))
}

/// A transaction that puts one value, whatever was there.
pub fn put(key: &str, value: &str) -> Txn {
    let (key, value) = (key.to_owned(), value.as_bytes().to_vec());
    Txn { success: vec![Op::Put { key, value }], ..Txn::default() }
}

/// The next update of a stream, if it comes at all.
pub async fn next(
    updates: &mut (impl Stream<Item = Result<Update, StoreError>> + Unpin),
) -> Result<Update, StoreError> {
    tokio::time::timeout(PATIENCE, updates.next())
        .await
        .unwrap_or_else(|_| panic!("nothing came within {PATIENCE:?}"))
        .expect("a stream ends with an error")
}

/// The snapshot with which a stream begins.
pub async fn snapshot(
    updates: &mut (impl Stream<Item = Result<Update, StoreError>> + Unpin),
) -> Snapshot {
    match next(updates).await {
        Ok(Update::Snapshot(snapshot)) => snapshot,
        other => panic!("following begins with a snapshot, not with {other:?}"),
    }
}

/// Takes events until everything up to `revision` has come.
pub async fn events_up_to(
    updates: &mut (impl Stream<Item = Result<Update, StoreError>> + Unpin),
    revision: Revision,
) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        match next(updates).await {
            Ok(Update::Events(batch)) => {
                events.extend(batch.events);
                if batch.header.revision >= revision {
                    return events;
                }
            }
            other => panic!("events were to come, not {other:?}"),
        }
    }
}
