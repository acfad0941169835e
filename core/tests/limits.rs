//! What somebody else wrote under the prefix, by mistake or on purpose, costs nobody his address.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::time::Duration;

use turnip_core::*;
use world::*;

const SECOND: Duration = Duration::from_secs(1);
const OWN: &str = "/turnip/main/sessions/a";

/// Lets so much time pass at once, as a host that was suspended sees it; then a while step by step.
fn jump(world: &mut World, duration: Duration) {
    world.now += duration;
    world.run(2 * SECOND);
}

fn session(host: &str, lease_ms: u64) -> String {
    format!(r#"{{"v":1,"lease_ms":{lease_ms},"host":"{host}","nonce":"0000000000000099-1"}}"#)
}

/// Rule 4.7.
#[test]
fn a_stranger_that_says_it_has_always_had_an_address_takes_it_from_nobody() {
    for mutant in [None, Some(Mutant::FirstBeforeSession)] {
        let mut world = World::of(&["a"]);
        if let Some(mutant) = mutant {
            world.hosts[0].node.set_mutant(mutant);
        }
        world.etcd.put("/turnip/main/sessions/x", &session("host-x", 3_000));
        let offer =
            r#"{"digest":"?","addresses":["10.0.0.50/32"],"policy":"spread","defined_at":0}"#;
        let node =
            format!(r#"{{"v":1,"vips":{{"w":{offer}}},"weight":1,"drained":false,"version":"?"}}"#);
        world.etcd.put("/turnip/main/nodes/x", &node);
        world.run(2 * SECOND);
        assert_eq!(world.holders().is_empty(), mutant.is_some(), "{}", world.story());
    }
}

/// Rule 9.6.
#[test]
fn a_drain_that_cannot_be_read_drains_nobody() {
    let mut world = World::of(&["a", "b"]);
    let drain = "/turnip/main/intents/drain/a";
    world.etcd.put(drain, "garbage");
    world.run(5 * SECOND);
    assert!(world.said(0, "leaving /turnip/main/intents/drain/a alone"), "{}", world.story());
    assert_eq!(world.holders(), [0], "{}", world.story());
    world.etcd.put(drain, r#"{"v":1}"#);
    world.run_until(5 * SECOND, |world| world.holders() == [1]);
}

/// Rule 9.11.
#[test]
fn a_running_node_whose_session_is_overwritten_with_garbage_writes_it_anew_and_holds_on() {
    let mut world = World::of(&["a", "b"]);
    for garbage in ["garbage", "", r#"{"v":1}"#, "null"] {
        world.etcd.put(OWN, garbage);
        for _ in 0..100 {
            world.run(MS);
            assert_eq!(world.holders(), [0], "{}", world.story());
        }
        assert!(world.etcd.json(OWN).unwrap()["host"].is_string(), "{}", world.story());
    }
    world.run(5 * SECOND);
    assert_eq!((world.holders(), world.hosts[0].exit.clone()), (vec![0], None));
    let told = world.hosts[0].reports.iter();
    let told = told.filter(|one| matches!(one, Report::Unreadable { .. })).count();
    assert_eq!(told, 4, "it was mended each time");
}

/// Rule 9.11.
#[test]
fn a_node_that_starts_with_garbage_for_its_session_waits_for_the_longest_lease_and_runs() {
    let mut world = World::of(&["b"]);
    let named = format!(r#"{{"v":1,"node":"a","session":{},"since_unix_ms":0}}"#, 2);
    world.etcd.put(OWN, "garbage\u{1b}[2J");
    let created = world.session("a").unwrap().create_revision.0;
    world.etcd.put("/turnip/main/vips/v", &named.replace(":2,", &format!(":{created},")));
    world.run(SECOND);
    let a = world.start(config("a", one_vip()));
    world.run(SECOND);
    jump(&mut world, 602 * SECOND);
    assert_eq!(world.hosts[a].exit, None, "{}", world.story());
    assert!(world.said(a, "whose it is nobody knows"), "{}", world.story());
    assert!(world.holders().is_empty(), "somebody may hold it: {}", world.story());
    jump(&mut world, 3 * SECOND);
    assert!(!world.holders().is_empty(), "{}", world.story());
    assert!(world.hosts[a].node.session().is_some(), "{}", world.story());
}

/// Rule 9.11. Whoever goes on writing what cannot be read is given his time anew.
#[test]
fn garbage_that_is_written_again_is_waited_for_anew() {
    let mut world = World::new(Vec::new());
    world.etcd.put(OWN, "garbage");
    world.start(config("a", one_vip()));
    world.run(SECOND);
    for _ in 0..4 {
        jump(&mut world, 500 * SECOND);
        world.etcd.put(OWN, "garbage, again");
        world.run(SECOND);
    }
    assert_eq!((world.holders(), world.hosts[0].exit.clone()), (vec![], None));
    jump(&mut world, 606 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
}

/// Rule 9.11. Of this very host no other process runs.
#[test]
fn a_session_that_this_host_wrote_and_cannot_go_on_with_is_replaced_at_once() {
    let newer = session("host-a", 3_000).replace(r#""v":1"#, r#""v":3"#);
    for record in [session("host-a", u64::MAX), session("host-a", 0), newer] {
        let mut world = World::new(Vec::new());
        world.etcd.put(OWN, &record);
        let created = world.session("a").unwrap().create_revision;
        world.start(config("a", one_vip()));
        world.run(SECOND);
        assert_eq!(world.holders(), [0], "{}", world.story());
        assert_ne!(world.session("a").unwrap().create_revision, created);
    }
}

/// Rule 9.11. What it left is gone before its session is.
#[test]
fn such_a_session_is_replaced_only_when_nothing_is_there_that_was_held_by_it() {
    let mut world = World::of(&["a", "b"]);
    let created = world.session("a").unwrap().create_revision;
    world.restart(0);
    world.etcd.put(OWN, &session("host-a", u64::MAX));
    world.hosts[0].hold_ops = true;
    for _ in 0..2_000 {
        world.run(MS);
        // The listing is answered; the removal is not.
        while matches!(world.hosts[0].ops.front(), Some((_, KernelOp::List))) {
            world.perform(0);
        }
        assert_eq!(world.session("a").unwrap().create_revision, created, "{}", world.story());
    }
    world.hosts[0].hold_ops = false;
    world.run(5 * SECOND);
    assert_ne!(world.session("a").unwrap().create_revision, created);
    assert_eq!(world.holders().len(), 1, "{}", world.story());
}

/// Rule 9.11. It may be held by what a newer version knows and this one does not.
#[test]
fn a_session_of_another_version_and_another_host_is_left_alone_for_a_day() {
    let mut world = World::new(Vec::new());
    world.etcd.put(OWN, &session("host-x", 3_000).replace(r#""v":1"#, r#""v":3"#));
    world.start(config("a", one_vip()));
    world.run(SECOND);
    jump(&mut world, 23 * 3_600 * SECOND);
    assert_eq!((world.holders(), world.hosts[0].exit.clone()), (vec![], None));
    jump(&mut world, 2 * 3_600 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
}
