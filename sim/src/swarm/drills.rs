//! Drills: one fault after the other, each in a cluster that is in order again, so that the table of
//! allowances holds for it as it stands.

use turnip_core::Backstop;

use crate::judge::allowance::Durations;
use crate::plan::{Change, Fault, Plan, Step};
use crate::rng::Rng;
use crate::time::{MS, S};

use super::{health, hearing, reloads};

/// Makes a drill of a plan whose cluster is drawn.
pub fn draw(
    rng: &mut Rng,
    (of_hearing, of_health, of_reloads): (&mut Rng, &mut Rng, &mut Rng),
    plan: &mut Plan,
) {
    plan.params.weather.tail_permille = 0;
    background(rng, plan);
    let durations = Durations::of(plan);
    let mut at = durations.start(plan) + rng.within(1..=3_000) * MS;
    for _ in 0..rng.within(2..=6) {
        // The plan's own healing is not known yet.
        plan.heal_at = u64::MAX;
        let drilled = health::drill(of_health, plan, &durations, at);
        if let Some(over) = drilled.or_else(|| hearing::drill(of_hearing, plan, &durations, at)) {
            at = over + rng.within(500..=5_000) * MS;
            continue;
        }
        if let Some(over) = reloads::drill(of_reloads, plan, &durations, at) {
            at = over + rng.within(500..=5_000) * MS;
            continue;
        }
        let fault = fault(rng, plan);
        if plan.steps.iter().any(|step| step.is_for_ever() && step.fault == fault) {
            continue;
        }
        let lasts = duration(rng, plan, &fault);
        let step = Step { at, lasts: Some(lasts), fault };
        let windows = durations.allowance(plan, &step).windows(plan, &step);
        let over = windows.iter().map(|(_, to)| *to).max().unwrap_or(at + lasts);
        plan.steps.push(step);
        at = over.max(at + lasts) + rng.within(500..=5_000) * MS;
    }
    plan.lasting(at);
}

/// Something that is so all the while, and after which all is in order.
fn background(rng: &mut Rng, plan: &mut Plan) {
    let params = &plan.params;
    let host = rng.index(params.hosts);
    let spare = params.hosts > 2;
    match rng.below(8) {
        0 if spare => {
            let vip = rng.index(params.vips.len());
            let fault = Fault::RefuseAddress { host, vip };
            plan.steps.push(Step { at: 0, lasts: None, fault });
        }
        1 if spare => {
            let fault = Fault::Drain { host };
            plan.steps.push(Step { at: S, lasts: None, fault });
        }
        2 => {
            let vip = rng.index(params.vips.len());
            let change = Change::Rename { vip, to: params.vips.len() + vip };
            let fault = Fault::Reconfigure { host, change };
            plan.steps.push(Step { at: 0, lasts: None, fault });
        }
        _ => {}
    }
}

fn fault(rng: &mut Rng, plan: &Plan) -> Fault {
    let params = &plan.params;
    let host = rng.index(params.hosts);
    let member = rng.index(params.members());
    let vip = rng.index(params.vips.len());
    let interface = rng.index(params.interfaces);
    let drift = i64::from(params.drift_ppm);
    match rng.below(20) {
        0..=2 => Fault::Kill { host },
        3..=4 => Fault::Freeze { host },
        5..=6 => Fault::Restart { host },
        7 => Fault::PowerOff { host },
        8..=9 => Fault::CutStore { host },
        10 => Fault::Isolate { site: host },
        11 => Fault::Drain { host },
        12 => Fault::Pin { vip, host },
        13 => rng
            .pick(&[Fault::LinkDown { host, interface }, Fault::LinkGone { host, interface }])
            .clone(),
        14 => {
            let mut faults = vec![
                Fault::StealAddress { host, vip },
                Fault::OwnAddressReturns { host, interface },
            ];
            // By lifetimes nothing silences what is not turnip's.
            if params.backstop == Some(Backstop::Fence) {
                faults.push(Fault::Double { host, vip });
            }
            rng.pick(&faults).clone()
        }
        15..=16 => Fault::LoseQuorum,
        17 => rng
            .pick(&[
                Fault::CrashLeader,
                Fault::CrashMember { member },
                Fault::PauseMember { member },
                Fault::MoveLeader,
            ])
            .clone(),
        18 => rng
            .pick(&[
                Fault::Compact,
                Fault::WatchLag { host, by: rng.clone().below(params.lease_ms / 8) * MS },
                Fault::Drift { host, ppm: rng.clone().within_signed(-drift..=drift) },
            ])
            .clone(),
        _ => Fault::RefuseAddress { host, vip },
    }
}

/// Shorter than a lease bears, or longer than it lasts.
fn duration(rng: &mut Rng, plan: &Plan, fault: &Fault) -> u64 {
    let lease = plan.params.lease_ms;
    let short = rng.within(5..=lease / 3) * MS;
    let long = rng.within(lease / 2..=3 * lease) * MS;
    let is_short = match fault {
        Fault::LoseQuorum => rng.chance(300),
        _ => rng.chance(500),
    };
    if is_short { short } else { long }
}
