//! Runs many seeds on several threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::plan::{Daemon, Fault, Plan};
use crate::record::Tally;
use crate::run::{self, Failure};
use crate::time::S;

use super::draw;

/// What a swarm is made of.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// On how many threads.
    pub jobs: usize,
    /// No new seed is begun after this.
    pub limit: Option<Duration>,
    /// Whose algorithm runs.
    pub daemon: Daemon,
    /// Does not stop at the first seed that fails.
    pub keep_going: bool,
}

/// What became of a swarm.
#[derive(Debug, Default)]
pub struct SwarmOutcome {
    /// Seeds that were run.
    pub seeds: u64,
    /// Seeds that failed, lowest first, with how.
    pub failed: Vec<(u64, Vec<Failure>)>,
    /// How often things happened in all of them.
    pub tally: Tally,
    /// Simulated time, in s.
    pub simulated_secs: f64,
    /// Time on the clock on the wall.
    pub wall: Duration,
    /// The longest overlap, in ns.
    pub overlap_max: u64,
    /// The longest overlap of hosts of different clusters, in ns.
    pub foreign_overlap_max: u64,
}

/// What must have happened in a swarm of some size: else it tested nothing.
pub const MUST_HAPPEN: &[&str] = &[
    "elections",
    "sessions_opened",
    "sessions_closed",
    "transitions_told",
    "sessions_expired",
    "claims",
    "handovers",
    "compares_failed",
    "timeouts",
    "landed_late",
    "mishaps",
    "watches_broken",
    "lifetimes_ended",
    "gates_closed",
    "datagrams",
    "datagrams_lost",
    "datagrams_unauthentic",
    "held_by_consent",
    "stores_changed",
    "announcements",
    "checks_fell",
    "starts",
];

/// The plan of a seed for an algorithm: a mutant is put where its rule matters.
pub fn plan(seed: u64, daemon: Daemon) -> Plan {
    let mut plan = draw(seed);
    plan.params.daemon = daemon;
    if daemon == Daemon::Turnip(Some(turnip_core::Mutant::GuardIgnored)) {
        // The kernel does what the guard should have done, unless it has no means to; so the
        // daemon must be well.
        plan.params.backstop = None;
        plan.steps.retain(|step| is_harmless_to_daemons(&step.fault));
    }
    plan
}

fn is_harmless_to_daemons(fault: &Fault) -> bool {
    !matches!(
        fault,
        Fault::Kill { .. }
            | Fault::Freeze { .. }
            | Fault::SlowNetlink { .. }
            | Fault::FailingNetlink { .. }
            | Fault::PowerOff { .. }
    )
}

/// Runs a swarm until a seed fails, or to its end; `progress` is told how many seeds are done and how many of them failed.
pub fn run_swarm(config: &SwarmConfig, progress: impl Fn(u64, usize) + Sync) -> SwarmOutcome {
    // The only real clock in the simulator: it decides when to stop, never what happens.
    let now = Instant::now;
    let begin = now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let shared = Mutex::new(SwarmOutcome::default());
    std::thread::scope(|scope| {
        for _ in 0..config.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= config.seeds || config.limit.is_some_and(|l| now() - begin > l) {
                        break;
                    }
                    let seed = config.from.wrapping_add(number);
                    let plan = plan(seed, config.daemon);
                    let outcome = run::run(&plan, false);
                    let mut shared = shared.lock().unwrap_or_else(|e| e.into_inner());
                    shared.seeds += 1;
                    shared.simulated_secs += plan.end_at as f64 / S as f64;
                    shared.tally.add(&outcome.tally);
                    shared.overlap_max = shared.overlap_max.max(outcome.overlap_max);
                    shared.foreign_overlap_max =
                        shared.foreign_overlap_max.max(outcome.foreign_overlap_max);
                    if !outcome.failures.is_empty() {
                        shared.failed.push((seed, outcome.failures));
                        stop.fetch_or(!config.keep_going, Ordering::Relaxed);
                    }
                    progress(shared.seeds, shared.failed.len());
                }
            });
        }
    });
    let mut outcome = shared.into_inner().unwrap_or_else(|e| e.into_inner());
    outcome.failed.sort_by_key(|(seed, _)| *seed);
    outcome.wall = now() - begin;
    outcome
}
