//! Bugs that the simulator, the exhaustive search or the lab found in turnip itself, mended since.
//! Each went wrong with the code of its day.

use super::Scenario;
use super::interleavings::{meddle, ranked};
use crate::plan::{Fault, Mishap, Plan, PolicyParams, TxnKind};
use crate::time::{MS, S};

fn scenario(name: &'static str, story: &'static str, gap_max: u64, plan: fn() -> Plan) -> Scenario {
    Scenario::plan(name, story, &[], gap_max, plan)
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![
        scenario(
            "late-renewal-of-the-boot-before",
            "h1 is powered off with a renewal on its way, which lands while the rebooted host watches whether its name is in use",
            20 * S,
            late_renewal_of_the_boot_before,
        ),
        scenario(
            "behind-a-balancer",
            "what answers for the etcd member of each host is one member after the other: the VIP that follows the leader stays where it is",
            200 * MS,
            behind_a_balancer,
        ),
    ]
}

fn late_renewal_of_the_boot_before() -> Plan {
    let mut plan = ranked();
    // Its own death must not cost etcd the leader: then nobody would be contested.
    plan.fault(4_000, 1, Fault::MoveLeader);
    let late = Mishap::DelayRequest(1_700 * MS);
    plan.fault(8_400, 100, meddle(0, TxnKind::Renew, 1, late));
    plan.fault(8_550, 300, Fault::PowerOff { host: 0 });
    plan
}

fn behind_a_balancer() -> Plan {
    let mut plan = Plan::quiet();
    plan.params.vips.truncate(1);
    plan.params.vips[0].policy = PolicyParams::Leader;
    plan.params.balanced = true;
    plan
}
