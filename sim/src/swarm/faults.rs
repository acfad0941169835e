//! Draws what goes wrong, and when.

use turnip_core::Backstop;

use crate::plan::{Fault, Mishap, Plan, Step, TxnKind};
use crate::rng::Rng;
use crate::time::{MS, S};

use super::{configs, patterns};

/// The kinds of faults that a run may have. Each run has only some of them, so that no kind
/// always hides another.
const KINDS: u64 = 32;

/// The faults of a run, in no particular order.
pub fn draw(rng: &mut Rng, plan: &Plan) -> Vec<Step> {
    let enabled: Vec<u64> = (0..KINDS).filter(|_| rng.chance(350)).collect();
    if enabled.is_empty() {
        return Vec::new();
    }
    let mean_pause = rng.within(300..=8_000) * MS;
    let share = *rng.pick(&[0, 0, 100, 400]);
    let share_of_configs = *rng.pick(&[0, 0, 100, 400]);
    let mut steps = Vec::new();
    if rng.chance(250) {
        configs::from_the_start(rng, plan, &mut steps);
    }
    let mut at = rng.below(5 * S);
    while at < plan.heal_at {
        if rng.chance(share) {
            patterns::draw(rng, plan, at, &mut steps);
            at += rng.within(1..=2 * mean_pause);
            continue;
        }
        if rng.chance(share_of_configs) {
            match rng.below(4) {
                0 => configs::rolled_out(rng, plan, at, &mut steps),
                _ => configs::with_a_restart(rng, plan, at, &mut steps),
            }
            at += rng.within(1..=2 * mean_pause);
            continue;
        }
        let kind = *rng.pick(&enabled);
        steps.push(Step { at, lasts: Some(duration(rng)), fault: fault(rng, plan, kind) });
        at += rng.within(1..=2 * mean_pause);
    }
    // The later parts of a pattern may fall behind the healing, after which nothing goes wrong.
    steps.retain(|step| step.at < plan.heal_at);
    steps
}

/// From 50 ms to 25 s, short ones as likely as long ones.
fn duration(rng: &mut Rng) -> u64 {
    let scale = (50 * MS) << rng.below(9);
    rng.within(scale..=2 * scale)
}

fn fault(rng: &mut Rng, plan: &Plan, kind: u64) -> Fault {
    let params = &plan.params;
    let (sites, lease) = (params.sites(), params.lease_ms * MS);
    let host = rng.index(params.hosts);
    let member = rng.index(params.members());
    let vip = rng.index(params.vips.len());
    let interface = rng.index(params.interfaces);
    let (from, to) = (rng.index(sites), rng.index(sites));
    match kind {
        0 => Fault::Cut { from, to },
        1 => Fault::Isolate { site: from },
        2 => Fault::CutStore { host },
        3 => Fault::CutEndpoint { host, member },
        4 => Fault::CutAnswers { host },
        5 => Fault::SplitMembers { side: side(rng, sites) },
        6 => Fault::Split { side: side(rng, sites) },
        7 => Fault::Slow { from, to, by: rng.within(1..=lease / MS) * MS },
        8 => Fault::Lossy { from, to, ppm: rng.within(10..=500) * 1_000 },
        9 => Fault::CrashMember { member },
        10 => Fault::PauseMember { member },
        11 => Fault::SlowDisk { member, by: rng.within(1..=lease / MS / 2) * MS },
        12 => Fault::MoveLeader,
        13 => Fault::CrashLeader,
        14 => Fault::FlapLeader { every: rng.within(lease / 6..=2 * lease) },
        15 => Fault::Compact,
        16 => Fault::Kill { host },
        17 => Fault::Freeze { host },
        18 => Fault::Restart { host },
        19 => Fault::PowerOff { host },
        20 => {
            let most = i64::from(params.drift_ppm);
            Fault::Drift { host, ppm: rng.within_signed(-most..=most) }
        }
        21 => Fault::WatchLag { host, by: rng.within(1..=2 * lease / MS) * MS },
        22 => Fault::SlowNetlink { host, by: rng.within(1..=lease / MS / 4) * MS },
        23 => Fault::FailingNetlink { host, permille: rng.within(50..=900) },
        24 => rng
            .pick(&[
                Fault::StealAddress { host, vip },
                Fault::OwnAddressReturns { host, interface },
                Fault::LinkDown { host, interface },
                Fault::LinkGone { host, interface },
            ])
            .clone(),
        25 => rng.pick(&[Fault::Drain { host }, Fault::Pin { vip, host }]).clone(),
        26 => Fault::RefuseAddress { host, vip },
        27 => Fault::LoseQuorum,
        28 => Fault::Reconfigure { host, change: configs::change(rng, params) },
        // By lifetimes a stall before the kernel reads breaks A3 (see "Not defended" on the page).
        29 if params.backstop == Some(Backstop::Fence) => rng
            .pick(&[
                Fault::StallAdapter { host, by: lease / 4 },
                Fault::StallAdapter { host, by: 2 * lease },
                Fault::ChangeRules { host },
            ])
            .clone(),
        30 => {
            let (permille, by) = (rng.within(100..=1_000), rng.within(1..=2 * lease / MS) * MS);
            rng.pick(&[
                Fault::LoseAnnouncements { host, permille },
                Fault::StallAnnouncer { host, by },
            ])
            .clone()
        }
        _ => meddle(rng, host, lease),
    }
}

fn side(rng: &mut Rng, sites: usize) -> Vec<usize> {
    (0..sites).filter(|_| rng.chance(500)).collect()
}

fn meddle(rng: &mut Rng, host: usize, lease: u64) -> Fault {
    let kind = *rng.pick(&[
        TxnKind::Renew,
        TxnKind::Open,
        TxnKind::Close,
        TxnKind::Expire,
        TxnKind::Claim,
        TxnKind::Claim,
        TxnKind::HandOver,
        TxnKind::HandOver,
        TxnKind::HandOver,
        TxnKind::Publish,
    ]);
    let by = rng.within(1..=3 * lease / MS) * MS;
    let mishap = *rng.pick(&[
        Mishap::LoseRequest,
        Mishap::LoseAnswer,
        Mishap::DelayRequest(by),
        Mishap::DelayAnswer(by),
    ]);
    let (skip, count) = (rng.below(2) as u32, rng.within(1..=3) as u32);
    Fault::Meddle { host, kind, skip, count, mishap }
}
