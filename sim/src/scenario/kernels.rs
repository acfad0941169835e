//! What the kernel adapter has to keep to: stalls, lifetimes, what others do to the fence.

use turnip_core::Mutant;

use super::Scenario;
use super::interleavings::ranked;
use crate::plan::{Change, Fault, Plan};
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
            "stalls-before-sending",
            "interleaving 18: h1's adapter stalls between reading the clock and sending, twice in a row, and is frozen then; over and over",
            &[],
            20 * S,
            stalls_before_sending,
        ),
        scenario(
            "former-address",
            "h1's daemon starts when its lease is over, without the VIP whose address is still there",
            &[Mutant::FormerNotFenced],
            20 * S,
            former_address,
        ),
        scenario(
            "own-address-returns",
            "h1's own address goes and comes back, so that the VIP stands before it, again and again",
            &[Mutant::MisplacedLeft],
            0,
            own_address_returns,
        ),
        scenario(
            "double-at-a-stop",
            "h1 has the VIP, and its IP on another interface as well, when its daemon is stopped and started again",
            &[Mutant::FenceRemovedBesideDouble],
            5 * S,
            double_at_a_stop,
        ),
    ]
}

fn stalls_before_sending() -> Plan {
    let mut plan = ranked();
    plan.params.tick = MS;
    // The store is cut off first, so that nothing later moves the deadline that others wait for.
    for round in 0..12 {
        let at = 8_000 + 15_000 * round;
        plan.fault(at - 600, 1_600, Fault::StallAdapter { host: 0, by: 1_000 * MS });
        plan.fault(at, 6_000, Fault::CutStore { host: 0 });
        plan.fault(at + 70 * round, 5_500, Fault::Freeze { host: 0 });
    }
    plan.lasting(190 * S);
    plan
}

fn former_address() -> Plan {
    let mut plan = ranked();
    plan.fault(8_000, 2_800, Fault::Kill { host: 0 });
    plan.reconfigure(8_000, 0, Change::Remove { vip: 0 });
    plan.fault(10_790, 3_000, Fault::StuckNetlink { host: 0, by: 150 * MS });
    plan.lasting(30 * S);
    plan
}

fn double_at_a_stop() -> Plan {
    let mut plan = ranked();
    plan.fault(8_000, 20_000, Fault::Double { host: 0, vip: 0 });
    plan.fault(12_000, 4_000, Fault::Restart { host: 0 });
    plan.lasting(50 * S);
    plan
}

fn own_address_returns() -> Plan {
    let mut plan = ranked();
    // When all has settled after the start: until then nothing is said of it.
    for round in 0..14 {
        let fault = Fault::OwnAddressReturns { host: 0, interface: 0 };
        plan.fault(30_000 + 1_570 * round, 1, fault);
    }
    plan.lasting(60 * S);
    plan
}
