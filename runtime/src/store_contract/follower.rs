//! Somebody who follows a prefix and writes down what is told.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use turnip_core::{Event, Events, KeyValue, Revision, Snapshot, StoreError, Update};

use super::Subject;
use crate::seams::{Clock, Store};

/// A stream of updates past its snapshot.
pub(super) struct Follower<'a, S, C> {
    on: &'a Subject<'a, S, C>,
    updates: Pin<Box<dyn Stream<Item = Result<Update, StoreError>> + 'a>>,
    /// What it began with.
    pub(super) snapshot: Snapshot,
    /// The revision up to which everything has been told.
    pub(super) told: Revision,
    /// All events so far, each with the revision that the batch it came in claimed.
    pub(super) events: Vec<(Event, Revision)>,
}

impl<S: Store, C: Clock> Subject<'_, S, C> {
    /// Follows the clause's prefix by handle `number`, and takes the snapshot.
    pub(super) async fn follow(&self, number: usize, elsewhere: bool) -> Follower<'_, S, C> {
        let mut updates = Box::pin(self.store(number).follow(self.prefix.clone(), elsewhere));
        let snapshot = match self.in_time("the snapshot", updates.next()).await {
            Some(Ok(Update::Snapshot(snapshot))) => snapshot,
            other => panic!("following begins with a snapshot, not with {other:?}"),
        };
        Follower::new(self, updates, snapshot)
    }
}

impl<'a, S: Store, C: Clock> Follower<'a, S, C> {
    /// Goes on from a snapshot.
    pub(super) fn new(
        on: &'a Subject<'a, S, C>,
        updates: Pin<Box<dyn Stream<Item = Result<Update, StoreError>> + 'a>>,
        snapshot: Snapshot,
    ) -> Self {
        for kv in &snapshot.kvs {
            let revision = snapshot.header.revision;
            assert!(kv.mod_revision <= revision, "{kv:?} is newer than its snapshot's {revision}");
        }
        let told = snapshot.header.revision;
        Follower { on, updates, snapshot, told, events: Vec::new() }
    }

    /// Takes one batch, and sees that it goes on where the last one ended.
    async fn step(&mut self) {
        match self.on.in_time("an event", self.updates.next()).await {
            Some(Ok(Update::Events(batch))) => self.take(batch),
            other => panic!("after the snapshot come events, not {other:?}"),
        }
    }

    fn take(&mut self, batch: Events) {
        assert_eq!(batch.header.cluster_id, self.snapshot.header.cluster_id);
        let claimed = batch.header.revision;
        assert!(claimed >= self.told, "what was told goes back: {claimed} after {}", self.told);
        for event in batch.events {
            let revision = revision(&event);
            assert!(revision > self.told, "{event:?} was told up to {} already", self.told);
            assert!(revision <= claimed, "{event:?} is beyond the {claimed} of its batch");
            if let Some((last, _)) = self.events.last() {
                assert!(revision >= self::revision(last), "{event:?} after {last:?}");
            }
            assert!(key(&event).starts_with(&self.on.prefix), "{event:?} is beside the prefix");
            self.events.push((event, claimed));
        }
        self.told = claimed;
    }

    /// Follows until everything up to `revision` has been told.
    pub(super) async fn until(&mut self, revision: Revision) {
        while self.told < revision {
            self.step().await;
        }
    }

    /// Follows until the stream ends, and tells why; or until everything up to `revision` has been
    /// told, which counts as an end too.
    pub(super) async fn until_it_ends(&mut self, revision: Option<Revision>) -> StoreError {
        while revision.is_none_or(|revision| self.told < revision) {
            match self.on.in_time("an end", self.updates.next()).await {
                Some(Ok(Update::Events(batch))) => self.take(batch),
                Some(Err(why)) => {
                    let more = self.on.in_time("nothing more", self.updates.next()).await;
                    assert_eq!(more, None, "after an error a stream is over");
                    return why;
                }
                other => panic!("a stream of events ends with an error, not with {other:?}"),
            }
        }
        StoreError::Unavailable("all was told".to_owned())
    }

    /// The events alone.
    pub(super) fn events(&self) -> Vec<Event> {
        self.events.iter().map(|(event, _)| event.clone()).collect()
    }

    /// What a key was at a revision, after all that was told.
    pub(super) fn as_of(&self, name: &str, at: Revision) -> Option<&KeyValue> {
        let told = self.events.iter().map(|(event, _)| event);
        let mut told = told.filter(|event| key(event) == name && revision(event) <= at);
        match told.next_back() {
            Some(Event::Put(kv)) => Some(kv),
            Some(Event::Delete { .. }) => None,
            None => self.snapshot.kvs.iter().find(|kv| kv.key == name),
        }
    }

    /// The keys that are there after all that was told.
    pub(super) fn state(&self) -> BTreeMap<String, KeyValue> {
        let mut state: BTreeMap<String, KeyValue> =
            self.snapshot.kvs.iter().map(|kv| (kv.key.clone(), kv.clone())).collect();
        for (event, _) in &self.events {
            match event {
                Event::Put(kv) => drop(state.insert(kv.key.clone(), kv.clone())),
                Event::Delete { key, .. } => drop(state.remove(key)),
            }
        }
        state
    }
}

/// The revision of a change.
pub(super) fn revision(event: &Event) -> Revision {
    match event {
        Event::Put(kv) => kv.mod_revision,
        Event::Delete { revision, .. } => *revision,
    }
}

/// The key that changed.
pub(super) fn key(event: &Event) -> &str {
    match event {
        Event::Put(kv) => &kv.key,
        Event::Delete { key, .. } => key,
    }
}
