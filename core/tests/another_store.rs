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

/// Rule 9.7. A member fills the term into an answer some time after it has carried the request out: of two
/// that are under way at once, the one that comes later may be of the earlier term.
#[test]
fn an_answer_that_was_under_way_when_a_later_term_was_learnt_is_of_the_same_store() {
    for (mutant, alarms) in [(None, false), (Some(Mutant::OldTermAlarms), true)] {
        let mut world = a_holds();
        if let Some(mutant) = mutant {
            world.hosts[1].node.set_mutant(mutant);
        }
        world.hosts[1].hold_commits = true;
        world.run_until(SECOND, |world| world.hosts[1].commits.len() >= 2);
        for term in [3, 2] {
            world.etcd.raft_term = term;
            world.deliver(1);
        }
        world.etcd.raft_term = 3;
        world.hosts[1].hold_commits = false;
        world.run(SECOND);
        let is_alarm = world.said(1, "went back to raft term 2 from 3");
        assert_eq!(is_alarm, alarms, "{mutant:?}: {}", world.story());
    }
}

/// Rule 9.3. In the backup b has the address, and a's session is as it was: its renewal, sent when nothing
/// was heard any more, lands when its lease has run out and b has the address.
#[test]
fn what_was_had_before_is_not_assumed_when_a_late_renewal_lands_while_news_are_stale() {
    for (mutant, overlaps) in [(None, false), (Some(Mutant::CountsUntold), true)] {
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

/// a's session is as it was in the backup, and b has the address there; b hears of it at once, and a may write.
fn restore_with_the_address_at_b(world: &mut World) {
    world.etcd.kvs = named_for_b(world, 1, 2);
    world.etcd.revision += RAISED;
    world.etcd.history.clear();
    let now = world.now;
    world.hosts[1].told = None;
    world.hosts[1].node.handle_follow_failed(&StoreError::Unavailable("restored".into()), now);
}

/// Rule 9.3. Whatever a knows of its watch when its late renewal lands: that it is over for long, since only just
/// now, or nothing.
#[test]
fn a_late_renewal_brings_nothing_back_before_the_watch_has_told_it() {
    for (mutant, comes_back) in [(None, false), (Some(Mutant::CountsUntold), true)] {
        for breaks_after in [Some(1_500), Some(2_700), None] {
            let mut world = a_holds();
            if let Some(mutant) = mutant {
                world.hosts[0].node.set_mutant(mutant);
            }
            (world.hosts[0].hold_commits, world.hosts[0].watch_cut) = (true, true);
            if let Some(after) = breaks_after {
                world.run(after * MS);
                let (now, broken) = (world.now, StoreError::Unavailable("cut".into()));
                world.hosts[0].node.handle_follow_failed(&broken, now);
            }
            world.run_until(4 * SECOND, |world| world.holders().is_empty());
            restore_with_the_address_at_b(&mut world);
            let last = world.hosts[0].commits.pop_back().expect("a renewal is under way");
            world.hosts[0].commits = [last].into();
            world.deliver(0);
            world.hosts[0].hold_commits = true;
            let mut lasts = 0;
            for _ in 0..2_000 {
                world.run(MS);
                lasts += u32::from(world.hosts[0].addresses.iter().any(|one| one.marked));
            }
            let story = world.story();
            assert_eq!(lasts > 0, comes_back, "{mutant:?}, {breaks_after:?}: {lasts} ms: {story}");
        }
    }
}

/// Rules 9.3 and 9.5. a holds when the store is restored, its watch says nothing of that and does not break,
/// and its renewals land: they keep nothing beyond what was renewed before.
#[test]
fn what_is_held_is_not_kept_by_renewals_that_the_watch_does_not_tell() {
    for (mutant, overlaps) in [(None, false), (Some(Mutant::CountsUntold), true)] {
        let mut world = a_holds();
        if let Some(mutant) = mutant {
            world.hosts[0].node.set_mutant(mutant);
        }
        world.hosts[0].watch_cut = true;
        restore_with_the_address_at_b(&mut world);
        let overlap = overlap(&mut world);
        assert_eq!(overlap > 0, overlaps, "{mutant:?}: {overlap} ms: {}", world.story());
    }
}

/// Rules 10.4 and 9.5. The same, and they hear each other: that a's session was written since the change does
/// not show that a knows of it.
#[test]
fn who_does_not_know_that_the_store_changed_is_not_acknowledged_though_its_session_was_written_since()
 {
    for (mutant, overlaps) in [(None, false), (Some(Mutant::UnawareAcknowledged), true)] {
        let mut world = World::hearing(&["a", "b"]);
        assert_eq!(world.holders(), [0]);
        if let Some(mutant) = mutant {
            world.hosts[1].node.set_mutant(mutant);
        }
        world.hosts[0].watch_cut = true;
        restore_with_the_address_at_b(&mut world);
        let mut lasts = 0;
        for _ in 0..10_000 {
            world.run(MS);
            lasts += u32::from(world.holders().len() > 1);
        }
        assert_eq!(lasts > 0, overlaps, "{mutant:?}: {lasts} ms: {}", world.story());
        assert!(world.holders().contains(&1), "{}", world.story());
    }
}

/// Rule 9.3. No news of a's renewals come, and the store is the same: a is silent before anybody takes over, and
/// has the address again when they come.
#[test]
fn a_host_whose_watch_is_behind_holds_by_what_it_was_told_and_goes_on_when_it_is_told_more() {
    let mut world = a_holds();
    world.hosts[0].watch_cut = true;
    world.run(SECOND);
    assert_eq!(world.holders(), [0], "told a second ago");
    world.hosts[0].watch_cut = false;
    for _ in 0..6_000 {
        world.run(MS);
        assert_eq!(world.holders(), [0], "{}", world.story());
    }
}
