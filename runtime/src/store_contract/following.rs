//! The contract's clauses about following a prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures::future::{join, join_all};
use futures::{Stream, StreamExt};
use turnip_core::{Compare, Event, ForeignKey, KeyValue, Op, Revision, Txn};

use super::follower::{Follower, key, revision};
use super::{Subject, put};
use crate::seams::{Clock, Store};

pub async fn following_begins_with_all_keys_under_the_prefix<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let mut expected = BTreeMap::new();
    for name in ["a", "b/c", "b/d", "z"] {
        let created = on.put(0, name, "first").await;
        let mod_revision = on.put(1, name, name).await;
        let (key, value) = (on.key(name), name.as_bytes().to_vec());
        let kv = KeyValue { key: key.clone(), value, create_revision: created, mod_revision };
        expected.insert(key, kv);
    }
    on.put(0, "deleted", "").await;
    let last = on.delete(1, "deleted").await;

    let follower = on.follow(0, false).await;
    assert_eq!(follower.state(), expected);
    assert_eq!(follower.snapshot.kvs.len(), expected.len(), "each key once");
    assert_eq!(follower.snapshot.header.revision, last, "the newest state, not an older one");
}

pub async fn a_prefix_without_keys_has_an_empty_snapshot<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let mut follower = on.follow(0, false).await;
    assert!(follower.snapshot.kvs.is_empty());
    let written = on.put(1, "first", "").await;
    follower.until(written).await;
    assert_eq!(follower.events.len(), 1);
}

pub async fn a_put_comes_as_an_event_with_its_place_in_history<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let mut follower = on.follow(0, false).await;
    let created = on.put(1, "k", "1").await;
    let changed = on.put(1, "k", "2").await;
    follower.until(changed).await;
    let event = |value: &[u8], mod_revision| {
        let (key, value) = (on.key("k"), value.to_vec());
        Event::Put(KeyValue { key, value, create_revision: created, mod_revision })
    };
    assert_eq!(follower.events(), [event(b"1", created), event(b"2", changed)]);
}

pub async fn a_deletion_comes_as_an_event_with_its_revision<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    on.put(0, "k", "1").await;
    let mut follower = on.follow(0, false).await;
    on.delete(1, "never was").await;
    let deleted = on.delete(1, "k").await;
    follower.until(deleted).await;
    assert_eq!(follower.events(), [Event::Delete { key: on.key("k"), revision: deleted }]);
    assert!(follower.state().is_empty());
}

pub async fn a_transaction_that_fails_brings_no_event<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    on.put(0, "k", "1").await;
    let mut follower = on.follow(0, false).await;
    let txn = Txn {
        compares: vec![Compare::ModRevision { key: on.key("k"), is: Revision(0) }],
        success: vec![put(on.key("k"), "never")],
        failure: vec![Op::Get { key: on.key("k") }],
    };
    assert!(!on.commit(1, txn).await.succeeded);
    let written = on.put(1, "other", "").await;
    follower.until(written).await;
    assert_eq!(follower.events().iter().map(key).collect::<Vec<_>>(), [on.key("other")]);
}

pub async fn a_transaction_is_told_whole_before_its_revision_is_claimed<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    on.put(0, "old", "").await;
    let mut follower = on.follow(0, false).await;
    let mut ops: Vec<Op> = (0..100).map(|n| put(on.key(&format!("new/{n}")), "")).collect();
    ops.push(Op::Delete { key: on.key("old") });
    let together = on.apply(1, ops).await.header.revision;
    follower.until(together).await;
    assert_eq!(follower.events.len(), 101);
    assert!(follower.events.iter().all(|(event, _)| revision(event) == together));
    assert_eq!(follower.state().len(), 100);
}

pub async fn keys_beside_the_prefix_are_not_told<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let bare = on.prefix.trim_end_matches('/');
    let beside = [bare.to_owned(), format!("{bare}.x"), format!("{bare}0"), format!("{bare}x/y")];
    let write = |text: &'static str| beside.iter().map(move |key| put(key.clone(), text));
    on.apply(0, write("before").collect()).await;
    let mut follower = on.follow(0, false).await;
    assert!(follower.snapshot.kvs.is_empty(), "{:?}", follower.snapshot);
    on.apply(1, write("after").collect()).await;
    let inside = on.apply(1, vec![put(on.prefix.clone(), "the prefix itself is inside")]).await;
    follower.until(inside.header.revision).await;
    assert_eq!(follower.events().iter().map(key).collect::<Vec<_>>(), [&on.prefix]);
    on.apply(0, beside.iter().map(|key| Op::Delete { key: key.clone() }).collect()).await;
}

/// Writes and deletes by every handle at once; returns each write's revision, ascending.
async fn write_concurrently<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
    rounds: usize,
) -> Vec<Revision> {
    let writer = |number: usize| async move {
        let mut written = Vec::new();
        for round in 0..rounds {
            let own = format!("writer/{number}");
            written.push(match round % 3 {
                0 => on.put(number, "shared", &round.to_string()).await,
                1 => on.put(number, &own, &round.to_string()).await,
                _ => on.delete(number, &own).await,
            });
        }
        written
    };
    let mut all: Vec<_> = join_all((0..4).map(writer)).await.into_iter().flatten().collect();
    all.sort();
    all
}

