//! A2: the store turns out to be another one than before. Host a has the address and is cut off from it;
//! host b must notice, and wait until a is silent.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use turnip_core::*;
use world::*;

const SECOND: Duration = Duration::from_secs(1);
const RAISED: i64 = 1_000_000;
const V: &str = "/turnip/main/vips/v";

/// a has the address; both have renewed for a while.
fn a_holds() -> World {
    let mut world = World::of(&["a", "b"]);
    world.run(2 * SECOND);
    assert_eq!(world.holders(), [0]);
    world
}

/// The store holds that from now on, at that revision, and all streams break; a hears nothing of it.
fn replace(world: &mut World, kvs: BTreeMap<String, KeyValue>, revision: i64) {
    (world.hosts[0].cut, world.hosts[0].watch_cut) = (true, true);
    (world.etcd.kvs, world.etcd.revision) = (kvs, revision);
    world.etcd.history.clear();
    let now = world.now;
    for host in &mut world.hosts {
        host.told = None;
        host.node.handle_follow_failed(&StoreError::Unavailable("restored".into()), now);
    }
}

/// For how many ms both have the address, until b alone has it.
fn overlap(world: &mut World) -> u32 {
    let mut lasts = 0;
    for _ in 0..15_000 {
        world.run(MS);
        lasts += u32::from(world.holders().len() > 1);
    }
    assert_eq!(world.holders(), [1], "{}", world.story());
    lasts
}

