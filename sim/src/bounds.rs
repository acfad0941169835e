//! Breaks each assumption (A1 to A4) on purpose, and measures the overlap against the bound that is
//! stated for it in `core/PROTOCOL.md`.

use serde::Serialize;
use turnip_core::Backstop;

use crate::plan::{Change, Daemon, Fault, Plan};
use crate::rng::Rng;
use crate::run;
use crate::swarm;
use crate::time::{MS, S};

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Bound {
    /// What is broken.
    pub broken: &'static str,
    /// The bound in words.
    pub stated: &'static str,
    /// The bound for these runs, in ms; none where there is no bound.
    pub bound_ms: Option<f64>,
    /// The longest overlap found, in ms.
    pub measured_ms: f64,
    /// In how many runs.
    pub runs: u64,
    /// Whether the measured overlap keeps to the bound.
    pub holds: bool,
}

struct Experiment {
    broken: &'static str,
    stated: &'static str,
    bound_ms: Option<f64>,
    prepare: fn(&mut Plan, &mut Rng),
}

const LEASE_MS: u64 = 3_000;

/// Runs every experiment `runs` times, and the swarm's plans under the assumptions as often.
pub fn measure(runs: u64, from: u64) -> Vec<Bound> {
    let mut bounds = Vec::new();
    let healthy = |seed| run::run(&swarm::draw(seed), false).overlap_max;
    let worst = (from..from + runs).map(healthy).max().unwrap_or(0);
    bounds.push(bound("nothing (A1 to A4 hold)", "0", Some(0.0), worst, runs));
    for experiment in experiments() {
        let worst = (0..runs).map(|run| experiment.run(from + run)).max().unwrap_or(0);
        bounds.push(bound(experiment.broken, experiment.stated, experiment.bound_ms, worst, runs));
    }
    bounds
}

fn bound(
    broken: &'static str,
    stated: &'static str,
    bound_ms: Option<f64>,
    worst: u64,
    runs: u64,
) -> Bound {
    let measured_ms = worst as f64 / MS as f64;
    let holds = bound_ms.is_none_or(|bound| measured_ms <= bound);
    Bound { broken, stated, bound_ms, measured_ms, runs, holds }
}

impl Experiment {
    fn run(&self, seed: u64) -> u64 {
        let rng = &mut Rng::new(seed, self.broken);
        let mut plan = Plan::quiet();
        plan.seed = seed;
        plan.params.lease_ms = LEASE_MS;
        plan.params.start_spread = rng.below(S);
        (self.prepare)(&mut plan, rng);
        run::run(&plan, false).overlap_max
    }
}

/// The time at which something befalls h1, which holds a VIP by then: anywhere within a
/// renewal.
fn moment(rng: &mut Rng) -> u64 {
    8_000 + rng.below(600)
}

fn on_host_0(plan: &mut Plan) {
    plan.params.vips.truncate(1);
    plan.params.vips[0].policy =
        crate::plan::PolicyParams::Priority { priorities: vec![100, 50, 0], preempt: true };
}

fn experiments() -> Vec<Experiment> {
    let mut all = clocks_and_kernels();
    all.extend(stores_that_went_back());
    all.extend(kernels_that_do_not_count());
    all.extend(hosts_that_are_mistaken_for_others());
    all
}

fn stores_that_went_back() -> Vec<Experiment> {
    fn restored(plan: &mut Plan, rng: &mut Rng, other_cluster: bool, raise: i64) {
        on_host_0(plan);
        // The backup is from when another host had the address, or the same.
        plan.fault(rng.within(4_000..=8_000), 1, Fault::BackUpStore);
        plan.fault(5_000, 2_000, Fault::Drain { host: 0 });
        let lasts = rng.within(1..=5_000);
        let at = 12_000 + rng.below(600);
        plan.fault(at, lasts, Fault::RestoreStore { other_cluster, raise });
        if rng.chance(700) {
            // Whoever holds then hears of it only later.
            plan.fault(at - rng.below(500), lasts + 10_000, Fault::CutStore { host: 0 });
        }
    }
    vec![
        Experiment {
            broken: "A2: etcd restored from a backup",
            stated: "0: it is noticed",
            bound_ms: Some(0.0),
            prepare: |plan, rng| restored(plan, rng, false, 0),
        },
        Experiment {
            broken: "A2: etcd restored from a backup, as another cluster with raised revisions",
            stated: "0: it is noticed",
            bound_ms: Some(0.0),
            prepare: |plan, rng| restored(plan, rng, true, 1_000_000),
        },
        Experiment {
            broken: "A2: etcd restored from a backup, with raised revisions under the same cluster id",
            stated: "0: it is noticed",
            bound_ms: Some(0.0),
            prepare: |plan, rng| restored(plan, rng, false, 1_000_000),
        },
        Experiment {
            broken: "A2: etcd restored from a backup, with revisions raised by writes after the restore",
            stated: "0: it is noticed",
            bound_ms: Some(0.0),
            prepare: |plan, rng| {
                let raise = rng.within_signed(1..=200);
                restored(plan, rng, false, raise);
            },
        },
        Experiment {
            broken: "A2: the same, and a host starts after it, which knows of nothing else",
            stated: "what was left of the holder's lease",
            bound_ms: Some(LEASE_MS as f64),
            prepare: |plan, rng| {
                restored(plan, rng, false, 1_000_000);
                plan.fault(12_000, 1_500, Fault::Kill { host: 1 });
            },
        },
    ]
}

