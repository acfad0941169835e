//! What the kernel adapter has to keep to: stalls, lifetimes, what others do to the fence.

use turnip_core::{Backstop, Mutant};

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
    Scenario { name, story, plan, mutants, gap_max, holder_at: None }
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
            "stalls-by-lifetimes",
            "interleaving 11: the same where the kernel's lifetimes of addresses are what silences them",
            &[Mutant::ClockReadInQueue],
            20 * S,
            stalls_by_lifetimes,
        ),
        scenario(
            "slow-timers",
            "NTP makes h1's kernel count slowly, and its daemon is frozen",
            &[Mutant::TimerRateIgnored],
            20 * S,
            slow_timers,
        ),
        scenario(
            "former-address",
            "h1's daemon starts when its lease is over, without the VIP whose address is still there",
            &[Mutant::FormerNotFenced],
            20 * S,
            former_address,
        ),
        scenario(
            "silent-address",
            "the only host's daemon starts when its gate has closed over an address that is there",
            &[],
            1_500 * MS,
            silent_address,
        ),
        scenario(
            "flushed-rules",
            "somebody flushes h1's rules; the fence is back when its daemon is frozen",
            &[Mutant::ForeignChangesIgnored],
            20 * S,
            flushed_rules,
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

/// So many freezes of h1's daemon, each at another moment of a renewal, with the same fault before.
fn over_and_over(plan: &mut Plan, rounds: u64, before: u64, lasts: u64, fault: &Fault) {
    for round in 0..rounds {
        let at = 8_000 + 30_000 * round;
        plan.fault(at, lasts, fault.clone());
        plan.fault(at + before + 41 * round, 10_000, Fault::Freeze { host: 0 });
    }
    plan.lasting((30 * rounds + 10) * S);
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

fn by_lifetimes() -> Plan {
    let mut plan = ranked();
    plan.params.backstop = Some(Backstop::Lifetime);
    plan.params.lease_ms = 5_000;
    plan
}

fn stalls_by_lifetimes() -> Plan {
    let mut plan = by_lifetimes();
    over_and_over(&mut plan, 20, 1_500, 6_000, &Fault::SlowNetlink { host: 0, by: 3_000 * MS });
    plan
}

fn slow_timers() -> Plan {
    let mut plan = ranked();
    plan.params.tick = MS;
    plan.params.slews_ppm[0] = -83_333;
    plan.fault(8_000, 10_000, Fault::Freeze { host: 0 });
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

fn silent_address() -> Plan {
    let mut plan = ranked();
    plan.params.hosts = 1;
    plan.params.members_apart();
    plan.fault(8_000, 2_700, Fault::Kill { host: 0 });
    plan
}

fn double_at_a_stop() -> Plan {
    let mut plan = ranked();
    plan.fault(8_000, 20_000, Fault::Double { host: 0, vip: 0 });
    plan.fault(12_000, 4_000, Fault::Restart { host: 0 });
    plan.lasting(50 * S);
    plan
}

fn flushed_rules() -> Plan {
    let mut plan = ranked();
    plan.fault(8_000, 1, Fault::FlushRules { host: 0 });
    plan.fault(9_200, 10_000, Fault::Freeze { host: 0 });
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
