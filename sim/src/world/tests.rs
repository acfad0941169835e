//! What the world does to turnip, and that it notices a turnip that does not mind.

use turnip_core::{Backstop, Mutant};

use crate::plan::{Daemon, Fault, Plan, PolicyParams};
use crate::run::{self, Outcome};
use crate::time::{MS, S};

/// Three hosts and one VIP that wants host 0, else host 1, else host 2.
fn ranked() -> Plan {
    let mut plan = Plan::quiet();
    plan.params.vips.truncate(1);
    plan.params.vips[0].policy =
        PolicyParams::Priority { priorities: vec![100, 50, 0], preempt: true };
    plan.params.tick = MS;
    plan
}

fn with(mutant: Mutant, plan: &Plan) -> Outcome {
    let mut plan = plan.clone();
    plan.params.daemon = Daemon::Turnip(Some(mutant));
    run::run(&plan, false)
}

/// No two hosts answer at once; and with the rule broken they do.
fn keeps_apart(plan: &Plan, broken: Mutant) {
    assert_eq!(run::run(plan, false).overlaps, []);
    assert_ne!(with(broken, plan).overlaps, [], "{broken:?} is not noticed");
}

#[test]
fn a_frozen_daemon_is_silenced_in_time_by_timers_that_ntp_makes_slow() {
    let mut plan = ranked();
    plan.params.slews_ppm[0] = -83_333;
    plan.fault(8_000, 10_000, Fault::Freeze { host: 0 });
    keeps_apart(&plan, Mutant::TimerRateIgnored);
}

#[test]
fn timers_that_ntp_makes_fast_cost_nobody_an_address() {
    let mut plan = ranked();
    plan.params.slews_ppm = vec![83_333; 3];
    let outcome = run::run(&plan, false);
    assert_eq!(outcome.failures, []);
    assert_eq!(outcome.tally.gates_closed, 0);
}

#[test]
fn a_process_that_stalls_before_it_sends_and_then_is_frozen_keeps_no_gate_open() {
    let frozen_at = |at| {
        let mut plan = ranked();
        plan.fault(7_400, 3_000, Fault::StallAdapter { host: 0, by: 1_000 * MS });
        plan.fault(8_000, 15_000, Fault::CutStore { host: 0 });
        plan.fault(at, 10_000, Fault::Freeze { host: 0 });
        plan
    };
    // It has to be frozen when it has sent what it said long before, and not sent a correction.
    let plans: Vec<Plan> = (0..20).map(|n| frozen_at(8_000 + 73 * n)).collect();
    for plan in &plans {
        assert_eq!(run::run(plan, false).overlaps, []);
    }
    let noticed = |plan: &&Plan| !with(Mutant::NoTicket, plan).overlaps.is_empty();
    assert!(plans.iter().filter(noticed).count() > 0);
}

#[test]
fn a_lifetime_that_the_kernel_counts_from_later_than_thought_is_set_again() {
    let mut plan = ranked();
    plan.params.backstop = Some(Backstop::Lifetime);
    plan.params.lease_ms = 5_000;
    plan.fault(7_000, 2_000, Fault::StuckNetlink { host: 0, by: 900 * MS });
    plan.fault(9_000, 12_000, Fault::Freeze { host: 0 });
    assert_eq!(run::run(&plan, false).overlaps, []);
}

#[test]
fn many_addresses_of_both_families_on_several_interfaces_are_held_and_handed_over() {
    let mut plan = Plan::quiet();
    plan.params.interfaces = 3;
    plan.params.vips = vec![plan.params.vips[0].clone(); 150];
    for (number, vip) in plan.params.vips.iter_mut().enumerate() {
        (vip.addresses, vip.interfaces) = (1 + number % 2, [number % 3, number / 2 % 3]);
    }
    plan.fault(10_000, 8_000, Fault::PowerOff { host: 1 });
    plan.fault(12_000, 3_000, Fault::Drain { host: 0 });
    plan.fault(20_000, 3_000, Fault::LinkDown { host: 2, interface: 1 });
    assert_eq!(run::run(&plan, false).failures, []);
}

