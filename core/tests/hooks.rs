//! Hooks: when each is run, and what waits for it (rule 12).

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::time::Duration;

use HookTold::{Began, Ended, Killed};
use turnip_core::*;
use world::{HookTold, MS, World, config, one_vip};

const SECOND: Duration = Duration::from_secs(1);

/// A host with one VIP and these hooks, each for so long at most.
fn with(name: &str, hooks: &[Hook], timeout: Duration) -> NodeConfig {
    let hook = |hook: &Hook| (*hook, HookConfig { timeout, ignores_failure: false });
    let mut vips = one_vip();
    vips[0].hooks = hooks.iter().map(hook).collect();
    config(name, vips)
}

/// Hosts a and b with all hooks, of which a holds the VIP.
fn two() -> World {
    let mut world = World::new(Vec::new());
    world.start(with("a", &Hook::ALL, 10 * SECOND));
    world.run(100 * MS);
    world.start(with("b", &Hook::ALL, 10 * SECOND));
    world.run(2 * SECOND);
    assert_eq!(world.holders(), [0]);
    world.hosts[0].hooks.clear();
    world
}

fn drain(world: &mut World, node: &str) {
    world.etcd.put(&format!("/turnip/main/intents/drain/{node}"), r#"{"v":1}"#);
}

fn undrain(world: &mut World, node: &str) {
    world.etcd.delete(&format!("/turnip/main/intents/drain/{node}"));
}

/// From now on a hook of a host takes so long.
fn takes(world: &mut World, i: usize, hook: Hook, duration: Duration, end: HookEnd) {
    world.hosts[i].hook_takes.insert(hook, (duration, end));
}

fn set(world: &mut World, i: usize, mutant: Option<Mutant>) {
    if let Some(mutant) = mutant {
        world.hosts[i].node.set_mutant(mutant);
    }
}

/// The hooks that began, in order.
fn began(world: &World, i: usize) -> Vec<Hook> {
    let began = |told: &HookTold| match told {
        Began(hook, _) => Some(*hook),
        _ => None,
    };
    world.hosts[i].hooks.iter().filter_map(began).collect()
}

fn assumes(world: &World, i: usize) -> usize {
    world.hosts[i].reports.iter().filter(|r| matches!(r, Report::Assuming { .. })).count()
}

fn link(world: &mut World, i: usize, up: bool) {
    world.hosts[i].links.insert("eth0".into(), up);
    world.event(i, KernelEvent::LinkChanged(world::link("eth0", up, up)));
}

/// Rules 12.1, 12.2 and 12.8.
#[test]
fn a_move_runs_the_hooks_of_both_hosts_in_their_order() {
    let mut world = two();
    drain(&mut world, "a");
    world.run(SECOND);
    assert_eq!(world.holders(), [1]);
    let released = [
        Began(Hook::BeforeRelease, "drained"),
        Ended(Hook::BeforeRelease),
        Began(Hook::AfterRelease, "drained"),
        Ended(Hook::AfterRelease),
    ];
    assert_eq!(world.hosts[0].hooks, released);
    let assumed = [
        Began(Hook::BeforeAssume, "handed-over"),
        Ended(Hook::BeforeAssume),
        Began(Hook::AfterAssume, "handed-over"),
        Ended(Hook::AfterAssume),
    ];
    assert_eq!(world.hosts[1].hooks, assumed);
}

/// Rule 12.2.
#[test]
fn the_kernel_is_not_asked_for_a_vip_before_its_before_assume_has_ended() {
    for mutant in [None, Some(Mutant::AssumeBesideHook)] {
        let mut world = two();
        set(&mut world, 1, mutant);
        takes(&mut world, 1, Hook::BeforeAssume, SECOND, HookEnd::Succeeded);
        drain(&mut world, "a");
        world.run(500 * MS);
        assert_eq!(world.owner("v").as_deref(), Some("b"));
        assert_eq!(world.holders().is_empty(), mutant.is_none(), "{}", world.story());
        world.run(600 * MS);
        assert_eq!(world.holders(), [1], "{}", world.story());
    }
}

/// Rule 12.3. The VIP is drained while its before_assume runs.
#[test]
fn what_has_come_to_be_while_before_assume_ran_is_looked_at_when_it_has_ended() {
    for mutant in [None, Some(Mutant::AssumeWithoutLook)] {
        let mut world = two();
        set(&mut world, 1, mutant);
        takes(&mut world, 1, Hook::BeforeAssume, SECOND, HookEnd::Succeeded);
        drain(&mut world, "a");
        world.run(500 * MS);
        drain(&mut world, "b");
        undrain(&mut world, "a");
        world.run(300 * MS);
        assert_eq!(world.owner("v").as_deref(), Some("b"), "what began is waited for");
        world.run(SECOND);
        assert_eq!(world.owner("v").as_deref(), Some("a"), "{}", world.story());
        assert_eq!(assumes(&world, 1), usize::from(mutant.is_some()), "{}", world.story());
        // What before_assume began is ended in the same way as what was here.
        let expected = [Hook::BeforeAssume, Hook::BeforeRelease, Hook::AfterRelease];
        assert!(mutant.is_some() || began(&world, 1) == expected, "{:?}", world.hosts[1].hooks);
    }
}

/// Rule 12.3. Its session is over when the hook ends.
#[test]
fn a_vip_that_was_lost_while_before_assume_ran_is_not_taken() {
    let mut world = two();
    takes(&mut world, 1, Hook::BeforeAssume, 6 * SECOND, HookEnd::Succeeded);
    drain(&mut world, "a");
    world.run(500 * MS);
    undrain(&mut world, "a");
    (world.hosts[1].cut, world.hosts[1].watch_cut) = (true, true);
    world.run(8 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
    assert_eq!(assumes(&world, 1), 0);
    let expected = [
        Began(Hook::BeforeAssume, "handed-over"),
        Ended(Hook::BeforeAssume),
        Began(Hook::AfterRelease, "not-renewed"),
        Ended(Hook::AfterRelease),
    ];
    assert_eq!(world.hosts[1].hooks, expected);
}

/// Rules 12.4 and 7.3.
#[test]
fn a_host_whose_before_assume_fails_passes_the_vip_on_unless_failures_are_ignored() {
    for mutant in [None, Some(Mutant::HookFailureIgnored)] {
        let mut world = two();
        set(&mut world, 1, mutant);
        let failed = HookEnd::Failed("exit status 1".into());
        takes(&mut world, 1, Hook::BeforeAssume, Duration::ZERO, failed);
        drain(&mut world, "a");
        world.run(100 * MS);
        undrain(&mut world, "a");
        world.run(900 * MS);
        let holder = usize::from(mutant.is_some());
        assert_eq!(world.holders(), [holder], "{mutant:?}: {}", world.story());
        let why = "cannot hold v here: its before_assume failed: exit status 1";
        assert_eq!(world.said(1, why), mutant.is_none(), "{}", world.story());
    }
    let mut ignoring = with("a", &[Hook::BeforeAssume], SECOND);
    ignoring.vips[0].hooks.get_mut(&Hook::BeforeAssume).unwrap().ignores_failure = true;
    let mut world = World::new(Vec::new());
    world.start(ignoring);
    takes(&mut world, 0, Hook::BeforeAssume, 9 * SECOND, HookEnd::Succeeded);
    world.run(3 * SECOND);
    assert_eq!(world.hosts[0].hooks[1], Killed(Hook::BeforeAssume));
    assert_eq!(world.holders(), [0], "{}", world.story());
}

/// Rules 12.4 and 7.7.
#[test]
fn a_host_alone_whose_before_assume_fails_tries_again_later_and_ends_what_it_began_each_time() {
    let mut world = World::new(Vec::new());
    world.start(with("a", &Hook::ALL, SECOND));
    let failed = HookEnd::Failed("exit status 1".into());
    takes(&mut world, 0, Hook::BeforeAssume, Duration::ZERO, failed);
    world.run(10 * SECOND);
    let tries = began(&world, 0);
    let each = [Hook::BeforeAssume, Hook::AfterRelease];
    assert!(tries.len() >= 6 && tries.len() <= 8, "at 0, 1, 3 and 7 s: {tries:?}");
    assert!(tries.chunks(2).all(|one| one == each), "{tries:?}");
}

/// Rule 12.5.
#[test]
fn a_planned_move_waits_for_before_release_and_no_longer_than_it_may_take() {
    for mutant in [None, Some(Mutant::MoveBesideHook)] {
        for (takes_for, moves_after) in [(SECOND, SECOND), (60 * SECOND, 10 * SECOND)] {
            let mut world = two();
            set(&mut world, 0, mutant);
            takes(&mut world, 0, Hook::BeforeRelease, takes_for, HookEnd::Succeeded);
            drain(&mut world, "a");
            world.run(moves_after - 100 * MS);
            let stays = world.holders() == [0];
            assert_eq!(stays, mutant.is_none(), "{}", world.story());
            world.run(200 * MS);
            assert_eq!(world.holders(), [1], "{}", world.story());
        }
    }
}

/// Rules 12.5 and 12.6. Host a is drained, and cut off while its before_release hangs.
#[test]
fn what_must_go_at_once_waits_for_no_hook_and_ends_the_one_that_runs() {
    let mutants = [None, Some(Mutant::ForcedWaitsForHook), Some(Mutant::HookOutlivesRelease)];
    for mutant in mutants {
        let mut world = two();
        set(&mut world, 0, mutant);
        takes(&mut world, 0, Hook::BeforeRelease, 60 * SECOND, HookEnd::Succeeded);
        drain(&mut world, "a");
        world.run(100 * MS);
        (world.hosts[0].cut, world.hosts[0].watch_cut) = (true, true);
        let deadline = world.hosts[0].node.deadline().unwrap();
        let guard = Lease::new(3 * SECOND).unwrap().guard();
        world.run((deadline - guard).since(world.now) - 10 * MS);
        assert_eq!(world.holders(), [0], "{}", world.story());
        world.run(20 * MS);
        let waits = mutant == Some(Mutant::ForcedWaitsForHook);
        assert_eq!(world.holders().contains(&0), waits, "{}", world.story());
        let killed = world.hosts[0].hooks.contains(&Killed(Hook::BeforeRelease));
        assert_eq!(killed, mutant.is_none(), "{mutant:?} {:?}", world.hosts[0].hooks);
    }
}

/// Rule 12.5. What was told to stop its work is told to begin it again.
#[test]
fn a_vip_whose_before_release_has_begun_goes_although_nobody_wants_that_any_more() {
    let mut world = two();
    takes(&mut world, 0, Hook::BeforeRelease, SECOND, HookEnd::Succeeded);
    drain(&mut world, "a");
    world.run(500 * MS);
    undrain(&mut world, "a");
    world.run(SECOND);
    let expected = [Hook::BeforeRelease, Hook::AfterRelease, Hook::BeforeAssume, Hook::AfterAssume];
    assert_eq!(began(&world, 0), expected, "{}", world.story());
    assert_eq!(world.holders(), [0]);
}

/// Rule 12.1.
#[test]
fn no_hook_of_a_vip_begins_while_another_one_runs() {
    for mutant in [None, Some(Mutant::HooksInParallel)] {
        let mut world = two();
        set(&mut world, 1, mutant);
        takes(&mut world, 1, Hook::AfterAssume, SECOND, HookEnd::Succeeded);
        drain(&mut world, "a");
        world.run(300 * MS);
        undrain(&mut world, "a");
        drain(&mut world, "b");
        world.run(300 * MS);
        let beside = world.hosts[1].hooks.last() == Some(&Began(Hook::BeforeRelease, "drained"))
            || world.holders() != [1];
        assert_eq!(beside, mutant.is_some(), "{:?}", world.hosts[1].hooks);
        world.run(SECOND);
        assert_eq!(world.holders(), [0], "{}", world.story());
    }
}

/// Rule 12.7. Host a loses the VIP and has it back while its after_assume runs.
#[test]
fn what_has_not_begun_when_something_else_is_decided_is_never_run() {
    for mutant in [None, Some(Mutant::SupersededRuns)] {
        let mut world = World::new(Vec::new());
        world.start(with("a", &Hook::ALL, 10 * SECOND));
        set(&mut world, 0, mutant);
        takes(&mut world, 0, Hook::AfterAssume, SECOND, HookEnd::Succeeded);
        world.run_until(SECOND, |w| w.holders() == [0]);
        link(&mut world, 0, false);
        world.run(300 * MS);
        assert!(world.holders().is_empty());
        link(&mut world, 0, true);
        world.run(3 * SECOND);
        assert_eq!(world.holders(), [0], "{}", world.story());
        let released = began(&world, 0).contains(&Hook::AfterRelease);
        assert_eq!(released, mutant.is_some(), "{:?}", world.hosts[0].hooks);
        let twice = began(&world, 0).iter().filter(|hook| **hook == Hook::BeforeAssume).count();
        assert_eq!(twice, 2);
    }
}

/// Rules 12.7 and 12.8. What waits only because another hook runs is not lost.
#[test]
fn after_release_is_run_when_the_hook_before_it_has_ended_wherever_the_vip_is_then() {
    let mut world = two();
    takes(&mut world, 1, Hook::AfterAssume, 2 * SECOND, HookEnd::Succeeded);
    drain(&mut world, "a");
    world.run_until(SECOND, |w| w.holders() == [1]);
    undrain(&mut world, "a");
    link(&mut world, 1, false);
    world.run(SECOND);
    assert_eq!(world.holders(), [0], "nothing waits for it: {}", world.story());
    world.run(2 * SECOND);
    assert_eq!(world.hosts[1].hooks.last(), Some(&Ended(Hook::AfterRelease)));
    assert!(world.hosts[1].owed.is_empty());
}

/// Rules 12.8 and 7.2.
#[test]
fn a_vip_that_is_taken_away_to_be_put_back_runs_no_hook() {
    let mut world = two();
    world.hosts[0].hold_ops = true;
    world.run(600 * MS);
    let (id, op) = world.hosts[0].ops.pop_front().expect("a renewal is told to the kernel");
    assert!(matches!(op, KernelOp::Refresh { .. }), "{op:?}");
    let now = world.now;
    let silenced = KernelOutcome::Failed(KernelError::TooLate);
    world.hosts[0].node.handle_kernel_outcome(id, silenced, now);
    world.hosts[0].hold_ops = false;
    world.run(SECOND);
    assert!(world.said(0, "the kernel did not keep it"), "{}", world.story());
    assert_eq!((world.holders(), world.hosts[0].hooks.as_slice()), (vec![0], &[][..]));
}

/// Rule 12.8.
#[test]
fn nothing_but_the_end_of_the_process_waits_for_after_release() {
    for mutant in [None, Some(Mutant::ExitBesideHooks)] {
        let mut world = two();
        set(&mut world, 0, mutant);
        takes(&mut world, 0, Hook::AfterRelease, SECOND, HookEnd::Succeeded);
        let now = world.now;
        world.hosts[0].node.handle_stop(now);
        world.run(200 * MS);
        assert_eq!(world.holders(), [1], "{}", world.story());
        assert!(world.session("a").is_none() && world.hosts[0].fence_removed);
        assert_eq!(world.hosts[0].exit.is_some(), mutant.is_some());
        world.run(SECOND);
        assert_eq!(world.hosts[0].exit, Some(Exit::Stopped));
        let ended = world.hosts[0].hooks.last() == Some(&Ended(Hook::AfterRelease));
        assert!(ended || mutant.is_some());
        assert!(world.hosts[0].owed.is_empty() || mutant.is_some());
    }
}

/// Rules 12.8 and 12.9.
#[test]
fn who_is_in_a_hurry_does_not_wait_for_after_release_and_leaves_it_to_the_next_process() {
    let mut world = two();
    takes(&mut world, 0, Hook::AfterRelease, 5 * SECOND, HookEnd::Succeeded);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(200 * MS);
    let now = world.now;
    world.hosts[0].node.handle_stop_now(now);
    world.run(5 * MS);
    assert_eq!(world.hosts[0].exit, Some(Exit::Stopped));
    world.restart(0);
    world.hosts[0].hooks.clear();
    world.hosts[0].hook_takes.clear();
    world.run(SECOND);
    let expected = [Began(Hook::AfterRelease, "restart"), Ended(Hook::AfterRelease)];
    assert_eq!(world.hosts[0].hooks, expected);
    assert!(world.hosts[0].owed.is_empty());
}

/// Rules 12.5 and 5.5. While it waits for a hook it does not wait for the store.
#[test]
fn an_orderly_stop_hands_over_after_a_hook_that_takes_longer_than_a_lease() {
    let mut world = two();
    takes(&mut world, 0, Hook::BeforeRelease, 7 * SECOND, HookEnd::Succeeded);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(6_900 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
    world.run(200 * MS);
    assert_eq!(world.holders(), [1], "{}", world.story());
    assert!(world.said(0, "handed v over to b"), "{}", world.story());
    assert_eq!(world.hosts[0].exit, Some(Exit::Stopped));
}

/// Rule 12.9.
#[test]
fn what_a_killed_process_owed_is_run_by_the_next_one_when_the_vip_was_lost() {
    for mutant in [None, Some(Mutant::NothingOwed), Some(Mutant::OwedForgotten)] {
        let mut world = World::new(Vec::new());
        world.start(with("a", &Hook::ALL, 10 * SECOND));
        set(&mut world, 0, mutant.filter(|mutant| *mutant == Mutant::NothingOwed));
        world.run(100 * MS);
        world.start(with("b", &Hook::ALL, 10 * SECOND));
        world.run(2 * SECOND);
        world.hosts[0].frozen = true;
        world.run(4 * SECOND);
        // The kernel has ended it.
        world.hosts[0].addresses.clear();
        world.hosts[0].hooks.clear();
        let config = NodeConfig { process: 99, ..world.hosts[0].config.clone() };
        world.hosts[0].config = config.clone();
        world.hosts[0].node = Node::new(config, world.now);
        set(&mut world, 0, mutant.filter(|mutant| *mutant == Mutant::OwedForgotten));
        let owed = world.hosts[0].owed.values().cloned().collect();
        world.hosts[0].node.handle_owed(owed);
        (world.hosts[0].told, world.hosts[0].frozen) = (None, false);
        world.run(SECOND);
        let expected = [Began(Hook::AfterRelease, "restart"), Ended(Hook::AfterRelease)];
        let ran = world.hosts[0].hooks == expected;
        assert_eq!(ran, mutant.is_none(), "{mutant:?}: {:?}", world.hosts[0].hooks);
        assert!(mutant.is_some() || world.hosts[0].owed.is_empty());
    }
}

/// Rule 12.9.
#[test]
fn a_process_that_goes_on_with_a_vip_runs_no_hook_but_an_after_assume_that_had_not_ended() {
    for interrupted in [false, true] {
        let mut world = World::new(Vec::new());
        world.start(with("a", &Hook::ALL, 10 * SECOND));
        if interrupted {
            takes(&mut world, 0, Hook::AfterAssume, 5 * SECOND, HookEnd::Succeeded);
        }
        world.run(2 * SECOND);
        assert_eq!(world.holders(), [0]);
        world.restart(0);
        (world.hosts[0].hooks, world.hosts[0].hook_takes) = (Vec::new(), [].into());
        world.run(2 * SECOND);
        let again = [Began(Hook::AfterAssume, "restart"), Ended(Hook::AfterAssume)];
        let expected = if interrupted { &again[..] } else { &[] };
        assert_eq!(world.hosts[0].hooks, expected);
        assert_eq!(world.hosts[0].owed.values().next().unwrap().stage, OwedStage::Held);
    }
}

/// Rule 12.9.
#[test]
fn a_process_that_finds_a_release_begun_ends_it_and_takes_the_vip_anew() {
    let mut world = two();
    takes(&mut world, 0, Hook::BeforeRelease, 5 * SECOND, HookEnd::Succeeded);
    drain(&mut world, "a");
    world.run(500 * MS);
    world.restart(0);
    undrain(&mut world, "a");
    (world.hosts[0].hooks, world.hosts[0].hook_takes) = (Vec::new(), [].into());
    world.run(2 * SECOND);
    let expected = [Hook::AfterRelease, Hook::BeforeAssume, Hook::AfterAssume];
    assert_eq!(began(&world, 0), expected, "{}", world.story());
    assert_eq!(world.holders(), [0]);
}

/// Rule 12.9. As where hooks are new, or what is owed was told under another name.
#[test]
fn what_is_here_with_nothing_written_down_of_it_is_told_to_have_come() {
    let mut world = World::new(Vec::new());
    world.start(with("a", &[], SECOND));
    world.run(2 * SECOND);
    world.hosts[0].config = with("a", &Hook::ALL, SECOND);
    world.restart(0);
    world.run(SECOND);
    let expected = [Began(Hook::AfterAssume, "restart"), Ended(Hook::AfterAssume)];
    assert_eq!(world.hosts[0].hooks, expected, "{}", world.story());
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.hosts[0].owed.values().next().unwrap().stage, OwedStage::Held);
}

/// Rule 12.9. Neither the VIP nor its hooks are configured any more.
#[test]
fn what_is_owed_for_a_vip_that_is_not_configured_any_more_is_run_when_its_address_is_gone() {
    let mut world = World::new(Vec::new());
    world.start(with("a", &Hook::ALL, 10 * SECOND));
    world.run(2 * SECOND);
    assert_eq!(world.holders(), [0]);
    world.hosts[0].config.vips.clear();
    world.restart(0);
    world.hosts[0].hooks.clear();
    world.hosts[0].hold_ops = true;
    world.run(100 * MS);
    assert!(world.hosts[0].hooks.is_empty(), "it is here still");
    world.hosts[0].hold_ops = false;
    world.run(SECOND);
    let expected = [Began(Hook::AfterRelease, "restart"), Ended(Hook::AfterRelease)];
    assert_eq!(world.hosts[0].hooks, expected);
    assert!(world.hosts[0].owed.is_empty() && world.holders().is_empty());
}

/// Rule 12.8.
#[test]
fn another_machine_with_the_address_is_told_to_on_conflict_with_its_hardware_address() {
    let mut world = two();
    let assignment = world.hosts[0].config.vips[0].assignments().next().unwrap();
    let mac = Mac([2, 0, 0, 0, 0, 7]);
    takes(&mut world, 0, Hook::OnConflict, SECOND, HookEnd::Succeeded);
    world.event(0, KernelEvent::Conflict(Conflict { assignment, heard_on: "eth0".into(), mac }));
    world.run(100 * MS);
    let run = &world.hosts[0].hooks_running[0];
    assert_eq!((run.hook, run.peer.as_deref()), (Hook::OnConflict, Some("02:00:00:00:00:07")));
    assert_eq!(world.hosts[0].hooks, [Began(Hook::OnConflict, "conflict")]);
}

/// Rules 12.8 and 7.1.
#[test]
fn a_repair_is_no_release_and_runs_no_hook() {
    let mut world = two();
    world.remove_behind_the_back(0);
    world.run(100 * MS);
    world.misplace(0);
    world.run(100 * MS);
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.hosts[0].hooks, []);
}

/// Rules 12.8 and 2.3.
#[test]
fn a_vip_that_was_taken_away_for_want_of_time_was_released_and_is_taken_anew() {
    let mut world = World::new(Vec::new());
    world.start(with("a", &Hook::ALL, 10 * SECOND));
    world.run(2 * SECOND);
    world.hosts[0].hooks.clear();
    world.hosts[0].cut = true;
    world.run(3 * SECOND);
    assert_eq!(world.hosts[0].hooks.first(), Some(&Began(Hook::AfterRelease, "not-renewed")));
    world.hosts[0].cut = false;
    world.run(2 * SECOND);
    let expected = [Hook::AfterRelease, Hook::BeforeAssume, Hook::AfterAssume];
    assert_eq!(began(&world, 0), expected);
    assert_eq!(world.holders(), [0]);
}

/// Rule 12.1. Side by side, as many as there is room for, and all of them in the end.
#[test]
fn hooks_of_many_vips_run_side_by_side_and_all_of_them_in_the_end() {
    let hooks = [(Hook::AfterAssume, HookConfig { timeout: SECOND, ignores_failure: false })];
    let policy = Policy::Priority { priority: 0, preempt: false };
    let vip = |n: usize| VipConfig {
        hooks: hooks.into(),
        ..world::vip(
            &format!("v{n}"),
            &format!("10.0.{}.{}/32", n / 250, n % 250 + 1),
            policy.clone(),
        )
    };
    let mut world = World::new(Vec::new());
    world.start(config("a", (0..300).map(vip).collect()));
    takes(&mut world, 0, Hook::AfterAssume, 100 * MS, HookEnd::Succeeded);
    world.run(150 * MS);
    assert_eq!(world.hosts[0].hooks_running.len(), 64);
    world.run(SECOND);
    assert_eq!(began(&world, 0).len(), 300);
    assert!(world.hosts[0].hooks_running.is_empty());
}

/// Rule 12.1: what is configured again waits for what still runs of it from before.
#[test]
fn a_vip_that_is_configured_again_waits_for_the_hook_that_still_runs_of_it() {
    let hooks = [Hook::BeforeAssume, Hook::AfterRelease]
        .map(|hook| (hook, HookConfig { timeout: 5 * SECOND, ignores_failure: false }));
    let policy = Policy::Priority { priority: 0, preempt: false };
    let vips = || {
        vec![VipConfig { hooks: hooks.into(), ..world::vip("v", "10.0.0.50/32", policy.clone()) }]
    };
    let mut world = World::new(Vec::new());
    world.start(config("a", vips()));
    world.run_until(SECOND, |w| w.holders() == [0]);
    takes(&mut world, 0, Hook::AfterRelease, 2 * SECOND, HookEnd::Succeeded);
    world.reload(0, vec![world::vip("w", "10.0.0.51/32", policy.clone())]);
    world.run(SECOND);
    assert_eq!(began(&world, 0).last(), Some(&Hook::AfterRelease));
    world.reload(0, vips());
    world.run(500 * MS);
    assert_eq!(began(&world, 0).last(), Some(&Hook::AfterRelease), "it runs still");
    world.run_until(2 * SECOND, |w| w.holder_of("10.0.0.50/32") == [0]);
    let told = &world.hosts[0].hooks;
    let ended = told.iter().position(|one| *one == Ended(Hook::AfterRelease));
    let begins = told.iter().rposition(|one| matches!(one, Began(Hook::BeforeAssume, _)));
    assert!(ended < begins, "{told:?}");
    assert_eq!(world.hosts[0].owed.keys().map(ToString::to_string).collect::<Vec<_>>(), ["v"]);
}
