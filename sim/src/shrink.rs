//! Finds the shortest fault plan that still fails.

use std::mem::discriminant;

use crate::plan::Plan;
use crate::run::{self, Failure};

/// More runs than this are not worth the wait.
const RUNS_MAX: usize = 400;

/// The indices of the steps of `plan` that are enough for `failure`, or one of its kind, to
/// happen: leaving out any further one of them makes it go away.
pub fn shrink(plan: &Plan, failure: &Failure) -> Vec<usize> {
    let mut runs = 0;
    let mut fails = |kept: &[usize]| {
        runs += 1;
        let outcome = run::run(&plan.with_steps(kept), false);
        let same = |found: &Failure| discriminant(found) == discriminant(failure);
        runs <= RUNS_MAX && outcome.failures.iter().any(same)
    };
    let mut kept: Vec<usize> = (0..plan.steps.len()).collect();
    let mut chunk = kept.len().div_ceil(2);
    while chunk > 0 && !kept.is_empty() {
        let mut begin = 0;
        let mut progress = false;
        while begin < kept.len() {
            let end = (begin + chunk).min(kept.len());
            let fewer: Vec<usize> = [&kept[..begin], &kept[end..]].concat();
            if fails(&fewer) {
                kept = fewer;
                progress = true;
            } else {
                begin = end;
            }
        }
        if !progress {
            chunk /= 2;
        }
    }
    kept
}
