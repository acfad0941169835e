//! Draws configurations that differ by host and by the start of a daemon.

use turnip_core::Backstop;

use crate::plan::{Change, Fault, LeaseParams, Params, Plan, PolicyParams, Step};
use crate::rng::Rng;
use crate::time::{MS, S, True};

/// Differences from the beginning on, until everything heals.
pub fn from_the_start(rng: &mut Rng, plan: &Plan, steps: &mut Vec<Step>) {
    for host in 0..plan.params.hosts {
        for _ in 0..rng.below(3) {
            let fault = Fault::Reconfigure { host, change: change(rng, &plan.params) };
            steps.push(Step { at: 0, lasts: None, fault });
        }
    }
}

/// A host's file changes, and its daemon is started anew, in an orderly way or not.
pub fn with_a_restart(rng: &mut Rng, plan: &Plan, at: True, steps: &mut Vec<Step>) {
    let host = rng.index(plan.params.hosts);
    let lasts = if rng.chance(400) { None } else { Some(rng.within(50..=20_000) * MS) };
    for _ in 0..rng.within(1..=2) {
        let fault = Fault::Reconfigure { host, change: change(rng, &plan.params) };
        steps.push(Step { at, lasts, fault });
    }
    steps.push(start_anew(rng, plan, host, at + MS));
    if let (Some(lasts), true) = (lasts, rng.chance(500)) {
        steps.push(start_anew(rng, plan, host, at + lasts + MS));
    }
}

/// The same change on one host after the other, as people roll out a new file.
pub fn rolled_out(rng: &mut Rng, plan: &Plan, mut at: True, steps: &mut Vec<Step>) {
    let change = change(rng, &plan.params);
    let pause = rng.within(100..=10_000) * MS;
    let drains = rng.chance(500);
    let first = rng.index(plan.params.hosts);
    for number in 0..plan.params.hosts {
        let host = (first + number) % plan.params.hosts;
        if drains {
            steps.push(Step { at, lasts: Some(pause), fault: Fault::Drain { host } });
            at += pause / 2;
        }
        let fault = Fault::Reconfigure { host, change: change.clone() };
        steps.push(Step { at, lasts: None, fault });
        steps.push(start_anew(rng, plan, host, at + MS));
        at += pause;
    }
}

fn start_anew(rng: &mut Rng, plan: &Plan, host: usize, at: True) -> Step {
    let short = rng.within(1..=plan.params.lease_ms / 4) * MS;
    let lasts = Some(if rng.chance(200) { rng.within(1..=10) * S } else { short });
    let fault = rng
        .pick(&[
            Fault::Kill { host },
            Fault::Kill { host },
            Fault::Restart { host },
            Fault::Restart { host },
            Fault::PowerOff { host },
        ])
        .clone();
    Step { at, lasts, fault }
}

/// One change of one file.
pub fn change(rng: &mut Rng, params: &Params) -> Change {
    let vips = params.vips.len();
    // Few VIPs are changed often, so that changes meet.
    let vip = rng.index(vips.min(4));
    let other = rng.index(vips.min(4));
    match rng.below(40) {
        0 => Change::Cluster { cluster: 1 },
        1 => Change::NameOf { host: rng.index(params.hosts) },
        2..=6 => Change::Lease(lease(rng, params)),
        7..=8 => Change::Weight { weight: *rng.pick(&[50, 100, 300]) },
        9..=17 => Change::Rename { vip, to: vips + vip },
        18..=19 => Change::Rename { vip: vips + other, to: vip },
        20..=24 => Change::MoveAddress { from: vip, to: other },
        25..=29 => Change::Swap { one: vip, other },
        30..=34 => Change::Remove { vip },
        35..=37 => Change::Priority { vip, priority: rng.below(4) as u32 * 50 },
        _ => Change::Policy { vip, policy: policy(rng, params) },
    }
}

fn policy(rng: &mut Rng, params: &Params) -> PolicyParams {
    match rng.below(3) {
        0 => PolicyParams::Leader,
        1 => PolicyParams::Spread,
        _ => PolicyParams::Priority {
            priorities: (0..params.hosts).map(|_| rng.below(4) as u32 * 50).collect(),
            preempt: rng.chance(500),
        },
    }
}

/// Another lease, with the same proportions or with some of its own.
fn lease(rng: &mut Rng, params: &Params) -> LeaseParams {
    let (times, of) = *rng.pick(&[(2, 3), (3, 2), (2, 1), (3, 1)]);
    let least = if params.backstop == Some(Backstop::Lifetime) { 4_000 } else { 600 };
    let lease_ms = (params.lease_ms * times / of + rng.below(100)).max(least);
    let own = rng.chance(300);
    LeaseParams {
        lease_ms,
        renew_ms: own.then(|| lease_ms / rng.within(4..=12)),
        guard_ms: own.then(|| (lease_ms / rng.within(12..=40)).max(5)),
    }
}
