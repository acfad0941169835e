//! Faults that belong together: each plot sets out for one interleaving that chance alone seldom
//! finds, with its timings drawn at random.

use crate::plan::{Fault, Mishap, Plan, Step, TxnKind};
use crate::rng::Rng;
use crate::time::{MS, S, True};

struct Plot<'a> {
    steps: &'a mut Vec<Step>,
    at: True,
}

impl Plot<'_> {
    /// A step so many ns after the plot's beginning.
    fn add(&mut self, after: u64, lasts: u64, fault: Fault) {
        self.steps.push(Step { at: self.at + after, lasts: Some(lasts), fault });
    }
}

/// Adds one plot that begins at `at`.
pub fn draw(rng: &mut Rng, plan: &Plan, at: True, steps: &mut Vec<Step>) {
    let plot = Plot { steps, at };
    match rng.below(6) {
        0 | 1 => late_hand_over(rng, plan, plot),
        2 => lagging_claimer(rng, plan, plot),
        3 => lagging_owner(rng, plan, plot),
        4 => late_renewal(rng, plan, plot),
        _ => stalled_refresh(rng, plan, plot),
    }
}

/// A hand-over lands late, when its owner has changed its mind, or its process (6, 7).
fn late_hand_over(rng: &mut Rng, plan: &Plan, mut plot: Plot<'_>) {
    let lease = plan.params.lease_ms;
    let host = rng.index(plan.params.hosts);
    let by = rng.within(20..=2 * lease) * MS;
    let mishap =
        *rng.pick(&[Mishap::DelayRequest(by), Mishap::DelayRequest(by), Mishap::LoseAnswer]);
    let count = rng.within(1..=2) as u32;
    let meddle = Fault::Meddle { host, kind: TxnKind::HandOver, skip: 0, count, mishap };
    plot.add(0, 2 * lease * MS, meddle);
    plot.add(MS, rng.within(10..=lease) * MS, Fault::Drain { host });
    if rng.chance(600) {
        let after = rng.within(3..=lease) * MS;
        plot.add(after, rng.within(5..=lease / 3) * MS, Fault::Kill { host });
    }
}

/// A host whose watch lags wants what another host's new session has (8).
fn lagging_claimer(rng: &mut Rng, plan: &Plan, mut plot: Plot<'_>) {
    let lease = plan.params.lease_ms;
    let host = rng.index(plan.params.hosts);
    let other = rng.index(plan.params.hosts);
    let by = rng.within(lease / 6..=2 * lease) * MS;
    plot.add(0, 5 * lease * MS, Fault::WatchLag { host, by });
    let after = rng.within(1..=lease) * MS;
    let restart = rng.chance(500);
    let fault =
        if restart { Fault::Restart { host: other } } else { Fault::PowerOff { host: other } };
    plot.add(after, rng.within(1..=lease / 2) * MS, fault);
}

/// A host whose watch lags takes a VIP and passes it on before the news has come (9).
fn lagging_owner(rng: &mut Rng, plan: &Plan, mut plot: Plot<'_>) {
    let lease = plan.params.lease_ms;
    let host = rng.index(plan.params.hosts);
    let by = rng.within(lease / 6..=lease) * MS;
    plot.add(0, 6 * lease * MS, Fault::WatchLag { host, by });
    let mut after = rng.within(1..=lease) * MS;
    for _ in 0..3 {
        let lasts = rng.within(10..=lease) * MS;
        plot.add(after, lasts, Fault::Drain { host });
        after += lasts + rng.within(10..=2 * lease) * MS;
    }
}

/// A killed daemon's last renewal lands when its successor has read the key (12).
fn late_renewal(rng: &mut Rng, plan: &Plan, mut plot: Plot<'_>) {
    let lease = plan.params.lease_ms;
    let host = rng.index(plan.params.hosts);
    let by = rng.within(5..=lease / 3) * MS;
    let (kind, mishap) = (TxnKind::Renew, Mishap::DelayRequest(by));
    plot.add(0, S, Fault::Meddle { host, kind, skip: 0, count: 1, mishap });
    let renew = lease / 6;
    plot.add(rng.within(1..=renew + 5) * MS, rng.within(1..=renew) * MS, Fault::Kill { host });
}

/// A refresh waits in a process that is stopped until its lease is over (11).
fn stalled_refresh(rng: &mut Rng, plan: &Plan, mut plot: Plot<'_>) {
    let lease = plan.params.lease_ms;
    let host = rng.index(plan.params.hosts);
    plot.add(0, 6 * lease * MS, Fault::SlowNetlink { host, by: lease / 3 * MS });
    let after = rng.within(1..=lease) * MS;
    plot.add(after, rng.within(lease..=3 * lease) * MS, Fault::Freeze { host });
}
