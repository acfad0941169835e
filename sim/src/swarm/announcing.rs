//! Draws what concerns announcements: how often they are made, and what asks for one more (rules 8.16 and
//! 8.18).

use crate::plan::{Fault, Params, Plan, Step};
use crate::rng::Rng;
use crate::time::{MS, S};

/// How often they are made, and whether VIPs are defended.
pub fn params(rng: &mut Rng, params: &mut Params) {
    params.announce_every_ms = *rng.pick(&[None, Some(1_000), Some(5_000), Some(60_000)]);
    params.defend = rng.chance(500);
}

/// Adds to the faults of a run what no host may make anything of but an announcement.
pub fn faults(rng: &mut Rng, plan: &mut Plan) {
    if rng.chance(700) {
        return;
    }
    let mean_pause = rng.within(1_000..=15_000) * MS;
    let mut at = rng.below(10 * S);
    while at < plan.heal_at {
        let host = rng.index(plan.params.hosts);
        let vip = rng.index(plan.params.vips.len());
        let interface = rng.index(plan.params.interfaces);
        let fault = match rng.chance(500) {
            true => Fault::ClaimAddress { host, vip },
            false => Fault::ChangeHardware { host, interface },
        };
        plan.steps.push(Step { at, lasts: Some(rng.within(1..=10_000) * MS), fault });
        at += rng.within(1..=2 * mean_pause);
    }
}
