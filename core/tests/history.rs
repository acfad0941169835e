//! What turnip writes of its own past (`history/`): all that happened, and nothing else.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::time::Duration;

use turnip_core::records::{PinRecord, decode, encode};
use turnip_core::*;
use world::{MS, World, config, one_vip, vip};

const LIMIT: Duration = Duration::from_secs(20);

/// Everything that is told, in the order in which it was written: from, to, why and the VIPs.
fn told(world: &World) -> Vec<(String, HistoryRecord)> {
    let keys = Keys::new(&"main".parse().unwrap());
    let mut written: Vec<&KeyValue> = world.etcd.kvs.values().collect();
    written.retain(|kv| matches!(keys.kind(&kv.key), KeyKind::History(..)));
    written.sort_by_key(|kv| kv.mod_revision);
    let record = |kv: &KeyValue| decode(&kv.value).unwrap();
    written.into_iter().map(|kv| (kv.key.clone(), record(kv))).collect()
}

fn last(world: &World) -> Transition {
    let all = told(world);
    all.last().expect("something is told").1.transitions.last().unwrap().clone()
}

fn name(name: &str) -> Option<NodeName> {
    Some(name.parse().unwrap())
}

/// From whom, to whom and why.
fn path(transition: &Transition) -> (Option<NodeName>, Option<NodeName>, Why) {
    (transition.from.clone(), transition.to.clone(), transition.why)
}

fn pin(world: &mut World, node: &str) {
    let value = encode(&PinRecord { node: node.parse().unwrap() });
    world.etcd.put("/turnip/main/intents/pin/v", std::str::from_utf8(&value).unwrap());
}

#[test]
fn the_first_claim_a_pin_a_drain_and_a_stop_are_told_with_their_reasons() {
    let mut world = World::of(&["a", "b"]);
    assert_eq!(path(&last(&world)), (None, name("a"), Why::Free));
    pin(&mut world, "b");
    world.run_until(LIMIT, |w| w.holders() == [1]);
    assert_eq!(path(&last(&world)), (name("a"), name("b"), Why::Pinned));
    world.etcd.put("/turnip/main/intents/drain/b", r#"{"v":1}"#);
    world.run_until(LIMIT, |w| w.holders() == [0]);
    assert_eq!(path(&last(&world)), (name("b"), name("a"), Why::Drained));
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run_until(LIMIT, |w| w.hosts[0].exit.is_some());
    assert_eq!(path(&last(&world)), (name("a"), None, Why::Stopped));
    world.etcd.delete("/turnip/main/intents/drain/b");
    world.run_until(LIMIT, |w| w.holders() == [1]);
    assert_eq!(path(&last(&world)), (None, name("b"), Why::Free));
    assert!(last(&world).after_ms >= 1, "{:?}", last(&world));
}

#[test]
fn a_dead_host_is_told_as_silent_for_its_lease() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].frozen = true;
    world.hosts[0].addresses.clear();
    world.run_until(LIMIT, |w| w.holders() == [1]);
    let end = last(&world);
    assert_eq!(path(&end), (name("a"), name("b"), Why::Silent));
    assert_eq!(end.vips, ["v".parse().unwrap()]);
    assert!((3_030..=3_032).contains(&end.after_ms), "{end:?}");
}

#[test]
fn the_end_of_a_session_without_vips_is_told_as_well() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[1].frozen = true;
    world.run_until(LIMIT, |w| w.session("b").is_none());
    let end = last(&world);
    assert_eq!(path(&end), (name("b"), None, Why::Silent));
    assert!(end.vips.is_empty());
}

#[test]
fn what_the_kernel_said_is_told_when_a_vip_is_passed_on_for_it() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].links.insert("eth0".into(), false);
    world.event(
        0,
        KernelEvent::LinkChanged(Link { name: "eth0".into(), up: false, carrier: false }),
    );
    world.run_until(LIMIT, |w| w.holders() == [1]);
    let end = last(&world);
    assert_eq!(path(&end), (name("a"), name("b"), Why::Blocked));
    assert!(end.detail.as_deref().is_some_and(|why| why.contains("eth0")), "{end:?}");
}

#[test]
fn a_claim_that_comes_too_late_leaves_nothing() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].frozen = true;
    world.hosts[0].addresses.clear();
    let before = told(&world);
    world.hosts[1].hold_commits = true;
    let expires = |txn: &Txn| txn.success.iter().any(|op| matches!(op, Op::Delete { .. }));
    while !world.hosts[1].commits.front().is_some_and(|(_, txn)| expires(txn)) {
        if !world.hosts[1].commits.is_empty() {
            world.deliver(1);
        }
        world.run(MS);
    }
    // The silent one renews before the expiry arrives.
    world.hosts[0].frozen = false;
    world.run(MS);
    world.deliver(1);
    assert_eq!(told(&world), before);
    assert_eq!(world.owner("v").as_deref(), Some("a"));
}

