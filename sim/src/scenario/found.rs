//! Bugs that the simulator, the exhaustive search or the lab found in turnip itself, mended since.
//! Each went wrong with the code of its day.

use turnip_core::Mutant;

use super::Scenario;
use super::interleavings::{meddle, ranked};
use crate::plan::{Fault, Mishap, Plan, PolicyParams, TxnKind};
use crate::time::{MS, S};

fn scenario(name: &'static str, story: &'static str, gap_max: u64, plan: fn() -> Plan) -> Scenario {
    Scenario { name, story, plan, mutants: &[], gap_max, holder_at: None }
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let mut all = vec![
        scenario(
            "late-renewal-of-the-boot-before",
            "h1 is powered off with a renewal on its way, which lands while the rebooted host watches whether its name is in use",
            20 * S,
            late_renewal_of_the_boot_before,
        ),
        scenario(
            "death-with-the-leader",
            "h1 dies together with etcd's leader: the election is not added to its lease",
            3_400 * MS,
            death_with_the_leader,
        ),
        scenario(
            "long-election-with-a-death",
            "h1 dies together with etcd's leader, and the election takes long: the VIP is elsewhere within 1.1 leases",
            3_300 * MS,
            long_election_with_a_death,
        ),
        scenario(
            "long-election",
            "etcd's leader crashes, and the election takes long: the VIP stays where it is",
            200 * MS,
            long_election,
        ),
        scenario(
            "return-into-an-election",
            "h1 comes back as the preferred one, and etcd's leader dies when the VIP is about to move: it stays until the store answers",
            700 * MS,
            return_into_an_election,
        ),
        scenario(
            "behind-a-balancer",
            "what answers for the etcd member of each host is one member after the other: the VIP that follows the leader stays where it is",
            200 * MS,
            behind_a_balancer,
        ),
    ];
    for scenario in &mut all {
        if scenario.name == "death-with-the-leader" {
            scenario.mutants = &[Mutant::PatienceDoubled];
        }
    }
    all
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

fn death_with_the_leader() -> Plan {
    let mut plan = ranked();
    plan.fault(8_000, 15_000, Fault::CrashLeader);
    plan.fault(8_000, 15_000, Fault::PowerOff { host: 0 });
    plan
}

/// Members that wait for 1.8 s or more before they want to lead.
fn slow_to_elect() -> Plan {
    let mut plan = ranked();
    plan.params.raft.election = 1_800 * MS;
    // One with which h1's member leads, and the election is over before its lease is.
    plan.seed = 9;
    plan
}

fn long_election_with_a_death() -> Plan {
    let mut plan = slow_to_elect();
    // One in which nobody wins before 1.8 s, and somebody before it is too late.
    plan.seed = 4;
    plan.fault(8_000, 15_000, Fault::CrashLeader);
    plan.fault(8_000, 15_000, Fault::PowerOff { host: 0 });
    plan
}

fn long_election() -> Plan {
    let mut plan = slow_to_elect();
    plan.seed = 2;
    plan.fault(8_000, 15_000, Fault::CrashLeader);
    plan
}

fn behind_a_balancer() -> Plan {
    let mut plan = Plan::quiet();
    plan.params.vips.truncate(1);
    plan.params.vips[0].policy = PolicyParams::Leader;
    plan.params.balanced = true;
    plan
}

fn return_into_an_election() -> Plan {
    let mut plan = ranked();
    plan.fault(1_500, 4_500, Fault::PowerOff { host: 0 });
    plan.fault(9_100, 4_000, Fault::CrashLeader);
    plan
}
