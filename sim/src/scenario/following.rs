//! VIPs that follow a key of another program (rule 13).

use turnip_core::{Absent, Mutant};

use super::Scenario;
use crate::plan::{Fault, Plan, PolicyParams};
use crate::time::{S, True};

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
    vec![
        scenario(
            "followed-key-moves",
            "the key that a VIP follows names h2, then nobody, then h1 again: rule 13.1",
            &[Mutant::FollowedIgnored],
            (6 * S, (10 * S, 1)),
            key_moves,
        ),
        scenario(
            "followed-key-gone",
            "the key goes for ten seconds: by setting the VIP stays where it is, rule 13.4",
            &[],
            (0, (14 * S, 0)),
            key_gone,
        ),
        scenario(
            "followed-past-a-cut",
            "h1 does not reach etcd for a minute, and all hosts hear each other; the key names h2 meanwhile: rule 13.6",
            &[Mutant::FollowedWhileAway],
            (10 * S, (25 * S, 1)),
            past_a_cut,
        ),
        scenario(
            "followed-last-past-a-cut",
            "the same where the VIP stays while nobody is named: it does not stay with who alone is cut off, rule 13.6",
            &[Mutant::FollowedWhileAway],
            (10 * S, (45 * S, 1)),
            last_past_a_cut,
        ),
    ]
}

fn followed(absent: Absent) -> Plan {
    let mut plan = Plan::quiet();
    plan.params.vips.truncate(1);
    plan.params.vips[0].policy = PolicyParams::Follow { absent };
    plan
}

fn key_moves() -> Plan {
    let mut plan = followed(Absent::Nobody);
    plan.fault(8_000, 4_000, Fault::Name { vip: 0, host: Some(1) });
    plan.fault(15_000, 5_000, Fault::Name { vip: 0, host: None });
    plan.lasting(30 * S);
    plan
}

fn key_gone() -> Plan {
    let mut plan = followed(Absent::Last);
    plan.fault(8_000, 10_000, Fault::Name { vip: 0, host: None });
    plan.lasting(30 * S);
    plan
}

fn past_a_cut() -> Plan {
    past_a_cut_with(Absent::Nobody)
}

fn last_past_a_cut() -> Plan {
    past_a_cut_with(Absent::Last)
}

fn past_a_cut_with(absent: Absent) -> Plan {
    let mut plan = followed(absent);
    plan.params.heartbeats = vec![true; 3];
    plan.params.members_apart();
    plan.fault(10_000, 60_000, Fault::CutStore { host: 0 });
    plan.fault(10_000, 70_000, Fault::Name { vip: 0, host: Some(1) });
    plan.lasting(85 * S);
    plan
}
