//! Rule 11, and what comes and goes: checks of what stands behind an address, played on whole clusters.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::time::Duration;

use turnip_core::records::{NodeRecord, VipOffer, decode, encode};
use turnip_core::*;
use world::{MS, World, config, link, vip};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);

fn check(initial: Initial, weight: Option<i32>) -> CheckConfig {
    CheckConfig {
        name: "api".parse().unwrap(),
        rise: 1,
        fall: 1,
        initial,
        weight,
        whole_node: false,
    }
}

/// A node of that priority, with one VIP that depends on one check.
fn checked(name: &str, priority: u32, last_resort: LastResort, check: CheckConfig) -> NodeConfig {
    let mut vip = vip("v", "10.0.0.50/32", Policy::Priority { priority, preempt: true });
    vip.checks = [check.name.clone()].into();
    vip.last_resort = last_resort;
    NodeConfig { checks: vec![check], ..config(name, vec![vip]) }
}

/// Two such nodes, a before b.
fn two(last_resort: LastResort) -> World {
    let node = |name, priority| checked(name, priority, last_resort, check(Initial::Up, None));
    let mut world = World::new(vec![node("a", 2), node("b", 1)]);
    world.run(SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
    world
}

fn attempt(world: &mut World, i: usize, passes: bool) {
    let result = if passes { Ok(()) } else { Err("connection refused".to_owned()) };
    let attempt = Attempt { check: "api".parse().unwrap(), result };
    let now = world.now;
    world.hosts[i].node.handle_attempt(&attempt, now);
}

fn set_mutant(world: &mut World, mutant: Mutant) {
    world.hosts.iter_mut().for_each(|host| host.node.set_mutant(mutant));
}

fn record(world: &World, node: &str) -> NodeRecord {
    decode(&world.etcd.kvs[&format!("/turnip/main/nodes/{node}")].value).unwrap()
}

fn offer(world: &World, node: &str) -> VipOffer {
    record(world, node).vips["v"].clone()
}

/// How often the VIP came to another host while `each` second is played.
fn moves(world: &mut World, seconds: u64, mut each: impl FnMut(&mut World, u64)) -> usize {
    let (mut moves, mut last) = (0, world.holders());
    for second in 0..seconds {
        each(world, second);
        for _ in 0..10 {
            world.run(100 * MS);
            let now = world.holders();
            assert!(now.len() <= 1, "{}", world.story());
            moves += usize::from(!now.is_empty() && now != last);
            if !now.is_empty() {
                last = now;
            }
        }
    }
    moves
}

/// Rule 11.4.
#[test]
fn a_vip_whose_check_fails_is_passed_on_at_once_and_taken_back_when_it_passes() {
    for last_resort in [LastResort::Keep, LastResort::Release] {
        let mut world = two(last_resort);
        attempt(&mut world, 0, false);
        world.run(20 * MS);
        assert_eq!(world.holders(), [1], "{}", world.story());
        let offer = offer(&world, "a");
        assert_eq!(offer.blocked.as_deref(), Some("check api fails: connection refused"));
        assert_eq!(offer.last_resort, last_resort == LastResort::Keep);
        let shown = &record(&world, "a").checks["api"];
        assert_eq!((shown.state, shown.reason.as_str()), (CheckState::Down, "connection refused"));
        assert!(world.said(0, "because check api fails: connection refused"), "{}", world.story());
        attempt(&mut world, 0, true);
        world.run_until(LIMIT, |w| w.holders() == [0]);
        assert_eq!(self::offer(&world, "a").blocked, None);
    }
}

/// Rule 11.4.
#[test]
fn where_it_fails_everywhere_a_vip_stays_where_it_is_or_nobody_has_it() {
    let mut kept = two(LastResort::Keep);
    attempt(&mut kept, 0, false);
    kept.run(SECOND);
    assert_eq!(kept.holders(), [1]);
    attempt(&mut kept, 1, false);
    assert_eq!(moves(&mut kept, 20, |_, _| ()), 0, "{}", kept.story());
    assert_eq!(kept.holders(), [1], "though a is preferred");
    assert_eq!(record(&kept, "b").vips.len(), 1);
    // Who is left takes it, too: what fails is better than nothing.
    kept.hosts[1].frozen = true;
    kept.hosts[1].addresses.clear();
    kept.run_until(LIMIT, |w| w.owner("v").as_deref() == Some("a"));

    let mut released = two(LastResort::Release);
    attempt(&mut released, 1, false);
    attempt(&mut released, 0, false);
    released.run(SECOND);
    assert_eq!(released.holders(), [0_usize; 0], "{}", released.story());
    assert_eq!(released.owner("v"), None);
    attempt(&mut released, 1, true);
    released.run_until(LIMIT, |w| w.holders() == [1]);
}

/// Rule 11.4: each of these decisions, broken.
#[test]
fn who_fails_and_keeps_what_it_has_is_noticed_when_it_gives_it_up() {
    for mutant in [Mutant::LastResortIgnored, Mutant::FailingLeftForFailing] {
        let mut world = two(LastResort::Keep);
        attempt(&mut world, 0, false);
        world.run(SECOND);
        set_mutant(&mut world, mutant);
        attempt(&mut world, 1, false);
        world.run(5 * SECOND);
        assert_ne!(world.holders(), [1], "{mutant:?}");
    }
    let mut world = two(LastResort::Keep);
    set_mutant(&mut world, Mutant::ChecksIgnored);
    attempt(&mut world, 0, false);
    world.run(5 * SECOND);
    assert_eq!(world.holders(), [0], "nobody minds");
}

/// Rule 11.4: who is better and silent gets nothing.
#[test]
fn a_last_resort_is_given_up_when_who_is_better_is_heard_and_not_before() {
    let mut world = two(LastResort::Keep);
    world.hosts[1].frozen = true;
    world.run(1000 * MS);
    attempt(&mut world, 0, false);
    world.run(1000 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
    world.hosts[1].frozen = false;
    world.run_until(LIMIT, |w| w.holders() == [1]);
}

/// Rule 11.2.
#[test]
fn nothing_is_taken_before_a_check_was_tried_and_what_an_earlier_process_left_stays() {
    let node =
        |name, priority| checked(name, priority, LastResort::Keep, check(Initial::Wait, None));
    let mut world = World::new(vec![node("a", 2), node("b", 1)]);
    world.run(SECOND);
    assert_eq!(world.holders(), [0_usize; 0], "{}", world.story());
    assert_eq!(offer(&world, "a").blocked.as_deref(), Some("check api has not been tried yet"));
    attempt(&mut world, 0, true);
    world.run(100 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
    world.restart(0);
    assert_eq!(moves(&mut world, 5, |_, _| ()), 0, "{}", world.story());
    assert_eq!(world.holders(), [0], "{}", world.story());
    attempt(&mut world, 1, true);
    attempt(&mut world, 0, false);
    world.run(SECOND);
    assert_eq!(world.holders(), [1], "{}", world.story());

    let mut world = World::new(vec![node("a", 2)]);
    set_mutant(&mut world, Mutant::UntriedTakenForUp);
    world.run(SECOND);
    assert_eq!(world.holders(), [0], "the rule that is broken");
}

/// Rules 11.1 and 11.3: a check that toggles every second.
#[test]
fn a_check_that_toggles_every_second_moves_a_vip_a_few_times_and_then_no_more() {
    let toggles = |world: &mut World, second: u64| attempt(world, 0, second % 2 == 1);
    for last_resort in [LastResort::Keep, LastResort::Release] {
        let mut world = two(last_resort);
        let moved = moves(&mut world, 60, toggles);
        assert!((1..=4).contains(&moved), "{moved}: {}", world.story());
        assert_eq!(moves(&mut world, 60, toggles), 0, "{}", world.story());
        assert_eq!(world.holders(), [1], "who works has it");
        world.run(15 * SECOND);
    }
    // Both at once, one up while the other is down.
    let both = |world: &mut World, second: u64| {
        attempt(world, 0, second % 2 == 1);
        attempt(world, 1, second.is_multiple_of(2));
    };
    let mut world = two(LastResort::Keep);
    let moved = moves(&mut world, 120, both);
    assert!(moved <= 4, "{moved}: {}", world.story());
    let mut world = two(LastResort::Keep);
    set_mutant(&mut world, Mutant::HoldDownIgnored);
    assert!(moves(&mut world, 120, both) > 20, "the rule that is broken");
}

/// Rule 11.1.
#[test]
fn one_attempt_that_fails_moves_nothing_where_more_are_asked_for() {
    let node = |name, priority| {
        let check = CheckConfig { rise: 2, fall: 3, ..check(Initial::Up, None) };
        checked(name, priority, LastResort::Keep, check)
    };
    for (mutant, moved) in [(None, 0), (Some(Mutant::OneAttemptIsEnough), 2)] {
        let mut world = World::new(vec![node("a", 2), node("b", 1)]);
        world.run(SECOND);
        mutant.iter().for_each(|mutant| set_mutant(&mut world, *mutant));
        let flaky = |world: &mut World, second: u64| attempt(world, 0, second != 1 && second != 2);
        assert_eq!(moves(&mut world, 15, flaky), moved, "{mutant:?}: {}", world.story());
    }
}

/// Rule 11.5.
#[test]
fn a_weight_is_taken_from_the_priority_while_its_check_is_down() {
    let node = |name, priority, weight| {
        checked(name, priority, LastResort::Keep, check(Initial::Up, Some(weight)))
    };
    for (mutant, holder) in [(None, 1), (Some(Mutant::WeightIgnored), 0)] {
        let mut world = World::new(vec![node("a", 110, -20), node("b", 100, -20)]);
        world.run(SECOND);
        assert_eq!(world.holders(), [0]);
        mutant.iter().for_each(|mutant| set_mutant(&mut world, *mutant));
        attempt(&mut world, 0, false);
        world.run(100 * MS);
        assert_eq!(world.holders(), [0], "placement can wait");
        world.run(8 * SECOND);
        assert_eq!(world.holders(), [holder], "{}", world.story());
    }
    let mut world = World::new(vec![node("a", 90, 20), node("b", 100, -200)]);
    world.run(SECOND);
    assert_eq!((offer(&world, "a").priority, offer(&world, "b").priority), (110, 100));
    attempt(&mut world, 1, false);
    world.run(SECOND);
    assert_eq!(offer(&world, "b").priority, 0, "none is below 0");
}

/// Rule 11.5.
#[test]
fn a_check_of_the_whole_node_takes_from_its_share_of_everything() {
    let node = |name: &str| {
        let vips =
            (0..40).map(|n| vip(&format!("v{n}"), &format!("10.0.0.{n}/32"), Policy::Spread));
        let check = CheckConfig { whole_node: true, ..check(Initial::Up, Some(-100)) };
        NodeConfig { checks: vec![check], ..config(name, vips.collect()) }
    };
    let mut world = World::new(vec![node("a"), node("b")]);
    world.run(8 * SECOND);
    let held = |world: &World, i: usize| world.hosts[i].addresses.len();
    assert!(held(&world, 0) > 5 && held(&world, 1) > 5);
    attempt(&mut world, 0, false);
    world.run(8 * SECOND);
    assert_eq!((held(&world, 0), held(&world, 1)), (0, 40), "{}", world.story());
    assert_eq!(record(&world, "a").weight, 0, "as an older turnip reads it, too");
}

/// Rule 7.7: an interface that comes and goes.
#[test]
fn an_interface_that_comes_and_goes_moves_its_vip_a_few_times_and_then_no_more() {
    let flaps = |world: &mut World, second: u64| {
        let up = second / 6 % 2 == 1;
        world.hosts[0].links.insert("eth0".into(), up);
        world.event(0, KernelEvent::LinkChanged(link("eth0", up, true)));
    };
    let node = |name, priority| checked(name, priority, LastResort::Keep, check(Initial::Up, None));
    for (mutant, bound) in [(None, 0..=4), (Some(Mutant::FlapsForgotten), 6..=100)] {
        let mut world = World::new(vec![node("a", 2), node("b", 1)]);
        world.run(SECOND);
        mutant.iter().for_each(|mutant| set_mutant(&mut world, *mutant));
        let moved = moves(&mut world, 60, flaps);
        assert!(bound.contains(&moved), "{moved} {mutant:?}: {}", world.story());
        if mutant.is_none() {
            assert_eq!(world.holders(), [1], "who works has it: {}", world.story());
            assert!(world.said(0, "was away several times lately"), "{}", world.story());
            world.run(90 * SECOND);
            assert_eq!(world.holders(), [0], "it has stayed: {}", world.story());
        }
    }
}

/// Interleaving 16, and rule 7.7: the kernel refuses, and the interface comes and goes as well.
#[test]
fn a_host_whose_kernel_refuses_is_not_tried_anew_whenever_its_interface_returns() {
    let node = |name, priority| checked(name, priority, LastResort::Keep, check(Initial::Up, None));
    let mut world = World::new(vec![node("a", 2), node("b", 1)]);
    world.hosts[0].refuse_assume = Some(KernelError::Refused("no".into()));
    let flaps = |world: &mut World, second: u64| {
        let up = !second.is_multiple_of(5);
        world.hosts[0].links.insert("eth0".into(), up);
        world.event(0, KernelEvent::LinkChanged(link("eth0", up, true)));
    };
    moves(&mut world, 30, flaps);
    let before = world.etcd.json("/turnip/main/vips/v").unwrap();
    moves(&mut world, 60, flaps);
    assert_eq!(world.etcd.json("/turnip/main/vips/v").unwrap(), before, "b keeps it");
    assert_eq!(world.holders(), [1], "{}", world.story());
}

/// Interleaving 16: who holds as a last resort is not left for a host whose kernel refuses.
#[test]
fn a_last_resort_is_not_left_for_a_host_whose_last_attempt_failed() {
    let mut world = two(LastResort::Keep);
    attempt(&mut world, 0, false);
    world.run(SECOND);
    world.hosts[0].refuse_assume = Some(KernelError::Refused("no".into()));
    attempt(&mut world, 1, false);
    attempt(&mut world, 0, true);
    world.run(SECOND);
    let before = world.etcd.json("/turnip/main/vips/v").unwrap();
    assert_eq!(world.holders(), [1], "it was tried once: {}", world.story());
    world.run(60 * SECOND);
    assert_eq!(world.etcd.json("/turnip/main/vips/v").unwrap(), before, "{}", world.story());
}

/// Another version's records, as it would write them.
#[test]
fn records_without_health_are_read_and_what_an_older_turnip_does_not_know_is_left_out_of_them() {
    let old = r#"{"v":1,"vips":{"v":{"digest":"d","addresses":["10.0.0.50/32"],"policy":"spread","blocked":"down"}},"weight":100,"drained":false,"repairs":0,"version":"0.1.0"}"#;
    let read: NodeRecord = decode(old.as_bytes()).unwrap();
    assert!(read.checks.is_empty() && !read.weighs_vips);
    assert!(!read.vips["v"].last_resort);
    let mut world = World::of(&["a"]);
    world.run(100 * MS);
    let json = String::from_utf8(encode(&record(&world, "a"))).unwrap();
    for absent in ["checks", "last_resort", "\"weight\":100,\"defined_at\""] {
        assert!(!json.contains(absent), "{json}");
    }
    assert!(json.starts_with(r#"{"v":1,"#), "{json}");
    let mut world = two(LastResort::Keep);
    attempt(&mut world, 0, false);
    world.run(SECOND);
    let json = world.etcd.json("/turnip/main/nodes/a").unwrap();
    assert_eq!(json["v"], 1, "an older turnip reads it, and takes the VIP for blocked there");
    assert_eq!(json["vips"]["v"]["blocked"], "check api fails: connection refused");
    assert_eq!(json["vips"]["v"]["last_resort"], true);
    assert_eq!(json["checks"]["api"]["state"], "down");
}
