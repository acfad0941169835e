//! Draws hooks: of most runs none has any; else all VIPs have all, which take long, hang or fail (rule 12).

use crate::plan::{HookParams, Params};
use crate::rng::Rng;

/// The hooks of a run.
pub fn params(rng: &mut Rng, params: &mut Params) {
    if !rng.chance(200) || params.vips.len() > 30 {
        return;
    }
    let timeout_ms = *rng.pick(&[100, 1_000, 1_000, 5_000]);
    let troubled = rng.chance(500);
    let per_mille = |rng: &mut Rng| if troubled { *rng.pick(&[0, 20, 200]) } else { 0 };
    params.hooks = Some(HookParams {
        timeout_ms,
        takes_ms: *rng.pick(&[0, 1, timeout_ms / 10, timeout_ms - 1]),
        hang_permille: per_mille(rng),
        fail_permille: per_mille(rng),
        broken_on: (troubled && rng.chance(300)).then(|| rng.index(params.hosts)),
    });
}
