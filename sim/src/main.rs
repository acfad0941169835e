//! The `turnip-sim` command.
use std::time::Instant;
#[allow(clippy::disallowed_methods)]
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "run" {
        let plan = turnip_sim::swarm::draw(args[2].parse().unwrap());
        let outcome = turnip_sim::run::run(&plan, true);
        for line in &outcome.trace {
            println!("{line}");
        }
        println!("{:#?}", plan.params);
        for step in &plan.steps {
            println!("{step}");
        }
        for failure in &outcome.failures {
            println!("{failure}");
        }
        return;
    }
    if args[1] == "bench" {
        let mut plan = turnip_sim::plan::Plan::quiet();
        plan.params.vips = vec![plan.params.vips[0].clone(); 10];
        plan.lasting(5_000_000_000_000);
        let begin = Instant::now();
        let outcome = turnip_sim::run::run(&plan, false);
        let wall = begin.elapsed().as_secs_f64();
        println!(
            "{:.0} s/s {:?} {:?} turns {}",
            plan.end_at as f64 / 1e9 / wall,
            outcome.failures,
            outcome.tally,
            outcome.turns
        );
        return;
    }
    if args[1] == "mutants" {
        let max: u64 = args[2].parse().unwrap();
        let mut list: Vec<turnip_sim::plan::Daemon> = turnip_core::Mutant::ALL
            .iter()
            .map(|m| turnip_sim::plan::Daemon::Turnip(Some(*m)))
            .collect();
        list.push(turnip_sim::plan::Daemon::HeedlessAdapter);
        for daemon in list {
            let mut caught = false;
            for seed in 0..max {
                let mut plan = turnip_sim::swarm::draw(seed);
                plan.params.daemon = daemon;
                let outcome = turnip_sim::run::run(&plan, false);
                if !outcome.failures.is_empty() {
                    println!("{daemon:?}: seed {seed}: {}", outcome.failures[0]);
                    caught = true;
                    break;
                }
            }
            if !caught {
                println!("{daemon:?}: NOT CAUGHT in {max}");
            }
        }
        return;
    }
    let (from, to): (u64, u64) = (args[2].parse().unwrap(), args[3].parse().unwrap());
    let mut tally = turnip_sim::record::Tally::default();
    let begin = Instant::now();
    let mut simulated = 0.0;
    for seed in from..to {
        let plan = turnip_sim::swarm::draw(seed);
        let outcome = turnip_sim::run::run(&plan, false);
        tally.add(&outcome.tally);
        simulated += plan.end_at as f64 / 1e9;
        if !outcome.failures.is_empty() {
            println!("seed {seed}: {} failures; {}", outcome.failures.len(), outcome.failures[0]);
        }
    }
    println!("{tally:?}");
    println!("{:.0} simulated seconds a second", simulated / begin.elapsed().as_secs_f64());
}
