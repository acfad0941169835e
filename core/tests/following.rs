//! Rule 13: VIPs that are where a key of another program says.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::time::Duration;

use turnip_core::records::{NodeRecord, decode};
use turnip_core::*;
use world::{MS, World, config, hearing, vip};

const KEY: &str = "/service/batman/leader";
const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(20);

fn follow(value: &str) -> Follow {
    Follow {
        key: KEY.into(),
        value: value.into(),
        pointer: None,
        absent: Absent::Nobody,
        unchanged: None,
    }
}

fn following(follow: Follow) -> Vec<VipConfig> {
    vec![vip("v", "10.0.0.50/32", Policy::Follow(follow))]
}

/// Two nodes, a and b, of which the key has named none yet. `with` changes how they follow it.
fn unnamed(with: impl Fn(Follow) -> Follow) -> World {
    let node = |name: &str, there: &str| config(name, following(with(follow(there))));
    let mut world = World::new(vec![node("a", "pg1"), node("b", "pg2")]);
    world.run(SECOND);
    assert_eq!(world.holders(), [0_usize; 0], "{}", world.story());
    world
}

/// The same when it has named a.
fn named(with: impl Fn(Follow) -> Follow) -> World {
    let mut world = unnamed(with);
    world.etcd.put(KEY, "pg1");
    world.run_until(SECOND, |w| w.holders() == [0]);
    world
}

fn blocked(world: &World, node: &str) -> Option<String> {
    let key = format!("/turnip/main/nodes/{node}");
    let record: NodeRecord = decode(&world.etcd.kvs[&key].value).unwrap();
    record.vips["v"].blocked.clone()
}

/// Rules 13.1 and 13.3.
#[test]
fn a_vip_is_on_the_host_that_the_key_names_and_goes_with_it_at_once() {
    let mut world = named(|follow| follow);
    assert_eq!(
        blocked(&world, "b").as_deref(),
        Some("the key /service/batman/leader names pg1, and this host is pg2 there")
    );
    world.etcd.put(KEY, "pg2");
    world.run_until(50 * MS, |w| w.holders() == [1]);
    assert!(world.said(0, "names pg2, and this host is pg1 there"), "{}", world.story());
    world.run(5 * SECOND);
    assert_eq!(world.holders(), [1]);
}

/// Rule 13.1.
#[test]
fn a_vip_that_goes_wherever_it_may_is_noticed() {
    let mut world = unnamed(|follow| follow);
    world.hosts.iter_mut().for_each(|host| host.node.set_mutant(Mutant::FollowedIgnored));
    world.etcd.put(KEY, "nobody");
    world.run_until(LIMIT, |w| !w.holders().is_empty());
}

/// Rule 13.1: neither an operator's pin nor the end of a host takes it elsewhere.
#[test]
fn nobody_else_takes_it_whatever_becomes_of_the_host_that_is_named() {
    let mut world = named(|follow| follow);
    world.etcd.put("/turnip/main/intents/pin/v", "{\"v\":1,\"node\":\"b\"}");
    world.run(2 * SECOND);
    assert_eq!(world.holders(), [0]);
    world.hosts[0].frozen = true;
    world.hosts[0].addresses.clear();
    world.run(10 * SECOND);
    assert_eq!(world.holders(), [0_usize; 0], "{}", world.story());
    world.etcd.put(KEY, "pg2");
    world.run_until(SECOND, |w| w.holders() == [1]);
}

/// Rule 13.4.
#[test]
fn a_key_that_is_gone_leaves_the_vip_with_nobody_or_with_the_last() {
    let mut nobody = named(|follow| follow);
    nobody.etcd.delete(KEY);
    nobody.run_until(50 * MS, |w| w.holders().is_empty());
    nobody.run(5 * SECOND);
    assert_eq!((nobody.holders(), nobody.owner("v")), (vec![], None));

    let mut last = named(|follow| Follow { absent: Absent::Last, ..follow });
    last.etcd.delete(KEY);
    last.run(5 * SECOND);
    assert_eq!(last.holders(), [0]);
    last.etcd.put(KEY, "pg2");
    last.run_until(SECOND, |w| w.holders() == [1]);
    last.etcd.delete(KEY);
    last.hosts[1].frozen = true;
    last.hosts[1].addresses.clear();
    last.run(10 * SECOND);
    assert_eq!(last.holders(), [0_usize; 0], "nobody else takes it: {}", last.story());
}

