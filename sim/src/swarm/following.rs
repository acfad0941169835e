//! Draws VIPs that follow a key of another program, and what that program says (rule 13).

use turnip_core::Absent;

use crate::plan::{Fault, Params, Plan, PolicyParams, Step};
use crate::rng::Rng;
use crate::time::MS;

/// Which VIPs follow a key.
pub fn params(rng: &mut Rng, params: &mut Params) {
    if !rng.chance(120) {
        return;
    }
    let absent = *rng.pick(&[Absent::Nobody, Absent::Nobody, Absent::Last]);
    let all = rng.chance(500);
    for vip in &mut params.vips {
        if all || rng.chance(300) {
            vip.policy = PolicyParams::Follow { absent };
        }
    }
}

/// Adds to the faults of a run what the other program does: it names hosts in turns, and sometimes nobody.
pub fn faults(rng: &mut Rng, plan: &mut Plan) {
    let vips = 0..plan.params.vips.len();
    let followed: Vec<usize> = vips.filter(|vip| plan.params.follows(*vip)).collect();
    if followed.is_empty() {
        return;
    }
    for _ in 0..rng.within(1..=6) {
        let host = Some(rng.index(plan.params.hosts)).filter(|_| rng.chance(800));
        let fault = Fault::Name { vip: *rng.pick(&followed), host };
        let lasts = Some(rng.within(10..=30_000) * MS);
        plan.steps.push(Step { at: rng.below(plan.heal_at), lasts, fault });
    }
}
