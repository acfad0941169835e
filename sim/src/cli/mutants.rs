//! `scenario` and `mutants`.

use std::time::Instant;

use turnip_core::Mutant;

use crate::exhaustive;
use crate::mutants::core_test;
use crate::plan::{Daemon, words};
use crate::run;
use crate::scenario::{self, Scenario, Shown, Source};
use crate::swarm::runner::{self, SwarmConfig};

use super::say::say;
use super::single;
use super::{MutantsArgs, ScenarioArgs, jobs};

pub(super) fn scenario(args: &ScenarioArgs) -> bool {
    if args.all {
        return scenario::all().iter().filter(|scenario| !play(scenario, args)).count() == 0;
    }
    let Some(name) = &args.name else {
        for scenario in scenario::all() {
            say!("{:28} {}", scenario.name, scenario.story);
        }
        return true;
    };
    match scenario::find(name) {
        Some(scenario) => play(scenario, args),
        None => {
            eprintln!("there is no scenario {name:?}; `turnip-sim scenario` lists all");
            false
        }
    }
}

/// Runs a scenario with turnip, and with each rule broken that it is about.
fn play(scenario: &Scenario, args: &ScenarioArgs) -> bool {
    say!("{}: {}", scenario.name, scenario.story);
    if let (Source::File { path, .. }, false) = (&scenario.source, args.all) {
        say!("  it is {path}, which `turnip-sim play {path}` plays with many seeds");
    }
    let shown = scenario.play(Daemon::Turnip(None), args.show.trace && !args.broken);
    if !args.broken {
        show(scenario, &shown, args, &scenario.story);
    }
    for complaint in &shown.complaints {
        say!("  FAILED: {complaint}");
    }
    let mut well = shown.complaints.is_empty();
    if well {
        say!("  turnip: well, longest overlap {}", words::time(shown.overlap_max));
    }
    for &mutant in scenario.mutants {
        let daemon = Daemon::Turnip(Some(mutant));
        let shown = scenario.play(daemon, args.show.trace && args.broken);
        if args.broken {
            let title = format!("{}, with {}", scenario.story, daemon.name());
            show(scenario, &shown, args, &title);
        }
        match shown.complaints.first() {
            Some(complaint) => say!("  {}: caught: {complaint}", daemon.name()),
            None => {
                say!("  FAILED: {} was not caught", daemon.name());
                well = false;
            }
        }
    }
    well
}

/// Prints and draws what is wanted of it.
fn show(scenario: &Scenario, shown: &Shown, args: &ScenarioArgs, title: &str) {
    for line in &shown.trace {
        say!("{line}");
    }
    if let Some(path) = &args.show.timeline {
        single::draw(path, |is_page| scenario.draw(shown, title, is_page));
    }
}

/// Breaks one rule after the other. Each is tried where it is cheapest first, and no further than until
/// it is caught: its own scenarios, the small worlds, all other scenarios, the swarm.
pub(super) fn mutants(args: &MutantsArgs) -> bool {
    let mut survivors = Vec::new();
    let begin = Instant::now();
    let chosen =
        |mutant: &&Mutant| args.only.as_ref().is_none_or(|only| *only == format!("{mutant:?}"));
    for &mutant in Mutant::ALL.iter().filter(chosen) {
        let name = format!("{mutant:?}");
        let caught = caught(mutant, args);
        let how = caught.clone().unwrap_or_else(|| "NOT CAUGHT".into());
        say!("{name:26} {:32} {how}", mutant.breaks());
        if caught.is_none() {
            survivors.push(name);
        }
    }
    let count = Mutant::ALL.len();
    say!("{count} mutants in {:.0} s", begin.elapsed().as_secs_f64());
    for name in &survivors {
        say!("FAILED: {name} survives");
    }
    survivors.is_empty()
}

/// What catches a mutant, and how.
fn caught(mutant: Mutant, args: &MutantsArgs) -> Option<String> {
    let daemon = Daemon::Turnip(Some(mutant));
    by_scenarios(daemon, |scenario| scenario.mutants.contains(&mutant))
        .or_else(|| by_search(mutant))
        .or_else(|| by_core(mutant))
        .or_else(|| by_scenarios(daemon, |scenario| !scenario.mutants.contains(&mutant)))
        .or_else(|| by_swarm(daemon, args))
}

/// The first of these scenarios that goes wrong with a mutant.
fn by_scenarios(daemon: Daemon, which: impl Fn(&Scenario) -> bool) -> Option<String> {
    scenario::all().iter().filter(|scenario| which(scenario)).find_map(|scenario| {
        let complaint = complaint(scenario, daemon)?;
        // What goes wrong with turnip as well shows nothing.
        complaint_free(scenario).then(|| format!("scenario {}: {complaint}", scenario.name))
    })
}

fn complaint(scenario: &Scenario, daemon: Daemon) -> Option<String> {
    scenario.play(daemon, false).complaints.into_iter().next()
}

fn complaint_free(scenario: &Scenario) -> bool {
    complaint(scenario, Daemon::Turnip(None)).is_none()
}

/// The test of core's that is named for a mutant which no cluster shows within reason.
fn by_core(mutant: Mutant) -> Option<String> {
    let test = core_test(mutant)?;
    Some(format!("not by a cluster; by core's test {} in {}", test.name, test.file))
}

/// The exhaustive search of the small world in which a mutant shows, if it shows in one.
fn by_search(mutant: Mutant) -> Option<String> {
    let world = exhaustive::where_it_shows(mutant)?;
    let report = exhaustive::run(world.options);
    let (violation, path) = report.violation?;
    Some(format!("search of {}: {violation}, {} moves away", world.name, path.len()))
}

fn by_swarm(daemon: Daemon, args: &MutantsArgs) -> Option<String> {
    let config = SwarmConfig {
        from: args.from,
        seeds: args.seeds,
        jobs: jobs(args.jobs),
        limit: None,
        daemon,
        keep_going: false,
    };
    let outcome = runner::run_swarm(&config, |_, _| {});
    let (seed, failures) = outcome.failed.first()?;
    let well = run::run(&runner::plan(*seed, Daemon::Turnip(None)), false).failures.is_empty();
    if !well {
        say!("FAILED: seed {seed} goes wrong with turnip as well");
        return None;
    }
    Some(format!("swarm, seed {seed}, after {} seeds: {}", outcome.seeds, failures[0]))
}