/// h1 goes on by the others' consent, and does not reach etcd.
fn cut_off_and_heard(plan: &mut Plan, rng: &mut Rng) -> u64 {
    on_host_0(plan);
    plan.params.heartbeats.fill(true);
    // With a member on h1, those that follow etcd there would be cut off with it.
    plan.params.members_apart();
    let at = moment(rng);
    plan.fault(at, 25_000, Fault::CutStore { host: 0 });
    plan.lasting(40 * S);
    at
}

/// h2 has h1's name and machine id, and starts when h1 does not write its session any more, or
/// soon before.
fn of_one_machine_id(plan: &mut Plan, rng: &mut Rng, at: u64) {
    plan.reconfigure(0, 1, Change::NameOf { host: 0 });
    plan.reconfigure(0, 1, Change::MachineOf { host: 0 });
    plan.fault(2, at - 2_000 + rng.below(8_000), Fault::Kill { host: 1 });
}

fn hosts_that_are_mistaken_for_others() -> Vec<Experiment> {
    vec![
        Experiment {
            broken: "A4: two machines with one machine id and one node name",
            stated: "what was left of the first one's lease",
            bound_ms: Some(LEASE_MS as f64),
            prepare: |plan, rng| {
                let at = cut_off_and_heard(plan, rng);
                of_one_machine_id(plan, rng, at);
            },
        },
        Experiment {
            broken: "A4: the same, and nobody who is listed reaches etcd either",
            stated: "for as long as a session may go without a write (24 h; here 15 s)",
            bound_ms: Some(15_000.0),
            prepare: |plan, rng| {
                let at = cut_off_and_heard(plan, rng);
                plan.params.without_store_ms = 15_000;
                plan.fault(at, 25_000, Fault::CutStore { host: 2 });
                of_one_machine_id(plan, rng, at);
            },
        },
        Experiment {
            broken: "A4: forged acknowledgements, by somebody who has the key",
            stated: "none (here until etcd is reached, at most 25 s)",
            bound_ms: None,
            prepare: |plan, rng| {
                let at = cut_off_and_heard(plan, rng);
                for to in [1, 2] {
                    plan.fault(at, 25_000, Fault::CutPeers { from: 0, to });
                }
                plan.fault(at, 25_000, Fault::ForgeAcknowledgements { host: 0 });
            },
        },
    ]
}

fn kernels_that_do_not_count() -> Vec<Experiment> {
    vec![
        Experiment {
            broken: "A3: a host suspended, whose kernel's timers stand still",
            stated: "until the daemon runs on waking (here at once)",
            bound_ms: Some(1.0),
            prepare: |plan, rng| {
                on_host_0(plan);
                plan.fault(moment(rng), rng.within(100..=15_000), Fault::Suspend { host: 0 });
                plan.fault(8_700, 20_000, Fault::CutStore { host: 0 });
            },
        },
        Experiment {
            broken: "A3: NTP slews a kernel's timers by 8.3 % after its daemon was frozen",
            stated: "the rate x lease",
            bound_ms: Some(0.0909 * LEASE_MS as f64),
            prepare: |plan, rng| {
                on_host_0(plan);
                let at = moment(rng);
                plan.fault(at, 10_000, Fault::Freeze { host: 0 });
                plan.fault(at, 10_000, Fault::Slew { host: 0, ppm: -83_333 });
            },
        },
        Experiment {
            broken: "A3: somebody flushes the fence, and the daemon freezes before it can put it back",
            stated: "until the address's lifetime ends (at most 2 s after the lease)",
            bound_ms: Some(2_000.0),
            prepare: |plan, rng| {
                on_host_0(plan);
                let at = moment(rng);
                plan.fault(at, 1, Fault::FlushRules { host: 0 });
                plan.fault(at + 1, 10_000, Fault::Freeze { host: 0 });
            },
        },
        Experiment {
            broken: "A3: somebody else puts the address there, and the daemon takes it away",
            stated: "0 with the fence",
            bound_ms: Some(0.0),
            prepare: |plan, rng| {
                on_host_0(plan);
                plan.fault(moment(rng), 1, Fault::PlantAddress { host: 1, vip: 0 });
            },
        },
    ]
}