#[test]
fn one_put_anew_is_no_transition() {
    let mut world = World::of(&["a"]);
    let before = told(&world);
    let at = world.etcd.kvs["/turnip/main/vips/v"].mod_revision;
    world.hosts[0].addresses.clear();
    world.restart(0);
    world.run_until(LIMIT, |w| w.holders() == [0]);
    assert!(world.etcd.kvs["/turnip/main/vips/v"].mod_revision > at, "it was put anew");
    assert_eq!(told(&world), before);
}

#[test]
fn a_node_tells_its_last_transactions_only_and_goes_on_there_after_a_restart() {
    let mut world = World::of(&["a", "b"]);
    let keys = Keys::new(&"main".parse().unwrap());
    let moves = |world: &mut World, count: usize| {
        for round in 0..count {
            let to = world.holders()[0] ^ 1;
            pin(world, ["a", "b"][to]);
            world.run_until(LIMIT, |w| w.holders() == [to]);
            assert_eq!(last(world).why, Why::Pinned, "move {round}");
        }
    };
    moves(&mut world, 3);
    let newest = told(&world).pop().unwrap().0;
    let by: usize = if newest.contains("/a/") { 0 } else { 1 };
    world.restart(by);
    world.run(200 * MS);
    moves(&mut world, 2);
    let slots: Vec<KeyKind> = told(&world).iter().map(|(key, _)| keys.kind(key)).collect();
    // The first claim and three moves more of a, one each of b in between; nobody began anew at 0.
    let of = |node: &str| {
        let slot = |kind: &KeyKind| match kind {
            KeyKind::History(of, slot) if of.as_str() == node => Some(*slot),
            _ => None,
        };
        slots.iter().filter_map(slot).collect::<Vec<u8>>()
    };
    assert_eq!((of("a"), of("b")), (vec![0, 1, 2, 3], vec![0, 1]));
    moves(&mut world, 80);
    for node in ["a", "b"] {
        let prefix = format!("/turnip/main/history/{node}/");
        let count = told(&world).iter().filter(|(key, _)| key.starts_with(&prefix)).count();
        assert_eq!(count, usize::from(HISTORY_SLOTS));
    }
}

#[test]
fn what_is_given_free_for_it_is_not_configured_any_more_is_told() {
    let mut world = World::of(&["a"]);
    world.hosts[0].config =
        config("a", vec![vip("w", "10.0.0.51/32", one_vip()[0].policy.clone())]);
    world.restart(0);
    world.run_until(LIMIT, |w| w.owner("w").is_some() && w.owner("v").is_none());
    let all = told(&world);
    let of_v = |t: &&Transition| t.vips.contains(&"v".parse().unwrap());
    let freed = all.iter().flat_map(|(_, r)| &r.transitions).rfind(of_v).unwrap();
    assert_eq!(path(freed), (name("a"), None, Why::NotConfigured));
}

/// An older daemon that writes `vips/` tells nothing, and nobody misses it.
#[test]
fn garbage_in_a_slot_hinders_nobody() {
    let mut world = World::of(&["a", "b"]);
    for slot in 0..HISTORY_SLOTS {
        world.etcd.put(&format!("/turnip/main/history/a/{slot:02}"), "garbage");
    }
    world.run(100 * MS);
    pin(&mut world, "b");
    world.run_until(LIMIT, |w| w.holders() == [1]);
    let is_wrong = |report: &Report| matches!(report.level(), Level::Error);
    assert!(!world.hosts.iter().any(|host| host.reports.iter().any(is_wrong)));
}

/// A newer daemon may tell more, or in more slots; who goes back to this version goes on in his own.
#[test]
fn what_a_newer_turnip_tells_hinders_nobody() {
    let mut world = World::of(&["a", "b"]);
    let newer = r#"{"v":2,"at_unix_ms":1,"transitions":[],"more":{}}"#;
    let reason =
        r#"{"v":1,"at_unix_ms":1,"transitions":[{"vips":["v"],"why":"weighed","after_ms":0}]}"#;
    for (node, slot, value) in
        [("a", 63, newer), ("a", 255, reason), ("b", 3, reason), ("z", 0, newer)]
    {
        world.etcd.put(&format!("/turnip/main/history/{node}/{slot:02}"), value);
    }
    world.run(100 * MS);
    pin(&mut world, "b");
    world.run_until(LIMIT, |w| w.holders() == [1]);
    let is_wrong = |report: &Report| matches!(report.level(), Level::Error);
    assert!(!world.hosts.iter().any(|host| host.reports.iter().any(is_wrong)), "{}", world.story());
    let keys = Keys::new(&"main".parse().unwrap());
    let in_slot = |slot| world.etcd.kvs.get(&keys.history(&"a".parse().unwrap(), slot));
    assert_eq!(in_slot(255).unwrap().value, reason.as_bytes(), "it is left as it was");
    let after = in_slot(255).unwrap().mod_revision;
    let goes_on = |slot| in_slot(slot).is_some_and(|kv| kv.mod_revision > after);
    assert!((0..HISTORY_SLOTS).any(goes_on), "{}", world.story());
}
