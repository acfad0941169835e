//! Rules 11 and 12 together: what hooks are run where a check fails.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::time::Duration;

use turnip_core::Hook::{AfterAssume, AfterRelease, BeforeAssume, BeforeRelease};
use turnip_core::*;
use world::{HookTold, MS, World, config, vip};

const SECOND: Duration = Duration::from_secs(1);

/// A node with one VIP, which has all hooks and depends on one check.
fn node(name: &str, priority: u32, last_resort: LastResort, initial: Initial) -> NodeConfig {
    let hook = |hook| (hook, HookConfig { timeout: 10 * SECOND, ignores_failure: false });
    let check = CheckConfig {
        name: "api".parse().unwrap(),
        rise: 1,
        fall: 1,
        initial,
        weight: None,
        whole_node: false,
    };
    let vip = VipConfig {
        checks: [check.name.clone()].into(),
        last_resort,
        hooks: Hook::ALL.map(hook).into(),
        ..vip("v", "10.0.0.50/32", Policy::Priority { priority, preempt: true })
    };
    NodeConfig { checks: vec![check], ..config(name, vec![vip]) }
}

/// Two of them, of which a is preferred and has the VIP.
fn two(last_resort: LastResort) -> World {
    let node = |name, priority| node(name, priority, last_resort, Initial::Up);
    let mut world = World::new(vec![node("a", 2), node("b", 1)]);
    world.run(2 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
    world.hosts[0].hooks.clear();
    world
}

fn attempt(world: &mut World, i: usize, passes: bool) {
    let result = if passes { Ok(()) } else { Err("connection refused".to_owned()) };
    let attempt = Attempt { check: "api".parse().unwrap(), result };
    let now = world.now;
    world.hosts[i].node.handle_attempt(&attempt, now);
}

fn takes(world: &mut World, i: usize, hook: Hook, duration: Duration, end: HookEnd) {
    world.hosts[i].hook_takes.insert(hook, (duration, end));
}

/// The hooks that began, in order.
fn began(world: &World, i: usize) -> Vec<Hook> {
    let began = |told: &HookTold| match told {
        HookTold::Began(hook, _) => Some(*hook),
        _ => None,
    };
    world.hosts[i].hooks.iter().filter_map(began).collect()
}

/// Rules 11.4 and 12.5.
#[test]
fn what_a_failing_check_moves_is_told_to_stop_before_another_host_is_told_to_start() {
    for last_resort in [LastResort::Keep, LastResort::Release] {
        let mut world = two(last_resort);
        takes(&mut world, 0, BeforeRelease, SECOND, HookEnd::Succeeded);
        attempt(&mut world, 0, false);
        world.run(900 * MS);
        assert_eq!(world.holders(), [0], "{}", world.story());
        assert_eq!(world.hosts[0].hooks, [HookTold::Began(BeforeRelease, "check-failed")]);
        assert_eq!(began(&world, 1), []);
        world.run(200 * MS);
        assert_eq!(world.holders(), [1], "{}", world.story());
        assert_eq!(began(&world, 0), [BeforeRelease, AfterRelease]);
        assert_eq!(began(&world, 1), [BeforeAssume, AfterAssume]);
    }
}

/// Rules 11.4 and 12.7. The check fails while before_assume runs.
#[test]
fn a_before_assume_that_runs_when_the_check_fails_is_waited_for_and_ended_in_order() {
    let mut world = two(LastResort::Release);
    takes(&mut world, 1, BeforeAssume, SECOND, HookEnd::Succeeded);
    attempt(&mut world, 0, false);
    world.run(500 * MS);
    attempt(&mut world, 1, false);
    attempt(&mut world, 0, true);
    world.run(300 * MS);
    assert_eq!(world.owner("v").as_deref(), Some("b"), "{}", world.story());
    world.run(400 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
    assert_eq!(began(&world, 1), [BeforeAssume, BeforeRelease, AfterRelease]);
}

/// Rules 11.4 and 12.4. Host b's check passes, and its before_assume fails.
#[test]
fn who_fails_a_check_is_not_left_again_and_again_for_a_host_whose_hook_fails() {
    let mut world = two(LastResort::Keep);
    takes(&mut world, 1, BeforeAssume, 100 * MS, HookEnd::Failed("exit status 1".into()));
    attempt(&mut world, 0, false);
    for _ in 0..20 {
        attempt(&mut world, 1, true);
        world.run(SECOND);
    }
    assert_eq!(world.holders(), [0], "{}", world.story());
    assert_eq!(began(&world, 1), [BeforeAssume, AfterRelease], "{}", world.story());
}

/// Rules 11.2 and 12.2.
#[test]
fn nothing_is_run_for_a_vip_before_its_check_was_tried() {
    let mut world = World::new(vec![node("a", 1, LastResort::Keep, Initial::Wait)]);
    world.run(5 * SECOND);
    assert_eq!((began(&world, 0), world.holders()), (vec![], vec![]), "{}", world.story());
    attempt(&mut world, 0, true);
    world.run(2 * SECOND);
    assert_eq!(began(&world, 0), [BeforeAssume, AfterAssume]);
    assert_eq!(world.holders(), [0]);
}