/// Rule 13.2.
#[test]
fn a_name_may_stand_inside_of_a_value_and_what_has_none_there_names_nobody() {
    let pointer = |follow| Follow { pointer: Some("/leader/name".into()), ..follow };
    let mut world = unnamed(pointer);
    world.etcd.put(KEY, r#"{"leader": {"name": "pg1"}}"#);
    world.run_until(SECOND, |w| w.holders() == [0]);
    for (value, says) in [
        (r#"{"leader": {}}"#, "names nobody at /leader/name"),
        ("pg1", "has no JSON"),
        (r#"{"leader": {"name": ["pg1"]}}"#, "names nobody at /leader/name"),
    ] {
        world.etcd.put(KEY, value);
        world.run(4 * SECOND);
        assert_eq!(world.holders(), [0_usize; 0], "{value}: {}", world.story());
        assert!(blocked(&world, "a").unwrap().contains(says), "{:?}", blocked(&world, "a"));
    }
    world.etcd.put(KEY, r#"{"leader": {"name": "pg2"}}"#);
    world.run_until(SECOND, |w| w.holders() == [1]);
}

/// Rule 13.5.
#[test]
fn a_key_that_is_not_written_any_more_names_nobody_until_it_is_again() {
    let mut world = named(|follow| Follow { unchanged: Some(5 * SECOND), ..follow });
    for _ in 0..4 {
        world.run(4 * SECOND);
        assert_eq!(world.holders(), [0], "{}", world.story());
        world.etcd.put(KEY, "pg1");
    }
    world.run(6 * SECOND);
    assert_eq!(world.holders(), [0_usize; 0], "{}", world.story());
    assert!(blocked(&world, "a").unwrap().contains("has not been written for 5 s"));
    world.etcd.put(KEY, "pg1");
    world.run_until(SECOND, |w| w.holders() == [0]);
}

/// Rule 13.2: what is told of the key never goes back, and what cannot be read is said.
#[test]
fn what_is_told_late_of_a_key_is_ignored_and_what_cannot_be_read_names_nobody() {
    let mut world = named(|follow| follow);
    let late = world.etcd.kvs[KEY].clone();
    world.etcd.put(KEY, "pg2");
    world.run_until(SECOND, |w| w.holders() == [1]);
    let as_of = late.mod_revision;
    let now = world.now;
    for host in &mut world.hosts {
        host.node.handle_key(
            ForeignKey { key: KEY.into(), state: Ok((Some(late.clone()), as_of)) },
            now,
        );
    }
    world.run(SECOND);
    assert_eq!(world.holders(), [1], "{}", world.story());
    let refused = ForeignKey { key: KEY.into(), state: Err("permission denied".into()) };
    let now = world.now;
    world.hosts[1].node.handle_key(refused, now);
    world.run_until(100 * MS, |w| w.holders().is_empty());
    assert!(world.said(1, "cannot be read: permission denied"), "{}", world.story());
}

/// Rules 13.4 and 6.1: what an earlier process left stays until it is known whom the key names.
#[test]
fn a_daemon_that_is_started_anew_keeps_what_is_named_for_it() {
    let mut world = named(|follow| follow);
    world.restart(0);
    world.hosts[0].watch_cut = true;
    let held = |w: &World| w.holders() == [0];
    for _ in 0..20 {
        world.run(10 * MS);
        assert!(held(&world), "{}", world.story());
    }
    world.hosts[0].watch_cut = false;
    world.run(5 * SECOND);
    assert!(held(&world), "{}", world.story());
    world.restart(0);
    world.etcd.put(KEY, "pg2");
    world.run_until(5 * SECOND, |w| w.holders() == [1]);
}

/// Two nodes that hear each other, the first of them named, and then without the store.
fn away(with: impl Fn(Follow) -> Follow, mutant: Option<Mutant>) -> World {
    let node = |name: &str, there: &str| NodeConfig {
        vips: following(with(follow(there))),
        ..hearing(name)
    };
    let mut world = World::new(Vec::new());
    for (name, there) in [("a", "pg1"), ("b", "pg2"), ("c", "pg3")] {
        world.start(node(name, there));
        world.run(100 * MS);
    }
    if let Some(mutant) = mutant {
        world.hosts.iter_mut().for_each(|host| host.node.set_mutant(mutant));
    }
    world.etcd.put(KEY, "pg1");
    world.run(10 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
    world.stop_store();
    world
}

/// Rule 13.6.
#[test]
fn a_host_that_hears_nothing_of_the_key_for_two_leases_keeps_the_vip_no_longer() {
    let mut world = away(|follow| follow, None);
    world.run(3 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
    world.run(4 * SECOND);
    assert_eq!(world.holders(), [0_usize; 0], "{}", world.story());
    assert!(
        world.said(0, "may name another in /service/batman/leader by now"),
        "{}",
        world.story()
    );
    world.start_store();
    world.run_until(LIMIT, |w| w.holders() == [0]);

    let mut last = away(|follow| Follow { absent: Absent::Last, ..follow }, None);
    last.run(60 * SECOND);
    assert_eq!(last.holders(), [0], "{}", last.story());

    let mut mutant = away(|follow| follow, Some(Mutant::FollowedWhileAway));
    mutant.run(60 * SECOND);
    assert_eq!(mutant.holders(), [0], "by consent alone: {}", mutant.story());
}

/// Rules 13.6 and 10.10: who was cut off from the store alone keeps nobody from what the key says.
#[test]
fn a_host_that_is_cut_off_from_the_store_alone_gives_way_to_who_is_named() {
    let mut world = away(|follow| follow, None);
    world.start_store();
    world.run(10 * SECOND);
    (world.hosts[0].cut, world.hosts[0].watch_cut) = (true, true);
    world.etcd.put(KEY, "pg2");
    world.run_until(LIMIT, |w| w.holders() == [1]);
}

/// Rule 14: another key, or another name there, counts at once.
#[test]
fn a_changed_configuration_follows_another_key_without_a_new_session() {
    let mut world = named(|follow| follow);
    let session = world.session("a").unwrap().create_revision;
    for (host, there) in [(0, "x"), (1, "pg1")] {
        world.reload(host, following(follow(there)));
    }
    world.run_until(5 * SECOND, |w| w.holders() == [1]);
    world.etcd.put("/other", "x");
    for (host, there) in [(0, "x"), (1, "pg1")] {
        world.reload(host, following(Follow { key: "/other".into(), ..follow(there) }));
    }
    world.run_until(5 * SECOND, |w| w.holders() == [0]);
    assert_eq!(world.session("a").unwrap().create_revision, session);
}

/// Rule 14: a VIP that is new, or has another name, reads a key that was followed already.
#[test]
fn a_vip_that_is_added_or_renamed_reads_a_key_that_another_follows_already() {
    let mut world = named(|follow| follow);
    let policy = |there: &str| Policy::Follow(follow(there));
    for (host, there) in [(0, "pg1"), (1, "pg2")] {
        let more = vip("w", "10.0.0.51/32", policy(there));
        world.reload(host, [following(follow(there)), vec![more]].concat());
    }
    world.run_until(5 * SECOND, |w| w.holder_of("10.0.0.51/32") == [0]);
    for (host, there) in [(0, "pg1"), (1, "pg2")] {
        world.reload(host, vec![vip("x", "10.0.0.50/32", policy(there))]);
    }
    world.run_until(10 * SECOND, |w| w.holder_of("10.0.0.50/32") == [0] && w.owner("x").is_some());
}

/// Rule 13.2: an empty value has no name in it.
#[test]
fn an_empty_value_names_nobody() {
    for (pointer, value) in [(None, ""), (None, " \n"), (Some("/l"), r#"{"l": ""}"#)] {
        let named_by = |name: &str| match pointer {
            None => name.to_owned(),
            Some(_) => format!(r#"{{"l": "{name}"}}"#),
        };
        let last =
            |follow| Follow { pointer: pointer.map(str::to_owned), absent: Absent::Last, ..follow };
        let mut world = unnamed(last);
        world.etcd.put(KEY, &named_by("pg1"));
        world.run_until(SECOND, |w| w.holders() == [0]);
        world.etcd.put(KEY, value);
        world.run(2 * SECOND);
        assert_eq!(world.holders(), [0], "{value:?}: {}", world.story());
        let why = blocked(&world, "b").unwrap();
        assert!(why.contains("names nobody"), "{value:?}: {why}");
    }
}

/// Rules 13.4 and 13.6.
#[test]
fn what_an_earlier_process_left_stays_no_longer_than_two_leases_without_the_store() {
    let mut world = away(|follow| follow, None);
    world.start_store();
    world.run(10 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
    world.restart(0);
    world.hosts[0].keys_cut = true;
    world.run(5 * SECOND);
    assert_eq!(world.holders(), [0], "the key is not read yet: {}", world.story());
    world.stop_store();
    world.run(10 * SECOND);
    assert_eq!(world.holders(), [0_usize; 0], "{}", world.story());
}

/// Rule 13.5.
#[test]
fn a_key_that_is_too_old_stays_so_while_another_vip_changes() {
    let unchanged = |there: &str| Follow { unchanged: Some(5 * SECOND), ..follow(there) };
    let with = |there: &str, other: &str| {
        let other = vip("w", other, Policy::Spread);
        [following(unchanged(there)), vec![other]].concat()
    };
    let node = |name: &str, there: &str| config(name, with(there, "10.0.0.60/32"));
    let mut world = World::new(vec![node("a", "pg1"), node("b", "pg2")]);
    world.etcd.put(KEY, "pg1");
    world.run(8 * SECOND);
    assert!(world.holder_of("10.0.0.50/32").is_empty(), "{}", world.story());
    let before = world.etcd.history.len();
    for (host, there) in [(0, "pg1"), (1, "pg2")] {
        world.reload(host, with(there, "10.0.0.61/32"));
    }
    world.run_until(10 * SECOND, |w| !w.holder_of("10.0.0.61/32").is_empty());
    for (_, event) in &world.etcd.history[before..] {
        if let Event::Put(kv) = event
            && kv.key.ends_with("/nodes/a")
        {
            let record: NodeRecord = decode(&kv.value).unwrap();
            assert!(record.vips["v"].blocked.is_some(), "{}", world.story());
        }
    }
}

/// Rule 13.7.
#[test]
fn what_is_still_told_of_the_store_that_was_is_not_believed() {
    let mut world = named(|follow| follow);
    world.run(10 * SECOND);
    // Restored from a backup of before, while a member that was not tells what it had.
    let old = ForeignKey {
        key: KEY.into(),
        state: Ok((world.etcd.kvs.get(KEY).cloned(), Revision(world.etcd.revision + 1000))),
    };
    world.etcd.cluster_id = 8;
    world.etcd.kvs.clear();
    // What is read anew is of earlier revisions than what was known.
    world.etcd.revision = 5;
    world.etcd.put(KEY, "pg2");
    for host in 0..2 {
        let changed = |w: &World| w.said(host, "another store") || w.said(host, "cluster");
        world.run_until(5 * SECOND, changed);
        let now = world.now;
        world.hosts[host].node.handle_key(old.clone(), now);
    }
    world.run_until(30 * SECOND, |w| w.holders() == [1]);
}

/// Rule 13.4.
#[test]
fn who_was_the_last_keeps_what_is_not_there_until_the_key_is_read() {
    let mut world = named(|follow| Follow { absent: Absent::Last, ..follow });
    world.etcd.delete(KEY);
    world.run(SECOND);
    world.restart(0);
    // Nothing of it is there any more.
    world.hosts[0].addresses.clear();
    world.hosts[0].keys_cut = true;
    world.run(SECOND);
    assert_eq!(world.holders(), [0_usize; 0], "{}", world.story());
    world.hosts[0].keys_cut = false;
    let (state, now) = ((None, Revision(world.etcd.revision)), world.now);
    world.hosts[0].node.handle_key(ForeignKey { key: KEY.into(), state: Ok(state) }, now);
    world.run(5 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
}

/// Rule 13.6.
#[test]
fn the_last_goes_as_well_where_it_alone_is_cut_off_from_the_store() {
    for unchanged in [None, Some(5 * SECOND)] {
        let last = |follow| Follow { absent: Absent::Last, unchanged, ..follow };
        let mut world = away(last, None);
        world.start_store();
        world.run(10 * SECOND);
        (world.hosts[0].cut, world.hosts[0].watch_cut) = (true, true);
        world.etcd.put(KEY, "pg2");
        let comes = |w: &World| w.holders() == [1] || unchanged.is_some() && w.holders().is_empty();
        world.run_until(30 * SECOND, comes);
        assert!(world.said(0, "may name another"), "{}", world.story());
    }
}

/// Rule 13.6: who reaches the store a little later than others after an outage is not cut off from it.
#[test]
fn the_last_stays_where_another_reaches_the_store_first_after_an_outage() {
    let mut world = away(|follow| Follow { absent: Absent::Last, ..follow }, None);
    world.run(60 * SECOND);
    for host in [1, 2] {
        (world.hosts[host].cut, world.hosts[host].watch_cut) = (false, false);
    }
    let holds = |w: &World| w.holders() == [0];
    for _ in 0..50 {
        world.run(100 * MS);
        assert!(holds(&world), "{}", world.story());
    }
    world.start_store();
    for _ in 0..300 {
        world.run(100 * MS);
        assert!(holds(&world), "{}", world.story());
    }
}

/// Rule 13.3: what is said of a key that names another at every moment is no write at every moment.
#[test]
fn a_key_that_changes_all_the_time_does_not_keep_the_store_busy() {
    let mut world = named(|follow| follow);
    world.etcd.put(KEY, "pg9");
    world.run(SECOND);
    let of = |w: &World, name: &str| {
        w.etcd.history.iter().filter(|(_, event)| event.key().ends_with(name)).count()
    };
    let before = of(&world, "/nodes/a");
    for number in 0..3000 {
        world.etcd.put(KEY, &format!("x{number}"));
        world.run(MS);
    }
    let written = of(&world, "/nodes/a") - before;
    assert!(written <= 10, "{written} times in 3 s");
    world.run(10 * SECOND);
    assert!(blocked(&world, "a").unwrap().contains("names x2999"), "{:?}", blocked(&world, "a"));
    world.etcd.put(KEY, "pg1");
    world.run_until(50 * MS, |w| w.holders() == [0]);
}

/// Rule 13.2.
#[test]
fn white_space_around_a_name_is_none_of_it_and_a_number_is_a_name() {
    let mut world = unnamed(|follow| follow);
    world.etcd.put(KEY, " pg1\n");
    world.run_until(SECOND, |w| w.holders() == [0]);

    let numbered = |there: &str| {
        let number = if there == "pg1" { "1" } else { "2" };
        Follow { pointer: Some("/leader".into()), ..follow(number) }
    };
    let mut world = unnamed(|follow| numbered(&follow.value));
    world.etcd.put(KEY, r#"{"leader": 2}"#);
    world.run_until(SECOND, |w| w.holders() == [1]);
}

/// Rules 13.2, 13.4 and 13.5: each is a key that names nobody.
#[test]
fn the_last_keeps_it_where_the_key_has_no_text_or_is_not_written_any_more() {
    let last = |follow| Follow { absent: Absent::Last, unchanged: Some(5 * SECOND), ..follow };
    let mut world = named(last);
    world.run(10 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
    assert!(blocked(&world, "b").unwrap().contains("has not been written for 5 s"));
    world.etcd.put(KEY, "pg2");
    world.run_until(SECOND, |w| w.holders() == [1]);
    let kv = KeyValue { value: vec![b'p', 0xff], ..world.etcd.kvs[KEY].clone() };
    let (as_of, now) = (Revision(world.etcd.revision), world.now);
    for host in &mut world.hosts {
        let state = Ok((Some(kv.clone()), as_of));
        host.node.handle_key(ForeignKey { key: KEY.into(), state }, now);
    }
    world.run(4 * SECOND);
    assert_eq!(world.holders(), [1], "{}", world.story());
    assert!(blocked(&world, "a").unwrap().contains("has no text"));
}

/// Rule 13.5: reading a key again is no write.
#[test]
fn a_key_that_is_read_anew_is_not_written_anew() {
    let mut world = named(|follow| Follow { unchanged: Some(5 * SECOND), ..follow });
    let kv = world.etcd.kvs[KEY].clone();
    for _ in 0..6 {
        let (as_of, now) = (Revision(world.etcd.revision), world.now);
        let state = Ok((Some(kv.clone()), as_of));
        world.hosts[0].node.handle_key(ForeignKey { key: KEY.into(), state }, now);
        world.run(SECOND);
    }
    assert_eq!(world.holders(), [0_usize; 0], "{}", world.story());
}
