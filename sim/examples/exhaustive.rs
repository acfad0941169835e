//! Searches a small world: `exhaustive key=value ...`, the keys being those of `Options`.
use std::time::Instant;

use turnip_core::Mutant;
use turnip_sim::exhaustive::{
    Options, check, large_worlds, run_with_progress, small_worlds, wide_world,
};

fn main() {
    let mut options = Options::default();
    let mut mutants = vec![None];
    let began = Instant::now();
    for argument in std::env::args().skip(1) {
        if argument == "large" {
            for world in large_worlds() {
                let report = run_with_progress(world.options, |_, _| {});
                println!("{}: {}: {report}, {:?}", world.name, world.about, began.elapsed());
            }
            return;
        }
        if argument == "selection" {
            assert!(check(|line| println!("{line}")));
            return println!("{:?}", began.elapsed());
        }
        let (key, value) = argument.split_once('=').expect("key=value");
        let number = || value.parse::<usize>().expect("a number");
        let small = || value.parse::<u8>().expect("a number");
        match key {
            "world" => {
                let mut worlds =
                    small_worlds().into_iter().chain(large_worlds()).chain([wide_world()]);
                options = worlds.find(|w| w.name == value).expect("a world").options;
            }
            "nodes" => options.nodes = number(),
            "lease" => options.lease_ticks = number() as u32,
            "ticks" => options.ticks_max = small(),
            "states" => options.states_max = number(),
            "late" => options.late_max = small(),
            "slow" => options.slow_max = small(),
            "stalls" => options.stalls_max = small(),
            "crashes" => options.crashes_max = small(),
            "reboots" => options.reboots_max = small(),
            "moves" => options.moves_max = small(),
            "drains" => options.drains_max = small(),
            "renew" => options.renew_ticks = number() as u32,
            "alone" => options.alone = value == "true",
            "stops" => options.stops_max = small(),
            "slow_kernel" => options.slow_kernel = value == "true",
            "fence" => options.fence = value == "true",
            "mutant" if value == "all" => {
                mutants = Mutant::ALL.into_iter().map(Some).collect();
            }
            "mutant" => {
                let named = |m: &Mutant| format!("{m:?}") == value;
                mutants = vec![Some(Mutant::ALL.into_iter().find(named).expect("a mutant"))];
            }
            _ => panic!("no option {key}"),
        }
    }
    for mutant in mutants {
        options.mutant = mutant;
        let began = Instant::now();
        let report = run_with_progress(options, |states, depth| {
            eprintln!("{states} states, depth {depth}, {:?}", began.elapsed());
        });
        println!("{mutant:?}: {report}\n{:?}\n", began.elapsed());
    }
}
