//! `scenario` and `mutants`.

use crate::plan::Daemon;
use crate::run;
use crate::scenario::{self, Scenario};
use crate::swarm::runner::{self, SwarmConfig};

use super::single;
use super::{MutantsArgs, ScenarioArgs, jobs};

pub(super) fn scenario(args: &ScenarioArgs) -> bool {
    if args.all {
        return scenario::all().iter().filter(|scenario| !tell(scenario, args)).count() == 0;
    }
    let Some(name) = &args.name else {
        for scenario in scenario::all() {
            println!("{:28} {}", scenario.name, scenario.story);
        }
        return true;
    };
    match scenario::find(name) {
        Some(scenario) => tell(&scenario, args),
        None => {
            eprintln!("there is no scenario {name:?}; `turnip-sim scenario` lists all");
            false
        }
    }
}

/// Runs a scenario with turnip, and with the rule broken that it is about.
fn tell(scenario: &Scenario, args: &ScenarioArgs) -> bool {
    println!("{}: {}", scenario.name, scenario.story);
    let plan = scenario.plan_for(Daemon::Turnip(None));
    let outcome = run::run(&plan, args.show.trace && !args.broken);
    if !args.broken {
        single::show(&plan, &outcome, &args.show, scenario.story);
    }
    let complaints = scenario.complaints(&outcome);
    for complaint in &complaints {
        println!("  FAILED: {complaint}");
    }
    let mut well = complaints.is_empty();
    if well {
        println!("  turnip: well, longest overlap {} ns", outcome.overlap_max);
    }
    if let Some(mutant) = scenario.mutant {
        let plan = scenario.plan_for(mutant);
        let outcome = run::run(&plan, args.show.trace && args.broken);
        if args.broken {
            let title = format!("{}, with {}", scenario.story, mutant.name());
            single::show(&plan, &outcome, &args.show, &title);
        }
        match scenario.complaints(&outcome).first() {
            Some(complaint) => println!("  {}: caught: {complaint}", mutant.name()),
            None => {
                println!("  FAILED: {} was not caught", mutant.name());
                well = false;
            }
        }
    }
    well
}

pub(super) fn mutants(args: &MutantsArgs) -> bool {
    let mut well = true;
    println!("{:24} {:>8}  by the swarm / by its scenario", "mutant", "seeds");
    for daemon in Daemon::mutants() {
        let config = SwarmConfig {
            from: args.from,
            seeds: args.seeds,
            jobs: jobs(args.jobs),
            limit: None,
            daemon,
            keep_going: false,
        };
        let by_scenario = scenario::all().into_iter().find_map(|scenario| {
            (scenario.mutant == Some(daemon)).then_some(())?;
            let outcome = run::run(&scenario.plan_for(daemon), false);
            let complaint = scenario.complaints(&outcome).into_iter().next()?;
            Some(format!("{}: {complaint}", scenario.name))
        });
        let by_swarm = runner::run_swarm(&config, |_, _| {});
        let caught = by_swarm.failed.first();
        let seeds = caught.map_or("-".into(), |(seed, _)| (seed - args.from + 1).to_string());
        let swarm = caught.map_or("not caught".into(), |(_, failures)| failures[0].to_string());
        println!("{:24} {seeds:>8}  {swarm}", daemon.name());
        println!("{:34} {}", "", by_scenario.clone().unwrap_or("not caught".into()));
        if caught.is_none() && by_scenario.is_none() {
            println!("FAILED: {} survives", daemon.name());
            well = false;
        }
    }
    well
}
