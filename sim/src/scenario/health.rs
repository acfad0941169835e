//! Checks of what stands behind a VIP (rule 11), and what comes and goes (rule 7.7).

use turnip_core::{Initial, LastResort, Mutant};

use super::Scenario;
use super::interleavings::ranked;
use crate::plan::{CheckParams, Fault, Plan};
use crate::time::{MS, S, True};

fn scenario(
    name: &'static str,
    story: &'static str,
    mutants: &'static [Mutant],
    (gap_max, (at, host)): (u64, (True, usize)),
    plan: fn() -> Plan,
) -> Scenario {
    Scenario::plan(name, story, mutants, gap_max, plan).with_holder(at, host)
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![scenario(
        "flapping-interface",
        "h1's interface goes down every eight seconds: after a few moves the VIP stays where it works",
        &[Mutant::FlapsForgotten],
        (50 * MS, (63 * S, 1)),
        flapping_interface,
    )]
}

/// Three hosts, of which the first is preferred, and a check that is tried every half a second; the first one's
/// fails.
pub(super) fn failing_check() -> Plan {
    let mut plan = ranked();
    plan.params.checks = Some(CheckParams {
        interval_ms: 500,
        rise: 1,
        fall: 1,
        initial: Initial::Wait,
        weight: None,
        last_resort: LastResort::Keep,
    });
    plan.fault(8_000, 20_000, Fault::FailCheck { hosts: vec![0], vip: 0, every: None });
    plan.lasting(40 * S);
    plan
}

fn flapping_interface() -> Plan {
    let mut plan = ranked();
    for round in 0..8 {
        let down = Fault::LinkDown { host: 0, interface: 0 };
        plan.fault(8_000 + 8_000 * round, 1_000, down);
    }
    plan.lasting(80 * S);
    plan
}
