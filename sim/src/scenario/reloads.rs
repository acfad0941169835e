//! Configurations that change while daemons run (rule 14), and daemons that leave all to the next.

use turnip_core::Mutant;

use super::Scenario;
use super::interleavings::{meddle, ranked};
use crate::plan::{Change, Fault, Mishap, Plan, TxnKind};
use crate::time::{MS, S};

fn scenario(
    name: &'static str,
    story: &'static str,
    mutants: &'static [Mutant],
    gap_max: u64,
    plan: fn() -> Plan,
) -> Scenario {
    Scenario::plan(name, story, mutants, gap_max, plan)
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![
        scenario(
            "reload-with-a-stuck-removal",
            "interleaving 22: h1 is the last that learns of a VIP's new name, and its kernel is slow to take the address away",
            &[Mutant::RedefinedWhileHeld],
            20 * S,
            reload_with_a_stuck_removal,
        ),
        scenario(
            "reload-and-back-with-a-late-freeing",
            "interleaving 23: h1's VIP is renamed while it runs, and back; then what frees the old name lands",
            &[Mutant::ReaddedTrusted],
            20 * S,
            reload_and_back_with_a_late_freeing,
        ),
        scenario(
            "reload-rolled-out",
            "a VIP is renamed on one host after the other, and back, in other orders and at once",
            &[],
            10 * MS,
            reload_rolled_out,
        ),
        scenario(
            "reload-in-the-middle-of-a-drain",
            "hosts learn of a VIP's new name while it is being handed over, and what hands it over is late",
            &[],
            20 * S,
            reload_in_the_middle_of_a_drain,
        ),
    ]
}

/// The name that the first VIP can go by besides its own, where it is the only one.
const OTHER_NAME: usize = 1;

fn renamed(host: usize) -> Fault {
    Fault::Reconfigure { host, change: Change::Rename { vip: 0, to: OTHER_NAME } }
}

fn reload_with_a_stuck_removal() -> Plan {
    let mut plan = ranked();
    plan.params.hosts = 2;
    plan.fault(6_000, 60_000, renamed(1));
    plan.fault(6_001, 1, Fault::Reload { host: 1 });
    plan.fault(7_990, 3_000, Fault::StuckNetlink { host: 0, by: 400 * MS });
    plan.fault(8_000, 60_000, renamed(0));
    plan.fault(8_001, 1, Fault::Reload { host: 0 });
    plan.lasting(30 * S);
    plan
}

fn reload_and_back_with_a_late_freeing() -> Plan {
    let mut plan = ranked();
    // The others do not have the address, until h2 does again under the old name.
    plan.fault(0, 8_200, Fault::Reconfigure { host: 1, change: Change::Remove { vip: 0 } });
    plan.reconfigure(0, 2, Change::Remove { vip: 0 });
    plan.fault(8_000, 600, renamed(0));
    plan.fault(8_000, 5_000, meddle(0, TxnKind::HandOver, 1, Mishap::DelayRequest(1_300 * MS)));
    plan.fault(8_001, 1, Fault::Reload { host: 0 });
    plan.fault(8_201, 1, Fault::Reload { host: 1 });
    plan.fault(8_601, 1, Fault::Reload { host: 0 });
    // And the news that the name was given free is late here.
    plan.fault(8_700, 2_000, Fault::WatchLag { host: 0, by: 700 * MS });
    plan.lasting(30 * S);
    plan
}

fn reload_rolled_out() -> Plan {
    let mut plan = ranked();
    for (round, order) in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]].into_iter().enumerate() {
        // Far enough apart for the judge of gaps to look at each.
        let begin = 40_000 + 30_000 * round as u64;
        let pause = [1_000, 20, 1, 0][round];
        for (number, host) in order.into_iter().enumerate() {
            let at = begin + pause * number as u64;
            plan.fault(at, 12_000, renamed(host));
            plan.fault(at + 1, 1, Fault::Reload { host });
            plan.fault(at + 12_001, 1, Fault::Reload { host });
        }
    }
    plan.lasting(170 * S);
    plan
}

fn reload_in_the_middle_of_a_drain() -> Plan {
    let mut plan = ranked();
    plan.fault(8_000, 3_000, Fault::Drain { host: 0 });
    plan.fault(8_000, 2_000, meddle(0, TxnKind::HandOver, 1, Mishap::DelayRequest(900 * MS)));
    for host in 0..3 {
        let at = 8_003 + 2 * host as u64;
        plan.fault(at, 5_000, renamed(host));
        plan.fault(at + 1, 1, Fault::Reload { host });
        plan.fault(at + 5_001, 1, Fault::Reload { host });
    }
    plan.lasting(30 * S);
    plan
}
