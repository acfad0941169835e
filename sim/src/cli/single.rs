//! `run` and `swarm`.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use turnip_core::Backstop;

use crate::plan::{Daemon, Plan, config, words};
use crate::run::{self, Failure, Outcome};
use crate::shrink;
use crate::swarm::runner::{self, SwarmConfig};
use crate::time::{MS, S};
use crate::timeline;
use crate::world::neighbours::Misled;

use super::say::say;
use super::{RunArgs, Show, SwarmArgs, jobs};

pub(super) fn run(args: &RunArgs) -> bool {
    let mut plan = runner::plan(args.seed, args.algorithm);
    if let Some(kept) = &args.steps {
        plan = plan.with_steps(kept);
    }
    let outcome = run::run(&plan, args.show.trace);
    let title = format!("turnip-sim, seed {}", args.seed);
    show(&plan, &outcome, &args.show, &title);
    if !args.show.trace {
        describe(&plan);
    }
    report(&outcome);
    outcome.failures.is_empty()
}

/// Prints and draws what is wanted of a run.
fn show(plan: &Plan, outcome: &Outcome, show: &Show, title: &str) {
    for line in &outcome.trace {
        say!("{line}");
    }
    if let Some(path) = &show.timeline {
        draw(path, |is_page| match is_page {
            true => timeline::html(plan, outcome, title),
            false => timeline::svg(plan, outcome, title),
        });
    }
}

/// Draws a page, or a picture, as the file's name says.
pub(super) fn draw(path: &Path, text: impl FnOnce(bool) -> String) {
    let is_page = path.extension().is_some_and(|extension| extension == "html");
    match std::fs::write(path, text(is_page)) {
        Ok(()) => say!("drew {}", path.display()),
        Err(error) => eprintln!("cannot write {}: {error}", path.display()),
    }
}

/// Prints the cluster and what goes wrong in it.
fn describe(plan: &Plan) {
    let params = &plan.params;
    say!(
        "{} hosts, {} etcd members {}, {} VIPs, lease {}, drift margin {} %, backstop {}, algorithm {}",
        params.hosts,
        params.members(),
        if params.member_on(0).is_none() {
            "on machines of their own"
        } else {
            "on the same machines"
        },
        params.vips.len(),
        words::time(params.lease_ms * MS),
        f64::from(params.drift_ppm) / 10_000.0,
        match params.backstop {
            Some(Backstop::Fence) => "fence",
            Some(Backstop::Lifetime) => "lifetime",
            None => "none",
        },
        params.daemon.name(),
    );
    for (number, step) in plan.steps.iter().enumerate() {
        say!("{number:4} {}", plan.params.tell_step(step));
    }
}

/// Prints how often things happened, and what was wrong.
pub(super) fn report(outcome: &Outcome) {
    let counts = outcome.tally.named().into_iter().filter(|(_, count)| *count > 0);
    let counts: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    say!("{}", counts.join(", "));
    say!(
        "longest overlap {}; at most {} moves of one VIP; {} turns of the daemons' loops",
        words::time(outcome.overlap_max),
        outcome.moves_max,
        outcome.turns
    );
    let longest = outcome.misled.iter().max_by_key(|one| one.to - one.from);
    if let Some(Misled { client, address, host, from, to, .. }) = longest {
        say!(
            "clients looked {} times where nobody answered; the longest time was that of client {client}, which looked for {} on {} for {:.3} s from {:.3} s",
            outcome.misled.len(),
            config::net(*address).addr(),
            words::host(*host),
            (to - from) as f64 / S as f64,
            *from as f64 / S as f64,
        );
    }
    for failure in &outcome.failures {
        say!("FAILED: {failure}");
    }
}

pub(super) fn swarm(args: &SwarmArgs) -> bool {
    let config = SwarmConfig {
        from: args.from,
        seeds: args.seeds,
        jobs: jobs(args.jobs),
        limit: args.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)),
        daemon: Daemon::Turnip(None),
        keep_going: args.keep_going,
    };
    let bar = bar(config.seeds);
    let outcome = runner::run_swarm(&config, |done, _| bar.set_position(done));
    bar.finish_and_clear();
    say!(
        "{} seeds from {}: {:.0} simulated s in {:.1} s on {} threads, {:.0} a second",
        outcome.seeds,
        config.from,
        outcome.simulated_secs,
        outcome.wall.as_secs_f64(),
        config.jobs,
        outcome.simulated_secs / outcome.wall.as_secs_f64(),
    );
    for (name, count) in outcome.tally.named() {
        say!("  {name:20} {count:10}");
    }
    say!(
        "longest overlap {}; {} where two clusters have one address",
        words::time(outcome.overlap_max),
        words::time(outcome.foreign_overlap_max)
    );
    let mut well = outcome.failed.is_empty();
    if args.keep_going {
        for (seed, failures) in &outcome.failed {
            say!("FAILED: seed {seed}: {} failures, the first: {}", failures.len(), failures[0]);
        }
    } else if let Some((seed, failures)) = outcome.failed.first() {
        explain(*seed, &failures[0]);
    }
    // A quiet swarm proves nothing.
    let quiet = outcome.tally.named().into_iter().filter(|(name, count)| {
        *count == 0 && runner::MUST_HAPPEN.contains(name) && outcome.seeds >= 100
    });
    for (name, _) in quiet {
        say!("FAILED: there were no {name} in {} seeds: nothing was tested", outcome.seeds);
        well = false;
    }
    well
}

fn explain(seed: u64, failure: &Failure) {
    say!("FAILED: seed {seed}: {failure}");
    say!("  turnip-sim run --seed {seed} --trace");
    let plan = runner::plan(seed, Daemon::Turnip(None));
    let kept = shrink::shrink(&plan, failure);
    let numbers: Vec<String> = kept.iter().map(ToString::to_string).collect();
    say!("{} of its {} faults are enough:", kept.len(), plan.steps.len());
    for step in &plan.with_steps(&kept).steps {
        say!("  {}", plan.params.tell_step(step));
    }
    say!("  turnip-sim run --seed {seed} --steps {} --trace", numbers.join(","));
}

/// A progress bar on a terminal, nothing elsewhere.
pub(super) fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {eta} left") {
        bar.set_style(style);
    }
    bar
}