/// Every write was told, once. That nothing was told after its revision was claimed, each step of
/// the follower has seen to.
fn assert_no_hole<S: Store, C: Clock>(follower: &Follower<'_, S, C>, written: &[Revision]) {
    let began = follower.snapshot.header.revision;
    let expected: Vec<_> = written.iter().copied().filter(|&write| write > began).collect();
    let told: Vec<_> = follower.events.iter().map(|(event, _)| revision(event)).collect();
    assert_eq!(told, expected);
}

pub async fn concurrent_writes_come_in_order_and_without_a_hole<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let mut follower = on.follow(0, false).await;
    let written = write_concurrently(on, 30).await;
    follower.until(*written.last().unwrap()).await;
    assert_no_hole(&follower, &written);
}

pub async fn two_followers_see_the_same_order<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let mut one = on.follow(0, false).await;
    let mut two = on.follow(1, false).await;
    let last = *write_concurrently(on, 15).await.last().unwrap();
    join(one.until(last), two.until(last)).await;
    assert_eq!(one.events(), two.events());
}

/// Also for those who begin while others write.
pub async fn snapshot_and_events_together_are_the_state<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let begin = |number: usize| async move {
        for round in 0..number {
            on.put(number, "delay", &round.to_string()).await;
        }
        on.follow(number, false).await
    };
    let (_, followers) = join(write_concurrently(on, 30), join_all((0..6).map(begin))).await;
    let last = on.put(0, "last", "").await;
    let fresh = on.follow(1, false).await;
    for mut follower in followers {
        follower.until(last).await;
        assert_eq!(follower.state(), fresh.state());
    }
}

pub async fn following_elsewhere_tells_the_same<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let mut here = on.follow(0, false).await;
    for _ in 0..3 {
        let mut there = on.follow(0, true).await;
        let written = write_concurrently(on, 3).await;
        join(here.until(*written.last().unwrap()), there.until(*written.last().unwrap())).await;
        assert_no_hole(&there, &written);
        assert_eq!(here.state(), there.state());
    }
}

/// The states that are told of a key, from the first on, up to that of `revision`.
async fn told_of<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
    keys: &mut (impl Stream<Item = ForeignKey> + Unpin),
    revision: Revision,
) -> Vec<(Option<Vec<u8>>, Revision)> {
    let mut told: Vec<(Option<Vec<u8>>, Revision)> = Vec::new();
    loop {
        let next = on.in_time("a key", keys.next()).await.expect("it does not end");
        let (kv, at) = next.state.expect("it may be read");
        assert!(told.iter().all(|(_, before)| *before <= at), "{told:?}, then {at}");
        assert!(kv.iter().all(|kv| kv.key == next.key && kv.mod_revision <= at), "{kv:?}");
        told.push((kv.map(|kv| kv.value), at));
        if at >= revision {
            return told;
        }
    }
}

pub async fn a_key_by_itself_is_told_as_it_is_and_whenever_it_changes<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let mut keys = pin!(on.store(0).follow_keys([on.key("k")].into()));
    let absent = told_of(on, &mut keys, Revision(0)).await;
    assert_eq!(absent[0].0, None);
    on.put(1, "k2", "another key").await;
    let written = on.put(1, "k", "1").await;
    let told = told_of(on, &mut keys, written).await;
    assert_eq!(told.last(), Some(&(Some(b"1".to_vec()), written)));
    let deleted = on.delete(1, "k").await;
    let told = told_of(on, &mut keys, deleted).await;
    assert_eq!(told.last(), Some(&(None, deleted)));
    let again = on.put(0, "k", "2").await;
    let mut later = pin!(on.store(1).follow_keys([on.key("k")].into()));
    for keys in [&mut keys, &mut later] {
        let told = told_of(on, keys, again).await;
        assert_eq!(told.last(), Some(&(Some(b"2".to_vec()), told.last().unwrap().1)));
    }
}

pub async fn a_key_is_told_whole_however_long_its_name_is<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let name = "k".repeat(1000);
    let written = on.put(0, &name, "1").await;
    let mut keys = pin!(on.store(1).follow_keys([on.key(&name)].into()));
    let told = told_of(on, &mut keys, written).await;
    assert_eq!(told.last(), Some(&(Some(b"1".to_vec()), written)));
    let changed = on.put(0, &name, "2").await;
    let told = told_of(on, &mut keys, changed).await;
    assert_eq!(told.last(), Some(&(Some(b"2".to_vec()), changed)));
}

pub async fn several_keys_are_told_each_for_itself<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    for name in ["a", "b"] {
        on.put(0, name, name).await;
    }
    let both = [on.key("a"), on.key("b")].into();
    let mut keys = pin!(on.store(1).follow_keys(both));
    let mut told = BTreeSet::new();
    while told.len() < 2 {
        let next = on.in_time("a key", keys.next()).await.expect("it does not end");
        told.insert(next.key);
    }
    let changed = on.put(0, "b", "changed").await;
    let told = told_of(on, &mut keys, changed).await;
    assert_eq!(told.last(), Some(&(Some(b"changed".to_vec()), changed)));
}
