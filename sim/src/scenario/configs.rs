//! Interleavings 14 to 17: hosts that are configured in different ways, and holes that were found
//! when they came to be.

use super::Scenario;
use super::interleavings::{meddle, ranked};
use crate::plan::{Change, Fault, Mishap, Plan, Step, TxnKind};
use crate::time::{MS, S};

fn scenario(name: &'static str, story: &'static str, gap_max: u64, plan: fn() -> Plan) -> Scenario {
    Scenario { name, story, plan, mutants: &[], gap_max }
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![
        scenario(
            "late-freeing-after-rename",
            "interleaving 14: host 0's VIP is renamed and holds the address; its next process has the old file again when what frees the old name lands late",
            20 * S,
            late_freeing_after_rename,
        ),
        scenario(
            "refusing-favourite",
            "interleaving 16: the preferred host's kernel never takes the address: who has it keeps it",
            200 * MS,
            refusing_favourite,
        ),
        scenario(
            "drained-first-publisher",
            "interleaving 17: host 0, which first published the address, is drained; host 1 has it under another name",
            4 * S,
            drained_first_publisher,
        ),
    ]
}

/// The name that the only VIP of a plan can go by besides its own.
const OTHER_NAME: usize = 1;

fn late_freeing_after_rename() -> Plan {
    let mut plan = ranked();
    let renamed = Fault::Reconfigure { host: 0, change: Change::Rename { vip: 0, to: OTHER_NAME } };
    plan.fault(8_000, 600, renamed);
    plan.fault(8_000, 5_000, meddle(0, TxnKind::HandOver, 1, Mishap::DelayRequest(1_300 * MS)));
    plan.fault(8_010, 20, Fault::Kill { host: 0 });
    // The others do not have the address, until host 1 does again under the old name.
    plan.fault(0, 8_200, Fault::Reconfigure { host: 1, change: Change::Remove { vip: 0 } });
    plan.reconfigure(0, 2, Change::Remove { vip: 0 });
    plan.fault(8_210, 20, Fault::Restart { host: 1 });
    plan.fault(8_610, 20, Fault::Kill { host: 0 });
    // And the news that the name was given free is late here.
    plan.fault(8_700, 2_000, Fault::WatchLag { host: 0, by: 700 * MS });
    plan.lasting(30 * S);
    plan
}

fn refusing_favourite() -> Plan {
    let mut plan = ranked();
    plan.steps.push(Step { at: 0, lasts: None, fault: Fault::RefuseAddress { host: 0, vip: 0 } });
    plan.lasting(200 * S);
    plan
}

fn drained_first_publisher() -> Plan {
    let mut plan = ranked();
    plan.params.hosts = 2;
    plan.params.start_spread = 0;
    plan.reconfigure(6_000, 1, Change::Rename { vip: 0, to: OTHER_NAME });
    plan.fault(6_001, 500, Fault::Restart { host: 1 });
    plan.fault(12_000, 60_000, Fault::Drain { host: 0 });
    plan.lasting(60 * S);
    plan
}