/// What etcd has, but with the address named for b's session by another write.
fn named_for_b(world: &World, created: i64, modified: i64) -> BTreeMap<String, KeyValue> {
    let session = world.session("b").unwrap().create_revision;
    let value = format!(r#"{{"v":1,"node":"b","session":{session},"since_unix_ms":0}}"#);
    let mut kvs = world.etcd.kvs.clone();
    let v = kvs.get_mut(V).unwrap();
    v.value = value.into_bytes();
    (v.create_revision, v.mod_revision) = (Revision(created), Revision(modified));
    kvs
}

fn notices(mutant: Mutant, says: &str, happens: impl Fn(&mut World)) {
    for mutant in [None, Some(mutant)] {
        let mut world = a_holds();
        if let Some(mutant) = mutant {
            world.hosts[1].node.set_mutant(mutant);
        }
        happens(&mut world);
        let overlap = overlap(&mut world);
        assert_eq!(overlap > 0, mutant.is_some(), "{mutant:?} {overlap} ms: {}", world.story());
        let warnings = world.hosts[1].reports.iter();
        let warnings: Vec<&Report> =
            warnings.filter(|report| matches!(report, Report::StoreChanged { .. })).collect();
        assert_eq!(warnings.len(), usize::from(mutant.is_none()), "one: {warnings:?}");
        assert!(warnings.iter().all(|one| one.level() == Level::Warn));
        assert_eq!(world.said(1, says), mutant.is_none(), "{}", world.story());
    }
}

/// Rules 9.5 and 9.8. Restored from a backup in which b has the address, with raised revisions.
#[test]
fn a_key_at_an_earlier_write_is_noticed_however_high_the_revision_is() {
    notices(Mutant::EarlierWriteIgnored, "was last written at revision", |world| {
        let first = world.etcd.kvs[V].clone();
        // It was written again since the backup.
        world.etcd.put(V, std::str::from_utf8(&first.value).unwrap());
        world.run(SECOND);
        let kvs = named_for_b(world, first.create_revision.0, first.mod_revision.0);
        let revision = world.etcd.revision + RAISED;
        replace(world, kvs, revision);
    });
}

/// Rule 9.8. Restored from a backup of before the address was owned at all, and written to since.
#[test]
fn a_key_that_came_to_be_anew_without_having_been_deleted_is_noticed() {
    notices(Mutant::RecreationIgnored, "nobody has deleted it", |world| {
        let revision = world.etcd.revision + RAISED;
        let kvs = named_for_b(world, 1, revision);
        replace(world, kvs, revision);
    });
}

/// Rule 9.7. All that b knows fits; but etcd's raft began anew.
#[test]
fn a_member_in_an_earlier_raft_term_is_noticed_when_all_that_is_known_fits() {
    notices(Mutant::EarlierTermIgnored, "went back to raft term 1 from 2", |world| {
        let (revision, created) = (world.etcd.revision + RAISED, world.etcd.kvs[V].create_revision);
        let kvs = named_for_b(world, created.0, revision);
        world.etcd.raft_term = 1;
        replace(world, kvs, revision);
    });
}

/// Rule 9.9. Restored from a backup of before both came, and written to since.
#[test]
fn that_the_own_session_is_gone_before_anybody_may_expire_it_is_noticed() {
    notices(Mutant::OwnAbsenceIgnored, "is not session", |world| {
        let revision = world.etcd.revision + RAISED;
        replace(world, BTreeMap::new(), revision);
    });
}

/// Rule 9.8.
#[test]
fn a_write_with_another_value_than_it_had_is_noticed() {
    for mutant in [None, Some(Mutant::OtherContentIgnored)] {
        let mut world = a_holds();
        if let Some(mutant) = mutant {
            world.hosts[1].node.set_mutant(mutant);
        }
        let (created, modified) =
            (world.etcd.kvs[V].create_revision, world.etcd.kvs[V].mod_revision);
        let kvs = named_for_b(&world, created.0, modified.0);
        let revision = world.etcd.revision;
        replace(&mut world, kvs, revision);
        world.run(SECOND);
        assert_eq!(world.said(1, "has another value"), mutant.is_none(), "{}", world.story());
    }
}

/// Rule 9.8. A watch of another history tells that a key was deleted when it is known to have been there.
#[test]
fn a_key_that_is_told_absent_when_it_was_there_is_noticed() {
    for mutant in [None, Some(Mutant::PresenceIgnored)] {
        let mut world = a_holds();
        if let Some(mutant) = mutant {
            world.hosts[1].node.set_mutant(mutant);
        }
        let revision = world.session("b").unwrap().mod_revision;
        let events = vec![Event::Delete { key: "/turnip/main/sessions/b".into(), revision }];
        let header = Header { revision, ..world.etcd.header() };
        let now = world.now;
        world.hosts[1].node.handle_update(Update::Events(Events { header, events }), now);
        world.run(SECOND);
        assert_eq!(world.said(1, "and was there then"), mutant.is_none(), "{}", world.story());
    }
}

/// Rule 9.5.
#[test]
fn who_has_noticed_waits_for_the_longest_lease_that_it_knew() {
    for mutant in [None, Some(Mutant::QuietByOwnLease)] {
        let mut world = World::new(Vec::new());
        let long = NodeConfig { lease: Lease::new(9 * SECOND).unwrap(), ..config("a", one_vip()) };
        world.start(long);
        world.run(100 * MS);
        world.start(config("b", one_vip()));
        world.run(2 * SECOND);
        if let Some(mutant) = mutant {
            world.hosts[1].node.set_mutant(mutant);
        }
        let revision = world.etcd.revision - 3;
        replace(&mut world, BTreeMap::new(), revision);
        assert_eq!(overlap(&mut world) > 0, mutant.is_some(), "{mutant:?}: {}", world.story());
    }
}

/// Rule 9.5. Of a session with a longer lease b learns only after the notice.
#[test]
fn who_has_noticed_waits_for_the_longest_lease_that_it_finds_then() {
    let mut world = a_holds();
    let revision = world.etcd.revision - 3;
    replace(&mut world, BTreeMap::new(), revision);
    let from = world.now;
    let c = r#"{"v":1,"lease_ms":9000,"host":"host-c","nonce":"0000000000000063-1"}"#;
    world.etcd.put("/turnip/main/sessions/c", c);
    world.run_until(20 * SECOND, |world| world.holders() == [1]);
    assert!(world.now.since(from) >= 9_090 * MS, "{}", world.story());
}

/// Rule 9.9: the watch tells of it.
#[test]
fn a_session_that_an_operator_deletes_is_lost_and_the_store_is_the_same() {
    let mut world = a_holds();
    world.etcd.delete("/turnip/main/sessions/a");
    world.run(5 * SECOND);
    assert!(world.said(0, "lost session"), "{}", world.story());
    assert!(!world.said(0, "not the store that it was"), "{}", world.story());
}

/// Rules 9.7 and 9.8: members lag behind each other, one was only just started, and old news come late.
#[test]
fn what_is_late_and_what_a_new_member_says_is_no_other_store() {
    let mut world = a_holds();
    world.hosts[1].watch_cut = true;
    world.run(SECOND / 2);
    world.hosts[1].watch_cut = false;
    for term in [3, 0, 3, 4] {
        world.etcd.raft_term = term;
        world.run(SECOND);
    }
    assert_eq!(world.holders(), [0]);
    assert!(!world.said(1, "not the store that it was"), "{}", world.story());
}

/// Rule 9.3. In the backup b has the address, and a's session is as it was: its renewal, sent when nothing
/// was heard any more, lands when its lease has run out and b has the address.
#[test]
fn what_was_had_before_is_not_assumed_when_a_late_renewal_lands_while_news_are_stale() {
    for (mutant, overlaps) in [(None, false), (Some(Mutant::AssumeWhileStale), true)] {
        let mut world = a_holds();
        if let Some(mutant) = mutant {
            world.hosts[0].node.set_mutant(mutant);
        }
        (world.hosts[0].hold_commits, world.hosts[0].watch_cut) = (true, true);
        // The stream breaks late; renewing stops a while after that.
        world.run(1_500 * MS);
        let now = world.now;
        let broken = StoreError::Unavailable("cut".into());
        world.hosts[0].node.handle_follow_failed(&broken, now);
        let is_stale = |world: &World| world.said(0, "no news come from etcd");
        world.run_until(3 * SECOND, |world| world.holders().is_empty() && is_stale(world));
        world.etcd.kvs = named_for_b(&world, 1, 2);
        world.etcd.history.clear();
        let last = world.hosts[0].commits.pop_back().expect("a renewal is under way");
        world.hosts[0].commits = [last].into();
        world.deliver(0);
        let (now, restored) = (world.now, StoreError::Unavailable("restored".into()));
        world.hosts[1].told = None;
        world.hosts[1].node.handle_follow_failed(&restored, now);
        let mut lasts = 0;
        for _ in 0..2_000 {
            world.run(MS);
            lasts += u32::from(world.hosts[0].addresses.iter().any(|one| one.marked));
        }
        assert_eq!(lasts > 0, overlaps, "{mutant:?}: {}", world.story());
    }
}
