//! Hooks that take long, hang and fail (rule 12).

use turnip_core::Mutant;

use super::Scenario;
use super::interleavings::ranked;
use crate::plan::{Fault, HookParams, Plan};
use crate::time::{MS, S};

fn scenario(
    name: &'static str,
    story: &'static str,
    mutants: &'static [Mutant],
    gap_max: u64,
    plan: fn() -> Plan,
) -> Scenario {
    Scenario::plan(name, story, mutants, gap_max, plan)
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![
        scenario(
            "hooks-of-a-move",
            "h1 is drained, and drained no more: the hooks of both hosts take some hundred ms each",
            &[Mutant::AssumeBesideHook, Mutant::ExitBesideHooks],
            2_500 * MS,
            hooks_of_a_move,
        ),
        scenario(
            "hooks-beside-each-other",
            "rule 12.1: h1 is drained for a moment, again and again, while hooks take long",
            &[Mutant::HooksInParallel],
            20 * S,
            hooks_beside_each_other,
        ),
        scenario(
            "hook-that-hangs-when-it-is-cut-off",
            "rule 12.5: h1 is drained, its before_release hangs, and it is cut off from etcd",
            &[],
            20 * S,
            hook_that_hangs,
        ),
        scenario(
            "what-a-killed-daemon-owed",
            "rule 12.9: h1's daemon is killed with the VIP, and is started again when another host has had it",
            &[Mutant::NothingOwed, Mutant::OwedForgotten],
            20 * S,
            what_a_killed_daemon_owed,
        ),
        scenario(
            "hook-that-hangs-at-one-candidate",
            "rule 12.4: h1 is drained, h2's before_assume hangs for a second: the VIP goes on to h3",
            &[Mutant::SitsOnVip],
            1_100 * MS,
            hook_that_hangs_at_one_candidate,
        ),
        scenario(
            "check-that-fails-beside-hooks",
            "h1's check fails, its before_release takes up to 800 ms, and the address waits for h2's before_assume",
            &[],
            900 * MS,
            check_that_fails,
        ),
    ]
}

fn with_hooks(takes_ms: u64, timeout_ms: u64, hang_permille: u64) -> Plan {
    let mut plan = ranked();
    plan.params.hooks =
        Some(HookParams { timeout_ms, takes_ms, hang_permille, fail_permille: 0, broken_on: None });
    plan.lasting(30 * S);
    plan
}

fn hooks_of_a_move() -> Plan {
    let mut plan = with_hooks(800, 1_000, 0);
    plan.fault(8_000, 6_000, Fault::Drain { host: 0 });
    plan
}

fn hooks_beside_each_other() -> Plan {
    let mut plan = with_hooks(2_000, 3_000, 0);
    for at in 0..12 {
        plan.fault(8_000 + at * 1_500, 700, Fault::Drain { host: (at % 2) as usize });
    }
    plan
}

fn hook_that_hangs() -> Plan {
    let mut plan = with_hooks(10, 10_000, 1_000);
    plan.fault(12_000, 18_000, Fault::Drain { host: 0 });
    plan.fault(12_100, 12_000, Fault::CutStore { host: 0 });
    plan
}

fn hook_that_hangs_at_one_candidate() -> Plan {
    let mut plan = with_hooks(10, 1_000, 0);
    plan.params.hooks.iter_mut().for_each(|hooks| hooks.broken_on = Some(1));
    plan.fault(8_000, 10_000, Fault::Drain { host: 0 });
    plan
}

fn check_that_fails() -> Plan {
    let hooks = with_hooks(800, 1_000, 0).params.hooks;
    let mut plan = super::health::failing_check();
    plan.params.hooks = hooks;
    plan.lasting(40 * S);
    plan
}

fn what_a_killed_daemon_owed() -> Plan {
    let mut plan = with_hooks(10, 1_000, 0);
    plan.fault(8_000, 10_000, Fault::Kill { host: 0 });
    plan
}
