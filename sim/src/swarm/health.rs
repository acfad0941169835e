//! Draws checks of what stands behind VIPs, that fail, toggle, and fall on all hosts together (rule 11).

use turnip_core::{Initial, LastResort};

use crate::judge::allowance::Durations;
use crate::plan::{CheckParams, Fault, Params, Plan, Step};
use crate::rng::Rng;
use crate::time::{MS, S, True};

/// Whether there are checks, and what they are.
pub fn params(rng: &mut Rng, params: &mut Params) {
    if !rng.chance(300) {
        return;
    }
    params.checks = Some(CheckParams {
        interval_ms: *rng.pick(&[200, 500, 1_000]),
        rise: *rng.pick(&[1, 1, 2]),
        fall: *rng.pick(&[1, 1, 3]),
        initial: *rng.pick(&[Initial::Wait, Initial::Wait, Initial::Up]),
        weight: *rng.pick(&[None, None, None, Some(-20), Some(-200)]),
        last_resort: *rng.pick(&[LastResort::Keep, LastResort::Keep, LastResort::Release]),
    });
}

/// Adds to the faults of a run checks that fail.
pub fn faults(rng: &mut Rng, plan: &mut Plan) {
    if plan.params.checks.is_none() {
        return;
    }
    for _ in 0..rng.within(1..=3) {
        let at = rng.below(plan.heal_at);
        let step = step(rng, plan, at);
        plan.steps.push(step);
    }
}

/// One in a cluster that is in order, now and then; and when all is in order again.
pub fn drill(rng: &mut Rng, plan: &mut Plan, durations: &Durations, at: True) -> Option<True> {
    if plan.params.checks.is_none() || !rng.chance(400) {
        return None;
    }
    let step = step(rng, plan, at);
    plan.steps.push(step.clone());
    let mut windows = durations.allowance(plan, &step).windows(plan, &step);
    windows.push((step.at, step.ends(plan.heal_at)));
    windows.into_iter().map(|(_, to)| to).max()
}

fn step(rng: &mut Rng, plan: &Plan, at: True) -> Step {
    let params = &plan.params;
    let hosts = match rng.below(3) {
        0 => (0..params.hosts).collect(),
        _ => vec![rng.index(params.hosts)],
    };
    let vip = rng.index(params.vips.len());
    let every = *rng.pick(&[None, None, Some(S), Some(3 * S), Some(12 * S)]);
    Step {
        at,
        lasts: Some(rng.within(500..=60_000) * MS),
        fault: Fault::FailCheck { hosts, vip, every },
    }
}
