//! Draws members that answer late, while terms change: answers overtake each other, and nobody may take that
//! for another store (rule 9.7).

use crate::plan::{Fault, Plan, Step};
use crate::rng::Rng;
use crate::time::MS;

/// Adds such a time to a run, now and then.
pub fn faults(rng: &mut Rng, plan: &mut Plan) {
    if !rng.chance(250) {
        return;
    }
    let (lease, members) = (plan.params.lease_ms, plan.params.members());
    let at = rng.below(plan.heal_at * 3 / 4);
    let lasts = rng.within(2 * lease..=8 * lease) * MS;
    for member in 0..members {
        let by = rng.within(1..=lease / 12) * MS;
        plan.steps.push(Step { at, lasts: Some(lasts), fault: Fault::SlowAnswers { member, by } });
    }
    for _ in 0..rng.within(1..=4) {
        let at = at + rng.below(lasts);
        let member = rng.index(members);
        let faults = [Fault::MoveLeader, Fault::CrashLeader, Fault::CrashMember { member }];
        let fault = rng.pick(&faults).clone();
        let lasts = Some(rng.within(1..=2 * lease) * MS);
        let step = Step { at, lasts, fault };
        plan.steps.push(step);
    }
    let heal_at = plan.heal_at;
    plan.steps.retain(|step| step.at < heal_at);
}