fn clocks_and_kernels() -> Vec<Experiment> {
    vec![
        Experiment {
            broken: "A1: a clock 5 % beyond the margin, the daemon frozen",
            stated: "excess rate x lease",
            bound_ms: Some(0.05 * LEASE_MS as f64),
            prepare: |plan, rng| {
                on_host_0(plan);
                plan.params.rates_ppm = vec![-10_000, 60_000, 60_000];
                plan.fault(moment(rng), 10_000, Fault::Freeze { host: 0 });
            },
        },
        Experiment {
            broken: "A1: a virtual machine paused, its clock too",
            stated: "what was left of its lease",
            bound_ms: Some(LEASE_MS as f64),
            prepare: |plan, rng| {
                on_host_0(plan);
                let lasts = rng.within(500..=15_000);
                plan.fault(moment(rng), lasts, Fault::PauseHost { host: 0 });
                // It comes back unable to reach etcd, which is the worst that can be.
                plan.fault(8_700, 20_000, Fault::CutStore { host: 0 });
            },
        },
        Experiment {
            broken: "nothing: the daemon frozen, with the fence",
            stated: "0",
            bound_ms: Some(0.0),
            prepare: |plan, rng| {
                on_host_0(plan);
                plan.fault(moment(rng), rng.within(100..=15_000), Fault::Freeze { host: 0 });
            },
        },
        Experiment {
            broken: "nothing: the daemon frozen, with lifetimes only",
            stated: "0",
            bound_ms: Some(0.0),
            prepare: |plan, rng| {
                on_host_0(plan);
                plan.params.backstop = Some(Backstop::Lifetime);
                plan.params.lease_ms = 4_000;
                plan.fault(moment(rng), rng.within(100..=15_000), Fault::Freeze { host: 0 });
            },
        },
        Experiment {
            broken: "A3: a frozen daemon with neither fence nor lifetimes",
            stated: "until it runs again (here at most 15 s)",
            bound_ms: Some(15_000.0),
            prepare: |plan, rng| {
                on_host_0(plan);
                plan.params.backstop = None;
                plan.fault(moment(rng), rng.within(100..=15_000), Fault::Freeze { host: 0 });
            },
        },
        Experiment {
            broken: "A3: the kernel reads a refresh 500 ms late and the daemon freezes before it can correct that",
            stated: "0 with the fence: the kernel refuses it",
            bound_ms: Some(0.0),
            prepare: |plan, rng| {
                on_host_0(plan);
                plan.fault(7_000, 3_000, Fault::StuckNetlink { host: 0, by: 500 * MS });
                plan.fault(moment(rng), 12_000, Fault::Freeze { host: 0 });
            },
        },
    ]
}

/// Overlaps and gaps of the original turnip's algorithm after elections and partitions, in ms.
#[derive(Clone, Debug, Serialize)]
pub struct Naive {
    /// Runs.
    pub runs: u64,
    /// Runs with two hosts at once.
    pub runs_with_overlap: u64,
    /// Overlaps: minimum, median, 90 %, maximum.
    pub overlap_ms: [f64; 4],
    /// Gaps, likewise.
    pub gap_ms: [f64; 4],
}

/// Runs the original's algorithm in the same world, with leaders that move and hosts cut off.
pub fn naive(runs: u64, from: u64) -> Naive {
    let (mut overlaps, mut gaps) = (Vec::new(), Vec::new());
    let mut runs_with_overlap = 0;
    for seed in from..from + runs {
        let rng = &mut Rng::new(seed, "naive runs");
        let mut plan = Plan::quiet();
        plan.seed = seed;
        plan.params.vips.truncate(1);
        plan.params.backstop = None;
        plan.params.daemon = Daemon::Naive;
        plan.lasting(120 * S);
        let cut = rng.chance(500);
        for site in 0..3 {
            let at = 30_000 + site as u64 * 30_000;
            let fault = if cut { Fault::Isolate { site } } else { Fault::MoveLeader };
            plan.fault(at, 20_000, fault);
        }
        let outcome = run::run(&plan, false);
        runs_with_overlap += u64::from(!outcome.overlaps.is_empty());
        overlaps.extend(outcome.overlaps.iter().map(|span| span.length()));
        // The first assumption of the address is no failover.
        gaps.extend(outcome.gaps.iter().filter(|gap| gap.from > 0).map(|gap| gap.length()));
    }
    Naive { runs, runs_with_overlap, overlap_ms: spread(overlaps), gap_ms: spread(gaps) }
}

fn spread(mut lengths: Vec<u64>) -> [f64; 4] {
    lengths.sort_unstable();
    let at = |percent: usize| {
        let index = (lengths.len().saturating_sub(1)) * percent / 100;
        lengths.get(index).map_or(0.0, |length| *length as f64 / MS as f64)
    };
    [at(0), at(50), at(90), at(100)]
}