#[test]
fn who_changes_his_own_rules_costs_nobody_an_address() {
    let mut plan = ranked();
    for at in 0..40 {
        plan.fault(8_000 + 137 * at, 1, Fault::ChangeRules { host: 0 });
    }
    let outcome = run::run(&plan, false);
    assert_eq!(outcome.failures, []);
    assert!(outcome.gaps.iter().all(|gap| gap.from < 5 * S), "{:?}", outcome.gaps);
}

#[test]
fn a_fence_that_somebody_flushed_is_put_back_before_its_daemon_is_frozen() {
    let frozen_after = |after: u64| {
        let mut plan = ranked();
        plan.fault(8_100, 1, Fault::FlushRules { host: 0 });
        plan.fault(8_100 + after, 10_000, Fault::Freeze { host: 0 });
        run::run(&plan, false)
    };
    let outcome = frozen_after(1_200);
    assert_eq!(outcome.overlaps, []);
    assert!(outcome.tally.gates_closed > 0, "the daemon was frozen with its fence back");
    // Without time to put it back, nothing silences the address but its lifetime.
    assert_ne!(frozen_after(10).overlaps, []);
}

#[test]
fn clients_are_misled_for_as_long_as_announcements_are_lost_and_no_longer() {
    let mut plan = ranked();
    plan.fault(10_000, 8_000, Fault::Drain { host: 0 });
    let longest = |outcome: &Outcome| outcome.misled.iter().map(|one| one.to - one.from).max();
    let told = run::run(&plan, false);
    assert!(told.misled.iter().all(|one| !one.by_announcement));
    assert!(longest(&told) < Some(5 * MS), "{:?}", told.misled);
    plan.fault(9_000, 10_000, Fault::LoseAnnouncements { host: 1, permille: 1_000 });
    let untold = run::run(&plan, false);
    assert!(longest(&untold) > Some(5 * S), "{:?}", untold.misled);
}

#[test]
fn clients_that_missed_an_announcement_learn_from_the_next_one() {
    let longest = |announce_every_ms: Option<u64>| {
        let mut plan = ranked();
        plan.params.announce_every_ms = announce_every_ms;
        plan.fault(10_000, 8_000, Fault::Drain { host: 0 });
        plan.fault(9_000, 5_000, Fault::LoseAnnouncements { host: 1, permille: 1_000 });
        let outcome = run::run(&plan, false);
        outcome.misled.iter().map(|one| one.to - one.from).max()
    };
    assert!(longest(None) > Some(8 * S), "{:?}", longest(None));
    assert!(longest(Some(1_000)) < Some(5_500 * MS), "{:?}", longest(Some(1_000)));
}

#[test]
fn an_announcement_of_a_process_that_got_no_time_misleads() {
    let mut plan = ranked();
    // Host 1 takes the address, and announces it when it is back at host 0.
    plan.fault(4_000, 20_000, Fault::StallAnnouncer { host: 1, by: 9 * S });
    plan.fault(6_000, 300, Fault::Drain { host: 0 });
    let outcome = run::run(&plan, false);
    assert!(outcome.misled.iter().any(|one| one.by_announcement), "{:?}", outcome.misled);
}

/// A run in which etcd is restored from a backup, and whether somebody noticed.
fn restored(other_cluster: bool, raise: i64) -> (Outcome, bool) {
    let mut plan = ranked();
    plan.lasting(60 * S);
    plan.fault(6_000, 1, Fault::BackUpStore);
    plan.fault(8_000, 4_000, Fault::Drain { host: 0 });
    plan.fault(20_000, 500, Fault::RestoreStore { other_cluster, raise });
    let outcome = run::run(&plan, true);
    let noticed = outcome.trace.iter().any(|line| line.contains("starting over"));
    (outcome, noticed)
}

#[test]
fn a_store_that_went_back_or_is_another_one_is_noticed_and_nobody_overlaps() {
    for (other_cluster, raise) in [(false, 0), (true, 0), (true, 1_000_000), (false, 1_000_000)] {
        let (outcome, noticed) = restored(other_cluster, raise);
        assert!(noticed, "other cluster: {other_cluster}, raised by {raise}");
        assert_eq!(outcome.overlaps, [], "other cluster: {other_cluster}, raised by {raise}");
    }
}
