//! Draws configurations that change while daemons run (rule 14), and daemons that leave all to the next.

use crate::judge::allowance::Durations;
use crate::plan::{Change, Fault, Plan, Step};
use crate::rng::Rng;
use crate::time::{MS, S, True};

use super::configs;

/// In every third plan: files are rolled out, host by host or at once, and back again; in the middle of
/// whatever else goes wrong.
pub fn faults(rng: &mut Rng, plan: &mut Plan) {
    if !rng.chance(333) {
        return;
    }
    let last = plan.heal_at;
    for _ in 0..rng.within(1..=3) {
        let at = rng.below(last);
        if rng.chance(700) {
            rolled_out(rng, plan, at);
        } else {
            leaves(rng, plan, at);
        }
    }
}

/// The same change on one host after the other, each told while it runs; some hosts later, or never.
fn rolled_out(rng: &mut Rng, plan: &mut Plan, mut at: True) {
    let change = change(rng, plan);
    let pause = *rng.pick(&[0, 1, 3, 30, 300, 3_000, 10_000]) * MS;
    let lasts = if rng.chance(500) { None } else { Some(rng.within(1..=15_000) * MS) };
    let first = rng.index(plan.params.hosts);
    for number in 0..plan.params.hosts {
        if at + MS >= plan.heal_at {
            return;
        }
        let host = (first + number) % plan.params.hosts;
        let fault = Fault::Reconfigure { host, change: change.clone() };
        plan.steps.push(Step { at, lasts, fault });
        plan.steps.push(told(host, at + 1));
        if let Some(lasts) = lasts.filter(|lasts| at + lasts + MS < plan.heal_at) {
            plan.steps.push(told(host, at + lasts + 1));
        }
        at += pause;
        if rng.chance(100) {
            return;
        }
    }
}

/// One file after the other is told, and then back, in a cluster that is in order; when that is over.
pub fn drill(rng: &mut Rng, plan: &mut Plan, durations: &Durations, at: True) -> Option<True> {
    if !rng.chance(150) {
        return None;
    }
    let change = loop {
        let change = change(rng, plan);
        if !matches!(change, Change::Remove { .. } | Change::Policy { .. }) {
            break change;
        }
    };
    let hosts = plan.params.hosts;
    let window = |step: &Step| {
        let windows = durations.allowance(plan, step).windows(plan, step);
        windows.iter().map(|(_, to)| *to - step.at).max().unwrap_or_default()
    };
    let window = window(&told(0, at)) + S;
    let pause = *rng.pick(&[0, 1, 3, 30, 300, window / MS]) * MS;
    // All are told before the first is told to go back.
    let lasts = pause * hosts as u64 + window;
    let first = rng.index(hosts);
    for number in 0..hosts {
        let host = (first + number) % hosts;
        let at = at + pause * number as u64;
        let fault = Fault::Reconfigure { host, change: change.clone() };
        plan.steps.push(Step { at, lasts: Some(lasts), fault });
        plan.steps.push(told(host, at + 1));
        plan.steps.push(told(host, at + lasts + 1));
    }
    Some(at + lasts + pause * hosts as u64 + window)
}

fn told(host: usize, at: True) -> Step {
    Step { at, lasts: Some(MS), fault: Fault::Reload { host } }
}

fn leaves(rng: &mut Rng, plan: &mut Plan, at: True) {
    let host = rng.index(plan.params.hosts);
    let lasts = Some(rng.within(1..=plan.params.lease_ms) * MS);
    plan.steps.push(Step { at, lasts, fault: Fault::Leave { host } });
    if rng.chance(300) {
        // The next process has another file.
        let change = change(rng, plan);
        let fault = Fault::Reconfigure { host, change };
        plan.steps.push(Step { at, lasts: None, fault });
    }
}

/// One that takes no new session.
fn change(rng: &mut Rng, plan: &Plan) -> Change {
    if plan.params.interfaces > 1 && rng.chance(100) {
        let (vip, interface) =
            (rng.index(plan.params.vips.len()), rng.index(plan.params.interfaces));
        return Change::Interface { vip, interface };
    }
    loop {
        let change = configs::change(rng, &plan.params);
        let takes_session =
            matches!(change, Change::Cluster { .. } | Change::NameOf { .. } | Change::Lease(_));
        if !takes_session {
            return change;
        }
    }
}
