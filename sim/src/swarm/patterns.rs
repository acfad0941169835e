//! Faults that belong together: each pattern sets out for one interleaving that chance alone seldom
//! finds, with its timings drawn at random.

use crate::plan::{Change, Fault, Mishap, Plan, Step, TxnKind};
use crate::rng::Rng;
use crate::time::{MS, S, True};

struct Pattern<'a> {
    steps: &'a mut Vec<Step>,
    at: True,
}

impl Pattern<'_> {
    /// A step so many ns after the pattern's beginning.
    fn add(&mut self, after: u64, lasts: u64, fault: Fault) {
        self.steps.push(Step { at: self.at + after, lasts: Some(lasts), fault });
    }
}

/// Adds one pattern that begins at `at`.
pub fn draw(rng: &mut Rng, plan: &Plan, at: True, steps: &mut Vec<Step>) {
    let pattern = Pattern { steps, at };
    match rng.below(8) {
        0 | 1 => late_hand_over(rng, plan, pattern),
        2 => lagging_claimer(rng, plan, pattern),
        3 => lagging_owner(rng, plan, pattern),
        4 => late_renewal(rng, plan, pattern),
        5 | 6 => late_freeing(rng, plan, pattern),
        _ => stalled_refresh(rng, plan, pattern),
    }
}

/// A hand-over lands late, when its owner has changed its mind, or its process (6, 7).
fn late_hand_over(rng: &mut Rng, plan: &Plan, mut pattern: Pattern<'_>) {
    let lease = plan.params.lease_ms;
    let host = rng.index(plan.params.hosts);
    let by = rng.within(20..=2 * lease) * MS;
    let mishap =
        *rng.pick(&[Mishap::DelayRequest(by), Mishap::DelayRequest(by), Mishap::LoseAnswer]);
    let count = rng.within(1..=2) as u32;
    let meddle = Fault::Meddle { host, kind: TxnKind::HandOver, skip: 0, count, mishap };
    pattern.add(0, 2 * lease * MS, meddle);
    pattern.add(MS, rng.within(10..=lease) * MS, Fault::Drain { host });
    if rng.chance(600) {
        let after = rng.within(3..=lease) * MS;
        pattern.add(after, rng.within(5..=lease / 3) * MS, Fault::Kill { host });
    }
}

/// A host whose watch lags wants what another host's new session has (interleaving 8).
fn lagging_claimer(rng: &mut Rng, plan: &Plan, mut pattern: Pattern<'_>) {
    let lease = plan.params.lease_ms;
    let host = rng.index(plan.params.hosts);
    let other = rng.index(plan.params.hosts);
    let by = rng.within(lease / 6..=2 * lease) * MS;
    pattern.add(0, 5 * lease * MS, Fault::WatchLag { host, by });
    let after = rng.within(1..=lease) * MS;
    let restart = rng.chance(500);
    let fault =
        if restart { Fault::Restart { host: other } } else { Fault::PowerOff { host: other } };
    pattern.add(after, rng.within(1..=lease / 2) * MS, fault);
}

/// A host whose watch lags takes a VIP and passes it on before the news has come (interleaving 9).
fn lagging_owner(rng: &mut Rng, plan: &Plan, mut pattern: Pattern<'_>) {
    let lease = plan.params.lease_ms;
    let host = rng.index(plan.params.hosts);
    let by = rng.within(lease / 6..=lease) * MS;
    pattern.add(0, 6 * lease * MS, Fault::WatchLag { host, by });
    let mut after = rng.within(1..=lease) * MS;
    for _ in 0..3 {
        let lasts = rng.within(10..=lease) * MS;
        pattern.add(after, lasts, Fault::Drain { host });
        after += lasts + rng.within(10..=2 * lease) * MS;
    }
}

/// A killed daemon's last renewal lands when its successor has read the key (12).
fn late_renewal(rng: &mut Rng, plan: &Plan, mut pattern: Pattern<'_>) {
    let lease = plan.params.lease_ms;
    let host = rng.index(plan.params.hosts);
    let by = rng.within(5..=lease / 3) * MS;
    let (kind, mishap) = (TxnKind::Renew, Mishap::DelayRequest(by));
    pattern.add(0, S, Fault::Meddle { host, kind, skip: 0, count: 1, mishap });
    let renew = lease / 6;
    pattern.add(rng.within(1..=renew + 5) * MS, rng.within(1..=renew) * MS, Fault::Kill { host });
}

/// A refresh waits in a process that is stopped until its lease is over (11).
fn stalled_refresh(rng: &mut Rng, plan: &Plan, mut pattern: Pattern<'_>) {
    let lease = plan.params.lease_ms;
    let host = rng.index(plan.params.hosts);
    pattern.add(0, 6 * lease * MS, Fault::SlowNetlink { host, by: lease / 3 * MS });
    let after = rng.within(1..=lease) * MS;
    pattern.add(after, rng.within(lease..=3 * lease) * MS, Fault::Freeze { host });
}

/// A VIP's name changes and changes back on its host, while what gives the old name free is late and
/// another host comes to have the VIP under its old name (14).
fn late_freeing(rng: &mut Rng, plan: &Plan, mut pattern: Pattern<'_>) {
    let lease = plan.params.lease_ms;
    let (hosts, vips) = (plan.params.hosts, plan.params.vips.len());
    let vip = rng.index(vips);
    let host = rng.index(hosts);
    let other = rng.index(hosts);
    let quick = |rng: &mut Rng| rng.within(1..=lease / 10) * MS;
    // The others do not have it, but for one that comes to.
    let begin = (lease + rng.below(lease)) * MS;
    let renamed = rng.within(lease / 6..=lease) * MS;
    for bystander in (0..hosts).filter(|bystander| *bystander != host) {
        let comes = bystander == other;
        let lasts =
            if comes { begin + rng.below(renamed / MS) * MS } else { begin + 9 * lease * MS };
        let change = Change::Remove { vip };
        pattern.add(0, lasts, Fault::Reconfigure { host: bystander, change });
        pattern.add(MS, quick(rng), Fault::Restart { host: bystander });
        if comes {
            pattern.add(lasts + MS, quick(rng), Fault::Restart { host: bystander });
        }
    }
    let by = rng.within(lease / 3..=lease) * MS;
    let (kind, mishap) = (TxnKind::HandOver, Mishap::DelayRequest(by));
    pattern.add(begin, 3 * lease * MS, Fault::Meddle { host, kind, skip: 0, count: 1, mishap });
    let change = Change::Rename { vip, to: vips + vip };
    pattern.add(begin, renamed, Fault::Reconfigure { host, change });
    pattern.add(begin + MS, quick(rng), Fault::Kill { host });
    pattern.add(begin + renamed + MS, quick(rng), Fault::Kill { host });
    let lag = rng.within(lease / 12..=lease / 4) * MS;
    pattern.add(
        begin + renamed + lease / 20 * MS,
        2 * lease * MS,
        Fault::WatchLag { host, by: lag },
    );
}
