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
    (gap_max, holder_at): (u64, (True, usize)),
    plan: fn() -> Plan,
) -> Scenario {
    Scenario { name, story, plan, mutants, gap_max, holder_at: Some(holder_at) }
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![
        scenario(
            "failing-check",
            "h1's check fails: it passes the VIP on",
            &[Mutant::ChecksIgnored],
            (50 * MS, (20 * S, 1)),
            failing_check,
        ),
        scenario(
            "failing-checks-everywhere",
            "h1's check fails, and then those of all: who has the VIP keeps it",
            &[Mutant::LastResortIgnored],
            (50 * MS, (25 * S, 1)),
            failing_everywhere,
        ),
        scenario(
            "toggling-check",
            "h1's check fails and passes every second: after a few moves the VIP stays where it works",
            &[],
            (50 * MS, (40 * S, 1)),
            toggling,
        ),
        scenario(
            "toggling-checks-everywhere",
            "the checks of all hosts fail and pass together, every second",
            &[],
            (50 * MS, (60 * S, 0)),
            toggling_everywhere,
        ),
        scenario(
            "flapping-interface",
            "h1's interface goes down every eight seconds: after a few moves the VIP stays where it works",
            &[Mutant::FlapsForgotten],
            (50 * MS, (63 * S, 1)),
            flapping_interface,
        ),
    ]
}

/// Three hosts, of which the first is preferred, and a check that is tried every half a second.
fn checked() -> Plan {
    let mut plan = ranked();
    plan.params.checks = Some(CheckParams {
        interval_ms: 500,
        rise: 1,
        fall: 1,
        initial: Initial::Wait,
        weight: None,
        last_resort: LastResort::Keep,
    });
    plan
}

fn fail(hosts: &[usize], every: Option<u64>) -> Fault {
    Fault::FailCheck { hosts: hosts.to_vec(), vip: 0, every }
}

pub(super) fn failing_check() -> Plan {
    let mut plan = checked();
    plan.fault(8_000, 20_000, fail(&[0], None));
    plan.lasting(40 * S);
    plan
}

fn failing_everywhere() -> Plan {
    let mut plan = checked();
    plan.fault(8_000, 30_000, fail(&[0], None));
    plan.fault(12_000, 20_000, fail(&[1, 2], None));
    plan.lasting(45 * S);
    plan
}

fn toggling() -> Plan {
    let mut plan = checked();
    plan.fault(8_000, 40_000, fail(&[0], Some(S)));
    plan.lasting(60 * S);
    plan
}

fn toggling_everywhere() -> Plan {
    let mut plan = checked();
    plan.fault(8_000, 20_000, fail(&[0, 1, 2], Some(S)));
    plan.lasting(60 * S);
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
