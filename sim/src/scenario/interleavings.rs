//! The interleavings of `core/PROTOCOL.md`, by number; those with hosts that are configured in
//! different ways are in `configs.rs`.

use turnip_core::Mutant;

use crate::plan::{Fault, Mishap, Params, Plan, PolicyParams, TxnKind, VipParams};
use crate::time::{MS, S};

use super::Scenario;

fn scenario(
    name: &'static str,
    story: &'static str,
    mutants: &'static [Mutant],
    plan: fn() -> Plan,
) -> Scenario {
    Scenario::plan(name, story, mutants, 20 * S, plan)
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let mut all = first();
    all.extend(second());
    all
}

fn first() -> Vec<Scenario> {
    vec![
        scenario(
            "deadline-from-answer",
            "interleaving 1: a renewal's answer takes 450 ms, then h1 cannot renew: it counts from when it asked",
            &[Mutant::DeadlineFromAnswer],
            deadline_from_answer,
        ),
        scenario(
            "late-expiry",
            "interleaving 3: h1 is cut off for a lease and comes back while the others' transactions that expire it are still on their way",
            &[Mutant::ExpireUncompared],
            late_expiry,
        ),
        scenario(
            "late-hand-over",
            "interleaving 6: h1 hands over and wants the VIP back before the hand-over has landed",
            &[Mutant::KeepAfterHandOver],
            late_hand_over,
        ),
        scenario(
            "late-hand-over-after-resume",
            "interleaving 6: the same, with its daemon killed and resumed in between",
            &[Mutant::KeepAfterResume],
            late_hand_over_after_resume,
        ),
    ]
}

fn second() -> Vec<Scenario> {
    vec![
        scenario(
            "hand-over-of-the-expired",
            "interleaving 7: h1's hand-over to h3 is delayed until h2 has expired h1 and taken the VIP",
            &[Mutant::HandOverUncompared],
            hand_over_of_the_expired,
        ),
        scenario(
            "unseen-session",
            "interleaving 8: h1, whose watch lags, wants a VIP that h3's new session has just claimed",
            &[Mutant::ClaimByView],
            unseen_session,
        ),
        scenario(
            "old-news",
            "interleaving 9: h1's watch tells of a write of its session after a newer one is known",
            &[Mutant::ViewGoesBack],
            old_news,
        ),
        scenario(
            "lost-answer",
            "interleaving 10: a renewal's answer is lost; the next attempt learns of it, and is the last to get through",
            &[Mutant::NonceReused],
            lost_answer,
        ),
        scenario(
            "late-renewal-of-the-killed",
            "interleaving 12: h1's daemon is killed with a renewal on its way, which lands when its successor has read the key",
            &[Mutant::RefuseLateRenewal],
            late_renewal_of_the_killed,
        ),
        Scenario::plan(
            "flaky-waiters",
            "interleaving 13: h1 dies while each of the others loses one renewal in every lease",
            &[Mutant::ExpiryRestarts],
            5 * S,
            flaky_waiters,
        ),
        scenario(
            "no-kernel-to-help",
            "interleaving 2: h1 is cut off, and its kernel silences nothing by itself: the daemon must, before the deadline",
            &[Mutant::GuardIgnored],
            no_kernel_to_help,
        ),
    ]
}

/// Three hosts and one VIP that wants h1, else h2, else h3.
pub(super) fn ranked() -> Plan {
    let mut plan = Plan::quiet();
    plan.params.vips.truncate(1);
    plan.params.vips[0].policy =
        PolicyParams::Priority { priorities: vec![100, 50, 0], preempt: true };
    plan
}

pub(super) fn meddle(host: usize, kind: TxnKind, count: u32, mishap: Mishap) -> Fault {
    Fault::Meddle { host, kind, skip: 0, count, mishap }
}

fn deadline_from_answer() -> Plan {
    let mut plan = ranked();
    plan.params.guard_ms = Some(20);
    plan.fault(8_000, 1_000, meddle(0, TxnKind::Renew, 1, Mishap::DelayAnswer(450 * MS)));
    plan.fault(8_001, 10_000, meddle(0, TxnKind::Renew, 30, Mishap::LoseRequest));
    // Its watch does not tell it earlier either.
    plan.fault(8_000, 5_000, Fault::WatchLag { host: 0, by: 450 * MS });
    plan
}

fn late_expiry() -> Plan {
    let mut plan = ranked();
    for waiter in [1, 2] {
        let late = Mishap::DelayRequest(1_500 * MS);
        plan.fault(7_900, 20_000, meddle(waiter, TxnKind::Expire, 9, late));
    }
    plan.fault(8_000, 3_500, Fault::CutStore { host: 0 });
    plan.fault(11_000, 10_000, Fault::WatchLag { host: 0, by: 500 * MS });
    plan
}

fn late_hand_over() -> Plan {
    let mut plan = ranked();
    let late = Mishap::DelayRequest(1_500 * MS);
    plan.fault(8_000, 10_000, meddle(0, TxnKind::HandOver, 1, late));
    plan.fault(8_100, 300, Fault::Drain { host: 0 });
    plan.fault(8_200, 10_000, Fault::WatchLag { host: 0, by: 300 * MS });
    plan
}

fn late_hand_over_after_resume() -> Plan {
    let mut plan = ranked();
    let late = Mishap::DelayRequest(1_500 * MS);
    plan.fault(8_000, 10_000, meddle(0, TxnKind::HandOver, 1, late));
    plan.fault(8_100, 40, Fault::Drain { host: 0 });
    plan.fault(8_120, 80, Fault::Kill { host: 0 });
    plan.fault(8_300, 10_000, Fault::WatchLag { host: 0, by: 300 * MS });
    plan
}

fn hand_over_of_the_expired() -> Plan {
    let mut plan = ranked();
    let late = Mishap::DelayRequest(9_500 * MS);
    plan.fault(7_900, 20_000, meddle(0, TxnKind::HandOver, 1, late));
    plan.fault(8_000, 3_000, Fault::Pin { vip: 0, host: 2 });
    plan.fault(10_800, 12_000, Fault::CutStore { host: 0 });
    plan.fault(11_500, 12_000, Fault::WatchLag { host: 1, by: 700 * MS });
    plan
}

fn unseen_session() -> Plan {
    let mut plan = ranked();
    plan.params = Params {
        vips: vec![VipParams {
            addresses: 1,
            interfaces: [0; 2],
            policy: PolicyParams::Priority { priorities: vec![100, 50, 25, 0], preempt: true },
        }],
        ..Params::plain(4, 3, 1)
    };
    plan.params.members_apart();
    // h2 owns and dies; h4, which is drained, expires it. h3's new session takes the
    // VIP while h1, which is preferred, has not heard of that session.
    plan.fault(6_000, 3_000, Fault::Drain { host: 0 });
    plan.fault(6_000, 20_000, Fault::Drain { host: 3 });
    plan.fault(7_000, 10_000, Fault::WatchLag { host: 0, by: 700 * MS });
    plan.fault(8_950, 15_000, Fault::PowerOff { host: 1 });
    plan.fault(11_000, 3_000, meddle(2, TxnKind::Open, 4, Mishap::DelayRequest(650 * MS)));
    plan.fault(11_200, 20, Fault::Restart { host: 2 });
    // Nor does h3 hear at once that it lost the VIP.
    plan.fault(12_050, 5_000, Fault::WatchLag { host: 2, by: 300 * MS });
    plan
}

fn old_news() -> Plan {
    // As for a hand-over after a claim, a second rule stands behind the first one; so this shows
    // what else old news would do: to a resumed session, whose predecessor's last write is heard
    // of after the first own one.
    let mut plan = ranked();
    let late = Mishap::DelayRequest(350 * MS);
    plan.fault(7_000, 10_000, Fault::WatchLag { host: 0, by: 300 * MS });
    plan.fault(8_400, 1_000, meddle(0, TxnKind::Renew, 1, late));
    plan.fault(8_550, 30, Fault::Kill { host: 0 });
    plan
}

fn lost_answer() -> Plan {
    let mut plan = ranked();
    plan.params.guard_ms = Some(20);
    plan.fault(8_000, 10_000, Fault::WatchLag { host: 0, by: 900 * MS });
    plan.fault(8_000, 10_000, meddle(0, TxnKind::Renew, 1, Mishap::LoseAnswer));
    // The second attempt learns of the first; then nothing gets through.
    let skipped = Fault::Meddle {
        host: 0,
        kind: TxnKind::Renew,
        skip: 1,
        count: 30,
        mishap: Mishap::LoseRequest,
    };
    plan.fault(8_002, 10_000, skipped);
    plan
}

fn late_renewal_of_the_killed() -> Plan {
    let mut plan = ranked();
    let late = Mishap::DelayRequest(400 * MS);
    // The successor's first ones are late as well, so that the dead one's lands before.
    plan.fault(8_000, 1_000, meddle(0, TxnKind::Renew, 6, late));
    plan.fault(8_550, 30, Fault::Kill { host: 0 });
    plan
}

fn flaky_waiters() -> Plan {
    let mut plan = ranked();
    plan.fault(8_000, 20_000, Fault::PowerOff { host: 0 });
    for waiter in [1, 2] {
        for number in 0..12 {
            let loses = Fault::Meddle {
                host: waiter,
                kind: TxnKind::Renew,
                skip: 3,
                count: 1,
                mishap: Mishap::LoseRequest,
            };
            plan.fault(7_000 + number, 20_000, loses);
        }
    }
    plan
}

fn no_kernel_to_help() -> Plan {
    let mut plan = ranked();
    plan.params.backstop = None;
    plan.fault(8_000, 10_000, Fault::CutStore { host: 0 });
    plan
}
